//! `bz target create`.

use anyhow::Context as _;
use bz_client::client::Client;
use bz_client::target_name::TargetRef;
use bz_core::access::destination::Destination;
use bz_core::api::target::TargetKind;
use bz_core::api::virtual_target::{DatabaseAuthentication, NewVirtualTarget, Port};
use bz_core::database::DATABASES;
use bz_core::id::EnvironmentId;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::json;
use url::Url;

use crate::context::Context;
use crate::exit::Exit;

/// What can be behind a host.
#[derive(Debug, Subcommand)]
pub(crate) enum Create {
    /// A database, or any other service behind one port
    Database(Database),
    /// A web server
    Web(Web),
    /// A Kubernetes cluster, by an agent that is in it or knows where it is
    Kube(Kube),
}

/// What each of them takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("proxy").args(["behind", "behind_environment"]).required(true))]
struct Common {
    /// Its name, unique in its environment
    name: String,
    /// The host whose agent reaches it: target[.environment], or its id
    #[arg(long, value_name = "TARGET")]
    behind: Option<TargetRef>,
    /// Or an environment: of its hosts that are online the one with the fewest connections reaches it
    #[arg(long, value_name = "ENVIRONMENT")]
    behind_environment: Option<String>,
    /// Its own environment, which policies may name; the default one unless given
    #[arg(long, short, value_name = "ENVIRONMENT")]
    environment: Option<String>,
}

/// Where people find it.
#[derive(Debug, Args)]
struct Local {
    /// The port that everybody's machine opens for it; any free one unless given, and then always that one
    #[arg(long, value_name = "PORT")]
    local_port: Option<u16>,
}

/// What `bz target create database` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bz target create database orders --behind web --to db.internal:5432 --type Postgres
  bz target create database legacy --behind-environment prod --to 10.0.0.7:9000

Where the server reads what is spoken (Postgres, CockroachDB, MySQL, MariaDB) it keeps a log of statements.
Everything else is sealed: the log says who was connected, from when to when.")]
pub(crate) struct Database {
    #[command(flatten)]
    common: Common,
    /// Where it is, as the host finds it
    #[arg(long, value_name = "HOST:PORT")]
    to: Destination,
    /// What it is; left out for anything else
    #[arg(
        long = "type",
        value_name = "TYPE",
        ignore_case = true,
        value_parser = PossibleValuesParser::new(DATABASES.iter().map(|row| row.name))
    )]
    kind: Option<String>,
    #[command(flatten)]
    local: Local,
    /// The agent does not speak TLS to it
    #[arg(long, help = "Do not speak TLS between agent and database; the default where it is on the host itself")]
    no_tls: bool,
    /// The agent speaks TLS to it, and verifies its certificate
    #[arg(long, conflicts_with = "no_tls", help = "Speak verified TLS to it even where it is on the host itself")]
    tls: bool,
}

/// What `bz target create web` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bz target create web wiki --behind web --to https://wiki.internal")]
pub(crate) struct Web {
    #[command(flatten)]
    common: Common,
    /// Where it is, as the host finds it: http:// or https://
    #[arg(long, value_name = "URL")]
    to: Url,
    #[command(flatten)]
    local: Local,
}

/// What `bz target create kube` takes.
#[derive(Debug, Args)]
pub(crate) struct Kube {
    #[command(flatten)]
    common: Common,
}

impl Create {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let (kind, new) = match self {
            Self::Database(database) => (TargetKind::Db, database.target(&client).await?),
            Self::Web(web) => (TargetKind::Web, web.target(&client).await?),
            Self::Kube(kube) => (TargetKind::Cluster, kube.common.target(&client).await?),
        };
        let made = client.create_virtual_target(kind, &new).await?;
        let name = &new.target_name;
        let value = json!({"target": name, "id": made.target_id});
        context.output.result(&value, &format!("Target {name} was made ({}).", made.target_id))?;
        Ok(Exit::Fine)
    }
}

impl Common {
    async fn target(self, client: &Client) -> anyhow::Result<NewVirtualTarget> {
        let proxy_target_id = match &self.behind {
            Some(target) => Some(client.find_target(target).await?.id),
            None => None,
        };
        let proxy_environment_id = match &self.behind_environment {
            Some(name) => Some(environment(client, name).await?),
            None => None,
        };
        Ok(NewVirtualTarget {
            target_name: self.name,
            proxy_target_id,
            proxy_environment_id,
            environment_name: self.environment,
            ..NewVirtualTarget::default()
        })
    }
}

impl Database {
    async fn target(self, client: &Client) -> anyhow::Result<NewVirtualTarget> {
        let config = DatabaseAuthentication { database: self.kind, ..DatabaseAuthentication::default() };
        Ok(NewVirtualTarget {
            remote_host: Some(bz_client::database::host(&self.to)),
            remote_port: Some(Port { value: Some(self.to.port()) }),
            local_port: Some(Port { value: self.local.local_port }),
            database_authentication_config: Some(config),
            upstream_tls: if self.tls || self.no_tls { Some(self.tls) } else { None },
            ..self.common.target(client).await?
        })
    }
}

impl Web {
    async fn target(self, client: &Client) -> anyhow::Result<NewVirtualTarget> {
        let host = self.to.host_str().context("the URL names no host")?;
        Ok(NewVirtualTarget {
            remote_host: Some(format!("{}://{host}", self.to.scheme())),
            remote_port: Some(Port { value: self.to.port() }),
            local_port: Some(Port { value: self.local.local_port }),
            ..self.common.target(client).await?
        })
    }
}

async fn environment(client: &Client, name: &str) -> anyhow::Result<EnvironmentId> {
    let all = client.environments().await?;
    let found = all.iter().find(|environment| environment.name == name).map(|environment| environment.id);
    let known = || all.iter().map(|environment| environment.name.as_str()).collect::<Vec<_>>().join(", ");
    found.with_context(|| format!("there is no environment {name}, only: {}", known()))
}
