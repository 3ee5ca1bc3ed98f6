//! `bz api-key`: keys for programs, and for registering targets.

use bz_core::api::policy::NewApiKey;
use clap::{Args, Subcommand};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, local};

/// What `bz api-key` does.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiKey {
    /// List the keys; secrets are never shown again
    List,
    /// Make a key and show its secret, this once
    Create(Create),
}

/// What `bz api-key create` takes.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The key's name
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
    /// It can register targets, and nothing else
    #[arg(long, short)]
    registration: bool,
}

impl ApiKey {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Self::List => list(context).await,
            Self::Create(create) => create.run(context).await,
        }
    }
}

impl Create {
    async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let key = NewApiKey { name: self.name, is_registration_key: self.registration };
        let made = context.client()?.create_api_key(&key).await?;
        context.output.say(&format!("Key {} was made. Its secret, shown this once:", made.api_key_details.id));
        context.output.result(&made, &made.secret)?;
        Ok(Exit::Fine)
    }
}

async fn list(context: &Context<'_>) -> anyhow::Result<Exit> {
    let keys = context.client()?.api_keys().await?;
    context.output.list(&keys, || {
        let mut table = Table::new(["Name", "Id", "For", "Created"], "No API keys.");
        for key in &keys {
            let purpose = if key.is_registration_key { "registering targets" } else { "the API" };
            table.row([key.name.as_str().into(), key.id.into(), purpose.into(), local(&key.time_created).into()]);
        }
        table
    })?;
    Ok(Exit::Fine)
}
