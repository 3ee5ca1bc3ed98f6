//! `bz recording`: what was shown in recorded sessions, as asciicasts.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::bail;
use bz_client::client::Watched;
use bz_client::player::{Event, Header, Key, Kind};
use bz_client::terminal::Screen;
use bz_core::api::record::{RecordingMatch, SessionRecording};
use bz_core::id::ConnectionId;
use clap::Subcommand;
use serde_json::json;

use crate::command::save;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, local};

/// What `bz recording` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Recording {
    /// List the recordings, newest first
    List,
    /// Download one for `asciinema play`, also while its session runs
    Get {
        /// The connection
        connection: ConnectionId,
        /// The file; standard output when absent
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Watch one while its session runs, from its beginning on; q ends it
    #[command(after_help = WATCHED)]
    Watch {
        /// The connection
        connection: ConnectionId,
        /// Write what was shown, just as it was, to standard output that is no terminal
        #[arg(long)]
        raw: bool,
    },
    /// Delete what was recorded so far; the proof of the session stays, and so does the event of this in the log
    Delete {
        /// The connection
        connection: ConnectionId,
        /// Also record nothing more of it
        #[arg(long)]
        stop: bool,
    },
    /// Find what was shown in one, with the seconds from its beginning, also while its session runs
    Search {
        /// The connection
        connection: ConnectionId,
        /// The text, whatever the case of its letters
        text: String,
    },
}

const WATCHED: &str = "\
What is shown was written by programs on the target. Colors and movements are shown; what would make this terminal \
answer, or do something beside its screen, is left out. With --json each line is one of the asciicast.";

impl Recording {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        match self {
            Self::List => {
                let recordings = client.recordings().await?;
                context.output.list(&recordings, || table(&recordings))?;
            }
            Self::Search { connection, text } => {
                let found = client.search_recording(connection, &text).await?;
                context.output.list(&found, || lines(&found))?;
            }
            Self::Watch { connection, raw } => {
                watch(context, client.watch_recording(connection).await?, raw).await?;
            }
            Self::Delete { connection, stop } => {
                client.delete_recording(connection, stop).await?;
                let line = format!("What was recorded of {connection} is deleted.");
                context.output.result(&json!({"deleted": connection, "stopped": stop}), &line)?;
            }
            Self::Get { connection, out: None } => save::to_stdout(client.recording(connection).await?, false).await?,
            Self::Get { connection, out: Some(path) } => {
                let size = save::to_file(client.recording(connection).await?, &path).await?;
                let file = path.display().to_string();
                context.output.result(&json!({"file": file, "size": size}), &format!("{file}: {size} bytes"))?;
            }
        }
        Ok(Exit::Fine)
    }
}

async fn watch(context: &Context<'_>, mut watching: bz_client::client::Watching, raw: bool) -> anyhow::Result<()> {
    let json = context.output.is_json();
    if !json && !raw && !io::stdout().is_terminal() {
        bail!("standard output is no terminal: --raw writes what was shown, and --json the lines of the asciicast");
    }
    if json || raw {
        while let Some(watched) = watching.next().await? {
            match watched {
                Watched::Header(line) | Watched::Line(line) if json => writeln!(io::stdout(), "{line}")?,
                Watched::Line(line) => plain(&line)?,
                Watched::Header(_) | Watched::Deleted => {}
            }
        }
        return Ok(());
    }
    let mut screen = Screen::take()?;
    let mut deleted = false;
    loop {
        let watched = tokio::select! {
            watched = watching.next() => watched?,
            key = screen.key() => match key {
                Key::Quit => break,
                Key::Pause | Key::Next | Key::Faster | Key::Slower => continue,
            },
        };
        match watched {
            Some(Watched::Line(line)) => {
                let event = Event::parse(&line)?;
                if event.kind == Kind::Output {
                    screen.show(&event.text)?;
                }
            }
            Some(Watched::Header(line)) => drop(Header::parse(&line)?),
            Some(Watched::Deleted) => deleted = true,
            None => break,
        }
    }
    drop(screen);
    if deleted {
        context.output.warn("Somebody deleted what was recorded before, while you watched.");
    }
    context.output.say("\nThe recording ends here.");
    Ok(())
}

/// What an event showed, as it was.
pub(super) fn plain(line: &str) -> anyhow::Result<()> {
    let event = Event::parse(line)?;
    if event.kind == Kind::Output {
        io::stdout().write_all(event.text.as_bytes())?;
    }
    Ok(())
}

fn lines(found: &[RecordingMatch]) -> Table {
    let mut table = Table::new(["Seconds", "Line"], "Nothing was found.");
    for RecordingMatch { offset_seconds, line } in found {
        table.row([format!("{offset_seconds:.1}").into(), line.as_str().into()]);
    }
    table
}

fn table(recordings: &[SessionRecording]) -> Table {
    let headings = ["Connection", "Target user", "Target", "Input", "State", "Bytes", "Created"];
    let mut table = Table::new(headings, "No recordings.");
    for recording in recordings {
        table.row([
            recording.connection_id.into(),
            recording.target_user.as_str().into(),
            recording.target_name.as_str().into(),
            if recording.input_recorded { "recorded" } else { "" }.into(),
            format!("{:?}", recording.connection_state).to_lowercase().into(),
            recording.size.into(),
            local(&recording.time_created).into(),
        ]);
    }
    table
}
