//! `bz target`: what this machine knows of targets, and what is behind them.

mod create;
mod edit;

use bz_client::client::Client;
use bz_client::pins::trust_anew;
use bz_client::target_name::TargetRef;
use bz_core::api::target::TargetKind;
use bz_core::api::virtual_target::{DatabaseTarget, KubeTarget, WebTarget};
use bz_core::digest::Digest;
use bz_core::id::TargetId;
use clap::Subcommand;
use serde_json::json;

use crate::command::list_targets::ListTargets;
use crate::context::Context;
use crate::exit::Exit;

/// What `bz target` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Target {
    /// Trust the agent with this key behind a name from now on
    Trust {
        /// The target as you type it: target[.environment], or its id
        target: TargetRef,
        /// The fingerprint of the agent's key, read on the host itself
        fingerprint: Digest,
    },
    /// Make a target of what is behind a host: a database, a web server, a cluster (for administrators)
    #[command(subcommand)]
    Create(create::Create),
    /// List targets, as `bz list-targets` does
    List(ListTargets),
    /// Give a target of any kind another name, environment or labels (for administrators)
    #[command(group = clap::ArgGroup::new("change").multiple(true).required(true))]
    Edit {
        /// The target: target[.environment], or its id
        target: TargetRef,
        #[command(flatten)]
        change: edit::Change,
    },
    /// Remove a target of any kind; its connections end (for administrators)
    Delete {
        /// The target: target[.environment], or its id
        target: TargetRef,
    },
}

impl Target {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Self::Trust { target, fingerprint } => trust(context, &target, fingerprint),
            Self::Create(create) => create.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Edit { target, change } => change.run(context, &target).await,
            Self::Delete { target } => delete(context, &target).await,
        }
    }
}

fn trust(context: &Context<'_>, target: &TargetRef, fingerprint: Digest) -> anyhow::Result<Exit> {
    // Without a server there is nothing to know of; a typed profile name is better corrected now.
    context.profile.server()?;
    trust_anew(&context.profile.known_agents(), target, fingerprint)?;
    let value = json!({"target": target.to_string(), "fingerprint": fingerprint.to_string()});
    context.output.result(&value, &format!("{target} is trusted with key {fingerprint}."))?;
    Ok(Exit::Fine)
}

async fn delete(context: &Context<'_>, target: &TargetRef) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let (kind, id) = find(&client, target).await?;
    client.delete_target(kind, id).await?;
    let value = json!({"target": target.to_string(), "id": id});
    context.output.result(&value, &format!("{target} was removed ({id})."))?;
    Ok(Exit::Fine)
}

/// The one target of any kind with this name.
pub(super) async fn find(client: &Client, target: &TargetRef) -> anyhow::Result<(TargetKind, TargetId)> {
    let kind = client.kind_behind(target).await?.unwrap_or(TargetKind::Bzero);
    let id = match kind {
        TargetKind::Bzero => client.find_target(target).await?.id,
        TargetKind::Db => client.find_virtual_target::<DatabaseTarget>(target).await?.base.id,
        TargetKind::Web => client.find_virtual_target::<WebTarget>(target).await?.base.id,
        TargetKind::Cluster => client.find_virtual_target::<KubeTarget>(target).await?.base.id,
    };
    Ok((kind, id))
}
