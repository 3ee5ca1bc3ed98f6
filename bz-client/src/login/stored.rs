//! A login as text, for a file that only its owner can read.

use bz_core::api::login::{MfaActionRequired, User};
use bz_core::cert::CertRequest;
use bz_core::id::OrganizationId;
use bz_core::key::PrivateKey;
use bz_core::time::UnixTime;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::login::Login;
use crate::secret::Secret;

const VERSION: u32 = 1;

/// The text is no stored login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no login of this version")]
pub struct ParseLoginError;

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    #[zeroize(skip)]
    login_id: bz_core::id::LoginId,
    #[zeroize(skip)]
    organization: OrganizationId,
    issuer: String,
    key: String,
    random: String,
    initial_token: String,
    current_token: String,
    refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_source: Option<String>,
    #[zeroize(skip)]
    started_at: UnixTime,
    #[zeroize(skip)]
    obtained_at: UnixTime,
    #[zeroize(skip)]
    token_expires_at: UnixTime,
    #[zeroize(skip)]
    expires_at: UnixTime,
    #[zeroize(skip)]
    user: User,
    #[zeroize(skip)]
    mfa: MfaActionRequired,
}

impl Login {
    /// The login with all its secrets, as text for a private file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let stored = Stored {
            version: VERSION,
            login_id: self.id,
            organization: self.organization,
            issuer: self.issuer.clone(),
            key: hex::encode(*self.key.to_bytes()),
            random: hex::encode(self.request.parts().0),
            initial_token: self.initial.reveal().to_owned(),
            current_token: self.current.reveal().to_owned(),
            token_source: self.token_source.clone(),
            refresh_token: self.refresh.as_ref().map(|token| token.reveal().to_owned()),
            started_at: self.started_at,
            obtained_at: self.obtained_at,
            token_expires_at: self.token_expires_at,
            expires_at: self.expires_at,
            user: self.user.clone(),
            mfa: self.mfa,
        };
        Zeroizing::new(serde_json::to_string_pretty(&stored).unwrap_or_default())
    }

    /// The login that [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// [`ParseLoginError`] for anything else.
    pub fn from_text(text: &str) -> Result<Self, ParseLoginError> {
        let stored: Stored = serde_json::from_str(text).map_err(|_| ParseLoginError)?;
        if stored.version != VERSION {
            return Err(ParseLoginError);
        }
        let bytes = |hex: &str| {
            let mut bytes = Zeroizing::new([0; 32]);
            hex::decode_to_slice(hex, bytes.as_mut_slice()).map(|()| bytes).map_err(|_| ParseLoginError)
        };
        let key = bytes(&stored.key).and_then(|key| PrivateKey::from_bytes(&key).map_err(|_| ParseLoginError))?;
        Ok(Self {
            id: stored.login_id,
            organization: stored.organization,
            issuer: stored.issuer.clone(),
            // Signing is deterministic: the same key and random give the same commitment.
            request: CertRequest::new(stored.organization, &key, *bytes(&stored.random)?),
            key,
            initial: Secret::new(stored.initial_token.clone()),
            current: Secret::new(stored.current_token.clone()),
            refresh: stored.refresh_token.clone().map(Secret::new),
            token_source: stored.token_source.clone(),
            started_at: stored.started_at,
            obtained_at: stored.obtained_at,
            token_expires_at: stored.token_expires_at,
            expires_at: stored.expires_at,
            user: stored.user.clone(),
            mfa: stored.mfa,
            issuer_keys: None,
        })
    }
}
