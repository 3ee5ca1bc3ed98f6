//! A file that is read or written over the network, and what the log will say of it.

use super::Log;
use bz_core::access::request::MAX_PATH;
use bz_core::digest::Digest;
use bz_protocol::copy::Problem;
use bz_protocol::files::problem_of;
use bz_protocol::ssh::{Fate, FileWay, SshFile};
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file written out of order is read again for its digest, up to this size.
const READ_AGAIN: u64 = 1 << 30;
const CHUNK: usize = 64 << 10;

/// An open file.
pub(super) struct Tracked {
    file: File,
    path: Vec<u8>,
    way: FileWay,
    /// Where the next byte is expected while everything goes in order from the first byte on.
    next: Option<u64>,
    hash: Sha256,
    moved: u64,
    problem: Option<Problem>,
    append: bool,
}

/// Opens a regular file and nothing else, without waiting for the other end of a pipe.
pub(super) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() { Ok(file) } else { Err(special(kind.is_dir())) }
}

/// What something that is no regular file is, as an error of the system.
pub(super) fn special(directory: bool) -> io::Error {
    let errno = if directory { rustix::io::Errno::ISDIR } else { rustix::io::Errno::NXIO };
    errno.into()
}

impl Tracked {
    /// A file that is open, which the log hears at once: whoever is cut off later has begun it all the same.
    pub(super) fn new<W: Write>((file, path): (File, &Path), way: FileWay, log: &mut Log<W>) -> Self {
        let path = full(path);
        log.file(&SshFile { way, path: path.clone(), fate: Fate::Begun, size: 0 });
        let (next, hash) = (Some(0), Sha256::new());
        Self { file, path, way, next, hash, moved: 0, problem: None, append: false }
    }

    /// What is written goes behind what is there.
    pub(super) fn append(self, append: bool) -> Self {
        Self { append, ..self }
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// What follows is no whole file in order, such as after it was cut.
    pub(super) const fn disturb(&mut self) {
        self.next = None;
    }

    pub(super) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset);
        match &read {
            Ok(count) => {
                let bytes = buffer.get(..*count).unwrap_or_default();
                if self.way == FileWay::FromTarget && !bytes.is_empty() {
                    self.went(offset, bytes);
                }
            }
            Err(error) => self.problem = Some(problem_of(error)),
        }
        read
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let written = if self.append { self.file.write_all(bytes) } else { self.file.write_all_at(bytes, offset) };
        match &written {
            Ok(()) => self.went(offset, bytes),
            Err(error) => self.problem = Some(problem_of(error)),
        }
        written
    }

    fn went(&mut self, offset: u64, bytes: &[u8]) {
        self.moved = self.moved.saturating_add(bytes.len() as u64);
        match self.next {
            Some(next) if next == offset => {
                self.hash.update(bytes);
                self.next = Some(next.saturating_add(bytes.len() as u64));
            }
            Some(_) => self.next = None,
            None => {}
        }
    }

    /// The last word for the log. `closed` says that the other end is done with it.
    pub(super) fn finish(self, closed: bool) -> SshFile {
        let way = self.way;
        let fate = match self.problem {
            Some(problem) if self.moved == 0 => Fate::Failed(problem),
            Some(_) => Fate::Part,
            None if !closed => Fate::Part,
            None => self.whole(way),
        };
        let size = match fate {
            Fate::Whole { .. } => self.file.metadata().map_or(self.moved, |found| found.len()),
            Fate::Part | Fate::Failed(_) | Fate::Begun | Fate::Removed | Fate::MovedFrom | Fate::MovedTo => self.moved,
        };
        SshFile { way, path: self.path, fate, size }
    }

    fn whole(&self, way: FileWay) -> Fate {
        let size = self.file.metadata().map(|found| found.len()).ok();
        if self.next.is_some() && self.next == size {
            return Fate::Whole { digest: Some(Digest::from_bytes(self.hash.clone().finalize().into())) };
        }
        match way {
            FileWay::ToTarget => Fate::Whole { digest: self.digest_again(size) },
            FileWay::FromTarget => Fate::Part,
        }
    }

    fn digest_again(&self, size: Option<u64>) -> Option<Digest> {
        size.filter(|size| *size <= READ_AGAIN)?;
        // By its handle: the name may be another file's by now.
        let mut file = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd())).ok()?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
        loop {
            match file.read(&mut buffer).ok()? {
                0 => return Some(Digest::from_bytes(hash.finalize().into())),
                count => hash.update(buffer.get(..count)?),
            }
        }
    }
}

/// A file that was not opened.
pub(super) fn failed(way: FileWay, path: &Path, error: &io::Error) -> SshFile {
    SshFile { way, path: full(path), fate: Fate::Failed(problem_of(error)), size: 0 }
}

/// What happened to a name, whatever it leads to.
pub(super) fn named(path: &Path, fate: Fate) -> SshFile {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let known = path.file_name().and_then(|name| Some(std::fs::canonicalize(parent).ok()?.join(name)));
    let mut bytes = known.map_or_else(|| full(path), |known| known.into_os_string().as_bytes().to_vec());
    bytes.truncate(MAX_PATH);
    SshFile { way: FileWay::ToTarget, path: bytes, fate, size: 0 }
}

/// The full path, as far as it is known.
pub(super) fn full(path: &Path) -> Vec<u8> {
    let known = std::fs::canonicalize(path).ok().or_else(|| {
        let name = path.file_name()?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        Some(std::fs::canonicalize(parent).ok()?.join(name))
    });
    let path = known.or_else(|| std::path::absolute(path).ok()).unwrap_or_else(|| PathBuf::from("/"));
    let mut bytes = path.into_os_string().as_bytes().to_vec();
    bytes.truncate(MAX_PATH);
    bytes
}

/// A path as the protocols bring it: from the home, where this process is, unless it begins with `/`.
pub(super) fn path(bytes: &[u8]) -> PathBuf {
    let bytes = if bytes.is_empty() { b"." } else { bytes };
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}
