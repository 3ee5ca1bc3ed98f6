//! The check of a whole transcript.

use bz_core::grant::{Pins, Purpose, ServerCert};
use bz_core::key::PublicKey;

use crate::frame::Kind;
use crate::keys::{Direction, SALT_BYTES};
use crate::segment::SegmentOpening;
use crate::transcript::anchors::Anchors;
use crate::transcript::evidence::{Evidence, check_directory, check_embedded, check_opening, check_segment};
use crate::transcript::file::{Position, Reader, Writer};
use crate::transcript::history::{Fault, History};
use crate::transcript::record::{Claim, Content, Embedded, Frame, Record, ServerRecord};
use crate::transcript::verdict::{AgentKnown, Reason, Refused, ServerClaims, Tail, Trust, Verdict, WayVerdict};

/// Checks every record of a transcript, in order, and says what is proved.
///
/// # Errors
/// The first rule that it breaks, and where.
pub fn verify(bytes: &[u8], anchors: &Anchors<'_>) -> Result<Verdict, Refused> {
    let mut walk = Walk::new(*anchors);
    let mut reader = Reader::new(bytes)?;
    while let Some(next) = reader.next() {
        let (at, record) = next?;
        let size = reader.position().offset.saturating_sub(at.offset);
        walk.step(&record, size).map_err(|reason| Refused { reason, at })?;
    }
    walk.finish(reader.cut_off(), reader.position())
}

/// A check under way.
pub(super) struct Walk<'a> {
    anchors: Anchors<'a>,
    writer: Writer,
    embedded: Option<Embedded>,
    session: Option<Box<Session>>,
}

/// From the opening on.
pub(super) struct Session {
    pub(super) evidence: Evidence,
    pub(super) history: History,
    agent_known: AgentKnown,
    predecessor_named: bool,
    /// What the agent signed of a segment; then the session is the segment.
    pub(super) segment: Option<SegmentOpening>,
    /// What each frame takes of the file, and of its stream.
    to_agent: Vec<Size>,
    to_client: Vec<Size>,
    claim: Option<Claim>,
    /// The bytes of conflicts: before the last claim, and behind it.
    conflicts: (u64, u64),
    conflict_count: u64,
}

#[derive(Debug, Clone, Copy)]
struct Size {
    raw: u64,
    content: u64,
    withheld: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(anchors: Anchors<'a>) -> Self {
        Self { anchors, writer: Writer::new().0, embedded: None, session: None }
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// One record that takes `size` bytes of the file.
    pub(super) fn step(&mut self, record: &Record, size: usize) -> Result<(), Reason> {
        let size = size as u64;
        match (record, &mut self.session, &self.embedded) {
            (Record::Anchors(embedded), None, None) => {
                check_embedded(embedded, &self.anchors)?;
                self.embedded = Some(embedded.clone());
            }
            (Record::Opening(opening), None, Some(embedded)) => {
                let evidence = check_opening(opening, embedded, &self.anchors)?;
                self.session = Some(Box::new(Session::new(evidence)));
            }
            (Record::Server(server), Some(session), Some(embedded)) => {
                let root = [embedded.root];
                let roots = match &self.anchors {
                    Anchors::Bundle(bundle, _) => bundle.roots.as_slice(),
                    Anchors::FromTranscript => root.as_slice(),
                };
                let now = self.writer.claim(bz_core::time::UnixTime::from_millis(0), "");
                session.claimed(server, roots, now.as_ref())?;
            }
            (record, Some(session), _) => session.step(record, size, &self.anchors)?,
            (_, None, _) => return Err(Reason::Misplaced),
        }
        self.writer.note(record).map_err(|_| Reason::Malformed)
    }

    fn finish(self, cut_off: usize, at: Position) -> Result<Verdict, Refused> {
        let session = self.session.ok_or(Refused { reason: Reason::NoOpening, at })?;
        // A segment names its predecessor itself; the opening before it is an older session's.
        if session.segment.is_none() && !session.predecessor_named && session.predecessor().is_some() {
            return Err(Refused { reason: Reason::Predecessor, at });
        }
        let trust = match self.anchors {
            Anchors::Bundle(..) => Trust::Proved,
            Anchors::FromTranscript => Trust::SelfConsistent,
        };
        Ok(session.verdict(trust, cut_off as u64))
    }
}

impl Session {
    fn new(evidence: Evidence) -> Self {
        Self {
            history: History::new(evidence.ends, usize::MAX),
            evidence,
            agent_known: AgentKnown::Grant,
            predecessor_named: false,
            segment: None,
            to_agent: Vec::new(),
            to_client: Vec::new(),
            claim: None,
            conflicts: (0, 0),
            conflict_count: 0,
        }
    }

    fn predecessor(&self) -> Option<crate::handshake::Predecessor> {
        self.evidence.answer.attached.and_then(|attached| attached.predecessor)
    }

    fn sizes(&mut self, direction: Direction) -> &mut Vec<Size> {
        match direction {
            Direction::ToAgent => &mut self.to_agent,
            Direction::ToClient => &mut self.to_client,
        }
    }

    fn step(&mut self, record: &Record, size: u64, anchors: &Anchors<'_>) -> Result<(), Reason> {
        let begun = !self.to_agent.is_empty() || !self.to_client.is_empty() || self.claim.is_some();
        match record {
            Record::Directory(directory) if !begun && self.agent_known == AgentKnown::Grant => {
                self.agent_known = AgentKnown::Directory(check_directory(directory, &self.evidence, anchors)?);
                Ok(())
            }
            Record::Predecessor(predecessor) if !begun && !self.predecessor_named => {
                self.predecessor_named = true;
                if self.predecessor() == Some(*predecessor) { Ok(()) } else { Err(Reason::Predecessor) }
            }
            Record::Segment(opening) if !begun && self.segment.is_none() && !self.predecessor_named => {
                let opening = check_segment(opening, &self.evidence)?;
                self.evidence.ends.session = opening.0;
                self.history = History::new(self.evidence.ends, usize::MAX);
                self.segment = Some(opening.1);
                Ok(())
            }
            // Nobody is there to send anything to the agent.
            Record::Frame { direction: Direction::ToAgent, .. }
            | Record::Conflict { direction: Direction::ToAgent, .. }
                if self.segment.is_some() =>
            {
                Err(Reason::Misplaced)
            }
            Record::Frame { direction, frame } => self.frame(*direction, frame, size),
            Record::Checkpoint { direction, payload } => {
                let number = self.history.way(*direction).next();
                let refused = |fault| Reason::Frame { direction: *direction, number, fault };
                self.history.detached(*direction, payload).map_err(refused)
            }
            Record::Conflict { direction, frame } => self.conflict(*direction, frame, size),
            Record::Anchors(_)
            | Record::Opening(_)
            | Record::Directory(_)
            | Record::Predecessor(_)
            | Record::Segment(_)
            | Record::Server(_) => Err(Reason::Misplaced),
        }
    }

    fn frame(&mut self, direction: Direction, frame: &Frame, raw: u64) -> Result<(), Reason> {
        let number = frame.header.number;
        self.history.add(direction, frame).map_err(|fault| Reason::Frame { direction, number, fault })?;
        let (content, withheld) = match (&frame.content, frame.header.kind) {
            (Content::Full { payload, .. }, Some(Kind::Bytes)) => (payload.len() as u64, false),
            (Content::Full { .. }, _) => (0, false),
            (Content::Withheld(_), _) => (0, true),
        };
        self.sizes(direction).push(Size { raw, content, withheld });
        Ok(())
    }

    /// Another version of a frame that is there.
    fn conflict(&mut self, direction: Direction, frame: &Frame, raw: u64) -> Result<(), Reason> {
        let number = frame.header.number;
        let other = self.history.known(direction, frame) == Ok(crate::transcript::history::Known::Other);
        if !other {
            let expected = self.history.way(direction).next();
            return Err(Reason::Frame { direction, number, fault: Fault::Order { expected, found: number } });
        }
        self.conflict_count = self.conflict_count.saturating_add(1);
        self.conflicts.1 = self.conflicts.1.saturating_add(raw);
        Ok(())
    }

    fn claimed(&mut self, server: &ServerRecord, roots: &[PublicKey], now: Option<&Claim>) -> Result<(), Reason> {
        let organization = self.evidence.ends.organization;
        let mut certified = None;
        let claim = server.claim.open_by(organization, |claim: &Claim| {
            let pins = Pins { organization, roots, now: claim.time };
            let certificate = ServerCert::verify(&server.certificate, Purpose::Record, &pins);
            certified = Some(certificate.clone().map(|_| ()));
            certificate.ok().map(|certificate| certificate.key)
        });
        if let Some(Err(error)) = certified {
            return Err(Reason::ServerCert(error));
        }
        let claim = claim.map_err(Reason::Claim)?;
        let check = |same: bool, what| if same { Ok(()) } else { Err(Reason::ClaimFor(what)) };
        let now = now.ok_or(Reason::Misplaced)?;
        check(claim.session == now.session, "session")?;
        check((claim.to_agent, claim.to_client) == (now.to_agent, now.to_client), "count of frames")?;
        check(claim.digest == now.digest, "content")?;
        self.conflicts = (self.conflicts.0.saturating_add(self.conflicts.1), 0);
        self.claim = Some(claim);
        Ok(())
    }

    fn verdict(self, trust: Trust, cut_off: u64) -> Verdict {
        let claimed = |direction| match (&self.claim, direction) {
            (None, _) => 0,
            (Some(claim), Direction::ToAgent) => claim.to_agent,
            (Some(claim), Direction::ToClient) => claim.to_client,
        };
        let to_agent = self.way(Direction::ToAgent, &self.to_agent, claimed(Direction::ToAgent));
        let to_client = self.way(Direction::ToClient, &self.to_client, claimed(Direction::ToClient));
        let sum = |a: Tail, b: Tail, more: u64| Tail {
            frames: a.frames.saturating_add(b.frames),
            bytes: a.bytes.saturating_add(b.bytes).saturating_add(more),
        };
        let only = sum(to_agent.claimed, to_client.claimed, self.conflicts.0);
        let last = |d| self.history.way(d).last().map(|statement| statement.time);
        // How it ended is the agent's own word: the client's signature does not stand for it.
        let agent = self.history.way(Direction::ToClient);
        let fin = agent.fin().filter(|(number, _)| *number < agent.coverage().agent).map(|(_, fin)| fin.clone());
        let ended = fin.as_ref().and_then(|_| last(Direction::ToClient));
        let last_signed = last(Direction::ToAgent).max(last(Direction::ToClient));
        let whole = |d| {
            let way = self.history.way(d);
            way.is_closed() && way.next() == way.coverage().either()
        };
        let complete = (self.segment.is_some() || whole(Direction::ToAgent)) && whole(Direction::ToClient);
        let (predecessor, started) = match &self.segment {
            Some(segment) => (segment.predecessor, segment.time),
            None => (self.predecessor(), self.evidence.answer.verified_at),
        };
        let Evidence { ends, identity, person, syn, request, grant, .. } = self.evidence;
        Verdict {
            trust,
            identity,
            organization: ends.organization,
            session: ends.session,
            connection: syn.connection,
            person,
            user: request.user.clone(),
            request,
            grant: grant.id,
            policies: grant.policies.clone(),
            client_key: ends.client_key,
            agent_key: ends.agent_key,
            agent_known: self.agent_known,
            predecessor,
            segment: self.segment,
            started,
            ended,
            last_signed,
            status: fin,
            complete,
            to_agent: to_agent.verdict,
            to_client: to_client.verdict,
            uncovered_tail: sum(to_agent.uncovered, to_client.uncovered, self.conflicts.1.saturating_add(cut_off)),
            server_claims: self.claim.map(|claim| ServerClaims { time: claim.time, reason: claim.reason, only }),
            conflicts: self.conflict_count,
            heads: self.history.into_heads(),
        }
    }

    /// What the ends signed of a direction; what only the server claims of the rest; what nobody does.
    fn way(&self, direction: Direction, sizes: &[Size], claimed: u64) -> Parts {
        let way = self.history.way(direction);
        let covered = way.coverage().either();
        let mut parts = Parts::default();
        parts.verdict.frames = covered;
        parts.verdict.coverage = way.coverage();
        parts.verdict.last = way.last().cloned();
        let signed = way.last().map_or((0, 0), |last| (last.number, last.bytes));
        parts.verdict.bytes = signed.1;
        for (number, size) in (0u64..).zip(sizes) {
            if number < covered {
                parts.verdict.withheld = parts.verdict.withheld.saturating_add(u64::from(size.withheld));
                let more = if number >= signed.0 { size.content } else { 0 };
                parts.verdict.bytes = parts.verdict.bytes.saturating_add(more);
                continue;
            }
            let tail = if number < claimed { &mut parts.claimed } else { &mut parts.uncovered };
            tail.frames = tail.frames.saturating_add(1);
            tail.bytes = tail.bytes.saturating_add(size.raw);
        }
        // A checkpoint signs its own frame but the salt in it, which the next one does.
        if covered > way.chained() {
            let tail = if covered <= claimed { &mut parts.claimed } else { &mut parts.uncovered };
            tail.bytes = tail.bytes.saturating_add(SALT_BYTES as u64);
        }
        parts
    }
}

#[derive(Default)]
struct Parts {
    verdict: WayVerdict,
    claimed: Tail,
    uncovered: Tail,
}
