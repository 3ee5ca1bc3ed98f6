//! `/agent/register`.

use bz_core::api::error::Code;
use bz_core::api::register::{AgentRegistered, RegisterAgent};
use bz_core::id::OrganizationId;
use bz_core::key::PrivateKey;
use bz_core::time::UnixTime;
use serde_json::json;

use crate::world::{As, World};

/// F-139: one key registers any number of targets, each name once in its environment.
#[tokio::test]
async fn a_key_registers_many_targets() {
    let world = World::new().await;
    let admin = world.admin().await;
    let secret = world.key(&admin, true).await;
    world.call(As::Client(&admin), "POST", "/environments", &json!({"name": "prod"})).await.done();
    let register = |body: RegisterAgent| {
        let (world, secret) = (&world, &secret);
        async move { world.call(As::Key(secret), "POST", "/agent/register", &body).await }
    };
    let made: AgentRegistered = register(world.registration("web", [1; 32]).0).await.ok();
    assert_eq!(made.environment_name, "Default");
    register(world.registration("db", [2; 32]).0).await.done();
    register(world.registration("web", [3; 32]).0).await.refused(Code::Conflict);
    register(world.registration("other", [1; 32]).0).await.refused(Code::Conflict);
    let in_environment = |name: &str, seed| {
        let (mut body, identity) = world.registration("web", seed);
        body.environment_name = Some(name.to_owned());
        body.prove(&identity, &control(seed));
        body
    };
    register(in_environment("prod", [3; 32])).await.done();
    register(in_environment("nowhere", [4; 32])).await.refused(Code::NotFound);
}

/// A registration is of this organization, now, by both keys, under a plain name.
#[tokio::test]
async fn a_registration_is_proved_or_refused() {
    let world = World::new().await;
    let admin = world.admin().await;
    let secret = world.key(&admin, true).await;
    let check = |change: fn(&mut RegisterAgent), want: Code| {
        let (mut body, identity) = world.registration("web", [1; 32]);
        change(&mut body);
        body.prove(&identity, &control([1; 32]));
        let (world, secret) = (&world, &secret);
        async move { world.call(As::Key(secret), "POST", "/agent/register", &body).await.refused(want) }
    };
    check(|b| b.organization_id = OrganizationId::from_bytes([9; 16]), Code::BadRequest).await;
    check(|b| b.time = UnixTime::from_secs(b.time.as_secs() - 601), Code::BadRequest).await;
    check(|b| b.time = UnixTime::from_secs(b.time.as_secs() + 601), Code::BadRequest).await;
    check(|b| b.target_name = "a b".to_owned(), Code::BadRequest).await;
    check(|b| b.target_name = "-rf".to_owned(), Code::BadRequest).await;
    check(|b| b.target_name = String::new(), Code::BadRequest).await;
    check(|b| b.target_host_name = "x".repeat(256), Code::BadRequest).await;
    check(|b| b.public_key = PrivateKey::from_seed(&[7; 32]).unwrap().public(), Code::Denied).await;
    assert!(world.app.store.targets().await.unwrap().is_empty());
}

/// Registering again under the old id needs the old identity key.
#[tokio::test]
async fn a_target_is_replaced_by_its_own_key_alone() {
    let world = World::new().await;
    let admin = world.admin().await;
    let secret = world.key(&admin, true).await;
    let (first, _) = world.registration("web", [1; 32]);
    let made: AgentRegistered = world.call(As::Key(&secret), "POST", "/agent/register", &first).await.ok();
    let replace = |seed| {
        let (mut body, identity) = world.registration("renamed", seed);
        body.target_id = Some(made.target_id);
        body.prove(&identity, &control(seed));
        let (world, secret) = (&world, &secret);
        async move { world.call(As::Key(secret), "POST", "/agent/register", &body).await }
    };
    replace([2; 32]).await.refused(Code::Denied);
    assert_eq!(world.app.store.target(made.target_id).await.unwrap().unwrap().name, "web");
    assert_eq!(replace([1; 32]).await.ok::<AgentRegistered>().target_id, made.target_id);
    assert_eq!(world.app.store.target(made.target_id).await.unwrap().unwrap().name, "renamed");
}

fn control(seed: [u8; 32]) -> PrivateKey {
    PrivateKey::from_seed(&seed.map(|b| b ^ 0xff)).unwrap()
}
