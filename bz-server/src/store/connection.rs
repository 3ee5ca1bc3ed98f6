//! Connections: rows, and the life-cycle machine run inside a transaction with its log.

use bz_core::access::{Access, Mode, Verb};
use bz_core::api::record::{Actor, ConnectionEvent, ConnectionEventType, Place};
use bz_core::grant::Recording;
use bz_core::id::{ConnectionId, EventId, LoginId, OrganizationId, ShellId, TargetId, UserId};
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};

use crate::connection::life::{Input, Life, MAX_ROWS, State, Step, StepError};
use crate::store::{Store, StoreError, event, first, json, millis, optional, optional_time, rows, text, time, to_json};

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The connection.
    pub id: ConnectionId,
    /// Whose.
    pub user: UserId,
    /// The login that holds it; another one after an attach.
    pub login: LoginId,
    /// The target.
    pub target: TargetId,
    /// The target whose agent acts: the same, or the one it is behind.
    pub agent: TargetId,
    /// The technology.
    pub access: Access,
    /// Who can read the content.
    pub mode: Mode,
    /// The verb.
    pub verb: Verb,
    /// The verb that must be allowed beside it.
    pub second_verb: Option<Verb>,
    /// Where it is in its life.
    pub life: Life,
    /// When it was made.
    pub created: UnixTime,
    /// Whose, as logs say it.
    pub actor: Actor,
    /// Where, as logs say it.
    pub place: Place,
    /// What ever was recorded of it.
    pub recording: Recording,
    /// How its recording stands now.
    pub record: Standing,
    /// Whether the log of statements leaves out values.
    pub redacted: bool,
}

/// How the recording of a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What the newest grant says, which both ends signed: never more than this is kept.
    pub granted: Recording,
    /// What is kept from now on.
    pub keeps: Recording,
    /// Whether it shows and takes what recordings are about.
    pub watched: bool,
    /// Whether nothing of it goes on unrecorded.
    pub required: bool,
    /// Whether somebody stopped it.
    pub stopped: bool,
    /// When its content was last deleted.
    pub deleted: Option<UnixTime>,
}

impl Standing {
    /// At the beginning of what a grant allows.
    #[must_use]
    pub const fn granted(recording: Recording, watched: bool, required: bool) -> Self {
        Self { granted: recording, keeps: recording, watched, required, stopped: false, deleted: None }
    }

    /// The same where policy says this now.
    #[must_use]
    pub const fn under(self, policy: Recording, required: bool) -> Self {
        let may = !self.stopped;
        let keeps = Recording {
            output: may && self.granted.output && policy.output,
            input: may && self.granted.input && policy.input,
        };
        Self { keeps, required: self.watched && required, ..self }
    }

    /// Whether it may go on as it stands.
    #[must_use]
    pub const fn suffices(&self) -> bool {
        !self.required || self.keeps.output
    }
}

/// What one step of a life writes into the log.
#[derive(Debug, Clone)]
pub struct Log {
    /// One id for each row a step can write.
    pub ids: [EventId; MAX_ROWS],
    /// Who or what made it happen, in a sentence.
    pub reason: String,
    /// The organization.
    pub organization: OrganizationId,
    /// The server's node.
    pub node: String,
    /// When.
    pub at: UnixTime,
}

/// Which connections.
#[derive(Debug, Clone, Default)]
pub struct ConnectionFilter {
    /// Of this person.
    pub user: Option<UserId>,
    /// On this target, or through it.
    pub target: Option<TargetId>,
    /// Also those that ended: the newest 1000 of all.
    pub closed: bool,
    /// Of those, too, all.
    pub whole: bool,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stepped {
    /// Done: the connection after it, and what was logged.
    Done(Box<Connection>, Vec<ConnectionEventType>),
    /// There is no such connection.
    Unknown,
    /// The machine refuses it.
    Refused(StepError),
}

impl Store {
    /// Keeps a new connection and logs `Created`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_connection(&self, new: Connection, log: Log) -> Result<(), StoreError> {
        self.transact(move |tx| {
            insert(tx, &new)?;
            write_log(tx, &new, &[ConnectionEventType::Created], &log)
        })
        .await
    }

    /// One.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connection(&self, id: ConnectionId) -> Result<Option<Connection>, StoreError> {
        self.transact(move |tx| by_id(tx, id)).await
    }

    /// Connections, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connections(&self, filter: ConnectionFilter) -> Result<Vec<Connection>, StoreError> {
        self.transact(move |tx| {
            let sql = "SELECT * FROM connection
                 WHERE (?1 IS NULL OR user = ?1) AND (?2 IS NULL OR ?2 IN (target, agent)) AND (?3 OR state NOT IN ('closed', 'lost'))
                 ORDER BY created DESC, id LIMIT CASE WHEN ?3 AND NOT ?4 THEN 1000 ELSE -1 END";
            let user = filter.user.map(|u| u.to_string());
            let target = filter.target.map(|t| t.to_string());
            rows(tx, sql, &[&user, &target, &filter.closed, &filter.whole], read)
        })
        .await
    }

    /// Connections made before this whose client never came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unopened(&self, before: UnixTime) -> Result<Vec<ConnectionId>, StoreError> {
        self.transact(move |tx| {
            let sql = "SELECT id FROM connection WHERE state = 'opening' AND created <= ?1 ORDER BY created LIMIT 1000";
            rows(tx, sql, &[&millis(before)], |row| text(row, "id"))
        })
        .await
    }

    /// Connections whose client left before this and did not come back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn detached_since(&self, before: UnixTime) -> Result<Vec<ConnectionId>, StoreError> {
        self.transact(move |tx| {
            let sql =
                "SELECT id FROM connection WHERE state = 'detached' AND changed <= ?1 ORDER BY changed LIMIT 1000";
            rows(tx, sql, &[&millis(before)], |row| text(row, "id"))
        })
        .await
    }

    /// Connections of kinds that do not live on without their client, whose client left before this and did not come back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forsaken_since(&self, before: UnixTime) -> Result<Vec<ConnectionId>, StoreError> {
        let kinds: Vec<_> = Access::ALL.iter().map(|access| access.spec()).filter(|spec| !spec.detaches).collect();
        let kinds = serde_json::json!(kinds.iter().map(|spec| spec.name).collect::<Vec<_>>()).to_string();
        self.transact(move |tx| {
            let sql = "SELECT id FROM connection WHERE state = 'detached' AND changed <= ?1
                 AND kind IN (SELECT value FROM json_each(?2)) ORDER BY changed LIMIT 1000";
            rows(tx, sql, &[&millis(before), &kinds], |row| text(row, "id"))
        })
        .await
    }

    /// Takes a connection one step on, and logs what happened.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn step_connection(&self, id: ConnectionId, input: Input, log: Log) -> Result<Stepped, StoreError> {
        self.transact(move |tx| {
            let Some(mut connection) = by_id(tx, id)? else { return Ok(Stepped::Unknown) };
            let Step { life, rows } = match connection.life.step(input) {
                Ok(step) => step,
                Err(refused) => return Ok(Stepped::Refused(refused)),
            };
            // When its state changed is what its idle time is counted from; an agent's word repeated changes nothing.
            let sql =
                "UPDATE connection SET changed = CASE state WHEN ?2 THEN changed ELSE ?4 END, state = ?2, shell = ?3
                 WHERE id = ?1";
            connection.life = life;
            let shell = life.shell.map(|s| s.to_string());
            tx.execute(sql, params![id.to_string(), life.state.as_str(), shell, millis(log.at)])?;
            write_log(tx, &connection, &rows, &log)?;
            Ok(Stepped::Done(Box::new(connection), rows))
        })
        .await
    }

    /// Logs what happened in a connection without a step of its life.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log_connection(
        &self,
        connection: Connection,
        kind: ConnectionEventType,
        log: Log,
    ) -> Result<(), StoreError> {
        self.transact(move |tx| write_log(tx, &connection, &[kind], &log)).await
    }

    /// Gives a connection to another login of the same person: an attach. From now on it is recorded as policy says now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_connection(&self, id: ConnectionId, login: LoginId, record: Standing) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let sql = "UPDATE connection SET login = ?2, recorded_output = recorded_output OR ?3,
                     recorded_input = recorded_input OR ?4, granted_output = ?3, granted_input = ?4 WHERE id = ?1";
            tx.execute(sql, params![id.to_string(), login.to_string(), record.granted.output, record.granted.input])?;
            keep(tx, id, record)
        })
        .await
    }

    /// Keeps this and no more of a connection from now on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_of_connection(&self, id: ConnectionId, record: Standing) -> Result<(), StoreError> {
        self.transact(move |tx| keep(tx, id, record)).await
    }

    /// The content of a recording is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recording_deleted(&self, id: ConnectionId, at: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let sql = "UPDATE connection SET record_deleted = ?2 WHERE id = ?1";
            tx.execute(sql, params![id.to_string(), millis(at)])?;
            Ok(())
        })
        .await
    }

    /// Connections that ended before this and whose recordings were not deleted since, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recorded_before(&self, before: UnixTime, most: usize) -> Result<Vec<ConnectionId>, StoreError> {
        self.transact(move |tx| {
            let sql = "SELECT id FROM connection WHERE (recorded_output OR recorded_input)
                 AND state IN ('closed', 'lost') AND changed < ?1 AND (record_deleted IS NULL OR record_deleted < changed)
                 ORDER BY changed, id LIMIT ?2";
            rows(tx, sql, &[&millis(before), &i64::try_from(most).unwrap_or(i64::MAX)], |row| text(row, "id"))
        })
        .await
    }
}

fn keep(tx: &Transaction<'_>, id: ConnectionId, record: Standing) -> Result<(), StoreError> {
    let sql = "UPDATE connection SET keeps_output = ?2, keeps_input = ?3, record_required = ?4, record_stopped = ?5
         WHERE id = ?1";
    let Standing { keeps, required, stopped, .. } = record;
    tx.execute(sql, params![id.to_string(), keeps.output, keeps.input, required, stopped])?;
    Ok(())
}

fn write_log(
    tx: &Transaction<'_>,
    connection: &Connection,
    rows: &[ConnectionEventType],
    log: &Log,
) -> Result<(), StoreError> {
    for (kind, id) in rows.iter().zip(log.ids) {
        let event = ConnectionEvent {
            id,
            connection_id: connection.id,
            organization_id: log.organization,
            actor: connection.actor.clone(),
            place: connection.place.clone(),
            session_name: String::new(),
            connection_event_type: *kind,
            reason: log.reason.clone(),
            timestamp: log.at.to_string(),
            connection_node_id: log.node.clone(),
        };
        event::add(tx, &event, log.at)?;
    }
    Ok(())
}

fn insert(tx: &Transaction<'_>, new: &Connection) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO connection (id, user, login, target, kind, mode, verb, state, shell, created, changed,
                                 actor, place, recorded_output, recorded_input, agent, redacted,
                                 granted_output, granted_input, keeps_output, keeps_input, watched, record_required)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?13, ?14, ?13, ?14, ?17, ?18)",
        params![
            new.id.to_string(),
            new.user.to_string(),
            new.login.to_string(),
            new.target.to_string(),
            new.access.spec().name,
            new.mode.to_string(),
            verbs(new),
            new.life.state.as_str(),
            new.life.shell.map(|s| s.to_string()),
            millis(new.created),
            to_json(&new.actor)?,
            to_json(&new.place)?,
            new.recording.output,
            new.recording.input,
            new.agent.to_string(),
            new.redacted,
            new.record.watched,
            new.record.required
        ],
    )?;
    Ok(())
}

/// One word each; no verb has a space.
fn verbs(connection: &Connection) -> String {
    let second = connection.second_verb.as_ref().map(|verb| format!(" {verb}")).unwrap_or_default();
    format!("{}{second}", connection.verb)
}

fn by_id(tx: &Transaction<'_>, id: ConnectionId) -> Result<Option<Connection>, StoreError> {
    first(tx, "SELECT * FROM connection WHERE id = ?1", &[&id.to_string()], read)
}

fn read(row: &Row<'_>) -> Result<Connection, StoreError> {
    let unreadable = |what: &str| StoreError::Unreadable(what.to_owned());
    let (kind, mode): (String, String) = (row.get("kind")?, row.get("mode")?);
    let access = Access::ALL.into_iter().find(|a| a.spec().name == kind).ok_or_else(|| unreadable("a kind"))?;
    let mode = [Mode::Inspected, Mode::Sealed].into_iter().find(|m| m.to_string() == mode);
    let shell: Option<ShellId> = optional(row, "shell")?;
    let state: State = text(row, "state")?;
    let verbs: String = row.get("verb")?;
    let verb = |word: &str| word.parse().map_err(|_| unreadable("a verb"));
    let (first, second) = verbs.split_once(' ').map_or((verbs.as_str(), None), |(first, second)| (first, Some(second)));
    Ok(Connection {
        id: text(row, "id")?,
        user: text(row, "user")?,
        login: text(row, "login")?,
        target: text(row, "target")?,
        agent: text(row, "agent")?,
        access,
        mode: mode.ok_or_else(|| unreadable("a mode"))?,
        verb: verb(first)?,
        second_verb: second.map(verb).transpose()?,
        life: Life { state, shell },
        created: time(row, "created")?,
        actor: json(row, "actor")?,
        place: json(row, "place")?,
        recording: recording(row, "recorded")?,
        record: Standing {
            granted: recording(row, "granted")?,
            keeps: recording(row, "keeps")?,
            watched: row.get("watched")?,
            required: row.get("record_required")?,
            stopped: row.get("record_stopped")?,
            deleted: optional_time(row, "record_deleted")?,
        },
        redacted: row.get("redacted")?,
    })
}

fn recording(row: &Row<'_>, what: &str) -> Result<Recording, StoreError> {
    let read = |which: &str| row.get(format!("{what}_{which}").as_str());
    Ok(Recording { output: read("output")?, input: read("input")? })
}
