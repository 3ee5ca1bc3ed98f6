//! Small private files that must never be half written: replaced whole, and read only when nobody else could have
//! written or read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use zeroize::Zeroizing;

/// What a file that is being written is called until it is whole.
const FRESH: &str = "new";

/// A private file or folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system says no.
    #[error("{path} cannot be {action}: {cause}")]
    Io {
        /// Which.
        path: PathBuf,
        /// `read`, `written`, …
        action: &'static str,
        /// Its words.
        cause: io::Error,
    },
    /// Others may use it.
    #[error("{path} is open to others: find out who used it, then run `chmod {mode} {path}`")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// The mode it must have.
        mode: &'static str,
    },
    /// It is somebody else's.
    #[error(
        "{path} belongs to user id {owner}, but this program runs as user id {own}: run it as the owner, or `chown` it"
    )]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        own: u32,
    },
    /// A link, a device, or anything else.
    #[error("{path} is not a {expected}: move it away")]
    Kind {
        /// Which.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// More than was ever written there.
    #[error("{0} is larger than any such file: move it away")]
    TooLarge(PathBuf),
}

impl FileError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { path, action, cause }
    }
}

/// Makes the folder where it is absent, for this user alone; one that is there must be so already.
pub(crate) fn private_folder(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(FileError::io(path, "made"))?;
    check_folder(path)
}

/// Whether the folder is this user's alone.
pub(crate) fn check_folder(path: &Path) -> Result<(), FileError> {
    let found = fs::symlink_metadata(path).map_err(FileError::io(path, "read"))?;
    if !found.is_dir() {
        return Err(FileError::Kind { path: path.to_owned(), expected: "folder" });
    }
    check_private(path, &found, "700")
}

fn check_private(path: &Path, found: &fs::Metadata, mode: &'static str) -> Result<(), FileError> {
    let (own, owner) = (geteuid().as_raw(), found.uid());
    if owner != own {
        return Err(FileError::Owner { path: path.to_owned(), owner, own });
    }
    if found.mode() & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

/// The file's bytes; `None` when there is no such file.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    let file = match open(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io(path, "opened")(error)),
    };
    let found = file.metadata().map_err(FileError::io(path, "read"))?;
    if !found.is_file() {
        return Err(FileError::Kind { path: path.to_owned(), expected: "regular file" });
    }
    check_private(path, &found, "600")?;
    if found.len() > limit {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    // Room for all of it at once: a vector that grows leaves copies of what it held.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default() + 1));
    file.take(limit).read_to_end(&mut bytes).map_err(FileError::io(path, "read"))?;
    Ok(Some(bytes))
}

/// Replaces the file: whoever reads it sees the old bytes or the new ones, also after a crash. One writer at a time.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let fresh = path.with_added_extension(FRESH);
    let written = write_new(&fresh, bytes).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        // What is left helps nobody; that it stays is no second error.
        drop(fs::remove_file(&fresh));
        return Err(FileError::io(path, "written")(error));
    }
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FileError::io(folder, "written"))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A writer that was killed leaves its file behind.
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens without following a link and without waiting for the other end of a pipe.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.mode(0o600).custom_flags(flags.bits().cast_signed()).open(path)
}
