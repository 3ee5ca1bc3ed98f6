//! Policies and API keys.

pub mod question;
pub mod version;

use serde::{Deserialize, Serialize};

use crate::access::Verb;
use crate::api::target::TargetUserName;
use crate::id::{EnvironmentId, PolicyId, TargetId, UserId};
use crate::label::LabelNeed;

/// Whether a policy counts: yes, unless it says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Enabled(pub bool);

impl Default for Enabled {
    fn default() -> Self {
        Self(true)
    }
}

/// Who a policy is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Subject {
    /// The subject.
    pub id: UserId,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: SubjectType,
}

/// The kinds of subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SubjectType {
    /// A person.
    User,
    /// An API key.
    ApiKey,
    /// A service account.
    ServiceAccount,
}

/// A group of the identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    /// As the provider knows it.
    pub id: String,
    /// For people.
    pub name: String,
}

/// An environment in a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyEnvironment {
    /// The environment.
    pub id: EnvironmentId,
}

/// A target in a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyTarget {
    /// The target.
    pub id: TargetId,
    /// `Bzero` or `DynamicAccessConfig`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A target access policy: `policies/target-connect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TargetConnectPolicy {
    /// The policy.
    pub id: PolicyId,
    /// Always `TargetConnect`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    #[serde(flatten)]
    pub content: TargetConnectContent,
}

/// What a target access policy says, and the body that makes one. Environments, targets or labels: one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TargetConnectContent {
    /// Unique over all kinds.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Who.
    #[serde(default)]
    pub subjects: Vec<Subject>,
    /// Or whoever is in these groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Where.
    #[serde(default)]
    pub environments: Vec<PolicyEnvironment>,
    /// Or there.
    #[serde(default)]
    pub targets: Vec<PolicyTarget>,
    /// Or what has labels of which all this holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_labels: Vec<LabelNeed>,
    /// As whom. At least one.
    #[serde(default)]
    pub target_users: Vec<TargetUserName>,
    /// What. At least one.
    #[serde(default)]
    pub verbs: Vec<Verb>,
    /// When it ends by itself, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_expires: Option<String>,
    /// Whether it counts; while it does not, it is as if it were not there.
    #[serde(default)]
    pub enabled: Enabled,
}

/// A proxy policy: `policies/proxy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProxyPolicy {
    /// The policy.
    pub id: PolicyId,
    /// Always `Proxy`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    #[serde(flatten)]
    pub content: ProxyContent,
}

/// What a proxy policy says, and the body that makes one. Environments, targets or labels: one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProxyContent {
    /// Unique over all kinds.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Who.
    #[serde(default)]
    pub subjects: Vec<Subject>,
    /// Or whoever is in these groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Which databases and web servers: those of these environments.
    #[serde(default)]
    pub environments: Vec<PolicyEnvironment>,
    /// Or these, of type `Db` or `Web`.
    #[serde(default)]
    pub targets: Vec<PolicyTarget>,
    /// Or what has labels of which all this holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_labels: Vec<LabelNeed>,
    /// With which accounts of the database; with any when none is listed.
    #[serde(default)]
    pub target_users: Vec<TargetUserName>,
    /// `Database`, `Web` or both; both when none is listed.
    #[serde(default)]
    pub verbs: Vec<Verb>,
    /// Whether the log of statements leaves out what they say of values.
    #[serde(default)]
    pub redact_queries: bool,
    /// When it ends by itself, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_expires: Option<String>,
    /// Whether it counts; while it does not, it is as if it were not there.
    #[serde(default)]
    pub enabled: Enabled,
}

/// A Kubernetes policy: `policies/kubernetes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KubernetesPolicy {
    /// The policy.
    pub id: PolicyId,
    /// Always `Kubernetes`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    #[serde(flatten)]
    pub content: KubernetesContent,
}

/// What a Kubernetes policy says, and the body that makes one. Environments, clusters or labels: one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KubernetesContent {
    /// Unique over all kinds.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Who.
    #[serde(default)]
    pub subjects: Vec<Subject>,
    /// Or whoever is in these groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Which clusters: those of these environments.
    #[serde(default)]
    pub environments: Vec<PolicyEnvironment>,
    /// Or these.
    #[serde(default)]
    pub clusters: Vec<PolicyCluster>,
    /// Or what has labels of which all this holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_labels: Vec<LabelNeed>,
    /// As which users of the cluster. At least one.
    #[serde(default)]
    pub cluster_users: Vec<ClusterName>,
    /// In which groups of the cluster.
    #[serde(default)]
    pub cluster_groups: Vec<ClusterName>,
    /// When it ends by itself, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_expires: Option<String>,
    /// Whether it counts; while it does not, it is as if it were not there.
    #[serde(default)]
    pub enabled: Enabled,
}

/// A cluster in a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyCluster {
    /// The cluster.
    pub id: TargetId,
}

/// A user or group of a cluster in a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClusterName {
    /// As the cluster knows it.
    pub name: String,
}

/// A session recording policy: `policies/session-recording`. It follows its subjects everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecordingPolicy {
    /// The policy.
    pub id: PolicyId,
    /// Always `SessionRecording`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    #[serde(flatten)]
    pub content: RecordingContent,
}

/// What a session recording policy says, and the body that makes one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecordingContent {
    /// Unique over all kinds.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Whose sessions.
    #[serde(default)]
    pub subjects: Vec<Subject>,
    /// Or whoever is in these groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Whether what is typed is kept, too.
    #[serde(default)]
    pub record_input: bool,
    /// Whether nothing goes on unrecorded: neither while the server cannot record, nor by a way that cannot be.
    #[serde(default)]
    pub required: bool,
    /// When it ends by itself, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_expires: Option<String>,
    /// Whether it counts; while it does not, it is as if it were not there.
    #[serde(default)]
    pub enabled: Enabled,
}
