//! What is behind a host and nobody reads: one port, one service, whatever it speaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::client::AskError;
use bz_client::database::{Database, DatabaseError};
use bz_client::sealed::{MemorySealed, SealedError, SealedNames};
use bz_core::access::Mode;
use bz_core::access::destination::Destination;
use bz_core::api::error::Code;
use bz_core::api::policy::{PolicyTarget, ProxyContent, Subject, SubjectType};
use bz_core::api::record::{ConnectionEvent, ConnectionEventType};
use bz_core::api::target::TargetKind;
use bz_core::api::virtual_target::{DatabaseAuthentication, DatabaseTarget, NewVirtualTarget, Port};
use bz_core::id::TargetId;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::session::End;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::session::until;

/// F-020~, F-100~, F-101~, F-103~: a service behind a host is reached by its name, by whom a proxy policy names, without
/// a tunnel that leads anywhere; and the log says who, when and where.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_behind_a_host_is_reached_by_name() {
    for way in [Way::Ws, Way::Quic] {
        let room = Room::new(way).await;
        let (listener, id) = room.service("cache", "Redis").await;
        let denied = room.open("cache").await.unwrap_err();
        let DatabaseError::Ask(AskError::Rest(rest)) = &denied else { panic!("{denied}") };
        assert_eq!(rest.code(), Some(Code::Denied), "an administrator is a person, too: {denied}");

        room.allow(id).await;
        let cache = room.open("cache").await.unwrap();
        assert_eq!(cache.command("127.0.0.1", 7000), ["redis-cli", "-h", "127.0.0.1", "-p", "7000"]);
        let mut here = cache.dial().await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        far.write_all(b"+PONG\r\n").await.unwrap();
        let mut said = [0; 7];
        here.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"+PONG\r\n");
        let aside: Destination = "127.0.0.1:1".parse().unwrap();
        assert!(cache.tunnel().dial(&aside).await.is_err(), "it leads to the service and nowhere else");

        let connection = cache.tunnel().connection().to_string();
        room.world.client.delete_target(TargetKind::Db, id).await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(20), cache.tunnel().ended()).await.expect("it ends");
        assert!(matches!(end, End::Completed(_)), "{end:?}");
        let log = room.log(&connection).await;
        let place = |event: &ConnectionEvent| (event.place.target_name.clone(), event.place.target_type.clone());
        assert!(log.iter().all(|event| place(event) == ("cache".to_owned(), "Db".to_owned())), "{log:#?}");
        let closed = log.last().unwrap();
        assert!(closed.reason.contains("the target was deleted"), "{closed:#?}");
        let at = listener.local_addr().unwrap();
        let opened = log.iter().find(|e| e.connection_event_type == ConnectionEventType::StreamOpen).unwrap();
        assert_eq!(opened.reason, format!("to {at}, at {at}"));
        room.world.stop().await;
    }
}

/// A place that changed under a client that knew the old one is not reached by the old one's name.
#[tokio::test(flavor = "multi_thread")]
async fn what_moved_is_not_reached_where_it_was() {
    let room = Room::new(Way::Ws).await;
    let (_listener, id) = room.service("cache", "Redis").await;
    room.allow(id).await;
    let cache = room.open("cache").await.unwrap();
    let body = serde_json::json!({"remotePort": {"value": 1}});
    crate::api::call(&room.world, "PATCH", &format!("targets/database/{id}"), Some(&body)).await;
    let end = tokio::time::timeout(Duration::from_secs(20), cache.tunnel().ended()).await.expect("it ends");
    assert!(matches!(end, End::Completed(_)), "{end:?}");
    assert!(cache.tunnel().reason().unwrap_or_default().contains("the target was changed"));
    let moved: DatabaseTarget = room.world.client.find_virtual_target(&"cache".parse().unwrap()).await.unwrap();
    assert_eq!(moved.remote.remote_port.value, Some(1));
    assert_eq!(moved.base.id, id);
    room.world.stop().await;
}

/// A name that was sealed is not opened for the server to read on the server's word, and is when the person says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_is_not_read_on_the_servers_word() {
    let room = Room::new(Way::Ws).await;
    let (listener, id) = room.service("cache", "Redis").await;
    room.allow(id).await;
    let names: Arc<dyn SealedNames> = Arc::new(MemorySealed::default());
    let client = |may_be_read| room.world.client.clone().with_sealed_names(Arc::clone(&names), may_be_read);
    let name = "cache".parse().unwrap();
    let cache = client(false).database(&name).await.unwrap();
    assert_eq!(cache.tunnel().asked.request.mode, Mode::Sealed);
    cache.into_tunnel().close().await;

    let body =
        serde_json::json!({"databaseAuthenticationConfig": {"authenticationType": "Default", "database": "Postgres"}});
    crate::api::call(&room.world, "PATCH", &format!("targets/database/{id}"), Some(&body)).await;
    let refused = client(false).database(&name).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::Sealed(SealedError::Inspected { .. })), "{refused}");
    assert!(refused.to_string().contains("bz connect --inspected cache"), "{refused}");
    let by_id = format!("{id}").parse().unwrap();
    let refused = client(false).database(&by_id).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::Sealed(_)), "by its id, too: {refused}");
    assert!(room.world.client.connections().await.unwrap().is_empty(), "nothing was asked for");

    let read = client(true).database(&name).await.unwrap();
    assert_eq!(read.tunnel().asked.request.mode, Mode::Inspected);
    read.into_tunnel().close().await;
    let read = client(false).database(&name).await.expect("it is known from now on");
    read.into_tunnel().close().await;
    drop(listener);
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

    /// A service on this machine, and the target that it is by this name.
    async fn service(&self, name: &str, kind: &str) -> (TcpListener, TargetId) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at: SocketAddr = listener.local_addr().unwrap();
        let new = NewVirtualTarget {
            target_name: name.to_owned(),
            proxy_target_id: Some(self.world.client.find_target(&TARGET.parse().unwrap()).await.unwrap().id),
            remote_host: Some(at.ip().to_string()),
            remote_port: Some(Port { value: Some(at.port()) }),
            database_authentication_config: Some(DatabaseAuthentication {
                database: Some(kind.to_owned()),
                ..DatabaseAuthentication::default()
            }),
            ..NewVirtualTarget::default()
        };
        let made = self.world.client.create_virtual_target(TargetKind::Db, &new).await.unwrap();
        (listener, made.target_id)
    }

    async fn allow(&self, target: TargetId) {
        let client = &self.world.client;
        let policy = ProxyContent {
            name: "services".to_owned(),
            subjects: vec![Subject { id: client.me().await.unwrap().id, kind: SubjectType::User }],
            targets: vec![PolicyTarget { id: target, kind: "Db".to_owned() }],
            ..ProxyContent::default()
        };
        client.create_proxy_policy(&policy).await.unwrap();
    }

    async fn open(&self, name: &str) -> Result<Database, DatabaseError> {
        self.world.client.database(&name.parse().unwrap()).await
    }

    /// The log of one connection, oldest first, once it is closed.
    async fn log(&self, connection: &str) -> Vec<ConnectionEvent> {
        let look = async || {
            let mut events = self.world.client.connection_events(1000).await.unwrap();
            events.retain(|event| event.connection_id.to_string() == connection);
            events.reverse();
            events
        };
        let closed = |e: &ConnectionEvent| e.connection_event_type == ConnectionEventType::Closed;
        until(look, |events: &Vec<ConnectionEvent>| events.iter().any(closed)).await
    }
}
