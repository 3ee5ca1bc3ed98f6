//! The REST API's table of contents, and the one way every call goes: read, authenticate, decide, do, log.
//!
//! A handler cannot be reached past authentication, the decision or the log: there is no other way to route one.

mod agent;
mod api_key;
mod artifact;
mod autodiscovery;
mod call;
mod connection;
mod elsewhere;
mod environment;
pub(crate) mod headers;
mod mfa;
pub(crate) mod event;
mod groups;
pub mod openapi;
mod organization;
pub mod page;
mod policy;
pub mod query;
mod reach;
mod registration_key;
mod recording;
mod subject;
mod service_account;
mod table;
mod target;
mod user;
mod virtual_target;
mod why;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use bz_core::api::PREFIX;
use bz_core::api::error::Code;
use bz_core::api::proof::Call as SignedCall;
use bz_core::api::record::UserEvent;
use bz_core::id::EventId;
use futures::future::BoxFuture;
use serde_json::{Value, json};

pub use crate::api::call::{Answer, Call};
pub use crate::api::table::OPERATIONS;

use crate::api::openapi::{Described, Schemas};
use crate::api::query::Param;
use crate::app::App;
use crate::auth::limit::Guess;
use crate::auth::{self, Caller};
use crate::error::ApiError;
use crate::policy::OperationQuestion;

/// The most bytes of a body: two tokens in a certificate fit.
pub const MAX_BODY: usize = 64 << 10;
/// The most bytes of a delivery of events.
pub const MAX_EVENTS: usize = 1 << 20;
/// What a key hears that asks for a connection.
const NO_SESSIONS: &str = "an API key has no sessions: people and service accounts connect, by `bz connect`";
/// The header that names a call in the log.
const REQUEST_ID: &str = "x-request-id";
/// How long a client may take to send one.
const BODY_TIME: Duration = Duration::from_secs(30);

/// One operation of the API.
#[derive(Clone, Copy)]
pub struct Operation {
    /// Its name, as rules and logs know it.
    pub name: &'static str,
    /// Its method.
    pub method: Method,
    /// Its path below `/api/v2`.
    pub path: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// What it takes in the query.
    pub query: &'static [Param],
    /// How its caller is found.
    pub proof: ProofOf,
    /// What `{id}` names, where rules ask whose it is.
    pub about: About,
    /// Whether it takes `If-Match`.
    pub guarded: bool,
    /// The most bytes of its body.
    pub most: usize,
    /// The schema of its body.
    pub body: Option<fn(&mut Schemas) -> Value>,
    /// How it answers when all is well.
    pub answer: fn(&mut Schemas) -> Described,
    run: fn(Call) -> BoxFuture<'static, Result<Answer, ApiError>>,
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{} ({})", self.method.as_str(), PREFIX, self.path, self.name)
    }
}

/// The methods of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes or asks.
    Post,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// As it stands in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// How the caller of an operation is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofOf {
    /// By a login or key the server knows.
    Known,
    /// By the body itself: the login does not exist yet.
    Body,
    /// By the secret of an identity provider's event hook.
    Hook,
}

/// What an operation's `{id}` names, where rules ask whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Nothing that belongs to a person.
    Nothing,
    /// The caller, who may lack what the call is for.
    Caller,
    /// A connection.
    Connection,
}

/// What rules name beside operations: rights inside one.
pub const RIGHTS: [&str; 5] = [
    "targetservice:list-all",
    "policyqueryservice:why-others",
    "connectionservice:list-others",
    "recordservice:transcript-tokens",
    "apikeyservice:give",
];

/// An answer is of the type that its row names.
fn typed<T>(result: Result<Answer<T>, ApiError>) -> Result<Answer, ApiError> {
    result.map(Answer::erased)
}

/// The whole API as a router. The relay's path is merged beside it.
pub fn router(app: Arc<App>) -> Router {
    let api = OPERATIONS.iter().fold(Router::new(), |router, operation| {
        router.route(&format!("{PREFIX}{}", operation.path), method(operation))
    });
    api.merge(crate::page::router())
        .route("/healthz", on(MethodFilter::GET, || async { "ok\n" }))
        .route("/readyz", on(MethodFilter::GET, ready))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, ApiError::not_found("path")) })
        .method_not_allowed_fallback(|| async {
            plain(StatusCode::METHOD_NOT_ALLOWED, ApiError::bad_request("this path does not take this method"))
        })
        .layer(map_response(headers::secure))
        .with_state(app)
}

/// Whether store and keys answer.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    match (app.store.ping().await, app.online_keys()) {
        (Ok(()), Ok(_)) => "ready\n".into_response(),
        (store, keys) => {
            tracing::warn!(store = store.is_ok(), keys = keys.is_ok(), "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
    }
}

fn method(operation: &'static Operation) -> MethodRouter<Arc<App>> {
    on(
        operation.method.filter(),
        move |State(app): State<Arc<App>>, params: RawPathParams, request: Request| async move {
            // A task of its own: a client that hangs up cannot keep a call out of the log.
            let answer = app.calls.spawn(respond(Arc::clone(&app), operation, params, request)).await;
            answer.unwrap_or_else(|error| plain(StatusCode::INTERNAL_SERVER_ERROR, ApiError::internal(error)))
        },
    )
}

async fn respond(app: Arc<App>, operation: &'static Operation, params: RawPathParams, request: Request) -> Response {
    let started = Instant::now();
    let id = match app.random() {
        Ok(random) => EventId::from_random(random),
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, ApiError::internal(error)),
    };
    let params = params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let (head, body) = request.into_parts();
    let from = address(&app, &head);
    let (body, received) = match receive(body, operation.most).await {
        Ok(body) => (body, Ok(())),
        Err(error) => (Bytes::new(), Err(error)),
    };
    let caller = Caller::Anonymous;
    let call = Call { app: Arc::clone(&app), caller, params, head, body, from, noted: Arc::default(), operation };
    let (code, mut response) = match go(operation, call, received, id).await {
        Ok(answer) => ("ok".to_owned(), answer.into_response()),
        Err(error) => (format!("{:?}", error.code()), refusal(error, id)),
    };
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    app.metrics.called(operation.name, code, started.elapsed());
    response
}

async fn receive(body: Body, most: usize) -> Result<Bytes, ApiError> {
    tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, most))
        .await
        .map_err(|_| ApiError::bad_request("the body took too long"))?
        .map_err(|_| ApiError::too_large())
}

/// Authenticate, decide, do, log: every call, in this order.
async fn go(
    operation: &'static Operation,
    mut call: Call,
    received: Result<(), ApiError>,
    id: EventId,
) -> Result<Answer, ApiError> {
    let found = match (received, operation.proof) {
        (Err(error), _) => Err(error),
        (Ok(()), ProofOf::Known) => {
            auth::authenticate(&call.app, (&call.head.headers, call.from), &call.signed()).await
        }
        (Ok(()), ProofOf::Body) => auth::proof(&call.head.headers).map(|_| Caller::Anonymous),
        (Ok(()), ProofOf::Hook) => auth::hook(&call.app, &call.head.headers),
    };
    if !matches!(&found, Ok(caller) if caller.is_proved()) {
        let mut limit = call.app.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if !limit.allows(call.from, call.app.now().mono) {
            return Err(ApiError::too_many());
        }
    }
    let log = call.clone();
    let result = match found {
        Ok(caller) => {
            call.caller = caller;
            decide(operation, call).await
        }
        Err(error) => Err(error),
    };
    let result = match result {
        Err(error) if error.is_guess() => Err(guessed(&log, error)?),
        other => other,
    };
    // A body that comes by and by cannot be looked at from here.
    let outcome = match &result {
        Ok(answer) => (answer.status, None),
        Err(error) => (error.status(), Some(error.code())),
    };
    record(operation, &log, outcome, id).await?;
    result
}

/// Counts a credential that was wrong. The error is the answer at once, and leaves no row, where there were too many.
fn guessed(call: &Call, error: ApiError) -> Result<ApiError, ApiError> {
    let guess = call.app.guesses.lock().unwrap_or_else(PoisonError::into_inner).wrong(call.from, call.app.now().mono);
    match guess {
        Guess::Counted => Ok(error),
        Guess::Locks => {
            tracing::warn!(from = %call.from, "too many wrong keys or codes: wrong ones are not looked at for a while");
            call.note_context(
                "too many wrong credentials from this address: no more of them are logged for 15 minutes",
            );
            Ok(error)
        }
        Guess::Locked(wait) => Err(ApiError::too_many_guesses(wait)),
    }
}

async fn decide(operation: &'static Operation, call: Call) -> Result<Answer, ApiError> {
    call.note_actor(call.caller.actor());
    let owner = match operation.about {
        About::Nothing | About::Caller => None,
        About::Connection => call.app.store.connection(call.id()?).await?.map(|c| c.user),
    };
    let asker = call.caller.asker();
    if call.app.engine.may_call(&OperationQuestion { caller: &asker, operation: operation.name, owner }) {
        call.check_query()?;
        return (operation.run)(call).await;
    }
    Err(match call.caller {
        Caller::Anonymous => ApiError::not_logged_in("log in first: `bz login`"),
        Caller::Person(who) if who.standing.is_pending() => ApiError::mfa_needed(who.standing.action),
        Caller::Key(key) => {
            let sessions = ["connectionservice:connect", "connectionservice:attach"].contains(&operation.name);
            let why = if sessions { NO_SESSIONS } else { "no policy lets this API key do this" };
            key.standing.refusal().unwrap_or_else(|| ApiError::denied(why))
        }
        Caller::Person(_) | Caller::Hook(_) => ApiError::denied("no policy lets you do this"),
    })
}

async fn record(
    operation: &'static Operation,
    call: &Call,
    (status, code): (StatusCode, Option<Code>),
    id: EventId,
) -> Result<(), ApiError> {
    let now = call.app.now().wall;
    let noted = call.noted();
    let event = UserEvent {
        id,
        organization_id: call.app.organization,
        actor: noted.actor.unwrap_or_else(|| Caller::Anonymous.actor()),
        service_action: operation.name.to_owned(),
        resource: noted.resource.unwrap_or_else(|| call.params.get("id").cloned().unwrap_or_default()),
        evaluation: !matches!(
            code,
            Some(Code::Denied | Code::NotLoggedIn | Code::MfaNeeded | Code::MfaCode | Code::MfaUsed | Code::MfaLocked)
        ),
        timestamp: now.to_string(),
        ip_address: call.from.to_string(),
        context: json!({
            "requestId": id,
            "method": operation.method.as_str(),
            "path": operation.path,
            "status": status.as_u16(),
            "code": code,
            "about": noted.context,
        })
        .to_string(),
    };
    call.app.store.add_user_event(event, now).await?;
    Ok(())
}

/// The peer; behind a trusted proxy, the last address the proxy itself was called from.
fn address(app: &App, head: &axum::http::request::Parts) -> IpAddr {
    let peer = head.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |p| p.0.ip());
    if !app.config().trusted_proxies.contains(&peer) {
        return peer;
    }
    let forwarded = head.headers.get_all("x-forwarded-for").iter().next_back().and_then(|h| h.to_str().ok());
    forwarded.and_then(|f| f.rsplit(',').next()).and_then(|a| a.trim().parse().ok()).unwrap_or(peer)
}

/// The other end of a call's socket, as an extension of the request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

fn refusal(error: ApiError, id: EventId) -> Response {
    let status = error.status();
    let retry = error.retry();
    let mut response = (status, axum::Json(error.body(id.to_string()))).into_response();
    if let Some(seconds) = retry {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn plain(status: StatusCode, error: ApiError) -> Response {
    (status, axum::Json(error.body(String::new()))).into_response()
}

impl Answer {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some((media, body)) = self.body {
            let kind = [
                (header::CONTENT_TYPE, HeaderValue::from_static(media)),
                (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            ];
            response = (self.status, kind, body).into_response();
        }
        response.headers_mut().extend(self.headers);
        response
    }
}

impl Call {
    /// The call as its client signed it.
    #[must_use]
    pub fn signed(&self) -> SignedCall<'_> {
        let target = self.head.uri.path_and_query().map_or("/", |p| p.as_str());
        SignedCall { method: self.head.method.as_str(), target, body: &self.body }
    }
}
