//! `bz policy create proxy`.

use bz_client::client::Client;
use bz_client::target_name::TargetRef;
use bz_core::access::Verb;
use bz_core::api::policy::{PolicyTarget, ProxyContent, ProxyPolicy};
use bz_core::api::target::TargetUserName;
use bz_core::label::LabelNeed;
use bz_core::target::UserRule;
use clap::Args;

use crate::command::group::named;
use crate::command::policy::create::{Whose, environments};
use crate::command::target;

/// What `bz policy create proxy` takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").args(["target", "environment", "label"]).required(true))]
pub(crate) struct Proxy {
    #[command(flatten)]
    whose: Whose,
    /// A database or web server: target[.environment], or its id; may be given several times
    #[arg(long, short, alias = "targets", value_name = "TARGET")]
    target: Vec<TargetRef>,
    /// All of an environment, by name; may be given several times
    #[arg(long, short, alias = "environments", value_name = "ENVIRONMENT")]
    environment: Vec<String>,
    /// What has labels of which this holds, such as role=web; may be given several times, and then all must
    #[arg(long, short, value_name = "NEED")]
    label: Vec<LabelNeed>,
    /// An account of the databases, or {username}; may be given several times; any account unless given
    #[arg(long, alias = "target-users", value_name = "USER")]
    target_user: Vec<UserRule>,
    /// What of an environment.
    #[arg(long, short, alias = "verbs", help = "Database or Web; both unless given")]
    verb: Vec<Verb>,
    /// Leave values out of the log of statements
    #[arg(long)]
    redact_queries: bool,
}

impl Proxy {
    pub(super) async fn create(self, client: &Client) -> anyhow::Result<ProxyPolicy> {
        let mut targets = Vec::new();
        for target in &self.target {
            let (kind, id) = target::find(client, target).await?;
            targets.push(PolicyTarget { id, kind: kind.to_string() });
        }
        let subjects = self.whose.subjects(client).await?;
        let content = ProxyContent {
            name: self.whose.name,
            description: self.whose.description,
            subjects,
            groups: named(client, self.whose.group).await?,
            environments: environments(client, &self.environment).await?,
            target_labels: self.label,
            targets,
            target_users: self.target_user.into_iter().map(|user_name| TargetUserName { user_name }).collect(),
            verbs: self.verb,
            redact_queries: self.redact_queries,
            ..ProxyContent::default()
        };
        Ok(client.create_proxy_policy(&content).await?)
    }
}
