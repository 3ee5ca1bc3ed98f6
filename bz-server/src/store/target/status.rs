//! The log of agents that came, went and started again, written with what it is about.

use bz_core::api::record::AgentStatusEvent;
use bz_core::api::target::TargetStatus;
use bz_core::id::{BootId, EventId, OrganizationId};
use bz_core::time::UnixTime;
use rusqlite::Transaction;

use crate::store::target::Target;
use crate::store::{StoreError, event};

/// What an event of an agent says besides what it is about.
#[derive(Debug, Clone, Copy)]
pub struct StatusLog {
    /// One id for each row that one step can write.
    pub ids: [EventId; 2],
    /// The organization.
    pub organization: OrganizationId,
    /// When.
    pub at: UnixTime,
}

/// The agent is here, with this start.
pub(super) fn came(tx: &Transaction<'_>, target: &Target, boot: BootId, log: &StatusLog) -> Result<(), StoreError> {
    let is_new = target.boot.is_some_and(|before| before != boot);
    let started = format!("its agent started again, as {boot}");
    match (target.status, is_new) {
        (TargetStatus::Online, false) => Ok(()),
        (status, true) => {
            write(tx, target, (log.ids[0], &format!("{status:?}ToRestarting"), &started), log)?;
            write(tx, target, (log.ids[1], "RestartingToOnline", "its agent connected"), log)
        }
        (status, false) => write(tx, target, (log.ids[0], &format!("{status:?}ToOnline"), "its agent connected"), log),
    }
}

/// The agent is not here any more.
pub(super) fn left(tx: &Transaction<'_>, target: &Target, why: &str, log: &StatusLog) -> Result<(), StoreError> {
    write(tx, target, (log.ids[0], "OnlineToOffline", why), log)
}

fn write(
    tx: &Transaction<'_>,
    target: &Target,
    (id, change, reason): (EventId, &str, &str),
    log: &StatusLog,
) -> Result<(), StoreError> {
    let row = AgentStatusEvent {
        id,
        organization_id: log.organization,
        target_id: target.id,
        target_name: target.name.clone(),
        environment_id: target.environment,
        environment_name: target.environment_name.clone(),
        status_change: change.to_owned(),
        timestamp: log.at.to_string(),
        reason: reason.to_owned(),
        agent_public_key: target.identity_key,
    };
    event::add(tx, &row, log.at)
}
