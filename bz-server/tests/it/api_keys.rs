//! `/api-keys`.

use axum::body::Body;
use axum::http::Request;
use bz_core::api::api_key::secret::{ACCESS, KeyText, REGISTRATION};
use bz_core::api::api_key::{ApiKey, ApiKeyMade, OwnerType, Scope};
use bz_core::api::error::Code;
use bz_core::time::UnixTime;
use bz_server::api::{OPERATIONS, Peer, RIGHTS};
use bz_server::jobs;
use bz_server::store::FILE;
use serde_json::{Value, json};

use crate::world::{As, Client, Reply, World};

/// F-132, F-133~, F-136, F-137, F-149: a secret is in one answer, opens calls, and ends with its key; it is nowhere in the
/// store, and neither is its plain hash.
#[tokio::test]
async fn a_secret_is_shown_once_and_ends_with_its_key() {
    let world = World::new().await;
    let admin = world.admin().await;
    let new = json!({"name": "ci", "isRegistrationKey": false});
    let made: ApiKeyMade = world.call(As::Client(&admin), "POST", "/api-keys", &new).await.ok();
    assert_eq!(made.api_key_details.scopes, [Scope::All], "the original's body means what it meant");
    let path = format!("/api-keys/{}", made.api_key_details.id);
    world.get(As::Key(&made.secret), "/users").await.done();
    for shown in ["/api-keys", &path, "/events/subject"] {
        let reply = world.get(As::Client(&admin), shown).await;
        reply.done();
        assert!(!String::from_utf8_lossy(&reply.body).contains(&made.secret), "{shown} shows the secret");
    }
    let plain = bz_core::digest::Digest::of(made.secret.as_bytes()).to_string();
    for file in [FILE.to_owned(), format!("{FILE}-wal")] {
        let stored = std::fs::read(world.app.config().data.join(file)).unwrap();
        for secret in [made.secret.as_bytes(), plain.as_bytes()] {
            assert!(!stored.windows(secret.len()).any(|bytes| bytes == secret), "the store has it");
        }
    }
    let renamed: ApiKey = world.call(As::Client(&admin), "PATCH", &path, &json!({"name": "robot"})).await.ok();
    assert_eq!((renamed.name.as_str(), renamed.id), ("robot", made.api_key_details.id));
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.refused(Code::NotFound);
    world.get(As::Key(&made.secret), "/users").await.refused(Code::NotLoggedIn);
}

/// F-135: the dashboard: every key with what it is for, whose it is, when it ends and when it was used last, which is
/// written down by and by, and survives a restart.
#[tokio::test]
async fn keys_are_listed_with_what_people_need_to_know() {
    let world = World::new().await;
    let admin = world.admin().await;
    let alice = world.user("alice").await;
    world.key(&admin, true).await;
    let new = json!({"name": "deploy", "scopes": ["targets", "logs"], "expiresAt": at(world.now() + 3600),
        "ownerApplication": "terraform"});
    let made: ApiKeyMade = world.call(As::Client(&admin), "POST", "/api-keys", &new).await.ok();
    let alices = json!({"name": "alice", "isRegistrationKey": true, "ownerId": world.id_of(&alice).await});
    world.call(As::Client(&admin), "POST", "/api-keys", &alices).await.done();
    let list = async |world: &World| -> Vec<ApiKey> { world.get(As::Client(&admin), "/api-keys").await.ok() };
    let all = list(&world).await;
    assert_eq!(all.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["alice", "ci", "deploy"]);
    let owners = all.iter().map(|key| key.owner.as_ref().map(|owner| (owner.kind, owner.name.as_str())));
    let want = [Some((OwnerType::EndUser, "alice@example.com")), None, Some((OwnerType::Application, "terraform"))];
    assert_eq!(owners.collect::<Vec<_>>(), want);
    assert_eq!((all[2].last_used_at.as_ref(), all[2].expires_at.clone()), (None, Some(at(world.now() + 3600))));

    from(&world, &made.secret, "/targets/bzero", "192.0.2.7").await.done();
    let used = Some(at(world.now()));
    let rows = || std::fs::metadata(world.app.config().data.join(format!("{FILE}-wal"))).unwrap().len();
    assert_eq!(list(&world).await[2].last_used_at, used, "known before it is written down");
    assert!(rows() > 0);
    jobs::tick(&world.app).await.unwrap();
    let world = world.restarted().await;
    let deploy = list(&world).await.remove(2);
    assert_eq!((deploy.last_used_at, deploy.last_used_from.as_deref()), (used, Some("192.0.2.7")));
}

#[tokio::test]
async fn what_is_no_secret_opens_nothing() {
    let world = World::new().await;
    let admin = world.admin().await;
    let secret = world.key(&admin, false).await;
    for bad in ["", "x", "AAAA", &secret[..42], &secret.to_lowercase()] {
        world.get(As::Key(bad), "/users").await.refused(Code::NotLoggedIn);
    }
    let mut typo = secret.clone();
    typo.replace_range(20..21, if &secret[20..21] == "x" { "y" } else { "x" });
    let refused = world.get(As::Key(&typo), "/users").await.refused(Code::NotLoggedIn);
    assert!(refused.error_msg.contains("mistyped"), "{}", refused.error_msg);
    let log: Vec<Value> = world.get(As::Key(&secret), "/events/subject?eventCount=1").await.ok();
    assert_eq!(log.len(), 1);
}

/// What scanners for leaks know a key by.
#[tokio::test]
async fn a_secret_says_what_it_is() {
    let world = World::new().await;
    let admin = world.admin().await;
    for (registration, prefix) in [(false, ACCESS), (true, REGISTRATION)] {
        let secret = world.key(&admin, registration).await;
        assert!(secret.starts_with(prefix) && KeyText::parse(&secret).is_ok(), "no secret of the form that is told");
    }
}

/// A key does what its scopes say, and every operation that keys may call is in one.
#[tokio::test]
async fn scopes_say_what_a_key_does() {
    let world = World::new().await;
    let admin = world.admin().await;
    let calls: [(&str, &str, Value, &[&str]); 9] = [
        ("GET", "/events/subject", json!(null), &["read", "logs"]),
        ("GET", "/policies/target-connect", json!(null), &["read", "policies", "policies:read"]),
        ("POST", "/policies/target-connect", json!({}), &["policies"]),
        ("GET", "/agents", json!(null), &["read", "targets", "targets:read"]),
        ("POST", "/environments", json!({}), &["targets"]),
        ("GET", "/users", json!(null), &["read", "users", "users:read"]),
        ("GET", "/connections", json!(null), &["read", "connections", "connections:read"]),
        ("GET", "/api-keys", json!(null), &["read", "keys", "keys:read"]),
        ("GET", "/autodiscovery-scripts/bzero/bash", json!(null), &["keys"]),
    ];
    for scope in Scope::ALL {
        let secret = narrowed(&world, &admin, json!({"scopes": [scope]})).await;
        for (method, path, body, scopes) in &calls {
            let reply = world.call(As::Key(&secret), method, path, body).await;
            let may = *scope == Scope::All || scopes.contains(&scope.as_str());
            assert_eq!(reply.status != 403, may, "{scope} and {method} {path}: {}", reply.status);
        }
        world.get(As::Key(&secret), "/subjects/me").await.done();
        world.get(As::Key(&secret), "/organization").await.done();
    }
    // One scope of each area, so that what is in none is left.
    let areas = ["logs", "policies", "targets", "users", "connections", "keys", "read"];
    let secret = narrowed(&world, &admin, json!({"scopes": areas})).await;
    let whole = world.key(&admin, false).await;
    let rules = world.app.engine.operations().unwrap();
    for operation in OPERATIONS.iter().filter(|o| rules[o.name].contains("key")) {
        let path = operation
            .path
            .replace("{id}", "00000000-0000-4000-8000-000000000000")
            .replace("{n}", "1")
            .replace("{name}", "x");
        let reply = world.raw(As::Key(&secret), operation.method.as_str(), &path, b"{}".to_vec()).await;
        let other = world.raw(As::Key(&whole), operation.method.as_str(), &path, b"{}".to_vec()).await;
        let gives = reply.status == 403 && reply.refused(Code::Denied).error_msg.contains("narrowed");
        let same = (reply.status == 403) == (other.status == 403);
        assert!(
            same || gives,
            "{operation:?} is in no area of policy/bz.rego: only keys of the scope \"all\" may call it"
        );
    }
    assert!(RIGHTS.contains(&"apikeyservice:give"));
}

/// A key that is narrowed makes none that is less so, neither new nor out of another.
#[tokio::test]
async fn a_narrowed_key_gives_no_access() {
    let world = World::new().await;
    let admin = world.admin().await;
    let whole: ApiKeyMade = world.call(As::Client(&admin), "POST", "/api-keys", &json!({"name": "all"})).await.ok();
    let path = format!("/api-keys/{}", whole.api_key_details.id);
    let soon = at(world.now() + 3600);
    for narrow in [
        json!({"scopes": ["keys", "logs"]}),
        json!({"scopes": ["all"], "expiresAt": soon}),
        json!({"allowedAddresses": ["0.0.0.0/0"]}),
    ] {
        let secret = narrowed(&world, &admin, narrow).await;
        let key = As::Key(&secret);
        for body in [json!({"name": "x"}), json!({"name": "x", "scopes": ["logs"]})] {
            world.call(key, "POST", "/api-keys", &body).await.refused(Code::Denied);
        }
        world.call(key, "POST", &format!("{path}/rotate"), &json!({})).await.refused(Code::Denied);
        for change in [json!({"scopes": ["all"]}), json!({"expiresAt": "never"}), json!({"enabled": true})] {
            world.call(key, "PATCH", &path, &change).await.refused(Code::Denied);
        }
        world.call(key, "POST", "/api-keys", &json!({"isRegistrationKey": true})).await.done();
    }
    world.call(As::Key(&whole.secret), "POST", "/api-keys", &json!({"name": "another"})).await.done();
}

/// A key ends at its time, by hand for as long as one likes, and with its owner.
#[tokio::test]
async fn a_key_ends() {
    let world = World::new().await;
    let admin = world.admin().await;
    let alice = world.user("alice").await;
    let root = As::Client(&admin);
    let new = json!({"name": "hour", "expiresAt": at(world.now() + 3600), "ownerId": world.id_of(&alice).await});
    let made: ApiKeyMade = world.call(root, "POST", "/api-keys", &new).await.ok();
    let path = format!("/api-keys/{}", made.api_key_details.id);
    let key = As::Key(&made.secret);
    world.call(root, "PATCH", &path, &json!({"enabled": false})).await.done();
    assert!(world.get(key, "/users").await.refused(Code::NotLoggedIn).error_msg.contains("disabled"));
    let last = &world.log().await[0];
    assert_eq!((last.actor.subject_name.as_str(), last.evaluation), ("hour", false), "the log says which key");
    world.call(root, "PATCH", &path, &json!({"enabled": true})).await.done();
    world.get(key, "/users").await.done();
    world.advance(3599);
    world.get(key, "/users").await.done();
    world.advance(1);
    assert!(world.get(key, "/users").await.refused(Code::NotLoggedIn).error_msg.contains("has ended"));
    world.call(root, "PATCH", &path, &json!({"expiresAt": "never"})).await.done();
    world.get(key, "/users").await.done();
    for bad in [at(world.now()), "tomorrow".to_owned()] {
        world.call(root, "PATCH", &path, &json!({"expiresAt": bad})).await.refused(Code::BadRequest);
    }
    world.raw(root, "DELETE", &format!("/users/{}", world.id_of(&alice).await), vec![]).await.done();
    world.get(root, &path).await.refused(Code::NotFound);
    world.get(key, "/users").await.refused(Code::NotLoggedIn);
}

/// From where a key is taken: the address of the socket, or what a proxy says that the settings trust, and no other.
#[tokio::test]
async fn a_key_is_taken_from_where_it_says() {
    let world = World::with(|config| config.trusted_proxies = ["198.51.100.1".parse().unwrap()].into()).await;
    let admin = world.admin().await;
    let new = json!({"allowedAddresses": ["192.0.2.0/24", "2001:db8::/32"]});
    let secret = narrowed(&world, &admin, new).await;
    from(&world, &secret, "/users", "192.0.2.9").await.done();
    from(&world, &secret, "/users", "2001:db8::1").await.done();
    let refused = from(&world, &secret, "/users", "203.0.113.9").await.refused(Code::Denied);
    assert!(refused.error_msg.contains("address"), "{}", refused.error_msg);
    let forwarded = |peer: &str| {
        let request = Request::builder().uri("/api/v2/users").header("X-API-KEY", &secret);
        let request = request.header("X-Forwarded-For", "203.0.113.9, 192.0.2.9");
        let peer = Peer(format!("{peer}:1").parse().unwrap());
        world.send(request.extension(peer).body(Body::empty()).unwrap())
    };
    forwarded("198.51.100.1").await.done();
    forwarded("203.0.113.9").await.refused(Code::Denied);
    for bad in ["192.0.2.1/24", "example.com", ""] {
        let body = json!({"allowedAddresses": [bad]});
        world.call(As::Client(&admin), "POST", "/api-keys", &body).await.refused(Code::BadRequest);
    }
}

/// Another secret for the same key: the old one is void, at once or when the time for changing over has passed.
#[tokio::test]
async fn a_key_gets_another_secret() {
    let world = World::new().await;
    let admin = world.admin().await;
    let root = As::Client(&admin);
    let first: ApiKeyMade = world.call(root, "POST", "/api-keys", &json!({"name": "ci"})).await.ok();
    let path = format!("/api-keys/{}/rotate", first.api_key_details.id);
    let second: ApiKeyMade = world.call(root, "POST", &path, &json!({})).await.ok();
    assert_eq!(second.api_key_details.id, first.api_key_details.id);
    world.get(As::Key(&first.secret), "/users").await.refused(Code::NotLoggedIn);
    world.call(root, "POST", &path, &json!({"overlapHours": 169})).await.refused(Code::BadRequest);
    let third: ApiKeyMade = world.call(root, "POST", &path, &json!({"overlapHours": 2})).await.ok();
    world.advance(2 * 3600 - 1);
    world.get(As::Key(&second.secret), "/users").await.done();
    world.advance(1);
    world.get(As::Key(&second.secret), "/users").await.refused(Code::NotLoggedIn);
    world.get(As::Key(&third.secret), "/users").await.done();
}

fn at(seconds: u64) -> String {
    UnixTime::from_secs(seconds).to_string()
}

async fn narrowed(world: &World, admin: &Client, body: Value) -> String {
    world.call(As::Client(admin), "POST", "/api-keys", &body).await.ok::<ApiKeyMade>().secret
}

/// A call from an address.
async fn from(world: &World, secret: &str, path: &str, address: &str) -> Reply {
    let peer = Peer(std::net::SocketAddr::new(address.parse().unwrap(), 1));
    let request = Request::builder().uri(format!("/api/v2{path}")).header("X-API-KEY", secret).extension(peer);
    world.send(request.body(Body::empty()).unwrap()).await
}
