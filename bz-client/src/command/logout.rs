//! `bz logout`.

use bz_client::RestError;
use bz_core::api::error::Code;
use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;

/// What `bz logout` takes.
#[derive(Debug, Args)]
pub(crate) struct Logout {}

impl Logout {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let locked = context.profile.login_store().take().await?;
        let told = match context.client() {
            Ok(client) => client.logout().await.map_err(anyhow::Error::from),
            Err(error) => Err(error),
        };
        // Here it ends in any case; a login that nobody can use any more ends at the server by itself.
        locked.remove()?;
        let over = |error: &anyhow::Error| {
            error.downcast_ref::<RestError>().and_then(RestError::code) == Some(Code::NotLoggedIn)
                || matches!(error.downcast_ref(), Some(bz_client::profile::ProfileError::NotLoggedIn))
        };
        match told {
            Err(error) if !over(&error) => {
                let why = crate::output::told(&error);
                context.output.warn(&format!("The server was not told ({why}); the login ends there by itself."));
            }
            Ok(()) | Err(_) => {}
        }
        context.output.result(&json!({"loggedOut": true}), "Logged out.")?;
        Ok(Exit::Fine)
    }
}
