//! A server's end in memory: it greets the agent, opens sessions as a client would through it, and cuts what it likes.

use std::sync::Arc;
use std::time::Duration;

use bz_agent::agent::{Agent, Identity, Running};
use bz_agent::jwks::{IssuerKeys, Pinned};
use bz_core::access::Mode;
use bz_core::access::request::{Parameters, Request};
use bz_core::grant::{GrantBody, Purpose, ServerCert, SignedGrant};
use bz_core::id::{BootId, ConnectionId, GrantId};
use bz_core::key::{PrivateKey, PublicKey};
use bz_core::signed::Signed;
use bz_core::target::UserRule;
use bz_core::time::{Mono, Now, UnixTime};
use bz_protocol::carrier::{Class, Link, MemoryCarrier, Stream};
use bz_protocol::client::{self, Client, Event};
use bz_protocol::control::{AgentHello, FromServer, Order, OrderBody, Preamble, ShellReport, SignedOrder, ToServer};
use bz_protocol::driver::{Channels, Clock, drive, random, streams};
use bz_protocol::frame::{Fin, Notice};
use bz_protocol::link::{Conversation, greet, send};
use bz_protocol::refusal::Code;
use bz_protocol::session::End;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::gate_world::{ORG, START, TARGET, World, key};
use crate::idp::ISSUER;
use crate::logged::Logged;
use crate::world::{DEADLINE, contains};

/// Begins where every world begins, and goes on at the machine's speed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worldly {
    from: u64,
    start: tokio::time::Instant,
}

impl Worldly {
    pub(crate) fn new() -> Arc<Self> {
        Self::at(START)
    }

    pub(crate) fn at(from: u64) -> Arc<Self> {
        Arc::new(Self { from, start: tokio::time::Instant::now() })
    }
}

impl Clock for Worldly {
    fn now(&self) -> Now {
        let passed = self.start.elapsed();
        Now { mono: Mono::at(Duration::from_secs(50) + passed), wall: UnixTime::from_secs(self.from).after(passed) }
    }
}

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// An agent that is about to start, and where its links will arrive.
pub(crate) struct Stand {
    pub(crate) world: World,
    pub(crate) agent: Agent,
    pub(crate) links: mpsc::Receiver<Arc<dyn Link>>,
}

impl Stand {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let keys = IssuerKeys::From(Arc::new(Pinned([(ISSUER.to_owned(), World::jwks())].into())));
        Self::with(world, keys)
    }

    pub(crate) fn with(world: World, keys: IssuerKeys) -> Self {
        let bundle = world.bundle();
        Self::pinning(world, bundle, keys)
    }

    pub(crate) fn pinning(world: World, bundle: bz_core::trust::TrustBundle, keys: IssuerKeys) -> Self {
        let (carrier, links) = MemoryCarrier::new();
        let identity = Identity {
            organization: ORG,
            target: TARGET,
            identity_key: world.agent_key.clone(),
            control_key: control_key(),
        };
        let agent = Agent::new(identity, bundle, Arc::new(carrier), keys).clock(Worldly::new());
        Self { world, agent, links }
    }

    /// Starts the agent and takes its first link.
    pub(crate) async fn start(self) -> (Running, Server, mpsc::Receiver<Arc<dyn Link>>) {
        let Self { world, agent, mut links } = self;
        let running = agent.start().unwrap();
        let link = soon("the agent's link", links.recv()).await.unwrap();
        let server = Server::welcome(Known::of(world), link).await;
        soon("the agent being online", running.online()).await;
        (running, server, links)
    }
}

fn control_key() -> PrivateKey {
    key(14)
}

/// What a server knows: its organization, the agent's keys, and the time.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) world: World,
    pub(crate) at: u64,
    pub(crate) issuer: String,
    pub(crate) agent_key: PublicKey,
    pub(crate) control_key: PublicKey,
}

impl Known {
    pub(crate) fn of(world: World) -> Self {
        let (agent_key, control_key) = (world.agent_key.public(), control_key().public());
        Self { world, at: START, issuer: ISSUER.to_owned(), agent_key, control_key }
    }

    fn certificate(&self, key: &PrivateKey, purpose: Purpose) -> Signed<ServerCert> {
        let certificate = ServerCert {
            key: key.public(),
            purpose,
            node: "one".to_owned(),
            not_before: UnixTime::from_secs(self.at - 10),
            not_after: UnixTime::from_secs(self.at + 86400),
        };
        Signed::seal(&certificate, ORG, &self.world.root).unwrap()
    }
}

/// The server's end of one link of the agent.
pub(crate) struct Server {
    pub(crate) logged: Logged,
    pub(crate) known: Known,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) boot: BootId,
    pub(crate) hello: AgentHello,
    pub(crate) shells: watch::Receiver<Option<Vec<ShellReport>>>,
    words: mpsc::Sender<FromServer>,
    counter: u64,
    grants: u8,
    _talk: JoinSet<()>,
}

impl Server {
    pub(crate) async fn welcome(known: Known, link: Arc<dyn Link>) -> Self {
        let mut control = soon("a control stream", link.accept()).await.unwrap();
        let challenge = [9; 32];
        let ToServer::Agent(hello) = greet(&mut control, ORG, challenge).await.unwrap() else {
            panic!("this is no agent")
        };
        hello.check(&challenge, ORG, &known.control_key).expect("the proof is not the control key's");
        assert_eq!(hello.target, TARGET);
        send(&mut control, &FromServer::Welcome).await.unwrap();
        let mut talk = Conversation::<ToServer, FromServer>::new(control, FromServer::Ping, Worldly::at(known.at));
        let (words, mut to_say) = mpsc::channel(8);
        let (heard, shells) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    message = talk.next() => match message {
                        Ok(ToServer::Shells(reports)) => drop(heard.send_replace(Some(reports))),
                        Ok(_) => {}
                        Err(_) => return,
                    },
                    Some(word) = to_say.recv() => talk.say(&word).await.unwrap(),
                }
            }
        });
        let logged = Logged::here();
        Self {
            logged,
            known,
            link,
            boot: hello.boot,
            hello: *hello,
            shells,
            words,
            counter: 0,
            grants: 0,
            _talk: tasks,
        }
    }

    /// Says an order of the agent, and gives it back so that it can be said again.
    pub(crate) async fn order(&mut self, order: Order) -> SignedOrder {
        self.counter += 1;
        let online = key(15);
        let body = OrderBody { agent_key: self.known.agent_key, boot: self.boot, counter: self.counter, order };
        let signed = SignedOrder {
            certificate: self.known.certificate(&online, Purpose::Control),
            order: Signed::seal(&body, ORG, &online).unwrap(),
        };
        self.say(signed.clone()).await;
        signed
    }

    pub(crate) async fn say(&self, order: SignedOrder) {
        self.words.send(FromServer::Order(order)).await.unwrap();
    }

    /// Waits until the agent reports exactly these shells.
    pub(crate) async fn lists(&self, wanted: &[ShellReport]) {
        let mut shells = self.shells.clone();
        let fits = shells.wait_for(|reports| reports.as_deref() == Some(wanted));
        let late = tokio::time::timeout(DEADLINE, fits).await.is_err();
        assert!(!late, "{wanted:?} was not reported, but {:?}", self.shells.borrow());
    }

    /// The shells that the agent reports as running, once there are so many.
    pub(crate) async fn reports(&self, count: usize) -> Vec<ShellReport> {
        let mut shells = self.shells.clone();
        let running = |all: &Vec<ShellReport>| all.iter().filter(|r| r.running).cloned().collect::<Vec<_>>();
        let fits = |reports: &Option<Vec<ShellReport>>| reports.as_ref().is_some_and(|r| running(r).len() == count);
        let got = tokio::time::timeout(DEADLINE, shells.wait_for(fits)).await;
        let Ok(got) = got else { panic!("{count} shells were not reported, but {:?}", self.shells.borrow()) };
        running(got.unwrap().as_ref().unwrap())
    }

    /// Opens a session and waits until the agent accepts it.
    pub(crate) async fn open(&mut self, ask: Ask) -> Session {
        let mut session = self.ask(ask).await;
        let event = session.event().await;
        assert!(matches!(event, Event::Opened(_)), "{event:?}");
        session
    }

    /// Asks for a session, whatever comes of it.
    pub(crate) async fn ask(&mut self, ask: Ask) -> Session {
        let opening = self.opening(&ask);
        self.session(ask.connection, opening).await
    }

    pub(crate) fn opening(&mut self, ask: &Ask) -> client::Opening {
        let mut opening = self.known.world.opening();
        opening.agent_key = self.known.agent_key;
        opening.request = ask.request().encode().unwrap();
        opening.grant = self.grant(ask);
        opening.certificate = ask.certificate(&self.known);
        opening.connection = ask.connection;
        opening.random = random().unwrap();
        opening.ephemeral_seed = random().unwrap();
        opening
    }

    /// A grant for what is asked; a new one each time.
    fn grant(&mut self, ask: &Ask) -> Vec<u8> {
        let request = ask.request();
        let online = key(11);
        self.grants += 1;
        let mut body = GrantBody {
            id: GrantId::from_bytes([self.grants; 16]),
            connection: ask.connection,
            boot: self.boot,
            verb: request.verb(),
            user: ask.user.as_ref().map(|user| UserRule::Literal(user.parse().unwrap())),
            mode: request.mode,
            request: bz_core::digest::Digest::of(&request.encode().unwrap()),
            agent_key: self.known.agent_key,
            not_before: UnixTime::from_secs(self.known.at),
            not_after: UnixTime::from_secs(self.known.at + 300),
            ..self.known.world.grant_body()
        };
        if ask.substituted {
            body.user = Some(UserRule::Username);
        }
        body.person.issuer.clone_from(&self.known.issuer);
        body.person.subject = ask.subject.unwrap_or("alice").to_owned();
        let signed = SignedGrant {
            certificate: self.known.certificate(&online, Purpose::Grant),
            grant: Signed::seal(&body, ORG, &online).unwrap(),
        };
        bz_core::wire::encode(&signed, 1 << 20).unwrap()
    }

    pub(crate) async fn session(&self, connection: ConnectionId, opening: client::Opening) -> Session {
        let clock = Worldly::at(self.known.at);
        let machine = Client::new(opening, clock.now()).unwrap();
        let (carriers, from_us) = mpsc::channel(4);
        let (actions, to_do) = mpsc::channel(8);
        let (heard, events) = mpsc::channel(8);
        let (_, _, streams) = streams();
        let channels = Channels { carriers: from_us, actions: to_do, events: heard, streams };
        let task = tokio::spawn(drive(machine, channels, clock));
        let mut session = Session {
            connection,
            link: Arc::clone(&self.link),
            carriers,
            actions,
            events,
            task,
            pump: JoinSet::new(),
            shown: vec![],
            errors: vec![],
            notices: vec![],
        };
        session.connect().await;
        session
    }
}

/// What a session is asked for.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) connection: ConnectionId,
    pub(crate) parameters: Parameters,
    pub(crate) mode: Mode,
    pub(crate) user: Option<String>,
    /// Another person than alice.
    pub(crate) subject: Option<&'static str>,
    /// Whether the user comes from the person's address.
    pub(crate) substituted: bool,
}

impl Ask {
    pub(crate) fn new(number: u8, parameters: Parameters, user: Option<&str>) -> Self {
        Self {
            connection: ConnectionId::from_bytes([number; 16]),
            parameters,
            mode: Mode::Inspected,
            user: user.map(str::to_owned),
            subject: None,
            substituted: false,
        }
    }

    pub(crate) fn route(number: u8, route: &str) -> Self {
        Self { mode: Mode::Sealed, ..Self::new(number, Parameters::Handler { route: route.to_owned() }, None) }
    }

    pub(crate) fn exec(number: u8, command: &str, user: &str) -> Self {
        Self::new(number, Parameters::Exec { command: command.to_owned() }, Some(user))
    }

    fn request(&self) -> Request {
        let user = self.user.as_ref().map(|user| user.parse().unwrap());
        Request { target: TARGET, user, mode: self.mode, parameters: self.parameters.clone() }
    }

    fn certificate(&self, known: &Known) -> Vec<u8> {
        let request = bz_core::cert::CertRequest::new(ORG, &known.world.client_key, [7; 32]);
        let mut body = crate::idp::claims(known.at, &request.commitment());
        body["iss"] = serde_json::json!(known.issuer);
        if let Some(subject) = self.subject {
            body["sub"] = serde_json::json!(subject);
        }
        if let Some(user) = self.user.as_ref().filter(|_| self.substituted) {
            body["email"] = serde_json::json!(format!("{user}@example.com"));
        }
        let token = World::idp().token(&body);
        request.certificate(&token, &token).unwrap()
    }
}

/// The client's end of a session, whose carriers run through the server.
pub(crate) struct Session {
    connection: ConnectionId,
    link: Arc<dyn Link>,
    carriers: mpsc::Sender<Box<dyn Stream>>,
    pub(crate) actions: mpsc::Sender<client::Action>,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<End>,
    pump: JoinSet<()>,
    pub(crate) shown: Vec<u8>,
    pub(crate) errors: Vec<u8>,
    pub(crate) notices: Vec<Notice>,
}

impl Session {
    /// Brings a carrier: one stream of the client's, one of the agent's, and the server between them.
    pub(crate) async fn connect(&mut self) {
        let mut agent = self.link.open(Class::Interactive).await.unwrap();
        send(&mut agent, &Preamble::Session { connection: self.connection }).await.unwrap();
        let (theirs, mut ours) = tokio::io::duplex(256 << 10);
        self.pump.spawn(async move {
            // A carrier that breaks is what some tests are about.
            drop(tokio::io::copy_bidirectional(&mut agent, &mut ours).await);
        });
        self.carriers.send(Box::new(theirs)).await.unwrap();
    }

    /// Cuts the carrier in the middle.
    pub(crate) async fn cut(&mut self) {
        self.pump.shutdown().await;
    }

    pub(crate) async fn event(&mut self) -> Event {
        soon("an event of the session", self.events.recv()).await.expect("the session is over")
    }

    pub(crate) async fn act(&self, action: client::Action) {
        self.actions.send(action).await.unwrap();
    }

    pub(crate) async fn bytes(&self, bytes: &[u8]) {
        self.act(client::Action::Bytes { stream: 0, bytes: bytes.to_vec() }).await;
    }

    /// Takes one event; the session's end, when it is that.
    pub(crate) async fn step(&mut self) -> Option<End> {
        match self.event().await {
            Event::Bytes { stream: 0, bytes } => self.shown.extend(bytes),
            Event::Bytes { bytes, .. } => self.errors.extend(bytes),
            Event::Notice(notice) => self.notices.push(notice),
            Event::Ended(end) => return Some(end),
            Event::Opened(_) | Event::Eof { .. } | Event::Answered { .. } | Event::Reset { .. } | Event::Resumed => {}
        }
        None
    }

    /// Waits until this was shown.
    pub(crate) async fn shows(&mut self, text: &str) {
        let waiting = async {
            while !contains(&self.shown, text.as_bytes()) {
                if let Some(end) = self.step().await {
                    panic!("{text:?} was not shown before the end: {end:?}");
                }
            }
        };
        let late = tokio::time::timeout(DEADLINE, waiting).await.is_err();
        assert!(!late, "{text:?} was not shown, but {:?}", String::from_utf8_lossy(&self.shown));
    }

    pub(crate) async fn end(&mut self) -> End {
        loop {
            if let Some(end) = self.step().await {
                return end;
            }
        }
    }

    /// The end that the agent proved to be its own word.
    pub(crate) async fn refused(mut self) -> Code {
        match self.end().await {
            End::Refused(code) => code,
            other => panic!("not an authenticated refusal: {other:?}"),
        }
    }

    pub(crate) async fn detach(mut self) {
        self.act(client::Action::Finish(Fin::Detached)).await;
        assert_eq!(self.end().await, End::Completed(Fin::Detached));
        soon("the end of the client's task", &mut self.task).await.unwrap();
    }
}
