//! Attributes of files, both ways, and the line that stands for one in a listing.

use super::packet::{Packet, u64_of};
use bz_core::ssh::wire::{Malformed, Reader};
use rustix::fs::{Timespec, Timestamps};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;
/// What a client may set of a mode.
pub(super) const PERMISSIONS: u32 = 0o7777;

/// What a client says of a file.
#[derive(Default)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    /// When it was read and when it was changed, in seconds.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flags = reader.u32()?;
        let mut found = Self::default();
        if flags & SIZE != 0 {
            found.size = Some(u64_of(reader)?);
        }
        if flags & OWNER != 0 {
            found.owner = Some((reader.u32()?, reader.u32()?));
        }
        if flags & MODE != 0 {
            found.mode = Some(reader.u32()?);
        }
        if flags & TIMES != 0 {
            found.times = Some((reader.u32()?, reader.u32()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..reader.u32()? {
                reader.string()?;
                reader.string()?;
            }
        }
        Ok(found)
    }

    pub(super) fn timestamps(&self) -> Option<Timestamps> {
        let at = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
        self.times.map(|(read, changed)| Timestamps { last_access: at(read), last_modification: at(changed) })
    }
}

/// A file's attributes, at the end of a message.
pub(super) fn write(packet: Packet, found: &Metadata) -> Packet {
    let seconds = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    packet
        .u32(SIZE | OWNER | MODE | TIMES)
        .u64(found.len())
        .u32(found.uid())
        .u32(found.gid())
        .u32(found.mode())
        .u32(seconds(found.atime()))
        .u32(seconds(found.mtime()))
}

/// The line that people see of a file.
pub(super) fn line(name: &[u8], found: &Metadata) -> Vec<u8> {
    let kind = match found.mode() & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let bits: String = (0..9)
        .rev()
        .map(
            |bit| if found.mode() >> bit & 1 == 0 { '-' } else { ['x', 'w', 'r'].get(bit % 3).copied().unwrap_or('-') },
        )
        .collect();
    let changed = bz_core::time::UnixTime::from_secs(u64::try_from(found.mtime()).unwrap_or_default()).to_string();
    let (links, uid, gid, size) = (found.nlink(), found.uid(), found.gid(), found.len());
    let facts = format!("{kind}{bits} {links:>4} {uid:<8} {gid:<8} {size:>12} {changed} ");
    [facts.as_bytes(), name].concat()
}
