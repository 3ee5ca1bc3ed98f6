//! Asking a directory about everybody who is here, and forgetting what it said too long ago.

use std::sync::Arc;
use std::time::Duration;

use bz_core::id::UserId;
use futures::StreamExt as _;
use futures::stream;
use serde_json::Value;

use crate::app::App;
use crate::error::ApiError;
use crate::groups::{COUNTS, EVERY, PERSON, Turn, ids, late, lost, take};
use crate::seam::directory::{Account, DirectoryError};
use crate::store::groups::Asked;

/// How many people are asked about at once.
const AT_ONCE: usize = 8;
/// After how long a directory that did not answer is asked again, when it does not say so itself.
const AGAIN: Duration = Duration::from_secs(60);
/// How long saving a policy waits for its groups.
const SAVING: Duration = Duration::from_secs(5);

/// Forgets what counts no more: whoever is in nothing else loses what it allowed.
///
/// # Errors
/// [`ApiError`].
pub async fn forget(app: &App) -> Result<(), ApiError> {
    let forgotten = app.store.drop_memberships(app.now().wall.before(COUNTS)).await?;
    if forgotten > 0 {
        tracing::warn!(forgotten, "memberships of groups were dropped: no directory has confirmed them for an hour");
        lost(app).await?;
    }
    Ok(())
}

/// Asks each directory whose time has come.
///
/// # Errors
/// [`ApiError`] of the server itself; what a directory does is kept for who asks.
pub async fn due(app: &App) -> Result<(), ApiError> {
    let now = app.now().wall;
    for (issuer, source) in &app.groups.sources {
        let state = app.store.directory_state(issuer.clone()).await?;
        let fresh = state.error.is_none() && state.synced.is_some_and(|at| now.since(at) < EVERY);
        let patient = state.retry.is_some_and(|at| now < at);
        if fresh || patient || state.removed {
            continue;
        }
        // Somebody asks already.
        let Ok(_held) = source.syncing.try_lock() else { continue };
        everybody(app, issuer, None).await?;
    }
    Ok(())
}

/// Asks all directories now.
///
/// # Errors
/// [`ApiError`] of the server itself.
pub async fn now(app: &App) -> Result<(), ApiError> {
    for (issuer, source) in &app.groups.sources {
        if !app.store.directory_state(issuer.clone()).await?.removed {
            let _held = source.syncing.lock().await;
            everybody(app, issuer, None).await?;
        }
    }
    Ok(())
}

/// A policy was saved: asks about the groups that it names, and waits for a while.
pub(crate) async fn saved(app: &Arc<App>, content: &Value) {
    let named = content.get("groups").and_then(Value::as_array).into_iter().flatten();
    let named: Vec<String> =
        named.filter_map(|group| group.get("id").and_then(Value::as_str)).map(str::to_owned).collect();
    if named.is_empty() || app.groups.sources.is_empty() {
        return;
    }
    let asking = Arc::clone(app);
    let all = app.calls.spawn(async move {
        for issuer in asking.groups.issuers() {
            let removed = asking.store.directory_state(issuer.clone()).await.map(|state| state.removed);
            let asked = match removed {
                Ok(false) => everybody(&asking, issuer, Some(&named)).await,
                Ok(true) => Ok(()),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = asked {
                tracing::warn!(%error, "groups of a policy that was saved are not known yet");
            }
        }
    });
    // It goes on by itself.
    drop(tokio::time::timeout(SAVING, all).await);
}

/// Asks about one person and these groups, and takes it in.
///
/// # Errors
/// [`ApiError`] of the server itself.
pub(crate) async fn person(app: &App, issuer: &str, whom: Asked, groups: &[String]) -> Result<(), ApiError> {
    let turn = app.groups.turn();
    match ask(app, issuer, &whom, groups).await {
        Ok(account) => {
            if taken(app, whom.user, (groups, account), turn).await? {
                lost(app).await?;
            }
            Ok(())
        }
        Err(error) => failed(app, issuer, &error).await,
    }
}

/// Keeps why a directory did not answer.
pub(crate) async fn failed(app: &App, issuer: &str, error: &DirectoryError) -> Result<(), ApiError> {
    tracing::warn!(issuer, %error, "a directory does not say who is in its groups");
    let now = app.now().wall;
    let after = if let DirectoryError::Busy(after) = error { *after } else { AGAIN };
    Ok(app.store.directory_failed(issuer.to_owned(), (now, now.after(after)), error.to_string()).await?)
}

/// About all groups that policies name, or these of them, and everybody who is here.
async fn everybody(app: &App, issuer: &str, only: Option<&[String]>) -> Result<(), ApiError> {
    let groups = match only {
        Some(only) => only.to_vec(),
        None => ids(app).await?,
    };
    let people = app.store.directory_people(issuer.to_owned(), app.now().wall).await?;
    let questions = people.into_iter().map(|whom| {
        let (turn, groups) = (app.groups.turn(), &groups);
        async move {
            let answer = ask(app, issuer, &whom, groups).await;
            (whom, turn, answer)
        }
    });
    let mut answers = stream::iter(questions).buffered(AT_ONCE);
    let (mut loss, mut problem) = (false, None);
    while let Some((whom, turn, answer)) = answers.next().await {
        match answer {
            Ok(account) => loss |= taken(app, whom.user, (&groups, account), turn).await?,
            // About this person alone; the others need not suffer.
            Err(error @ (DirectoryError::Malformed(_) | DirectoryError::Unable(_))) => problem = Some(error),
            Err(error) => {
                problem = Some(error);
                break;
            }
        }
    }
    drop(answers);
    match (problem, only) {
        (Some(error), _) => failed(app, issuer, &error).await?,
        (None, None) => app.store.directory_synced(issuer.to_owned(), app.now().wall).await?,
        (None, Some(_)) => {}
    }
    if loss { lost(app).await } else { Ok(()) }
}

async fn ask(app: &App, issuer: &str, whom: &Asked, groups: &[String]) -> Result<Account, DirectoryError> {
    let directory = app.groups.directory(issuer).ok_or(DirectoryError::Unable("there is none"))?;
    tokio::time::timeout(PERSON, directory.account(&whom.id, groups)).await.unwrap_or_else(|_| Err(late()))
}

async fn taken(app: &App, user: UserId, said: (&[String], Account), turn: Turn) -> Result<bool, ApiError> {
    // Deleted meanwhile.
    let Some(user) = app.store.users_called(user.to_string()).await?.pop() else { return Ok(false) };
    take(app, &user, said, turn).await
}
