//! Environments: groups of targets.

use bz_core::api::target::{EnvironmentTarget, TargetKind};
use bz_core::id::EnvironmentId;
use bz_core::time::UnixTime;
use rusqlite::{ErrorCode, Row, Transaction, params};

use crate::store::{Store, StoreError, exists, first, millis, rows, text, time};

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The environment.
    pub id: EnvironmentId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether targets without one go here.
    pub is_default: bool,
    /// When it was made.
    pub created: UnixTime,
    /// After how many hours offline a target is removed.
    pub offline_hours: u32,
}

impl Store {
    /// All of them, the default one first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn environments(&self) -> Result<Vec<Environment>, StoreError> {
        self.transact(|tx| rows(tx, "SELECT * FROM environment ORDER BY is_default DESC, name", &[], read)).await
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken.
    pub async fn add_environment(&self, new: Environment) -> Result<(), StoreError> {
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO environment (id, name, description, is_default, created, offline_hours)
                 VALUES (?1, ?2, ?3, 0, ?4, ?5)",
                params![new.id.to_string(), new.name, new.description, millis(new.created), new.offline_hours],
            )
            .map_err(exists("an environment of that name"))?;
            Ok(())
        })
        .await
    }
}

impl Store {
    /// One.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn environment(&self, id: EnvironmentId) -> Result<Option<Environment>, StoreError> {
        self.transact(move |tx| first(tx, "SELECT * FROM environment WHERE id = ?1", &[&id.to_string()], read)).await
    }

    /// Writes the name, the description and the hours of one; whether it is there.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken.
    pub async fn change_environment(&self, new: Environment) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            let changed = tx
                .execute(
                    "UPDATE environment SET name = ?2, description = ?3, offline_hours = ?4 WHERE id = ?1",
                    params![new.id.to_string(), new.name, new.description, new.offline_hours],
                )
                .map_err(exists("an environment of that name"))?;
            Ok(changed == 1)
        })
        .await
    }

    /// Deletes one that nothing is in or behind; whether it was there.
    ///
    /// # Errors
    /// [`StoreError::InUse`].
    pub async fn delete_environment(&self, id: EnvironmentId) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            let id = id.to_string();
            let behind = "SELECT 1 FROM virtual_target WHERE proxy_environment = ?1";
            // Policies name environments in their JSON, by id.
            let named = "SELECT 1 FROM policy, json_each(policy.content, '$.environments') AS place
                 WHERE json_extract(place.value, '$.id') = ?1";
            for used in [behind, named] {
                if first(tx, used, &[&id], |_| Ok(()))?.is_some() {
                    return Err(StoreError::InUse);
                }
            }
            match tx.execute("DELETE FROM environment WHERE id = ?1", [id]) {
                Ok(deleted) => Ok(deleted == 1),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    Err(StoreError::InUse)
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Every target with its environment, whatever its kind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn placed(&self) -> Result<Vec<(EnvironmentId, EnvironmentTarget)>, StoreError> {
        self.transact(|tx| {
            let sql = "SELECT environment, id, 'Bzero' AS kind, name FROM target
                 UNION ALL SELECT environment, id, kind, name FROM virtual_target ORDER BY name";
            rows(tx, sql, &[], |row| {
                let target_type: TargetKind = text(row, "kind")?;
                Ok((text(row, "environment")?, EnvironmentTarget { id: text(row, "id")?, target_type }))
            })
        })
        .await
    }
}

/// The one of this name, or the default one.
pub(super) fn by_name(tx: &Transaction<'_>, name: Option<&str>) -> Result<Option<Environment>, StoreError> {
    match name {
        Some(name) => first(tx, "SELECT * FROM environment WHERE name = ?1", &[&name], read),
        None => first(tx, "SELECT * FROM environment WHERE is_default = 1", &[], read),
    }
}

fn read(row: &Row<'_>) -> Result<Environment, StoreError> {
    Ok(Environment {
        id: text(row, "id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        is_default: row.get("is_default")?,
        created: time(row, "created")?,
        offline_hours: row.get("offline_hours")?,
    })
}
