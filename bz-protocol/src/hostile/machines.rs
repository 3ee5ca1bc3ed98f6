//! A field of the pure machines alone: no sockets, no tasks, virtual time. What it plays follows from its seed.

use std::collections::VecDeque;
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::grant::Pins;
use bz_core::id::{BootId, ConnectionId};
use bz_core::oidc::jwks::Jwks;
use bz_core::signed::Signed;
use bz_core::time::{Mono, Now, UnixTime};

use crate::agent::{self, Agent, Config};
use crate::carrier::Boxed;
use crate::client::{Action, Client, Event};
use crate::control::{Order, Orders, SignedOrder};
use crate::frame::Fin;
use crate::gate::{Admitted, Gate, LocalRule};
use crate::hostile::case::Asking;
use crate::hostile::effects::Observer;
use crate::hostile::field::{Field, Told};
use crate::hostile::organization::{Dice, KitError, Organization};
use crate::hostile::relay::Relay;
use crate::hostile::talk::{Attempt, Talker};
use crate::keys::Direction;
use crate::limits::PATIENCE;
use crate::packet::{Forgotten, Packet};
use crate::refusal::Code;
use crate::session::{CarrierId, Input, Output};

/// When everything begins.
const START: UnixTime = UnixTime::from_secs(1_800_000_000);
/// How long a line's answer is waited for.
const PERHAPS: Duration = Duration::from_secs(2);
/// How long a client whose carrier is gone takes to come back.
const AWAY: Duration = Duration::from_millis(100);
/// Steps after which a field is said to run for ever.
const MAX_STEPS: usize = 200_000;

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
}

/// The machines, and a hostile server between them.
#[derive(Debug)]
pub struct Machines {
    organization: Organization,
    relay: Relay,
    observer: Observer,
    dice: Dice,
    now: Now,
    host: Host,
    person: Option<Person>,
    told: Option<Told>,
    carriers: u64,
    live: Option<CarrierId>,
    /// When the client comes back whose carrier is gone.
    back: Option<Mono>,
    flights: VecDeque<(Direction, CarrierId, Vec<u8>)>,
    steps: usize,
}

#[derive(Debug)]
struct Person {
    number: u32,
    connection: ConnectionId,
    machine: Client,
    opened: bool,
    shown: Vec<u8>,
    answers: usize,
}

/// A target: one gate, and a machine for each session.
#[derive(Debug)]
struct Host {
    weakness: Weakness,
    config: Config,
    gate: Gate,
    orders: Orders,
    /// What the issuer publishes, and what was fetched before.
    keys: Option<Jwks>,
    cached: Option<Jwks>,
    sessions: Vec<Served>,
}

#[derive(Debug)]
struct Served {
    machine: Agent,
    connection: ConnectionId,
    syn: Option<bz_core::digest::Digest>,
    session: Option<bz_core::digest::Digest>,
    carriers: Vec<CarrierId>,
    admitted: Option<Admitted>,
    typed: Vec<u8>,
    answers: Vec<u8>,
    ended: bool,
}

/// What a host wants to be sent, or closed.
#[derive(Debug, Default)]
struct Wants {
    packets: Vec<(CarrierId, Vec<u8>)>,
    closed: Vec<CarrierId>,
}

impl Host {
    fn new(of: &Organization, boot: BootId, weakness: Weakness) -> Self {
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
    fn first(
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
                Wants { packets: told.map(|told| (carrier, told)).into_iter().collect(), closed: vec![carrier] }
            }
            Ok(_) | Err(_) => Wants { packets: vec![], closed: vec![carrier] },
        }
    }

    fn packet(&mut self, now: Now, carrier: CarrierId, bytes: &[u8], observer: &Observer) {
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

    fn drain(&mut self, now: Now, observer: &Observer) -> Wants {
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

    fn obey(&mut self, now: Now, order: &SignedOrder, of: &Organization) {
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

impl Machines {
    /// An organization that a seed decides.
    ///
    /// # Errors
    /// When it gives no keys.
    pub fn new(seed: u64) -> Result<Self, KitError> {
        Self::weakened(seed, Weakness::None)
    }

    /// The same with a host that is careless.
    ///
    /// # Errors
    /// When the seed gives no keys.
    pub fn weakened(seed: u64, weakness: Weakness) -> Result<Self, KitError> {
        let organization = Organization::new(seed, START)?;
        let mut dice = Dice::new(seed);
        let mut host = Host::new(&organization, BootId::from_bytes(dice.bytes()), weakness);
        host.keys = Some(organization.jwks()?);
        Ok(Self {
            relay: Relay::new(organization.id, organization.thief.clone(), seed),
            organization,
            observer: Observer::default(),
            dice,
            now: Now { mono: Mono::at(Duration::from_secs(50)), wall: START },
            host,
            person: None,
            told: None,
            carriers: 0,
            live: None,
            back: None,
            flights: VecDeque::new(),
            steps: 0,
        })
    }

    fn carrier(&mut self) -> CarrierId {
        self.carriers = self.carriers.saturating_add(1);
        CarrierId(self.carriers)
    }

    /// The person's client gets a carrier through the server.
    fn connect(&mut self) {
        let carrier = self.carrier();
        let random = self.dice.bytes();
        if let Some(person) = &mut self.person {
            (self.live, self.back) = (Some(carrier), None);
            person.machine.handle(self.now, Input::CarrierUp { carrier, random });
        }
    }

    fn disconnect(&mut self) {
        let Some(carrier) = self.live.take() else { return };
        self.flights.retain(|(_, on, _)| *on != carrier);
        if let Some(person) = &mut self.person {
            person.machine.handle(self.now, Input::CarrierDown { carrier });
        }
        self.agent_loses(carrier);
    }

    fn agent_loses(&mut self, carrier: CarrierId) {
        for served in &mut self.host.sessions {
            if served.carriers.contains(&carrier) {
                served.carriers.retain(|on| *on != carrier);
                served.machine.handle(self.now, Input::CarrierDown { carrier });
            }
        }
    }

    /// Everything that happens at this moment, until nothing more does.
    fn settle(&mut self) -> Result<(), KitError> {
        loop {
            self.steps = self.steps.saturating_add(1);
            if self.steps > MAX_STEPS {
                return Err(KitError::Stand("the machines never come to rest".to_owned()));
            }
            self.drain_person();
            self.drain_host();
            let Some((to, carrier, bytes)) = self.flights.pop_front() else {
                if self.live.is_none() && self.person.is_some() && self.told.is_none() {
                    let now = self.now.mono;
                    let back = *self.back.get_or_insert_with(|| now.after(AWAY));
                    if self.now.mono >= back {
                        self.connect();
                        continue;
                    }
                }
                return Ok(());
            };
            self.deliver(to, carrier, &bytes);
        }
    }

    fn deliver(&mut self, to: Direction, carrier: CarrierId, bytes: &[u8]) {
        if self.live != Some(carrier) {
            return;
        }
        let passed = self.relay.pass(to, bytes);
        for packet in passed.packets {
            match to {
                Direction::ToClient => {
                    if let Some(person) = &mut self.person {
                        person.machine.handle(self.now, Input::Packet { carrier, bytes: &packet });
                    }
                    self.drain_person();
                }
                Direction::ToAgent => {
                    self.agent_hears(carrier, &packet);
                    self.drain_host();
                }
            }
        }
        if passed.cut {
            self.disconnect();
        }
    }

    fn agent_hears(&mut self, carrier: CarrierId, packet: &[u8]) {
        let known = self.host.sessions.iter().any(|served| served.carriers.contains(&carrier));
        if !known {
            let connection = self.person.as_ref().map_or(ConnectionId::from_bytes([0; 16]), |person| person.connection);
            let wants = self.host.first(self.now, (connection, carrier), packet, &mut self.dice);
            self.do_want(wants);
        }
        self.host.packet(self.now, carrier, packet, &self.observer);
    }

    fn drain_host(&mut self) {
        let wants = self.host.drain(self.now, &self.observer);
        self.do_want(wants);
    }

    fn do_want(&mut self, wants: Wants) {
        for (carrier, bytes) in wants.packets {
            self.flights.push_back((Direction::ToClient, carrier, bytes));
        }
        for carrier in wants.closed {
            // What was said before goes first.
            let said: Vec<_> = self
                .flights
                .iter()
                .filter(|(to, on, _)| *to == Direction::ToClient && *on == carrier)
                .cloned()
                .collect();
            self.flights.retain(|(_, on, _)| *on != carrier);
            for (to, on, bytes) in said {
                self.deliver(to, on, &bytes);
            }
            if self.live == Some(carrier) {
                self.relay.agent_leaves();
                self.disconnect();
            }
        }
    }

    fn drain_person(&mut self) {
        let Some(person) = &mut self.person else { return };
        loop {
            match person.machine.poll(self.now) {
                Output::Transmit { carrier, bytes } => {
                    if self.live == Some(carrier) {
                        self.flights.push_back((Direction::ToAgent, carrier, bytes));
                    }
                }
                Output::CloseCarrier(carrier) => {
                    if self.live == Some(carrier) {
                        self.live = None;
                    }
                }
                Output::Event(event) => {
                    if let Some(told) = person.hear(self.now, event, &self.observer) {
                        self.told.get_or_insert(told);
                    }
                }
                Output::Wait(_) => return,
            }
        }
    }

    /// When something is due.
    fn due(&mut self) -> Option<Mono> {
        let wake = |at: Option<crate::session::Wake>| at.map(|wake| wake.at);
        let mut due = self.back;
        if let Some(person) = &mut self.person
            && let Output::Wait(at) = person.machine.poll(self.now)
        {
            due = due.into_iter().chain(wake(at)).min();
        }
        for served in &mut self.host.sessions {
            if let Output::Wait(at) = served.machine.poll(self.now) {
                due = due.into_iter().chain(wake(at)).min();
            }
        }
        due
    }

    /// Time passes, and everything due in it happens; less when `until` is reached.
    fn run(&mut self, time: Duration, until: impl Fn(&Self) -> bool) -> Result<(), KitError> {
        let end = self.now.mono.after(time);
        self.settle()?;
        while !until(self) && self.now.mono < end {
            let next = self.due().map_or(end, |at| at.min(end).max(self.now.mono));
            let step = next.since(self.now.mono).max(Duration::from_millis(1));
            self.now = self.now.after(step);
            if let Some(person) = &mut self.person {
                person.machine.handle(self.now, Input::Tick);
            }
            for served in &mut self.host.sessions {
                served.machine.handle(self.now, Input::Tick);
            }
            self.settle()?;
        }
        Ok(())
    }

    fn answers(&self) -> usize {
        self.person.as_ref().map_or(0, |person| person.answers)
    }

    fn typed(&mut self, text: &str) -> Result<(), KitError> {
        let Some(person) = self.person.as_mut().filter(|person| person.opened) else { return Ok(()) };
        if self.told.is_some() {
            return Ok(());
        }
        self.observer.asked(person.number, text);
        let typed = Action::Bytes { stream: 0, bytes: format!("{text}\n").into_bytes() };
        // Refused by a session that ends just now.
        person.machine.act(self.now, typed).unwrap_or_default();
        let before = self.answers();
        self.run(PERHAPS, |field| field.answers() > before || field.told.is_some())
    }

    fn closed(&mut self) -> Result<Told, KitError> {
        let early = self.told.is_some();
        if let Some(person) = &mut self.person {
            person.machine.act(self.now, Action::Finish(Fin::Closed)).unwrap_or_default();
        }
        self.run(PERHAPS, |field| field.told.is_some())?;
        if self.told.is_none() {
            self.disconnect();
            self.run(PERHAPS, |field| field.told.is_some())?;
        }
        if self.told.is_none() {
            self.run(PATIENCE.saturating_mul(3), |field| field.told.is_some())?;
        }
        self.disconnect();
        (self.person, self.back) = (None, None);
        self.told
            .take()
            .map(|told| Told { early, ..told })
            .ok_or_else(|| KitError::Stand("a session neither goes on nor ends".to_owned()))
    }

    /// Packets for a stream of the server's own.
    fn own(&mut self, connection: ConnectionId, talker: &mut dyn Talker) -> Result<Attempt, KitError> {
        let mut attempt = Attempt::default();
        loop {
            let first = talker.begin(self.now);
            if first.is_empty() {
                return Ok(attempt);
            }
            let carrier = self.carrier();
            let mut begun = false;
            attempt.ended = false;
            let mut packets: VecDeque<_> = first.into();
            let end = self.now.mono.after(PERHAPS);
            while !talker.leaves() && !attempt.ended && self.now.mono < end {
                while let Some(packet) = packets.pop_front() {
                    if !std::mem::replace(&mut begun, true) {
                        let wants = self.host.first(self.now, (connection, carrier), &packet, &mut self.dice);
                        Self::answer_own(&wants, carrier, &mut attempt);
                    }
                    self.host.packet(self.now, carrier, &packet, &self.observer);
                    self.answers_own(talker, carrier, (&mut attempt, &mut packets));
                }
                self.now = self.now.after(Duration::from_millis(20));
                for served in &mut self.host.sessions {
                    served.machine.handle(self.now, Input::Tick);
                }
                self.answers_own(talker, carrier, (&mut attempt, &mut packets));
            }
            self.agent_loses(carrier);
        }
    }

    fn answer_own(wants: &Wants, carrier: CarrierId, attempt: &mut Attempt) {
        for (_, packet) in wants.packets.iter().filter(|(on, _)| *on == carrier) {
            attempt.note(packet);
        }
        attempt.ended |= wants.closed.contains(&carrier);
    }

    fn answers_own(
        &mut self,
        talker: &mut dyn Talker,
        carrier: CarrierId,
        (attempt, packets): (&mut Attempt, &mut VecDeque<Vec<u8>>),
    ) {
        let mut wants = self.host.drain(self.now, &self.observer);
        Self::answer_own(&wants, carrier, attempt);
        for (_, packet) in wants.packets.extract_if(.., |(on, _)| *on == carrier) {
            packets.extend(talker.hear(self.now, &packet));
        }
        wants.closed.retain(|on| *on != carrier);
        self.do_want(wants);
    }
}

impl Person {
    fn hear(&mut self, now: Now, event: Event, observer: &Observer) -> Option<Told> {
        match event {
            Event::Opened(_) => self.opened = true,
            Event::Bytes { stream, bytes } => {
                self.machine.act(now, Action::Consumed { stream, bytes: bytes.len() }).unwrap_or_default();
                self.shown.extend(bytes);
                while let Some(end) = self.shown.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.shown.drain(..=end).collect();
                    observer.shown(self.number, String::from_utf8_lossy(&line).trim_end());
                    self.answers = self.answers.saturating_add(1);
                }
            }
            Event::Ended(end) => return Some(Told::of(end)),
            Event::Eof { .. } | Event::Answered { .. } | Event::Reset { .. } | Event::Notice(_) | Event::Resumed => {}
        }
        None
    }
}

impl Field for Machines {
    fn carrier(&self) -> &'static str {
        "machines"
    }

    fn organization(&self) -> &Organization {
        &self.organization
    }

    fn relay(&self) -> &Relay {
        &self.relay
    }

    fn observer(&self) -> &Observer {
        &self.observer
    }

    fn boot(&self) -> BootId {
        self.host.gate.boot
    }

    fn now(&self) -> Now {
        self.now
    }

    fn open(&mut self, session: u32, asking: Asking) -> Boxed<'_, Result<(), KitError>> {
        let connection = asking.opening.connection;
        Box::pin(std::future::ready(Client::new(asking.opening, self.now).map_err(KitError::from).and_then(
            |machine| {
                let person = Person { number: session, connection, machine, opened: false, shown: vec![], answers: 0 };
                (self.person, self.told) = (Some(person), None);
                self.connect();
                self.run(Duration::from_secs(40), |field| {
                    field.told.is_some() || field.person.as_ref().is_some_and(|person| person.opened)
                })
            },
        )))
    }

    fn line(&mut self, text: String) -> Boxed<'_, Result<(), KitError>> {
        Box::pin(std::future::ready(self.typed(&text)))
    }

    fn reauthenticate(&mut self, certificate: Vec<u8>) -> Boxed<'_, Result<(), KitError>> {
        if let Some(person) = &mut self.person {
            person.machine.act(self.now, Action::Reauthenticate(certificate)).unwrap_or_default();
        }
        Box::pin(std::future::ready(self.settle()))
    }

    fn close(&mut self) -> Boxed<'_, Result<Told, KitError>> {
        Box::pin(std::future::ready(self.closed()))
    }

    fn talk<'a>(
        &'a mut self,
        connection: ConnectionId,
        talker: &'a mut dyn Talker,
    ) -> Boxed<'a, Result<Attempt, KitError>> {
        Box::pin(std::future::ready(self.own(connection, talker)))
    }

    fn order(&mut self, order: SignedOrder) -> Boxed<'_, Result<(), KitError>> {
        self.host.obey(self.now, &order, &self.organization);
        Box::pin(std::future::ready(self.settle()))
    }

    fn cut(&mut self) -> Boxed<'_, Result<(), KitError>> {
        self.disconnect();
        Box::pin(std::future::ready(self.settle()))
    }

    fn restart(&mut self) -> Boxed<'_, Result<(), KitError>> {
        let boot = BootId::from_bytes(self.dice.bytes());
        let (keys, local) = (self.host.keys.take(), self.host.gate.local.clone());
        self.host = Host::new(&self.organization, boot, self.host.weakness);
        (self.host.keys, self.host.gate.local) = (keys, local);
        self.disconnect();
        Box::pin(std::future::ready(self.settle()))
    }

    fn pass(&mut self, time: Duration) -> Boxed<'_, Result<(), KitError>> {
        Box::pin(std::future::ready(self.run(time, |_| false)))
    }

    fn publish(&mut self, keys: Option<Jwks>) {
        self.host.keys = keys;
    }

    fn local(&mut self, rule: LocalRule) {
        self.host.gate.local = rule;
    }

    fn mode(&self) -> Mode {
        Mode::Inspected
    }
}

/// Runs a future that never waits, such as one that plays on [`Machines`].
///
/// # Errors
/// [`KitError::Stand`] when it waits after all.
pub fn at_once<T>(future: impl Future<Output = Result<T, KitError>>) -> Result<T, KitError> {
    futures::FutureExt::now_or_never(future)
        .unwrap_or_else(|| Err(KitError::Stand("a field of machines waited".to_owned())))
}
