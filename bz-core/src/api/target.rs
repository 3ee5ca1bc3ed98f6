//! Targets and environments.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::access::{Access, Verb};
use crate::id::{EnvironmentId, OrganizationId, TargetId};
use crate::key::PublicKey;
use crate::label::Labels;
use crate::target::{TargetUser, UserRule};

/// Whether a target can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TargetStatus {
    /// Registered, never linked.
    NotActivated,
    /// Without a link for longer than the resume window.
    Offline,
    /// Linked.
    Online,
}

/// The kinds of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TargetKind {
    /// A host or program with an agent of its own.
    Bzero,
    /// A database behind one.
    Db,
    /// A web server behind one.
    Web,
    /// A cluster that one is in.
    Cluster,
}

impl TargetKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bzero, Self::Db, Self::Web, Self::Cluster];

    /// Where such a target is, for a technology that needs one.
    #[must_use]
    pub const fn of(access: Access) -> Self {
        match access {
            Access::Shell
            | Access::Exec
            | Access::Handler
            | Access::Tunnel
            | Access::Ssh
            | Access::Copy
            | Access::SshServer => Self::Bzero,
            Access::Database | Access::Tcp => Self::Db,
            Access::Web => Self::Web,
            Access::Kube => Self::Cluster,
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bzero => "Bzero",
            Self::Db => "Db",
            Self::Web => "Web",
            Self::Cluster => "Cluster",
        })
    }
}

/// Text that names no kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of target: use Bzero, Db, Web or Cluster")]
pub struct ParseTargetKindError;

impl FromStr for TargetKind {
    type Err = ParseTargetKindError;

    fn from_str(text: &str) -> Result<Self, ParseTargetKindError> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == text).ok_or(ParseTargetKindError)
    }
}

/// One target as `GET targets/bzero` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The target.
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// Whether it can be reached.
    pub status: TargetStatus,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// The environment's name.
    pub environment_name: String,
    /// When the status last changed, RFC 3339.
    #[serde(default)]
    pub last_agent_update: Option<String>,
    /// The agent's version.
    pub agent_version: String,
    /// The agent's identity key.
    pub agent_public_key: PublicKey,
    /// Always `self-hosted`.
    pub region: String,
    /// The users the caller may become there.
    #[serde(default)]
    pub allowed_target_users: Vec<AllowedTargetUser>,
    /// The verbs the caller may use there.
    #[serde(default)]
    pub allowed_verbs: Vec<Verb>,
    /// Routes the agent's program serves.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// What administrators labelled it with: policies may ask for these.
    #[serde(default)]
    pub labels: Labels,
    /// What its agent says of its own host: no policy asks for these.
    #[serde(default)]
    pub agent_labels: Labels,
}

/// `PATCH targets/bzero/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ChangeTarget {
    /// Its name from now on, unique in its environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// Its environment from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// Its labels from now on, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// A user that the caller may become on a target, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AllowedTargetUser {
    /// The name as the policy has it: itself, or `{username}`.
    pub user_name: UserRule,
    /// The user that it is for this caller.
    pub resolved_user_name: TargetUser,
    /// The verbs that policies give the caller as this user.
    pub verbs: Vec<Verb>,
}

/// A target user inside a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TargetUserName {
    /// The name, or `{username}`.
    pub user_name: UserRule,
}

/// A route of an embedding program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, bincode::Encode, bincode::Decode)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Its name.
    pub name: String,
    /// What it is, in one line.
    pub description: String,
    /// The mode it wants.
    pub mode: crate::access::Mode,
}

/// One environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// The environment.
    pub id: EnvironmentId,
    /// Its name, unique.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether targets without one go here.
    pub is_default: bool,
    /// When it was made, RFC 3339.
    pub time_created: String,
    /// After how many hours offline a target is removed: 1 to 2160.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2160))]
    pub offline_cleanup_timeout_hours: u32,
    /// The organization.
    #[serde(default)]
    pub organization_id: Option<OrganizationId>,
    /// The targets in it, of every kind.
    #[serde(default)]
    pub targets: Vec<EnvironmentTarget>,
}

/// A target in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentTarget {
    /// The target.
    pub id: TargetId,
    /// Its kind.
    pub target_type: TargetKind,
}

/// `PATCH environments/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ChangeEnvironment {
    /// Its name from now on, unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// After how many hours offline a target is removed: 1 to 2160.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2160))]
    pub offline_cleanup_timeout_hours: Option<u32>,
}

/// `POST environments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewEnvironment {
    /// Its name, unique.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// After how many hours offline a target is removed: 1 to 2160; 2160 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_cleanup_timeout_hours: Option<u32>,
}

/// The answer to [`NewEnvironment`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentMade {
    /// The environment.
    pub id: EnvironmentId,
}
