//! Identifiers: one newtype per noun, so that one kind never stands for another.
//!
//! Ids are made outside this floor (it has no randomness) and carried in by value.

use std::fmt;
use std::str::FromStr;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// The text is no UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id (a UUID such as 0192f0c1-6d2e-7c3a-9b1d-3c8f4f0a2b11)")]
pub struct ParseIdError {
    text: String,
}

/// The longest text repeated in an error.
const SHOWN: usize = 64;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// The id made of these sixteen bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Uuid::from_bytes(bytes))
            }

            /// A version 4 UUID out of sixteen random bytes.
            #[must_use]
            pub const fn from_random(bytes: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }

            /// The sixteen bytes, as they stand in signed objects.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.parse().map(Self).map_err(|_| ParseIdError { text: text.chars().take(SHOWN).collect() })
            }
        }

        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.as_bytes().encode(encoder)
            }
        }

        impl<C> Decode<C> for $name {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                <[u8; 16]>::decode(decoder).map(Self::from_bytes)
            }
        }

        bincode::impl_borrow_decode!($name);
    )*};
}

ids! {
    /// An organization: everything signed belongs to exactly one.
    OrganizationId
    /// A person in this organization; a new one for each first login.
    UserId
    /// An environment: a group of targets.
    EnvironmentId
    /// A target: something an agent acts on.
    TargetId
    /// A connection: one use of one target by one person.
    ConnectionId
    /// A grant: the server's signed word for one connection.
    GrantId
    /// A policy.
    PolicyId
    /// One start of an agent; a grant for another start is void.
    BootId
    /// A shell kept on a target.
    ShellId
    /// An API key or registration key.
    ApiKeyId
    /// One row of a log.
    EventId
    /// One login of a person at the server.
    LoginId
    /// A set of connections a person works with together.
    SpaceId
}
