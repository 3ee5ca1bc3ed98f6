//! Where a job's tokens come from.
//!
//! Absent: a file, and a variable of the environment. What stands there has an audience that somebody chose before this
//! program had a key, so it proves nothing of that key.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use url::Url;

use crate::http::{Http, HttpError};
use crate::secret::Secret;
use crate::server::{Roots, Server};
use crate::shown::shown;

/// What [`TokenSource::token`] gives.
pub type Token<'a> = Pin<Box<dyn Future<Output = Result<Secret, TokenSourceError>> + Send + 'a>>;

/// Where a job has tokens of an audience that it chooses.
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// What a stored login calls this source, so that a later run of the program finds it again. No secret.
    fn name(&self) -> String;

    /// A token made now for exactly this audience.
    fn token<'a>(&'a self, audience: &'a str) -> Token<'a>;
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenSourceError {
    /// The service that gives tokens does not answer.
    #[error("no token of this job: {0}")]
    NoAnswer(#[from] HttpError),
    /// It refuses, or answers something else.
    #[error("no token of this job: {0}")]
    Answer(String),
    /// The job is not where this source is.
    #[error("no token of this job: {0}")]
    NotHere(&'static str),
    /// The command that prints tokens failed.
    #[error("no token of this job: {command}: {cause}")]
    Command {
        /// Which program.
        command: String,
        /// What happened.
        cause: String,
    },
}

/// The most bytes a command may print.
const MAX_PRINTED: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Where a command line says the audience.
const AUDIENCE: &str = "{audience}";

/// GitHub Actions: the address and the bearer token that a job with `id-token: write` finds in its environment.
#[derive(Debug, Clone)]
pub struct GithubActions {
    http: Http,
    url: Url,
    bearer: HeaderValue,
}

#[derive(Deserialize)]
struct GithubAnswer {
    value: String,
}

impl GithubActions {
    /// From the values of `ACTIONS_ID_TOKEN_REQUEST_URL` and `ACTIONS_ID_TOKEN_REQUEST_TOKEN`. Roots and proxies as for
    /// the server, save pins, which are the server's own.
    ///
    /// # Errors
    /// [`TokenSourceError`] for values that no job has, or where no TLS can be set up.
    pub fn new(url: &str, token: &Secret, server: &Server) -> Result<Self, TokenSourceError> {
        let odd = || {
            TokenSourceError::NotHere(
                "ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN are not set as in a job of GitHub \
                 Actions with `permissions: id-token: write`",
            )
        };
        let url = Url::parse(url).map_err(|_| odd())?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).map_err(|_| odd())?;
        bearer.set_sensitive(true);
        if token.reveal().is_empty() {
            return Err(odd());
        }
        Ok(Self { http: http(server, &url)?, url, bearer })
    }

    async fn ask(&self, audience: &str) -> Result<Secret, TokenSourceError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("audience", audience);
        let mut request = reqwest::Request::new(Method::GET, url);
        request.headers_mut().insert(AUTHORIZATION, self.bearer.clone());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let body = get(&self.http, request, "GitHub").await?;
        // The body may hold a token: nothing of it is told.
        let odd = |_| TokenSourceError::Answer("GitHub's answer is not understood".to_owned());
        Ok(Secret::new(serde_json::from_slice::<GithubAnswer>(&body).map_err(odd)?.value))
    }
}

impl TokenSource for GithubActions {
    fn name(&self) -> String {
        "github".to_owned()
    }

    fn token<'a>(&'a self, audience: &'a str) -> Token<'a> {
        Box::pin(self.ask(audience))
    }
}

/// The metadata server that programs in Google's cloud have: Cloud Run, functions, machines, clusters.
#[derive(Debug, Clone)]
pub struct GoogleMetadata {
    http: Http,
    url: Url,
}

impl GoogleMetadata {
    /// At this host, or where it always is.
    ///
    /// # Errors
    /// [`TokenSourceError`] for a host that is none, or where no HTTP can be set up.
    pub fn new(host: Option<&str>, server: &Server) -> Result<Self, TokenSourceError> {
        let host = host.unwrap_or(crate::server::GOOGLE_METADATA);
        let address = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/identity");
        let odd = |_| TokenSourceError::NotHere("GCE_METADATA_HOST names no host");
        let url = Url::parse(&address).map_err(odd)?;
        let direct = server.clone().with_proxies(bz_protocol::carrier::Proxies::default());
        Ok(Self { http: http(&direct, &url)?, url })
    }

    async fn ask(&self, audience: &str) -> Result<Secret, TokenSourceError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("audience", audience).append_pair("format", "full");
        let mut request = reqwest::Request::new(Method::GET, url);
        request.headers_mut().insert("metadata-flavor", HeaderValue::from_static("Google"));
        let body = get(&self.http, request, "the metadata server").await?;
        one_line(&body).ok_or_else(|| TokenSourceError::Answer("the metadata server sends no token".to_owned()))
    }
}

impl TokenSource for GoogleMetadata {
    fn name(&self) -> String {
        "google".to_owned()
    }

    fn token<'a>(&'a self, audience: &'a str) -> Token<'a> {
        Box::pin(self.ask(audience))
    }
}

/// A program that prints a token, `{audience}` in its arguments standing for the audience. It is run as it is, without a
/// shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    name: String,
    program: String,
    arguments: Vec<String>,
}

impl Command {
    /// This program with these arguments, one of which must say the audience.
    ///
    /// # Errors
    /// [`TokenSourceError::NotHere`] otherwise: the token would prove nothing of this program's key.
    pub fn new(program: &str, arguments: &[&str]) -> Result<Self, TokenSourceError> {
        if program.is_empty() || !arguments.iter().any(|argument| argument.contains(AUDIENCE)) {
            return Err(TokenSourceError::NotHere("the command's arguments must say {audience} where it is to be"));
        }
        let name = format!("command:{program} {}", arguments.join(" "));
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Ok(Self { name, program: program.to_owned(), arguments })
    }

    /// CircleCI's own program, in a job there.
    #[must_use]
    pub fn circleci() -> Self {
        let arguments = ["run", "oidc", "get", "--claims", r#"{"aud":"{audience}"}"#];
        Self {
            name: "circleci".to_owned(),
            program: "circleci".to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
        }
    }

    async fn ask(&self, audience: &str) -> Result<Secret, TokenSourceError> {
        let failed = |cause: String| TokenSourceError::Command { command: self.program.clone(), cause: shown(&cause) };
        let mut command = tokio::process::Command::new(&self.program);
        command.args(self.arguments.iter().map(|argument| argument.replace(AUDIENCE, audience)));
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let run = tokio::time::timeout(TIMEOUT, command.output()).await;
        let output = run.map_err(|_| failed("it did not end within a minute".to_owned()))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            // What it printed may be a token; what it complains of is not.
            return Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())));
        }
        one_line(&output.stdout).ok_or_else(|| failed("it prints no token".to_owned()))
    }
}

impl TokenSource for Command {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn token<'a>(&'a self, audience: &'a str) -> Token<'a> {
        Box::pin(self.ask(audience))
    }
}

fn http(server: &Server, url: &Url) -> Result<Http, TokenSourceError> {
    let platform = Roots::Platform;
    let roots = if matches!(server.roots(), Roots::Pins(_)) { &platform } else { server.roots() };
    Ok(Http::new(roots, url, server.proxies())?)
}

async fn get(http: &Http, request: reqwest::Request, who: &str) -> Result<Vec<u8>, TokenSourceError> {
    let answer = http.send(request).await?;
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    Err(TokenSourceError::Answer(format!("{who} answers {}", answer.status)))
}

/// What is printed, when it is one word of a line.
fn one_line(bytes: &[u8]) -> Option<Secret> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_PRINTED)?.trim();
    (!text.is_empty() && !text.contains(char::is_whitespace)).then(|| Secret::new(text))
}
