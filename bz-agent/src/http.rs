//! One HTTP exchange over a stream that somebody else dialed. TLS ends here, at the agent; no redirects, bounded answers.

use std::sync::Arc;
use std::time::Duration;

use bz_protocol::carrier::{Boxed, Link, LinkError, Stream};
use bz_protocol::control::Preamble;
use bz_protocol::link::send;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use url::Url;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not a URL that may be asked.
    #[error("{0} may not be asked: https only, http on loopback")]
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
    /// The exchange broke.
    #[error("{url}: {what}")]
    Broken {
        /// Which URL.
        url: String,
        /// What happened.
        what: String,
    },
    /// It took too long.
    #[error("{0} did not answer in time")]
    Late(String),
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

/// Through a proxy, where one leads to the host.
#[cfg(feature = "ws")]
#[derive(Debug, Clone)]
pub struct Proxied(pub bz_protocol::carrier::Proxies);

#[cfg(feature = "ws")]
impl Dial for Proxied {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Boxed<'a, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let named = if host.contains(':') { format!("https://[{host}]/") } else { format!("https://{host}/") };
            let url = Url::parse(&named).map_err(|e| LinkError(e.to_string()))?;
            match self.0.to(&url) {
                Some(proxy) => Ok(Box::new(proxy.connect(host, port).await?) as Box<dyn Stream>),
                None => Direct.dial(host, port).await,
            }
        })
    }
}

/// Through the agent's link, blindly: the server sees ciphertext, and goes to configured issuers alone.
pub(crate) struct ThroughLink(pub(crate) watch::Receiver<Option<Arc<dyn Link>>>);

impl Dial for ThroughLink {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Boxed<'a, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let link = self.0.borrow().clone().ok_or_else(|| LinkError("there is no link to the server".to_owned()))?;
            let mut stream = link.open(bz_protocol::carrier::Class::Interactive).await?;
            send(&mut stream, &Preamble::Issuer { host: host.to_owned(), port }).await?;
            Ok(stream)
        })
    }
}

/// What is asked.
pub(crate) struct Question<'a> {
    pub(crate) url: &'a str,
    /// A JSON body; a GET when there is none.
    pub(crate) body: Option<Vec<u8>>,
    /// The `X-API-KEY`, where one is needed.
    pub(crate) api_key: Option<&'a str>,
    /// Bytes of the answer.
    pub(crate) limit: usize,
}

/// Asks one host at a time.
pub(crate) struct Http {
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

impl Http {
    /// One exchange.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<(StatusCode, Vec<u8>), HttpError> {
        let url = question.url.to_owned();
        tokio::time::timeout(PATIENCE, self.exchange(question)).await.map_err(|_| HttpError::Late(url))?
    }

    async fn exchange(&self, question: Question<'_>) -> Result<(StatusCode, Vec<u8>), HttpError> {
        let bad = || HttpError::Url(question.url.to_owned());
        let broken = |what: String| HttpError::Broken { url: question.url.to_owned(), what };
        let url = Url::parse(question.url).map_err(|_| bad())?;
        let host = url.host_str().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().ok_or_else(bad)?;
        let dialed = self.dial.dial(&host, port).await;
        let stream = dialed.map_err(|error| HttpError::Dial { host: host.clone(), error })?;
        let stream = match url.scheme() {
            "https" => self.secure(&host, stream).await?,
            "http" if is_loopback(&host) => stream,
            _ => return Err(bad()),
        };
        let shake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shake.map_err(|e| broken(e.to_string()))?;
        let request = request(&url, &question).map_err(|e| broken(e.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), question.limit).collect().await;
            Ok((status, body.map_err(|e| broken(e.to_string()))?.to_bytes().to_vec()))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection may end with the answer still in hand, also badly: who has answered whole may hang up.
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => answer.await.map_err(|_: HttpError| broken(error.to_string())),
            },
        }
    }

    async fn secure(&self, host: &str, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, HttpError> {
        let fail = |error| HttpError::Tls { host: host.to_owned(), error };
        let name = rustls::pki_types::ServerName::try_from(host.to_owned());
        let name = name.map_err(|e| fail(std::io::Error::other(e)))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        Ok(Box::new(connector.connect(name, stream).await.map_err(fail)?))
    }
}

fn request(url: &Url, question: &Question<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let method = if question.body.is_some() { "POST" } else { "GET" };
    let mut request = Request::builder()
        .method(method)
        .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header("host", &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header("accept", "application/json")
        .header("connection", "close");
    if question.body.is_some() {
        request = request.header("content-type", "application/json");
    }
    if let Some(key) = question.api_key {
        request = request.header("x-api-key", key);
    }
    request.body(Full::new(Bytes::from(question.body.clone().unwrap_or_default())))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
