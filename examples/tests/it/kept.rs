//! Shells that are kept: taken up from elsewhere, left alone, and what becomes of their connections.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bz_agent::agent::Agent;
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::shell::Shells;
use bz_agent::user::User;
use bz_client::client::Client;
use bz_client::login::{Login, LoginOptions};
use bz_client::pins::{FirstContact, MemoryPins};
use bz_core::api::access::Connection;
use bz_core::api::record::{ConnectionEvent, ConnectionEventType as Row};
use bz_core::id::ConnectionId;
use bz_examples::needs;
use bz_examples::world::{Walker, Way, World};
use bz_protocol::client::Action;
use bz_protocol::frame::Fin;
use bz_protocol::session::End;
use bz_protocol::transcript::Verdict;

use crate::session::until;
use crate::typist::Typist;

/// F-007, F-172~: a client that hangs or was killed is no reason to wait: the same person logs in elsewhere and goes on in
/// the same shell. The first is told, and the connection stays open, whatever becomes of the first; the log says who left
/// and who came.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_taken_over_from_elsewhere_and_its_connection_stays_open() {
    if !needs::program("bash") {
        return;
    }
    let room = Room::new().await;
    for killed in [false, true] {
        let mut first = room.shell().await;
        first.line("value=kept; printf 'here-%d\\n' 1", &["here-1"]).await;
        let id = first.session.connection();
        let connection = room.connection(id, |connection| connection.shell_id.is_some()).await;
        let elsewhere = room.elsewhere().await;
        let hangs = (!killed).then_some(first);
        if killed {
            room.connection(id, |connection| !connection.attached).await;
        }
        let mut second = Typist::back_at(&elsewhere, &connection).await;
        second.shows(&["here-1"]).await;
        if let Some(mut first) = hangs {
            assert_eq!(first.ends().await, End::Completed(Fin::Detached));
            assert!(first.taken_over, "the first is not told why it ends");
        }
        second.line("printf 'there-%s\\n' $value", &["there-kept"]).await;
        let came = async || room.log(id, Row::Created).await.0.iter().filter(|row| **row == Row::ClientConnect).count();
        until(came, |times| *times == 2).await;
        second.line("exit 6", &[]).await;
        assert_eq!(second.ends().await, End::Completed(Fin::Exited(6)));
        let (log, last) = room.log(id, Row::Closed).await;
        let (came, left) = ([Row::ClientConnect, Row::ShellConnect], [Row::ShellDisconnect, Row::ClientDisconnect]);
        assert_eq!(log, [&[Row::Created], &came[..], &left, &came, &left, &[Row::Closed]].concat());
        assert!(last.contains("it exited with 6"), "{last}");
    }
    room.world.stop().await;
}

/// F-001~, F-009~, F-010, F-011~: a shell that is left ends by itself, by its own program, or when its idle limit is over, which
/// an administrator sets; each time its connection ends with it, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_shell_behind_it() {
    if !needs::program("bash") {
        return;
    }
    let room = Room::new().await;
    let pipe = room.folder.path().join("go");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mut typist = room.shell().await;
    typist.line(&format!("printf 'rea%s' dy; read -r go < {}; exit", pipe.display()), &["ready"]).await;
    let id = typist.session.connection();
    room.leave(typist).await;
    tokio::task::spawn_blocking(move || std::fs::write(pipe, "go\n")).await.unwrap().unwrap();
    let (_, last) = room.log(id, Row::Closed).await;
    assert!(last.contains("it exited with 0"), "{last}");

    let shells = Shells::new(room.helper.clone(), room.folder.path().join("more")).unwrap();
    let identity = room.world.enroll("impatient").await.unwrap();
    let keys = IssuerKeys::ThroughLink(Arc::clone(&room.world.tls));
    let agent = Agent::new(identity, room.world.bundle.clone(), room.world.carrier.clone(), keys);
    let agent = agent.shell(shells.idle(Duration::from_secs(1))).start().unwrap();
    agent.online().await;
    let mut typist = Typist::on(&room.world.client, &room.user, "impatient").await;
    typist.line("printf 'here-%d\\n' 1", &["here-1"]).await;
    let id = typist.session.connection();
    room.leave(typist).await;
    let (log, last) = room.log(id, Row::Closed).await;
    assert!(last.contains("signal 1 ended it"), "{last}");
    assert_eq!(log.last(), Some(&Row::Closed), "{log:?}");
    agent.stop().await;
    room.world.stop().await;
}

/// A session that nobody ended has a record without an end, until its connection is closed: then the server says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_ends_with_its_connection() {
    if !needs::program("bash") {
        return;
    }
    let room = Room::new().await;
    let mut typist = room.shell().await;
    typist.line("printf 'here-%d\\n' 1", &["here-1"]).await;
    let id = typist.session.connection();
    room.connection(id, |connection| connection.shell_id.is_some()).await;
    drop(typist);
    room.connection(id, |connection| !connection.attached).await;
    room.world.client.close(id).await.unwrap();
    let look = async || room.world.transcripts(id).await.unwrap();
    let claims = |found: &Vec<(PathBuf, Result<Verdict, String>)>| {
        found.iter().all(|(_, verdict)| verdict.as_ref().is_ok_and(|verdict| verdict.server_claims.is_some()))
    };
    let found = until(look, |found| !found.is_empty() && claims(found)).await;
    let verdict = found[0].1.as_ref().unwrap();
    let why = verdict.server_claims.as_ref().map(|claims| claims.reason.as_str()).unwrap();
    assert!(!verdict.complete && why.starts_with("closed by the end user"), "{why}: {verdict:?}");
    room.world.stop().await;
}

struct Room {
    world: World,
    helper: Helper,
    user: String,
    folder: tempfile::TempDir,
}

impl Room {
    async fn new() -> Self {
        let (folder, helper) = (tempfile::tempdir().unwrap(), Helper::at(env!("CARGO_BIN_EXE_helper")));
        let user = User::current().unwrap().name;
        let place = folder.path().join("world");
        std::fs::create_dir(&place).unwrap();
        let world = World::start(&place, helper.clone(), &user, Way::Ws).await.unwrap();
        Self { world, helper, user, folder }
    }

    async fn shell(&self) -> Typist {
        Typist::at(&self.world.client, &self.user).await
    }

    /// The same person on another machine.
    async fn elsewhere(&self) -> Client {
        let (server, trust) = (self.world.client.server(), self.world.client.trust());
        let walker = Walker { user: self.user.clone() };
        let login = Login::begin(server, trust, &LoginOptions::default(), &walker).await.unwrap();
        let client = Client::new(server, trust.clone(), login).unwrap();
        client.with_known_agents(Arc::new(MemoryPins::default()), FirstContact::Accept)
    }

    async fn leave(&self, typist: Typist) {
        let mut typist = typist;
        self.connection(typist.session.connection(), |connection| connection.shell_id.is_some()).await;
        typist.act(Action::Finish(Fin::Detached)).await;
        assert_eq!(typist.ends().await, End::Completed(Fin::Detached));
    }

    /// The connection, as soon as it is so.
    async fn connection(&self, id: ConnectionId, is: impl Fn(&Connection) -> bool) -> Connection {
        let found = async || self.world.client.connections().await.unwrap().into_iter().find(|c| c.id == id);
        until(found, |connection| connection.as_ref().is_some_and(&is)).await.unwrap()
    }

    /// What happened to a connection, oldest first, once it holds `last`, and the reason for the newest.
    async fn log(&self, id: ConnectionId, last: Row) -> (Vec<Row>, String) {
        let look = async || {
            let all = self.world.client.connection_events(1000).await.unwrap();
            all.into_iter().filter(|event| event.connection_id == id).collect::<Vec<_>>()
        };
        let holds = |all: &Vec<ConnectionEvent>| all.iter().any(|event| event.connection_event_type == last);
        let all = until(look, holds).await;
        (all.iter().rev().map(|event| event.connection_event_type).collect(), all[0].reason.clone())
    }
}
