//! One direction out: seal, chain, keep until acknowledged, sign in time.

use std::collections::{BTreeMap, VecDeque};

use bz_core::access::Mode;
use bz_core::digest::Digest;
use bz_core::key::PrivateKey;
use bz_core::time::{Mono, Now};

use crate::checkpoint::{Signer, Statement};
use crate::flow::{Misbehavior, SendError};
use crate::frame::{Chain, HEADER_BYTES, Header, Kind, commitment};
use crate::keys::{Channel, Direction, TAG_BYTES};
use crate::limits::{CHECKPOINT_BYTES, CHECKPOINT_LINE, CHECKPOINT_TIME, MAX_PAYLOAD, MAX_UNACKED, MAX_UNACKED_BYTES};
use crate::stream::FIRST_OPENED;

/// The most heads kept. An honest peer names a newer count long before.
const MAX_HEADS: usize = 4 * MAX_UNACKED;

/// How far a direction's end has come: the last frame is the signature over everything, the end included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Fin,
    Signed,
}

pub(super) struct Sender {
    channel: Channel,
    mode: Mode,
    signer: Signer,
    chain: Chain,
    next: u64,
    /// Frames not acknowledged, oldest first.
    unacked: VecDeque<Unacked>,
    /// Their bytes.
    held: u64,
    /// The number of the first of them.
    first: u64,
    /// Bytes of streams in all frames before it.
    delivered_bytes: u64,
    /// The head after each count of frames that a checkpoint of the peer may still name.
    heads: VecDeque<Digest>,
    /// The count that the first of them is after.
    heads_from: u64,
    /// After a resumption: the count it named. Until the peer's frames name it too, they may be older than it.
    resumed_at: Option<u64>,
    /// The next number to put on the present carrier.
    cursor: u64,
    bytes: u64,
    credit: u64,
    stream_credit: u64,
    streams: BTreeMap<u32, Stream>,
    unsigned: u64,
    due: Option<Mono>,
    line_at: Option<Mono>,
    phase: Phase,
}

/// A frame that may have to be sent again, and the bytes of streams in it.
struct Unacked {
    frame: Vec<u8>,
    bytes: u64,
}

#[derive(Default)]
struct Stream {
    sent: u64,
    credit: Option<u64>,
    ended: bool,
}

impl Sender {
    pub(super) fn new(channel: Channel, session: &Digest, mode: Mode, signer: Signer, credit: (u64, u64)) -> Self {
        let chain = Chain::new(session, signer.direction);
        Self {
            channel,
            mode,
            signer,
            chain,
            next: 0,
            unacked: VecDeque::new(),
            held: 0,
            first: 0,
            delivered_bytes: 0,
            heads: VecDeque::from([chain.head()]),
            heads_from: 0,
            resumed_at: None,
            cursor: 0,
            bytes: 0,
            credit: credit.0,
            stream_credit: credit.1,
            streams: BTreeMap::new(),
            unsigned: 0,
            due: None,
            line_at: None,
            phase: Phase::Open,
        }
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn head(&self) -> Digest {
        self.chain.head()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The head after the first `number` frames; `None` for a number acknowledged long ago or not sent yet.
    pub(super) fn head_at(&self, number: u64) -> Option<Digest> {
        self.heads.get(usize::try_from(number.checked_sub(self.heads_from)?).ok()?).copied()
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether the signed end was sent and the peer has it.
    pub(super) fn is_delivered(&self) -> bool {
        self.phase == Phase::Signed && self.unacked.is_empty()
    }

    pub(super) fn writable(&self, stream: u32) -> usize {
        if self.phase != Phase::Open || self.unacked.len() >= MAX_UNACKED {
            return 0;
        }
        let known = self.streams.get(&stream);
        if self.is_ended(stream) {
            return 0;
        }
        let (sent, credit) = known.map_or((0, None), |s| (s.sent, s.credit));
        let of_stream = credit.unwrap_or(self.stream_credit).saturating_sub(sent);
        let room =
            self.credit.saturating_sub(self.bytes).min(of_stream).min(MAX_UNACKED_BYTES.saturating_sub(self.held));
        usize::try_from(room).unwrap_or(usize::MAX).min(MAX_PAYLOAD)
    }

    pub(super) fn send(
        &mut self,
        (kind, stream): (Kind, u32),
        payload: &[u8],
        peer: u64,
        now: Now,
    ) -> Result<(), SendError> {
        if self.phase != Phase::Open {
            return Err(SendError::NotOpen);
        }
        if kind == Kind::Bytes {
            if payload.is_empty() || payload.len() > self.writable(stream) {
                return Err(SendError::NoRoom);
            }
            self.bytes = self.bytes.saturating_add(payload.len() as u64);
            let sent = &mut self.streams.entry(stream).or_default().sent;
            *sent = sent.saturating_add(payload.len() as u64);
        } else if payload.len() > MAX_PAYLOAD || self.unacked.len() >= MAX_UNACKED.saturating_mul(2) {
            return Err(SendError::NoRoom);
        }
        match kind {
            Kind::Reset if stream < FIRST_OPENED => return Err(SendError::NoRoom),
            Kind::Eof | Kind::Reset if stream >= FIRST_OPENED && !self.streams.contains_key(&stream) => {
                return Err(SendError::NoRoom);
            }
            Kind::Eof if self.is_ended(stream) => return Ok(()),
            Kind::Eof | Kind::Reset => self.streams.entry(stream).or_default().ended = true,
            Kind::Open => self.open_stream(stream),
            Kind::Bytes
            | Kind::Checkpoint
            | Kind::Resize
            | Kind::Reauthenticate
            | Kind::Notice
            | Kind::Refuse
            | Kind::Fin
            | Kind::Answer
            | Kind::Report => {}
        }
        self.push(kind, stream, payload, peer)?;
        self.unsigned = self.unsigned.saturating_add(payload.len() as u64);
        self.schedule(kind, payload, now);
        if kind == Kind::Fin {
            self.phase = Phase::Fin;
        }
        Ok(())
    }

    /// A stream that is opened takes bytes from now on.
    pub(super) fn open_stream(&mut self, stream: u32) {
        self.streams.insert(stream, Stream::default());
    }

    /// Whether a stream takes nothing more: it ended, or was never opened.
    pub(super) fn is_ended(&self, stream: u32) -> bool {
        self.streams.get(&stream).map_or(stream >= FIRST_OPENED, |stream| stream.ended)
    }

    pub(super) fn forget_stream(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }

    pub(super) fn sign(
        &mut self,
        statement: Statement,
        key: &PrivateKey,
        peer: u64,
        now: Now,
    ) -> Result<Vec<u8>, SendError> {
        if self.phase == Phase::Signed {
            return Err(SendError::NotOpen);
        }
        let payload = self.signer.sign(statement, key).map_err(|_| SendError::NoRoom)?;
        self.push(Kind::Checkpoint, 0, &payload, peer)?;
        self.unsigned = 0;
        self.due = None;
        self.line_at = Some(now.mono);
        if self.phase == Phase::Fin {
            self.phase = Phase::Signed;
        }
        Ok(payload)
    }

    pub(super) const fn direction(&self) -> Direction {
        self.signer.direction
    }

    /// How many frames the peer acknowledged.
    pub(super) const fn delivered(&self) -> u64 {
        self.first
    }

    /// Bytes of streams in them.
    pub(super) const fn delivered_bytes(&self) -> u64 {
        self.delivered_bytes
    }

    pub(super) fn checkpoint_due(&self, now: Now) -> bool {
        self.phase == Phase::Open && self.due.is_some_and(|due| now.mono >= due)
    }

    pub(super) fn checkpoint_at(&self) -> Option<Mono> {
        if self.phase == Phase::Open { self.due } else { None }
    }

    /// As [`Self::schedule`] does for a typed line.
    pub(super) fn sign_soon(&mut self, now: Now) {
        if self.mode == Mode::Inspected && self.unsigned > 0 {
            let due = self.line_at.map_or(now.mono, |last| last.after(CHECKPOINT_LINE).max(now.mono));
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    pub(super) fn acknowledged(&mut self, received: u64) -> Result<(), Misbehavior> {
        if received > self.next {
            return Err(Misbehavior::PeerNumber);
        }
        while self.first < received {
            let Unacked { frame, bytes } = self.unacked.pop_front().ok_or(Misbehavior::PeerNumber)?;
            self.held = self.held.saturating_sub(frame.len() as u64);
            self.delivered_bytes = self.delivered_bytes.saturating_add(bytes);
            self.first = self.first.saturating_add(1);
        }
        self.cursor = self.cursor.max(self.first);
        if self.resumed_at.is_none() {
            self.forget(received);
        }
        if self.heads.len() > MAX_HEADS { Err(Misbehavior::PeerNumber) } else { Ok(()) }
    }

    /// The peer's frames name this count of ours, and later ones none below it.
    pub(super) fn named(&mut self, count: u64) {
        self.resumed_at = self.resumed_at.filter(|at| count < *at);
        self.forget(count);
    }

    fn forget(&mut self, below: u64) {
        while self.heads_from < below && self.heads.len() > 1 {
            self.heads.pop_front();
            self.heads_from = self.heads_from.saturating_add(1);
        }
    }

    /// Credit only rises: an older control frame cannot take any back.
    pub(super) fn credited(&mut self, session: u64, streams: &[(u32, u64)]) {
        self.credit = self.credit.max(session);
        for (stream, credit) in streams {
            if let Some(known) = self.streams.get_mut(stream) {
                known.credit = Some(known.credit.unwrap_or(self.stream_credit).max(*credit));
            }
        }
    }

    /// The peer is on a new carrier and expects this number: everything from there goes out again.
    pub(super) fn resumed(&mut self, position: u64) -> Result<(), Misbehavior> {
        if position < self.first {
            return Err(Misbehavior::PeerNumber);
        }
        self.resumed_at = Some(position);
        self.acknowledged(position)?;
        self.rewind();
        Ok(())
    }

    pub(super) const fn rewind(&mut self) {
        self.cursor = self.first;
    }

    /// Whether there is a frame for the present carrier.
    pub(super) fn has_next(&self) -> bool {
        self.cursor < self.next
    }

    /// The next frame for the present carrier, which is kept until the peer acknowledged it.
    pub(super) fn poll(&mut self) -> Option<&[u8]> {
        let at = usize::try_from(self.cursor.checked_sub(self.first)?).ok()?;
        let unacked = self.unacked.get(at)?;
        self.cursor = self.cursor.saturating_add(1);
        Some(&unacked.frame)
    }

    fn push(&mut self, kind: Kind, stream: u32, payload: &[u8], peer: u64) -> Result<(), SendError> {
        let (frame, commitment, header) = match self.mode {
            Mode::Inspected => {
                let header = Header { number: self.next, peer, kind: Some(kind), stream }.to_bytes();
                let salt = self.channel.salt(self.next);
                let mut frame = [header.as_slice(), &salt].concat();
                self.channel.seal(self.next, &mut frame, &[payload]).map_err(|_| SendError::NotOpen)?;
                (frame, commitment(&salt, payload), header)
            }
            // Outside the seal: readable by whoever passes it on, and under the same tag.
            Mode::Sealed if kind.is_outside(self.signer.direction) => {
                let header = Header { number: self.next, peer, kind: Some(kind), stream }.to_bytes();
                let salt = self.channel.salt(self.next);
                let mut frame = [header.as_slice(), &salt, payload].concat();
                self.channel.seal(self.next, &mut frame, &[]).map_err(|_| SendError::NotOpen)?;
                (frame, commitment(&salt, payload), header)
            }
            Mode::Sealed => {
                let header = Header { number: self.next, peer, kind: None, stream: 0 }.to_bytes();
                let (kind, stream) = ([kind.byte()], stream.to_be_bytes());
                let mut frame = header.to_vec();
                let inner = [kind.as_slice(), &stream, payload];
                self.channel.seal(self.next, &mut frame, &inner).map_err(|_| SendError::NotOpen)?;
                let commitment = sealed_commitment(&frame);
                (frame, commitment, header)
            }
        };
        self.chain.add(&header, &commitment);
        self.held = self.held.saturating_add(frame.len() as u64);
        let bytes = if kind == Kind::Bytes { payload.len() as u64 } else { 0 };
        self.unacked.push_back(Unacked { frame, bytes });
        self.heads.push_back(self.chain.head());
        self.next = self.next.saturating_add(1);
        Ok(())
    }

    /// When what was just sent must be signed. Sealed sessions are signed at opening and close alone.
    fn schedule(&mut self, kind: Kind, payload: &[u8], now: Now) {
        if self.mode == Mode::Sealed {
            return;
        }
        let due = if self.unsigned >= CHECKPOINT_BYTES {
            now.mono
        } else if kind == Kind::Bytes && self.signer.direction == Direction::ToAgent && ends_a_line(payload) {
            self.line_at.map_or(now.mono, |last| last.after(CHECKPOINT_LINE).max(now.mono))
        } else {
            now.mono.after(CHECKPOINT_TIME)
        };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }
}

/// A sealed frame's commitment: to its tag, which is all that stands for its content outside.
pub(crate) fn sealed_commitment(frame: &[u8]) -> Digest {
    let tag = frame.len().checked_sub(TAG_BYTES).and_then(|at| frame.get(at.max(HEADER_BYTES)..)).unwrap_or_default();
    commitment(&[0; 16], tag)
}

fn ends_a_line(payload: &[u8]) -> bool {
    payload.iter().any(|b| matches!(b, b'\r' | b'\n' | 3 | 4))
}
