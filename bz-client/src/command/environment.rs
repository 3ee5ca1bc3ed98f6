//! `bz environment`: groups of targets.

use anyhow::Context as _;
use bz_client::client::Client;
use bz_core::api::target::{ChangeEnvironment, Environment as Body, NewEnvironment};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, local};

/// What `bz environment` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Environment {
    /// List the environments
    List,
    /// Make an environment
    Create {
        /// Its name, unique
        name: String,
        #[command(flatten)]
        words: Words,
    },
    /// Change an environment; what is not named stays
    Edit {
        /// The environment, by name or id
        environment: String,
        /// Its name from now on
        #[arg(long, short)]
        name: Option<String>,
        #[command(flatten)]
        words: Words,
    },
    /// Delete an environment that has no targets and that no policy names
    Delete {
        /// The environment, by name or id
        environment: String,
    },
}

/// What an environment has besides its name.
#[derive(Debug, Args)]
pub(crate) struct Words {
    /// What it is for
    #[arg(long, short)]
    description: Option<String>,
    /// After how many hours offline a host is removed from it
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=2160))]
    offline_hours: Option<u32>,
}

impl Environment {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        match self {
            Self::List => {
                let all = client.environments().await?;
                context.output.list(&all, || table(&all))?;
            }
            Self::Create { name, words } => {
                let new = NewEnvironment {
                    name,
                    description: words.description.unwrap_or_default(),
                    offline_cleanup_timeout_hours: words.offline_hours,
                };
                let made = client.create_environment(&new).await?;
                context.output.result(&made, &format!("Environment {} was made ({}).", new.name, made.id))?;
            }
            Self::Edit { environment, name, words } => {
                let found = find(&client, &environment).await?;
                let change = ChangeEnvironment {
                    name,
                    description: words.description,
                    offline_cleanup_timeout_hours: words.offline_hours,
                };
                let changed = client.edit_environment(found.id, &change).await?;
                context.output.result(&changed, &format!("Environment {} was changed.", changed.name))?;
            }
            Self::Delete { environment } => {
                let found = find(&client, &environment).await?;
                client.delete_environment(found.id).await?;
                let value = json!({"environment": found.name, "id": found.id});
                context.output.result(&value, &format!("Environment {} was deleted.", found.name))?;
            }
        }
        Ok(Exit::Fine)
    }
}

/// The environment of this name or id.
pub(super) async fn find(client: &Client, name: &str) -> anyhow::Result<Body> {
    let all = client.environments().await?;
    let known = all.iter().map(|environment| environment.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut fitting = all.iter().filter(|environment| environment.name == name || environment.id.to_string() == name);
    fitting.next().cloned().with_context(|| format!("there is no environment {name}, only: {known}"))
}

fn table(all: &[Body]) -> Table {
    let mut table = Table::new(
        ["Name", "Description", "Targets", "Offline hours", "Made", "Id"],
        "No environments that you may know of.",
    );
    for environment in all {
        let default = if environment.is_default { " (default)" } else { "" };
        table.row([
            format!("{}{default}", environment.name).into(),
            environment.description.as_str().into(),
            environment.targets.len().into(),
            environment.offline_cleanup_timeout_hours.into(),
            local(&environment.time_created).into(),
            environment.id.into(),
        ]);
    }
    table
}
