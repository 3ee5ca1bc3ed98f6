//! Events that Okta sends: each counts at once. By itself an event only takes away; what it would give is asked of the
//! directory, so that who knows the hook's secret gives nobody anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use bz_core::api::groups::{OktaDelivery, OktaEvent};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::app::App;
use crate::error::ApiError;
use crate::groups::{Groups, ids, lost, remove, sync, take};
use crate::seam::directory::Account;
use crate::store::groups::Asked;
use crate::store::user::User;

/// The header of the one-time verification.
pub const CHALLENGE: &str = "x-okta-verification-challenge";
/// The longest challenge.
const MOST_CHALLENGE: usize = 512;

impl Groups {
    /// The provider whose hook sends this as `Authorization`.
    #[must_use]
    pub fn hook_of(&self, authorization: &[u8]) -> Option<&str> {
        // Digests are compared, of which each has the same length; and with all of them, whichever fits.
        let given = Sha256::digest(authorization);
        let mut found = None;
        for (issuer, source) in &self.sources {
            let Some(secret) = &source.hook else { continue };
            if bool::from(Sha256::digest(secret.as_bytes()).ct_eq(&given)) {
                found = Some(issuer.as_str());
            }
        }
        found
    }
}

/// What answers a challenge, when it is one.
#[must_use]
pub fn challenge(given: Option<&str>) -> Option<String> {
    let plain = |text: &&str| {
        (1..=MOST_CHALLENGE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    };
    given.filter(plain).map(str::to_owned)
}

/// Takes in a delivery; how many of its events were about somebody who is known.
///
/// # Errors
/// [`ApiError`] of the server itself: the provider sends it again.
pub async fn deliver(app: &Arc<App>, issuer: &str, delivery: OktaDelivery) -> Result<usize, ApiError> {
    app.store.directory_event(issuer.to_owned(), app.now().wall).await?;
    if app.store.directory_state(issuer.to_owned()).await?.removed {
        return Ok(0);
    }
    let mut questions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut known, mut loss) = (0, false);
    for event in delivery.data.events.iter().filter(|event| came_about(event)) {
        let kind = event.event_type.as_str();
        if kind == "group.lifecycle.delete" {
            for group in named(event, "UserGroup") {
                loss |= app.store.drop_group(group.to_owned()).await? > 0;
            }
            continue;
        }
        for id in named(event, "User") {
            let Some(user) = app.store.directory_user(issuer.to_owned(), id.to_owned()).await? else { continue };
            known += 1;
            loss |= happened(app, (kind, event), &user).await?;
            questions.entry(id.to_owned()).or_default().extend(to_ask(app, (kind, event)).await?);
        }
    }
    if loss {
        lost(app).await?;
    }
    for (id, groups) in questions.into_iter().filter(|(_, groups)| !groups.is_empty()) {
        ask_later(app, issuer, &id, groups).await?;
    }
    Ok(known)
}

fn came_about(event: &OktaEvent) -> bool {
    let result = event.outcome.as_ref().and_then(|outcome| outcome.result.as_deref());
    result.is_none_or(|result| result == "SUCCESS")
}

fn named<'a>(event: &'a OktaEvent, kind: &'a str) -> impl Iterator<Item = &'a str> {
    event.target.iter().flatten().filter(move |target| target.kind == kind).map(|target| target.id.as_str())
}

/// What an event takes away. Whether it did.
async fn happened(app: &App, (kind, event): (&str, &OktaEvent), user: &User) -> Result<bool, ApiError> {
    match kind {
        "group.user_membership.remove" => {
            let mut loss = false;
            for group in named(event, "UserGroup") {
                loss |= remove(app, user, group).await?;
            }
            Ok(loss)
        }
        "user.lifecycle.deactivate"
        | "user.lifecycle.suspend"
        | "user.lifecycle.delete.initiated"
        | "user.lifecycle.delete.completed" => take(app, user, (&[], Account::Deactivated), app.groups.turn()).await,
        _ => Ok(false),
    }
}

/// The groups that the directory is to be asked about after an event.
async fn to_ask(app: &App, (kind, event): (&str, &OktaEvent)) -> Result<Vec<String>, ApiError> {
    let all = ids(app).await?;
    Ok(match kind {
        "group.user_membership.add" => {
            named(event, "UserGroup").filter(|id| all.iter().any(|known| known == id)).map(str::to_owned).collect()
        }
        "user.lifecycle.activate" | "user.lifecycle.reactivate" | "user.lifecycle.unsuspend" => all,
        _ => Vec::new(),
    })
}

/// Asks without keeping the provider waiting, which gives up soon.
async fn ask_later(app: &Arc<App>, issuer: &str, id: &str, groups: Vec<String>) -> Result<(), ApiError> {
    let Some(user) = app.store.directory_user(issuer.to_owned(), id.to_owned()).await? else { return Ok(()) };
    let (app, issuer) = (Arc::clone(app), issuer.to_owned());
    let whom = Asked { user: user.id, id: id.to_owned() };
    let calls = app.calls.clone();
    calls.spawn(async move {
        if let Err(error) = sync::person(&app, &issuer, whom, &groups).await {
            tracing::warn!(%error, "what an event gives is not known yet");
        }
    });
    Ok(())
}
