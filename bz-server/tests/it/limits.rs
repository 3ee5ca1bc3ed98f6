//! What strangers and guessers meet: limits in virtual time, and headers that tell browsers to be strict.

use bz_core::api::error::Code;
use serde_json::json;

use crate::world::{As, Reply, World};

/// Wrong keys lock their address for a quarter of an hour: then they leave no rows and are told when to come again. Right
/// ones pass meanwhile.
#[tokio::test]
async fn wrong_keys_are_not_looked_at_for_ever() {
    let world = World::new().await;
    let admin = world.admin().await;
    let right = world.key(&admin, false).await;
    let wrong = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    for _ in 0..20 {
        world.get(As::Key(wrong), "/environments").await.refused(Code::NotLoggedIn);
    }
    let rows = world.log().await.len();
    let locked = world.get(As::Key(wrong), "/environments").await;
    assert_eq!((locked.status.as_u16(), retry(&locked)), (429, Some(900)));
    locked.refused(Code::TooMany);
    assert_eq!(world.log().await.len(), rows, "what is not looked at leaves no row");
    let said = world.log().await[0].context.clone();
    assert!(said.contains("too many wrong credentials from this address"), "{said}");
    world.get(As::Key(&right), "/environments").await.done();
    world.get(As::Client(&admin), "/users/me").await.done();
    world.advance(600);
    assert_eq!(retry(&world.get(As::Key(wrong), "/environments").await), Some(300));
    world.advance(300);
    world.get(As::Key(wrong), "/environments").await.refused(Code::NotLoggedIn);
}

/// Wrong claim codes are guesses, too.
#[tokio::test]
async fn claim_codes_cannot_be_tried_for_long() {
    let world = World::new().await;
    let client = world.client("mallory");
    for _ in 0..20 {
        world.register(&client, &client.initial, Some("aaaaa-aaaaa-aaaaa-aaaaa")).await.refused(Code::ClaimCode);
    }
    let locked = world.register(&client, &client.initial, Some("aaaaa-aaaaa-aaaaa-aaaaa")).await;
    assert_eq!(retry(&locked), Some(900));
    locked.refused(Code::TooMany);
}

/// Strangers have three hundred calls a minute, and are told when there are more.
#[tokio::test]
async fn strangers_are_told_when_to_come_again() {
    let world = World::new().await;
    for _ in 0..300 {
        world.get(As::Nobody, "/users").await.refused(Code::NotLoggedIn);
    }
    let many = world.get(As::Nobody, "/users").await;
    assert_eq!((many.status.as_u16(), retry(&many)), (429, Some(60)));
    world.advance(60);
    world.get(As::Nobody, "/users").await.refused(Code::NotLoggedIn);
}

/// Every answer has them: of operations, of health, of paths that are not there, of bodies that are too large.
#[tokio::test]
async fn every_answer_is_strict() {
    let world = World::new().await;
    let admin = world.admin().await;
    let large = vec![b'x'; 70_000];
    let health = axum::http::Request::get("/healthz").body(axum::body::Body::empty()).unwrap();
    for (what, reply) in [
        ("an answer", world.get(As::Client(&admin), "/users/me").await),
        ("a refusal", world.get(As::Nobody, "/users").await),
        ("no such path", world.get(As::Nobody, "/nowhere").await),
        ("another method", world.call(As::Nobody, "PUT", "/users", &json!({})).await),
        ("a large body", world.raw(As::Client(&admin), "POST", "/environments", large).await),
        ("health", world.send(health).await),
    ] {
        for (name, value) in [
            ("strict-transport-security", "max-age=31536000"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(reply.headers.get(name).map(|v| v.to_str().unwrap()), Some(value), "{name} of {what}");
        }
    }
}

fn retry(reply: &Reply) -> Option<u64> {
    reply.headers.get("retry-after").map(|seconds| seconds.to_str().unwrap().parse().unwrap())
}
