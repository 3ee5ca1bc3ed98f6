//! `/policies`, and the rules as data: each case of `policy/cases.json` is one question with its answer.

use bz_core::api::error::Code;
use bz_core::api::policy::TargetConnectPolicy;
use bz_server::policy::{AccessQuestion, Engine};
use bz_server::seam::links::Asked;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{As, World};

#[derive(Deserialize)]
struct Case {
    says: String,
    ask: Value,
    allowed: bool,
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    rules: Vec<String>,
    #[serde(default)]
    recorded: [bool; 2],
    #[serde(default)]
    reason: Option<String>,
}

/// F-074, F-075, F-076, F-082~, F-084, F-085, F-087, F-090, F-107, F-108: the rules, case by case.
#[test]
fn the_rules_say() {
    let engine = Engine::new().unwrap();
    let file: Value = serde_json::from_str(include_str!("policy/cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_value(file["cases"].clone()).unwrap();
    assert!(cases.len() >= 20, "the cases are gone");
    for case in cases {
        let mut question = file["default"].clone();
        question.as_object_mut().unwrap().extend(case.ask.as_object().unwrap().clone());
        let question: AccessQuestion = serde_json::from_value(question).unwrap();
        let decision = engine.access(&question);
        assert_eq!(decision.allowed, case.allowed, "{}: {}", case.says, decision.reason);
        let ids: Vec<_> = decision.policies.iter().map(ToString::to_string).collect();
        assert_eq!(ids, case.policies, "{}: policies", case.says);
        let users: Vec<_> = decision.users.iter().map(|u| u.user.to_string()).collect();
        assert_eq!(users, case.users, "{}: users", case.says);
        let rules: Vec<_> = decision.users.iter().map(|u| u.rule.to_string()).collect();
        assert_eq!(rules, if case.rules.is_empty() { case.users } else { case.rules }, "{}: rules", case.says);
        let recorded = [decision.recording.output, decision.recording.input];
        assert_eq!(recorded, case.recorded, "{}: recorded", case.says);
        if let Some(reason) = case.reason {
            assert_eq!(decision.reason, reason, "{}", case.says);
        }
    }
}

/// F-086~: a policy is authored by the API as it was, and checked when it is.
#[tokio::test]
async fn policies_are_authored_whole() {
    let world = World::new().await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web").await;
    let good = json!({
        "name": "web", "subjects": [], "targets": [{"id": web.id, "type": "Bzero"}],
        "targetUsers": [{"userName": "deploy"}, {"userName": "{username}"}],
        "verbs": [{"type": "Shell"}, {"type": "Handler", "name": "debug"}],
    });
    let add = |name: &'static str, value: Value| {
        let mut body = good.clone();
        if value.is_null() {
            body.as_object_mut().unwrap().remove(name);
        } else {
            body[name] = value;
        }
        let (world, admin) = (&world, &admin);
        async move { world.call(As::Client(admin), "POST", "/policies/target-connect", &body).await }
    };
    let made: TargetConnectPolicy = add("description", json!("for deploys")).await.ok();
    assert_eq!((made.kind.as_str(), made.content.verbs.len()), ("TargetConnect", 2));
    add("name", json!("web")).await.refused(Code::Conflict);
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("x\n")),
        ("targets", Value::Null),
        ("targets", json!([{"id": nobody, "type": "Bzero"}])),
        ("environments", json!([{"id": nobody}])),
        ("targetUsers", json!([])),
        ("targetUsers", json!([{"userName": "{email}"}])),
        ("targetUsers", json!([{"userName": "a b"}])),
        ("verbs", json!([])),
        ("verbs", json!([{"type": "Fly"}])),
        ("verbs", json!([{"type": "Handler", "name": ""}])),
        ("timeExpires", json!("2020-01-01T00:00:00Z")),
        ("timeExpires", json!("tomorrow")),
    ] {
        let reply = add(field, value.clone()).await;
        assert_eq!(reply.refused(Code::BadRequest).code, Code::BadRequest, "{field}: {value}");
    }
    let path = format!("/policies/target-connect/{}", made.id);
    assert_eq!(world.get(As::Client(&admin), &path).await.ok::<TargetConnectPolicy>(), made);
    let other = format!("/policies/session-recording/{}", made.id);
    world.get(As::Client(&admin), &other).await.refused(Code::NotFound);
    let recording = json!({"name": "web", "recordInput": true});
    let reply = world.call(As::Client(&admin), "POST", "/policies/session-recording", &recording).await;
    reply.refused(Code::Conflict);
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    world.get(As::Client(&admin), &path).await.refused(Code::NotFound);
    world.call(As::Client(&admin), "POST", "/policies/session-recording", &recording).await.done();
}

/// F-083: a policy may name an API key, as older ones do. A key has no sessions, so it gives nobody any: not even whoever
/// has its id.
#[tokio::test]
async fn a_policy_may_name_a_key() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let body = json!({
        "name": "key", "subjects": [{"id": world.id_of(&alice).await, "type": "ApiKey"}], "verbs": [{"type": "Shell"}],
        "targets": [{"id": web.id, "type": "Bzero"}], "targetUsers": [{"userName": "root"}],
    });
    let made: Value = world.call(As::Client(&admin), "POST", "/policies/target-connect", &body).await.ok();
    let listed: Vec<Value> = world.get(As::Client(&admin), "/policies/target-connect").await.ok();
    assert_eq!((&made["subjects"], &listed[0]["subjects"]), (&body["subjects"], &body["subjects"]));
    let ask = json!({"targetId": web.id});
    world.call(As::Client(&alice), "POST", "/connections/universal", &ask).await.refused(Code::Denied);
}

/// Why not, and the very command that would change it.
#[tokio::test]
async fn why_names_the_remedy() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let why = |who, body: Value| {
        let world = &world;
        async move { world.call(As::Client(who), "POST", "/policy-query/why", &body).await }
    };
    let before: Value = why(&alice, json!({"targetName": "web", "targetUser": "deploy"})).await.ok();
    assert_eq!(before["allowed"], false);
    assert_eq!(before["reason"], "no policy names you and this target");
    let command = format!(
        "bz policy create target-access --name 'alice@example.com on web' --users alice@example.com --targets {} \
         --target-users deploy --verbs Shell",
        web.id
    );
    assert_eq!(before["remedy"], command);
    let policy = world.allow(&admin, &alice, &web, &["deploy"]).await;
    let after: Value = why(&admin, json!({"targetName": "web", "userEmail": "alice@example.com"})).await.ok();
    assert_eq!((&after["allowed"], &after["policies"][0]["id"]), (&json!(true), &json!(policy)));
    assert_eq!(after["remedy"], Value::Null);
    let others = json!({"targetName": "web", "userEmail": "root-of-all@example.com"});
    why(&alice, others).await.refused(Code::Denied);
    why(&alice, json!({"targetName": "nowhere"})).await.refused(Code::NotFound);
    why(&alice, json!({})).await.refused(Code::BadRequest);
}

/// A policy with an end allows nothing from then on, and is removed.
#[tokio::test]
async fn a_policy_ends_by_itself() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let body = json!({
        "name": "for a minute", "timeExpires": "2027-01-15T08:01:00Z", "verbs": [{"type": "Shell"}],
        "subjects": [{"id": world.id_of(&alice).await, "type": "User"}],
        "targets": [{"id": web.id, "type": "Bzero"}], "targetUsers": [{"userName": "deploy"}],
    });
    world.call(As::Client(&admin), "POST", "/policies/target-connect", &body).await.done();
    let ask = json!({"targetId": web.id});
    world.call(As::Client(&alice), "POST", "/connections/universal", &ask).await.done();
    world.advance(60);
    world.call(As::Client(&alice), "POST", "/connections/universal", &ask).await.refused(Code::Denied);
    assert_eq!(world.app.store.policies().await.unwrap().all.len(), 1);
    bz_server::jobs::tick(&world.app).await.unwrap();
    assert!(world.app.store.policies().await.unwrap().all.is_empty());
    let log = world.app.store.connection_events(Default::default()).await.unwrap();
    assert_eq!(log[0].reason, "closed by the service: no policy allows it any more");
}

/// A connection ends with the last policy that allows it, and not before.
#[tokio::test]
async fn a_connection_ends_with_its_last_policy() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let one = world.allow(&admin, &alice, &web, &["deploy"]).await;
    let two = world.allow(&admin, &alice, &web, &["deploy"]).await;
    let id = world.connect(&alice, &web).await.connection_id;
    let delete = |policy: String| {
        let (world, admin) = (&world, &admin);
        async move { world.raw(As::Client(admin), "DELETE", &format!("/policies/target-connect/{policy}"), vec![]).await }
    };
    delete(one).await.done();
    assert_eq!(world.links.asked(), []);
    delete(two).await.done();
    let why = "closed by the administrator root-of-all@example.com: no policy allows it any more";
    assert_eq!(world.links.asked(), [Asked::Closed(id, why.to_owned())]);
}
