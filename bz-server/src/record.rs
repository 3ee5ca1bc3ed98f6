//! The record of sessions: what passes the relay, kept as transcripts in `transcripts/<connection>/<n>.bzt` of the data
//! folder, folders 0700, files 0600.
//!
//! ```text
//! relay: packet ──Carrier::see──▶ Observer ──bounded queue──▶ Pen: one file per session
//! API:   files ──▶ asciicast, transcript, list;   delete ──▶ Pen or file, content withheld
//! ```
//!
//! Tokens are not in these files: `tokens.rs` keeps them apart, encrypted.
//! Content of streams is kept only where the connection's recording policy says so; everything else is kept always.
//! Absent: session keys, and times of single frames, which nobody signs.

mod carrier;
mod cast;
pub(crate) mod live;
mod pen;
mod search;
mod tokens;
mod view;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bz_core::id::ConnectionId;
use bz_protocol::transcript::{MAX_RECORD, withhold};
use tokio::sync::{oneshot, watch as watch_channel};
use tokio_util::task::TaskTracker;

pub use crate::record::carrier::{Carrier, Ends, Unrecorded};
pub use crate::record::cast::Cast;
pub use crate::record::search::search;
pub(crate) use crate::record::tokens::{TokenKey, Tokens};
pub use crate::record::view::asciicast;

use crate::record::carrier::Session;
use crate::record::pen::Note;

/// The folder of transcripts in the data folder.
pub const FOLDER: &str = "transcripts";
const EXTENSION: &str = "bzt";
/// Bytes before the first record. A file with fewer was just made, and there is nothing in it yet.
const HEAD: u64 = 10;

/// Anchors, opening, directory and predecessor are shorter.
const MOST_HEAD: u64 = 4 * MAX_RECORD as u64;

/// Why a record cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// A task ended before its time.
    #[error("the record's task ended: {0}")]
    Task(String),
}

/// A transcript's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number within the connection, from 1.
    pub number: u32,
    /// How many bytes it has now.
    pub size: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// All records of one server.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    live: Mutex<BTreeMap<ConnectionId, Vec<Arc<Session>>>>,
    /// Who waits for a connection's record to grow.
    readers: Mutex<BTreeMap<ConnectionId, watch_channel::Sender<live::Grown>>>,
    /// Held while a file is rewritten, or found again for a session that goes on.
    turn: tokio::sync::Mutex<()>,
    /// Held while it is tried whether anything can be written.
    room: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    key: Arc<TokenKey>,
}

impl Records {
    /// The records in this data folder, their tokens under this key.
    #[must_use]
    pub(crate) fn new(data: &Path, key: TokenKey) -> Self {
        Self {
            folder: data.join(FOLDER),
            live: Mutex::default(),
            readers: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
            room: tokio::sync::Mutex::new(()),
            tasks: TaskTracker::new(),
            key: Arc::new(key),
        }
    }

    /// The transcripts of a connection, oldest first.
    ///
    /// # Errors
    /// [`RecordError::File`].
    pub async fn parts(&self, connection: ConnectionId) -> Result<Vec<Part>, RecordError> {
        let folder = self.folder(connection);
        blocking(move || list(&folder)).await
    }

    /// The bytes of one transcript as they stand in its file now; `None` when there is none of this number.
    ///
    /// # Errors
    /// [`RecordError::File`].
    pub async fn read(&self, connection: ConnectionId, number: u32) -> Result<Option<Vec<u8>>, RecordError> {
        let path = part_path(&self.folder(connection), number);
        blocking(move || match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes).filter(|bytes| bytes.len() as u64 >= HEAD)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RecordError::File { path, error }),
        })
        .await
    }

    /// The first records of a transcript, its opening among them.
    async fn head(&self, part: Part) -> Result<Vec<u8>, RecordError> {
        blocking(move || {
            let mut bytes = Vec::new();
            let read = fs::File::open(&part.path).and_then(|file| file.take(MOST_HEAD).read_to_end(&mut bytes));
            read.map(|_| bytes).map_err(|error| RecordError::File { path: part.path, error })
        })
        .await
    }

    /// The tokens that belong to a transcript.
    ///
    /// # Errors
    /// [`RecordError::File`].
    pub(crate) async fn tokens(&self, connection: ConnectionId, number: u32) -> Result<Tokens, RecordError> {
        let (path, key) = (part_path(&self.folder(connection), number), Arc::clone(&self.key));
        blocking(move || key.read(connection, &path).map_err(|error| RecordError::File { path, error })).await
    }

    /// Withholds all content recorded so far of a connection, also while its sessions run. What they carry afterwards
    /// is recorded as before, unless `stop` is set: then their content is never kept again.
    ///
    /// # Errors
    /// [`RecordError`]; then some of the content may still be there.
    pub async fn delete_content(&self, connection: ConnectionId, stop: bool) -> Result<(), RecordError> {
        let _turn = self.turn.lock().await;
        let sessions = self.lock().get(&connection).cloned().unwrap_or_default();
        let mut rewritten = Vec::new();
        for session in sessions {
            let (done, answer) = oneshot::channel();
            if let Some(notes) = session.notes() {
                // A pen that has gone drops what it is told, and the answer fails.
                notes.send(Note::Withhold { stop, done }).await.unwrap_or_default();
            } else {
                drop(done);
            }
            match answer.await {
                Ok(path) => rewritten.extend(path?),
                // It ended meanwhile: its file is one of those below, as soon as it is whole.
                Err(_) => session.done().await,
            }
        }
        for part in self.parts(connection).await? {
            if !rewritten.contains(&part.path) {
                blocking(move || withhold_file(&part.path)).await?;
            }
        }
        self.deleted(connection);
        Ok(())
    }

    /// The connection is over: its sessions' records end when their streams do.
    pub fn close(&self, connection: ConnectionId, why: &str) {
        for session in self.lock().get(&connection).into_iter().flatten() {
            session.over(why);
        }
        self.sweep(connection);
        self.grew(connection);
    }

    /// Ends all records and waits until they are written. Their sessions may go on after the next start.
    pub async fn shutdown(&self) {
        let connections: Vec<ConnectionId> = self.lock().keys().copied().collect();
        for connection in connections {
            self.close(connection, "the server stopped");
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends the records of sessions that no stream carries and that are over, never began, or were taken over.
    fn sweep(&self, connection: ConnectionId) {
        let live = self.lock();
        let sessions = live.get(&connection).map(Vec::as_slice).unwrap_or_default();
        let newest = sessions.iter().rposition(|s| s.is_open());
        for (at, session) in sessions.iter().enumerate() {
            session.end_if_idle(newest.is_some_and(|newest| at < newest));
        }
    }

    /// A pen laid down.
    fn forget(&self, connection: ConnectionId, session: &Arc<Session>) {
        let mut live = self.lock();
        if let Some(sessions) = live.get_mut(&connection) {
            sessions.retain(|s| !Arc::ptr_eq(s, session));
            if sessions.is_empty() {
                live.remove(&connection);
            }
        }
        drop(live);
        self.grew(connection);
    }

    fn folder(&self, connection: ConnectionId) -> PathBuf {
        self.folder.join(connection.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Vec<Arc<Session>>>> {
        // The table is consistent after each statement that changes it.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn part_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number}.{EXTENSION}"))
}

fn list(folder: &Path) -> Result<Vec<Part>, RecordError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| RecordError::File { path, error }
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder)(error)),
    };
    let mut parts = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(folder))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = number.filter(|number| part_path(folder, *number) == path) {
            let size = fs::metadata(&path).map_err(failed(&path))?.len();
            if size >= HEAD {
                parts.push(Part { number, size, path });
            }
        }
    }
    parts.sort_by_key(|part| part.number);
    Ok(parts)
}

/// Replaces a transcript by itself without content, whole or not at all. Of a damaged one the part before the damage
/// stays: nobody can say what content is in the rest.
fn withhold_file(path: &Path) -> Result<(), RecordError> {
    let failed = |error| RecordError::File { path: path.to_owned(), error };
    let bytes = fs::read(path).map_err(failed)?;
    let bytes = withhold(&bytes).or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "a damaged record is cut off where the damage begins, since it is deleted");
        withhold(bytes.get(..error.at.offset).unwrap_or_default()).or(Ok(Vec::new()))
    })?;
    let draft = path.with_extension("new");
    let written = pen::write_new(&draft, &bytes).and_then(|()| fs::rename(&draft, path));
    written.map_err(failed)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecordError> + Send + 'static,
) -> Result<T, RecordError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| RecordError::Task(e.to_string()))?
}
