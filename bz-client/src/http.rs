//! HTTP as both the REST client and the login use it: one constructor, no redirects, bounded answers.
//!
//! Absent: anything process-wide. The TLS provider is passed explicitly, and only the pinned or chosen roots count.

mod pin;

use std::sync::Arc;
use std::time::Duration;

use bz_core::time::UnixTime;
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
    pub(crate) fn new(roots: &Roots, base: &Url) -> Result<Self, HttpError> {
        let tls = config(roots, base).map_err(|e| HttpError::Tls(e.to_string()))?;
        let mut builder = reqwest::ClientBuilder::new()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(USER_AGENT);
        // A proxy of the environment is no way to this machine itself.
        if is_loopback(base) {
            builder = builder.no_proxy();
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

/// The certificates in a PEM text, those before the first that is broken.
pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map_while(Result::ok).collect()
}

/// The link's way to a server: WebSocket, trusting what its REST calls trust.
#[cfg(feature = "ws")]
pub(crate) fn websocket(server: &crate::server::Server) -> Result<bz_protocol::carrier::Ws, HttpError> {
    let mut url = server.url().clone();
    let tls = config(server.roots(), &url).map_err(|e| HttpError::Tls(e.to_string()))?;
    let scheme = if url.scheme() == "http" { "ws" } else { "wss" };
    url.set_scheme(scheme).map_err(|()| HttpError::Plain(url.to_string()))?;
    url.set_path(bz_protocol::control::LINK_PATH);
    Ok(bz_protocol::carrier::Ws::new(url, Arc::new(tls)))
}

/// The link's way over QUIC to the UDP port of the same number, trusting what its REST calls trust.
#[cfg(feature = "quic")]
pub(crate) fn quic(server: &crate::server::Server) -> Result<bz_protocol::carrier::Quic, HttpError> {
    let tls = config(server.roots(), server.url()).map_err(|e| HttpError::Tls(e.to_string()))?;
    Ok(bz_protocol::carrier::Quic::new(server.url().clone(), Arc::new(tls)))
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
