//! Targets, and whether their agents are there.

mod list;
mod status;

use bz_core::api::target::{Route, TargetStatus};
use bz_core::id::{ApiKeyId, BootId, EnvironmentId, TargetId};
use bz_core::key::PublicKey;
use bz_core::label::Labels;
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};

use crate::store::{
    Store, StoreError, environment, exists, first, json, millis, optional, optional_time, rows, text, time, to_json,
};

pub use crate::store::target::list::{Part, TargetFilter};
pub use crate::store::target::status::StatusLog;

/// A target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The target.
    pub id: TargetId,
    /// Its name, unique in its environment.
    pub name: String,
    /// Its environment.
    pub environment: EnvironmentId,
    /// The environment's name.
    pub environment_name: String,
    /// What sessions are proved under.
    pub identity_key: PublicKey,
    /// What its link is proved under.
    pub control_key: PublicKey,
    /// The host's own name.
    pub host_name: String,
    /// The agent's version.
    pub version: String,
    /// Whether the host's owner keeps a local policy file.
    pub local_policy: bool,
    /// Whether it can be reached.
    pub status: TargetStatus,
    /// When that changed.
    pub status_changed: UnixTime,
    /// The agent's last start.
    pub boot: Option<BootId>,
    /// When its link was last seen.
    pub last_seen: Option<UnixTime>,
    /// Routes its agent announced.
    pub routes: Vec<Route>,
    /// When it was registered.
    pub created: UnixTime,
    /// What administrators labelled it with: policies see these.
    pub labels: Labels,
    /// What its agent says of its own host: no policy sees these.
    pub agent_labels: Labels,
}

/// An agent that proved both keys.
#[derive(Debug, Clone)]
pub struct NewTarget {
    /// The id it gets when it replaces none.
    pub id: TargetId,
    /// The target it replaces.
    pub replaces: Option<TargetId>,
    /// Its name.
    pub name: String,
    /// Its environment's name; the default one when absent.
    pub environment: Option<String>,
    /// What sessions are proved under.
    pub identity_key: PublicKey,
    /// What its link is proved under.
    pub control_key: PublicKey,
    /// The host's own name.
    pub host_name: String,
    /// The agent's version.
    pub version: String,
    /// Whether the host's owner keeps a local policy file.
    pub local_policy: bool,
    /// The registration key that lets it in.
    pub by: ApiKeyId,
    /// What it says of its own host.
    pub agent_labels: Labels,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetRegistration {
    /// Done.
    Done(Box<Target>),
    /// There is no such environment.
    NoEnvironment,
    /// The target to replace is not there, or has another identity key.
    NotYours,
    /// The registration key has registered all that it may.
    UsedUp,
}

/// What an agent says of itself when its link opens.
#[derive(Debug, Clone)]
pub struct Announced {
    /// Its present start.
    pub boot: BootId,
    /// Its version.
    pub version: String,
    /// The routes it serves.
    pub routes: Vec<Route>,
}

const SELECT: &str = "SELECT target.*, environment.name AS environment_name
     FROM target JOIN environment ON environment.id = target.environment";

impl Store {
    /// All of them, by environment and name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn targets(&self) -> Result<Vec<Target>, StoreError> {
        self.transact(|tx| rows(tx, &format!("{SELECT} ORDER BY environment_name, target.name"), &[], read)).await
    }

    /// One.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn target(&self, id: TargetId) -> Result<Option<Target>, StoreError> {
        self.transact(move |tx| by_id(tx, id)).await
    }

    /// The one with this control key: how a link finds its target.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn target_of_control_key(&self, key: PublicKey) -> Result<Option<Target>, StoreError> {
        self.transact(move |tx| first(tx, &format!("{SELECT} WHERE control_key = ?1"), &[&key.to_string()], read)).await
    }

    /// Those of a name, in one environment or all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn targets_called(&self, name: String, environment: Option<String>) -> Result<Vec<Target>, StoreError> {
        self.transact(move |tx| {
            let sql = format!(
                "{SELECT} WHERE target.name = ?1 AND (?2 IS NULL OR environment.name = ?2) ORDER BY environment_name"
            );
            rows(tx, &sql, &[&name, &environment], read)
        })
        .await
    }

    /// Registers a target, or again under its old id when the same identity key proves it.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when name or key is taken.
    pub async fn register_target(&self, new: NewTarget, now: UnixTime) -> Result<TargetRegistration, StoreError> {
        self.transact(move |tx| {
            let Some(environment) = environment::by_name(tx, new.environment.as_deref())? else {
                return Ok(TargetRegistration::NoEnvironment);
            };
            if super::virtual_target::is_called(tx, &new.name, environment.id)? {
                return Err(StoreError::Exists("a target of that name in this environment"));
            }
            let id = match new.replaces {
                None => new.id,
                Some(id) => match by_id(tx, id)? {
                    Some(old) if old.identity_key == new.identity_key => id,
                    Some(_) | None => return Ok(TargetRegistration::NotYours),
                },
            };
            if !super::api_key::use_up(tx, new.by)? {
                return Ok(TargetRegistration::UsedUp);
            }
            write(tx, id, &new, environment.id, now)?;
            let target = by_id(tx, id)?;
            target
                .map(|t| TargetRegistration::Done(Box::new(t)))
                .ok_or_else(|| StoreError::Failed("a target just written is not there".to_owned()))
        })
        .await
    }

    /// The target's agent is here, with this start.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn target_online(&self, id: TargetId, agent: Announced, log: StatusLog) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let Some(before) = by_id(tx, id)? else { return Ok(()) };
            tx.execute(
                "UPDATE target SET boot = ?2, version = ?3, routes = ?4, last_seen = ?5,
                     status_changed = CASE status WHEN 'Online' THEN status_changed ELSE ?5 END, status = 'Online'
                 WHERE id = ?1",
                params![id.to_string(), agent.boot.to_string(), agent.version, to_json(&agent.routes)?, millis(log.at)],
            )?;
            status::came(tx, &before, agent.boot, &log)
        })
        .await
    }

    /// The target has had no link for the resume window, in these words; whether that is news.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn target_offline(&self, id: TargetId, why: String, log: StatusLog) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            let Some(before) = by_id(tx, id)?.filter(|target| target.status == TargetStatus::Online) else {
                return Ok(false);
            };
            tx.execute(
                "UPDATE target SET status = 'Offline', status_changed = ?2 WHERE id = ?1",
                params![id.to_string(), millis(log.at)],
            )?;
            status::left(tx, &before, &why, &log)?;
            Ok(true)
        })
        .await
    }

    /// Removes targets that were offline for as long as their environment allows, and says which.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_offline(&self, now: UnixTime) -> Result<Vec<TargetId>, StoreError> {
        self.transact(move |tx| {
            let sql = "DELETE FROM target WHERE status = 'Offline' AND ?1 >= status_changed + 3600000 *
                 (SELECT offline_hours FROM environment WHERE environment.id = target.environment) RETURNING id";
            rows(tx, sql, &[&millis(now)], |row| text(row, "id"))
        })
        .await
    }

    /// Gives a target another name, environment or labels; whether it is there.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when a target of any kind has its name there.
    pub async fn change_target(
        &self,
        id: TargetId,
        (name, to): (String, EnvironmentId),
        labels: Labels,
    ) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            if super::virtual_target::is_called(tx, &name, to)? {
                return Err(StoreError::Exists("a target of that name in this environment"));
            }
            let moved = tx
                .execute(
                    "UPDATE target SET name = ?2, environment = ?3, labels = ?4 WHERE id = ?1",
                    params![id.to_string(), name, to.to_string(), to_json(&labels)?],
                )
                .map_err(exists("a target of that name in this environment"))?;
            Ok(moved == 1)
        })
        .await
    }

    /// Removes a target; its logs stay. Whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_target(&self, id: TargetId) -> Result<bool, StoreError> {
        self.transact(move |tx| Ok(tx.execute("DELETE FROM target WHERE id = ?1", [id.to_string()])? == 1)).await
    }
}

fn by_id(tx: &Transaction<'_>, id: TargetId) -> Result<Option<Target>, StoreError> {
    first(tx, &format!("{SELECT} WHERE target.id = ?1"), &[&id.to_string()], read)
}

fn write(
    tx: &Transaction<'_>,
    id: TargetId,
    new: &NewTarget,
    environment: EnvironmentId,
    now: UnixTime,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO target (id, name, environment, identity_key, control_key, host_name, version, local_policy,
                             status, status_changed, created, agent_labels)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'NotActivated', ?9, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET
             name = excluded.name, environment = excluded.environment, control_key = excluded.control_key,
             host_name = excluded.host_name, version = excluded.version, local_policy = excluded.local_policy,
             agent_labels = excluded.agent_labels",
        params![
            id.to_string(),
            new.name,
            environment.to_string(),
            new.identity_key.to_string(),
            new.control_key.to_string(),
            new.host_name,
            new.version,
            new.local_policy,
            millis(now),
            to_json(&new.agent_labels)?
        ],
    )
    .map_err(exists("a target of that name in this environment, or with one of these keys,"))?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Target, StoreError> {
    let status: String = row.get("status")?;
    let status = match status.as_str() {
        "NotActivated" => TargetStatus::NotActivated,
        "Offline" => TargetStatus::Offline,
        "Online" => TargetStatus::Online,
        _ => return Err(StoreError::Unreadable("a status".to_owned())),
    };
    Ok(Target {
        id: text(row, "id")?,
        name: row.get("name")?,
        environment: text(row, "environment")?,
        environment_name: row.get("environment_name")?,
        identity_key: text(row, "identity_key")?,
        control_key: text(row, "control_key")?,
        host_name: row.get("host_name")?,
        version: row.get("version")?,
        local_policy: row.get("local_policy")?,
        status,
        status_changed: time(row, "status_changed")?,
        boot: optional(row, "boot")?,
        last_seen: optional_time(row, "last_seen")?,
        routes: json(row, "routes")?,
        created: time(row, "created")?,
        labels: json(row, "labels")?,
        agent_labels: json(row, "agent_labels")?,
    })
}
