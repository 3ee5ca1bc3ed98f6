//! The provider's endpoints: which path leads where, and what holds for every answer.
//!
//! A page that was served from elsewhere must not drive this provider through a name it rebound to loopback, so a
//! request whose `Host` is not the issuer's is refused before anything reads it.

mod answer;
mod authorize;
mod metadata;
mod page;
mod params;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, RawForm, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::state::Provider;
use params::MAX_PARAMS_BYTES;

/// What every answer carries, unless its handler said otherwise.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ),
];

type Shared = State<Arc<Provider>>;

pub(super) fn router(provider: Arc<Provider>) -> Router {
    let authorize =
        |State(provider): Shared, RawForm(form): RawForm| async move { authorize::request(&provider, &form) };
    let userinfo = |State(provider): Shared, headers: HeaderMap| async move { metadata::userinfo(&provider, &headers) };
    Router::new()
        .route(
            "/.well-known/openid-configuration",
            get(|State(provider): Shared| async move { metadata::discovery(provider.issuer()) }),
        )
        .route("/jwks", get(|State(provider): Shared| async move { metadata::jwks(&provider) }))
        .route("/authorize", get(authorize).post(authorize))
        .route(
            "/login",
            post(|State(provider): Shared, RawForm(form): RawForm| async move { authorize::login(&provider, &form) }),
        )
        .route(
            "/token",
            post(|State(provider): Shared, headers: HeaderMap, RawForm(form): RawForm| async move {
                token::request(&provider, &headers, &form)
            }),
        )
        .route("/userinfo", get(userinfo).post(userinfo))
        .layer(DefaultBodyLimit::max(MAX_PARAMS_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&provider), guard))
        .with_state(provider)
}

async fn guard(State(provider): Shared, request: Request, next: Next) -> Response {
    let mut response = if names_issuer(&provider, request.uri(), request.headers()) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "This provider answers to the host of its issuer only.\n").into_response()
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

fn names_issuer(provider: &Provider, uri: &Uri, headers: &HeaderMap) -> bool {
    let expected = provider.issuer().authority();
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| uri.authority().map(|authority| authority.as_str())) == Some(expected)
}
