//! Logs: calls of the API (hash-chained), connections, commands, files, queries, requests. Rows are added and never changed.

use bz_core::api::record::{CommandEvent, ConnectionEvent, FileEvent, KubeEvent, QueryEvent, UserEvent, WebEvent};
use bz_core::digest::Digest;
use bz_core::id::{ConnectionId, TargetId, UserId};
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};
use sha2::{Digest as _, Sha256};

use crate::store::{Store, StoreError, first, json, millis, rows, text, to_json};

/// The most rows one question answers.
pub const MOST: u32 = 1000;

/// Which rows of a log; an empty list asks for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of these people or keys.
    pub subjects: Vec<UserId>,
    /// Of these connections; nothing in the log of calls.
    pub connections: Vec<ConnectionId>,
    /// On these targets; nothing in the log of calls.
    pub targets: Vec<TargetId>,
    /// Not before.
    pub from: Option<UnixTime>,
    /// Not after.
    pub to: Option<UnixTime>,
    /// At most so many, newest first.
    pub limit: u32,
}

/// A row of the log of calls that does not follow from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log of calls was changed at row {row}")]
pub struct BrokenChain {
    /// Its number.
    pub row: i64,
}

impl Store {
    /// Adds one call.
    ///
    /// # Errors
    /// [`StoreError`]; then the call is not answered.
    pub async fn add_user_event(&self, event: UserEvent, at: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let body = to_json(&event)?;
            let before = last_hash(tx)?;
            tx.execute(
                "INSERT INTO user_event (at, subject, action, allowed, body, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    millis(at),
                    event.actor.subject_id.map(|s| s.to_string()),
                    event.service_action,
                    event.evaluation,
                    body,
                    link(&before, &body).to_string()
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Calls, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user_events(&self, filter: EventFilter) -> Result<Vec<UserEvent>, StoreError> {
        self.transact(move |tx| {
            let sql = "SELECT body FROM user_event
                 WHERE (?1 IS NULL OR subject IN (SELECT value FROM json_each(?1)))
                   AND at >= ?2 AND at <= ?3 ORDER BY seq DESC LIMIT ?4";
            let (from, to, limit) = filter.bounds();
            rows(tx, sql, &[&list(&filter.subjects)?, &from, &to, &limit], |row| json(row, "body"))
        })
        .await
    }

    /// Walks the chain of the log of calls: how many rows there are, or the first that was changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn check_user_events(&self) -> Result<Result<u64, BrokenChain>, StoreError> {
        self.transact(|tx| {
            let mut statement = tx.prepare("SELECT seq, body, hash FROM user_event ORDER BY seq")?;
            let mut found = statement.query([])?;
            let (mut before, mut count) = (Digest::from_bytes([0; 32]), 0);
            while let Some(row) = found.next()? {
                let body: String = row.get("body")?;
                let hash: Digest = text(row, "hash")?;
                if link(&before, &body) != hash {
                    return Ok(Err(BrokenChain { row: row.get("seq")? }));
                }
                (before, count) = (hash, count + 1);
            }
            Ok(Ok(count))
        })
        .await
    }

    /// Events of connections, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connection_events(&self, filter: EventFilter) -> Result<Vec<ConnectionEvent>, StoreError> {
        self.transact(move |tx| by_filter(tx, "connection_event", &filter, |row| json(row, "body"))).await
    }

    /// Commands, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn command_events(&self, filter: EventFilter) -> Result<Vec<CommandEvent>, StoreError> {
        self.transact(move |tx| by_filter(tx, "command_event", &filter, |row| json(row, "body"))).await
    }

    /// Adds one command.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_command_event(&self, event: CommandEvent, at: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO command_event (at, subject, connection, target, body) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    millis(at),
                    event.actor.subject_id.map(|s| s.to_string()),
                    event.connection_id.to_string(),
                    event.place.target_id.to_string(),
                    to_json(&event)?
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Files, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn file_events(&self, filter: EventFilter) -> Result<Vec<FileEvent>, StoreError> {
        self.transact(move |tx| by_filter(tx, "file_event", &filter, |row| json(row, "body"))).await
    }

    /// Adds files, in this order: all of them or none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_file_events(&self, events: Vec<FileEvent>, at: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let sql = "INSERT INTO file_event (at, subject, connection, target, body) VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut statement = tx.prepare_cached(sql)?;
            for event in &events {
                statement.execute(params![
                    millis(at),
                    event.actor.subject_id.map(|s| s.to_string()),
                    event.connection_id.to_string(),
                    event.place.target_id.to_string(),
                    to_json(event)?
                ])?;
            }
            Ok(())
        })
        .await
    }

    /// Statements of databases, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn query_events(&self, filter: EventFilter) -> Result<Vec<QueryEvent>, StoreError> {
        self.transact(move |tx| by_filter(tx, "query_event", &filter, |row| json(row, "body"))).await
    }

    /// Adds statements, each with its own time, in this order: all of them or none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_query_events(&self, events: Vec<(QueryEvent, UnixTime)>) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let sql = "INSERT INTO query_event (at, subject, connection, target, body) VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut statement = tx.prepare_cached(sql)?;
            for (event, at) in &events {
                statement.execute(params![
                    millis(*at),
                    event.actor.subject_id.map(|s| s.to_string()),
                    event.connection_id.to_string(),
                    event.place.target_id.to_string(),
                    to_json(event)?
                ])?;
            }
            Ok(())
        })
        .await
    }

    /// Requests to web servers, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn web_events(&self, filter: EventFilter) -> Result<Vec<WebEvent>, StoreError> {
        self.transact(move |tx| by_filter(tx, "web_event", &filter, |row| json(row, "body"))).await
    }

    /// Adds requests to web servers, in this order: all of them or none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_web_events(&self, events: Vec<WebEvent>, at: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| events.iter().try_for_each(|event| add_request(tx, "web_event", (event, event), at)))
            .await
    }

    /// Requests to clusters, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn kube_events(&self, filter: EventFilter) -> Result<Vec<KubeEvent>, StoreError> {
        self.transact(move |tx| by_filter(tx, "kube_event", &filter, |row| json(row, "body"))).await
    }

    /// Adds requests to clusters, in this order: all of them or none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_kube_events(&self, events: Vec<KubeEvent>, at: UnixTime) -> Result<(), StoreError> {
        let add =
            move |tx: &Transaction<'_>, event: &KubeEvent| add_request(tx, "kube_event", (&event.request, event), at);
        self.transact(move |tx| events.iter().try_for_each(|event| add(tx, event))).await
    }
}

impl EventFilter {
    fn bounds(&self) -> (i64, i64, u32) {
        (self.from.map_or(0, millis), self.to.map_or(i64::MAX, millis), self.limit.clamp(1, MOST))
    }
}

fn add_request<T: serde::Serialize>(
    tx: &Transaction<'_>,
    table: &'static str,
    (request, row): (&WebEvent, &T),
    at: UnixTime,
) -> Result<(), StoreError> {
    let sql = format!("INSERT INTO {table} (at, subject, connection, target, body) VALUES (?1, ?2, ?3, ?4, ?5)");
    tx.prepare_cached(&sql)?.execute(params![
        millis(at),
        request.actor.subject_id.map(|s| s.to_string()),
        request.connection_id.to_string(),
        request.place.target_id.to_string(),
        to_json(row)?
    ])?;
    Ok(())
}

pub(super) fn add_connection_event(
    tx: &Transaction<'_>,
    event: &ConnectionEvent,
    at: UnixTime,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO connection_event (at, subject, connection, target, kind, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            millis(at),
            event.actor.subject_id.map(|s| s.to_string()),
            event.connection_id.to_string(),
            event.place.target_id.to_string(),
            format!("{:?}", event.connection_event_type),
            to_json(event)?
        ],
    )?;
    Ok(())
}

fn by_filter<T>(
    tx: &Transaction<'_>,
    table: &'static str,
    filter: &EventFilter,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let sql = format!(
        "SELECT body FROM {table}
         WHERE (?1 IS NULL OR subject IN (SELECT value FROM json_each(?1)))
           AND (?2 IS NULL OR connection IN (SELECT value FROM json_each(?2)))
           AND (?3 IS NULL OR target IN (SELECT value FROM json_each(?3)))
           AND at >= ?4 AND at <= ?5 ORDER BY seq DESC LIMIT ?6"
    );
    let (from, to, limit) = filter.bounds();
    let (subjects, connections, targets) =
        (list(&filter.subjects)?, list(&filter.connections)?, list(&filter.targets)?);
    rows(tx, &sql, &[&subjects, &connections, &targets, &from, &to, &limit], read)
}

fn list<T: serde::Serialize>(items: &[T]) -> Result<Option<String>, StoreError> {
    if items.is_empty() { Ok(None) } else { to_json(&items).map(Some) }
}

fn last_hash(tx: &Transaction<'_>) -> Result<Digest, StoreError> {
    let last = first(tx, "SELECT hash FROM user_event ORDER BY seq DESC LIMIT 1", &[], |row| text(row, "hash"))?;
    Ok(last.unwrap_or(Digest::from_bytes([0; 32])))
}

fn link(before: &Digest, body: &str) -> Digest {
    let mut hash = Sha256::new();
    hash.update(before.as_bytes());
    hash.update(body.as_bytes());
    Digest::from_bytes(hash.finalize().into())
}
