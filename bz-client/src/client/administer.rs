//! What administrators change: environments, and policies of any kind. And the agents that there are.

use bz_core::api::reach::Agent;
use bz_core::api::target::{ChangeEnvironment, ChangeTarget, Environment, EnvironmentMade, NewEnvironment, Target};
use bz_core::id::{EnvironmentId, PolicyId, TargetId};
use reqwest::Method;
use serde_json::Value;

use crate::client::Client;
use crate::rest::RestError;

/// The kinds of policy, as paths name them.
const KINDS: [&str; 4] = ["target-connect", "session-recording", "proxy", "kubernetes"];

/// A policy of any kind, as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadPolicy {
    /// Which.
    pub id: PolicyId,
    /// Its name.
    pub name: String,
    /// All of it, as the API gives it.
    pub value: Value,
    path: String,
    tag: Option<String>,
}

impl Client {
    /// The agents of hosts (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn agents(&self) -> Result<Vec<Agent>, RestError> {
        self.get("agents", &[]).await
    }

    /// Makes an environment (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn create_environment(&self, new: &NewEnvironment) -> Result<EnvironmentMade, RestError> {
        self.rest.post(&self.caller().await, "environments", new).await
    }

    /// Changes an environment (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn edit_environment(
        &self,
        id: EnvironmentId,
        change: &ChangeEnvironment,
    ) -> Result<Environment, RestError> {
        self.rest.patch(&self.caller().await, &format!("environments/{id}"), change).await
    }

    /// Deletes an empty environment (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn delete_environment(&self, id: EnvironmentId) -> Result<(), RestError> {
        self.act(Method::DELETE, &format!("environments/{id}")).await
    }

    /// Gives a host another name, environment or labels (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn edit_target(&self, id: TargetId, change: &ChangeTarget) -> Result<Target, RestError> {
        self.rest.patch(&self.caller().await, &format!("targets/bzero/{id}"), change).await
    }

    /// The policy with this name or id, of whatever kind (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn find_policy(&self, name: &str) -> Result<Option<ReadPolicy>, RestError> {
        for kind in KINDS {
            let all: Vec<Value> = self.get(&format!("policies/{kind}"), &[]).await?;
            let is = |policy: &&Value| text(policy, "name") == name || text(policy, "id") == name;
            let Some(id) = all.iter().find(is).map(|policy| text(policy, "id")) else { continue };
            let path = format!("policies/{kind}/{id}");
            let (value, tag): (Value, _) = self.rest.get_tagged(&self.caller().await, &path).await?;
            let id = id.parse().map_err(|_| RestError::Answer("a policy without an id".to_owned()))?;
            let name = text(&value, "name").to_owned();
            return Ok(Some(ReadPolicy { id, name, value, path, tag }));
        }
        Ok(None)
    }

    /// Changes the fields that `change` has, if nobody changed the policy since it was read (for administrators).
    ///
    /// # Errors
    /// [`RestError`], with code `changed` when somebody did.
    pub async fn edit_policy(&self, policy: &ReadPolicy, change: &Value) -> Result<Value, RestError> {
        self.rest.patch_tagged(&self.caller().await, &policy.path, (change, policy.tag.as_deref())).await
    }

    /// Deletes a policy; what it alone allowed ends (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn delete_policy(&self, policy: &ReadPolicy) -> Result<(), RestError> {
        self.act(Method::DELETE, &policy.path).await
    }
}

fn text<'a>(policy: &'a Value, field: &str) -> &'a str {
    policy.get(field).and_then(Value::as_str).unwrap_or_default()
}
