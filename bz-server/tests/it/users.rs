//! `/users`: registering a login, refreshing, ending it; claim codes.

use bz_core::api::error::Code;
use bz_core::api::login::{Registered, User};
use bz_core::key::PrivateKey;
use bz_server::api::{OPERATIONS, ProofOf};
use bz_server::seam::links::Asked;
use serde_json::json;

use crate::idp::Idp;
use crate::world::{As, World};

/// F-046, F-050: the first login makes a person with an id of its own; later logins find the same person.
#[tokio::test]
async fn the_first_login_makes_the_person() {
    let world = World::new().await;
    let first = world.client("alice");
    let made: Registered = world.register(&first, &first.initial, None).await.ok();
    assert_eq!((made.user.email.as_str(), made.user.is_admin), ("alice@example.com", false));
    assert_eq!(made.expires_at.as_secs(), world.now() + 3660, "the token's end and the skew");
    world.advance(10);
    let second = world.user("alice").await;
    let again: User = world.get(As::Client(&second), "/users/me").await.ok();
    assert_eq!(again.id, made.user.id);
    assert_ne!(again.last_login, made.user.last_login);
    let bob = world.user("bob").await;
    assert_ne!(world.get(As::Client(&bob), "/users/me").await.ok::<User>().id, made.user.id);
}

/// Nobody is administrator without a claim; a code works once, within its day.
#[tokio::test]
async fn a_claim_code_makes_one_administrator_once() {
    let world = World::new().await;
    let claim = |subject: &'static str, code: String| {
        let (world, client) = (&world, world.client(subject));
        async move { world.register(&client, &client.initial, Some(&code)).await }
    };
    claim("mallory", "aaaaa-aaaaa-aaaaa-aaaaa".to_owned()).await.refused(Code::ClaimCode);
    assert!(world.app.store.users().await.unwrap().is_empty(), "a refused claim keeps nothing");
    let typed = world.claim.to_uppercase().replace('-', " ");
    assert!(claim("alice", typed).await.ok::<Registered>().user.is_admin);
    claim("bob", world.claim.clone()).await.refused(Code::ClaimCode);
    let late = World::new().await;
    late.advance(24 * 3600);
    let client = late.client("alice");
    late.register(&client, &client.initial, Some(&late.claim)).await.refused(Code::ClaimCode);
}

/// A login ends with its token unless a refreshed one is registered; an older one never comes back.
#[tokio::test]
async fn a_refresh_keeps_the_login_alive() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    world.advance(3000);
    let refreshed = refreshed(&world, &alice.claims);
    world.register(&alice, &refreshed, None).await.ok::<Registered>();
    world.advance(3000);
    world.get(As::Client(&alice), "/users/me").await.done();
    world.register(&alice, &alice.initial, None).await.refused(Code::NotLoggedIn);
    world.advance(3000);
    world.get(As::Client(&alice), "/users/me").await.refused(Code::NotLoggedIn);
}

/// After the issuer changed its keys a login goes on, and a login by the old key alone begins no more.
#[tokio::test]
async fn a_login_survives_the_issuers_new_keys() {
    let world = World::new().await;
    let (alice, late) = (world.user("alice").await, world.client("late"));
    *world.issuer.idp.lock().unwrap() = Idp::new(2, "k2");
    world.advance(600);
    let refreshed = refreshed(&world, &alice.claims);
    world.register(&alice, &refreshed, None).await.ok::<Registered>();
    world.register(&late, &late.initial, None).await.refused(Code::NotLoggedIn);
}

/// A key that the issuer began to use a moment ago is looked up, though not at every stranger's word.
#[tokio::test]
async fn a_new_key_of_the_issuer_is_looked_up() {
    let world = World::new().await;
    world.user("alice").await;
    *world.issuer.idp.lock().unwrap() = Idp::new(2, "k2");
    world.advance(29);
    let bob = world.client("bob");
    world.register(&bob, &bob.initial, None).await.refused(Code::NotLoggedIn);
    world.advance(1);
    world.register(&bob, &bob.initial, None).await.ok::<Registered>();
}

/// TRUST-4 at the server: foreign organizations, keys, issuers and proofs are nobody here.
#[tokio::test]
async fn what_proves_nobody_registers_nobody() {
    let world = World::new().await;
    let check = |change: fn(&mut serde_json::Value)| {
        let mut client = world.client("alice");
        change(&mut client.claims);
        client.initial = world.issuer.idp.lock().unwrap().token(&client.claims);
        let world = &world;
        async move { world.register(&client, &client.initial.clone(), None).await.refused(Code::NotLoggedIn) }
    };
    check(|c| c["org"] = json!("evil")).await;
    check(|c| c["iss"] = json!("https://evil.example")).await;
    check(|c| c["nonce"] = json!("another")).await;
    check(|c| c["aud"] = json!("another")).await;
    let mut thief = world.client("alice");
    thief.key = PrivateKey::from_seed(&[99; 32]).unwrap();
    world.register(&thief, &thief.initial, None).await.refused(Code::NotLoggedIn);
    assert!(world.app.store.users().await.unwrap().is_empty());
    let alice = world.user("alice").await;
    let mut taker = world.client("mallory");
    taker.login = alice.login;
    world.register(&taker, &taker.initial, None).await.refused(Code::NotLoggedIn);
    let mut second_key = world.client("alice");
    second_key.login = alice.login;
    world.register(&second_key, &second_key.initial, None).await.refused(Code::NotLoggedIn);
    world.get(As::Client(&alice), "/users/me").await.done();
}

/// Logging out ends the login for ever, and its links.
#[tokio::test]
async fn logout_is_for_ever() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    world.call(As::Client(&alice), "POST", "/users/logout", &json!({})).await.done();
    assert_eq!(world.links.asked(), [Asked::LoggedOut(alice.login)]);
    world.get(As::Client(&alice), "/users/me").await.refused(Code::NotLoggedIn);
    world.register(&alice, &alice.initial, None).await.refused(Code::NotLoggedIn);
}

/// F-026, F-167~: an administrator closes all connections of one person, who may open others.
#[tokio::test]
async fn an_administrator_closes_all_connections_of_one_person() {
    let world = World::new().await;
    let (admin, alice, bob) = (world.admin().await, world.user("alice").await, world.user("bob").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    world.allow(&admin, &bob, &web, &["deploy"]).await;
    let (one, two) = (world.connect(&alice, &web).await, world.connect(&alice, &web).await);
    world.connect(&bob, &web).await;
    let path = "/users/alice@example.com/close-connections";
    world.raw(As::Client(&bob), "PATCH", path, vec![]).await.refused(Code::Denied);
    world.raw(As::Client(&admin), "PATCH", path, vec![]).await.done();
    let why = "closed by the administrator root-of-all@example.com: all of this user's connections were closed";
    let mut closed = world.links.asked();
    closed.sort_by_key(|asked| format!("{asked:?}"));
    let mut want = [one, two].map(|made| Asked::Closed(made.connection_id, why.to_owned()));
    want.sort_by_key(|asked| format!("{asked:?}"));
    assert_eq!(closed, want);
    world.connect(&alice, &web).await;
}

/// F-028, F-054, F-055, F-056, F-057, F-058: a person who is deleted is out of all policies, and every connection and login
/// ends at once; the logs stay; and who comes back is somebody new, with nothing.
#[tokio::test]
async fn a_deleted_person_leaves_only_logs() {
    let world = World::new().await;
    let (admin, alice, bob) = (world.admin().await, world.user("alice").await, world.user("bob").await);
    let web = world.agent(&admin, "web").await;
    let policy = json!({
        "name": "both", "verbs": [{"type": "Shell"}], "targetUsers": [{"userName": "deploy"}],
        "subjects": [
            {"id": world.id_of(&alice).await, "type": "User"}, {"id": world.id_of(&bob).await, "type": "User"}
        ],
        "targets": [{"id": web.id, "type": "Bzero"}],
    });
    world.call(As::Client(&admin), "POST", "/policies/target-connect", &policy).await.done();
    let (made, id) = (world.connect(&alice, &web).await, world.id_of(&alice).await);
    let path = format!("/users/{id}");
    world.raw(As::Client(&alice), "DELETE", &path, vec![]).await.refused(Code::Denied);
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.refused(Code::NotFound);
    let why = "closed by the administrator root-of-all@example.com: the user was deleted";
    let asked = [Asked::Closed(made.connection_id, why.to_owned()), Asked::LoggedOut(alice.login)];
    assert_eq!(world.links.asked(), asked);
    world.get(As::Client(&alice), "/users/me").await.refused(Code::NotLoggedIn);
    // A program that goes on refreshing the old login brings nobody back.
    let refreshed = refreshed(&world, &alice.claims);
    world.register(&alice, &refreshed, None).await.refused(Code::NotLoggedIn);
    let left: Vec<serde_json::Value> = world.get(As::Client(&admin), "/policies/target-connect").await.ok();
    assert_eq!(left[0]["subjects"], json!([{"id": world.id_of(&bob).await, "type": "User"}]));
    world.connect(&bob, &web).await;

    let back = world.user("alice").await;
    assert_ne!(world.id_of(&back).await, id);
    let ask = json!({"targetId": web.id});
    world.call(As::Client(&back), "POST", "/connections/universal", &ask).await.refused(Code::Denied);
    let path = format!("/events/connection?subjectIds={id}");
    let events: Vec<serde_json::Value> = world.get(As::Client(&admin), &path).await.ok();
    assert_eq!(
        (events[0]["reason"].as_str(), events[0]["subjectName"].as_str()),
        (Some(why), Some("alice@example.com"))
    );
}

/// F-053~: the role is somebody else's to change, and an administrator is a person like any other.
#[tokio::test]
async fn roles_are_given_and_taken_by_others() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let (own, her) = (world.id_of(&admin).await, world.id_of(&alice).await);
    let role = async |who, id: &str, role: &str| {
        world.call(As::Client(who), "PATCH", &format!("/users/{id}"), &json!({"role": role})).await
    };
    role(&alice, &her, "Admin").await.refused(Code::Denied);
    role(&admin, &own, "User").await.refused(Code::Conflict);
    world.raw(As::Client(&admin), "DELETE", &format!("/users/{own}"), vec![]).await.refused(Code::Conflict);
    role(&admin, &her, "King").await.refused(Code::BadRequest);
    assert!(role(&admin, &her, "Admin").await.ok::<User>().is_admin);
    assert!(!role(&alice, &own, "User").await.ok::<User>().is_admin);
    world.get(As::Client(&admin), "/users").await.refused(Code::Denied);
    assert!(world.get(As::Client(&alice), &format!("/users/{her}")).await.ok::<User>().is_admin);
}

/// An auditor reads all logs, recordings and transcripts, and beyond that may no more than anybody: operation by operation.
#[tokio::test]
async fn an_auditor_reads_and_changes_nothing() {
    let world = World::new().await;
    let (admin, alice, bob) = (world.admin().await, world.user("alice").await, world.user("bob").await);
    let path = format!("/users/{}", world.id_of(&alice).await);
    let set = async |role: &str| {
        let now = world.call(As::Client(&admin), "PATCH", &path, &json!({"role": role})).await.ok::<User>();
        (now.is_admin, now.is_auditor)
    };
    assert_eq!(set("Auditor").await, (false, true));
    let mut read = 0;
    for operation in OPERATIONS.iter().filter(|o| o.proof == ProofOf::Known && o.name != "userservice:logout") {
        let path = operation.path.replace("{id}", "00000000-0000-4000-8000-000000000000").replace("{n}", "1");
        let denied = async |who| {
            let reply = world.raw(As::Client(who), operation.method.as_str(), &path, b"{}".to_vec()).await;
            serde_json::from_slice::<serde_json::Value>(&reply.body).is_ok_and(|body| body["code"] == "denied")
        };
        let of_logs = operation.name.starts_with("eventservice:") || operation.name.starts_with("recordservice:");
        let reads = of_logs && operation.name != "recordservice:delete";
        assert!(!reads || operation.method.as_str() == "GET", "{operation:?} reads");
        assert_eq!(denied(&alice).await, denied(&bob).await && !reads, "{operation:?}");
        read += usize::from(reads);
    }
    assert!(read >= 12, "{read}");
    assert_eq!(set("User").await, (false, false));
    world.get(As::Client(&alice), "/events/subject").await.refused(Code::Denied);
    assert_eq!(set("Admin").await, (true, false));
}

fn refreshed(world: &World, claims: &serde_json::Value) -> String {
    let mut claims = claims.clone();
    claims["iat"] = json!(world.now());
    claims["exp"] = json!(world.now() + 3600);
    claims.as_object_mut().unwrap().remove("nonce");
    world.issuer.idp.lock().unwrap().token(&claims)
}
