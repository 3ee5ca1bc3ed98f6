//! The data phase, the same for both ends: numbered frames out and in, acknowledged, credited, checkpointed, resumed.
//!
//! Absent: what the frames mean to a role; see [`crate::client`] and [`crate::agent`].

mod receiver;
mod resume;
mod sender;

use bincode::{Decode, Encode};
use bz_core::access::Mode;
use bz_core::digest::Digest;
use bz_core::id::{ConnectionId, OrganizationId};
use bz_core::key::{PrivateKey, PublicKey};
use bz_core::signed::ObjectError;
use bz_core::time::{Mono, Now};
use bz_core::wire;
use zeroize::Zeroizing;

use crate::checkpoint::{Signer, Statement};
pub(crate) use crate::flow::receiver::Received;
use crate::flow::receiver::Receiver;
pub(crate) use crate::flow::resume::{ResumeKeys, Resuming};
use crate::flow::sender::Sender;
pub(crate) use crate::flow::sender::sealed_commitment;
use crate::frame::{Fin, Kind};
use crate::handshake::Predecessor;
use crate::keys::{Channel, Direction, Secrets, Space};
use crate::limits::{ACK_DELAY, SESSION_CREDIT, STREAM_CREDIT};
use crate::receipt::{Holder, Receipt};
use crate::segment::Delivered;
use crate::stream::FIRST_OPENED;

/// The rule of the protocol that a peer broke. The session ends at the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misbehavior {
    /// Not a packet, or a part of one that does not decode.
    #[error("a message is malformed")]
    Malformed,
    /// A message that has no place in this state.
    #[error("a message came out of turn")]
    OutOfTurn,
    /// A tag that does not verify.
    #[error("a message was altered on its way, or made by somebody else")]
    BadTag,
    /// A number that was used or skipped.
    #[error("messages were replayed, reordered or dropped")]
    OutOfOrder,
    /// A count of our frames that goes back, or beyond what we sent.
    #[error("the other end claims to have seen messages that were not sent")]
    PeerNumber,
    /// More bytes than were credited.
    #[error("the other end sent more than it may")]
    Credit,
    /// The first frame is no checkpoint.
    #[error("the other end did not sign its opening")]
    OpeningUnsigned,
    /// A checkpoint whose signature does not verify.
    #[error("a signature of the other end does not verify: {0}")]
    Checkpoint(ObjectError),
    /// A checkpoint that says something else than what was sent and seen.
    #[error("the other end signed another history than this one")]
    OtherHistory,
    /// Too much unsigned.
    #[error("the other end stopped signing")]
    CheckpointOverdue,
    /// Too many checkpoints.
    #[error("the other end signs too often")]
    TooManyCheckpoints,
    /// A frame after the end.
    #[error("messages came after the end")]
    AfterFin,
    /// A proof of a resumption that does not verify, or an epoch that does not rise.
    #[error("a resumption was forged or replayed")]
    Resume,
    /// A `SynAck` that is not the pinned agent's answer to our `Syn`.
    #[error("the answer is not the pinned agent's")]
    OtherAgent,
    /// A version or suite that was not offered.
    #[error("the answer chooses a version that was not offered")]
    Downgrade,
}

/// What cannot be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// More than [`writable`](crate::client::Client::writable) says.
    #[error("more bytes than may be sent now")]
    NoRoom,
    /// The session is not open, or this direction has ended.
    #[error("the session is not open in this direction")]
    NotOpen,
}

/// What a flow is made of.
pub(crate) struct Parts {
    pub(crate) organization: OrganizationId,
    pub(crate) session: Digest,
    pub(crate) mode: Mode,
    pub(crate) direction: Direction,
    pub(crate) shared: Zeroizing<[u8; 32]>,
    pub(crate) key: PrivateKey,
    pub(crate) peer: PublicKey,
    /// What the peer lets us send at first: per session, per stream.
    pub(crate) credit: (u64, u64),
    /// The connection, and the digest of the opening message: for the receipt.
    pub(crate) opening: (ConnectionId, Digest),
}

/// Both directions of one session at one end.
pub(crate) struct Flow {
    session: Digest,
    key: PrivateKey,
    sender: Sender,
    receiver: Receiver,
    control_out: (Channel, u64),
    control_in: (Channel, u64),
    resume: ResumeKeys,
    ack_due: Option<Mono>,
    receipt: Receipt,
}

/// A control frame's payload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct ControlBody {
    /// The next data number expected.
    received: u64,
    /// Payload bytes that may have been sent in all.
    session: u64,
    /// And per stream, where it changed.
    streams: Vec<(u32, u64)>,
}

const MAX_CONTROL: usize = 8192;

impl Flow {
    pub(crate) fn new(parts: Parts) -> Self {
        let secrets = Secrets::new(&parts.shared, &parts.session, parts.mode);
        let (out, inn) = (parts.direction, parts.direction.reverse());
        let signer = |direction| Signer { organization: parts.organization, direction };
        Self {
            session: parts.session,
            sender: Sender::new(
                secrets.channel(out, Space::Data),
                &parts.session,
                parts.mode,
                signer(out),
                parts.credit,
            ),
            receiver: Receiver::new(
                secrets.channel(inn, Space::Data),
                &parts.session,
                parts.mode,
                signer(inn),
                parts.peer,
            ),
            control_out: (secrets.channel(out, Space::Control), 0),
            control_in: (secrets.channel(inn, Space::Control), 0),
            resume: ResumeKeys::new(secrets.resume(), parts.session),
            ack_due: None,
            receipt: Receipt {
                holder: if out == Direction::ToAgent { Holder::Client } else { Holder::Agent },
                organization: parts.organization,
                connection: parts.opening.0,
                session: parts.session,
                opening: parts.opening.1,
                client: None,
                agent: None,
                delivered: 0,
                close: None,
            },
            key: parts.key,
        }
    }

    /// What to keep of this session, as of now.
    pub(crate) fn receipt(&self) -> Receipt {
        Receipt { delivered: self.sender.delivered(), ..self.receipt.clone() }
    }

    /// Notes a checkpoint of either end, or the agent's last word.
    fn note(&mut self, direction: Direction, kind: Kind, payload: &[u8]) {
        match (kind, direction) {
            (Kind::Checkpoint, Direction::ToAgent) => self.receipt.client = Some(payload.to_vec()),
            (Kind::Checkpoint, Direction::ToClient) => self.receipt.agent = Some(payload.to_vec()),
            (Kind::Fin, Direction::ToClient) => self.receipt.close = wire::decode(payload, 64).ok(),
            _ => {}
        }
    }

    /// What the peer acknowledged of this direction, and what was seen of its own by now.
    pub(crate) fn delivered(&self) -> Option<Delivered> {
        let frames = self.sender.delivered();
        let (own, peer) = (self.sender.head_at(frames)?, self.receiver.head());
        let (to_agent, to_client) = match self.sender.direction() {
            Direction::ToAgent => (own, peer),
            Direction::ToClient => (peer, own),
        };
        let upto = Predecessor { session: self.session, to_agent, to_client };
        Some(Delivered { upto, frames, bytes: self.sender.delivered_bytes() })
    }

    pub(crate) const fn session(&self) -> Digest {
        self.session
    }

    pub(crate) const fn resume_keys(&self) -> &ResumeKeys {
        &self.resume
    }

    /// The next data number expected: what a resumption names.
    pub(crate) const fn position(&self) -> u64 {
        self.receiver.next()
    }

    /// Heads of both chains: (own, peer's).
    pub(crate) const fn heads(&self) -> (Digest, Digest) {
        (self.sender.head(), self.receiver.head())
    }

    /// Queues the end of this direction and the signature over it.
    pub(crate) fn finish(&mut self, now: Now, fin: &Fin) -> Result<(), SendError> {
        let payload = wire::encode(fin, 64).map_err(|_| SendError::NoRoom)?;
        self.send(now, Kind::Fin, 0, &payload)?;
        self.note(self.sender.direction(), Kind::Fin, &payload);
        self.sign(now)
    }

    /// Whether both signed ends are where they belong.
    pub(crate) fn is_closed(&self) -> bool {
        self.receiver.is_closed() && self.sender.is_delivered()
    }

    /// Whether the peer's signed end has come.
    pub(crate) fn peer_closed(&self) -> bool {
        self.receiver.is_closed()
    }

    /// How many bytes a stream takes now.
    pub(crate) fn writable(&self, stream: u32) -> usize {
        self.sender.writable(stream)
    }

    /// Queues a frame. `Bytes` within [`Self::writable`]; other kinds always.
    pub(crate) fn send(&mut self, now: Now, kind: Kind, stream: u32, payload: &[u8]) -> Result<(), SendError> {
        self.sender.send((kind, stream), payload, self.receiver.next(), now)?;
        if kind == Kind::Open {
            self.receiver.open_stream(stream);
            // The peer is told of the stream's room.
            self.ack_due = Some(now.mono);
        } else if kind == Kind::Reset {
            self.receiver.unwanted(stream);
        }
        self.settle(stream);
        // Not left to the next tick: what is due now must stand before the next frame.
        self.tick(now)
    }

    /// What was sent last is signed without delay, though no more often than typed lines are.
    pub(crate) fn sign_soon(&mut self, now: Now) -> Result<(), SendError> {
        self.sender.sign_soon(now);
        self.tick(now)
    }

    /// Queues a checkpoint.
    pub(crate) fn sign(&mut self, now: Now) -> Result<(), SendError> {
        let statement = Statement {
            session: self.session,
            number: self.sender.next(),
            head: self.sender.head(),
            peer_number: self.receiver.next(),
            peer_head: self.receiver.head(),
            bytes: self.sender.bytes(),
            time: now.wall,
        };
        let signed = self.sender.sign(statement, &self.key, self.receiver.next(), now)?;
        self.note(self.sender.direction(), Kind::Checkpoint, &signed);
        Ok(())
    }

    /// The number of the next stream that this end may open; `None` while too many go on.
    pub(crate) fn next_stream(&self) -> Option<u32> {
        self.receiver.next_opened(&self.sender)
    }

    /// Whether this end must first take what came on streams that have ended.
    pub(crate) fn is_crowded(&self) -> bool {
        self.receiver.is_crowded()
    }

    /// Whether a stream that was opened may still carry something in either direction.
    pub(crate) fn is_going_on(&self, stream: u32) -> bool {
        stream >= FIRST_OPENED && !self.sender.is_ended(stream)
    }

    /// Forgets a stream that is over in both directions.
    fn settle(&mut self, stream: u32) {
        if stream >= FIRST_OPENED && self.sender.is_ended(stream) && self.receiver.is_done(stream) {
            self.sender.forget_stream(stream);
            self.receiver.forget_stream(stream);
        }
    }

    /// What a frame of a stream means for its other direction.
    fn follow(&mut self, now: Now, received: &mut Received) {
        let stream = received.stream;
        received.unwanted = self.receiver.is_unwanted(stream);
        if received.kind == Kind::Open {
            self.sender.open_stream(stream);
        } else if received.kind == Kind::Bytes && received.unwanted {
            self.consumed(now, stream, received.payload.len());
        } else if received.kind == Kind::Reset && !self.sender.is_ended(stream) {
            // An end that is over sends nothing more; the peer must know that, too.
            self.send(now, Kind::Reset, stream, &[]).unwrap_or_default();
        }
        self.settle(stream);
    }

    /// A data frame from the peer.
    pub(crate) fn data(&mut self, now: Now, frame: &[u8]) -> Result<Received, Misbehavior> {
        let mut received = self.receiver.open(frame, &self.sender, now)?;
        self.follow(now, &mut received);
        self.sender.named(received.peer);
        self.note(self.sender.direction().reverse(), received.kind, &received.payload);
        if self.receiver.wants_ack() {
            self.ack_due = Some(now.mono);
        } else {
            let due = now.mono.after(ACK_DELAY);
            self.ack_due = Some(self.ack_due.map_or(due, |earlier| earlier.min(due)));
        }
        Ok(received)
    }

    /// A control frame from the peer.
    pub(crate) fn control(&mut self, frame: &[u8]) -> Result<(), Misbehavior> {
        let (number, _) = frame.split_first_chunk::<8>().ok_or(Misbehavior::Malformed)?;
        let number = u64::from_be_bytes(*number);
        let (channel, next) = &mut self.control_in;
        if number < *next {
            return Err(Misbehavior::OutOfOrder);
        }
        let payload = channel.open(number, frame, 8).map_err(|_| Misbehavior::BadTag)?;
        *next = number.saturating_add(1);
        let body: ControlBody = wire::decode(&payload, MAX_CONTROL).map_err(|_| Misbehavior::Malformed)?;
        self.sender.acknowledged(body.received)?;
        self.sender.credited(body.session, &body.streams);
        Ok(())
    }

    /// The application took these bytes of a stream: the peer may send as many more.
    pub(crate) fn consumed(&mut self, now: Now, stream: u32, bytes: usize) {
        if self.receiver.consumed(stream, bytes as u64) {
            self.ack_due = Some(now.mono);
        }
        self.settle(stream);
    }

    /// What is due now: checkpoints.
    pub(crate) fn tick(&mut self, now: Now) -> Result<(), SendError> {
        if self.sender.checkpoint_due(now) { self.sign(now) } else { Ok(()) }
    }

    /// When [`Self::tick`] or [`Self::poll`] has something to do.
    pub(crate) fn wake(&self) -> Option<(Mono, &'static str)> {
        let ack = self.ack_due.map(|at| (at, "acknowledgement"));
        let checkpoint = self.sender.checkpoint_at().map(|at| (at, "checkpoint"));
        ack.into_iter().chain(checkpoint).min()
    }

    /// The next frame for the present carrier.
    pub(crate) fn poll(&mut self, now: Now) -> Option<Outgoing<'_>> {
        // Data first: what was sealed before an acknowledgement names fewer of the peer's frames than it, and the peer
        // forgets what came before the newest count it was told.
        if self.sender.has_next() {
            return self.sender.poll().map(Outgoing::Data);
        }
        self.ack_due.take_if(|due| now.mono >= *due)?;
        self.control_frame().map(Outgoing::Control)
    }

    /// The peer is on a new carrier and expects this number: everything from there goes out again.
    pub(crate) fn resumed(&mut self, now: Now, position: u64) -> Result<(), Misbehavior> {
        self.sender.resumed(position)?;
        self.receiver.announce_again();
        self.ack_due = Some(now.mono);
        // The first new frame is a checkpoint; a direction that has ended has no new frames.
        if self.sender.is_open() {
            self.sign(now).map_err(|_| Misbehavior::OutOfTurn)?;
        }
        Ok(())
    }

    /// Everything not acknowledged goes out again.
    pub(crate) const fn rewind(&mut self) {
        self.sender.rewind();
    }

    fn control_frame(&mut self) -> Option<Vec<u8>> {
        let (session, streams) = self.receiver.credit();
        let body = ControlBody { received: self.receiver.acknowledge(), session, streams };
        let payload = wire::encode(&body, MAX_CONTROL).ok()?;
        let (channel, number) = &mut self.control_out;
        let mut frame = number.to_be_bytes().to_vec();
        channel.seal(*number, &mut frame, &[&payload]).ok()?;
        *number = number.checked_add(1)?;
        Some(frame)
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("session", &self.session).finish_non_exhaustive()
    }
}

/// A frame ready for the carrier.
pub(crate) enum Outgoing<'a> {
    Data(&'a [u8]),
    Control(Vec<u8>),
}

/// What each end lets the other send at first.
pub(crate) const CREDIT: (u64, u64) = (SESSION_CREDIT, STREAM_CREDIT);
