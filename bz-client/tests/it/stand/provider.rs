//! A small OpenID provider: discovery, PKCE, rotating refresh tokens. Everybody is alice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bz_core::digest::Digest;
use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::provider::Provider;
use serde_json::{Value, json};

use crate::idp::{self, Idp};
use crate::stand::web;

type Parameters = BTreeMap<String, String>;

#[derive(Clone)]
pub(crate) struct TestProvider {
    pub(crate) issuer: String,
    pub(crate) state: Arc<Mutex<ProviderState>>,
}

/// What a test can look at and change.
pub(crate) struct ProviderState {
    /// What was asked at the login page, latest last.
    pub(crate) authorized: Vec<Parameters>,
    /// The one good refresh token.
    pub(crate) refresh: u32,
    /// How often a refresh token was taken.
    pub(crate) refreshed: u32,
    /// Whether a refresh gives an ID token.
    pub(crate) refresh_gives_id_token: bool,
    /// Claims put over the good ones.
    pub(crate) claims: Value,
    /// What makes the tokens instead of the provider's key.
    pub(crate) forge: fn(&Value) -> String,
}

impl TestProvider {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(ProviderState {
            authorized: Vec::new(),
            refresh: 1,
            refreshed: 0,
            refresh_gives_id_token: true,
            claims: json!({}),
            forge: |claims| key().token(claims),
        }));
        let shared = Arc::clone(&state);
        let issuer = web::serve(move |origin| {
            let provider = Self { issuer: origin.to_owned(), state: shared };
            Router::new()
                .route("/.well-known/openid-configuration", get(metadata))
                .route("/jwks", get(|| async { Json(json!({"keys": [key().jwk()]})) }))
                .route("/authorize", get(authorize))
                .route("/token", post(token))
                .with_state(provider)
        })
        .await;
        Self { issuer, state }
    }

    /// As a trust bundle pins it.
    pub(crate) fn pinned(&self) -> Provider {
        Provider { issuer: self.issuer.clone(), ..idp::provider() }
    }

    pub(crate) fn jwks(&self) -> Jwks {
        key().jwks()
    }

    fn id_token(&self, nonce: &str) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut claims = idp::claims(now, nonce);
        claims["iss"] = json!(self.issuer);
        let state = self.state.lock().unwrap();
        for (name, value) in state.claims.as_object().unwrap() {
            claims[name] = value.clone();
        }
        (state.forge)(&claims)
    }
}

pub(crate) fn key() -> Idp {
    Idp::new(1, "k1")
}

async fn metadata(State(provider): State<TestProvider>) -> Json<Value> {
    let issuer = &provider.issuer;
    Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["openid", "email", "profile", "offline_access", "groups"],
    }))
}

async fn authorize(State(provider): State<TestProvider>, Query(asked): Query<Parameters>) -> Redirect {
    let authorized = &mut provider.state.lock().unwrap().authorized;
    let code = authorized.len();
    let mut to = url::Url::parse(&asked["redirect_uri"]).unwrap();
    to.query_pairs_mut().append_pair("state", &asked["state"]).append_pair("iss", &provider.issuer);
    if asked.contains_key("refuse") {
        to.query_pairs_mut().append_pair("error", "access_denied").append_pair("error_description", "not\u{1b}today");
    } else {
        to.query_pairs_mut().append_pair("code", &code.to_string());
    }
    authorized.push(asked);
    Redirect::to(to.as_str())
}

async fn token(State(provider): State<TestProvider>, Form(asked): Form<Parameters>) -> Response {
    let invalid = || (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    let (nonce, with_id_token) = match asked["grant_type"].as_str() {
        "authorization_code" => {
            let state = provider.state.lock().unwrap();
            let page = &state.authorized[asked["code"].parse::<usize>().unwrap()];
            let digest = Digest::of(asked["code_verifier"].as_bytes());
            let proved = URL_SAFE_NO_PAD.encode(digest.as_bytes()) == page["code_challenge"];
            if !proved || asked["redirect_uri"] != page["redirect_uri"] || asked["client_id"] != page["client_id"] {
                return invalid();
            }
            (page["nonce"].clone(), true)
        }
        "refresh_token" => {
            let mut state = provider.state.lock().unwrap();
            if asked["refresh_token"] != format!("refresh-{}", state.refresh) {
                return invalid();
            }
            state.refresh += 1;
            state.refreshed += 1;
            ("another".to_owned(), state.refresh_gives_id_token)
        }
        other => panic!("grant type {other}"),
    };
    let refresh = format!("refresh-{}", provider.state.lock().unwrap().refresh);
    let mut answer =
        json!({"access_token": "access", "token_type": "Bearer", "expires_in": 3600, "refresh_token": refresh});
    if with_id_token {
        answer["id_token"] = json!(provider.id_token(&nonce));
    }
    Json(answer).into_response()
}
