//! What travels on stream 0 of a copy, the same whichever way the files go: messages, each behind its length as u32.
//!
//! One end *gives* files, the other *takes* them. A tree is told as it is walked, one name at a time, so that there is
//! no path for a taker to resolve:
//!
//! ```text
//! giver   (Directory … Leave | File [Place] (Data | Zeros)* (Copied | Failed) | Symlink | Failed)* Done
//! taker   (Held | Copied | Failed)* Done                         Held: only for files of RESUME_FROM bytes and more
//! agent   Root, before anything else it says about an entry
//! ```
//!
//! The first entry has no name: what it is called is settled by the request, which both ends have, and not by who gives
//! it. [`Copied`] is said by both ends of each file, so each end's chain holds the digest of what it gave or took.
//!
//! Absent: the file system. What a machine without hands can refuse is refused here, in [`Message::decode`] and
//! [`Walk`].

mod walk;

use bincode::{Decode, Encode};
use bz_core::access::request::{MAX_PATH, is_file_name};
use bz_core::digest::Digest;
use bz_core::wire;

pub use walk::{OutOfTurn, Walk};

/// The stream on which an agent says once more, apart from all content, what became of files: [`Message::is_manifest`].
pub const MANIFEST: u32 = 1;
/// The most bytes of a message, without its length.
pub const MAX_MESSAGE: usize = CHUNK + 64;
/// The most bytes of a file in one message.
pub const CHUNK: usize = 32 << 10;
/// The most zeros in one message.
pub const MAX_ZEROS: u32 = 1 << 20;
/// How deep a tree may be.
pub const MAX_DEPTH: usize = 128;
/// Before the content of a file this large, the giver waits for what the taker holds of it.
pub const RESUME_FROM: u64 = 1 << 20;

const NANOS: u32 = 1_000_000_000;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// From the agent: what the copy begins with on the target, by its full path.
    Root {
        /// The path.
        path: Vec<u8>,
    },
    /// A directory; what follows is in it, until [`Message::Leave`].
    Directory {
        /// Its own name; empty for the first entry.
        name: Vec<u8>,
        /// Mode and time.
        facts: Facts,
    },
    /// Back to the directory above.
    Leave,
    /// A symbolic link.
    Symlink {
        /// Its own name.
        name: Vec<u8>,
        /// What it says.
        to: Vec<u8>,
    },
    /// A file; its content follows.
    File {
        /// Its own name; empty for the first entry.
        name: Vec<u8>,
        /// Mode and time.
        facts: Facts,
        /// Its bytes.
        size: u64,
    },
    /// From the taker of a large file: what it holds of it from before.
    Held {
        /// How many bytes.
        bytes: u64,
        /// Their SHA-256.
        digest: Digest,
    },
    /// To the taker of a large file: where the content that follows begins. All it holds, or nothing.
    Place {
        /// After so many bytes.
        offset: u64,
    },
    /// The file's next bytes.
    Data(Vec<u8>),
    /// So many zero bytes.
    Zeros(u32),
    /// The file was given whole, or taken whole and put in its place.
    Copied(Copied),
    /// What was not copied; of the present file, also its end.
    Failed {
        /// Its path from the first entry on.
        path: Vec<u8>,
        /// Why.
        problem: Problem,
    },
    /// The last word.
    Done(Summary),
}

/// Mode and time of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Facts {
    /// Permissions: the lowest nine bits.
    pub mode: u32,
    /// When it was last changed: seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: u32,
}

/// A file that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Copied {
    /// Its path from the first entry on; empty for that itself.
    pub path: Vec<u8>,
    /// Its bytes.
    pub size: u64,
    /// Their SHA-256.
    pub digest: Digest,
}

/// What was copied in all, as one end counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Summary {
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Entries that were not copied, with all that is in them.
    pub failed: u64,
}

/// Why something was not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Problem {
    /// Nothing there.
    #[error("no such file or directory")]
    NotFound,
    /// The user may not.
    #[error("permission denied")]
    Denied,
    /// A directory where only a file was asked for.
    #[error("is a directory: use -r")]
    Directory,
    /// No directory where one is needed.
    #[error("not a directory")]
    NotDirectory,
    /// What stands there already is of another kind.
    #[error("something of another kind stands in its place")]
    InTheWay,
    /// A device, a socket or a pipe.
    #[error("a device, socket or pipe: not copied")]
    Special,
    /// Deeper than [`MAX_DEPTH`].
    #[error("too deep in the tree")]
    TooDeep,
    /// A path or name that is too long.
    #[error("the name is too long")]
    TooLong,
    /// The file became shorter while it was read.
    #[error("it changed while it was read")]
    Changed,
    /// The disk or the user's share of it is full.
    #[error("no room: the disk is full, or the user's share of it")]
    Full,
    /// Larger than files may be there.
    #[error("larger than a file may be there")]
    TooLarge,
    /// Another copy writes it.
    #[error("another copy of it is under way")]
    Busy,
    /// What arrived is not what was given.
    #[error("it arrived damaged")]
    Damaged,
    /// The other end did not take it.
    #[error("given up, as the other end did not take it")]
    NotTaken,
    /// The file system cannot be written.
    #[error("the file system is read-only")]
    ReadOnly,
    /// Anything else of the operating system.
    #[error("input or output failed")]
    Io,
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes that are no message of a copy")]
pub struct Malformed;

impl Message {
    /// The message as it travels, its length before it.
    ///
    /// # Errors
    /// [`Malformed`] when it could not be decoded again.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        self.check()?;
        let body = wire::encode(self, MAX_MESSAGE).map_err(|_| Malformed)?;
        let length = u32::try_from(body.len()).map_err(|_| Malformed)?;
        Ok([length.to_be_bytes().as_slice(), &body].concat())
    }

    /// The message in exactly these bytes, which stood behind their length.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let message: Self = wire::decode(body, MAX_MESSAGE).map_err(|_| Malformed)?;
        message.check()?;
        Ok(message)
    }

    /// Whether it says what became of something: what an agent says again on [`MANIFEST`], and what both ends sign without
    /// delay.
    #[must_use]
    pub const fn is_manifest(&self) -> bool {
        matches!(self, Self::Root { .. } | Self::Copied(_) | Self::Failed { .. } | Self::Done(_))
    }

    fn check(&self) -> Result<(), Malformed> {
        let holds = match self {
            Self::Root { path } => is_path(path) && path.first() == Some(&b'/'),
            Self::Directory { name, facts } | Self::File { name, facts, .. } => {
                (name.is_empty() || is_file_name(name)) && facts.nanos < NANOS && facts.mode <= 0o777
            }
            Self::Symlink { name, to } => is_file_name(name) && !to.is_empty() && is_path(to),
            Self::Data(bytes) => !bytes.is_empty() && bytes.len() <= CHUNK,
            Self::Zeros(count) => *count > 0 && *count <= MAX_ZEROS,
            Self::Copied(Copied { path, .. }) | Self::Failed { path, .. } => is_path(path),
            Self::Leave | Self::Held { .. } | Self::Place { .. } | Self::Done(_) => true,
        };
        if holds { Ok(()) } else { Err(Malformed) }
    }
}

fn is_path(path: &[u8]) -> bool {
    path.len() <= MAX_PATH && !path.contains(&0)
}

/// The length that stands before a message.
///
/// # Errors
/// [`Malformed`] above [`MAX_MESSAGE`], before anything is allocated.
pub fn length(prefix: [u8; 4]) -> Result<usize, Malformed> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).map_err(|_| Malformed)?;
    if length > MAX_MESSAGE { Err(Malformed) } else { Ok(length) }
}

/// Messages out of bytes that are cut anywhere. Holds no more than one message and what was last put in.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    taken: usize,
    lost: bool,
}

impl Decoder {
    /// Puts more bytes in. Take all messages out before the next.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        if !self.lost {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// [`Malformed`], once; nothing that follows means anything then, and nothing more comes out.
    pub fn next_message(&mut self) -> Result<Option<Message>, Malformed> {
        let next = self.take_next();
        if next.is_err() {
            *self = Self { lost: true, ..Self::default() };
        }
        next
    }

    fn take_next(&mut self) -> Result<Option<Message>, Malformed> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((prefix, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = length(*prefix)?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = Message::decode(body)?;
        self.taken = self.taken.saturating_add(length).saturating_add(4);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests;
