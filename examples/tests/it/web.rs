//! Web servers behind a target: a real nginx, curl and Chromium, and servers of ours that misbehave.

pub(crate) mod nginx;
mod odd;

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::client::{Client, EventFilter};
use bz_client::web::{Watcher, Web};
use bz_core::api::policy::{PolicyTarget, ProxyContent, Subject, SubjectType};
use bz_core::api::record::{WebEvent, WebOutcome};
use bz_core::api::target::TargetKind;
use bz_core::api::virtual_target::{NewVirtualTarget, Port};
use bz_core::id::PolicyId;
use bz_core::local::LocalPolicy;
use bz_examples::needs;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::gate::LocalRule;
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::session::until;
use nginx::Nginx;
use odd::Odd;

/// F-217, F-020~, F-022~, F-100~, F-178~, F-232~: pages, files and redirects of a real server, with and without TLS, over both carriers.
#[tokio::test(flavor = "multi_thread")]
async fn curl_meets_nginx_as_if_it_were_here() {
    if !needs::program("curl") {
        return;
    }
    for way in [Way::Ws, Way::Quic] {
        let room = Room::new(way).await;
        let Some(nginx) = room.nginx().await else { return };
        for (name, upstream, seen) in [
            ("plain", format!("http://{}", nginx.plain), "http HTTP/1.1"),
            ("secure", format!("https://{}", nginx.tls), "https HTTP/2.0"),
        ] {
            room.target(name, &upstream).await;
            let host = upstream.split("//").nth(1).unwrap();
            let port = room.open(name).await;
            let at = port.url();
            let get = async |more: &[&str]| text(&curl(more).await.stdout);
            let page = get(&[&format!("{at}/a?b=c"), "-H", "X-Forwarded-For: 1.2.3.4"]).await;
            assert_eq!(page, format!("GET {seen} {host} /a?b=c origin= referer= for= cookie=\n"));
            let origin = format!("Origin: {at}");
            let page = get(&[&format!("{at}/"), "-H", &origin, "-e", &format!("{at}/from")]).await;
            assert_eq!(page, format!("GET {seen} {host} / origin={upstream} referer={upstream}/from for= cookie=\n"));
            let moved = get(&["-L", &format!("{at}/moved")]).await;
            assert!(moved.contains(" /there "), "a redirect leads back here: {moved}");
            let elsewhere = get(&["-si", &format!("{at}/elsewhere")]).await;
            assert!(elsewhere.contains("location: https://idp.example/login\r\n"), "{elsewhere}");
            let jar = room.folder.path().join(format!("{name}.jar")).display().to_string();
            get(&["-c", &jar, &format!("{at}/cookies")]).await;
            let cookies = get(&["-b", &jar, &format!("{at}/cookies")]).await;
            assert!(cookies.contains("__Host-sid=one") && cookies.contains("wide=two"), "{cookies}");
            let head = get(&["-sI", &format!("{at}/hsts")]).await;
            assert!(head.starts_with("HTTP/1.1 204 ") && !head.to_lowercase().contains("strict"), "{head}");
            room.files(&nginx, &at).await;
        }
        room.world.stop().await;
    }
}

impl Room {
    /// Up and down, whole and in parts, and only what has changed.
    async fn files(&self, nginx: &Nginx, at: &str) {
        let content: Vec<u8> = (0..BULK).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect();
        let (here, back) = (self.folder.path().join("here"), self.folder.path().join("back"));
        std::fs::write(&here, &content).unwrap();
        let (here, back) = (here.display().to_string(), back.display().to_string());
        let url = format!("{at}/files/big");
        curl(&["-f", "-T", &here, &url]).await;
        assert!(std::fs::read(nginx.files.join("big")).unwrap() == content, "what was uploaded is another");
        let down = curl(&["-f", "-o", &back, "-w", "%{header_json}", &url]).await;
        assert!(std::fs::read(&back).unwrap() == content, "what was downloaded is another");
        let headers: serde_json::Value = serde_json::from_slice(&down.stdout).unwrap();
        let (length, tag) = (headers["content-length"][0].as_str(), headers["etag"][0].as_str().unwrap());
        assert_eq!(length, Some(BULK.to_string().as_str()));
        let same = curl(&[
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{size_download}",
            "-H",
            &format!("If-None-Match: {tag}"),
            &url,
        ])
        .await;
        assert_eq!(text(&same.stdout), "304 0");
        let part = curl(&["-r", "1000-1009", &url]).await;
        assert_eq!(part.stdout, content[1000..1010]);
        let head = text(&curl(&["-sI", &url]).await.stdout);
        assert!(head.contains(&format!("content-length: {BULK}\r\n")), "{head}");
        curl(&["-f", "-X", "DELETE", &url]).await;
        let gone = curl(&["-o", "/dev/null", "-w", "%{http_code}", &url]).await;
        assert_eq!(text(&gone.stdout), "404");
    }
}

/// Bytes that go up and down.
const BULK: usize = 16 << 20;

/// The log has each request with what became of it, and no value of a query.
#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_in_the_log() {
    if !needs::program("curl") {
        return;
    }
    let room = Room::new(Way::Ws).await;
    let Some(nginx) = room.nginx().await else { return };
    room.target("wiki", &format!("http://{}", nginx.plain)).await;
    let port = room.open("wiki").await;
    curl(&[&format!("{}/page?token=secret&n=1", port.url())]).await;
    curl(&["-I", &format!("{}/files/absent", port.url())]).await;
    curl(&["-X", "PUT", "-d", "hello", &format!("{}/files/hello", port.url())]).await;
    let log = room.log(3).await;
    let rows: Vec<_> = log.iter().map(|row| (row.method.as_str(), row.path.as_str(), row.status)).collect();
    let want = [
        ("GET", "/page?token=…&n=…", Some(200)),
        ("HEAD", "/files/absent", Some(404)),
        ("PUT", "/files/hello", Some(201)),
    ];
    assert_eq!(rows, want);
    assert_eq!((log[2].request_bytes, log[2].response_bytes, log[2].outcome), (5, 0, WebOutcome::Answered));
    assert!(log.iter().all(|row| row.confirmed && row.place.target_name == "wiki"), "{log:?}");
    let connection = port.web.tunnel().connection();
    port.web.into_tunnel().close().await;
    let verified = async || room.world.transcripts(connection).await.unwrap();
    let (path, verdict) = until(verified, |all: &Vec<_>| !all.is_empty() && all[0].1.is_ok()).await.remove(0);
    assert!(verdict.is_ok(), "{}: {verdict:?}", path.display());
    room.world.stop().await;
}

/// F-217~: what is no plain answer: another protocol on the connection, an answer that never ends, one that breaks off.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plain_answer_passes_as_it_is() {
    for way in [Way::Ws, Way::Quic] {
        let room = Room::new(way).await;
        let odd = Odd::start().await;
        let policy = room.target("odd", &format!("http://{}", odd.at)).await;
        let port = room.open("odd").await;
        let mut socket = port.socket().await;
        let origin = socket.next().await.unwrap().unwrap();
        assert_eq!(origin.to_text().unwrap(), format!("http://{}", odd.at), "the server's own pages are its origin");
        for size in [0, 5, 1 << 20] {
            let said = Message::binary(vec![7; size]);
            socket.send(said.clone()).await.unwrap();
            assert_eq!(within(socket.next()).await.unwrap().unwrap(), said);
        }

        let mut events = reqwest(&port.url(), "/events").await;
        let first = within(events.chunk()).await.unwrap().unwrap();
        assert_eq!(first, "data: first\n\n", "an event comes when it happens");
        let mut broken = reqwest(&port.url(), "/broken").await;
        assert_eq!(within(broken.chunk()).await.unwrap().unwrap(), "half");
        odd.breaks.notify_one();
        let end = within(broken.chunk()).await;
        assert!(end.is_err(), "half an answer ended as a whole one: {end:?}");

        crate::api::call(&room.world, "DELETE", &format!("policies/proxy/{policy}"), None).await;
        let over = within(socket.next()).await;
        assert!(!matches!(over, Some(Ok(_))), "the policy is gone, and the connection is not: {over:?}");
        within(port.web.tunnel().ended()).await;
        let reason = port.web.tunnel().reason().unwrap_or_default();
        assert!(reason.contains("no policy allows it any more"), "{reason}");
        let log = room.log(3).await;
        let find = |path: &str| log.iter().find(|row| row.path == path).unwrap_or_else(|| panic!("{path}: {log:?}"));
        assert_eq!((find("/ws").status, find("/ws").outcome), (Some(101), WebOutcome::Upgraded));
        assert!(find("/ws").request_bytes > 1 << 20 && find("/ws").response_bytes > 1 << 20, "{:?}", find("/ws"));
        for path in ["/broken", "/events"] {
            assert_eq!((find(path).status, find(path).outcome), (Some(200), WebOutcome::Incomplete), "{path}");
        }
        room.world.stop().await;
    }
}

/// F-217~, F-232~: a browser keeps the cookies, opens `WebSocket`s and event streams, and counts as the server's own page.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_works_as_at_the_server_itself() {
    if !needs::program("chromium") {
        return;
    }
    let room = Room::new(Way::Ws).await;
    let mut odd = Odd::start().await;
    room.target("odd", &format!("http://{}", odd.at)).await;
    let port = room.open("odd").await;
    let mut browser = tokio::process::Command::new("chromium");
    browser.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]);
    browser.arg(format!("--user-data-dir={}", room.folder.path().join("browser").display()));
    browser.env("HOME", room.folder.path()).arg(format!("{}/page", port.url())).kill_on_drop(true);
    browser.stdout(Stdio::null()).stderr(Stdio::null());
    let mut browser = browser.spawn().unwrap();
    let seen = within(odd.seen.recv()).await.unwrap();
    let own = format!("http://{}", odd.at);
    let want = serde_json::json!({
        "cookies": ["__Host-sid=one", "s=two"], "readable": "s=two",
        "socket": [own, "echo"], "event": "first", "posted": own,
    });
    assert_eq!(seen, want);
    browser.kill().await.unwrap();
    room.world.stop().await;
}

/// What cannot be had is said on the page, in the answer's status, and to whoever opened the port.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_said_in_words() {
    if !needs::program("curl") {
        return;
    }
    let room = Room::new(Way::Ws).await;
    let nobody = crate::port::free();
    let name = "nobody".parse().unwrap();
    room.target("nobody", &format!("http://{nobody}")).await;
    let port = room.open("nobody").await;
    let page = async |more: &[&str]| {
        let got = curl(&[&[port.url().as_str(), "-w", " %{http_code}"], more].concat()).await;
        text(&got.stdout)
    };
    let said = page(&[]).await;
    assert_eq!(said, format!("The target does not reach http://{nobody}: the connection was refused there.\n 502"));
    let turned = page(&["-H", "Host: evil.example"]).await;
    assert_eq!(turned, "This port answers to its own name alone.\n 421");
    let heard = port.heard.lock().unwrap().clone();
    assert_eq!(heard, ["a request for evil.example was turned away: this port answers to its own name alone"]);

    let issuer = &room.world.bundle.providers[0].issuer;
    let rule = |verb: &str, to: &str| {
        let rule = format!("[[allow]]\nissuer = \"{issuer}\"\neveryone = true\nverbs = [{{ type = \"{verb}\" }}]");
        LocalRule::Policy(LocalPolicy::parse(&format!("version = 1\n{rule}\ndestinations = [\"{to}\"]")).unwrap())
    };
    room.world.agent.set_local(rule("Web", "127.0.0.1:1"));
    let said = page(&[]).await;
    assert!(said.ends_with(" 403") && said.contains("the target's local policy says no"), "{said}");
    room.world.agent.set_local(rule("Database", "*:*"));
    let refused = room.world.client.web(&name).await;
    assert!(refused.is_err(), "{refused:?}");
    room.world.stop().await;
}

struct Room {
    world: World,
    folder: tempfile::TempDir,
}

/// A port of this machine that leads to a web server.
struct Opened {
    web: Web,
    at: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Opened {
    fn url(&self) -> String {
        format!("http://localhost:{}", self.at.port())
    }

    /// A WebSocket as a page of the port opens one.
    async fn socket(&self) -> WebSocketStream<TcpStream> {
        let name = format!("localhost:{}", self.at.port());
        let mut request = format!("ws://{name}/ws").into_client_request().unwrap();
        request.headers_mut().insert("origin", format!("http://{name}").parse().unwrap());
        let stream = TcpStream::connect(self.at).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await.unwrap().0
    }
}

impl Room {
    async fn new(way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = User::current().unwrap().name;
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        let world = folder.path().join("world");
        std::fs::create_dir(&world).unwrap();
        Self { world: World::start(&world, helper, &user, way).await.unwrap(), folder }
    }

    /// An nginx under the certificate that the agent believes.
    async fn nginx(&self) -> Option<Nginx> {
        let server = self.world.folder.join("server");
        Nginx::start(self.folder.path(), (&server.join("tls.crt"), &server.join("tls.key"))).await
    }

    /// A web server behind the target, and a policy that lets the person there.
    async fn target(&self, name: &str, upstream: &str) -> PolicyId {
        make(&self.world.client, name, upstream).await
    }

    async fn open(&self, name: &str) -> Opened {
        let web = self.world.client.web(&name.parse().unwrap()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let watcher: Watcher = Arc::new(move |error| hears.lock().unwrap().push(error.to_string()));
        let mut serving = JoinSet::new();
        serving.spawn(web.serve(listener, watcher).unwrap());
        Opened { web, at, heard, _serving: serving }
    }

    /// The log of requests, oldest first, once it has so many.
    async fn log(&self, count: usize) -> Vec<WebEvent> {
        let filter = &EventFilter { count: 1000, ..EventFilter::default() };
        let look = async || {
            let mut events = self.world.client.web_events_where(filter).await.unwrap();
            events.reverse();
            events
        };
        until(look, |events: &Vec<WebEvent>| events.len() >= count).await
    }
}

async fn make(client: &Client, name: &str, upstream: &str) -> PolicyId {
    let host = client.targets().await.unwrap().into_iter().find(|target| target.name == TARGET).unwrap();
    let (remote_host, port) = upstream.rsplit_once(':').unwrap();
    let new = NewVirtualTarget {
        target_name: name.to_owned(),
        proxy_target_id: Some(host.id),
        remote_host: Some(remote_host.to_owned()),
        remote_port: Some(Port { value: port.parse().ok() }),
        ..NewVirtualTarget::default()
    };
    let made = client.create_virtual_target(TargetKind::Web, &new).await.unwrap();
    let policy = ProxyContent {
        name: format!("to {name}"),
        subjects: vec![Subject { id: client.me().await.unwrap().id, kind: SubjectType::User }],
        targets: vec![PolicyTarget { id: made.target_id, kind: "Web".to_owned() }],
        ..ProxyContent::default()
    };
    client.create_proxy_policy(&policy).await.unwrap().id
}

async fn reqwest(port: &str, path: &str) -> reqwest::Response {
    let client = bz_examples::browser::loopback_client().unwrap();
    client.get(format!("{port}{path}")).send().await.unwrap()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it takes too long")
}

/// curl must end by itself; its own complaints are shown.
async fn curl(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]).args(arguments);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "curl {arguments:?}: {}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
