//! API keys, registration keys and the tokens made of them: `api-keys/…`, `organization/registration-key/…`.
//!
//! Bodies that the original's clients send mean what they meant there: a key without scopes may do all that a key may.

pub mod cidr;
pub mod secret;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::api::api_key::cidr::Cidr;
use crate::id::{ApiKeyId, EnvironmentId, UserId};

macro_rules! scopes {
    // A `tt`, because the schema is made of the attribute as it is written.
    ($($(#[$doc:meta])* $name:ident = $text:tt)*) => {
        /// What an access key may do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum Scope { $($(#[$doc])* #[serde(rename = $text)] $name),* }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As it stands in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

scopes! {
    /// Everything that a key may do at all.
    All = "all"
    /// Looking at everything, the logs included.
    Read = "read"
    /// The logs.
    Logs = "logs"
    /// Policies, and questions to them.
    Policies = "policies"
    /// Looking at them.
    PoliciesRead = "policies:read"
    /// Targets, their agents, and environments.
    Targets = "targets"
    /// Looking at them.
    TargetsRead = "targets:read"
    /// People, groups, service accounts and second factors.
    Users = "users"
    /// Looking at them.
    UsersRead = "users:read"
    /// Connections: listing and closing them.
    Connections = "connections"
    /// Looking at them.
    ConnectionsRead = "connections:read"
    /// Registration keys and scripts; access keys only together with everything.
    Keys = "keys"
    /// Looking at keys of both kinds.
    KeysRead = "keys:read"
}

/// The text names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a scope: use one of {}", Scope::names())]
pub struct ParseScopeError;

impl Scope {
    fn names() -> String {
        Self::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == text).ok_or(ParseScopeError)
    }
}

/// The kinds of owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum OwnerType {
    /// A program.
    Application,
    /// A person without a role.
    EndUser,
    /// An administrator.
    Administrator,
}

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KeyOwner {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: OwnerType,
    /// The person or service account; the key ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<UserId>,
    /// Its name or address.
    pub name: String,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The key.
    pub id: ApiKeyId,
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub time_created: String,
    /// Whether it can register targets and nothing else.
    pub is_registration_key: bool,
    /// What it may do; nothing for a registration key.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Whether it opens anything.
    #[serde(default)]
    pub enabled: bool,
    /// When it ends by itself, RFC 3339.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// From where it is taken; from anywhere when there are none.
    #[serde(default)]
    pub allowed_addresses: Vec<Cidr>,
    /// Whose it is; the organization's when absent.
    #[serde(default)]
    pub owner: Option<KeyOwner>,
    /// The registration key that this token was made of.
    #[serde(default)]
    pub parent_id: Option<ApiKeyId>,
    /// The only environment that it registers targets in.
    #[serde(default)]
    pub environment_id: Option<EnvironmentId>,
    /// How many targets it still registers; any number when absent.
    #[serde(default)]
    pub uses_left: Option<u32>,
    /// Whether it is the registration key of its owner, an administrator, where each has one.
    #[serde(default)]
    pub is_personal: bool,
    /// When it was last used, RFC 3339.
    #[serde(default)]
    pub last_used_at: Option<String>,
    /// From which address.
    #[serde(default)]
    pub last_used_from: Option<String>,
}

/// `POST api-keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NewApiKey {
    /// Its name.
    pub name: String,
    /// Whether it can register targets and nothing else.
    pub is_registration_key: bool,
    /// What it may do: everything when absent. A registration key has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// When it ends by itself, RFC 3339; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// From where it is taken; from anywhere when absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_addresses: Vec<Cidr>,
    /// The person or service account whose it is, and with which it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<UserId>,
    /// Or the program whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_application: Option<String>,
    /// The only environment that a registration key registers targets in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// How many targets a registration key registers; any number when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub uses: Option<u32>,
}

/// `PATCH api-keys/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ChangeApiKey {
    /// Its name from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it opens anything. The tokens of a registration key that is disabled are void for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What it may do from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// When it ends by itself, RFC 3339, or `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// From where it is taken; from anywhere when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_addresses: Option<Vec<Cidr>>,
}

/// `POST api-keys/{id}/rotate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RotateApiKey {
    /// For how many hours the old secret opens as well; not at all when absent.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 168))]
    pub overlap_hours: u32,
}

/// The answer to [`NewApiKey`]: the only time the secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyMade {
    /// The key.
    pub api_key_details: ApiKey,
    /// What opens: see [`secret`] for how it is recognized. It is base64 as well, as the original's clients demand.
    pub secret: String,
}

impl fmt::Debug for ApiKeyMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyMade").field("api_key_details", &self.api_key_details).finish_non_exhaustive()
    }
}

/// `GET organization/registration-key/settings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RegistrationKeySettings {
    /// Whether scripts register by the default registration key; if not, by the key of the administrator who asks.
    pub global_registration_key_enforced: bool,
    /// The default registration key, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_global_registration_key: Option<ApiKeyId>,
}

/// `POST organization/registration-key/enable-enforce-global-key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EnforceGlobalKey {
    /// The registration key that is the default one from now on.
    pub default_registration_key_id: ApiKeyId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_original_sends_means_what_it_meant() {
        let new: NewApiKey = serde_json::from_str(r#"{"name": "ci", "isRegistrationKey": true}"#).unwrap();
        let want = NewApiKey { name: "ci".to_owned(), is_registration_key: true, ..NewApiKey::default() };
        assert_eq!(new, want);
        let change: ChangeApiKey = serde_json::from_str(r#"{"name": "robot"}"#).unwrap();
        assert_eq!(change, ChangeApiKey { name: Some("robot".to_owned()), ..ChangeApiKey::default() });
        let shown = r#"{"id": "00000000-0000-4000-8000-000000000000", "name": "", "timeCreated": "", "isRegistrationKey": false}"#;
        serde_json::from_str::<ApiKey>(shown).unwrap();
    }

    #[test]
    fn scopes_are_their_words() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(*scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
        let error = "everything".parse::<Scope>().unwrap_err().to_string();
        assert!(error.contains("policies:read"), "{error}");
    }
}
