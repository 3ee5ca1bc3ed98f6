//! An agent's session once it has keys: its carriers, its confirmation, its ends.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::id::OrganizationId;
use bz_core::key::PrivateKey;
use bz_core::signed::Signed;
use bz_core::time::{Mono, Now};

use crate::agent::Action;
use crate::flow::{Misbehavior, Resuming, SendError};
use crate::frame::{Fin, Kind, Notice};
use crate::gate::{Admission, Ends};
use crate::handshake::SynAck;
use crate::limits::LINGER;
use crate::packet::{Packet, Resume, ResumeDone, SynPacket};
use crate::receipt::Receipt;
use crate::refusal::Code;
use crate::session::{CarrierId, End, Line, encode};
use crate::stream::{Answer, Report, StreamRequest};

#[derive(Debug)]
pub(super) struct Open {
    pub(super) line: Line,
    pub(super) ends: Ends,
    /// Whether somebody sits at a terminal, to be asked to log in again; a command has nobody to ask.
    pub(super) asks: bool,
    /// When, unless a newer token comes before.
    pub(super) warn_at: Option<Mono>,
    /// What waits for the client's confirmation.
    pub(super) unconfirmed: Option<Box<Unconfirmed>>,
    /// Streams that were opened and not answered yet.
    pub(super) opening: BTreeMap<u32, StreamRequest>,
    /// Who can read it.
    pub(super) mode: Mode,
    /// Randoms of carriers that may resume.
    pub(super) randoms: VecDeque<(CarrierId, [u8; 32])>,
    pub(super) epoch: u64,
    pub(super) resuming: Option<(CarrierId, Resuming)>,
    /// What ended it here.
    pub(super) finished: Option<Ending>,
}

/// How a session ends, and until when the client's signed answer is awaited.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) end: End,
    pub(super) until: Mono,
}

/// An admission, the answer to it, and until when the client must confirm.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pub(super) admission: Admission,
    pub(super) ack: Signed<SynAck>,
    pub(super) until: Mono,
}

impl Open {
    /// What to keep of it, once its client has confirmed it.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        self.unconfirmed.is_none().then(|| self.line.flow.receipt())
    }

    pub(super) fn act(&mut self, now: Now, action: Action) -> Result<(), SendError> {
        let flow = &mut self.line.flow;
        if self.unconfirmed.is_some() {
            return Err(SendError::NotOpen);
        }
        match action {
            Action::Bytes { stream, bytes } => flow.send(now, Kind::Bytes, stream, &bytes),
            Action::Eof { stream } => flow.send(now, Kind::Eof, stream, &[]),
            Action::Notice(notice) => flow.send(now, Kind::Notice, 0, &encode(&notice)?),
            Action::Consumed { stream, bytes } => {
                flow.consumed(now, stream, bytes);
                Ok(())
            }
            Action::Finish(fin) => self.finish(now, &fin, End::Completed(fin.clone())),
            Action::Renew(renewal) => {
                self.ends = self.ends.renewed(&renewal);
                self.warn_at = self.ends.warning(now).filter(|_| self.asks);
                Ok(())
            }
            Action::Sign => flow.sign_soon(now),
            Action::Reset { stream } if flow.is_going_on(stream) => {
                self.opening.remove(&stream);
                flow.send(now, Kind::Reset, stream, &[])
            }
            // It is over already.
            Action::Reset { .. } => Ok(()),
            Action::Answer { .. } | Action::Admit { .. } | Action::Refuse(_) => Err(SendError::NotOpen),
        }
    }

    /// Answers an opening: in a sealed session first for everybody, signed, and then for the client.
    pub(super) fn answer(
        &mut self,
        now: Now,
        stream: u32,
        answer: Answer,
        (organization, key): (OrganizationId, &PrivateKey),
    ) -> Result<(), SendError> {
        let flow = &mut self.line.flow;
        // Its client may have given it up.
        let request = self.opening.remove(&stream).ok_or(SendError::NotOpen)?;
        let payload = answer.encode().map_err(|_| SendError::NoRoom)?;
        let refused = matches!(answer, Answer::Refused(_));
        if self.mode == Mode::Sealed {
            let report = Report { session: flow.session(), stream, request, answer, time: now.wall };
            let signed = Signed::seal(&report, organization, key).map_err(|_| SendError::NoRoom)?;
            let report = Report::encode(&signed).map_err(|_| SendError::NoRoom)?;
            flow.send(now, Kind::Report, stream, &report)?;
        }
        flow.send(now, Kind::Answer, stream, &payload)?;
        if refused { flow.send(now, Kind::Reset, stream, &[]) } else { Ok(()) }
    }

    pub(super) fn finish(&mut self, now: Now, fin: &Fin, end: End) -> Result<(), SendError> {
        self.line.flow.finish(now, fin)?;
        self.finished = Some(Ending { end, until: now.mono.after(LINGER) });
        Ok(())
    }

    /// At the end of login or cap nothing more is taken or sent but the authenticated word of it.
    pub(super) fn expire(&mut self, now: Now) -> Result<(), End> {
        if self.finished.is_some() || !self.ends.passed(now) {
            return Ok(());
        }
        let payload = encode(&Code::Expired).map_err(|_| End::Expired)?;
        self.line.flow.send(now, Kind::Refuse, 0, &payload).map_err(|_| End::Expired)?;
        self.finish(now, &Fin::Done, End::Expired).map_err(|_| End::Expired)
    }

    /// Asks for a new login, once.
    pub(super) fn warn(&mut self, now: Now) {
        if self.unconfirmed.is_none() && self.finished.is_none() && self.warn_at.take_if(|at| now.mono >= *at).is_some()
        {
            let notice = encode(&Notice::LoginEnds).and_then(|n| self.line.flow.send(now, Kind::Notice, 0, &n));
            // A session without room for it ends without the warning.
            notice.unwrap_or_default();
        }
    }

    pub(super) fn give_up(&self, now: Now, patience: Duration) -> Result<(), End> {
        let passed = |at: Option<Mono>| at.is_some_and(|at| now.mono >= at);
        if passed(self.unconfirmed.as_ref().map(|u| u.until)) {
            return Err(End::Timeout);
        }
        match &self.finished {
            Some(ending) if now.mono >= self.lingers(ending, patience) => Err(Self::unanswered(&ending.end)),
            Some(_) => Ok(()),
            None if passed(self.line.gives_up(patience)) => Err(End::Lost),
            None => Ok(()),
        }
    }

    /// Until when a client may still fetch the end. One that completed waits for a carrier as the session would have;
    /// one that was ended does not.
    fn lingers(&self, ending: &Ending, patience: Duration) -> Mono {
        let lost = self.line.gives_up(patience).filter(|_| matches!(ending.end, End::Completed(_)));
        lost.unwrap_or(ending.until)
    }

    /// The end when the client never acknowledged it: then nothing is complete.
    fn unanswered(end: &End) -> End {
        if matches!(end, End::Completed(_)) { End::Truncated } else { end.clone() }
    }

    pub(super) fn wakes(&self, patience: Duration) -> [Option<(Mono, &'static str)>; 6] {
        [
            self.unconfirmed.as_ref().map(|u| (u.until, "confirmation")),
            self.finished.as_ref().map(|ending| (self.lingers(ending, patience), "linger")),
            (self.finished.is_none()).then(|| (self.ends.wake(), "expiry")),
            self.warn_at.filter(|_| self.unconfirmed.is_none() && self.finished.is_none()).map(|at| (at, "warning")),
            self.line.gives_up(patience).filter(|_| self.finished.is_none()).map(|at| (at, "patience")),
            self.line.active.and_then(|_| self.line.flow.wake()),
        ]
    }

    /// The answer was lost with its carrier: the same `Syn` gets the same bytes again, until it is confirmed.
    pub(super) fn answer_again(
        &mut self,
        carrier: CarrierId,
        syn: &SynPacket,
        closing: &mut VecDeque<CarrierId>,
    ) -> bool {
        let Some(unconfirmed) = self.unconfirmed.as_ref().filter(|u| u.admission.syn == syn.syn) else {
            return false;
        };
        self.line.ahead(carrier, Packet::SynAck(Box::new(unconfirmed.ack.clone())));
        self.line.flow.rewind();
        closing.extend(self.line.active);
        self.line.activate(carrier);
        self.randoms.retain(|(on, _)| *on != carrier);
        true
    }

    /// Whether the resumption is proved and newer than every one before; then the carriers before it are done with.
    pub(super) fn start_resume(
        &mut self,
        carrier: CarrierId,
        resume: &Resume,
        now: Now,
        closing: &mut VecDeque<CarrierId>,
    ) -> bool {
        let random = self.randoms.iter().find(|(on, _)| *on == carrier).map(|(_, random)| *random);
        let (Some(random), Ok(())) = (random, self.line.flow.resume_keys().check_resume(resume)) else { return false };
        if resume.epoch <= self.epoch {
            return false;
        }
        self.epoch = resume.epoch;
        self.randoms.retain(|(on, _)| *on != carrier);
        closing.extend(self.line.active);
        closing.extend(self.resuming.take().map(|(old, _)| old));
        self.line.freeze(now);
        let resuming = Resuming {
            epoch: resume.epoch,
            client: (resume.random, resume.position),
            agent: (random, self.line.flow.position()),
        };
        let ack = self.line.flow.resume_keys().ack(&resuming);
        self.line.ahead(carrier, Packet::ResumeAck(ack));
        self.resuming = Some((carrier, resuming));
        true
    }

    pub(super) fn is_done(&self, carrier: CarrierId, done: &ResumeDone) -> bool {
        let resuming = self.resuming.filter(|(on, _)| *on == carrier);
        resuming.is_some_and(|(_, resuming)| self.line.flow.resume_keys().check_done(done, &resuming).is_ok())
    }

    /// The client proved that it is on the new carrier.
    pub(super) fn resumed(&mut self, now: Now) -> Result<(), Misbehavior> {
        let Some((carrier, resuming)) = self.resuming.take() else { return Ok(()) };
        self.line.flow.resumed(now, resuming.client.1)?;
        self.line.activate(carrier);
        if let Some(ending) = &mut self.finished
            && matches!(ending.end, End::Completed(_))
        {
            ending.until = now.mono.after(LINGER);
        }
        Ok(())
    }

    /// A carrier from which nothing more is expected.
    pub(super) fn forget(&mut self, carrier: CarrierId) {
        self.randoms.retain(|(on, _)| *on != carrier);
        self.resuming = self.resuming.filter(|(on, _)| *on != carrier);
    }
}
