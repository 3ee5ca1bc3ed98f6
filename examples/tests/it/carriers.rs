//! Real parts over real sockets, on roads that are blocked, cut and swallow: links find another way, and what they carry
//! is exact.

mod road;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use bz_agent::agent::Agent;
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::user::User;
use bz_client::client::Client;
use bz_client::pins::{FirstContact, MemoryPins};
use bz_client::server::{Roots, Server};
use bz_client::session::Session;
use bz_core::access::request::{Parameters, Size};
use bz_core::api::record::ConnectionEventType;
use bz_examples::world::{NAME, TARGET, Way, World};
use bz_protocol::carrier::{Carrier, Proxies, Quic, Ws};
use bz_protocol::client::{Action, Event};
use bz_protocol::frame::Fin;
use bz_protocol::limits::LINK_DEAD;
use bz_protocol::link::{Choice, Ways};
use bz_protocol::session::End;
use tokio::runtime::{Builder, Runtime};

use road::{ConnectProxy, Datagrams, Streams};

/// For a failure's sake: nothing here takes that long.
const DEADLINE: Duration = Duration::from_secs(60);
/// Enough that much is under way whenever a road changes.
const BYTES: usize = 12 << 20;
const CHUNK: usize = 32 << 10;

/// PR-LINK-3, PR-LINK-5, PR-RESUME-1: a session goes from WebSocket to QUIC and back as the road under it is cut or dies
/// without a word; each time it resumes, and its bytes are exact.
#[test]
fn a_session_moves_between_websocket_and_quic() {
    let stage = Stage::new();
    let (tcp, udp) = stage.runtime.block_on(async {
        let address = stage.world.server.local_addr();
        (Streams::to(address).await, Datagrams::to(address).await)
    });
    let tls = || Arc::clone(&stage.world.tls);
    let quic = Quic::new(format!("https://{}", udp.address).parse().unwrap(), tls());
    let ws = Ws::to_server(&format!("https://{}", tcp.address).parse().unwrap(), tls());
    let ways = Ways::race([Arc::new(quic) as Arc<dyn Carrier>, Arc::new(ws)]);
    let client = stage.world.client.clone().with_carrier(ways);
    steerable().block_on(async {
        udp.block();
        let mut cat = Cat::start(&client, &stage.user).await;
        assert_eq!(client.carrier().await, Some("ws"), "UDP is blocked");

        cat.read_to(BYTES / 4).await;
        udp.open();
        tcp.block();
        tcp.cut();
        cat.resume().await;
        assert_eq!(client.carrier().await, Some("quic"), "TCP is blocked");

        cat.read_to(BYTES / 2).await;
        tcp.open();
        udp.block();
        cat.die_and_resume().await;
        assert_eq!(client.carrier().await, Some("ws"), "UDP is blocked again");
        cat.finish().await;
    });
    stage.stop();
}

/// PR-LINK-3: a connection that stays open and takes nothing more is given up, also by a link that was in the middle of
/// sending much, and the sessions on it move.
#[test]
fn a_session_leaves_a_connection_that_swallows_everything() {
    let stage = Stage::new();
    let tcp = stage.runtime.block_on(Streams::to(stage.world.server.local_addr()));
    let ws = Ws::to_server(&format!("https://{}", tcp.address).parse().unwrap(), Arc::clone(&stage.world.tls));
    let client = stage.world.client.clone().with_carrier(Arc::new(ws));
    steerable().block_on(async {
        let mut cat = Cat::start(&client, &stage.user).await;
        cat.read_to(BYTES / 2).await;
        tcp.swallow().await;
        cat.die_and_resume().await;
        cat.finish().await;
    });
    stage.stop();
}

/// PR-LINK-3: the same without a byte under way: the server, for which the old connection still stands, takes its end for
/// what it is, and neither closes the connection nor logs that anybody left.
#[test]
fn a_quiet_session_leaves_a_dead_connection_unnoticed() {
    use ConnectionEventType::{ClientConnect, ClientDisconnect, Closed, Created};
    let stage = Stage::new();
    let tcp = stage.runtime.block_on(Streams::to(stage.world.server.local_addr()));
    let ws = Ws::to_server(&format!("https://{}", tcp.address).parse().unwrap(), Arc::clone(&stage.world.tls));
    let client = stage.world.client.clone().with_carrier(Arc::new(ws));
    steerable().block_on(async {
        let mut cat = Cat { session: exec(&client, &stage.user, "cat").await, received: 0, resumed: 0, end: None };
        for way in 1..=3 {
            let actions = cat.session.actions();
            actions.act(Action::Bytes { stream: 0, bytes: vec![pattern(way - 1)] }).await.unwrap();
            cat.read_to(way).await;
            tcp.swallow().await;
            cat.die_and_resume().await;
        }
        cat.session.actions().act(Action::Eof { stream: 0 }).await.unwrap();
        assert!(cat.read_until(DEADLINE, |cat| cat.end.is_some()).await);
        assert_eq!(cat.end, Some(End::Completed(Fin::Exited(0))));
        let connection = cat.session.connection();
        let kinds = async || {
            let mut events = client.connection_events(100).await.unwrap();
            events.retain(|event| event.connection_id == connection);
            events.iter().rev().map(|event| event.connection_event_type).collect::<Vec<_>>()
        };
        let logged = async {
            while !kinds().await.contains(&Closed) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, logged).await.expect("the end is logged");
        assert_eq!(kinds().await, [Created, ClientConnect, ClientDisconnect, Closed]);
    });
    stage.stop();
}

/// F-002: where no datagram arrives, client and agent both reach the service by WebSocket alone, and a command and a
/// shell go end to end; the race costs no more than its head start.
#[tokio::test(flavor = "multi_thread")]
async fn everything_works_with_udp_blocked() {
    let (listen, black_hole) = road::swallowed_port();
    let (folder, user) = (tempfile::tempdir().unwrap(), User::current().unwrap().name);
    let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
    let settings = |config: &mut bz_server::config::Config| config.listen = listen;
    let world = World::start_with(folder.path(), helper, (&user, Way::Auto), settings).await.unwrap();
    assert_eq!(world.server.local_addr(), listen);
    let began = std::time::Instant::now();
    let mut session = exec(&world.client, &user, "echo by $((1+1)) ways").await;
    assert!(began.elapsed() < DEADLINE / 10, "QUIC was waited for: {:?}", began.elapsed());
    assert_eq!(output(&mut session).await, (b"by 2 ways\n".to_vec(), End::Completed(Fin::Exited(0))));
    assert_eq!(world.client.carrier().await, Some("ws"));

    let shell = Parameters::Shell { term: "xterm".to_owned(), size: Size { rows: 24, columns: 80 } };
    let asked = world.client.ask(&format!("{user}@{TARGET}").parse().unwrap(), shell, None).await.unwrap();
    let mut session = world.client.session(asked).await.unwrap();
    let line = b"echo shell-$((40+2)); exit\r".to_vec();
    session.actions().act(Action::Bytes { stream: 0, bytes: line }).await.unwrap();
    let (shown, end) = output(&mut session).await;
    assert!(String::from_utf8_lossy(&shown).contains("shell-42\r\n"), "{}", String::from_utf8_lossy(&shown));
    assert_eq!(end, End::Completed(Fin::Exited(0)));
    assert!(datagrams(&black_hole) > 1, "neither client nor agent tried QUIC");
    world.stop().await;
}

/// F-002, DESIGN 5: behind an HTTP proxy agent and client go through it, by WebSocket alone, with what it wants to hear,
/// which nobody else hears; a proxy that does not connect is told of, and is not gone around.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_leads_to_the_server() {
    let (folder, user) = (tempfile::tempdir().unwrap(), User::current().unwrap().name);
    let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
    let world = World::start(folder.path(), helper.clone(), &user, Way::Ws).await.unwrap();
    let there = world.server.local_addr();
    let proxy = ConnectProxy::start(there, "me:sesame").await;
    let proxies = |user: &str, except: &str| Proxies::new(&format!("http://{user}@{}", proxy.address), except).unwrap();
    let url = format!("https://{NAME}:{}", there.port());
    let ca = std::fs::read_to_string(world.folder.join("server/ca.crt")).unwrap();
    let server = Server::new(&url).unwrap().with_roots(Roots::Ca(ca)).unwrap();
    let client = |proxies: Proxies| {
        let server = server.clone().with_proxies(proxies);
        let client = Client::new(&server, world.client.trust().clone(), world.client.login()).unwrap();
        client.with_known_agents(Arc::new(MemoryPins::default()), FirstContact::Accept)
    };

    let identity = world.enroll("behind").await.unwrap();
    let ways = Ways::to_server(&url.parse().unwrap(), &world.tls, Choice::Auto, &proxies("me:sesame", ""));
    let shells = bz_agent::shell::Shells::new(helper, folder.path().join("more")).unwrap();
    let keys = IssuerKeys::ThroughLink(Arc::clone(&world.tls));
    let agent = Agent::new(identity, world.bundle.clone(), ways, keys).shell(shells).start().unwrap();
    tokio::time::timeout(DEADLINE, agent.online()).await.expect("the agent comes through the proxy");
    let before = proxy.connected();
    assert!(before > 0, "the agent went around the proxy");

    let through = client(proxies("me:sesame", ""));
    let command = Parameters::Exec { command: "echo through".to_owned() };
    let asked = through.ask(&format!("{user}@behind").parse().unwrap(), command, None).await.unwrap();
    let mut session = through.session(asked).await.unwrap();
    assert_eq!(output(&mut session).await, (b"through\n".to_vec(), End::Completed(Fin::Exited(0))));
    assert_eq!(through.carrier().await, Some("ws"));
    assert!(proxy.connected() >= before + 2, "a call and a link go through the proxy");
    assert_eq!(proxy.asked_for(), [format!("{NAME}:{}", there.port())]);

    let refused = client(proxies("me:wrong-sesame", "")).targets().await.unwrap_err().to_string();
    let ways = Ways::to_server(&url.parse().unwrap(), &world.tls, Choice::Auto, &proxies("me:wrong-sesame", ""));
    let also = ways.hail(world.bundle.organization).await.unwrap_err().to_string();
    assert!(also.contains(&proxy.address.to_string()) && also.contains("proxy authorization required"), "{also}");
    assert!(!format!("{refused}{also}").contains("sesame"), "{refused} {also}");
    let count = proxy.connected();
    let around = client(proxies("me:sesame", "other.example, .example.com")).targets().await;
    assert!(around.is_err() && proxy.connected() == count, "NO_PROXY did not count");
    agent.stop().await;
    world.stop().await;
}

/// A system on threads of its own, whose time is nobody's to change.
struct Stage {
    runtime: Runtime,
    world: World,
    user: String,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let (folder, user) = (tempfile::tempdir().unwrap(), User::current().unwrap().name);
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        let world = runtime.block_on(World::start(folder.path(), helper, &user, Way::Ws)).unwrap();
        Self { runtime, world, user, _folder: folder }
    }

    fn stop(self) {
        self.runtime.block_on(self.world.stop());
    }
}

/// A client's runtime, whose clock can jump.
fn steerable() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// `cat` on the target, fed with a pattern.
struct Cat {
    session: Session,
    received: usize,
    resumed: usize,
    end: Option<End>,
}

impl Cat {
    async fn start(client: &Client, user: &str) -> Self {
        let session = exec(client, user, "cat").await;
        let actions = session.actions();
        tokio::spawn(async move {
            for from in (0..BYTES).step_by(CHUNK) {
                let bytes = (from..from + CHUNK).map(pattern).collect();
                actions.act(Action::Bytes { stream: 0, bytes }).await.unwrap();
            }
            actions.act(Action::Eof { stream: 0 }).await.unwrap();
        });
        Self { session, received: 0, resumed: 0, end: None }
    }

    async fn step(&mut self) {
        match self.session.next().await.expect("a session that says its end") {
            Event::Bytes { bytes, .. } => {
                for byte in bytes {
                    assert_eq!(byte, pattern(self.received), "byte {} after {} roads", self.received, self.resumed);
                    self.received += 1;
                }
            }
            Event::Resumed => self.resumed += 1,
            Event::Ended(end) => self.end = Some(end),
            Event::Opened(_) | Event::Eof { .. } | Event::Answered { .. } | Event::Reset { .. } | Event::Notice(_) => {}
        }
    }

    async fn read_until(&mut self, within: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let read = async {
            while !done(self) && self.end.is_none() {
                self.step().await;
            }
        };
        tokio::time::timeout(within, read).await.is_ok() && done(self)
    }

    async fn read_to(&mut self, bytes: usize) {
        let come = self.read_until(DEADLINE, |cat| cat.received >= bytes).await;
        assert!(come, "{} of {bytes} bytes came, ended with {:?}", self.received, self.end);
    }

    async fn resume(&mut self) {
        let before = self.resumed;
        let resumed = self.read_until(DEADLINE, |cat| cat.resumed > before).await;
        assert!(resumed, "the session did not move, ended with {:?}", self.end);
    }

    /// Lets the time pass after which silence means death. What was under way when the road died may be read late and
    /// count as a word of life: then the silence begins once more.
    async fn die_and_resume(&mut self) {
        let before = self.resumed;
        for _ in 0..3 {
            tokio::time::pause();
            tokio::time::advance(LINK_DEAD + Duration::from_secs(1)).await;
            tokio::time::resume();
            if self.read_until(DEADLINE / 12, |cat| cat.resumed > before).await {
                return;
            }
        }
        panic!("the session still waits on a dead link, at byte {}; ended with {:?}", self.received, self.end);
    }

    async fn finish(mut self) {
        let ended = self.read_until(DEADLINE, |cat| cat.end.is_some()).await;
        assert!(ended, "the session does not end, at byte {}", self.received);
        assert_eq!((self.received, self.end), (BYTES, Some(End::Completed(Fin::Exited(0)))));
    }
}

/// A byte for each place, so that a lost, doubled or moved one shows.
fn pattern(at: usize) -> u8 {
    u8::try_from((at ^ (at >> 8) ^ (at >> 16)) & 0xff).unwrap()
}

async fn exec(client: &Client, user: &str, command: &str) -> Session {
    let parameters = Parameters::Exec { command: command.to_owned() };
    let asked = client.ask(&format!("{user}@{TARGET}").parse().unwrap(), parameters, None).await.unwrap();
    client.session(asked).await.unwrap()
}

async fn output(session: &mut Session) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    let read = async {
        loop {
            match session.next().await.expect("a session that says its end") {
                Event::Bytes { bytes, .. } => all.extend(bytes),
                Event::Ended(end) => return end,
                Event::Opened(_)
                | Event::Eof { .. }
                | Event::Notice(_)
                | Event::Answered { .. }
                | Event::Reset { .. }
                | Event::Resumed => {}
            }
        }
    };
    let end = tokio::time::timeout(DEADLINE, read).await.expect("it comes to an end");
    (all, end)
}

/// How many datagrams wait on a socket.
fn datagrams(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    std::iter::from_fn(|| socket.recv(&mut [0; 2048]).ok()).count()
}
