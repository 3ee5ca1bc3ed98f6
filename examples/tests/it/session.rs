//! Sessions through real parts: a server, an agent and a client over WebSocket and TLS on loopback.

use std::time::Duration;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::client::Client;
use bz_client::login::Login;
use bz_client::session::{Session, SessionError};
use bz_core::access::request::{Parameters, Size};
use bz_core::api::access::Connection;
use bz_core::api::error::Code;
use bz_core::api::record::{ConnectionEvent, ConnectionEventType};
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::client::{Action, Event};
use bz_protocol::frame::{Fin, Notice};
use bz_protocol::gate::LocalRule;
use bz_protocol::session::End;
use bz_protocol::transcript::{Anchors, JwksArchive, Trust, Verdict, verify};

use crate::logged::Logged;

/// How a shell marks the end of its prompt.
const PROMPT: &str = "\x1b]133;B";

pub(crate) struct Place {
    pub(crate) world: World,
    user: String,
    _folder: tempfile::TempDir,
    _logged: Logged,
}

pub(crate) async fn place() -> Place {
    let logged = Logged::here();
    let folder = tempfile::tempdir().unwrap();
    let user = User::current().unwrap().name;
    let world = World::start(folder.path(), Helper::at(env!("CARGO_BIN_EXE_helper")), &user, Way::Ws).await.unwrap();
    Place { world, user, _folder: folder, _logged: logged }
}

impl Place {
    pub(crate) fn client(&self) -> &Client {
        &self.world.client
    }

    async fn open(&self, parameters: Parameters) -> Session {
        let target = format!("{}@{TARGET}", self.user).parse().unwrap();
        let asked = self.client().ask(&target, parameters, None).await.unwrap();
        self.client().session(asked).await.unwrap()
    }

    async fn exec(&self, command: &str) -> Session {
        self.open(Parameters::Exec { command: command.to_owned() }).await
    }

    /// A shell that has shown its prompt: what is typed sooner is typed ahead, and shown twice.
    pub(crate) async fn shell(&self) -> Session {
        let size = Size { rows: 24, columns: 80 };
        let mut session = self.open(Parameters::Shell { term: "xterm".to_owned(), size }).await;
        expect(&mut session, PROMPT).await;
        session
    }

    /// The log of one connection, oldest first, once it holds `last`.
    pub(crate) async fn log(&self, session: &Session, last: ConnectionEventType) -> Vec<ConnectionEvent> {
        let connection = session.connection();
        let look = async || {
            let mut events = self.client().connection_events(1000).await.unwrap();
            events.retain(|e| e.connection_id == connection);
            events.reverse();
            events
        };
        until(look, |events: &Vec<ConnectionEvent>| events.iter().any(|e| e.connection_event_type == last)).await
    }
}

/// Looks again until it holds; the deadline is for a failure's sake.
pub(crate) async fn until<T: std::fmt::Debug>(mut look: impl AsyncFnMut() -> T, holds: impl Fn(&T) -> bool) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let seen = look().await;
        if holds(&seen) {
            return seen;
        }
        assert!(tokio::time::Instant::now() < deadline, "it never held: {seen:?}");
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn act(session: &Session, action: Action) {
    session.actions().act(action).await.unwrap();
}

pub(crate) async fn type_in(session: &Session, text: &str) {
    act(session, Action::Bytes { stream: 0, bytes: text.as_bytes().to_vec() }).await;
}

/// What comes until it contains `wanted`.
pub(crate) async fn expect(session: &mut Session, wanted: &str) -> String {
    expect_in_order(session, &[wanted]).await
}

pub(crate) async fn expect_in_order(session: &mut Session, wanted: &[&str]) -> String {
    let come =
        |seen: &str| wanted.iter().try_fold(seen, |rest, one| rest.split_once(one).map(|(_, after)| after)).is_some();
    let mut seen = String::new();
    let read = async {
        while let Some(event) = session.next().await {
            if let Event::Bytes { bytes, .. } = event {
                seen.push_str(&String::from_utf8_lossy(&bytes));
                if come(&seen) {
                    return;
                }
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), read).await;
    assert!(waited.is_ok() && come(&seen), "waiting for {wanted:?}, came {seen:?}");
    seen
}

pub(crate) async fn ended(session: &mut Session) -> (Vec<u8>, End) {
    let mut bytes = vec![];
    while let Some(event) = session.next().await {
        match event {
            Event::Bytes { bytes: more, .. } => bytes.extend(more),
            Event::Ended(end) => return (bytes, end),
            Event::Opened(_)
            | Event::Eof { .. }
            | Event::Notice(_)
            | Event::Answered { .. }
            | Event::Reset { .. }
            | Event::Resumed => {}
        }
    }
    panic!("a session that does not say its end");
}

/// F-165~, F-166~: an exec's output is exact to ten megabytes, and its life is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_arrive_exactly_and_the_log_says_so() {
    let place = place().await;
    let mut session = place.exec("head -c 10000000 /dev/zero | tr '\\0' 'x'").await;
    let (bytes, end) = ended(&mut session).await;
    assert_eq!(end, End::Completed(Fin::Exited(0)));
    assert_eq!((bytes.len(), bytes.iter().all(|b| *b == b'x')), (10_000_000, true));
    let log = place.log(&session, ConnectionEventType::Closed).await;
    let kinds: Vec<_> = log.iter().map(|e| e.connection_event_type).collect();
    let want = [
        ConnectionEventType::Created,
        ConnectionEventType::ClientConnect,
        ConnectionEventType::ClientDisconnect,
        ConnectionEventType::Closed,
    ];
    assert_eq!(kinds, want);
    let last = log.last().unwrap();
    assert_eq!((last.place.target_user.as_str(), last.place.target_name.as_str()), (place.user.as_str(), TARGET));
    assert!(last.reason.contains("it exited with 0"), "{}", last.reason);
    place.world.stop().await;
}

/// F-005, F-007~: standard input reaches the command, and its end does.
#[tokio::test(flavor = "multi_thread")]
async fn input_and_its_end_reach_the_command() {
    let place = place().await;
    let mut session = place.exec("wc -c").await;
    act(&session, Action::Bytes { stream: 0, bytes: vec![b'x'; 300_000] }).await;
    act(&session, Action::Eof { stream: 0 }).await;
    let (bytes, end) = ended(&mut session).await;
    assert_eq!((String::from_utf8_lossy(&bytes).trim(), end), ("300000", End::Completed(Fin::Exited(0))));
    place.world.stop().await;
}

/// F-007, F-008, F-172: a shell goes on without its client; attaching repaints its screen, and what it did meanwhile
/// is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_outlives_its_session_and_is_attached_again() {
    let place = place().await;
    let mut session = place.shell().await;
    type_in(&session, "echo first-$((40+2))\r").await;
    expect(&mut session, "first-42").await;
    act(&session, Action::Finish(Fin::Detached)).await;
    assert_eq!(ended(&mut session).await.1, End::Completed(Fin::Detached));
    place.log(&session, ConnectionEventType::ClientDisconnect).await;
    let id = session.connection();
    let found = async || place.client().connections().await.unwrap().into_iter().find(|c| c.id == id).unwrap();
    let connection = until(found, |c| c.shell_id.is_some()).await;
    assert!(!connection.attached);
    let asked = place.client().attach_grant(&connection, Size { rows: 30, columns: 90 }).await.unwrap();
    let mut again = place.client().session(asked).await.unwrap();
    assert_eq!(again.opened.attached.map(|a| a.shell), connection.shell_id);
    expect(&mut again, "first-42").await;
    type_in(&again, "stty size; exit 5\r").await;
    let (bytes, end) = ended(&mut again).await;
    assert!(String::from_utf8_lossy(&bytes).contains("30 90"), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(end, End::Completed(Fin::Exited(5)));
    place.log(&again, ConnectionEventType::Closed).await;
    place.world.stop().await;
}

/// F-010~, F-167~: closing a connection ends its session and its shell at the target, and the log says who.
#[tokio::test(flavor = "multi_thread")]
async fn closing_a_connection_ends_its_shell() {
    let place = place().await;
    let mut session = place.shell().await;
    type_in(&session, "echo up\r").await;
    expect(&mut session, "up\r\n").await;
    place.client().close(session.connection()).await.unwrap();
    let (_, end) = ended(&mut session).await;
    assert!(matches!(end, End::Completed(_)), "{end}");
    let log = place.log(&session, ConnectionEventType::Closed).await;
    let reason = &log.last().unwrap().reason;
    assert!(reason.contains("closed by the end user"), "{reason}");
    place.world.stop().await;
}

/// F-093, F-087~: a user that policy allows but the host does not have is refused by the target itself, proved.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_missing_on_the_host_is_refused_by_the_target() {
    let place = place().await;
    let mut policy = place.client().policies().await.unwrap().remove(0).content;
    policy.name = "ghost".to_owned();
    policy.target_users[0].user_name = "no-such-user-here".parse().unwrap();
    place.client().create_policy(&policy).await.unwrap();
    let target = format!("no-such-user-here@{TARGET}").parse().unwrap();
    let parameters = Parameters::Exec { command: "true".to_owned() };
    let asked = place.client().ask(&target, parameters, None).await.unwrap();
    let mut session = place.client().session(asked).await.unwrap();
    let (_, end) = ended(&mut session).await;
    assert_eq!(end, End::Refused(bz_protocol::refusal::Code::User));
    assert!(end.to_string().contains("does not exist on the host"));
    place.world.stop().await;
}

/// F-077, F-079~, F-089~: without a policy the server grants nothing; with several users one must be named.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_policy_allows_is_not_granted() {
    let place = place().await;
    let ask = async |target: &str| {
        let parameters = Parameters::Exec { command: "true".to_owned() };
        place.client().ask(&target.parse().unwrap(), parameters, None).await.map(|_| ()).unwrap_err().to_string()
    };
    let denied = ask(&format!("daemon@{TARGET}")).await;
    assert!(denied.contains("but not as this user"), "{denied}");
    let unknown = ask("nowhere").await;
    assert!(unknown.contains("no such target") || unknown.contains("there is no"), "{unknown}");
    place.world.stop().await;
}

/// F-033, F-034, F-035~: a target without its agent takes no new connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_its_agent_is_offline() {
    let Place { world, user, _folder, _logged } = place().await;
    world.agent.stop().await;
    let target: bz_client::target_name::TargetName = format!("{user}@{TARGET}").parse().unwrap();
    let refused = async || {
        let parameters = Parameters::Exec { command: "true".to_owned() };
        match world.client.ask(&target, parameters, None).await {
            Err(bz_client::client::AskError::Rest(bz_client::RestError::Refused(refused))) => Some(refused.body.code),
            Ok(asked) => match world.client.session(asked).await {
                Err(SessionError::Ended { .. } | SessionError::Link(_)) | Ok(_) => None,
                Err(other) => panic!("{other}"),
            },
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(until(refused, Option::is_some).await, Some(Code::TargetOffline));
    world.server.shutdown().await;
}

/// F-007, F-170~: a client that vanishes without a word leaves its connection open, detached, with its shell.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_leaves_its_shell() {
    let place = place().await;
    let mut session = place.shell().await;
    type_in(&session, "echo up\r").await;
    expect(&mut session, "up\r\n").await;
    let id = session.connection();
    let found = async || place.client().connections().await.unwrap().into_iter().find(|c| c.id == id);
    drop(session);
    let connection = until(found, |c| c.as_ref().is_some_and(|c| c.shell_id.is_some() && !c.attached)).await.unwrap();
    let asked = place.client().attach_grant(&connection, Size { rows: 24, columns: 80 }).await.unwrap();
    let mut again = place.client().session(asked).await.unwrap();
    expect(&mut again, "up").await;
    place.world.stop().await;
}

/// F-010~: an attach that the target refuses ends neither the shell nor its connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_attach_leaves_the_shell() {
    let place = place().await;
    let mut session = place.shell().await;
    type_in(&session, "echo up\r").await;
    expect(&mut session, "up\r\n").await;
    act(&session, Action::Finish(Fin::Detached)).await;
    ended(&mut session).await;
    let id = session.connection();
    let found = async || place.client().connections().await.unwrap().into_iter().find(|c| c.id == id);
    let detached = |c: &Option<_>| c.as_ref().is_some_and(|c: &Connection| c.shell_id.is_some() && !c.attached);
    let connection = until(found, detached).await.unwrap();
    let attach = async || {
        let asked = place.client().attach_grant(&connection, Size { rows: 24, columns: 80 }).await.unwrap();
        place.client().session(asked).await
    };
    place.world.agent.set_local(LocalRule::RefuseAll("the test says so".to_owned()));
    let refused = attach().await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("local policy"), "{refused}");
    let left = async || {
        let log = place.client().connection_events(1000).await.unwrap();
        let left = |e: &&ConnectionEvent| e.connection_event_type == ConnectionEventType::ClientDisconnect;
        log.iter().filter(|e| e.connection_id == id).filter(left).count()
    };
    until(left, |left| *left == 2).await;
    place.world.agent.set_local(LocalRule::Unrestricted);
    expect(&mut attach().await.unwrap(), "up").await;
}

async fn password_asked(session: &mut Session) {
    let asked = async {
        loop {
            if let Some(Event::Notice(Notice::Password(true))) = session.next().await {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), asked).await.is_ok(), "no password was asked for");
}

pub(crate) fn files_with(folder: &std::path::Path, needle: &str) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(needle.len()).any(|w| w == needle.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

/// F-088, F-106~, F-107, F-159, F-160: each line typed in a shell is in the command log with person, user and target, the
/// agent signed what it was read from, the output is recorded; a password typed without echo is in no file of the server.
#[tokio::test(flavor = "multi_thread")]
async fn typed_lines_are_logged_and_a_password_is_nowhere() {
    let place = place().await;
    let mut session = place.shell().await;
    // Each line waits for its prompt: what is typed ahead may be shown, and so logged, twice.
    let prompt = PROMPT;
    type_in(&session, "echo first-$((40+2))\r").await;
    expect_in_order(&mut session, &["first-42\r\n", prompt]).await;
    type_in(&session, "read -s secret\r").await;
    password_asked(&mut session).await;
    type_in(&session, "hunter2-hunter2\r").await;
    expect(&mut session, prompt).await;
    type_in(&session, "echo done-${#secret}\r").await;
    expect_in_order(&mut session, &["done-15\r\n", prompt]).await;
    type_in(&session, "exit\r").await;
    ended(&mut session).await;
    place.log(&session, ConnectionEventType::Closed).await;
    let look = async || place.client().command_events(100).await.unwrap();
    let logged = until(look, |events| events.iter().any(|e| e.command == "exit")).await;
    let commands: Vec<_> = logged.iter().rev().map(|e| e.command.as_str()).collect();
    assert_eq!(commands, ["echo first-$((40+2))", "read -s secret", "echo done-${#secret}", "exit"]);
    let first = logged.last().unwrap();
    assert!(first.confirmed, "{first:?}");
    assert_eq!((first.place.target_user.as_str(), first.place.target_name.as_str()), (place.user.as_str(), TARGET));
    assert_eq!(first.actor.subject_name, format!("{}@example.com", place.user));
    let server = place.world.folder.join("server");
    assert_eq!(files_with(&server, "hunter2-hunter2"), Vec::<std::path::PathBuf>::new());
    assert!(!files_with(&server, "done-15").is_empty(), "the output is recorded");
    place.world.stop().await;
}

/// F-049~: a session's transcript proves who did what against the pinned bundle, and no byte of it can be changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_is_proof_and_no_byte_of_it_can_be_changed() {
    let place = place().await;
    let mut session = place.exec("echo evidence").await;
    ended(&mut session).await;
    let look = async || place.world.transcripts(session.connection()).await.unwrap();
    let whole =
        |found: &Vec<_>| found.iter().all(|(_, v): &(_, Result<Verdict, _>)| v.as_ref().is_ok_and(|v| v.complete));
    let transcripts = until(look, |found| !found.is_empty() && whole(found)).await;
    let (path, verdict) = transcripts.into_iter().next().unwrap();
    let verdict = verdict.unwrap();
    assert_eq!(verdict.trust, Trust::Proved);
    assert_eq!(verdict.person.subject, format!("dev-{}", place.user));
    assert_eq!(verdict.status, Some(Fin::Exited(0)));
    let bytes = std::fs::read(&path).unwrap();
    let mut archive = JwksArchive::new();
    let provider = &place.world.bundle.providers[0];
    let keys = bz_client::login::issuer_keys(provider, place.client().server()).await.unwrap();
    archive.add(&provider.issuer, &keys).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 97) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let anchors = Anchors::Bundle(&place.world.bundle, &archive);
        assert!(verify(&changed, &anchors).is_err(), "byte {at} of {} was changed unseen", bytes.len());
    }
    place.world.stop().await;
}

/// A world's first login, as if the provider had given no refresh token.
pub(crate) fn unrefreshed(world: &World) -> Client {
    let mut stored: serde_json::Value = serde_json::from_str(&world.client.login().to_text()).unwrap();
    stored["refresh_token"] = serde_json::Value::Null;
    let login = Login::from_text(&stored.to_string()).unwrap();
    assert!(!login.is_refreshable());
    world.client_of(login).unwrap()
}
