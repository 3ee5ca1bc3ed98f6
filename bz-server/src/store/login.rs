//! Logins: which client key acts for whom, and until when.

use bz_core::api::policy::SubjectType;
use bz_core::digest::Digest;
use bz_core::grant::Mfa;
use bz_core::id::{LoginId, UserId};
use bz_core::key::PublicKey;
use bz_core::target::TargetUser;
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};

use crate::store::groups;
use crate::store::service_account;
use crate::store::user::{self, User};
use crate::store::{
    Store, StoreError, first, json, millis, optional, optional_time, organization, rows, text, time, to_json,
};

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The login.
    pub id: LoginId,
    /// Whose.
    pub user: UserId,
    /// The client's session key: every call is signed by it.
    pub client_key: PublicKey,
    /// SHA-256 of the certificate last registered.
    pub certificate: Digest,
    /// When it ends.
    pub expires: UnixTime,
    /// `iat` of the last token accepted.
    pub token_issued: UnixTime,
    /// What `{username}` means for it.
    pub username: Option<TargetUser>,
    /// The groups its token names, or its provider's directory where there is one.
    pub groups: Vec<String>,
    /// Whether it was logged out.
    pub ended: bool,
    /// When and how it passed the second factor.
    pub mfa: Option<Mfa>,
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// Done; who it is.
    Done(User),
    /// The claim code is wrong, used or expired. Nothing was kept.
    BadClaim,
    /// The login id was logged out, or is another's. Nothing was kept.
    Refused,
}

impl Store {
    /// Keeps a login just proved, makes the person at the first time, and uses the claim code when one is given.
    ///
    /// `login.user` and `seen.id` count only for a person not known yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn register(&self, login: Login, seen: User, claim: Option<Digest>) -> Result<Registration, StoreError> {
        self.transact(move |tx| {
            let now = seen.last_login.unwrap_or(seen.created);
            let before = by_id(tx, login.id)?;
            let known = user::by_person(tx, &seen.person)?;
            if before.is_none() && has_ended(tx, login.id)? {
                return Ok(Registration::Refused);
            }
            if let Some(before) = &before
                && (before.ended
                    || before.client_key != login.client_key
                    || known.as_ref().is_none_or(|k| k.id != before.user)
                    || login.token_issued < before.token_issued)
            {
                return Ok(Registration::Refused);
            }
            let id = known.map_or(seen.id, |k| k.id);
            if let Some(code) = claim
                && !organization::use_claim(tx, code, id, now)?
            {
                return Ok(Registration::BadClaim);
            }
            let mut user = user::upsert(tx, &seen)?;
            if claim.is_some() {
                user::make_admin(tx, user.id)?;
                (user.is_admin, user.is_auditor) = (true, false);
            }
            upsert(tx, &Login { user: user.id, ..login })?;
            Ok(Registration::Done(user))
        })
        .await
    }

    /// The login and its person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn login(&self, id: LoginId) -> Result<Option<(Login, User)>, StoreError> {
        self.transact(move |tx| {
            let Some(login) = by_id(tx, id)? else { return Ok(None) };
            let Some(user) = user::by_id(tx, login.user)? else { return Ok(None) };
            // A service account that was disabled, or is gone, has no logins.
            let known = user.kind != SubjectType::ServiceAccount || service_account::is_enabled(tx, user.id)?;
            let login = with_groups(tx, login)?;
            Ok(known.then_some((login, user)))
        })
        .await
    }

    /// Ends a login for ever.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn logout(&self, id: LoginId, now: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| {
            tx.execute(
                "UPDATE login SET ended = ?2 WHERE id = ?1 AND ended IS NULL",
                params![id.to_string(), millis(now)],
            )?;
            Ok(())
        })
        .await
    }

    /// The logins of a person that have not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn live_logins(&self, user: UserId, now: UnixTime) -> Result<Vec<Login>, StoreError> {
        self.transact(move |tx| {
            let sql = "SELECT * FROM login WHERE user = ?1 AND ended IS NULL AND expires > ?2 ORDER BY id";
            let logins = rows(tx, sql, &[&user.to_string(), &millis(now)], read)?;
            logins.into_iter().map(|login| with_groups(tx, login)).collect()
        })
        .await
    }
}

/// With what a directory says. What a token says is empty then: see `groups.rs` of the server.
fn with_groups(tx: &Transaction<'_>, mut login: Login) -> Result<Login, StoreError> {
    login.groups.extend(groups::of(tx, login.user)?);
    Ok(login)
}

fn by_id(tx: &Transaction<'_>, id: LoginId) -> Result<Option<Login>, StoreError> {
    first(tx, "SELECT * FROM login WHERE id = ?1", &[&id.to_string()], read)
}

/// Whether it was the login of a person who was deleted.
fn has_ended(tx: &Transaction<'_>, id: LoginId) -> Result<bool, StoreError> {
    Ok(first(tx, "SELECT 1 FROM ended_login WHERE id = ?1", &[&id.to_string()], |_| Ok(()))?.is_some())
}

fn upsert(tx: &Transaction<'_>, login: &Login) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO login (id, user, client_key, certificate, expires, token_issued, username, groups)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET
             certificate = excluded.certificate, expires = excluded.expires,
             token_issued = excluded.token_issued, username = excluded.username, groups = excluded.groups",
        params![
            login.id.to_string(),
            login.user.to_string(),
            login.client_key.to_string(),
            login.certificate.to_string(),
            millis(login.expires),
            millis(login.token_issued),
            login.username.as_ref().map(TargetUser::as_str),
            to_json(&login.groups)?,
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Login, StoreError> {
    let ended: Option<i64> = row.get("ended")?;
    let method: Option<String> = row.get("mfa_method")?;
    Ok(Login {
        id: text(row, "id")?,
        user: text(row, "user")?,
        client_key: text(row, "client_key")?,
        certificate: text(row, "certificate")?,
        expires: time(row, "expires")?,
        token_issued: time(row, "token_issued")?,
        username: optional(row, "username")?,
        groups: json(row, "groups")?,
        ended: ended.is_some(),
        mfa: method.zip(optional_time(row, "mfa_at")?).map(|(method, at)| Mfa { method, at }),
    })
}
