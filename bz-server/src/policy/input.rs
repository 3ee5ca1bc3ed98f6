//! What the engine is asked: documents made of ids and words, without a secret in them.

use bz_core::access::{Mode, Verb};
use bz_core::api::access::Cluster;
use bz_core::api::api_key::Scope;
use bz_core::api::policy::SubjectType;
use bz_core::api::target::TargetKind;
use bz_core::id::{ApiKeyId, EnvironmentId, PolicyId, TargetId, UserId};
use bz_core::label::Labels;
use bz_core::target::TargetUser;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::auth::key::KeyStanding;
use crate::policy::Index;
use crate::policy::engine::{EngineError, failed, parse};
use crate::store::policy::Policy;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetInput {
    /// Which.
    pub id: TargetId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its kind.
    pub kind: TargetKind,
    /// The labels that administrators gave it.
    #[serde(default)]
    pub labels: Labels,
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
    /// Policies about access that might be about the person and the target.
    #[serde(skip_serializing, default)]
    pub policies: Vec<Document>,
    /// Session recording policies that might be about the person.
    #[serde(skip_serializing, default)]
    pub recording: Vec<Document>,
}

impl AccessQuestion {
    /// Puts in the policies that might be about it. The engine checks them again: this is for speed.
    #[must_use]
    pub fn about(mut self, all: &Index) -> Self {
        self.policies = all.access(&self.person, &self.target);
        self.recording = all.recording(&self.person);
        self
    }

    /// Puts in all policies that name the person or the place, also those that cannot allow it: to be judged.
    #[must_use]
    pub fn about_all(mut self, all: &Index) -> Self {
        self.policies = all.naming_either(&self.person, &self.target);
        self
    }

    /// The question as the rules read it, in JSON: for whoever asks another implementation of Rego.
    ///
    /// # Errors
    /// [`EngineError`] when it has no JSON.
    pub fn to_json(&self) -> Result<String, EngineError> {
        self.input()?.to_json_str().map_err(failed)
    }

    /// The question as the rules read it.
    pub(super) fn input(&self) -> Result<regorus::Value, EngineError> {
        let mut input = parse(&serde_json::to_string(self).map_err(failed)?)?;
        let object = input.as_object_mut().map_err(failed)?;
        for (name, documents) in [("policies", &self.policies), ("recording", &self.recording)] {
            let list: Vec<_> = documents.iter().map(|document| document.0.clone()).collect();
            object.insert(name.into(), list.into());
        }
        Ok(input)
    }

    /// The same without a verb or a user: about all there are.
    pub(super) fn input_about_all(&self) -> Result<regorus::Value, EngineError> {
        let mut input = self.input()?;
        let object = input.as_object_mut().map_err(failed)?;
        for name in ["verb", "user"] {
            object.insert(name.into(), regorus::Value::Null);
        }
        Ok(input)
    }
}

/// A policy as the rules read it: its content, with its id, kind and end beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(regorus::Value);

impl Document {
    /// Of this policy.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let mut document = policy.content.clone();
        if let Some(object) = document.as_object_mut() {
            object.insert("id".to_owned(), json!(policy.id));
            object.insert("kind".to_owned(), json!(policy.kind.to_string()));
            // Absent, not null: in Rego null is less than every number, and every policy would have expired.
            if let Some(expires) = policy.expires {
                object.insert("expires".to_owned(), json!(expires.as_millis()));
            }
        }
        Self(document.into())
    }

    fn id(&self) -> Option<&str> {
        self.0.as_object().ok()?.get(&"id".into())?.as_string().ok().map(AsRef::as_ref)
    }
}

/// The ids a decision names.
pub(super) fn known(policies: &[Document], ids: &[String]) -> Vec<PolicyId> {
    let all = policies.iter().filter_map(Document::id);
    all.filter(|id| ids.iter().any(|i| i == id)).filter_map(|id| id.parse().ok()).collect()
}
