//! Everything that outlives the process, behind typed methods: the one place that knows SQL and SQLite.
//!
//! One thread owns the database; callers send it closures and wait for the answer. Each closure is one transaction:
//! committed when it returns `Ok`, rolled back otherwise. Absent: rules about who may, which are policy's.

pub mod api_key;
pub mod connection;
pub mod environment;
pub mod event;
pub mod login;
pub mod mfa;
pub mod organization;
pub mod policy;
pub mod service_account;
pub mod target;
pub mod user;
pub mod virtual_target;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use bz_core::time::UnixTime;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

/// The database's file in the data folder.
pub const FILE: &str = "bz-server.db";

/// How many calls may wait for the database; later ones wait for a place.
const QUEUE: usize = 256;
const BUSY: Duration = Duration::from_secs(5);

/// Numbered from 1, forward only.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_first.sql"),
    include_str!("../migrations/0002_files.sql"),
    include_str!("../migrations/0003_virtual_targets.sql"),
    include_str!("../migrations/0004_queries.sql"),
    include_str!("../migrations/0005_requests.sql"),
    include_str!("../migrations/0007_mfa.sql"),
    include_str!("../migrations/0008_service_accounts.sql"),
];

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
    #[error("the database is of a newer server (version {found}, this one knows {known}): do not go back")]
    Newer {
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
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
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
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

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store. Clones are handles to one database.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
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
        let mut connection = open(&data.join(FILE))?;
        migrate(&mut connection)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let run = move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut connection);
            }
        };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(run)
            .map_err(|e| StoreError::Failed(e.to_string()))?;
        Ok(Self { jobs })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.transact(|tx| Ok(tx.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }

    /// Runs one transaction.
    async fn transact<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more when the receiver is gone; the transaction has run all the same.
            drop(answer.send(transact(connection, run)));
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

fn transact<T>(
    connection: &mut Connection,
    run: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answer = run(&tx)?;
    tx.commit()?;
    Ok(answer)
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An event that was answered must survive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    if found > MIGRATIONS.len() {
        return Err(StoreError::Newer { found, known: MIGRATIONS.len() });
    }
    for (step, version) in MIGRATIONS.iter().zip(1_u32..).skip(found) {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step)?;
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
