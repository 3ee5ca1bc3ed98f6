//! What a relay sees of one session, without any of its keys: what to keep, what is signed, and what does not fit.

use bz_core::access::Mode;
use bz_core::cert::BzCert;
use bz_core::digest::Digest;
use bz_core::id::{ConnectionId, OrganizationId};
use bz_core::key::PublicKey;
use bz_core::oidc::jwks::Jwks;
use bz_core::signed::{ObjectError, Signed};
use bz_core::trust::DirectoryEntry;
use bz_core::wire::{self, WireError};

use crate::copy::MANIFEST;
use crate::frame::{Fin, Kind, Notice};
use crate::handshake::{Syn, SynAck, session_id};
use crate::keys::Direction;
use crate::limits::MAX_UNACKED;
use crate::packet::{PacketRef, SynPacket};
use crate::segment::SegmentOpening;
use crate::ssh;
use crate::transcript::evidence::unverified;
use crate::transcript::file::{Reader, Writer};
use crate::transcript::history::{Coverage, Ends, Fault, History, Known};
use crate::transcript::record::{Directory, Embedded, Frame, Opening, Record};
use crate::transcript::verdict::{Reason, Refused};

/// Heads remembered in each direction: an honest sender never sends again what is older, because it holds no more
/// than this unacknowledged (its last frames are ends of streams and checkpoints). 32 bytes each: 576 KiB a session at most.
const WINDOW: usize = MAX_UNACKED + 1024;

/// A notice is one small value.
const MAX_NOTICE: usize = 64;

/// What the server knows of a session before it begins.
#[derive(Debug, Clone)]
pub struct Parties {
    /// The organization.
    pub organization: OrganizationId,
    /// The root that certified the key of the grant's signer.
    pub root: PublicKey,
    /// The connection.
    pub connection: ConnectionId,
    /// The session key of the client's login.
    pub client_key: PublicKey,
    /// The identity key of the agent.
    pub agent_key: PublicKey,
    /// The certificates known of this login: a `Syn` may leave its own out.
    pub certificates: Vec<Vec<u8>>,
    /// The issuer's keys as the server knows them, for the one that the transcript must hold.
    pub keys: Jwks,
    /// The directory's entry for the agent, where there is a directory, and the directory's key.
    pub directory: Option<(PublicKey, Signed<DirectoryEntry>)>,
}

/// Of which streams the content is kept. Everything else always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// What the target sends.
    pub output: bool,
    /// What the person sends.
    pub input: bool,
    /// What the agent says apart from the content, which is kept in any case.
    pub apart: Apart,
}

/// What an agent says apart from a session's content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Apart {
    /// Nothing.
    #[default]
    Nothing,
    /// What became of files, on [`MANIFEST`].
    Files,
    /// Everything: the content is SSH, which nobody but its two ends reads. See [`crate::ssh`].
    Ssh,
}

impl Keep {
    const fn keeps(self, direction: Direction, stream: u32) -> bool {
        match (self.apart, direction) {
            (Apart::Nothing | Apart::Files, Direction::ToAgent) => self.input,
            (Apart::Nothing, Direction::ToClient) => self.output,
            (Apart::Files, Direction::ToClient) => self.output || stream == MANIFEST,
            (Apart::Ssh, Direction::ToAgent) => false,
            (Apart::Ssh, Direction::ToClient) => match stream {
                ssh::SAID => true,
                ssh::SCREEN | ssh::OUTPUT => self.output,
                ssh::KEYS | ssh::INPUT => self.input,
                _ => false,
            },
        }
    }
}

/// What one packet gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// To append to the transcript, in this order, before the packet goes on.
    pub keep: Vec<Record>,
    /// A frame seen for the first time, for recorder and lenses; never a second time.
    pub seen: Option<Seen>,
    /// Other bytes under a number that was recorded: the session must end. They are in `keep`.
    pub conflict: Option<u64>,
}

/// A data frame, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which way.
    pub direction: Direction,
    /// Its number.
    pub number: u64,
    /// What it carries; `None` in sealed sessions.
    pub kind: Option<Kind>,
    /// Which stream.
    pub stream: u32,
    /// The payload; empty in sealed sessions.
    pub payload: Vec<u8>,
}

/// Why a session cannot go on past this relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not a packet.
    #[error("a message is malformed: {0}")]
    Malformed(#[from] WireError),
    /// A message that has no place in this direction or state.
    #[error("a message came out of turn")]
    OutOfTurn,
    /// An opening that the client of this connection did not sign.
    #[error("the opening is not this client's: {0}")]
    Syn(ObjectError),
    /// An answer that the agent of this connection did not sign.
    #[error("the answer is not this agent's: {0}")]
    SynAck(ObjectError),
    /// A segment's opening that the agent of this connection did not sign.
    #[error("the segment is not this agent's: {0}")]
    Segment(ObjectError),
    /// An opening or answer for something else than this connection.
    #[error("the opening is for another {0}")]
    OpeningFor(&'static str),
    /// A frame or checkpoint that does not fit what came before.
    #[error("frame {number}: {fault}")]
    Frame {
        /// Its number.
        number: u64,
        /// The rule.
        fault: Fault,
    },
}

/// Follows one session.
#[derive(Debug)]
pub struct Observer {
    parties: Parties,
    keep: Keep,
    state: State,
}

#[derive(Debug)]
enum State {
    ExpectSyn,
    ExpectAnswer(Box<Asked>),
    Open(Box<Open>),
}

#[derive(Debug)]
struct Asked {
    packet: SynPacket,
    syn: Syn,
}

#[derive(Debug)]
struct Open {
    history: History,
    syn: Digest,
    answer: Digest,
    /// An agent's segment: only one direction, and no packets.
    segment: bool,
    /// The terminal asks for a password: what is typed is not kept, whatever the settings.
    password: bool,
}

impl Observer {
    /// An observer of a session that has not begun.
    #[must_use]
    pub const fn new(parties: Parties, keep: Keep) -> Self {
        Self { parties, keep, state: State::ExpectSyn }
    }

    /// Keeps the content of these streams from now on, or no longer.
    pub const fn keep_content(&mut self, output: bool, input: bool) {
        (self.keep.output, self.keep.input) = (output, input);
    }

    /// An observer of an agent's segment, and what its transcript begins with. `held` is the transcript of the session
    /// that held the shell last.
    ///
    /// # Errors
    /// [`Violation`] when the agent did not sign the opening, or it is of another connection or session.
    pub fn segment(
        parties: Parties,
        keep: Keep,
        held: &[u8],
        opening: &Signed<SegmentOpening>,
    ) -> Result<(Self, Vec<Record>), Violation> {
        let other = Violation::OpeningFor("session");
        let mut observer = Self::new(parties, keep);
        let mut records = Vec::new();
        for next in Reader::new(held).map_err(|_| other)? {
            let (_, record) = next.map_err(|_| other)?;
            match record {
                Record::Anchors(_) | Record::Directory(_) => records.push(record),
                // Whose login it was does not matter: the agent signs for the session, which covers its opening whole.
                Record::Opening(held) => {
                    let parties = &observer.parties;
                    held.answer.open(&parties.agent_key, parties.organization).map_err(Violation::SynAck)?;
                    let syn = unverified(&held.syn, parties.organization).map_err(Violation::Syn)?;
                    let history = parties.history(&held.syn, &syn, &held.answer)?;
                    observer.state = State::Open(Box::new(Open::new(history, &held.syn, &held.answer)));
                    records.push(Record::Opening(held));
                }
                Record::Predecessor(_) => {}
                Record::Segment(_)
                | Record::Frame { .. }
                | Record::Checkpoint { .. }
                | Record::Conflict { .. }
                | Record::Server(_) => break,
            }
        }
        let State::Open(open) = &mut observer.state else { return Err(other) };
        open.begin_segment(&observer.parties, opening)?;
        records.push(Record::Segment(Box::new(opening.clone())));
        Ok((observer, records))
    }

    /// Takes a frame of an agent's segment.
    ///
    /// # Errors
    /// [`Violation`]: the segment must end.
    pub fn segment_frame(&mut self, frame: &[u8]) -> Result<Observed, Violation> {
        match &self.state {
            State::Open(open) if open.segment => {}
            State::ExpectSyn | State::ExpectAnswer(_) | State::Open(_) => return Err(Violation::OutOfTurn),
        }
        let frame = Frame::of_segment(frame).ok_or(Violation::Malformed(WireError::Malformed))?;
        self.frame(Direction::ToClient, &frame)
    }

    /// An observer that goes on where a transcript ends, its writer, and how many bytes of the file to keep: a record
    /// cut off at the end is to be cut away.
    ///
    /// # Errors
    /// [`Refused`] when the transcript is not of this connection, or is damaged.
    pub fn resume(parties: Parties, keep: Keep, bytes: &[u8]) -> Result<(Self, Writer, usize), Refused> {
        let mut observer = Self::new(parties, keep);
        let (mut writer, _) = Writer::new();
        let mut reader = Reader::new(bytes)?;
        for next in reader.by_ref() {
            let (at, record) = next?;
            let refused = |reason| Refused { reason, at };
            observer.replay(&record).map_err(refused)?;
            writer.note(&record).map_err(|_| refused(Reason::Malformed))?;
        }
        Ok((observer, writer, reader.position().offset))
    }

    /// Takes one packet that is about to be relayed in this direction.
    ///
    /// # Errors
    /// [`Violation`]: the packet must not go on, and the session must end.
    pub fn observe(&mut self, direction: Direction, packet: &[u8]) -> Result<Observed, Violation> {
        match (direction, PacketRef::peek(packet)?) {
            (Direction::ToAgent, PacketRef::Syn(syn)) => self.syn(*syn),
            (Direction::ToClient, PacketRef::SynAck(answer)) => self.answer(&answer),
            (Direction::ToAgent, PacketRef::Data(frame)) | (Direction::ToClient, PacketRef::DataAck(frame)) => {
                let frame = Frame::of_packet(frame).ok_or(Violation::Malformed(WireError::Malformed))?;
                self.frame(direction, &frame)
            }
            // Sealed anew each time, proved to the ends alone, or proving nothing.
            (_, PacketRef::Control(_))
            | (Direction::ToAgent, PacketRef::Resume(_) | PacketRef::ResumeDone(_))
            | (Direction::ToClient, PacketRef::ResumeAck(_) | PacketRef::Refusal(_) | PacketRef::Forgotten(_)) => {
                Ok(Observed::default())
            }
            (
                Direction::ToAgent,
                PacketRef::SynAck(_)
                | PacketRef::DataAck(_)
                | PacketRef::Refusal(_)
                | PacketRef::ResumeAck(_)
                | PacketRef::Forgotten(_),
            )
            | (
                Direction::ToClient,
                PacketRef::Syn(_) | PacketRef::Data(_) | PacketRef::Resume(_) | PacketRef::ResumeDone(_),
            ) => Err(Violation::OutOfTurn),
        }
    }

    /// Takes a checkpoint of a sealed session that an end handed out, as its [receipt](crate::receipt::Receipt) holds
    /// it, and gives the record to append.
    ///
    /// # Errors
    /// [`Violation`] when it is not that end's, or says something else than what was relayed.
    pub fn checkpoint(&mut self, direction: Direction, payload: &[u8]) -> Result<Record, Violation> {
        let State::Open(open) = &mut self.state else { return Err(Violation::OutOfTurn) };
        let number = open.history.way(direction).next();
        open.history.detached(direction, payload).map_err(|fault| Violation::Frame { number, fault })?;
        Ok(Record::Checkpoint { direction, payload: payload.to_vec() })
    }

    /// The session, once there is one.
    #[must_use]
    pub fn session(&self) -> Option<Digest> {
        self.open().map(|open| open.history.ends.session)
    }

    /// How many frames were relayed in a direction.
    #[must_use]
    pub fn frames(&self, direction: Direction) -> u64 {
        self.open().map_or(0, |open| open.history.way(direction).next())
    }

    /// How many of them each end has signed. A row about frame `n` is *confirmed* when `n < coverage.agent`.
    #[must_use]
    pub fn coverage(&self, direction: Direction) -> Coverage {
        self.open().map_or_else(Coverage::default, |open| open.history.way(direction).coverage())
    }

    /// Whether a frame is confirmed: a checkpoint of the agent covers it.
    #[must_use]
    pub fn is_confirmed(&self, direction: Direction, number: u64) -> bool {
        number < self.coverage(direction).agent
    }

    /// Stream bytes in a direction: seen, or in a sealed session signed and handed out.
    #[must_use]
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.open().map_or(0, |open| open.history.bytes(direction))
    }

    /// What the agent said at the end, when both signed ends went by.
    #[must_use]
    pub fn ended(&self) -> Option<&Fin> {
        let history = &self.open()?.history;
        let (to_agent, to_client) = (history.way(Direction::ToAgent), history.way(Direction::ToClient));
        let closed = (self.open()?.segment || to_agent.is_closed()) && to_client.is_closed();
        to_client.fin().filter(|_| closed).map(|(_, fin)| fin)
    }

    /// The heads of both chains (to the agent, to the client): for the audit chain.
    #[must_use]
    pub fn heads(&self) -> Option<(Digest, Digest)> {
        let history = &self.open()?.history;
        Some((history.way(Direction::ToAgent).head(), history.way(Direction::ToClient).head()))
    }

    fn open(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) => Some(open),
            State::ExpectSyn | State::ExpectAnswer(_) => None,
        }
    }

    fn syn(&mut self, packet: SynPacket) -> Result<Observed, Violation> {
        if let State::Open(open) = &self.state {
            // The answer was lost with its carrier: the same opening again.
            return if packet.syn.digest() == open.syn { Ok(Observed::default()) } else { Err(Violation::OutOfTurn) };
        }
        let Parties { organization, client_key, agent_key, connection, .. } = &self.parties;
        let syn = packet.syn.open(client_key, *organization).map_err(Violation::Syn)?;
        let check = |same: bool, what| if same { Ok(()) } else { Err(Violation::OpeningFor(what)) };
        check(syn.connection == *connection, "connection")?;
        check(syn.agent_key == *agent_key, "agent")?;
        let attached = packet.certificate.as_ref().map(|bytes| Digest::of(bytes));
        check(attached.is_none_or(|digest| digest == syn.certificate), "certificate")?;
        self.state = State::ExpectAnswer(Box::new(Asked { packet, syn }));
        Ok(Observed::default())
    }

    fn answer(&mut self, answer: &Signed<SynAck>) -> Result<Observed, Violation> {
        let asked = match &self.state {
            State::ExpectSyn => return Err(Violation::OutOfTurn),
            State::Open(open) if open.answer == answer.digest() => return Ok(Observed::default()),
            State::Open(_) => return Err(Violation::OutOfTurn),
            State::ExpectAnswer(asked) => asked,
        };
        let body = answer.open(&self.parties.agent_key, self.parties.organization).map_err(Violation::SynAck)?;
        if body.syn != asked.packet.syn.digest() {
            return Err(Violation::OpeningFor("opening message"));
        }
        let history = self.parties.history(&asked.packet.syn, &asked.syn, answer)?;
        let mut keep = self.parties.records(asked, answer, &body);
        let predecessor = body.attached.and_then(|attached| attached.predecessor);
        keep.extend(predecessor.map(Record::Predecessor));
        self.state = State::Open(Box::new(Open::new(history, &asked.packet.syn, answer)));
        Ok(Observed { keep, ..Observed::default() })
    }

    fn frame(&mut self, direction: Direction, frame: &Frame) -> Result<Observed, Violation> {
        let State::Open(open) = &mut self.state else { return Err(Violation::OutOfTurn) };
        let (header, number) = (frame.header, frame.header.number);
        let violation = |fault| Violation::Frame { number, fault };
        let secret = direction == Direction::ToAgent && open.password;
        let withheld = header.kind == Some(Kind::Bytes) && (secret || !self.keep.keeps(direction, header.stream));
        let kept = if withheld { frame.withheld() } else { frame.clone() };
        match open.history.known(direction, frame).map_err(violation)? {
            Known::Same => return Ok(Observed::default()),
            Known::Other => {
                let keep = vec![Record::Conflict { direction, frame: kept }];
                return Ok(Observed { keep, seen: None, conflict: Some(number) });
            }
            Known::New => open.history.add(direction, frame).map_err(violation)?,
        }
        open.notice(direction, frame);
        let payload = frame.payload().map(<[u8]>::to_vec).unwrap_or_default();
        let seen = Seen { direction, number, kind: header.kind, stream: header.stream, payload };
        Ok(Observed { keep: vec![Record::Frame { direction, frame: kept }], seen: Some(seen), conflict: None })
    }

    /// A record that stands in the transcript already.
    fn replay(&mut self, record: &Record) -> Result<(), Reason> {
        match (record, &mut self.state) {
            (Record::Opening(opening), State::ExpectSyn) => {
                let parties = &self.parties;
                let syn = opening.syn.open(&parties.client_key, parties.organization).map_err(Reason::Syn)?;
                opening.answer.open(&parties.agent_key, parties.organization).map_err(Reason::SynAck)?;
                let history = parties.history(&opening.syn, &syn, &opening.answer);
                let history = history.map_err(|_| Reason::AnswerFor("connection"))?;
                self.state = State::Open(Box::new(Open::new(history, &opening.syn, &opening.answer)));
            }
            (Record::Segment(opening), State::Open(open)) if !open.segment => {
                open.begin_segment(&self.parties, opening).map_err(|_| Reason::SegmentOf("session"))?;
            }
            (Record::Frame { direction, frame }, State::Open(open)) => {
                let (direction, number) = (*direction, frame.header.number);
                let refused = |fault| Reason::Frame { direction, number, fault };
                open.history.add(direction, frame).map_err(refused)?;
                open.notice(direction, frame);
            }
            (Record::Checkpoint { direction, payload }, State::Open(open)) => {
                let number = open.history.way(*direction).next();
                let refused = |fault| Reason::Frame { direction: *direction, number, fault };
                open.history.detached(*direction, payload).map_err(refused)?;
            }
            (Record::Anchors(_), State::ExpectSyn)
            | (
                Record::Directory(_) | Record::Predecessor(_) | Record::Conflict { .. } | Record::Server(_),
                State::Open(_),
            ) => {}
            (_, State::ExpectSyn | State::ExpectAnswer(_) | State::Open(_)) => return Err(Reason::Misplaced),
        }
        Ok(())
    }
}

impl Open {
    fn new(history: History, syn: &Signed<Syn>, answer: &Signed<SynAck>) -> Self {
        Self { history, syn: syn.digest(), answer: answer.digest(), segment: false, password: false }
    }

    /// Whether a frame says that a password is asked for, or no longer.
    fn notice(&mut self, direction: Direction, frame: &Frame) {
        let told = direction == Direction::ToClient && frame.header.kind == Some(Kind::Notice);
        let notice = frame.payload().filter(|_| told).and_then(|payload| wire::decode(payload, MAX_NOTICE).ok());
        if let Some(Notice::Password(on)) = notice {
            self.password = on;
        }
    }

    /// From here on the frames are the segment's.
    fn begin_segment(&mut self, parties: &Parties, opening: &Signed<SegmentOpening>) -> Result<(), Violation> {
        let body = opening.open(&parties.agent_key, parties.organization).map_err(Violation::Segment)?;
        let check = |same: bool, what| if same { Ok(()) } else { Err(Violation::OpeningFor(what)) };
        check(body.connection == parties.connection, "connection")?;
        check(body.held == self.history.ends.session, "session")?;
        check(self.history.ends.mode == Mode::Inspected, "mode")?;
        self.history = History::new(Ends { session: opening.digest(), ..self.history.ends }, WINDOW);
        self.segment = true;
        Ok(())
    }
}

impl Parties {
    fn history(&self, signed: &Signed<Syn>, syn: &Syn, answer: &Signed<SynAck>) -> Result<History, Violation> {
        let request = bz_core::access::request::Request::decode(&syn.request);
        let request = request.map_err(|_| Violation::OpeningFor("kind of request"))?;
        let ends = Ends {
            organization: self.organization,
            session: session_id(signed, answer),
            mode: request.mode,
            client_key: self.client_key,
            agent_key: self.agent_key,
            // What stands in a file that is gone on with may have lost its tokens; what comes over a carrier never has.
            redacted: true,
        };
        Ok(History::new(ends, WINDOW))
    }

    /// What a transcript begins with.
    fn records(&self, asked: &Asked, answer: &Signed<SynAck>, body: &SynAck) -> Vec<Record> {
        let known = self.certificates.iter().find(|bytes| Digest::of(bytes) == asked.syn.certificate);
        let certificate = asked.packet.certificate.as_ref().or(known).cloned();
        let initial = certificate.as_ref().and_then(|bytes| BzCert::signed_by(bytes, &self.keys)).map(|(key, _)| key);
        let key = |thumbprint: &Digest| self.keys.canonical(thumbprint).map(str::to_owned);
        let mut keys: Vec<String> = key(&body.idp_key).into_iter().collect();
        if let Some(initial) = initial.filter(|initial| *initial != body.idp_key && !keys.is_empty()) {
            keys.extend(key(&initial));
        }
        let embedded = Embedded { organization: self.organization, root: self.root, keys };
        let opening = Opening { syn: asked.packet.syn.clone(), certificate, answer: answer.clone() };
        let directory =
            self.directory.clone().map(|(key, entry)| Record::Directory(Box::new(Directory { key, entry })));
        let mut records = vec![Record::Anchors(embedded), Record::Opening(Box::new(opening))];
        records.extend(directory);
        records
    }
}
