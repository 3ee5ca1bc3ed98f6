//! Where the provider sends the browser back to: one port on loopback, one answer, five minutes.
//!
//! Only a request with the state of this login counts; anything else that comes to the port is answered and forgotten,
//! so that a stranger's page can neither log in nor break the login off.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bz_core::digest::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::Url;

use crate::shown::shown;

/// How long a login may take.
pub(super) const LIMIT: Duration = Duration::from_secs(5 * 60);

const PATH: &str = "/callback";
/// The most bytes of a request's first line: codes and states are short.
const MAX_LINE: usize = 16 << 10;
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// The most connections at once; a browser opens a few.
const MAX_CONNECTIONS: usize = 16;

/// Why a redirect carries no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// No loopback port is free, or not the one asked for.
    #[error(
        "the login cannot listen on 127.0.0.1:{port}: {cause}. End the program that has it, or give another \
         --callback-port"
    )]
    Port {
        /// The port; 0 for any.
        port: u16,
        /// The operating system's words.
        cause: String,
    },
    /// Nobody finished the login.
    #[error("nobody finished the login within five minutes: start it again")]
    TimedOut,
    /// Not the redirect's address.
    #[error("this is not the address that the browser ended at: it begins with {0}")]
    OtherAddress(String),
    /// Of another login.
    #[error("this redirect is of another login: start again, and use the page shown last")]
    OtherLogin,
    /// Of another provider.
    #[error("the redirect comes from another provider ({0})")]
    OtherProvider(String),
    /// The provider said no.
    #[error("the identity provider refused the login: {0}")]
    Refused(String),
    /// Neither a code nor an error.
    #[error("the redirect carries no code")]
    NoCode,
}

/// A bound port and what must come to it.
#[derive(Debug)]
pub(super) struct Redirect {
    listener: TcpListener,
    address: SocketAddr,
}

/// What a redirect must say to count.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) redirect: Url,
    pub(super) state: String,
    pub(super) issuer: String,
}

impl Redirect {
    /// Binds the port; any free one for 0.
    pub(super) async fn bind(port: u16) -> Result<Self, RedirectError> {
        let failed = |cause: std::io::Error| RedirectError::Port { port, cause: cause.to_string() };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address to register with the provider.
    pub(super) fn address(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Waits for the one redirect of this login.
    pub(super) async fn wait(self, expected: &Expected) -> Result<Url, RedirectError> {
        let (found, mut results) = mpsc::channel(1);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(timeout(REQUEST_TIME, answer(stream, expected.clone(), found.clone())));
                    }
                }
                Some(_) = connections.join_next() => {}
                Some(url) = results.recv() => return Ok(url),
            }
        }
    }
}

impl Expected {
    /// The code in a redirect.
    pub(super) fn code(&self, url: &Url) -> Result<String, RedirectError> {
        if (url.scheme(), url.host(), url.port(), url.path())
            != (self.redirect.scheme(), self.redirect.host(), self.redirect.port(), self.redirect.path())
        {
            return Err(RedirectError::OtherAddress(self.redirect.to_string()));
        }
        let get = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        if !get("state").is_some_and(|state| equal(&state, &self.state)) {
            return Err(RedirectError::OtherLogin);
        }
        if let Some(issuer) = get("iss").filter(|issuer| *issuer != self.issuer) {
            return Err(RedirectError::OtherProvider(shown(&issuer)));
        }
        if let Some(error) = get("error") {
            let description = get("error_description").unwrap_or_default();
            return Err(RedirectError::Refused(shown(&format!("{error} {description}")).trim().to_owned()));
        }
        get("code").filter(|code| !code.is_empty()).ok_or(RedirectError::NoCode)
    }
}

async fn answer(mut stream: TcpStream, expected: Expected, found: mpsc::Sender<Url>) {
    let Some(line) = first_line(&mut stream).await else { return };
    let url = line
        .strip_prefix("GET ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|path| path.starts_with(PATH).then(|| expected.redirect.join(path).ok()).flatten());
    let code = url.as_ref().map(|url| expected.code(url));
    let (status, text) = match &code {
        Some(Ok(_)) => ("200 OK", "Back to the terminal: it says whether the login worked. This page can be closed."),
        Some(Err(RedirectError::Refused(_))) => ("200 OK", "The login was refused. The terminal says more."),
        Some(Err(_)) => ("400 Bad Request", "This is not the login that the terminal waits for."),
        None => ("404 Not Found", "There is nothing here."),
    };
    let written = stream.write_all(page(status, text).as_bytes()).await;
    if written.is_ok() {
        // The browser may be gone; the redirect counts all the same.
        drop(stream.shutdown().await);
    }
    let ours = !matches!(code, Some(Err(RedirectError::OtherLogin | RedirectError::OtherAddress(_))) | None);
    if let Some(url) = url.filter(|_| ours) {
        // A second redirect of the same login finds the place taken and says nothing new.
        drop(found.try_send(url));
    }
}

async fn first_line(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 2048];
    // The whole head is read, so that closing does not reset what the browser still sends.
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await.ok()?;
        bytes.extend_from_slice(buffer.get(..read)?);
        if read == 0 || bytes.len() > MAX_LINE {
            return None;
        }
    }
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    String::from_utf8(line.to_vec()).ok()
}

fn page(status: &str, text: &str) -> String {
    let body = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>bz</title>\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:20vh auto;padding:0 1rem}}</style>\
         <p>{text}"
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\r\n{body}",
        body.len()
    )
}

/// Equal texts, in a time that says nothing about where they differ.
fn equal(one: &str, other: &str) -> bool {
    Digest::of(one.as_bytes()) == Digest::of(other.as_bytes())
}
