//! Both machines under sequences of inputs: right packets, changed ones, bytes from nowhere, carriers that come and go,
//! and time.
//!
//! The first byte chooses the state to begin in, and each further one the next input; its bits 6 and 7 the carrier.

use std::time::Duration;

use bz_protocol::session::{CarrierId, Input};
use bz_protocol::{agent as agents, client as clients};

use crate::matrix::{AGENT, CLIENT, to_agent, to_client};
use crate::stage::{AgentStage, Done, FIRST, SECOND, THIRD, agent_end, client_end};
use crate::world::World;

const MESSAGES: [&str; 14] = [
    "Syn",
    "SynAck",
    "Data",
    "DataAck",
    "Control",
    "Resume",
    "ResumeAck",
    "ResumeDone",
    "Forgotten",
    "Syn other",
    "Resume forged",
    "ResumeAck forged",
    "SynAck forged",
    "Refusal Grant",
];
/// The most inputs of one run.
const MOST: usize = 24;

/// One input of a sequence.
enum Next<'a> {
    Right(&'static str, u16, u8),
    Bytes(&'a [u8]),
    Up,
    Down,
    Pass(Duration),
    Write(usize),
}

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn next(&mut self) -> Option<(CarrierId, Next<'a>)> {
        let byte = self.byte()?;
        let carrier = [FIRST, SECOND, THIRD, FIRST][usize::from(byte >> 6)];
        let next = match byte & 7 {
            0 | 1 => Next::Right(MESSAGES[usize::from(self.byte()?) % MESSAGES.len()], 0, 0),
            2 => {
                let (message, high, low) = (self.byte()?, self.byte()?, self.byte()?);
                Next::Right(
                    MESSAGES[usize::from(message) % MESSAGES.len()],
                    u16::from_be_bytes([high, low]),
                    self.byte()?,
                )
            }
            3 => {
                let length = usize::from(self.byte()?).min(self.0.len());
                let (bytes, rest) = self.0.split_at(length);
                self.0 = rest;
                Next::Bytes(bytes)
            }
            4 => Next::Up,
            5 => Next::Down,
            6 => Next::Pass(Duration::from_millis(u64::from(self.byte()?).pow(2) * 4)),
            _ => Next::Write(usize::from(self.byte()?) * 16),
        };
        Some((carrier, next))
    }
}

fn changed(mut bytes: Vec<u8>, at: u16, by: u8) -> Vec<u8> {
    let length = bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(usize::from(at) % length) {
        *byte ^= by;
    }
    bytes
}

/// After its end a machine says nothing more.
fn quiet<E: std::fmt::Debug>(over: bool, done: &Done<E>) {
    assert!(!over || (done.events.is_empty() && done.packets.is_empty()), "it acts after its end: {done:?}");
}

/// An agent opposite a client that keeps no rule.
pub(crate) fn agent(bytes: &[u8]) {
    let mut script = Script(bytes);
    let Some(state) = script.byte() else { return };
    let (name, reach, _) = AGENT[usize::from(state) % AGENT.len()];
    let mut stage = reach(AgentStage::new(&World::new()));
    let mut over = name == "Closed";
    for _ in 0..MOST {
        let Some((carrier, next)) = script.next() else { return };
        let done = match next {
            Next::Right(message, at, by) => {
                let bytes = changed(to_agent(&mut stage, message), at, by);
                stage.say(carrier, &bytes)
            }
            Next::Bytes(bytes) => stage.say(carrier, bytes),
            Next::Up => stage.up(carrier),
            Next::Down => {
                stage.agent.handle(stage.now, Input::CarrierDown { carrier });
                stage.drain()
            }
            Next::Pass(time) => {
                stage.now = stage.now.after(time);
                stage.agent.handle(stage.now, Input::Tick);
                stage.drain()
            }
            Next::Write(length) => {
                let bytes = vec![7; length.min(stage.agent.writable(0))];
                stage.agent.act(stage.now, agents::Action::Bytes { stream: 0, bytes }).unwrap_or_default();
                stage.drain()
            }
        };
        quiet(over, &done);
        over |= agent_end(&done).is_some();
    }
}

/// A client opposite an agent that keeps no rule.
pub(crate) fn client(bytes: &[u8]) {
    let mut script = Script(bytes);
    let Some(state) = script.byte() else { return };
    let (name, reach, _) = CLIENT[usize::from(state) % CLIENT.len()];
    let mut stage = reach(&World::new());
    let mut over = name == "Closed";
    for _ in 0..MOST {
        let Some((carrier, next)) = script.next() else { return };
        let done = match next {
            Next::Right(message, at, by) => {
                let bytes = changed(to_client(&mut stage, message), at, by);
                stage.say(carrier, &bytes)
            }
            Next::Bytes(bytes) => stage.say(carrier, bytes),
            Next::Up | Next::Down => {
                let input = match next {
                    Next::Up => Input::CarrierUp { carrier, random: [54; 32] },
                    _ => Input::CarrierDown { carrier },
                };
                stage.client.handle(stage.now, input);
                stage.drain()
            }
            Next::Pass(time) => {
                stage.now = stage.now.after(time);
                stage.client.handle(stage.now, Input::Tick);
                stage.drain()
            }
            Next::Write(length) => {
                let bytes = vec![7; length.min(stage.client.writable(0))];
                stage.client.act(stage.now, clients::Action::Bytes { stream: 0, bytes }).unwrap_or_default();
                stage.drain()
            }
        };
        quiet(over, &done);
        over |= client_end(&done).is_some();
    }
}
