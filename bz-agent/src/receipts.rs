//! Receipts on disk: one private file for each session in a folder of their own, bounded in number and age.
//!
//! Each is replaced whole or not at all. What they say is no secret; that nobody else writes them is the point.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bz_core::digest::Digest;
use bz_core::time::UnixTime;
use bz_protocol::receipt::{Bounds, NotKept, Receipt, Receipts, Shelf};

use crate::file::{self, FileError};

/// The folder of receipts in an agent's state folder.
pub const FOLDER: &str = "receipts";
const EXTENSION: &str = "receipt";
const UNFINISHED: &str = ".new";

/// Receipts in a folder. One program at a time writes there.
#[derive(Debug)]
pub struct FolderReceipts {
    folder: PathBuf,
    bounds: Bounds,
    /// What stands there, once it was looked at.
    shelf: Mutex<Option<Shelf>>,
}

impl FolderReceipts {
    /// Receipts in this folder, which is made with the first one.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, bounds: Bounds) -> Self {
        Self { folder: folder.into(), bounds, shelf: Mutex::new(None) }
    }

    /// Removes what is too old or too much by now.
    ///
    /// # Errors
    /// [`FileError`]; then more is there than should be.
    pub fn sweep(&self, now: UnixTime) -> Result<(), FileError> {
        self.with_shelf(|shelf| self.remove(shelf, now))
    }

    fn with_shelf(&self, work: impl FnOnce(&mut Shelf) -> Result<(), FileError>) -> Result<(), FileError> {
        // A writer that panicked left a shelf with one entry too many or too few.
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = match &mut *shelf {
            Some(shelf) => shelf,
            absent @ None => absent.insert(Shelf::new(self.bounds, found(&self.folder)?)),
        };
        work(shelf)
    }

    fn write(&self, shelf: &mut Shelf, receipt: &Receipt, now: UnixTime) -> Result<(), FileError> {
        file::private_folder(&self.folder)?;
        let path = self.path(&receipt.session);
        let bytes = receipt.encode().map_err(|error| std::io::Error::other(error.to_string()));
        file::replace(&path, &bytes.map_err(FileError::io(&path, "written"))?)?;
        shelf.put(receipt.session, now);
        // Its age is told by the clock that everything else goes by.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(now.as_millis());
        let file = file::open(OpenOptions::new().write(true), &path).and_then(|file| file.set_modified(modified));
        file.map_err(FileError::io(&path, "dated"))?;
        self.remove(shelf, now)
    }

    fn remove(&self, shelf: &mut Shelf, now: UnixTime) -> Result<(), FileError> {
        let mut removed = Ok(());
        for session in shelf.swept(now) {
            // The others go all the same.
            removed = remove(&self.path(&session)).and(removed);
        }
        removed
    }

    fn path(&self, session: &Digest) -> PathBuf {
        self.folder.join(format!("{session}.{EXTENSION}"))
    }
}

impl Receipts for FolderReceipts {
    fn keep(&self, receipt: &Receipt, now: UnixTime) -> Result<(), NotKept> {
        self.with_shelf(|shelf| self.write(shelf, receipt, now)).map_err(|error| NotKept(error.to_string()))
    }
}

/// The sessions whose receipts stand there, and when each last changed.
fn found(folder: &Path) -> Result<BTreeMap<Digest, UnixTime>, FileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(FileError::io(folder, "read")(error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(FileError::io(folder, "read"))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let session = |name: &str| name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse::<Digest>().ok();
        // What a program that was killed had not written to its end.
        if name.strip_suffix(UNFINISHED).and_then(session).is_some() {
            remove(&path)?;
        }
        // Anything else is not ours to remove.
        let Some(session) = session(name) else { continue };
        let modified = fs::symlink_metadata(&path).and_then(|found| found.modified());
        let since = modified.map_err(FileError::io(&path, "read"))?.duration_since(SystemTime::UNIX_EPOCH);
        found.insert(session, UnixTime::from_secs(0).after(since.unwrap_or_default()));
    }
    Ok(found)
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::io(path, "removed")(error)),
        _ => Ok(()),
    }
}
