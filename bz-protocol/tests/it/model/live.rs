//! The machines of a model and the network between them: one run, step by step.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use bz_core::cert::CertRequest;
use bz_core::digest::Digest;
use bz_core::time::{Mono, Now};
use bz_protocol::agent::{self, Agent, Config};
use bz_protocol::client::{self, Client, Opening};
use bz_protocol::frame::{Fin, Kind};
use bz_protocol::gate::Gate;
use bz_protocol::keys::Direction;
use bz_protocol::packet::Packet;
use bz_protocol::refusal::Code;
use bz_protocol::session::{CarrierId, End, Input, Output};
use bz_protocol::transcript::{Anchors, Apart, Keep, Record, verify};

use super::{Bounds, Broken, Party, Roots, Step};
use crate::idp::{Idp, claims};
use crate::sim::{Side, pattern};
use crate::tap::{Tap, archive, records};
use crate::world::{ORG, START, World, key, start};

/// The carrier of the second pair.
const APART: CarrierId = CarrierId(100);
/// The most carriers of one run: an end that closes each of them would be dialled for ever.
const CARRIERS: u64 = 3;
/// Of how many records one is changed.
const CHANGED: usize = 8;
/// What an application sends at once.
const WRITE: usize = 3;
const ALL: Keep = Keep { output: true, input: true, apart: Apart::Nothing };

/// Which properties hold of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property")]
pub(super) struct Holds {
    pub(super) roots: bool,
    pub(super) prefix: bool,
    pub(super) once: bool,
    pub(super) after: bool,
    pub(super) record: bool,
    pub(super) done: bool,
    /// Not properties, but that there was something to look at: an agent acted, a session went on over another carrier, a
    /// newer token counted, both ends signed the end.
    pub(super) opened: bool,
    pub(super) resumed: bool,
    pub(super) renewed: bool,
    pub(super) completed: bool,
}

/// A packet under way, or that its carrier is closed behind it.
#[derive(Debug, Clone, Hash)]
struct Flight {
    carrier: CarrierId,
    bytes: Option<Vec<u8>>,
}

/// One machine and its application.
struct Seat {
    machine: Machine,
    up: Option<CarrierId>,
    under_way: VecDeque<Flight>,
    sent: usize,
    received: Vec<u8>,
    session: Option<Digest>,
    finished: bool,
    refused: bool,
    ended: bool,
    wake: Option<Mono>,
    /// Everything that it heard, for telling states apart.
    heard: DefaultHasher,
    /// Packets that it took bytes from, and those bytes.
    taken: Vec<(Vec<u8>, Vec<u8>)>,
}

enum Machine {
    Client(Box<Client>),
    Agent(Box<Agent>),
}

pub(super) struct Live {
    world: World,
    roots: Roots,
    broken: Broken,
    left: Bounds,
    now: Now,
    gate: Gate,
    seats: [Option<Seat>; 4],
    seen: Vec<Vec<u8>>,
    carriers: u64,
    acts: u32,
    admitted: Option<bz_protocol::gate::Admitted>,
    tap: Tap,
    judged: bool,
    pub(super) holds: Holds,
}

const fn place(party: Party) -> usize {
    match party {
        Party::Client => 0,
        Party::Agent => 1,
        Party::Twin => 2,
        Party::Second => 3,
    }
}

const PARTIES: [Party; 4] = [Party::Client, Party::Agent, Party::Twin, Party::Second];

impl Live {
    pub(super) fn new(bounds: Bounds, roots: Roots, broken: Broken) -> Self {
        let world = World::new();
        let (opening, foreign) = opening(&world, roots);
        let gate = if broken == Broken::TrustsAnyRoot { foreign.gate() } else { world.gate() };
        let now = start();
        let holds = Holds {
            roots: true,
            prefix: true,
            once: true,
            after: true,
            record: true,
            done: true,
            opened: false,
            resumed: false,
            renewed: false,
            completed: false,
        };
        let client = Seat::new(Machine::Client(Box::new(Client::new(opening, now).unwrap())));
        let agent = Seat::new(Machine::Agent(Box::new(Agent::new(world.agent(), now))));
        let tap = Tap::new(&world, ALL);
        let mut live = Self {
            world,
            roots,
            broken,
            left: bounds,
            now,
            gate,
            seats: [Some(client), Some(agent), None, None],
            seen: vec![],
            carriers: 0,
            acts: 0,
            admitted: None,
            tap,
            judged: false,
            holds,
        };
        live.connect();
        if bounds.twin {
            live.second();
            let own = Opening { ephemeral_seed: [33; 32], random: [34; 32], ..live.world.opening() };
            live.seats[2] = Some(Seat::new(Machine::Client(Box::new(Client::new(own, now).unwrap()))));
            live.up(Party::Twin, APART);
        }
        live
    }

    /// What may happen now.
    pub(super) fn choices(&self) -> Vec<Step> {
        let mut steps = vec![];
        for party in PARTIES {
            let Some(seat) = self.seats[place(party)].as_ref() else { continue };
            let Some(first) = seat.under_way.front() else { continue };
            steps.push(Step::Arrive(party));
            if self.left.hostile == 0 || first.bytes.is_none() {
                continue;
            }
            steps.extend([Step::Drop(party), Step::Double(party)]);
            steps.extend((0..3).map(|at| Step::Flip(party, at)));
            if seat.under_way.get(1).is_some_and(|second| second.bytes.is_some()) {
                steps.push(Step::Overtake(party));
            }
        }
        if self.left.hostile > 0 {
            let hears = |party: &Party| self.seat(*party).is_some_and(|seat| seat.up.is_some() && !seat.ended);
            for (number, packet) in self.seen.iter().enumerate() {
                steps.extend(PARTIES.into_iter().filter(hears).map(|party| Step::Replay(number, party)));
                // A machine of its own begins with a `Syn`.
                if self.seats[3].is_none() && packet.first() == Some(&1) {
                    steps.push(Step::Replay(number, Party::Second));
                }
            }
            steps.extend(hears(&Party::Client).then_some(Step::Refuse));
        }
        self.own(&mut steps);
        steps
    }

    /// What the honest ones may do.
    fn own(&self, steps: &mut Vec<Step>) {
        let ends = [&self.seats[0], &self.seats[1]].map(|seat| seat.as_ref().unwrap());
        let up = ends.map(|seat| seat.up.is_some());
        let over = ends.iter().any(|seat| seat.ended);
        if self.left.cuts > 0 && up.contains(&true) {
            steps.push(Step::Cut);
        }
        if up == [false, false] && !over && self.carriers < CARRIERS {
            steps.push(Step::Connect);
        }
        if self.left.ticks > 0 && self.wake().is_some() {
            steps.push(Step::Tick);
        }
        let writes = [(Party::Client, self.left.client_writes), (Party::Agent, self.left.agent_writes)];
        for (party, left) in writes {
            if left > 0 && self.writable(party) >= WRITE {
                steps.push(Step::Write(party));
            }
        }
        let open = !ends[0].ended && ends[0].session.is_some();
        if self.left.renewals > 0 && open {
            steps.push(Step::Renew);
        }
        if self.left.finishes > 0 {
            steps.extend((open && !ends[0].finished).then_some(Step::Finish(Party::Client)));
            steps.extend((self.writable(Party::Agent) > 0 && self.acts > 0).then_some(Step::Finish(Party::Agent)));
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        if matches!(
            step,
            Step::Drop(_) | Step::Double(_) | Step::Overtake(_) | Step::Flip(..) | Step::Replay(..) | Step::Refuse
        ) {
            self.left.hostile -= 1;
        }
        match step {
            Step::Arrive(party) => self.arrive(party, 0),
            Step::Overtake(party) => self.arrive(party, 1),
            Step::Drop(party) => drop(self.of(party).under_way.pop_front()),
            Step::Double(party) => {
                let first = self.of(party).under_way[0].clone();
                self.deliver(party, &first);
            }
            Step::Flip(party, place) => {
                let mut flight = self.of(party).under_way.pop_front().unwrap();
                if let Some(bytes) = &mut flight.bytes {
                    let at = [0, bytes.len() / 2, bytes.len() - 1][usize::from(place)];
                    bytes[at] ^= 1;
                }
                self.deliver(party, &flight);
            }
            Step::Replay(number, party) => {
                if party == Party::Second && self.seats[3].is_none() {
                    self.second();
                }
                let carrier = self.of(party).up.unwrap();
                let flight = Flight { carrier, bytes: Some(self.seen[number].clone()) };
                self.deliver(party, &flight);
            }
            Step::Refuse => {
                let carrier = self.of(Party::Client).up.unwrap();
                let bytes = Some(Packet::Refusal(Code::Grant).encode().unwrap());
                self.deliver(Party::Client, &Flight { carrier, bytes });
            }
            Step::Cut => self.cut(),
            Step::Connect => self.connect(),
            Step::Tick => self.tick(),
            Step::Write(party) => self.write(party),
            Step::Renew => {
                self.left.renewals -= 1;
                let newer = self.world.certificate(1);
                self.client_does(Party::Client, client::Action::Reauthenticate(newer));
            }
            Step::Finish(party) => self.finish(party),
        }
        self.drain();
        self.compare();
    }

    /// Two runs with the same print go on alike.
    pub(super) fn print(&self) -> u64 {
        let mut print = DefaultHasher::new();
        (self.roots, self.left, self.carriers, self.acts, self.now.wall.as_millis()).hash(&mut print);
        for seat in self.seats.iter().flatten() {
            (seat.heard.finish(), seat.up, &seat.under_way, seat.sent, seat.finished, seat.ended).hash(&mut print);
        }
        let mut seen: Vec<&Vec<u8>> = self.seen.iter().collect();
        seen.sort();
        (seen, &self.tap.file).hash(&mut print);
        print.finish()
    }

    fn seat(&self, party: Party) -> Option<&Seat> {
        self.seats[place(party)].as_ref()
    }

    fn of(&mut self, party: Party) -> &mut Seat {
        self.seats[place(party)].as_mut().expect("it is seated")
    }

    /// Whom a machine's packets go to.
    fn peer(&self, party: Party) -> Party {
        match party {
            Party::Client => Party::Agent,
            Party::Agent => Party::Client,
            Party::Twin => Party::Second,
            Party::Second if self.seats[2].is_some() => Party::Twin,
            // Nobody called it, so the network shows the client what it says.
            Party::Second => Party::Client,
        }
    }

    fn second(&mut self) {
        let config = Config::new(ORG, self.world.agent_key.clone(), [71; 32], [72; 32]);
        self.seats[3] = Some(Seat::new(Machine::Agent(Box::new(Agent::new(config, self.now)))));
        self.up(Party::Second, APART);
    }

    fn connect(&mut self) {
        self.carriers += 1;
        let carrier = CarrierId(self.carriers);
        self.up(Party::Agent, carrier);
        self.up(Party::Client, carrier);
        self.drain();
    }

    fn up(&mut self, party: Party, carrier: CarrierId) {
        let random = [place(party) as u8 * 16 + carrier.0 as u8; 32];
        let now = self.now;
        let seat = self.of(party);
        seat.up = Some(carrier);
        seat.hear(now, Input::CarrierUp { carrier, random });
        self.drain();
    }

    fn cut(&mut self) {
        self.left.cuts -= 1;
        let now = self.now;
        for party in [Party::Client, Party::Agent] {
            let seat = self.of(party);
            seat.under_way.clear();
            if let Some(carrier) = seat.up.take() {
                seat.hear(now, Input::CarrierDown { carrier });
            }
        }
    }

    fn arrive(&mut self, party: Party, at: usize) {
        let flight = self.of(party).under_way.remove(at).unwrap();
        self.deliver(party, &flight);
    }

    fn deliver(&mut self, party: Party, flight: &Flight) {
        let now = self.now;
        let again = self.broken == Broken::TakesTwice && party == Party::Agent;
        let seat = self.of(party);
        if seat.up != Some(flight.carrier) {
            return;
        }
        match &flight.bytes {
            Some(bytes) => {
                if again && let Some((_, taken)) = seat.taken.iter().find(|(packet, _)| packet == bytes) {
                    seat.received.extend(taken.clone());
                }
                let before = seat.received.len();
                seat.hear(now, Input::Packet { carrier: flight.carrier, bytes });
                self.drain();
                let seat = self.of(party);
                let taken = seat.received[before..].to_vec();
                if !taken.is_empty() {
                    seat.taken.push((bytes.clone(), taken));
                }
            }
            None => {
                seat.up = None;
                seat.hear(now, Input::CarrierDown { carrier: flight.carrier });
            }
        }
    }

    fn wake(&self) -> Option<Mono> {
        self.seats.iter().flatten().filter(|seat| !seat.ended).filter_map(|seat| seat.wake).min()
    }

    fn tick(&mut self) {
        self.left.ticks -= 1;
        let at = self.wake().unwrap().max(self.now.mono);
        self.now = self.now.after(at.since(self.now.mono));
        let now = self.now;
        self.seats.iter_mut().flatten().for_each(|seat| seat.hear(now, Input::Tick));
    }

    fn writable(&self, party: Party) -> usize {
        match self.seat(party).map(|seat| (&seat.machine, seat.finished || seat.ended)) {
            Some((Machine::Client(client), false)) => client.writable(0),
            Some((Machine::Agent(agent), false)) if self.acts > 0 => agent.writable(0),
            _ => 0,
        }
    }

    fn write(&mut self, party: Party) {
        match party {
            Party::Client | Party::Twin => self.left.client_writes -= 1,
            Party::Agent | Party::Second => self.left.agent_writes -= 1,
        }
        let bytes = pattern(self.of(party).sent, WRITE);
        self.of(party).sent += WRITE;
        match party {
            Party::Client | Party::Twin => self.client_does(party, client::Action::Bytes { stream: 0, bytes }),
            Party::Agent | Party::Second => self.agent_does(party, agent::Action::Bytes { stream: 0, bytes }),
        }
    }

    fn finish(&mut self, party: Party) {
        self.left.finishes -= 1;
        self.of(party).finished = true;
        match party {
            Party::Client | Party::Twin => self.client_does(party, client::Action::Finish(Fin::Closed)),
            Party::Agent | Party::Second => self.agent_does(party, agent::Action::Finish(Fin::Exited(0))),
        }
    }

    fn client_does(&mut self, party: Party, action: client::Action) {
        let now = self.now;
        let seat = self.of(party);
        format!("{action:?}").hash(&mut seat.heard);
        if let Machine::Client(client) = &mut seat.machine {
            client.act(now, action).unwrap_or_default();
        }
    }

    fn agent_does(&mut self, party: Party, action: agent::Action) {
        let now = self.now;
        let seat = self.of(party);
        std::mem::discriminant(&action).hash(&mut seat.heard);
        if let Machine::Agent(agent) = &mut seat.machine {
            agent.act(now, action).unwrap_or_default();
        }
    }

    /// Lets every machine say what it has to.
    fn drain(&mut self) {
        for party in PARTIES.into_iter().chain(PARTIES) {
            while self.seats[place(party)].is_some() && self.poll(party) {}
        }
        for party in PARTIES {
            let Some(seat) = self.seats[place(party)].as_mut().filter(|seat| seat.ended) else { continue };
            if let Some(carrier) = seat.up.take() {
                seat.under_way.clear();
                self.close(party, carrier);
            }
        }
    }

    fn poll(&mut self, party: Party) -> bool {
        let now = self.now;
        let seat = self.of(party);
        match &mut seat.machine {
            Machine::Client(client) => match client.poll(now) {
                Output::Transmit { carrier, bytes } => self.send(party, carrier, bytes),
                Output::CloseCarrier(carrier) => self.close(party, carrier),
                Output::Event(event) => self.client_event(party, event),
                Output::Wait(wake) => {
                    seat.wake = wake.map(|wake| wake.at);
                    return false;
                }
            },
            Machine::Agent(agent) => match agent.poll(now) {
                Output::Transmit { carrier, bytes } => self.send(party, carrier, bytes),
                Output::CloseCarrier(carrier) => self.close(party, carrier),
                Output::Event(event) => self.agent_event(party, event),
                Output::Wait(wake) => {
                    seat.wake = wake.map(|wake| wake.at);
                    return false;
                }
            },
        }
        true
    }

    fn send(&mut self, party: Party, carrier: CarrierId, bytes: Vec<u8>) {
        // The record is of the session that the two honest ends have.
        match party {
            Party::Client if self.roots == Roots::Both => self.tap.observe(Side::Agent, &bytes),
            Party::Agent if self.roots == Roots::Both => self.tap.observe(Side::Client, &bytes),
            _ => {}
        }
        if !self.seen.contains(&bytes) {
            self.seen.push(bytes.clone());
        }
        let to = self.peer(party);
        let strange = party == Party::Second && to == Party::Client;
        let on = if strange { self.seat(to).and_then(|seat| seat.up) } else { Some(carrier) };
        let sends = strange || self.of(party).up == Some(carrier);
        if let Some(carrier) = on.filter(|_| sends)
            && let Some(seat) = self.seats[place(to)].as_mut().filter(|seat| seat.up == Some(carrier) && !seat.ended)
        {
            seat.under_way.push_back(Flight { carrier, bytes: Some(bytes) });
        }
    }

    fn close(&mut self, party: Party, carrier: CarrierId) {
        let to = self.peer(party);
        let seat = self.of(party);
        if seat.up == Some(carrier) {
            seat.up = None;
            seat.under_way.clear();
        }
        if party == Party::Second && to == Party::Client {
            return;
        }
        if let Some(seat) = self.seats[place(to)].as_mut().filter(|seat| seat.up == Some(carrier) && !seat.ended) {
            seat.under_way.push_back(Flight { carrier, bytes: None });
        }
    }

    fn client_event(&mut self, party: Party, event: client::Event) {
        let late = self.of(party).ended;
        self.holds.after &= !late;
        match event {
            client::Event::Opened(opened) => self.of(party).session = Some(opened.session),
            client::Event::Bytes { stream, bytes } => {
                self.of(party).received.extend(&bytes);
                self.client_does(party, client::Action::Consumed { stream, bytes: bytes.len() });
            }
            client::Event::Resumed => self.holds.resumed = true,
            client::Event::Ended(end) => {
                self.holds.completed |= matches!(end, End::Completed(_));
                self.of(party).ended = true;
            }
            _ => {}
        }
    }

    fn agent_event(&mut self, party: Party, event: agent::Event) {
        let (late, refused) = (self.of(party).ended, self.of(party).refused);
        let ends = matches!(event, agent::Event::Ended(_));
        self.holds.after &= !late && (!refused || ends);
        match event {
            agent::Event::Judge(opening) => {
                let action = match self.gate.admit(&opening, Some(&World::jwks()), self.now) {
                    Ok(admission) => {
                        if self.broken == Broken::ActsEarly {
                            self.acts(false);
                        }
                        agent::Action::Admit { admission: Box::new(admission), attached: None, facts: vec![] }
                    }
                    Err(denial) => self.refuse(party, denial.code()),
                };
                self.agent_does(party, action);
            }
            agent::Event::Confirmed(confirmed) => {
                let session = confirmed.session();
                let mut forgetful = self.world.gate();
                let gate = if self.broken == Broken::ForgetsGrants { &mut forgetful } else { &mut self.gate };
                match gate.consume(*confirmed, self.now) {
                    Ok(admitted) => {
                        self.acts(true);
                        self.of(party).session = Some(session);
                        self.admitted.get_or_insert(admitted);
                    }
                    Err(denial) => {
                        let action = self.refuse(party, denial.code());
                        self.agent_does(party, action);
                    }
                }
            }
            agent::Event::Bytes { stream, bytes } => {
                self.holds.roots &= self.of(party).session.is_some();
                self.of(party).received.extend(&bytes);
                self.agent_does(party, agent::Action::Consumed { stream, bytes: bytes.len() });
            }
            agent::Event::Reauthenticate(certificate) => {
                let renewed = self
                    .admitted
                    .as_ref()
                    .map(|admitted| self.gate.renew(admitted, &certificate, Some(&World::jwks()), self.now));
                if let Some(Ok(renewal)) = renewed {
                    self.holds.renewed = true;
                    self.agent_does(party, agent::Action::Renew(renewal));
                }
            }
            agent::Event::Finished(_) => {
                self.of(party).finished = true;
                self.agent_does(party, agent::Action::Finish(Fin::Exited(0)));
            }
            agent::Event::Ended(_) => self.of(party).ended = true,
            _ => {}
        }
    }

    fn refuse(&mut self, party: Party, code: Code) -> agent::Action {
        self.of(party).refused = code != Code::CertificateUnknown;
        agent::Action::Refuse(code)
    }

    /// An agent does something on its host.
    fn acts(&mut self, confirmed: bool) {
        self.acts += 1;
        self.holds.opened = true;
        self.holds.roots &= confirmed && self.roots == Roots::Both;
        self.holds.once &= self.acts == 1;
    }

    /// Both ends against each other, and at the end the record against both.
    fn compare(&mut self) {
        for (one, other) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
            let (Some(from), Some(to)) = (&self.seats[one], &self.seats[other]) else { continue };
            let sent = pattern(0, from.sent);
            self.holds.prefix &= sent.starts_with(&to.received);
            let sessions = [from.session, to.session];
            self.holds.prefix &= sessions.contains(&None) || from.session == to.session;
        }
        let over = self.seats[..2].iter().flatten().all(|seat| seat.ended);
        if !self.judged && (over || self.choices().is_empty()) {
            self.judged = true;
            self.judge();
        }
    }

    /// The record of the session, as anybody can check it later.
    fn judge(&mut self) {
        let recorded = self.tap.observer.session();
        // A `Syn` that was replayed to another machine of the agent is answered, too: with that answer the client is in
        // a session that this relay never saw begin, and of which it relays nothing.
        let own = self.seats[0].as_ref().unwrap().session.is_none_or(|session| Some(session) == recorded);
        self.holds.record &= !own || self.tap.violations.is_empty();
        if recorded.is_none() {
            return;
        }
        let before = self.tap.file.len();
        self.tap.claim(&self.world, "");
        let bundle = self.world.bundle();
        let (archive, file) = (archive(), &self.tap.file);
        let anchors = Anchors::Bundle(&bundle, &archive);
        let Ok(verdict) = verify(file, &anchors) else {
            self.holds.record = false;
            return;
        };
        // Another byte of each; which changes are seen is shown elsewhere for every byte of a file.
        let at = Digest::of(file).as_bytes()[..4].iter().fold(0usize, |at, byte| at * 256 + usize::from(*byte));
        if at % CHANGED == 0 {
            let mut changed = file.clone();
            changed[(at / CHANGED) % before] ^= 1;
            self.holds.record &= verify(&changed, &anchors).is_err();
        }
        for (direction, frames, seat) in [
            (Direction::ToAgent, verdict.to_agent.coverage.agent, 1),
            (Direction::ToClient, verdict.to_client.coverage.client, 0),
        ] {
            let shown = shown(file, direction, frames);
            let received = &self.seats[seat].as_ref().unwrap().received;
            self.holds.done &= received.starts_with(&shown);
        }
        let agent = self.seats[1].as_ref().unwrap();
        self.holds.done &= verdict.status.is_none() || agent.finished || agent.refused;
        self.holds.done &= verdict.to_agent.coverage.agent == 0 || self.acts > 0 || !self.holds.opened;
        self.tap.file.truncate(before);
    }
}

/// The bytes in so many frames of a record.
fn shown(file: &[u8], direction: Direction, frames: u64) -> Vec<u8> {
    let payload = |(_, record)| match record {
        Record::Frame { direction: way, frame }
            if way == direction && frame.header.number < frames && frame.header.kind == Some(Kind::Bytes) =>
        {
            frame.payload().map(<[u8]>::to_vec)
        }
        _ => None,
    };
    records(file).into_iter().filter_map(payload).flatten().collect()
}

impl Seat {
    fn new(machine: Machine) -> Self {
        Self {
            machine,
            up: None,
            under_way: VecDeque::new(),
            sent: 0,
            received: vec![],
            session: None,
            finished: false,
            refused: false,
            ended: false,
            wake: None,
            heard: DefaultHasher::new(),
            taken: vec![],
        }
    }

    fn hear(&mut self, now: Now, input: Input<'_>) {
        now.wall.as_millis().hash(&mut self.heard);
        match input {
            Input::CarrierUp { carrier, .. } => (0, carrier).hash(&mut self.heard),
            Input::CarrierDown { carrier } => (1, carrier).hash(&mut self.heard),
            Input::Packet { carrier, bytes } => (2, carrier, bytes).hash(&mut self.heard),
            Input::Tick => 3.hash(&mut self.heard),
        }
        match &mut self.machine {
            Machine::Client(client) => client.handle(now, input),
            Machine::Agent(agent) => agent.handle(now, input),
        }
    }
}

/// What the client comes with, and the world in which that would be right.
fn opening(world: &World, roots: Roots) -> (Opening, World) {
    let mut foreign = world.clone();
    let good = world.opening();
    let mut body = world.grant_body();
    let opening = match roots {
        Roots::Both => good,
        Roots::NoServer => {
            foreign.root = key(90);
            foreign.opening()
        }
        Roots::NoProvider => {
            let request = CertRequest::new(ORG, &world.client_key, [7; 32]);
            let token = Idp::new(2, "k1").token(&claims(START, &request.commitment()));
            Opening { certificate: request.certificate(&token, &token).unwrap(), ..good }
        }
        Roots::AnothersGrant => {
            body.client_key = key(77).public();
            Opening { grant: world.sign_grant(&body), ..good }
        }
        Roots::AnothersLogin => {
            body.person.subject = "bob".to_owned();
            Opening { grant: world.sign_grant(&body), ..good }
        }
    };
    (opening, foreign)
}
