//! Files come here.

use super::{CHUNK, Ended, MAX_DEPTH, Peer};
use crate::helper::transfer::tracked::{self, Tracked, path};
use crate::helper::transfer::{Log, Scp};
use bz_core::access::request::is_file_name;
use bz_protocol::ssh::FileWay;
use rustix::fs::{Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

pub(super) fn take<W: Write>(scp: &Scp, peer: &mut Peer<'_>, log: &mut Log<W>) -> Result<(), Ended> {
    let at = path(&scp.path);
    if scp.directory && !at.is_dir() {
        return peer.warn(at.as_os_str().as_bytes(), &rustix::io::Errno::NOTDIR.into());
    }
    peer.fine()?;
    Taker { scp, peer, log }.entries(&at, 0)
}

struct Taker<'a, 'b, W> {
    scp: &'a Scp,
    peer: &'a mut Peer<'b>,
    log: &'a mut Log<W>,
}

/// A line that announces an entry.
struct Entry {
    mode: u32,
    size: u64,
    name: Vec<u8>,
    times: Option<Timestamps>,
}

impl<W: Write> Taker<'_, '_, W> {
    /// What comes until the end of a directory, or of everything.
    fn entries(&mut self, at: &Path, depth: usize) -> Result<(), Ended> {
        let mut times = None;
        while let Some(line) = self.peer.line()? {
            match line.split_first() {
                Some((b'T', rest)) => {
                    times = Some(read_times(rest).ok_or(Ended::Nonsense("malformed times"))?);
                    self.peer.fine()?;
                }
                Some((b'E', [])) if depth > 0 => return self.peer.fine(),
                Some((kind @ (b'C' | b'D'), rest)) => {
                    let entry = read_entry(rest, times.take()).ok_or(Ended::Nonsense("a malformed line"))?;
                    // Below the first entry every name is within its directory.
                    let inside = depth > 0 || at.is_dir();
                    let place = if inside { at.join(OsStr::from_bytes(&entry.name)) } else { at.to_owned() };
                    if *kind == b'D' {
                        self.directory(&entry, &place, depth)?;
                    } else {
                        self.file(&entry, &place)?;
                    }
                }
                // The other end's complaint: it could not give something.
                Some((&super::WARNING, _)) => self.peer.failed = true,
                _ => return Err(Ended::Nonsense("no line of scp")),
            }
        }
        if depth == 0 { Ok(()) } else { Err(Ended::Cut) }
    }

    fn directory(&mut self, entry: &Entry, place: &Path, depth: usize) -> Result<(), Ended> {
        if !self.scp.recursive || depth >= MAX_DEPTH {
            return Err(Ended::Nonsense("a directory that nobody asked for"));
        }
        // Its owner may write into it while it is filled.
        let made = match fs::DirBuilder::new().mode((entry.mode & 0o777) | 0o700).create(place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && place.is_dir() => Ok(false),
            made => made.map(|()| true),
        };
        let made = match made {
            Ok(made) => made,
            Err(error) => return self.fails(place, &error),
        };
        self.peer.fine()?;
        self.entries(place, depth + 1)?;
        if self.scp.preserve || (made && entry.mode & 0o700 != 0o700) {
            let mode = if self.scp.preserve { 0o7777 } else { 0o777 } & entry.mode;
            let set = fs::set_permissions(place, fs::Permissions::from_mode(mode));
            set.unwrap_or_else(|_| self.peer.failed = true);
        }
        self.keep_times(entry, place);
        Ok(())
    }

    fn fails(&mut self, place: &Path, error: &io::Error) -> Result<(), Ended> {
        self.log.file(&tracked::failed(FileWay::ToTarget, place, error));
        self.peer.warn(place.as_os_str().as_bytes(), error)
    }

    fn keep_times(&mut self, entry: &Entry, place: &Path) {
        if let Some(times) = entry.times.as_ref().filter(|_| self.scp.preserve) {
            let set = rustix::fs::utimensat(rustix::fs::CWD, place, times, rustix::fs::AtFlags::empty());
            set.unwrap_or_else(|_| self.peer.failed = true);
        }
    }

    fn file(&mut self, entry: &Entry, place: &Path) -> Result<(), Ended> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(entry.mode & 0o777);
        let file = match tracked::open(&mut options, place) {
            Ok(file) => file,
            Err(error) => return self.fails(place, &error),
        };
        self.peer.fine()?;
        let mut file = Tracked::new((file, place), FileWay::ToTarget, self.log);
        let taken = self.content(&mut file, entry.size);
        let written = match &taken {
            Ok(Ok(())) => self.settle(entry, &file),
            Ok(Err(_)) | Err(_) => Ok(()),
        };
        self.log.file(&file.finish(taken.is_ok()));
        let written = taken?.and(written);
        // The other end's word that it has sent what it announced.
        self.peer.answer()?;
        self.keep_times(entry, place);
        match written {
            Ok(()) => self.peer.fine(),
            Err(error) => self.peer.warn(place.as_os_str().as_bytes(), &error),
        }
    }

    /// What was there before may have been longer.
    fn settle(&self, entry: &Entry, file: &Tracked) -> io::Result<()> {
        file.file().set_len(entry.size)?;
        if self.scp.preserve {
            file.file().set_permissions(fs::Permissions::from_mode(entry.mode & 0o7777))?;
        }
        Ok(())
    }

    /// All that was announced is taken from the stream, also what cannot be written.
    fn content(&mut self, file: &mut Tracked, size: u64) -> Result<io::Result<()>, Ended> {
        let (mut taken, mut written, mut buffer) = (0_u64, Ok(()), vec![0; CHUNK]);
        while taken < size {
            let wanted = usize::try_from(size.saturating_sub(taken)).unwrap_or(CHUNK).min(CHUNK);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            let count = self.peer.reader.read(piece)?;
            if count == 0 {
                return Err(Ended::Cut);
            }
            if written.is_ok() {
                written = file.write(taken, piece.get(..count).unwrap_or_default());
            }
            taken = taken.saturating_add(count as u64);
        }
        Ok(written)
    }
}

/// `mode size name`.
fn read_entry(line: &[u8], times: Option<Timestamps>) -> Option<Entry> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let mode = std::str::from_utf8(parts.next()?).ok().filter(|text| text.len() == 4)?;
    let size = std::str::from_utf8(parts.next()?).ok()?;
    let name = parts.next().filter(|name| is_file_name(name))?.to_vec();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(mode) || !digits(size) {
        return None;
    }
    Some(Entry { mode: u32::from_str_radix(mode, 8).ok()?, size: size.parse().ok()?, name, times })
}

/// `changed 0 read 0`.
fn read_times(line: &[u8]) -> Option<Timestamps> {
    let text = std::str::from_utf8(line).ok()?;
    let numbers: Vec<u32> = text.split(' ').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [changed, _, read, _] = numbers.as_slice() else { return None };
    let at = |seconds: &u32| Timespec { tv_sec: (*seconds).into(), tv_nsec: 0 };
    Some(Timestamps { last_access: at(read), last_modification: at(changed) })
}
