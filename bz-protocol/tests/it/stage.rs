//! One machine brought into any of its states, opposite a [`Peer`] that can say anything.

use bz_core::signed::Signed;
use bz_core::time::Now;
use bz_protocol::agent::{self, Agent};
use bz_protocol::client::{self, Client};
use bz_protocol::gate::{Admission, Admitted, Gate};
use bz_protocol::handshake::{Syn, SynAck};
use bz_protocol::packet::{Packet, Resume, ResumeAck, SynPacket};
use bz_protocol::session::{CarrierId, End, Input, Output};
use bz_protocol::{client::Opening, frame::Fin};

use crate::peer::Peer;
use crate::world::{AGENT_SEED, World, start};

pub(crate) const FIRST: CarrierId = CarrierId(1);
pub(crate) const SECOND: CarrierId = CarrierId(2);
pub(crate) const THIRD: CarrierId = CarrierId(3);

/// What a machine did, up to its next wait.
#[derive(Debug)]
pub(crate) struct Done<E> {
    pub(crate) packets: Vec<(CarrierId, Vec<u8>)>,
    pub(crate) events: Vec<E>,
    pub(crate) closed: Vec<CarrierId>,
}

pub(crate) fn drain<E>(mut poll: impl FnMut() -> Output<E>) -> Done<E> {
    let mut done = Done { packets: vec![], events: vec![], closed: vec![] };
    for _ in 0..100_000 {
        match poll() {
            Output::Transmit { carrier, bytes } => done.packets.push((carrier, bytes)),
            Output::CloseCarrier(carrier) => done.closed.push(carrier),
            Output::Event(event) => done.events.push(event),
            Output::Wait(_) => return done,
        }
    }
    panic!("the machine never waits");
}

/// An agent opposite a client that keeps no rule.
pub(crate) struct AgentStage {
    pub(crate) now: Now,
    pub(crate) world: World,
    pub(crate) agent: Agent,
    pub(crate) gate: Gate,
    pub(crate) syn: SynPacket,
    pub(crate) opening: Option<Box<bz_protocol::gate::Opening>>,
    pub(crate) ack: Option<Signed<SynAck>>,
    pub(crate) peer: Option<Peer>,
    pub(crate) admitted: Option<Admitted>,
    pub(crate) resume: Option<(Resume, ResumeAck)>,
}

impl AgentStage {
    /// An agent with a carrier.
    pub(crate) fn new(world: &World) -> Self {
        let now = start();
        let mut agent = Agent::new(world.agent(), now);
        agent.handle(now, Input::CarrierUp { carrier: FIRST, random: [51; 32] });
        Self {
            now,
            world: world.clone(),
            agent,
            gate: world.gate(),
            syn: world.syn(),
            opening: None,
            ack: None,
            peer: None,
            admitted: None,
            resume: None,
        }
    }

    pub(crate) fn say(&mut self, carrier: CarrierId, bytes: &[u8]) -> Done<agent::Event> {
        self.agent.handle(self.now, Input::Packet { carrier, bytes });
        self.drain()
    }

    pub(crate) fn drain(&mut self) -> Done<agent::Event> {
        drain(|| self.agent.poll(self.now))
    }

    pub(crate) fn up(&mut self, carrier: CarrierId) -> Done<agent::Event> {
        self.agent.handle(self.now, Input::CarrierUp { carrier, random: [52; 32] });
        self.drain()
    }

    pub(crate) fn judging(mut self) -> Self {
        let syn = Packet::Syn(Box::new(self.syn.clone())).encode().unwrap();
        let mut done = self.say(FIRST, &syn);
        let Some(agent::Event::Judge(opening)) = done.events.pop() else { panic!("no question: {done:?}") };
        self.opening = Some(opening);
        self
    }

    pub(crate) fn unconfirmed(self) -> Self {
        let mut stage = self.judging();
        let admission = stage.gate.admit(stage.opening.as_ref().unwrap(), Some(&World::jwks()), stage.now).unwrap();
        stage.admit(admission)
    }

    pub(crate) fn admit(self, admission: Admission) -> Self {
        let mut stage = self;
        let admit = agent::Action::Admit { admission: Box::new(admission), attached: None, facts: vec![] };
        stage.agent.act(stage.now, admit).unwrap();
        let done = stage.drain();
        let Ok(Packet::SynAck(ack)) = Packet::decode(&done.packets[0].1) else { panic!("no answer: {done:?}") };
        let mut peer = Peer::client(&stage.world, &stage.syn.syn, &ack);
        peer.saw(&done.packets[1].1);
        (stage.ack, stage.peer) = (Some(*ack), Some(peer));
        stage
    }

    pub(crate) fn open(self) -> Self {
        let mut stage = self.unconfirmed();
        let checkpoint = stage.peer().checkpoint();
        let mut done = stage.say(FIRST, &checkpoint);
        let Some(agent::Event::Confirmed(confirmed)) = done.events.pop() else { panic!("no confirmation: {done:?}") };
        stage.admitted = Some(stage.gate.consume(*confirmed, stage.now).unwrap());
        stage
    }

    /// A second carrier, on which the client has named the session and the agent has answered.
    pub(crate) fn resuming(self) -> Self {
        let mut stage = self.open();
        stage.up(SECOND);
        let resume = stage.peer().resume(1, [61; 32]);
        let done = stage.say(SECOND, &Packet::Resume(resume).encode().unwrap());
        let Ok(Packet::ResumeAck(ack)) = Packet::decode(&done.packets[0].1) else { panic!("no answer: {done:?}") };
        assert_eq!(done.closed, [FIRST], "the carrier before is closed");
        stage.resume = Some((resume, ack));
        stage
    }

    pub(crate) fn finished(self) -> Self {
        let mut stage = self.open();
        stage.agent.act(stage.now, agent::Action::Finish(Fin::Exited(3))).unwrap();
        let done = stage.drain();
        for (_, packet) in done.packets.iter().filter(|(_, p)| p[0] == 4) {
            stage.peer().saw(packet);
        }
        stage
    }

    pub(crate) fn closed(self) -> Self {
        let mut stage = self.open();
        let done = stage.say(FIRST, &[]);
        assert!(matches!(done.events[..], [agent::Event::Ended(_)]), "{done:?}");
        stage
    }

    pub(crate) fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().expect("the stage has keys")
    }
}

/// A client opposite an agent that keeps no rule.
pub(crate) struct ClientStage {
    pub(crate) now: Now,
    pub(crate) world: World,
    pub(crate) client: Client,
    pub(crate) syn: Signed<Syn>,
    pub(crate) ack: Signed<SynAck>,
    pub(crate) peer: Peer,
    pub(crate) resume: Option<Resume>,
}

impl ClientStage {
    pub(crate) fn sent(world: &World) -> Self {
        let now = start();
        let mut client = Client::new(world.opening(), now).unwrap();
        client.handle(now, Input::CarrierUp { carrier: FIRST, random: [53; 32] });
        let done = drain(|| client.poll(now));
        let Ok(Packet::Syn(syn)) = Packet::decode(&done.packets[0].1) else { panic!("no opening: {done:?}") };
        let ack = world.answer(&syn.syn);
        let peer = Peer::agent(world, &syn.syn, &ack);
        Self { now, world: world.clone(), client, syn: syn.syn, ack, peer, resume: None }
    }

    pub(crate) fn say(&mut self, carrier: CarrierId, bytes: &[u8]) -> Done<client::Event> {
        self.client.handle(self.now, Input::Packet { carrier, bytes });
        self.drain()
    }

    pub(crate) fn drain(&mut self) -> Done<client::Event> {
        drain(|| self.client.poll(self.now))
    }

    pub(crate) fn open(mut self) -> Self {
        let ack = Packet::SynAck(Box::new(self.ack.clone())).encode().unwrap();
        let done = self.say(FIRST, &ack);
        self.peer.saw(&done.packets[0].1);
        let opening = self.peer.checkpoint();
        let done = self.say(FIRST, &opening);
        assert!(done.events.is_empty() && done.closed.is_empty(), "{done:?}");
        self
    }

    pub(crate) fn resuming(self) -> Self {
        let mut stage = self.open();
        stage.client.handle(stage.now, Input::CarrierUp { carrier: SECOND, random: [54; 32] });
        let done = stage.drain();
        let Ok(Packet::Resume(resume)) = Packet::decode(&done.packets[0].1) else { panic!("no resumption: {done:?}") };
        stage.resume = Some(resume);
        stage
    }

    pub(crate) fn closed(self) -> Self {
        let mut stage = self.open();
        let done = stage.say(FIRST, &[]);
        assert!(matches!(done.events[..], [client::Event::Ended(_)]), "{done:?}");
        stage
    }
}

impl World {
    /// The client machine's own `Syn` and certificate.
    pub(crate) fn syn(&self) -> SynPacket {
        self.syn_of(self.opening())
    }

    pub(crate) fn syn_of(&self, opening: Opening) -> SynPacket {
        let mut client = Client::new(opening, start()).unwrap();
        client.handle(start(), Input::CarrierUp { carrier: FIRST, random: [0; 32] });
        match client.poll(start()) {
            Output::Transmit { bytes, .. } => match Packet::decode(&bytes) {
                Ok(Packet::Syn(syn)) => *syn,
                other => panic!("no opening: {other:?}"),
            },
            other => panic!("no opening: {other:?}"),
        }
    }

    /// A genuine answer of the agent.
    pub(crate) fn answer(&self, syn: &Signed<Syn>) -> Signed<SynAck> {
        Signed::seal(&self.answer_body(syn), crate::world::ORG, &self.agent_key).unwrap()
    }

    pub(crate) fn answer_body(&self, syn: &Signed<Syn>) -> SynAck {
        SynAck {
            syn: syn.digest(),
            version: 1,
            suite: 1,
            ephemeral: bz_core::key::EphemeralKey::from_seed(&AGENT_SEED).unwrap().public(),
            random: [22; 32],
            credit: (1 << 20, 256 << 10),
            expires_at: start().wall.after(std::time::Duration::from_secs(3600)),
            idp_key: bz_core::digest::Digest::of(b"key"),
            verified_at: start().wall,
            attached: None,
            facts: vec![],
        }
    }
}

/// The end an agent's events tell, if any.
pub(crate) fn agent_end(done: &Done<agent::Event>) -> Option<End> {
    done.events.iter().find_map(|event| match event {
        agent::Event::Ended(end) => Some(end.clone()),
        _ => None,
    })
}

/// The end a client's events tell, if any.
pub(crate) fn client_end(done: &Done<client::Event>) -> Option<End> {
    done.events.iter().find_map(|event| match event {
        client::Event::Ended(end) => Some(end.clone()),
        _ => None,
    })
}
