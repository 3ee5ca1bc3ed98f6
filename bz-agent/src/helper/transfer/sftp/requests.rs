//! What each request does. The kernel says what the user may.

use super::attributes::{self, Attributes, PERMISSIONS};
use super::packet::*;
use super::{Handle, MAX_HANDLES, Server};
use crate::helper::transfer::tracked::{self, Tracked, path};
use bz_core::ssh::wire::{Malformed, Reader};
use bz_protocol::ssh::{Fate, FileWay};
use rustix::fs::{AtFlags, CWD, Gid, Mode, RenameFlags, Uid, chmodat, chownat, utimensat};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const FLAG_READ: u32 = 1;
const FLAG_WRITE: u32 = 2;
const FLAG_APPEND: u32 = 4;
const FLAG_CREATE: u32 = 8;
const FLAG_TRUNCATE: u32 = 16;
const FLAG_EXCLUSIVE: u32 = 32;
/// Entries of a directory in one answer.
const LISTED: usize = 100;

/// Why a request is not done.
pub(super) enum Refused {
    Malformed,
    System(io::Error),
    Status(u32, &'static str),
}

impl From<Malformed> for Refused {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::System(errno.into())
    }
}

impl Refused {
    pub(super) fn answer(self, id: u32) -> Packet {
        match self {
            Self::Malformed => status(id, BAD_MESSAGE, "the message is malformed"),
            Self::Status(code, text) => status(id, code, text),
            Self::System(error) => {
                let code = if error.kind() == io::ErrorKind::NotFound {
                    NO_SUCH_FILE
                } else if error.kind() == io::ErrorKind::PermissionDenied {
                    PERMISSION_DENIED
                } else {
                    FAILURE
                };
                status(id, code, &error.to_string())
            }
        }
    }
}

type Done = Result<Packet, Refused>;

impl<W: Write> Server<W> {
    pub(super) fn request(&mut self, kind: u8, id: u32, request: &mut Reader<'_>) -> Done {
        match kind {
            OPEN => self.open(id, request),
            CLOSE => self.close(id, request),
            READ => self.read(id, request),
            WRITE => self.write(id, request),
            OPENDIR => self.open_directory(id, request),
            READDIR => self.read_directory(id, request),
            FSTAT | FSETSTAT => self.of_handle(kind, id, request),
            EXTENDED => self.extended(id, request),
            STAT => Ok(attributes::write(Packet::new(ATTRS).u32(id), &fs::metadata(path(request.string()?))?)),
            LSTAT => Ok(attributes::write(Packet::new(ATTRS).u32(id), &fs::symlink_metadata(path(request.string()?))?)),
            REALPATH => real_path(id, request.string()?),
            READLINK => Ok(named(id, fs::read_link(path(request.string()?))?.as_os_str().as_bytes())),
            REMOVE => self.removes(request.string()?, |at| fs::remove_file(at)).map(|()| done(id)),
            RMDIR => self.removes(request.string()?, |at| fs::remove_dir(at)).map(|()| done(id)),
            // The protocol's own renaming replaces nothing.
            RENAME => self.renames(request, RenameFlags::NOREPLACE).map(|()| done(id)),
            SETSTAT | MKDIR | SYMLINK => change(kind, request).map(|()| done(id)),
            _ => Ok(unsupported(id)),
        }
    }

    fn open(&mut self, id: u32, request: &mut Reader<'_>) -> Done {
        let (path, flags) = (path(request.string()?), request.u32()?);
        let wanted = Attributes::read(request)?;
        self.room()?;
        let writes = flags & FLAG_WRITE != 0;
        let mut options = OpenOptions::new();
        options
            .read(flags & FLAG_READ != 0 || !writes)
            .write(writes)
            .append(writes && flags & FLAG_APPEND != 0)
            .create(writes && flags & FLAG_CREATE != 0)
            .truncate(writes && flags & FLAG_TRUNCATE != 0 && flags & FLAG_APPEND == 0)
            .create_new(writes && flags & FLAG_CREATE != 0 && flags & FLAG_EXCLUSIVE != 0)
            .mode(wanted.mode.unwrap_or(0o666) & PERMISSIONS);
        let way = if writes { FileWay::ToTarget } else { FileWay::FromTarget };
        let file = tracked::open(&mut options, &path).inspect_err(|error| {
            self.log.file(&tracked::failed(way, &path, error));
        })?;
        let file = Tracked::new((file, &path), way, &mut self.log).append(writes && flags & FLAG_APPEND != 0);
        Ok(self.opened(id, Handle::File(Box::new(file))))
    }

    fn removes(&mut self, name: &[u8], remove: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Refused> {
        let at = path(name);
        // Where it was is known while it is there.
        let row = tracked::named(&at, Fate::Removed);
        remove(&at)?;
        self.log.file(&row);
        Ok(())
    }

    fn renames(&mut self, request: &mut Reader<'_>, flags: RenameFlags) -> Result<(), Refused> {
        let (from, to) = (path(request.string()?), path(request.string()?));
        let rows = [tracked::named(&from, Fate::MovedFrom), tracked::named(&to, Fate::MovedTo)];
        rustix::fs::renameat_with(CWD, &from, CWD, &to, flags)?;
        rows.iter().for_each(|row| self.log.file(row));
        Ok(())
    }

    fn open_directory(&mut self, id: u32, request: &mut Reader<'_>) -> Done {
        let path = path(request.string()?);
        self.room()?;
        let rest = fs::read_dir(&path)?;
        Ok(self.opened(id, Handle::Directory { path, rest }))
    }

    fn room(&self) -> Result<(), Refused> {
        if self.handles.len() < MAX_HANDLES { Ok(()) } else { Err(Refused::Status(FAILURE, "too many open files")) }
    }

    fn opened(&mut self, id: u32, handle: Handle) -> Packet {
        let number = self.keep(handle);
        Packet::new(HANDLE).u32(id).string(&number.to_be_bytes())
    }

    fn close(&mut self, id: u32, request: &mut Reader<'_>) -> Done {
        let handle = self.handles.remove(&number(request)?).ok_or(NO_HANDLE)?;
        self.log_file(handle, true);
        Ok(done(id))
    }

    fn read(&mut self, id: u32, request: &mut Reader<'_>) -> Done {
        let file = self.file(number(request)?)?;
        let (offset, wanted) = (u64_of(request)?, request.u32()?);
        let mut buffer = vec![0; usize::try_from(wanted).unwrap_or(MAX_DATA).min(MAX_DATA)];
        match file.read(offset, &mut buffer)? {
            0 if wanted > 0 => Ok(status(id, EOF, "End of file")),
            count => Ok(Packet::new(DATA).u32(id).string(buffer.get(..count).unwrap_or_default())),
        }
    }

    fn write(&mut self, id: u32, request: &mut Reader<'_>) -> Done {
        let file = self.file(number(request)?)?;
        let (offset, bytes) = (u64_of(request)?, request.string()?);
        file.write(offset, bytes)?;
        Ok(done(id))
    }

    fn file(&mut self, number: u32) -> Result<&mut Tracked, Refused> {
        match self.handles.get_mut(&number) {
            Some(Handle::File(file)) => Ok(file),
            Some(Handle::Directory { .. }) | None => Err(NO_HANDLE),
        }
    }

    fn read_directory(&mut self, id: u32, request: &mut Reader<'_>) -> Done {
        let Some(Handle::Directory { path, rest }) = self.handles.get_mut(&number(request)?) else {
            return Err(NO_HANDLE);
        };
        let (mut count, mut names) = (0_u32, Packet::default());
        for entry in rest.take(LISTED) {
            let name = entry?.file_name();
            // One that is gone by now is left out.
            let Ok(found) = fs::symlink_metadata(path.join(&name)) else { continue };
            let name = name.as_bytes();
            names = attributes::write(names.string(name).string(&attributes::line(name, &found)), &found);
            count += 1;
        }
        if count == 0 {
            return Ok(status(id, EOF, "End of file"));
        }
        Ok(Packet::new(NAME).u32(id).u32(count).raw(&names.bytes()))
    }

    fn of_handle(&mut self, kind: u8, id: u32, request: &mut Reader<'_>) -> Done {
        let file = self.file(number(request)?)?;
        if kind == FSTAT {
            return Ok(attributes::write(Packet::new(ATTRS).u32(id), &file.file().metadata()?));
        }
        let wanted = Attributes::read(request)?;
        if let Some(size) = wanted.size {
            file.disturb();
            file.file().set_len(size)?;
        }
        if let Some(mode) = wanted.mode {
            file.file().set_permissions(fs::Permissions::from_mode(mode & PERMISSIONS))?;
        }
        if let Some(times) = wanted.timestamps() {
            rustix::fs::futimens(file.file(), &times)?;
        }
        if let Some((uid, gid)) = wanted.owner {
            rustix::fs::fchown(file.file(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok(done(id))
    }

    fn extended(&mut self, id: u32, request: &mut Reader<'_>) -> Done {
        match request.string()? {
            b"posix-rename@openssh.com" => self.renames(request, RenameFlags::empty()).map(|()| done(id)),
            b"hardlink@openssh.com" => {
                fs::hard_link(path(request.string()?), path(request.string()?))?;
                Ok(done(id))
            }
            b"fsync@openssh.com" => {
                self.file(number(request)?)?.file().sync_all()?;
                Ok(done(id))
            }
            b"lsetstat@openssh.com" => {
                let path = path(request.string()?);
                set(&path, &Attributes::read(request)?, false)?;
                Ok(done(id))
            }
            b"limits@openssh.com" => {
                let (packet, data) = (MAX_PACKET as u64, MAX_DATA as u64);
                let answer = Packet::new(EXTENDED_REPLY).u32(id);
                Ok(answer.u64(packet).u64(data).u64(data).u64(MAX_HANDLES as u64))
            }
            b"expand-path@openssh.com" => {
                let wanted = request.string()?;
                let home = self.home.as_os_str().as_bytes();
                match wanted.strip_prefix(b"~") {
                    None => real_path(id, wanted),
                    Some(b"") => Ok(named(id, home)),
                    Some(rest) if rest.first() == Some(&b'/') => real_path(id, &[home, rest].concat()),
                    Some(_) => Err(Refused::Status(FAILURE, "only the user's own home is known here")),
                }
            }
            b"statvfs@openssh.com" => {
                let found = rustix::fs::statvfs(path(request.string()?))?;
                let numbers = [
                    found.f_bsize,
                    found.f_frsize,
                    found.f_blocks,
                    found.f_bfree,
                    found.f_bavail,
                    found.f_files,
                    found.f_ffree,
                    found.f_favail,
                    found.f_fsid,
                    // RDONLY and NOSUID have the same numbers there.
                    found.f_flag.bits() & 3,
                    found.f_namemax,
                ];
                Ok(numbers.into_iter().fold(Packet::new(EXTENDED_REPLY).u32(id), Packet::u64))
            }
            _ => Ok(unsupported(id)),
        }
    }
}

const NO_HANDLE: Refused = Refused::Status(FAILURE, "no such handle");

fn done(id: u32) -> Packet {
    status(id, OK, "Success")
}

fn unsupported(id: u32) -> Packet {
    status(id, UNSUPPORTED, "this server cannot do that")
}

fn number(request: &mut Reader<'_>) -> Result<u32, Refused> {
    let bytes = <[u8; 4]>::try_from(request.string()?).map_err(|_| NO_HANDLE)?;
    Ok(u32::from_be_bytes(bytes))
}

/// One name, for a path.
fn named(id: u32, name: &[u8]) -> Packet {
    Packet::new(NAME).u32(id).u32(1).string(name).string(name).u32(0)
}

/// The full path; the last part of it need not exist.
fn real_path(id: u32, wanted: &[u8]) -> Done {
    let wanted = path(wanted);
    let real = match fs::canonicalize(&wanted) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = wanted.file_name().ok_or(error)?;
            let parent = wanted.parent().filter(|parent| !parent.as_os_str().is_empty());
            fs::canonicalize(parent.unwrap_or_else(|| Path::new(".")))?.join(name)
        }
        found => found?,
    };
    Ok(named(id, real.as_os_str().as_bytes()))
}

/// Requests that change what names mean, and have nothing to answer.
fn change(kind: u8, request: &mut Reader<'_>) -> Result<(), Refused> {
    let first = request.string()?;
    let at = path(first);
    match kind {
        SETSTAT => set(&at, &Attributes::read(request)?, true)?,
        MKDIR => {
            let mode = Attributes::read(request)?.mode.unwrap_or(0o777);
            fs::DirBuilder::new().mode(mode & PERMISSIONS).create(at)?;
        }
        // OpenSSH has what the link says first, the other way round than the draft, and everybody follows it.
        _ => std::os::unix::fs::symlink(OsStr::from_bytes(first), path(request.string()?))?,
    }
    Ok(())
}

/// Sets what is said of a name, or of what it leads to.
fn set(path: &Path, wanted: &Attributes, follow: bool) -> Result<(), Refused> {
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    if let Some(size) = wanted.size {
        tracked::open(OpenOptions::new().write(true), path)?.set_len(size)?;
    }
    if let Some(mode) = wanted.mode {
        chmodat(CWD, path, Mode::from_raw_mode(mode & PERMISSIONS), flags)?;
    }
    if let Some(times) = wanted.timestamps() {
        utimensat(CWD, path, &times, flags)?;
    }
    if let Some((uid, gid)) = wanted.owner {
        chownat(CWD, path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)?;
    }
    Ok(())
}
