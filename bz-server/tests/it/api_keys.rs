//! `/api-keys`.

use bz_core::api::error::Code;
use bz_core::api::policy::{ApiKey, ApiKeyMade};
use serde_json::{Value, json};

use crate::world::{As, World};

/// F-132, F-133~, F-136, F-137, F-149: a secret is in one answer, opens calls, and ends with its key.
#[tokio::test]
async fn a_secret_is_shown_once_and_ends_with_its_key() {
    let world = World::new().await;
    let admin = world.admin().await;
    let new = json!({"name": "ci", "isRegistrationKey": false});
    let made: ApiKeyMade = world.call(As::Client(&admin), "POST", "/api-keys", &new).await.ok();
    let path = format!("/api-keys/{}", made.api_key_details.id);
    world.get(As::Key(&made.secret), "/users").await.done();
    for shown in ["/api-keys", &path, "/events/subject"] {
        let reply = world.get(As::Client(&admin), shown).await;
        reply.done();
        assert!(!String::from_utf8_lossy(&reply.body).contains(&made.secret), "{shown} shows the secret");
    }
    let renamed: ApiKey = world.call(As::Client(&admin), "PATCH", &path, &json!({"name": "robot"})).await.ok();
    assert_eq!((renamed.name.as_str(), renamed.id), ("robot", made.api_key_details.id));
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.refused(Code::NotFound);
    world.get(As::Key(&made.secret), "/users").await.refused(Code::NotLoggedIn);
}

/// F-135~: keys are listed with what they are for.
#[tokio::test]
async fn keys_are_listed() {
    let world = World::new().await;
    let admin = world.admin().await;
    world.key(&admin, true).await;
    world.key(&admin, false).await;
    let all: Vec<ApiKey> = world.get(As::Client(&admin), "/api-keys").await.ok();
    assert_eq!(all.iter().filter(|k| k.is_registration_key).count(), 1);
    assert_eq!(all.len(), 2);
}

#[tokio::test]
async fn what_is_no_secret_opens_nothing() {
    let world = World::new().await;
    let admin = world.admin().await;
    let secret = world.key(&admin, false).await;
    for bad in ["", "x", "AAAA", &secret[..42], &secret.to_lowercase()] {
        world.get(As::Key(bad), "/users").await.refused(Code::NotLoggedIn);
    }
    let log: Vec<Value> = world.get(As::Key(&secret), "/events/subject?eventCount=1").await.ok();
    assert_eq!(log.len(), 1);
}
