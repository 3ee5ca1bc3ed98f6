//! `bz recording`: what was shown in recorded sessions, as asciicasts.

use std::path::PathBuf;

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
    /// Find what was shown in one, with the seconds from its beginning, also while its session runs
    Search {
        /// The connection
        connection: ConnectionId,
        /// The text, whatever the case of its letters
        text: String,
    },
}

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
