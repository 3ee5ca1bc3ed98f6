//! A call by a key: whose text it is, whether it is good now and from there, and when it was last used.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bz_core::api::api_key::secret::{KeyText, KeyTextError, LENGTH};
use bz_core::digest::Digest;
use bz_core::id::ApiKeyId;
use bz_core::time::UnixTime;

use crate::app::App;
use crate::error::ApiError;
use crate::store::StoreError;
use crate::store::api_key::ApiKey;

/// A key that called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCall {
    /// The key.
    pub key: ApiKey,
    /// Whether it is good.
    pub standing: KeyStanding,
}

/// Whether a key is good, now and from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStanding {
    /// It is.
    Good,
    /// Somebody disabled it.
    Disabled,
    /// Its time is over.
    Expired,
    /// It has registered all that it may.
    Used,
    /// It is not taken from this address.
    Elsewhere,
}

impl KeyStanding {
    /// How this key stands.
    #[must_use]
    pub fn of(key: &ApiKey, from: IpAddr, now: UnixTime) -> Self {
        if !key.enabled {
            Self::Disabled
        } else if key.expires.is_some_and(|end| now >= end) {
            Self::Expired
        } else if key.uses_left == Some(0) {
            Self::Used
        } else if !key.ranges.is_empty() && !key.ranges.iter().any(|range| range.contains(from)) {
            Self::Elsewhere
        } else {
            Self::Good
        }
    }

    /// Why nothing is done for it, in words.
    #[must_use]
    pub fn refusal(self) -> Option<ApiError> {
        Some(match self {
            Self::Good => return None,
            Self::Disabled => ApiError::not_logged_in("this API key is disabled: an administrator can enable it"),
            Self::Expired => ApiError::not_logged_in("this API key has ended: an administrator can make another"),
            Self::Used => ApiError::not_logged_in("this token has registered all that it may: get another"),
            Self::Elsewhere => ApiError::denied("this API key is not taken from the address that the call comes from"),
        })
    }
}

/// When keys were used since this was last written down, and from where: a call costs no row of its own.
pub(crate) type Uses = BTreeMap<ApiKeyId, (UnixTime, IpAddr)>;

/// Finds the key of a secret.
///
/// # Errors
/// [`ApiError::not_logged_in`] when there is none.
pub(super) async fn by_secret(app: &App, header: &[u8], from: IpAddr) -> Result<KeyCall, ApiError> {
    let unknown =
        || ApiError::not_logged_in("the API key is unknown or was deleted: `bz api-key create` makes another").guess();
    let now = app.now().wall;
    let plain = plain(header)?.ok_or_else(unknown)?;
    let key = app.store.api_key_of(app.key_hasher.keyed(plain), now).await?.ok_or_else(unknown)?;
    let standing = KeyStanding::of(&key, from, now);
    if standing == KeyStanding::Good {
        app.key_uses.lock().unwrap_or_else(PoisonError::into_inner).insert(key.id, (now, from));
    }
    Ok(KeyCall { key, standing })
}

/// The hash of a secret: of the text, or of the bytes that older keys are base64 of.
fn plain(header: &[u8]) -> Result<Option<Digest>, ApiError> {
    let text = std::str::from_utf8(header).unwrap_or_default();
    match KeyText::parse(text) {
        Ok(key) => Ok(Some(Digest::of(key.as_str().as_bytes()))),
        Err(KeyTextError::Checksum) if text.len() == LENGTH => {
            Err(ApiError::not_logged_in("the API key is mistyped: its checksum is wrong"))
        }
        Err(_) => {
            let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            Ok(bytes.map(|bytes| Digest::of(&bytes)))
        }
    }
}

/// Writes down when keys were last used.
///
/// # Errors
/// [`StoreError`].
pub async fn write_uses(app: &App) -> Result<(), StoreError> {
    let uses = std::mem::take(&mut *app.key_uses.lock().unwrap_or_else(PoisonError::into_inner));
    if uses.is_empty() {
        return Ok(());
    }
    app.store.keys_used(uses.into_iter().collect()).await
}
