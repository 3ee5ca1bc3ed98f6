//! The organization and its trust bundle.

use bz_core::api::login::{Organization, TrustBundleText};

use crate::api::{Answer, Call};
use crate::config::ProviderLogin;
use crate::error::ApiError;

/// `GET trust-bundle`: for trust on first use of this server.
pub(super) async fn bundle(call: Call) -> Result<Answer<TrustBundleText>, ApiError> {
    let bundle = call.app.bundle().to_text().map_err(ApiError::internal)?;
    let logins = call.app.config.logins.iter().map(ProviderLogin::settings).collect();
    Answer::json(&TrustBundleText { bundle, logins })
}

/// `GET organization`.
pub(super) async fn get(call: Call) -> Result<Answer<Organization>, ApiError> {
    let found = call.app.store.organization().await?.ok_or_else(|| ApiError::not_found("organization"))?;
    Answer::json(&Organization {
        id: found.id,
        name: found.name,
        is_single_user_organization: false,
        time_created: found.created.to_string(),
    })
}
