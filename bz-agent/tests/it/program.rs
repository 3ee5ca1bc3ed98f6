//! The program `bz-agent`: registers, serves, is killed, comes back, and ends in order.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use bz_core::access::request::{Parameters, Size};
use bz_core::api::register::RegisterAgent;
use bz_core::oidc::provider::Provider;
use bz_core::trust::TrustBundle;
use bz_protocol::carrier::{Link, MuxLink, Role, ws_pipe};
use bz_protocol::control::LINK_PATH;
use bz_protocol::refusal::Code;
use bz_protocol::session::End;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::gate_world::{TARGET, World};
use crate::idp::provider;
use crate::issuer::{Issuer, Relay};
use crate::server::{Ask, Known, Server, Session, soon};
use crate::world::{Person, Watched, contains, end_holders, left_out};

const SECRET: &str = "registration-key-of-this-test";
const SIZE: Size = Size { rows: 24, columns: 80 };

/// Registration leaves a private identity; one that fails leaves the old one, byte for byte.
#[tokio::test]
async fn registration_keeps_an_identity_and_a_failed_one_changes_nothing() {
    let home = Home::new(&Issuer::start().await);
    let front = Front::start(&home).await;
    let out = home
        .run(&["register", "--server", &front.url, "--registration-key-file", home.at("key"), "--name", "web"])
        .await;
    failed(&out, "--bundle");
    succeeded(&home.register(&front, &[]).await);
    let kept = std::fs::read(home.state()).unwrap();
    assert!(!contains(&kept, SECRET.as_bytes()));
    assert_eq!(std::fs::metadata(home.state()).unwrap().permissions().mode() & 0o7777, 0o600);
    let first = front.registrations().pop().unwrap();
    assert_eq!((first.target_name.as_str(), first.target_id, first.local_policy), ("web", None, false));

    *front.refuses.lock().unwrap() = true;
    let out = home.register(&front, &["--name", "other"]).await;
    failed(&out, "not a registration key");
    failed(&home.run_with_key(&["register", "--server", "http://127.0.0.1:1"]).await, "nothing was changed here");
    assert_eq!(std::fs::read(home.state()).unwrap(), kept);

    *front.refuses.lock().unwrap() = false;
    succeeded(&home.run_with_key(&["register", "--require-local-policy"]).await);
    let again = front.registrations().pop().unwrap();
    assert_eq!(
        (again.target_id, again.public_key, again.control_key),
        (Some(TARGET), first.public_key, first.control_key)
    );
    assert!(again.local_policy);
    let status = home.run(&["status"]).await;
    succeeded(&status);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(
        status.contains("web") && status.contains(&front.url) && status.contains("everything is refused"),
        "{status}"
    );
}

/// Where the environment names a proxy, the program goes through it, and only the proxy learns the password.
#[tokio::test]
async fn a_server_is_asked_through_the_proxy_of_the_environment() {
    let home = Home::new(&Issuer::start().await);
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let hear = async {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut head = vec![];
        while !contains(&head, b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let words = ["--bundle", home.at("bundle.toml"), "--registration-key-file", home.at("key")];
    let words = [&["register-and-run", "--carrier", "auto", "--server", "https://bz.example.com"][..], &words].concat();
    let register = async |proxy: &str| {
        let out = home.command(&words).env("HTTPS_PROXY", proxy).env_remove("NO_PROXY").output().await.unwrap();
        assert!(!String::from_utf8_lossy(&out.stderr).contains("sesame"), "{out:?}");
        out
    };
    let named = format!("http://me:sesame@{address}");
    let (out, heard) = soon("the proxy's part", async { tokio::join!(register(&named), hear) }).await;
    assert!(heard.starts_with("CONNECT bz.example.com:443 HTTP/1.1\r\n"), "{heard}");
    assert!(heard.to_lowercase().contains("proxy-authorization: basic bwu6c2vzyw1l"), "{heard}");
    failed(&out, &format!("through proxy {address}"));
    failed(&register("socks5://me:sesame@127.0.0.1:1").await, "HTTPS_PROXY cannot be used");
}

/// A bundle from the server itself is taken only when asked, and said to be what it is.
#[tokio::test]
async fn trusting_the_server_is_said_loudly() {
    let home = Home::new(&Issuer::start().await);
    let front = Front::start(&home).await;
    let out = home.run_with_key(&["register", "--server", &front.url, "--trust-server"]).await;
    succeeded(&out);
    let said = String::from_utf8(out.stderr).unwrap();
    let fingerprint = home.bundle.fingerprint().unwrap().to_string();
    assert!(
        said.contains("WARNING: the trust bundle comes from the server itself") && said.contains(&fingerprint),
        "{said}"
    );
    let example = home.run(&["policy", "example"]).await;
    succeeded(&example);
    let policy = bz_core::local::LocalPolicy::parse(std::str::from_utf8(&example.stdout).unwrap()).unwrap();
    assert_eq!(policy.allow[0].issuer, home.bundle.providers[0].issuer);
}

/// F-008, F-029, F-030, F-044, F-045, F-172~: a registered agent has one connection, which it dialed, and listens nowhere,
/// also while it serves; nor does what keeps its shells. The program is killed and started again: the shell is there, for its person; SIGTERM ends the
/// program in order and no shell.
#[tokio::test]
async fn a_killed_agent_comes_back_to_its_shells() {
    let Some(person) = person() else { return };
    let issuer = Issuer::start().await;
    let home = Home::new(&issuer);
    let mut front = Front::start(&home).await;
    succeeded(&home.register(&front, &[]).await);
    let mut agent = home.start();
    let (mut server, relay) = front.link(&home, &issuer).await;
    let shell = Parameters::Shell { term: "xterm".to_owned(), size: SIZE };
    let mut session = server.open(Ask::new(1, shell, Some(&person.user.name))).await;
    let shell_process = typed(&mut session, "value=kept").await;
    let process = Watched::new(shell_process);
    failed(&home.run(&["run"]).await, "stop it first");
    let status = home.run(&["status"]).await;
    assert!(String::from_utf8_lossy(&status.stdout).contains("Running       yes"));
    let shell = server.reports(1).await[0].shell;
    assert_eq!(sockets(agent.child.id().unwrap()), [format!("ESTABLISHED to {}", front.port())]);
    assert_eq!(sockets(parent(shell_process)), [""; 0], "the shell's holder");
    agent.child.kill().await.unwrap();
    drop((server, relay, session));

    let mut agent = home.start();
    let (mut server, _relay) = front.link(&home, &issuer).await;
    assert_eq!(server.reports(1).await[0].shell, shell);
    let attach = Ask::new(1, Parameters::Attach { shell, size: SIZE }, Some(&person.user.name));
    let mallory = Ask { subject: Some("mallory"), ..attach.clone() };
    assert_eq!(server.ask(mallory).await.refused().await, Code::Grant);
    let mut session = server.open(attach).await;
    session.bytes(b"echo it=$value.\r").await;
    session.shows("it=kept.").await;

    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = session.end().await;
    assert!(matches!(ended, End::Completed(_)), "{ended:?}");
    assert!(soon("the agent's end", agent.child.wait()).await.unwrap().success());
    assert!(process.is_running(), "the shell ended with its agent");
}

/// F-009~, F-011~: a shell that nobody comes back to within the time that the host's administrator set is hung up, and
/// no longer reported.
#[tokio::test]
async fn a_shell_is_kept_as_long_as_the_administrator_says() {
    let Some(person) = person() else { return };
    let issuer = Issuer::start().await;
    let home = Home::new(&issuer);
    let mut front = Front::start(&home).await;
    succeeded(&home.register(&front, &[]).await);
    failed(&home.run(&["run", "--shell-idle", "0s"]).await, "from 1s to 90d");
    let _agent = home.start_with(&["run", "--shell-idle", "1s"]);
    let (mut server, _relay) = front.link(&home, &issuer).await;
    let shell = Parameters::Shell { term: "xterm".to_owned(), size: SIZE };
    let mut session = server.open(Ask::new(1, shell, Some(&person.user.name))).await;
    let process = typed(&mut session, "true").await;
    server.reports(1).await;
    session.detach().await;
    Watched::new(process).ended("a shell that nobody came back to").await;
    assert_eq!(server.reports(0).await, []);
}

/// F-080: the policy file counts from the start, is read anew at SIGHUP, and refuses everything when it is damaged.
#[tokio::test]
async fn the_local_policy_is_read_again_at_a_signal() {
    let Some(person) = person() else { return };
    let issuer = Issuer::start().await;
    let home = Home::new(&issuer);
    let mut front = Front::start(&home).await;
    succeeded(&home.register(&front, &["--require-local-policy"]).await);
    let mut agent = home.start();
    let (mut server, _relay) = front.link(&home, &issuer).await;
    let mut number = 0;
    let mut outcome = async || {
        number += 1;
        server.ask(Ask::exec(number, "true", &person.user.name)).await.end().await
    };
    let refused = End::Reported(Code::LocalPolicy);
    assert_eq!(outcome().await, refused, "a required file is absent");
    let policy = |subject: &str| {
        format!(
            "version = 1\n[[allow]]\nissuer = \"{}\"\nsubjects = [\"{subject}\"]\nverbs = [{{ type = \"Shell\" }}]\ntarget_users = [\"{}\"]\n",
            issuer.url, person.user.name
        )
    };
    home.write("policy.toml", &policy("alice"));
    agent.reread("local policy read").await;
    assert_eq!(outcome().await, End::Completed(bz_protocol::frame::Fin::Exited(0)));
    home.write("policy.toml", &policy("bob"));
    agent.reread("local policy read").await;
    assert_eq!(outcome().await, refused);
    home.write("policy.toml", "version = 1\nallow everything");
    agent.reread("EVERY session is refused").await;
    assert_eq!(outcome().await, refused);
    failed(&home.run(&["policy", "check"]).await, "malformed");
}

/// TR-RECEIPT-4: the program keeps receipts in its state folder; where it cannot, it says so and serves all the same.
#[tokio::test]
async fn receipts_are_kept_or_their_loss_is_said() {
    let Some(person) = person() else { return };
    let issuer = Issuer::start().await;
    let home = Home::new(&issuer);
    let mut front = Front::start(&home).await;
    succeeded(&home.register(&front, &[]).await);
    let receipts = Path::new(home.at("state")).join("receipts");
    std::fs::write(&receipts, "no folder").unwrap();
    let mut agent = home.start();
    let (mut server, _relay) = front.link(&home, &issuer).await;
    let run = async |server: &mut Server, number| {
        let ended = server.ask(Ask::exec(number, "true", &person.user.name)).await.end().await;
        assert_eq!(ended, End::Completed(bz_protocol::frame::Fin::Exited(0)));
    };
    run(&mut server, 1).await;
    agent.says("the receipt of a session cannot be kept").await;
    std::fs::remove_file(&receipts).unwrap();
    run(&mut server, 2).await;
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(soon("the agent's end", agent.child.wait()).await.unwrap().success());
    let kept = std::fs::read_dir(&receipts).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let mut kept = kept.map(|bytes| bz_protocol::receipt::Receipt::decode(&bytes).unwrap());
    let second = kept.find(|receipt| receipt.connection.as_bytes() == &[2; 16]).expect("a receipt of the second");
    assert_eq!(second.close, Some(bz_protocol::frame::Fin::Exited(0)));
}

/// Whom the program's sessions act as: a new user as root, this very user otherwise, where it may log in.
fn person() -> Option<Person> {
    if bz_agent::user::User::current().is_err() {
        left_out("sessions of the program", "this user has no login shell");
        return None;
    }
    Some(Person::new())
}

/// The process of the shell that runs this line.
async fn typed(session: &mut Session, line: &str) -> u32 {
    session.bytes(format!("{line}; echo pid=$$.\r").as_bytes()).await;
    loop {
        let text = String::from_utf8_lossy(&session.shown).into_owned();
        let found = text.split("pid=").filter_map(|part| part.split_once('.')?.0.parse().ok()).next();
        if let Some(pid) = found {
            return pid;
        }
        assert_eq!(session.step().await, None);
    }
}

fn succeeded(out: &Output) {
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    assert!(!said.contains(SECRET), "the registration key is shown: {said}");
}

fn failed(out: &Output, why: &str) {
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains(why), "{why:?} is not in: {said}");
    assert!(!said.contains(SECRET), "the registration key is shown: {said}");
}

/// One installation of the program: its files.
struct Home {
    _folder: tempfile::TempDir,
    bundle: TrustBundle,
    paths: [String; 5],
}

impl Drop for Home {
    fn drop(&mut self) {
        end_holders(&Path::new(self.at("state")).join("shells"));
    }
}

const NAMES: [&str; 5] = ["key", "bundle.toml", "issuer.pem", "policy.toml", "state"];

impl Home {
    fn new(issuer: &Issuer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bundle = World::new().bundle();
        bundle.providers = vec![Provider { issuer: issuer.url.clone(), ..provider() }];
        let paths = NAMES.map(|name| folder.path().join(name).to_str().unwrap().to_owned());
        let home = Self { _folder: folder, bundle, paths };
        home.write("key", &format!("{SECRET}\n"));
        home.write("bundle.toml", &home.bundle.to_text().unwrap());
        home.write("issuer.pem", &issuer.pem);
        home
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.at(name), text).unwrap();
        std::fs::set_permissions(self.at(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn at(&self, name: &str) -> &str {
        &self.paths[NAMES.iter().position(|known| *known == name).unwrap()]
    }

    fn state(&self) -> PathBuf {
        Path::new(self.at("state")).join(bz_agent::vault::STATE)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bz-agent"));
        command
            .args(["--state-dir", self.at("state"), "--local-policy", self.at("policy.toml")])
            .args(words)
            .env_remove("BZ_REGISTRATION_KEY")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, words: &[&str]) -> Output {
        soon("the program's end", self.command(words).output()).await.unwrap()
    }

    async fn run_with_key(&self, words: &[&str]) -> Output {
        soon("the program's end", self.command(words).env("BZ_REGISTRATION_KEY", SECRET).output()).await.unwrap()
    }

    async fn register(&self, front: &Front, more: &[&str]) -> Output {
        let mut words = vec!["register", "--server", &front.url, "--registration-key-file", self.at("key")];
        words.extend(["--bundle", self.at("bundle.toml"), "--issuer-ca", self.at("issuer.pem")]);
        if !more.contains(&"--name") {
            words.extend(["--name", "web"]);
        }
        words.extend(more);
        self.run(&words).await
    }

    fn start(&self) -> Program {
        self.start_with(&["run"])
    }

    fn start_with(&self, words: &[&str]) -> Program {
        let mut child = self.command(words).env("BZ_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Program { child, lines }
    }
}

/// The program at work.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Program {
    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().unwrap().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Sends SIGHUP and waits for what the program says about the file then.
    async fn reread(&mut self, says: &str) {
        // What it said at its start comes first.
        self.signal(nix::sys::signal::Signal::SIGHUP);
        self.says(says).await;
    }

    async fn says(&mut self, says: &str) {
        let mut heard = vec![];
        let waiting = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                heard.push(line);
                if heard.last().unwrap().contains(says) {
                    return;
                }
            }
        };
        soon(says, waiting).await;
        assert!(heard.last().is_some_and(|line| line.contains(says)), "the program ended: {heard:?}");
    }
}

/// What a process has open towards a network.
fn sockets(pid: u32) -> Vec<String> {
    let proc = Path::new("/proc").join(pid.to_string());
    let open = std::fs::read_dir(proc.join("fd")).unwrap().flatten();
    let open: Vec<_> = open.filter_map(|fd| Some(fd.path().read_link().ok()?.to_str()?.to_owned())).collect();
    let mut found = vec![];
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
        let text = std::fs::read_to_string(proc.join("net").join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (remote, state, inode) = (fields[2], fields[3], fields[9]);
            if open.contains(&format!("socket:[{inode}]")) {
                let port = u16::from_str_radix(remote.rsplit(':').next().unwrap(), 16).unwrap();
                let state = if (table, state) == ("tcp", "01") { "ESTABLISHED" } else { "unexpected" };
                found.push(format!("{state} to {port}"));
            }
        }
    }
    found
}

fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// A server's public face: registration, trust bundle, and links over WebSocket.
struct Front {
    url: String,
    links: mpsc::Receiver<Arc<dyn Link>>,
    seen: Arc<Mutex<Vec<RegisterAgent>>>,
    refuses: Arc<Mutex<bool>>,
    _task: JoinSet<()>,
}

impl Front {
    async fn start(home: &Home) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (to_test, links) = mpsc::channel(4);
        let (seen, refuses) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(false)));
        let (all, no, bundle) = (Arc::clone(&seen), Arc::clone(&refuses), home.bundle.to_text().unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut start = [0; 64];
                let length = stream.peek(&mut start).await.unwrap();
                if start[..length].starts_with(format!("GET {LINK_PATH} ").as_bytes()) {
                    let socket = tokio_tungstenite::accept_hdr_async(stream, subprotocol).await.unwrap();
                    let link: Arc<dyn Link> = Arc::new(MuxLink::new(Role::Listener, ws_pipe(socket)));
                    to_test.send(link).await.unwrap();
                } else {
                    answer(stream, &bundle, &no, &all).await;
                }
            }
        });
        Self { url, links, seen, refuses, _task: task }
    }

    fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    fn registrations(&self) -> Vec<RegisterAgent> {
        self.seen.lock().unwrap().clone()
    }

    /// Takes the next link of the agent, and relays it to its issuer.
    async fn link(&mut self, home: &Home, issuer: &Issuer) -> (Server, Relay) {
        let link = soon("the agent's link", self.links.recv()).await.unwrap();
        let agent = self.registrations().pop().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let known = Known {
            at: now.as_secs() - 1,
            issuer: home.bundle.providers[0].issuer.clone(),
            agent_key: agent.public_key,
            control_key: agent.control_key,
            ..Known::of(World::new())
        };
        let server = Server::welcome(known, link).await;
        let relay = Relay::start(&server, issuer.port);
        (server, relay)
    }
}

#[expect(clippy::result_large_err, clippy::unnecessary_wraps, reason = "the shape of the library's callback")]
fn subprotocol(
    _: &Request,
    mut response: Response,
) -> Result<Response, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("bz.1"));
    Ok(response)
}

async fn answer(mut stream: TcpStream, bundle: &str, refuses: &Mutex<bool>, seen: &Mutex<Vec<RegisterAgent>>) {
    let mut head = vec![];
    while !contains(&head, b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let value = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
    let mut body = vec![0; value("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    let refuse = *refuses.lock().unwrap();
    let (status, body): (_, Value) = if head.starts_with("get /api/v2/trust-bundle ") {
        ("200 OK", json!({"bundle": bundle, "logins": []}))
    } else if refuse {
        ("401 Unauthorized", json!({"errorMsg": "this is not a registration key", "errorType": "x"}))
    } else {
        assert!(head.starts_with("post /api/v2/agent/register "), "{head}");
        assert_eq!(value("x-api-key").as_deref(), Some(SECRET));
        let registration: RegisterAgent = serde_json::from_slice(&body).unwrap();
        registration.check().expect("the registration is not proved by both keys");
        let name = registration.target_name.clone();
        seen.lock().unwrap().push(registration);
        ("200 OK", json!({"targetId": TARGET, "targetName": name, "environmentName": "default"}))
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}
