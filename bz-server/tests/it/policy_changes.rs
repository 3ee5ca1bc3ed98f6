//! `PATCH /policies`: field by field, by one at a time, and at once for whoever has a session.

use bz_core::api::error::Code;
use bz_core::api::policy::TargetConnectPolicy;
use serde_json::{Value, json};

use crate::world::{As, Client, Reply, World};

const POLICIES: &str = "/policies/target-connect";

/// F-086~, F-102~: what is absent from a PATCH stays; what is there is checked as in a new policy.
#[tokio::test]
async fn what_is_absent_stays() {
    let world = World::new().await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web").await;
    let id = world.allow(&admin, &admin, &web, &["root"]).await;
    let path = format!("{POLICIES}/{id}");
    let old: TargetConnectPolicy = world.get(As::Client(&admin), &path).await.ok();
    let edit = async |change: Value| world.call(As::Client(&admin), "PATCH", &path, &change).await;
    let new: TargetConnectPolicy = edit(json!({"description": "for deploys"})).await.ok();
    let mut expected = old.clone();
    expected.content.description = "for deploys".to_owned();
    assert_eq!(new, expected);
    let new: TargetConnectPolicy = edit(json!({"timeExpires": "2100-01-01T00:00:00Z", "id": "x"})).await.ok();
    assert!(new.content.time_expires.is_some() && new.id == old.id);
    let new: TargetConnectPolicy = edit(json!({"timeExpires": null, "description": null})).await.ok();
    assert_eq!(new, old, "null is the default");
    world.allow(&admin, &admin, &web, &["other"]).await;
    let all: Vec<TargetConnectPolicy> = world.get(As::Client(&admin), POLICIES).await.ok();
    let other = all.iter().find(|policy| policy.id != old.id).unwrap();
    edit(json!({"name": other.content.name})).await.refused(Code::Conflict);
    for bad in [
        json!({"name": null}),
        json!({"verbs": []}),
        json!({"targets": []}),
        json!({"targetUsers": [{"userName": "{email}"}]}),
        json!({"environments": [{"id": web.id}]}),
        json!({"enabled": "yes"}),
        json!([]),
        json!("x"),
    ] {
        edit(bad).await.refused(Code::BadRequest);
    }
    assert_eq!(world.get(As::Client(&admin), &path).await.ok::<TargetConnectPolicy>(), old, "nothing of these is kept");
}

/// Two administrators change one policy: the second, who names what it has read, is told that it is not that any more.
#[tokio::test]
async fn a_change_in_between_is_noticed() {
    let world = World::new().await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web").await;
    let id = world.allow(&admin, &admin, &web, &["root"]).await;
    let path = format!("{POLICIES}/{id}");
    let read = tag(&world.get(As::Client(&admin), &path).await);
    let change = json!({"description": "mine"});
    let first = guarded(&world, &admin, ("PATCH", &path, &read), &change).await;
    first.done();
    assert_ne!(tag(&first), read);
    for stale in [read.as_str(), "\"x\"", "x"] {
        guarded(&world, &admin, ("PATCH", &path, stale), &change).await.refused(Code::Changed);
        guarded(&world, &admin, ("DELETE", &path, stale), &change).await.refused(Code::Changed);
    }
    guarded(&world, &admin, ("PATCH", &path, "*"), &change).await.done();
    // A change of another policy is none of this one.
    let now = tag(&world.get(As::Client(&admin), &path).await);
    world.allow(&admin, &admin, &web, &["other"]).await;
    guarded(&world, &admin, ("DELETE", &path, &now), &change).await.done();
    world.get(As::Client(&admin), &path).await.refused(Code::NotFound);
}

/// A change reaches sessions that are open: a policy that is disabled, or loses what it gave, ends them.
#[tokio::test]
async fn a_change_reaches_live_sessions() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let id = world.allow(&admin, &alice, &web, &["root", "deploy"]).await;
    let path = format!("{POLICIES}/{id}");
    let edit = async |change: Value| world.call(As::Client(&admin), "PATCH", &path, &change).await;
    let open = async || world.get(As::Client(&alice), "/connections").await.ok::<Vec<Value>>().len();
    let connect = async |user: &str| {
        let body = json!({"targetId": web.id, "targetUser": user});
        world.call(As::Client(&alice), "POST", "/connections/universal", &body).await
    };
    connect("root").await.done();
    connect("deploy").await.done();
    edit(json!({"targetUsers": [{"userName": "deploy"}]})).await.done();
    assert_eq!(open().await, 1, "root is not allowed any more");
    edit(json!({"enabled": false})).await.done();
    assert_eq!(open().await, 0, "a disabled policy allows nothing");
    connect("deploy").await.refused(Code::Denied);
    let listed = async |enabled: bool| {
        let path = format!("{POLICIES}?enabled={enabled}");
        world.get(As::Client(&admin), &path).await.ok::<Vec<Value>>().len()
    };
    assert_eq!((listed(true).await, listed(false).await), (0, 1));
    edit(json!({"enabled": true})).await.done();
    connect("deploy").await.done();
}

/// Recording policies end and are disabled like others.
#[tokio::test]
async fn recording_ends_with_its_policy() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["root"]).await;
    let soon = jiff::Timestamp::from_second(i64::try_from(world.now() + 60).unwrap()).unwrap().to_string();
    let body =
        json!({"name": "rec", "subjects": [{"id": world.id_of(&alice).await, "type": "User"}], "timeExpires": soon});
    let made: Value = world.call(As::Client(&admin), "POST", "/policies/session-recording", &body).await.ok();
    let path = format!("/policies/session-recording/{}", made["id"].as_str().unwrap());
    let recorded = async || world.connect(&alice, &web).await.recorded;
    assert!(recorded().await);
    let edit = async |on: bool| world.call(As::Client(&admin), "PATCH", &path, &json!({"enabled": on})).await.done();
    edit(false).await;
    assert!(!recorded().await);
    edit(true).await;
    assert!(recorded().await);
    world.advance(61);
    assert!(!recorded().await, "it has expired");
}

/// Policies are found by whom they name.
#[tokio::test]
async fn policies_are_filtered_by_whom_they_name() {
    let world = World::new().await;
    let (admin, alice, bob) = (world.admin().await, world.user("alice").await, world.user("bob").await);
    let (a, b) = (world.id_of(&alice).await, world.id_of(&bob).await);
    let make = async |name: &str, subject: &str, group: &str| {
        let subjects = json!([{"id": subject, "type": "User"}]);
        let body = json!({"name": name, "subjects": subjects, "groups": [{"id": group, "name": group}]});
        world.call(As::Client(&admin), "POST", "/policies/session-recording", &body).await.done();
    };
    make("1", &a, "ops").await;
    make("2", &b, "dev").await;
    let found = async |query: String| {
        let path = format!("/policies/session-recording?{query}");
        let all: Vec<Value> = world.get(As::Client(&admin), &path).await.ok();
        all.iter().map(|policy| policy["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found(format!("subjects={a}")).await, "1");
    assert_eq!(found(format!("subjects={a},{b}")).await, "1 2");
    assert_eq!(found(format!("subjects={a},{b}&groups=dev")).await, "2");
    assert_eq!(found("groups=ops,dev".to_owned()).await, "1 2");
    assert_eq!(found("groups=op".to_owned()).await, "");
}

fn tag(reply: &Reply) -> String {
    reply.headers["etag"].to_str().unwrap().to_owned()
}

async fn guarded(world: &World, who: &Client, (method, path, tag): (&'static str, &str, &str), body: &Value) -> Reply {
    let (path, body) = (format!("/api/v2{path}"), serde_json::to_vec(body).unwrap());
    let proof = world.proof(who, method, &path, &body).to_header();
    let request = axum::http::Request::builder().method(method).uri(&path).header("Authorization", proof);
    world.send(request.header("If-Match", tag).body(body.into()).unwrap()).await
}
