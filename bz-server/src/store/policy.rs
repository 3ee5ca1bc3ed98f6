//! Policies, as they were authored.

mod version;

use std::fmt;
use std::str::FromStr;

use bz_core::api::policy::version::PolicyChange;
use bz_core::id::{PolicyId, UserId};
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};
use serde_json::Value;

use crate::store::{Store, StoreError, exists, first, json, millis, optional_time, rows, text, to_json};

use self::version::keep;
pub use self::version::{Author, History, Version};

/// The kinds of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    /// Who may do what where as whom.
    TargetConnect,
    /// Whose sessions are recorded.
    SessionRecording,
    /// Who may reach which databases and web servers with which accounts.
    Proxy,
    /// Who may reach which clusters as whom.
    Kubernetes,
    /// What the organization asks of everybody. At most one.
    OrganizationControls,
}

impl PolicyKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::TargetConnect, Self::SessionRecording, Self::Proxy, Self::Kubernetes, Self::OrganizationControls];
}

/// The text names no kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownKind;

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TargetConnect => "TargetConnect",
            Self::SessionRecording => "SessionRecording",
            Self::Proxy => "Proxy",
            Self::Kubernetes => "Kubernetes",
            Self::OrganizationControls => "OrganizationControls",
        })
    }
}

impl FromStr for PolicyKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == text).ok_or(UnknownKind)
    }
}

/// A policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The policy.
    pub id: PolicyId,
    /// Its kind.
    pub kind: PolicyKind,
    /// Its name, unique over all kinds.
    pub name: String,
    /// What it says, as the API takes and gives it.
    pub content: Value,
    /// When it ends by itself.
    pub expires: Option<UnixTime>,
    /// The count of changes at its last one.
    pub version: u64,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Done; its version from now on.
    Done(u64),
    /// There is none of that kind.
    Unknown,
    /// It is of another version than was named.
    Other,
}

/// All policies at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    /// Them.
    pub all: Vec<Policy>,
    /// Counts every change.
    pub version: u64,
}

impl Store {
    /// All of them, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn policies(&self) -> Result<Policies, StoreError> {
        self.transact(|tx| {
            let version = super::organization::organization(tx)?.map_or(0, |o| o.policy_version);
            Ok(Policies { all: rows(tx, "SELECT * FROM policy ORDER BY name", &[], read)?, version })
        })
        .await
    }

    /// All of them, unless this is their version.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn policies_unless(&self, known: u64) -> Result<Option<Policies>, StoreError> {
        self.transact(move |tx| {
            let version = super::organization::organization(tx)?.map_or(0, |o| o.policy_version);
            if version == known {
                return Ok(None);
            }
            Ok(Some(Policies { all: rows(tx, "SELECT * FROM policy ORDER BY name", &[], read)?, version }))
        })
        .await
    }

    /// One of this kind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn policy(&self, kind: PolicyKind, id: PolicyId) -> Result<Option<Policy>, StoreError> {
        self.transact(move |tx| {
            let sql = "SELECT * FROM policy WHERE id = ?1 AND kind = ?2";
            first(tx, sql, &[&id.to_string(), &kind.to_string()], read)
        })
        .await
    }

    /// Adds one, and says its version.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken.
    pub async fn add_policy(&self, policy: Policy, author: Author) -> Result<u64, StoreError> {
        self.transact(move |tx| insert(tx, &policy, &author)).await
    }

    /// Adds one of a kind of which there is at most one.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is one, or the name is taken.
    pub async fn add_only_policy(&self, policy: Policy, author: Author) -> Result<u64, StoreError> {
        self.transact(move |tx| {
            if of_kind(tx, policy.kind)?.is_empty() {
                insert(tx, &policy, &author)
            } else {
                Err(StoreError::Exists("a policy of this kind, of which there is at most one,"))
            }
        })
        .await
    }

    /// Changes the one of this id and kind, if it still has the version that `policy` was read with.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken.
    pub async fn change_policy(&self, policy: Policy, author: Author) -> Result<Change, StoreError> {
        self.transact(move |tx| {
            if let Some(problem) = differs(tx, policy.kind, policy.id, Some(policy.version))? {
                return Ok(problem);
            }
            let version = changed(tx)?;
            tx.execute(
                "UPDATE policy SET name = ?2, content = ?3, expires = ?4, version = ?5 WHERE id = ?1",
                params![
                    policy.id.to_string(),
                    policy.name,
                    to_json(&policy.content)?,
                    policy.expires.map(millis),
                    i64::try_from(version).unwrap_or(i64::MAX)
                ],
            )
            .map_err(exists("a policy of that name"))?;
            keep(tx, &policy, PolicyChange::Edited, &author)?;
            Ok(Change::Done(version))
        })
        .await
    }

    /// Deletes one; if a version is named, only that one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_policy(
        &self,
        kind: PolicyKind,
        id: PolicyId,
        version: Option<u64>,
        author: Author,
    ) -> Result<Change, StoreError> {
        self.transact(move |tx| {
            if let Some(problem) = differs(tx, kind, id, version)? {
                return Ok(problem);
            }
            if let Some(policy) = first(tx, "SELECT * FROM policy WHERE id = ?1", &[&id.to_string()], read)? {
                keep(tx, &policy, PolicyChange::Deleted, &author)?;
            }
            tx.execute("DELETE FROM policy WHERE id = ?1", [id.to_string()])?;
            Ok(Change::Done(changed(tx)?))
        })
        .await
    }

    /// Deletes policies that have ended, and says how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_expired_policies(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.transact(move |tx| {
            let ended = rows(tx, "SELECT * FROM policy WHERE expires <= ?1", &[&millis(now)], read)?;
            for policy in &ended {
                keep(tx, policy, PolicyChange::Expired, &Author { actor: None, at: now })?;
                tx.execute("DELETE FROM policy WHERE id = ?1", [policy.id.to_string()])?;
            }
            if !ended.is_empty() {
                changed(tx)?;
            }
            Ok(ended.len())
        })
        .await
    }
}

fn insert(tx: &Transaction<'_>, policy: &Policy, author: &Author) -> Result<u64, StoreError> {
    let version = changed(tx)?;
    tx.execute(
        "INSERT INTO policy (id, kind, name, content, expires, version, created)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            policy.id.to_string(),
            policy.kind.to_string(),
            policy.name,
            to_json(&policy.content)?,
            policy.expires.map(millis),
            i64::try_from(version).unwrap_or(i64::MAX),
            millis(author.at)
        ],
    )
    .map_err(exists("a policy of that name"))?;
    keep(tx, policy, PolicyChange::Created, author)?;
    Ok(version)
}

/// All of one kind, by name.
pub(super) fn of_kind(tx: &Transaction<'_>, kind: PolicyKind) -> Result<Vec<Policy>, StoreError> {
    rows(tx, "SELECT * FROM policy WHERE kind = ?1 ORDER BY name", &[&kind.to_string()], read)
}

/// Takes a person out of every policy.
pub(super) fn remove_subject(tx: &Transaction<'_>, id: UserId, author: &Author) -> Result<(), StoreError> {
    let id = id.to_string();
    let version = changed(tx)?;
    for mut policy in rows(tx, "SELECT * FROM policy", &[], read)? {
        let subjects = policy.content.get_mut("subjects").and_then(Value::as_array_mut);
        let Some(subjects) = subjects.filter(|list| list.iter().any(|one| is_subject(one, &id))) else { continue };
        subjects.retain(|one| !is_subject(one, &id));
        tx.execute(
            "UPDATE policy SET content = ?2, version = ?3 WHERE id = ?1",
            params![policy.id.to_string(), to_json(&policy.content)?, i64::try_from(version).unwrap_or(i64::MAX)],
        )?;
        keep(tx, &policy, PolicyChange::SubjectDeleted, author)?;
    }
    Ok(())
}

/// Why the policy of this id is none to be changed.
fn differs(
    tx: &Transaction<'_>,
    kind: PolicyKind,
    id: PolicyId,
    version: Option<u64>,
) -> Result<Option<Change>, StoreError> {
    let sql = "SELECT * FROM policy WHERE id = ?1 AND kind = ?2";
    let found = first(tx, sql, &[&id.to_string(), &kind.to_string()], read)?;
    Ok(match (found, version) {
        (None, _) => Some(Change::Unknown),
        (Some(found), Some(version)) if found.version != version => Some(Change::Other),
        (Some(_), _) => None,
    })
}

fn is_subject(one: &Value, id: &str) -> bool {
    one.get("id").and_then(Value::as_str) == Some(id)
}

fn changed(tx: &Transaction<'_>) -> Result<u64, StoreError> {
    tx.execute("UPDATE organization SET policy_version = policy_version + 1", [])?;
    Ok(super::organization::organization(tx)?.map_or(0, |o| o.policy_version))
}

fn read(row: &Row<'_>) -> Result<Policy, StoreError> {
    Ok(Policy {
        id: text(row, "id")?,
        kind: text(row, "kind")?,
        name: row.get("name")?,
        content: json(row, "content")?,
        expires: optional_time(row, "expires")?,
        version: u64::try_from(row.get::<_, i64>("version")?).unwrap_or_default(),
    })
}
