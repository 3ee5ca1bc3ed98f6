//! What anyone may read: discovery and the JWKS; and what the bearer of an access token may: userinfo.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use url::Url;

use crate::idp::state::{Provider, user_claims};

pub(super) const SCOPES: [&str; 5] = ["openid", "offline_access", "email", "profile", "groups"];

/// Short, so that a rotation reaches an honest cache while a developer still watches.
const CACHED: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "public, max-age=60")];

pub(super) fn discovery(issuer: &Url) -> Response {
    let at = |path: &str| format!("{issuer}{path}");
    let document = json!({
        "issuer": issuer.as_str(),
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "userinfo_endpoint": at("userinfo"),
        "jwks_uri": at("jwks"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": SCOPES,
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "email", "email_verified", "name", "groups", "hd",
        ],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "authorization_response_iss_parameter_supported": true,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    });
    (CACHED, Json(document)).into_response()
}

pub(super) fn jwks(provider: &Provider) -> Response {
    (CACHED, Json(provider.jwks())).into_response()
}

pub(super) fn userinfo(provider: &Provider, headers: &HeaderMap) -> Response {
    let now = provider.now();
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = shown.and_then(|token| {
        provider.with(|state| Some(user_claims(state.directory.find(state.grants.bearer(token, now)?)?)))
    });
    match claims {
        Some(claims) => Json(Value::Object(claims)).into_response(),
        None => {
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)]).into_response()
        }
    }
}
