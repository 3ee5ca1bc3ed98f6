//! Targets and environments.

use serde::{Deserialize, Serialize};

use crate::access::Verb;
use crate::id::{EnvironmentId, TargetId};
use crate::key::PublicKey;
use crate::target::UserRule;

/// Whether a target can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetStatus {
    /// Registered, never linked.
    NotActivated,
    /// Without a link for longer than the resume window.
    Offline,
    /// Linked.
    Online,
}

/// One target as `GET targets/bzero` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    pub allowed_target_users: Vec<TargetUserName>,
    /// The verbs the caller may use there.
    #[serde(default)]
    pub allowed_verbs: Vec<Verb>,
    /// Routes the agent's program serves.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// A target user inside a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetUserName {
    /// The name, or `{username}`.
    pub user_name: UserRule,
}

/// A route of an embedding program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, bincode::Encode, bincode::Decode)]
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
    pub offline_cleanup_timeout_hours: u32,
}

/// `POST environments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[serde(rename_all = "camelCase")]
pub struct EnvironmentMade {
    /// The environment.
    pub id: EnvironmentId,
}
