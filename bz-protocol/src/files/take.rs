//! The end that takes: puts what it is told in its place, and nothing anywhere else.
//!
//! Existing files and links are replaced, never written into or followed; existing directories are gone into and keep
//! their own mode and time. Owner is whoever runs this. Set-user-id, set-group-id and sticky are never set.

use std::io::{Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::copy::{Copied, Facts, Message, OutOfTurn, Problem, RESUME_FROM, Summary, Walk};
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use crate::files::disk;
use crate::files::frames::{Incoming, Outgoing};
use crate::files::partial::{Partial, name_of};
use crate::files::place::Place;
use crate::files::report::{End, Interrupted, Report};

/// Where to put it.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// A directory to go into, or the name to take.
    pub path: &'a Path,
    /// What the copy is called in that directory; empty when its content goes right into it.
    pub name: &'a [u8],
    /// Whether directories are taken.
    pub recursive: bool,
    /// Whether modes and times are kept.
    pub preserve: bool,
    /// Whether to tell the full path: the target's end does.
    pub tell_root: bool,
}

/// Takes what the giver at the other end of the streams has.
///
/// # Errors
/// [`Interrupted`]; what merely could not be copied is told and counted. A large file that was cut stays beside its
/// place for the next copy of it.
pub fn take(
    destination: &Destination<'_>,
    (input, output): (impl Read, impl Write),
    report: &(dyn Fn(Report) + Sync),
) -> Result<Summary, Interrupted> {
    let mut taker = Taker {
        destination,
        out: Outgoing::new(output),
        report,
        walk: Walk::default(),
        first: None,
        levels: Vec::new(),
        current: None,
        summary: Summary::default(),
    };
    let mut input = Incoming::new(input);
    let taken = loop {
        match input.next().and_then(|message| taker.step(message)) {
            Ok(false) => {}
            Ok(true) => break Ok(taker.summary),
            Err(interrupted) => break Err(interrupted),
        }
    };
    if taken.is_err() {
        taker.leave_partial();
    }
    taken
}

/// A directory that is being filled.
struct Level {
    /// `None` when it could not be made: what is in it is not taken either.
    directory: Option<OwnedFd>,
    facts: Facts,
    made: bool,
}

/// A file that is being taken.
struct Current {
    name: Vec<u8>,
    facts: Facts,
    size: u64,
    /// `None` when it failed already: the rest is let go.
    partial: Option<Partial>,
}

struct Taker<'a, W: Write> {
    destination: &'a Destination<'a>,
    out: Outgoing<W>,
    report: &'a (dyn Fn(Report) + Sync),
    walk: Walk,
    /// Where the first entry goes, once there is one.
    first: Option<OwnedFd>,
    levels: Vec<Level>,
    current: Option<Current>,
    summary: Summary,
}

impl<W: Write> Taker<'_, W> {
    /// Takes a message; whether it was the last.
    fn step(&mut self, message: Message) -> Result<bool, Interrupted> {
        self.walk.step(&message)?;
        match message {
            Message::Root { path } => (self.report)(Report::Root(path)),
            Message::Directory { name, facts } => self.enter(&name, facts)?,
            Message::Leave => self.leave(),
            Message::Symlink { name, to } => self.link(&name, &to)?,
            Message::File { name, facts, size } => self.begin(&name, facts, size)?,
            Message::Place { offset } => self.place(offset)?,
            Message::Data(bytes) => {
                self.fill(|partial| partial.write(&bytes))?;
                (self.report)(Report::Bytes(bytes.len() as u64));
            }
            Message::Zeros(count) => {
                self.fill(|partial| partial.skip(count))?;
                (self.report)(Report::Bytes(count.into()));
            }
            Message::Copied(copied) => self.finish(copied)?,
            Message::Failed { path, problem } => self.told(path, problem),
            Message::Done(_) => {
                self.out.say_now(&Message::Done(self.summary))?;
                return Ok(true);
            }
            Message::Held { .. } => return Err(OutOfTurn::Kind.into()),
        }
        Ok(false)
    }

    /// This was not taken.
    fn fail(&mut self, path: Vec<u8>, problem: Problem) -> Result<(), Interrupted> {
        self.summary.failed = self.summary.failed.saturating_add(1);
        (self.report)(Report::Failed { path: path.clone(), problem, at: End::Here });
        self.out.say_now(&Message::Failed { path, problem })
    }

    /// The giver did not give it.
    fn told(&mut self, path: Vec<u8>, problem: Problem) {
        if let Some(current) = self.current.take() {
            let Some(partial) = current.partial else { return };
            if let Some(directory) = self.directory() {
                partial.remove(directory);
            }
        }
        self.summary.failed = self.summary.failed.saturating_add(1);
        (self.report)(Report::Failed { path, problem, at: End::There });
    }

    /// The directory that entries are put in now.
    fn directory(&self) -> Option<BorrowedFd<'_>> {
        match self.levels.last() {
            Some(level) => level.directory.as_ref().map(|fd| fd.as_fd()),
            None => self.first.as_ref().map(|fd| fd.as_fd()),
        }
    }

    /// Settles where the first entry goes, and tells it.
    fn root(&mut self, is_directory: bool) -> Result<Result<Place, Problem>, Interrupted> {
        if is_directory && !self.destination.recursive {
            return Err(OutOfTurn::Kind.into());
        }
        let place = Place::find(self.destination, is_directory);
        if let Ok(place) = &place
            && self.destination.tell_root
        {
            self.out.say(&Message::Root { path: place.path().to_vec() })?;
        }
        Ok(place)
    }

    fn enter(&mut self, name: &[u8], facts: Facts) -> Result<(), Interrupted> {
        let made = if self.levels.is_empty() {
            match self.root(true)? {
                Ok(Place::Is { directory, .. }) => Ok((directory, false)),
                Ok(Place::In { directory, name, .. }) => make(directory.as_fd(), &name, &facts),
                Err(problem) => Err(problem),
            }
        } else {
            // What is below a directory that failed is not named one by one.
            let Some(above) = self.directory() else {
                self.levels.push(Level { directory: None, facts, made: false });
                return Ok(());
            };
            make(above, name, &facts)
        };
        let level = match made {
            Ok((directory, made)) => Level { directory: Some(directory), facts, made },
            Err(problem) => {
                self.fail(self.walk.path().to_vec(), problem)?;
                Level { directory: None, facts, made: false }
            }
        };
        if level.directory.is_some() {
            self.summary.directories = self.summary.directories.saturating_add(1);
        }
        self.levels.push(level);
        Ok(())
    }

    /// What was made gets its mode and time when nothing more is put into it.
    fn leave(&mut self) {
        let Some(Level { directory: Some(fd), facts, made }) = self.levels.pop() else { return };
        if made {
            let settled = if self.destination.preserve {
                rustix::fs::fchmod(&fd, disk::mode(&facts))
                    .and_then(|()| rustix::fs::futimens(&fd, &disk::times(&facts)))
            } else {
                rustix::fs::fstat(&fd)
                    .and_then(|stat| rustix::fs::fchmod(&fd, disk::bits(disk::permissions(&stat) & facts.mode)))
            };
            // The copy is whole all the same.
            settled.unwrap_or_default();
        }
        rustix::fs::fsync(&fd).unwrap_or_default();
    }

    fn link(&mut self, name: &[u8], to: &[u8]) -> Result<(), Interrupted> {
        let Some(directory) = self.directory() else { return Ok(()) };
        match link(directory, name, to) {
            Ok(()) => {
                self.summary.links = self.summary.links.saturating_add(1);
                Ok(())
            }
            Err(problem) => {
                let mut path = self.walk.path().to_vec();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                self.fail(path, problem)
            }
        }
    }

    fn begin(&mut self, name: &[u8], facts: Facts, size: u64) -> Result<(), Interrupted> {
        let path = self.walk.path().to_vec();
        (self.report)(Report::Begun { path: path.clone(), size });
        let mut current = Current { name: name.to_vec(), facts, size, partial: None };
        if self.levels.is_empty() {
            match self.root(false)? {
                Ok(Place::In { directory, name, .. }) => {
                    (self.first, current.name) = (Some(directory), name);
                }
                Ok(Place::Is { .. }) => {
                    self.current = Some(current);
                    return self.fail(path, Problem::InTheWay);
                }
                Err(problem) => {
                    self.current = Some(current);
                    return self.fail(path, problem);
                }
            }
        }
        let opened = match self.directory() {
            Some(directory) => open(directory, &current).map(Some),
            // Below a directory that failed; the giver need not send it all.
            None => Ok(None),
        };
        match opened {
            Ok(Some(partial)) => {
                let (bytes, digest) = partial.held();
                current.partial = Some(partial);
                self.current = Some(current);
                if size >= RESUME_FROM {
                    self.out.say_now(&Message::Held { bytes, digest })?;
                }
                Ok(())
            }
            Ok(None) => {
                self.current = Some(current);
                self.out.say_now(&Message::Failed { path, problem: Problem::NotTaken })
            }
            Err(problem) => {
                self.current = Some(current);
                self.fail(path, problem)
            }
        }
    }

    fn place(&mut self, offset: u64) -> Result<(), Interrupted> {
        let Some(partial) = self.current.as_mut().and_then(|current| current.partial.as_mut()) else { return Ok(()) };
        let held = partial.held().0;
        if offset == 0 {
            return self.fill(Partial::restart);
        }
        if offset != held {
            return Err(OutOfTurn::Bytes.into());
        }
        (self.report)(Report::Resumed(offset));
        Ok(())
    }

    /// Does something with the present file, unless it failed before.
    fn fill(&mut self, put: impl FnOnce(&mut Partial) -> std::io::Result<()>) -> Result<(), Interrupted> {
        let Some(partial) = self.current.as_mut().and_then(|current| current.partial.as_mut()) else { return Ok(()) };
        let Err(error) = put(partial) else { return Ok(()) };
        if let Some(partial) = self.current.as_mut().and_then(|current| current.partial.take())
            && let Some(directory) = self.directory()
        {
            partial.remove(directory);
        }
        self.fail(self.walk.path().to_vec(), disk::problem_of(&error))
    }

    /// The giver's last word on the present file.
    fn finish(&mut self, given: Copied) -> Result<(), Interrupted> {
        let Some(Current { name, facts, partial: Some(partial), .. }) = self.current.take() else { return Ok(()) };
        let Some(directory) = self.directory() else { return Ok(()) };
        if partial.digest() != given.digest {
            partial.remove(directory);
            return self.fail(given.path, Problem::Damaged);
        }
        if let Err(problem) = partial.finish(directory, &name, (&facts, self.destination.preserve)) {
            return self.fail(given.path, problem);
        }
        self.summary.files = self.summary.files.saturating_add(1);
        self.summary.bytes = self.summary.bytes.saturating_add(given.size);
        (self.report)(Report::Copied(given.clone()));
        self.out.say_now(&Message::Copied(given))
    }

    fn leave_partial(&mut self) {
        if let Some(partial) = self.current.take().and_then(|current| current.partial)
            && let Some(directory) = self.directory()
        {
            partial.leave(directory);
        }
    }
}

/// A directory of this name, made or found; whether it was made.
fn make(above: BorrowedFd<'_>, name: &[u8], facts: &Facts) -> Result<(OwnedFd, bool), Problem> {
    // Its owner may fill it, whatever it is to be in the end.
    let mode = disk::bits(facts.mode | 0o700);
    let made = match rustix::fs::mkdirat(above, name, mode) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(disk::problem(errno)),
    };
    match rustix::fs::openat(above, name, disk::DIRECTORY, Mode::empty()) {
        Ok(fd) => Ok((fd, made)),
        Err(Errno::NOTDIR) => Err(Problem::InTheWay),
        Err(errno) => Err(disk::problem(errno)),
    }
}

fn open(directory: BorrowedFd<'_>, current: &Current) -> Result<Partial, Problem> {
    let there = rustix::fs::statat(directory, current.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
    // Told before its content comes, not after.
    if there.is_ok_and(|stat| disk::kind(&stat) == FileType::Directory) {
        return Err(Problem::InTheWay);
    }
    Partial::open(directory, &current.name, current.size, &current.facts)
}

/// Makes the link beside its place and moves it there: an existing file or link is replaced in one step.
fn link(directory: BorrowedFd<'_>, name: &[u8], to: &[u8]) -> Result<(), Problem> {
    let none = Facts { mode: 0, seconds: 0, nanos: 0 };
    let draft = name_of(name, 0, &none);
    match rustix::fs::symlinkat(to, directory, draft.as_slice()) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(disk::problem(errno)),
    }
    // One that was left behind may say something else.
    let said = rustix::fs::readlinkat(directory, draft.as_slice(), Vec::new());
    let fits = said.is_ok_and(|said| said.as_bytes() == to);
    let moved = if fits {
        rustix::fs::renameat(directory, draft.as_slice(), directory, name).map_err(disk::problem)
    } else {
        Err(Problem::InTheWay)
    };
    if moved.is_err() {
        rustix::fs::unlinkat(directory, draft.as_slice(), AtFlags::empty()).unwrap_or_default();
    }
    moved
}
