//! The REST API's table of contents, and the one way every call goes: read, authenticate, decide, do, log.
//!
//! A handler cannot be reached past authentication, the decision or the log: there is no other way to route one.

mod agent;
mod api_key;
mod call;
mod connection;
mod environment;
mod event;
mod mfa;
mod organization;
mod policy;
mod recording;
mod service_account;
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
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use bz_core::api::PREFIX;
use bz_core::api::error::Code;
use bz_core::api::proof::Call as SignedCall;
use bz_core::api::record::UserEvent;
use bz_core::id::EventId;
use futures::future::BoxFuture;
use serde_json::json;

pub use crate::api::call::{Answer, Call};

use crate::app::App;
use crate::auth::{self, Caller};
use crate::error::ApiError;
use crate::policy::OperationQuestion;

/// The most bytes of a body: two tokens in a certificate fit.
pub const MAX_BODY: usize = 64 << 10;
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
    /// How its caller is found.
    pub proof: ProofOf,
    /// What `{id}` names, where rules ask whose it is.
    pub about: About,
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
}

/// What an operation's `{id}` names, where rules ask whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Nothing that belongs to a person.
    Nothing,
    /// A connection.
    Connection,
}

macro_rules! operations {
    ($($name:literal $method:ident $path:literal $run:path $(, $field:ident: $value:expr)*;)*) => {
        /// All operations.
        pub const OPERATIONS: &[Operation] = &[$(Operation {
            $($field: $value,)*
            ..row($name, Method::$method, $path, |call| Box::pin($run(call)))
        }),*];
    };
}

operations! {
    "trustservice:bundle" Get "/trust-bundle" organization::bundle;
    "organizationservice:get" Get "/organization" organization::get;
    "userservice:register" Post "/users/register" user::register, proof: ProofOf::Body;
    "userservice:logout" Post "/users/logout" user::logout;
    "userservice:me" Get "/users/me" user::me;
    "userservice:list" Get "/users" user::list;
    "userservice:get" Get "/users/{id}" user::get;
    "userservice:edit" Patch "/users/{id}" user::edit;
    "userservice:delete" Delete "/users/{id}" user::delete;
    "userservice:close-connections" Patch "/users/{id}/close-connections" user::close_connections;
    "agentservice:register" Post "/agent/register" agent::register;
    "apikeyservice:list" Get "/api-keys" api_key::list;
    "apikeyservice:add" Post "/api-keys" api_key::add;
    "apikeyservice:get" Get "/api-keys/{id}" api_key::get;
    "apikeyservice:edit" Patch "/api-keys/{id}" api_key::edit;
    "apikeyservice:delete" Delete "/api-keys/{id}" api_key::delete;
    "environmentservice:list" Get "/environments" environment::list;
    "environmentservice:add" Post "/environments" environment::add;
    "targetservice:list" Get "/targets/bzero" target::list;
    "targetservice:get" Get "/targets/bzero/{id}" target::get;
    "targetservice:delete" Delete "/targets/bzero/{id}" target::delete;
    "targetservice:list" Get "/targets/database/supported-database-configs" virtual_target::supported;
    "targetservice:list" Get "/targets/database" virtual_target::list::<virtual_target::Databases>;
    "targetservice:add" Post "/targets/database" virtual_target::add::<virtual_target::Databases>;
    "targetservice:get" Get "/targets/database/{id}" virtual_target::get::<virtual_target::Databases>;
    "targetservice:edit" Patch "/targets/database/{id}" virtual_target::edit::<virtual_target::Databases>;
    "targetservice:delete" Delete "/targets/database/{id}" virtual_target::delete::<virtual_target::Databases>;
    "targetservice:list" Get "/targets/web" virtual_target::list::<virtual_target::WebServers>;
    "targetservice:add" Post "/targets/web" virtual_target::add::<virtual_target::WebServers>;
    "targetservice:get" Get "/targets/web/{id}" virtual_target::get::<virtual_target::WebServers>;
    "targetservice:edit" Patch "/targets/web/{id}" virtual_target::edit::<virtual_target::WebServers>;
    "targetservice:delete" Delete "/targets/web/{id}" virtual_target::delete::<virtual_target::WebServers>;
    "targetservice:list" Get "/targets/kube" virtual_target::list::<virtual_target::Clusters>;
    "targetservice:add" Post "/targets/kube" virtual_target::add::<virtual_target::Clusters>;
    "targetservice:get" Get "/targets/kube/{id}" virtual_target::get::<virtual_target::Clusters>;
    "targetservice:edit" Patch "/targets/kube/{id}" virtual_target::edit::<virtual_target::Clusters>;
    "targetservice:delete" Delete "/targets/kube/{id}" virtual_target::delete::<virtual_target::Clusters>;
    "policymanagementservice:list" Get "/policies/target-connect" policy::list::<policy::TargetConnect>;
    "policymanagementservice:add" Post "/policies/target-connect" policy::add::<policy::TargetConnect>;
    "policymanagementservice:get" Get "/policies/target-connect/{id}" policy::get::<policy::TargetConnect>;
    "policymanagementservice:delete" Delete "/policies/target-connect/{id}" policy::delete::<policy::TargetConnect>;
    "policymanagementservice:list" Get "/policies/session-recording" policy::list::<policy::SessionRecording>;
    "policymanagementservice:add" Post "/policies/session-recording" policy::add::<policy::SessionRecording>;
    "policymanagementservice:get" Get "/policies/session-recording/{id}" policy::get::<policy::SessionRecording>;
    "policymanagementservice:delete" Delete "/policies/session-recording/{id}" policy::delete::<policy::SessionRecording>;
    "policymanagementservice:list" Get "/policies/proxy" policy::list::<policy::Proxy>;
    "policymanagementservice:add" Post "/policies/proxy" policy::add::<policy::Proxy>;
    "policymanagementservice:get" Get "/policies/proxy/{id}" policy::get::<policy::Proxy>;
    "policymanagementservice:delete" Delete "/policies/proxy/{id}" policy::delete::<policy::Proxy>;
    "policymanagementservice:list" Get "/policies/kubernetes" policy::list::<policy::Kubernetes>;
    "policymanagementservice:add" Post "/policies/kubernetes" policy::add::<policy::Kubernetes>;
    "policymanagementservice:get" Get "/policies/kubernetes/{id}" policy::get::<policy::Kubernetes>;
    "policymanagementservice:delete" Delete "/policies/kubernetes/{id}" policy::delete::<policy::Kubernetes>;
    "policyqueryservice:why" Post "/policy-query/why" why::why;
    "connectionservice:connect" Post "/connections/universal" connection::open;
    "connectionservice:list" Get "/connections" connection::list;
    "connectionservice:close" Patch "/connections/{id}/close" connection::close, about: About::Connection;
    "connectionservice:attach" Post "/connections/{id}/shell/attach" connection::attach, about: About::Connection;
    "recordservice:list" Get "/session-recordings" recording::list;
    "recordservice:get" Get "/session-recordings/{id}" recording::get;
    "recordservice:delete" Delete "/session-recordings/{id}" recording::delete;
    "recordservice:transcripts" Get "/connections/{id}/transcripts" recording::transcripts;
    "recordservice:transcript" Get "/connections/{id}/transcripts/{n}" recording::transcript;
    "eventservice:subject" Get "/events/subject" event::subject;
    "eventservice:connection" Get "/events/connection" event::connection;
    "eventservice:command" Get "/events/command" event::command;
    "eventservice:file" Get "/events/file" event::file;
    "eventservice:query" Get "/events/query" event::query;
    "eventservice:web" Get "/events/web" event::web;
    "eventservice:kube" Get "/events/kube" event::kube;
    "policymanagementservice:list" Get "/policies/organization-controls" policy::list::<policy::OrganizationControls>;
    "organizationcontrolsservice:add" Post "/policies/organization-controls" policy::controls::add;
    "policymanagementservice:get" Get "/policies/organization-controls/{id}" policy::get::<policy::OrganizationControls>;
    "organizationcontrolsservice:edit" Patch "/policies/organization-controls/{id}" policy::controls::edit;
    "policymanagementservice:delete" Delete "/policies/organization-controls/{id}" policy::controls::delete;
    "mfaservice:totp" Post "/mfa/totp" mfa::totp;
    "mfaservice:reset" Post "/mfa/reset" mfa::reset;
    "mfaservice:recovery-codes" Post "/mfa/recovery-codes" mfa::recovery_codes;
    "mfaservice:clear" Post "/mfa/clear" mfa::clear;
    "mfaservice:setup" Post "/mfa/setup" mfa::setup;
    "mfaservice:disable" Post "/mfa/disable" mfa::disable;
    "mfaservice:me" Get "/mfa/me" mfa::me;
    "mfaservice:get" Get "/mfa/{id}" mfa::get;
    "serviceaccountservice:login" Post "/service-accounts/login" service_account::login, proof: ProofOf::Body;
    "serviceaccountservice:list" Get "/service-accounts" service_account::list;
    "serviceaccountservice:add" Post "/service-accounts" service_account::add;
    "serviceaccountservice:me" Get "/service-accounts/me" service_account::me;
    "serviceaccountservice:get" Get "/service-accounts/{id}" service_account::get;
    "serviceaccountservice:edit" Patch "/service-accounts/{id}" service_account::edit;
    "serviceaccountservice:delete" Delete "/service-accounts/{id}" service_account::delete;
    "serviceaccountservice:invalidate-cache" Patch "/service-accounts/invalidate-cache/{id}" service_account::invalidate_cache;
    "serviceaccountservice:rotate-mfa" Patch "/mfa/rotate/{id}" service_account::rotate;
}

/// What rules name beside operations: rights inside one.
pub const RIGHTS: [&str; 4] = [
    "targetservice:list-all",
    "policyqueryservice:why-others",
    "connectionservice:list-others",
    "recordservice:transcript-tokens",
];

const fn row(
    name: &'static str,
    method: Method,
    path: &'static str,
    run: fn(Call) -> BoxFuture<'static, Result<Answer, ApiError>>,
) -> Operation {
    Operation { name, method, path, proof: ProofOf::Known, about: About::Nothing, run }
}

/// The whole API as a router. The relay's path is merged beside it.
pub fn router(app: Arc<App>) -> Router {
    let api = OPERATIONS.iter().fold(Router::new(), |router, operation| {
        router.route(&format!("{PREFIX}{}", operation.path), method(operation))
    });
    api.route("/healthz", on(MethodFilter::GET, || async { "ok\n" }))
        .route("/readyz", on(MethodFilter::GET, ready))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, ApiError::not_found("path")) })
        .method_not_allowed_fallback(|| async {
            plain(StatusCode::METHOD_NOT_ALLOWED, ApiError::bad_request("this path does not take this method"))
        })
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
    let (body, received) = match receive(body).await {
        Ok(body) => (body, Ok(())),
        Err(error) => (Bytes::new(), Err(error)),
    };
    let caller = Caller::Anonymous;
    let call = Call { app: Arc::clone(&app), caller, params, head, body, from, noted: Arc::default() };
    let (code, response) = match go(operation, call, received, id).await {
        Ok(answer) => ("ok".to_owned(), answer.into_response()),
        Err(error) => (format!("{:?}", error.code()), refusal(error, id)),
    };
    app.metrics.called(operation.name, code, started.elapsed());
    response
}

async fn receive(body: Body) -> Result<Bytes, ApiError> {
    tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, MAX_BODY))
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
        (Ok(()), ProofOf::Known) => auth::authenticate(&call.app, &call.head.headers, &call.signed()).await,
        (Ok(()), ProofOf::Body) => Ok(Caller::Anonymous),
    };
    if !matches!(found, Ok(Caller::Person(_) | Caller::Key(_))) {
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
    record(operation, &log, &result, id).await?;
    result
}

async fn decide(operation: &'static Operation, call: Call) -> Result<Answer, ApiError> {
    call.note_actor(call.caller.actor());
    let owner = match operation.about {
        About::Nothing => None,
        About::Connection => call.app.store.connection(call.id()?).await?.map(|c| c.user),
    };
    let asker = call.caller.asker();
    if call.app.engine.may_call(&OperationQuestion { caller: &asker, operation: operation.name, owner }) {
        return (operation.run)(call).await;
    }
    Err(match call.caller {
        Caller::Anonymous => ApiError::not_logged_in("log in first: `bz login`"),
        Caller::Person(who) if who.standing.is_pending() => ApiError::mfa_needed(who.standing.action),
        Caller::Person(_) => ApiError::denied("no policy lets you do this"),
        Caller::Key(_) => ApiError::denied("no policy lets this API key do this"),
    })
}

async fn record(
    operation: &'static Operation,
    call: &Call,
    result: &Result<Answer, ApiError>,
    id: EventId,
) -> Result<(), ApiError> {
    let now = call.app.now().wall;
    let noted = call.noted();
    let (status, code) = match result {
        Ok(answer) => (answer.status, None),
        Err(error) => (error.status(), Some(error.code())),
    };
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
    if !app.config.trusted_proxies.contains(&peer) {
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
    let retry = (error.code() == Code::TooMany).then_some("60");
    let mut response = (status, axum::Json(error.body(id.to_string()))).into_response();
    if let Some(seconds) = retry {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

fn plain(status: StatusCode, error: ApiError) -> Response {
    (status, axum::Json(error.body(String::new()))).into_response()
}

impl Answer {
    fn into_response(self) -> Response {
        let Some((media, body)) = self.body else { return self.status.into_response() };
        let kind = [
            (header::CONTENT_TYPE, HeaderValue::from_static(media)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        (self.status, kind, Body::from(body)).into_response()
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
