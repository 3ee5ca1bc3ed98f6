//! `/targets/database`, `/targets/web`, `/targets/kube`, and who reaches them.

use bz_core::access::Mode;
use bz_core::access::request::{MAX_REQUEST, Parameters, Request};
use bz_core::access::upstream::{DatabaseRequest, KubeRequest, WebRequest, Wire};
use bz_core::api::Bytes;
use bz_core::api::access::ConnectionMade;
use bz_core::api::error::Code;
use bz_core::api::target::TargetStatus;
use bz_core::api::virtual_target::{DatabaseTarget, KubeTarget, VirtualTargetMade, WebTarget};
use bz_core::grant::{Grant, MAX_GRANT, Pins, Scope, SignedGrant};
use bz_core::id::TargetId;
use bz_core::target::UserRule;
use bz_core::wire;
use bz_server::connection::link;
use bz_server::seam::links::Asked;
use bz_server::store::target::Announced;
use serde_json::{Value, json};

use crate::world::{Agent, As, Client, World};

/// A database as the original's SDK asks for one.
fn orders(behind: &Agent) -> Value {
    json!({
        "targetName": "orders", "proxyTargetId": behind.id, "remoteHost": "db.internal",
        "remotePort": {"value": 5432}, "localPort": {"value": null}, "localHost": null,
        "databaseAuthenticationConfig": {"authenticationType": "Default", "database": "Postgres", "label": "Postgres"},
    })
}

async fn add(world: &World, admin: &Client, kind: &str, body: &Value) -> TargetId {
    world.call(As::Client(admin), "POST", &format!("/targets/{kind}"), body).await.ok::<VirtualTargetMade>().target_id
}

/// F-043~: databases, web servers and clusters are targets, made, shown, changed and removed by the API.
#[tokio::test]
async fn what_is_behind_a_host_is_a_target() {
    let world = World::new().await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web").await;
    let id = add(&world, &admin, "database", &orders(&web)).await;
    let path = format!("/targets/database/{id}");
    let shown: Value = world.get(As::Client(&admin), &path).await.ok();
    for (field, want) in [
        ("name", json!("orders")),
        ("status", json!("Offline")),
        ("environmentName", json!("Default")),
        ("proxyTargetId", json!(web.id)),
        ("proxyEnvironmentId", json!(null)),
        ("remoteHost", json!("db.internal")),
        ("remotePort", json!({"value": 5432})),
        ("localPort", json!({"value": null})),
        ("upstreamTls", json!(true)),
        ("region", json!("self-hosted")),
    ] {
        assert_eq!(shown[field], want, "{field}");
    }
    assert_eq!(shown["databaseAuthenticationConfig"]["database"], "Postgres");

    let online = Announced { boot: web.boot, version: "2".to_owned(), routes: Vec::new() };
    link::target_online(&world.app, web.id, online).await.unwrap();
    let change = json!({"remotePort": {"value": 5433}, "localPort": {"value": 15432}, "upstreamTls": false});
    let shown: DatabaseTarget = world.call(As::Client(&admin), "PATCH", &path, &change).await.ok();
    assert_eq!((shown.base.id, shown.base.name.as_str(), shown.base.status), (id, "orders", TargetStatus::Online));
    assert_eq!((shown.remote.remote_host.as_str(), shown.remote.remote_port.value), ("db.internal", Some(5433)));
    assert_eq!((shown.remote.local_port.value, shown.upstream_tls), (Some(15432), false));
    let environment = shown.base.environment_id;
    let moved: DatabaseTarget =
        world.call(As::Client(&admin), "PATCH", &path, &json!({"proxyEnvironmentId": environment})).await.ok();
    assert_eq!((moved.base.proxy_target_id, moved.base.proxy_environment_id), (None, Some(environment)));

    let wiki = json!({"targetName": "wiki", "proxyTargetId": web.id, "remoteHost": "https://wiki.internal"});
    let wiki = add(&world, &admin, "web", &wiki).await;
    let shown: WebTarget = world.get(As::Client(&admin), &format!("/targets/web/{wiki}")).await.ok();
    assert_eq!(
        (shown.remote.remote_host.as_str(), shown.remote.remote_port.value),
        ("https://wiki.internal", Some(443))
    );
    world.get(As::Client(&admin), &format!("/targets/database/{wiki}")).await.refused(Code::NotFound);
    let cluster = add(&world, &admin, "kube", &json!({"name": "prod", "proxyTargetId": web.id})).await;
    let shown: KubeTarget = world.get(As::Client(&admin), &format!("/targets/kube/{cluster}")).await.ok();
    assert_eq!(shown.base.name, "prod");

    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.refused(Code::NotFound);
    let (taken, _) = world.registration("wiki", world.seed());
    let key = world.key(&admin, true).await;
    world.call(As::Key(&key), "POST", "/agent/register", &taken).await.refused(Code::Conflict);
}

#[tokio::test]
async fn what_cannot_be_a_target_is_refused() {
    let world = World::new().await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web").await;
    let nobody = "00000000-0000-4000-8000-000000000000";
    let refuse = async |kind: &str, base: Value, change: Value, want: Code| {
        let mut body = base;
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let reply = world.call(As::Client(&admin), "POST", &format!("/targets/{kind}"), &body).await;
        assert_eq!(reply.refused(want).code, want, "{kind}: {change}");
    };
    for (change, want) in [
        (json!({"targetName": ""}), Code::BadRequest),
        (json!({"targetName": "web"}), Code::Conflict),
        (json!({"proxyTargetId": nobody}), Code::BadRequest),
        (json!({"proxyTargetId": null}), Code::BadRequest),
        (json!({"proxyEnvironmentId": nobody}), Code::BadRequest),
        (json!({"environmentName": "nowhere"}), Code::NotFound),
        (json!({"remoteHost": "db:5432"}), Code::BadRequest),
        (json!({"remoteHost": "postgres://db"}), Code::BadRequest),
        (json!({"remoteHost": null}), Code::BadRequest),
        (json!({"remotePort": {"value": 70000}}), Code::BadRequest),
        (json!({"localHost": "everywhere"}), Code::BadRequest),
        (json!({"databaseAuthenticationConfig": {"database": "Oracle"}}), Code::BadRequest),
        (json!({"databaseAuthenticationConfig": {"authenticationType": "SplitCert"}}), Code::BadRequest),
        (json!({"databaseAuthenticationConfig": {"database": "Redis"}, "upstreamTls": true}), Code::BadRequest),
        (json!({"databaseAuthenticationConfig": {}, "remotePort": {"value": null}}), Code::BadRequest),
    ] {
        refuse("database", orders(&web), change, want).await;
    }
    let wiki = json!({"targetName": "wiki", "proxyTargetId": web.id, "remoteHost": "http://wiki"});
    refuse("web", wiki.clone(), json!({"remoteHost": "wiki"}), Code::BadRequest).await;
    refuse("web", wiki.clone(), json!({"remoteHost": "http://wiki/path"}), Code::BadRequest).await;
    refuse("web", wiki.clone(), json!({"databaseType": "Postgres"}), Code::BadRequest).await;
    refuse("kube", wiki, json!({}), Code::BadRequest).await;
}

/// F-020~, F-100, F-101, F-103, F-104: a grant for what is behind a host names that host, the one place, and the account
/// that policy allows or the person chose of several.
#[tokio::test]
async fn a_grant_leads_to_one_place_through_one_host() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let id = add(&world, &admin, "database", &orders(&web)).await;
    let wanted = database("db.internal:5432", Wire::Postgres, true);
    let ask = async |parameters: &Parameters, more: Value| {
        let mut body = json!({"targetName": "orders", "parameters": bytes(parameters)});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.call(As::Client(&alice), "POST", "/connections/universal", &body).await
    };
    ask(&wanted, json!({})).await.refused(Code::Denied);
    let reader = json!({"targets": [{"id": id, "type": "Db"}], "targetUsers": ["reader"]});
    let reader = allow(&world, &admin, &alice, reader).await;
    let made: ConnectionMade = ask(&wanted, json!({})).await.ok();
    assert_eq!((made.target_id, made.target_type.as_str(), made.target_name.as_str()), (id, "Db", "orders"));
    let proxy = made.proxy.clone().unwrap();
    assert_eq!((proxy.target_id, proxy.target_name.as_str()), (web.id, "web"));
    assert_eq!(made.target_user.as_ref().unwrap().as_str(), "reader");
    let grant = granted(&world, &made);
    assert_eq!((grant.target, grant.agent_key), (web.id, web.identity.public()));
    assert_eq!(grant.user, Some(UserRule::Literal("reader".parse().unwrap())));
    assert_eq!(grant.scope, Scope::Destinations(vec!["db.internal:5432".parse().unwrap()]));
    let request =
        Request { target: web.id, user: made.target_user.clone(), mode: Mode::Inspected, parameters: wanted.clone() };
    assert_eq!(grant.request, Request::digest(&request.encode().unwrap()));

    // Another place than the target's is not granted by its name, and nothing goes without its log.
    ask(&database("db.internal:5433", Wire::Postgres, true), json!({})).await.refused(Code::Conflict);
    ask(&database("db.internal:5432", Wire::Postgres, false), json!({})).await.refused(Code::Conflict);
    ask(&database("db.internal:5432", Wire::Plain, false), json!({})).await.refused(Code::Conflict);
    ask(&wanted, json!({"mode": "sealed"})).await.refused(Code::BadRequest);
    ask(&wanted, json!({"targetUser": "postgres"})).await.refused(Code::Denied);
    let shell = json!({"targetName": "orders"});
    let other = world.call(As::Client(&alice), "POST", "/connections/universal", &shell).await;
    assert_eq!(other.refused(Code::OtherKind).candidates, ["Db"]);
    let host = json!({"targetName": "web", "parameters": bytes(&wanted)});
    let other = world.call(As::Client(&alice), "POST", "/connections/universal", &host).await;
    assert_eq!(other.refused(Code::OtherKind).candidates, ["Bzero"]);

    let writer = json!({"environments": [{"id": environment(&world, &admin).await}], "targetUsers": ["writer"]});
    allow(&world, &admin, &alice, writer).await;
    let several = ask(&wanted, json!({})).await.refused(Code::TargetUserNeeded);
    assert_eq!(several.candidates, ["reader", "writer"]);
    let made: ConnectionMade = ask(&wanted, json!({"targetUser": "writer"})).await.ok();
    assert_eq!(made.target_user.as_ref().unwrap().as_str(), "writer");

    // What the first policy alone allowed ends with it.
    let first: ConnectionMade = ask(&wanted, json!({"targetUser": "reader"})).await.ok();
    world.raw(As::Client(&admin), "DELETE", &format!("/policies/proxy/{reader}"), vec![]).await.done();
    let closed = |asked: &Asked| matches!(asked, Asked::Closed(id, _) if *id == first.connection_id);
    assert!(world.links.asked().iter().any(closed));
    let writer = |asked: &Asked| matches!(asked, Asked::Closed(id, _) if *id == made.connection_id);
    assert!(!world.links.asked().iter().any(writer));

    // A policy that lists no account leaves it to the database.
    allow(&world, &admin, &alice, json!({"targets": [{"id": id, "type": "Db"}], "targetUsers": []})).await;
    let any: ConnectionMade = ask(&wanted, json!({})).await.ok();
    assert_eq!((&any.target_user, &granted(&world, &any).user), (&None, &None));
    let named: ConnectionMade = ask(&wanted, json!({"targetUser": "postgres"})).await.ok();
    assert_eq!(named.target_user.unwrap().as_str(), "postgres");
}

/// A host's connections end with it, those to what is behind it included.
#[tokio::test]
async fn what_is_behind_a_host_goes_with_it() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let wiki = json!({"targetName": "wiki", "proxyTargetId": web.id, "remoteHost": "http://w"});
    let id = add(&world, &admin, "web", &wiki).await;
    allow(&world, &admin, &alice, json!({"targets": [{"id": id, "type": "Web"}]})).await;
    let parameters = Parameters::Web(WebRequest { destination: "w:80".parse().unwrap(), tls: false });
    let body = json!({"targetId": id, "parameters": bytes(&parameters)});
    let made: ConnectionMade = world.call(As::Client(&alice), "POST", "/connections/universal", &body).await.ok();
    let online = Announced { boot: web.boot, version: "2".to_owned(), routes: Vec::new() };
    link::target_online(&world.app, web.id, online).await.unwrap();
    link::target_offline(&world.app, web.id).await.unwrap();
    let [Asked::Closed(closed, why)] = &world.links.asked()[..] else { panic!("{:?}", world.links.asked()) };
    assert_eq!((*closed, why.as_str()), (made.connection_id, "closed by the service: the target is offline"));
    world.links.set(web.id, None);
    world.call(As::Client(&alice), "POST", "/connections/universal", &body).await.refused(Code::TargetOffline);
    world.raw(As::Client(&admin), "DELETE", &format!("/targets/bzero/{}", web.id), vec![]).await.done();
    world.call(As::Client(&alice), "POST", "/connections/universal", &body).await.refused(Code::TargetOffline);
}

/// Of an environment's hosts the one that is online and has the fewest connections is asked.
#[tokio::test]
async fn the_least_busy_host_of_an_environment_is_asked() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let (one, two) = (world.agent(&admin, "one").await, world.agent(&admin, "two").await);
    let environment = environment(&world, &admin).await;
    let mut body = orders(&one);
    (body["proxyTargetId"], body["proxyEnvironmentId"]) = (json!(null), json!(environment));
    let id = add(&world, &admin, "database", &body).await;
    allow(&world, &admin, &alice, json!({"targets": [{"id": id, "type": "Db"}]})).await;
    let wanted = json!({"targetId": id, "parameters": bytes(&database("db.internal:5432", Wire::Postgres, true))});
    let ask = async || world.call(As::Client(&alice), "POST", "/connections/universal", &wanted).await;
    let through = async || ask().await.ok::<ConnectionMade>().proxy.unwrap().target_name;
    let mut asked = [through().await, through().await, through().await, through().await];
    asked.sort();
    assert_eq!(asked, ["one", "one", "two", "two"]);
    world.links.set(one.id, None);
    assert_eq!([through().await, through().await], ["two", "two"]);
    world.links.set(two.id, None);
    ask().await.refused(Code::TargetOffline);
}

/// F-095~, F-096~, F-097~, F-099~: a cluster is entered as a user and in groups that one policy names; the log says as whom.
#[tokio::test]
async fn a_cluster_is_entered_as_a_policy_says() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let id = add(&world, &admin, "kube", &json!({"name": "prod", "proxyTargetId": web.id})).await;
    let ask = async |user: &str, groups: &[&str]| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let parameters = Parameters::Kube(KubeRequest { user: user.to_owned(), groups });
        let body = json!({"targetName": "prod", "parameters": bytes(&parameters)});
        world.call(As::Client(&alice), "POST", "/connections/universal", &body).await
    };
    ask("dev", &[]).await.refused(Code::Denied);
    let policy = json!({
        "name": "prod", "subjects": [{"id": world.id_of(&alice).await, "type": "User"}], "clusters": [{"id": id}],
        "clusterUsers": [{"name": "dev"}], "clusterGroups": [{"name": "view"}, {"name": "edit"}],
    });
    for (field, value) in [
        ("clusterUsers", json!([])),
        ("clusterUsers", json!([{"name": "a b"}])),
        ("clusterGroups", json!([{"name": ""}])),
        ("clusters", json!([{"id": web.id}])),
        ("clusters", json!([])),
    ] {
        let mut bad = policy.clone();
        bad[field] = value;
        world.call(As::Client(&admin), "POST", "/policies/kubernetes", &bad).await.refused(Code::BadRequest);
    }
    let policy: Value = world.call(As::Client(&admin), "POST", "/policies/kubernetes", &policy).await.ok();
    assert_eq!(policy["type"], "Kubernetes");
    let seen: Vec<KubeTarget> = world.get(As::Client(&alice), "/targets/kube").await.ok();
    assert_eq!(seen[0].allowed_cluster_users, ["dev"]);
    assert_eq!(seen[0].allowed_cluster_groups, ["edit", "view"]);

    let made: ConnectionMade = ask("dev", &["view"]).await.ok();
    assert_eq!((made.target_type.as_str(), &granted(&world, &made).scope), ("Cluster", &Scope::Request));
    ask("dev", &["system:masters"]).await.refused(Code::Denied);
    ask("admin", &[]).await.refused(Code::Denied);
    let log = world.app.store.connection_events(Default::default()).await.unwrap();
    let place = &log[0].place;
    assert_eq!((place.target_user.as_str(), &place.target_groups), ("dev", &vec!["view".to_owned()]));
    let path = format!("/policies/kubernetes/{}", policy["id"].as_str().unwrap());
    let other = json!({
        "name": "other", "subjects": [{"id": world.id_of(&alice).await, "type": "User"}], "clusters": [{"id": id}],
        "clusterUsers": [{"name": "ops"}],
    });
    world.call(As::Client(&admin), "POST", "/policies/kubernetes", &other).await.done();
    assert_eq!(world.links.asked(), []);
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    let reason = "closed by the administrator root-of-all@example.com: no policy allows it any more";
    assert_eq!(world.links.asked(), [Asked::Closed(made.connection_id, reason.to_owned())], "as dev nobody may");
}

/// F-102~: each sees of what is behind hosts what a policy gives, and `why` names the command that would give more.
#[tokio::test]
async fn each_sees_of_what_is_behind_hosts_what_policy_gives() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let id = add(&world, &admin, "database", &orders(&web)).await;
    let list = async |who| world.get(As::Client(who), "/targets/database").await.ok::<Vec<DatabaseTarget>>();
    assert!(list(&alice).await.is_empty());
    assert_eq!(list(&admin).await.len(), 1);
    let why = json!({"targetName": "orders", "targetUser": "reader"});
    let why: Value = world.call(As::Client(&alice), "POST", "/policy-query/why", &why).await.ok();
    let remedy = format!(
        "bz policy create proxy --name 'alice@example.com on orders' --users alice@example.com --targets {id} \
         --target-users reader"
    );
    assert_eq!((&why["allowed"], &why["remedy"]), (&json!(false), &json!(remedy)));
    allow(&world, &admin, &alice, json!({"targets": [{"id": id, "type": "Db"}], "targetUsers": ["reader"]})).await;
    let seen = list(&alice).await;
    assert_eq!(seen[0].allowed_target_users[0].user_name.to_string(), "reader");
    for (query, count) in [("targetNames=orders", 1), ("targetNames=x", 0), ("envName=Default", 1), ("envName=x", 0)] {
        let path = format!("/targets/database?{query}");
        assert_eq!(world.get(As::Client(&alice), &path).await.ok::<Vec<Value>>().len(), count, "{query}");
    }
    let bad = json!({"name": "x", "targets": [{"id": id, "type": "Db"}], "verbs": [{"type": "Shell"}]});
    world.call(As::Client(&admin), "POST", "/policies/proxy", &bad).await.refused(Code::BadRequest);
    let bad = json!({"name": "x", "targets": [{"id": web.id, "type": "Bzero"}]});
    world.call(As::Client(&admin), "POST", "/policies/proxy", &bad).await.refused(Code::BadRequest);
    let bad = json!({
        "name": "x", "targets": [{"id": web.id, "type": "Bzero"}], "verbs": [{"type": "Database"}],
        "targetUsers": [{"userName": "root"}],
    });
    world.call(As::Client(&admin), "POST", "/policies/target-connect", &bad).await.refused(Code::BadRequest);
}

fn database(destination: &str, wire: Wire, tls: bool) -> Parameters {
    Parameters::Database(DatabaseRequest { destination: destination.parse().unwrap(), wire, tls })
}

fn bytes(parameters: &Parameters) -> Value {
    json!(Bytes(wire::encode(parameters, MAX_REQUEST).unwrap()))
}

fn granted(world: &World, made: &ConnectionMade) -> Grant {
    let signed: SignedGrant = wire::decode(&made.grant.0, MAX_GRANT).unwrap();
    let bundle = world.app.bundle();
    let pins = Pins { organization: bundle.organization, roots: &bundle.roots, now: world.app.now().wall };
    Grant::verify(&signed, &pins).unwrap()
}

async fn environment(world: &World, admin: &Client) -> String {
    let all: Value = world.get(As::Client(admin), "/environments").await.ok();
    all[0]["id"].as_str().unwrap().to_owned()
}

/// A proxy policy for a person; its id.
async fn allow(world: &World, admin: &Client, who: &Client, what: Value) -> String {
    let mut body = json!({
        "name": format!("p{}", world.seed()[0]), "subjects": [{"id": world.id_of(who).await, "type": "User"}],
    });
    body.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
    let users = what["targetUsers"].as_array().into_iter().flatten();
    body["targetUsers"] = users.map(|user| json!({"userName": user})).collect();
    let made: Value = world.call(As::Client(admin), "POST", "/policies/proxy", &body).await.ok();
    made["id"].as_str().unwrap().to_owned()
}
