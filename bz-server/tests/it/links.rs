//! What the relay asks and says.

use bz_core::access::request::Parameters;
use bz_core::api::Bytes;
use bz_core::api::access::ConnectionMade;
use bz_core::api::error::Code;
use bz_core::id::{ConnectionId, LoginId, ShellId};
use bz_core::wire;
use bz_server::connection::life::{By, State, StepError};
use bz_server::connection::link::{self, LinkError};
use bz_server::seam::links::Asked;
use bz_server::store::connection::ConnectionFilter;
use bz_server::store::target::Announced;
use serde_json::json;

use crate::world::{As, World};

/// A stream is for the login that holds the connection, while both live.
#[tokio::test]
async fn a_stream_is_for_its_own_login() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let second = world.user("alice").await;
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let id = world.connect(&alice, &web).await.connection_id;
    let ask = |login: LoginId, id: ConnectionId| {
        let app = &world.app;
        async move { link::authorize_link(app, login, id).await.map(|c| c.id) }
    };
    assert_eq!(ask(alice.login, id).await, Ok(id));
    assert_eq!(ask(second.login, id).await, Err(LinkError::Connection), "the same person, another login");
    assert_eq!(ask(admin.login, id).await, Err(LinkError::Connection));
    assert_eq!(ask(alice.login, ConnectionId::from_bytes([1; 16])).await, Err(LinkError::Connection));
    assert_eq!(ask(LoginId::from_bytes([1; 16]), id).await, Err(LinkError::Login));
    let place = link::agent_for(&world.app, id).await.unwrap();
    assert_eq!((place.target, place.boot, place.identity_key), (web.id, web.boot, web.identity.public()));
    world.links.set(web.id, None);
    assert_eq!(link::agent_for(&world.app, id).await, Err(LinkError::Offline));
    link::closed(&world.app, id, &By::Service, "the command ended").await.unwrap();
    assert_eq!(ask(alice.login, id).await, Err(LinkError::Closed));
    world.advance(4000);
    assert_eq!(ask(alice.login, id).await, Err(LinkError::Login));
    assert_eq!(
        link::client_connected(&world.app, id).await.map(|c| c.id),
        Err(LinkError::Step(StepError::Ended)),
        "what is closed stays closed"
    );
}

/// F-035: when the resume window is over, the target's connections close, with that reason; once.
#[tokio::test]
async fn an_offline_targets_connections_close() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let online = Announced { boot: web.boot, version: "2".to_owned(), routes: Vec::new() };
    link::target_online(&world.app, web.id, online).await.unwrap();
    assert_eq!(link::believed_online(&world.app).await.unwrap(), [web.id]);
    let id = world.connect(&alice, &web).await.connection_id;
    link::client_connected(&world.app, id).await.unwrap();
    link::target_offline(&world.app, web.id).await.unwrap();
    link::target_offline(&world.app, web.id).await.unwrap();
    let why = "closed by the service: the target is offline";
    assert_eq!(world.links.asked(), [Asked::Closed(id, why.to_owned())]);
    assert!(world.app.store.connections(ConnectionFilter::default()).await.unwrap().is_empty());
    assert!(link::believed_online(&world.app).await.unwrap().is_empty());
}

/// F-170~, F-171~: after a logout a kept shell runs on, detached; a connection without one ends.
#[tokio::test]
async fn a_kept_shell_outlives_the_logout() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let (kept, young) = (world.connect(&alice, &web).await, world.connect(&alice, &web).await);
    link::client_connected(&world.app, kept.connection_id).await.unwrap();
    link::shell_attached(&world.app, web.id, kept.connection_id, ShellId::from_bytes([1; 16])).await.unwrap();
    world.call(As::Client(&alice), "POST", "/users/logout", &json!({})).await.done();
    let state = |id| {
        let app = &world.app;
        async move { app.store.connection(id).await.unwrap().unwrap().life.state }
    };
    assert_eq!(state(kept.connection_id).await, State::Detached);
    assert_eq!(state(young.connection_id).await, State::Closed);
    assert_eq!(
        link::authorize_link(&world.app, alice.login, kept.connection_id).await.map(|c| c.id),
        Err(LinkError::Login)
    );
}

/// An agent's word about shells changes the connections of its own target alone.
#[tokio::test]
async fn an_agent_speaks_for_its_own_target_alone() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let (web, other) = (world.agent(&admin, "web").await, world.agent(&admin, "other").await);
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let id = world.connect(&alice, &web).await.connection_id;
    link::client_connected(&world.app, id).await.unwrap();
    let before = world.app.store.connection(id).await.unwrap().unwrap().life;
    let foreign = link::shell_attached(&world.app, other.id, id, ShellId::from_bytes([1; 16])).await;
    assert_eq!(foreign.map(|c| c.id), Err(LinkError::Connection));
    assert_eq!(world.app.store.connection(id).await.unwrap().unwrap().life, before);
    link::shell_attached(&world.app, web.id, id, ShellId::from_bytes([2; 16])).await.unwrap();
    assert_ne!(world.app.store.connection(id).await.unwrap().unwrap().life, before);
}

/// F-009, F-011: a shell that no client comes back to is closed after seven days or what the settings say, to the
/// second; the agent's repeated word about it does not make it younger, a client that came does.
#[tokio::test]
async fn an_idle_shell_is_closed_after_a_week_or_what_the_settings_say() {
    for hours in [None, Some(2)] {
        let world = World::with(|config| config.shell_idle_hours = hours.unwrap_or(config.shell_idle_hours)).await;
        let idle = u64::from(hours.unwrap_or(168)) * 3600;
        let (admin, alice) = (world.admin().await, world.user("alice").await);
        let web = world.agent(&admin, "web").await;
        world.allow(&admin, &alice, &web, &["deploy"]).await;
        let id = world.connect(&alice, &web).await.connection_id;
        let shell = ShellId::from_bytes([1; 16]);
        link::client_connected(&world.app, id).await.unwrap();
        link::shell_attached(&world.app, web.id, id, shell).await.unwrap();
        world.advance(idle + 1);
        bz_server::jobs::tick(&world.app).await.unwrap();
        assert_eq!(world.links.asked(), [], "its client is there");
        link::client_disconnected(&world.app, id, "left").await.unwrap();
        world.advance(idle - 1);
        link::shell_attached(&world.app, web.id, id, shell).await.unwrap();
        bz_server::jobs::tick(&world.app).await.unwrap();
        assert_eq!(world.links.asked(), [], "a second before");
        link::client_connected(&world.app, id).await.unwrap();
        link::client_disconnected(&world.app, id, "left again").await.unwrap();
        world.advance(idle - 1);
        bz_server::jobs::tick(&world.app).await.unwrap();
        assert_eq!(world.links.asked(), [], "a second before, counted anew");
        world.advance(1);
        bz_server::jobs::tick(&world.app).await.unwrap();
        let why = format!("closed by the service: nobody was on its shell for {} hours", idle / 3600);
        assert_eq!(world.links.asked(), [Asked::Closed(id, why)]);
    }
}

/// A detached connection ends with its shell, as soon as the agent does not name it any more; one with a client hears of
/// it in its session, and another target's agent has no word in it.
#[tokio::test]
async fn a_connection_does_not_outlive_its_shell() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let (web, other) = (world.agent(&admin, "web").await, world.agent(&admin, "other").await);
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let shell = |number: u8| ShellId::from_bytes([number; 16]);
    let mut ids = Vec::new();
    for number in 1..=3 {
        let id = world.connect(&alice, &web).await.connection_id;
        link::client_connected(&world.app, id).await.unwrap();
        link::shell_attached(&world.app, web.id, id, shell(number)).await.unwrap();
        ids.push(id);
    }
    link::client_disconnected(&world.app, ids[0], "left").await.unwrap();
    link::client_disconnected(&world.app, ids[1], "left").await.unwrap();
    link::shells_known(&world.app, other.id, &[].into()).await.unwrap();
    link::shells_known(&world.app, web.id, &[shell(1), shell(2), shell(3)].into()).await.unwrap();
    assert_eq!(world.links.asked(), []);
    link::shells_known(&world.app, web.id, &[shell(2)].into()).await.unwrap();
    let why = "closed by the service: its shell has ended".to_owned();
    assert_eq!(world.links.asked(), [Asked::Closed(ids[0], why)]);
}

/// F-169~: a connection that cannot live without its client is closed when its client did not come back for as long as the
/// agent waits for it; a shell's is not.
#[tokio::test]
async fn what_its_client_left_closes() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let exec = wire::encode(&Parameters::Exec { command: "true".to_owned() }, 64).unwrap();
    let body = json!({"targetId": web.id, "parameters": Bytes(exec)});
    let made: ConnectionMade = world.call(As::Client(&alice), "POST", "/connections/universal", &body).await.ok();
    for id in [made.connection_id, world.connect(&alice, &web).await.connection_id] {
        link::client_connected(&world.app, id).await.unwrap();
        link::client_disconnected(&world.app, id, "left").await.unwrap();
    }
    world.advance(149);
    bz_server::jobs::tick(&world.app).await.unwrap();
    assert_eq!(world.links.asked(), []);
    world.advance(1);
    bz_server::jobs::tick(&world.app).await.unwrap();
    let why = "closed by the service: its client left and did not come back".to_owned();
    assert_eq!(world.links.asked(), [Asked::Closed(made.connection_id, why)]);
}

/// A connection whose client never came is closed when no grant can open it any more.
#[tokio::test]
async fn what_nobody_opens_closes() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let (never, used) = (world.connect(&alice, &web).await.connection_id, world.connect(&alice, &web).await);
    link::client_connected(&world.app, used.connection_id).await.unwrap();
    world.advance(899);
    bz_server::jobs::tick(&world.app).await.unwrap();
    assert_eq!(world.links.asked(), []);
    world.advance(1);
    bz_server::jobs::tick(&world.app).await.unwrap();
    assert_eq!(world.links.asked(), [Asked::Closed(never, "closed by the service: its client never came".to_owned())]);
}

/// F-035~, F-033~: connections of an offline target close; a kept shell is listed again when the target is back with it,
/// unless it was closed or no policy allows it any more: then its agent is told to end it.
#[tokio::test]
async fn a_kept_shell_comes_back_with_its_target() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let shell = ShellId::from_bytes([1; 16]);
    let kept = world.connect(&alice, &web).await.connection_id;
    link::client_connected(&world.app, kept).await.unwrap();
    link::shell_attached(&world.app, web.id, kept, shell).await.unwrap();
    let listed = async || {
        let body: serde_json::Value = world.get(As::Client(&alice), "/connections").await.ok();
        body.as_array().unwrap().iter().filter(|c| c["id"] == kept.to_string()).count()
    };
    let offline = async || {
        let online = Announced { boot: web.boot, version: "2".to_owned(), routes: Vec::new() };
        link::target_online(&world.app, web.id, online).await.unwrap();
        link::target_offline(&world.app, web.id).await.unwrap();
    };
    offline().await;
    assert_eq!(listed().await, 0, "offline");
    let size = json!({ "size": { "rows": 24, "columns": 80 } });
    let refused = world.call(As::Client(&alice), "POST", &format!("/connections/{kept}/shell/attach"), &size).await;
    let refused = refused.refused(Code::Conflict);
    assert!(refused.error_msg.contains("the target is offline"), "{}", refused.error_msg);
    link::shell_attached(&world.app, web.id, kept, shell).await.unwrap();
    assert_eq!(listed().await, 1, "back");

    offline().await;
    let asked = world.links.asked().len();
    world.call(As::Client(&admin), "PATCH", &format!("/connections/{kept}/close"), &json!({})).await.done();
    let refused = link::shell_attached(&world.app, web.id, kept, shell).await;
    assert_eq!(refused.map(|c| c.id), Err(LinkError::Closed));
    assert!(
        matches!(&world.links.asked()[asked..], [Asked::Closed(id, why)] if *id == kept && why.contains("its shell ends"))
    );
}

/// PR-SEGMENT-3: segments are taken of the agent's own target alone, while the connection is open.
#[tokio::test]
async fn a_segment_is_of_an_open_connection_on_its_own_target() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let (web, other) = (world.agent(&admin, "web").await, world.agent(&admin, "other").await);
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let id = world.connect(&alice, &web).await.connection_id;
    let taken = async |target| link::segment_of(&world.app, target, id).await.map(|(c, ends)| (c.id, ends.agent_key));
    assert_eq!(taken(other.id).await, Err(LinkError::Connection));
    assert_eq!(taken(web.id).await.map(|(found, _)| found), Ok(id));
    world.call(As::Client(&alice), "PATCH", &format!("/connections/{id}/close"), &json!({})).await.done();
    assert_eq!(taken(web.id).await, Err(LinkError::Closed));
}
