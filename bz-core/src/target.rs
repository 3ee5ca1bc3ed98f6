//! Target users, literal or from the person's identity.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use crate::oidc::provider::Address;

/// The most bytes of a user name: Linux's own bound.
const MAX_USER: usize = 32;

/// Uids below this belong to the system and never come out of a substitution.
pub const FIRST_PERSONAL_UID: u32 = 1000;

/// A user on a target: 1 to 32 of letters, digits, `_`, `-`, `.`, beginning with a letter or `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, serde::Serialize)]
#[serde(transparent)]
pub struct TargetUser(String);

impl TargetUser {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that names no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a user name: 1 to 32 letters, digits, '_', '-' or '.', beginning with a letter or '_'")]
pub struct ParseTargetUserError;

impl FromStr for TargetUser {
    type Err = ParseTargetUserError;

    fn from_str(text: &str) -> Result<Self, ParseTargetUserError> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if plain && begins && text.len() <= MAX_USER { Ok(Self(text.to_owned())) } else { Err(ParseTargetUserError) }
    }
}

impl<'de> serde::Deserialize<'de> for TargetUser {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<C> Decode<C> for TargetUser {
    fn decode<D: bincode::de::Decoder<Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        let text = String::decode(decoder)?;
        text.parse().map_err(|_| bincode::error::DecodeError::Other("not a user name"))
    }
}

bincode::impl_borrow_decode!(TargetUser);

/// A target user as a policy names it: a name, or `{username}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum UserRule {
    /// This user.
    Literal(TargetUser),
    /// The part before the `@` of the person's address.
    Username,
}

/// Text that names no user rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a target user: use a user name or {{username}}")]
pub struct ParseUserRuleError;

impl UserRule {
    /// The user this rule means for a person; `None` when it means none.
    ///
    /// A substitution never gives `root`; that its uid is not below [`FIRST_PERSONAL_UID`] is checked where uids are
    /// known, on the target.
    #[must_use]
    pub fn resolve(&self, address: Option<&Address>) -> Option<TargetUser> {
        match self {
            Self::Literal(user) => Some(user.clone()),
            Self::Username => {
                let user: TargetUser = address?.local().parse().ok()?;
                (user.as_str() != "root").then_some(user)
            }
        }
    }

    /// Whether the user comes from the person's identity.
    #[must_use]
    pub const fn is_substituted(&self) -> bool {
        matches!(self, Self::Username)
    }
}

impl fmt::Display for UserRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(user) => user.fmt(f),
            Self::Username => f.write_str("{username}"),
        }
    }
}

impl FromStr for UserRule {
    type Err = ParseUserRuleError;

    fn from_str(text: &str) -> Result<Self, ParseUserRuleError> {
        if text == "{username}" {
            return Ok(Self::Username);
        }
        text.parse().map(Self::Literal).map_err(|_| ParseUserRuleError)
    }
}

impl serde::Serialize for UserRule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for UserRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_plain() {
        for good in ["root", "alice", "a.b-c_d", "_apt", "Alice", &"x".repeat(32)] {
            assert_eq!(good.parse::<TargetUser>().unwrap().as_str(), good);
        }
        for bad in ["", "-x", "1a", "a b", "a/b", "a\n", "ä", "$(id)", "a:b", &"x".repeat(33)] {
            assert_eq!(bad.parse::<TargetUser>(), Err(ParseTargetUserError), "{bad:?}");
        }
    }
}
