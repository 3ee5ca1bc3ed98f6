//! What policies said before: a row for each change, which nothing takes away.

use bz_core::api::policy::version::PolicyChange;
use bz_core::api::record::Actor;
use bz_core::id::PolicyId;
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};
use serde_json::Value;

use crate::store::policy::{Policy, PolicyKind};
use crate::store::{Store, StoreError, first, json, millis, rows, text, time, to_json};

/// Who changes something, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Who; nobody when the server does it by itself.
    pub actor: Option<Actor>,
    /// When.
    pub at: UnixTime,
}

/// A policy after one of its changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// The policy.
    pub policy: PolicyId,
    /// Which version, from 1.
    pub number: u32,
    /// Its kind.
    pub kind: PolicyKind,
    /// Its name then.
    pub name: String,
    /// What it said; of one that is gone what it said last.
    pub content: Value,
    /// What was done to it.
    pub change: PolicyChange,
    /// Who did it, and when.
    pub author: Author,
}

/// Whose versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// Of this policy.
    Of(PolicyId),
    /// Of all that ever had this name.
    Called(String),
}

impl Store {
    /// The versions of a policy or of a name, newest first: at most `limit`, after so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn policy_versions(&self, of: History, (limit, after): (u32, u32)) -> Result<Vec<Version>, StoreError> {
        self.transact(move |tx| {
            let (by, of) = match of {
                History::Of(policy) => ("policy = ?1", policy.to_string()),
                // What happened to those later stands among the rest, whatever they were called then.
                History::Called(name) => ("policy IN (SELECT policy FROM policy_version WHERE name = ?1)", name),
            };
            let sql = format!(
                "SELECT * FROM policy_version WHERE {by} ORDER BY at DESC, policy, number DESC LIMIT ?2 OFFSET ?3"
            );
            rows(tx, &sql, &[&of, &limit, &after], read)
        })
        .await
    }

    /// One version of a policy; the newest when none is named.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn policy_version(&self, policy: PolicyId, number: Option<u32>) -> Result<Option<Version>, StoreError> {
        self.transact(move |tx| {
            let sql = "SELECT * FROM policy_version WHERE policy = ?1 AND (?2 IS NULL OR number = ?2)
                       ORDER BY number DESC LIMIT 1";
            first(tx, sql, &[&policy.to_string(), &number], read)
        })
        .await
    }
}

/// Writes down what became of a policy, inside the transaction that does it.
pub(super) fn keep(
    tx: &Transaction<'_>,
    policy: &Policy,
    change: PolicyChange,
    author: &Author,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO policy_version (policy, number, kind, name, content, change, at, actor)
         SELECT ?1, COALESCE(MAX(number), 0) + 1, ?2, ?3, ?4, ?5, ?6, ?7 FROM policy_version WHERE policy = ?1",
        params![
            policy.id.to_string(),
            policy.kind.to_string(),
            policy.name,
            to_json(&policy.content)?,
            change.to_string(),
            millis(author.at),
            author.actor.as_ref().map(to_json).transpose()?
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Version, StoreError> {
    let actor: Option<String> = row.get("actor")?;
    let actor = actor.map(|text| serde_json::from_str(&text)).transpose();
    Ok(Version {
        policy: text(row, "policy")?,
        number: row.get("number")?,
        kind: text(row, "kind")?,
        name: row.get("name")?,
        content: json(row, "content")?,
        change: text(row, "change")?,
        author: Author {
            actor: actor.map_err(|_| StoreError::Unreadable("an actor".to_owned()))?,
            at: time(row, "at")?,
        },
    })
}
