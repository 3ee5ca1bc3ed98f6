//! What the Go SDK v0.10.0 sends and decodes, and the Terraform provider through it: paths, bodies and fields as they are in
//! its types, called by an API key as it calls.

use bz_core::api::error::Code;
use serde_json::{Value, json};

use crate::world::{As, Reply, World};

/// Fields that are decoded, each with what may stand there: text, a flag, a number, a list, an object, or (`?`) nothing.
const POLICY: &str = "id:text name:text description:text subjects:list groups:list timeExpires?:text";
const HOST: &str = "id:text name:text status:text environmentId:text lastAgentUpdate?:text agentVersion:text region:text \
                    agentPublicKey:text allowedTargetUsers:list allowedVerbs:list controlChannel?:object";
const VIRTUAL: &str = "id:text name:text status:text environmentId:text region:text proxyTargetId?:text \
                       proxyEnvironmentId?:text remoteHost:text remotePort:object localPort:object localHost?:text";
const ENVIRONMENT: &str = "id:text organizationId:text isDefault:flag name:text description:text timeCreated:text \
                           offlineCleanupTimeoutHours:number targets:list";
const KEY: &str = "id:text name:text timeCreated:text isRegistrationKey:flag";
const ACCOUNT: &str = "id:text organizationId:text email:text externalId:text jwksUrl:text jwksUrlPattern:text isAdmin:flag \
                       timeCreated:text lastLogin?:text createdBy:text enabled:flag";
const SUBJECT: &str = "id:text organizationId:text email:text isAdmin:flag lastLogin?:text timeCreated:text";

/// F-227~: everything that is made has the fields that the SDK decodes, in the types that it decodes them to.
#[tokio::test]
async fn what_is_made_is_decoded() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (web, user) = (world.agent(&admin, "web").await, world.id_of(&admin).await);
    let caller = Caller { key: world.key(&admin, false).await, world: &world };
    let new = json!({"name": "sdk", "description": "d", "offlineCleanupTimeoutHours": 24});
    let environment = caller.makes("environments", &new, "id:text").await["id"].clone();
    let environments = json!([{"id": environment}]);
    let subjects = json!([{"id": user, "type": "User"}]);

    let access = json!({"name": "a", "description": "x", "subjects": subjects, "groups": [], "environments": environments,
        "targetUsers": [{"userName": "root"}], "verbs": [{"type": "Shell"}]});
    let kubernetes = json!({"name": "k", "subjects": subjects, "environments": environments,
        "clusterUsers": [{"name": "u"}], "clusterGroups": [{"name": "g"}]});
    let recording = json!({"name": "r", "subjects": subjects, "recordInput": true});
    for (kind, body, fields) in [
        ("target-connect", access, "environments:list targetUsers:list verbs:list"),
        ("kubernetes", kubernetes, "environments:list clusterUsers:list clusterGroups:list"),
        ("session-recording", recording, "recordInput:flag"),
    ] {
        let (path, fields) = (format!("policies/{kind}"), format!("{POLICY} {fields}"));
        let made = caller.makes(&path, &body, &fields).await;
        let one = format!("{path}/{}", made["id"].as_str().unwrap());
        holds(&one, &caller.call("GET", &one, &json!(null)).await.ok(), &fields);
        let changed: Value = caller.call("PATCH", &one, &json!({"description": "y"})).await.ok();
        assert_eq!((&changed["description"], &changed["name"]), (&json!("y"), &body["name"]), "{path}");
        caller.lists(&format!("{path}?subjects={user}"), &fields).await;
        caller.call("DELETE", &one, &json!(null)).await.done();
        caller.call("GET", &one, &json!(null)).await.refused(Code::NotFound);
    }
    let behind = |more: Value| {
        let mut body = json!({"proxyTargetId": web.id, "environmentId": environment});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let orders = behind(json!({"targetName": "orders", "remoteHost": "db", "remotePort": {"value": 5432}}));
    let wiki = behind(json!({"targetName": "wiki", "remoteHost": "http://wiki", "remotePort": {"value": 80}}));
    let database = format!("{VIRTUAL} allowedTargetUsers:list databaseAuthenticationConfig:object");
    for (kind, body, fields) in [("database", orders, database.as_str()), ("web", wiki, VIRTUAL)] {
        let made = caller.makes(&format!("targets/{kind}"), &body, "targetId:text").await;
        let one = format!("targets/{kind}/{}", made["targetId"].as_str().unwrap());
        holds(&one, &caller.call("GET", &one, &json!(null)).await.ok(), fields);
        holds(&one, &caller.call("PATCH", &one, &json!({"localPort": {}})).await.ok(), fields);
        caller.lists(&format!("targets/{kind}"), fields).await;
        caller.call("DELETE", &one, &json!(null)).await.done();
    }
    let made = caller.makes("api-keys", &json!({"name": "n", "isRegistrationKey": false}), "secret:text").await;
    holds("api-keys", &made["apiKeyDetails"], KEY);
    let account = json!({"email": "a@b.example", "jwksUrl": "https://b.example/k.json",
        "jwksUrlPattern": "https://b.example/*.json", "externalId": "1"});
    let made = caller.makes("service-accounts", &account, "mfaSecret:text").await;
    holds("service-accounts", &made["serviceAccountSummary"], ACCOUNT);
}

/// F-227~, F-231~: lists are bare arrays of what the SDK decodes; what it leaves out it sends empty, and that asks for nothing.
#[tokio::test]
async fn what_is_listed_is_decoded() {
    let world = World::new().await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web").await;
    let caller = Caller { key: world.key(&admin, false).await, world: &world };
    let agents = "id:text name:text environmentId:text environmentName:text type:text status:text lastStatusUpdate:text \
                  version:text region:text publicKey:text controlChannel?:object";
    let event = "id:text organizationId:text subjectId:text subjectType:text subjectName:text isAdmin:flag \
                 serviceAction:text resource:text evaluation:flag timestamp:text ipAddress:text context:text";
    for (path, fields) in [
        ("environments", ENVIRONMENT),
        ("targets/bzero", HOST),
        ("agents", agents),
        ("api-keys", KEY),
        ("users", &format!("{SUBJECT} fullName:text")),
        ("subjects", &format!("{SUBJECT} type:text")),
        ("events/subject?eventCount=5", event),
        ("targets/database/supported-database-configs", "authenticationType:text database:text"),
    ] {
        caller.lists(path, fields).await;
    }
    for path in ["events/command", "events/connection", "events/kube", "connections/db", "connections/rdp"] {
        caller.call("GET", path, &json!(null)).await.ok::<Vec<Value>>();
    }
    let all: Value = caller.call("GET", "targets?allTargetsInOrg=true&userEmail=", &json!(null)).await.ok();
    // Go reads names of fields in letters of any case.
    let mut lists = all.as_object().unwrap().iter();
    let (_, shells) = lists.find(|(name, _)| name.eq_ignore_ascii_case("shell")).expect("a list of shells");
    let reach =
        "id:text name:text status:text environmentId:text environmentName:text agent?:object accessDetails?:object";
    holds("targets", &shells[0], reach);
    let script = "autodiscovery-scripts/bzero/bash?targetNameOption=BashHostName&environmentId=";
    holds(script, &caller.call("GET", script, &json!(null)).await.ok(), "autodiscoveryScript:text");
    let of = format!("events/agent-status-change?targetId={}", web.id);
    caller.call("GET", &of, &json!(null)).await.ok::<Vec<Value>>();
    let none: Value = caller.call("GET", "targets/database/supported-databases", &json!(null)).await.ok();
    assert_eq!(none, json!({"databases": []}));
    let organization: Value = caller.call("GET", "organization", &json!(null)).await.ok();
    holds("organization", &organization, "id:text name:text isSingleUserOrganization:flag timeCreated:text");
}

/// `POST targets/kube` as the original: the objects of an agent and the token in them, or no answer but why not; as here,
/// a cluster behind a host.
#[tokio::test]
async fn a_clusters_agent_is_made_by_its_objects() {
    let world = World::new().await;
    let admin = world.admin().await;
    let new = json!({"name": "r", "isRegistrationKey": true});
    let made: Value = world.call(As::Client(&admin), "POST", "/api-keys", &new).await.ok();
    let id = made["apiKeyDetails"]["id"].clone();
    let path = "/organization/registration-key/enable-enforce-global-key";
    world.call(As::Client(&admin), "POST", path, &json!({"defaultRegistrationKeyId": id})).await.ok::<Value>();
    let caller = Caller { key: world.key(&admin, false).await, world: &world };
    let made = caller.makes("targets/kube", &json!({"name": "prod"}), "yaml:text activationToken:text").await;
    let (yaml, token) = (made["yaml"].as_str().unwrap(), made["activationToken"].as_str().unwrap());
    assert!(yaml.contains("kind: Deployment") && yaml.contains(token) && yaml.contains("prod"), "{yaml}");
    for (more, field) in [
        (json!({"labels": {"a": "b"}}), "labels"),
        (json!({"namespace": "other"}), "namespace"),
        (json!({"environmentId": "00000000-0000-4000-8000-000000000009"}), "environment"),
        (json!({"name": ""}), "targetName"),
    ] {
        let mut body = json!({"name": "prod"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = caller.call("POST", "targets/kube", &body).await;
        let refused = String::from_utf8_lossy(&reply.body);
        assert!(!reply.status.is_success() && refused.contains(field), "{body}: {refused}");
    }
    // A token is a registration key's: the scope for targets alone gives none.
    let narrow = json!({"name": "n", "isRegistrationKey": false, "scopes": ["targets"]});
    let made: Value = world.call(As::Client(&admin), "POST", "/api-keys", &narrow).await.ok();
    let key = made["secret"].as_str().unwrap().to_owned();
    let narrow = Caller { key, world: &world };
    narrow.call("POST", "targets/kube", &json!({"name": "prod"})).await.refused(Code::Denied);
    let web = world.agent(&admin, "web").await;
    let body = json!({"name": "prod", "proxyTargetId": web.id});
    narrow.makes("targets/kube", &body, "targetId:text").await;
}

/// What is done by other means here is refused with what these are.
#[tokio::test]
async fn what_is_done_otherwise_says_how() {
    let world = World::new().await;
    let admin = world.admin().await;
    let key = world.key(&admin, false).await;
    for kind in ["db", "kube", "web", "shell", "ssh", "universal/ssh"] {
        let path = format!("/connections/{kind}");
        let refused = world.call(As::Client(&admin), "POST", &path, &json!({})).await.refused(Code::BadRequest);
        assert!(refused.error_msg.contains("connections/universal"), "{path}: {refused:?}");
        let refused = world.call(As::Key(&key), "POST", &path, &json!({})).await.refused(Code::Denied);
        assert!(refused.error_msg.contains("an API key has no sessions"), "{path}: {refused:?}");
    }
    for (path, says) in
        [("restart", "service manager"), ("retrieve-logs", "journalctl"), ("update-config", "local policy")]
    {
        let path = format!("/targets/bzero/{path}");
        let refused = world.call(As::Key(&key), "POST", &path, &json!({})).await.refused(Code::BadRequest);
        assert!(refused.error_msg.contains(says), "{path}: {refused:?}");
    }
}

/// A program with an API key.
struct Caller<'a> {
    world: &'a World,
    key: String,
}

impl Caller<'_> {
    async fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.world.call(As::Key(&self.key), method, &format!("/{path}"), body).await
    }

    async fn makes(&self, path: &str, body: &Value, fields: &str) -> Value {
        let made: Value = self.call("POST", path, body).await.ok();
        holds(path, &made, fields);
        made
    }

    async fn lists(&self, path: &str, fields: &str) {
        let all: Vec<Value> = self.call("GET", path, &json!(null)).await.ok();
        assert!(!all.is_empty(), "{path}: nothing is listed");
        all.iter().for_each(|one| holds(path, one, fields));
    }
}

/// The object has these fields, in these types.
#[track_caller]
fn holds(path: &str, object: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (name, want) = field.split_once(':').unwrap();
        let value = &object[name.trim_end_matches('?')];
        let fits = match want {
            "text" => value.is_string(),
            "flag" => value.is_boolean(),
            "number" => value.is_u64(),
            "list" => value.is_array(),
            _ => value.is_object(),
        };
        assert!(fits || (name.ends_with('?') && value.is_null()), "{path}: {name} is no {want}: {object}");
    }
}
