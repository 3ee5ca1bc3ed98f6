//! Messages of SFTP: a length, a kind, and fields in SSH's own encodings.

use bz_core::ssh::wire::{Malformed, Reader, Writer};
use std::io::{self, Read};

pub(super) const INIT: u8 = 1;
pub(super) const VERSION: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const LSTAT: u8 = 7;
pub(super) const FSTAT: u8 = 8;
pub(super) const SETSTAT: u8 = 9;
pub(super) const FSETSTAT: u8 = 10;
pub(super) const OPENDIR: u8 = 11;
pub(super) const READDIR: u8 = 12;
pub(super) const REMOVE: u8 = 13;
pub(super) const MKDIR: u8 = 14;
pub(super) const RMDIR: u8 = 15;
pub(super) const REALPATH: u8 = 16;
pub(super) const STAT: u8 = 17;
pub(super) const RENAME: u8 = 18;
pub(super) const READLINK: u8 = 19;
pub(super) const SYMLINK: u8 = 20;
pub(super) const STATUS: u8 = 101;
pub(super) const HANDLE: u8 = 102;
pub(super) const DATA: u8 = 103;
pub(super) const NAME: u8 = 104;
pub(super) const ATTRS: u8 = 105;
pub(super) const EXTENDED: u8 = 200;
pub(super) const EXTENDED_REPLY: u8 = 201;

pub(super) const OK: u32 = 0;
pub(super) const EOF: u32 = 1;
pub(super) const NO_SUCH_FILE: u32 = 2;
pub(super) const PERMISSION_DENIED: u32 = 3;
pub(super) const FAILURE: u32 = 4;
pub(super) const BAD_MESSAGE: u32 = 5;
pub(super) const UNSUPPORTED: u32 = 8;

/// The most bytes of a message, as OpenSSH has it.
pub(super) const MAX_PACKET: usize = 256 << 10;
/// The most bytes of a file in one message.
pub(super) const MAX_DATA: usize = MAX_PACKET - 1024;

/// A message in the making.
#[derive(Default)]
pub(super) struct Packet(Writer);

impl Packet {
    pub(super) fn new(kind: u8) -> Self {
        Self(Writer::default().u8(kind))
    }

    pub(super) fn u32(self, value: u32) -> Self {
        Self(self.0.u32(value))
    }

    pub(super) fn u64(self, value: u64) -> Self {
        Self(self.0.u64(value))
    }

    pub(super) fn string(self, bytes: &[u8]) -> Self {
        Self(self.0.string(bytes))
    }

    pub(super) fn raw(self, bytes: &[u8]) -> Self {
        Self(self.0.raw(bytes))
    }

    /// The bytes, for a part of another message.
    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.finish()
    }

    /// The message behind its length.
    pub(super) fn finish(self) -> Vec<u8> {
        Writer::default().string(&self.0.finish()).finish()
    }
}

pub(super) fn status(id: u32, code: u32, text: &str) -> Packet {
    Packet::new(STATUS).u32(id).u32(code).string(text.as_bytes()).string(b"")
}

/// The next message; `None` at the end. One that is too long is an error before it is stored.
pub(super) fn read_packet(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let (first, rest) = length.split_at_mut(1);
    if stream.read(first)? == 0 {
        return Ok(None);
    }
    stream.read_exact(rest)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    if length == 0 || length > MAX_PACKET {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet)?;
    Ok(Some(packet))
}

pub(super) fn u64_of(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    Ok((u64::from(reader.u32()?) << 32) | u64::from(reader.u32()?))
}
