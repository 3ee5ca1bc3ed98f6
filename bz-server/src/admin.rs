//! What is done on the server's host, and audited: claim codes, a second factor reset, new online keys.

use bz_core::api::policy::SubjectType;
use bz_core::api::record::{Actor, UserEvent};
use bz_core::id::EventId;
use bz_core::time::UnixTime;
use serde_json::json;

use crate::config::Config;
use crate::init::{self, InitError};
use crate::seam::{Entropy, random};
use crate::store::operation::Done;
use crate::store::{Store, StoreError};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No person has this address or id.
    #[error("there is no user {0}")]
    NoUser(String),
    /// Several people have it.
    #[error("{0} is the address of several people: give the id (`bz user list` shows it)")]
    Several(String),
    /// `init` did not run here.
    #[error("there is no organization here: run `bz-server init`")]
    NotInitialized,
    /// The claim code.
    #[error(transparent)]
    Claim(#[from] InitError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system.
    #[error(transparent)]
    Entropy(#[from] crate::seam::EntropyError),
}

/// Makes a claim code, and says so in the log.
///
/// # Errors
/// [`AdminError`].
pub async fn claim(config: &Config, store: &Store, entropy: &dyn Entropy, now: UnixTime) -> Result<String, AdminError> {
    audit(config, store, entropy, ("adminservice:claim", String::new(), now)).await?;
    Ok(init::claim(store, entropy, now).await?)
}

/// Lets a person enroll a second factor anew, ends the person's logins, and says so in the log.
///
/// # Errors
/// [`AdminError`].
pub async fn reset_mfa(
    config: &Config,
    store: &Store,
    entropy: &dyn Entropy,
    (name, now): (String, UnixTime),
) -> Result<(), AdminError> {
    let mut found = store.users_called(name.clone()).await?;
    let user = found.pop().ok_or_else(|| AdminError::NoUser(name.clone()))?;
    if !found.is_empty() {
        return Err(AdminError::Several(name));
    }
    audit(config, store, entropy, ("adminservice:reset-mfa", user.id.to_string(), now)).await?;
    store.clear_factor(user.id, now).await?;
    for login in store.live_logins(user.id, now).await? {
        store.logout(login.id, now).await?;
    }
    Ok(())
}

/// Asks the running server for new online keys, and says so in the log.
///
/// # Errors
/// [`AdminError`].
pub async fn rotate_keys(
    config: &Config,
    store: &Store,
    entropy: &dyn Entropy,
    now: UnixTime,
) -> Result<(), AdminError> {
    audit(config, store, entropy, ("adminservice:rotate-keys", String::new(), now)).await?;
    Ok(store.note_done(Done::Rotation, now).await?)
}

/// Logged before it is done: what was tried is known, whatever came of it.
pub(crate) async fn audit(
    config: &Config,
    store: &Store,
    entropy: &dyn Entropy,
    (action, resource, now): (&str, String, UnixTime),
) -> Result<(), AdminError> {
    let organization = store.organization().await?.ok_or(AdminError::NotInitialized)?.id;
    let event = UserEvent {
        id: EventId::from_random(random(entropy)?),
        organization_id: organization,
        actor: Actor {
            subject_id: None,
            subject_type: SubjectType::User,
            subject_name: format!("the host of {}", config.node),
            is_admin: true,
        },
        service_action: action.to_owned(),
        resource,
        evaluation: true,
        timestamp: now.to_string(),
        ip_address: String::new(),
        context: json!({ "by": "command line" }).to_string(),
    };
    store.add_user_event(event, now).await?;
    Ok(())
}
