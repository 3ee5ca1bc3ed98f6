//! `bz list-connections`.

use bz_client::client::ConnectionFilter;
use bz_core::api::access::{Connection, ConnectionState};
use clap::Args;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone, local};

/// What `bz list-connections` takes.
#[derive(Debug, Args)]
pub(crate) struct ListConnections {
    /// Only connections of this type, such as shell
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// The connections of another person (for administrators)
    #[arg(long, short, value_name = "EMAIL")]
    user: Option<String>,
    /// Show those that ended, too
    #[arg(long, short)]
    all: bool,
}

impl ListConnections {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let filter = ConnectionFilter { user_email: self.user, with_ended: self.all };
        let mut connections = context.client()?.connections_where(&filter).await?;
        let fits = |kind: &str| self.kind.as_ref().is_none_or(|wanted| kind.eq_ignore_ascii_case(wanted));
        connections.retain(|connection| fits(&connection.kind));
        context.output.list(&connections, || table(&connections))?;
        Ok(Exit::Fine)
    }
}

fn table(connections: &[Connection]) -> Table {
    let headings = ["Type", "Connection", "Target user", "Target", "State", "Created"];
    let mut table = Table::new(headings, "No connections.");
    for connection in connections {
        table.row([
            connection.kind.as_str().into(),
            connection.id.into(),
            connection.target_user.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            connection.target_name.as_str().into(),
            state(connection),
            local(&connection.time_created).into(),
        ]);
    }
    table
}

fn state(connection: &Connection) -> Field {
    match connection.state {
        ConnectionState::Open if connection.attached => Field::toned(&"open", Tone::Good),
        ConnectionState::Open => Field::toned(&"detached", Tone::Plain),
        ConnectionState::Pending => Field::toned(&"pending", Tone::Faint),
        ConnectionState::Closed => Field::toned(&"closed", Tone::Faint),
        ConnectionState::Error => Field::toned(&"error", Tone::Bad),
    }
}
