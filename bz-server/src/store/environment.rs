//! Environments: groups of targets.

use bz_core::id::EnvironmentId;
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};

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
