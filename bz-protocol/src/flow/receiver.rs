//! One direction in: order, tag, chain and signatures checked before anything is handed up.

use std::collections::BTreeMap;

use bz_core::access::Mode;
use bz_core::digest::Digest;
use bz_core::key::PublicKey;
use bz_core::time::{Mono, Now};
use std::time::Duration;

use crate::checkpoint::{Signer, Statement};
use crate::flow::Misbehavior;
use crate::flow::sender::{Phase, Sender, sealed_commitment};
use crate::frame::{Chain, HEADER_BYTES, Header, Kind, commitment};
use crate::keys::{Channel, SALT_BYTES, TAG_BYTES};
use crate::limits::{
    ACK_BYTES, ACK_FRAMES, CHECKPOINT_BURST, CHECKPOINT_BYTES, MAX_CHECKPOINTS, MAX_PAYLOAD, MAX_STREAMS,
    SESSION_CREDIT, STREAM_CREDIT, UNSIGNED_BYTES,
};
use crate::stream::FIRST_OPENED;

/// A frame that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) kind: Kind,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
    /// How many of our frames the peer had processed.
    pub(crate) peer: u64,
    /// Of a stream that this end has reset: nobody wants it.
    pub(crate) unwanted: bool,
}

pub(super) struct Receiver {
    channel: Channel,
    mode: Mode,
    signer: Signer,
    key: PublicKey,
    session: Digest,
    chain: Chain,
    next: u64,
    /// The last count of our frames the peer named.
    peer: u64,
    unsigned: u64,
    acknowledged: u64,
    unacknowledged_bytes: u64,
    received: u64,
    consumed: u64,
    announced: u64,
    streams: BTreeMap<u32, Stream>,
    /// The highest stream that was opened.
    last_opened: u32,
    checkpoints: Allowance,
    phase: Phase,
}

#[derive(Default)]
struct Stream {
    received: u64,
    consumed: u64,
    announced: u64,
    /// The credit in the last control frame on the present carrier.
    told: u64,
    ended: bool,
    /// This end has reset it: what still comes is thrown away.
    unwanted: bool,
}

/// Checkpoints the peer may send now. It grows with time, because what was signed over minutes may arrive at once.
struct Allowance {
    left: u32,
    since: Option<Mono>,
}

impl Allowance {
    fn take(&mut self, now: Mono) -> bool {
        let since = *self.since.get_or_insert(now);
        let seconds = now.since(since).as_secs();
        if seconds > 0 {
            let grown = u64::from(self.left).saturating_add(seconds.saturating_mul(MAX_CHECKPOINTS.into()));
            self.left = u32::try_from(grown).unwrap_or(u32::MAX).min(CHECKPOINT_BURST);
            self.since = Some(since.after(Duration::from_secs(seconds)));
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

impl Receiver {
    pub(super) fn new(channel: Channel, session: &Digest, mode: Mode, signer: Signer, key: PublicKey) -> Self {
        Self {
            channel,
            mode,
            signer,
            key,
            session: *session,
            chain: Chain::new(session, signer.direction),
            next: 0,
            peer: 0,
            unsigned: 0,
            acknowledged: 0,
            unacknowledged_bytes: 0,
            received: 0,
            consumed: 0,
            announced: SESSION_CREDIT,
            streams: BTreeMap::new(),
            last_opened: FIRST_OPENED.saturating_sub(1),
            checkpoints: Allowance { left: MAX_CHECKPOINTS, since: None },
            phase: Phase::Open,
        }
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn head(&self) -> Digest {
        self.chain.head()
    }

    pub(super) fn open(&mut self, frame: &[u8], own: &Sender, now: Now) -> Result<Received, Misbehavior> {
        let header = Header::parse(frame).ok_or(Misbehavior::Malformed)?;
        if header.number != self.next {
            return Err(Misbehavior::OutOfOrder);
        }
        let (received, commitment) = self.unseal(&header, frame)?;
        if received.payload.len() > MAX_PAYLOAD {
            return Err(Misbehavior::Malformed);
        }
        if header.peer < self.peer || header.peer > own.next() {
            return Err(Misbehavior::PeerNumber);
        }
        let fits = match self.phase {
            Phase::Open => true,
            Phase::Fin => received.kind == Kind::Checkpoint,
            Phase::Signed => false,
        };
        if !fits {
            return Err(Misbehavior::AfterFin);
        }
        self.check(&header, &received, own, now)?;
        self.peer = header.peer;
        self.chain.add(&header.to_bytes(), &commitment);
        self.next = self.next.saturating_add(1);
        self.unacknowledged_bytes = self.unacknowledged_bytes.saturating_add(received.payload.len() as u64);
        match (self.phase, received.kind) {
            (_, Kind::Fin) => self.phase = Phase::Fin,
            (Phase::Fin, Kind::Checkpoint) => self.phase = Phase::Signed,
            _ => {}
        }
        Ok(received)
    }

    /// Whether the peer's signed end has come.
    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Signed
    }

    pub(super) const fn wants_ack(&self) -> bool {
        self.next.saturating_sub(self.acknowledged) >= ACK_FRAMES
            || self.unacknowledged_bytes >= ACK_BYTES
            || !matches!(self.phase, Phase::Open)
    }

    /// Names what was received, and counts it as acknowledged.
    pub(super) const fn acknowledge(&mut self) -> u64 {
        self.acknowledged = self.next;
        self.unacknowledged_bytes = 0;
        self.next
    }

    /// Credit for consumed bytes; whether it is worth telling the peer now.
    pub(super) fn consumed(&mut self, stream: u32, bytes: u64) -> bool {
        let Some(known) = self.streams.get_mut(&stream) else { return false };
        let bytes = bytes.min(known.received.saturating_sub(known.consumed));
        known.consumed = known.consumed.saturating_add(bytes);
        self.consumed = self.consumed.saturating_add(bytes);
        let stream_left = known.announced.saturating_sub(known.consumed);
        let session_left = self.announced.saturating_sub(self.consumed);
        stream_left <= STREAM_CREDIT / 2 || session_left <= SESSION_CREDIT / 2
    }

    /// Nothing announced so far is sure to have arrived.
    pub(super) fn announce_again(&mut self) {
        self.streams.values_mut().for_each(|stream| stream.told = 0);
    }

    /// What the peer may have sent in all: per session, and per stream where that changed.
    pub(super) fn credit(&mut self) -> (u64, Vec<(u32, u64)>) {
        // Every open stream brings its own room along, so that one nobody reads takes none from the others.
        let open = u64::try_from(self.opened().count()).unwrap_or(u64::MAX);
        let room = SESSION_CREDIT.saturating_add(open.saturating_mul(STREAM_CREDIT));
        self.announced = self.announced.max(self.consumed.saturating_add(room));
        let changed = self.streams.iter_mut().filter_map(|(id, stream)| {
            let credit = stream.consumed.saturating_add(STREAM_CREDIT);
            let changed = credit != stream.told;
            (stream.announced, stream.told) = (credit, credit);
            changed.then_some((*id, credit))
        });
        (self.announced, changed.collect())
    }

    fn unseal(&mut self, header: &Header, frame: &[u8]) -> Result<(Received, Digest), Misbehavior> {
        match (self.mode, header.kind) {
            (Mode::Inspected, Some(kind)) => {
                let payload = self.unlock(header, frame, HEADER_BYTES + SALT_BYTES)?;
                let salt = frame.get(HEADER_BYTES..).and_then(|f| f.first_chunk::<SALT_BYTES>());
                let salt = salt.ok_or(Misbehavior::Malformed)?;
                let commitment = commitment(salt, &payload);
                Ok((Received { kind, stream: header.stream, payload, peer: header.peer, unwanted: false }, commitment))
            }
            (Mode::Sealed, Some(kind)) if kind.is_outside(self.signer.direction) => {
                let end = frame.len().checked_sub(TAG_BYTES).ok_or(Misbehavior::Malformed)?;
                self.unlock(header, frame, end)?;
                let body = frame.get(HEADER_BYTES..end).ok_or(Misbehavior::Malformed)?;
                let (salt, payload) = body.split_first_chunk::<SALT_BYTES>().ok_or(Misbehavior::Malformed)?;
                let (stream, payload) = (header.stream, payload.to_vec());
                let commitment = commitment(salt, &payload);
                Ok((Received { kind, stream, payload, peer: header.peer, unwanted: false }, commitment))
            }
            (Mode::Sealed, None) => {
                let mut payload = self.unlock(header, frame, HEADER_BYTES)?;
                let &[kind, ref stream @ ..] = payload.first_chunk::<5>().ok_or(Misbehavior::Malformed)?;
                let (kind, stream) = (Kind::from_byte(kind), u32::from_be_bytes(*stream));
                payload.drain(..5);
                // What is for everybody is said to everybody.
                let kind = kind.filter(|kind| !kind.is_outside(self.signer.direction)).ok_or(Misbehavior::Malformed)?;
                let received = Received { kind, stream, payload, peer: header.peer, unwanted: false };
                Ok((received, sealed_commitment(frame)))
            }
            (Mode::Inspected, None) | (Mode::Sealed, Some(_)) => Err(Misbehavior::Malformed),
        }
    }

    fn unlock(&mut self, header: &Header, frame: &[u8], start: usize) -> Result<Vec<u8>, Misbehavior> {
        self.channel.open(header.number, frame, start).map_err(|_| Misbehavior::BadTag)
    }

    fn check(&mut self, header: &Header, received: &Received, own: &Sender, now: Now) -> Result<(), Misbehavior> {
        if header.number == 0 && received.kind != Kind::Checkpoint {
            return Err(Misbehavior::OpeningUnsigned);
        }
        if received.stream != 0 && !received.kind.is_of_stream() {
            return Err(Misbehavior::Malformed);
        }
        match received.kind {
            Kind::Bytes => self.check_credit(received)?,
            Kind::Eof => self.end_stream(received.stream)?,
            Kind::Open => self.opened_by_peer(received.stream, own)?,
            // Of a stream that was reset meanwhile, too.
            Kind::Answer | Kind::Report if (FIRST_OPENED..=self.last_opened).contains(&received.stream) => {}
            Kind::Answer | Kind::Report => return Err(Misbehavior::OutOfTurn),
            Kind::Reset => self.reset_by_peer(received.stream)?,
            Kind::Checkpoint => return self.check_checkpoint(header, &received.payload, own, now),
            Kind::Resize | Kind::Reauthenticate | Kind::Notice | Kind::Refuse | Kind::Fin => {}
        }
        self.unsigned = self.unsigned.saturating_add(received.payload.len() as u64);
        if self.mode == Mode::Inspected && self.unsigned > UNSIGNED_BYTES {
            return Err(Misbehavior::CheckpointOverdue);
        }
        Ok(())
    }

    fn check_credit(&mut self, received: &Received) -> Result<(), Misbehavior> {
        let length = received.payload.len() as u64;
        let stream = self.stream(received.stream)?;
        if stream.ended {
            return Err(Misbehavior::AfterFin);
        }
        stream.received = stream.received.saturating_add(length);
        let of_stream = stream.received <= stream.announced;
        self.received = self.received.saturating_add(length);
        let within = length > 0 && of_stream && self.received <= self.announced;
        if within { Ok(()) } else { Err(Misbehavior::Credit) }
    }

    /// Streams rise, and no more than [`MAX_STREAMS`] go on at once in either direction.
    fn opened_by_peer(&mut self, stream: u32, own: &Sender) -> Result<(), Misbehavior> {
        let going_on = self.opened().filter(|(id, known)| !known.ended || !own.is_ended(**id)).count();
        if stream <= self.last_opened || going_on >= MAX_STREAMS as usize {
            return Err(Misbehavior::OutOfTurn);
        }
        self.open_stream(stream);
        Ok(())
    }

    /// A reset may cross the end that this end sent.
    fn reset_by_peer(&mut self, stream: u32) -> Result<(), Misbehavior> {
        match self.streams.get_mut(&stream).filter(|_| stream >= FIRST_OPENED) {
            Some(known) => known.ended = true,
            None if (FIRST_OPENED..=self.last_opened).contains(&stream) => {}
            None => return Err(Misbehavior::OutOfTurn),
        }
        Ok(())
    }

    fn opened(&self) -> impl Iterator<Item = (&u32, &Stream)> {
        self.streams.range(FIRST_OPENED..)
    }

    /// Whether another stream may be opened by this end, and under which number.
    pub(super) fn next_opened(&self, own: &Sender) -> Option<u32> {
        let going_on = self.opened().filter(|(id, known)| !known.ended || !own.is_ended(**id)).count();
        if going_on >= MAX_STREAMS as usize { None } else { self.last_opened.checked_add(1) }
    }

    /// Whether too many streams that have ended wait for somebody to take their bytes.
    pub(super) fn is_crowded(&self) -> bool {
        self.opened().count() > 2 * MAX_STREAMS as usize
    }

    pub(super) fn open_stream(&mut self, stream: u32) {
        self.last_opened = self.last_opened.max(stream);
        self.streams.insert(stream, Stream { announced: STREAM_CREDIT, ..Stream::default() });
    }

    /// What still comes on a stream is thrown away. What came before is its reader's to take or throw away.
    pub(super) fn unwanted(&mut self, stream: u32) {
        if let Some(known) = self.streams.get_mut(&stream) {
            known.unwanted = true;
        }
    }

    /// Whether the stream's frames are for nobody.
    pub(super) fn is_unwanted(&self, stream: u32) -> bool {
        self.streams.get(&stream).is_some_and(|known| known.unwanted)
    }

    /// Whether the peer's direction of a stream has ended, and all of it was taken.
    pub(super) fn is_done(&self, stream: u32) -> bool {
        self.streams.get(&stream).is_some_and(|known| known.ended && known.consumed == known.received)
    }

    pub(super) fn forget_stream(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }

    /// A stream ends once.
    fn end_stream(&mut self, stream: u32) -> Result<(), Misbehavior> {
        let ended = std::mem::replace(&mut self.stream(stream)?.ended, true);
        if ended { Err(Misbehavior::AfterFin) } else { Ok(()) }
    }

    /// One that is there from the start, or was opened.
    fn stream(&mut self, stream: u32) -> Result<&mut Stream, Misbehavior> {
        if stream >= FIRST_OPENED {
            let over = if stream > self.last_opened { Misbehavior::OutOfTurn } else { Misbehavior::AfterFin };
            return self.streams.get_mut(&stream).ok_or(over);
        }
        Ok(self.streams.entry(stream).or_insert_with(|| Stream { announced: STREAM_CREDIT, ..Stream::default() }))
    }

    fn check_checkpoint(&mut self, header: &Header, payload: &[u8], own: &Sender, now: Now) -> Result<(), Misbehavior> {
        if self.unsigned < CHECKPOINT_BYTES && !self.checkpoints.take(now.mono) {
            return Err(Misbehavior::TooManyCheckpoints);
        }
        let statement = self.signer.verify(payload, &self.key).map_err(Misbehavior::Checkpoint)?;
        let want = Statement {
            session: self.session,
            number: header.number,
            head: self.chain.head(),
            peer_number: header.peer,
            peer_head: own.head_at(header.peer).ok_or(Misbehavior::PeerNumber)?,
            bytes: self.received,
            time: statement.time,
        };
        if statement != want {
            return Err(Misbehavior::OtherHistory);
        }
        self.unsigned = 0;
        Ok(())
    }
}
