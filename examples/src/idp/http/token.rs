//! The token endpoint: a code or a refresh token becomes an ID token (RFC 6749 sections 4.1.3 and 6).

use axum::Json;
use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::answer::{Code, Refusal};
use super::params::Params;
use crate::idp::state::{Issued, Occasion, Provider, Redemption};

pub(super) fn request(provider: &Provider, headers: &HeaderMap, form: &[u8]) -> Response {
    match tokens(provider, headers, form) {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

fn tokens(provider: &Provider, headers: &HeaderMap, form: &[u8]) -> Result<Response, Refusal> {
    let params = Params::parse(form).map_err(|malformed| Code::InvalidRequest.because(malformed.to_string()))?;
    // Public clients have nothing to authenticate with; one that tries is set up for another provider.
    if headers.contains_key(header::AUTHORIZATION) || params.find("client_secret").is_some() {
        return Err(Code::InvalidClient.because("clients here are public: send client_id and no secret"));
    }
    let client_id = params
        .find("client_id")
        .filter(|id| provider.knows_client(id))
        .ok_or_else(|| Code::InvalidClient.because("no client of this client_id is registered"))?;
    let (now, life) = (provider.now(), provider.token_life());
    let (issued, occasion) = match required(&params, "grant_type")? {
        "authorization_code" => {
            let shown = Redemption {
                code: required(&params, "code")?,
                client_id,
                redirect_uri: required(&params, "redirect_uri")?,
                verifier: required(&params, "code_verifier")?,
            };
            (provider.with(|state| state.grants.redeem(&shown, now, life))?, Occasion::Login)
        }
        "refresh_token" => {
            let shown = required(&params, "refresh_token")?;
            (provider.with(|state| state.grants.refresh(shown, client_id, now, life))?, Occasion::Refresh)
        }
        _ => return Err(Code::UnsupportedGrantType.because("use authorization_code or refresh_token")),
    };
    let id_token = provider
        .id_token(&issued.login, occasion)
        .ok_or_else(|| Code::InvalidGrant.because("the user was disabled"))?;
    Ok(answer(&issued, &id_token, life))
}

fn required<'a>(params: &'a Params, name: &str) -> Result<&'a str, Refusal> {
    params.find(name).ok_or_else(|| Code::InvalidRequest.because(format!("{name} is missing")))
}

fn answer(issued: &Issued, id_token: &str, life: u64) -> Response {
    let mut body = json!({
        "access_token": issued.access,
        "token_type": "Bearer",
        "expires_in": life,
        "scope": issued.login.scope.join(" "),
        "id_token": id_token,
    });
    if let (Some(refresh), Some(members)) = (&issued.refresh, body.as_object_mut()) {
        members.insert("refresh_token".to_owned(), refresh.as_str().into());
    }
    Json(body).into_response()
}
