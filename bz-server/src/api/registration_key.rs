//! Which registration key hosts register by: the organization's default one, or the own one of each administrator.

use bz_core::api::api_key::{ApiKeyMade, EnforceGlobalKey, RegistrationKeySettings};
use bz_core::api::policy::SubjectType;
use bz_core::id::ApiKeyId;

use crate::api::{Answer, Call, api_key};
use crate::error::ApiError;
use crate::store::registration_key::Spare;

/// `GET organization/registration-key/settings`.
pub(super) async fn settings(call: Call) -> Result<Answer<RegistrationKeySettings>, ApiError> {
    let found = call.app.store.registration_settings().await?;
    Answer::json(&RegistrationKeySettings {
        global_registration_key_enforced: found.global,
        default_global_registration_key: found.default,
    })
}

/// `POST organization/registration-key/enable-enforce-global-key`.
pub(super) async fn enforce(call: Call, body: EnforceGlobalKey) -> Result<Answer<RegistrationKeySettings>, ApiError> {
    call.note(body.default_registration_key_id.to_string());
    if !call.app.store.enforce_global_key(body.default_registration_key_id).await? {
        let rule = "must be a registration key that is enabled and no token";
        return Err(ApiError::field("defaultRegistrationKeyId", rule));
    }
    settings(call).await
}

/// `POST organization/registration-key/disable-enforce-global-key`: from now on each administrator has a key.
pub(super) async fn release(call: Call) -> Result<Answer<RegistrationKeySettings>, ApiError> {
    for administrator in call.app.store.without_own_key().await? {
        call.app.store.own_key(administrator, spare(&call)?).await?;
    }
    call.app.store.release_global_key().await?;
    settings(call).await
}

/// `POST organization/registration-key/own`: a new secret for the caller's own key, which is made if it is not there.
pub(super) async fn own(call: Call) -> Result<Answer<ApiKeyMade>, ApiError> {
    let person = call.person()?;
    if person.user.kind != SubjectType::User {
        return Err(ApiError::denied("only people have registration keys of their own"));
    }
    if call.app.store.registration_settings().await?.global {
        return Err(ApiError::conflict("the default registration key is for everybody: that setting is on"));
    }
    let key = call.app.store.own_key(person.user.id, spare(&call)?).await?;
    call.note(key.id.to_string());
    api_key::rotated(&call, key, None).await
}

/// A key in reserve, whose secret nobody ever has.
pub(super) fn spare(call: &Call) -> Result<Spare, ApiError> {
    let (_, hash) = api_key::secret(call, true)?;
    Ok(Spare { id: ApiKeyId::from_random(call.app.random()?), hash, now: call.now() })
}
