//! The client's machine: `SynSent → Open → Closed`.
//!
//! One input, then [`Client::poll`] until it waits. Any rule broken leaves it closed.

mod received;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::access::request::{Request, Size};
use bz_core::digest::Digest;
use bz_core::id::{ConnectionId, OrganizationId};
use bz_core::key::{EphemeralKey, KeyError, PrivateKey, PublicKey};
use bz_core::signed::{ObjectError, Signed};
use bz_core::time::{Mono, Now, UnixTime};
use bz_core::wire::WireError;

use crate::flow::{CREDIT, Flow, Misbehavior, Parts, Resuming, SendError};
use crate::frame::{Fin, Kind, Notice};
use crate::handshake::{Attached, Fact, Syn, SynAck, session_id};
use crate::keys::Direction;
use crate::limits::{HANDSHAKE, SUITES, VERSIONS};
use crate::packet::{Forgotten, Packet, PacketRef, SynPacket};
use crate::receipt::Receipt;
use crate::refusal::Code;
use crate::session::{CarrierId, End, Input, Line, Output, earliest, encode};
use crate::stream::{Answer, StreamRequest};

/// What a session is opened with.
#[derive(Clone)]
pub struct Opening {
    /// The organization.
    pub organization: OrganizationId,
    /// The connection.
    pub connection: ConnectionId,
    /// The pinned identity key of the agent.
    pub agent_key: PublicKey,
    /// The exact bytes of the request.
    pub request: Vec<u8>,
    /// The exact bytes of the grant.
    pub grant: Vec<u8>,
    /// The client's `BzCert`.
    pub certificate: Vec<u8>,
    /// Whether the agent is believed to know the certificate.
    pub certificate_known: bool,
    /// The client's session key.
    pub key: PrivateKey,
    /// 32 random bytes for the agreement.
    pub ephemeral_seed: [u8; 32],
    /// 32 random bytes.
    pub random: [u8; 32],
    /// How long to wait for a carrier.
    pub patience: Duration,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Why a session cannot even be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// Request or grant too large.
    #[error("the request or grant is too large: {0}")]
    Wire(#[from] WireError),
    /// The request is malformed.
    #[error(transparent)]
    Request(#[from] bz_core::access::request::RequestError),
    /// The seed gives no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What the application should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The pinned agent accepted; the session has keys.
    Opened(Box<Opened>),
    /// A stream's bytes. Say [`Action::Consumed`] when they are taken.
    Bytes {
        /// Which stream.
        stream: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A stream's end.
    Eof {
        /// Which stream.
        stream: u32,
    },
    /// What became of a stream that was opened. One that was refused is over.
    Answered {
        /// Which stream.
        stream: u32,
        /// What.
        answer: Answer,
    },
    /// A stream that was opened is over in both directions.
    Reset {
        /// Which stream.
        stream: u32,
    },
    /// Something to show.
    Notice(Notice),
    /// The session goes on over a new carrier.
    Resumed,
    /// It is over.
    Ended(End),
}

/// What the agent said when it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The session's id.
    pub session: Digest,
    /// When it ends unless re-authenticated.
    pub expires_at: UnixTime,
    /// What an attached shell was before.
    pub attached: Option<Attached>,
    /// Facts about the target.
    pub facts: Vec<Fact>,
}

/// What the application does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sends bytes, at most [`Client::writable`].
    Bytes {
        /// On which stream.
        stream: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Ends a stream in this direction.
    Eof {
        /// Which stream.
        stream: u32,
    },
    /// Opens a stream. Bytes may follow at once.
    Open {
        /// [`Client::next_stream`].
        stream: u32,
        /// What for.
        request: StreamRequest,
    },
    /// Ends a stream that was opened, in both directions; what is under way is thrown away.
    Reset {
        /// Which stream.
        stream: u32,
    },
    /// The terminal has a new size.
    Resize(Size),
    /// A newer token: the whole certificate.
    Reauthenticate(Vec<u8>),
    /// Received bytes were taken.
    Consumed {
        /// Of which stream.
        stream: u32,
        /// How many.
        bytes: usize,
    },
    /// Ends the session: [`Fin::Detached`] or [`Fin::Closed`].
    Finish(Fin),
    /// Signs what was sent by now without delay: it says what became of files.
    Sign,
}

/// The client's end of a session.
#[derive(Debug)]
pub struct Client {
    state: State,
    opening: Opening,
    mode: Mode,
    events: VecDeque<Event>,
    closing: VecDeque<CarrierId>,
    receipt: Option<Receipt>,
}

#[derive(Debug)]
enum State {
    SynSent(Box<SynSent>),
    Open(Box<Running>),
    Closed,
}

#[derive(Debug)]
struct SynSent {
    syn: Signed<Syn>,
    ephemeral: EphemeralKey,
    with_certificate: bool,
    deadline: Mono,
    carrier: Option<CarrierId>,
    queued: bool,
}

#[derive(Debug)]
struct Running {
    line: Line,
    epoch: u64,
    resuming: Option<(CarrierId, Resuming)>,
    /// Streams that were opened and not answered yet, and whether the agent's report was there.
    opening: BTreeMap<u32, (StreamRequest, bool)>,
    last: Option<Fin>,
    finished: bool,
}

impl Client {
    /// A session that waits for its first carrier.
    ///
    /// # Errors
    /// [`OpeningError`].
    pub fn new(opening: Opening, now: Now) -> Result<Self, OpeningError> {
        let mode = Request::decode(&opening.request)?.mode;
        let ephemeral = EphemeralKey::from_seed(&opening.ephemeral_seed)?;
        let body = Syn {
            versions: VERSIONS.to_vec(),
            suites: SUITES.to_vec(),
            ephemeral: ephemeral.public(),
            random: opening.random,
            agent_key: opening.agent_key,
            connection: opening.connection,
            request: opening.request.clone(),
            certificate: Digest::of(&opening.certificate),
            grant: opening.grant.clone(),
        };
        let syn = Signed::seal(&body, opening.organization, &opening.key)?;
        let state = State::SynSent(Box::new(SynSent {
            syn,
            ephemeral,
            with_certificate: !opening.certificate_known,
            deadline: now.mono.after(HANDSHAKE),
            carrier: None,
            queued: false,
        }));
        Ok(Self { state, opening, mode, events: VecDeque::new(), closing: VecDeque::new(), receipt: None })
    }

    /// How many bytes a stream takes now.
    #[must_use]
    pub fn writable(&self, stream: u32) -> usize {
        match &self.state {
            State::Open(open) => open.line.flow.writable(stream),
            State::SynSent(_) | State::Closed => 0,
        }
    }

    /// The number of the next stream that can be opened; `None` while that is not possible.
    #[must_use]
    pub fn next_stream(&self) -> Option<u32> {
        match &self.state {
            State::Open(open) if !open.finished => open.line.flow.next_stream(),
            State::Open(_) | State::SynSent(_) | State::Closed => None,
        }
    }

    /// What to keep of this session, also after its end; `None` before there is one.
    #[must_use]
    pub fn receipt(&self) -> Option<Receipt> {
        match &self.state {
            State::Open(open) => Some(open.line.flow.receipt()),
            State::SynSent(_) | State::Closed => self.receipt.clone(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let next = match state {
            State::SynSent(sent) => self.in_syn_sent(*sent, now, input),
            State::Open(open) => self.in_open(open, now, input),
            State::Closed => return,
        };
        match next {
            Ok(state) => self.state = state,
            Err(end) => self.events.push_back(Event::Ended(end)),
        }
    }

    /// Takes one action of the application.
    ///
    /// # Errors
    /// [`SendError`]; nothing has changed then.
    pub fn act(&mut self, now: Now, action: Action) -> Result<(), SendError> {
        let State::Open(open) = &mut self.state else { return Err(SendError::NotOpen) };
        let flow = &mut open.line.flow;
        match action {
            Action::Bytes { stream, bytes } => flow.send(now, Kind::Bytes, stream, &bytes),
            Action::Eof { stream } => flow.send(now, Kind::Eof, stream, &[]),
            Action::Open { stream, request } => {
                if flow.next_stream() != Some(stream) {
                    return Err(SendError::NoRoom);
                }
                flow.send(now, Kind::Open, stream, &request.encode().map_err(|_| SendError::NoRoom)?)?;
                open.opening.insert(stream, (request, false));
                Ok(())
            }
            Action::Reset { stream } if flow.is_going_on(stream) => {
                open.opening.remove(&stream);
                flow.send(now, Kind::Reset, stream, &[])
            }
            // It is over already.
            Action::Reset { .. } => Ok(()),
            Action::Resize(size) => flow.send(now, Kind::Resize, 0, &encode(&size)?),
            Action::Reauthenticate(certificate) => flow.send(now, Kind::Reauthenticate, 0, &certificate),
            Action::Consumed { stream, bytes } => {
                flow.consumed(now, stream, bytes);
                Ok(())
            }
            Action::Finish(fin) => {
                flow.finish(now, &fin)?;
                open.finished = true;
                Ok(())
            }
            Action::Sign => flow.sign_soon(now),
        }
    }

    /// No carrier will come any more, or the person waits no longer: the session ends now.
    ///
    /// What came is complete only when the agent's signed end came, and then this changes nothing.
    pub fn abandon(&mut self) {
        let end = match std::mem::replace(&mut self.state, State::Closed) {
            State::SynSent(_) => End::Lost,
            State::Open(open) if open.line.flow.peer_closed() => {
                self.state = State::Open(open);
                return;
            }
            State::Open(open) => {
                self.receipt = Some(open.line.flow.receipt());
                End::Truncated
            }
            State::Closed => return,
        };
        self.events.push_back(Event::Ended(end));
    }

    /// The next output; [`Output::Wait`] when there is nothing more to do now.
    pub fn poll(&mut self, now: Now) -> Output<Event> {
        if let Some(event) = self.events.pop_front() {
            return Output::Event(event);
        }
        if let Some(carrier) = self.closing.pop_front() {
            return Output::CloseCarrier(carrier);
        }
        match &mut self.state {
            State::Closed => Output::Wait(None),
            State::SynSent(sent) => match sent.carrier.filter(|_| sent.queued) {
                Some(carrier) => {
                    sent.queued = false;
                    let certificate = sent.with_certificate.then(|| self.opening.certificate.clone());
                    let packet = Packet::Syn(Box::new(SynPacket { syn: sent.syn.clone(), certificate }));
                    match packet.encode() {
                        Ok(bytes) => Output::Transmit { carrier, bytes },
                        Err(_) => Output::CloseCarrier(carrier),
                    }
                }
                None => Output::Wait(earliest([Some((sent.deadline, "handshake"))])),
            },
            State::Open(open) => match open.line.poll(now) {
                Some((carrier, bytes)) => Output::Transmit { carrier, bytes },
                None if open.line.flow.peer_closed() => {
                    let fin = open.last.take().unwrap_or(Fin::Done);
                    self.receipt = Some(open.line.flow.receipt());
                    self.state = State::Closed;
                    Output::Event(Event::Ended(End::Completed(fin)))
                }
                None => {
                    let patience = open.line.gives_up(self.opening.patience).map(|at| (at, "patience"));
                    let flow = if open.line.active.is_some() { open.line.flow.wake() } else { None };
                    Output::Wait(earliest([patience, flow]))
                }
            },
        }
    }

    fn in_syn_sent(&mut self, mut sent: SynSent, now: Now, input: Input<'_>) -> Result<State, End> {
        match input {
            Input::CarrierUp { carrier, .. } => {
                self.closing.extend(sent.carrier.replace(carrier));
                sent.queued = true;
            }
            Input::CarrierDown { carrier } if sent.carrier == Some(carrier) => sent.carrier = None,
            Input::Packet { carrier, bytes } if sent.carrier == Some(carrier) => {
                match Packet::decode(bytes).map_err(|_| Misbehavior::Malformed)? {
                    Packet::SynAck(ack) => return self.open(sent, &ack, now),
                    Packet::Refusal(Code::CertificateUnknown) if !sent.with_certificate => {
                        (sent.with_certificate, sent.queued) = (true, true);
                    }
                    Packet::Refusal(code) => return Err(End::Reported(code)),
                    Packet::Syn(_)
                    | Packet::Data(_)
                    | Packet::DataAck(_)
                    | Packet::Control(_)
                    | Packet::Resume(_)
                    | Packet::ResumeAck(_)
                    | Packet::ResumeDone(_)
                    | Packet::Forgotten(_) => return Err(Misbehavior::OutOfTurn.into()),
                }
            }
            Input::Tick if now.mono >= sent.deadline => return Err(End::Timeout),
            Input::CarrierDown { .. } | Input::Packet { .. } | Input::Tick => {}
        }
        Ok(State::SynSent(Box::new(sent)))
    }

    fn open(&mut self, sent: SynSent, ack: &Signed<SynAck>, now: Now) -> Result<State, End> {
        let body = ack.open(&self.opening.agent_key, self.opening.organization).map_err(|error| match error {
            ObjectError::Wire(_) => Misbehavior::Malformed,
            ObjectError::Label
            | ObjectError::Version
            | ObjectError::Organization
            | ObjectError::CriticalExtension
            | ObjectError::TooManyExtensions
            | ObjectError::Signature => Misbehavior::OtherAgent,
        })?;
        if body.syn != sent.syn.digest() {
            return Err(Misbehavior::OtherAgent.into());
        }
        if !VERSIONS.contains(&body.version) || !SUITES.contains(&body.suite) {
            return Err(Misbehavior::Downgrade.into());
        }
        let session = session_id(&sent.syn, ack);
        let mut flow = Flow::new(Parts {
            organization: self.opening.organization,
            session,
            mode: self.mode,
            direction: Direction::ToAgent,
            shared: sent.ephemeral.agree(&body.ephemeral),
            key: self.opening.key.clone(),
            peer: self.opening.agent_key,
            credit: (body.credit.0.min(CREDIT.0), body.credit.1.min(CREDIT.1)),
            opening: (self.opening.connection, body.syn),
        });
        // The first frame, under the derived keys, is the confirmation; it signs the opening.
        flow.sign(now).map_err(|_| Misbehavior::Malformed)?;
        let SynAck { expires_at, attached, facts, .. } = body;
        self.events.push_back(Event::Opened(Box::new(Opened { session, expires_at, attached, facts })));
        let line = Line::new(flow, sent.carrier, Direction::ToAgent);
        let opening = BTreeMap::new();
        Ok(State::Open(Box::new(Running { line, epoch: 0, resuming: None, opening, last: None, finished: false })))
    }

    fn in_open(&mut self, mut open: Box<Running>, now: Now, input: Input<'_>) -> Result<State, End> {
        match self.step(&mut open, now, input) {
            Ok(()) => Ok(State::Open(open)),
            Err(end) => {
                self.receipt = Some(open.line.flow.receipt());
                Err(end)
            }
        }
    }

    fn step(&mut self, open: &mut Running, now: Now, input: Input<'_>) -> Result<(), End> {
        match input {
            Input::CarrierUp { carrier, random } => {
                self.closing.extend(open.line.active);
                self.closing.extend(open.resuming.take().map(|(old, _)| old));
                open.start_resume(carrier, random, now);
            }
            Input::CarrierDown { carrier } => {
                open.resuming = open.resuming.filter(|(on, _)| *on != carrier);
                open.line.down(carrier, now);
            }
            Input::Packet { carrier, bytes } => {
                if open.line.active == Some(carrier) {
                    self.packet(open, now, bytes)?;
                } else if let Some((on, resuming)) = open.resuming.filter(|(on, _)| *on == carrier) {
                    self.finish_resume(open, now, (on, resuming), bytes)?;
                }
                // Any other is a carrier that was replaced: what it still holds was or will be sent again.
            }
            Input::Tick => {
                if open.line.gives_up(self.opening.patience).is_some_and(|at| now.mono >= at) {
                    return Err(End::Lost);
                }
            }
        }
        // A tick of a flow that has ended has nothing to sign.
        open.line.flow.tick(now).unwrap_or_default();
        if open.line.flow.peer_closed() { Self::answer_end(open, now) } else { Ok(()) }
    }

    /// The agent's signed end is here: ours goes out, and [`Self::poll`] ends the session when it is on its way.
    fn answer_end(open: &mut Running, now: Now) -> Result<(), End> {
        if !open.finished {
            open.line.flow.finish(now, &Fin::Done).map_err(|_| Misbehavior::OutOfTurn)?;
            open.finished = true;
        }
        Ok(())
    }

    /// A packet on the carrier whose agent proved itself: the first wrong one ends the session.
    fn packet(&mut self, open: &mut Running, now: Now, bytes: &[u8]) -> Result<(), End> {
        match PacketRef::peek(bytes).map_err(|_| Misbehavior::Malformed)? {
            PacketRef::DataAck(frame) => {
                let received = open.line.flow.data(now, frame)?;
                self.received(open, received)
            }
            PacketRef::Control(frame) => Ok(open.line.flow.control(frame)?),
            PacketRef::Syn(_)
            | PacketRef::SynAck(_)
            | PacketRef::Data(_)
            | PacketRef::Refusal(_)
            | PacketRef::Resume(_)
            | PacketRef::ResumeAck(_)
            | PacketRef::ResumeDone(_)
            | PacketRef::Forgotten(_) => Err(Misbehavior::OutOfTurn.into()),
        }
    }

    /// The answer to a resumption. An agent that was started anew knows no session and proves that; anything else than a
    /// proved answer ends that carrier and nothing else, because whoever stands there may be a stranger.
    fn finish_resume(
        &mut self,
        open: &mut Running,
        now: Now,
        (carrier, mut resuming): (CarrierId, Resuming),
        bytes: &[u8],
    ) -> Result<(), End> {
        let keys = open.line.flow.resume_keys();
        let ack = match Packet::decode(bytes) {
            Ok(Packet::ResumeAck(ack)) if ack.epoch == resuming.epoch => {
                resuming.agent = (ack.random, ack.position);
                keys.check_ack(&ack, &resuming).is_ok().then_some(ack)
            }
            Ok(Packet::Forgotten(forgotten)) if self.is_forgotten(open, &resuming, &forgotten) => {
                return Err(End::Forgotten);
            }
            Ok(_) | Err(_) => None,
        };
        let Some(ack) = ack else {
            self.closing.push_back(carrier);
            open.resuming = None;
            return Ok(());
        };
        let done = keys.done(&resuming);
        open.resuming = None;
        open.line.ahead(carrier, Packet::ResumeDone(done));
        open.line.flow.resumed(now, ack.position)?;
        open.line.activate(carrier);
        self.events.push_back(Event::Resumed);
        Ok(())
    }

    /// Whether the agent signed, in answer to this resumption, that it does not know this session.
    fn is_forgotten(&self, open: &Running, resuming: &Resuming, forgotten: &Signed<Forgotten>) -> bool {
        let said = Forgotten { session: open.line.flow.session(), random: resuming.client.0 };
        forgotten.open(&self.opening.agent_key, self.opening.organization).is_ok_and(|body| body == said)
    }
}

impl Running {
    fn start_resume(&mut self, carrier: CarrierId, random: [u8; 32], now: Now) {
        self.line.freeze(now);
        self.epoch = self.epoch.saturating_add(1);
        let position = self.line.flow.position();
        let resuming = Resuming { epoch: self.epoch, client: (random, position), agent: ([0; 32], 0) };
        let resume = self.line.flow.resume_keys().resume(self.epoch, random, position);
        self.line.ahead(carrier, Packet::Resume(resume));
        self.resuming = Some((carrier, resuming));
    }
}
