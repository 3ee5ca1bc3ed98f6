//! Records while they are made: what is kept changes, whether anything can be, and who waits for more.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{MutexGuard, PoisonError};

use bz_core::grant::Recording;
use bz_core::id::ConnectionId;
use tokio::sync::watch;

use crate::keys::private_folder;
use crate::record::{RecordError, Records, blocking, pen};

/// What must fit on the disk before a session is let in that must be recorded.
const ROOM: usize = 64 << 10;

/// What happened to a recording since somebody waits for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Grown {
    /// How often it grew or ended.
    changes: u64,
    /// How often it was deleted.
    pub(crate) deletions: u64,
}

impl Records {
    /// The sessions of a connection that run keep this content from now on.
    pub(crate) fn keep(&self, connection: ConnectionId, recording: Recording) {
        let sessions = self.lock().get(&connection).cloned().unwrap_or_default();
        sessions.iter().for_each(|session| session.keep(recording));
    }

    /// How many sessions of a connection are being recorded.
    pub(crate) fn running(&self, connection: ConnectionId) -> usize {
        self.lock().get(&connection).map_or(0, Vec::len)
    }

    /// Whether something can be written now.
    ///
    /// # Errors
    /// [`RecordError::File`], with the reason.
    pub(crate) async fn can_record(&self) -> Result<(), RecordError> {
        let folder = self.folder.clone();
        let path = folder.join("room");
        let _room = self.room.lock().await;
        blocking(move || {
            let made = private_folder(&folder).map_err(std::io::Error::other);
            let written = made.and_then(|()| pen::write_new(&path, &[0; ROOM]));
            let removed = fs::remove_file(&path);
            written.and(removed).map_err(|error| RecordError::File { path, error })
        })
        .await
    }

    /// Tells when the record of a connection grows, ends or is deleted.
    pub(crate) fn grows(&self, connection: ConnectionId) -> watch::Receiver<Grown> {
        let mut readers = self.readers();
        readers.retain(|_, reader| reader.receiver_count() > 0);
        readers.entry(connection).or_default().subscribe()
    }

    pub(super) fn grew(&self, connection: ConnectionId) {
        if let Some(reader) = self.readers().get(&connection) {
            reader.send_modify(|grown| grown.changes = grown.changes.wrapping_add(1));
        }
    }

    pub(super) fn deleted(&self, connection: ConnectionId) {
        if let Some(reader) = self.readers().get(&connection) {
            reader.send_modify(|grown| grown.deletions = grown.deletions.wrapping_add(1));
        }
    }

    fn readers(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, watch::Sender<Grown>>> {
        // The table is consistent after each statement that changes it.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
