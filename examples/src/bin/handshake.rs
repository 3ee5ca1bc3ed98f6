//! The handshake in memory, step by step, and what each end says when one bit of a message was changed on its way.
//!
//! `cargo run -p bz-examples --bin handshake`

use std::io::{Write as _, stdout};

use anyhow::{Context as _, Result};
use bz_examples::evidence::{Evidence, NOW};
use bz_protocol::agent::{self, Agent};
use bz_protocol::client::{self, Client};
use bz_protocol::gate::{Gate, Opening};
use bz_protocol::session::{CarrierId, Input, Output};
use bz_protocol::{frame::Fin, packet::Packet};

const CARRIER: CarrierId = CarrierId(1);

/// Both ends, and what happens to the packets between them.
struct Talk {
    client: Client,
    agent: Agent,
    gate: Gate,
    jwks: bz_core::oidc::jwks::Jwks,
    packets: usize,
    /// The packet of which a bit is changed; none when this is 0.
    changed: usize,
}

fn main() -> Result<()> {
    [0, 1, 2, 3, 5].into_iter().try_for_each(talk)
}

/// One session, until neither end has anything to do, and no other carrier comes.
fn talk(changed: usize) -> Result<()> {
    let Evidence { gate, jwks, agent, opening } = Evidence::new()?;
    let (client, agent) = (Client::new(opening, NOW)?, Agent::new(agent, NOW));
    let mut talk = Talk { client, agent, gate, jwks, packets: 0, changed };
    talk.client.handle(NOW, Input::CarrierUp { carrier: CARRIER, random: [1; 32] });
    talk.agent.handle(NOW, Input::CarrierUp { carrier: CARRIER, random: [2; 32] });
    while talk.client_acts()? || talk.agent_acts()? {}
    talk.client.abandon();
    talk.client_acts().map(drop)
}

impl Talk {
    fn client_acts(&mut self) -> Result<bool> {
        match self.client.poll(NOW) {
            Output::Transmit { bytes, .. } => {
                let bytes = self.carried("client → agent", bytes)?;
                self.agent.handle(NOW, Input::Packet { carrier: CARRIER, bytes: &bytes });
            }
            Output::Event(client::Event::Opened(opened)) => {
                self.say(&format!(
                    "  client: the pinned agent's key signed this exchange: session {}",
                    opened.session
                ))?;
            }
            Output::Event(client::Event::Bytes { bytes, .. }) => {
                self.say(&format!("  client shows: {}", String::from_utf8_lossy(&bytes)))?;
            }
            Output::Event(client::Event::Ended(end)) => self.say(&format!("  the client's end: {end}"))?,
            Output::Event(_) | Output::CloseCarrier(_) => {}
            Output::Wait(_) => return Ok(false),
        }
        Ok(true)
    }

    fn agent_acts(&mut self) -> Result<bool> {
        match self.agent.poll(NOW) {
            Output::Transmit { bytes, .. } => {
                let bytes = self.carried("agent → client", bytes)?;
                self.client.handle(NOW, Input::Packet { carrier: CARRIER, bytes: &bytes });
            }
            Output::Event(agent::Event::Judge(opening)) => {
                let (words, action) = self.judge(&opening);
                self.say(&words)?;
                self.agent.act(NOW, action)?;
            }
            Output::Event(agent::Event::Confirmed(confirmed)) => {
                let admitted = self.gate.consume(*confirmed, NOW)?;
                self.say("  agent: the client has the keys; the grant is used up, and only now something happens")?;
                let hello = format!("hello, {}", admitted.identity().person.subject);
                self.agent.act(NOW, agent::Action::Bytes { stream: 0, bytes: hello.into() })?;
                self.agent.act(NOW, agent::Action::Finish(Fin::Exited(0)))?;
            }
            Output::Event(agent::Event::Ended(end)) => self.say(&format!("  the agent's end: {end}"))?,
            Output::Event(_) | Output::CloseCarrier(_) => {}
            Output::Wait(_) => return Ok(false),
        }
        Ok(true)
    }

    fn judge(&mut self, opening: &Opening) -> (String, agent::Action) {
        match self.gate.admit(opening, Some(&self.jwks), NOW) {
            Ok(admission) => {
                let bz_core::oidc::Person { issuer, subject } = &admission.identity().person;
                let identity = format!("  agent: {issuer} says that {subject} holds the client's key\n");
                let words = identity + "  agent: the pinned server root granted this request to that person and key";
                (words, agent::Action::Admit { admission: Box::new(admission), attached: None, facts: vec![] })
            }
            Err(denial) => (format!("  agent: {denial}"), agent::Action::Refuse(denial.code())),
        }
    }

    /// A packet on its way.
    fn carried(&mut self, way: &str, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
        self.packets += 1;
        let (name, length) = (Packet::decode(&bytes)?.name(), bytes.len());
        let is_changed = self.packets == self.changed;
        *bytes.get_mut(length / 2).context("a packet is not empty")? ^= u8::from(is_changed);
        let remark = if is_changed { ", one bit changed" } else { "" };
        self.say(&format!("{:2} {way}: {name}, {length} bytes{remark}", self.packets))?;
        Ok(bytes)
    }

    /// Prints a line; where a bit is changed, from there on.
    fn say(&self, line: &str) -> Result<()> {
        if self.packets < self.changed { Ok(()) } else { Ok(writeln!(stdout(), "{line}")?) }
    }
}
