//! Databases, web servers and clusters that the agent of a target reaches for others.

use bz_core::access::destination::Destination;
use bz_core::api::target::TargetKind;
use bz_core::id::{EnvironmentId, TargetId};
use bz_core::label::Labels;
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};

use crate::store::{Store, StoreError, exists, first, json, millis, optional, rows, text, time, to_json};

/// What a virtual target is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// This target.
    Target(TargetId),
    /// Whichever of this environment's is online and has the fewest connections.
    Environment(EnvironmentId),
}

/// A virtual target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualTarget {
    /// The target.
    pub id: TargetId,
    /// Its kind.
    pub kind: TargetKind,
    /// Its name, unique in its environment.
    pub name: String,
    /// Its environment.
    pub environment: EnvironmentId,
    /// The environment's name.
    pub environment_name: String,
    /// What it is behind.
    pub behind: Behind,
    /// Where it is; none for clusters, whose agents know.
    pub remote: Option<Destination>,
    /// Whether the agent speaks TLS to it, verified.
    pub tls: bool,
    /// The database's name; empty for any.
    pub database: String,
    /// For people.
    pub label: String,
    /// The address that clients open it at.
    pub local_host: Option<String>,
    /// The port that clients open for it.
    pub local_port: Option<u16>,
    /// When it was made.
    pub created: UnixTime,
    /// What administrators labelled it with.
    pub labels: Labels,
}

const SELECT: &str = "SELECT virtual_target.*, environment.name AS environment_name
     FROM virtual_target JOIN environment ON environment.id = virtual_target.environment";

impl Store {
    /// Those of a kind, by environment and name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn virtual_targets(&self, kind: TargetKind) -> Result<Vec<VirtualTarget>, StoreError> {
        self.transact(move |tx| {
            let sql = format!("{SELECT} WHERE kind = ?1 ORDER BY environment_name, virtual_target.name");
            rows(tx, &sql, &[&kind.to_string()], read)
        })
        .await
    }

    /// One.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn virtual_target(&self, id: TargetId) -> Result<Option<VirtualTarget>, StoreError> {
        self.transact(move |tx| by_id(tx, id)).await
    }

    /// Those of a name, in one environment or all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn virtual_targets_called(
        &self,
        name: String,
        environment: Option<String>,
    ) -> Result<Vec<VirtualTarget>, StoreError> {
        self.transact(move |tx| {
            let sql = format!(
                "{SELECT} WHERE virtual_target.name = ?1 AND (?2 IS NULL OR environment.name = ?2)
                 ORDER BY environment_name"
            );
            rows(tx, &sql, &[&name, &environment], read)
        })
        .await
    }

    /// Keeps one: a new one, or one that is there with other words.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when a target of any kind has its name there.
    pub async fn keep_virtual_target(&self, target: VirtualTarget) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let sql = "SELECT 1 FROM target WHERE name = ?1 AND environment = ?2";
            if first(tx, sql, &[&target.name, &target.environment.to_string()], |_| Ok(()))?.is_some() {
                return Err(StoreError::Exists("a target of that name in this environment"));
            }
            write(tx, &target)
        })
        .await
    }

    /// Removes one; its logs stay. Whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_virtual_target(&self, id: TargetId) -> Result<bool, StoreError> {
        self.transact(move |tx| Ok(tx.execute("DELETE FROM virtual_target WHERE id = ?1", [id.to_string()])? == 1))
            .await
    }

    /// How many connections each agent serves now, for those that serve any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn loads(&self) -> Result<Vec<(TargetId, i64)>, StoreError> {
        self.transact(|tx| {
            let sql =
                "SELECT agent, COUNT(*) AS load FROM connection WHERE state NOT IN ('closed', 'lost') GROUP BY agent";
            rows(tx, sql, &[], |row| Ok((text(row, "agent")?, row.get("load")?)))
        })
        .await
    }
}

/// Whether a virtual target has this name in this environment.
pub(super) fn is_called(tx: &Transaction<'_>, name: &str, environment: EnvironmentId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM virtual_target WHERE name = ?1 AND environment = ?2";
    Ok(first(tx, sql, &[&name, &environment.to_string()], |_| Ok(()))?.is_some())
}

fn by_id(tx: &Transaction<'_>, id: TargetId) -> Result<Option<VirtualTarget>, StoreError> {
    first(tx, &format!("{SELECT} WHERE virtual_target.id = ?1"), &[&id.to_string()], read)
}

fn write(tx: &Transaction<'_>, target: &VirtualTarget) -> Result<(), StoreError> {
    let (proxy_target, proxy_environment) = match target.behind {
        Behind::Target(id) => (Some(id.to_string()), None),
        Behind::Environment(id) => (None, Some(id.to_string())),
    };
    tx.execute(
        "INSERT INTO virtual_target (id, kind, name, environment, proxy_target, proxy_environment, remote, tls, database,
                                     label, local_host, local_port, created, labels)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         ON CONFLICT (id) DO UPDATE SET
             name = excluded.name, environment = excluded.environment, proxy_target = excluded.proxy_target,
             proxy_environment = excluded.proxy_environment, remote = excluded.remote, tls = excluded.tls,
             database = excluded.database, label = excluded.label, local_host = excluded.local_host,
             local_port = excluded.local_port, labels = excluded.labels",
        params![
            target.id.to_string(),
            target.kind.to_string(),
            target.name,
            target.environment.to_string(),
            proxy_target,
            proxy_environment,
            target.remote.as_ref().map(ToString::to_string),
            target.tls,
            target.database,
            target.label,
            target.local_host,
            target.local_port,
            millis(target.created),
            to_json(&target.labels)?
        ],
    )
    .map_err(exists("a target of that name in this environment"))?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<VirtualTarget, StoreError> {
    let behind = match (optional(row, "proxy_target")?, optional(row, "proxy_environment")?) {
        (Some(target), None) => Behind::Target(target),
        (None, Some(environment)) => Behind::Environment(environment),
        (Some(_), Some(_)) | (None, None) => return Err(StoreError::Unreadable("a proxy".to_owned())),
    };
    Ok(VirtualTarget {
        id: text(row, "id")?,
        kind: text(row, "kind")?,
        name: row.get("name")?,
        environment: text(row, "environment")?,
        environment_name: row.get("environment_name")?,
        behind,
        remote: optional(row, "remote")?,
        tls: row.get("tls")?,
        database: row.get("database")?,
        label: row.get("label")?,
        local_host: row.get("local_host")?,
        local_port: row.get("local_port")?,
        created: time(row, "created")?,
        labels: json(row, "labels")?,
    })
}
