//! Streams opened later in a session, so that a request costs no handshake.
//!
//! ```text
//! client                                              agent
//!   Open {request} on a new stream ────────────────────▶ grant, request and local policy allow it?
//!   bytes may follow at once                          Report, signed, readable outside the seal (sealed sessions)
//!   ◀──────────────────────────────────────────────── Answer
//!   Bytes, Eof ⇄ Bytes, Eof;  Reset ends both directions
//! ```
//!
//! **Absent:** what an opening does on the target, which is a back end's; how bytes wait for a reader, which is the
//! driver's.

use std::fmt;

use bincode::{Decode, Encode};
use bz_core::access::destination::Destination;
use bz_core::digest::{Digest, Label};
use bz_core::signed::{Object, Signed};
use bz_core::time::UnixTime;
use bz_core::wire::{self, WireError};

/// The first number of a stream that is opened; those before it are there from the start.
pub const FIRST_OPENED: u32 = 16;

/// The most bytes of an opening or an answer.
const MAX_SMALL: usize = 512;
/// The most bytes of a report's frame.
const MAX_REPORT: usize = Report::LIMIT + 256;

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum StreamRequest {
    /// A connection to there.
    Dial(Destination),
    /// To what the session itself is for: the agent's own cluster.
    Service,
}

impl fmt::Display for StreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(destination) => destination.fmt(f),
            Self::Service => f.write_str("the session's own service"),
        }
    }
}

/// What became of an opening.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// It stands; this is where it leads, in an address's usual form.
    Opened {
        /// The address dialled.
        at: String,
    },
    /// It does not. The stream is over.
    Refused(Why),
}

/// Why a stream was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Why {
    /// The grant or the local policy does not allow it.
    #[error("it is not allowed there: the grant or the target's local policy says no")]
    NotAllowed,
    /// The name has no address.
    #[error("the target does not find that name")]
    NotFound,
    /// Nobody listens.
    #[error("the connection was refused there")]
    ConnectionRefused,
    /// No way there.
    #[error("the target cannot reach it")]
    Unreachable,
    /// Nobody answered in time.
    #[error("nobody answered there in time")]
    TimedOut,
    /// The agent cannot do this now, or at all.
    #[error("the agent cannot do it")]
    Unavailable,
}

impl StreamRequest {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self, MAX_SMALL)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, MAX_SMALL)
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self, MAX_SMALL)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, MAX_SMALL)
    }
}

/// What the agent signs about a stream of a sealed session, outside the seal: the server's log of it, and the proof.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// The session.
    pub session: Digest,
    /// The stream.
    pub stream: u32,
    /// What was asked.
    pub request: StreamRequest,
    /// What became of it.
    pub answer: Answer,
    /// The agent's clock.
    pub time: UnixTime,
}

impl Object for Report {
    const LABEL: Label = Label::StreamReport;
    const VERSION: u16 = 1;
    const LIMIT: usize = 1024;
}

impl Report {
    /// The payload of a frame.
    ///
    /// # Errors
    /// [`WireError::TooLarge`].
    pub fn encode(signed: &Signed<Self>) -> Result<Vec<u8>, WireError> {
        wire::encode(signed, MAX_REPORT)
    }

    /// The report in exactly these bytes; nothing of it is verified.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Signed<Self>, WireError> {
        wire::decode(bytes, MAX_REPORT)
    }
}
