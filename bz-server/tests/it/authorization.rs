//! Every operation: proved, decided, logged, with no way round.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use std::path::Path;

use bz_core::api::error::Code;
use bz_server::Config;
use bz_server::api::{MAX_BODY, OPERATIONS, ProofOf, RIGHTS};
use serde_json::{Value, json};

use crate::world::{As, World};

/// What answers strangers: what they need before they can log in, what is published anyway, and what asks for a code.
const PUBLIC: [&str; 6] = [
    "apiservice:describe",
    "trustservice:bundle",
    "mfaservice:page-begin",
    "mfaservice:page-confirm",
    "artifactservice:get",
    "groupservice:verify-hook",
];

/// F-079, F-134, F-173: each operation of the API's document has a row in the rules, answers no stranger, and leaves one
/// event, whether it is allowed or not.
#[tokio::test]
async fn every_operation_is_decided_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::with(|config| hooked(config, folder.path())).await;
    let rules = world.app.engine.operations().unwrap();
    let admin = world.admin().await;
    let registration = world.key(&admin, true).await;
    let mut documented = operations(&world.document().await);
    // The last, so that there is a login till then.
    documented.sort_by_key(|operation| operation.action == "userservice:logout");
    for Documented { action, method, path, schemes } in documented {
        let roles = rules.get(&action).unwrap_or_else(|| panic!("policy/bz.rego has no row for {action}"));
        assert_eq!(schemes.is_empty(), PUBLIC.contains(&action.as_str()), "{action} and whom it answers");
        let call = async |who| {
            let before = world.log().await.len();
            let reply = world.raw(who, &method, &path, b"{}".to_vec()).await;
            let log = world.log().await;
            assert_eq!(log.len(), before + 1, "{method} {path} leaves no event");
            assert_eq!(log[0].service_action, action);
            (reply, log[0].evaluation)
        };
        let (reply, allowed) = call(As::Nobody).await;
        assert_eq!(allowed, schemes.is_empty(), "{method} {path} and strangers");
        if !allowed {
            reply.refused(Code::NotLoggedIn);
        }
        // Nobody owns the connection that the path names.
        let nobody = roles.iter().all(|role| role == "owner");
        let who = match schemes.as_slice() {
            [only] if only == "apiKey" => As::Key(&registration),
            [only] if only == "eventHook" => As::Hook(HOOK),
            _ => As::Client(&admin),
        };
        let (reply, allowed) = call(who).await;
        assert_eq!(allowed, !nobody, "{method} {path} as somebody who may: {}", reply.status);
    }
    for rule in rules.into_keys() {
        let known = OPERATIONS.iter().any(|o| o.name == rule) || RIGHTS.contains(&rule.as_str());
        assert!(known, "policy/bz.rego has a row for {rule}, which is no operation");
    }
}

/// F-140, F-141: a registration key is denied everything but registering, and the denial is logged.
#[tokio::test]
async fn a_registration_key_registers_and_nothing_else() {
    let world = World::new().await;
    let admin = world.admin().await;
    let secret = world.key(&admin, true).await;
    let others = OPERATIONS.iter().filter(|o| o.name != "agentservice:register" && o.proof == ProofOf::Known);
    for operation in others {
        let reply =
            world.raw(As::Key(&secret), operation.method.as_str(), &filled(operation.path), b"{}".to_vec()).await;
        reply.refused(Code::Denied);
        let log = world.log().await;
        assert_eq!((log[0].service_action.as_str(), log[0].evaluation), (operation.name, false));
        assert_eq!(log[0].actor.subject_name, "ci");
    }
    world.agent(&admin, "web").await;
}

/// F-051, F-052: who may what, row by row. A person without a policy may log in and look, and nothing more.
#[tokio::test]
async fn the_table_of_rights() {
    let world = World::new().await;
    let (admin, user) = (world.admin().await, world.user("alice").await);
    let secret = world.key(&admin, false).await;
    let rows = [
        ("GET", "/users/me", [true, true, false]),
        ("GET", "/organization", [true, true, true]),
        ("GET", "/users", [false, true, true]),
        ("GET", "/api-keys", [false, true, true]),
        ("GET", "/environments", [true, true, true]),
        ("GET", "/subjects", [false, true, true]),
        ("GET", "/subjects/me", [true, true, true]),
        ("GET", "/agents", [false, true, true]),
        ("GET", "/targets", [true, true, false]),
        ("GET", "/targets?allTargetsInOrg=true", [false, true, true]),
        ("GET", "/connections/db", [true, true, true]),
        ("GET", "/connections/shell?userEmail=root-of-all@example.com", [false, true, true]),
        ("GET", "/organization/identity-provider", [true, true, true]),
        ("GET", "/organization/bzcert-validation-info", [true, true, true]),
        ("GET", "/targets/bzero", [true, true, true]),
        ("GET", "/policies/target-connect", [false, true, true]),
        ("GET", "/policies/session-recording", [false, true, true]),
        ("GET", "/connections", [true, true, true]),
        ("GET", "/connections?all=true", [false, true, true]),
        ("GET", "/connections?userEmail=root-of-all@example.com", [false, true, true]),
        ("GET", "/events/subject", [false, true, true]),
        ("GET", "/events/connection", [false, true, true]),
        ("GET", "/events/command", [false, true, true]),
        ("GET", "/events/file", [false, true, true]),
        ("GET", "/events/query", [false, true, true]),
        ("GET", "/events/web", [false, true, true]),
        ("GET", "/events/kube", [false, true, true]),
        ("GET", "/session-recordings", [false, true, false]),
    ];
    for (method, path, [for_user, for_admin, for_key]) in rows {
        for (who, may, name) in [
            (As::Client(&user), for_user, "user"),
            (As::Client(&admin), for_admin, "admin"),
            (As::Key(&secret), for_key, "key"),
        ] {
            let reply = world.raw(who, method, path, Vec::new()).await;
            if may {
                assert!(reply.status.is_success(), "{name} may {method} {path}, and got {}", reply.status);
            } else {
                reply.refused(Code::Denied);
            }
        }
    }
    let deny = |method: &'static str, path: &'static str, body| {
        let (world, user) = (&world, &user);
        async move { world.call(As::Client(user), method, path, &body).await.refused(Code::Denied) }
    };
    deny("POST", "/api-keys", json!({"name": "x"})).await;
    deny("POST", "/environments", json!({"name": "x"})).await;
    deny("POST", "/policies/target-connect", json!({"name": "x"})).await;
    deny("POST", "/policies/session-recording", json!({"name": "x"})).await;
}

/// A proof is for one call, one time, one moment, one key.
#[tokio::test]
async fn a_proof_is_for_one_call() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let send = |header: String, path: &'static str| {
        let request = Request::builder().uri(path).header("Authorization", header).body(Body::empty()).unwrap();
        world.send(request)
    };
    let me = "/api/v2/users/me";
    let header = world.proof(&alice, "GET", me, b"").to_header();
    send(header.clone(), me).await.done();
    assert_eq!(send(header, me).await.refused(Code::NotLoggedIn).error_msg, "this call was made before");
    let header = world.proof(&alice, "GET", me, b"").to_header();
    send(header, "/api/v2/users/me?x=1").await.refused(Code::NotLoggedIn);
    let header = world.proof(&alice, "GET", me, b"").to_header();
    world.advance(121);
    send(header, me).await.refused(Code::NotLoggedIn);
    let mut other = world.client("mallory");
    other.login = alice.login;
    world.get(As::Client(&other), "/users/me").await.refused(Code::NotLoggedIn);
    send("Bearer eyJ".to_owned(), me).await.refused(Code::NotLoggedIn);
    let both = Request::builder().uri(me).header("Authorization", "x").header("X-API-KEY", "y");
    world.send(both.body(Body::empty()).unwrap()).await.refused(Code::BadRequest);
}

/// F-149: bounded bodies, unknown paths and wrong methods are answered as errors of the API.
#[tokio::test]
async fn odd_calls_are_errors_of_the_api() {
    let world = World::new().await;
    let admin = world.admin().await;
    world.raw(As::Client(&admin), "POST", "/api-keys", vec![b' '; MAX_BODY + 1]).await.refused(Code::TooLarge);
    world.raw(As::Client(&admin), "POST", "/api-keys", b"{".to_vec()).await.refused(Code::BadRequest);
    assert_eq!(world.get(As::Client(&admin), "/nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.raw(As::Nobody, "PUT", "/users/me", vec![]).await.status, StatusCode::METHOD_NOT_ALLOWED);
    world.get(As::Client(&admin), "/api-keys/x").await.refused(Code::BadRequest);
    world.get(As::Client(&admin), "/events/subject?eventCount=x").await.refused(Code::BadRequest);
}

/// A stranger's calls are bounded, and those beyond leave no rows.
#[tokio::test]
async fn strangers_cannot_flood_the_log() {
    let world = World::new().await;
    for _ in 0..300 {
        world.get(As::Nobody, "/users/me").await.refused(Code::NotLoggedIn);
    }
    let before = world.app.store.event_head().await.unwrap();
    world.get(As::Nobody, "/users/me").await.refused(Code::TooMany);
    assert_eq!(world.app.store.event_head().await.unwrap(), before);
    world.advance(61);
    world.get(As::Nobody, "/users/me").await.refused(Code::NotLoggedIn);
}

/// What an identity provider sends that sends events.
const HOOK: &str = "a-secret-of-an-event-hook";

/// Settings with an event hook, and a directory that nobody reaches.
fn hooked(config: &mut Config, folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let secret = folder.join("secret");
    std::fs::write(&secret, HOOK).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let issuer = &config.providers[0].issuer;
    let text = format!(
        "issuer = {issuer:?}\nkind = \"okta\"\napi = \"http://127.0.0.1:1\"\nsecret_file = {secret:?}\n\
         hook_secret_file = {secret:?}"
    );
    config.directories = vec![toml::from_str(&text).unwrap()];
}

/// An operation, as the document says it.
struct Documented {
    action: String,
    method: String,
    path: String,
    schemes: Vec<String>,
}

fn operations(document: &Value) -> Vec<Documented> {
    let names = |requirement: &Value| requirement.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let paths = document["paths"].as_object().unwrap().iter();
    let all =
        paths.flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, of)| (path, method, of)));
    all.map(|(path, method, of)| Documented {
        action: of["x-service-action"].as_str().unwrap().to_owned(),
        method: method.to_uppercase(),
        path: filled(path.strip_prefix("/api/v2").unwrap()),
        schemes: of["security"].as_array().unwrap().iter().flat_map(names).collect(),
    })
    .collect()
}

fn filled(path: &str) -> String {
    path.replace("{id}", "00000000-0000-4000-8000-000000000000")
        .replace("{n}", "1")
        .replace("{name}", "bz-agent-linux-x86_64")
}
