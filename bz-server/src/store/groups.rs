//! Who is in which group, as directories said it: of people who are known here, and groups that policies name.

use std::collections::BTreeMap;

use bz_core::id::UserId;
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};
use serde_json::Value;

use crate::store::user::{self, User};
use crate::store::{Store, StoreError, first, json, millis, optional_time, rows, text};

/// Somebody to ask a directory about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The person here.
    pub user: UserId,
    /// The person there.
    pub id: String,
}

/// A group that policies name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedGroup {
    /// As the provider knows it.
    pub id: String,
    /// As the policy that was made last calls it.
    pub name: String,
    /// How many policies name it.
    pub policies: u32,
    /// How many people are in it, and at which provider.
    pub members: u32,
    /// See `members`; empty when nobody is in it.
    pub issuer: String,
}

/// What an answer changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Groups that somebody is in now.
    pub added: Vec<String>,
    /// Groups that somebody is in no more.
    pub removed: Vec<String>,
    /// Whether the account was deactivated before.
    pub reactivated: bool,
}

/// How asking a directory goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectoryState {
    /// When it last answered about everybody.
    pub synced: Option<UnixTime>,
    /// When it was last asked.
    pub tried: Option<UnixTime>,
    /// Why that failed.
    pub error: Option<String>,
    /// Not before.
    pub retry: Option<UnixTime>,
    /// When an event last came.
    pub event: Option<UnixTime>,
    /// Whether the integration was removed.
    pub removed: bool,
}

impl Store {
    /// The groups that policies name.
    ///
    /// # Errors
    /// [`StoreError`], as everything here.
    pub async fn named_groups(&self) -> Result<Vec<NamedGroup>, StoreError> {
        self.transact(|tx| {
            let mut all: BTreeMap<String, NamedGroup> = BTreeMap::new();
            let contents = rows(tx, "SELECT content FROM policy ORDER BY created", &[], |row| json(row, "content"))?;
            for (id, name) in contents.iter().flat_map(named) {
                let new = NamedGroup { id, name: String::new(), policies: 0, members: 0, issuer: String::new() };
                let group = all.entry(new.id.clone()).or_insert(new);
                group.name = name;
                group.policies = group.policies.saturating_add(1);
            }
            let sql = "SELECT group_id, issuer, count(*) AS members FROM membership JOIN user ON user.id = user
                       GROUP BY group_id, issuer";
            let counted =
                |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, u32>(2)?));
            for (id, issuer, members) in rows(tx, sql, &[], counted)? {
                if let Some(group) = all.get_mut(&id) {
                    (group.issuer, group.members) = (issuer, members);
                }
            }
            Ok(all.into_values().collect())
        })
        .await
    }

    /// Keeps what the provider's directory calls somebody.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_directory_id(&self, user: UserId, issuer: String, id: String) -> Result<(), StoreError> {
        self.transact(move |tx| {
            // Nobody else has it: a person who was deleted and came back is another one here.
            tx.execute(
                "DELETE FROM directory_account WHERE issuer = ?1 AND id = ?2 AND user <> ?3",
                [&issuer, &id, &user.to_string()],
            )?;
            tx.execute(
                "INSERT INTO directory_account (user, issuer, id) VALUES (?1, ?2, ?3)
                 ON CONFLICT (user) DO UPDATE SET issuer = excluded.issuer, id = excluded.id",
                params![user.to_string(), issuer, id],
            )?;
            Ok(())
        })
        .await
    }

    /// The person whom a provider's directory calls so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn directory_user(&self, issuer: String, id: String) -> Result<Option<User>, StoreError> {
        let sql = "SELECT user.* FROM user JOIN directory_account AS there ON there.user = user.id
                   WHERE there.issuer = ?1 AND there.id = ?2";
        self.transact(move |tx| first(tx, sql, &[&issuer, &id], user::read)).await
    }

    /// What a directory calls somebody.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn directory_id(&self, user: UserId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT id FROM directory_account WHERE user = ?1";
        self.transact(move |tx| first(tx, sql, &[&user.to_string()], |row| Ok(row.get(0)?))).await
    }

    /// Everybody of a provider who is here: logged in, or with a connection that goes on. Whom the directory answered
    /// about longest ago comes first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn directory_people(&self, issuer: String, now: UnixTime) -> Result<Vec<Asked>, StoreError> {
        let sql = "SELECT there.user AS user, there.id AS id FROM directory_account AS there
                   WHERE there.issuer = ?1 AND (
                       EXISTS (SELECT 1 FROM login WHERE login.user = there.user AND ended IS NULL AND expires > ?2)
                       OR EXISTS (SELECT 1 FROM connection WHERE connection.user = there.user AND state <> 'closed'))
                   ORDER BY there.asked, there.user";
        let read = |row: &Row<'_>| Ok(Asked { user: text(row, "user")?, id: row.get("id")? });
        self.transact(move |tx| rows(tx, sql, &[&issuer, &millis(now)], read)).await
    }

    /// Somebody's account is active, and in `found` of the groups `asked`, and in none else of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_memberships(
        &self,
        user: UserId,
        (asked, found): (Vec<String>, Vec<String>),
        now: UnixTime,
    ) -> Result<Changed, StoreError> {
        self.transact(move |tx| {
            let user = user.to_string();
            let mut changed = Changed::default();
            let sql = "UPDATE directory_account SET deactivated = NULL WHERE user = ?1 AND deactivated IS NOT NULL";
            changed.reactivated = tx.execute(sql, [&user])? > 0;
            tx.execute("UPDATE directory_account SET asked = ?2 WHERE user = ?1", params![user, millis(now)])?;
            for group in asked {
                let before = is_member(tx, &user, &group)?;
                if found.contains(&group) {
                    tx.execute(
                        "INSERT INTO membership (user, group_id, confirmed) VALUES (?1, ?2, ?3)
                         ON CONFLICT DO UPDATE SET confirmed = excluded.confirmed",
                        params![user, group, millis(now)],
                    )?;
                    changed.added.extend((!before).then_some(group));
                } else if before {
                    tx.execute("DELETE FROM membership WHERE user = ?1 AND group_id = ?2", [&user, &group])?;
                    changed.removed.push(group);
                }
            }
            Ok(changed)
        })
        .await
    }

    /// Takes somebody out of a group; whether they were in it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_membership(&self, user: UserId, group: String) -> Result<bool, StoreError> {
        let sql = "DELETE FROM membership WHERE user = ?1 AND group_id = ?2";
        self.transact(move |tx| Ok(tx.execute(sql, [&user.to_string(), &group])? > 0)).await
    }

    /// Ends all logins of somebody, takes them out of all groups, and takes no login until they are active again. Whether
    /// they were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn deactivate(&self, user: UserId, now: UnixTime) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            let user = user.to_string();
            tx.execute("DELETE FROM membership WHERE user = ?1", [&user])?;
            tx.execute("UPDATE login SET ended = ?2 WHERE user = ?1 AND ended IS NULL", params![user, millis(now)])?;
            let sql = "UPDATE directory_account SET deactivated = ?2 WHERE user = ?1 AND deactivated IS NULL";
            Ok(tx.execute(sql, params![user, millis(now)])? > 0)
        })
        .await
    }

    /// Whether the directory last said that somebody's account is deactivated.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_deactivated(&self, issuer: String, id: String) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM directory_account WHERE issuer = ?1 AND id = ?2 AND deactivated IS NOT NULL";
        self.transact(move |tx| Ok(first(tx, sql, &[&issuer, &id], |_| Ok(()))?.is_some())).await
    }

    /// Forgets what was confirmed last before this time, and what no policy names any more; how much of the former.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_memberships(&self, before: UnixTime) -> Result<usize, StoreError> {
        self.transact(move |tx| {
            let dropped = tx.execute("DELETE FROM membership WHERE confirmed <= ?1", [millis(before)])?;
            let unnamed = "DELETE FROM membership WHERE group_id NOT IN (
                               SELECT value ->> 'id' FROM policy, json_each(policy.content, '$.groups')
                               WHERE value ->> 'id' IS NOT NULL)";
            tx.execute(unnamed, [])?;
            Ok(dropped)
        })
        .await
    }

    /// Takes everybody out of a group that is no more; how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_group(&self, group: String) -> Result<usize, StoreError> {
        self.transact(move |tx| Ok(tx.execute("DELETE FROM membership WHERE group_id = ?1", [group])?)).await
    }

    /// Forgets what providers' directories said that are asked no more, and what tokens said where a directory is. Those
    /// of `by_subject` know people by the subject, also who logged in before there was a directory.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn directories_are(&self, issuers: Vec<String>, by_subject: Vec<String>) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let (issuers, by_subject) = (super::to_json(&issuers)?, super::to_json(&by_subject)?);
            let sql = "INSERT OR IGNORE INTO directory_account (user, issuer, id)
                       SELECT id, issuer, subject FROM user
                       WHERE kind = 'User' AND issuer IN (SELECT value FROM json_each(?1))";
            tx.execute(sql, [&by_subject])?;
            let asked = "SELECT value FROM json_each(?1)";
            for sql in [
                format!("DELETE FROM membership WHERE user NOT IN (SELECT id FROM user WHERE issuer IN ({asked}))"),
                format!("UPDATE directory_account SET deactivated = NULL WHERE issuer NOT IN ({asked})"),
                format!("UPDATE login SET groups = '[]' WHERE user IN (SELECT id FROM user WHERE issuer IN ({asked}))"),
            ] {
                tx.execute(&sql, [&issuers])?;
            }
            Ok(())
        })
        .await
    }

    /// How asking a directory goes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn directory_state(&self, issuer: String) -> Result<DirectoryState, StoreError> {
        let read = |row: &Row<'_>| {
            Ok(DirectoryState {
                synced: optional_time(row, "synced")?,
                tried: optional_time(row, "tried")?,
                error: row.get("error")?,
                retry: optional_time(row, "retry")?,
                event: optional_time(row, "last_event")?,
                removed: row.get("removed")?,
            })
        };
        let sql = "SELECT * FROM directory WHERE issuer = ?1";
        self.transact(move |tx| Ok(first(tx, sql, &[&issuer], read)?.unwrap_or_default())).await
    }

    /// A directory answered about everybody.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn directory_synced(&self, issuer: String, now: UnixTime) -> Result<(), StoreError> {
        let sql = "UPDATE directory SET synced = ?2, tried = ?2, error = NULL, retry = NULL WHERE issuer = ?1";
        self.transact(move |tx| {
            known(tx, &issuer)?;
            tx.execute(sql, params![issuer, millis(now)])?;
            Ok(())
        })
        .await
    }

    /// A directory did not answer, and is not asked again before then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn directory_failed(
        &self,
        issuer: String,
        (now, again): (UnixTime, UnixTime),
        error: String,
    ) -> Result<(), StoreError> {
        self.transact(move |tx| {
            known(tx, &issuer)?;
            let sql = "UPDATE directory SET tried = ?2, error = ?3, retry = ?4 WHERE issuer = ?1";
            tx.execute(sql, params![issuer, millis(now), error, millis(again)])?;
            Ok(())
        })
        .await
    }

    /// An event came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn directory_event(&self, issuer: String, now: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| {
            known(tx, &issuer)?;
            tx.execute("UPDATE directory SET last_event = ?2 WHERE issuer = ?1", params![issuer, millis(now)])?;
            Ok(())
        })
        .await
    }

    /// Removes the integration with a directory, with all that it said; or takes it into use again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_directory(&self, issuer: String, removed: bool) -> Result<(), StoreError> {
        self.transact(move |tx| {
            known(tx, &issuer)?;
            let sql = "UPDATE directory SET removed = ?2, synced = NULL, retry = NULL, error = NULL WHERE issuer = ?1";
            tx.execute(sql, params![issuer, removed])?;
            if removed {
                let gone = "DELETE FROM membership WHERE user IN (SELECT id FROM user WHERE issuer = ?1)";
                tx.execute(gone, [&issuer])?;
                tx.execute("UPDATE directory_account SET deactivated = NULL WHERE issuer = ?1", [&issuer])?;
            }
            Ok(())
        })
        .await
    }
}

/// The groups that a directory says somebody is in.
pub(super) fn of(tx: &Transaction<'_>, user: UserId) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT group_id FROM membership WHERE user = ?1 ORDER BY group_id";
    rows(tx, sql, &[&user.to_string()], |row| Ok(row.get(0)?))
}

fn known(tx: &Transaction<'_>, issuer: &str) -> Result<(), StoreError> {
    tx.execute("INSERT OR IGNORE INTO directory (issuer) VALUES (?1)", [issuer])?;
    Ok(())
}

fn is_member(tx: &Transaction<'_>, user: &str, group: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM membership WHERE user = ?1 AND group_id = ?2";
    Ok(first(tx, sql, &[&user, &group], |_| Ok(()))?.is_some())
}

/// The groups of a policy, with their names.
fn named(content: &Value) -> Vec<(String, String)> {
    let groups = content.get("groups").and_then(Value::as_array).into_iter().flatten();
    let text = |group: &Value, field: &str| group.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    groups.map(|group| (text(group, "id"), text(group, "name"))).filter(|(id, _)| !id.is_empty()).collect()
}
