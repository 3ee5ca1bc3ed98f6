//! `/targets/bzero` and `/environments`.

use bz_core::api::error::Code;
use bz_core::api::target::{Environment, Target, TargetStatus};
use bz_server::connection::link;
use bz_server::seam::links::Asked;
use bz_server::store::target::Announced;
use serde_json::json;

use crate::world::{As, World};

/// F-036~, F-042~: a target's state is shown; a person sees what a policy gives, an administrator sees all.
#[tokio::test]
async fn each_sees_what_policy_gives() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let (web, db) = (world.agent(&admin, "web").await, world.agent(&admin, "db").await);
    let list = |who| {
        let world = &world;
        async move { world.get(As::Client(who), "/targets/bzero").await.ok::<Vec<Target>>() }
    };
    assert!(list(&alice).await.is_empty(), "no policy, no target");
    world.allow(&admin, &alice, &web, &["deploy", "{username}"]).await;
    let seen = list(&alice).await;
    let [seen] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((seen.id, seen.status), (web.id, TargetStatus::NotActivated));
    let users: Vec<_> = seen.allowed_target_users.iter().map(|u| u.user_name.to_string()).collect();
    assert_eq!(users, ["{username}", "deploy"]);
    assert_eq!(list(&admin).await.len(), 2);
    world.get(As::Client(&alice), &format!("/targets/bzero/{}", db.id)).await.refused(Code::NotFound);
    let online = Announced { boot: web.boot, version: "2".to_owned(), routes: Vec::new() };
    link::target_online(&world.app, web.id, online).await.unwrap();
    assert_eq!(list(&alice).await[0].status, TargetStatus::Online);
    link::target_offline(&world.app, web.id).await.unwrap();
    assert_eq!(list(&alice).await[0].status, TargetStatus::Offline);
}

/// F-027, F-168: deleting a target closes its connections, and the log says who did it and why.
#[tokio::test]
async fn a_deleted_target_leaves_nothing_open() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let made = world.connect(&alice, &web).await;
    let path = format!("/targets/bzero/{}", web.id);
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    let reason = "closed by the administrator root-of-all@example.com: the target was deleted";
    assert_eq!(world.links.asked(), [Asked::Closed(made.connection_id, reason.to_owned()), Asked::Removed(web.id)]);
    let log = world.app.store.connection_events(Default::default()).await.unwrap();
    assert_eq!(log[0].reason, reason);
    world.get(As::Client(&admin), &path).await.refused(Code::NotFound);
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.refused(Code::NotFound);
}

/// F-037, F-038~, F-039: targets are grouped, each group with a timer of 1 to 2160 hours.
#[tokio::test]
async fn environments_have_names_and_timers_of_their_own() {
    let world = World::new().await;
    let admin = world.admin().await;
    let add = |body| {
        let (world, admin) = (&world, &admin);
        async move { world.call(As::Client(admin), "POST", "/environments", &body).await }
    };
    add(json!({"name": "prod", "offlineCleanupTimeoutHours": 1})).await.done();
    add(json!({"name": "test", "offlineCleanupTimeoutHours": 2160})).await.done();
    add(json!({"name": "prod"})).await.refused(Code::Conflict);
    add(json!({"name": "a", "offlineCleanupTimeoutHours": 0})).await.refused(Code::BadRequest);
    add(json!({"name": "a", "offlineCleanupTimeoutHours": 2161})).await.refused(Code::BadRequest);
    add(json!({"name": " a"})).await.refused(Code::BadRequest);
    let all: Vec<Environment> = world.get(As::Client(&admin), "/environments").await.ok();
    let shown: Vec<_> = all.iter().map(|e| (e.name.as_str(), e.is_default, e.offline_cleanup_timeout_hours)).collect();
    assert_eq!(shown, [("Default", true, 2160), ("prod", false, 1), ("test", false, 2160)]);
}

/// F-040: a target offline for the whole period of its environment is removed; one second less, and it stays.
#[tokio::test]
async fn what_stays_offline_is_removed() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (web, quiet) = (world.agent(&admin, "web").await, world.agent(&admin, "quiet").await);
    let online = Announced { boot: web.boot, version: "2".to_owned(), routes: Vec::new() };
    link::target_online(&world.app, web.id, online).await.unwrap();
    world.advance(100);
    link::target_offline(&world.app, web.id).await.unwrap();
    let left = async || {
        bz_server::jobs::tick(&world.app).await.unwrap();
        world.app.store.targets().await.unwrap().into_iter().map(|t| t.id).collect::<Vec<_>>()
    };
    world.advance(2160 * 3600 - 1);
    assert_eq!(left().await, [quiet.id, web.id]);
    world.advance(1);
    assert_eq!(left().await, [quiet.id], "a target that was never here is not offline");
    assert_eq!(world.links.asked(), [Asked::Removed(web.id)]);
}
