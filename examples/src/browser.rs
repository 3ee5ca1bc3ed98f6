//! A login without a browser: follows redirects, keeps cookies, and fills the provider's one-field login form.
//!
//! It does what a person at a browser does and nothing a browser could not do. It speaks plain HTTP to loopback only,
//! never through a proxy, and keeps no state between logins.

mod form;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use url::{Host, Url};

use form::Form;

const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
const MAX_STEPS: usize = 12;
const MAX_PAGE_BYTES: usize = 256 << 10;

/// Why the login came to no redirect to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    #[error("the authorization URL has no redirect_uri to stop at")]
    NoRedirectUri,
    #[error("{0} is not on loopback")]
    NotLoopback(Url),
    #[error("the request to the provider failed")]
    Request(#[from] reqwest::Error),
    #[error("no TLS setup without a network could be made")]
    Tls(#[from] rustls::Error),
    #[error("the provider's page is too large")]
    TooLarge,
    #[error("the provider redirected to nowhere")]
    Location,
    #[error("the provider answered {status}: {page}")]
    Refused { status: StatusCode, page: String },
    #[error("the provider showed a page without a form for a user name: {page}")]
    NoForm { page: String },
    #[error("no end after {MAX_STEPS} redirects and forms")]
    TooManySteps,
}

/// Logs `user` in at the authorization URL `url` and returns the redirect that a browser would take to the client,
/// with `code` or `error` in it. Nothing is sent to the client itself.
///
/// `user` becomes the `login_hint`, if the URL has none, and is typed into the form if there is a page.
///
/// # Errors
/// When the provider shows an error page instead, or is not on loopback.
pub async fn authorize_without_browser(url: &Url, user: &str) -> Result<Url, WalkError> {
    let end = parameter(url, "redirect_uri").ok_or(WalkError::NoRedirectUri)?;
    let mut start = url.clone();
    if parameter(url, "login_hint").is_none() {
        start.query_pairs_mut().append_pair("login_hint", user);
    }
    let mut walk = Walk { client: loopback_client()?, cookies: BTreeMap::new() };
    let mut step = Step::Follow(start);
    for _ in 0..MAX_STEPS {
        step = match step {
            Step::Follow(to) if to.as_str().split(['?', '#']).next() == end.split(['?', '#']).next() => return Ok(to),
            Step::Follow(to) => walk.send(walk.client.get(to.clone()), to, user).await?,
            Step::Submit(to, fields) => walk.send(walk.client.post(to.clone()).form(&fields), to, user).await?,
        };
    }
    Err(WalkError::TooManySteps)
}

/// An HTTP client for providers on loopback: no redirects, no proxy, no trusted certificate.
///
/// # Errors
/// When the TLS library refuses its own defaults.
pub fn loopback_client() -> Result<Client, WalkError> {
    // The provider is named here because none is installed for the process: that is the program's choice.
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::ClientBuilder::new()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(REQUEST_DEADLINE)
        .build()?;
    Ok(client)
}

struct Walk {
    client: Client,
    cookies: BTreeMap<String, String>,
}

enum Step {
    Follow(Url),
    Submit(Url, Vec<(String, String)>),
}

impl Walk {
    async fn send(&mut self, request: RequestBuilder, to: Url, user: &str) -> Result<Step, WalkError> {
        if !is_loopback(&to) {
            return Err(WalkError::NotLoopback(to));
        }
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let response = request.header(COOKIE, cookies.join("; ")).send().await?;
        self.keep_cookies(&response);
        let status = response.status();
        if status.is_redirection() {
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            return location.and_then(|location| to.join(location).ok()).map(Step::Follow).ok_or(WalkError::Location);
        }
        let page = read(response).await?;
        if !status.is_success() {
            return Err(WalkError::Refused { status, page });
        }
        match Form::find(&page) {
            Some(form) => {
                let action = to.join(&form.action).map_err(|_| WalkError::Location)?;
                Ok(Step::Submit(action, form.filled_with(user)))
            }
            None => Err(WalkError::NoForm { page }),
        }
    }

    /// By name alone: within one login at one provider, paths and lives of cookies change nothing.
    fn keep_cookies(&mut self, response: &Response) {
        let set = response.headers().get_all(SET_COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        for (name, value) in set.filter_map(|cookie| cookie.split(';').next()?.split_once('=')) {
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

async fn read(mut response: Response) -> Result<String, WalkError> {
    let mut page = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if page.len() + chunk.len() > MAX_PAGE_BYTES {
            return Err(WalkError::TooLarge);
        }
        page.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
