//! The user on this machine that a shell or command runs as: looked up whole, by exact name, and
//! with an environment made from nothing. Absent: any decision whether a person may be that user.

mod environment;

pub use environment::{Environment, RefusedVariable};

use crate::account;
use bincode::{Decode, Encode};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, Gid, Uid, access, geteuid, getgrouplist};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A user as the system's own databases describe it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Every group of the user, the primary one among them, each once and in rising order.
    pub groups: Vec<u32>,
    pub home: PathBuf,
    pub shell: PathBuf,
}

#[derive(Debug, Error)]
pub enum UserError {
    #[error("there is no user {name:?} on this machine")]
    NotFound { name: String },
    #[error("user {name:?} has no login shell ({})", shell.display())]
    NoShell { name: String, shell: PathBuf },
    #[error("this agent does not run as root and may serve its own user only, not {name:?}")]
    NotPermitted { name: String },
    #[error("looking up user {name:?} failed: {cause}")]
    Lookup { name: String, cause: std::io::Error },
}

impl User {
    /// Looks `name` up. May block on a directory service; call it off the I/O threads.
    pub fn resolve(name: &str) -> Result<Self, UserError> {
        let found = account::find(name).map_err(|errno| lookup(name, errno))?;
        let entry = found.ok_or_else(|| UserError::NotFound { name: name.to_owned() })?;
        if !geteuid().is_root() && geteuid() != entry.uid {
            return Err(UserError::NotPermitted { name: name.to_owned() });
        }
        let shell = if entry.shell.as_os_str().is_empty() { PathBuf::from("/bin/sh") } else { entry.shell };
        if !is_login_shell(&shell) {
            return Err(UserError::NoShell { name: name.to_owned(), shell });
        }
        let groups = groups_of(name, entry.gid)?;
        Ok(Self { name: entry.name, uid: entry.uid.as_raw(), gid: entry.gid.as_raw(), groups, home: entry.dir, shell })
    }

    /// The user this process runs as, whose name is looked up from its number.
    pub fn current() -> Result<Self, UserError> {
        let uid = geteuid();
        let missing = || UserError::NotFound { name: uid.to_string() };
        let entry = nix::unistd::User::from_uid(uid).map_err(|errno| lookup(&uid.to_string(), errno))?;
        Self::resolve(&entry.ok_or_else(missing)?.name)
    }

    /// `PATH` where the user's start-up files do not say otherwise.
    pub(crate) const fn path(&self) -> &'static str {
        if self.uid == 0 {
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        } else {
            "/usr/local/bin:/usr/bin:/bin"
        }
    }

    pub(crate) const fn owner(&self) -> Uid {
        Uid::from_raw(self.uid)
    }

    pub(crate) const fn primary(&self) -> Gid {
        Gid::from_raw(self.gid)
    }
}

fn groups_of(name: &str, primary: Gid) -> Result<Vec<u32>, UserError> {
    let c_name = CString::new(name).map_err(|_| UserError::NotFound { name: name.to_owned() })?;
    let mut groups: Vec<u32> = getgrouplist(&c_name, primary)
        .map_err(|errno| lookup(name, errno))?
        .into_iter()
        .map(Gid::as_raw)
        .chain([primary.as_raw()])
        .collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// `nologin` and `false` are how an administrator says that nobody logs in here; a shell that is
/// missing or not executable says the same by accident.
fn is_login_shell(shell: &Path) -> bool {
    let refuses = shell.file_name().is_none_or(|name| matches!(name.as_bytes(), b"nologin" | b"false"));
    shell.is_absolute() && !refuses && shell.is_file() && access(shell, AccessFlags::X_OK).is_ok()
}

fn lookup(name: &str, errno: Errno) -> UserError {
    UserError::Lookup { name: name.to_owned(), cause: errno.into() }
}
