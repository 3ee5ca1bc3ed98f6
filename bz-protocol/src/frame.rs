//! Frames: the unit of the data phase, numbered, authenticated, chained.
//!
//! ```text
//! data      number u64 | peer u64 | kind u8 | stream u32 | salt 16 | payload | tag 16     inspected
//! data      number u64 | peer u64 | 0       | 0          | sealed(kind u8 | stream u32 | payload) | tag 16
//! control   number u64 | payload or sealed(payload) | tag 16
//! ```
//!
//! `peer` is the number of the peer's data frames processed before this one was sealed, so each end's order of events
//! is in its own chain.

use bz_core::digest::{Digest, Label};

use crate::keys::{Direction, SALT_BYTES};

/// Bytes of a data frame's header.
pub const HEADER_BYTES: usize = 21;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $byte:literal)*) => {
        /// What a data frame carries.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $name),* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kind's byte.
            #[must_use]
            pub const fn byte(self) -> u8 {
                match self { $(Self::$name => $byte),* }
            }

            /// The kind with this byte.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($byte => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// A stream's bytes.
    Bytes = 1
    /// The end of a stream's bytes in this direction.
    Eof = 2
    /// A signature over everything before: [`crate::checkpoint::Statement`].
    Checkpoint = 3
    /// To the agent: the terminal's new size.
    Resize = 4
    /// To the agent: a newer token of the same certificate.
    Reauthenticate = 5
    /// To the client: something it should know: [`Notice`].
    Notice = 6
    /// To the client: the agent will not go on: [`crate::refusal::Code`].
    Refuse = 7
    /// The end of the session in this direction: [`Fin`].
    Fin = 8
    /// To the agent: opens a stream: [`crate::stream::StreamRequest`].
    Open = 9
    /// To the client: what became of an opening: [`crate::stream::Answer`].
    Answer = 10
    /// A stream is over in both directions, and what is under way is thrown away.
    Reset = 11
    /// To the client, and readable in a sealed session as well: [`crate::stream::Report`].
    Report = 12
}

impl Kind {
    /// Whether it may name another stream than 0.
    #[must_use]
    pub const fn is_of_stream(self) -> bool {
        match self {
            Self::Bytes | Self::Eof | Self::Open | Self::Answer | Self::Reset | Self::Report => true,
            Self::Checkpoint | Self::Resize | Self::Reauthenticate | Self::Notice | Self::Refuse | Self::Fin => false,
        }
    }

    /// Whether it stands outside the seal of a sealed session: what the agent signs about a stream, and how it says that
    /// the session ended, without which its connection would count as one whose client may come back.
    #[must_use]
    pub const fn is_outside(self, direction: Direction) -> bool {
        matches!((self, direction), (Self::Report | Self::Fin, Direction::ToClient))
    }

    /// Whether only the client sends it, or only the agent; `None` for both.
    #[must_use]
    pub const fn belongs_to(self) -> Option<Direction> {
        match self {
            Self::Resize | Self::Reauthenticate | Self::Open => Some(Direction::ToAgent),
            Self::Notice | Self::Refuse | Self::Answer | Self::Report => Some(Direction::ToClient),
            Self::Bytes | Self::Eof | Self::Checkpoint | Self::Fin | Self::Reset => None,
        }
    }
}

/// The header of a data frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The frame's number in its direction, from 0.
    pub number: u64,
    /// How many of the peer's data frames were processed before.
    pub peer: u64,
    /// What it carries; `None` when sealed.
    pub kind: Option<Kind>,
    /// Which stream; 0 when sealed.
    pub stream: u32,
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let kind = [self.kind.map_or(0, Kind::byte)];
        let parts = self
            .number
            .to_be_bytes()
            .into_iter()
            .chain(self.peer.to_be_bytes())
            .chain(kind)
            .chain(self.stream.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
        }
        bytes
    }

    /// The header at the start of a frame; `None` when there is none.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (number, rest) = frame.split_first_chunk::<8>()?;
        let (peer, rest) = rest.split_first_chunk::<8>()?;
        let (&[kind], rest) = rest.split_first_chunk::<1>()?;
        let (stream, _) = rest.split_first_chunk::<4>()?;
        let kind = if kind == 0 { None } else { Some(Kind::from_byte(kind)?) };
        let stream = u32::from_be_bytes(*stream);
        let fits = kind.is_some() || stream == 0;
        fits.then_some(Self { number: u64::from_be_bytes(*number), peer: u64::from_be_bytes(*peer), kind, stream })
    }
}

/// How a session ended, signed within the stream.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Fin {
    /// The command or shell exited with this code.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// From the client: it leaves; a shell runs on.
    Detached,
    /// From the client: it wants the shell or command to end.
    Closed,
    /// A handler's stream ended.
    Done,
}

/// What the client should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Notice {
    /// The terminal asks for a password (canonical mode without echo), or no longer.
    Password(bool),
    /// Another client of the same person took the shell over; this session ends.
    TakenOver,
    /// The login's maximum age is near: log in again.
    LoginEnds,
    /// What follows repaints the screen.
    Repaint,
}

/// One direction's chain: a running hash over headers and commitments, never over the payload itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    head: Digest,
}

impl Chain {
    /// The chain of a direction before its first frame.
    #[must_use]
    pub fn new(session: &Digest, direction: Direction) -> Self {
        let way: &[u8] = match direction {
            Direction::ToAgent => b"to agent",
            Direction::ToClient => b"to client",
        };
        Self { head: Digest::labelled(Label::Chain, &[session.as_bytes(), way]) }
    }

    /// The chain whose head is this.
    #[must_use]
    pub const fn at(head: Digest) -> Self {
        Self { head }
    }

    /// Adds a frame.
    pub fn add(&mut self, header: &[u8; HEADER_BYTES], commitment: &Digest) {
        self.head = Digest::labelled(Label::Chain, &[self.head.as_bytes(), header, commitment.as_bytes()]);
    }

    /// The head.
    #[must_use]
    pub const fn head(&self) -> Digest {
        self.head
    }
}

/// The commitment to a payload: it can be checked with salt and payload, and stands for them when they are withheld.
#[must_use]
pub fn commitment(salt: &[u8; SALT_BYTES], payload: &[u8]) -> Digest {
    Digest::labelled(Label::Payload, &[salt, payload])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PR-FRAME-1: a header is exactly its layout.
    #[test]
    fn headers_read_back() {
        let header = Header { number: 1, peer: 2, kind: Some(Kind::Fin), stream: 255 };
        let bytes = header.to_bytes();
        assert_eq!(hex::encode(bytes), "00000000000000010000000000000002080000".to_owned() + "00ff");
        assert_eq!(Header::parse(&bytes), Some(header));
        for kind in Kind::ALL {
            assert_eq!(Kind::from_byte(kind.byte()), Some(*kind));
        }
        let bad = |at: usize, byte: u8| {
            let mut bad = bytes;
            bad[at] = byte;
            assert_eq!(Header::parse(&bad), None, "byte {at}");
        };
        bad(16, 99);
        bad(16, 0);
        assert_eq!(Header::parse(&bytes[..20]), None);
    }
}
