//! API keys and registration keys. A secret is in one answer only, and stored as a hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bz_core::api::policy::{ApiKey as ApiKeyBody, ApiKeyMade, ChangeApiKey, NewApiKey};
use bz_core::id::ApiKeyId;
use zeroize::Zeroizing;

use crate::api::call::check_text;
use crate::api::openapi::Nothing;
use crate::api::page::List;
use crate::api::{Answer, Call};
use crate::auth::key_hash;
use crate::error::ApiError;
use crate::store::api_key::ApiKey;

/// `GET api-keys`.
pub(super) async fn list(call: Call) -> Result<Answer<List<ApiKeyBody>>, ApiError> {
    let all = call.app.store.api_keys().await?;
    Answer::list(&call, all.iter().map(show).collect())
}

/// `POST api-keys`.
pub(super) async fn add(call: Call, new: NewApiKey) -> Result<Answer<ApiKeyMade>, ApiError> {
    check_text("name", &new.name, 100)?;
    let secret = Zeroizing::new(call.app.random::<32>()?);
    let key = ApiKey {
        id: ApiKeyId::from_random(call.app.random()?),
        name: new.name,
        created: call.now(),
        is_registration: new.is_registration_key,
    };
    call.note(key.id.to_string());
    call.app.store.add_api_key(key.clone(), key_hash(&secret)).await?;
    Answer::json(&ApiKeyMade { api_key_details: show(&key), secret: STANDARD.encode(secret.as_slice()) })
}

/// `GET api-keys/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer<ApiKeyBody>, ApiError> {
    let key = call.app.store.api_key(call.id()?).await?;
    Answer::json(&show(&key.ok_or_else(|| ApiError::not_found("API key"))?))
}

/// `PATCH api-keys/{id}`.
pub(super) async fn edit(call: Call, edit: ChangeApiKey) -> Result<Answer<ApiKeyBody>, ApiError> {
    check_text("name", &edit.name, 100)?;
    call.app.store.rename_api_key(call.id()?, edit.name).await?;
    get(call).await
}

/// `DELETE api-keys/{id}`.
pub(super) async fn delete(call: Call) -> Result<Answer<Nothing>, ApiError> {
    if call.app.store.delete_api_key(call.id()?).await? {
        Ok(Answer::empty())
    } else {
        Err(ApiError::not_found("API key"))
    }
}

fn show(key: &ApiKey) -> ApiKeyBody {
    ApiKeyBody {
        id: key.id,
        name: key.name.clone(),
        time_created: key.created.to_string(),
        is_registration_key: key.is_registration,
    }
}
