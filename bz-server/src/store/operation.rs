//! What the program's commands and its periodic work leave for one another: when something was done last, and how far
//! logs were sent.

use bz_core::time::UnixTime;
use rusqlite::{OptionalExtension as _, params};

use crate::store::{Store, StoreError, millis};

/// What is done by hand on the server's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// A backup was made.
    Backup,
    /// New online keys were asked for.
    Rotation,
}

impl Done {
    const fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Rotation => "rotation",
        }
    }
}

impl Store {
    /// Notes that something was done now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_done(&self, what: Done, at: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let sql = "INSERT INTO last_done (what, at) VALUES (?1, ?2) ON CONFLICT (what) DO UPDATE SET at = ?2";
            tx.execute(sql, params![what.name(), millis(at)])?;
            Ok(())
        })
        .await
    }

    /// When something was done last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_done(&self, what: Done) -> Result<Option<UnixTime>, StoreError> {
        self.read(move |tx| {
            let found = tx.query_row("SELECT at FROM last_done WHERE what = ?1", [what.name()], |row| row.get(0));
            let at: Option<i64> = found.optional()?;
            Ok(at.map(|at| UnixTime::from_millis(u64::try_from(at).unwrap_or_default())))
        })
        .await
    }

    /// The number of the last row that this sink took; none before its first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sink(&self, name: String) -> Result<Option<u64>, StoreError> {
        self.read(move |tx| {
            let found = tx.query_row("SELECT seq FROM sink WHERE name = ?1", [name], |row| row.get(0));
            let seq: Option<i64> = found.optional()?;
            Ok(seq.map(|seq| u64::try_from(seq).unwrap_or_default()))
        })
        .await
    }

    /// Notes that this sink took all rows up to this one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_sink(&self, name: String, seq: u64) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let sql = "INSERT INTO sink (name, seq) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET seq = ?2";
            tx.execute(sql, params![name, i64::try_from(seq).unwrap_or(i64::MAX)])?;
            Ok(())
        })
        .await
    }
}
