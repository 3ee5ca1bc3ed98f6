//! `bz cp`: files to a target, or from it.

mod shown;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use bz_client::client::Client;
use bz_client::copy::{CopyError, Copying, Report, Side, Summary, Way};
use bz_client::target_name::TargetName;
use bz_core::id::ConnectionId;
use clap::Args;

use crate::command::connect::introduce;
use crate::context::Context;
use crate::exit::Exit;
use shown::{Shown, Style};

/// What a program ends with that an interrupt ended.
const INTERRUPTED: u8 = 130;

const HELP: &str = "\
One side is [user@]target[.environment]:path, the other a path here. A path on the target begins at
the target user's home unless it begins with /; without one it is the home itself. A path here that
has a colon is written ./a:b.

An existing directory is gone into, as cp does; an existing file is replaced when the new one is
whole. Modes and times are kept, owners and set-user-id bits are not. Links in a directory are
copied as links; devices, sockets and pipes are named and left out.

A copy that was cut is started again by the same command: of files of 1 MiB and more, what arrived
is not sent again.

  bz cp report.pdf alice@web1:            into alice's home
  bz cp -r alice@web1:/var/log/nginx .    a directory, here
  bz --json cp web1:a.iso /srv/           one JSON object per file, and a summary

Exits with 1 when anything could not be copied, and names it.";

/// What `bz cp` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Cp {
    /// Copy directories with all that is in them
    #[arg(long, short)]
    recursive: bool,
    /// Do not keep modes and times
    #[arg(long)]
    no_preserve: bool,
    /// From where.
    #[arg(help = "What to copy: a path, or [user@]target:path")]
    from: OsString,
    /// Where to.
    #[arg(help = "Where to: a path, or [user@]target:path")]
    to: OsString,
}

impl Cp {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let (target, copying) = self.sides()?;
        let client = context.client()?;
        let asked = client.ask_copy(&target, &copying).await?;
        introduce(context, &asked);
        let connection = asked.made.connection_id;
        let shown = Arc::new(Mutex::new(Shown::new(context.output.clone(), style(context), &copying)));
        let report = {
            let shown = Arc::clone(&shown);
            move |report: Report| shown.lock().unwrap_or_else(PoisonError::into_inner).take(report)
        };
        let copied = client.copy_on(asked, &copying, report, interrupted()).await;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clear();
        match copied {
            Ok(summary) => {
                shown.summary(&summary)?;
                Ok(if summary.failed == 0 { Exit::Fine } else { Exit::Failed })
            }
            Err(CopyError::Stopped) => {
                shown.warn("Stopped. Start it again to go on: large files that were cut are kept until then.");
                Ok(Exit::Status(INTERRUPTED))
            }
            Err(error) => Err(told(&client, connection, error)),
        }
    }

    fn sides(&self) -> anyhow::Result<(TargetName, Copying)> {
        let side = |text: &OsString| Side::parse(text).with_context(|| format!("{} cannot be copied", text.display()));
        let (recursive, preserve) = (self.recursive, !self.no_preserve);
        match (side(&self.from)?, side(&self.to)?) {
            (Side::Local(local), Side::Remote { target, path: remote }) => {
                check_source(&local, recursive)?;
                Ok((target, Copying { local, remote, way: Way::ToTarget, recursive, preserve }))
            }
            (Side::Remote { target, path: remote }, Side::Local(local)) => {
                Ok((target, Copying { local, remote, way: Way::FromTarget, recursive, preserve }))
            }
            (Side::Local(_), Side::Local(_)) => {
                bail!("both sides are paths here: write the target's as [user@]target:path, or use cp")
            }
            (Side::Remote { .. }, Side::Remote { .. }) => {
                bail!("both sides are on targets: copy here first, and then there")
            }
        }
    }
}

/// What can be known before anything is opened.
fn check_source(local: &Path, recursive: bool) -> anyhow::Result<()> {
    let found = std::fs::metadata(local).with_context(|| local.display().to_string())?;
    if found.is_dir() && !recursive {
        bail!("{} is a directory: use -r to copy it with all that is in it", local.display());
    }
    Ok(())
}

fn style(context: &Context<'_>) -> Style {
    if context.output.is_json() {
        Style::Json
    } else if !context.output.is_quiet() && std::io::stderr().is_terminal() {
        Style::Bar
    } else {
        Style::Plain
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Then the signal ends the program as it always did.
        std::future::pending::<()>().await;
    }
}

/// The error as its exit status is found by, with what the server says beside it.
fn told(client: &Client, connection: ConnectionId, error: CopyError) -> anyhow::Error {
    let reason = client.reason(connection).map(|reason| format!(" (the server says: {reason})")).unwrap_or_default();
    match error {
        CopyError::Ask(error) => error.into(),
        CopyError::Session(error) => error.into(),
        CopyError::Ended(end) => {
            anyhow!("{end}{reason}. What is whole was copied; start it again to go on with the rest")
        }
        error @ (CopyError::Interrupted(_) | CopyError::Stopped | CopyError::Thread) => error.into(),
    }
}

/// The counts as one line.
fn counted(summary: &Summary) -> String {
    let plural = |count: u64, one: &str, several: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {several}")),
    };
    let parts = [
        plural(summary.files, "file", "files"),
        plural(summary.directories, "directory", "directories"),
        plural(summary.links, "link", "links"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}
