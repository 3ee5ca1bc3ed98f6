//! All logs: one table, one hash chain, rows added and never changed.
//!
//! One chain for all, and not one for each log: there is one head to write down, a quiet log cannot be cut unseen while
//! others go on, and what happened in which order is proved across logs. The price is one retention for all.
//!
//! [`chain`] adds and proves, [`find`] answers questions, [`anchor`] is what retention leaves.

pub mod anchor;
pub mod chain;
pub mod find;
pub(super) mod migrate;

use std::collections::BTreeSet;

use bz_core::api::record::{
    Actor, AgentStatusEvent, CommandEvent, ConnectionEvent, FileEvent, KubeEvent, Place, QueryEvent, UserEvent,
    WebEvent,
};
use bz_core::digest::Digest;
use bz_core::time::UnixTime;
use rusqlite::Transaction;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::store::event::chain::{Audited, Broken, Head};
pub use crate::store::event::find::{Condition, Cursor, EventFilter, MOST, Page};
use crate::store::{Store, StoreError};

/// The logs. Their numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Log {
    /// Calls of the API.
    Calls = 1,
    /// Connections.
    Connections = 2,
    /// Commands.
    Commands = 3,
    /// Files.
    Files = 4,
    /// Statements of databases.
    Queries = 5,
    /// Requests to web servers.
    Web = 6,
    /// Requests to clusters.
    Kube = 7,
    /// Agents that came, went and started again.
    Agents = 8,
}

impl Log {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Calls,
        Self::Connections,
        Self::Commands,
        Self::Files,
        Self::Queries,
        Self::Web,
        Self::Kube,
        Self::Agents,
    ];

    /// As paths of the API name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calls => "subject",
            Self::Connections => "connection",
            Self::Commands => "command",
            Self::Files => "file",
            Self::Queries => "query",
            Self::Web => "web",
            Self::Kube => "kube",
            Self::Agents => "agent-status-change",
        }
    }

    /// The log of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|log| log.name() == name)
    }

    pub(super) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|log| log.number() == number)
    }

    pub(super) const fn number(self) -> i64 {
        self as i64
    }

    /// The index of its texts, and where in a body the text is; only of the logs that are searched.
    pub(super) const fn text(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Commands => Some(("command_text", "command")),
            Self::Queries => Some(("query_text", "statement")),
            Self::Calls | Self::Connections | Self::Files | Self::Web | Self::Kube | Self::Agents => None,
        }
    }
}

/// One row of a log, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number in the chain.
    pub seq: u64,
    /// Which log.
    pub log: Log,
    /// When.
    pub at: UnixTime,
    /// JSON, byte for byte as it was hashed.
    pub body: String,
    /// Its hash in the chain.
    pub hash: Digest,
}

impl Row {
    /// As an export and every sink has it: a line of JSON, with the body as it was hashed.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { seq, log, at, hash, body } = self;
        let (log, at) = (log.name(), at.as_millis());
        format!("{{\"seq\":{seq},\"log\":\"{log}\",\"at\":{at},\"hash\":\"{hash}\",\"event\":{body}}}\n")
    }
}

/// What a log holds.
pub trait Event: Serialize + DeserializeOwned + Send + 'static {
    /// Which log.
    const LOG: Log;

    /// Whose it is.
    fn actor(&self) -> Option<&Actor> {
        None
    }

    /// Where it was.
    fn place(&self) -> Option<&Place> {
        None
    }
}

impl Event for UserEvent {
    const LOG: Log = Log::Calls;

    fn actor(&self) -> Option<&Actor> {
        Some(&self.actor)
    }
}

impl Event for ConnectionEvent {
    const LOG: Log = Log::Connections;

    fn actor(&self) -> Option<&Actor> {
        Some(&self.actor)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}

impl Event for CommandEvent {
    const LOG: Log = Log::Commands;

    fn actor(&self) -> Option<&Actor> {
        Some(&self.actor)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}

impl Event for FileEvent {
    const LOG: Log = Log::Files;

    fn actor(&self) -> Option<&Actor> {
        Some(&self.actor)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}

impl Event for QueryEvent {
    const LOG: Log = Log::Queries;

    fn actor(&self) -> Option<&Actor> {
        Some(&self.actor)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}

impl Event for WebEvent {
    const LOG: Log = Log::Web;

    fn actor(&self) -> Option<&Actor> {
        Some(&self.actor)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}

impl Event for KubeEvent {
    const LOG: Log = Log::Kube;

    fn actor(&self) -> Option<&Actor> {
        Some(&self.request.actor)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.request.place)
    }
}

impl Event for AgentStatusEvent {
    const LOG: Log = Log::Agents;
}

impl Store {
    /// Adds events of one log, in this order: all of them or none. They survive the process and the machine once this
    /// answers.
    ///
    /// # Errors
    /// [`StoreError`]; then what they are about is not answered.
    pub async fn add_events<E: Event>(&self, events: Vec<(E, UnixTime)>) -> Result<(), StoreError> {
        // Whoever writes does it for all: what can be done before is.
        let bodies = events.iter().map(|(event, at)| Ok((super::to_json(event)?, *at)));
        let bodies = bodies.collect::<Result<Vec<_>, StoreError>>()?;
        let names: BTreeSet<_> = events.iter().flat_map(|(event, _)| find::names(event)).collect();
        self.transact(move |tx| {
            let mut chain = chain::Chain::open(tx)?;
            for (body, at) in &bodies {
                chain.append(E::LOG, *at, body)?;
            }
            find::name(tx, names)?;
            chain.close()
        })
        .await
    }

    /// Adds one call.
    ///
    /// # Errors
    /// [`StoreError`]; then the call is not answered.
    pub async fn add_user_event(&self, event: UserEvent, at: UnixTime) -> Result<(), StoreError> {
        self.add_events(vec![(event, at)]).await
    }

    /// Calls, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user_events(&self, filter: EventFilter) -> Result<Vec<UserEvent>, StoreError> {
        self.typed_events(filter).await
    }

    /// Events of connections, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connection_events(&self, filter: EventFilter) -> Result<Vec<ConnectionEvent>, StoreError> {
        self.typed_events(filter).await
    }

    /// Commands, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn command_events(&self, filter: EventFilter) -> Result<Vec<CommandEvent>, StoreError> {
        self.typed_events(filter).await
    }

    /// Files, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn file_events(&self, filter: EventFilter) -> Result<Vec<FileEvent>, StoreError> {
        self.typed_events(filter).await
    }

    /// A page of a log, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::TooLong`] for a question that no index helps with.
    pub async fn events(&self, log: Log, filter: EventFilter) -> Result<Page, StoreError> {
        self.read(move |tx| find::page(tx, log, &filter)).await
    }

    /// Rows of these logs that were added after this one, oldest first; at most [`MOST`], and where the next begin.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_after(
        &self,
        (logs, filter): (Vec<Log>, EventFilter),
        after: u64,
    ) -> Result<(Vec<Row>, u64), StoreError> {
        self.read(move |tx| find::after(tx, (&logs, &filter), after)).await
    }

    /// The end of the chain.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn event_head(&self) -> Result<Head, StoreError> {
        self.read(chain::head).await
    }

    async fn typed_events<E: Event>(&self, filter: EventFilter) -> Result<Vec<E>, StoreError> {
        let page = self.events(E::LOG, filter).await?;
        let unreadable = |row: &Row| StoreError::Unreadable(format!("row {} of the logs", row.seq));
        page.rows.iter().map(|row| serde_json::from_str(&row.body).map_err(|_| unreadable(row))).collect()
    }
}

/// Adds one event inside a transaction.
pub(super) fn add<E: Event>(tx: &Transaction<'_>, event: &E, at: UnixTime) -> Result<(), StoreError> {
    let mut chain = chain::Chain::open(tx)?;
    chain.append(E::LOG, at, &super::to_json(event)?)?;
    find::name(tx, find::names(event))?;
    chain.close()
}

#[cfg(test)]
mod tests;
