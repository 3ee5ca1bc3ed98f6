//! Everything that outlives the process, behind typed methods: the one place that knows SQL and SQLite.
//!
//! One thread writes; callers send it closures and wait for the answer. Each closure is done or not, as a whole: see
//! `turn.rs`. Another thread reads the logs, so that a long question holds nobody up. Absent: rules about who may, which
//! are policy's.

pub mod api_key;
pub mod connection;
pub mod copy;
pub mod environment;
pub mod event;
pub mod groups;
pub mod login;
pub mod mfa;
pub mod operation;
pub mod organization;
pub mod policy;
pub mod registration_key;
pub mod service_account;
pub mod target;
mod turn;
pub mod user;
pub mod virtual_target;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bz_core::time::UnixTime;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use crate::store::event::Head;
use crate::store::organization::Organization;

/// The database's file in the data folder.
pub const FILE: &str = "bz-server.db";

/// How many calls may wait for the database; later ones wait for a place.
const QUEUE: usize = 256;
const BUSY: Duration = Duration::from_secs(5);
/// Kibibytes of pages that whoever writes keeps, and whoever reads: where the logs grow are as many places as there are
/// people and targets, and a page that is not kept is read again for each row.
const WRITER_KIB: i64 = 64 << 10;
const READER_KIB: i64 = 16 << 10;
/// Pages of the write-ahead log before they are brought to their places: a page that changes often is brought there once.
const WAL_PAGES: i64 = 16_000;

/// Numbered from 1, forward only.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_first.sql"),
    include_str!("../migrations/0002_files.sql"),
    include_str!("../migrations/0003_virtual_targets.sql"),
    include_str!("../migrations/0004_queries.sql"),
    include_str!("../migrations/0005_requests.sql"),
    include_str!("../migrations/0006_mfa.sql"),
    include_str!("../migrations/0007_service_accounts.sql"),
    EVENTS,
    include_str!("../migrations/0009_groups.sql"),
    include_str!("../migrations/0010_policy_versions.sql"),
    include_str!("../migrations/0011_keys.sql"),
    include_str!("../migrations/0012_workload.sql"),
    include_str!("../migrations/0013_operations.sql"),
    include_str!("../migrations/0015_ingest.sql"),
];

/// The step that goes on in [`event::migrate`].
const EVENTS: &str = include_str!("../migrations/0008_events.sql");

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Something of that name or key is there.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// It is used by something else.
    #[error("it is still in use")]
    InUse,
    /// The disk is full.
    #[error("the disk of the database is full: make room; nothing of this call was kept")]
    Full,
    /// Another program holds the database.
    #[error("another program holds the database: only one server may use a data folder")]
    Locked,
    /// A newer server wrote it.
    #[error("the database is of a newer server (version {found}, this one knows {known}): {}", way_back(.copy.as_deref()))]
    Newer {
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
        /// A copy from before the upgrade, if one is left.
        copy: Option<PathBuf>,
    },
    /// A stored value is not what this column holds.
    #[error("the database holds {0} that cannot be read: restore it from a copy")]
    Unreadable(String),
    /// Everything else, for the log.
    #[error("the database failed: {0}")]
    Failed(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// An older server wrote it, and it is only looked at.
    #[error("the database is of an older server: start this one once, which brings it up to date")]
    Older,
    /// A question that would hold up others.
    #[error("too many rows to look through: narrow the question, by time, person, target or connection")]
    TooLong,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::OperationInterrupted) => Self::TooLong,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                let advice = "its file and folder must be the server's user's own, and writable";
                Self::Failed(format!("{error}: {advice}"))
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Unreadable("pages".to_owned()),
            _ => {
                if let rusqlite::Error::FromSqlConversionFailure(_, _, why) = error {
                    Self::Unreadable(why.to_string())
                } else {
                    Self::Failed(error.to_string())
                }
            }
        }
    }
}

type Question = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store. Clones are handles to one database.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Box<dyn turn::Job>>,
    questions: mpsc::Sender<Question>,
    events: watch::Receiver<i64>,
    path: PathBuf,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database in this folder, makes it when there is none, and brings it to the present version.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let path = data.join(FILE);
        let mut connection = open(&path)?;
        migrate(&mut connection, &path)?;
        let reader = open_reader(&path)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (added, events) = watch::channel(0);
        thread("store", move || turn::run(connection, queue, &added))?;
        Ok(Self { jobs, questions: answering(reader)?, events, path })
    }

    /// Opens the database in this folder to be looked at, beside a server or without one: nothing in it is changed.
    ///
    /// # Errors
    /// [`StoreError`]; also when it is of an older version, which only a server's start brings up to date.
    pub fn inspect(data: &Path) -> Result<Self, StoreError> {
        let path = data.join(FILE);
        let reader = open_reader(&path)?;
        let found = version(&reader)?;
        match found.cmp(&MIGRATIONS.len()) {
            std::cmp::Ordering::Less => return Err(StoreError::Older),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => return Err(newer(found, &path)),
        }
        // Nobody takes jobs: who writes is told that the store is closed.
        Ok(Self { jobs: mpsc::channel(1).0, questions: answering(reader)?, events: watch::channel(0).1, path })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.transact(|tx| Ok(tx.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }

    /// How many calls wait for the database, and how many may.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (QUEUE.saturating_sub(self.jobs.capacity()), QUEUE)
    }

    /// Says each time rows of the logs were added by this process: the last one's number.
    #[must_use]
    pub fn added_events(&self) -> watch::Receiver<i64> {
        self.events.clone()
    }

    /// Runs one transaction.
    async fn transact<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answered) = turn::job(run);
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Asks about the logs, beside the one who writes. Sees all that was answered before.
    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |connection| {
            // Nobody waits any more when the receiver is gone.
            drop(answer.send(bounded(connection, ask)));
        });
        self.questions.send(question).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Asks what takes its time, on a connection and thread of its own.
    async fn read_all<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let mut connection = open_reader(&path)?;
            let tx = connection.transaction()?;
            ask(&tx)
        });
        asked.await.map_err(|error| StoreError::Failed(error.to_string()))?
    }
}

/// The version that this server writes.
#[must_use]
pub const fn newest_version() -> usize {
    MIGRATIONS.len()
}

/// A thread that answers questions on this connection.
fn answering(mut reader: Connection) -> Result<mpsc::Sender<Question>, StoreError> {
    let (questions, mut asked) = mpsc::channel::<Question>(QUEUE);
    thread("store-reader", move || {
        while let Some(question) = asked.blocking_recv() {
            question(&mut reader);
        }
    })?;
    Ok(questions)
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|e| StoreError::Failed(e.to_string()))
}

/// A question that ends when it has looked at too much. Counted in SQLite's own steps, of which a row takes tens.
fn bounded<T>(
    connection: &mut Connection,
    ask: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut left = MOST_STEPS / STEPS;
    let count = move || {
        left = left.saturating_sub(1);
        left == 0
    };
    connection.progress_handler(STEPS, Some(count))?;
    let tx = connection.transaction()?;
    ask(&tx)
}

/// How often a question's steps are counted, and how many it may take: some seconds.
const STEPS: i32 = 10_000;
const MOST_STEPS: i32 = 500_000_000;

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "cache_size", -READER_KIB)?;
    Ok(connection)
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An event that was answered must survive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "cache_size", -WRITER_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    Ok(connection)
}

fn version(connection: &Connection) -> Result<usize, StoreError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(found).unwrap_or(usize::MAX))
}

fn newer(found: usize, path: &Path) -> StoreError {
    let known = MIGRATIONS.len();
    StoreError::Newer { found, known, copy: copy::readable(path, known) }
}

/// What somebody can do whose database is too new.
fn way_back(copy: Option<&Path>) -> String {
    match copy {
        None => "start the newer one".to_owned(),
        Some(copy) => {
            let copy = copy.display();
            format!("start the newer one, or go back to {copy} by moving it to {FILE}; what came after it is lost then")
        }
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(connection)?;
    if found > MIGRATIONS.len() {
        return Err(newer(found, path));
    }
    if (1..MIGRATIONS.len()).contains(&found) {
        copy::before_upgrade(connection, path, found)?;
    }
    for (step, version) in MIGRATIONS.iter().zip(1_u32..).skip(found) {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step)?;
        if *step == EVENTS {
            event::migrate::into_one_chain(&tx)?;
        }
        tx.pragma_update(None, "user_version", version)?;
        tx.commit()?;
    }
    Ok(())
}

/// A unique value that was there becomes [`StoreError::Exists`].
fn exists(what: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => StoreError::Exists(what),
        _ => error.into(),
    }
}

/// A column whose text is one of our types.
fn text<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| StoreError::Unreadable(format!("a {column}")))
}

/// The same where it may be null.
fn optional<T: FromStr>(row: &Row<'_>, column: &str) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.get(column)?;
    text.map(|t| t.parse().map_err(|_| StoreError::Unreadable(format!("a {column}")))).transpose()
}

/// A column of JSON.
fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|_| StoreError::Unreadable(format!("a {column}")))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Failed(e.to_string()))
}

fn time(row: &Row<'_>, column: &str) -> Result<UnixTime, StoreError> {
    let millis: i64 = row.get(column)?;
    Ok(UnixTime::from_millis(u64::try_from(millis).unwrap_or_default()))
}

fn optional_time(row: &Row<'_>, column: &str) -> Result<Option<UnixTime>, StoreError> {
    let millis: Option<i64> = row.get(column)?;
    Ok(millis.map(|m| UnixTime::from_millis(u64::try_from(m).unwrap_or_default())))
}

/// A time as its column holds it.
fn millis(time: UnixTime) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// All rows of a query, each read by `read`.
fn rows<T>(
    tx: &Transaction<'_>,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut found = statement.query(params)?;
    let mut out = Vec::new();
    while let Some(row) = found.next()? {
        out.push(read(row)?);
    }
    Ok(out)
}

/// The first row of a query.
fn first<T>(
    tx: &Transaction<'_>,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut found = statement.query(params)?;
    found.next()?.map(read).transpose()
}

#[cfg(test)]
mod tests;
