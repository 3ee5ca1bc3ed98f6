//! API keys and registration keys. A secret is in one answer only, and stored as a keyed hash.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use bz_core::api::api_key::cidr::Cidr;
use bz_core::api::api_key::secret::{ACCESS, KeyText, REGISTRATION};
use bz_core::api::api_key::{ApiKey as ApiKeyBody, ApiKeyMade, ChangeApiKey, NewApiKey, RotateApiKey, Scope};
use bz_core::digest::Digest;
use bz_core::id::ApiKeyId;
use bz_core::time::UnixTime;

use crate::api::call::{check_text, parse_time};
use crate::api::openapi::Nothing;
use crate::api::page::List;
use crate::api::{Answer, Call};
use crate::error::ApiError;
use crate::store::StoreError;
use crate::store::api_key::{ApiKey, Owner};

/// The most ranges of one key.
const MOST_RANGES: usize = 64;
/// The most targets that a key with a number of them registers.
const MOST_USES: u32 = 1000;
/// The longest that an old secret is good after a rotation: a week.
const MOST_OVERLAP: u32 = 168;

/// `GET api-keys`.
pub(super) async fn list(call: Call) -> Result<Answer<List<ApiKeyBody>>, ApiError> {
    let mut shown = Vec::new();
    for key in call.app.store.api_keys().await? {
        shown.push(show(&call, key).await?);
    }
    Answer::list(&call, shown)
}

/// `POST api-keys`.
pub(super) async fn add(call: Call, new: NewApiKey) -> Result<Answer<ApiKeyMade>, ApiError> {
    check_text("name", &new.name, 100)?;
    let mut key = ApiKey::new(ApiKeyId::from_random(call.app.random()?), new.name.clone(), call.now());
    key.is_registration = new.is_registration_key;
    key.expires = new.expires_at.as_deref().map(|text| end(&call, text)).transpose()?;
    key.ranges = ranges(new.allowed_addresses.clone())?;
    key.owner = owner(&call, &new).await?;
    if key.is_registration {
        register_only(&call, &mut key, &new).await?;
    } else {
        if new.environment_id.is_some() || new.uses.is_some() {
            return Err(ApiError::field("environmentId", "and uses are for registration keys"));
        }
        key.scopes = scopes(new.scopes.unwrap_or_else(|| vec![Scope::All]))?;
        may_give(&call)?;
    }
    call.note(key.id.to_string());
    call.note_context(described(&key));
    let (secret, hash) = secret(&call, key.is_registration)?;
    call.app.store.add_api_key(key.clone(), hash).await?;
    made(&call, key, &secret).await
}

async fn register_only(call: &Call, key: &mut ApiKey, new: &NewApiKey) -> Result<(), ApiError> {
    if new.scopes.is_some() {
        return Err(ApiError::field(
            "scopes",
            "are for access keys: a registration key registers targets, nothing else",
        ));
    }
    if let Some(environment) = new.environment_id {
        let found = call.app.store.environment(environment).await?;
        found.ok_or_else(|| ApiError::field("environmentId", "there is no such environment"))?;
    }
    if new.uses.is_some_and(|uses| !(1..=MOST_USES).contains(&uses)) {
        return Err(ApiError::field("uses", "must be 1 to 1000"));
    }
    key.environment = new.environment_id;
    key.uses_left = new.uses;
    Ok(())
}

/// `GET api-keys/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer<ApiKeyBody>, ApiError> {
    let key = find(&call).await?;
    Answer::json(&show(&call, key).await?)
}

/// `PATCH api-keys/{id}`.
pub(super) async fn edit(call: Call, change: ChangeApiKey) -> Result<Answer<ApiKeyBody>, ApiError> {
    let mut key = find(&call).await?;
    let narrows = change.enabled != Some(true)
        && change.scopes.is_none()
        && change.expires_at.is_none()
        && change.allowed_addresses.is_none();
    if !key.is_registration && !narrows {
        may_give(&call)?;
    }
    if let Some(name) = change.name {
        check_text("name", &name, 100)?;
        key.name = name;
    }
    if let Some(new) = change.scopes {
        if key.is_registration {
            return Err(ApiError::field("scopes", "are for access keys"));
        }
        key.scopes = scopes(new)?;
    }
    match change.expires_at.as_deref() {
        None => {}
        Some("never") if key.parent.is_none() => key.expires = None,
        Some(text) => key.expires = Some(end(&call, text)?),
    }
    key.ranges = change.allowed_addresses.map(ranges).transpose()?.unwrap_or(key.ranges);
    key.enabled = change.enabled.unwrap_or(key.enabled);
    call.note_context(described(&key));
    if !call.app.store.change_api_key(key.clone()).await? {
        return Err(ApiError::not_found("API key"));
    }
    Answer::json(&show(&call, key).await?)
}

/// `POST api-keys/{id}/rotate`.
pub(super) async fn rotate(call: Call, body: RotateApiKey) -> Result<Answer<ApiKeyMade>, ApiError> {
    let key = find(&call).await?;
    if !key.is_registration {
        may_give(&call)?;
    }
    if key.parent.is_some() {
        return Err(ApiError::conflict("a token is not rotated: get another"));
    }
    if body.overlap_hours > MOST_OVERLAP {
        return Err(ApiError::field("overlapHours", "must be at most 168"));
    }
    let hours = Duration::from_secs(u64::from(body.overlap_hours) * 3600);
    let overlap = (body.overlap_hours > 0).then(|| call.now().after(hours));
    rotated(&call, key, overlap).await
}

/// Gives a key another secret and answers with it.
pub(super) async fn rotated(
    call: &Call,
    key: ApiKey,
    overlap: Option<UnixTime>,
) -> Result<Answer<ApiKeyMade>, ApiError> {
    let (secret, hash) = secret(call, key.is_registration)?;
    if !call.app.store.rotate_api_key(key.id, hash, overlap).await? {
        return Err(ApiError::not_found("API key"));
    }
    made(call, key, &secret).await
}

/// `DELETE api-keys/{id}`.
pub(super) async fn delete(call: Call) -> Result<Answer<Nothing>, ApiError> {
    match call.app.store.delete_api_key(call.id()?).await {
        Ok(true) => Ok(Answer::empty()),
        Ok(false) => Err(ApiError::not_found("API key")),
        Err(StoreError::InUse) => Err(ApiError::conflict("this is the default registration key: name another first")),
        Err(error) => Err(error.into()),
    }
}

async fn find(call: &Call) -> Result<ApiKey, ApiError> {
    call.app.store.api_key(call.id()?).await?.ok_or_else(|| ApiError::not_found("API key"))
}

/// Whoever gives access has all of it, for good: a key could otherwise make itself a stronger one.
fn may_give(call: &Call) -> Result<(), ApiError> {
    if call.has("apikeyservice:give") {
        return Ok(());
    }
    Err(ApiError::denied("an access key whose scopes, time or addresses are narrowed gives no access"))
}

/// A new secret, and what is stored of it.
pub(super) fn secret(call: &Call, is_registration: bool) -> Result<(KeyText, Digest), ApiError> {
    let prefix = if is_registration { REGISTRATION } else { ACCESS };
    let text = KeyText::from_random(prefix, &call.app.random()?).map_err(ApiError::internal)?;
    let hash = call.app.key_hasher.of(text.as_str().as_bytes());
    Ok((text, hash))
}

async fn made(call: &Call, key: ApiKey, secret: &KeyText) -> Result<Answer<ApiKeyMade>, ApiError> {
    let api_key_details = show(call, key).await?;
    let answer = Answer::json(&ApiKeyMade { api_key_details, secret: secret.as_str().to_owned() });
    Ok(answer?.kept_nowhere())
}

fn scopes(mut scopes: Vec<Scope>) -> Result<Vec<Scope>, ApiError> {
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() { Err(ApiError::field("scopes", "must name at least one")) } else { Ok(scopes) }
}

fn ranges(ranges: Vec<Cidr>) -> Result<Vec<Cidr>, ApiError> {
    if ranges.len() > MOST_RANGES {
        return Err(ApiError::field("allowedAddresses", "must be at most 64 ranges"));
    }
    Ok(ranges)
}

fn end(call: &Call, text: &str) -> Result<UnixTime, ApiError> {
    let time = parse_time(text).filter(|time| *time > call.now());
    time.ok_or_else(|| ApiError::field("expiresAt", "must be a time to come, as in RFC 3339"))
}

async fn owner(call: &Call, new: &NewApiKey) -> Result<Owner, ApiError> {
    match (new.owner_id, &new.owner_application) {
        (None, None) => Ok(Owner::Organization),
        (Some(_), Some(_)) => Err(ApiError::field("ownerId", "and ownerApplication are two owners: name one")),
        (None, Some(name)) => {
            crate::api::call::check_name("ownerApplication", name)?;
            Ok(Owner::Application(name.clone()))
        }
        (Some(id), None) => {
            let found = call.app.store.key_owner(Owner::User(id)).await?;
            found.ok_or_else(|| ApiError::field("ownerId", "there is no such person or service account"))?;
            Ok(Owner::User(id))
        }
    }
}

/// What a key is for, in the log of calls.
fn described(key: &ApiKey) -> String {
    let scopes = key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ");
    let what = if key.is_registration { "registers targets".to_owned() } else { format!("scopes: {scopes}") };
    let end = key.expires.map_or_else(|| "never".to_owned(), |end| end.to_string());
    format!("{what}; enabled: {}; ends: {end}; from {} ranges", key.enabled, key.ranges.len())
}

/// A key, as it is listed; what is not written down yet included.
pub(super) async fn show(call: &Call, key: ApiKey) -> Result<ApiKeyBody, ApiError> {
    let owner = call.app.store.key_owner(key.owner.clone()).await?;
    let lately = call.app.key_uses.lock().unwrap_or_else(PoisonError::into_inner).get(&key.id).copied();
    let (used_at, used_from): (Option<UnixTime>, Option<IpAddr>) = lately.or(key.last_used).unzip();
    Ok(ApiKeyBody {
        id: key.id,
        name: key.name,
        time_created: key.created.to_string(),
        is_registration_key: key.is_registration,
        scopes: key.scopes,
        enabled: key.enabled,
        expires_at: key.expires.map(|time| time.to_string()),
        allowed_addresses: key.ranges,
        owner,
        parent_id: key.parent,
        environment_id: key.environment,
        uses_left: key.uses_left,
        is_personal: matches!(key.owner, Owner::Personal(_)),
        last_used_at: used_at.map(|time| time.to_string()),
        last_used_from: used_from.map(|address| address.to_string()),
    })
}
