//! Tunnels through real parts: a local port, a session's streams, and real servers behind the agent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::client::{AskError, Client};
use bz_client::session::SessionError;
use bz_client::tunnel::{Tunnel, Watcher};
use bz_core::access::Verb;
use bz_core::access::destination::Destination;
use bz_core::api::error::Code;
use bz_core::api::policy::{PolicyTarget, Subject, SubjectType, TargetConnectContent};
use bz_core::api::record::{ConnectionEvent, ConnectionEventType};
use bz_core::local::LocalPolicy;
use bz_examples::needs;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::driver::OpenError;
use bz_protocol::frame::Fin;
use bz_protocol::gate::LocalRule;
use bz_protocol::refusal;
use bz_protocol::session::End;
use bz_protocol::stream::Why;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::session::{files_with, until};

/// What passes a tunnel and must be in no file of the server.
const SECRET: &str = "through-the-tunnel-4711";
const BULK: usize = 64 << 20;

/// F-003~, F-004~, F-012, F-013, F-014, F-018, F-019: a tunnel leads nowhere until a policy names the verb; then any
/// protocol goes through it, to the byte, and the server knows where to and nothing of what.
#[tokio::test(flavor = "multi_thread")]
async fn any_protocol_goes_through_a_tunnel_and_the_server_reads_none_of_it() {
    for way in [Way::Ws, Way::Quic] {
        let room = Room::new(way).await;
        let echo = echo().await;
        let denied = room.world.client.tunnel(&TARGET.parse().unwrap(), vec![rule(echo)]).await.unwrap_err();
        let SessionError::Ask(AskError::Rest(rest)) = &denied else { panic!("{denied}") };
        assert_eq!(rest.code(), Some(Code::Denied), "shells alone are allowed: {denied}");

        room.allow().await;
        let tunnel = room.tunnel(&[echo]).await;
        let (port, _serving) = forward(&tunnel, echo).await;
        // Two at once, and the first is usable at once: no waiting for a tunnel to warm up.
        let (one, two) = tokio::join!(talk(port, SECRET), talk(port, "and another"));
        assert_eq!((one.as_str(), two.as_str()), (SECRET, "and another"));
        let (port, _serving) = forward(&tunnel, echo).await;
        bulk(port).await;

        let connection = tunnel.connection();
        assert_eq!(tunnel.close().await, End::Completed(Fin::Closed));
        let log = room.log(&connection.to_string(), ConnectionEventType::Closed).await;
        let streams: Vec<_> =
            log.iter().filter(|e| e.connection_event_type == ConnectionEventType::StreamOpen).collect();
        assert_eq!(streams.len(), 3, "{log:#?}");
        assert!(streams.iter().all(|e| e.reason == format!("to {echo}, at {echo}")), "{log:#?}");
        let commands = room.world.client.command_events(100).await.unwrap();
        assert!(commands.iter().all(|event| event.connection_id != connection), "{commands:#?}");
        let recorded = crate::api::call(&room.world, "GET", "session-recordings", None).await;
        assert!(!String::from_utf8(recorded).unwrap().contains(&connection.to_string()));
        let at_rest = files_with(&room.world.folder.join("server"), SECRET);
        assert!(at_rest.is_empty(), "{at_rest:?}");
        let transcripts = room.world.transcripts(connection).await.unwrap();
        let told = bz_protocol::transcript::explain(&std::fs::read(&transcripts[0].0).unwrap()).unwrap();
        let reported = format!("reports of stream 16 to \"{echo}\" that it leads to \"{echo}\"");
        assert!(told.iter().any(|line| line.what == reported), "{told:#?}");
        room.world.stop().await;
    }
}

/// PR-STREAM-2: what cannot be reached is said as it is, what is not allowed is not tried, and all of it is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_said_and_logged() {
    let room = Room::new(Way::Ws).await;
    room.allow().await;
    let echo = echo().await;
    // Nobody listens where somebody just did.
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let tunnel = room.world.client.tunnel(&TARGET.parse().unwrap(), vec!["*:*".parse().unwrap()]).await.unwrap();
    let refused = async |to: &str| tunnel.dial(&to.parse().unwrap()).await.map(drop);
    assert_eq!(refused(&echo.to_string()).await, Ok(()));
    assert_eq!(refused(&closed.to_string()).await, Err(OpenError::Refused(Why::ConnectionRefused)));
    assert_eq!(refused("nowhere.invalid:80").await, Err(OpenError::Refused(Why::NotFound)));
    assert_eq!(refused("169.254.169.254:80").await, Err(OpenError::Refused(Why::NotAllowed)), "metadata is guarded");
    let hole = BlackHole::dig().await;
    let (nothing, something) = (hole.at.to_string(), echo.to_string());
    let (lost, found) = tokio::join!(refused(&nothing), refused(&something));
    assert_eq!((lost, found), (Err(OpenError::Refused(Why::TimedOut)), Ok(())), "what answers nothing holds up nobody");

    let narrow = room.tunnel(&[echo]).await;
    let aside = narrow.dial(&closed.to_string().parse().unwrap()).await.map(drop);
    assert_eq!(aside, Err(OpenError::Refused(Why::NotAllowed)), "the grant names another destination");

    // The owner of the host narrows it while the tunnel stands.
    let policy = format!(
        "version = 1\n[[allow]]\nissuer = \"{}\"\neveryone = true\nverbs = [{{ type = \"Tunnel\" }}]\n\
         destinations = [\"{closed}\"]\n",
        room.world.bundle.providers[0].issuer
    );
    room.world.agent.set_local(LocalRule::Policy(LocalPolicy::parse(&policy).unwrap()));
    assert_eq!(refused(&echo.to_string()).await, Err(OpenError::Refused(Why::NotAllowed)));
    assert_eq!(refused(&closed.to_string()).await, Err(OpenError::Refused(Why::ConnectionRefused)));
    let log = room.log(&tunnel.connection().to_string(), ConnectionEventType::StreamRefused).await;
    let reasons: Vec<_> = log
        .iter()
        .filter(|event| event.connection_event_type == ConnectionEventType::StreamRefused)
        .map(|event| event.reason.clone())
        .collect();
    let no = "it is not allowed there: the grant or the target's local policy says no";
    for want in [
        format!("to {closed}: the connection was refused there"),
        "to nowhere.invalid:80: the target does not find that name".to_owned(),
        format!("to {}: nobody answered there in time", hole.at),
        format!("to 169.254.169.254:80: {no}"),
        format!("to {echo}: {no}"),
    ] {
        assert!(reasons.contains(&want), "{want:?} is not in {reasons:#?}");
    }
    room.world.stop().await;
}

/// A connection that is cut on one side is cut on the other: nobody takes it for a whole one. A side that has said all
/// still hears the other.
#[tokio::test(flavor = "multi_thread")]
async fn ends_and_cuts_pass_through() {
    let room = Room::new(Way::Ws).await;
    room.allow().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let tunnel = room.tunnel(&[there]).await;
    let (port, _serving) = forward(&tunnel, there).await;

    // A server that speaks first, and a client that ends its half first.
    let mut here = TcpStream::connect(port).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    far.write_all(b"220 hello").await.unwrap();
    assert_eq!(read(&mut here, 9).await, b"220 hello");
    here.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "the end comes through");
    far.write_all(b"and still").await.unwrap();
    far.shutdown().await.unwrap();
    let mut rest = Vec::new();
    here.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"and still");

    let mut here = TcpStream::connect(port).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    far.write_all(b"half a sent").await.unwrap();
    assert_eq!(read(&mut here, 11).await, b"half a sent");
    far.set_zero_linger().unwrap();
    drop(far);
    let cut = here.read(&mut [0]).await.unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset, "cut there");

    let here = TcpStream::connect(port).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    here.set_zero_linger().unwrap();
    drop(here);
    let cut = far.read(&mut [0]).await.unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset, "cut here");
    room.world.stop().await;
}

/// PR-STREAM-5: ten connections whose programs read nothing hold up no other, and both ends keep little of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_never_reads_holds_up_no_other() {
    let room = Room::new(Way::Ws).await;
    room.allow().await;
    let flood = flood().await;
    let echo = echo().await;
    let tunnel = room.tunnel(&[flood, echo]).await;
    let (port, _flooding) = forward(&tunnel, flood).await;
    let mut stuck = Vec::new();
    for _ in 0..10 {
        stuck.push(TcpStream::connect(port).await.unwrap());
    }
    for stream in &mut stuck {
        // Under way, and then left alone.
        read(stream, 1000).await;
    }
    let (port, _serving) = forward(&tunnel, echo).await;
    bulk(port).await;
    room.world.stop().await;
}

/// F-016, F-169: a logout ends a tunnel and every connection in it, and the log and the client say why.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_a_tunnel() {
    let room = Room::new(Way::Ws).await;
    room.allow().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let person = User::current().unwrap().name;
    let client = room.world.log_in(&person).await.unwrap();
    let tunnel = client.tunnel(&TARGET.parse().unwrap(), vec![rule(there)]).await.unwrap();
    let (port, serving) = forward(&tunnel, there).await;
    let mut stream = TcpStream::connect(port).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    far.write_all(b"half a sent").await.unwrap();
    assert_eq!(read(&mut stream, 11).await, b"half a sent");
    client.logout().await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), tunnel.ended()).await.expect("the tunnel ends");
    assert!(
        matches!(end, End::Completed(Fin::Closed) | End::Refused(refusal::Code::Revoked) | End::Truncated),
        "{end:?}"
    );
    // Nobody takes what came for all there was.
    for (who, stream) in [("here", &mut stream), ("there", &mut far)] {
        let cut = stream.read(&mut [0]).await.expect_err(who);
        assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset, "{who}");
    }
    drop(serving);
    let log = room.log(&tunnel.connection().to_string(), ConnectionEventType::Closed).await;
    let closed = log.iter().find(|e| e.connection_event_type == ConnectionEventType::Closed).unwrap();
    assert!(closed.reason.contains("logged out"), "{closed:#?}");
    room.world.stop().await;
}

/// A policy that is deleted ends the tunnels that it allowed, with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_gone_ends_its_tunnels() {
    let room = Room::new(Way::Ws).await;
    room.allow().await;
    let echo = echo().await;
    let tunnel = room.tunnel(&[echo]).await;
    tunnel.dial(&echo.to_string().parse().unwrap()).await.unwrap();
    let policies = room.world.client.policies().await.unwrap();
    let policy = policies.iter().find(|policy| policy.content.name == "tunnels").unwrap();
    crate::api::call(&room.world, "DELETE", &format!("policies/target-connect/{}", policy.id), None).await;
    let end = tokio::time::timeout(Duration::from_secs(20), tunnel.ended()).await.expect("the tunnel ends");
    assert_eq!(end, End::Completed(Fin::Closed));
    let reason = tunnel.reason().unwrap_or_default();
    assert!(reason.contains("no policy allows it any more"), "{reason}");
    room.world.stop().await;
}

/// F-018~, F-232~: a program of one's own, through SOCKS, to a name that the target looks up, with TLS of its own.
#[tokio::test(flavor = "multi_thread")]
async fn curl_goes_through_socks() {
    if !needs::program("curl") {
        return;
    }
    let room = Room::new(Way::Ws).await;
    room.allow().await;
    let web = web().await;
    let tunnel = room.world.client.tunnel(&TARGET.parse().unwrap(), vec!["*:*".parse().unwrap()]).await.unwrap();
    let (watcher, complaints) = watcher();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(tunnel.socks(listener, watcher));
    let curl = async |url: &str, more: &[&str]| {
        let mut command = tokio::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", ""]).args(more);
        command.args(["--proxy", &format!("socks5h://{port}"), url]);
        command.output().await.unwrap()
    };
    let got = curl(&format!("http://localhost:{}/", web.port()), &[]).await;
    assert_eq!(String::from_utf8_lossy(&got.stdout), "hello from behind", "{got:?}");
    // The world's own server: TLS from this program to there.
    let url = format!("https://{}/api/v2/trust-bundle", room.world.server.local_addr());
    let secure = curl(&url, &["--cacert", &room.world.folder.join("server/ca.crt").display().to_string()]).await;
    assert!(secure.status.success() && secure.stdout.starts_with(b"{\"bundle\":\"# Trust bundle."), "{secure:?}");
    let stranger = curl(&url, &[]).await;
    assert_eq!(
        stranger.status.code(),
        Some(60),
        "curl's own code for an authority that it does not know: {stranger:?}"
    );
    let gone = curl("http://nowhere.invalid/", &[]).await;
    assert_eq!(gone.status.code(), Some(97), "curl's own code for what its proxy cannot reach: {gone:?}");
    let said = complaints.lock().unwrap().clone();
    assert_eq!(said, ["nowhere.invalid:80: the target does not find that name"]);
    room.world.stop().await;
}

struct Room {
    world: World,
    _folder: tempfile::TempDir,
}

impl Room {
    async fn new(way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = User::current().unwrap().name;
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        Self { world: World::start(folder.path(), helper, &user, way).await.unwrap(), _folder: folder }
    }

    async fn allow(&self) {
        allow(&self.world.client).await;
    }

    async fn tunnel(&self, to: &[SocketAddr]) -> Tunnel {
        let rules = to.iter().map(|to| rule(*to)).collect();
        self.world.client.tunnel(&TARGET.parse().unwrap(), rules).await.unwrap()
    }

    /// The log of one connection, oldest first, once it holds `last`.
    async fn log(&self, connection: &str, last: ConnectionEventType) -> Vec<ConnectionEvent> {
        let look = async || {
            let mut events = self.world.client.connection_events(1000).await.unwrap();
            events.retain(|event| event.connection_id.to_string() == connection);
            events.reverse();
            events
        };
        until(look, |events: &Vec<ConnectionEvent>| events.iter().any(|e| e.connection_event_type == last)).await
    }
}

/// A policy with the verb alone: a tunnel has no user on the target.
pub(crate) async fn allow(client: &Client) {
    let target = client.targets().await.unwrap().into_iter().find(|target| target.name == TARGET).unwrap();
    let policy = TargetConnectContent {
        name: "tunnels".to_owned(),
        subjects: vec![Subject { id: client.me().await.unwrap().id, kind: SubjectType::User }],
        targets: vec![PolicyTarget { id: target.id, kind: "Bzero".to_owned() }],
        verbs: vec![Verb::Tunnel],
        ..TargetConnectContent::default()
    };
    client.create_policy(&policy).await.unwrap();
}

pub(crate) fn rule(to: SocketAddr) -> bz_core::access::destination::DestinationRule {
    to.to_string().parse().unwrap()
}

fn watcher() -> (Watcher, Arc<Mutex<Vec<String>>>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&said);
    (Arc::new(move |error| hears.lock().unwrap().push(error.to_string())), said)
}

/// A port of this machine that leads there, for as long as the second is held.
async fn forward(tunnel: &Tunnel, to: SocketAddr) -> (SocketAddr, Forwarding) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap();
    let destination: Destination = to.to_string().parse().unwrap();
    let mut task = JoinSet::new();
    task.spawn(tunnel.forward(listener, destination, watcher().0));
    (port, task)
}

type Forwarding = JoinSet<()>;

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut bytes)).await.expect("bytes come").unwrap();
    bytes
}

async fn talk(port: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(port).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    heard
}

/// 64 MiB there and back at the same time, the same bytes.
async fn bulk(port: SocketAddr) {
    let (mut reader, mut writer) = TcpStream::connect(port).await.unwrap().into_split();
    let write = async move {
        let mut hash = Sha256::new();
        let mut sent = 0_usize;
        while sent < BULK {
            let chunk: Vec<u8> =
                (sent..sent + 65536).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect();
            hash.update(&chunk);
            writer.write_all(&chunk).await.unwrap();
            sent += chunk.len();
        }
        writer.shutdown().await.unwrap();
        hash.finalize()
    };
    let read = async move {
        let (mut hash, mut got, mut buffer) = (Sha256::new(), 0, vec![0; 65536]);
        while let n @ 1.. = reader.read(&mut buffer).await.unwrap() {
            hash.update(&buffer[..n]);
            got += n;
        }
        (hash.finalize(), got)
    };
    let (sent, (received, length)) = tokio::join!(write, read);
    assert_eq!((length, received), (BULK, sent));
}

async fn serve<F, R>(each: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
    address
}

/// An address that answers nothing at all: one waits to be let in there, which is all that the queue holds.
struct BlackHole {
    at: SocketAddr,
    _listener: TcpListener,
    _queue: JoinSet<()>,
}

impl BlackHole {
    async fn dig() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let at = listener.local_addr().unwrap();
        let _let_in = TcpStream::connect(at).await.unwrap();
        let mut queue = JoinSet::new();
        for _ in 0..4 {
            queue.spawn(async move {
                let _held = TcpStream::connect(at).await;
                std::future::pending::<()>().await;
            });
        }
        Self { at, _listener: listener, _queue: queue }
    }
}

/// Says everything back, and ends when the other does.
async fn echo() -> SocketAddr {
    serve(|stream| async move {
        let (mut reader, mut writer) = stream.into_split();
        // A connection that is cut is cut.
        tokio::io::copy(&mut reader, &mut writer).await.map(drop).unwrap_or_default();
    })
    .await
}

/// Never stops talking.
pub(crate) async fn flood() -> SocketAddr {
    serve(|mut stream| async move { while stream.write_all(&[7; 65536]).await.is_ok() {} }).await
}

/// Answers any request with the same page.
async fn web() -> SocketAddr {
    serve(|mut stream| async move {
        let mut request = [0; 4096];
        if stream.read(&mut request).await.is_ok() {
            let page = "HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\nhello from behind";
            stream.write_all(page.as_bytes()).await.unwrap_or_default();
        }
    })
    .await
}
