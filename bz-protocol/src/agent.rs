//! The agent's machine: `ExpectSyn → Judging → ExpectConfirmation → Open → Closed`.
//!
//! Nothing happens on the target before [`Event::Confirmed`]: the machine dials nothing and knows no back end. The
//! judgment between is the [`crate::gate`]'s, which the driver asks, because it may have to fetch keys first.

mod open;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bz_core::access::request::Size;
use bz_core::digest::Digest;
use bz_core::id::OrganizationId;
use bz_core::key::{EphemeralKey, PrivateKey};
use bz_core::signed::Signed;
use bz_core::time::{Mono, Now};

use crate::agent::open::{Open, Unconfirmed};
use crate::flow::{CREDIT, Flow, Misbehavior, Parts, Received, SendError};
use crate::frame::{Fin, Kind, Notice};
use crate::gate::{Admission, Confirmed, Opening, Renewal};
use crate::handshake::{Attached, Fact, Syn, SynAck, session_id};
use crate::keys::Direction;
use crate::limits::{HANDSHAKE, PATIENCE, SUITES, VERSIONS};
use crate::packet::{Packet, PacketRef};
use crate::receipt::Receipt;
use crate::refusal::Code;
use crate::segment::Delivered;
use crate::session::{CarrierId, End, Input, Line, Output, decode, earliest, encode};
use crate::stream::{Answer, StreamRequest, Why};

/// What an agent's end is made of.
#[derive(Clone)]
pub struct Config {
    /// The organization.
    pub organization: OrganizationId,
    /// The agent's identity key.
    pub key: PrivateKey,
    /// 32 random bytes for the agreement.
    pub ephemeral_seed: [u8; 32],
    /// 32 random bytes, fresh for each machine.
    pub random: [u8; 32],
    /// How long a session without a carrier is kept.
    pub patience: Duration,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("organization", &self.organization).finish_non_exhaustive()
    }
}

impl Config {
    /// A configuration with the usual patience.
    #[must_use]
    pub const fn new(
        organization: OrganizationId,
        key: PrivateKey,
        ephemeral_seed: [u8; 32],
        random: [u8; 32],
    ) -> Self {
        Self { organization, key, ephemeral_seed, random, patience: PATIENCE }
    }
}

/// What the driver should do.
#[derive(Debug)]
pub enum Event {
    /// Ask the gate, and answer with [`Action::Admit`] or [`Action::Refuse`].
    Judge(Box<Opening>),
    /// The answer is on its way: from now on a carrier may resume this session.
    Answered {
        /// The session.
        session: Digest,
    },
    /// The client is there now. Let the gate consume the grant; only then begin.
    Confirmed(Box<Confirmed>),
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
    /// The client opens a stream. Let the gate say whether it may, and say [`Action::Answer`].
    Open {
        /// Which stream.
        stream: u32,
        /// What for.
        request: StreamRequest,
    },
    /// A stream that was opened is over in both directions.
    Reset {
        /// Which stream.
        stream: u32,
    },
    /// The terminal has a new size, within bounds.
    Resize(Size),
    /// A newer certificate. Ask the gate, and answer with [`Action::Renew`] if it agrees.
    Reauthenticate(Vec<u8>),
    /// The client acknowledged more: what a shell goes on from when this session ends.
    Delivered(Delivered),
    /// The client ends the session.
    Finished(Fin),
    /// The session goes on over a new carrier.
    Resumed,
    /// It is over.
    Ended(End),
}

/// What the driver decides, and what the back end does.
#[derive(Debug)]
pub enum Action {
    /// The gate agrees.
    Admit {
        /// Its evidence.
        admission: Box<Admission>,
        /// What an attached shell was before.
        attached: Option<Attached>,
        /// Facts about the target.
        facts: Vec<Fact>,
    },
    /// The gate or the back end refuses.
    Refuse(Code),
    /// A newer token was accepted.
    Renew(Renewal),
    /// Sends bytes, at most [`Agent::writable`].
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
    /// Answers an opening.
    Answer {
        /// Which stream.
        stream: u32,
        /// What became of it.
        answer: Answer,
    },
    /// Ends a stream that was opened, in both directions; what is under way is thrown away.
    Reset {
        /// Which stream.
        stream: u32,
    },
    /// Tells the client something.
    Notice(Notice),
    /// Received bytes were taken.
    Consumed {
        /// Of which stream.
        stream: u32,
        /// How many.
        bytes: usize,
    },
    /// Ends the session.
    Finish(Fin),
    /// Signs what was sent by now without delay: it says what became of files.
    Sign,
}

/// The agent's end of a session.
#[derive(Debug)]
pub struct Agent {
    state: State,
    config: Config,
    events: VecDeque<Event>,
    closing: VecDeque<CarrierId>,
    /// Packets before there is a line.
    early: VecDeque<(CarrierId, Packet)>,
    receipt: Option<Receipt>,
}

#[derive(Debug)]
enum State {
    ExpectSyn(ExpectSyn),
    Judging(Box<Judging>),
    Open(Box<Open>),
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct ExpectSyn {
    deadline: Mono,
    carrier: Option<CarrierId>,
}

/// A `Syn` that the gate looks at. Its carrier may be lost and replaced meanwhile.
#[derive(Debug)]
struct Judging {
    expect: ExpectSyn,
    syn: Signed<Syn>,
}

/// Carriers that may wait to resume at once.
const MAX_WAITING: usize = 4;

impl Agent {
    /// An end that waits for a `Syn`.
    #[must_use]
    pub fn new(config: Config, now: Now) -> Self {
        let expect = ExpectSyn { deadline: now.mono.after(HANDSHAKE), carrier: None };
        Self {
            state: State::ExpectSyn(expect),
            config,
            events: VecDeque::new(),
            closing: VecDeque::new(),
            early: VecDeque::new(),
            receipt: None,
        }
    }

    /// How many bytes a stream takes now.
    #[must_use]
    pub fn writable(&self, stream: u32) -> usize {
        match &self.state {
            State::Open(open) if open.unconfirmed.is_none() => open.line.flow.writable(stream),
            State::Open(_) | State::ExpectSyn(_) | State::Judging(_) | State::Closed => 0,
        }
    }

    /// The session and the heads of its chains (to the agent, to the client), once there is one.
    #[must_use]
    pub fn heads(&self) -> Option<(Digest, Digest, Digest)> {
        match &self.state {
            State::Open(open) => {
                let (own, peer) = open.line.flow.heads();
                Some((open.line.flow.session(), peer, own))
            }
            State::ExpectSyn(_) | State::Judging(_) | State::Closed => None,
        }
    }

    /// What to keep of this session, also after its end; `None` before its client has confirmed it: whoever repeats a
    /// stranger's `Syn` makes an agent keep nothing.
    #[must_use]
    pub fn receipt(&self) -> Option<Receipt> {
        match &self.state {
            State::Open(open) => open.receipt(),
            State::ExpectSyn(_) | State::Judging(_) | State::Closed => self.receipt.clone(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let next = match state {
            State::ExpectSyn(expect) => self.in_expect_syn(expect, now, input),
            State::Judging(judging) => self.in_judging(judging, now, &input),
            State::Open(open) => self.in_open(open, now, input),
            State::Closed => return,
        };
        match next {
            Ok(state) => self.state = state,
            Err(end) => self.events.push_back(Event::Ended(end)),
        }
    }

    /// Takes one action.
    ///
    /// # Errors
    /// [`SendError`]; nothing has changed then.
    pub fn act(&mut self, now: Now, action: Action) -> Result<(), SendError> {
        match (action, &mut self.state) {
            (Action::Admit { admission, .. }, State::Judging(judging)) if admission.syn != judging.syn => {
                Err(SendError::NotOpen)
            }
            (Action::Admit { admission, attached, facts }, State::Judging(judging)) => {
                let expect = judging.expect;
                self.admit(expect, *admission, (attached, facts), now)
            }
            (Action::Refuse(code), State::Judging(judging)) => {
                let carrier = judging.expect.carrier;
                self.early.extend(carrier.map(|carrier| (carrier, Packet::Refusal(code))));
                // "Certificate unknown" is answered by the same `Syn` with the attachment; every other word is the last.
                if code == Code::CertificateUnknown {
                    // The deadline stays, so nobody keeps a machine waiting by asking again and again.
                    self.state = State::ExpectSyn(judging.expect);
                } else {
                    self.state = State::Closed;
                    self.events.push_back(Event::Ended(End::Refused(code)));
                }
                Ok(())
            }
            (Action::Refuse(code), State::Open(open)) => {
                open.line.flow.send(now, Kind::Refuse, 0, &encode(&code)?)?;
                open.finish(now, &Fin::Done, End::Refused(code))
            }
            (Action::Answer { stream, answer }, State::Open(open)) => {
                open.answer(now, stream, answer, (self.config.organization, &self.config.key))
            }
            (action, State::Open(open)) => open.act(now, action),
            (_, State::ExpectSyn(_) | State::Judging(_) | State::Closed) => Err(SendError::NotOpen),
        }
    }

    /// The next output; [`Output::Wait`] when there is nothing more to do now.
    pub fn poll(&mut self, now: Now) -> Output<Event> {
        while let Some((carrier, packet)) = self.early.pop_front() {
            if let Ok(bytes) = packet.encode() {
                return Output::Transmit { carrier, bytes };
            }
        }
        if let Some(event) = self.events.pop_front() {
            return Output::Event(event);
        }
        if let Some(carrier) = self.closing.pop_front() {
            return Output::CloseCarrier(carrier);
        }
        match &mut self.state {
            State::Closed => Output::Wait(None),
            State::ExpectSyn(expect) => Output::Wait(earliest([Some((expect.deadline, "handshake"))])),
            State::Judging(judging) => Output::Wait(earliest([Some((judging.expect.deadline, "judgment"))])),
            State::Open(open) => match open.line.poll(now) {
                Some((carrier, bytes)) => Output::Transmit { carrier, bytes },
                None => Output::Wait(earliest(open.wakes(self.config.patience))),
            },
        }
    }

    fn in_expect_syn(&mut self, mut expect: ExpectSyn, now: Now, input: Input<'_>) -> Result<State, End> {
        match input {
            Input::CarrierUp { carrier, .. } => self.closing.extend(expect.carrier.replace(carrier)),
            Input::CarrierDown { carrier } if expect.carrier == Some(carrier) => expect.carrier = None,
            Input::Packet { carrier, bytes } if expect.carrier == Some(carrier) => {
                return match Packet::decode(bytes) {
                    Ok(Packet::Syn(syn)) => {
                        let judging = Judging { expect, syn: syn.syn.clone() };
                        self.events.push_back(Event::Judge(Box::new(Opening::new(*syn))));
                        Ok(State::Judging(Box::new(judging)))
                    }
                    Ok(
                        Packet::SynAck(_)
                        | Packet::Data(_)
                        | Packet::DataAck(_)
                        | Packet::Control(_)
                        | Packet::Refusal(_)
                        | Packet::Resume(_)
                        | Packet::ResumeAck(_)
                        | Packet::ResumeDone(_)
                        | Packet::Forgotten(_),
                    ) => Err(self.hint(carrier, Misbehavior::OutOfTurn)),
                    Err(_) => Err(self.hint(carrier, Misbehavior::Malformed)),
                };
            }
            Input::Tick if now.mono >= expect.deadline => return Err(End::Timeout),
            Input::CarrierDown { .. } | Input::Packet { .. } | Input::Tick => {}
        }
        Ok(State::ExpectSyn(expect))
    }

    fn in_judging(&mut self, mut judging: Box<Judging>, now: Now, input: &Input<'_>) -> Result<State, End> {
        let present = judging.expect.carrier;
        match input {
            Input::CarrierDown { carrier } if present == Some(*carrier) => judging.expect.carrier = None,
            Input::CarrierUp { carrier, .. } => self.closing.extend(judging.expect.carrier.replace(*carrier)),
            Input::Packet { carrier, bytes } if present == Some(*carrier) => {
                let again = matches!(Packet::decode(bytes), Ok(Packet::Syn(syn)) if syn.syn == judging.syn);
                if !again {
                    return Err(self.hint(*carrier, Misbehavior::OutOfTurn));
                }
            }
            Input::Tick if now.mono >= judging.expect.deadline => return Err(End::Timeout),
            Input::CarrierDown { .. } | Input::Packet { .. } | Input::Tick => {}
        }
        Ok(State::Judging(judging))
    }

    /// Tells a peer without keys that it is not understood.
    fn hint(&mut self, carrier: CarrierId, misbehavior: Misbehavior) -> End {
        self.early.push_back((carrier, Packet::Refusal(Code::Malformed)));
        misbehavior.into()
    }

    fn admit(
        &mut self,
        expect: ExpectSyn,
        admission: Admission,
        (attached, facts): (Option<Attached>, Vec<Fact>),
        now: Now,
    ) -> Result<(), SendError> {
        let ephemeral = EphemeralKey::from_seed(&self.config.ephemeral_seed).map_err(|_| SendError::NotOpen)?;
        let newest = |ours: &[u16], theirs: &[u16]| ours.iter().copied().find(|v| theirs.contains(v));
        let body = SynAck {
            syn: admission.syn.digest(),
            version: newest(VERSIONS, &admission.body.versions).ok_or(SendError::NotOpen)?,
            suite: newest(SUITES, &admission.body.suites).ok_or(SendError::NotOpen)?,
            ephemeral: ephemeral.public(),
            random: self.config.random,
            credit: CREDIT,
            expires_at: admission.ends.wall(),
            idp_key: admission.certificate.claims().key,
            verified_at: admission.verified_at,
            attached,
            facts,
        };
        let ack = Signed::seal(&body, self.config.organization, &self.config.key).map_err(|_| SendError::NoRoom)?;
        let session = session_id(&admission.syn, &ack);
        let mut flow = Flow::new(Parts {
            organization: self.config.organization,
            session,
            mode: admission.mode(),
            direction: Direction::ToClient,
            shared: ephemeral.agree(&admission.body.ephemeral),
            key: self.config.key.clone(),
            peer: admission.certificate.client_key(),
            credit: CREDIT,
            opening: (admission.body.connection, body.syn),
        });
        flow.sign(now)?;
        let answer = |carrier| (carrier, Packet::SynAck(Box::new(ack.clone())));
        let (mode, asks) = (admission.mode(), admission.request().access().spec().detaches);
        self.early.extend(expect.carrier.map(answer));
        self.events.push_back(Event::Answered { session });
        self.state = State::Open(Box::new(Open {
            line: Line::new(flow, expect.carrier, Direction::ToClient),
            ends: admission.ends,
            asks,
            warn_at: admission.ends.warning(now).filter(|_| asks),
            unconfirmed: Some(Box::new(Unconfirmed { admission, ack, until: now.mono.after(HANDSHAKE) })),
            opening: BTreeMap::new(),
            mode,
            randoms: VecDeque::new(),
            epoch: 0,
            resuming: None,
            finished: None,
        }));
        Ok(())
    }

    fn in_open(&mut self, mut open: Box<Open>, now: Now, input: Input<'_>) -> Result<State, End> {
        let stepped = self.step(&mut open, now, input);
        let ended = stepped.err().or_else(|| open.finished.take_if(|_| open.line.flow.is_closed()).map(|e| e.end));
        match ended {
            Some(end) => {
                self.receipt = open.receipt();
                Err(end)
            }
            None => Ok(State::Open(open)),
        }
    }

    fn step(&mut self, open: &mut Open, now: Now, input: Input<'_>) -> Result<(), End> {
        open.expire(now)?;
        match input {
            Input::CarrierUp { carrier, random } => {
                if open.randoms.len() >= MAX_WAITING {
                    self.closing.extend(open.randoms.pop_front().map(|(old, _)| old));
                }
                open.randoms.push_back((carrier, random));
            }
            Input::CarrierDown { carrier } => {
                open.forget(carrier);
                open.line.down(carrier, now);
            }
            Input::Packet { carrier, bytes } => {
                if open.line.active == Some(carrier) {
                    self.packet(open, now, bytes)?;
                } else {
                    self.unproved(open, now, carrier, bytes)?;
                }
            }
            Input::Tick => open.give_up(now, self.config.patience)?,
        }
        open.warn(now);
        // A tick of a flow that has ended has nothing to sign.
        open.line.flow.tick(now).unwrap_or_default();
        Ok(())
    }

    /// A packet on the carrier whose client proved itself: the first wrong one ends the session.
    fn packet(&mut self, open: &mut Open, now: Now, bytes: &[u8]) -> Result<(), End> {
        match PacketRef::peek(bytes).map_err(|_| Misbehavior::Malformed)? {
            PacketRef::Data(frame) => {
                let received = open.line.flow.data(now, frame)?;
                self.received(open, now, received)
            }
            PacketRef::Control(frame) => {
                let before = open.line.flow.delivered();
                open.line.flow.control(frame)?;
                let delivered = open.line.flow.delivered().filter(|now| before.is_none_or(|b| b.frames < now.frames));
                self.events.extend(delivered.map(Event::Delivered));
                Ok(())
            }
            PacketRef::Syn(_)
            | PacketRef::SynAck(_)
            | PacketRef::DataAck(_)
            | PacketRef::Refusal(_)
            | PacketRef::Resume(_)
            | PacketRef::ResumeAck(_)
            | PacketRef::ResumeDone(_)
            | PacketRef::Forgotten(_) => Err(Misbehavior::OutOfTurn.into()),
        }
    }

    /// A packet on any other carrier, which may be a stranger's: a wrong one ends that carrier and nothing else.
    fn unproved(&mut self, open: &mut Open, now: Now, carrier: CarrierId, bytes: &[u8]) -> Result<(), End> {
        match Packet::decode(bytes) {
            Ok(Packet::Syn(syn)) if open.answer_again(carrier, &syn, &mut self.closing) => Ok(()),
            Ok(Packet::Resume(resume)) if open.start_resume(carrier, &resume, now, &mut self.closing) => Ok(()),
            Ok(Packet::ResumeDone(done)) if open.is_done(carrier, &done) => self.finish_resume(open, now),
            // A carrier that was replaced: what it still holds was or will be sent again.
            Ok(Packet::Data(_) | Packet::Control(_)) => Ok(()),
            Ok(
                Packet::Syn(_)
                | Packet::SynAck(_)
                | Packet::DataAck(_)
                | Packet::Refusal(_)
                | Packet::Resume(_)
                | Packet::ResumeAck(_)
                | Packet::ResumeDone(_)
                | Packet::Forgotten(_),
            )
            | Err(_) => {
                open.forget(carrier);
                self.closing.push_back(carrier);
                Ok(())
            }
        }
    }

    fn finish_resume(&mut self, open: &mut Open, now: Now) -> Result<(), End> {
        open.resumed(now)?;
        self.events.push_back(Event::Resumed);
        Ok(())
    }

    fn received(&mut self, open: &mut Open, now: Now, received: Received) -> Result<(), End> {
        // What ended before it began (a login that ran out meanwhile) begins no more.
        if let Some(unconfirmed) = open.unconfirmed.take_if(|_| open.finished.is_none()) {
            let (admission, session) = (unconfirmed.admission, open.line.flow.session());
            self.events.push_back(Event::Confirmed(Box::new(Confirmed { admission, session })));
        }
        let Received { kind, stream, payload, unwanted, .. } = received;
        match kind {
            // After the end only the client's own end matters.
            Kind::Bytes | Kind::Eof | Kind::Resize | Kind::Reauthenticate | Kind::Open | Kind::Reset
                if open.finished.is_some() => {}
            Kind::Bytes | Kind::Eof | Kind::Reset if unwanted => {}
            Kind::Open => {
                let request = StreamRequest::decode(&payload).map_err(|_| Misbehavior::Malformed)?;
                open.opening.insert(stream, request.clone());
                if open.line.flow.is_crowded() {
                    let signer = (self.config.organization, &self.config.key);
                    // A session that cannot send has more to worry about.
                    open.answer(now, stream, Answer::Refused(Why::Unavailable), signer).unwrap_or_default();
                } else {
                    self.events.push_back(Event::Open { stream, request });
                }
            }
            Kind::Reset => {
                open.opening.remove(&stream);
                self.events.push_back(Event::Reset { stream });
            }
            Kind::Bytes => self.events.push_back(Event::Bytes { stream, bytes: payload }),
            Kind::Eof => self.events.push_back(Event::Eof { stream }),
            // The flow has noted it.
            Kind::Checkpoint => {}
            Kind::Resize => self.events.push_back(Event::Resize(decode::<Size>(&payload)?.clamped())),
            Kind::Reauthenticate => self.events.push_back(Event::Reauthenticate(payload)),
            Kind::Fin => self.events.push_back(Event::Finished(decode(&payload)?)),
            Kind::Notice | Kind::Refuse | Kind::Answer | Kind::Report => return Err(Misbehavior::OutOfTurn.into()),
        }
        Ok(())
    }
}
