//! Groups of identity providers: which there are, who is in them, where that comes from, and the events about it.

use bz_core::api::groups::{GroupsSource, HookVerified, IdpGroup, OktaDelivery, SourceKind};
use bz_core::oidc::provider::Provider;

use crate::api::openapi::{Nothing, Whole};
use crate::api::page::List;
use crate::api::{Answer, Call, user};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::groups::{EVERY, hook as events, sync as ask};
use crate::seam::directory::{Directory, DirectoryError, Group};

/// `GET organization/groups`: those that policies name.
pub(super) async fn list(call: Call) -> Result<Answer<List<IdpGroup>>, ApiError> {
    let named = call.app.store.named_groups().await?;
    let show = |group: crate::store::groups::NamedGroup| IdpGroup {
        id: group.id,
        name: group.name,
        issuer: group.issuer,
        policies: group.policies,
        members: group.members,
    };
    Answer::list(&call, named.into_iter().map(show).collect())
}

/// `POST organization/groups/fetch`: those that there are.
pub(super) async fn fetch(call: Call) -> Result<Answer<Whole<IdpGroup>>, ApiError> {
    let mut all = Vec::new();
    let mut none = true;
    for issuer in call.app.groups.issuers() {
        if let Some(directory) = in_use(&call, issuer).await? {
            none = false;
            let found = directory.groups().await;
            all.extend(shown(&call, issuer, found).await?);
        }
    }
    if none { Err(nobody_to_ask()) } else { Answer::whole(&all) }
}

/// `POST organization/groups-memberships/fetch/{id}`.
pub(super) async fn fetch_of(call: Call) -> Result<Answer<Whole<IdpGroup>>, ApiError> {
    let user = user::find(&call).await?;
    let issuer = &user.person.issuer;
    let directory = in_use(&call, issuer).await?.ok_or_else(nobody_to_ask)?;
    let id = call.app.store.directory_id(user.id).await?;
    let id = id.ok_or_else(|| ApiError::conflict("this person has not logged in since the directory was set up"))?;
    let found = directory.groups_of(&id).await;
    Answer::whole(&shown(&call, issuer, found).await?)
}

/// `GET organization/groups/credentials`.
pub(super) async fn sources(call: Call) -> Result<Answer<Whole<GroupsSource>>, ApiError> {
    show(&call).await
}

/// `POST organization/groups/sync`.
pub(super) async fn sync(call: Call) -> Result<Answer<Whole<GroupsSource>>, ApiError> {
    ask::now(&call.app).await?;
    show(&call).await
}

/// `DELETE organization/groups/credentials`: what only directories allowed ends.
pub(super) async fn remove(call: Call) -> Result<Answer<Nothing>, ApiError> {
    for issuer in call.app.groups.issuers() {
        call.app.store.remove_directory(issuer.clone(), true).await?;
    }
    crate::connection::recheck(&call.app, &crate::connection::administrator(&call.caller)).await?;
    Ok(Answer::empty())
}

/// `POST organization/groups/credentials`.
pub(super) async fn restore(call: Call) -> Result<Answer<Whole<GroupsSource>>, ApiError> {
    for issuer in call.app.groups.issuers() {
        call.app.store.remove_directory(issuer.clone(), false).await?;
    }
    ask::now(&call.app).await?;
    show(&call).await
}

/// `GET organization/groups/okta-events`: the one-time verification.
pub(super) async fn verify_hook(call: Call) -> Result<Answer<HookVerified>, ApiError> {
    if !call.app.groups.has_hook(None) {
        return Err(ApiError::not_found("event hook"));
    }
    let given = call.head.headers.get(events::CHALLENGE).and_then(|value| value.to_str().ok());
    let rule = "the header X-Okta-Verification-Challenge must hold 1 to 512 visible characters";
    let verification = events::challenge(given).ok_or_else(|| ApiError::bad_request(rule))?;
    Answer::json(&HookVerified { verification })
}

/// `POST organization/groups/okta-events`.
pub(super) async fn hook(call: Call, delivery: OktaDelivery) -> Result<Answer<Nothing>, ApiError> {
    let Caller::Hook(issuer) = &call.caller else { return Err(ApiError::denied("only an event hook sends events")) };
    let events = delivery.data.events.len();
    let known = events::deliver(&call.app, issuer, delivery).await?;
    call.note(issuer.clone());
    call.note_context(format!("{events} events, {known} of them about people who are known here"));
    Ok(Answer::empty())
}

async fn in_use<'a>(call: &'a Call, issuer: &str) -> Result<Option<&'a dyn Directory>, ApiError> {
    let Some(directory) = call.app.groups.directory(issuer) else { return Ok(None) };
    let removed = call.app.store.directory_state(issuer.to_owned()).await?.removed;
    Ok((!removed).then_some(directory.as_ref()))
}

fn nobody_to_ask() -> ApiError {
    ApiError::conflict("there is no directory to ask: the server's settings name none for this, or it was removed")
}

async fn shown(
    call: &Call,
    issuer: &str,
    found: Result<Vec<Group>, DirectoryError>,
) -> Result<Vec<IdpGroup>, ApiError> {
    let mut found = found.map_err(|error| ApiError::conflict(format!("the directory of {issuer}: {error}")))?;
    found.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    found.dedup_by(|a, b| a.id == b.id);
    let named = call.app.store.named_groups().await?;
    let show = |group: Group| {
        let known = named.iter().find(|known| known.id == group.id);
        IdpGroup {
            policies: known.map_or(0, |known| known.policies),
            members: known.map_or(0, |known| known.members),
            issuer: issuer.to_owned(),
            id: group.id,
            name: group.name,
        }
    };
    Ok(found.into_iter().map(show).collect())
}

async fn show(call: &Call) -> Result<Answer<Whole<GroupsSource>>, ApiError> {
    let mut all = Vec::new();
    for provider in &call.app.config().providers {
        all.push(source(call, provider).await?);
    }
    Answer::whole(&all)
}

async fn source(call: &Call, provider: &Provider) -> Result<GroupsSource, ApiError> {
    let Provider { kind, issuer, .. } = provider;
    let state = call.app.store.directory_state(issuer.clone()).await?;
    let claim = provider.groups_claim().map(str::to_owned);
    let source = match (call.app.groups.has(issuer), &claim) {
        (true, _) => SourceKind::Directory,
        (false, Some(_)) => SourceKind::Token,
        (false, None) => SourceKind::Nothing,
    };
    let kind = serde_json::to_value(kind).map_err(ApiError::internal)?;
    let asked = source == SourceKind::Directory && !state.removed;
    let next = state.retry.or_else(|| state.synced.map(|at| at.after(EVERY))).filter(|_| asked);
    Ok(GroupsSource {
        issuer: issuer.clone(),
        provider: kind.as_str().unwrap_or_default().to_owned(),
        claim: claim.filter(|_| source == SourceKind::Token),
        enabled: asked,
        event_hook: asked && call.app.groups.has_hook(Some(issuer)),
        source,
        last_sync: state.synced.map(|at| at.to_string()),
        last_attempt: state.tried.map(|at| at.to_string()),
        last_error: state.error,
        next_sync: next.map(|at| at.to_string()),
        last_event: state.event.map(|at| at.to_string()),
    })
}
