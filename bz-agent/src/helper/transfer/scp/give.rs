//! Files go from here.

use super::{CHUNK, Ended, MAX_DEPTH, Peer};
use crate::helper::transfer::tracked::{self, Tracked, path};
use crate::helper::transfer::{Log, Scp};
use bz_core::access::request::MAX_NAME;
use bz_protocol::ssh::FileWay;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

pub(super) fn give<W: Write>(scp: &Scp, peer: &mut Peer<'_>, log: &mut Log<W>) -> Result<(), Ended> {
    // The other end says that it is ready.
    peer.answer()?;
    let path = path(&scp.path);
    Giver { scp, peer, log }.entry(&path, 0)
}

struct Giver<'a, 'b, W> {
    scp: &'a Scp,
    peer: &'a mut Peer<'b>,
    log: &'a mut Log<W>,
}

impl<W: Write> Giver<'_, '_, W> {
    fn entry(&mut self, path: &Path, depth: usize) -> Result<(), Ended> {
        let found = match fs::metadata(path) {
            Ok(found) if found.is_dir() && !self.scp.recursive => Err(tracked::special(true)),
            found => found,
        };
        match found {
            Ok(found) if found.is_dir() && depth < MAX_DEPTH => self.directory(path, &found, depth),
            Ok(found) if found.is_dir() => self.fails(path, &rustix::io::Errno::NAMETOOLONG.into()),
            Ok(_) => self.file(path),
            Err(error) => self.fails(path, &error),
        }
    }

    fn fails(&mut self, path: &Path, error: &io::Error) -> Result<(), Ended> {
        self.log.file(&tracked::failed(FileWay::FromTarget, path, error));
        self.peer.warn(path.as_os_str().as_bytes(), error)
    }

    /// Says an entry; whether the other end wants it.
    fn says(&mut self, (kind, size): (char, u64), path: &Path, found: &Metadata) -> Result<bool, Ended> {
        if self.scp.preserve {
            let line = format!("T{} 0 {} 0\n", found.mtime().max(0), found.atime().max(0));
            self.peer.writer.write_all(line.as_bytes())?;
            if !self.peer.answer()? {
                return Ok(false);
            }
        }
        let head = format!("{kind}{:04o} {size} ", found.mode() & 0o7777);
        self.peer.writer.write_all(&[head.as_bytes(), &name(path), b"\n"].concat())?;
        self.peer.answer()
    }

    fn directory(&mut self, path: &Path, found: &Metadata, depth: usize) -> Result<(), Ended> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.fails(path, &error),
        };
        if !self.says(('D', 0), path, found)? {
            return Ok(());
        }
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry.path(), depth + 1)?,
                Err(error) => self.fails(path, &error)?,
            }
        }
        self.peer.writer.write_all(b"E\n")?;
        self.peer.answer().map(drop)
    }

    fn file(&mut self, path: &Path) -> Result<(), Ended> {
        let opened = tracked::open(OpenOptions::new().read(true), path).and_then(|file| Ok((file.metadata()?, file)));
        let (found, file) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.fails(path, &error),
        };
        if !self.says(('C', found.len()), path, &found)? {
            return Ok(());
        }
        let mut file = Tracked::new((file, path), FileWay::FromTarget, self.log);
        let sent = self.content(&mut file, found.len());
        self.log.file(&file.finish(sent.is_ok()));
        match sent? {
            Some(error) => self.peer.warn(path.as_os_str().as_bytes(), &error)?,
            None => self.peer.fine()?,
        }
        self.peer.answer().map(drop)
    }

    /// Exactly as many bytes as were announced: what cannot be read is zeros, and then an error.
    fn content(&mut self, file: &mut Tracked, size: u64) -> Result<Option<io::Error>, Ended> {
        let (mut sent, mut failed, mut buffer) = (0_u64, None, vec![0; CHUNK]);
        while sent < size {
            let wanted = usize::try_from(size.saturating_sub(sent)).unwrap_or(CHUNK).min(CHUNK);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            let read = if failed.is_some() { Ok(0) } else { file.read(sent, piece) };
            let count = match read {
                Ok(0) => {
                    failed.get_or_insert_with(|| io::Error::other("it changed while it was read"));
                    piece.fill(0);
                    wanted
                }
                Ok(count) => count,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            self.peer.writer.write_all(buffer.get(..count).unwrap_or_default())?;
            sent = sent.saturating_add(count as u64);
        }
        Ok(failed)
    }
}

/// The last part of a path, in one line as `scp` writes it.
fn name(path: &Path) -> Vec<u8> {
    let real = if path.file_name().is_some() { None } else { fs::canonicalize(path).ok() };
    let name = real.as_deref().unwrap_or(path).file_name().unwrap_or_default().as_bytes();
    let mut name: Vec<u8> = name.iter().map(|byte| if *byte == b'\n' { b'_' } else { *byte }).collect();
    name.truncate(MAX_NAME);
    if name.is_empty() { b"root".to_vec() } else { name }
}
