//! Service accounts: a user of another kind, and where its keys are or which job it is.

use bz_core::id::UserId;
use bz_core::oidc::Person;
use bz_core::oidc::service::JwksPattern;
use bz_core::oidc::workload::Workload;
use rusqlite::{Row, Transaction, params};

use crate::mfa::Enrolment;
use crate::store::user::{self, User};
use crate::store::{Store, StoreError, exists, first, json, mfa, millis, rows, to_json};

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// The account as a user; its issuer is its key set's address, or the job's.
    pub user: User,
    /// What it proves itself by.
    pub root: Root,
    /// Who made it.
    pub created_by: String,
    /// Whether it may log in.
    pub enabled: bool,
}

/// What a service account proves itself by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A key set that it publishes.
    KeySet {
        /// Where.
        url: String,
        /// The pattern that agents' owners pin.
        pattern: JwksPattern,
    },
    /// Tokens of the job that it is.
    Job(Workload),
}

impl ServiceAccount {
    /// Where its key set is.
    #[must_use]
    pub fn jwks_url(&self) -> Option<&str> {
        match &self.root {
            Root::KeySet { url, .. } => Some(url),
            Root::Job(_) => None,
        }
    }
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

    /// The job that this is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn workload(&self, job: Person) -> Result<Option<ServiceAccount>, StoreError> {
        let sql = select("WHERE issuer = ?1 AND subject = ?2 AND claims IS NOT NULL");
        self.transact(move |tx| first(tx, &sql, &[&job.issuer, &job.subject], read)).await
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
            .map_err(exists("a service account of that key set or job"))?;
            let (url, pattern, claims) = match &account.root {
                Root::KeySet { url, pattern } => (Some(url), Some(&pattern.0), None),
                Root::Job(job) => (None, None, Some(to_json(job)?)),
            };
            tx.execute(
                "INSERT INTO service_account
                 (user, jwks_url, jwks_url_pattern, claims, external_id, created_by, enabled)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    user.id.to_string(),
                    url,
                    pattern,
                    claims,
                    user.person.subject,
                    account.created_by,
                    account.enabled,
                ],
            )
            .map_err(exists("a service account of that key set or job"))?;
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
    let (url, pattern): (Option<String>, Option<String>) = (row.get("jwks_url")?, row.get("jwks_url_pattern")?);
    let root = match url.zip(pattern) {
        Some((url, pattern)) => Root::KeySet { url, pattern: JwksPattern(pattern) },
        None => Root::Job(json(row, "claims")?),
    };
    Ok(ServiceAccount {
        user: user::read(row)?,
        root,
        created_by: row.get("created_by")?,
        enabled: row.get("enabled")?,
    })
}
