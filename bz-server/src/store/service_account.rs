//! Service accounts: a user of another kind, and where its keys are.

use bz_core::id::UserId;
use bz_core::oidc::service::JwksPattern;
use rusqlite::{Row, Transaction, params};

use crate::mfa::Enrolment;
use crate::store::user::{self, User};
use crate::store::{Store, StoreError, exists, first, mfa, millis, rows};

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// The account as a user; its issuer is its key set's address.
    pub user: User,
    /// Where its key set is.
    pub jwks_url: String,
    /// The pattern that agents' owners pin.
    pub pattern: JwksPattern,
    /// Who made it.
    pub created_by: String,
    /// Whether it may log in.
    pub enabled: bool,
}

impl Store {
    /// All of them, by address.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn service_accounts(&self) -> Result<Vec<ServiceAccount>, StoreError> {
        self.transact(|tx| rows(tx, &select("ORDER BY email, id"), &[], read)).await
    }

    /// One.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn service_account(&self, id: UserId) -> Result<Option<ServiceAccount>, StoreError> {
        self.transact(move |tx| first(tx, &select("WHERE id = ?1"), &[&id.to_string()], read)).await
    }

    /// The one whose key set is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn service_account_at(&self, jwks_url: String) -> Result<Option<ServiceAccount>, StoreError> {
        self.transact(move |tx| first(tx, &select("WHERE jwks_url = ?1"), &[&jwks_url], read)).await
    }

    /// Adds one with its second factor.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the address is another's.
    pub(crate) async fn add_service_account(
        &self,
        account: ServiceAccount,
        factor: Enrolment,
    ) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let user = &account.user;
            tx.execute(
                "INSERT INTO user (id, issuer, subject, email, full_name, is_admin, created, kind)
                 VALUES (?1, ?2, ?3, ?4, '', 0, ?5, ?6)",
                params![
                    user.id.to_string(),
                    user.person.issuer,
                    user.person.subject,
                    user.email,
                    millis(user.created),
                    user::kind(user.kind),
                ],
            )
            .map_err(exists("a service account with that key set"))?;
            tx.execute(
                "INSERT INTO service_account (user, jwks_url, jwks_url_pattern, external_id, created_by, enabled)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    user.id.to_string(),
                    account.jwks_url,
                    account.pattern.0,
                    user.person.subject,
                    account.created_by,
                    account.enabled,
                ],
            )
            .map_err(exists("a service account with that key set"))?;
            mfa::write(tx, user.id, &factor)
        })
        .await
    }

    /// Lets one log in, or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enable_service_account(&self, id: UserId, enabled: bool) -> Result<(), StoreError> {
        self.transact(move |tx| {
            tx.execute("UPDATE service_account SET enabled = ?2 WHERE user = ?1", params![id.to_string(), enabled])?;
            Ok(())
        })
        .await
    }
}

pub(super) fn is_enabled(tx: &Transaction<'_>, id: UserId) -> Result<bool, StoreError> {
    let enabled = first(tx, &select("WHERE id = ?1"), &[&id.to_string()], read)?;
    Ok(enabled.is_some_and(|account| account.enabled))
}

fn select(rest: &str) -> String {
    format!("SELECT * FROM user JOIN service_account ON service_account.user = user.id {rest}")
}

fn read(row: &Row<'_>) -> Result<ServiceAccount, StoreError> {
    Ok(ServiceAccount {
        user: user::read(row)?,
        jwks_url: row.get("jwks_url")?,
        pattern: JwksPattern(row.get("jwks_url_pattern")?),
        created_by: row.get("created_by")?,
        enabled: row.get("enabled")?,
    })
}
