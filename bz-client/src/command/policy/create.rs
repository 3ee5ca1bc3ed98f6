//! `bz policy create`.

mod kubernetes;
mod proxy;

use anyhow::{Context as _, bail};
use bz_client::client::Client;
use bz_client::target_name::TargetRef;
use bz_core::access::Verb;
use bz_core::api::policy::{
    PolicyEnvironment, PolicyTarget, RecordingContent, RecordingPolicy, Subject, SubjectType, TargetConnectContent,
    TargetConnectPolicy,
};
use bz_core::api::target::TargetUserName;
use bz_core::label::LabelNeed;
use bz_core::target::UserRule;
use clap::{Args, Subcommand};

use crate::command::group::named;
use crate::context::Context;
use crate::exit::Exit;

/// The kinds of policy that can be made.
#[derive(Debug, Subcommand)]
pub(crate) enum Create {
    /// Who may open what on which targets
    TargetAccess(TargetAccess),
    /// Whose sessions are recorded; without one nobody's are
    SessionRecording(SessionRecording),
    /// Who may reach which databases and web servers, with which accounts
    Proxy(proxy::Proxy),
    /// Who may reach which clusters, as which users and groups of them
    Kubernetes(kubernetes::Kubernetes),
}

/// What `bz policy create target-access` takes. Each plural is taken, too, as `zli` spelled them.
#[derive(Debug, Args)]
#[command(
    after_help = "A target user must exist on the hosts: making users there, and giving them their rights, is the duty \
                  of the hosts' administrators. A policy makes none; a host refuses a user that it does not have."
)]
#[command(group = clap::ArgGroup::new("where").args(["target", "environment", "label"]).required(true))]
pub(crate) struct TargetAccess {
    #[command(flatten)]
    whose: Whose,
    /// A target: target[.environment], or its id; may be given several times
    #[arg(long, short, alias = "targets", value_name = "TARGET")]
    target: Vec<TargetRef>,
    /// An environment, by name; may be given several times
    #[arg(long, short, alias = "environments", value_name = "ENVIRONMENT")]
    environment: Vec<String>,
    /// What has labels of which this holds, such as role=web; may be given several times, and then all must
    #[arg(long, short, value_name = "NEED")]
    label: Vec<LabelNeed>,
    /// A user on the targets, or {username}; may be given several times
    #[arg(long, alias = "target-users", value_name = "USER")]
    target_user: Vec<UserRule>,
    /// What may be opened.
    #[arg(
        long,
        short,
        alias = "verbs",
        required = true,
        help = "Shell, FileTransfer, Tunnel or Handler:NAME; may be given several times"
    )]
    verb: Vec<Verb>,
}

/// What every policy takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("who").args(["user", "group", "service_account"]).multiple(true).required(true))]
struct Whose {
    /// The policy's name, unique
    #[arg(long, short)]
    name: String,
    /// What it is for
    #[arg(long, short, default_value = "", hide_default_value = true)]
    description: String,
    /// A person, by address; may be given several times
    #[arg(long, short, alias = "users", value_name = "EMAIL")]
    user: Vec<String>,
    /// A group of the identity provider, by id or name; may be given several times
    #[arg(long, short, alias = "groups", value_name = "GROUP")]
    group: Vec<String>,
    /// A service account, by address or name; may be given several times
    #[arg(long, alias = "service-accounts", value_name = "NAME")]
    service_account: Vec<String>,
}

impl Whose {
    async fn subjects(&self, client: &Client) -> anyhow::Result<Vec<Subject>> {
        let mut all = subjects(client, &self.user).await?;
        all.extend(service_accounts(client, &self.service_account).await?);
        Ok(all)
    }
}

/// What `bz policy create session-recording` takes.
#[derive(Debug, Args)]
pub(crate) struct SessionRecording {
    #[command(flatten)]
    whose: Whose,
    /// Record what people type, too, save passwords
    #[arg(long)]
    record_input: bool,
    /// Let nothing go on unrecorded: neither while the server cannot record, nor by a way that cannot be recorded
    #[arg(long)]
    required: bool,
}

impl Create {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let line = |name: &str, id| format!("Policy {name} was made ({id}).");
        match self {
            Self::TargetAccess(access) => {
                let policy = access.create(&client).await?;
                context.output.result(&policy, &line(&policy.content.name, policy.id))?;
            }
            Self::SessionRecording(recording) => {
                let policy = recording.create(&client).await?;
                context.output.result(&policy, &line(&policy.content.name, policy.id))?;
            }
            Self::Proxy(proxy) => {
                let policy = proxy.create(&client).await?;
                context.output.result(&policy, &line(&policy.content.name, policy.id))?;
            }
            Self::Kubernetes(kubernetes) => {
                let policy = kubernetes.create(&client).await?;
                context.output.result(&policy, &line(&policy.content.name, policy.id))?;
            }
        }
        Ok(Exit::Fine)
    }
}

impl SessionRecording {
    async fn create(self, client: &Client) -> anyhow::Result<RecordingPolicy> {
        let subjects = self.whose.subjects(client).await?;
        let content = RecordingContent {
            name: self.whose.name,
            description: self.whose.description,
            subjects,
            groups: named(client, self.whose.group).await?,
            record_input: self.record_input,
            required: self.required,
            ..RecordingContent::default()
        };
        Ok(client.create_recording_policy(&content).await?)
    }
}

impl TargetAccess {
    async fn create(self, client: &Client) -> anyhow::Result<TargetConnectPolicy> {
        let subjects = self.whose.subjects(client).await?;
        let environments = environments(client, &self.environment).await?;
        let mut targets = Vec::new();
        for target in &self.target {
            targets.push(PolicyTarget { id: client.find_target(target).await?.id, kind: "Bzero".to_owned() });
        }
        let content = TargetConnectContent {
            name: self.whose.name,
            description: self.whose.description,
            subjects,
            groups: named(client, self.whose.group).await?,
            environments,
            targets,
            target_labels: self.label,
            target_users: self.target_user.into_iter().map(|user_name| TargetUserName { user_name }).collect(),
            verbs: self.verb,
            ..TargetConnectContent::default()
        };
        Ok(client.create_policy(&content).await?)
    }
}

pub(super) async fn subjects(client: &Client, emails: &[String]) -> anyhow::Result<Vec<Subject>> {
    if emails.is_empty() {
        return Ok(Vec::new());
    }
    let users = client.users().await?;
    emails
        .iter()
        .map(|email| {
            let mut fitting = users.iter().filter(|user| user.email.eq_ignore_ascii_case(email));
            let user = fitting.next().with_context(|| {
                format!(
                    "nobody with the address {email} has ever logged in: a policy can name them after their first login"
                )
            })?;
            // An address is not a person: at two providers it may be two.
            if fitting.next().is_some() {
                bail!("several people have the address {email}: name a group instead");
            }
            Ok(Subject { id: user.id, kind: SubjectType::User })
        })
        .collect()
}

pub(super) async fn service_accounts(client: &Client, names: &[String]) -> anyhow::Result<Vec<Subject>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let all = client.service_accounts().await?;
    let find = |name: &String| {
        let mut fitting = all.iter().filter(|a| a.email.eq_ignore_ascii_case(name) || a.id.to_string() == *name);
        let account = fitting.next().with_context(|| format!("there is no service account {name}"))?;
        if fitting.next().is_some() {
            bail!("several service accounts are called {name}: name one by id, as `bz service-account list` shows it");
        }
        Ok(Subject { id: account.id, kind: SubjectType::ServiceAccount })
    };
    names.iter().map(find).collect()
}

async fn environments(client: &Client, names: &[String]) -> anyhow::Result<Vec<PolicyEnvironment>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let all = client.environments().await?;
    let find = |name: &String| {
        let found = all.iter().find(|environment| environment.name == *name);
        let known = || all.iter().map(|environment| environment.name.as_str()).collect::<Vec<_>>().join(", ");
        found
            .map(|environment| PolicyEnvironment { id: environment.id })
            .with_context(|| format!("there is no environment {name}, only: {}", known()))
    };
    names.iter().map(find).collect()
}
