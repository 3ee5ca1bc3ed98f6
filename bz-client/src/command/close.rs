//! `bz close`.

use bz_client::client::Client;
use bz_core::api::access::ConnectionState;
use bz_core::id::ConnectionId;
use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;

/// What `bz close` takes.
#[derive(Debug, Args)]
pub(crate) struct Close {
    /// The connections
    #[arg(required_unless_present = "all", value_name = "CONNECTION")]
    connections: Vec<ConnectionId>,
    /// Close all of yours
    #[arg(long, short, conflicts_with = "connections")]
    all: bool,
}

impl Close {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let wanted = if self.all { open(&client).await? } else { self.connections };
        let (mut closed, mut failed) = (Vec::new(), None);
        // All are tried: one that is gone already is no reason to leave the others open.
        for connection in wanted {
            match client.close(connection).await {
                Ok(()) => closed.push(connection),
                Err(error) => {
                    context.output.warn(&format!("{connection}: {error}"));
                    failed = Some(error);
                }
            }
        }
        context.output.result(&json!({"closed": closed}), &format!("Closed {}.", count(closed.len())))?;
        failed.map_or(Ok(Exit::Fine), |error| Err(error.into()))
    }
}

async fn open(client: &Client) -> anyhow::Result<Vec<ConnectionId>> {
    let connections = client.connections().await?;
    let live = |state| matches!(state, ConnectionState::Open | ConnectionState::Pending);
    Ok(connections.into_iter().filter(|connection| live(connection.state)).map(|connection| connection.id).collect())
}

fn count(number: usize) -> String {
    if number == 1 { "1 connection".to_owned() } else { format!("{number} connections") }
}
