//! Connections: asking for one, listing, attaching, closing, and why not.

use serde::{Deserialize, Serialize};

use crate::access::request::Size;
use crate::access::{Mode, Verb};
use crate::api::Bytes;
use crate::id::{ConnectionId, PolicyId, ShellId, TargetId, UserId};
use crate::key::PublicKey;
use crate::target::TargetUser;

/// `POST connections/universal`: asks for a connection and its grant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewConnection {
    /// The target by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<TargetId>,
    /// Or by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// In this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_name: Option<String>,
    /// As whom; the only allowed one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_user: Option<TargetUser>,
    /// The parameters of [`crate::access::request::Parameters`], in their wire form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Bytes>,
    /// The mode; the technology's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// The answer to [`NewConnection`]. The client checks each field against what it asked before it signs anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectionMade {
    /// The connection.
    pub connection_id: ConnectionId,
    /// The target.
    pub target_id: TargetId,
    /// Its name.
    pub target_name: String,
    /// Its environment's name.
    pub environment_name: String,
    /// As whom.
    pub target_user: Option<TargetUser>,
    /// `Bzero`, or `Db`, `Web` or `Cluster` for one that is behind another.
    pub target_type: String,
    /// The target that acts, where that is another: the one whose agent reaches what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// The verb.
    pub verb_type: Verb,
    /// The agent's identity key, to be pinned.
    pub agent_public_key: PublicKey,
    /// The agent's version.
    pub agent_version: String,
    /// The mode.
    pub mode: Mode,
    /// Whether output is recorded.
    pub recorded: bool,
    /// The [`crate::grant::SignedGrant`], in its wire form.
    pub grant: Bytes,
    /// The shell, when this is an attachment to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell_id: Option<ShellId>,
    /// A [`crate::trust::DirectoryEntry`] for the name, where the organization keeps a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_entry: Option<Bytes>,
}

/// The target that a virtual target is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// The target.
    pub target_id: TargetId,
    /// Its name, under which its key is pinned.
    pub target_name: String,
    /// Its environment's name.
    pub environment_name: String,
}

impl ConnectionMade {
    /// The target whose agent acts, as the grant names it.
    #[must_use]
    pub fn acting(&self) -> TargetId {
        self.proxy.as_ref().map_or(self.target_id, |proxy| proxy.target_id)
    }
}

/// `POST connections/{id}/shell/attach`: asks for a grant for the shell behind a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttachShell {
    /// The terminal's size, which is part of the request that the grant names.
    pub size: Size,
}

/// A connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConnectionState {
    /// It exists; a client may or may not be on it.
    Open,
    /// It ended.
    Closed,
    /// It could not be opened.
    Error,
    /// It waits for its client.
    Pending,
}

/// One connection as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The connection.
    pub id: ConnectionId,
    /// When it was made, RFC 3339.
    pub time_created: String,
    /// Its state.
    pub state: ConnectionState,
    /// The target; spelled as the original spells it.
    #[serde(rename = "targetID")]
    pub target_id: TargetId,
    /// The target's name.
    pub target_name: String,
    /// `Bzero`, or `Db`, `Web` or `Cluster` for one that is behind another.
    pub target_type: String,
    /// As whom.
    pub target_user: Option<TargetUser>,
    /// Whose.
    pub subject_id: UserId,
    /// `Shell`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The shell behind it, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell_id: Option<ShellId>,
    /// Whether a client is on it.
    pub attached: bool,
    /// Where a database or web server is, when it is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_host: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
    /// In which groups of a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_groups: Vec<String>,
}

/// `GET connections/shell/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ShellConnection {
    /// What every connection has.
    #[serde(flatten)]
    pub connection: Connection,
    /// Whether there is a recording of it.
    pub session_recording_available: bool,
    /// Whether its output is recorded.
    pub session_recording: bool,
    /// Whether what is typed is recorded.
    pub input_recording: bool,
}

/// `POST policy-query/why`: may this person do this there?
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WhyQuestion {
    /// The target by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<TargetId>,
    /// Or by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// In this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_name: Option<String>,
    /// What; a shell when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb_type: Option<Verb>,
    /// As whom; anybody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_user: Option<TargetUser>,
    /// As whom in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// About whom; the caller when absent. Only administrators ask about others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_email: Option<String>,
}

/// As whom in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cluster {
    /// Which user of it.
    pub user: String,
    /// In which of its groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// The answer: which policies allow it, or why none does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The policies that allow it.
    pub policies: Vec<WhyPolicy>,
    /// The users allowed there.
    pub allowed_target_users: Vec<String>,
    /// The verbs allowed there.
    pub allowed_verbs: Vec<Verb>,
    /// Why none does, in a sentence.
    pub reason: String,
    /// The command an administrator would run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A policy by id and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhyPolicy {
    /// The policy.
    pub id: PolicyId,
    /// Its name.
    pub name: String,
}
