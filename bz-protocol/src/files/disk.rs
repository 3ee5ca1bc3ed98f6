//! The file system's words in the protocol's.

use crate::copy::{Facts, Problem};
use rustix::fs::{FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

/// How every directory on the way is opened: no link is followed.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The same for what a person named: that may be a link.
pub(crate) const NAMED_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(crate) fn problem(errno: Errno) -> Problem {
    match errno {
        Errno::NOENT => Problem::NotFound,
        Errno::ACCESS | Errno::PERM => Problem::Denied,
        Errno::NOTDIR => Problem::NotDirectory,
        Errno::EXIST | Errno::LOOP | Errno::ISDIR | Errno::NOTEMPTY => Problem::InTheWay,
        Errno::NAMETOOLONG => Problem::TooLong,
        Errno::NOSPC | Errno::DQUOT => Problem::Full,
        Errno::FBIG => Problem::TooLarge,
        Errno::ROFS => Problem::ReadOnly,
        Errno::NXIO | Errno::NODEV => Problem::Special,
        _ => Problem::Io,
    }
}

/// Why, from an error of the operating system.
#[must_use]
pub fn problem_of(error: &std::io::Error) -> Problem {
    error.raw_os_error().map_or(Problem::Io, |code| problem(Errno::from_raw_os_error(code)))
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Mode and time as they travel: never set-user-id, set-group-id or sticky, as the owner may be another.
pub(crate) fn facts(stat: &Stat) -> Facts {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Facts { mode: permissions(stat), seconds: stat.st_mtime, nanos }
}

pub(crate) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

pub(crate) fn mode(facts: &Facts) -> Mode {
    bits(facts.mode)
}

/// These permissions and nothing more.
#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions, reason = "sixteen bits on some systems")]
pub(crate) fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode((mode & 0o777).try_into().unwrap_or_default())
}

/// The lowest nine bits.
#[allow(clippy::useless_conversion, reason = "sixteen bits on some systems")]
pub(crate) fn permissions(stat: &Stat) -> u32 {
    u32::from(stat.st_mode) & 0o777
}

pub(crate) fn times(facts: &Facts) -> Timestamps {
    let modified = Timespec { tv_sec: facts.seconds, tv_nsec: facts.nanos.into() };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: modified }
}
