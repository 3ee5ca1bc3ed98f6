//! P-256 keys, labelled signatures and key agreement.
//!
//! One encoding each: public keys are 65-byte uncompressed points, signatures 64 bytes r‖s with low s; every other
//! form is refused. Signing is deterministic (RFC 6979), so signed objects have golden vectors.
//!
//! Absent: key generation from a random source. Seeds are an argument.

use std::fmt;
use std::str::FromStr;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::digest::{Digest, Label};

/// Bytes of an encoded public key.
pub const PUBLIC_KEY_BYTES: usize = 65;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Why bytes are not a key or a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not an uncompressed point on P-256.
    #[error("not a public key: expected a 65-byte uncompressed P-256 point")]
    PublicKey,
    /// Not a scalar in range.
    #[error("not a private key: expected a 32-byte P-256 scalar")]
    PrivateKey,
}

/// The signature is not this key's over these bytes under this label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// A P-256 private key. Signs labelled messages only; never shown, zeroed when dropped.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// The key derived from 32 random bytes: the first scalar in range of SHA-256("bz/1 key" ‖ seed ‖ counter).
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`] when 256 candidates in a row are out of range, which does not happen.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        candidates(seed).find_map(|c| SigningKey::from_slice(c.as_slice()).ok()).map(Self).ok_or(KeyError::PrivateKey)
    }

    /// The key with this scalar, as [`Self::to_bytes`] gave it.
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`] when the scalar is zero or out of range.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        SigningKey::from_slice(bytes).map(Self).map_err(|_| KeyError::PrivateKey)
    }

    /// The scalar, for the key's own file and nothing else.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// Signs `label || 0x00 || bytes`.
    #[must_use]
    pub fn sign(&self, label: Label, bytes: &[u8]) -> Signature {
        self.sign_unlabelled(&labelled(label, bytes))
    }

    /// Signs what another protocol says. For keys that are of that protocol alone: see [`crate::ssh::SshKey`].
    pub(crate) fn sign_unlabelled(&self, bytes: &[u8]) -> Signature {
        let signature: p256::ecdsa::Signature = self.0.sign(bytes);
        Signature(signature.normalize_s().to_bytes().into())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// A P-256 public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key encoded by these bytes.
    ///
    /// # Errors
    /// [`KeyError::PublicKey`] for anything but a 65-byte uncompressed point on the curve.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != PUBLIC_KEY_BYTES || bytes.first() != Some(&4) {
            return Err(KeyError::PublicKey);
        }
        VerifyingKey::from_sec1_bytes(bytes).map(Self).map_err(|_| KeyError::PublicKey)
    }

    /// The 65-byte uncompressed point.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PUBLIC_KEY_BYTES] {
        let mut bytes = [0; PUBLIC_KEY_BYTES];
        for (to, from) in bytes.iter_mut().zip(self.0.to_sec1_point(false).as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// Checks a signature over `label || 0x00 || bytes`.
    ///
    /// # Errors
    /// [`BadSignature`] when it does not verify or its s is high.
    pub fn verify(&self, label: Label, bytes: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let signature = p256::ecdsa::Signature::from_slice(&signature.0).map_err(|_| BadSignature)?;
        if signature.normalize_s() != signature {
            return Err(BadSignature);
        }
        self.0.verify(&labelled(label, bytes), &signature).map_err(|_| BadSignature)
    }

    /// SHA-256 of the encoded point: what people compare.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_bytes().cmp(&other.to_bytes())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; PUBLIC_KEY_BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::PublicKey)?;
        Self::from_bytes(&bytes)
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Encode for PublicKey {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.to_bytes().encode(encoder)
    }
}

impl<C> Decode<C> for PublicKey {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let bytes = <[u8; PUBLIC_KEY_BYTES]>::decode(decoder)?;
        Self::from_bytes(&bytes).map_err(|_| DecodeError::Other("not a public key"))
    }
}

bincode::impl_borrow_decode!(PublicKey);

/// An ECDSA signature, r‖s. Not an id: whoever holds the key can make many for one message.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Signature([u8; SIGNATURE_BYTES]);

impl Signature {
    /// The signature with this encoding. Range and low s are checked when it is verified.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SIGNATURE_BYTES]) -> Self {
        Self(bytes)
    }

    /// r‖s.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(self.0))
    }
}

/// A key for one agreement (ECDH), consumed by it.
pub struct EphemeralKey(p256::SecretKey);

impl EphemeralKey {
    /// The key derived from 32 random bytes, as [`PrivateKey::from_seed`] does.
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`], as there.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        candidates(seed)
            .find_map(|c| p256::SecretKey::from_slice(c.as_slice()).ok())
            .map(Self)
            .ok_or(KeyError::PrivateKey)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().into())
    }

    /// The shared secret with the other end: the x coordinate, 32 bytes.
    #[must_use]
    pub fn agree(self, other: &PublicKey) -> Zeroizing<[u8; 32]> {
        let shared = p256::ecdh::diffie_hellman(self.0.to_nonzero_scalar(), other.0.as_affine());
        Zeroizing::new((*shared.raw_secret_bytes()).into())
    }
}

impl fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EphemeralKey(…)")
    }
}

fn labelled(label: Label, bytes: &[u8]) -> Vec<u8> {
    [label.as_str().as_bytes(), &[0], bytes].concat()
}

fn candidates(seed: &[u8; 32]) -> impl Iterator<Item = Zeroizing<[u8; 32]>> {
    (0..=u8::MAX).map(move |counter| {
        let mut hash = Sha256::new();
        hash.update(b"bz/1 key");
        hash.update(seed);
        hash.update([counter]);
        let mut out = hash.finalize();
        let candidate = Zeroizing::new(out.into());
        out.as_mut_slice().zeroize();
        candidate
    })
}

#[cfg(test)]
mod tests;
