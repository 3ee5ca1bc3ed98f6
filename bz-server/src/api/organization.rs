//! The organization and its trust bundle.

use bz_core::api::login::{CertValidation, IdentityProvider, Organization, TrustBundleText};
use bz_core::oidc::provider::{Commitment, Provider};

use crate::api::{Answer, Call};
use crate::config::ProviderLogin;
use crate::error::ApiError;

/// `GET trust-bundle`: for trust on first use of this server.
pub(super) async fn bundle(call: Call) -> Result<Answer<TrustBundleText>, ApiError> {
    let bundle = call.app.bundle().to_text().map_err(ApiError::internal)?;
    let logins = call.app.config().logins.iter().map(ProviderLogin::settings).collect();
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

/// `GET organization/bzcert-validation-info`.
pub(super) async fn cert_validation(call: Call) -> Result<Answer<CertValidation>, ApiError> {
    let (org_idp_provider, org_idp_issuer_id) = provider(&call)?;
    Answer::json(&CertValidation { org_idp_provider, org_idp_issuer_id })
}

/// `GET organization/identity-provider`.
pub(super) async fn identity_provider(call: Call) -> Result<Answer<IdentityProvider>, ApiError> {
    let (identity_provider_type, identity_provider_id) = provider(&call)?;
    Answer::json(&IdentityProvider { identity_provider_type, identity_provider_id })
}

/// The kind of the first provider of people, and what says there which organization it is. The trust bundle names all of them.
fn provider(call: &Call) -> Result<(String, String), ApiError> {
    let settings = call.app.config();
    let mut people = settings.providers.iter().filter(|p| p.commitment == Commitment::Nonce);
    let Provider { kind, issuer, organization, .. } =
        people.next().cloned().ok_or_else(|| ApiError::not_found("identity provider"))?;
    let kind = serde_json::to_value(kind).map_err(ApiError::internal)?;
    Ok((kind.as_str().unwrap_or_default().to_owned(), organization.map_or(issuer, |claim| claim.value)))
}
