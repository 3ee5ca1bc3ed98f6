//! Opaque tokens: a public handle that finds a record, and a secret that the record knows only by its hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a secret. Comparing hashes tells a guesser nothing through time.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Hashed([u8; 32]);

impl Hashed {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl std::fmt::Debug for Hashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashed(..)")
    }
}

/// 32 random bytes as text.
pub(super) fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64URL.encode(bytes))
}

/// What a client is given for a record.
pub(super) fn join(handle: &str, secret: &str) -> String {
    format!("{handle}.{secret}")
}

/// The handle and the secret of what a client sent.
pub(super) fn split(token: &str) -> Option<(&str, &str)> {
    token.split_once('.')
}
