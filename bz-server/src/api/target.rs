//! Targets: each caller sees those that a policy gives, and what it gives there.

use bz_core::access::{Mode, Verb};
use bz_core::api::target::{ChangeTarget, Target as TargetBody, TargetUserName};
use bz_core::id::TargetId;

use crate::api::agent::check_target_name;
use crate::api::openapi::Nothing;
use crate::api::page::List;
use crate::api::{Answer, Call};
use crate::auth::Caller;
use crate::connection::aim::Aim;
use crate::connection::{self, question};
use crate::error::ApiError;
use crate::policy::Decision;
use crate::store::policy::Policies;
use crate::store::target::Target;

/// `GET targets/bzero`.
pub(super) async fn list(call: Call) -> Result<Answer<List<TargetBody>>, ApiError> {
    let all = call.app.store.targets().await?;
    let policies = call.app.store.policies().await?;
    let everything = call.has("targetservice:list-all");
    let shown = all.into_iter().filter_map(|target| show(&call, target, &policies, everything));
    Answer::list(&call, shown.collect())
}

/// `GET targets/bzero/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer<TargetBody>, ApiError> {
    let target = call.app.store.target(call.id()?).await?;
    let policies = call.app.store.policies().await?;
    let everything = call.has("targetservice:list-all");
    let shown = target.and_then(|target| show(&call, target, &policies, everything));
    Answer::json(&shown.ok_or_else(|| ApiError::not_found("target"))?)
}

/// `PATCH targets/bzero/{id}`: the name, the environment, or both. What policies do not allow there ends.
pub(super) async fn edit(call: Call, change: ChangeTarget) -> Result<Answer<TargetBody>, ApiError> {
    let target = call.app.store.target(call.id()?).await?.ok_or_else(|| ApiError::not_found("target"))?;
    call.note(target.name.clone());
    let name = change.target_name.unwrap_or(target.name);
    check_target_name(&name)?;
    let to = change.environment_id.unwrap_or(target.environment);
    if call.app.store.environment(to).await?.is_none() {
        return Err(ApiError::field("environmentId", "names no environment"));
    }
    call.note_context(format!("{name} in {to}"));
    if !call.app.store.move_target(target.id, name, to).await? {
        return Err(ApiError::not_found("target"));
    }
    connection::recheck(&call.app, &connection::administrator(&call.caller)).await?;
    get(call).await
}

/// `DELETE targets/bzero/{id}`: closes its connections, too.
pub(super) async fn delete(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let id: TargetId = call.id()?;
    let target = call.app.store.target(id).await?.ok_or_else(|| ApiError::not_found("target"))?;
    call.note(target.name.clone());
    connection::close_all_on(&call.app, id, &connection::administrator(&call.caller), "the target was deleted").await?;
    call.app.store.delete_target(id).await?;
    call.app.links.removed(id);
    Ok(Answer::empty())
}

/// A target as this caller sees it; `None` when no policy gives anything there and the caller does not see everything.
fn show(call: &Call, target: Target, policies: &Policies, everything: bool) -> Option<TargetBody> {
    let decision = match &call.caller {
        Caller::Person(who) => {
            let aim = Aim::Host(Box::new(target.clone()));
            let ask = question(who, &aim, (Verb::Shell, None, Mode::Inspected), call.now());
            call.app.engine.access(&ask.about(&policies.all))
        }
        Caller::Anonymous | Caller::Key(_) | Caller::Hook(_) => Decision::no("only people have sessions"),
    };
    if decision.verbs.is_empty() && !everything {
        return None;
    }
    Some(TargetBody {
        id: target.id,
        name: target.name,
        status: target.status,
        environment_id: target.environment,
        environment_name: target.environment_name,
        last_agent_update: Some(target.status_changed.to_string()),
        agent_version: target.version,
        agent_public_key: target.identity_key,
        region: "self-hosted".to_owned(),
        allowed_target_users: decision.all_users.into_iter().map(|u| TargetUserName { user_name: u.rule }).collect(),
        allowed_verbs: decision.verbs,
        routes: target.routes,
    })
}
