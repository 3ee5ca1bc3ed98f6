//! People, as their first login made them.

use bz_core::api::policy::SubjectType;
use bz_core::id::UserId;
use bz_core::oidc::Person;
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};

use crate::store::policy::Author;
use crate::store::{Store, StoreError, first, optional_time, rows, text, time};

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The person here.
    pub id: UserId,
    /// The person at the identity provider.
    pub person: Person,
    /// A person, or a service account.
    pub kind: SubjectType,
    /// The address then; empty when the provider gave none.
    pub email: String,
    /// The name to show.
    pub full_name: String,
    /// Whether an administrator.
    pub is_admin: bool,
    /// Whether an auditor.
    pub is_auditor: bool,
    /// First login.
    pub created: UnixTime,
    /// Last login.
    pub last_login: Option<UnixTime>,
}

impl User {
    /// What logs call this person: the address, or the subject where there is none.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.email.is_empty() { &self.person.subject } else { &self.email }
    }
}

impl Store {
    /// Everybody, by address.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        self.transact(|tx| rows(tx, "SELECT * FROM user WHERE kind = 'User' ORDER BY email, id", &[], read)).await
    }

    /// The people with this id or address.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn users_called(&self, name: String) -> Result<Vec<User>, StoreError> {
        let sql = "SELECT * FROM user WHERE (id = ?1 OR email = ?1) AND kind = 'User' ORDER BY id";
        self.transact(move |tx| rows(tx, sql, &[&name], read)).await
    }

    /// Gives or takes the administrator's role; whether the person is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_admin(&self, id: UserId, is_admin: bool) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            let sql = "UPDATE user SET is_admin = ?2 WHERE id = ?1";
            Ok(tx.execute(sql, params![id.to_string(), is_admin])? == 1)
        })
        .await
    }

    /// Makes a person administrator, auditor, or neither.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_role(&self, id: UserId, (is_admin, is_auditor): (bool, bool)) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let sql = "UPDATE user SET is_admin = ?2, is_auditor = ?3 WHERE id = ?1";
            tx.execute(sql, params![id.to_string(), is_admin, is_auditor])?;
            Ok(())
        })
        .await
    }

    /// Forgets a person: out of all policies, with all logins. Logs and connections keep the id. Whether anybody was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_user(&self, id: UserId, author: Author) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            super::policy::remove_subject(tx, id, &author)?;
            tx.execute(
                "INSERT OR IGNORE INTO ended_login (id, ended) SELECT id, ?2 FROM login WHERE user = ?1",
                params![id.to_string(), super::millis(author.at)],
            )?;
            Ok(tx.execute("DELETE FROM user WHERE id = ?1", [id.to_string()])? == 1)
        })
        .await
    }
}

pub(super) fn by_id(tx: &Transaction<'_>, id: UserId) -> Result<Option<User>, StoreError> {
    first(tx, "SELECT * FROM user WHERE id = ?1", &[&id.to_string()], read)
}

pub(super) fn by_person(tx: &Transaction<'_>, person: &Person) -> Result<Option<User>, StoreError> {
    first(tx, "SELECT * FROM user WHERE issuer = ?1 AND subject = ?2", &[&person.issuer, &person.subject], read)
}

/// Writes the person as just seen; the id is `new` at the first time.
pub(super) fn upsert(tx: &Transaction<'_>, seen: &User) -> Result<User, StoreError> {
    let now = super::millis(seen.last_login.unwrap_or(seen.created));
    tx.execute(
        "INSERT INTO user (id, issuer, subject, email, full_name, is_admin, created, last_login, kind)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6, ?7)
         ON CONFLICT (issuer, subject) DO UPDATE SET
             email = excluded.email, full_name = excluded.full_name, last_login = excluded.last_login",
        params![
            seen.id.to_string(),
            seen.person.issuer,
            seen.person.subject,
            seen.email,
            seen.full_name,
            now,
            kind(seen.kind)
        ],
    )?;
    by_person(tx, &seen.person)?.ok_or_else(|| StoreError::Failed("a user just written is not there".to_owned()))
}

pub(super) fn make_admin(tx: &Transaction<'_>, id: UserId) -> Result<(), StoreError> {
    tx.execute("UPDATE user SET is_admin = 1, is_auditor = 0 WHERE id = ?1", [id.to_string()])?;
    Ok(())
}

pub(super) const fn kind(kind: SubjectType) -> &'static str {
    match kind {
        SubjectType::User => "User",
        SubjectType::ApiKey => "ApiKey",
        SubjectType::ServiceAccount => "ServiceAccount",
    }
}

pub(super) fn read(row: &Row<'_>) -> Result<User, StoreError> {
    let kind: String = row.get("kind")?;
    Ok(User {
        id: text(row, "id")?,
        kind: if kind == "ServiceAccount" { SubjectType::ServiceAccount } else { SubjectType::User },
        person: Person { issuer: row.get("issuer")?, subject: row.get("subject")? },
        email: row.get("email")?,
        full_name: row.get("full_name")?,
        is_admin: row.get("is_admin")?,
        is_auditor: row.get("is_auditor")?,
        created: time(row, "created")?,
        last_login: optional_time(row, "last_login")?,
    })
}
