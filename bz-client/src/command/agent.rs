//! `bz agent`: the agents of hosts.

use bz_core::api::reach::Agent as Body;
use bz_core::api::target::TargetStatus;
use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone, local};

/// What `bz agent` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// List the agents, and whether they have a link to the server
    List {
        /// Those on hosts whose name contains this
        #[arg(long, short)]
        name: Option<String>,
        /// Those in environments whose name contains this
        #[arg(long, short)]
        environment: Option<String>,
    },
    /// List the agents' programs that the server gives to scripts, with their digests
    Artifacts,
}

impl Agent {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let (name, environment) = match self {
            Self::List { name, environment } => (name, environment),
            Self::Artifacts => {
                let all = context.client()?.artifacts().await?;
                context.output.list(&all, || {
                    let mut table = Table::new(["Name", "Bytes", "SHA-256"], "The server has no agent to give.");
                    for artifact in &all {
                        table.row([
                            artifact.name.as_str().into(),
                            artifact.size.into(),
                            artifact.sha256.as_str().into(),
                        ]);
                    }
                    table
                })?;
                return Ok(Exit::Fine);
            }
        };
        let contains = |text: &str, part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part));
        let mut all = context.client()?.agents().await?;
        all.retain(|agent| contains(&agent.name, &name) && contains(&agent.environment_name, &environment));
        context.output.list(&all, || table(&all))?;
        Ok(Exit::Fine)
    }
}

fn table(all: &[Body]) -> Table {
    let mut table = Table::new(["Name", "Environment", "Status", "Since", "Version", "Id"], "No agents.");
    for agent in all {
        let status = match agent.status {
            TargetStatus::NotActivated => Field::toned(&"not activated", Tone::Faint),
            TargetStatus::Offline => Field::toned(&"offline", Tone::Bad),
            TargetStatus::Online => Field::toned(&"online", Tone::Good),
        };
        table.row([
            agent.name.as_str().into(),
            agent.environment_name.as_str().into(),
            status,
            local(&agent.last_status_update).into(),
            agent.version.as_str().into(),
            agent.id.into(),
        ]);
    }
    table
}
