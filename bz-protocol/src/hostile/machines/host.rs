//! A target as the pure machines have it: one gate, and a machine for each session.

use bz_core::digest::Digest;
use bz_core::grant::Pins;
use bz_core::id::{BootId, ConnectionId};
use bz_core::oidc::jwks::Jwks;
use bz_core::signed::Signed;
use bz_core::time::Now;

use crate::agent::{self, Agent, Config};
use crate::control::{Order, Orders, SignedOrder};
use crate::frame::Fin;
use crate::gate::{Admitted, Gate};
use crate::hostile::effects::Observer;
use crate::hostile::organization::{Dice, Organization};
use crate::packet::{Forgotten, Packet};
use crate::refusal::Code;
use crate::session::{CarrierId, Input, Output};

/// How a host differs from one that keeps every rule: for showing that the kit sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weakness {
    /// None.
    #[default]
    None,
    /// It acts on every opening, whoever made it, and asks no root.
    AsksNoRoot,
    /// It acts on what comes before anything of it is checked.
    ActsOnFrames,
    /// It forgets which grants were used, and needs no confirmation.
    ActsOnOpening,
    /// It never says no, and ends no carrier: whoever breaks a rule meets silence.
    Silent,
}

/// A target: one gate, and a machine for each session.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) weakness: Weakness,
    pub(super) config: Config,
    pub(super) gate: Gate,
    pub(super) orders: Orders,
    /// What the issuer publishes, and what was fetched before.
    pub(super) keys: Option<Jwks>,
    pub(super) cached: Option<Jwks>,
    pub(super) sessions: Vec<Served>,
}

#[derive(Debug)]
pub(super) struct Served {
    pub(super) machine: Agent,
    pub(super) connection: ConnectionId,
    pub(super) syn: Option<Digest>,
    pub(super) session: Option<Digest>,
    pub(super) carriers: Vec<CarrierId>,
    pub(super) admitted: Option<Admitted>,
    pub(super) typed: Vec<u8>,
    pub(super) answers: Vec<u8>,
    pub(super) ended: bool,
}

/// What a host wants to be sent, or closed.
#[derive(Debug, Default)]
pub(super) struct Wants {
    pub(super) packets: Vec<(CarrierId, Vec<u8>)>,
    pub(super) closed: Vec<CarrierId>,
}

impl Host {
    pub(super) fn new(of: &Organization, boot: BootId, weakness: Weakness) -> Self {
        let key = of.agent.public();
        Self {
            weakness,
            config: Config::new(of.id, of.agent.clone(), [0; 32], [0; 32]),
            gate: Gate::new(of.bundle(), key, vec![of.target], boot),
            orders: Orders::new(key, boot),
            keys: None,
            cached: None,
            sessions: vec![],
        }
    }

    /// The first packet of a carrier finds its session, or begins one.
    pub(super) fn first(
        &mut self,
        now: Now,
        (connection, carrier): (ConnectionId, CarrierId),
        packet: &[u8],
        dice: &mut Dice,
    ) -> Wants {
        let decoded = Packet::decode(packet);
        let found = self.sessions.iter_mut().find(|served| match &decoded {
            Ok(Packet::Syn(syn)) => served.syn == Some(syn.syn.digest()) && !served.ended,
            Ok(Packet::Resume(resume)) => served.session == Some(resume.session) && !served.ended,
            _ => false,
        });
        if let Some(served) = found {
            served.carriers.push(carrier);
            served.machine.handle(now, Input::CarrierUp { carrier, random: dice.bytes() });
            return Wants::default();
        }
        match decoded {
            Ok(Packet::Syn(syn)) => {
                let config = Config { ephemeral_seed: dice.bytes(), random: dice.bytes(), ..self.config.clone() };
                let mut machine = Agent::new(config, now);
                machine.handle(now, Input::CarrierUp { carrier, random: dice.bytes() });
                self.sessions.push(Served {
                    machine,
                    connection,
                    syn: Some(syn.syn.digest()),
                    session: None,
                    carriers: vec![carrier],
                    admitted: None,
                    typed: vec![],
                    answers: vec![],
                    ended: false,
                });
                Wants::default()
            }
            Ok(Packet::Resume(resume)) => {
                let body = Forgotten { session: resume.session, random: resume.random };
                let signed = Signed::seal(&body, self.config.organization, &self.config.key).ok();
                let told = signed.and_then(|signed| Packet::Forgotten(Box::new(signed)).encode().ok());
                self.says(Wants {
                    packets: told.map(|told| (carrier, told)).into_iter().collect(),
                    closed: vec![carrier],
                })
            }
            Ok(_) | Err(_) => self.says(Wants { packets: vec![], closed: vec![carrier] }),
        }
    }

    pub(super) fn packet(&mut self, now: Now, carrier: CarrierId, bytes: &[u8], observer: &Observer) {
        if self.weakness == Weakness::ActsOnFrames && matches!(bytes.first(), Some(3)) {
            // What a careless host would do: whatever stands where the payload does.
            if let Some(payload) = bytes.get(38..bytes.len().saturating_sub(16)) {
                observer.take(&mut payload.to_vec());
            }
        }
        if let Some(served) = self.sessions.iter_mut().find(|served| served.carriers.contains(&carrier)) {
            served.machine.handle(now, Input::Packet { carrier, bytes });
        }
    }

    pub(super) fn drain(&mut self, now: Now, observer: &Observer) -> Wants {
        let mut wants = Wants::default();
        for at in 0..self.sessions.len() {
            while let Some(output) = self.sessions.get_mut(at).map(|served| served.machine.poll(now)) {
                match output {
                    Output::Transmit { carrier, bytes } => wants.packets.push((carrier, bytes)),
                    Output::CloseCarrier(carrier) => wants.closed.push(carrier),
                    Output::Event(event) => self.event(at, now, event, observer),
                    Output::Wait(_) => {
                        let Some(served) = self.sessions.get_mut(at) else { break };
                        if !served.write(now) {
                            break;
                        }
                    }
                }
            }
        }
        for served in self.sessions.iter_mut().filter(|served| served.ended) {
            wants.closed.append(&mut served.carriers);
        }
        self.says(wants)
    }

    fn says(&self, mut wants: Wants) -> Wants {
        if self.weakness == Weakness::Silent {
            wants.closed.clear();
            wants.packets.retain(|(_, packet)| matches!(packet.first(), Some(2..=5 | 8)));
        }
        wants
    }

    fn event(&mut self, at: usize, now: Now, event: agent::Event, observer: &Observer) {
        let Some(served) = self.sessions.get_mut(at) else { return };
        let action = match event {
            agent::Event::Judge(opening) => {
                if self.weakness == Weakness::AsksNoRoot {
                    observer.done("what an opening asked for that nobody checked");
                }
                self.cached = self.keys.clone().or_else(|| self.cached.take());
                match self.gate.admit(&opening, self.cached.as_ref(), now) {
                    Ok(admission) => {
                        if self.weakness == Weakness::ActsOnOpening {
                            observer.done("what an opening asked for before anybody confirmed it");
                        }
                        let (admission, attached) = (Box::new(admission), None);
                        agent::Action::Admit { admission, attached, facts: vec![] }
                    }
                    Err(denial) => agent::Action::Refuse(denial.code()),
                }
            }
            agent::Event::Answered { session } => {
                served.session = Some(session);
                return;
            }
            agent::Event::Confirmed(confirmed) => match self.gate.consume(*confirmed, now) {
                Ok(admitted) => {
                    served.admitted = Some(admitted);
                    return;
                }
                Err(denial) => agent::Action::Refuse(denial.code()),
            },
            agent::Event::Bytes { stream, bytes } => {
                if stream == 0 && served.admitted.is_some() {
                    served.typed.extend(&bytes);
                    let answers = observer.take(&mut served.typed);
                    served.answers.extend(answers.concat().into_bytes());
                }
                agent::Action::Consumed { stream, bytes: bytes.len() }
            }
            agent::Event::Reauthenticate(certificate) => {
                let Some(admitted) = &served.admitted else { return };
                match self.gate.renew(admitted, &certificate, self.keys.as_ref().or(self.cached.as_ref()), now) {
                    Ok(renewal) => agent::Action::Renew(renewal),
                    Err(_) => return,
                }
            }
            agent::Event::Finished(_) => agent::Action::Finish(Fin::Closed),
            agent::Event::Ended(_) => {
                served.ended = true;
                return;
            }
            agent::Event::Eof { .. }
            | agent::Event::Open { .. }
            | agent::Event::Reset { .. }
            | agent::Event::Resize(_)
            | agent::Event::Delivered(_)
            | agent::Event::Resumed => return,
        };
        // A session that has ended meanwhile takes no action.
        served.machine.act(now, action).unwrap_or_default();
    }

    pub(super) fn obey(&mut self, now: Now, order: &SignedOrder, of: &Organization) {
        let bundle = of.bundle();
        let pins = Pins { organization: of.id, roots: &bundle.roots, now: now.wall };
        if let Ok(Order::Close { connection } | Order::Detach { connection }) = self.orders.hear(order, &pins) {
            for served in self.sessions.iter_mut().filter(|served| served.connection == connection) {
                served.machine.act(now, agent::Action::Refuse(Code::Revoked)).unwrap_or_default();
            }
        }
    }
}

impl Served {
    /// Whether some of the answers could be sent.
    fn write(&mut self, now: Now) -> bool {
        let room = self.machine.writable(0).min(self.answers.len());
        if room == 0 || self.ended {
            return false;
        }
        let bytes: Vec<u8> = self.answers.drain(..room).collect();
        self.machine.act(now, agent::Action::Bytes { stream: 0, bytes }).is_ok()
    }
}
