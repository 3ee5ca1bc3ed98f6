//! Both chains of one session, as anybody without its keys can follow them.

use std::collections::VecDeque;

use bz_core::access::Mode;
use bz_core::digest::Digest;
use bz_core::id::OrganizationId;
use bz_core::key::PublicKey;
use bz_core::signed::ObjectError;
use bz_core::wire;

use crate::checkpoint::{Signer, Statement};
use crate::frame::{Chain, Fin, Kind};
use crate::keys::Direction;
use crate::stream::Report;
use crate::transcript::record::{Content, Frame};
use crate::transcript::verdict::Heads;

/// Payloads that are one small value.
const SMALL: usize = 64;

/// Which rule a frame breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A number that was used or skipped.
    #[error("frame {expected} is missing: the next one is {found}")]
    Order {
        /// The number due.
        expected: u64,
        /// The number there.
        found: u64,
    },
    /// It counts frames of the other end that were not there, or fewer than before.
    #[error("it counts frames of the other end that were not sent before it")]
    Peer,
    /// The first frame of a direction is no checkpoint.
    #[error("the direction's opening is not signed")]
    OpeningUnsigned,
    /// A kind that has no place in this direction or mode, or on this stream.
    #[error("it has no place in this direction or mode")]
    Kind,
    /// Content withheld that never is.
    #[error("its content is withheld, which is allowed for streams' bytes alone")]
    Withheld,
    /// A payload that is none of its kind.
    #[error("its payload is malformed")]
    Payload,
    /// After the direction's end.
    #[error("it comes after the direction's end")]
    AfterEnd,
    /// A checkpoint that its end did not sign.
    #[error("the checkpoint is not its end's: {0}")]
    Checkpoint(ObjectError),
    /// A report that the agent did not sign.
    #[error("the report is not the agent's: {0}")]
    Report(ObjectError),
    /// A report of another session or stream.
    #[error("the report is of another session or stream")]
    OtherStream,
    /// A checkpoint that says something else than the frames.
    #[error("the checkpoint signs another {0}")]
    OtherHistory(&'static str),
    /// A frame or checkpoint older than what is remembered.
    #[error("it is older than what is remembered")]
    TooOld,
}

/// How many frames of a direction, from the first, each end has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coverage {
    /// By the agent's checkpoints.
    pub agent: u64,
    /// By the client's checkpoints.
    pub client: u64,
}

impl Coverage {
    /// By either.
    #[must_use]
    pub fn either(self) -> u64 {
        self.agent.max(self.client)
    }

    /// By both.
    #[must_use]
    pub fn both(self) -> u64 {
        self.agent.min(self.client)
    }
}

/// What both ends of one session are known by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) organization: OrganizationId,
    pub(super) session: Digest,
    pub(super) mode: Mode,
    pub(super) client_key: PublicKey,
    pub(super) agent_key: PublicKey,
    /// Whether tokens were taken out: then those of re-authentications are, too.
    pub(super) redacted: bool,
}

/// Whether a frame was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    New,
    Same,
    Other,
}

#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) ends: Ends,
    to_agent: Way,
    to_client: Way,
    /// Heads remembered in each direction.
    window: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Fin,
    Signed,
}

#[derive(Debug, Clone)]
pub(super) struct Way {
    chain: Chain,
    next: u64,
    peer: u64,
    /// The heads after each count of frames from `heads_from` on.
    heads: VecDeque<Digest>,
    heads_from: u64,
    phase: Phase,
    /// Stream bytes seen, and since the last checkpoint whether some were withheld.
    bytes: u64,
    withheld: bool,
    coverage: Coverage,
    /// Frames covered by a head that somebody signed; the last one covered may be a checkpoint whose salt is not.
    chained: u64,
    fin: Option<(u64, Fin)>,
    last: Option<Statement>,
}

impl Way {
    fn new(session: &Digest, direction: Direction) -> Self {
        let chain = Chain::new(session, direction);
        Self {
            chain,
            next: 0,
            peer: 0,
            heads: VecDeque::from([chain.head()]),
            heads_from: 0,
            phase: Phase::Open,
            bytes: 0,
            withheld: false,
            coverage: Coverage::default(),
            chained: 0,
            fin: None,
            last: None,
        }
    }

    /// How many frames there are.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn coverage(&self) -> Coverage {
        self.coverage
    }

    pub(super) const fn chained(&self) -> u64 {
        self.chained
    }

    /// The end's last word, and its frame's number.
    pub(super) const fn fin(&self) -> Option<&(u64, Fin)> {
        self.fin.as_ref()
    }

    pub(super) const fn last(&self) -> Option<&Statement> {
        self.last.as_ref()
    }

    /// Whether the direction ended, and its end is signed.
    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Signed
    }

    pub(super) const fn head(&self) -> Digest {
        self.chain.head()
    }

    fn head_at(&self, count: u64) -> Option<Digest> {
        self.heads.get(usize::try_from(count.checked_sub(self.heads_from)?).ok()?).copied()
    }

    fn push(&mut self, frame: &Frame, window: usize) {
        self.chain.add(&frame.header.to_bytes(), &frame.commitment());
        self.next = self.next.saturating_add(1);
        self.peer = frame.header.peer;
        self.heads.push_back(self.chain.head());
        if self.heads.len() > window {
            self.heads.pop_front();
            self.heads_from = self.heads_from.saturating_add(1);
        }
    }

    fn covered(&mut self, by: Direction, frames: u64) {
        // Who signs for a direction is its sender: to the agent, the client.
        let known = match by {
            Direction::ToAgent => &mut self.coverage.client,
            Direction::ToClient => &mut self.coverage.agent,
        };
        *known = (*known).max(frames);
    }
}

impl History {
    pub(super) fn new(ends: Ends, window: usize) -> Self {
        let way = |direction| Way::new(&ends.session, direction);
        Self { ends, to_agent: way(Direction::ToAgent), to_client: way(Direction::ToClient), window }
    }

    pub(super) const fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToAgent => &self.to_agent,
            Direction::ToClient => &self.to_client,
        }
    }

    const fn way_mut(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::ToAgent => &mut self.to_agent,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Whether a frame is new, sent again, or another under a number that was used.
    pub(super) fn known(&self, direction: Direction, frame: &Frame) -> Result<Known, Fault> {
        let way = self.way(direction);
        let number = frame.header.number;
        if number >= way.next {
            return Ok(Known::New);
        }
        let before = way.head_at(number).ok_or(Fault::TooOld)?;
        let after = way.head_at(number.saturating_add(1)).ok_or(Fault::TooOld)?;
        let mut chain = Chain::at(before);
        chain.add(&frame.header.to_bytes(), &frame.commitment());
        Ok(if chain.head() == after { Known::Same } else { Known::Other })
    }

    /// Adds a direction's next frame. After an error nothing has changed.
    pub(super) fn add(&mut self, direction: Direction, frame: &Frame) -> Result<(), Fault> {
        let (way, other) = (self.way(direction), self.way(direction.reverse()));
        let header = &frame.header;
        if header.number != way.next {
            return Err(Fault::Order { expected: way.next, found: header.number });
        }
        if header.peer < way.peer || header.peer > other.next {
            return Err(Fault::Peer);
        }
        match (self.ends.mode, header.kind) {
            (Mode::Sealed, None) if matches!(frame.content, Content::Withheld(_)) => {
                let window = self.window;
                self.way_mut(direction).push(frame, window);
                Ok(())
            }
            (Mode::Sealed, Some(kind)) if kind.is_outside(direction) => {
                let payload = frame.payload().ok_or(Fault::Withheld)?;
                if kind == Kind::Report {
                    self.check_report(frame.header.stream, payload)?;
                } else {
                    wire::decode::<Fin>(payload, SMALL).map_err(|_| Fault::Payload)?;
                }
                let window = self.window;
                self.way_mut(direction).push(frame, window);
                Ok(())
            }
            (Mode::Inspected, Some(kind)) if kind != Kind::Report => self.add_inspected(direction, kind, frame),
            (Mode::Sealed | Mode::Inspected, _) => Err(Fault::Kind),
        }
    }

    fn add_inspected(&mut self, direction: Direction, kind: Kind, frame: &Frame) -> Result<(), Fault> {
        let way = self.way(direction);
        match (way.phase, kind) {
            (Phase::Open, _) | (Phase::Fin, Kind::Checkpoint) => {}
            (Phase::Fin | Phase::Signed, _) => return Err(Fault::AfterEnd),
        }
        if way.next == 0 && kind != Kind::Checkpoint {
            return Err(Fault::OpeningUnsigned);
        }
        let in_place = kind.belongs_to().is_none_or(|way| way == direction);
        if !in_place || (frame.header.stream != 0 && !kind.is_of_stream()) {
            return Err(Fault::Kind);
        }
        let Some(payload) = frame.payload() else {
            let allowed = kind == Kind::Bytes || (kind == Kind::Reauthenticate && self.ends.redacted);
            if !allowed {
                return Err(Fault::Withheld);
            }
            let window = self.window;
            let way = self.way_mut(direction);
            way.withheld |= kind == Kind::Bytes;
            way.push(frame, window);
            return Ok(());
        };
        let statement = (kind == Kind::Checkpoint).then(|| self.check(direction, frame, payload)).transpose()?;
        let fin = (kind == Kind::Fin).then(|| wire::decode::<Fin>(payload, SMALL)).transpose();
        let fin = fin.map_err(|_| Fault::Payload)?;
        let (length, window) = (payload.len() as u64, self.window);
        let way = self.way_mut(direction);
        if kind == Kind::Bytes {
            way.bytes = way.bytes.saturating_add(length);
        }
        if let Some(fin) = fin {
            way.fin = Some((frame.header.number, fin));
            way.phase = Phase::Fin;
        }
        if let Some(statement) = statement {
            self.signed(direction, statement, true);
        }
        self.way_mut(direction).push(frame, window);
        Ok(())
    }

    /// A report is the agent's, of this session and of the stream it stands on.
    fn check_report(&self, stream: u32, payload: &[u8]) -> Result<(), Fault> {
        let signed = Report::decode(payload).map_err(|_| Fault::Payload)?;
        let report = signed.open(&self.ends.agent_key, self.ends.organization).map_err(Fault::Report)?;
        if report.session == self.ends.session && report.stream == stream { Ok(()) } else { Err(Fault::OtherStream) }
    }

    /// The statement in a checkpoint frame, when it says what was sent.
    fn check(&self, direction: Direction, frame: &Frame, payload: &[u8]) -> Result<Statement, Fault> {
        let (way, other) = (self.way(direction), self.way(direction.reverse()));
        let statement = self.verify(direction, payload)?;
        let same = |same: bool, what| if same { Ok(()) } else { Err(Fault::OtherHistory(what)) };
        same(statement.session == self.ends.session, "session")?;
        same(statement.number == frame.header.number, "number")?;
        same(statement.head == way.chain.head(), "head")?;
        same(statement.peer_number == frame.header.peer, "count of the other end's frames")?;
        // A head no longer remembered is left to the verifier, who has the whole file.
        let peer_head = other.head_at(statement.peer_number);
        same(peer_head.is_none_or(|head| statement.peer_head == head), "head of the other end")?;
        let counted = if way.withheld { statement.bytes >= way.bytes } else { statement.bytes == way.bytes };
        same(counted, "count of bytes")?;
        Ok(statement)
    }

    fn verify(&self, direction: Direction, payload: &[u8]) -> Result<Statement, Fault> {
        let key = match direction {
            Direction::ToAgent => &self.ends.client_key,
            Direction::ToClient => &self.ends.agent_key,
        };
        let signer = Signer { organization: self.ends.organization, direction };
        signer.verify(payload, key).map_err(Fault::Checkpoint)
    }

    /// A statement was checked: what it covers is covered, and its own frame, too, where that is beside it.
    fn signed(&mut self, direction: Direction, statement: Statement, inside: bool) {
        let peer_known = self.way(direction.reverse()).head_at(statement.peer_number).is_some();
        let way = self.way_mut(direction);
        way.covered(direction, statement.number.saturating_add(u64::from(inside)));
        way.chained = way.chained.max(statement.number);
        way.bytes = statement.bytes;
        way.withheld = false;
        if way.phase == Phase::Fin {
            way.phase = Phase::Signed;
        }
        let peer_number = statement.peer_number;
        way.last = Some(statement);
        if peer_known {
            let other = self.way_mut(direction.reverse());
            other.covered(direction, peer_number);
            other.chained = other.chained.max(peer_number);
        }
    }

    /// Adds a checkpoint of a sealed session that its end handed out.
    pub(super) fn detached(&mut self, direction: Direction, payload: &[u8]) -> Result<(), Fault> {
        if self.ends.mode != Mode::Sealed {
            return Err(Fault::Kind);
        }
        let statement = self.verify(direction, payload)?;
        let (way, other) = (self.way(direction), self.way(direction.reverse()));
        let same = |same: bool, what| if same { Ok(()) } else { Err(Fault::OtherHistory(what)) };
        same(statement.session == self.ends.session, "session")?;
        same(statement.number <= way.next, "number")?;
        same(statement.peer_number <= other.next, "count of the other end's frames")?;
        if way.last.as_ref().is_some_and(|last| statement.number <= last.number) {
            return Err(Fault::TooOld);
        }
        let head = way.head_at(statement.number).ok_or(Fault::TooOld)?;
        let peer_head = other.head_at(statement.peer_number).ok_or(Fault::TooOld)?;
        same(statement.head == head, "head")?;
        same(statement.peer_head == peer_head, "head of the other end")?;
        self.signed(direction, statement, false);
        Ok(())
    }

    /// The heads after every count of frames that is remembered.
    pub(super) fn into_heads(self) -> Heads {
        Heads { to_agent: self.to_agent.heads, to_client: self.to_client.heads }
    }

    /// The most that a direction's sender says it sent, or what was seen when that is more.
    pub(super) fn bytes(&self, direction: Direction) -> u64 {
        self.way(direction).bytes
    }
}
