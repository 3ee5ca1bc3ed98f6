//! Receipts on disk: one private file for each session in a folder of their own; and reading them back, from here or
//! from an agent.
//!
//! A program of its own may keep them anywhere else: [`bz_protocol::receipt::Receipts`] is the seam.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bz_core::digest::Digest;
use bz_core::time::UnixTime;
use bz_protocol::receipt::{Bounds, MAX_RECEIPT, NotKept, Receipt, Receipts, Shelf};

use crate::file::{self, FileError};

const EXTENSION: &str = "receipt";

/// Receipts in a folder. Several programs may write there; each removes what it knows to be too old or too much.
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

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn write(&self, receipt: &Receipt, now: UnixTime) -> Result<(), FileError> {
        // A writer that panicked left a shelf with one entry too many or too few.
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = match &mut *shelf {
            Some(shelf) => shelf,
            absent @ None => absent.insert(Shelf::new(self.bounds, found(&self.folder)?)),
        };
        let path = self.path(&receipt.session);
        let bytes = receipt.encode().map_err(|error| io::Error::other(error.to_string()));
        file::replace_bytes(&path, &bytes.map_err(FileError::io(&path, "written"))?)?;
        shelf.put(receipt.session, now);
        // Its age is told by the clock that everything else goes by.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(now.as_millis());
        let dated = File::options().write(true).open(&path).and_then(|file| file.set_modified(modified));
        dated.map_err(FileError::io(&path, "dated"))?;
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
        self.write(receipt, now).map_err(|error| NotKept(error.to_string()))
    }
}

/// Whether a file is called as a receipt is.
#[must_use]
pub fn is_receipt(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION)
}

/// The receipt in a file.
///
/// # Errors
/// [`FileError`] when it cannot be read or is none.
pub fn read(path: &Path) -> Result<Receipt, FileError> {
    let mut bytes = Vec::new();
    let limit = MAX_RECEIPT as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(FileError::io(path, "read"))?;
    let damaged = |error: bz_protocol::receipt::ReceiptError| {
        FileError::damaged(path, &error.to_string(), "move it away: what it proved is lost")
    };
    Receipt::decode(&bytes).map_err(damaged)
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
        let session = path.file_stem().and_then(|stem| stem.to_str()).map(str::parse);
        // Anything else is not ours to remove.
        let Some(Ok(session)) = session.filter(|_| is_receipt(&path)) else { continue };
        let modified = match fs::symlink_metadata(&path).and_then(|found| found.modified()) {
            Ok(modified) => modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            // Another program has just removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(FileError::io(&path, "read")(error)),
        };
        found.insert(session, UnixTime::from_secs(0).after(modified));
    }
    Ok(found)
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::io(path, "removed")(error)),
        _ => Ok(()),
    }
}
