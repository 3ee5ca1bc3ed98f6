//! What happens by itself as time passes: each job is a function of the parts, and reads the time from their clock.
//!
//! Absent: when targets go offline, which the relay knows.

use std::sync::PoisonError;
use std::time::Duration;

use bz_core::api::policy::SubjectType;
use bz_core::api::record::{Actor, UserEvent};
use bz_core::grant::MAX_OPENING;
use bz_core::id::EventId;
use bz_core::time::UnixTime;
use bz_protocol::limits::{HANDSHAKE, PATIENCE};
use serde_json::json;

use crate::app::App;
use crate::auth::key::write_uses;
use crate::connection::life::By;
use crate::connection::{close, recheck};
use crate::error::ApiError;
use crate::groups::sync;
use crate::keys::OnlineKey;
use crate::store::event::anchor::{Bounds, Signer};
use crate::store::operation::Done;

/// How often a server runs all of them.
pub const EVERY: Duration = Duration::from_secs(30);

/// How often it looks whether a policy ended by itself: sessions that it alone allowed end as soon as after any change.
pub const EVERY_END: Duration = Duration::from_secs(1);

/// Ends what ended policies alone allowed. Asks for nothing but a number while none has ended.
///
/// # Errors
/// [`ApiError`].
pub async fn end_policies(app: &App) -> Result<(), ApiError> {
    let ends = app.policies().await?.ends();
    if ends.is_some_and(|end| end <= app.now().wall) { remove_expired_policies(app).await } else { Ok(()) }
}

/// Runs all of them once.
///
/// # Errors
/// The first failure; the rest waits for the next time.
pub async fn tick(app: &App) -> Result<(), ApiError> {
    // It waits for nothing that could fail.
    follow_certificate(app);
    close_unopened(app).await?;
    close_forsaken(app).await?;
    close_idle_shells(app).await?;
    remove_offline_targets(app).await?;
    remove_expired_policies(app).await?;
    sync::forget(app).await?;
    cut_old_events(app).await?;
    rotate_keys(app).await?;
    keep_keys(app).await
}

/// Writes down when keys were last used, and removes tokens that have ended.
async fn keep_keys(app: &App) -> Result<(), ApiError> {
    write_uses(app).await?;
    app.store.delete_ended_tokens(app.now().wall).await?;
    Ok(())
}

/// Asks directories of groups whose time has come. Beside the others: a directory may take its time.
///
/// # Errors
/// [`ApiError`].
pub async fn groups(app: &App) -> Result<(), ApiError> {
    sync::due(app).await
}

/// Makes new online keys where somebody asked for them on this host.
async fn rotate_keys(app: &App) -> Result<(), ApiError> {
    let asked = app.store.last_done(Done::Rotation).await?;
    if std::mem::replace(&mut *app.rotated.lock().unwrap_or_else(PoisonError::into_inner), asked) == asked {
        return Ok(());
    }
    let keys = app.rotate_online_keys().map_err(ApiError::internal)?;
    tracing::info!("new online keys: they were asked for");
    let public = |key: &OnlineKey| key.key.public().to_string();
    let context = json!({
        "grant": public(&keys.grant), "control": public(&keys.control), "record": public(&keys.record),
    });
    let event = own_event(app, ("keyservice:rotated", "online keys"), context.to_string())?;
    Ok(app.store.add_user_event(event, app.now().wall).await?)
}

/// Shows the certificate that another program renewed.
fn follow_certificate(app: &App) {
    match app.certificates.as_ref().map(|certificates| certificates.follow()) {
        None | Some(Ok(false)) => {}
        Some(Ok(true)) => tracing::info!("the TLS certificate changed and is shown from now on"),
        Some(Err(error)) => {
            tracing::warn!(%error, "the TLS certificate changed and cannot be read; the old one is shown");
        }
    }
}

/// Closes connections whose client never came: no grant opens them any more.
async fn close_unopened(app: &App) -> Result<(), ApiError> {
    for id in app.store.unopened(app.now().wall.before(MAX_OPENING)).await? {
        close(app, id, &By::Service, "its client never came").await?;
    }
    Ok(())
}

/// Closes connections that cannot live without their client, once their agent has given up waiting for it: what it says
/// then reaches nobody.
async fn close_forsaken(app: &App) -> Result<(), ApiError> {
    for id in app.store.forsaken_since(app.now().wall.before(PATIENCE.saturating_add(HANDSHAKE))).await? {
        close(app, id, &By::Service, "its client left and did not come back").await?;
    }
    Ok(())
}

/// Closes connections whose shells no client has been on for as long as the settings allow.
async fn close_idle_shells(app: &App) -> Result<(), ApiError> {
    let idle = app.config().shell_idle();
    for id in app.store.detached_since(app.now().wall.before(idle)).await? {
        close(app, id, &By::Service, &format!("nobody was on its shell for {} hours", idle.as_secs() / 3600)).await?;
    }
    Ok(())
}

/// Removes targets that were offline for as long as their environment allows.
async fn remove_offline_targets(app: &App) -> Result<(), ApiError> {
    for target in app.store.remove_offline(app.now().wall).await? {
        tracing::info!(%target, "removed: it was offline for as long as its environment allows");
        app.links.removed(target);
    }
    Ok(())
}

/// Removes policies that ended by themselves, and closes what they alone allowed.
async fn remove_expired_policies(app: &App) -> Result<(), ApiError> {
    let removed = app.store.delete_expired_policies(app.now().wall).await?;
    if removed > 0 {
        tracing::info!(removed, "expired policies were removed");
        recheck(app, &By::Service).await?;
    }
    Ok(())
}

/// Cuts events off that are older than the settings keep them, in whole days, and says so in the log of calls.
async fn cut_old_events(app: &App) -> Result<(), ApiError> {
    let Some(days) = app.config().events_keep_days else { return Ok(()) };
    let now = app.now().wall;
    let day = Duration::from_secs(24 * 3600);
    let today = UnixTime::from_secs(now.as_secs() / day.as_secs() * day.as_secs());
    let before = today.before(day.saturating_mul(days));
    let waited = day.saturating_mul(app.config().sinks_wait_days);
    let sinks = sinks(app).await?;
    let taken = sinks.iter().map(|(_, taken)| *taken).min();
    let bounds = Bounds { before, taken, at_last: before.before(waited) };
    let keys = app.online_keys().map_err(ApiError::internal)?;
    let signer = || Signer { key: keys.record.clone(), organization: app.organization, now };
    let mut gone = 0;
    loop {
        match app.store.cut_events(bounds, signer()).await? {
            0 => break,
            some => gone += some,
        }
    }
    if gone > 0 {
        tracing::info!(gone, "events were removed: they are older than they are kept");
        let cut = app.store.events_begin().await?.saturating_sub(1);
        let missed: Vec<_> = sinks.iter().filter(|(_, taken)| *taken < cut).map(|(name, _)| name).collect();
        if !missed.is_empty() {
            tracing::warn!(sinks = ?missed, "rows were removed that these sinks did not take, for longer than they are waited for");
        }
        let context = json!({ "rows": gone, "before": before.to_string(), "keepDays": days, "notTakenBy": missed });
        let context = context.to_string();
        app.store.add_user_event(own_event(app, ("auditservice:cut", "logs"), context)?, now).await?;
    }
    Ok(())
}

/// How far each sink of the settings got.
async fn sinks(app: &App) -> Result<Vec<(String, u64)>, ApiError> {
    let mut all = Vec::new();
    for sink in &app.config().sinks {
        all.push((sink.name.clone(), app.store.sink(sink.name.clone()).await?.unwrap_or(0)));
    }
    Ok(all)
}

/// What the server does by itself, as an event in the log of calls.
pub(crate) fn own_event(app: &App, (action, resource): (&str, &str), context: String) -> Result<UserEvent, ApiError> {
    Ok(UserEvent {
        id: EventId::from_random(app.random()?),
        organization_id: app.organization,
        actor: Actor {
            subject_id: None,
            subject_type: SubjectType::User,
            subject_name: "the server itself".to_owned(),
            is_admin: true,
        },
        service_action: action.to_owned(),
        resource: resource.to_owned(),
        evaluation: true,
        timestamp: app.now().wall.to_string(),
        ip_address: String::new(),
        context,
    })
}
