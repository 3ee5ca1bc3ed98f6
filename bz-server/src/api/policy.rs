//! Policies: each kind has its words ([`Authored`]), and all are listed, made, shown and deleted in one way.

pub(super) mod change;
mod controls;
pub(super) mod evaluate;
pub(super) mod history;
mod kinds;
mod simulate;

use bz_core::api::target::TargetKind;
use bz_core::id::{EnvironmentId, PolicyId, TargetId};
use bz_core::label::LabelNeed;
use bz_core::time::UnixTime;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::call::{check_name, check_text, parse_time};
use crate::api::openapi::{Nothing, Tagged};
use crate::api::page::{List, Listed};
use crate::api::{Answer, Call};
use crate::connection;
use crate::error::ApiError;
use crate::groups::sync;
use crate::store::policy::{Change as Stored, Policy, PolicyKind};

use change::Change;
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

    /// Whether there is at most one.
    const ONLY: bool = false;

    /// Whether one that says this may say that from now on.
    ///
    /// # Errors
    /// [`ApiError::conflict`].
    fn may_become(_before: &Self::Content, _after: &Self::Content) -> Result<(), ApiError> {
        Ok(())
    }

    /// Whether one that says this may be deleted.
    ///
    /// # Errors
    /// [`ApiError::conflict`].
    fn may_go(_content: &Self::Content) -> Result<(), ApiError> {
        Ok(())
    }

    /// What the log says of it beside its name.
    fn said(_content: &Self::Content) -> Option<String> {
        None
    }

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

/// Environments, targets or labels: one of them.
struct Places {
    environments: Vec<EnvironmentId>,
    targets: Vec<TargetId>,
    labels: Vec<LabelNeed>,
    /// What the field of the targets is called.
    field: &'static str,
    /// Which kinds of target they are.
    kinds: &'static [TargetKind],
}

/// `GET policies/KIND`.
pub(super) async fn list<K: Authored>(call: Call) -> Result<Answer<List<K::Shown>>, ApiError> {
    let all = call.app.store.policies().await?.all;
    let (subjects, groups) = (listed(&call, "subjects"), listed(&call, "groups"));
    let enabled = call.query("enabled").pop();
    let names = |policy: &Policy, list: &str, asked: &[String]| {
        let items = policy.content.get(list).and_then(Value::as_array).into_iter().flatten();
        let mut ids = items.filter_map(|item| item.get("id").and_then(Value::as_str));
        asked.is_empty() || ids.any(|id| asked.iter().any(|one| one == id))
    };
    let is_enabled = |policy: &Policy| policy.content.get("enabled").and_then(Value::as_bool).unwrap_or(true);
    let asked = |policy: &Policy| {
        policy.kind == K::KIND
            && names(policy, "subjects", &subjects)
            && names(policy, "groups", &groups)
            && enabled.as_ref().is_none_or(|asked| (asked == "true") == is_enabled(policy))
    };
    let shown: Result<Vec<_>, _> = all.into_iter().filter(asked).map(show::<K>).collect();
    Answer::list(&call, shown?)
}

/// The values of a parameter that joins them with commas.
fn listed(call: &Call, name: &str) -> Vec<String> {
    let given = call.query(name);
    given.iter().flat_map(|text| text.split(',')).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// `POST policies/KIND`.
pub(super) async fn add<K: Authored>(call: Call, content: K::Content) -> Result<Answer<Tagged<K::Shown>>, ApiError> {
    call.note(K::words(&content).name);
    let id = PolicyId::from_random(call.app.random()?);
    let policy = authored::<K>(&call, id, &content).await?;
    call.note_context(K::said(&content).unwrap_or_else(|| policy.id.to_string()));
    let version = match K::ONLY {
        true => call.app.store.add_only_policy(policy.clone(), call.author()).await?,
        false => call.app.store.add_policy(policy.clone(), call.author()).await?,
    };
    sync::saved(&call.app, &policy.content).await;
    if K::KIND == PolicyKind::SessionRecording {
        // The only kind that can take something away: a sealed shell of whoever is recorded from now on.
        connection::recheck(&call.app, &connection::administrator(&call.caller)).await?;
    }
    Answer::tagged(&show::<K>(policy)?, version)
}

/// `PATCH policies/KIND/{id}`: what it does not allow any more ends.
pub(super) async fn edit<K: Authored>(
    call: Call,
    change: Change<K::Content>,
) -> Result<Answer<Tagged<K::Shown>>, ApiError> {
    let guard = call.if_match()?;
    let old = call.app.store.policy(K::KIND, call.id()?).await?.ok_or_else(|| ApiError::not_found("policy"))?;
    call.note(old.name.clone());
    if guard.is_some_and(|version| version != old.version) {
        return Err(ApiError::changed());
    }
    let before: K::Content = serde_json::from_value(old.content.clone()).map_err(ApiError::internal)?;
    let content = change.over(old.content)?;
    K::may_become(&before, &content)?;
    if let Some(said) = K::said(&content) {
        call.note_context(said);
    }
    let policy = Policy { version: old.version, ..authored::<K>(&call, old.id, &content).await? };
    let version = match call.app.store.change_policy(policy.clone(), call.author()).await? {
        Stored::Done(version) => version,
        Stored::Unknown => return Err(ApiError::not_found("policy")),
        Stored::Other if guard.is_some() => return Err(ApiError::changed()),
        Stored::Other => return Err(ApiError::conflict("somebody changed it at this moment: try again")),
    };
    sync::saved(&call.app, &policy.content).await;
    connection::recheck(&call.app, &connection::administrator(&call.caller)).await?;
    Answer::tagged(&show::<K>(policy)?, version)
}

/// A policy that says this, when it may.
async fn authored<K: Authored>(call: &Call, id: PolicyId, content: &K::Content) -> Result<Policy, ApiError> {
    let words = K::words(content);
    let name = words.name.to_owned();
    let expires = check(call, &words)?;
    K::check(content)?;
    if let Some(places) = words.places {
        check_places(call, places).await?;
    }
    let content = serde_json::to_value(content).map_err(ApiError::internal)?;
    Ok(Policy { id, kind: K::KIND, name, content, expires, version: 0 })
}

/// `GET policies/KIND/{id}`.
pub(super) async fn get<K: Authored>(call: Call) -> Result<Answer<Tagged<K::Shown>>, ApiError> {
    let policy = call.app.store.policy(K::KIND, call.id()?).await?.ok_or_else(|| ApiError::not_found("policy"))?;
    let version = policy.version;
    Answer::tagged(&show::<K>(policy)?, version)
}

/// `DELETE policies/KIND/{id}`: what it alone allowed ends.
pub(super) async fn delete<K: Authored>(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let old = call.app.store.policy(K::KIND, call.id()?).await?.ok_or_else(|| ApiError::not_found("policy"))?;
    call.note(old.name.clone());
    K::may_go(&serde_json::from_value(old.content).map_err(ApiError::internal)?)?;
    let version = call.if_match()?.unwrap_or(old.version);
    match call.app.store.delete_policy(K::KIND, old.id, Some(version), call.author()).await? {
        Stored::Done(_) => {}
        Stored::Unknown => return Err(ApiError::not_found("policy")),
        Stored::Other => return Err(ApiError::changed()),
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
        check_one_of(places)?;
    }
    let Some(text) = words.time_expires else { return Ok(None) };
    let expires = parse_time(text).filter(|t| *t > call.now());
    expires.map(Some).ok_or_else(|| ApiError::field("timeExpires", "must be a time to come, as in RFC 3339"))
}

/// Places are named in one way, and labels in words that mean something.
fn check_one_of(places: &Places) -> Result<(), ApiError> {
    let named = [!places.environments.is_empty(), !places.targets.is_empty(), !places.labels.is_empty()];
    match named.into_iter().filter(|is| *is).count() {
        0 => {
            let rule = "name some, or environments or targetLabels: a policy has no default";
            return Err(ApiError::field(places.field, rule));
        }
        1 => {}
        _ => return Err(ApiError::field(places.field, "name these, environments or targetLabels: one of them")),
    }
    let check = |need: &LabelNeed| need.check().map_err(|error| ApiError::field("targetLabels", &error.to_string()));
    places.labels.iter().try_for_each(check)
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
