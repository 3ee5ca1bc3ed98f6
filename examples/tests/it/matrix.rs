//! The access table, row by row: each technology works over each carrier, and ends with what it stands on.
//!
//! What each does in full is in the tests of its own. Here a new row that is not tried does not compile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bz_agent::agent::{Agent, Running};
use bz_agent::files::Files;
use bz_agent::handler::Call;
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::kube::Cluster;
use bz_agent::shell::Shells;
use bz_agent::ssh::{Authority, Sshd};
use bz_agent::ssh_server::SshServer;
use bz_agent::user::User;
use bz_agent::web::Web;
use bz_client::client::Client;
use bz_client::copy::{Copying, Way as CopyWay};
use bz_client::session::Session;
use bz_client::target_name::TargetName;
use bz_core::access::request::{CopyRequest, CopyWay as Asked, Parameters, Size, SshPurpose, UserNeed};
use bz_core::access::upstream::{DatabaseRequest, KubeRequest, WebRequest, Wire};
use bz_core::access::{Access, Mode, Verb};
use bz_core::api::access::Connection;
use bz_core::api::policy::{
    ClusterName, KubernetesContent, PolicyEnvironment, PolicyTarget, ProxyContent, Subject, SubjectType,
    TargetConnectContent,
};
use bz_core::api::record::{ConnectionEvent, ConnectionEventType};
use bz_core::api::target::{Route, TargetKind, TargetUserName};
use bz_core::api::virtual_target::{DatabaseAuthentication, NewVirtualTarget, Port};
use bz_core::id::ConnectionId;
use bz_core::ssh::SshKey;
use bz_core::target::UserRule;
use bz_examples::clock::MovableClock;
use bz_examples::needs;
use bz_examples::world::{Idp, Parts, Way, World, provider};
use bz_protocol::client::Event;
use bz_protocol::driver::Clock as _;
use bz_protocol::refusal::Code;
use bz_protocol::session::End;
use bz_protocol::stream::StreamRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Child;

use crate::session::{ended, expect, type_in, unrefreshed, until};
use crate::ssh;

/// The target with all of it.
const HOST: &str = "all";

/// F-003, F-004, F-178: every technology goes over the one protocol, by either carrier, with nothing more to do for the person.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_works_over_every_carrier() {
    for way in [Way::Ws, Way::Quic] {
        let Some(room) = Room::new(way).await else { return };
        for access in Access::ALL {
            room.works(access).await;
        }
        room.stop().await;
    }
}

/// What ends all of a person's sessions at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Logout,
    PoliciesGone,
    AllClosed,
}

/// F-016~, F-023~, F-169~: every technology ends with a logout, with the last policy that allows it and at an
/// administrator's word, and the log says why. A shell alone runs on when its person leaves.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_ends_with_what_it_stands_on() {
    for cause in [Cause::Logout, Cause::PoliciesGone, Cause::AllClosed] {
        let Some(room) = Room::new(Way::Ws).await else { return };
        let client = room.world.log_in(&room.user).await.unwrap();
        let mut open = Vec::new();
        for access in Access::ALL {
            open.push((access, room.open(&client, access).await));
        }
        room.bring_about(cause, &client).await;
        for (access, session) in &mut open {
            let (_, end) = tokio::time::timeout(Duration::from_secs(30), ended(session))
                .await
                .unwrap_or_else(|_| panic!("{cause:?}: {access:?} goes on"));
            assert_ne!(end, End::Lost, "{cause:?}, {access:?}: nobody said anything");
            let detaches = access.spec().detaches && cause == Cause::Logout;
            let kind = if detaches { ConnectionEventType::ClientDisconnect } else { ConnectionEventType::Closed };
            let log = room.log(session.connection(), kind).await;
            let reason = &log.iter().rfind(|event| event.connection_event_type == kind).unwrap().reason;
            let why = match cause {
                Cause::Logout => "logged out",
                Cause::PoliciesGone => "no policy allows it any more",
                Cause::AllClosed => "all of this user's connections were closed",
            };
            assert!(reason.contains(why), "{cause:?}, {access:?}: {end}: {reason}");
        }
        room.stop().await;
    }
}

/// F-024, F-017~: every technology ends with the login that it began with, at the agent itself, which says so.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_ends_with_its_login() {
    for _ in 0..3 {
        let Some(room) = Room::new(Way::Ws).await else { return };
        let client = unrefreshed(&room.world);
        let mut open = Vec::new();
        for access in Access::ALL {
            open.push((access, room.open(&client, access).await));
        }
        // What the server does not know to be open yet it would take, an hour later, for what nobody came to.
        let known = |all: &Vec<Connection>| all.iter().filter(|one| one.attached).count() == open.len();
        until(async || client.connections().await.unwrap(), known).await;
        let in_time = room.goes_on_until_shortly_before(&mut open).await;
        room.clock.advance(Duration::from_secs(20));
        for (access, session) in open.iter_mut().filter(|_| in_time) {
            let ended = tokio::time::timeout(Duration::from_secs(30), ended(session)).await;
            let (_, end) = ended.unwrap_or_else(|_| panic!("{access:?} outlives its login"));
            assert_eq!(end, End::Refused(Code::Expired), "{access:?}");
        }
        room.stop().await;
        if in_time {
            return;
        }
    }
    panic!("links took more than ten seconds to come back, three times");
}

impl Room {
    /// Moves to ten seconds before the login ends. Links die of the long silence and are dialed again; the short step
    /// after it is no silence. `false` where that took longer than those ten seconds.
    async fn goes_on_until_shortly_before(&self, open: &mut [(Access, Session)]) -> bool {
        let end = open.iter().map(|(_, session)| session.opened.expires_at).max().unwrap();
        self.clock.advance(end.since(self.clock.now().wall) - Duration::from_secs(10));
        for (access, session) in open {
            let goes_on = async {
                loop {
                    match session.next().await {
                        Some(Event::Resumed) => return true,
                        Some(_) => {}
                        None => return false,
                    }
                }
            };
            let went_on = tokio::time::timeout(Duration::from_secs(30), goes_on).await;
            if went_on != Ok(true) {
                assert!(self.clock.now().wall >= end, "{access:?} does not go on until its login ends: {went_on:?}");
                return false;
            }
        }
        true
    }
}

struct Room {
    world: World,
    clock: Arc<MovableClock>,
    agent: Running,
    /// Says everything back.
    echo: SocketAddr,
    /// A web server.
    web: SocketAddr,
    user: String,
    folder: tempfile::TempDir,
    _sshd: Child,
}

impl Room {
    /// `None`, said aloud, where something that it needs is absent.
    async fn new(way: Way) -> Option<Self> {
        if !needs::program("sshd") {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("m").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("world")).unwrap();
        let (user, helper) = (User::current().unwrap().name, Helper::at(env!("CARGO_BIN_EXE_helper")));
        let clock = Arc::new(MovableClock::new());
        let idp = Idp::Dev(provider(&user, clock.for_idp()).await.unwrap());
        let (person, shared) = (user.clone(), Arc::clone(&clock));
        let parts = Parts { helper: helper.clone(), person, user: user.clone(), idp, clock: shared, way };
        let world = World::of(&at("world"), parts, |_| ()).await.unwrap();
        let identity = world.register(HOST, "shout").await.unwrap();
        let (port, sshd) = ssh::sshd(folder.path()).await;
        std::fs::write(at("token"), "token").unwrap();
        let shells = Shells::new(helper.clone(), at("shells")).unwrap().idle(Duration::from_secs(60));
        let server = Sshd::new(Authority::open(&at("agent")).unwrap());
        let route = Route { name: "shout".into(), description: "says it louder".into(), mode: Mode::Sealed };
        let louder = |mut call: Call| async move {
            let mut words = String::new();
            call.stream.read_to_string(&mut words).await?;
            call.stream.write_all(words.to_uppercase().as_bytes()).await
        };
        let keys = IssuerKeys::ThroughLink(Arc::clone(&world.tls));
        let agent = Agent::new(identity, world.bundle.clone(), world.carrier.clone(), keys)
            .clock(Arc::<MovableClock>::clone(&clock))
            .shell(shells)
            .files(Files::new(helper))
            .tunnels()
            .ssh(server.port(port).host_keys(vec![at("host_key.pub")]))
            .ssh_server(SshServer::open(&at("agent"), Helper::at(env!("CARGO_BIN_EXE_helper"))).unwrap())
            .web(Web::new(Arc::clone(&world.tls)))
            .cluster(Cluster::new("127.0.0.1:1".parse().unwrap(), at("world/server/ca.crt"), at("token")))
            .route(route, louder)
            .start()
            .unwrap();
        agent.online().await;
        let room = Self { world, clock, agent, echo: echo().await, web: web().await, user, folder, _sshd: sshd };
        room.allow().await;
        Some(room)
    }

    /// Policies for everything, and targets for what is behind the host.
    async fn allow(&self) {
        let client = &self.world.client;
        let host = client.find_target(&HOST.parse().unwrap()).await.unwrap();
        let subjects = vec![Subject { id: client.me().await.unwrap().id, kind: SubjectType::User }];
        let environments = vec![PolicyEnvironment { id: host.environment_id }];
        let policy = TargetConnectContent {
            name: "on the host".to_owned(),
            subjects: subjects.clone(),
            targets: vec![PolicyTarget { id: host.id, kind: "Bzero".to_owned() }],
            target_users: vec![TargetUserName { user_name: UserRule::Literal(self.user.parse().unwrap()) }],
            verbs: vec![Verb::Shell, Verb::FileTransfer, Verb::Tunnel],
            ..TargetConnectContent::default()
        };
        client.create_policy(&policy).await.unwrap();
        let policy = ProxyContent {
            name: "behind it".to_owned(),
            subjects: subjects.clone(),
            environments: environments.clone(),
            ..ProxyContent::default()
        };
        client.create_proxy_policy(&policy).await.unwrap();
        let policy = KubernetesContent {
            name: "in the cluster".to_owned(),
            subjects,
            environments,
            cluster_users: vec![ClusterName { name: "dev".to_owned() }],
            ..KubernetesContent::default()
        };
        client.create_kubernetes_policy(&policy).await.unwrap();
        let behind = |name: &str| NewVirtualTarget {
            target_name: name.to_owned(),
            proxy_target_id: Some(host.id),
            ..NewVirtualTarget::default()
        };
        let database = |kind: &str| NewVirtualTarget {
            remote_host: Some(self.echo.ip().to_string()),
            remote_port: Some(Port { value: Some(self.echo.port()) }),
            database_authentication_config: Some(DatabaseAuthentication {
                database: (!kind.is_empty()).then(|| kind.to_owned()),
                ..DatabaseAuthentication::default()
            }),
            ..behind(&format!("database{kind}"))
        };
        let web = NewVirtualTarget {
            remote_host: Some(format!("http://{}", self.web.ip())),
            remote_port: Some(Port { value: Some(self.web.port()) }),
            ..behind("web")
        };
        for (kind, new) in [
            (TargetKind::Db, database("")),
            (TargetKind::Db, database("Postgres")),
            (TargetKind::Web, web),
            (TargetKind::Cluster, behind("cluster")),
        ] {
            client.create_virtual_target(kind, &new).await.unwrap();
        }
    }

    /// What a person would ask for.
    fn request(&self, access: Access) -> (&'static str, Parameters) {
        let destination = self.echo.to_string();
        let database = |wire| {
            Parameters::Database(DatabaseRequest { destination: destination.parse().unwrap(), wire, tls: false })
        };
        match access {
            Access::Shell => {
                (HOST, Parameters::Shell { term: "xterm".to_owned(), size: Size { rows: 24, columns: 80 } })
            }
            Access::Exec => (HOST, Parameters::Exec { command: "sleep 600".to_owned() }),
            Access::Handler => (HOST, Parameters::Handler { route: "shout".to_owned() }),
            Access::Tunnel => (HOST, Parameters::Tunnel { destinations: vec![destination.parse().unwrap()] }),
            Access::Ssh => {
                let key = SshKey::from_seed(&[7; 32]).unwrap().public();
                (HOST, Parameters::Ssh { key: key.blob().to_owned() })
            }
            Access::Copy => {
                let way = Asked::ToTarget { name: b"x".to_vec() };
                (HOST, Parameters::Copy(CopyRequest { way, path: b"x".to_vec(), recursive: false, preserve: true }))
            }
            Access::Database => ("databasePostgres", database(Wire::Postgres)),
            Access::Tcp => ("database", database(Wire::Plain)),
            Access::Web => {
                let destination = self.web.to_string().parse().unwrap();
                ("web", Parameters::Web(WebRequest { destination, tls: false }))
            }
            Access::SshServer => {
                let key = SshKey::from_seed(&[7; 32]).unwrap().public().blob().to_owned();
                (HOST, Parameters::SshServer { key, purpose: SshPurpose::ShellAndFiles })
            }
            Access::Kube => ("cluster", Parameters::Kube(KubeRequest { user: "dev".to_owned(), groups: Vec::new() })),
        }
    }

    async fn open(&self, client: &Client, access: Access) -> Session {
        let (name, parameters) = self.request(access);
        assert_eq!(parameters.access(), access);
        let user = (parameters.needs_user() == UserNeed::Needed).then(|| self.user.parse().unwrap());
        let target = TargetName { user, target: name.parse().unwrap() };
        let asked = client.ask(&target, parameters, None).await.unwrap_or_else(|e| panic!("{access:?}: {e}"));
        client.session(asked).await.unwrap_or_else(|e| panic!("{access:?}: {e}"))
    }

    /// The least of it that is the real thing.
    async fn works(&self, access: Access) {
        let client = &self.world.client;
        match access {
            Access::Shell => {
                let mut session = self.open(client, access).await;
                type_in(&session, "echo in-$((40+2))\r").await;
                expect(&mut session, "in-42").await;
            }
            Access::Exec => {
                let target = HOST.parse().unwrap();
                let command = Parameters::Exec { command: "echo out".to_owned() };
                let asked = client.ask(&target, command, None).await.unwrap();
                assert_eq!(ended(&mut client.session(asked).await.unwrap()).await.0, b"out\n");
            }
            Access::Handler => {
                let mut stream = client.open(&HOST.parse().unwrap(), "shout").await.unwrap();
                stream.write_all(b"hi").await.unwrap();
                stream.shutdown().await.unwrap();
                let mut said = String::new();
                stream.read_to_string(&mut said).await.unwrap();
                assert_eq!(said, "HI");
            }
            Access::Tunnel | Access::Tcp => {
                let session = self.open(client, access).await;
                let dial = StreamRequest::Dial(self.echo.to_string().parse().unwrap());
                let mut stream = session.streams().open(dial).await.unwrap();
                stream.write_all(b"there").await.unwrap();
                let mut back = [0; 5];
                stream.read_exact(&mut back).await.unwrap();
                assert_eq!(&back, b"there", "{access:?}");
            }
            Access::Ssh | Access::SshServer => {
                let mut session = self.open(client, access).await;
                expect(&mut session, "SSH-2.0-").await;
            }
            Access::Copy => self.copies().await,
            Access::Database => {
                let dial = StreamRequest::Dial(self.echo.to_string().parse().unwrap());
                // SSLRequest, which PostgreSQL's clients begin with: the agent says that there is no TLS to be had.
                let asks = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
                assert_eq!(self.answer(access, dial, &asks, 1).await, "N");
            }
            Access::Web => {
                let dial = StreamRequest::Dial(self.web.to_string().parse().unwrap());
                let asks = b"GET / HTTP/1.1\r\nHost: localhost:1\r\n\r\n";
                assert_eq!(self.answer(access, dial, asks, 15).await, "HTTP/1.1 200 OK");
            }
            Access::Kube => {
                // The cluster is nowhere; it is the agent that says so.
                let asks = b"GET /api HTTP/1.1\r\nHost: localhost:1\r\n\r\n";
                assert_eq!(self.answer(access, StreamRequest::Service, asks, 12).await, "HTTP/1.1 502");
            }
        }
    }

    async fn copies(&self) {
        let client = &self.world.client;
        let (here, there) = (self.folder.path().join("here"), self.folder.path().join("there"));
        std::fs::write(&here, "content").unwrap();
        let copying = Copying {
            way: CopyWay::ToTarget,
            local: here,
            remote: there.as_os_str().as_encoded_bytes().to_vec(),
            recursive: false,
            preserve: true,
        };
        client.copy(&HOST.parse().unwrap(), &copying, |_| ()).await.unwrap();
        assert_eq!(std::fs::read(&there).unwrap(), b"content");
    }

    /// The first bytes that come back on a stream.
    async fn answer(&self, access: Access, request: StreamRequest, asks: &[u8], length: usize) -> String {
        let session = self.open(&self.world.client, access).await;
        let mut stream = session.streams().open(request).await.unwrap();
        stream.write_all(asks).await.unwrap();
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn bring_about(&self, cause: Cause, client: &Client) {
        let call = async |method: &str, path: String| {
            crate::api::call(&self.world, method, &path, None).await;
        };
        match cause {
            Cause::Logout => client.logout().await.unwrap(),
            Cause::PoliciesGone => {
                let admin = &self.world.client;
                for policy in admin.policies().await.unwrap() {
                    call("DELETE", format!("policies/target-connect/{}", policy.id)).await;
                }
                for policy in admin.proxy_policies().await.unwrap() {
                    call("DELETE", format!("policies/proxy/{}", policy.id)).await;
                }
                for policy in admin.kubernetes_policies().await.unwrap() {
                    call("DELETE", format!("policies/kubernetes/{}", policy.id)).await;
                }
            }
            Cause::AllClosed => {
                let me = client.me().await.unwrap().id;
                call("PATCH", format!("users/{me}/close-connections")).await;
            }
        }
    }

    /// The log of one connection, oldest first, once it holds `last`.
    async fn log(&self, connection: ConnectionId, last: ConnectionEventType) -> Vec<ConnectionEvent> {
        let look = async || {
            let mut events = self.world.client.connection_events(1000).await.unwrap_or_default();
            events.retain(|event| event.connection_id == connection);
            events.reverse();
            events
        };
        until(look, |events: &Vec<ConnectionEvent>| events.iter().any(|e| e.connection_event_type == last)).await
    }

    async fn stop(self) {
        self.agent.stop().await;
        self.world.stop().await;
    }
}

async fn web() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pages = axum::Router::new().route("/", axum::routing::get(|| async { "a page" }));
    tokio::spawn(async move { axum::serve(listener, pages).await });
    address
}

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.into_split();
                tokio::io::copy(&mut reader, &mut writer).await.map(drop).unwrap_or_default();
            });
        }
    });
    address
}
