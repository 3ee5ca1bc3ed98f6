//! What an agent says of the SSH that it ends itself: the session's stream 0 carries SSH, which only the person's `ssh`
//! and the agent can read, so what happens inside is said once more beside it.
//!
//! ```text
//! stream 0        SSH, both ways; never kept
//! SAID            messages of this list, each behind its length as u32; kept in any case
//! SCREEN, KEYS    what a terminal shows, and what is typed into it
//! OUTPUT, INPUT   what a command without a terminal says and hears; only where it is recorded
//! ```
//!
//! All of them go from the agent to the client, so their order is the order in which the agent saw it happen. A command is
//! said before it begins, and keys before they are given to the terminal.
//!
//! Absent: the SSH protocol, and the hands.

use bincode::{Decode, Encode};
use bz_core::access::request::{MAX_COMMAND, MAX_PATH, Size};
use bz_core::digest::Digest;
use bz_core::wire;

use crate::copy::Problem;

/// The stream of the messages.
pub const SAID: u32 = 1;
/// The stream of what terminals show.
pub const SCREEN: u32 = 2;
/// The stream of what is typed into them.
pub const KEYS: u32 = 3;
/// The stream of what commands without a terminal say, both their outputs.
pub const OUTPUT: u32 = 4;
/// The stream of what such commands hear.
pub const INPUT: u32 = 5;

/// The most bytes of a message, without its length.
pub const MAX_SAID: usize = MAX_COMMAND + 64;
/// The most bytes of what was refused.
pub const MAX_REFUSED: usize = 1024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Said {
    /// A command, as the user's login shell gets it.
    Command {
        /// The bytes.
        command: Vec<u8>,
    },
    /// A terminal begins; there is one at a time.
    Terminal {
        /// Its size.
        size: Size,
    },
    /// The terminal has another size.
    Resize {
        /// Which.
        size: Size,
    },
    /// The terminal asks for a password, or no longer.
    Password(bool),
    /// The terminal is gone.
    TerminalEnded,
    /// What became of a file.
    File(SshFile),
    /// Something that was asked for and is not part of the session.
    Refused {
        /// What, for people.
        what: String,
    },
}

/// A file that went over.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SshFile {
    /// Which way.
    pub way: FileWay,
    /// Its full path on the target.
    pub path: Vec<u8>,
    /// What became of it.
    pub fate: Fate,
    /// Bytes of it that went over; of a whole one, its size.
    pub size: u64,
}

/// Which way a file went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum FileWay {
    /// To the target.
    ToTarget,
    /// From the target.
    FromTarget,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Fate {
    /// All of it went over.
    Whole {
        /// SHA-256 of it; none where it was written out of order and cannot be read again.
        digest: Option<Digest>,
    },
    /// A part of it went over.
    Part,
    /// Nothing of it did.
    Failed(Problem),
    /// It is open from now on; another word about it follows, unless the session is cut.
    Begun,
    /// The name is gone, of a file or of an empty directory.
    Removed,
    /// What had this name has another one now, which is said next.
    MovedFrom,
    /// What had the name that was said last has this one now.
    MovedTo,
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes that say nothing of SSH")]
pub struct Malformed;

impl Said {
    /// The message as it travels, its length before it.
    ///
    /// # Errors
    /// [`Malformed`] when it could not be decoded again.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        self.check()?;
        let body = wire::encode(self, MAX_SAID).map_err(|_| Malformed)?;
        let length = u32::try_from(body.len()).map_err(|_| Malformed)?;
        Ok([length.to_be_bytes().as_slice(), &body].concat())
    }

    /// The message in exactly these bytes, which stood behind their length.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let message: Self = wire::decode(body, MAX_SAID).map_err(|_| Malformed)?;
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), Malformed> {
        let holds = match self {
            Self::Command { command } => !command.is_empty() && command.len() <= MAX_COMMAND,
            Self::File(file) => {
                file.path.first() == Some(&b'/') && file.path.len() <= MAX_PATH && !file.path.contains(&0)
            }
            Self::Refused { what } => !what.is_empty() && what.len() <= MAX_REFUSED,
            Self::Terminal { .. } | Self::Resize { .. } | Self::Password(_) | Self::TerminalEnded => true,
        };
        if holds { Ok(()) } else { Err(Malformed) }
    }
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
    pub fn next_message(&mut self) -> Result<Option<Said>, Malformed> {
        let next = self.take_next();
        if next.is_err() {
            *self = Self { lost: true, ..Self::default() };
        }
        next
    }

    fn take_next(&mut self) -> Result<Option<Said>, Malformed> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((prefix, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).map_err(|_| Malformed)?;
        if length > MAX_SAID {
            return Err(Malformed);
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = Said::decode(body)?;
        self.taken = self.taken.saturating_add(length).saturating_add(4);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &[u8]) -> Said {
        let fate = Fate::Whole { digest: Some(Digest::of(b"x")) };
        Said::File(SshFile { way: FileWay::ToTarget, path: path.to_vec(), fate, size: 1 })
    }

    /// PR-SSHD-4
    #[test]
    fn messages_are_bounded_and_read_back_however_they_are_cut() {
        let said = [
            Said::Command { command: vec![b'x'; MAX_COMMAND] },
            Said::Terminal { size: Size { rows: 24, columns: 80 } },
            Said::Password(true),
            file(b"/a\n\xff"),
            Said::File(SshFile { way: FileWay::ToTarget, path: b"/a".to_vec(), fate: Fate::MovedTo, size: 0 }),
            Said::TerminalEnded,
        ];
        let bytes: Vec<u8> = said.iter().flat_map(|message| message.encode().unwrap()).collect();
        for step in [1, 7, bytes.len()] {
            let (mut decoder, mut read) = (Decoder::default(), Vec::new());
            for piece in bytes.chunks(step) {
                decoder.put(piece);
                while let Some(message) = decoder.next_message().unwrap() {
                    read.push(message);
                }
            }
            assert_eq!(read, said, "in pieces of {step}");
        }
        for bad in [
            Said::Command { command: vec![] },
            Said::Command { command: vec![b'x'; MAX_COMMAND + 1] },
            file(b"relative"),
            file(b"/a\0"),
            file(&[b'/'; MAX_PATH + 1]),
            Said::Refused { what: "x".repeat(MAX_REFUSED + 1) },
        ] {
            assert_eq!(bad.encode(), Err(Malformed), "{bad:?}");
        }
        let mut decoder = Decoder::default();
        decoder.put(&u32::MAX.to_be_bytes());
        assert_eq!((decoder.next_message(), decoder.next_message()), (Err(Malformed), Ok(None)));
    }
}
