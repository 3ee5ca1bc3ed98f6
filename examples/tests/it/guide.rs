//! `docs/getting-started.md`, followed command by command with the real programs and the certified identity provider.

mod admin;
pub(crate) mod api;
mod auditing;
mod authorization;
mod cheat_sheet;
mod completion;
mod databases;
mod desk;
mod files;
mod host;
mod integrations;
mod keys;
mod groups;
mod kube;
mod mfa;
mod operations;
pub(crate) mod page;
mod people;
mod service_accounts;
mod scripts;
mod targets;
mod web;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bz_core::api::access::Connection;
use bz_core::api::record::ConnectionEventType as Happened;
use bz_examples::certified::{CLIENT_ID, CertifiedIdp};
use bz_examples::needs;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::certified::started;
use api::Api;
use desk::{Desk, Program, Terminal, text};
use page::{Page, edit};

const PERSON: &str = "alice";
const BUNDLE: &str = "data/bundle.toml";

/// F-006~, F-046, F-221, F-222, F-223, F-246: the guide, as written: three processes, a shell whose client is killed and attached
/// to again, closed, and everything that was kept of it, with proof.
#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_to_a_shell_and_to_proof_of_it() {
    let Some(mut place) = Place::start().await else { return };
    let mut window = place.connect().await;
    window.types("echo once-$((40+2))\r").await;
    window.shows("once-42\r\n").await;
    window.kill().await;
    drop(window);

    let list = place.page.next("bz list-connections");
    let listed = place.desk.run_until(&list, |said| said.contains("detached")).await;
    let connection = place.left_behind().await;
    assert!(listed.contains(&connection.id.to_string()), "{listed}");
    place.page.put("CONNECTION", &connection.id);
    let mut window = place.desk.terminal(&place.page.next("bz attach"));
    window.shows("once-42").await;
    window.types("echo twice-$((40+3))\r").await;
    window.shows("twice-43\r\n").await;
    let closed = place.desk.run(&place.page.next("bz close")).await;
    assert_eq!(closed, "Closed 1 connection.\n");
    window.shows("The connection was closed.").await;
    window.shows("The server says: closed by the end user alice@example.com").await;
    assert_eq!(window.ends().await, Some(255), "the window that was closed from elsewhere");
    let up = place.desk.run(&place.page.next("bz exec")).await;
    assert!(up.contains("load average"), "{up}");
    place.desk.run(&format!("bz why {}@web", place.user)).await;
    place.desk.run("bz doctor").await;
    everything_is_kept(&mut place, &connection).await;
    place.page.ends();
}

/// The connection log, the command log, the recording, and the transcripts, which the page's command verifies.
async fn everything_is_kept(place: &mut Place, connection: &Connection) {
    let api = place.api();
    let log = api.connection_log(connection.id, Happened::Closed).await;
    let kinds: Vec<_> = log.iter().map(|event| event.connection_event_type).collect();
    let (came, shell) = (Happened::ClientConnect, Happened::ShellConnect);
    let left = [Happened::ShellDisconnect, Happened::ClientDisconnect];
    let want = [&[Happened::Created, came, shell], &left[..], &[came, shell], &left[..], &[Happened::Closed]].concat();
    assert_eq!(kinds, want, "{log:#?}");
    assert!(log.last().unwrap().reason.contains("closed by the end user alice@example.com"), "{log:#?}");

    let commands = api.command_log(connection.id, 2).await;
    assert_eq!(commands, ["echo once-$((40+2))", "echo twice-$((40+3))"]);
    let recording = api.recording(connection.id).await;
    for shown in ["once-42", "twice-43"] {
        assert!(recording.contains(shown), "{shown:?} is not in the recording {recording:?}");
    }

    let transcripts = api.transcripts(connection.id).await;
    let [cut, .., whole] = transcripts.as_slice() else {
        panic!("{} transcripts: one session before the client was killed, and one after", transcripts.len())
    };
    for (command, shown) in
        [("bz logs connections", "closed by the end user"), ("bz logs commands", "echo twice-$((40+3))")]
    {
        let said = place.desk.run(&place.page.next(command)).await;
        assert!(said.contains(shown), "{said}");
    }
    place.desk.run(&place.page.next("bz recording get")).await;
    let cast = read(&place.desk.at("session.cast"));
    assert!(cast.starts_with("{\"height\"") && cast.contains("twice-43"), "{cast}");
    place.desk.run(&place.page.next("bz transcript get")).await;
    let all = place.page.next("bz verify");
    let said = place.desk.run(&all).await;
    assert!(said.contains("proved, up to where another goes on"), "{said}");
    let verify = all.replace("evidence", "session.bzt");
    let check = async |bytes: &[u8], line: &str| {
        std::fs::write(place.desk.at("session.bzt"), bytes).unwrap();
        let output = place.desk.try_run(line).await;
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (status, said) = check(cut, &verify).await;
    assert!(status == Some(1) && said.starts_with("proved so far as it goes"), "a killed client signs no end: {said}");
    let (status, said) = check(whole, &verify).await;
    assert!(status == Some(0) && said.starts_with("proved\n") && said.contains("alice"), "{said}");
    let (alone, _) = verify.split_once(" --bundle").expect("the page names the bundle");
    let (status, said) = check(whole, &format!("{alone} --profile nobody")).await;
    assert!(status == Some(1) && said.starts_with("self-consistent"), "{said}");
    // Every byte is tried in the verifier's own tests; here, that the program says it.
    for at in (0..whole.len()).step_by(whole.len() / 20) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let (status, said) = check(&changed, &verify).await;
        assert!(status == Some(1) && said.starts_with("REFUSED"), "byte {at} of {} was changed: {said}", whole.len());
    }
}

/// F-008~, F-172: the agent's program is killed under an open shell and started again: the shell is there and attached to,
/// and the record has what was typed and shown before and after.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_loses_neither_a_shell_nor_its_record() {
    let Some(mut place) = Place::start().await else { return };
    let mut window = place.connect().await;
    window.types("value=$((40+2)); echo before-$value\r").await;
    window.shows("before-42\r\n").await;
    place.agent.kill().await;
    place.agent = place.desk.start(&place.run_agent);
    // The window that is still there cannot go on with a session that died with the agent, and must not end the shell.
    place.agent.says("a session that is not known").await;
    window.shows("the target's agent was started anew").await;
    window.shows("Come back with: bz attach").await;
    assert_eq!(window.ends().await, Some(255));

    let connection = place.left_behind().await;
    let mut window = place.desk.terminal(&format!("bz attach {}", connection.id));
    window.shows("before-42").await;
    window.types("echo after-$value\r").await;
    window.shows("after-42\r\n").await;
    window.types("exit 3\r").await;
    assert_eq!(window.ends().await, Some(3));

    let api = place.api();
    api.connection_log(connection.id, Happened::Closed).await;
    let commands = api.command_log(connection.id, 3).await;
    assert_eq!(commands, ["value=$((40+2)); echo before-$value", "echo after-$value", "exit 3"]);
    let recording = api.recording(connection.id).await;
    assert!(recording.contains("before-42") && recording.contains("after-42"), "{recording:?}");
    let transcripts = api.transcripts(connection.id).await;
    let [cut, .., whole] = transcripts.as_slice() else { panic!("{} transcripts", transcripts.len()) };
    for (part, ends) in [(cut, "proved so far as it goes"), (whole, "proved\n")] {
        std::fs::write(place.desk.at("session.bzt"), part).unwrap();
        let said = place.desk.try_run(&format!("bz verify session.bzt --bundle {BUNDLE}")).await;
        assert!(text(&said.stdout).starts_with(ends), "{}{}", text(&said.stdout), text(&said.stderr));
    }
    place.desk.run(&format!("bz transcript get {} --out evidence", connection.id)).await;
    // The first has no end, and the agent that was started anew knows no head of it.
    let output = place.desk.try_run(&format!("bz verify evidence --bundle {BUNDLE}")).await;
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let alone: Vec<_> = said.lines().filter(|line| line.contains("nobody attached")).collect();
    assert!(!alone.is_empty() && alone.iter().all(|line| !line.contains("receipt")), "{said}");
}

/// Who sits before a session that cannot go on is told, and need not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_can_leave_while_the_server_is_gone() {
    let Some(mut place) = Place::start().await else { return };
    let mut window = place.desk.terminal(&format!("bz --carrier ws connect {}@web", place.user));
    window.shows("\x1b]133;B").await;
    window.types("echo before-$((40+2))\r").await;
    window.shows("before-42\r\n").await;
    place.server.kill().await;
    window.shows("The connection is interrupted").await;
    window.types("\r~.").await;
    window.shows("Come back with: bz attach").await;
    assert_eq!(window.ends().await, Some(255));
}

/// F-018~, F-232~, F-250~: the page's tunnels, as written: a port of this machine that leads to a server behind the
/// target, SOCKS, and the tidy end of both.
#[tokio::test(flavor = "multi_thread")]
async fn ports_of_this_machine_lead_through_a_target() {
    if !needs::program("curl") {
        return;
    }
    let Some(place) = Place::start().await else { return };
    let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = behind.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = behind.accept().await {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbehind").await.unwrap_or_default();
        }
    });
    let mut page = Page::connecting("Tunnels");
    page.put("YOU@example.com", &format!("{PERSON}@example.com"));
    place.desk.run(&page.next("bz policy create target-access")).await;
    page.put("5432:localhost:5432", &format!("0:localhost:{}", there.port()));
    page.put("--socks 1080", &"--socks 0");
    page.put("http://intranet.example/", &format!("http://{there}/"));
    let forward = page.next("bz forward web");
    for line in [forward.clone(), page.next("bz forward web --socks")] {
        let socks = line.contains("--socks");
        let mut tunnel = place.desk.terminal(&line);
        let said = tunnel.shows(" through web").await;
        let port = said.split(" leads to ").next().unwrap().rsplit(':').next().unwrap().to_owned();
        let curl = if socks {
            page.put("localhost:1080", &format!("localhost:{port}"));
            page.next("curl -x socks5h://").replace("curl", "curl --silent --noproxy ''")
        } else {
            format!("curl --silent --noproxy '*' http://127.0.0.1:{port}/")
        };
        assert_eq!(place.desk.run(&curl).await, "behind", "{line}");
        tunnel.types("\x03").await;
        assert_eq!(tunnel.ends().await, Some(0), "{line}");
    }
    page.ends();
    let log = place.desk.run_until("bz logs connections --json", |said| said.matches("\"Closed\"").count() == 2).await;
    assert_eq!(log.matches("\"StreamOpen\"").count(), 2, "{log}");

    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused =
        place.desk.try_run(&forward.replace(" 0:", &format!(" {}:", taken.local_addr().unwrap().port()))).await;
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("try another port, or 0"), "{said}");
    let refused = place.desk.try_run(&forward.replace(" web ", " root@web ")).await;
    assert!(text(&refused.stderr).contains("leave out `root@`"), "{}", text(&refused.stderr));
}

/// A system as the guide leaves it before `bz connect`.
struct Place {
    page: Page,
    desk: Desk,
    agent: Program,
    /// How the agent is started.
    run_agent: String,
    /// Its address.
    url: String,
    /// As whom sessions run.
    user: String,
    server: Program,
    _idp: CertifiedIdp,
}

impl Place {
    /// Nothing where the identity provider is not installed.
    async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same, with more settings of the server: what stands there, and what instead.
    async fn start_with(settings: &[(&str, String)]) -> Option<Self> {
        let idp = started().await?;
        let mut page = Page::new();
        let mut desk = Desk::new();
        build(&mut page);
        page.put("$PWD/target/release", &programs().display());
        desk.begin_with(&page.next("export PATH"));
        let (server, url) = serve(&mut page, &desk, (&idp, settings)).await;

        page.put("YOU@example.com", &format!("{PERSON}@example.com"));
        let mut login = desk.start(&page.next("bz login"));
        desk.log_in_at_the_browser(PERSON).await;
        login.says("The login continues in your browser.").await;
        assert_eq!(login.ends().await, Some(0), "bz login");
        desk.run(&page.next("bz api-key create")).await;
        desk.run(&page.next("chmod")).await;
        let run_agent = page.next("bz-agent register-and-run");
        let mut agent = desk.start(&run_agent);
        agent.says("Its key's fingerprint is ").await;
        agent.says("linked to the server").await;

        let user = bz_agent::user::User::current().unwrap().name;
        page.put("root", &user);
        desk.run(&page.next("bz policy create target-access")).await;
        desk.run(&page.next("bz policy create session-recording")).await;
        Some(Self { page, desk, agent, run_agent, url, user, server, _idp: idp })
    }

    /// A window with a shell that waits for a command.
    async fn connect(&mut self) -> Terminal {
        let mut window = self.desk.terminal(&self.page.next("bz connect"));
        window.shows("web is new to this machine. Its agent's key is ").await;
        // The shell marks where its prompt ends.
        window.shows("\x1b]133;B").await;
        window
    }

    /// The one connection, once the server knows that its client is gone and its shell is not.
    async fn left_behind(&self) -> Connection {
        let read = |said: &str| serde_json::from_str::<Vec<Connection>>(said).unwrap();
        let holds = |said: &str| read(said).iter().any(|c| !c.attached && c.shell_id.is_some());
        read(&self.desk.run_until("bz list-connections --json", holds).await).remove(0)
    }

    fn api(&self) -> Api {
        let profile = self.desk.at("home/.config/bz/default/login.json");
        Api::new(&self.url, &read(&self.desk.at("data/ca.crt")), &read(&profile))
    }
}

/// Section "Build": the programs, where cargo puts what this test belongs to.
fn build(page: &mut Page) {
    static BUILT: OnceLock<()> = OnceLock::new();
    let folder = programs().parent().unwrap();
    let command = page.next("cargo build --release ");
    let rest = command.strip_prefix("cargo build --release ").unwrap();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--quiet", "--target-dir"]).arg(folder).args(rest.split_whitespace());
        let built = cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output().unwrap();
        assert!(built.status.success(), "{}", text(&built.stderr));
    });
}

/// The folder of the real programs.
pub(crate) fn built() -> &'static Path {
    build(&mut Page::new());
    programs()
}

fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_helper")).parent().unwrap()
}

/// Section 1: the server, listening wherever there is room, and its address.
async fn serve(page: &mut Page, desk: &Desk, (idp, settings): (&CertifiedIdp, &[(&str, String)])) -> (Program, String) {
    page.put("DATA", &"data");
    desk.run(&page.next("bz-server --print-default-config")).await;
    edit(
        &desk.at("server.toml"),
        &[
            (r#"data = "/var/lib/bz-server""#, format!("data = {:?}", desk.at("data"))),
            (r#"listen = "127.0.0.1:8443""#, r#"listen = "127.0.0.1:0""#.to_owned()),
            (r#"issuer = "https://login.example.com""#, format!("issuer = {:?}", idp.issuer())),
            (r#"audiences = ["bz"]"#, format!("audiences = [{CLIENT_ID:?}]")),
            (r#"{ claim = "org", value = "example" }"#, r#"{ claim = "hd", value = "example.com" }"#.to_owned()),
        ],
    );
    edit(&desk.at("server.toml"), settings);
    let made = desk.run(&page.next("bz-server init")).await;
    let code = made.lines().find_map(|line| line.strip_prefix("Claim code ")).expect("a claim code").trim().to_owned();
    page.put("CODE", &code);
    let mut server = desk.start(&page.next("bz-server --config"));
    let said = server.says("tls=true").await;
    let address = said.split_once("local=").expect("the server says where it listens").1;
    let url = format!("https://{}", address.split_whitespace().next().unwrap());
    page.put("https://127.0.0.1:8443", &url);
    (server, url)
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
