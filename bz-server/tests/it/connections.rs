//! `/connections`: opening under policy, the grant, listing, closing, attaching.

use std::time::Duration;

use bz_core::access::request::{Parameters, Request, Size};
use bz_core::access::{Mode, Verb};
use bz_core::api::Bytes;
use bz_core::api::access::{Connection, ConnectionMade, ConnectionState};
use bz_core::api::error::Code;
use bz_core::api::record::{ConnectionEvent, ConnectionEventType};
use bz_core::grant::{Grant, GrantError, MAX_GRANT, Pins, SignedGrant};
use bz_core::id::ShellId;
use bz_core::target::UserRule;
use bz_core::wire;
use bz_server::connection::link;
use bz_server::seam::links::Asked;
use serde_json::{Value, json};

use crate::world::{As, Client, World};

const SIZE: Size = Size { rows: 24, columns: 80 };

/// F-077, F-078: without a policy a request is dropped and logged; with one its grant says exactly what was asked.
#[tokio::test]
async fn a_grant_is_exactly_what_was_asked() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let command = Parameters::Exec { command: "uptime".to_owned() };
    let body = json!({"targetName": "web", "parameters": parameters(&command)});
    let ask = || world.call(As::Client(&alice), "POST", "/connections/universal", &body);
    ask().await.refused(Code::Denied);
    let log = world.log().await;
    assert_eq!((log[0].resource.as_str(), log[0].evaluation), ("web", false));
    let policy = world.allow(&admin, &alice, &web, &["{username}"]).await;
    let made: ConnectionMade = ask().await.ok();
    assert_eq!(made.target_user.as_ref().unwrap().as_str(), "alice");
    assert_eq!((made.mode, made.recorded, made.agent_public_key), (Mode::Inspected, false, web.identity.public()));
    let grant = grant(&world, &made, 0).unwrap();
    let request =
        Request { target: web.id, user: made.target_user.clone(), mode: Mode::Inspected, parameters: command };
    assert_eq!(grant.request, Request::digest(&request.encode().unwrap()));
    assert_eq!((grant.client_key, grant.agent_key), (alice.key.public(), web.identity.public()));
    assert_eq!((grant.boot, grant.target, grant.connection), (web.boot, web.id, made.connection_id));
    assert_eq!((&grant.verb, &grant.user), (&Verb::Shell, &Some(UserRule::Username)));
    assert_eq!((grant.person.subject.as_str(), grant.person.issuer.as_str()), ("alice", crate::idp::ISSUER));
    assert_eq!(grant.policies.iter().map(ToString::to_string).collect::<Vec<_>>(), [policy]);
    assert_eq!(grant.session_cap(), Duration::from_secs(24 * 3600));
    assert!(self::grant(&world, &made, 299).is_ok());
    assert_eq!(self::grant(&world, &made, 300).unwrap_err(), GrantError::Expired);
}

/// F-089, F-091, F-092~: of several allowed users one must be named; {username} is the one from the address.
#[tokio::test]
async fn several_users_must_be_chosen_from() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["{username}"]).await;
    let ask = |user: Option<&'static str>| {
        let body = json!({"targetId": web.id, "targetUser": user});
        let (world, alice) = (&world, &alice);
        async move { world.call(As::Client(alice), "POST", "/connections/universal", &body).await }
    };
    assert_eq!(ask(None).await.ok::<ConnectionMade>().target_user.unwrap().as_str(), "alice");
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    assert_eq!(ask(None).await.refused(Code::TargetUserNeeded).candidates, ["alice", "deploy"]);
    assert_eq!(ask(Some("deploy")).await.ok::<ConnectionMade>().target_user.unwrap().as_str(), "deploy");
    ask(Some("root")).await.refused(Code::Denied);
    ask(Some("$(id)")).await.refused(Code::BadRequest);
}

/// F-034: an offline target gets no connection, and its state is told only to those who may go there.
#[tokio::test]
async fn an_offline_target_gets_no_connection() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.links.set(web.id, None);
    let body = json!({"targetName": "web"});
    let ask = || world.call(As::Client(&alice), "POST", "/connections/universal", &body);
    ask().await.refused(Code::Denied);
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    ask().await.refused(Code::TargetOffline);
    assert!(world.app.store.connection_events(Default::default()).await.unwrap().is_empty());
    world.links.set(web.id, Some(web.boot));
    ask().await.done();
}

#[tokio::test]
async fn targets_are_found_by_name_and_environment() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    world.agent(&admin, "web").await;
    world.call(As::Client(&admin), "POST", "/environments", &json!({"name": "prod"})).await.done();
    let secret = world.key(&admin, true).await;
    let (mut second, identity) = world.registration("web", [200; 32]);
    second.environment_name = Some("prod".to_owned());
    second.prove(&identity, &bz_core::key::PrivateKey::from_seed(&[200 ^ 0xff; 32]).unwrap());
    world.call(As::Key(&secret), "POST", "/agent/register", &second).await.done();
    let ask = |body: Value| {
        let (world, alice) = (&world, &alice);
        async move { world.call(As::Client(alice), "POST", "/connections/universal", &body).await }
    };
    let several = ask(json!({"targetName": "web"})).await.refused(Code::Ambiguous);
    assert_eq!(several.candidates, ["Default", "prod"]);
    ask(json!({"targetName": "web", "environmentName": "prod"})).await.refused(Code::Denied);
    ask(json!({"targetName": "web", "environmentName": "none"})).await.refused(Code::NotFound);
    ask(json!({"targetName": "db"})).await.refused(Code::NotFound);
    ask(json!({})).await.refused(Code::BadRequest);
    let attach = parameters(&Parameters::Attach { shell: ShellId::from_bytes([1; 16]), size: SIZE });
    ask(json!({"targetName": "web", "environmentName": "prod", "parameters": attach})).await.refused(Code::BadRequest);
}

/// F-001~, F-165, F-166, F-167: opened, connected, disconnected, closed; who closed it is in the log.
#[tokio::test]
async fn a_life_is_logged_with_who_ended_it() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let bob = world.user("bob").await;
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let made = world.connect(&alice, &web).await;
    let id = made.connection_id;
    link::client_connected(&world.app, id).await.unwrap();
    link::client_disconnected(&world.app, id, "its client left").await.unwrap();
    link::client_connected(&world.app, id).await.unwrap();
    let close = format!("/connections/{id}/close");
    world.raw(As::Client(&bob), "PATCH", &close, vec![]).await.refused(Code::Denied);
    world.raw(As::Client(&alice), "PATCH", &close, vec![]).await.done();
    world.raw(As::Client(&alice), "PATCH", &close, vec![]).await.done();
    let log = log(&world, &admin, &format!("?connectionIds={id}")).await;
    let kinds: Vec<_> = log.iter().rev().map(|e| e.connection_event_type).collect();
    use ConnectionEventType::{ClientConnect, ClientDisconnect, Closed, Created};
    assert_eq!(
        kinds,
        [Created, ClientConnect, ClientDisconnect, ClientConnect, ClientDisconnect, Closed],
        "closing twice is logged once"
    );
    let last = &log[0];
    assert_eq!(last.reason, "closed by the end user alice@example.com: closed on request");
    assert_eq!((last.actor.subject_name.as_str(), last.place.target_name.as_str()), ("alice@example.com", "web"));
    assert_eq!(last.place.target_user, "deploy");
    assert_eq!(world.links.asked(), [Asked::Closed(id, last.reason.clone())]);
    let other = world.connect(&alice, &web).await.connection_id;
    world.raw(As::Client(&admin), "PATCH", &format!("/connections/{other}/close"), vec![]).await.done();
    let log = self::log(&world, &admin, "?eventCount=1").await;
    assert_eq!(log[0].reason, "closed by the administrator root-of-all@example.com: closed on request");
}

/// F-157: times in logs are UTC.
#[tokio::test]
async fn times_are_utc() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    world.connect(&alice, &web).await;
    let log = log(&world, &admin, "").await;
    assert_eq!(log[0].timestamp, "2027-01-15T08:00:00Z");
    assert_eq!(world.log().await[0].timestamp, "2027-01-15T08:00:00Z");
}

/// F-025~: a person lists the own connections, an administrator those of one or of all.
#[tokio::test]
async fn connections_are_listed() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let (open, closed) = (world.connect(&alice, &web).await, world.connect(&alice, &web).await);
    link::client_connected(&world.app, open.connection_id).await.unwrap();
    let path = format!("/connections/{}/close", closed.connection_id);
    world.raw(As::Client(&alice), "PATCH", &path, vec![]).await.done();
    let list = |who, query: &'static str| {
        let world = &world;
        async move {
            let all: Vec<Connection> = world.get(As::Client(who), &format!("/connections{query}")).await.ok();
            all.into_iter().map(|c| (c.id, c.state, c.attached, c.kind)).collect::<Vec<_>>()
        }
    };
    let is_open = (open.connection_id, ConnectionState::Open, true, "Shell".to_owned());
    let is_closed = (closed.connection_id, ConnectionState::Closed, false, "Shell".to_owned());
    assert_eq!(list(&alice, "").await, std::slice::from_ref(&is_open));
    assert_eq!(list(&alice, "?connectionState=Closed").await, [is_closed]);
    assert_eq!(list(&admin, "").await, []);
    assert_eq!(list(&admin, "?userEmail=alice@example.com").await, std::slice::from_ref(&is_open));
    assert_eq!(list(&admin, "?all=true").await, [is_open]);
}

/// F-172~: a shell is attached to by its own person, under a new grant for that shell and that login.
#[tokio::test]
async fn a_shell_is_attached_to_by_its_person() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let policy = world.allow(&admin, &alice, &web, &["deploy"]).await;
    let id = world.connect(&alice, &web).await.connection_id;
    let attach = |who| {
        let (world, path) = (&world, format!("/connections/{id}/shell/attach"));
        async move { world.call(As::Client(who), "POST", &path, &json!({"size": SIZE})).await }
    };
    attach(&alice).await.refused(Code::Conflict);
    let shell = ShellId::from_bytes([5; 16]);
    link::client_connected(&world.app, id).await.unwrap();
    link::shell_attached(&world.app, web.id, id, shell).await.unwrap();
    link::client_disconnected(&world.app, id, "its client left").await.unwrap();
    let again = world.user("alice").await;
    let made: ConnectionMade = attach(&again).await.ok();
    assert_eq!((made.connection_id, made.shell_id), (id, Some(shell)));
    let grant = grant(&world, &made, 0).unwrap();
    let request = Request {
        target: web.id,
        user: made.target_user,
        mode: made.mode,
        parameters: Parameters::Attach { shell, size: SIZE },
    };
    assert_eq!(grant.request, Request::digest(&request.encode().unwrap()));
    assert_eq!(grant.client_key, again.key.public());
    attach(&admin).await.refused(Code::Denied);
    world.raw(As::Client(&admin), "DELETE", &format!("/policies/target-connect/{policy}"), vec![]).await.done();
    assert_eq!(attach(&alice).await.refused(Code::Conflict).error_msg, "the connection is closed");
}

/// A recorded person's grant says so, and no sealed shell gets round it.
#[tokio::test]
async fn a_recorded_person_is_recorded_everywhere() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let body = json!({
        "name": "record alice", "recordInput": true,
        "subjects": [{"id": world.id_of(&alice).await, "type": "User"}],
    });
    world.call(As::Client(&admin), "POST", "/policies/session-recording", &body).await.done();
    let made = world.connect(&alice, &web).await;
    assert!(made.recorded);
    let recording = grant(&world, &made, 0).unwrap().recording;
    assert_eq!((recording.output, recording.input), (true, true));
    let sealed = json!({"targetId": web.id, "mode": "sealed"});
    world.call(As::Client(&alice), "POST", "/connections/universal", &sealed).await.refused(Code::Denied);
}

fn parameters(parameters: &Parameters) -> Bytes {
    Bytes(wire::encode(parameters, bz_core::access::request::MAX_REQUEST).unwrap())
}

/// The grant as its agent would take it, so many seconds later.
fn grant(world: &World, made: &ConnectionMade, later: u64) -> Result<Grant, GrantError> {
    let signed = signed(made);
    let now = world.app.now().wall.after(Duration::from_secs(later));
    let roots = world.app.bundle().roots;
    Grant::verify(&signed, &Pins { organization: world.app.organization, roots: &roots, now })
}

fn signed(made: &ConnectionMade) -> SignedGrant {
    wire::decode(&made.grant.0, MAX_GRANT).unwrap()
}

async fn log(world: &World, admin: &Client, query: &str) -> Vec<ConnectionEvent> {
    world.get(As::Client(admin), &format!("/events/connection{query}")).await.ok()
}
