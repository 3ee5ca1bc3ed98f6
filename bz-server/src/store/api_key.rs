//! API keys and registration keys, by the hash of their secret.

use bz_core::digest::Digest;
use bz_core::id::ApiKeyId;
use bz_core::time::UnixTime;
use rusqlite::{Row, params};

use crate::store::{Store, StoreError, exists, first, millis, rows, text, time};

/// A key; its secret is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The key.
    pub id: ApiKeyId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: UnixTime,
    /// Whether it can register targets and nothing else.
    pub is_registration: bool,
}

impl Store {
    /// All of them, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.transact(|tx| rows(tx, "SELECT * FROM api_key ORDER BY name, id", &[], read)).await
    }

    /// One.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.transact(move |tx| first(tx, "SELECT * FROM api_key WHERE id = ?1", &[&id.to_string()], read)).await
    }

    /// The one whose secret has this hash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_key_of(&self, hash: Digest) -> Result<Option<ApiKey>, StoreError> {
        self.transact(move |tx| first(tx, "SELECT * FROM api_key WHERE hash = ?1", &[&hash.to_string()], read)).await
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_api_key(&self, key: ApiKey, hash: Digest) -> Result<(), StoreError> {
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO api_key (id, name, created, is_registration, hash) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![key.id.to_string(), key.name, millis(key.created), key.is_registration, hash.to_string()],
            )
            .map_err(exists("this key"))?;
            Ok(())
        })
        .await
    }

    /// Renames one; whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rename_api_key(&self, id: ApiKeyId, name: String) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            Ok(tx.execute("UPDATE api_key SET name = ?2 WHERE id = ?1", params![id.to_string(), name])? == 1)
        })
        .await
    }

    /// Deletes one; whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_api_key(&self, id: ApiKeyId) -> Result<bool, StoreError> {
        self.transact(move |tx| Ok(tx.execute("DELETE FROM api_key WHERE id = ?1", [id.to_string()])? == 1)).await
    }
}

fn read(row: &Row<'_>) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: text(row, "id")?,
        name: row.get("name")?,
        created: time(row, "created")?,
        is_registration: row.get("is_registration")?,
    })
}
