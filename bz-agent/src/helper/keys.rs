//! The role that edits the `authorized_keys` of a user, as that user: one line more, or those lines less that have
//! something in them, and every other byte as it was.
//!
//! Links are not followed, neither the file's nor its folder's; the file is replaced whole, with its mode and group, or
//! stays as it is. It executes nothing.

use super::launch::{self, LaunchError, Reply, settle};
use crate::frame;
use crate::user::User;
use bincode::{Decode, Encode};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, fchmod, fchown, fgetxattr, fstat, fsync, mkdirat, openat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::Gid;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use thiserror::Error;

const FOLDER: &str = ".ssh";
const FILE: &str = "authorized_keys";
/// What the new file is called until it is whole.
const FRESH: &str = "authorized_keys.bz-agent";
/// Far more than anybody has.
const MAX: u64 = 1 << 20;
/// How often somebody else may change the file while it is edited.
const TRIES: usize = 5;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What to do to whose file.
#[derive(Debug, Encode, Decode)]
pub(crate) struct Orders {
    pub(crate) version: u16,
    pub(crate) user: User,
    /// The agent: the helper ends with it.
    pub(crate) agent: u32,
    pub(crate) edit: Edit,
}

#[derive(Debug, Encode, Decode)]
pub(crate) enum Edit {
    /// A line at the end.
    Add { line: String },
    /// Without the lines that have this in them.
    Remove { holding: String },
}

/// Why a file stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error, Encode, Decode)]
pub enum EditError {
    /// The system's word.
    #[error("{what}: {}", std::io::Error::from_raw_os_error(*.errno))]
    System {
        /// About what.
        what: String,
        /// Which.
        errno: i32,
    },
    /// A link, or something else.
    #[error("{0} is a link, or not what it should be")]
    Kind(String),
    /// Somebody else's.
    #[error("{0} belongs to another user")]
    Owner(String),
    /// Others may write there, so sshd would not read it.
    #[error("{0} can be written by others")]
    Exposed(String),
    /// It has other names, which would keep the old file.
    #[error("the file has several names")]
    Names,
    /// It has an access list, which the new file would not have.
    #[error("the file has an access list")]
    AccessList,
    /// Too much.
    #[error("the file is larger than any such file")]
    TooLarge,
    /// Others write there all the time.
    #[error("somebody else is changing the file")]
    Busy,
}

pub(super) fn run() -> i32 {
    let Ok(mut stream) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return 2;
    };
    let said = match begin(&mut stream) {
        Ok(orders) => frame::write_blocking(&mut stream, &Reply::Ready)
            .and_then(|()| frame::write_blocking(&mut stream, &edit(&orders.user, &orders.edit))),
        Err(failure) => frame::write_blocking(&mut stream, &Reply::Failed(failure)),
    };
    i32::from(said.is_err())
}

fn begin(stream: &mut UnixStream) -> Result<Orders, LaunchError> {
    let orders: Orders = frame::read_blocking(stream).map_err(|_| LaunchError::Request)?;
    if orders.version != launch::VERSION {
        return Err(LaunchError::Version);
    }
    settle(&orders.user, orders.agent)?;
    Ok(orders)
}

fn edit(user: &User, edit: &Edit) -> Result<(), EditError> {
    let adds = matches!(edit, Edit::Add { .. });
    let Some(folder) = folder(user, adds)? else { return Ok(()) };
    for _ in 0..TRIES {
        let old = Old::read(user, &folder)?;
        if old.found.is_none() && !adds {
            return Ok(());
        }
        let new = edit.apply(&old.bytes);
        if new == old.bytes || replace(&folder, &old, &new)? {
            return Ok(());
        }
    }
    Err(EditError::Busy)
}

impl Edit {
    fn apply(&self, old: &[u8]) -> Vec<u8> {
        match self {
            Self::Add { line } => {
                let end: &[u8] = if old.is_empty() || old.ends_with(b"\n") { b"" } else { b"\n" };
                [old, end, line.as_bytes(), b"\n"].concat()
            }
            Self::Remove { holding } => {
                let ours = |line: &&[u8]| line.windows(holding.len().max(1)).any(|part| part == holding.as_bytes());
                old.split_inclusive(|byte| *byte == b'\n').filter(|line| !ours(line)).collect::<Vec<_>>().concat()
            }
        }
    }
}

/// The folder of the user's keys, made where it is absent and wanted. The home itself is where its entry says, through
/// whatever links the host's administrator made.
fn folder(user: &User, make: bool) -> Result<Option<OwnedFd>, EditError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let home = openat(CWD, &user.home, flags, Mode::empty()).map_err(system("the home"))?;
    let open = || openat(&home, FOLDER, flags | OFlags::NOFOLLOW, Mode::empty());
    let opened = match open() {
        Err(Errno::NOENT) if make => {
            mkdirat(&home, FOLDER, Mode::RWXU).map_err(system(FOLDER))?;
            open()
        }
        Err(Errno::NOENT) => return Ok(None),
        opened => opened,
    };
    let folder = opened.map_err(kind(FOLDER))?;
    let found = fstat(&folder).map_err(system(FOLDER))?;
    check(user, FOLDER, &found)?;
    Ok(Some(folder))
}

fn check(user: &User, name: &str, found: &Stat) -> Result<(), EditError> {
    if found.st_uid != user.uid {
        return Err(EditError::Owner(name.to_owned()));
    }
    if found.st_mode & WRITABLE_BY_OTHERS != 0 {
        return Err(EditError::Exposed(name.to_owned()));
    }
    Ok(())
}

/// The file as it was found.
struct Old {
    found: Option<Stat>,
    bytes: Vec<u8>,
}

impl Old {
    fn read(user: &User, folder: &OwnedFd) -> Result<Self, EditError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(folder, FILE, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Self { found: None, bytes: Vec::new() }),
            opened => opened.map_err(kind(FILE))?,
        };
        let found = fstat(&file).map_err(system(FILE))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(EditError::Kind(FILE.to_owned()));
        }
        check(user, FILE, &found)?;
        if found.st_nlink != 1 {
            return Err(EditError::Names);
        }
        if fgetxattr(&file, "system.posix_acl_access", &mut [0_u8; 0]).is_ok() {
            return Err(EditError::AccessList);
        }
        let mut bytes = Vec::new();
        let failed = |error: std::io::Error| EditError::System {
            what: FILE.to_owned(),
            errno: error.raw_os_error().unwrap_or_default(),
        };
        File::from(file).take(MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX {
            return Err(EditError::TooLarge);
        }
        Ok(Self { found: Some(found), bytes })
    }

    /// Whether it is what is there now.
    fn is_there(&self, folder: &OwnedFd) -> bool {
        let is = |found: &Stat| {
            (found.st_dev, found.st_ino, found.st_size, found.st_mtime, found.st_mtime_nsec, found.st_ctime_nsec)
        };
        let now = statat(folder, FILE, AtFlags::SYMLINK_NOFOLLOW).ok();
        now.as_ref().map(is) == self.found.as_ref().map(is)
    }
}

/// Puts the new file in the place of the old one; `false` when that is another one by now.
fn replace(folder: &OwnedFd, old: &Old, new: &[u8]) -> Result<bool, EditError> {
    // One that a helper left that was killed.
    unlinkat(folder, FRESH, AtFlags::empty()).unwrap_or_default();
    let written = write(folder, old, new);
    let placed = match written {
        Ok(()) if !old.is_there(folder) => Ok(false),
        Ok(()) if old.found.is_none() => match renameat_with(folder, FRESH, folder, FILE, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Ok(false),
            placed => placed.map(|()| true),
        },
        Ok(()) => renameat(folder, FRESH, folder, FILE).map(|()| true),
        Err(errno) => Err(errno),
    };
    if placed != Ok(true) {
        // What is left helps nobody; that it stays is no second error.
        unlinkat(folder, FRESH, AtFlags::empty()).unwrap_or_default();
        return placed.map_err(system(FILE));
    }
    fsync(folder).map_err(system(FOLDER))?;
    Ok(true)
}

fn write(folder: &OwnedFd, old: &Old, new: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, FRESH, flags, Mode::RUSR | Mode::WUSR)?);
    if let Some(found) = &old.found {
        if fstat(&file)?.st_gid != found.st_gid {
            fchown(&file, None, Some(Gid::from_raw(found.st_gid)))?;
        }
        fchmod(&file, Mode::from_raw_mode(found.st_mode & 0o7777))?;
    }
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    file.write_all(new).map_err(failed)?;
    file.sync_all().map_err(failed)
}

fn system(what: &str) -> impl FnOnce(Errno) -> EditError {
    move |errno| EditError::System { what: what.to_owned(), errno: errno.raw_os_error() }
}

/// What a link gives instead of being followed.
fn kind(name: &str) -> impl FnOnce(Errno) -> EditError {
    move |errno| match errno {
        Errno::LOOP | Errno::NOTDIR => EditError::Kind(name.to_owned()),
        errno => system(name)(errno),
    }
}
