//! Small files that must never be half written: replaced whole, private, bounded when read.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::{clock, platform};

/// The most bytes a file of ours may have.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// A file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system says no.
    #[error("{path} cannot be {action}: {cause}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// `read`, `written`, …
        action: &'static str,
        /// Its words.
        cause: io::Error,
    },
    /// Its content is not what this program wrote.
    #[error("{path} is damaged ({fault}). Nothing was changed. To go on, {remedy}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
        /// What to do.
        remedy: String,
    },
    /// Others may read it.
    #[error("others may read {0}, which holds secrets: run `chmod 600` on it, and log in again if anybody did")]
    Exposed(PathBuf),
    /// Another program does not let go of it.
    #[error("another program has held {0} for a minute: end it, then try again")]
    Locked(PathBuf),
}

impl FileError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { path, action, cause }
    }

    pub(crate) fn damaged(path: &Path, fault: &str, remedy: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), fault: fault.to_owned(), remedy: remedy.into() }
    }
}

/// The file's text; `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, FileError> {
    match File::open(path) {
        Ok(file) => read_open(path, &file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::io(path, "opened")(error)),
    }
}

/// The text of an open file.
pub(crate) fn read_open(path: &Path, file: &File) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(FileError::io(path, "read"))?;
    let remedy = || format!("move {} away", path.display());
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::damaged(path, "it is larger than 1 MiB", remedy()));
    }
    String::from_utf8(bytes).map_err(|_| FileError::damaged(path, "it is no text", remedy()))
}

/// Replaces the file: whoever reads it sees the old text or the new one, also after a crash.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    replace_bytes(path, text.as_bytes())
}

/// As [`replace`], for what is no text.
pub(crate) fn replace_bytes(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    platform::create_private_dir(folder).map_err(FileError::io(folder, "made"))?;
    let random = clock::random::<8>().map_err(|e| FileError::io(path, "written")(io::Error::other(e)))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = folder.join(format!(".{name}.{}.tmp", hex::encode(random)));
    let written = write_new(&fresh, bytes).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        // What is left over holds the new secret and helps nobody; that it stays is no second error.
        drop(fs::remove_file(&fresh));
        return Err(FileError::io(path, "written")(error));
    }
    platform::sync_dir(folder).map_err(FileError::io(folder, "written"))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = platform::create_private(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Takes the right to change the file, across processes, until the answer is dropped. Waits for who has it: changes
/// are short.
pub(crate) fn lock_beside(path: &Path) -> Result<File, FileError> {
    if let Some(folder) = path.parent() {
        platform::create_private_dir(folder).map_err(FileError::io(folder, "made"))?;
    }
    let lock = path.with_extension("lock");
    let file = platform::open_lock(&lock).map_err(FileError::io(&lock, "opened"))?;
    file.lock().map_err(FileError::io(&lock, "locked"))?;
    Ok(file)
}

/// Removes the new files that a killed program left beside this one. For who holds the lock.
#[cfg(feature = "cli")]
pub(crate) fn remove_leftovers(path: &Path) -> Result<(), FileError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let begins = format!(".{}.", name.to_string_lossy());
    for entry in fs::read_dir(folder).map_err(FileError::io(folder, "read"))? {
        let found = entry.map_err(FileError::io(folder, "read"))?;
        let other = found.file_name().to_string_lossy().into_owned();
        if other.starts_with(&begins) && other.ends_with(".tmp") {
            fs::remove_file(found.path()).map_err(FileError::io(&found.path(), "removed"))?;
        }
    }
    Ok(())
}
