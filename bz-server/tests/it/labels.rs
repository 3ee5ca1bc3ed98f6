//! Labels of targets: given by administrators, said by agents, asked for by policies and lists.

use bz_core::api::error::Code;
use bz_core::api::register::AgentRegistered;
use bz_core::api::target::Target;
use bz_core::id::BootId;
use serde_json::{Value, json};

use crate::world::{Agent, As, Client, World};

/// A policy about labels gives every target that has them, as soon as it has them and as long as it does.
#[tokio::test]
async fn a_policy_follows_labels() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let (web, db) = (world.agent(&admin, "web").await, world.agent(&admin, "db").await);
    by_labels(&world, &admin, &alice, json!([
        {"key": "role", "operator": "In", "values": ["web", "mail"]}, {"key": "tier", "operator": "NotIn", "values": ["prod"]},
    ])).await.done();
    let connect = async |agent: &Agent| {
        world.call(As::Client(&alice), "POST", "/connections/universal", &json!({"targetId": agent.id})).await
    };
    connect(&web).await.refused(Code::Denied);
    label(&world, &admin, &web, json!({"role": "web"})).await;
    connect(&web).await.refused(Code::Denied);
    label(&world, &admin, &web, json!({"role": "web", "tier": "test"})).await;
    connect(&web).await.done();
    connect(&db).await.refused(Code::Denied);
    let listed: Vec<Target> = world.get(As::Client(&alice), "/targets/bzero").await.ok();
    assert_eq!(listed.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["web"]);
    // A session ends with the label that it was let in by.
    let open = async || world.get(As::Client(&alice), "/connections").await.ok::<Vec<Value>>().len();
    assert_eq!(open().await, 1);
    label(&world, &admin, &web, json!({"role": "web", "tier": "prod"})).await;
    assert_eq!(open().await, 0);
    label(&world, &admin, &web, json!({})).await;
    connect(&web).await.refused(Code::Denied);
}

/// What a host says of itself is shown, and opens nothing, whatever it says.
#[tokio::test]
async fn what_a_host_says_of_itself_opens_nothing() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let key = world.key(&admin, true).await;
    let seed = world.seed();
    let (mut body, identity) = world.registration("web", seed);
    body.labels = [("role".to_owned(), "web".to_owned())].into();
    let control = bz_core::key::PrivateKey::from_seed(&seed.map(|b| b ^ 0xff)).unwrap();
    world.call(As::Key(&key), "POST", "/agent/register", &body).await.refused(Code::Denied);
    body.prove(&identity, &control);
    let made: AgentRegistered = world.call(As::Key(&key), "POST", "/agent/register", &body).await.ok();
    let boot = BootId::from_bytes([seed[0]; 16]);
    world.links.set(made.target_id, Some(boot));
    let web = Agent { id: made.target_id, identity, boot };

    for needs in
        [json!([{"key": "role", "operator": "In", "values": ["web"]}]), json!([{"key": "role", "operator": "Exists"}])]
    {
        by_labels(&world, &admin, &alice, needs).await.done();
    }
    let asked = json!([{"key": "agent/role", "operator": "Exists"}]);
    by_labels(&world, &admin, &alice, asked).await.refused(Code::BadRequest);
    let ask = json!({"targetId": web.id});
    world.call(As::Client(&alice), "POST", "/connections/universal", &ask).await.refused(Code::Denied);
    let shown: Target = world.get(As::Client(&admin), &format!("/targets/bzero/{}", web.id)).await.ok();
    assert_eq!((shown.labels.len(), shown.agent_labels["role"].as_str()), (0, "web"));
    label(&world, &admin, &web, json!({"role": "web"})).await;
    world.call(As::Client(&alice), "POST", "/connections/universal", &ask).await.done();

    // Registering again, it says something else; what administrators gave stays.
    body.target_id = Some(web.id);
    body.labels = [("role".to_owned(), "db".to_owned())].into();
    body.prove(&web.identity, &control);
    world.call(As::Key(&key), "POST", "/agent/register", &body).await.done();
    let shown: Target = world.get(As::Client(&admin), &format!("/targets/bzero/{}", web.id)).await.ok();
    assert_eq!((shown.labels["role"].as_str(), shown.agent_labels["role"].as_str()), ("web", "db"));
    body.labels = (0..33).map(|number| (format!("k{number}"), "v".to_owned())).collect();
    body.prove(&web.identity, &control);
    world.call(As::Key(&key), "POST", "/agent/register", &body).await.refused(Code::BadRequest);
}

/// Lists are filtered by what labels, names and environments say, page by page, by the same words as policies.
#[tokio::test]
async fn lists_are_filtered() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    for (name, labels) in [
        ("a1", json!({"role": "web", "site.x": "1"})),
        ("a2", json!({"role": "db"})),
        ("b1", json!({})),
        ("b2", json!({"role": "web"})),
    ] {
        let agent = world.agent(&admin, name).await;
        label(&world, &admin, &agent, labels).await;
        if name.ends_with('2') {
            world.allow(&admin, &alice, &agent, &["root"]).await;
        }
    }
    let list = async |who: &Client, query: &str| {
        let found: Vec<Target> = world.get(As::Client(who), &format!("/targets/bzero?{query}")).await.ok();
        found.iter().map(|target| target.name.clone()).collect::<Vec<_>>().join(" ")
    };
    for (query, expected) in [
        ("", "a1 a2 b1 b2"),
        ("label=role%3Dweb", "a1 b2"),
        ("label=role!%3Dweb", "a2"),
        ("label=role+in+(web,+db)", "a1 a2 b2"),
        ("label=role", "a1 a2 b2"),
        ("label=role&label=site.x%3D1", "a1"),
        ("label=agent/role", ""),
        ("search=A", "a1 a2"),
        ("search=%25", ""),
        ("targetNames=a1&targetNames=b1", "a1 b1"),
        ("envName=Default", "a1 a2 b1 b2"),
        ("envName=Nowhere", ""),
        ("limit=2", "a1 a2"),
    ] {
        assert_eq!(list(&admin, query).await, expected, "{query}");
    }
    assert_eq!(list(&alice, "").await, "a2 b2");
    assert_eq!(list(&alice, "label=role%3Dweb").await, "b2");
    let (mut path, mut seen) = ("/targets/bzero?limit=1".to_owned(), Vec::new());
    loop {
        let (reply, next) = world.linked(As::Client(&alice), &path).await;
        seen.extend(reply.ok::<Vec<Target>>().into_iter().map(|target| target.name));
        let Some(next) = next else { break };
        path = next.trim_start_matches("</api/v2").split('>').next().unwrap().to_owned();
    }
    assert_eq!(seen, ["a2", "b2"], "a page is full of what is seen, whatever is not");
    for bad in ["label=", "label=a=b=c", "label=a%20in%20()", "label=%22", "cursor=eA", "limit=0"] {
        let reply = world.get(As::Client(&admin), &format!("/targets/bzero?{bad}")).await;
        assert_eq!(reply.refused(Code::BadRequest).code, Code::BadRequest, "{bad}");
    }
}

/// What is no label, or no question about one, is refused where it is written.
#[tokio::test]
async fn bad_labels_are_refused() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let path = format!("/targets/bzero/{}", web.id);
    for bad in [
        json!({"": "x"}),
        json!({"a": ""}),
        json!({"agent/a": "x"}),
        json!({"a b": "x"}),
        json!({"a": "x y"}),
        json!({"a": 1}),
        json!([]),
    ] {
        world.call(As::Client(&admin), "PATCH", &path, &json!({"labels": bad})).await.refused(Code::BadRequest);
    }
    for bad in [
        json!([{"key": "", "operator": "Exists"}]),
        json!([{"key": "a", "operator": "In", "values": []}]),
        json!([{"key": "a", "operator": "Exists", "values": ["x"]}]),
        json!([{"key": "a", "operator": "Like", "values": ["x"]}]),
        json!([{"key": "a"}]),
        json!([]),
    ] {
        by_labels(&world, &admin, &alice, bad).await.refused(Code::BadRequest);
    }
    let id = world.allow(&admin, &alice, &web, &["root"]).await;
    let both = json!({"targetLabels": [{"key": "a", "operator": "Exists"}]});
    world
        .call(As::Client(&admin), "PATCH", &format!("/policies/target-connect/{id}"), &both)
        .await
        .refused(Code::BadRequest);
}

async fn label(world: &World, admin: &Client, agent: &Agent, labels: Value) {
    let path = format!("/targets/bzero/{}", agent.id);
    world.call(As::Client(admin), "PATCH", &path, &json!({"labels": labels})).await.done();
}

async fn by_labels(world: &World, admin: &Client, who: &Client, needs: Value) -> crate::world::Reply {
    let body = json!({
        "name": format!("l{}", world.seed()[0]), "targetLabels": needs, "verbs": [{"type": "Shell"}],
        "subjects": [{"id": world.id_of(who).await, "type": "User"}], "targetUsers": [{"userName": "root"}],
    });
    world.call(As::Client(admin), "POST", "/policies/target-connect", &body).await
}
