//! What happens by itself as time passes: each job is a function of the parts, and reads the time from their clock.
//!
//! Absent: when targets go offline, which the relay knows.

use std::time::Duration;

use bz_core::grant::MAX_OPENING;
use bz_protocol::limits::{HANDSHAKE, PATIENCE};

use crate::app::App;
use crate::connection::life::By;
use crate::connection::{close, recheck};
use crate::error::ApiError;

/// How often a server runs all of them.
pub const EVERY: Duration = Duration::from_secs(30);

/// Runs all of them once.
///
/// # Errors
/// The first failure; the rest waits for the next time.
pub async fn tick(app: &App) -> Result<(), ApiError> {
    close_unopened(app).await?;
    close_forsaken(app).await?;
    close_idle_shells(app).await?;
    remove_offline_targets(app).await?;
    remove_expired_policies(app).await
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
    let idle = app.config.shell_idle();
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
