//! A field of real ends: an agent and a client of any making, each with a link to the hostile server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::id::{BootId, ConnectionId};
use bz_core::oidc::jwks::Jwks;
use bz_core::time::{Mono, Now, UnixTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::carrier::{Boxed, Link, read_message, write_message};
use crate::client::{Action, Event};
use crate::control::{FromServer, SignedOrder};
use crate::driver::Clock;
use crate::frame::Fin;
use crate::gate::LocalRule;
use crate::hostile::case::Asking;
use crate::hostile::effects::Observer;
use crate::hostile::field::{Field, Told};
use crate::hostile::organization::{KitError, Organization};
use crate::hostile::relay::Relay;
use crate::hostile::server::{AgentLink, Server};
use crate::hostile::talk::{Attempt, Talker};
use crate::limits::{MAX_PACKET, PATIENCE};
use crate::session::End;
use tokio::io::AsyncWriteExt as _;

/// When everything begins.
pub const START: UnixTime = UnixTime::from_secs(1_800_000_000);
/// How long something that must come may take.
const SURELY: Duration = Duration::from_secs(60);
/// How long the agent may take for a word that it owes, or the end of a stream: less than what ends an idle handshake.
const OWED: Duration = Duration::from_secs(20);
/// How long something that need not come is waited for.
const PERHAPS: Duration = Duration::from_secs(2);

/// A clock that runs, and that a scenario moves ahead. Clones are one.
#[derive(Debug)]
pub struct KitClock {
    start: tokio::time::Instant,
    ahead: watch::Sender<Duration>,
}

impl KitClock {
    fn new() -> Self {
        Self { start: tokio::time::Instant::now(), ahead: watch::Sender::new(Duration::ZERO) }
    }

    fn advance(&self, by: Duration) {
        self.ahead.send_modify(|ahead| *ahead = ahead.saturating_add(by));
    }
}

impl Clock for KitClock {
    fn now(&self) -> Now {
        let passed = self.start.elapsed().saturating_add(*self.ahead.borrow());
        Now { mono: Mono::at(Duration::from_secs(50).saturating_add(passed)), wall: START.after(passed) }
    }

    fn wait(&self, at: Mono) -> Boxed<'_, ()> {
        Box::pin(async move {
            let mut moved = self.ahead.subscribe();
            loop {
                let left = at.since(self.now().mono);
                if left.is_zero() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    // The sender lives in this clock.
                    _ = moved.changed() => {}
                }
            }
        })
    }
}

/// What agent and client are made of.
#[derive(Clone)]
pub struct Parts {
    /// The organization: keys, pins, target.
    pub organization: Arc<Organization>,
    /// What both tell the time by.
    pub clock: Arc<dyn Clock>,
    /// What the issuer publishes at the moment.
    pub keys: Arc<Mutex<Option<Jwks>>>,
    /// What the target's program must tell: [`Observer::serve`] is one that does.
    pub observer: Observer,
    /// What the host's owner wrote.
    pub local: Arc<Mutex<LocalRule>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("organization", &self.organization).finish_non_exhaustive()
    }
}

/// An agent under test that runs. Dropping it kills it.
pub trait AgentUnderTest: Send + Sync {
    /// The host's owner changed the local policy.
    fn local(&self, rule: LocalRule);
    /// Ends it in order.
    fn stop(self: Box<Self>) -> Boxed<'static, ()>;
}

/// A client under test with an open session. Dropping it cuts the session.
pub trait ClientUnderTest: Send + Sync {
    /// The next thing that happened; `None` after the last.
    fn next(&mut self) -> Boxed<'_, Option<Event>>;
    /// Does something; `false` when the session is gone.
    fn act(&self, action: Action) -> Boxed<'_, bool>;
    /// What the person reads about an end.
    fn words(&self, end: &End) -> String;
}

/// Ends of anybody's making. Both dial the hostile server, whose address they know.
pub trait Ends: Send + Sync {
    /// What carries them.
    fn carrier(&self) -> &'static str;
    /// Starts an agent that serves the route [`crate::hostile::ROUTE`] with a program that tells the observer.
    fn agent<'a>(&'a self, parts: &'a Parts) -> Boxed<'a, Result<Box<dyn AgentUnderTest>, String>>;
    /// Opens a session with exactly these parts, until it stands; or says what the person was told.
    fn client<'a>(&'a self, parts: &'a Parts, asking: Asking) -> Boxed<'a, Result<Box<dyn ClientUnderTest>, Told>>;
}

/// Real ends, and a hostile server between them.
pub struct Wire<E> {
    ends: E,
    parts: Parts,
    clock: Arc<KitClock>,
    relay: Relay,
    server: Arc<Server>,
    agent: Option<Box<dyn AgentUnderTest>>,
    boot: BootId,
    mode: Mode,
    person: Person,
    _links: JoinSet<()>,
}

#[derive(Default)]
struct Person {
    session: u32,
    client: Option<Box<dyn ClientUnderTest>>,
    told: Option<Told>,
    shown: Vec<u8>,
    answers: usize,
}

impl<E: Ends> Wire<E> {
    /// Starts an agent and waits for its link. Links come from whoever listens.
    ///
    /// # Errors
    /// When there is no agent in time.
    pub async fn start(ends: E, mut links: mpsc::Receiver<Arc<dyn Link>>, seed: u64) -> Result<Self, KitError> {
        let organization = Arc::new(Organization::new(seed, START)?);
        let clock = Arc::new(KitClock::new());
        let relay = Relay::new(organization.id, organization.thief.clone(), seed);
        let server = Arc::new(Server::new(organization.id, relay.clone(), Arc::clone(&clock) as Arc<dyn Clock>));
        let parts = Parts {
            keys: Arc::new(Mutex::new(Some(organization.jwks()?))),
            organization,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            observer: Observer::default(),
            local: Arc::new(Mutex::new(LocalRule::Unrestricted)),
        };
        let mut tasks = JoinSet::new();
        let taker = Arc::clone(&server);
        tasks.spawn(async move {
            while let Some(link) = links.recv().await {
                taker.take(link);
            }
        });
        let mut wire = Self {
            ends,
            parts,
            clock,
            relay,
            server,
            agent: None,
            boot: BootId::from_bytes([0; 16]),
            mode: Mode::Inspected,
            person: Person::default(),
            _links: tasks,
        };
        wire.start_agent().await?;
        Ok(wire)
    }

    async fn start_agent(&mut self) -> Result<(), KitError> {
        let before = self.agent.is_some().then_some(self.boot);
        if let Some(agent) = self.agent.take() {
            agent.stop().await;
        }
        self.agent = Some(self.ends.agent(&self.parts).await.map_err(KitError::Stand)?);
        self.boot = self.link(before).await?.boot;
        Ok(())
    }

    /// The agent's present link.
    async fn link(&self, not: Option<BootId>) -> Result<Arc<AgentLink>, KitError> {
        let link = tokio::time::timeout(SURELY, self.server.agent(not)).await;
        link.ok().flatten().ok_or_else(|| KitError::Stand("the agent has no link to the server".to_owned()))
    }

    /// Ends both ends in order.
    pub async fn stop(mut self) {
        self.person.client = None;
        if let Some(agent) = self.agent.take() {
            agent.stop().await;
        }
    }

    /// Listens until an answer or the end comes; `false` when neither came in time.
    async fn listen(&mut self, until_end: bool, limit: Duration) -> bool {
        let Person { session, client: Some(client), told, shown, answers } = &mut self.person else { return true };
        let before = *answers;
        let listening = async {
            loop {
                let event = client.next().await;
                match event {
                    Some(Event::Bytes { bytes, .. }) => {
                        shown.extend(bytes);
                        while let Some(end) = shown.iter().position(|byte| *byte == b'\n') {
                            let line: Vec<u8> = shown.drain(..=end).collect();
                            self.parts.observer.shown(*session, String::from_utf8_lossy(&line).trim_end());
                            *answers = answers.saturating_add(1);
                        }
                        if *answers > before && !until_end {
                            return;
                        }
                    }
                    Some(Event::Ended(end)) => {
                        *told = Some(Told { words: client.words(&end), end: Some(end), early: false });
                        return;
                    }
                    Some(_) => {}
                    None => {
                        told.get_or_insert_with(|| Told::of(End::Lost));
                        return;
                    }
                }
            }
        };
        let heard = tokio::time::timeout(limit, listening).await.is_ok();
        if self.person.told.is_some() {
            self.person.client = None;
        }
        heard
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E: Ends> Field for Wire<E> {
    fn carrier(&self) -> &'static str {
        self.ends.carrier()
    }

    fn organization(&self) -> &Organization {
        &self.parts.organization
    }

    fn relay(&self) -> &Relay {
        &self.relay
    }

    fn observer(&self) -> &Observer {
        &self.parts.observer
    }

    fn boot(&self) -> BootId {
        self.boot
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn open(&mut self, session: u32, asking: Asking) -> Boxed<'_, Result<(), KitError>> {
        Box::pin(async move {
            self.person = Person { session, ..Person::default() };
            let opened = tokio::time::timeout(SURELY, self.ends.client(&self.parts, asking)).await;
            match opened {
                Ok(Ok(client)) => self.person.client = Some(client),
                Ok(Err(told)) => self.person.told = Some(told),
                Err(_) => return Err(KitError::Stand("a client neither opens its session nor gives up".to_owned())),
            }
            Ok(())
        })
    }

    fn line(&mut self, text: String) -> Boxed<'_, Result<(), KitError>> {
        Box::pin(async move {
            let Person { session, client: Some(client), .. } = &self.person else { return Ok(()) };
            self.parts.observer.asked(*session, &text);
            let bytes = format!("{text}\n").into_bytes();
            client.act(Action::Bytes { stream: 0, bytes }).await;
            self.listen(false, PERHAPS).await;
            Ok(())
        })
    }

    fn reauthenticate(&mut self, certificate: Vec<u8>) -> Boxed<'_, Result<(), KitError>> {
        Box::pin(async move {
            if let Some(client) = &self.person.client {
                client.act(Action::Reauthenticate(certificate)).await;
            }
            Ok(())
        })
    }

    fn close(&mut self) -> Boxed<'_, Result<Told, KitError>> {
        Box::pin(async move {
            let early = self.person.told.is_some();
            if let Some(client) = &self.person.client {
                client.act(Action::Finish(Fin::Closed)).await;
            }
            // What stands still goes on over a new carrier, or is given up in time.
            if !self.listen(true, PERHAPS).await {
                self.server.cut();
            }
            if !self.listen(true, PERHAPS.saturating_mul(2)).await {
                self.clock.advance(PATIENCE.saturating_mul(2));
            }
            self.listen(true, SURELY).await;
            let told = self.person.told.take().map(|told| Told { early, ..told });
            self.person.client = None;
            told.ok_or_else(|| KitError::Stand("a session neither goes on nor ends".to_owned()))
        })
    }

    fn talk<'a>(
        &'a mut self,
        connection: ConnectionId,
        talker: &'a mut dyn Talker,
    ) -> Boxed<'a, Result<Attempt, KitError>> {
        Box::pin(async move {
            let link = self.link(None).await?;
            let mut attempt = Attempt::default();
            loop {
                let first = talker.begin(self.clock.now());
                if first.is_empty() {
                    return Ok(attempt);
                }
                let gone = |error: &dyn std::fmt::Display| KitError::Stand(format!("the agent's link broke: {error}"));
                let mut stream = link.stream(connection).await.map_err(|e| gone(&e))?;
                let mut packets = first;
                attempt.ended = false;
                while !talker.leaves() {
                    let said = async {
                        for packet in packets.drain(..) {
                            write_message(&mut stream, &packet).await?;
                        }
                        stream.flush().await
                    };
                    // An agent that ended the stream meanwhile may have said why.
                    let said: std::io::Result<()> = said.await;
                    drop(said);
                    let limit = if talker.waits() { OWED } else { PERHAPS };
                    match tokio::time::timeout(limit, read_message(&mut stream, MAX_PACKET)).await {
                        Ok(Ok(Some(packet))) => {
                            attempt.note(&packet);
                            packets = talker.hear(self.clock.now(), &packet);
                        }
                        Ok(Ok(None) | Err(_)) => {
                            // A link that broke is nothing that the agent noticed.
                            if !Arc::ptr_eq(&link, &self.link(None).await?) {
                                return Err(gone(&"in an attempt"));
                            }
                            attempt.ended = true;
                            break;
                        }
                        Err(_) => break,
                    }
                }
            }
        })
    }

    fn order(&mut self, order: SignedOrder) -> Boxed<'_, Result<(), KitError>> {
        Box::pin(async move {
            let link = self.link(None).await?;
            // A link that has just gone takes no order.
            link.words.send(FromServer::Order(order)).await.unwrap_or_default();
            Ok(())
        })
    }

    fn cut(&mut self) -> Boxed<'_, Result<(), KitError>> {
        self.server.cut();
        Box::pin(std::future::ready(Ok(())))
    }

    fn restart(&mut self) -> Boxed<'_, Result<(), KitError>> {
        Box::pin(self.start_agent())
    }

    fn pass(&mut self, time: Duration) -> Boxed<'_, Result<(), KitError>> {
        self.clock.advance(time);
        Box::pin(async move {
            // What is on its way, such as an order, arrives.
            self.listen(true, PERHAPS).await;
            Ok(())
        })
    }

    fn publish(&mut self, keys: Option<Jwks>) {
        *lock(&self.parts.keys) = keys;
    }

    fn local(&mut self, rule: LocalRule) {
        if let Some(agent) = &self.agent {
            agent.local(rule.clone());
        }
        *lock(&self.parts.local) = rule;
    }

    fn mode(&self) -> Mode {
        self.mode
    }
}

impl<E> std::fmt::Debug for Wire<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("boot", &self.boot).finish_non_exhaustive()
    }
}
