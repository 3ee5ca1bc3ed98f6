//! Questions about policies that change nothing: what is decided, and what a draft would change.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::Verb;
use crate::api::access::{Cluster, WhyPolicy};
use crate::api::policy::SubjectType;
use crate::api::target::TargetKind;
use crate::id::{PolicyId, TargetId, UserId};
use crate::target::TargetUser;

/// `POST policies:evaluate`: who, what, where, when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EvaluateQuestion {
    /// Who, by id: a person or a service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_id: Option<UserId>,
    /// Or by address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_email: Option<String>,
    /// In these groups; in those that are known of them when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Where, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_id: Option<TargetId>,
    /// Or by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// In this environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_name: Option<String>,
    /// What; what is usual for the target when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb_type: Option<Verb>,
    /// As whom; anybody when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_user: Option<TargetUser>,
    /// As whom in a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// When, RFC 3339; now when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// The answer: what is decided, and how every policy that names the subject or the place counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// The policies that allow it.
    pub policies: Vec<WhyPolicy>,
    /// As whom it is allowed.
    pub allowed_target_users: Vec<String>,
    /// All verbs that are allowed there.
    pub allowed_verbs: Vec<Verb>,
    /// Whether its output would be recorded.
    pub recorded: bool,
    /// Whether what is typed would be, too.
    pub input_recorded: bool,
    /// Policies that name the subject or the place, and what each is to the question.
    pub considered: Vec<Considered>,
    /// What is not known here, and is taken to be nothing.
    pub notes: Vec<String>,
}

/// What a policy is to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Considered {
    /// The policy.
    pub id: PolicyId,
    /// Its name.
    pub name: String,
    /// Whether it allows, or why not.
    pub verdict: String,
}

/// `POST policies:simulate`: what if a policy said this?
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SimulateQuestion {
    /// The draft's kind: `TargetConnect`, `Proxy`, `Kubernetes` or `SessionRecording`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The policy in whose place it would be; beside all others when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<PolicyId>,
    /// What it would say, as the body that makes one; absent for a policy that would be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Value>,
    /// A question to answer before and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<EvaluateQuestion>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Simulation {
    /// The question as policies are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Evaluation>,
    /// The question as they would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Evaluation>,
    /// For whom and where anything would change.
    pub changes: Vec<SimulatedChange>,
    /// How many pairs of a subject and a target were looked at.
    pub looked_at: u32,
    /// Whether these were all that the draft could be about.
    pub complete: bool,
}

/// What would change for a subject on a target; everywhere, where it is about recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SimulatedChange {
    /// Who.
    pub subject_id: UserId,
    /// Their kind.
    pub subject_type: SubjectType,
    /// Their address or name.
    pub subject_name: String,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<TargetId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// Its environment's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_name: Option<String>,
    /// Its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_type: Option<TargetKind>,
    /// What they would have: verbs, and `as USER` for users.
    pub gained: Vec<String>,
    /// What they would have no more.
    pub lost: Vec<String>,
}
