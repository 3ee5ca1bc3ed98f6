//! The end that gives: walks a file or a tree and tells it.
//!
//! What was named is followed if it is a symbolic link; a link further down is told as the link it is. Only regular
//! files are read: a device, socket or pipe is named and never opened.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::copy::{CHUNK, Copied, MAX_DEPTH, Message, OutOfTurn, Problem, RESUME_FROM, Summary};
use bz_core::access::request::MAX_PATH;
use bz_core::digest::Digest;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use crate::files::disk;
use crate::files::frames::{Incoming, Outgoing};
use crate::files::partial::{digest, is_partial, prefix};
use crate::files::report::{End, Interrupted, Report};

/// Without waiting for the other end of a pipe, and without becoming a terminal's process.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// What to give.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The file or directory.
    pub path: &'a Path,
    /// Whether a directory may be given.
    pub recursive: bool,
    /// Whether to tell the full path: the target's end does.
    pub tell_root: bool,
}

/// Gives it to the taker at the other end of the streams.
///
/// # Errors
/// [`Interrupted`]; what merely could not be copied is told and counted.
pub fn give(
    source: &Source<'_>,
    (input, output): (impl Read + Send, impl Write),
    report: &(dyn Fn(Report) + Sync),
) -> Result<Summary, Interrupted> {
    let peer = Peer::default();
    thread::scope(|scope| {
        let (held, answers) = channel();
        let heard = &peer;
        let listener = scope.spawn(move || listen(Incoming::new(input), heard, &held, report));
        let mut giver = Giver {
            out: Outgoing::new(output),
            answers,
            peer: &peer,
            report,
            summary: Summary::default(),
            path: Vec::new(),
            chunk: vec![0; CHUNK],
            recursive: source.recursive,
        };
        let given = giver.begin(source).and_then(|()| giver.out.say_now(&Message::Done(giver.summary)));
        let failed = giver.summary.failed;
        drop(giver);
        let theirs = listener.join().map_err(|_| Interrupted::Cut)?;
        // What the other end did wrong says more than that it was cut off for it.
        let theirs = match (given, theirs) {
            (Ok(()), theirs) | (Err(_), theirs @ Err(_)) => theirs?,
            (Err(interrupted), Ok(_)) => return Err(interrupted),
        };
        // A taker counts what the giver told it, too.
        Ok(Summary { failed: failed.max(theirs.failed), ..theirs })
    })
}

/// What the taker said, for the thread that gives.
#[derive(Default)]
struct Peer {
    /// The last path it did not take.
    refused: Mutex<Option<Vec<u8>>>,
    /// How many it did not take; read before the path is.
    count: AtomicU64,
}

enum Answer {
    Held(u64, Digest),
    Refused,
}

fn listen(
    mut input: Incoming<impl Read>,
    peer: &Peer,
    answers: &Sender<Answer>,
    report: &(dyn Fn(Report) + Sync),
) -> Result<Summary, Interrupted> {
    loop {
        match input.next()? {
            Message::Root { path } => report(Report::Root(path)),
            // Nobody waits when the giver has given up on the file.
            Message::Held { bytes, digest } => answers.send(Answer::Held(bytes, digest)).unwrap_or_default(),
            Message::Copied(copied) => report(Report::Copied(copied)),
            Message::Failed { path, problem } => {
                if problem != Problem::NotTaken {
                    report(Report::Failed { path: path.clone(), problem, at: End::There });
                }
                *peer.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
                peer.count.fetch_add(1, Ordering::Release);
                answers.send(Answer::Refused).unwrap_or_default();
            }
            Message::Done(summary) => return Ok(summary),
            Message::Directory { .. }
            | Message::Leave
            | Message::Symlink { .. }
            | Message::File { .. }
            | Message::Place { .. }
            | Message::Data(_)
            | Message::Zeros(_) => return Err(OutOfTurn::Kind.into()),
        }
    }
}

struct Giver<'a, W: Write> {
    out: Outgoing<W>,
    answers: Receiver<Answer>,
    peer: &'a Peer,
    report: &'a (dyn Fn(Report) + Sync),
    summary: Summary,
    /// From the first entry on.
    path: Vec<u8>,
    chunk: Vec<u8>,
    recursive: bool,
}

impl<W: Write> Giver<'_, W> {
    fn begin(&mut self, source: &Source<'_>) -> Result<(), Interrupted> {
        if source.tell_root {
            // Where it cannot be told, what follows fails and says why.
            let root = std::fs::canonicalize(source.path).map(|path| path.as_os_str().as_bytes().to_vec());
            if let Ok(path) = root
                && path.len() <= MAX_PATH
            {
                self.out.say(&Message::Root { path })?;
            }
        }
        let stat = match rustix::fs::stat(source.path) {
            Ok(stat) => stat,
            Err(errno) => return self.fail(disk::problem(errno)),
        };
        match disk::kind(&stat) {
            FileType::Directory if !self.recursive => self.fail(Problem::Directory),
            FileType::Directory => match rustix::fs::openat(CWD, source.path, disk::NAMED_DIRECTORY, Mode::empty()) {
                Ok(fd) => self.directory(fd, &[], 0),
                Err(errno) => self.fail(disk::problem(errno)),
            },
            FileType::RegularFile => match rustix::fs::openat(CWD, source.path, FILE, Mode::empty()) {
                Ok(fd) => self.file(fd, &[]),
                Err(errno) => self.fail(disk::problem(errno)),
            },
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => self.fail(Problem::Special),
        }
    }

    /// The present path was not copied.
    fn fail(&mut self, problem: Problem) -> Result<(), Interrupted> {
        self.summary.failed = self.summary.failed.saturating_add(1);
        let mut path = self.path.clone();
        path.truncate(MAX_PATH);
        (self.report)(Report::Failed { path: path.clone(), problem, at: End::Here });
        self.out.say(&Message::Failed { path, problem })
    }

    fn directory(&mut self, fd: OwnedFd, name: &[u8], depth: usize) -> Result<(), Interrupted> {
        let opened = rustix::fs::fstat(&fd).and_then(|stat| Dir::new(fd).map(|dir| (stat, dir)));
        let (stat, mut entries) = match opened {
            Ok(opened) => opened,
            Err(errno) => return self.fail(disk::problem(errno)),
        };
        self.out.say(&Message::Directory { name: name.to_vec(), facts: disk::facts(&stat) })?;
        self.summary.directories = self.summary.directories.saturating_add(1);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.fail(disk::problem(errno))?;
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || is_partial(name) {
                continue;
            }
            let above = self.path.len();
            if above > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            match entries.fd() {
                Ok(fd) => self.entry(fd, name, depth)?,
                Err(errno) => self.fail(disk::problem(errno))?,
            }
            self.path.truncate(above);
        }
        self.out.say(&Message::Leave)
    }

    fn entry(&mut self, directory: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), Interrupted> {
        if self.path.len() > MAX_PATH {
            return self.fail(Problem::TooLong);
        }
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return self.fail(disk::problem(errno)),
        };
        let open = |flags| rustix::fs::openat(directory, name, flags, Mode::empty());
        match disk::kind(&stat) {
            FileType::Directory if depth + 1 >= MAX_DEPTH => self.fail(Problem::TooDeep),
            FileType::Directory => match open(disk::DIRECTORY) {
                Ok(fd) => self.directory(fd, name, depth + 1),
                Err(errno) => self.fail(disk::problem(errno)),
            },
            FileType::RegularFile => match open(FILE | OFlags::NOFOLLOW) {
                Ok(fd) => self.file(fd, name),
                Err(errno) => self.fail(disk::problem(errno)),
            },
            FileType::Symlink => match rustix::fs::readlinkat(directory, name, Vec::new()) {
                Ok(to) if to.as_bytes().len() <= MAX_PATH => {
                    self.summary.links = self.summary.links.saturating_add(1);
                    self.out.say(&Message::Symlink { name: name.to_vec(), to: to.into_bytes() })
                }
                Ok(_) => self.fail(Problem::TooLong),
                Err(errno) => self.fail(disk::problem(errno)),
            },
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => self.fail(Problem::Special),
        }
    }

    fn file(&mut self, fd: OwnedFd, name: &[u8]) -> Result<(), Interrupted> {
        let stat = match rustix::fs::fstat(&fd) {
            Ok(stat) if disk::kind(&stat) == FileType::RegularFile => stat,
            // It was another one a moment ago.
            Ok(_) => return self.fail(Problem::Special),
            Err(errno) => return self.fail(disk::problem(errno)),
        };
        let size = disk::size(&stat);
        (self.report)(Report::Begun { path: self.path.clone(), size });
        self.out.say(&Message::File { name: name.to_vec(), facts: disk::facts(&stat), size })?;
        match self.content(&mut File::from(fd), &stat)? {
            Ok(digest) => {
                self.summary.files = self.summary.files.saturating_add(1);
                self.summary.bytes = self.summary.bytes.saturating_add(size);
                self.out.say(&Message::Copied(Copied { path: self.path.clone(), size, digest }))
            }
            // Its taker has told why.
            Err(Problem::NotTaken) => {
                self.out.say(&Message::Failed { path: self.path.clone(), problem: Problem::NotTaken })
            }
            Err(problem) => self.fail(problem),
        }
    }

    /// What there is of the file, to the size that it had.
    fn content(&mut self, file: &mut File, stat: &Stat) -> Result<Result<Digest, Problem>, Interrupted> {
        let size = disk::size(stat);
        let (mut offset, mut hash) = (0, Sha256::new());
        if size >= RESUME_FROM {
            match self.place(file, size)? {
                Ok(found) => (offset, hash) = found,
                Err(problem) => return Ok(Err(problem)),
            }
        }
        while offset < size {
            if self.is_refused() {
                return Ok(Err(Problem::NotTaken));
            }
            let wanted = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(CHUNK);
            let n = match file.read(self.chunk.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => return Ok(Err(Problem::Changed)),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(disk::problem_of(&error))),
            };
            let bytes = self.chunk.get(..n).unwrap_or_default();
            hash.update(bytes);
            let message = match u32::try_from(n) {
                Ok(count) if bytes.iter().all(|byte| *byte == 0) => Message::Zeros(count),
                _ => Message::Data(bytes.to_vec()),
            };
            self.out.say(&message)?;
            offset = offset.saturating_add(n as u64);
            (self.report)(Report::Bytes(n as u64));
        }
        Ok(Ok(digest(&hash)))
    }

    /// Where a large file's content begins, by what the taker holds of it.
    fn place(&mut self, file: &mut File, size: u64) -> Result<Result<(u64, Sha256), Problem>, Interrupted> {
        self.out.flush()?;
        let (bytes, theirs) = loop {
            match self.answers.recv() {
                Ok(Answer::Held(bytes, digest)) => break (bytes, digest),
                Ok(Answer::Refused) if self.is_refused() => return Ok(Err(Problem::NotTaken)),
                // An earlier file was refused.
                Ok(Answer::Refused) => {}
                Err(_) => return Err(Interrupted::Cut),
            }
        };
        let mut found = (0, Sha256::new());
        if bytes > 0 && bytes <= size {
            match prefix(file, bytes) {
                Ok(Some(hash)) if digest(&hash) == theirs => found = (bytes, hash),
                Ok(_) => {}
                Err(error) => return Ok(Err(disk::problem_of(&error))),
            }
        }
        if found.0 == 0
            && let Err(error) = file.rewind()
        {
            return Ok(Err(disk::problem_of(&error)));
        }
        if found.0 > 0 {
            (self.report)(Report::Resumed(found.0));
        }
        self.out.say(&Message::Place { offset: found.0 })?;
        Ok(Ok(found))
    }

    /// Whether the taker does not want the present file.
    fn is_refused(&self) -> bool {
        self.peer.count.load(Ordering::Acquire) > 0
            && self.peer.refused.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(&self.path)
    }
}
