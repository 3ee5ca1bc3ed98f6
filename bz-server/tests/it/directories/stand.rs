//! Directories as their providers publish them, in one small server: paths, fields, paging and errors of Google's Admin SDK
//! Directory API, Microsoft Graph, Okta's management API, OneLogin's API and Keycloak's admin API. And each way an answer
//! can be none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Parts};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

/// How many groups a page has: few, so that every list has several.
const PAGE: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Google,
    Microsoft,
    Okta,
    OneLogin,
    Keycloak,
}

/// What becomes of a question.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status, with these headers and this body.
    Status(u16, Vec<(&'static str, &'static str)>, String),
    /// No answer.
    Silent,
    /// A body that never ends.
    Endless,
    /// This, with status 200.
    Says(String),
    /// Another address.
    Redirect(String),
    /// Each page leads to another one, there.
    NextAt(String),
    /// As always, but about somebody else.
    OtherPerson,
    /// As always, once this lets it go.
    Held(Arc<Held>),
}

/// An answer that is held back.
#[derive(Debug, Default)]
pub(crate) struct Held {
    came: tokio::sync::Notify,
    goes: tokio::sync::Notify,
}

impl Held {
    /// Until a question is held back.
    pub(crate) async fn asked(&self) {
        self.came.notified().await;
    }

    pub(crate) fn release(&self) {
        self.goes.notify_one();
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) active: bool,
    pub(crate) groups: BTreeSet<String>,
}

pub(crate) struct State {
    pub(crate) people: BTreeMap<String, Account>,
    /// Names by id.
    pub(crate) groups: BTreeMap<String, String>,
    /// What happens to questions whose path has this in it.
    pub(crate) fault: Option<(&'static str, Fault)>,
    /// Each question, but for access: method and path.
    pub(crate) asked: Vec<String>,
    /// What access was asked for, as its form or claims say.
    pub(crate) access: Vec<BTreeMap<String, String>>,
    tokens: usize,
}

/// A server of one kind.
#[derive(Clone)]
pub(crate) struct Stand {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// The secret that gives access.
    pub(crate) secret: String,
    state: Arc<Mutex<State>>,
    /// Reads an assertion; what is wrong with it otherwise.
    verify: fn(&str) -> Result<Value, String>,
}

impl Stand {
    /// Starts one with these groups, each with its name.
    pub(crate) async fn start(kind: Kind, groups: &[(&str, &str)], verify: fn(&str) -> Result<Value, String>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let groups = groups.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect();
        let state =
            State { people: BTreeMap::new(), groups, fault: None, asked: Vec::new(), access: Vec::new(), tokens: 0 };
        let (address, secret) = (listener.local_addr().unwrap(), "a-secret-of-the-tests".to_owned());
        let stand = Self { kind, address, secret, state: Arc::new(Mutex::new(state)), verify };
        let router = Router::new().fallback(serve).with_state(stand.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        stand
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Somebody in these groups.
    pub(crate) fn put(&self, person: &str, groups: &[&str]) {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        self.with(|state| state.people.insert(person.to_owned(), Account { active: true, groups }));
    }

    pub(crate) fn activate(&self, person: &str, active: bool) {
        self.with(|state| state.people.get_mut(person).unwrap().active = active);
    }

    /// What happens from now on to questions whose path has this in it.
    pub(crate) fn fails(&self, path: &'static str, fault: Fault) {
        self.with(|state| state.fault = Some((path, fault)));
    }

    /// The next answer to a question whose path has this in it is held back, with what it says now.
    pub(crate) fn holds(&self, path: &'static str) -> Arc<Held> {
        let held = Arc::new(Held::default());
        self.fails(path, Fault::Held(Arc::clone(&held)));
        held
    }

    pub(crate) fn heals(&self) {
        self.with(|state| state.fault = None);
    }

    /// The questions since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.with(|state| std::mem::take(&mut state.asked))
    }

    /// What gave access so far gives it no more.
    pub(crate) fn withdraws_access(&self) {
        self.with(|state| state.tokens += 1);
    }

    fn token(&self) -> String {
        format!("token-{}", self.with(|state| state.tokens))
    }
}

/// One question, taken apart.
struct Asked<'a> {
    path: Vec<&'a str>,
    query: BTreeMap<String, String>,
    body: Value,
}

impl Asked<'_> {
    fn number(&self, name: &str) -> usize {
        self.query.get(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

async fn serve(Parts(stand): Parts<Stand>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = head.uri.path().to_owned();
    let authorization = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    if head.method == Method::POST && path.ends_with("/token") {
        return give_access(&stand, authorization.as_deref(), &body);
    }
    stand.with(|state| state.asked.push(format!("{} {path}", head.method)));
    let fault = stand.with(|state| state.fault.clone()).filter(|(part, _)| path.contains(part)).map(|(_, fault)| fault);
    if let Some(fault) = &fault
        && let Some(answer) = spoiled(fault).await
    {
        return answer;
    }
    let by_token = stand.kind == Kind::Okta && stand.with(|state| state.access.is_empty());
    let expected = if by_token { format!("SSWS {}", stand.secret) } else { format!("Bearer {}", stand.token()) };
    if authorization != Some(expected) {
        return (StatusCode::UNAUTHORIZED, axum::Json(json!({"error": "unauthorized"}))).into_response();
    }
    let pairs = head.uri.query().unwrap_or_default();
    let query = url::form_urlencoded::parse(pairs.as_bytes()).into_owned().collect();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let asked = Asked { path: path.split('/').skip(1).collect(), query, body };
    let mut answer = match (stand.kind, head.method) {
        (Kind::Google, Method::GET) => google(&stand, &asked),
        (Kind::Microsoft, Method::GET | Method::POST) => microsoft(&stand, &asked),
        (Kind::Okta, Method::GET) => okta(&stand, &asked),
        (Kind::OneLogin, Method::GET) => onelogin(&stand, &asked),
        (Kind::Keycloak, Method::GET) => keycloak(&stand, &asked),
        (_, method) => panic!("a client that reads sends {method} {path}"),
    };
    match fault {
        Some(Fault::NextAt(base)) => lead_to(&mut answer, &base),
        Some(Fault::Held(held)) => {
            held.came.notify_one();
            held.goes.notified().await;
        }
        Some(Fault::OtherPerson) => {
            let id = if stand.kind == Kind::OneLogin { json!(999) } else { json!("somebody-else") };
            answer.1.as_object_mut().map(|body| body.insert("id".to_owned(), id));
        }
        _ => {}
    }
    let (status, body, headers) = answer;
    let mut response = (status, axum::Json(body)).into_response();
    for (name, value) in headers {
        response.headers_mut().append(name, HeaderValue::try_from(value).unwrap());
    }
    response
}

type Answer = (StatusCode, Value, Vec<(&'static str, String)>);

async fn spoiled(fault: &Fault) -> Option<Response<Body>> {
    Some(match fault {
        Fault::Status(status, headers, body) => {
            let mut response = Response::builder().status(*status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            response.body(Body::from(body.clone())).unwrap()
        }
        Fault::Silent => std::future::pending().await,
        Fault::Endless => {
            let spaces = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 65_536])));
            Response::new(Body::from_stream(spaces))
        }
        Fault::Says(text) => Response::new(Body::from(text.clone())),
        Fault::Redirect(to) => Response::builder().status(302).header("location", to).body(Body::empty()).unwrap(),
        Fault::NextAt(_) | Fault::OtherPerson | Fault::Held(_) => return None,
    })
}

/// Puts this address in the place of where the next page is.
fn lead_to((_, body, headers): &mut Answer, base: &str) {
    headers.retain(|(name, _)| *name != "link" && *name != "after-cursor");
    headers.push(("link", format!("<{base}>; rel=\"next\"")));
    headers.push(("after-cursor", "again".to_owned()));
    if let Some(body) = body.as_object_mut() {
        body.insert("@odata.nextLink".to_owned(), json!(base));
        body.insert("nextPageToken".to_owned(), json!("again"));
    }
}

/// An OAuth token endpoint: RFC 6749 sections 4.4 and 5, RFC 7523, and OneLogin's, which takes JSON.
fn give_access(stand: &Stand, authorization: Option<&str>, body: &[u8]) -> Response<Body> {
    let mut said: BTreeMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
    let is = |name: &str, value: &str| said.get(name).map(String::as_str) == Some(value);
    let good = match stand.kind {
        Kind::Google => is("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        Kind::Okta => {
            is("grant_type", "client_credentials")
                && is("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        }
        Kind::Microsoft | Kind::Keycloak => {
            is("grant_type", "client_credentials") && is("client_secret", &stand.secret) && is("client_id", "bz")
        }
        Kind::OneLogin => {
            use base64::Engine as _;
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("bz:{}", stand.secret));
            let grant: Value = serde_json::from_slice(body).unwrap_or_default();
            authorization == Some(&format!("Basic {pair}")) && grant == json!({"grant_type": "client_credentials"})
        }
    };
    let assertion = said.get("assertion").or_else(|| said.get("client_assertion")).cloned();
    let claims = match assertion.as_deref().map(stand.verify) {
        Some(Ok(claims)) => claims,
        None => json!({}),
        Some(Err(why)) => return refused(&why),
    };
    if !good {
        return refused("invalid_client");
    }
    for (name, value) in claims.as_object().unwrap() {
        said.insert(name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    stand.with(|state| state.access.push(said));
    let given = json!({"access_token": stand.token(), "token_type": "Bearer", "expires_in": 3599});
    axum::Json(given).into_response()
}

fn refused(why: &str) -> Response<Body> {
    (StatusCode::BAD_REQUEST, axum::Json(json!({"error": "invalid_client", "error_description": why}))).into_response()
}

fn ok(body: Value) -> Answer {
    (StatusCode::OK, body, Vec::new())
}

fn gone(body: Value) -> Answer {
    (StatusCode::NOT_FOUND, body, Vec::new())
}

/// A page of these groups from `first` on, and whether more follow.
fn page(stand: &Stand, of: Option<&str>, first: usize) -> (Vec<(String, String)>, bool) {
    stand.with(|state| {
        let within =
            |id: &String| of.is_none_or(|person| state.people.get(person).is_some_and(|p| p.groups.contains(id)));
        let all: Vec<_> = state.groups.iter().filter(|(id, _)| within(id)).collect();
        let some = all.iter().skip(first).take(PAGE).map(|(id, name)| ((*id).clone(), (*name).clone())).collect();
        (some, all.len() > first + PAGE)
    })
}

fn person(stand: &Stand, id: &str) -> Option<Account> {
    stand.with(|state| state.people.get(id).cloned())
}

fn google(stand: &Stand, asked: &Asked<'_>) -> Answer {
    let not_found = || gone(json!({"error": {"code": 404, "message": "Resource Not Found: userKey"}}));
    match asked.path.as_slice() {
        ["admin", "directory", "v1", "groups"] => {
            let of = asked.query.get("userKey");
            assert!(of.is_some() != (asked.query.get("customer").map(String::as_str) == Some("my_customer")));
            assert!(asked.number("maxResults") <= 200);
            let first = asked.number("pageToken");
            let (groups, more) = page(stand, of.map(String::as_str), first);
            let group = |(id, name): &(String, String)| json!({"kind": "admin#directory#group", "id": id, "name": name, "email": format!("{id}@example.com")});
            let mut body = json!({"kind": "admin#directory#groups"});
            if !groups.is_empty() {
                body["groups"] = groups.iter().map(group).collect();
            }
            if more {
                body["nextPageToken"] = json!((first + PAGE).to_string());
            }
            ok(body)
        }
        ["admin", "directory", "v1", "users", id] => match person(stand, id) {
            Some(account) => ok(json!({"kind": "admin#directory#user", "id": id, "suspended": !account.active})),
            None => not_found(),
        },
        ["admin", "directory", "v1", "groups", group, "hasMember", id] => {
            if !stand.with(|state| state.groups.contains_key(*group)) {
                return not_found();
            }
            ok(json!({"isMember": person(stand, id).is_some_and(|account| account.groups.contains(*group))}))
        }
        other => panic!("no path of this API: {other:?}"),
    }
}

fn microsoft(stand: &Stand, asked: &Asked<'_>) -> Answer {
    let not_found = || gone(json!({"error": {"code": "Request_ResourceNotFound", "message": "…"}}));
    let list = |of: Option<&str>, path: &str| {
        assert_eq!(asked.query.get("$select").map(String::as_str), Some("id,displayName"));
        let first = asked.number("$skiptoken");
        let (groups, more) = page(stand, of, first);
        let value: Vec<_> = groups.iter().map(|(id, name)| json!({"id": id, "displayName": name})).collect();
        let mut body = json!({"@odata.context": "…", "value": value});
        if more {
            let next = format!("{}/{path}?$select=id,displayName&$skiptoken={}", stand.url(), first + PAGE);
            body["@odata.nextLink"] = json!(next);
        }
        ok(body)
    };
    match asked.path.as_slice() {
        ["v1.0", "groups"] => list(None, "v1.0/groups"),
        ["v1.0", "users", id, "transitiveMemberOf", "microsoft.graph.group"] => {
            list(Some(id), &format!("v1.0/users/{id}/transitiveMemberOf/microsoft.graph.group"))
        }
        ["v1.0", "users", id, "checkMemberGroups"] => {
            let ids: Vec<&str> =
                asked.body["groupIds"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
            assert!(ids.len() <= 20 && ids.iter().all(|id| id.len() == 36), "{ids:?}");
            let Some(account) = person(stand, id) else { return not_found() };
            let within: Vec<_> = ids.into_iter().filter(|id| account.groups.contains(*id)).collect();
            ok(json!({"@odata.context": "…", "value": within}))
        }
        ["v1.0", "users", id] => match person(stand, id) {
            Some(account) => ok(json!({"@odata.context": "…", "id": id, "accountEnabled": account.active})),
            None => not_found(),
        },
        other => panic!("no path of this API: {other:?}"),
    }
}

fn okta(stand: &Stand, asked: &Asked<'_>) -> Answer {
    let list = |of: Option<&str>, path: String| {
        assert!((1..=200).contains(&asked.number("limit")));
        let first = asked.number("after");
        let (groups, more) = page(stand, of, first);
        let group = |(id, name): &(String, String)| json!({"id": id, "type": "OKTA_GROUP", "profile": {"name": name}});
        let mut headers = vec![("link", format!("<{}{path}?limit=200>; rel=\"self\"", stand.url()))];
        if more {
            let next = format!("<{}{path}?after={}&limit=200>; rel=\"next\"", stand.url(), first + PAGE);
            headers.push(("link", next));
        }
        (StatusCode::OK, groups.iter().map(group).collect(), headers)
    };
    match asked.path.as_slice() {
        ["api", "v1", "groups"] => list(None, "/api/v1/groups".to_owned()),
        ["api", "v1", "users", id, "groups"] => list(Some(id), format!("/api/v1/users/{id}/groups")),
        ["api", "v1", "users", id] => match person(stand, id) {
            Some(account) => {
                let status = if account.active { "ACTIVE" } else { "DEPROVISIONED" };
                ok(json!({"id": id, "status": status, "profile": {"login": format!("{id}@example.com")}}))
            }
            None => gone(json!({"errorCode": "E0000007", "errorSummary": "Not found: Resource not found"})),
        },
        other => panic!("no path of this API: {other:?}"),
    }
}

fn onelogin(stand: &Stand, asked: &Asked<'_>) -> Answer {
    let number = |id: &str| id.parse::<u64>().unwrap();
    match asked.path.as_slice() {
        ["api", "2", "roles"] => {
            // A cursor stands alone.
            assert!(!asked.query.contains_key("cursor") || asked.query.len() == 1, "{:?}", asked.query);
            let cursor = asked.query.get("cursor").map(String::as_str).unwrap_or_default();
            let first = cursor.strip_suffix("==").map_or(0, |text| text.parse().unwrap());
            let (roles, more) = page(stand, None, first);
            let role = |(id, name): &(String, String)| json!({"id": number(id), "name": name});
            let cursor = more.then(|| ("after-cursor", format!("{}%3D%3D", first + PAGE)));
            (StatusCode::OK, roles.iter().map(role).collect(), cursor.into_iter().collect())
        }
        ["api", "2", "users", id] => match person(stand, id) {
            Some(account) => {
                let status = if account.active { 1 } else { 2 };
                ok(json!({"id": number(id), "status": status, "state": 1, "group_id": null}))
            }
            None => gone(json!({"statusCode": 404, "name": "NotFoundError", "message": "…"})),
        },
        ["api", "1", "users", id, "roles"] => {
            let roles: Vec<u64> = person(stand, id).unwrap().groups.iter().map(|id| number(id)).collect();
            ok(json!({"status": {"error": false, "code": 200, "type": "success"}, "data": [roles]}))
        }
        other => panic!("no path of this API: {other:?}"),
    }
}

fn keycloak(stand: &Stand, asked: &Asked<'_>) -> Answer {
    let first = asked.number("first");
    // As a realm with one group that holds all others.
    let list = |of: Option<&str>| {
        let groups = stand.with(|state| state.groups.clone());
        let within = |id: &String| of.is_none_or(|p| person(stand, p).is_some_and(|p| p.groups.contains(id)));
        let node = |(id, name): (&String, &String)| json!({"id": id, "name": name, "path": format!("/all/{name}"), "subGroupCount": 0, "subGroups": []});
        let most = asked.number("max");
        let some = groups.iter().filter(|(id, _)| within(id)).skip(first).take(most).map(node).collect();
        ok(some)
    };
    match asked.path.as_slice() {
        ["admin", "realms", "acme", "groups"] => {
            let all = json!([{"id": "all", "name": "all", "path": "/all", "subGroupCount": 1, "subGroups": []}]);
            ok(if first == 0 { all } else { json!([]) })
        }
        ["admin", "realms", "acme", "groups", "all", "children"] => list(None),
        ["admin", "realms", "acme", "users", id, "groups"] => list(Some(id)),
        ["admin", "realms", "acme", "users", id] => match person(stand, id) {
            Some(account) => ok(json!({"id": id, "username": id, "enabled": account.active})),
            None => gone(json!({"error": "User not found"})),
        },
        other => panic!("no path of this API: {other:?}"),
    }
}
