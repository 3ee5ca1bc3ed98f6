//! The one organization of this server, and claim codes.

use bz_core::digest::Digest;
use bz_core::id::{EnvironmentId, OrganizationId, UserId};
use bz_core::time::UnixTime;
use rusqlite::{Transaction, params};

use crate::store::{Store, StoreError, exists, first, millis, text, time};

/// The organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: UnixTime,
    /// Counts every change of policies.
    pub policy_version: u64,
}

impl Store {
    /// Makes the organization and its default environment.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is one.
    pub async fn create_organization(
        &self,
        organization: Organization,
        environment: EnvironmentId,
    ) -> Result<(), StoreError> {
        self.transact(move |tx| {
            if self::organization(tx)?.is_some() {
                return Err(StoreError::Exists("an organization"));
            }
            let created = millis(organization.created);
            tx.execute(
                "INSERT INTO organization (id, name, created) VALUES (?1, ?2, ?3)",
                params![organization.id.to_string(), organization.name, created],
            )?;
            tx.execute(
                "INSERT INTO environment (id, name, description, is_default, created, offline_hours)
                 VALUES (?1, 'Default', 'Targets registered without an environment', 1, ?2, 2160)",
                params![environment.to_string(), created],
            )?;
            Ok(())
        })
        .await
    }

    /// The organization, when `init` made one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn organization(&self) -> Result<Option<Organization>, StoreError> {
        self.transact(organization).await
    }

    /// The same, where the database is only looked at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn organization_now(&self) -> Result<Option<Organization>, StoreError> {
        self.read(organization).await
    }

    /// Keeps a claim code by its hash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_claim(&self, code: Digest, expires: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| {
            tx.execute("INSERT INTO claim (hash, expires) VALUES (?1, ?2)", params![code.to_string(), millis(expires)])
                .map_err(exists("this claim code"))?;
            Ok(())
        })
        .await
    }
}

/// Uses a claim code up; whether it was good.
pub(super) fn use_claim(tx: &Transaction<'_>, code: Digest, user: UserId, now: UnixTime) -> Result<bool, StoreError> {
    let used = tx.execute(
        "UPDATE claim SET used = ?2, user = ?3 WHERE hash = ?1 AND used IS NULL AND expires > ?2",
        params![code.to_string(), millis(now), user.to_string()],
    )?;
    Ok(used == 1)
}

pub(super) fn organization(tx: &Transaction<'_>) -> Result<Option<Organization>, StoreError> {
    first(tx, "SELECT * FROM organization", &[], |row| {
        Ok(Organization {
            id: text(row, "id")?,
            name: row.get("name")?,
            created: time(row, "created")?,
            policy_version: u64::try_from(row.get::<_, i64>("policy_version")?).unwrap_or_default(),
        })
    })
}
