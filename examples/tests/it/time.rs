//! Time in the whole system: logins that are refreshed, keys that change, logins that run out, jobs that take hours.
//!
//! Server, agent and client are the real ones and share a clock that the tests move; nobody waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::client::Client;
use bz_client::session::Session;
use bz_core::access::request::{Parameters, Size};
use bz_core::api::access::Connection;
use bz_core::api::policy::{PolicyTarget, ProxyContent, Subject, SubjectType};
use bz_core::api::record::ConnectionEventType;
use bz_core::api::target::TargetKind;
use bz_core::api::virtual_target::{DatabaseAuthentication, NewVirtualTarget, Port};
use bz_core::id::ConnectionId;
use bz_examples::clock::MovableClock;
use bz_examples::idp::OldKey;
use bz_examples::world::{Idp, Parts, TARGET, Way, World, provider};
use bz_protocol::client::{Action, Event};
use bz_protocol::driver::Clock as _;
use bz_protocol::frame::Fin;
use bz_protocol::refusal::Code;
use bz_protocol::session::End;
use bz_protocol::transcript::explain;
use bz_server::seam::links::Links as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::certified;
use crate::session::{ended, expect, type_in, unrefreshed, until};
use crate::tunnels;

const PERSON: &str = "alice";
const SIZE: Size = Size { rows: 24, columns: 80 };

/// F-046~: a session goes on past the end of the token it began with, because the client refreshes its login by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_session_outlives_its_first_token() {
    let Some(place) = Place::certified().await else { return };
    let client = &place.world.client;
    let mut session = place.shell(client).await;
    let first = session.opened.expires_at;
    place.advance(first.since(place.clock.now().wall) * 9 / 10).await;
    // What the agent has heard of it is in the record.
    let presented = async || place.said(session.connection()).contains("presents a newer token");
    until(presented, |said| *said).await;
    type_in(&session, "echo in-$((40+2))\r").await;
    expect(&mut session, "in-42\r\n").await;
    place.advance(first.since(place.clock.now().wall) + Duration::from_secs(300)).await;
    type_in(&session, "echo after-$((40+3))\r").await;
    expect(&mut session, "after-43\r\n").await;
    assert!(client.me().await.is_ok(), "the server knows the login, too");
}

/// F-046~: when the provider signs with a new key, new logins are good at server and target, with the old key published
/// or withdrawn; a login from before the withdrawal is good again once it is refreshed.
#[tokio::test(flavor = "multi_thread")]
async fn logins_go_on_when_the_provider_changes_its_keys() {
    let Some(place) = Place::certified().await else { return };
    place.works(&place.world.client).await;
    for old in [OldKey::Published, OldKey::Withdrawn] {
        let Idp::Certified(idp) = &place.world.idp else { panic!("another provider") };
        idp.rotate_keys(old).await.unwrap();
        // Anybody can send an unknown key's name, so it is asked for anew only so often.
        let hasty = place.world.log_in(PERSON).await.map(drop).unwrap_err().to_string();
        assert!(hasty.contains("the server refuses the login"), "{hasty}");
        place.advance(Duration::from_secs(31)).await;
        let again = place.world.log_in(PERSON).await.unwrap();
        place.works(&again).await;
    }
    place.world.client.refresh().await.unwrap();
    place.works(&place.world.client).await;
}

/// F-007, F-172~: without a refresh token the session ends with its login, and says so; what is typed from then on reaches
/// nothing; the shell runs on, detached, for a new login.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_login_ends_the_session_and_not_the_shell() {
    let Some(place) = Place::certified().await else { return };
    let client = place.unrefreshed();
    let mut session = place.shell(&client).await;
    let left = session.opened.expires_at.since(place.clock.now().wall);
    // Links die of the long silence and are dialed again; the short step after it is no silence.
    place.advance(left - Duration::from_secs(10)).await;
    while !matches!(session.next().await.expect("the session goes on until its login ends"), Event::Resumed) {}
    type_in(&session, "echo still-$((40+2))\r").await;
    expect(&mut session, "still-42\r\n").await;
    place.advance(Duration::from_secs(20)).await;
    let proof = place.folder.path().join("typed-too-late");
    // The session may have ended already; then nothing is sent at all.
    let late = Action::Bytes { stream: 0, bytes: format!("touch {}\r", proof.display()).into_bytes() };
    session.actions().act(late).await.unwrap_or_default();
    let (_, end) = ended(&mut session).await;
    assert!(end.to_string().contains("the login has expired; log in again with `bz login`"), "{end}");
    let refused = client.me().await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("log in again"), "{refused}");

    let again = place.world.log_in(PERSON).await.unwrap();
    let connection = place.left_behind(&again, session.connection()).await;
    let mut back = place.attach(&again, &connection).await;
    expect(&mut back, "still-42").await;
    type_in(&back, "echo back-$((40+3))\r").await;
    expect(&mut back, "back-43\r\n").await;
    assert!(!proof.exists(), "what was typed after the login's end reached the shell");
}

/// F-017: without a refresh token a tunnel ends with its login, at the agent itself, also when only output flows.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_login_ends_a_tunnel() {
    let place = Place::own().await;
    let client = place.unrefreshed();
    tunnels::allow(&place.world.client).await;
    let flood = tunnels::flood().await;
    let tunnel = client.tunnel(&TARGET.parse().unwrap(), vec![tunnels::rule(flood)]).await.unwrap();
    let mut stream = tunnel.dial(&flood.to_string().parse().unwrap()).await.unwrap();
    let mut some = [0; 1000];
    stream.read_exact(&mut some).await.unwrap();
    let reading = tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
    let left = tunnel.expires_at().since(place.clock.now().wall);
    // Links die of the long silence and are dialed again; the short step after it is no silence.
    place.advance(left - Duration::from_secs(10)).await;
    tunnel.dial(&flood.to_string().parse().unwrap()).await.unwrap();
    place.advance(Duration::from_secs(20)).await;
    assert_eq!(tunnel.ended().await, End::Refused(Code::Expired));
    assert!(reading.await.unwrap().is_err(), "what flowed was cut, not ended");
}

/// F-008: a job of three hours finishes while its client is gone and the login it began with has run out; coming back
/// takes a fresh login.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_three_hours_needs_neither_client_nor_login() {
    let place = Place::own().await;
    let client = place.unrefreshed();
    let mut session = place.shell(&client).await;
    let (hours, done) = (place.folder.path().join("hours"), place.folder.path().join("done"));
    let job = format!(
        "mkfifo {0}; echo waiting-$((40+2)); read x < {0}; echo job-$x | tee {1}\r",
        hours.display(),
        done.display()
    );
    type_in(&session, &job).await;
    expect(&mut session, "waiting-42\r\n").await;
    let id = session.connection();
    drop((session, client));
    let connection = place.left_behind(&place.world.client, id).await;

    place.advance(Duration::from_secs(3 * 3600)).await;
    tokio::fs::write(&hours, "finished\n").await.unwrap();
    let look = async || std::fs::read_to_string(&done).unwrap_or_default();
    until(look, |text| text == "job-finished\n").await;
    let old = place.unrefreshed();
    let refused = old.attach_grant(&connection, SIZE).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("log in again"), "{refused}");

    let again = place.world.log_in(&place.user).await.unwrap();
    let mut back = place.attach(&again, &connection).await;
    expect(&mut back, "job-finished").await;
}

/// F-001~, F-033~, F-035~: a target is offline when it has had no link for the window since it lost its last one; that it lost
/// one before, and came back, does not shorten the window.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_came_back_has_a_whole_window_again() {
    let place = Place::own().await;
    let session = place.shell(&place.world.client).await;
    // Silence ends every link, and with the first the first window begins: 120 seconds.
    place.advance(Duration::from_secs(60)).await;
    place.works(&place.world.client).await;
    place.advance(Duration::from_secs(45)).await;
    let Place { world, clock, .. } = place;
    let World { server, client, agent, idp, relay, .. } = world;
    agent.stop().await;
    until(async || relay.online(session.asked.made.target_id), Option::is_none).await;
    let stopped = clock.now().wall;
    for step in [80, 45] {
        clock.advance(Duration::from_secs(step));
        // Whoever waited for that moment has his turn.
        for _ in 0..10 {
            client.me().await.unwrap();
        }
    }
    let id = session.connection();
    let closed = async || {
        let log = client.connection_events(1000).await.unwrap();
        log.into_iter().find(|e| e.connection_id == id && e.connection_event_type == ConnectionEventType::Closed)
    };
    let closed = until(closed, Option::is_some).await.unwrap();
    let whole = stopped.after(Duration::from_secs(120)).to_string();
    assert!(closed.timestamp >= whole && closed.reason.contains("the target is offline"), "before {whole}: {closed:?}");
    drop((server, idp));
}

struct Place {
    world: World,
    clock: Arc<MovableClock>,
    user: String,
    folder: tempfile::TempDir,
}

/// F-024: connections to a database end with the login that they began with, at the agent itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_login_ends_database_connections() {
    let place = Place::own().await;
    let client = place.unrefreshed();
    let flood = tunnels::flood().await;
    place.database("orders", flood).await;
    let database = client.database(&"orders".parse().unwrap()).await.unwrap();
    let mut stream = database.dial().await.unwrap();
    stream.write_all(b"\0\0\0\x13\0\x03\0\0user\0bob\0\0\0").await.unwrap();
    stream.read_exact(&mut [0; 1000]).await.unwrap();
    let reading = tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
    let left = database.tunnel().expires_at().since(place.clock.now().wall);
    place.advance(left - Duration::from_secs(10)).await;
    database.dial().await.unwrap();
    place.advance(Duration::from_secs(20)).await;
    assert_eq!(database.tunnel().ended().await, End::Refused(Code::Expired));
    assert!(reading.await.unwrap().is_err(), "what flowed was cut, not ended");
}

impl Place {
    /// A target for what seems to be a database there, which everybody may use.
    async fn database(&self, name: &str, there: SocketAddr) {
        let client = &self.world.client;
        let behind = client.targets().await.unwrap().into_iter().find(|target| target.name == TARGET).unwrap();
        let kind = Some("Postgres".to_owned());
        let new = NewVirtualTarget {
            target_name: name.to_owned(),
            proxy_target_id: Some(behind.id),
            remote_host: Some(there.ip().to_string()),
            remote_port: Some(Port { value: Some(there.port()) }),
            database_authentication_config: Some(DatabaseAuthentication { database: kind, ..Default::default() }),
            ..NewVirtualTarget::default()
        };
        let made = client.create_virtual_target(TargetKind::Db, &new).await.unwrap();
        let policy = ProxyContent {
            name: name.to_owned(),
            subjects: vec![Subject { id: client.me().await.unwrap().id, kind: SubjectType::User }],
            targets: vec![PolicyTarget { id: made.target_id, kind: "Db".to_owned() }],
            ..ProxyContent::default()
        };
        client.create_proxy_policy(&policy).await.unwrap();
    }

    /// Nothing where the certified identity provider is not installed.
    async fn certified() -> Option<Self> {
        let idp = Idp::Certified(Box::new(certified::started().await?));
        Some(Self::start(idp, PERSON, Arc::new(MovableClock::new())).await)
    }

    async fn own() -> Self {
        let (clock, user) = (Arc::new(MovableClock::new()), User::current().unwrap().name);
        let idp = Idp::Dev(provider(&user, clock.for_idp()).await.unwrap());
        Self::start(idp, &user, clock).await
    }

    async fn start(idp: Idp, person: &str, clock: Arc<MovableClock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = User::current().unwrap().name;
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        let parts =
            Parts { helper, person: person.to_owned(), user: user.clone(), idp, clock: clock.clone(), way: Way::Ws };
        Self { world: World::of(folder.path(), parts, |_| ()).await.unwrap(), clock, user, folder }
    }

    async fn advance(&self, by: Duration) {
        if let Idp::Certified(idp) = &self.world.idp {
            idp.advance(by).await.unwrap();
        }
        self.clock.advance(by);
    }

    fn unrefreshed(&self) -> Client {
        unrefreshed(&self.world)
    }

    async fn open(&self, client: &Client, parameters: Parameters) -> Session {
        let target = format!("{}@{TARGET}", self.user).parse().unwrap();
        let look = async || match client.ask(&target, parameters.clone(), None).await {
            // A link that died of a long silence is dialed again.
            Err(error) if error.to_string().contains("offline") => Err(error.to_string()),
            asked => Ok(asked.unwrap()),
        };
        let asked = until(look, Result::is_ok).await.unwrap();
        client.session(asked).await.unwrap()
    }

    async fn shell(&self, client: &Client) -> Session {
        let mut session = self.open(client, Parameters::Shell { term: "xterm".to_owned(), size: SIZE }).await;
        expect(&mut session, "\x1b]133;B").await;
        session
    }

    /// A command goes through.
    async fn works(&self, client: &Client) {
        let mut session = self.open(client, Parameters::Exec { command: "true".to_owned() }).await;
        assert_eq!(ended(&mut session).await.1, End::Completed(Fin::Exited(0)));
    }

    /// The connection, once the server knows that its client is gone and its shell is not.
    async fn left_behind(&self, client: &Client, id: ConnectionId) -> Connection {
        let look = async || client.connections().await.unwrap().into_iter().find(|c| c.id == id);
        let holds = |found: &Option<Connection>| found.as_ref().is_some_and(|c| !c.attached && c.shell_id.is_some());
        until(look, holds).await.unwrap()
    }

    async fn attach(&self, client: &Client, connection: &Connection) -> Session {
        let look = async || match client.attach_grant(connection, SIZE).await {
            Err(error) if error.to_string().contains("offline") => Err(error.to_string()),
            asked => Ok(asked.unwrap()),
        };
        let asked = until(look, Result::is_ok).await.unwrap();
        client.session(asked).await.unwrap()
    }

    /// What the record of a connection's first session says, as far as it goes.
    fn said(&self, connection: ConnectionId) -> String {
        let file = self.world.folder.join("server/transcripts").join(connection.to_string()).join("1.bzt");
        let lines = std::fs::read(file).ok().and_then(|bytes| explain(&bytes).ok()).unwrap_or_default();
        lines.into_iter().map(|line| line.what + "\n").collect()
    }
}
