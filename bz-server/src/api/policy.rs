//! Policies: each kind has its words ([`Authored`]), and all are listed, made, shown and deleted in one way.

pub(super) mod controls;
mod kinds;

use bz_core::api::target::TargetKind;
use bz_core::id::{EnvironmentId, PolicyId, TargetId};
use bz_core::time::UnixTime;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::call::{check_name, check_text, parse_time};
use crate::api::openapi::Nothing;
use crate::api::page::{List, Listed};
use crate::api::{Answer, Call};
use crate::connection;
use crate::error::ApiError;
use crate::store::policy::{Policy, PolicyKind};

pub(super) use controls::OrganizationControls;
pub(super) use kinds::{Kubernetes, Proxy, SessionRecording, TargetConnect};

/// The most entries of one list of a policy.
const MOST: usize = 1000;

/// One kind of policy.
pub(super) trait Authored {
    /// Which.
    const KIND: PolicyKind;
    /// What it says, and the body that makes one.
    type Content: Serialize + DeserializeOwned + Send + Sync;
    /// How it is shown.
    type Shown: Serialize + Listed;

    /// What every kind has.
    fn words(content: &Self::Content) -> Words<'_>;

    /// What this kind alone has.
    ///
    /// # Errors
    /// [`ApiError::field`] for what is wrong.
    fn check(content: &Self::Content) -> Result<(), ApiError>;

    /// With its id and kind.
    fn shown(id: PolicyId, kind: String, content: Self::Content) -> Self::Shown;
}

/// What every policy has, or might have.
pub(super) struct Words<'a> {
    name: &'a str,
    description: &'a str,
    time_expires: Option<&'a str>,
    /// Each list's name and length.
    lists: Vec<(&'static str, usize)>,
    /// Where it is about; `None` for a kind that follows its subjects.
    places: Option<Places>,
}

/// Environments or targets, not both.
struct Places {
    environments: Vec<EnvironmentId>,
    targets: Vec<TargetId>,
    /// What the field of the targets is called.
    field: &'static str,
    /// Which kinds of target they are.
    kinds: &'static [TargetKind],
}

/// `GET policies/KIND`.
pub(super) async fn list<K: Authored>(call: Call) -> Result<Answer<List<K::Shown>>, ApiError> {
    let all = call.app.store.policies().await?.all;
    let shown: Result<Vec<_>, _> = all.into_iter().filter(|p| p.kind == K::KIND).map(show::<K>).collect();
    Answer::list(&call, shown?)
}

/// `POST policies/KIND`.
pub(super) async fn add<K: Authored>(call: Call, content: K::Content) -> Result<Answer<K::Shown>, ApiError> {
    let words = K::words(&content);
    let name = words.name.to_owned();
    call.note(name.clone());
    let expires = check(&call, &words)?;
    K::check(&content)?;
    if let Some(places) = words.places {
        check_places(&call, places).await?;
    }
    let policy = Policy {
        id: PolicyId::from_random(call.app.random()?),
        kind: K::KIND,
        name,
        content: serde_json::to_value(&content).map_err(ApiError::internal)?,
        expires,
    };
    call.note_context(policy.id.to_string());
    call.app.store.add_policy(policy.clone(), call.now()).await?;
    Answer::json(&show::<K>(policy)?)
}

/// `GET policies/KIND/{id}`.
pub(super) async fn get<K: Authored>(call: Call) -> Result<Answer<K::Shown>, ApiError> {
    let policy = call.app.store.policy(K::KIND, call.id()?).await?;
    Answer::json(&show::<K>(policy.ok_or_else(|| ApiError::not_found("policy"))?)?)
}

/// `DELETE policies/KIND/{id}`: what it alone allowed ends.
pub(super) async fn delete<K: Authored>(call: Call) -> Result<Answer<Nothing>, ApiError> {
    if !call.app.store.delete_policy(K::KIND, call.id()?).await? {
        return Err(ApiError::not_found("policy"));
    }
    connection::recheck(&call.app, &connection::administrator(&call.caller)).await?;
    Ok(Answer::empty())
}

fn check(call: &Call, words: &Words<'_>) -> Result<Option<UnixTime>, ApiError> {
    check_name("name", words.name)?;
    check_text("description", words.description, 1000)?;
    if let Some((field, _)) = words.lists.iter().find(|(_, len)| *len > MOST) {
        return Err(ApiError::field(field, "must have at most 1000 entries"));
    }
    if let Some(places) = &words.places {
        match (places.environments.is_empty(), places.targets.is_empty()) {
            (true, true) => {
                let rule = "name some, or environments: a policy has no default";
                return Err(ApiError::field(places.field, rule));
            }
            (false, false) => return Err(ApiError::field(places.field, "name these or environments, not both")),
            (true, false) | (false, true) => {}
        }
    }
    let Some(text) = words.time_expires else { return Ok(None) };
    let expires = parse_time(text).filter(|t| *t > call.now());
    expires.map(Some).ok_or_else(|| ApiError::field("timeExpires", "must be a time to come, as in RFC 3339"))
}

/// A policy about a place that is not there is a typing error.
async fn check_places(call: &Call, places: Places) -> Result<(), ApiError> {
    let environments = call.app.store.environments().await?;
    if !places.environments.iter().all(|id| environments.iter().any(|known| known.id == *id)) {
        return Err(ApiError::field("environments", "names one that does not exist"));
    }
    for id in places.targets {
        let aim = connection::aim::by_id(&call.app, id).await?;
        if !aim.is_some_and(|aim| places.kinds.contains(&aim.kind())) {
            let kinds: Vec<_> = places.kinds.iter().map(ToString::to_string).collect();
            let rule = format!("names one that does not exist, or is of another kind than {}", kinds.join(" or "));
            return Err(ApiError::field(places.field, &rule));
        }
    }
    Ok(())
}

fn show<K: Authored>(policy: Policy) -> Result<K::Shown, ApiError> {
    let content = serde_json::from_value(policy.content).map_err(ApiError::internal)?;
    Ok(K::shown(policy.id, K::KIND.to_string(), content))
}
