//! `bz connect` to a database, or to whatever else is behind one port.

use std::net::SocketAddr;
use std::process::ExitStatus;

use anyhow::{Context as _, bail};
use bz_client::client::Client;
use bz_client::database::Database;
use bz_client::target_name::TargetName;
use serde::Serialize;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::command::connect::introduce;
use crate::command::port::{Bind, farewell, listen_for, serve, warn_if_open, watcher};
use crate::context::Context;
use crate::exit::Exit;

/// How a database is opened.
#[derive(Debug)]
pub(crate) struct How {
    /// Which port of this machine leads to it.
    pub(crate) port: Option<Bind>,
    /// Whether its usual program is started, and with what more.
    pub(crate) program: Option<Vec<String>>,
}

/// A port that listens, as `--json` says it.
#[derive(Debug, Serialize)]
struct Listening {
    listening: SocketAddr,
    destination: String,
    through: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    command: Vec<String>,
}

pub(crate) async fn connect(
    context: &Context<'_>,
    client: &Client,
    (name, how): (&TargetName, How),
) -> anyhow::Result<Exit> {
    let database = client.database(name).await?;
    let listener = listen_for(context, database.target.base.id, (&database.target.remote, how.port)).await?;
    introduce(context, &database.tunnel().asked);
    let listening = listener.local_addr()?;
    warn_if_open(context, listening);
    let command = database.command(&listening.ip().to_string(), listening.port());
    let mut serving = JoinSet::new();
    serving.spawn(database.serve(listener, watcher(context)));
    if let Some(more) = how.program {
        return run(context, database, (command, more)).await;
    }
    say(context, &database, (listening, command))?;
    serve(context, database.into_tunnel(), serving).await
}

fn say(
    context: &Context<'_>,
    database: &Database,
    (listening, command): (SocketAddr, Vec<String>),
) -> anyhow::Result<()> {
    let through = database.tunnel().asked.name.to_string();
    let destination = database.destination.to_string();
    let mut text = format!("{listening} leads to {} ({destination}) through {through}", database.target.base.name);
    if !command.is_empty() {
        text.push_str("\n  ");
        text.push_str(&command.join(" "));
    }
    Ok(context.output.result(&Listening { listening, destination, through, command }, &text)?)
}

/// Starts the program, and ends with it.
async fn run(
    context: &Context<'_>,
    database: Database,
    (command, more): (Vec<String>, Vec<String>),
) -> anyhow::Result<Exit> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("no program is usual for {}: connect without --exec, and start yours", database.target.base.name);
    };
    let missing = || format!("{program} cannot be started: install it, or connect without --exec");
    let mut child = Command::new(program).args(arguments).args(more).spawn().with_context(missing)?;
    let exit = loop {
        tokio::select! {
            status = child.wait() => break status_of(status?),
            end = database.tunnel().ended() => {
                // The program sees its connection cut; how it takes that is its own business.
                let exit = farewell(context, database.tunnel(), &end);
                child.wait().await?;
                return Ok(exit);
            }
            // It is the program's to mind: it is in the foreground, too.
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
    };
    database.into_tunnel().close().await;
    Ok(exit)
}

/// The status of a program that was started here, as shells tell it.
fn status_of(status: ExitStatus) -> Exit {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Exit::Status(u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX));
    }
    Exit::Status(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}
