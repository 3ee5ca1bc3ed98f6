//! What each kind of policy says, and what it may not.

use bz_core::access::upstream::is_cluster_name;
use bz_core::access::{Verb, request};
use bz_core::api::policy::{
    ClusterName, KubernetesContent, KubernetesPolicy, ProxyContent, ProxyPolicy, RecordingContent, RecordingPolicy,
    TargetConnectContent, TargetConnectPolicy,
};
use bz_core::api::target::TargetKind;
use bz_core::id::PolicyId;

use crate::api::policy::{Authored, Places, Words};
use crate::error::ApiError;
use crate::store::policy::PolicyKind;

/// Who may do what on which hosts as whom.
pub(in crate::api) struct TargetConnect;

impl Authored for TargetConnect {
    const KIND: PolicyKind = PolicyKind::TargetConnect;
    type Content = TargetConnectContent;
    type Shown = TargetConnectPolicy;

    fn words(content: &TargetConnectContent) -> Words<'_> {
        Words {
            name: &content.name,
            description: &content.description,
            time_expires: content.time_expires.as_deref(),
            lists: vec![
                ("subjects", content.subjects.len()),
                ("groups", content.groups.len()),
                ("environments", content.environments.len()),
                ("targets", content.targets.len()),
                ("targetLabels", content.target_labels.len()),
                ("targetUsers", content.target_users.len()),
                ("verbs", content.verbs.len()),
            ],
            places: Some(Places {
                environments: content.environments.iter().map(|e| e.id).collect(),
                targets: content.targets.iter().map(|t| t.id).collect(),
                labels: content.target_labels.clone(),
                field: "targets",
                kinds: &[TargetKind::Bzero],
            }),
        }
    }

    fn check(content: &TargetConnectContent) -> Result<(), ApiError> {
        if content.verbs.is_empty() {
            return Err(ApiError::field("verbs", "name at least one verb"));
        }
        // A handler's program acts as itself, and so does the agent of a tunnel.
        let acts_as_user = content.verbs.iter().any(|verb| matches!(verb, Verb::Shell | Verb::FileTransfer));
        if acts_as_user && content.target_users.is_empty() {
            return Err(ApiError::field("targetUsers", "name at least one target user"));
        }
        if let Some(verb) = content.verbs.iter().find(|verb| verb.is_behind()) {
            let kind = if *verb == Verb::Kubernetes { "kubernetes" } else { "proxy" };
            return Err(ApiError::field("verbs", &format!("{verb} is given by {kind} policies alone")));
        }
        let good = |verb: &Verb| !matches!(verb, Verb::Handler { name } if !request::is_route(name));
        if content.verbs.iter().all(good) {
            Ok(())
        } else {
            Err(ApiError::field("verbs", "a handler is named by 1 to 64 letters, digits, '-', '_', '.' or '/'"))
        }
    }

    fn shown(id: PolicyId, kind: String, content: TargetConnectContent) -> TargetConnectPolicy {
        TargetConnectPolicy { id, kind, content }
    }
}

/// Whose sessions are recorded.
pub(in crate::api) struct SessionRecording;

impl Authored for SessionRecording {
    const KIND: PolicyKind = PolicyKind::SessionRecording;
    type Content = RecordingContent;
    type Shown = RecordingPolicy;

    fn words(content: &RecordingContent) -> Words<'_> {
        Words {
            name: &content.name,
            description: &content.description,
            time_expires: content.time_expires.as_deref(),
            lists: vec![("subjects", content.subjects.len()), ("groups", content.groups.len())],
            places: None,
        }
    }

    fn check(_: &RecordingContent) -> Result<(), ApiError> {
        Ok(())
    }

    fn shown(id: PolicyId, kind: String, content: RecordingContent) -> RecordingPolicy {
        RecordingPolicy { id, kind, content }
    }
}

/// Who may reach which databases and web servers with which accounts.
pub(in crate::api) struct Proxy;

impl Authored for Proxy {
    const KIND: PolicyKind = PolicyKind::Proxy;
    type Content = ProxyContent;
    type Shown = ProxyPolicy;

    fn words(content: &ProxyContent) -> Words<'_> {
        Words {
            name: &content.name,
            description: &content.description,
            time_expires: content.time_expires.as_deref(),
            lists: vec![
                ("subjects", content.subjects.len()),
                ("groups", content.groups.len()),
                ("environments", content.environments.len()),
                ("targets", content.targets.len()),
                ("targetLabels", content.target_labels.len()),
                ("targetUsers", content.target_users.len()),
                ("verbs", content.verbs.len()),
            ],
            places: Some(Places {
                environments: content.environments.iter().map(|e| e.id).collect(),
                targets: content.targets.iter().map(|t| t.id).collect(),
                labels: content.target_labels.clone(),
                field: "targets",
                kinds: &[TargetKind::Db, TargetKind::Web],
            }),
        }
    }

    fn check(content: &ProxyContent) -> Result<(), ApiError> {
        let good = |verb: &Verb| matches!(verb, Verb::Database | Verb::Web);
        if content.verbs.iter().all(good) {
            Ok(())
        } else {
            Err(ApiError::field("verbs", "a proxy policy gives Database and Web"))
        }
    }

    fn shown(id: PolicyId, kind: String, content: ProxyContent) -> ProxyPolicy {
        ProxyPolicy { id, kind, content }
    }
}

/// Who may reach which clusters as whom.
pub(in crate::api) struct Kubernetes;

impl Authored for Kubernetes {
    const KIND: PolicyKind = PolicyKind::Kubernetes;
    type Content = KubernetesContent;
    type Shown = KubernetesPolicy;

    fn words(content: &KubernetesContent) -> Words<'_> {
        Words {
            name: &content.name,
            description: &content.description,
            time_expires: content.time_expires.as_deref(),
            lists: vec![
                ("subjects", content.subjects.len()),
                ("groups", content.groups.len()),
                ("environments", content.environments.len()),
                ("clusters", content.clusters.len()),
                ("targetLabels", content.target_labels.len()),
                ("clusterUsers", content.cluster_users.len()),
                ("clusterGroups", content.cluster_groups.len()),
            ],
            places: Some(Places {
                environments: content.environments.iter().map(|e| e.id).collect(),
                targets: content.clusters.iter().map(|c| c.id).collect(),
                labels: content.target_labels.clone(),
                field: "clusters",
                kinds: &[TargetKind::Cluster],
            }),
        }
    }

    fn check(content: &KubernetesContent) -> Result<(), ApiError> {
        if content.cluster_users.is_empty() {
            return Err(ApiError::field("clusterUsers", "name at least one: whoever is in a group is somebody, too"));
        }
        for (field, names) in [("clusterUsers", &content.cluster_users), ("clusterGroups", &content.cluster_groups)] {
            if !names.iter().all(|ClusterName { name }| is_cluster_name(name)) {
                return Err(ApiError::field(field, "a name has 1 to 256 printable characters of ASCII and no space"));
            }
        }
        Ok(())
    }

    fn shown(id: PolicyId, kind: String, content: KubernetesContent) -> KubernetesPolicy {
        KubernetesPolicy { id, kind, content }
    }
}
