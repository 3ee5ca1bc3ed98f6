//! The REST vocabulary: what server and client say to one another as JSON.
//!
//! Paths, fields and enum values are those of BastionZero's own API v2, so that its SDK decodes what we send; what the
//! original lacks stands beside it, in camelCase. Binary things (certificates, grants, requests) are base64url text.
//!
//! Absent: paths' handlers, and who may call them.

pub mod access;
pub mod api_key;
pub mod autodiscovery;
pub mod error;
pub mod groups;
pub mod login;
pub mod mfa;
pub mod policy;
pub mod proof;
pub mod reach;
pub mod record;
pub mod register;
#[cfg(feature = "openapi")]
mod schema;
pub mod service_account;
pub mod target;
pub mod virtual_target;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The prefix of every path.
pub const PREFIX: &str = "/api/v2";

/// Bytes inside JSON: base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl serde::Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        URL_SAFE_NO_PAD.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}
