//! What is stored of a key's secret: HMAC-SHA-256 under a key that is a file of the data folder.
//!
//! Who copies the database alone can neither use nor try keys. The secrets are random, so nothing needs to be slowed down.

use bz_core::digest::Digest;
use ring::hmac;

/// The key that secrets are hashed under.
pub struct KeyHasher(hmac::Key);

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher")
    }
}

impl KeyHasher {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The keyed hash of a secret's hash.
    #[must_use]
    pub fn keyed(&self, plain: Digest) -> Digest {
        let tag = hmac::sign(&self.0, plain.as_bytes());
        // A tag of HMAC-SHA-256 has 32 bytes.
        Digest::from_bytes(tag.as_ref().try_into().unwrap_or_default())
    }

    /// What is stored of this text.
    #[must_use]
    pub fn of(&self, secret: &[u8]) -> Digest {
        self.keyed(Digest::of(secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_under_its_key() {
        let (one, two) = (KeyHasher::new(&[1; 32]), KeyHasher::new(&[2; 32]));
        assert_eq!(one.of(b"secret"), one.of(b"secret"));
        for other in [two.of(b"secret"), one.of(b"Secret"), Digest::of(b"secret"), Digest::from_bytes([0; 32])] {
            assert_ne!(one.of(b"secret"), other);
        }
    }
}
