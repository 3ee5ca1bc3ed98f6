//! A file on its way: written under a name of its own beside its place, found again by a later copy of the same file.
//!
//! That name is made of the file's own name, size and time, so that what is found under it began as the same file. What
//! it holds is believed only after its digest was compared.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;

use crate::copy::{Facts, Problem, RESUME_FROM};
use bz_core::digest::Digest;
use rustix::fs::{AtFlags, FileType, FlockOperation, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::files::disk;

const PREFIX: &[u8] = b".bz-";
const SUFFIX: &[u8] = b".partial";
const TAG: usize = 16;
const BUFFER: usize = 256 << 10;

/// Whether a file of this name is one of ours that is not whole.
pub(crate) fn is_partial(name: &[u8]) -> bool {
    let tag = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    tag.is_some_and(|tag| tag.len() == TAG && tag.iter().all(u8::is_ascii_hexdigit))
}

/// What a file that is on its way is called.
pub(crate) fn name_of(name: &[u8], size: u64, facts: &Facts) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update((name.len() as u64).to_be_bytes());
    hash.update(name);
    hash.update(size.to_be_bytes());
    hash.update(facts.seconds.to_be_bytes());
    hash.update(facts.nanos.to_be_bytes());
    let tag = hex(&hash.finalize());
    [PREFIX, tag.get(..TAG).unwrap_or_default().as_bytes(), SUFFIX].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file on its way to a place in a directory.
pub(crate) struct Partial {
    file: File,
    name: Vec<u8>,
    /// Bytes by now, written or left out as zeros.
    length: u64,
    size: u64,
    hash: Sha256,
}

impl Partial {
    /// Opens what is there of this file, or begins it. Nobody else's file is ever written to.
    pub(crate) fn open(directory: BorrowedFd<'_>, name: &[u8], size: u64, facts: &Facts) -> Result<Self, Problem> {
        let name = name_of(name, size, facts);
        // Its owner may write it while it grows, whatever it is to be in the end.
        let mode = disk::bits(facts.mode | 0o600);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        for _ in 0..2 {
            let opened = rustix::fs::openat(directory, name.as_slice(), flags, mode);
            match opened {
                Ok(fd) => {
                    lock(&fd)?;
                    let stat = rustix::fs::fstat(&fd).map_err(disk::problem)?;
                    if is_ours(&stat) && stands_at(directory, &name, &stat) {
                        let mut partial = Self { file: fd.into(), name, length: 0, size, hash: Sha256::new() };
                        partial.find(&stat).map_err(|error| disk::problem_of(&error))?;
                        return Ok(partial);
                    }
                }
                Err(Errno::NOENT) => return Err(Problem::NotFound),
                Err(Errno::ACCESS | Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::PERM) => {}
                Err(errno) => return Err(disk::problem(errno)),
            }
            // Something else stands there: it goes if it may, and the second try begins anew.
            match rustix::fs::unlinkat(directory, name.as_slice(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(disk::problem(errno)),
            }
        }
        Err(Problem::Denied)
    }

    /// Takes what is there for a beginning where that is worth it.
    fn find(&mut self, stat: &Stat) -> io::Result<()> {
        let held = disk::size(stat);
        if self.size < RESUME_FROM || held > self.size {
            return self.restart();
        }
        self.file.rewind()?;
        self.hash = prefix(&mut self.file, held)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.length = held;
        Ok(())
    }

    /// Bytes there, and their digest.
    pub(crate) fn held(&self) -> (u64, Digest) {
        (self.length, digest(&self.hash))
    }

    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.length, self.hash) = (0, Sha256::new());
        Ok(())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.length)?;
        self.hash.update(bytes);
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Zeros take no room.
    pub(crate) fn skip(&mut self, count: u32) -> io::Result<()> {
        let mut left = count as usize;
        let zeros = [0; 4096];
        while left > 0 {
            let some = zeros.get(..left.min(zeros.len())).unwrap_or(&zeros);
            self.hash.update(some);
            left = left.saturating_sub(some.len());
        }
        self.length = self.length.saturating_add(count.into());
        // So that a later copy finds how far it came.
        self.file.set_len(self.length)
    }

    pub(crate) fn digest(&self) -> Digest {
        digest(&self.hash)
    }

    /// Puts the whole file in its place.
    pub(crate) fn finish(
        self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        (facts, preserve): (&Facts, bool),
    ) -> Result<(), Problem> {
        let finished = self.settle(facts, preserve).and_then(|()| {
            rustix::fs::renameat(directory, self.name.as_slice(), directory, name).map_err(disk::problem)
        });
        if finished.is_err() {
            self.remove(directory);
        }
        finished
    }

    fn settle(&self, facts: &Facts, preserve: bool) -> Result<(), Problem> {
        if preserve {
            rustix::fs::fchmod(&self.file, disk::mode(facts)).map_err(disk::problem)?;
            rustix::fs::futimens(&self.file, &disk::times(facts)).map_err(disk::problem)?;
        } else {
            // As it was made, the process's mask included, without what was for writing it alone.
            let made = rustix::fs::fstat(&self.file).map_err(disk::problem)?;
            let mode = disk::bits(disk::permissions(&made) & facts.mode);
            rustix::fs::fchmod(&self.file, mode).map_err(disk::problem)?;
        }
        self.file.sync_all().map_err(|error| disk::problem_of(&error))
    }

    /// Leaves nothing behind.
    pub(crate) fn remove(&self, directory: BorrowedFd<'_>) {
        // Where even that is not possible, a later copy tries again.
        rustix::fs::unlinkat(directory, self.name.as_slice(), AtFlags::empty()).unwrap_or_default();
    }

    /// The copy was cut: what is large enough stays for the next.
    pub(crate) fn leave(&self, directory: BorrowedFd<'_>) {
        if self.size < RESUME_FROM || self.length == 0 {
            self.remove(directory);
        }
    }
}

/// One copy at a time writes it. A file system without locks has none to give.
fn lock(fd: &impl std::os::fd::AsFd) -> Result<(), Problem> {
    match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Problem::Busy),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether nobody else can write it or has it under another name.
fn is_ours(stat: &Stat) -> bool {
    let owned = stat.st_uid == rustix::process::geteuid().as_raw();
    disk::kind(stat) == FileType::RegularFile && owned && stat.st_nlink == 1
}

/// Whether the file under this name is still the one that was opened: another copy may have moved it to its place.
fn stands_at(directory: BorrowedFd<'_>, name: &[u8], opened: &Stat) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (opened.st_dev, opened.st_ino))
}

/// The state of SHA-256 after the next `count` bytes; `None` when there are fewer.
pub(crate) fn prefix(file: &mut File, count: u64) -> io::Result<Option<Sha256>> {
    let (mut hash, mut left, mut buffer) = (Sha256::new(), count, vec![0; BUFFER]);
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
        let n = file.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if n == 0 {
            return Ok(None);
        }
        hash.update(buffer.get(..n).unwrap_or_default());
        left = left.saturating_sub(n as u64);
    }
    Ok(Some(hash))
}

pub(crate) fn digest(hash: &Sha256) -> Digest {
    Digest::from_bytes(hash.clone().finalize().into())
}
