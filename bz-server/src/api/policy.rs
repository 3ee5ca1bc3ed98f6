//! Target access policies.

use bz_core::access::{Verb, request};
use bz_core::api::policy::{TargetConnectContent, TargetConnectPolicy};
use bz_core::id::PolicyId;
use bz_core::time::UnixTime;

use crate::api::call::{check_name, check_text, parse_time};
use crate::api::{Answer, Call};
use crate::connection;
use crate::error::ApiError;
use crate::store::policy::{Policy, PolicyKind};

const KIND: PolicyKind = PolicyKind::TargetConnect;
/// The most entries of one list of a policy.
pub(super) const MOST: usize = 1000;

/// `GET policies/target-connect`.
pub(super) async fn list(call: Call) -> Result<Answer, ApiError> {
    let all = call.app.store.policies().await?.all;
    let shown: Result<Vec<_>, _> = all.into_iter().filter(|p| p.kind == KIND).map(show).collect();
    Answer::json(&shown?)
}

/// `POST policies/target-connect`.
pub(super) async fn add(call: Call) -> Result<Answer, ApiError> {
    let content: TargetConnectContent = call.json()?;
    call.note(content.name.clone());
    let expires = check(&call, &content)?;
    check_places(&call, &content).await?;
    let policy = Policy {
        id: PolicyId::from_random(call.app.random()?),
        kind: KIND,
        name: content.name.clone(),
        content: serde_json::to_value(&content).map_err(ApiError::internal)?,
        expires,
    };
    call.note_context(policy.id.to_string());
    call.app.store.add_policy(policy.clone(), call.now()).await?;
    Answer::json(&show(policy)?)
}

/// `GET policies/target-connect/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer, ApiError> {
    let policy = call.app.store.policy(KIND, call.id()?).await?;
    Answer::json(&show(policy.ok_or_else(|| ApiError::not_found("policy"))?)?)
}

/// `DELETE policies/target-connect/{id}`: what it alone allowed ends.
pub(super) async fn delete(call: Call) -> Result<Answer, ApiError> {
    if !call.app.store.delete_policy(KIND, call.id()?).await? {
        return Err(ApiError::not_found("policy"));
    }
    connection::recheck(&call.app, &connection::administrator(&call.caller)).await?;
    Ok(Answer::empty())
}

fn check(call: &Call, content: &TargetConnectContent) -> Result<Option<UnixTime>, ApiError> {
    check_name("name", &content.name)?;
    check_text("description", &content.description, 1000)?;
    let lists = [
        ("subjects", content.subjects.len()),
        ("groups", content.groups.len()),
        ("environments", content.environments.len()),
        ("targets", content.targets.len()),
        ("targetUsers", content.target_users.len()),
        ("verbs", content.verbs.len()),
    ];
    if let Some((field, _)) = lists.into_iter().find(|(_, len)| *len > MOST) {
        return Err(ApiError::field(field, "must have at most 1000 entries"));
    }
    match (content.environments.is_empty(), content.targets.is_empty()) {
        (true, true) => {
            return Err(ApiError::field("targets", "name targets or environments: a policy has no default"));
        }
        (false, false) => return Err(ApiError::field("targets", "name either targets or environments, not both")),
        (true, false) | (false, true) => {}
    }
    if content.verbs.is_empty() {
        return Err(ApiError::field("verbs", "name at least one verb"));
    }
    // A handler's program acts as itself, and so does the agent of a tunnel.
    let acts_as_user = content.verbs.iter().any(|verb| matches!(verb, Verb::Shell | Verb::FileTransfer));
    if acts_as_user && content.target_users.is_empty() {
        return Err(ApiError::field("targetUsers", "name at least one target user"));
    }
    let good = |verb: &Verb| !matches!(verb, Verb::Handler { name } if !request::is_route(name));
    if !content.verbs.iter().all(good) {
        return Err(ApiError::field("verbs", "a handler is named by 1 to 64 letters, digits, '-', '_', '.' or '/'"));
    }
    let Some(text) = &content.time_expires else { return Ok(None) };
    let expires = parse_time(text).filter(|t| *t > call.now());
    expires.map(Some).ok_or_else(|| ApiError::field("timeExpires", "must be a time to come, as in RFC 3339"))
}

/// A policy about a place that is not there is a typing error.
async fn check_places(call: &Call, content: &TargetConnectContent) -> Result<(), ApiError> {
    let environments = call.app.store.environments().await?;
    if !content.environments.iter().all(|e| environments.iter().any(|known| known.id == e.id)) {
        return Err(ApiError::field("environments", "names one that does not exist"));
    }
    let targets = call.app.store.targets().await?;
    if !content.targets.iter().all(|t| targets.iter().any(|known| known.id == t.id)) {
        return Err(ApiError::field("targets", "names one that does not exist"));
    }
    Ok(())
}

fn show(policy: Policy) -> Result<TargetConnectPolicy, ApiError> {
    let content = serde_json::from_value(policy.content).map_err(ApiError::internal)?;
    Ok(TargetConnectPolicy { id: policy.id, kind: KIND.to_string(), content })
}
