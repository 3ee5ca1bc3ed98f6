//! A field of the pure machines alone: no sockets, no tasks, virtual time. What it plays follows from its seed.

mod host;

use std::collections::VecDeque;
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::id::{BootId, ConnectionId};
use bz_core::oidc::jwks::Jwks;
use bz_core::time::{Mono, Now, UnixTime};

use crate::carrier::Boxed;
use crate::client::{Action, Client, Event};
use crate::control::SignedOrder;
use crate::frame::Fin;
use crate::gate::LocalRule;
use crate::hostile::case::Asking;
use crate::hostile::effects::Observer;
use crate::hostile::field::{Field, Told};
pub use crate::hostile::machines::host::Weakness;
use crate::hostile::machines::host::{Host, Wants};
use crate::hostile::organization::{Dice, KitError, Organization};
use crate::hostile::relay::Relay;
use crate::hostile::talk::{Attempt, Talker};
use crate::keys::Direction;
use crate::limits::PATIENCE;
use crate::session::{CarrierId, Input, Output};

/// When everything begins.
const START: UnixTime = UnixTime::from_secs(1_800_000_000);
/// How long a line's answer is waited for.
const PERHAPS: Duration = Duration::from_secs(2);
/// How long a client whose carrier is gone takes to come back.
const AWAY: Duration = Duration::from_millis(100);
/// Steps after which a field is said to run for ever.
const MAX_STEPS: usize = 200_000;

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
