//! Agent segments: what a shell shows while nobody is attached, told to the server by the agent alone.
//!
//! ```text
//! shell ──▶ Author: frames of one direction, chained, salted, under the agent's checkpoints ──▶ link ──▶ record
//!           Author ◀── how many were recorded
//! ```
//!
//! A segment goes on where a session ended and names it, so that the record of a shell has no gap. Its frames are those
//! of an inspected session's direction to the client, without tags: nobody else holds its keys, and the agent's
//! signature covers them. What is not known to be recorded is told again, in the next segment.
//!
//! **Absent:** a segment of a sealed session, which would show the server what it must not read; resuming one (a new
//! one begins instead); sockets and clocks.

use std::collections::VecDeque;

use bincode::{Decode, Encode};
use bz_core::access::Mode;
use bz_core::digest::{Digest, Label};
use bz_core::id::{ConnectionId, OrganizationId, ShellId};
use bz_core::key::PrivateKey;
use bz_core::signed::{Object, Signed};
use bz_core::time::{Mono, Now, UnixTime};
use bz_core::wire::{self, WireError};
use zeroize::Zeroizing;

use crate::checkpoint::{Signer, Statement};
use crate::frame::{Chain, Fin, Header, Kind, Notice, commitment};
use crate::handshake::Predecessor;
use crate::keys::{Channel, Direction, Secrets, Space};
use crate::limits::{CHECKPOINT_BYTES, CHECKPOINT_TIME, MAX_PACKET, MAX_PAYLOAD, SEGMENT_CREDIT};

/// What an agent signs at the beginning of a segment. Its digest is the segment's id, in place of a session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SegmentOpening {
    /// The connection that the shell belongs to.
    pub connection: ConnectionId,
    /// The shell.
    pub shell: ShellId,
    /// The session that held the shell last: its opening says whose shell it is.
    pub held: Digest,
    /// The session or segment before this one; `None` after a restart of the agent, which forgets. What it sent behind
    /// the head named here is told again in this one.
    pub predecessor: Option<Predecessor>,
    /// How many bytes the shell had put out before the first byte here.
    pub offset: u64,
    /// How many of them are in no record: no agent was there, and the room for them was used up.
    pub lost: u64,
    /// The agent's clock.
    pub time: UnixTime,
    /// Fresh.
    pub random: [u8; 32],
}

impl Object for SegmentOpening {
    const LABEL: Label = Label::Segment;
    const VERSION: u16 = 1;
    const LIMIT: usize = 512;
}

/// What an agent says on a segment's stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FromAgent {
    /// First.
    Opening(Signed<SegmentOpening>),
    /// A frame: header, salt and payload.
    Frame(Vec<u8>),
}

/// What the server answers there. A refusal is the end of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum FromServer {
    /// So many frames were taken into the record.
    Recorded(u64),
}

impl FromAgent {
    /// The message's bytes.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] above [`MAX_PACKET`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self, MAX_PACKET)
    }

    /// The message in exactly these bytes.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, MAX_PACKET)
    }
}

/// What an author cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorError {
    /// More bytes than [`Author::room`], or after the end.
    #[error("the segment takes no more now")]
    NoRoom,
    /// The server counts frames that were not sent.
    #[error("the server says that it recorded frames that were not sent")]
    Count,
    /// Something does not fit its limits.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// How much of a session or segment is known to have passed the server, and so to be in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The session or segment, with its heads after those frames: what the next one names.
    pub upto: Predecessor,
    /// Frames to the client.
    pub frames: u64,
    /// Bytes of streams in them.
    pub bytes: u64,
}

impl Delivered {
    /// Nothing of this session yet.
    #[must_use]
    pub fn nothing_of(session: Digest) -> Self {
        let head = |direction| Chain::new(&session, direction).head();
        let upto = Predecessor { session, to_agent: head(Direction::ToAgent), to_client: head(Direction::ToClient) };
        Self { upto, frames: 0, bytes: 0 }
    }
}

/// Writes one segment.
pub struct Author {
    signer: Signer,
    key: PrivateKey,
    id: Digest,
    salts: Channel,
    chain: Chain,
    next: u64,
    bytes: u64,
    unsigned: u64,
    due: Option<Mono>,
    ended: bool,
    /// For each frame not known to be recorded: the head after it, and the bytes of streams in it.
    waiting: VecDeque<(Digest, u64)>,
    held: u64,
    delivered: Delivered,
    outgoing: VecDeque<Vec<u8>>,
}

impl Author {
    /// Begins a segment: the signed opening, and an author whose first frame is its signature. `secret` is 32 random
    /// bytes, for the salts alone.
    ///
    /// # Errors
    /// [`AuthorError::Wire`] does not happen: an opening has one size.
    pub fn new(
        opening: &SegmentOpening,
        organization: OrganizationId,
        key: PrivateKey,
        secret: [u8; 32],
        now: Now,
    ) -> Result<(Self, Signed<SegmentOpening>), AuthorError> {
        let signed = Signed::seal(opening, organization, &key)?;
        let id = signed.digest();
        let secrets = Secrets::new(&Zeroizing::new(secret), &id, Mode::Inspected);
        let mut author = Self {
            signer: Signer { organization, direction: Direction::ToClient },
            key,
            id,
            salts: secrets.channel(Direction::ToClient, Space::Data),
            chain: Chain::new(&id, Direction::ToClient),
            next: 0,
            bytes: 0,
            unsigned: 0,
            due: None,
            ended: false,
            waiting: VecDeque::new(),
            held: 0,
            delivered: Delivered::nothing_of(id),
            outgoing: VecDeque::new(),
        };
        author.sign(now)?;
        Ok((author, signed))
    }

    /// How many bytes [`Self::bytes`] takes now.
    #[must_use]
    pub fn room(&self) -> usize {
        let room = if self.ended { 0 } else { SEGMENT_CREDIT.saturating_sub(self.held) };
        usize::try_from(room).unwrap_or(usize::MAX).min(MAX_PAYLOAD)
    }

    /// What the shell put out.
    ///
    /// # Errors
    /// [`AuthorError::NoRoom`].
    pub fn bytes(&mut self, bytes: &[u8], now: Now) -> Result<(), AuthorError> {
        if bytes.is_empty() || bytes.len() > self.room() {
            return Err(AuthorError::NoRoom);
        }
        self.add(Kind::Bytes, bytes, now)
    }

    /// Whether the terminal asks for a password.
    ///
    /// # Errors
    /// [`AuthorError::NoRoom`] after the end.
    pub fn notice(&mut self, notice: Notice, now: Now) -> Result<(), AuthorError> {
        self.add(Kind::Notice, &wire::encode(&notice, MAX_SMALL)?, now)
    }

    /// The end, signed at once.
    ///
    /// # Errors
    /// [`AuthorError::NoRoom`] after the end.
    pub fn finish(&mut self, fin: &Fin, now: Now) -> Result<(), AuthorError> {
        self.add(Kind::Fin, &wire::encode(fin, MAX_SMALL)?, now)?;
        self.ended = true;
        self.sign(now)
    }

    /// The server recorded so many frames.
    ///
    /// # Errors
    /// [`AuthorError::Count`] for more than were sent. Fewer than before change nothing.
    pub fn recorded(&mut self, frames: u64) -> Result<(), AuthorError> {
        if frames > self.next {
            return Err(AuthorError::Count);
        }
        while self.delivered.frames < frames {
            let (head, bytes) = self.waiting.pop_front().ok_or(AuthorError::Count)?;
            self.held = self.held.saturating_sub(bytes);
            self.delivered.upto.to_client = head;
            self.delivered.frames = self.delivered.frames.saturating_add(1);
            self.delivered.bytes = self.delivered.bytes.saturating_add(bytes);
        }
        Ok(())
    }

    /// What is known to be recorded.
    #[must_use]
    pub const fn delivered(&self) -> Delivered {
        self.delivered
    }

    /// Whether the signed end is recorded.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    /// Signs what is due.
    ///
    /// # Errors
    /// [`AuthorError::Wire`] does not happen: a statement has one size.
    pub fn tick(&mut self, now: Now) -> Result<(), AuthorError> {
        if self.due.is_some_and(|due| now.mono >= due) { self.sign(now) } else { Ok(()) }
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub const fn wake(&self) -> Option<Mono> {
        self.due
    }

    /// The next frame for the server.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    fn add(&mut self, kind: Kind, payload: &[u8], now: Now) -> Result<(), AuthorError> {
        if self.ended {
            return Err(AuthorError::NoRoom);
        }
        self.push(kind, payload);
        self.unsigned = self.unsigned.saturating_add(payload.len() as u64);
        let due = if self.unsigned >= CHECKPOINT_BYTES { now.mono } else { now.mono.after(CHECKPOINT_TIME) };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        self.tick(now)
    }

    fn sign(&mut self, now: Now) -> Result<(), AuthorError> {
        let statement = Statement {
            session: self.id,
            number: self.next,
            head: self.chain.head(),
            peer_number: 0,
            peer_head: self.delivered.upto.to_agent,
            bytes: self.bytes,
            time: now.wall,
        };
        let payload = self.signer.sign(statement, &self.key)?;
        self.push(Kind::Checkpoint, &payload);
        (self.unsigned, self.due) = (0, None);
        Ok(())
    }

    fn push(&mut self, kind: Kind, payload: &[u8]) {
        let header = Header { number: self.next, peer: 0, kind: Some(kind), stream: 0 }.to_bytes();
        let salt = self.salts.salt(self.next);
        self.chain.add(&header, &commitment(&salt, payload));
        let bytes = if kind == Kind::Bytes { payload.len() as u64 } else { 0 };
        self.bytes = self.bytes.saturating_add(bytes);
        self.held = self.held.saturating_add(bytes);
        self.waiting.push_back((self.chain.head(), bytes));
        self.next = self.next.saturating_add(1);
        self.outgoing.push_back([header.as_slice(), &salt, payload].concat());
    }
}

impl std::fmt::Debug for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Author").field("id", &self.id).field("next", &self.next).finish_non_exhaustive()
    }
}

/// Payloads that are one small value.
const MAX_SMALL: usize = 64;
