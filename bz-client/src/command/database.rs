//! `bz connect` to a database, or to whatever else is behind one port.

use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use bz_client::client::Client;
use bz_client::database::Database;
use bz_client::target_name::TargetName;
use bz_client::tunnel::{ForwardError, Watcher};
use bz_core::access::Mode;
use bz_protocol::driver::OpenError;
use bz_protocol::stream::Why;
use serde::Serialize;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::command::connect::{introduce, readers};
use crate::command::port::{Bind, farewell, listen_for, serve, warn_if_open, watcher};
use crate::context::Context;
use crate::exit::{Exit, of_refusal};

/// How a database is opened.
#[derive(Debug)]
pub(crate) struct How {
    /// Which port of this machine leads to it.
    pub(crate) port: Option<Bind>,
    /// Whether its usual program is started, and with what more.
    pub(crate) program: Option<Vec<String>>,
}

/// Why a connection was not opened, the last time.
type Refused = Arc<Mutex<Option<Why>>>;

/// A port that listens, as `--json` says it.
#[derive(Debug, Serialize)]
struct Listening {
    listening: SocketAddr,
    destination: String,
    through: String,
    mode: Mode,
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
    let refused = Arc::new(Mutex::new(None));
    serving.spawn(database.serve(listener, noting(watcher(context), &refused)));
    if let Some(more) = how.program {
        context.output.say(readers(&database.tunnel().asked).1);
        return run(context, database, (command, more, &refused)).await;
    }
    say(context, &database, (listening, command))?;
    serve(context, database.into_tunnel(), serving).await
}

/// Notes beside what is said of a connection that was not opened why it was not.
fn noting(watcher: Watcher, refused: &Refused) -> Watcher {
    let refused = Arc::clone(refused);
    Arc::new(move |error| {
        if let ForwardError::Open { error: OpenError::Refused(why), .. } = &error {
            *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(*why);
        }
        watcher(error);
    })
}

/// Why connections were not opened, if that is so. A database that speaks before TLS begins is asked once more.
async fn why_not(database: &Database, refused: &Refused) -> Option<Why> {
    let noted = *refused.lock().unwrap_or_else(PoisonError::into_inner);
    if noted.is_some() || !database.target.upstream_tls {
        return noted;
    }
    match database.dial().await {
        Err(OpenError::Refused(why)) => Some(why),
        Ok(_) | Err(OpenError::Ended) => None,
    }
}

fn say(
    context: &Context<'_>,
    database: &Database,
    (listening, command): (SocketAddr, Vec<String>),
) -> anyhow::Result<()> {
    let through = database.tunnel().asked.name.to_string();
    let destination = database.destination.to_string();
    let (mode, readers) = readers(&database.tunnel().asked);
    let mut text =
        format!("{listening} leads to {} ({destination}) through {through}\n{readers}", database.target.base.name);
    if !command.is_empty() {
        text.push_str("\n  ");
        text.push_str(&command.join(" "));
    }
    Ok(context.output.result(&Listening { listening, destination, through, mode, command }, &text)?)
}

/// Starts the program, and ends with it.
async fn run(
    context: &Context<'_>,
    database: Database,
    (command, more, refused): (Vec<String>, Vec<String>, &Refused),
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
    // What a program makes of a connection that it did not get says less than why it did not.
    let why = if exit.number() == 0 { None } else { why_not(&database, refused).await };
    database.into_tunnel().close().await;
    Ok(why.and_then(of_refusal).unwrap_or(exit))
}

/// The status of a program that was started here, as shells tell it.
pub(crate) fn status_of(status: ExitStatus) -> Exit {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Exit::Status(u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX));
    }
    Exit::Status(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}
