//! The agent as a server and its clients meet it: link, sessions, routes, commands, orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bz_agent::handler::Call;
use bz_agent::shell::Shells;
use bz_core::access::{Mode, Verb};
use bz_core::api::target::Route;
use bz_core::id::OrganizationId;
use bz_core::local::{LocalPolicy, Rule};
use bz_protocol::client::{Action, Event};
use bz_protocol::control::{FromServer, LinkRefusal, Order};
use bz_protocol::frame::Fin;
use bz_protocol::gate::LocalRule;
use bz_protocol::link::{greet, send};
use bz_protocol::refusal::Code;
use bz_protocol::session::End;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::gate_world::ORG;
use crate::idp::ISSUER;
use crate::server::{Ask, Known, Server, Session, Stand, soon};
use crate::world::{Person, Place, helper, is_root, left_out};

/// A registered agent dials, proves its control key, names its start and its routes.
#[tokio::test]
async fn an_agent_dials_and_says_who_it_is() {
    let (running, server, _links) = serving_routes().start().await;
    assert_eq!(server.boot, running.boot());
    let routes: Vec<_> = server.hello.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(routes, ["break", "echo"]);
    assert_eq!(*server.shells.borrow(), None, "an agent without shells spoke of them");
}

/// An agent that is not wanted tries again by itself, and shows its proof to its own organization alone.
#[tokio::test]
async fn an_agent_that_is_turned_away_dials_again() {
    let Stand { world, agent, mut links } = Stand::new();
    let running = agent.start().unwrap();
    let link = soon("the first link", links.recv()).await.unwrap();
    let mut control = soon("a control stream", link.accept()).await.unwrap();
    let heard = greet(&mut control, OrganizationId::from_bytes([77; 16]), [1; 32]).await;
    assert!(heard.is_err(), "a server of another organization was told {heard:?}");
    let link = soon("the second link", links.recv()).await.unwrap();
    let mut control = soon("a control stream", link.accept()).await.unwrap();
    greet(&mut control, ORG, [1; 32]).await.unwrap();
    send(&mut control, &FromServer::Refused(LinkRefusal::Unknown)).await.unwrap();
    let link = soon("the third link", links.recv()).await.unwrap();
    let server = Server::welcome(Known::of(world), link).await;
    soon("the agent being online", running.online()).await;
    server.link.close();
    soon("a link after one that was cut", links.recv()).await.unwrap();
}

/// F-031, F-080: a session comes through the link, and a handler gets what both roots say; a grant for something else,
/// or used before, gets nothing.
#[tokio::test]
async fn a_route_is_served_to_whom_both_roots_allow_it() {
    let (running, mut server, _links) = serving_routes().start().await;
    let mut session = server.open(Ask::route(1, "echo")).await;
    session.bytes(b"hello").await;
    session.act(Action::Eof { stream: 0 }).await;
    session.shows("alice on echo: hello").await;
    assert_eq!(session.end().await, End::Completed(Fin::Done));
    assert_eq!(server.ask(Ask::route(2, "absent")).await.refused().await, Code::Unavailable);
    let inspected = Ask { mode: Mode::Inspected, ..Ask::route(3, "echo") };
    assert_eq!(server.ask(inspected).await.refused().await, Code::Unavailable, "a sealed route was read on its way");
    let ask = Ask::route(4, "echo");
    let mut other = server.opening(&ask);
    other.grant = server.opening(&Ask::route(4, "break")).grant;
    let other = server.session(ask.connection, other).await;
    assert_eq!(reported(other).await, Code::Grant, "a grant for another route was good");
    let twice = server.opening(&ask);
    let first = server.session(ask.connection, twice.clone()).await;
    serve_to_end(first).await;
    let mut again = twice;
    again.random = [99; 32];
    let again = server.session(ask.connection, again).await;
    assert_eq!(reported(again).await, Code::Grant, "a grant was good twice");
    drop(running);
}

/// F-080: what the host's owner says counts at once, whatever the server grants.
#[tokio::test]
async fn the_owner_can_narrow_a_running_agent() {
    let (running, mut server, _links) = serving_routes().start().await;
    running.set_local(LocalRule::RefuseAll("the file is damaged".to_owned()));
    assert_eq!(reported(server.ask(Ask::route(1, "echo")).await).await, Code::LocalPolicy);
    let rule = |subject: &str| Rule {
        issuer: ISSUER.to_owned(),
        subjects: vec![subject.to_owned()],
        groups: vec![],
        everyone: false,
        verbs: vec![Verb::Handler { name: "echo".to_owned() }],
        destinations: vec![],
        target_users: vec![],
        cluster_users: vec![],
        cluster_groups: vec![],
        modes: vec![Mode::Sealed],
        require_recording: false,
        session_minutes: None,
        require_mfa: false,
        mfa_minutes: None,
    };
    running.set_local(LocalRule::Policy(LocalPolicy { version: 1, allow: vec![rule("bob")] }));
    assert_eq!(reported(server.ask(Ask::route(2, "echo")).await).await, Code::LocalPolicy);
    running.set_local(LocalRule::Policy(LocalPolicy { version: 1, allow: vec![rule("alice")] }));
    serve_to_end(server.ask(Ask::route(3, "echo")).await).await;
}

/// A handler that panics ends its own session, with a word, and no other.
#[tokio::test]
async fn a_handler_that_panics_ends_its_session_alone() {
    let (_running, mut server, _links) = serving_routes().start().await;
    server.logged.expect_error("a back end broke");
    let mut other = server.open(Ask::route(1, "echo")).await;
    assert_eq!(server.ask(Ask::route(2, "break")).await.refused().await, Code::Unavailable);
    other.bytes(b"still here").await;
    other.act(Action::Eof { stream: 0 }).await;
    other.shows("still here").await;
    serve_to_end(server.ask(Ask::route(3, "echo")).await).await;
}

/// An order ends the connection's session; said again, it ends nothing.
#[tokio::test]
async fn an_order_ends_a_session_once() {
    let (_running, mut server, _links) = serving_routes().start().await;
    let (mut first, mut other) = (server.open(Ask::route(1, "echo")).await, server.open(Ask::route(2, "echo")).await);
    let order = server.order(Order::Close { connection: Ask::route(1, "echo").connection }).await;
    assert_eq!(first.end().await, End::Completed(Fin::Closed));
    let again = server.open(Ask::route(1, "echo")).await;
    server.say(order).await;
    let mut forged = server.order(Order::Close { connection: Ask::route(3, "echo").connection }).await;
    forged.certificate = bz_core::signed::Signed::seal(
        &bz_core::grant::ServerCert {
            key: crate::gate_world::key(66).public(),
            purpose: bz_core::grant::Purpose::Control,
            node: "one".to_owned(),
            not_before: bz_core::time::UnixTime::from_secs(0),
            not_after: bz_core::time::UnixTime::from_secs(u64::MAX / 1000),
        },
        ORG,
        &crate::gate_world::key(66),
    )
    .unwrap();
    server.say(forged).await;
    // Orders are obeyed in the order they come: after this one the two before have had their effect.
    server.order(Order::Detach { connection: Ask::route(2, "echo").connection }).await;
    assert_eq!(other.end().await, End::Completed(Fin::Closed));
    serve_to_end(again).await;
}

/// The client's carrier is cut and comes back: no byte is lost, none comes twice.
#[tokio::test]
async fn a_session_outlives_its_carrier() {
    let (_running, mut server, _links) = serving_routes().start().await;
    let mut session = server.open(Ask::route(1, "echo")).await;
    session.bytes(b"before ").await;
    session.shows("before ").await;
    session.cut().await;
    session.bytes(b"between ").await;
    session.connect().await;
    loop {
        if matches!(session.event().await, Event::Resumed) {
            break;
        }
    }
    session.bytes(b"after").await;
    session.act(Action::Eof { stream: 0 }).await;
    assert_eq!(session.end().await, End::Completed(Fin::Done));
    assert_eq!(String::from_utf8_lossy(&session.shown), "alice on echo: before between after");
}

/// F-093: a command runs as the named user, with its output, errors and status; a user that the host does not
/// have is refused, and not made.
#[tokio::test]
async fn a_command_runs_as_the_user_that_the_grant_names() {
    let (person, place) = (Person::new(), Place::new());
    let (_running, mut server, _links) = serving_shells(&place).start().await;
    let name = person.user.name.as_str();
    let mut session = server.open(Ask::exec(1, "cat; id -un; echo oops >&2; exit 7", name)).await;
    session.bytes(b"in ").await;
    session.act(Action::Eof { stream: 0 }).await;
    assert_eq!(session.end().await, End::Completed(Fin::Exited(7)));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((text(&session.shown), text(&session.errors)), (format!("in {name}\n"), "oops\n".to_owned()));
    let absent = "bz-nobody-has-this";
    assert_eq!(server.ask(Ask::exec(2, "true", absent)).await.refused().await, Code::User);
    assert!(nix::unistd::User::from_name(absent).unwrap().is_none(), "a user was made");
}

/// F-080: one of the system's users never comes out of a person's address, though a grant may name it.
#[tokio::test]
async fn a_substitution_never_gives_one_of_the_systems_users() {
    if !is_root() {
        return left_out("a substituted user of the system", "this is not root");
    }
    let (system, person, place) = (Person::of_the_system(), Person::new(), Place::new());
    assert!(system.user.uid < 1000 && person.user.uid >= 1000, "{:?} {:?}", system.user, person.user);
    let (_running, mut server, _links) = serving_shells(&place).start().await;
    let named = Ask::exec(1, "id -un", &system.user.name);
    let mut session = server.open(named.clone()).await;
    assert_eq!(session.end().await, End::Completed(Fin::Exited(0)));
    let substituted = |ask: Ask, number| Ask {
        substituted: true,
        connection: bz_core::id::ConnectionId::from_bytes([number; 16]),
        ..ask
    };
    assert_eq!(server.ask(substituted(named, 2)).await.refused().await, Code::User);
    let mut session = server.open(substituted(Ask::exec(3, "id -un", &person.user.name), 3)).await;
    assert_eq!(session.end().await, End::Completed(Fin::Exited(0)));
    assert_eq!(String::from_utf8_lossy(&session.shown), format!("{}\n", person.user.name));
}

/// A dropped agent is gone: its sessions hear nothing more, its tasks are over.
#[tokio::test]
async fn dropping_an_agent_ends_its_tasks() {
    let alive = Arc::new(());
    let stand = Stand::new();
    let held = Arc::clone(&alive);
    let wait = move |call: Call| {
        let held = Arc::clone(&held);
        async move {
            let _held = (held, call);
            std::future::pending().await
        }
    };
    let stand = Stand { agent: stand.agent.route(route("wait"), wait), ..stand };
    let (running, mut server, _links) = stand.start().await;
    let session = server.open(Ask::route(1, "wait")).await;
    session.bytes(b"x").await;
    drop(running);
    soon("the end of every task", async {
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn route(name: &str) -> Route {
    Route { name: name.to_owned(), description: "a test's".to_owned(), mode: Mode::Sealed }
}

fn serving_routes() -> Stand {
    let stand = Stand::new();
    let echo = |mut call: Call| async move {
        let who = call.identity.person.subject.clone();
        assert_eq!(call.grant.person, call.identity.person);
        call.stream.write_all(format!("{who} on echo: ").as_bytes()).await?;
        let mut buffer = [0; 1024];
        while let n @ 1.. = call.stream.read(&mut buffer).await? {
            call.stream.write_all(&buffer[..n]).await?;
        }
        Ok(())
    };
    let broken = |_: Call| async { panic!("as it should be in this test") };
    let agent = stand.agent.route(route("echo"), echo).route(route("break"), broken);
    Stand { agent, ..stand }
}

pub(crate) fn serving_shells(place: &Place) -> Stand {
    let stand = Stand::new();
    let shells = Shells::new(helper(), place.directory.path().join("shells")).unwrap();
    Stand { agent: stand.agent.shell(shells), ..stand }
}

/// Uses a session of the route `echo` and sees it end well.
async fn serve_to_end(mut session: Session) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let word = format!("word {}", COUNT.fetch_add(1, Ordering::Relaxed));
    session.bytes(word.as_bytes()).await;
    session.act(Action::Eof { stream: 0 }).await;
    assert_eq!(session.end().await, End::Completed(Fin::Done));
    assert_eq!(String::from_utf8_lossy(&session.shown), format!("alice on echo: {word}"));
}

/// A refusal before there are keys: only reported.
async fn reported(mut session: Session) -> Code {
    match session.end().await {
        End::Reported(code) => code,
        other => panic!("not a reported refusal: {other:?}"),
    }
}
