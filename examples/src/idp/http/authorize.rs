//! The authorization endpoint and the login page behind it.
//!
//! Until client and redirect URI are known to be good, an error is a page; from then on it is a redirect with `state`
//! and `iss` (RFC 9207). `max_age` needs no look: every login is fresh.

mod check;

use axum::response::Response;

use super::answer::{self, Code, Refusal};
use super::page::{self, LoginPage};
use super::params::Params;
use crate::idp::state::{Provider, Request, ReturnTo};
use check::{Checked, Prompt, Rejected};

pub(super) fn request(provider: &Provider, form: &[u8]) -> Response {
    let params = match Params::parse(form) {
        Ok(params) => params,
        Err(malformed) => return page::error(&malformed.to_string()),
    };
    match check::check(provider, &params) {
        Ok(checked) => proceed(provider, checked),
        Err(Rejected::Page(reason)) => page::error(&reason),
        Err(Rejected::Redirect(back, refusal)) => send_back(provider, &back, &refusal.pairs()),
    }
}

/// Answers the login page.
pub(super) fn login(provider: &Provider, form: &[u8]) -> Response {
    let params = match Params::parse(form) {
        Ok(params) => params,
        Err(malformed) => return page::error(&malformed.to_string()),
    };
    let now = provider.now();
    let transaction = params.find("transaction").unwrap_or_default();
    let name = params.find("user").unwrap_or_default();
    let denied = params.find("decision") == Some("deny");
    if !denied && !knows(provider, name) {
        return ask_again(provider, transaction, name);
    }
    let Some(request) = provider.with(|state| state.grants.close_login(transaction, now)) else {
        return page::error("This login page is too old, or was sent twice. Start again from the program.");
    };
    if denied {
        return send_back(provider, &request.back, &Code::AccessDenied.because("the login was canceled").pairs());
    }
    finish(provider, &request, name)
}

fn proceed(provider: &Provider, checked: Checked) -> Response {
    let Checked { request, prompt, hint } = checked;
    let silent = match (&hint, provider.auto_login()) {
        (_, None) => None,
        (Some(hint), Some(_)) => Some(hint.as_str()),
        (None, Some(configured)) => Some(configured),
    };
    match (prompt, silent.filter(|name| knows(provider, name))) {
        (Prompt::Silent | Prompt::Any, Some(name)) => finish(provider, &request, name),
        (Prompt::Silent, None) => {
            send_back(provider, &request.back, &Code::LoginRequired.because("nobody is logged in").pairs())
        }
        (Prompt::Page, _) | (Prompt::Any, None) => show_page(provider, request, hint.as_deref().unwrap_or_default()),
    }
}

fn show_page(provider: &Provider, request: Request, suggestion: &str) -> Response {
    let now = provider.now();
    let client_id = request.client_id.clone();
    let back = request.back.clone();
    match provider.with(|state| state.grants.open_login(request, now)) {
        Ok(transaction) => LoginPage { client_id: &client_id, transaction: &transaction, suggestion }.show(),
        Err(error) => send_back(provider, &back, &Refusal::from(error).pairs()),
    }
}

/// A wrong name leaves the page usable.
fn ask_again(provider: &Provider, transaction: &str, suggestion: &str) -> Response {
    let now = provider.now();
    match provider.with(|state| state.grants.client_of_login(transaction, now).map(str::to_owned)) {
        Some(client_id) => LoginPage { client_id: &client_id, transaction, suggestion }.show_refused(),
        None => page::error("This login page is too old, or was sent twice. Start again from the program."),
    }
}

fn finish(provider: &Provider, request: &Request, user: &str) -> Response {
    let now = provider.now();
    match provider.with(|state| state.grants.issue_code(request, user, now)) {
        Ok(code) => send_back(provider, &request.back, &[("code", &code)]),
        Err(error) => send_back(provider, &request.back, &Refusal::from(error).pairs()),
    }
}

fn send_back(provider: &Provider, back: &ReturnTo, pairs: &[(&str, &str)]) -> Response {
    let mut to = back.url.clone();
    to.query_pairs_mut()
        .extend_pairs(pairs)
        .extend_pairs(back.state.iter().map(|state| ("state", state)))
        .append_pair("iss", provider.issuer().as_str());
    answer::redirect(&to)
}

fn knows(provider: &Provider, name: &str) -> bool {
    provider.with(|state| state.directory.find(name).is_some())
}
