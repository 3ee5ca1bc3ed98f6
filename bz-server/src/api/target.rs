//! Targets: each caller sees those that a policy gives, and what it gives there.

use bz_core::access::{Mode, Verb};
use bz_core::api::target::{AllowedTargetUser, ChangeTarget, Target as TargetBody};
use bz_core::id::TargetId;
use bz_core::label::{self, LabelError, LabelNeed, Labels};

use crate::api::agent::check_target_name;
use crate::api::openapi::Nothing;
use crate::api::page::{List, Listed};
use crate::api::query::LABEL;
use crate::api::{Answer, Call};
use crate::auth::Caller;
use crate::connection::aim::Aim;
use crate::connection::{self, question};
use crate::error::ApiError;
use crate::policy::{Index, Reach, ReachedUser};
use crate::store::target::{Part, Target, TargetFilter};

/// `GET targets/bzero`.
pub(super) async fn list(call: Call) -> Result<Answer<List<TargetBody>>, ApiError> {
    let filter = TargetFilter {
        names: call.query("targetNames"),
        ids: call.ids("targetIds")?,
        environments: call.query("envName"),
        environment_ids: call.ids("envId")?,
        search: call.query("search").pop(),
        labels: asked(&call)?,
    };
    let policies = call.app.policies().await?;
    let everything = call.has("targetservice:list-all");
    let page = call.page()?;
    let limit = page.as_ref().map(|page| page.limit);
    let mut after = page.and_then(|page| page.after).map(|place| read_place(&place)).transpose()?;
    let mut shown = Vec::new();
    // Of what is not shown to this caller there may be any number between two that are.
    loop {
        let part = Part { after, limit: limit.map(|limit| limit + 1) };
        let found = call.app.store.targets_fitting(filter.clone(), part).await?;
        let last = limit.is_none_or(|limit| found.len() <= limit);
        after = found.last().map(|target| (target.name.clone(), target.id));
        shown.extend(found.into_iter().filter_map(|target| show(&call, target, &policies, everything)));
        if last || limit.is_some_and(|limit| shown.len() > limit) {
            break;
        }
    }
    let more = limit.is_some_and(|limit| shown.len() > limit);
    shown.truncate(limit.unwrap_or(usize::MAX));
    let next = shown.last().filter(|_| more).map(Listed::place);
    Answer::page(&call, &shown, next.as_deref())
}

/// The name and id that a cursor names.
fn read_place(place: &str) -> Result<(String, TargetId), ApiError> {
    let read = |(name, id): (&str, &str)| Some((name.to_owned(), id.parse().ok()?));
    place.split_once('\n').and_then(read).ok_or_else(|| ApiError::field("cursor", "is none of this server's"))
}

/// `GET targets/bzero/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer<TargetBody>, ApiError> {
    let target = call.app.store.target(call.id()?).await?;
    let policies = call.app.policies().await?;
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
    let labels = given(change.labels.unwrap_or(target.labels))?;
    let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    call.note_context(format!("{name} in {to}, labels: {}", pairs.join(", ")));
    if !call.app.store.change_target(target.id, (name, to), labels).await? {
        return Err(ApiError::not_found("target"));
    }
    connection::recheck(&call.app, &connection::administrator(&call.caller)).await?;
    get(call).await
}

/// Labels that an administrator gives.
pub(super) fn given(labels: Labels) -> Result<Labels, ApiError> {
    label::check_all(&labels).map_err(|error| ApiError::field("labels", &error.to_string()))?;
    Ok(labels)
}

/// What a list is asked to be filtered by.
pub(super) fn asked(call: &Call) -> Result<Vec<LabelNeed>, ApiError> {
    let need = |text: String| text.parse().map_err(|error: LabelError| ApiError::field(LABEL.name, &error.to_string()));
    call.query(LABEL.name).into_iter().map(need).collect()
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
fn show(call: &Call, target: Target, policies: &Index, everything: bool) -> Option<TargetBody> {
    let reach = match &call.caller {
        Caller::Person(who) => {
            let aim = Aim::Host(Box::new(target.clone()));
            let ask = question(who, &aim, (Verb::Shell, None, Mode::Inspected), call.now());
            call.app.engine.reach(&ask.about(policies))
        }
        Caller::Anonymous | Caller::Key(_) | Caller::Hook(_) => Reach::default(),
    };
    if reach.verbs.is_empty() && !everything {
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
        allowed_target_users: reach.users.into_iter().map(allowed_user).collect(),
        allowed_verbs: reach.verbs,
        routes: target.routes,
        labels: target.labels,
        agent_labels: target.agent_labels,
    })
}

fn allowed_user(reached: ReachedUser) -> AllowedTargetUser {
    let ReachedUser { allowed, verbs } = reached;
    AllowedTargetUser { user_name: allowed.rule, resolved_user_name: allowed.user, verbs }
}
