//! `bz target`: what this machine knows of targets.

use bz_client::pins::trust_anew;
use bz_client::target_name::TargetRef;
use bz_core::digest::Digest;
use clap::Subcommand;
use serde_json::json;

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
}

impl Target {
    pub(crate) fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let Self::Trust { target, fingerprint } = self;
        // Without a server there is nothing to know of; a typed profile name is better corrected now.
        context.profile.server()?;
        trust_anew(&context.profile.known_agents(), &target, fingerprint)?;
        let value = json!({"target": target.to_string(), "fingerprint": fingerprint.to_string()});
        context.output.result(&value, &format!("{target} is trusted with key {fingerprint}."))?;
        Ok(Exit::Fine)
    }
}
