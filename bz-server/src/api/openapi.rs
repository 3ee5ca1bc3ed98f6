//! The API's own description (`OpenAPI` 3.1): made from the table of operations and the rules of who may call them.
//!
//! Absent: any sentence about one operation (the table's) or field (its type's).

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::OnceLock;

use bz_core::api::PREFIX;
use bz_core::api::error::ErrorBody;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::api::page::List;
use crate::api::query::{CURSOR, LIMIT, Param};
use crate::api::{About, Answer, Call, OPERATIONS, Operation, ProofOf};
use crate::error::ApiError;
use crate::policy::Engine;
use crate::policy::engine::EngineError;

/// Schemas by name.
pub type Schemas = BTreeMap<String, RefOr<Schema>>;

/// How an operation answers when all is well.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// 200, or 204 for nothing.
    status: &'static str,
    /// The body's media type and schema.
    content: Option<(&'static str, Value)>,
    /// Whether it is paged.
    paged: bool,
    /// Whether its version is said, for `If-Match`.
    tagged: bool,
    /// Whether a part of it can be asked for.
    ranged: bool,
}

/// What a row of the table may name as its answer.
pub trait Answers {
    /// How such an answer looks.
    fn described(schemas: &mut Schemas) -> Described;
}

/// An array that is never paged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<T>(PhantomData<fn() -> T>);

macro_rules! media {
    ($($(#[$doc:meta])* $name:ident $media:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {}

        impl $name {
            /// Its media type.
            pub const MEDIA: &str = $media;
        }

        impl Answers for $name {
            fn described(_: &mut Schemas) -> Described {
                Described { status: "200", content: Some((Self::MEDIA, json!({}))), paged: false, tagged: false, ranged: false }
            }
        }
    )*};
}

media! {
    /// A transcript.
    Transcript "application/octet-stream";
    /// Events as they come: `id`, `event` (the log) and `data` (the event) of each.
    Events "text/event-stream";
    /// Events, one on each line: its `seq`, `log`, `at`, `hash` and `event`.
    Lines "application/x-ndjson";
    /// This document.
    OpenApi "application/vnd.oai.openapi+json;version=3.1";
    /// A program.
    Program "application/octet-stream";
    /// A script's text.
    ScriptText "text/plain; charset=utf-8";
}

/// A recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asciicast {}

impl Asciicast {
    /// Its media type.
    pub const MEDIA: &str = "application/x-asciicast";
}

impl Answers for Asciicast {
    fn described(_: &mut Schemas) -> Described {
        let content = Some((Self::MEDIA, json!({})));
        Described { status: "200", content, paged: false, tagged: true, ranged: true }
    }
}

/// No body at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {}

impl Answers for Nothing {
    fn described(_: &mut Schemas) -> Described {
        Described { status: "204", content: None, paged: false, tagged: false, ranged: false }
    }
}

impl<T: ToSchema> Answers for T {
    fn described(schemas: &mut Schemas) -> Described {
        let content = Some(("application/json", named::<T>(schemas)));
        Described { status: "200", content, paged: false, tagged: false, ranged: false }
    }
}

impl<T: ToSchema> Answers for Whole<T> {
    fn described(schemas: &mut Schemas) -> Described {
        let items = named::<T>(schemas);
        let content = Some(("application/json", json!({"type": "array", "items": items})));
        Described { status: "200", content, paged: false, tagged: false, ranged: false }
    }
}

/// One thing, with its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tagged<T>(PhantomData<fn() -> T>);

impl<T: ToSchema> Answers for Tagged<T> {
    fn described(schemas: &mut Schemas) -> Described {
        Described { tagged: true, ..T::described(schemas) }
    }
}

impl<T: ToSchema> Answers for List<T> {
    fn described(schemas: &mut Schemas) -> Described {
        Described { paged: true, ..Whole::<T>::described(schemas) }
    }
}

/// The schema of a body.
pub(super) fn body_of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    named::<T>(schemas)
}

/// `GET openapi.json`.
pub(super) async fn get(call: Call) -> Result<Answer<OpenApi>, ApiError> {
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(text) = TEXT.get() {
        return Ok(Answer::of(OpenApi::MEDIA, text.clone()));
    }
    let document = document(&call.app.engine).map_err(ApiError::internal)?;
    let text = serde_json::to_vec(&document).map_err(ApiError::internal)?;
    Ok(Answer::of(OpenApi::MEDIA, TEXT.get_or_init(|| text).clone()))
}

/// The document.
///
/// # Errors
/// [`EngineError`] when the rules cannot be asked who may call what.
pub fn document(engine: &Engine) -> Result<Value, EngineError> {
    let rules = engine.operations()?;
    let mut schemas = Schemas::new();
    let error = named::<ErrorBody>(&mut schemas);
    let mut paths: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for operation in OPERATIONS {
        let roles = rules.get(operation.name).cloned().unwrap_or_default();
        let item = paths.entry(format!("{PREFIX}{}", operation.path)).or_default();
        item.insert(operation.method.as_str().to_lowercase(), described(operation, &roles, &mut schemas));
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The server's API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": ABOUT,
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": refusals(&error),
            "headers": headers(),
            "securitySchemes": schemes(),
        },
    });
    plain_text(&mut document);
    Ok(document)
}

const ABOUT: &str = "Paths, fields and values are those that clients of BastionZero's API v2 know; what it lacks stands \
     beside them. In bodies of PATCH, what is absent stays as it is. Times are RFC 3339 in UTC. Arrays are whole \
     unless `limit` or `cursor` is given; a page that is not the last has a `Link` header to the next.";

const SESSION: &str = "A person's login. There is no secret to send: each call is signed by the client key that the \
     login's certificate binds to the person's ID token, and is accepted once, within 120 seconds of its time. \
     `Authorization: Bz login=\"<id>\", time=\"<ms>\", random=\"<16 bytes>\", signature=\"<64 bytes>\"`; binary parts are \
     base64url without padding. The signature (ECDSA over P-256) covers login, method, path with query, SHA-256 of \
     the body, time and random.";

const API_KEY: &str = "An access key, which may do most of what an administrator may, or a registration key, which \
     registers agents and nothing else: `bzAccessKey` or \
     `bzEnrollKey`, 43 random letters and digits, and six of CRC-32, which scanners for leaks recognize.";

const EVENT_HOOK: &str = "The secret of an identity provider's event hook, as the server's settings name it.";

fn schemes() -> Value {
    json!({
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-KEY", "description": API_KEY},
        "eventHook": {"type": "apiKey", "in": "header", "name": "Authorization", "description": EVENT_HOOK},
        "session": {"type": "http", "scheme": "Bz", "description": SESSION},
    })
}

fn headers() -> Value {
    json!({
        "RequestId": {
            "description": "Names this call in the server's log.",
            "schema": {"type": "string", "format": "uuid"},
        },
        "Link": {"description": "The next page, as `<path>; rel=\"next\"`.", "schema": {"type": "string"}},
        "ETag": {"description": "Its version, for `If-Match` or `If-Range`.", "schema": {"type": "string"}},
        "ContentRange": {"description": "Which part, and of how many bytes.", "schema": {"type": "string"}},
        "RetryAfter": {"description": "After how many seconds to call again.", "schema": {"type": "integer"}},
    })
}

/// The refusals: status, name and sentence.
const REFUSALS: [(&str, &str, &str); 10] = [
    ("400", "BadRequest", "The body or a parameter is malformed: `errors` says which."),
    ("401", "NotLoggedIn", "Nobody is proved, or the login or key ended."),
    ("403", "Denied", "Policy does not let the caller do this."),
    ("404", "NotFound", "There is no such thing, or the caller may not know of it."),
    ("409", "Conflict", "It does not fit what is there: a name is taken or ambiguous, or something is in use."),
    ("412", "Changed", "It is not any more what `If-Match` names."),
    ("413", "TooLarge", "The body is larger than this call takes: 64 KiB, and 1 MiB of events."),
    ("416", "NoRange", "There is no such part: `Content-Range` says how long the whole is."),
    ("429", "TooMany", "Too many calls."),
    ("500", "Internal", "The server failed; its log says why."),
];

fn refusals(error: &Value) -> Value {
    let refusal = |(_, name, about): &(&str, &str, &str)| {
        let mut headers = json!({"X-Request-Id": {"$ref": "#/components/headers/RequestId"}});
        if let (Some(headers), "TooMany") = (headers.as_object_mut(), *name) {
            headers.insert("Retry-After".to_owned(), json!({"$ref": "#/components/headers/RetryAfter"}));
        }
        let content = json!({"application/json": {"schema": error}});
        ((*name).to_owned(), json!({"description": about, "headers": headers, "content": content}))
    };
    REFUSALS.iter().map(refusal).collect()
}

fn described(operation: &Operation, roles: &BTreeSet<String>, schemas: &mut Schemas) -> Value {
    let answer = (operation.answer)(schemas);
    let mut described = json!({
        "operationId": id(operation),
        "summary": operation.summary,
        "description": format!("Called by: {}. Logged as `{}`.", callers(roles), operation.name),
        "x-service-action": operation.name,
        "tags": [operation.path.split('/').nth(1)],
        "security": security(operation, roles),
        "parameters": parameters(operation, &answer),
        "responses": responses(operation, &answer),
    });
    if let (Some(body), Some(object)) = (operation.body, described.as_object_mut()) {
        let content = json!({"application/json": {"schema": body(schemas)}});
        object.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
    }
    described
}

/// Unique: what is called, in words.
fn id(operation: &Operation) -> String {
    let words = operation.path.split(['/', '-', '.']).filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let by = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
        let mut letters = by.unwrap_or(word).chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        format!("{}{first}{}", if by.is_some() { "By" } else { "" }, letters.as_str())
    };
    operation.method.as_str().to_lowercase() + &words.map(capital).collect::<String>()
}

fn callers(roles: &BTreeSet<String>) -> String {
    let word = |role: &String| match role.as_str() {
        "anyone" => "anybody",
        "login" => "people who are logged in, also before they gave their second factor",
        "person" => "people who are logged in",
        "owner" => "the person whose it is",
        "admin" => "administrators",
        "key" => "access keys",
        "registration" => "registration keys",
        "whole-key" => "access keys that are narrowed in nothing",
        "hook" => "identity providers that send events",
        _ => "others",
    };
    roles.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn security(operation: &Operation, roles: &BTreeSet<String>) -> Value {
    let has = |names: &[&str]| names.iter().any(|name| roles.contains(*name));
    if has(&["anyone"]) && operation.proof == ProofOf::Known {
        return json!([]);
    }
    if operation.proof == ProofOf::Hook {
        return json!([{"eventHook": []}]);
    }
    let mut schemes = Vec::new();
    if operation.proof == ProofOf::Body || roles.iter().any(|role| !matches!(role.as_str(), "key" | "registration")) {
        schemes.push(json!({"session": []}));
    }
    if has(&["key", "registration"]) {
        schemes.push(json!({"apiKey": []}));
    }
    json!(schemes)
}

fn parameters(operation: &Operation, answer: &Described) -> Vec<Value> {
    let names = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let path = names.map(|name| {
        let schema = match name {
            "n" => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
            "name" => json!({"type": "string"}),
            // People are named by address, too.
            _ if ["/users/", "/subjects/"].iter().any(|people| operation.path.starts_with(people)) => {
                json!({"type": "string"})
            }
            _ => json!({"type": "string", "format": "uuid"}),
        };
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    });
    let pages: &[Param] = if answer.paged { &[LIMIT, CURSOR] } else { &[] };
    let query =
        operation.query.iter().chain(pages).map(
            |param| json!({"name": param.name, "in": "query", "description": param.about, "schema": param.schema()}),
        );
    let about = "Only if it is still of this version: the `ETag` of an answer before.";
    let guard = operation
        .guarded
        .then(|| json!({"name": "If-Match", "in": "header", "description": about, "schema": {"type": "string"}}));
    let parts: &[(&str, &str)] = &[
        ("Range", "One range of bytes; what is none, or several, is answered by the whole."),
        (
            "If-Range",
            "The part only if the whole is still of this version, and otherwise the whole. Of what still grows no part fits.",
        ),
    ];
    let parts = parts
        .iter()
        .filter(|_| answer.ranged)
        .map(|(name, about)| json!({"name": name, "in": "header", "description": about, "schema": {"type": "string"}}));
    path.chain(query).chain(guard).chain(parts).collect()
}

fn responses(operation: &Operation, answer: &Described) -> Value {
    let mut headers = json!({"X-Request-Id": {"$ref": "#/components/headers/RequestId"}});
    for (_, name) in [(answer.paged, "Link"), (answer.tagged, "ETag")].iter().filter(|(has, _)| *has) {
        if let Some(headers) = headers.as_object_mut() {
            headers.insert((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
        }
    }
    let mut good = json!({"description": "Done.", "headers": headers});
    if let (Some((media, schema)), Some(good)) = (&answer.content, good.as_object_mut()) {
        good.insert("content".to_owned(), json!({*media: {"schema": schema}}));
    }
    // Whatever names something may name what is not there, or what is there twice; and a caller may lack it.
    let names = operation.path.contains('{') || operation.body.is_some() || !operation.query.is_empty();
    let names = names || operation.about == About::Caller;
    let refusals = REFUSALS.iter().filter(|(status, ..)| match *status {
        "404" | "409" => names,
        "412" => operation.guarded,
        "416" => answer.ranged,
        _ => true,
    });
    let refused = |(status, name, _): &(&str, &str, &str)| {
        ((*status).to_owned(), json!({"$ref": format!("#/components/responses/{name}")}))
    };
    let part = answer.ranged.then(|| ("206".to_owned(), partial(good.clone())));
    std::iter::once((answer.status.to_owned(), good)).chain(part).chain(refusals.map(refused)).collect()
}

/// The answer with a part of another one.
fn partial(mut whole: Value) -> Value {
    if let Some(whole) = whole.as_object_mut() {
        whole.insert("description".to_owned(), json!("The part that was asked for."));
    }
    if let Some(headers) = whole.get_mut("headers").and_then(Value::as_object_mut) {
        headers.insert("Content-Range".to_owned(), json!({"$ref": "#/components/headers/ContentRange"}));
    }
    whole
}

/// A reference to a type's schema, which is kept with those it needs.
fn named<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let mut found = Vec::new();
    T::schemas(&mut found);
    found.push((T::name().into_owned(), T::schema()));
    for (name, schema) in found {
        if schemas.get(&name).is_some_and(|known| *known != schema) {
            tracing::error!(name, "two types have one name");
        }
        schemas.insert(name, schema);
    }
    json!({"$ref": format!("#/components/schemas/{}", T::name())})
}

/// Descriptions come from the code: what are links there are words here.
fn plain_text(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = unlinked(text);
            }
            object.values_mut().for_each(plain_text);
        }
        Value::Array(items) => items.iter_mut().for_each(plain_text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn unlinked(text: &str) -> String {
    let text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
    let mut parts = text.split("crate::");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // Modules' names, up to what is in them.
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && !"_:".contains(c)).unwrap_or(part.len());
        let (path, rest) = part.split_at(end);
        plain = plain + path.rsplit("::").next().unwrap_or_default() + rest;
    }
    plain
}
