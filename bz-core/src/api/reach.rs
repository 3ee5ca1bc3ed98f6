//! What a person can reach, by the way of reaching it, and the agents that act there.

use serde::{Deserialize, Serialize};

use crate::access::Verb;
use crate::api::access::Connection;
use crate::api::target::{TargetStatus, TargetUserName};
use crate::api::virtual_target::Port;
use crate::id::{BootId, EnvironmentId, TargetId};
use crate::key::PublicKey;

/// One element of `GET agents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// The target that it acts on.
    pub id: TargetId,
    /// The target's name.
    pub name: String,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// The environment's name.
    pub environment_name: String,
    /// Always `Linux`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it has a link.
    pub status: TargetStatus,
    /// When that last changed, RFC 3339.
    pub last_status_update: String,
    /// Its version.
    pub version: String,
    /// Always `self-hosted`.
    pub region: String,
    /// Its identity key.
    pub public_key: PublicKey,
    /// Its link, while it has one.
    #[serde(default)]
    pub control_channel: Option<ControlChannel>,
}

/// An agent's link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ControlChannel {
    /// The agent's start that has it.
    pub control_channel_id: BootId,
    /// The server's node.
    pub connection_node_id: String,
    /// Since when, RFC 3339.
    pub start_time: String,
}

/// `GET targets`: what somebody may reach, by the way of reaching it. A target may be in several lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TargetsByAccess {
    /// Hosts to have a shell on.
    pub shell: Vec<Reachable>,
    /// Hosts to reach with ssh, for commands or files.
    pub ssh: Vec<Reachable>,
    /// Hosts to copy files to and from.
    pub file_transfer: Vec<Reachable>,
    /// Databases.
    pub db: Vec<Reachable>,
    /// Web servers.
    pub web: Vec<Reachable>,
    /// Clusters.
    pub kubernetes: Vec<Reachable>,
    /// Always empty: there is no RDP here.
    pub rdp: Vec<Reachable>,
    /// Always empty: these are databases here.
    pub sql_server: Vec<Reachable>,
}

/// One target in [`TargetsByAccess`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Reachable {
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
    /// The host whose agent acts, where one alone does.
    #[serde(default)]
    pub agent: Option<ActingAgent>,
    /// How it is allowed.
    pub access_details: AccessDetails,
    /// The users that may be used there.
    #[serde(default)]
    pub allowed_target_users: Vec<TargetUserName>,
    /// The verbs that may be used there.
    #[serde(default)]
    pub allowed_verbs: Vec<Verb>,
    /// The users of a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_cluster_users: Vec<String>,
    /// The groups of a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_cluster_groups: Vec<String>,
    /// Where a database or web server is, as the agent finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_host: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<Port>,
    /// The address that clients open for it on their machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_host: Option<String>,
    /// The port that they open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<Port>,
    /// The person's connections to it, of this way.
    #[serde(default)]
    pub connections: Vec<Connection>,
}

/// An agent inside a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ActingAgent {
    /// The target that it acts on.
    pub id: TargetId,
    /// Its version.
    pub version: String,
    /// Its identity key.
    pub public_key: PublicKey,
}

/// How something is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AccessDetails {
    /// Always false: nothing is allowed for a moment only.
    pub jit: bool,
}
