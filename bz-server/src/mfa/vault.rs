//! Secrets of second factors at rest: AES-256-GCM under a key that is a file of the data folder, each bound to its owner.
//!
//! What it protects is a copy of the database without the folder. Who has the folder has the secrets.

use std::io;
use std::str::FromStr;

use bz_core::id::UserId;
use bz_core::totp::{SECRET_BYTES, TotpSecret};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// The bytes of a nonce.
pub(crate) const NONCE: usize = ring::aead::NONCE_LEN;
const LABEL: &[u8] = b"bz/1 second factor\0";

/// The key that secrets are encrypted under.
pub(crate) struct Vault(LessSafeKey);

/// A secret at rest: its nonce and the ciphertext, as hexadecimal text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SealedSecret(String);

/// The secret is under another key, or another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a second factor's secret cannot be decrypted: is mfa.key the one it was encrypted under?")]
pub(crate) struct VaultError;

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl std::fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealedSecret")
    }
}

impl SealedSecret {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SealedSecret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl Vault {
    pub(crate) fn new(bytes: &[u8; 32]) -> io::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| io::Error::other("it is no key for AES-256-GCM"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The secret at rest; the nonce is used once.
    pub(crate) fn seal(
        &self,
        owner: UserId,
        secret: &TotpSecret,
        nonce: [u8; NONCE],
    ) -> Result<SealedSecret, VaultError> {
        let mut sealed = secret.as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(unique, aad(owner), &mut sealed).map_err(|_| VaultError)?;
        Ok(SealedSecret(hex::encode([nonce.as_slice(), &sealed].concat())))
    }

    /// The secret.
    pub(crate) fn open(&self, owner: UserId, sealed: &SealedSecret) -> Result<TotpSecret, VaultError> {
        let bytes = hex::decode(&sealed.0).map_err(|_| VaultError)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>().ok_or(VaultError)?;
        let mut rest = rest.to_vec();
        let plain = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), aad(owner), &mut rest);
        let plain: [u8; SECRET_BYTES] = plain.map_err(|_| VaultError)?.try_into().map_err(|_| VaultError)?;
        Ok(TotpSecret::from_bytes(plain))
    }
}

fn aad(owner: UserId) -> Aad<Vec<u8>> {
    Aad::from([LABEL, owner.as_bytes().as_slice()].concat())
}
