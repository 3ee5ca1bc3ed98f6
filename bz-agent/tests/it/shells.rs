//! Shells as sessions hold them: detached, attached, taken over, ended, reported, and found again by the next agent.

use bz_agent::shell::Shells;
use bz_core::access::request::{Parameters, Size};
use bz_core::id::{ConnectionId, ShellId};
use bz_protocol::client::Action;
use bz_protocol::control::{Order, ShellReport};
use bz_protocol::frame::{Fin, Notice};
use bz_protocol::refusal::Code;
use bz_protocol::session::End;

use crate::agent::serving_shells;
use crate::server::{Ask, Server, Session, Stand};
use crate::world::{Person, Place, Watched, helper};

const SIZE: Size = Size { rows: 24, columns: 80 };

/// F-008, F-172~: a shell that its client left works on, and is there as it was when the same person comes back.
#[tokio::test]
async fn a_detached_shell_works_on_and_is_repainted_on_attach() {
    let (person, place) = (Person::new(), Place::new());
    let (_running, mut server, _links) = serving_shells(&place).start().await;
    assert_eq!(server.reports(0).await, []);
    let mut session = shell(&mut server, 1, &person).await;
    // A pipe for each way: one that the job itself holds open takes its word with nobody there to hear it.
    let (go, done) = (place.directory.path().join("go"), place.directory.path().join("done"));
    fifo(&place, &go);
    fifo(&place, &done);
    let job = format!("value=kept; (read -r go; echo wo''rked; echo > {}) < {}", done.display(), go.display());
    line(&session, &job).await;
    session.shows("value=kept").await;
    let shell = reported(&server, 1).await;
    session.detach().await;
    // The long job's first half waits for this, its second half says that it is done.
    let job = tokio::task::spawn_blocking(move || {
        std::fs::write(&go, "go\n").unwrap();
        std::fs::read(&done).unwrap()
    });
    crate::server::soon("the end of the job", job).await.unwrap();
    let mut session = server.open(attach(1, shell, &person)).await;
    // What nobody took for the record is told before the screen is painted.
    session.shows("worked").await;
    line(&session, "echo it=$value.").await;
    session.shows("it=kept.").await;
    assert!(session.notices.contains(&Notice::Repaint), "{:?}", session.notices);
    line(&session, "exit 3").await;
    assert_eq!(session.end().await, End::Completed(Fin::Exited(3)));
    assert_eq!(server.reports(0).await, [], "an ended shell is still reported");
}

/// F-080: nobody else gets a shell, whatever the server grants: not another person, user, or connection.
#[tokio::test]
async fn a_shell_is_its_persons_alone() {
    let (person, place) = (Person::new(), Place::new());
    let (_running, mut server, _links) = serving_shells(&place).start().await;
    let session = shell(&mut server, 1, &person).await;
    let shell = reported(&server, 1).await;
    let mallory = Ask { subject: Some("mallory"), ..attach(1, shell, &person) };
    assert_eq!(server.ask(mallory).await.refused().await, Code::Grant);
    assert_eq!(server.ask(attach(2, shell, &person)).await.refused().await, Code::Grant);
    let unknown = attach(1, ShellId::from_bytes([5; 16]), &person);
    assert_eq!(server.ask(unknown).await.refused().await, Code::Grant);
    line(&session, "echo still mi''ne").await;
    let mut session = session;
    session.shows("still mine").await;
}

/// A new session of the same person takes the shell; the one before is told and let go.
#[tokio::test]
async fn a_second_session_takes_the_shell_over() {
    let (person, place) = (Person::new(), Place::new());
    let (_running, mut server, _links) = serving_shells(&place).start().await;
    let mut first = shell(&mut server, 1, &person).await;
    line(&first, "echo fi''rst").await;
    first.shows("first").await;
    let shell = reported(&server, 1).await;
    let mut second = server.open(attach(1, shell, &person)).await;
    second.shows("first").await;
    assert_eq!(first.end().await, End::Completed(Fin::Detached));
    assert!(first.notices.contains(&Notice::TakenOver), "{:?}", first.notices);
    line(&second, "echo sec''ond").await;
    second.shows("second").await;
}

/// F-010~: a person's or an administrator's word ends a shell, also while nobody is on it.
#[tokio::test]
async fn closing_a_connection_ends_its_shell_detached_or_not() {
    let (person, place) = (Person::new(), Place::new());
    let (_running, mut server, _links) = serving_shells(&place).start().await;
    let mut session = shell(&mut server, 1, &person).await;
    let pid = pid(&mut session).await;
    session.act(Action::Finish(Fin::Closed)).await;
    assert_eq!(session.end().await, End::Completed(Fin::Closed));
    pid.ended("a shell that its person closed").await;
    let mut session = shell(&mut server, 2, &person).await;
    let pid = self::pid(&mut session).await;
    session.detach().await;
    server.reports(1).await;
    server.order(Order::Close { connection: ConnectionId::from_bytes([2; 16]) }).await;
    pid.ended("a detached shell that was closed").await;
    assert_eq!(server.reports(0).await, []);
    let mut session = shell(&mut server, 3, &person).await;
    let pid = self::pid(&mut session).await;
    line(&session, "trap '' HUP; echo deaf=1''2").await;
    session.shows("deaf=12").await;
    session.detach().await;
    server.order(Order::Close { connection: ConnectionId::from_bytes([3; 16]) }).await;
    pid.ended("a shell that does not listen to a hang-up").await;
}

/// The order comes while the person is leaving: at whatever moment of that, the shell ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_meets_a_detach_ends_the_shell() {
    let (person, place) = (Person::new(), Place::new());
    let (_running, mut server, _links) = serving_shells(&place).start().await;
    for number in 1..=8 {
        let mut session = shell(&mut server, number, &person).await;
        let pid = pid(&mut session).await;
        session.act(Action::Finish(Fin::Detached)).await;
        for _ in 0..number {
            tokio::task::yield_now().await;
        }
        server.order(Order::Close { connection: ConnectionId::from_bytes([number; 16]) }).await;
        pid.ended(&format!("shell {number}")).await;
    }
}

/// F-008: the next agent finds the shells of the one before, and whose they are; a shell that ended meanwhile is not
/// reported.
#[tokio::test]
async fn the_next_agent_adopts_the_shells_with_their_owners() {
    let (person, place) = (Person::new(), Place::new());
    let (running, mut server, _links) = serving_shells(&place).start().await;
    let mut ending = shell(&mut server, 1, &person).await;
    let ended = pid(&mut ending).await;
    let mut session = shell(&mut server, 2, &person).await;
    line(&session, "value=kept; echo read''y").await;
    session.shows("ready").await;
    let reports = server.reports(2).await;
    let shell = reports.iter().find(|r| r.connection == ConnectionId::from_bytes([2; 16])).unwrap().shell;
    let go = place.directory.path().join("go");
    fifo(&place, &go);
    line(&ending, &format!("echo wait''ing; read -r go < {}; exit", go.display())).await;
    ending.shows("waiting").await;
    drop(running);
    tokio::task::spawn_blocking(move || std::fs::write(go, "go\n")).await.unwrap().unwrap();
    ended.ended("the first shell").await;
    let stand = Stand::new();
    let shells = Shells::new(helper(), place.directory.path().join("shells")).unwrap();
    assert!((1..=2).contains(&shells.adopt().await.unwrap()));
    let stand = Stand { agent: stand.agent.shell(shells), ..stand };
    let (_running, mut server, _links) = stand.start().await;
    let connection = ConnectionId::from_bytes([2; 16]);
    assert_eq!(server.reports(1).await, [ShellReport { shell, connection, running: true }]);
    let mallory = Ask { subject: Some("mallory"), ..attach(2, shell, &person) };
    assert_eq!(server.ask(mallory).await.refused().await, Code::Grant);
    let mut session = server.open(attach(2, shell, &person)).await;
    session.shows("ready").await;
    line(&session, "echo it=$value.").await;
    session.shows("it=kept.").await;
}

/// A shell whose owner's file is missing or was touched is nobody's.
#[tokio::test]
async fn a_shell_whose_owner_is_not_known_is_attached_by_nobody() {
    let (person, place) = (Person::new(), Place::new());
    let (running, mut server, _links) = serving_shells(&place).start().await;
    let mut session = shell(&mut server, 1, &person).await;
    let shell = reported(&server, 1).await;
    line(&session, "echo re''ady").await;
    session.shows("ready").await;
    let file = place.directory.path().join(format!("shells/{shell}.owner"));
    drop(running);
    let check = async |mode: u32, adopted: usize| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let shells = Shells::new(helper(), place.directory.path().join("shells")).unwrap();
        assert_eq!(shells.adopt().await.unwrap(), adopted, "with mode {mode:o}");
    };
    check(0o600, 1).await;
    check(0o620, 0).await;
    check(0o600, 1).await;
    std::fs::write(&file, "{}").unwrap();
    check(0o600, 0).await;
    std::fs::remove_file(&file).unwrap();
    let shells = Shells::new(helper(), place.directory.path().join("shells")).unwrap();
    assert_eq!(shells.adopt().await.unwrap(), 0);
}

/// An ended shell that nobody saw end can be looked at, until its holder is gone; then the server hears of it.
#[tokio::test]
async fn an_ended_shell_is_listed_as_long_as_its_holder_is_there() {
    let (person, place) = (Person::new(), Place::new());
    let (_running, mut server, _links) = serving_shells(&place).start().await;
    let mut session = shell(&mut server, 1, &person).await;
    let holder = number(&mut session, "holder", "$PPID").await;
    let shell = reported(&server, 1).await;
    let go = place.directory.path().join("go");
    fifo(&place, &go);
    line(&session, &format!("echo wait''ing; read -r go < {}; exit", go.display())).await;
    session.shows("waiting").await;
    session.detach().await;
    tokio::task::spawn_blocking(move || std::fs::write(go, "go\n")).await.unwrap().unwrap();
    let connection = ConnectionId::from_bytes([1; 16]);
    server.lists(&[ShellReport { shell, connection, running: false }]).await;
    crate::world::run("kill", &["-KILL", &holder.to_string()]);
    server.lists(&[]).await;
    let left: Vec<_> = std::fs::read_dir(place.directory.path().join("shells")).unwrap().map(Result::unwrap).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A shell that has shown its prompt: what is typed sooner is typed ahead, and shown twice.
async fn shell(server: &mut Server, number: u8, person: &Person) -> Session {
    let mut session = server.open(start(number, person)).await;
    session.shows("\x1b]133;B").await;
    session
}

fn start(number: u8, person: &Person) -> Ask {
    Ask::new(number, Parameters::Shell { term: "xterm".to_owned(), size: SIZE }, Some(&person.user.name))
}

fn attach(number: u8, shell: ShellId, person: &Person) -> Ask {
    Ask::new(number, Parameters::Attach { shell, size: SIZE }, Some(&person.user.name))
}

async fn line(session: &Session, line: &str) {
    session.bytes(format!("{line}\r").as_bytes()).await;
}

/// The one shell that the agent reports.
async fn reported(server: &Server, number: u8) -> ShellId {
    let reports = server.reports(1).await;
    assert_eq!(reports[0].connection, ConnectionId::from_bytes([number; 16]));
    assert!(reports[0].running);
    reports[0].shell
}

/// The shell's process.
async fn pid(session: &mut Session) -> Watched {
    Watched::new(number(session, "pid", "$$").await)
}

/// What the shell says this is.
async fn number(session: &mut Session, name: &str, of: &str) -> u32 {
    line(session, &format!("echo {name}={of}.")).await;
    loop {
        let text = String::from_utf8_lossy(&session.shown).into_owned();
        let found = text.split(&format!("{name}=")).filter_map(|part| part.split_once('.')?.0.parse().ok()).next();
        if let Some(number) = found {
            return number;
        }
        assert_eq!(session.step().await, None);
    }
}

fn fifo(place: &Place, path: &std::path::Path) {
    crate::world::run("mkfifo", &["-m", "666", path.to_str().unwrap()]);
    crate::world::run("chmod", &["755", place.directory.path().to_str().unwrap()]);
}
