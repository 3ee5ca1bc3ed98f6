//! What the engine is asked: documents made of ids and words, without a secret in them.

use bz_core::access::{Mode, Verb};
use bz_core::api::access::Cluster;
use bz_core::api::api_key::Scope;
use bz_core::api::policy::SubjectType;
use bz_core::api::target::TargetKind;
use bz_core::id::{ApiKeyId, EnvironmentId, PolicyId, TargetId, UserId};
use bz_core::target::TargetUser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::auth::key::KeyStanding;
use crate::store::policy::{Policy, PolicyKind};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Asker {
    /// Nobody proved.
    Anonymous,
    /// A person, logged in.
    Person {
        /// Who.
        id: UserId,
        /// Whether an administrator.
        is_admin: bool,
        /// Whether an auditor.
        #[serde(default)]
        is_auditor: bool,
        /// Whether the login still lacks the second factor.
        #[serde(default)]
        pending: bool,
    },
    /// A service account, logged in.
    ServiceAccount {
        /// Which.
        id: UserId,
        /// Whether an administrator.
        is_admin: bool,
        /// Whether the login still lacks the second factor.
        #[serde(default)]
        pending: bool,
    },
    /// An access key.
    Key {
        /// Which.
        id: ApiKeyId,
        /// Whether it is good, now and from there.
        standing: KeyStanding,
        /// What it may do.
        scopes: Vec<Scope>,
        /// Whether it ends by itself, or is not taken from everywhere.
        limited: bool,
    },
    /// A registration key.
    Registration {
        /// Which.
        id: ApiKeyId,
        /// Whether it is good, now and from there.
        standing: KeyStanding,
    },
    /// An identity provider that sends events.
    Hook,
}

/// May this caller call this?
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperationQuestion<'a> {
    /// Who calls.
    pub caller: &'a Asker,
    /// The operation's name.
    pub operation: &'a str,
    /// Whose connection it is about, where it is about one.
    pub owner: Option<UserId>,
}

/// A person, as policies see one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonInput {
    /// Who.
    pub id: UserId,
    /// A person, or a service account.
    #[serde(rename = "type", default = "person")]
    pub kind: SubjectType,
    /// What `{username}` means.
    pub username: Option<TargetUser>,
    /// The groups the identity provider named.
    pub groups: Vec<String>,
}

const fn person() -> SubjectType {
    SubjectType::User
}

/// A target, as policies see one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetInput {
    /// Which.
    pub id: TargetId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its kind.
    pub kind: TargetKind,
}

/// May this person do this there?
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccessQuestion {
    /// Who.
    pub person: PersonInput,
    /// Where.
    pub target: TargetInput,
    /// What.
    pub verb: Verb,
    /// As whom; anybody when absent.
    pub user: Option<TargetUser>,
    /// As whom in a cluster; as anybody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// How.
    pub mode: Mode,
    /// When, milliseconds.
    pub now: u64,
    /// Policies about access that name the person: documents with their kind.
    pub policies: Vec<Value>,
    /// Session recording policies that name the person.
    pub recording: Vec<Value>,
}

impl AccessQuestion {
    /// Puts in the policies that name the person, of all there are. The engine checks them again: this is for speed.
    #[must_use]
    pub fn about(mut self, all: &[Policy]) -> Self {
        for policy in all.iter().filter(|p| names(&p.content, &self.person)) {
            match policy.kind {
                PolicyKind::TargetConnect | PolicyKind::Proxy | PolicyKind::Kubernetes => {
                    self.policies.push(document(policy));
                }
                PolicyKind::SessionRecording => self.recording.push(document(policy)),
                PolicyKind::OrganizationControls => {}
            }
        }
        self
    }
}

/// The policy's content with its id, kind and end beside it.
fn document(policy: &Policy) -> Value {
    let mut document = policy.content.clone();
    if let Some(object) = document.as_object_mut() {
        object.insert("id".to_owned(), json!(policy.id));
        object.insert("kind".to_owned(), json!(policy.kind.to_string()));
        // Absent, not null: in Rego null is less than every number, and every policy would have expired.
        if let Some(expires) = policy.expires {
            object.insert("expires".to_owned(), json!(expires.as_millis()));
        }
    }
    document
}

fn names(content: &Value, person: &PersonInput) -> bool {
    let ids = |list: &str| {
        let items = content.get(list).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|i| i.get("id").and_then(Value::as_str))
    };
    let id = person.id.to_string();
    ids("subjects").any(|s| s == id) || ids("groups").any(|g| person.groups.iter().any(|p| p == g))
}

/// The ids a decision names.
pub(super) fn known(policies: &[Value], ids: &[String]) -> Vec<PolicyId> {
    let all = policies.iter().filter_map(|p| p.get("id").and_then(Value::as_str));
    all.filter(|id| ids.iter().any(|i| i == id)).filter_map(|id| id.parse().ok()).collect()
}
