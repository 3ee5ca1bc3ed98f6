//! Bad input: each field of each body of the API's document, missing, null, of another kind, too long, unknown or absent
//! from the store. Each is refused as the API refuses, and no request is too odd for it.

use bz_core::api::error::ErrorBody;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::world::{As, Reply, World};

/// One operation that takes a body, and its body's schema.
struct Taker {
    method: String,
    path: String,
    schema: Value,
}

/// Every field of every body: missing, null, of another kind, far too long. What is refused is refused with a whole error
/// body, and what is taken is taken for what it says, never with a failure of the server.
#[tokio::test]
async fn no_field_is_taken_for_what_it_is_not() {
    let world = World::new().await;
    let admin = world.admin().await;
    let document = world.document().await;
    let mut fields = 0;
    for Taker { method, path, schema } in takers(&document) {
        let good = sample(&document, &schema);
        let properties = properties(&document, &schema);
        for (name, field) in &properties {
            for bad in wrong(&document, field) {
                let mut body = good.clone();
                body[name.as_str()] = bad.clone();
                fields += 1;
                let reply = world.call(As::Client(&admin), &method, &path, &body).await;
                refused(&reply, &format!("{method} {path} with {name} {}", shortened(&bad)));
            }
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(name);
            let needed = schema["required"].as_array().is_some_and(|list| list.contains(&json!(name)));
            let reply = world.call(As::Client(&admin), &method, &path, &body).await;
            let what = format!("{method} {path} without {name}");
            if needed { refused(&reply, &what) } else { answered(&reply, &what) }
        }
        for body in [json!(null), json!([]), json!("x"), json!(1)] {
            let reply = world.call(As::Client(&admin), &method, &path, &body).await;
            refused(&reply, &format!("{method} {path} with a body that is {body}"));
        }
    }
    assert!(fields > 200, "only {fields} bad fields were tried: the document names no bodies any more");
}

/// Bodies out of whatever JSON there is, with the right names in them: never a failure of the server.
#[test]
fn no_body_makes_the_server_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (world, admin, document) = runtime.block_on(async {
        let world = World::new().await;
        let admin = world.admin().await;
        let document = world.document().await;
        (world, admin, document)
    });
    let takers = takers(&document);
    let fields = takers.iter().flat_map(|taker| properties(&document, &taker.schema));
    let names: Vec<String> = fields.map(|(name, _)| name).collect();
    let strategy = (0..takers.len(), anything(names));
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    runner
        .run(&strategy, |(at, body)| {
            let Taker { method, path, .. } = &takers[at];
            let reply = runtime.block_on(world.call(As::Client(&admin), method, path, &body));
            answered(&reply, &format!("{method} {path} with {body}"));
            Ok(())
        })
        .unwrap();
}

/// Names and ids of what is not there, or not any more, or is there twice, or is two things at once.
#[tokio::test]
async fn references_lead_somewhere() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (root, web) = (As::Client(&admin), world.agent(&admin, "web").await);
    let gone: Value = world.call(root, "POST", "/environments", &json!({"name": "gone"})).await.ok();
    let gone = gone["id"].as_str().unwrap().to_owned();
    world.raw(root, "DELETE", &format!("/environments/{gone}"), vec![]).await.done();
    let all: Vec<Value> = world.get(root, "/environments").await.ok();
    let here = &all[0]["id"];
    let target = json!([{"id": web.id, "type": "Bzero"}]);
    let access = |more: Value| {
        merged(json!({"name": "p", "targetUsers": [{"userName": "root"}], "verbs": [{"type": "Shell"}]}), more)
    };
    let database =
        |more: Value| merged(json!({"targetName": "d", "remoteHost": "h", "remotePort": {"value": 1}}), more);
    for (path, body) in [
        ("/policies/target-connect", access(json!({"environments": [{"id": gone}]}))),
        ("/policies/target-connect", access(json!({"targets": [{"id": gone, "type": "Bzero"}]}))),
        ("/policies/target-connect", access(json!({"targets": target, "environments": [{"id": here}]}))),
        ("/policies/target-connect", access(json!({}))),
        ("/policies/target-connect", access(json!({"targets": [{"id": "web", "type": "Bzero"}]}))),
        ("/policies/proxy", json!({"name": "p", "targets": target})),
        ("/policies/kubernetes", json!({"name": "p", "clusters": [{"id": web.id}], "clusterUsers": [{"name": "a"}]})),
        ("/targets/database", database(json!({"proxyTargetId": gone}))),
        ("/targets/database", database(json!({"proxyEnvironmentId": gone}))),
        ("/targets/database", database(json!({"proxyTargetId": web.id, "proxyEnvironmentId": here}))),
        ("/targets/database", database(json!({"proxyTargetId": web.id, "environmentId": gone}))),
        ("/targets/database", database(json!({"proxyTargetId": web.id, "environmentName": "gone"}))),
        ("/targets/database", database(json!({"proxyTargetId": web.id, "targetName": "web"}))),
        ("/connections/universal", json!({"targetId": gone})),
        ("/connections/universal", json!({"targetName": "gone"})),
        ("/connections/universal", json!({})),
        ("/policy-query/why", json!({"targetId": web.id, "userEmail": "nobody@example.com"})),
        ("/environments", json!({"name": "Default"})),
    ] {
        let reply = world.call(root, "POST", path, &body).await;
        refused(&reply, &format!("POST {path} with {body}"));
    }
}

/// What every refusal is: the original's three fields, a code, and the name of the call.
#[track_caller]
fn refused(reply: &Reply, what: &str) {
    let body = error(reply, what);
    assert!(reply.status.is_client_error(), "{what} was answered {}: {}", reply.status, text(reply));
    assert!(body.is_some(), "{what} was refused without words: {}", text(reply));
}

/// Whatever it is, it is no failure.
#[track_caller]
fn answered(reply: &Reply, what: &str) {
    assert!(!reply.status.is_server_error(), "{what} made the server fail: {}", text(reply));
    error(reply, what);
}

#[track_caller]
fn error(reply: &Reply, what: &str) -> Option<ErrorBody> {
    if reply.status.is_success() {
        return None;
    }
    let value: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{what}: {}", text(reply)));
    for field in ["errorMsg", "errorType", "errors", "code", "requestId"] {
        assert!(!value[field].is_null(), "{what}: the error has no {field}: {value}");
    }
    assert_eq!(value["requestId"], reply.headers["x-request-id"].to_str().unwrap(), "{what}");
    serde_json::from_value(value).ok()
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// All operations with a body, but those whose bodies are proofs.
fn takers(document: &Value) -> Vec<Taker> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let proofs = ["/api/v2/users/register", "/api/v2/agent/register"];
            if schema.is_null() || proofs.contains(&path.as_str()) {
                continue;
            }
            let path = path.strip_prefix("/api/v2").unwrap();
            let path = path.replace("{id}", "00000000-0000-4000-8000-000000000000");
            found.push(Taker { method: method.to_uppercase(), path, schema: resolved(document, schema) });
        }
    }
    assert!(found.len() > 15, "the document names only {} bodies", found.len());
    found
}

/// A schema itself, where it is named.
fn resolved(document: &Value, schema: &Value) -> Value {
    let schema = schema["oneOf"].as_array().map_or(schema, |parts| {
        let real = |part: &&Value| part["type"] != "null";
        parts.iter().find(real).unwrap()
    });
    match schema["$ref"].as_str() {
        Some(to) => resolved(document, document.pointer(to.trim_start_matches('#')).unwrap()),
        None => schema.clone(),
    }
}

fn properties(document: &Value, schema: &Value) -> Map<String, Value> {
    let mut all = schema["properties"].as_object().cloned().unwrap_or_default();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        all.extend(properties(document, &resolved(document, part)));
    }
    all
}

/// A body that has the shape of the schema.
fn sample(document: &Value, schema: &Value) -> Value {
    let needed = schema["required"].as_array().cloned().unwrap_or_default();
    let all = properties(document, schema);
    let fields = all.iter().filter(|(name, _)| needed.contains(&json!(name)));
    fields.map(|(name, field)| (name.clone(), value(document, field))).collect()
}

fn value(document: &Value, schema: &Value) -> Value {
    let schema = resolved(document, schema);
    match (schema["type"].as_str(), schema["enum"].as_array()) {
        (_, Some(words)) => words[0].clone(),
        (Some("string"), _) if schema["format"] == "uuid" => json!("00000000-0000-4000-8000-000000000000"),
        (Some("string"), _) => json!("x"),
        (Some("integer"), _) => json!(1),
        (Some("boolean"), _) => json!(true),
        (Some("array"), _) => json!([]),
        (Some("object"), _) => sample(document, &schema),
        _ => Value::Null,
    }
}

/// Values that a field does not take.
fn wrong(document: &Value, field: &Value) -> Vec<Value> {
    let field = resolved(document, field);
    // Of several kinds the first one; the other is null.
    let kinds = field["type"].as_array().and_then(|kinds| kinds.first()).unwrap_or_else(|| &field["type"]);
    let kind = kinds.as_str().unwrap_or("object").to_owned();
    let mut all = vec![json!({"of": {"another": "kind"}})];
    match kind.as_str() {
        "string" => all.extend([json!(1), json!([]), json!(true)]),
        "integer" => all.extend([json!("1"), json!(-1), json!(1.5), json!(u64::MAX)]),
        "boolean" => all.extend([json!("true"), json!(1)]),
        "array" => all.extend([json!("x"), json!([1]), json!(1)]),
        _ => all = vec![json!("x"), json!(1), json!([1])],
    }
    if field["format"] == "uuid" {
        all.extend([json!("x"), json!(""), json!("00000000-0000-4000-8000-00000000000g")]);
    }
    if field["enum"].is_array() {
        all.extend([json!("Unknown"), json!("")]);
    }
    // Longer than any text may be, and than any body.
    if kind == "string" {
        all.push(json!("x".repeat(5000)));
    }
    all.push(json!("x".repeat(70_000)));
    all
}

fn merged(mut body: Value, more: Value) -> Value {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

/// Any JSON whose objects have these names.
fn anything(names: Vec<String>) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        Just(json!("00000000-0000-4000-8000-000000000000")),
        Just(json!("Shell")),
    ];
    let name = prop_oneof![prop::sample::select(names), Just("type".to_owned()), Just("id".to_owned())];
    let inner = leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
        ]
    });
    inner.boxed()
}
