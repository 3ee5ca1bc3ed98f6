//! `bz policy`: who may do what.

mod controls;
mod create;
mod edit;
mod history;
mod question;

use bz_core::access::Verb;
use bz_core::api::mfa::ControlsPolicy;
use bz_core::api::policy::{
    ClusterName, Enabled, Group, KubernetesPolicy, ProxyPolicy, RecordingPolicy, Subject, SubjectType,
    TargetConnectPolicy,
};
use bz_core::id::PolicyId;
use bz_core::label::LabelNeed;
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, local};

/// What `bz policy` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// List the policies of all kinds: who may do what where, as whom, and who is recorded
    List,
    /// Make a policy
    #[command(subcommand)]
    Create(create::Create),
    /// Change a policy of any kind; what it does not allow any more ends
    Edit(edit::Edit),
    /// Delete a policy of any kind; what it alone allowed ends
    Delete {
        /// The policy, by name or id
        policy: String,
    },
    /// List what became of a policy: when, by whom, and how; also of one that is gone
    History {
        /// The policy, by name or id
        policy: String,
    },
    /// Show how two versions of a policy differ: the last two, unless said otherwise
    Diff {
        /// The policy, by name or id
        policy: String,
        /// The earlier version, by number; 0 for before it was made
        from: Option<u32>,
        /// The later version; the newest unless given
        to: Option<u32>,
    },
    /// Say what is decided for somebody, by which policies, and what the others are to it; nothing happens
    Evaluate(question::Evaluate),
    /// Say what a draft would change, and for whom; nothing is changed
    Simulate(question::Simulate),
    /// What the organization demands of everybody; without options, what it demands now
    OrganizationControls(controls::OrganizationControls),
}

impl Policy {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Self::List => list(context).await,
            Self::Create(create) => create.run(context).await,
            Self::Edit(edit) => edit.run(context).await,
            Self::Delete { policy } => edit::delete(context, &policy).await,
            Self::History { policy } => history::history(context, &policy).await,
            Self::Diff { policy, from, to } => history::diff(context, &policy, (from, to)).await,
            Self::Evaluate(evaluate) => evaluate.run(context).await,
            Self::Simulate(simulate) => simulate.run(context).await,
            Self::OrganizationControls(controls) => controls.run(context).await,
        }
    }
}

async fn list(context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let mut listed = Listed::default();
    listed.take(&client.policies().await?)?;
    listed.take(&client.proxy_policies().await?)?;
    listed.take(&client.kubernetes_policies().await?)?;
    listed.take(&client.recording_policies().await?)?;
    listed.take(client.organization_controls().await?.as_slice())?;
    let Listed { values, rows } = listed;
    context.output.list(&values, || table(rows))?;
    Ok(Exit::Fine)
}

/// Policies of all kinds: as the API shows them, and as rows of one table.
#[derive(Default)]
struct Listed {
    values: Vec<Value>,
    rows: Vec<Row>,
}

impl Listed {
    fn take<P: AsRow + Serialize>(&mut self, policies: &[P]) -> serde_json::Result<()> {
        for policy in policies {
            self.values.push(serde_json::to_value(policy)?);
            self.rows.push(policy.row());
        }
        Ok(())
    }
}

/// One policy of any kind, in the words of the table.
struct Row {
    id: PolicyId,
    name: String,
    kind: String,
    who: String,
    places: String,
    users: String,
    verbs: String,
    ends: String,
}

/// A kind of policy.
trait AsRow {
    fn row(&self) -> Row;
}

impl AsRow for TargetConnectPolicy {
    fn row(&self) -> Row {
        let content = &self.content;
        Row {
            id: self.id,
            name: named(&content.name, content.enabled),
            kind: self.kind.clone(),
            who: who(&content.subjects, &content.groups),
            places: places((content.targets.len(), "target"), content.environments.len(), &content.target_labels),
            users: join(content.target_users.iter().map(|user| user.user_name.to_string())),
            verbs: join(content.verbs.iter().map(ToString::to_string)),
            ends: ends(content.time_expires.as_deref()),
        }
    }
}

impl AsRow for ProxyPolicy {
    fn row(&self) -> Row {
        let content = &self.content;
        let all = [Verb::Database, Verb::Web];
        let verbs = if content.verbs.is_empty() { all.as_slice() } else { &content.verbs };
        let accounts = join(content.target_users.iter().map(|user| user.user_name.to_string()));
        let redacted = content.redact_queries.then(|| "redacted log".to_owned());
        Row {
            id: self.id,
            name: named(&content.name, content.enabled),
            kind: self.kind.clone(),
            who: who(&content.subjects, &content.groups),
            places: places((content.targets.len(), "target"), content.environments.len(), &content.target_labels),
            users: if accounts.is_empty() { "any account".to_owned() } else { accounts },
            verbs: join(verbs.iter().map(ToString::to_string).chain(redacted)),
            ends: ends(content.time_expires.as_deref()),
        }
    }
}

impl AsRow for KubernetesPolicy {
    fn row(&self) -> Row {
        let content = &self.content;
        let names = |names: &[ClusterName]| join(names.iter().map(|name| name.name.clone()));
        let (users, groups) = (names(&content.cluster_users), names(&content.cluster_groups));
        Row {
            id: self.id,
            name: named(&content.name, content.enabled),
            kind: self.kind.clone(),
            who: who(&content.subjects, &content.groups),
            places: places((content.clusters.len(), "cluster"), content.environments.len(), &content.target_labels),
            users: if groups.is_empty() { users } else { format!("{users} in {groups}") },
            verbs: Verb::Kubernetes.to_string(),
            ends: ends(content.time_expires.as_deref()),
        }
    }
}

impl AsRow for RecordingPolicy {
    fn row(&self) -> Row {
        let content = &self.content;
        let what = match (content.record_input, content.required) {
            (true, true) => "recorded: output and input, required",
            (true, false) => "recorded: output and input",
            (false, true) => "recorded: output, required",
            (false, false) => "recorded: output",
        };
        Row {
            id: self.id,
            name: named(&content.name, content.enabled),
            kind: self.kind.clone(),
            who: who(&content.subjects, &content.groups),
            places: "everywhere".to_owned(),
            users: String::new(),
            verbs: what.to_owned(),
            ends: ends(None),
        }
    }
}

impl AsRow for ControlsPolicy {
    fn row(&self) -> Row {
        Row {
            id: self.id,
            name: self.content.name.clone(),
            kind: self.kind.clone(),
            who: "everybody".to_owned(),
            places: "everywhere".to_owned(),
            users: String::new(),
            verbs: if self.content.mfa_enabled { "with a second factor" } else { "" }.to_owned(),
            ends: ends(None),
        }
    }
}

/// Subjects by their kinds, and groups by their names.
fn who(subjects: &[Subject], groups: &[Group]) -> String {
    let of = |kind, one: &str| {
        let count = subjects.iter().filter(|subject| subject.kind == kind).count();
        (count > 0).then(|| counted(count, one))
    };
    let kinds = [
        of(SubjectType::User, "user"),
        of(SubjectType::ApiKey, "API key"),
        of(SubjectType::ServiceAccount, "service account"),
    ];
    join(kinds.into_iter().flatten().chain(groups.iter().map(|group| format!("group {}", group.name))))
}

fn places((places, one): (usize, &str), environments: usize, labels: &[LabelNeed]) -> String {
    if !labels.is_empty() {
        return join(labels.iter().map(ToString::to_string));
    }
    if places == 0 { counted(environments, "environment") } else { counted(places, one) }
}

fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

fn named(name: &str, Enabled(enabled): Enabled) -> String {
    if enabled { name.to_owned() } else { format!("{name} (disabled)") }
}

fn ends(time: Option<&str>) -> String {
    time.map_or_else(|| "never".to_owned(), local)
}

fn table(rows: Vec<Row>) -> Table {
    let mut table = Table::new(["Name", "Type", "Who", "Where", "As", "May", "Ends", "Id"], "No policies.");
    for row in rows {
        table.row([
            row.name.into(),
            row.kind.into(),
            row.who.into(),
            row.places.into(),
            row.users.into(),
            row.verbs.into(),
            row.ends.into(),
            row.id.to_string().into(),
        ]);
    }
    table
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}
