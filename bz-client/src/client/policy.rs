//! What administrators ask about policies: what they said before, what is decided, and what a draft would change.

use bz_core::api::policy::question::{EvaluateQuestion, Evaluation, SimulateQuestion, Simulation};
use bz_core::api::policy::version::{PolicyDiff, PolicyVersion};
use bz_core::id::PolicyId;

use crate::client::Client;
use crate::rest::RestError;

impl Client {
    /// The versions of a policy, newest first; also of one that is gone (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn policy_versions(&self, policy: PolicyId) -> Result<Vec<PolicyVersion>, RestError> {
        self.get(&format!("policy-versions/{policy}"), &[]).await
    }

    /// The versions of all policies that ever had a name, newest first (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn policy_versions_called(&self, name: &str) -> Result<Vec<PolicyVersion>, RestError> {
        self.get("policy-versions", &[("name", name)]).await
    }

    /// One version of a policy, and what it said (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn policy_version(&self, policy: PolicyId, number: u32) -> Result<PolicyVersion, RestError> {
        self.get(&format!("policy-versions/{policy}/{number}"), &[]).await
    }

    /// How two versions of a policy differ; the newest and the one before unless named (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn policy_diff(
        &self,
        policy: PolicyId,
        (from, to): (Option<u32>, Option<u32>),
    ) -> Result<PolicyDiff, RestError> {
        let (from, to) = (from.map(|number| number.to_string()), to.map(|number| number.to_string()));
        let asked = [("from", from.as_deref()), ("to", to.as_deref())];
        let query: Vec<_> = asked.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        self.get(&format!("policy-versions/{policy}/diff"), &query).await
    }

    /// What is decided for somebody somewhere at some time (for administrators). Nothing happens by asking.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn evaluate_policies(&self, question: &EvaluateQuestion) -> Result<Evaluation, RestError> {
        self.rest.post(&self.caller().await, "policies:evaluate", question).await
    }

    /// What would change if a policy were made, changed or deleted (for administrators). Nothing is.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn simulate_policy(&self, question: &SimulateQuestion) -> Result<Simulation, RestError> {
        self.rest.post(&self.caller().await, "policies:simulate", question).await
    }
}
