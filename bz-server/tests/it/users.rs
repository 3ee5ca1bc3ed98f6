//! `/users`: registering a login, refreshing, ending it; claim codes.

use bz_core::api::error::Code;
use bz_core::api::login::{Registered, User};
use bz_core::key::PrivateKey;
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

fn refreshed(world: &World, claims: &serde_json::Value) -> String {
    let mut claims = claims.clone();
    claims["iat"] = json!(world.now());
    claims["exp"] = json!(world.now() + 3600);
    claims.as_object_mut().unwrap().remove("nonce");
    world.issuer.idp.lock().unwrap().token(&claims)
}
