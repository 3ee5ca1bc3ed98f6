//! `cargo quickstart`: the whole system on this machine, and a shell through it; `cargo quickstart -- CMD…` runs one
//! command instead.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bz_agent::helper::{self, Helper};
use bz_agent::user::User;
use bz_client::terminal;
use bz_core::access::request::Parameters;
use bz_core::api::record::{ConnectionEvent, ConnectionEventType};
use bz_core::id::ConnectionId;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::session::End;
use bz_protocol::transcript::Verdict;
use clap::Parser;

/// Starts server, identity provider and agent on this machine, logs in, and opens a shell through all of them.
#[derive(Debug, Parser)]
#[command(name = "quickstart", version)]
struct Arguments {
    /// A command to run instead of a shell, as a shell would read it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<String>,
    /// What carries the links of client and agent
    #[arg(long, value_enum, default_value_t = Way::Auto)]
    carrier: Way,
    /// Show what every part logs
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let helper = helper::enter();
    let arguments = Arguments::parse();
    let filter = if arguments.verbose { "info,bz_protocol=debug" } else { "error" };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let status = match runtime.block_on(run(helper, &arguments)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => fail(&error),
    };
    // Standard input may still be read on a thread of its own; nothing waits for it.
    runtime.shutdown_background();
    status
}

async fn run(helper: Helper, arguments: &Arguments) -> Result<u8> {
    let command = arguments.command.as_slice();
    let user = User::current().context("who are you on this machine?")?.name;
    let folder = tempfile::Builder::new().prefix("bz-quickstart-").tempdir()?.keep();
    let world = World::start(&folder, helper, &user, arguments.carrier).await?;
    let carrier = world.carrier.names().collect::<Vec<_>>().join(" or ");
    say(&format!("server, identity provider and agent run, linked by {carrier}; you are {user}@example.com"));
    let parameters = if command.is_empty() {
        say("a shell through client, server and agent; leave with `exit`");
        Parameters::Shell { term: terminal::term(), size: terminal::size() }
    } else {
        Parameters::Exec { command: command_line(command) }
    };
    let shell = command.is_empty();
    let asked = world.client.ask(&format!("{user}@{TARGET}").parse()?, parameters, None).await?;
    let connection = asked.made.connection_id;
    let session = world.client.session(asked).await?;
    let end = if shell { terminal::shell(session).await? } else { terminal::pipes(session).await? };
    report(&world, connection, &end).await?;
    world.stop().await;
    Ok(terminal::status(&end))
}

/// One word is a line for the shell; several are words, each quoted.
fn command_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" "),
    }
}

fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

async fn report(world: &World, connection: ConnectionId, end: &End) -> Result<()> {
    if let Some(farewell) = terminal::farewell(end) {
        say(&farewell);
    }
    let connections = settled(world).await?;
    let commands = world.client.command_events(100).await?;
    say(&format!("{} connection events, {} commands logged", connections.len(), commands.len()));
    for command in commands.iter().rev() {
        say(&format!(
            "  {} {}@{}: {}",
            command.actor.subject_name, command.place.target_user, command.place.target_name, command.command
        ));
    }
    for (path, verdict) in whole(world, connection).await? {
        match verdict {
            Ok(verdict) => say(&format!(
                "transcript {} verifies: {} frames, signed by both ends",
                path.display(),
                frames(&verdict)
            )),
            Err(refused) => anyhow::bail!("transcript {} does not verify: {refused}", path.display()),
        }
    }
    say(&format!("everything is kept in {}", world.folder.display()));
    Ok(())
}

/// The connection's log, when the server has written its end into it.
async fn settled(world: &World) -> Result<Vec<ConnectionEvent>> {
    for _ in 0..40 {
        let events = world.client.connection_events(100).await?;
        let left = [ConnectionEventType::Closed, ConnectionEventType::ClientDisconnect];
        if events.iter().any(|e| left.contains(&e.connection_event_type)) {
            return Ok(events);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("the server did not log the end of the connection within two seconds")
}

fn frames(verdict: &Verdict) -> u64 {
    verdict.to_agent.frames.saturating_add(verdict.to_client.frames)
}

/// The connection's transcripts, when their last record is written.
async fn whole(world: &World, connection: ConnectionId) -> Result<Vec<(PathBuf, Result<Verdict, String>)>> {
    for _ in 0..40 {
        let transcripts = world.transcripts(connection).await?;
        let done = |(_, verdict): &(PathBuf, Result<Verdict, String>)| verdict.as_ref().is_ok_and(|v| v.complete);
        if !transcripts.is_empty() && transcripts.iter().all(done) {
            return Ok(transcripts);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.transcripts(connection).await
}

fn say(line: &str) {
    // A closed standard error is no reason to fail.
    writeln!(std::io::stderr(), "quickstart: {line}").unwrap_or_default();
}

fn fail(error: &anyhow::Error) -> ExitCode {
    say(&format!("{error:#}"));
    ExitCode::FAILURE
}
