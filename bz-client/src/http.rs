//! HTTP as both the REST client and the login use it: one constructor, no redirects, bounded answers.
//!
//! Absent: anything process-wide. The TLS provider is passed explicitly, and only the pinned or chosen roots count.

mod pin;

use std::sync::Arc;
use std::time::Duration;

use bz_core::time::UnixTime;
use bz_protocol::carrier::{Proxies, Proxy};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use crate::server::{Roots, is_loopback, is_safe};

/// The most bytes an answer may have.
pub(crate) const MAX_ANSWER: usize = 1 << 20;
/// The most bytes a file may have, and how long it may take in all.
const MAX_FILE: u64 = 64 << 30;
const FILE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("bz-client/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No TLS could be set up here.
    #[error("TLS cannot be set up on this machine: {0}")]
    Tls(String),
    /// Plain http beyond this machine.
    #[error("{0} would be spoken to without TLS")]
    Plain(String),
    /// No connection, or it broke.
    #[error("{host} cannot be reached: {cause}")]
    Unreachable {
        /// Who.
        host: String,
        /// What the layers below say.
        cause: String,
    },
    /// No answer in time.
    #[error("{0} did not answer within 30 seconds")]
    TimedOut(String),
    /// A larger answer than this program takes.
    #[error("the answer of {0} is larger than 1 MiB")]
    TooLarge(String),
    /// A file that does not end.
    #[error("{0} sends more than any file of its has: the download was given up")]
    Endless(String),
}

/// A client for one set of roots.
#[derive(Debug, Clone)]
pub(crate) struct Http(reqwest::Client);

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: reqwest::StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Http {
    /// A client that trusts these roots, for `base` and what it refers to.
    pub(crate) fn new(roots: &Roots, base: &Url, proxies: &Proxies) -> Result<Self, HttpError> {
        let tls = config(roots, base).map_err(|e| HttpError::Tls(e.to_string()))?;
        let mut builder = reqwest::ClientBuilder::new()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(USER_AGENT)
            // The environment is the program's to read.
            .no_proxy();
        // A proxy is no way to this machine itself.
        if let Some(proxy) = proxies.proxy().filter(|_| !is_loopback(base)) {
            builder = builder.proxy(through(proxy, proxies.except())?);
        }
        builder.build().map(Self).map_err(|e| HttpError::Tls(causes(&e)))
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, request: reqwest::Request) -> Result<Answer, HttpError> {
        self.begin(request).await?.whole().await
    }

    /// Sends a request whose answer may be long.
    pub(crate) async fn open(&self, mut request: reqwest::Request) -> Result<Incoming, HttpError> {
        *request.timeout_mut() = Some(FILE_TIMEOUT);
        let host = request.url().origin().ascii_serialization();
        // The head comes as soon as any other, whatever follows it.
        tokio::time::timeout(TIMEOUT, self.begin(request)).await.map_err(|_| HttpError::TimedOut(host))?
    }

    async fn begin(&self, request: reqwest::Request) -> Result<Incoming, HttpError> {
        let host = request.url().origin().ascii_serialization();
        if !is_safe(request.url()) {
            return Err(HttpError::Plain(host));
        }
        let answer = self.0.execute(request).await.map_err(|error| failed(&host, error))?;
        Ok(Incoming { host, answer, come: 0 })
    }
}

/// An answer as it comes.
#[derive(Debug)]
pub(crate) struct Incoming {
    host: String,
    answer: reqwest::Response,
    come: u64,
}

impl Incoming {
    pub(crate) fn status(&self) -> reqwest::StatusCode {
        self.answer.status()
    }

    /// A header of it, where it is text.
    pub(crate) fn header(&self, name: reqwest::header::HeaderName) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        let next = tokio::time::timeout(TIMEOUT, self.answer.chunk()).await;
        let next = next.map_err(|_| HttpError::TimedOut(self.host.clone()))?;
        let Some(bytes) = next.map_err(|error| failed(&self.host, error))? else { return Ok(None) };
        self.come = self.come.saturating_add(bytes.len() as u64);
        if self.come > MAX_FILE { Err(HttpError::Endless(self.host.clone())) } else { Ok(Some(bytes.into())) }
    }

    /// All of it, when it is small.
    pub(crate) async fn whole(mut self) -> Result<Answer, HttpError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.next().await? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(HttpError::TooLarge(self.host));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status: self.answer.status(), headers: std::mem::take(self.answer.headers_mut()), body })
    }
}

fn failed(host: &str, error: reqwest::Error) -> HttpError {
    if error.is_timeout() {
        return HttpError::TimedOut(host.to_owned());
    }
    // The URL may carry a code; the host is told already.
    HttpError::Unreachable { host: host.to_owned(), cause: causes(&error.without_url()) }
}

impl Answer {
    /// The answering machine's clock.
    pub(crate) fn date(&self) -> Option<UnixTime> {
        let text = self.headers.get(reqwest::header::DATE)?.to_str().ok()?;
        let stamp = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        u64::try_from(stamp.as_millisecond()).ok().map(UnixTime::from_millis)
    }
}

fn through(proxy: &Proxy, except: &str) -> Result<reqwest::Proxy, HttpError> {
    let made = reqwest::Proxy::https(proxy.address().to_string()).map_err(|e| HttpError::Tls(causes(&e)))?;
    let made = match proxy.authorization() {
        Some(authorization) => made.custom_http_auth(authorization.clone()),
        None => made,
    };
    Ok(made.no_proxy(reqwest::NoProxy::from_string(except)))
}

/// The certificates in a PEM text, those before the first that is broken.
pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map_while(Result::ok).collect()
}

/// The built-in ways to a server, trusting what its REST calls trust.
#[cfg(all(feature = "ws", feature = "quic"))]
pub(crate) fn choose(
    server: &crate::server::Server,
    choice: bz_protocol::link::Choice,
) -> Result<bz_protocol::link::Ways, HttpError> {
    Ok(bz_protocol::link::Ways::to_server(server.url(), &link_tls(server)?, choice, server.proxies()))
}

/// The ways that a client takes when nobody says otherwise: all that are built in.
#[cfg(all(feature = "ws", feature = "quic"))]
pub(crate) fn ways(server: &crate::server::Server) -> Result<Option<bz_protocol::link::Ways>, HttpError> {
    choose(server, bz_protocol::link::Choice::Auto).map(Some)
}

/// WebSocket.
#[cfg(all(feature = "ws", not(feature = "quic")))]
pub(crate) fn ways(server: &crate::server::Server) -> Result<Option<bz_protocol::link::Ways>, HttpError> {
    let ws = bz_protocol::carrier::Ws::to_server(server.url(), link_tls(server)?);
    let proxy = server.proxies().to(server.url()).cloned();
    Ok(Some(
        Arc::new(match proxy {
            Some(proxy) => ws.through(proxy),
            None => ws,
        })
        .into(),
    ))
}

/// QUIC.
#[cfg(all(feature = "quic", not(feature = "ws")))]
pub(crate) fn ways(server: &crate::server::Server) -> Result<Option<bz_protocol::link::Ways>, HttpError> {
    let quic = bz_protocol::carrier::Quic::new(server.url().clone(), link_tls(server)?);
    Ok(Some(Arc::new(quic).into()))
}

/// None: the program brings its own.
#[cfg(not(any(feature = "ws", feature = "quic")))]
#[expect(clippy::unnecessary_wraps, reason = "with a carrier built in it can fail")]
pub(crate) const fn ways(_: &crate::server::Server) -> Result<Option<bz_protocol::link::Ways>, HttpError> {
    Ok(None)
}

#[cfg(any(feature = "ws", feature = "quic"))]
fn link_tls(server: &crate::server::Server) -> Result<Arc<ClientConfig>, HttpError> {
    config(server.roots(), server.url()).map(Arc::new).map_err(|e| HttpError::Tls(e.to_string()))
}

fn config(roots: &Roots, base: &Url) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    // Without TLS no roots are needed, and a small container may have none.
    if base.scheme() == "http" {
        return Ok(versions.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
    }
    Ok(versions.dangerous().with_custom_certificate_verifier(verifier(roots, provider)?).with_no_client_auth())
}

fn verifier(
    roots: &Roots,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::client::danger::ServerCertVerifier>, rustls::Error> {
    use rustls_platform_verifier::Verifier;
    Ok(match roots {
        Roots::Platform => Arc::new(Verifier::new(provider)?),
        Roots::Ca(pem) => Arc::new(Verifier::new_with_extra_roots(certificates(pem), provider)?),
        Roots::Pins(pins) => Arc::new(pin::PinVerifier::new(pins.clone(), provider)),
    })
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.join(": ")
}
