//! `bz policy`: who may do what.

mod create;

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
}

impl Policy {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Self::List => list(context).await,
            Self::Create(create) => create.run(context).await,
        }
    }
}

async fn list(context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let (access, recording) = (client.policies().await?, client.recording_policies().await?);
    let mut all: Vec<Value> = access.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    all.extend(recording.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
    context.output.list(&all, || {
        let mut table =
            Table::new(["Name", "Type", "Subjects", "Groups", "Targets", "Target users", "Verbs"], "No policies.");
        for policy in &access {
            let content = &policy.content;
            let targets = match (content.targets.len(), content.environments.len()) {
                (0, environments) => format!("{environments} environments"),
                (targets, _) => format!("{targets} targets"),
            };
            table.row([
                content.name.as_str().into(),
                policy.kind.as_str().into(),
                content.subjects.len().into(),
                join(content.groups.iter().map(|group| group.name.clone())).into(),
                targets.into(),
                join(content.target_users.iter().map(|user| user.user_name.to_string())).into(),
                join(content.verbs.iter().map(ToString::to_string)).into(),
            ]);
        }
        for policy in &recording {
            let content = &policy.content;
            table.row([
                content.name.as_str().into(),
                policy.kind.as_str().into(),
                content.subjects.len().into(),
                join(content.groups.iter().map(|group| group.name.clone())).into(),
                "everywhere".into(),
                "".into(),
                if content.record_input { "output and input" } else { "output" }.into(),
            ]);
        }
        table
    })?;
    Ok(Exit::Fine)
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}
