//! Virtual targets: databases, web servers and clusters that an agent reaches for others.
//!
//! Each is behind one target (its proxy), or behind an environment: then the server picks the online target there that
//! has the fewest connections.

use serde::{Deserialize, Serialize};

use crate::api::target::{TargetStatus, TargetUserName};
use crate::id::{EnvironmentId, TargetId};
use crate::label::Labels;

/// A port, as the original writes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Port {
    /// The number; absent for none.
    #[serde(default)]
    pub value: Option<u16>,
}

/// What all virtual targets have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct VirtualTarget {
    /// The target.
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// Whether an agent is there to reach it.
    pub status: TargetStatus,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// The environment's name.
    pub environment_name: String,
    /// The target whose agent reaches it.
    #[serde(default)]
    pub proxy_target_id: Option<TargetId>,
    /// Or the environment whose agents do.
    #[serde(default)]
    pub proxy_environment_id: Option<EnvironmentId>,
    /// Always `self-hosted`.
    pub region: String,
    /// What administrators labelled it with: policies may ask for these.
    #[serde(default)]
    pub labels: Labels,
}

/// Where a database or web server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Remote {
    /// Its host, as the agent finds it; of a web server with `http://` or `https://` before it.
    pub remote_host: String,
    /// Its port.
    pub remote_port: Port,
    /// The port that clients open for it on their machines; any free one when absent.
    #[serde(default = "no_port")]
    pub local_port: Port,
    /// The address that clients open it at; `localhost` when absent.
    #[serde(default)]
    pub local_host: Option<String>,
}

const fn no_port() -> Port {
    Port { value: None }
}

/// What a database is and how it is logged in to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DatabaseAuthentication {
    /// Always `Default`: with the account and password that the database knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_type: Option<String>,
    /// None yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_service_provider: Option<String>,
    /// One of [`crate::database::DATABASES`]; anything else behind a port when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A database: `targets/database`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DatabaseTarget {
    /// What all virtual targets have.
    #[serde(flatten)]
    pub base: VirtualTarget,
    /// Where it is.
    #[serde(flatten)]
    pub remote: Remote,
    /// What it is.
    pub database_authentication_config: DatabaseAuthentication,
    /// Whether the agent speaks TLS to it, verified.
    pub upstream_tls: bool,
    /// The accounts that the caller may use there; any where none is listed.
    #[serde(default)]
    pub allowed_target_users: Vec<TargetUserName>,
}

/// A web server: `targets/web`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebTarget {
    /// What all virtual targets have.
    #[serde(flatten)]
    pub base: VirtualTarget,
    /// Where it is.
    #[serde(flatten)]
    pub remote: Remote,
}

/// A cluster: `targets/kube`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KubeTarget {
    /// What all virtual targets have.
    #[serde(flatten)]
    pub base: VirtualTarget,
    /// The users of the cluster that the caller may be.
    #[serde(default)]
    pub allowed_cluster_users: Vec<String>,
    /// The groups of the cluster that the caller may be in.
    #[serde(default)]
    pub allowed_cluster_groups: Vec<String>,
}

/// The body that makes any of them; each kind takes the fields it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NewVirtualTarget {
    /// Its name, unique in its environment; clusters of the original call it `name`.
    #[serde(alias = "name")]
    pub target_name: String,
    /// Behind this target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_target_id: Option<TargetId>,
    /// Or behind those of this environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_environment_id: Option<EnvironmentId>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_host: Option<String>,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<Port>,
    /// The port that clients open for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<Port>,
    /// The address that clients open it at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_host: Option<String>,
    /// Its environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// Or that by name; the default one when neither is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_name: Option<String>,
    /// What the database is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_authentication_config: Option<DatabaseAuthentication>,
    /// What the database is, as older callers say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_type: Option<String>,
    /// Whether the agent speaks TLS to a database, verified; when absent, unless it is the agent's own host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_tls: Option<bool>,
    /// Its labels, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// The namespace of a cluster's agent; always `bz-agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The answer to [`NewVirtualTarget`] for a cluster: the target, or the objects of an agent that is to be in it where the
/// body names nothing that the cluster is behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KubeTargetMade {
    /// The target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_id: Option<TargetId>,
    /// Objects of Kubernetes, with the agent and its token, and without pins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yaml: Option<String>,
    /// The token that is in them, good for one target and one hour; absent where the caller has no registration key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_token: Option<String>,
}

/// `GET targets/database/supported-databases`: for which databases the original split certificates; none here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SplitCertDatabases {
    /// Always empty.
    pub databases: Vec<String>,
}

/// The answer to [`NewVirtualTarget`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct VirtualTargetMade {
    /// The target.
    pub target_id: TargetId,
}

/// One element of `GET targets/database/supported-database-configs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SupportedDatabase {
    /// Always `Default`.
    pub authentication_type: String,
    /// Its name in a [`DatabaseAuthentication`].
    pub database: String,
    /// Its usual port; 0 when it has none.
    pub port: u16,
    /// Whether its statements are read and logged.
    pub query_log: bool,
}
