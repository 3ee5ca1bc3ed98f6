//! `bz policy`: who may do what.

mod controls;
mod create;

use bz_core::api::policy::{Group, Subject};
use clap::Subcommand;
use serde_json::Value;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::Table;

/// What `bz policy` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// List the policies
    List,
    /// Make a policy
    #[command(subcommand)]
    Create(create::Create),
    /// What the organization demands of everybody; without options, what it demands now
    OrganizationControls(controls::OrganizationControls),
}

impl Policy {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Self::List => list(context).await,
            Self::Create(create) => create.run(context).await,
            Self::OrganizationControls(controls) => controls.run(context).await,
        }
    }
}

async fn list(context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let mut all: Vec<Value> = Vec::new();
    let mut rows = Vec::new();
    for policy in client.policies().await? {
        let content = &policy.content;
        let row = Row {
            targets: places(content.targets.len(), content.environments.len()),
            users: join(content.target_users.iter().map(|user| user.user_name.to_string())),
            verbs: join(content.verbs.iter().map(ToString::to_string)),
            ..Row::new((&content.name, &policy.kind), (&content.subjects, &content.groups))
        };
        rows.push(row);
        all.push(serde_json::to_value(&policy)?);
    }
    for policy in client.proxy_policies().await? {
        let content = &policy.content;
        let row = Row {
            targets: places(content.targets.len(), content.environments.len()),
            users: join(content.target_users.iter().map(|user| user.user_name.to_string())),
            verbs: join(content.verbs.iter().map(ToString::to_string)),
            ..Row::new((&content.name, &policy.kind), (&content.subjects, &content.groups))
        };
        rows.push(row);
        all.push(serde_json::to_value(&policy)?);
    }
    for policy in client.kubernetes_policies().await? {
        let content = &policy.content;
        let names = content.cluster_users.iter().chain(&content.cluster_groups);
        let row = Row {
            targets: places(content.clusters.len(), content.environments.len()),
            users: join(names.map(|name| name.name.clone())),
            ..Row::new((&content.name, &policy.kind), (&content.subjects, &content.groups))
        };
        rows.push(row);
        all.push(serde_json::to_value(&policy)?);
    }
    for policy in client.recording_policies().await? {
        let content = &policy.content;
        let row = Row {
            targets: "everywhere".to_owned(),
            verbs: if content.record_input { "output and input" } else { "output" }.to_owned(),
            ..Row::new((&content.name, &policy.kind), (&content.subjects, &content.groups))
        };
        rows.push(row);
        all.push(serde_json::to_value(&policy)?);
    }
    if let Some(policy) = client.organization_controls().await? {
        let content = &policy.content;
        let row = Row {
            targets: "everywhere".to_owned(),
            verbs: if content.mfa_enabled { "second factor" } else { "" }.to_owned(),
            ..Row::new((&content.name, &policy.kind), (&[], &[]))
        };
        rows.push(row);
        all.push(serde_json::to_value(&policy)?);
    }
    context.output.list(&all, || table(rows))?;
    Ok(Exit::Fine)
}

/// One policy of any kind.
struct Row {
    name: String,
    kind: String,
    subjects: usize,
    groups: String,
    targets: String,
    users: String,
    verbs: String,
}

impl Row {
    fn new((name, kind): (&str, &str), (subjects, groups): (&[Subject], &[Group])) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            subjects: subjects.len(),
            groups: join(groups.iter().map(|group| group.name.clone())),
            targets: String::new(),
            users: String::new(),
            verbs: String::new(),
        }
    }
}

fn places(targets: usize, environments: usize) -> String {
    if targets == 0 { format!("{environments} environments") } else { format!("{targets} targets") }
}

fn table(rows: Vec<Row>) -> Table {
    let mut table =
        Table::new(["Name", "Type", "Subjects", "Groups", "Targets", "Target users", "Verbs"], "No policies.");
    for row in rows {
        table.row([
            row.name.into(),
            row.kind.into(),
            row.subjects.into(),
            row.groups.into(),
            row.targets.into(),
            row.users.into(),
            row.verbs.into(),
        ]);
    }
    table
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}
