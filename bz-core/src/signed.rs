//! Signed objects: the exact bytes first, the object only through a check.
//!
//! Every object's bytes are `header || body || extensions`. The header repeats the label inside the signed bytes with
//! kind, version and organization; extensions are (id, critical, bytes): an unknown critical one refuses the object,
//! an unknown other one is ignored but covered by the signature.

use std::fmt;
use std::marker::PhantomData;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::digest::{Digest, Label};
use crate::id::OrganizationId;
use crate::key::{PrivateKey, PublicKey, Signature};
use crate::wire::{self, WireError};

/// The most extensions one object may carry.
pub const MAX_EXTENSIONS: usize = 16;

/// What can be signed: a body with its own label, version and bound.
pub trait Object: Encode + Decode<()> {
    /// What the signature is for.
    const LABEL: Label;
    /// The version of the body's layout.
    const VERSION: u16;
    /// The most bytes of header, body and extensions together.
    const LIMIT: usize;
}

/// Something added to an object after its version was settled.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Extension {
    /// Which extension this is. None is defined yet.
    pub id: u16,
    /// Whether who does not know it must refuse the object.
    pub critical: bool,
    /// Its content.
    pub bytes: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, Encode, Decode)]
struct Header {
    label: String,
    version: u16,
    organization: OrganizationId,
}

/// Why a signed object was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Not an encoding of this object.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Made for another purpose.
    #[error("made for another purpose")]
    Label,
    /// A version this program does not know.
    #[error("a version this program does not know")]
    Version,
    /// Of another organization.
    #[error("of another organization")]
    Organization,
    /// An extension that must be understood and is not.
    #[error("an unknown critical extension")]
    CriticalExtension,
    /// More extensions than an object may carry.
    #[error("too many extensions")]
    TooManyExtensions,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Signature,
}

/// A signed object as it travels: the exact bytes and the signature over them.
pub struct Signed<T> {
    bytes: Vec<u8>,
    signature: Signature,
    object: PhantomData<fn() -> T>,
}

impl<T: Object> Signed<T> {
    /// Encodes and signs.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] above the object's bound.
    pub fn seal(body: &T, organization: OrganizationId, key: &PrivateKey) -> Result<Self, WireError> {
        Self::seal_with(body, organization, &[], key)
    }

    /// Encodes with extensions and signs.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] above the object's bound.
    pub fn seal_with(
        body: &T,
        organization: OrganizationId,
        extensions: &[Extension],
        key: &PrivateKey,
    ) -> Result<Self, WireError> {
        let header = Header { label: T::LABEL.as_str().to_owned(), version: T::VERSION, organization };
        let bytes = wire::encode(&(header, body, extensions), T::LIMIT)?;
        let signature = key.sign(T::LABEL, &bytes);
        Ok(Self { bytes, signature, object: PhantomData })
    }

    /// The object, when `key` signed exactly these bytes for `organization`.
    ///
    /// # Errors
    /// What [`ObjectError`] lists; nothing of the body is used before the signature is checked.
    pub fn open(&self, key: &PublicKey, organization: OrganizationId) -> Result<T, ObjectError> {
        self.open_by(organization, |_| Some(*key))
    }

    /// The object, when the key that `key_of` finds for it signed exactly these bytes for `organization`.
    ///
    /// `key_of` sees the body before it is verified and may use it for nothing but finding the key.
    ///
    /// # Errors
    /// As [`Self::open`]; no key is [`ObjectError::Signature`].
    pub fn open_by(
        &self,
        organization: OrganizationId,
        key_of: impl FnOnce(&T) -> Option<PublicKey>,
    ) -> Result<T, ObjectError> {
        let (header, body, extensions): (Header, T, Vec<Extension>) = wire::decode(&self.bytes, T::LIMIT)?;
        let key = key_of(&body).ok_or(ObjectError::Signature)?;
        key.verify(T::LABEL, &self.bytes, &self.signature).map_err(|_| ObjectError::Signature)?;
        check_header(&header, T::LABEL, T::VERSION, organization)?;
        check_extensions(&extensions)?;
        Ok(body)
    }

    /// The exact signed bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signature.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// SHA-256 of bytes and signature: this object as it travelled.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::labelled(T::LABEL, &[&self.bytes, self.signature.as_bytes()])
    }
}

fn check_header(header: &Header, label: Label, version: u16, organization: OrganizationId) -> Result<(), ObjectError> {
    if header.label != label.as_str() {
        return Err(ObjectError::Label);
    }
    if header.version != version {
        return Err(ObjectError::Version);
    }
    if header.organization != organization {
        return Err(ObjectError::Organization);
    }
    Ok(())
}

fn check_extensions(extensions: &[Extension]) -> Result<(), ObjectError> {
    if extensions.len() > MAX_EXTENSIONS {
        return Err(ObjectError::TooManyExtensions);
    }
    // No extension is defined in this version, so every critical one is unknown.
    if extensions.iter().any(|e| e.critical) { Err(ObjectError::CriticalExtension) } else { Ok(()) }
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), signature: self.signature, object: PhantomData }
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.signature == other.signature
    }
}

impl<T> Eq for Signed<T> {}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({} bytes)", self.bytes.len())
    }
}

impl<T> Encode for Signed<T> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.bytes.encode(encoder)?;
        self.signature.encode(encoder)
    }
}

impl<C, T> Decode<C> for Signed<T> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let bytes = Vec::<u8>::decode(decoder)?;
        let signature = Signature::decode(decoder)?;
        Ok(Self { bytes, signature, object: PhantomData })
    }
}

impl<'de, C, T> bincode::BorrowDecode<'de, C> for Signed<T> {
    fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

#[cfg(test)]
mod tests;
