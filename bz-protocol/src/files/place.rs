//! Where a copy goes: the one name that it may make or replace, in a directory that is open.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::copy::Problem;
use bz_core::access::request::{MAX_PATH, is_file_name};
use rustix::fs::{CWD, FileType, Mode};

use crate::files::disk;
use crate::files::take::Destination;

/// A name in an open directory.
pub(crate) enum Place {
    /// A name in it.
    In {
        directory: OwnedFd,
        name: Vec<u8>,
        /// The full path.
        path: Vec<u8>,
    },
    /// The directory itself.
    Is { directory: OwnedFd, path: Vec<u8> },
}

impl Place {
    /// As `cp` finds it: a directory that exists is gone into, anything else is named or replaced.
    pub(crate) fn find(destination: &Destination<'_>, is_directory: bool) -> Result<Self, Problem> {
        let path = destination.path;
        let exists = rustix::fs::stat(path).map(|stat| disk::kind(&stat) == FileType::Directory);
        if exists == Ok(true) {
            let (directory, full) = open(path)?;
            return match destination.name {
                [] => Ok(Self::Is { directory, path: full }),
                name => Self::named(directory, name, full),
            };
        }
        let bytes = path.as_os_str().as_bytes();
        let slashes = bytes.iter().rev().take_while(|byte| **byte == b'/').count();
        if slashes > 0 && (exists.is_ok() || !is_directory) {
            return Err(Problem::NotDirectory);
        }
        let name = path.file_name().ok_or(Problem::NotFound)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let (directory, full) = open(parent)?;
        Self::named(directory, name.as_bytes(), full)
    }

    /// The full path.
    pub(crate) fn path(&self) -> &[u8] {
        match self {
            Self::In { path, .. } | Self::Is { path, .. } => path,
        }
    }

    fn named(directory: OwnedFd, name: &[u8], above: Vec<u8>) -> Result<Self, Problem> {
        if !is_file_name(name) {
            return Err(Problem::TooLong);
        }
        let mut path = above;
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if path.len() > MAX_PATH {
            return Err(Problem::TooLong);
        }
        Ok(Self::In { directory, name: name.to_vec(), path })
    }
}

/// A directory that a person named, and its full path. Links are followed: they are what was named.
fn open(path: &Path) -> Result<(OwnedFd, Vec<u8>), Problem> {
    let fd = rustix::fs::openat(CWD, path, disk::NAMED_DIRECTORY, Mode::empty()).map_err(disk::problem)?;
    let full = std::fs::canonicalize(path).map_err(|error| disk::problem_of(&error))?;
    Ok((fd, full.as_os_str().as_bytes().to_vec()))
}
