//! The original's smaller lists: agents, subjects, targets by access, connections by way, the organization's provider.

use bz_core::api::error::Code;
use serde_json::{Value, json};

use crate::world::{As, World};

/// Agents are listed with their links, and found by part of a name, environment and state.
#[tokio::test]
async fn agents_are_listed() {
    let world = World::new().await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web-1").await;
    world.agent(&admin, "db-1").await;
    let found = async |query: &str| {
        let all: Vec<Value> = world.get(As::Client(&admin), &format!("/agents?{query}")).await.ok();
        all.iter().map(|agent| agent["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found("").await, "db-1 web-1");
    assert_eq!(found("name=eb-").await, "web-1");
    assert_eq!(found(&format!("agentIds={}", web.id)).await, "web-1");
    assert_eq!(found("environmentName=efault&agentTypes=Linux").await, "db-1 web-1");
    assert_eq!(found("agentTypes=Windows").await, "");
    assert_eq!(found("agentStatuses=Online&agentStatuses=Offline").await, "", "they never had a link");
    assert_eq!(found("agentStatuses=NotActivated").await, "db-1 web-1");
    world.get(As::Client(&admin), "/agents?agentStatuses=Sleeping").await.refused(Code::BadRequest);
    let all: Vec<Value> = world.get(As::Client(&admin), "/agents?name=web").await.ok();
    let keys: Vec<_> = all[0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "controlChannel",
        "environmentId",
        "environmentName",
        "id",
        "lastStatusUpdate",
        "name",
        "publicKey",
        "region",
        "status",
        "type",
        "version",
    ];
    assert_eq!(keys, expected);
}

/// Subjects are people, by id or address; a key is a subject to itself.
#[tokio::test]
async fn subjects_are_people_and_the_key_that_asks() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let secret = world.key(&admin, false).await;
    let me: Value = world.get(As::Key(&secret), "/subjects/me").await.ok();
    assert_eq!((&me["type"], &me["isAdmin"]), (&json!("ApiKey"), &json!(false)));
    let me: Value = world.get(As::Client(&alice), "/subjects/me").await.ok();
    assert_eq!(me["type"], "User");
    let all: Vec<Value> = world.get(As::Key(&secret), "/subjects").await.ok();
    assert!(all.len() == 2 && all.contains(&me), "{all:?}");
    let path = "/subjects/alice@example.com";
    assert_eq!(world.get(As::Client(&admin), path).await.ok::<Value>(), me);
    let changed: Value = world.call(As::Client(&admin), "PATCH", path, &json!({"role": "Admin"})).await.ok();
    assert_eq!(changed["isAdmin"], true);
    world.call(As::Client(&alice), "PATCH", path, &json!({"role": "User"})).await.refused(Code::Conflict);
    let close = format!("{path}/close-connections");
    world.raw(As::Client(&admin), "PATCH", &close, vec![]).await.done();
    world.get(As::Client(&admin), "/subjects/nobody@example.com").await.refused(Code::NotFound);
}

/// What somebody may reach is listed by the way of reaching it, with the connections that are open there.
#[tokio::test]
async fn targets_are_listed_by_access() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    world.agent(&admin, "other").await;
    world.allow(&admin, &alice, &web, &["root"]).await;
    let made = world.connect(&alice, &web).await;
    let body = json!({"targetName": "orders", "proxyTargetId": web.id, "remoteHost": "db.internal",
        "remotePort": {"value": 5432}, "databaseAuthenticationConfig": {"database": "Postgres"}});
    let database: Value = world.call(As::Client(&admin), "POST", "/targets/database", &body).await.ok();
    let names = |list: &Value| {
        let list = list.as_array().unwrap().iter();
        list.map(|target| target["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let lists = async |who: As<'_>, query: &str| {
        let all: Value = world.get(who, &format!("/targets{query}")).await.ok();
        let kinds = ["shell", "ssh", "fileTransfer", "db", "web", "kubernetes", "rdp", "sqlServer"];
        (kinds.map(|kind| names(&all[kind])).join("|"), all)
    };
    let (seen, all) = lists(As::Client(&alice), "").await;
    assert_eq!(seen, "web|web||||||");
    assert_eq!(all["shell"][0]["connections"][0]["id"], json!(made.connection_id));
    assert_eq!(all["shell"][0]["connections"][0]["targetID"], json!(web.id), "spelled as the original spells it");
    assert_eq!((&all["ssh"][0]["connections"], &all["shell"][0]["agent"]["id"]), (&json!([]), &json!(web.id)));
    assert_eq!(lists(As::Client(&admin), "").await.0, "|||||||");
    assert_eq!(lists(As::Client(&admin), "?userEmail=alice@example.com").await.0, seen);
    world.get(As::Client(&alice), "/targets?userEmail=root-of-all@example.com").await.refused(Code::Denied);
    let (seen, all) = lists(As::Client(&admin), "?allTargetsInOrg=true").await;
    assert_eq!(seen, "other web|other web|other web|orders||||");
    let orders = &all["db"][0];
    assert_eq!((&orders["id"], &orders["remoteHost"]), (&database["targetId"], &json!("db.internal")));
    assert_eq!(orders["remotePort"], json!({"value": 5432}), "written as the original writes ports");
}

/// Connections are listed by the way of reaching things, and a shell's says whether it is recorded.
#[tokio::test]
async fn connections_are_listed_by_way() {
    let world = World::new().await;
    let (admin, alice, bob) = (world.admin().await, world.user("alice").await, world.user("bob").await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["root"]).await;
    let made = world.connect(&alice, &web).await;
    for (way, count) in [("shell", 1), ("db", 0), ("kube", 0), ("web", 0), ("ssh", 0), ("rdp", 0), ("sqlserver", 0)] {
        let all: Vec<Value> = world.get(As::Client(&alice), &format!("/connections/{way}")).await.ok();
        assert_eq!(all.len(), count, "{way}");
        let all: Vec<Value> = world.get(As::Client(&admin), &format!("/connections/{way}?all=true")).await.ok();
        assert_eq!(all.len(), count, "{way}, seen by an administrator");
    }
    let path = format!("/connections/shell/{}", made.connection_id);
    let shown: Value = world.get(As::Client(&alice), &path).await.ok();
    assert_eq!((&shown["sessionRecording"], &shown["targetUser"]), (&json!(false), &json!("root")));
    assert_eq!(shown["inputRecording"], json!(false));
    world.get(As::Client(&admin), &path).await.done();
    world.get(As::Client(&bob), &path).await.refused(Code::Denied);
}

/// What says who the organization is at its provider.
#[tokio::test]
async fn the_provider_is_named() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let provider = &world.app.config().providers[0];
    let named: Value = world.get(As::Client(&alice), "/organization/identity-provider").await.ok();
    let info: Value = world.get(As::Client(&alice), "/organization/bzcert-validation-info").await.ok();
    let id = provider.organization.as_ref().map_or(&provider.issuer, |claim| &claim.value);
    assert_eq!((&named["identityProviderId"], &info["orgIdpIssuerId"]), (&json!(id), &json!(id)));
    assert_eq!(named["identityProviderType"], info["orgIdpProvider"]);
}
