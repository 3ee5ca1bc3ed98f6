//! `bz transcript`: the server's transcripts, to take along and to check offline.

use std::path::{Path, PathBuf};

use anyhow::bail;
use bz_client::client::{Client, Download};
use bz_core::id::ConnectionId;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::command::save;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Table;

/// What `bz transcript` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Transcript {
    /// List a connection's transcripts, one for each of its sessions
    List {
        /// The connection, as `bz list-connections --all` shows it
        connection: ConnectionId,
    },
    /// Download transcripts
    Get(Get),
}

/// What `bz transcript get` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Each becomes a file CONNECTION.NUMBER.bzt, which is never overwritten. Check what came with `bz verify`.")]
pub(crate) struct Get {
    /// The connections
    #[arg(required = true, value_name = "CONNECTION")]
    connections: Vec<ConnectionId>,
    /// Only the transcript with this number
    #[arg(long, short, value_name = "NUMBER")]
    number: Option<u32>,
    /// With the person's tokens, once they have ended; without them the agent attests who it was
    #[arg(long)]
    tokens: bool,
    /// The folder for the files; - writes one transcript to standard output
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

impl Transcript {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Self::List { connection } => list(context, connection).await,
            Self::Get(get) => get.run(context).await,
        }
    }
}

async fn list(context: &Context<'_>, connection: ConnectionId) -> anyhow::Result<Exit> {
    let transcripts = context.client()?.transcripts(connection).await?;
    context.output.list(&transcripts, || {
        let mut table = Table::new(["Number", "Bytes"], "No transcripts.");
        for transcript in &transcripts {
            table.row([transcript.number.into(), transcript.size.into()]);
        }
        table
    })?;
    Ok(Exit::Fine)
}

impl Get {
    async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        if self.out == Path::new("-") {
            return self.print(&client).await;
        }
        std::fs::create_dir_all(&self.out)?;
        let mut saved = Vec::new();
        for connection in &self.connections {
            let numbers = self.numbers(&client, *connection).await?;
            if numbers.is_empty() {
                context.output.warn(&format!("Connection {connection} has no transcript."));
            }
            for number in numbers {
                let path = self.out.join(format!("{connection}.{number}.bzt"));
                let size = save::to_file(self.download(&client, *connection, number).await?, &path).await?;
                saved.push((path, size));
            }
        }
        let values = saved.iter().map(|(path, size)| json!({"file": path.display().to_string(), "size": size}));
        context.output.list(&values.collect::<Vec<_>>(), || {
            let mut table = Table::new(["File", "Bytes"], "No transcripts.");
            for (path, size) in &saved {
                table.row([path.display().into(), (*size).into()]);
            }
            table
        })?;
        Ok(if saved.is_empty() { Exit::Failed } else { Exit::Fine })
    }

    async fn numbers(&self, client: &Client, connection: ConnectionId) -> anyhow::Result<Vec<u32>> {
        Ok(match self.number {
            Some(number) => vec![number],
            None => client.transcripts(connection).await?.into_iter().map(|transcript| transcript.number).collect(),
        })
    }

    async fn download(&self, client: &Client, connection: ConnectionId, number: u32) -> anyhow::Result<Download> {
        Ok(match self.tokens {
            true => client.transcript_with_tokens(connection, number).await?,
            false => client.transcript(connection, number).await?,
        })
    }

    async fn print(&self, client: &Client) -> anyhow::Result<Exit> {
        let [connection] = self.connections.as_slice() else { bail!("standard output takes one connection") };
        let [number] = self.numbers(client, *connection).await?[..] else {
            bail!("the connection has not exactly one transcript: name one with --number");
        };
        save::to_stdout(self.download(client, *connection, number).await?, true).await?;
        Ok(Exit::Fine)
    }
}
