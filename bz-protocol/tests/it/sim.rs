//! Both machines, the gate, and a relay between them, in virtual time.
//!
//! The relay carries packets in order with a latency, and a test may cut carriers or change packets. A driver that
//! reads and writes like an application checks that every byte arrives once. Everything follows from a seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bz_core::time::Now;
use bz_protocol::agent::{self, Agent};
use bz_protocol::client::{self, Client};
use bz_protocol::frame::Fin;
use bz_protocol::gate::{Admitted, Denial, Gate};
use bz_protocol::handshake::Attached;
use bz_protocol::refusal::Code;
use bz_protocol::segment::Delivered;
use bz_protocol::session::{CarrierId, End, Input, Output};
use bz_protocol::stream::{FIRST_OPENED, StreamRequest};

use crate::tap::Tap;
use crate::world::{World, start};

/// A small generator, so that a seed names a whole run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// The bytes that should arrive: each follows from its position, so a lost, doubled or moved one shows.
pub(crate) fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Client,
    Agent,
}

/// What a test's relay does with a packet: pass it, perhaps changed, or several, or none.
pub(crate) type Tamper = Box<dyn FnMut(Side, &[u8]) -> Vec<Vec<u8>>>;

struct Flight {
    at: Duration,
    to: Side,
    carrier: CarrierId,
    bytes: Vec<u8>,
}

/// One stream of bytes an application wants to send, and what it has received.
#[derive(Default)]
pub(crate) struct App {
    pub(crate) to_send: usize,
    pub(crate) sent: usize,
    pub(crate) received: Vec<u8>,
    /// Whether received bytes are taken at once.
    pub(crate) slow: bool,
    untaken: usize,
}

pub(crate) struct Sim {
    pub(crate) now: Now,
    began: Now,
    pub(crate) client: Client,
    pub(crate) agent: Agent,
    pub(crate) gate: Gate,
    pub(crate) random: Random,
    pub(crate) latency: Duration,
    pub(crate) client_app: App,
    pub(crate) agent_app: App,
    pub(crate) tamper: Option<Tamper>,
    pub(crate) admitted: Option<Admitted>,
    pub(crate) denials: Vec<Denial>,
    pub(crate) client_events: Vec<client::Event>,
    pub(crate) agent_ended: Option<End>,
    pub(crate) client_ended: Option<End>,
    /// What the agent's application does when the client says it is done.
    pub(crate) answer: Fin,
    pub(crate) packets: usize,
    /// Carriers an end asked to be closed.
    pub(crate) closes: Vec<(Side, CarrierId)>,
    /// What the relay records.
    pub(crate) tap: Option<Tap>,
    /// What the agent says an attached shell was before.
    pub(crate) attached: Option<Attached>,
    /// Streams that the client opened, as the agent's machine told.
    pub(crate) opened: Vec<(u32, StreamRequest)>,
    /// Streams that an end was told are over.
    pub(crate) resets: Vec<(Side, u32)>,
    /// What came to an end on streams that were opened.
    pub(crate) came: BTreeMap<(Side, u32), Vec<u8>>,
    /// Streams that an end does not read.
    pub(crate) unread: BTreeSet<(Side, u32)>,
    /// What the client acknowledged last, as the agent's machine said.
    pub(crate) delivered: Option<Delivered>,
    flights: VecDeque<Flight>,
    carriers: u64,
    live: Option<CarrierId>,
}

impl Sim {
    pub(crate) fn new(world: &World, seed: u64) -> Self {
        let now = start();
        Self {
            now,
            began: now,
            client: Client::new(world.opening(), now).unwrap(),
            agent: Agent::new(world.agent(), now),
            gate: world.gate(),
            random: Random(seed),
            latency: Duration::from_millis(5),
            client_app: App::default(),
            agent_app: App::default(),
            tamper: None,
            admitted: None,
            denials: vec![],
            client_events: vec![],
            agent_ended: None,
            client_ended: None,
            answer: Fin::Exited(0),
            packets: 0,
            closes: vec![],
            tap: None,
            attached: None,
            opened: vec![],
            resets: vec![],
            came: BTreeMap::new(),
            unread: BTreeSet::new(),
            delivered: None,
            flights: VecDeque::new(),
            carriers: 0,
            live: None,
        }
    }

    /// A new carrier between both ends.
    pub(crate) fn connect(&mut self) {
        self.carriers += 1;
        let carrier = CarrierId(self.carriers);
        self.live = Some(carrier);
        let random = self.random.bytes();
        self.agent.handle(self.now, Input::CarrierUp { carrier, random });
        let random = self.random.bytes();
        self.client.handle(self.now, Input::CarrierUp { carrier, random });
        self.drain();
    }

    /// The carrier is gone, with everything under way on it.
    pub(crate) fn cut(&mut self) {
        let Some(carrier) = self.live.take() else { return };
        self.flights.retain(|f| f.carrier != carrier);
        self.client.handle(self.now, Input::CarrierDown { carrier });
        self.agent.handle(self.now, Input::CarrierDown { carrier });
        self.drain();
    }

    /// Time passes, and everything due in it happens.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.elapsed() + time;
        self.drain();
        while let Some(at) = self.next_event().filter(|at| *at <= until) {
            self.step(at);
        }
        self.set(until);
        self.tick();
    }

    /// Runs until both ends say it is over, at most for a day.
    pub(crate) fn run(&mut self) {
        self.drain();
        while self.client_ended.is_none() || self.agent_ended.is_none() {
            let Some(at) = self.next_event().filter(|at| *at < Duration::from_secs(86400)) else { return };
            self.step(at);
        }
    }

    /// Runs until nothing is under way and neither end wants to be woken within ten seconds.
    pub(crate) fn settle(&mut self) {
        self.drain();
        let quiet = |sim: &Self| sim.elapsed() + Duration::from_secs(10);
        let limit = quiet(self);
        while let Some(at) = self.next_event().filter(|at| *at < limit) {
            self.step(at);
        }
    }

    pub(crate) fn close(&mut self) {
        self.client.act(self.now, client::Action::Finish(Fin::Closed)).unwrap();
        self.run();
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now.mono.since(self.began.mono)
    }

    /// Puts bytes before an end as if they had arrived.
    pub(crate) fn inject(&mut self, to: Side, bytes: &[u8]) {
        if let Some(carrier) = self.live {
            self.deliver(to, carrier, bytes);
            self.drain();
        }
    }

    fn set(&mut self, elapsed: Duration) {
        self.now = self.began.after(elapsed);
    }

    fn next_event(&mut self) -> Option<Duration> {
        let flight = self.flights.iter().map(|f| f.at).min();
        let wake = |output| match output {
            Wait::Until(at) => Some(at),
            Wait::None => None,
        };
        let client = wake(wait(&self.client.poll(self.now)));
        let agent = wake(wait(&self.agent.poll(self.now)));
        let wakes = [client, agent].into_iter().flatten().map(|mono| mono.since(self.began.mono));
        wakes.chain(flight).min().map(|at| at.max(self.elapsed()))
    }

    fn step(&mut self, at: Duration) {
        self.set(at);
        let due = self.flights.iter().position(|f| f.at <= at);
        match due.and_then(|i| self.flights.remove(i)) {
            Some(flight) => self.deliver(flight.to, flight.carrier, &flight.bytes),
            None => self.tick(),
        }
        self.drain();
    }

    fn tick(&mut self) {
        self.client.handle(self.now, Input::Tick);
        self.agent.handle(self.now, Input::Tick);
        self.drain();
    }

    fn deliver(&mut self, to: Side, carrier: CarrierId, bytes: &[u8]) {
        self.packets += 1;
        if let Some(tap) = self.tap.as_mut().filter(|tap| tap.far) {
            tap.observe(to, bytes);
        }
        match to {
            Side::Client => self.client.handle(self.now, Input::Packet { carrier, bytes }),
            Side::Agent => self.agent.handle(self.now, Input::Packet { carrier, bytes }),
        }
    }

    fn drain(&mut self) {
        loop {
            let before = (self.client_app.sent, self.agent_app.sent);
            while self.poll_client() {}
            while self.poll_agent() {}
            self.write();
            if before == (self.client_app.sent, self.agent_app.sent) {
                break;
            }
        }
    }

    fn write(&mut self) {
        for _ in 0..4 {
            let app = &mut self.client_app;
            let room = self.client.writable(0).min(app.to_send - app.sent);
            if room > 0 {
                let length = 1 + self.random.below(room as u64) as usize;
                let bytes = pattern(app.sent, length);
                self.client.act(self.now, client::Action::Bytes { stream: 0, bytes }).unwrap();
                app.sent += length;
            }
            let app = &mut self.agent_app;
            let room = if self.admitted.is_some() { self.agent.writable(0).min(app.to_send - app.sent) } else { 0 };
            if room > 0 {
                let length = 1 + self.random.below(room as u64) as usize;
                let bytes = pattern(app.sent, length);
                self.agent.act(self.now, agent::Action::Bytes { stream: 0, bytes }).unwrap();
                app.sent += length;
            }
        }
    }

    fn send(&mut self, to: Side, carrier: CarrierId, bytes: &[u8]) {
        let packets = match &mut self.tamper {
            Some(tamper) => tamper(to, bytes),
            None => vec![bytes.to_vec()],
        };
        if self.live != Some(carrier) {
            return;
        }
        if let Some(tap) = self.tap.as_mut().filter(|tap| !tap.far) {
            packets.iter().for_each(|bytes| tap.observe(to, bytes));
        }
        let at = self.elapsed() + self.latency;
        self.flights.extend(packets.into_iter().map(|bytes| Flight { at, to, carrier, bytes }));
    }

    fn poll_client(&mut self) -> bool {
        match self.client.poll(self.now) {
            Output::Transmit { carrier, bytes } => self.send(Side::Agent, carrier, &bytes),
            Output::CloseCarrier(carrier) => self.closes.push((Side::Client, carrier)),
            Output::Event(event) => self.client_event(event),
            Output::Wait(_) => return false,
        }
        true
    }

    fn client_event(&mut self, event: client::Event) {
        if let client::Event::Reset { stream } = &event {
            self.resets.push((Side::Client, *stream));
        }
        if let client::Event::Bytes { stream, bytes } = &event
            && *stream >= FIRST_OPENED
        {
            let (stream, bytes) = (*stream, bytes.clone());
            if self.came_on(Side::Client, stream, &bytes) {
                self.client.act(self.now, client::Action::Consumed { stream, bytes: bytes.len() }).unwrap_or_default();
            }
            return;
        }
        if let client::Event::Bytes { stream, bytes } = &event {
            self.client_app.received.extend(bytes);
            if self.client_app.slow {
                self.client_app.untaken += bytes.len();
                return;
            }
            let (stream, bytes) = (*stream, bytes.len());
            self.client.act(self.now, client::Action::Consumed { stream, bytes }).unwrap_or_default();
        } else if let client::Event::Ended(end) = &event {
            self.client_ended = Some(end.clone());
        }
        self.client_events.push(event);
    }

    fn poll_agent(&mut self) -> bool {
        match self.agent.poll(self.now) {
            Output::Transmit { carrier, bytes } => self.send(Side::Client, carrier, &bytes),
            Output::CloseCarrier(carrier) => self.closes.push((Side::Agent, carrier)),
            Output::Event(event) => self.agent_event(event),
            Output::Wait(_) => return false,
        }
        true
    }

    fn agent_event(&mut self, event: agent::Event) {
        match event {
            agent::Event::Judge(opening) => {
                let verdict = self.gate.admit(&opening, Some(&World::jwks()), self.now);
                let action = match verdict {
                    Ok(admission) => {
                        let attached = self.attached;
                        agent::Action::Admit { admission: Box::new(admission), attached, facts: vec![] }
                    }
                    Err(denial) => self.deny(denial),
                };
                self.agent.act(self.now, action).unwrap();
            }
            agent::Event::Confirmed(confirmed) => match self.gate.consume(*confirmed, self.now) {
                Ok(admitted) => self.admitted = Some(admitted),
                Err(denial) => {
                    let action = self.deny(denial);
                    self.agent.act(self.now, action).unwrap();
                }
            },
            agent::Event::Open { stream, request } => self.opened.push((stream, request)),
            agent::Event::Reset { stream } => self.resets.push((Side::Agent, stream)),
            agent::Event::Bytes { stream, bytes } if stream >= FIRST_OPENED => {
                if self.came_on(Side::Agent, stream, &bytes) {
                    let taken = agent::Action::Consumed { stream, bytes: bytes.len() };
                    self.agent.act(self.now, taken).unwrap_or_default();
                }
            }
            agent::Event::Bytes { stream, bytes } => {
                assert!(self.admitted.is_some(), "bytes before both roots agreed");
                self.agent_app.received.extend(&bytes);
                self.agent.act(self.now, agent::Action::Consumed { stream, bytes: bytes.len() }).unwrap_or_default();
            }
            agent::Event::Reauthenticate(certificate) => {
                let admitted = self.admitted.as_ref().unwrap();
                match self.gate.renew(admitted, &certificate, Some(&World::jwks()), self.now) {
                    Ok(renewal) => self.agent.act(self.now, agent::Action::Renew(renewal)).unwrap(),
                    Err(denial) => self.denials.push(denial),
                }
            }
            agent::Event::Finished(_) => {
                self.agent.act(self.now, agent::Action::Finish(self.answer.clone())).unwrap_or_default();
            }
            agent::Event::Delivered(delivered) => self.delivered = Some(delivered),
            agent::Event::Ended(end) => self.agent_ended = Some(end),
            agent::Event::Eof { .. }
            | agent::Event::Resize(_)
            | agent::Event::Answered { .. }
            | agent::Event::Resumed => {}
        }
    }

    /// Whether the bytes are taken at once.
    fn came_on(&mut self, side: Side, stream: u32, bytes: &[u8]) -> bool {
        self.came.entry((side, stream)).or_default().extend(bytes);
        !self.unread.contains(&(side, stream))
    }

    fn deny(&mut self, denial: Denial) -> agent::Action {
        let code = denial.code();
        self.denials.push(denial);
        agent::Action::Refuse(code)
    }

    /// Lets a slow client take what it holds.
    pub(crate) fn take(&mut self) {
        let bytes = std::mem::take(&mut self.client_app.untaken);
        self.client.act(self.now, client::Action::Consumed { stream: 0, bytes }).unwrap();
        self.client_app.slow = false;
        self.drain();
    }

    /// Both applications have everything, once and in order.
    pub(crate) fn check_exact(&self, what: &str) {
        for (name, from, to) in [
            ("client to agent", &self.client_app, &self.agent_app),
            ("agent to client", &self.agent_app, &self.client_app),
        ] {
            assert_eq!(to.received.len(), from.to_send, "{what}: {name}: bytes lost or doubled");
            assert!(to.received == pattern(0, from.to_send), "{what}: {name}: bytes altered or moved");
        }
    }

    /// Neither application has a byte that the other's did not send, or one twice, or one out of its place.
    pub(crate) fn check_nothing_foreign(&self, what: &str) {
        for (name, from, to) in [
            ("client to agent", &self.client_app, &self.agent_app),
            ("agent to client", &self.agent_app, &self.client_app),
        ] {
            assert!(to.received.len() <= from.sent, "{what}: {name}: more arrived than was sent");
            assert!(to.received == pattern(0, to.received.len()), "{what}: {name}: bytes altered, moved or doubled");
        }
    }

    pub(crate) fn refusals(&self) -> Vec<Code> {
        self.denials.iter().map(Denial::code).collect()
    }
}

enum Wait {
    Until(bz_core::time::Mono),
    None,
}

fn wait<E: std::fmt::Debug>(output: &Output<E>) -> Wait {
    match output {
        Output::Wait(wake) => wake.map_or(Wait::None, |w| Wait::Until(w.at)),
        Output::Transmit { .. } | Output::CloseCarrier(_) | Output::Event(_) => panic!("not drained: {output:?}"),
    }
}
