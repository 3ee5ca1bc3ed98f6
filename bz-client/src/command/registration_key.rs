//! `bz registration-key`: by which key hosts register.

use bz_core::api::api_key::{ApiKey, RegistrationKeySettings};
use clap::Subcommand;

use crate::command::api_key;
use crate::context::Context;
use crate::exit::Exit;

/// What `bz registration-key` does.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistrationKey {
    /// Show which key scripts register by
    Settings,
    /// Have scripts register by one key, whoever asks for them
    Global {
        /// The default registration key, by name or id
        #[arg(long = "default", value_name = "KEY")]
        key: String,
    },
    /// Have scripts register by the own key of the administrator who asks; each has one from then on
    PerAdministrator,
    /// Give your own registration key another secret and show it, this once
    Own,
}

impl RegistrationKey {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let settings = match self {
            Self::Settings => client.registration_key_settings().await?,
            Self::Global { key } => {
                let found = api_key::find(&client, &key).await?;
                client.set_global_key(Some(found.id)).await?
            }
            Self::PerAdministrator => client.set_global_key(None).await?,
            Self::Own => {
                api_key::show_secret(context, &client.own_registration_key().await?, "has another secret")?;
                return Ok(Exit::Fine);
            }
        };
        let keys = client.api_keys().await?;
        context.output.result(&settings, &sentence(&settings, &keys))?;
        Ok(Exit::Fine)
    }
}

fn sentence(settings: &RegistrationKeySettings, keys: &[ApiKey]) -> String {
    let default = settings.default_global_registration_key;
    let name = keys.iter().find(|key| Some(key.id) == default).map(|key| key.name.as_str());
    match (settings.global_registration_key_enforced, name) {
        (true, Some(name)) => format!("Global: scripts register by the default registration key, {name}."),
        (true, None) => {
            "Global: scripts register by the default registration key, which the first one makes.".to_owned()
        }
        (false, _) => "Per administrator: scripts register by the own key of the administrator who asks.".to_owned(),
    }
}
