//! The engine: regorus over `bz.rego`, compiled once. Each decision runs on a copy, so none leaves a trace in another.

use std::collections::{BTreeMap, BTreeSet};

use bz_core::access::Verb;
use bz_core::grant::Recording;
use serde::Deserialize;

use crate::policy::input::{AccessQuestion, OperationQuestion, known};
use crate::policy::{AllowedUser, Decision};

const RULES: &str = include_str!("bz.rego");

/// Why the engine gave no answer; the answer is then no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy engine failed: {0}")]
pub struct EngineError(String);

/// The compiled rules.
#[derive(Clone)]
pub struct Engine(regorus::Engine);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    allowed: bool,
    policies: Vec<String>,
    users: Vec<AllowedUser>,
    all_users: Vec<AllowedUser>,
    any_user: bool,
    verbs: Vec<Verb>,
    cluster_users: Vec<String>,
    cluster_groups: Vec<String>,
    redacted: bool,
    recorded: Recorded,
    reason: String,
}

#[derive(Deserialize)]
struct Recorded {
    output: bool,
    input: bool,
}

impl Engine {
    /// Compiles the rules.
    ///
    /// # Errors
    /// [`EngineError`] when they are no Rego.
    pub fn new() -> Result<Self, EngineError> {
        let mut engine = regorus::Engine::new();
        engine.add_policy("bz.rego".to_owned(), RULES.to_owned()).map_err(failed)?;
        Ok(Self(engine))
    }

    /// Whether a caller may call an operation.
    #[must_use]
    pub fn may_call(&self, question: &OperationQuestion<'_>) -> bool {
        self.eval::<bool>(question, "data.bz.operation_allowed").unwrap_or_else(|error| {
            tracing::error!(%error, operation = question.operation, "denied because the engine failed");
            false
        })
    }

    /// Whether a person may do something on a target.
    #[must_use]
    pub fn access(&self, question: &AccessQuestion) -> Decision {
        match self.eval::<Answer>(question, "data.bz.access") {
            Ok(answer) => Decision {
                allowed: answer.allowed,
                policies: known(&question.policies, &answer.policies),
                users: each_once(answer.users),
                all_users: each_once(answer.all_users),
                any_user: answer.any_user,
                verbs: answer.verbs,
                cluster: (answer.cluster_users, answer.cluster_groups),
                redacted: answer.redacted,
                recording: Recording { output: answer.recorded.output, input: answer.recorded.input },
                reason: answer.reason,
            },
            Err(error) => {
                tracing::error!(%error, "denied because the engine failed");
                Decision::no("the policy engine failed")
            }
        }
    }

    /// All operations the rules know, and who may call each.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn operations(&self) -> Result<BTreeMap<String, BTreeSet<String>>, EngineError> {
        self.eval(&(), "data.bz.operations")
    }

    fn eval<T: serde::de::DeserializeOwned>(
        &self,
        input: &impl serde::Serialize,
        rule: &str,
    ) -> Result<T, EngineError> {
        let mut engine = self.0.clone();
        let input = serde_json::to_string(input).map_err(failed)?;
        engine.set_input_json(&input).map_err(failed)?;
        let value = engine.eval_rule(rule.to_owned()).map_err(failed)?;
        let text = value.to_json_str().map_err(failed)?;
        serde_json::from_str(&text).map_err(failed)
    }
}

/// A user that several policies name in two ways is taken as the literal one: it needs nothing from the token.
fn each_once(mut users: Vec<AllowedUser>) -> Vec<AllowedUser> {
    users.sort_by(|a, b| (&a.user, a.rule.is_substituted()).cmp(&(&b.user, b.rule.is_substituted())));
    users.dedup_by(|later, kept| later.user == kept.user);
    users
}

fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError(error.to_string())
}
