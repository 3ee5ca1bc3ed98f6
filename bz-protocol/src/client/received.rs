//! What the client makes of the agent's frames.

use bz_core::access::Mode;

use crate::client::{Client, Event, Running};
use crate::flow::{Misbehavior, Received};
use crate::frame::Kind;
use crate::session::{End, decode};
use crate::stream::{Answer, Report};

impl Client {
    pub(super) fn received(&mut self, open: &mut Running, received: Received) -> Result<(), End> {
        let Received { kind, stream, payload, unwanted, .. } = received;
        match kind {
            Kind::Bytes | Kind::Eof | Kind::Answer | Kind::Reset if unwanted => {}
            Kind::Answer => {
                let answer = Answer::decode(&payload).map_err(|_| Misbehavior::Malformed)?;
                let reported = open.opening.remove(&stream).map(|(_, reported)| reported);
                // In a sealed session nothing is opened that the record does not show.
                if reported.is_none_or(|reported| !reported && self.mode == Mode::Sealed) {
                    return Err(Misbehavior::OutOfTurn.into());
                }
                self.events.push_back(Event::Answered { stream, answer });
            }
            Kind::Report => self.report(open, stream, &payload)?,
            Kind::Reset => {
                open.opening.remove(&stream);
                self.events.push_back(Event::Reset { stream });
            }
            Kind::Bytes => self.events.push_back(Event::Bytes { stream, bytes: payload }),
            Kind::Eof => self.events.push_back(Event::Eof { stream }),
            // The flow has noted it.
            Kind::Checkpoint => {}
            Kind::Notice => self.events.push_back(Event::Notice(decode(&payload)?)),
            Kind::Refuse => return Err(End::Refused(decode(&payload)?)),
            Kind::Fin => open.last = Some(decode(&payload)?),
            Kind::Resize | Kind::Reauthenticate | Kind::Open => return Err(Misbehavior::OutOfTurn.into()),
        }
        Ok(())
    }

    /// What the record will show of a stream is what was asked here, in the agent's words.
    fn report(&self, open: &mut Running, stream: u32, payload: &[u8]) -> Result<(), Misbehavior> {
        let signed = Report::decode(payload).map_err(|_| Misbehavior::Malformed)?;
        let report = signed.open(&self.opening.agent_key, self.opening.organization);
        let report = report.map_err(|_| Misbehavior::OtherAgent)?;
        let of_this = report.session == open.line.flow.session() && report.stream == stream;
        match open.opening.get_mut(&stream) {
            _ if !of_this || self.mode != Mode::Sealed => Err(Misbehavior::OutOfTurn),
            Some((asked, _)) if *asked != report.request => Err(Misbehavior::OtherHistory),
            Some((_, reported)) => {
                *reported = true;
                Ok(())
            }
            // One that was given up meanwhile.
            None => Ok(()),
        }
    }
}
