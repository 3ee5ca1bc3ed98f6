//! Which authorization requests are taken (RFC 6749 section 4.1.1, RFC 7636, RFC 8252, OpenID Connect Core 3.1.2.1).

use url::{Host, Url};

use crate::idp::http::answer::{Code, Refusal};
use crate::idp::http::metadata::SCOPES;
use crate::idp::http::params::Params;
use crate::idp::state::{Provider, Request, ReturnTo};

/// Longer values are no mistake of an honest client.
const MAX_VALUE: usize = 2048;

/// A request that may go on.
pub(super) struct Checked {
    pub(super) request: Request,
    pub(super) prompt: Prompt,
    pub(super) hint: Option<String>,
}

/// What the client said of asking the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    Silent,
    Page,
    Any,
}

/// A request that may not.
pub(super) enum Rejected {
    Page(String),
    Redirect(Box<ReturnTo>, Refusal),
}

pub(super) fn check(provider: &Provider, params: &Params) -> Result<Checked, Rejected> {
    let client_id = params
        .find("client_id")
        .filter(|id| provider.knows_client(id))
        .ok_or_else(|| Rejected::Page("No client of this client_id is registered.".to_owned()))?;
    let redirect_uri = params.find("redirect_uri").unwrap_or_default();
    let url = loopback(redirect_uri).ok_or_else(|| {
        Rejected::Page(
            "redirect_uri must be an http or https URL of the loopback interface, without a fragment.".into(),
        )
    })?;
    let state = params.find("state").map(str::to_owned);
    let back = ReturnTo { url, state };
    let rest = match check_rest(params) {
        Ok(rest) => rest,
        Err(refusal) => return Err(Rejected::Redirect(Box::new(back), refusal)),
    };
    let request = Request {
        client_id: client_id.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        back,
        nonce: params.find("nonce").map(str::to_owned),
        scope: rest.scope,
        challenge: rest.challenge,
    };
    Ok(Checked { request, prompt: rest.prompt, hint: params.find("login_hint").map(str::to_owned) })
}

struct Rest {
    scope: Vec<String>,
    challenge: String,
    prompt: Prompt,
}

fn check_rest(params: &Params) -> Result<Rest, Refusal> {
    if params.find("request").is_some() {
        return Err(Code::RequestNotSupported.because("request objects are not supported"));
    }
    if params.find("request_uri").is_some() {
        return Err(Code::RequestUriNotSupported.because("request objects are not supported"));
    }
    match params.find("response_type") {
        Some("code") => {}
        Some(_) => return Err(Code::UnsupportedResponseType.because("response_type must be code")),
        None => return Err(Code::InvalidRequest.because("response_type is missing")),
    }
    if params.find("response_mode").is_some_and(|mode| mode != "query") {
        return Err(Code::InvalidRequest.because("response_mode must be query"));
    }
    if ["state", "nonce"].iter().any(|name| params.find(name).is_some_and(|value| value.len() > MAX_VALUE)) {
        return Err(Code::InvalidRequest.because("state or nonce is too long"));
    }
    Ok(Rest { scope: scope(params)?, challenge: challenge(params)?, prompt: prompt(params)? })
}

/// Unknown scopes are ignored, as OpenID Connect wants it.
fn scope(params: &Params) -> Result<Vec<String>, Refusal> {
    let scope: Vec<String> = params.words("scope").filter(|word| SCOPES.contains(word)).map(str::to_owned).collect();
    if scope.iter().any(|word| word == "openid") {
        Ok(scope)
    } else {
        Err(Code::InvalidScope.because("scope must contain openid"))
    }
}

fn challenge(params: &Params) -> Result<String, Refusal> {
    // Left out means "plain", which protects nothing on the way this is meant for.
    if params.find("code_challenge_method") != Some("S256") {
        return Err(Code::InvalidRequest.because("PKCE with code_challenge_method S256 is required"));
    }
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    params
        .find("code_challenge")
        .filter(|challenge| challenge.len() == 43 && challenge.bytes().all(base64url))
        .map(str::to_owned)
        .ok_or_else(|| Code::InvalidRequest.because("code_challenge must be the base64url form of a SHA-256"))
}

fn prompt(params: &Params) -> Result<Prompt, Refusal> {
    let words: Vec<&str> = params.words("prompt").collect();
    if words.iter().any(|word| !matches!(*word, "none" | "login" | "consent" | "select_account")) {
        return Err(Code::InvalidRequest.because("prompt has an unknown value"));
    }
    match words.as_slice() {
        ["none"] => Ok(Prompt::Silent),
        _ if words.contains(&"none") => Err(Code::InvalidRequest.because("prompt none goes with no other value")),
        _ if words.contains(&"login") || words.contains(&"select_account") => Ok(Prompt::Page),
        // There is nothing to consent to here.
        _ => Ok(Prompt::Any),
    }
}

/// Any port and path, because a native client listens where it finds a free port (RFC 8252, section 7.3).
fn loopback(redirect_uri: &str) -> Option<Url> {
    let url = Url::parse(redirect_uri).ok().filter(|_| redirect_uri.len() <= MAX_VALUE)?;
    let host = match url.host()? {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => name == "localhost",
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (host && plain && matches!(url.scheme(), "http" | "https")).then_some(url)
}
