//! `/environments`, and moving hosts between them.

use bz_core::api::error::Code;
use bz_core::api::target::{Environment, EnvironmentMade, Target, TargetKind};
use bz_server::connection::link;
use bz_server::store::target::Announced;
use serde_json::{Value, json};

use crate::world::{As, World};

/// F-039~, F-041~: an environment is made, shown with what is in it, changed field by field, and deleted when it is empty.
#[tokio::test]
async fn environments_live() {
    let world = World::new().await;
    let admin = world.admin().await;
    let root = As::Client(&admin);
    let made: EnvironmentMade = world.call(root, "POST", "/environments", &json!({"name": "prod"})).await.ok();
    let path = format!("/environments/{}", made.id);
    let shown: Environment = world.get(root, &path).await.ok();
    assert_eq!((shown.name.as_str(), shown.offline_cleanup_timeout_hours, shown.is_default), ("prod", 2160, false));
    assert_eq!(shown.organization_id, Some(world.app.organization));

    let edit = async |change: Value| world.call(root, "PATCH", &path, &change).await;
    let changed: Environment = edit(json!({"offlineCleanupTimeoutHours": 24})).await.ok();
    assert_eq!(changed, Environment { offline_cleanup_timeout_hours: 24, ..shown.clone() }, "the rest stays");
    let changed: Environment = edit(json!({"name": "production", "description": "live"})).await.ok();
    assert_eq!((changed.name.as_str(), changed.description.as_str()), ("production", "live"));
    edit(json!({"name": "Default"})).await.refused(Code::Conflict);
    for bad in [
        json!({"name": ""}),
        json!({"name": null, "offlineCleanupTimeoutHours": 0}),
        json!({"offlineCleanupTimeoutHours": 2161}),
        json!({"description": "x".repeat(1001)}),
        json!({"isDefault": true}),
    ] {
        edit(bad).await.refused(Code::BadRequest);
    }

    let web = world.agent(&admin, "web").await;
    let target = format!("/targets/bzero/{}", web.id);
    let moved: Target = world.call(root, "PATCH", &target, &json!({"environmentId": made.id})).await.ok();
    assert_eq!((moved.environment_name.as_str(), moved.name.as_str()), ("production", "web"));
    let shown: Environment = world.get(root, &path).await.ok();
    assert_eq!(shown.targets.iter().map(|t| t.id).collect::<Vec<_>>(), [web.id]);
    let refused = world.raw(root, "DELETE", &path, vec![]).await.refused(Code::Conflict);
    assert!(refused.error_msg.contains("still in use"), "{}", refused.error_msg);
    world.raw(root, "DELETE", &target, vec![]).await.done();

    let policy = json!({"name": "p", "environments": [{"id": made.id}], "targetUsers": [{"userName": "root"}],
        "verbs": [{"type": "Shell"}]});
    let policy: Value = world.call(root, "POST", "/policies/target-connect", &policy).await.ok();
    world.raw(root, "DELETE", &path, vec![]).await.refused(Code::Conflict);
    let policy = format!("/policies/target-connect/{}", policy["id"].as_str().unwrap());
    world.raw(root, "DELETE", &policy, vec![]).await.done();
    world.raw(root, "DELETE", &path, vec![]).await.done();
    world.get(root, &path).await.refused(Code::NotFound);
    world.raw(root, "DELETE", &path, vec![]).await.refused(Code::NotFound);
}

/// The default environment is always there, under whatever name.
#[tokio::test]
async fn the_default_environment_stays() {
    let world = World::new().await;
    let admin = world.admin().await;
    let all: Vec<Environment> = world.get(As::Client(&admin), "/environments").await.ok();
    let path = format!("/environments/{}", all[0].id);
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.refused(Code::Conflict);
    world.call(As::Client(&admin), "PATCH", &path, &json!({"name": "rest"})).await.done();
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.refused(Code::Conflict);
}

/// A host that moves to where no policy gives it to somebody is lost to them at once, its sessions included.
#[tokio::test]
async fn moving_a_host_moves_it_out_of_policies() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let root = As::Client(&admin);
    let web = world.agent(&admin, "web").await;
    let all: Vec<Environment> = world.get(root, "/environments").await.ok();
    let policy = json!({"name": "p", "environments": [{"id": all[0].id}], "targetUsers": [{"userName": "root"}],
        "verbs": [{"type": "Shell"}], "subjects": [{"id": world.id_of(&alice).await, "type": "User"}]});
    world.call(root, "POST", "/policies/target-connect", &policy).await.done();
    world.connect(&alice, &web).await;
    let other: EnvironmentMade = world.call(root, "POST", "/environments", &json!({"name": "other"})).await.ok();
    let path = format!("/targets/bzero/{}", web.id);
    let rename: Target = world.call(root, "PATCH", &path, &json!({"targetName": "web-1"})).await.ok();
    assert_eq!(rename.name, "web-1");
    let open: Vec<Value> = world.get(As::Client(&alice), "/connections").await.ok();
    assert_eq!(open.len(), 1, "a name is nothing that policies know");
    world.call(root, "PATCH", &path, &json!({"environmentId": other.id})).await.done();
    let open: Vec<Value> = world.get(As::Client(&alice), "/connections").await.ok();
    assert_eq!(open, [Value::Null; 0]);
    world.get(As::Client(&alice), &path).await.refused(Code::NotFound);

    world.agent(&admin, "web-1").await;
    world.call(root, "PATCH", &path, &json!({"environmentId": all[0].id})).await.refused(Code::Conflict);
    world.call(root, "PATCH", &path, &json!({"targetName": "a b"})).await.refused(Code::BadRequest);
    let nowhere = json!({"environmentId": web.id});
    world.call(root, "PATCH", &path, &nowhere).await.refused(Code::BadRequest);
}

/// F-038, F-041~: each environment has its own timer, set by an administrator, and a change of it counts at once, for what
/// is offline already, too: one host is removed after its hour, the other when its environment's hours are made fewer.
#[tokio::test]
async fn each_environment_has_its_timer() {
    let world = World::new().await;
    let admin = world.admin().await;
    // A login ends within the hours that pass here.
    let program = world.key(&admin, false).await;
    let root = As::Key(&program);
    let body = json!({"name": "short", "offlineCleanupTimeoutHours": 1});
    let short: EnvironmentMade = world.call(root, "POST", "/environments", &body).await.ok();
    let body = json!({"name": "long", "offlineCleanupTimeoutHours": 48});
    let long: EnvironmentMade = world.call(root, "POST", "/environments", &body).await.ok();
    for (name, environment) in [("one", short.id), ("two", long.id)] {
        let agent = world.agent(&admin, name).await;
        let path = format!("/targets/bzero/{}", agent.id);
        world.call(root, "PATCH", &path, &json!({"environmentId": environment})).await.done();
        let online = Announced { boot: agent.boot, version: "2".to_owned(), routes: Vec::new() };
        link::target_online(&world.app, agent.id, online).await.unwrap();
        link::target_offline(&world.app, agent.id).await.unwrap();
    }
    let left = async || {
        bz_server::jobs::tick(&world.app).await.unwrap();
        let all: Vec<Target> = world.get(root, "/targets/bzero").await.ok();
        all.into_iter().map(|target| target.name).collect::<Vec<_>>()
    };
    world.advance(3599);
    assert_eq!(left().await, ["one", "two"], "an hour has not passed");
    world.advance(1);
    assert_eq!(left().await, ["two"]);
    world.advance(4 * 3600);
    assert_eq!(left().await, ["two"]);
    let path = format!("/environments/{}", long.id);
    world.call(root, "PATCH", &path, &json!({"offlineCleanupTimeoutHours": 6})).await.done();
    assert_eq!(left().await, ["two"], "five hours have passed");
    world.call(root, "PATCH", &path, &json!({"offlineCleanupTimeoutHours": 5})).await.done();
    assert_eq!(left().await, [""; 0]);
}

/// F-043: hosts, whether machines or virtual ones, clusters, web servers and databases are targets: each is in an environment,
/// gets another name and environment, and is deleted.
#[tokio::test]
async fn targets_are_of_every_kind() {
    let world = World::new().await;
    let admin = world.admin().await;
    let root = As::Client(&admin);
    let host = world.agent(&admin, "vm-1").await;
    let prod: EnvironmentMade = world.call(root, "POST", "/environments", &json!({"name": "prod"})).await.ok();
    let behind = json!(host.id);
    let mut paths = vec![format!("/targets/bzero/{}", host.id)];
    for (kind, body) in [
        (
            "database",
            json!({"targetName": "db", "proxyTargetId": behind, "remoteHost": "db", "remotePort": {"value": 5432}}),
        ),
        (
            "web",
            json!({"targetName": "app", "proxyTargetId": behind, "remoteHost": "http://app", "remotePort": {"value": 80}}),
        ),
        ("kube", json!({"name": "cluster", "proxyTargetId": behind})),
    ] {
        let made: Value = world.call(root, "POST", &format!("/targets/{kind}"), &body).await.ok();
        paths.push(format!("/targets/{kind}/{}", made["targetId"].as_str().unwrap()));
    }
    for (at, path) in paths.iter().enumerate() {
        let change = json!({"targetName": format!("new-{at}"), "environmentId": prod.id});
        let moved: Value = world.call(root, "PATCH", path, &change).await.ok();
        assert_eq!(
            (&moved["name"], &moved["environmentName"]),
            (&json!(format!("new-{at}")), &json!("prod")),
            "{path}"
        );
    }
    let path = format!("/environments/{}", prod.id);
    let shown: Environment = world.get(root, &path).await.ok();
    let mut kinds: Vec<_> = shown.targets.iter().map(|target| target.target_type).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, TargetKind::ALL);
    for path in paths.iter().rev() {
        world.raw(root, "DELETE", path, vec![]).await.done();
    }
    let shown: Environment = world.get(root, &path).await.ok();
    assert_eq!(shown.targets, []);
}
