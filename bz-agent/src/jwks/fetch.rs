//! Two GETs over a stream: the issuer's discovery document, and the keys it names. TLS ends here, at the agent.

use std::sync::Arc;
use std::time::Duration;

use bz_core::oidc::jwks::{Jwks, JwksError, MAX_JWKS};
use bz_protocol::carrier::{Boxed, LinkError, Stream};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use crate::jwks::JwksSource;

/// How long both GETs may take together.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why an issuer's keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The issuer's keys are pinned, and there are none for this one.
    #[error("no keys are pinned for this issuer")]
    NotPinned,
    /// Not a URL that may be fetched.
    #[error("{0} may not be fetched: https only, http on loopback")]
    Url(String),
    /// No stream to the host.
    #[error("cannot reach {host}: {error}")]
    Dial {
        /// Which host.
        host: String,
        /// Why.
        error: LinkError,
    },
    /// No secure connection.
    #[error("no secure connection to {host}: {error}")]
    Tls {
        /// Which host.
        host: String,
        /// Why.
        error: std::io::Error,
    },
    /// The answer is no document.
    #[error("{url} answered {what}")]
    Answer {
        /// Which URL.
        url: String,
        /// What.
        what: String,
    },
    /// Another issuer's document.
    #[error("the discovery document names another issuer")]
    OtherIssuer,
    /// Not a key set.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// It took too long.
    #[error("the issuer did not answer in time")]
    Late,
}

/// A way to a host: straight, or through the agent's own link.
pub trait Dial: Send + Sync {
    /// A stream to `host:port`.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Boxed<'a, Result<Box<dyn Stream>, LinkError>>;
}

/// Straight to the host.
#[derive(Debug, Clone, Copy)]
pub struct Direct;

impl Dial for Direct {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Boxed<'a, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await.map_err(|e| LinkError(e.to_string()))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// Fetches keys by discovery.
pub struct Fetch {
    dial: Arc<dyn Dial>,
    tls: Arc<rustls::ClientConfig>,
}

impl Fetch {
    /// Fetches over `dial`, trusting what `tls` trusts.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { dial, tls }
    }

    async fn keys(&self, issuer: &str) -> Result<Jwks, FetchError> {
        let discovery = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = self.get(&discovery).await?;
        let odd = |what: &str| FetchError::Answer { url: discovery.clone(), what: what.to_owned() };
        let document: serde_json::Value = serde_json::from_slice(&document).map_err(|_| odd("no JSON"))?;
        let text = |name: &str| document.get(name).and_then(serde_json::Value::as_str);
        if text("issuer") != Some(issuer) {
            return Err(FetchError::OtherIssuer);
        }
        let keys = text("jwks_uri").ok_or_else(|| odd("no jwks_uri"))?;
        Ok(Jwks::parse(&self.get(keys).await?)?)
    }

    /// One GET. No redirects: an issuer's keys are where it says they are.
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let parsed = Url::parse(url).map_err(|_| FetchError::Url(url.to_owned()))?;
        let host =
            parsed.host_str().ok_or_else(|| FetchError::Url(url.to_owned()))?.trim_matches(['[', ']']).to_owned();
        let port = parsed.port_or_known_default().ok_or_else(|| FetchError::Url(url.to_owned()))?;
        let stream =
            self.dial.dial(&host, port).await.map_err(|error| FetchError::Dial { host: host.clone(), error })?;
        let stream = match parsed.scheme() {
            "https" => self.secure(&host, stream).await?,
            "http" if is_loopback(&host) => stream,
            _ => return Err(FetchError::Url(url.to_owned())),
        };
        let odd = |what: String| FetchError::Answer { url: url.to_owned(), what };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| odd(e.to_string()))?;
        let request = Request::get(&parsed[url::Position::BeforePath..])
            .header("host", &parsed[url::Position::BeforeHost..url::Position::AfterPort])
            .header("accept", "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|e| odd(e.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| odd(e.to_string()))?;
            if response.status() != StatusCode::OK {
                return Err(odd(response.status().to_string()));
            }
            let body = Limited::new(response.into_body(), MAX_JWKS).collect().await.map_err(|e| odd(e.to_string()))?;
            Ok(body.to_bytes().to_vec())
        };
        tokio::select! {
            answer = answer => answer,
            ended = connection => Err(odd(ended.err().map_or_else(|| "nothing".to_owned(), |e| e.to_string()))),
        }
    }

    async fn secure(&self, host: &str, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, FetchError> {
        let fail = |error| FetchError::Tls { host: host.to_owned(), error };
        let name =
            rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|e| fail(std::io::Error::other(e)))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        Ok(Box::new(connector.connect(name, stream).await.map_err(fail)?))
    }
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fetch")
    }
}

impl JwksSource for Fetch {
    fn fetch<'a>(&'a self, issuer: &'a str) -> Boxed<'a, Result<Jwks, FetchError>> {
        Box::pin(async move { tokio::time::timeout(PATIENCE, self.keys(issuer)).await.map_err(|_| FetchError::Late)? })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
