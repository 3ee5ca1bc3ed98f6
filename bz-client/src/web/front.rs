//! A port of this machine: takes requests in HTTP/1.1 or HTTP/2, and sends each on a stream of the session.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bz_core::digest::Digest;
use bz_protocol::carrier::{Boxed, Stream};
use bz_protocol::driver::OpenError;
use bz_protocol::hop::{Left, MAX_HEAD, MAX_HEADERS, Road, Roads, Tasks, pass};
use bz_protocol::stream::Why;
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// How long a stream waits to be used again.
const IDLE: Duration = Duration::from_secs(60);
/// How long a browser may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to leave a listener alone that cannot accept: files may have run out.
const BREATH: Duration = Duration::from_millis(100);

/// Opens a stream of the session.
pub type Open = Arc<dyn Fn() -> Boxed<'static, Result<Box<dyn Stream>, OpenError>> + Send + Sync>;

/// What a program at the port could not have.
#[derive(Debug, thiserror::Error)]
pub enum Unserved {
    /// A page of somebody else's, or a program that takes another way here, asked under a name that is not the port's.
    #[error("a request for {0} was turned away: this port answers to its own name alone")]
    Host(String),
    /// No stream for a request.
    #[error("a request was not sent: {0}")]
    Open(OpenError),
    /// The port takes no connections now.
    #[error("no connection can be taken: {0}")]
    Accept(std::io::Error),
}

/// Hears what could not be had.
pub type Watcher = Arc<dyn Fn(Unserved) + Send + Sync>;

/// The way from a port to the streams of a session. Dropping it ends what goes through.
pub struct Front {
    client: Client<Roads<OpenError>, Incoming>,
    names: Vec<String>,
    watcher: Watcher,
    tls: Option<TlsAcceptor>,
    /// Of what a program must show that it knows.
    token: Option<Digest>,
    /// What is said to the agent with each request.
    saying: Option<(HeaderName, HeaderValue)>,
    /// Last: what the client started ends with it.
    tasks: Tasks,
}

type Answer = Response<Either<Full<Bytes>, Watched>>;

impl Front {
    /// A front for this port, which answers to no other name than these hosts with the port's number: a page from
    /// anywhere can have its own name resolved to this machine, and nobody but the person may ask here.
    #[must_use]
    pub fn new(open: Open, port: u16, hosts: &[&str], watcher: Watcher) -> Self {
        let tasks = Tasks::default();
        let roads = Roads::new(move || {
            let stream = open();
            Box::pin(async move { Ok(Road::new(stream.await?, false)) })
        });
        let client = Client::builder(tasks.spawner())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_buf_size(MAX_HEAD)
            .http1_max_headers(MAX_HEADERS)
            .set_host(false)
            .build(roads);
        // Browsers leave out the port that is the scheme's own.
        let plain = hosts.iter().filter(|_| port == 80).map(|host| (*host).to_owned());
        let names = hosts.iter().map(|host| format!("{host}:{port}")).chain(plain).collect();
        Self { client, names, watcher, tls: None, token: None, saying: None, tasks }
    }

    /// The same over TLS, for programs that ask for no less.
    #[must_use]
    pub fn over_tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(TlsAcceptor::from(config));
        self
    }

    /// For programs alone that show this token. It goes no further than here.
    #[must_use]
    pub fn for_holder_of(mut self, token: &str) -> Self {
        self.token = Some(Digest::of(token.as_bytes()));
        self
    }

    /// Says this to the agent with each request, whatever a program says under that name.
    #[must_use]
    pub fn saying(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.saying = Some((name, value));
        self
    }

    /// The hosts by which programs call this machine itself.
    pub const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

    /// Takes the connections that come to a port. Dropping the future ends them.
    pub async fn serve(self, listener: TcpListener) {
        let front = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        connections.spawn(Arc::clone(&front).connection(stream, from));
                    }
                    Err(error) => {
                        (front.watcher)(Unserved::Accept(error));
                        tokio::time::sleep(BREATH).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, from: SocketAddr) {
        stream.set_nodelay(true).unwrap_or_default();
        let cut = Arc::new(AtomicBool::new(false));
        let (spawner, tls) = (self.tasks.spawner(), self.tls.clone());
        let answer = service_fn({
            let cut = Arc::clone(&cut);
            move |request: Request<Incoming>| {
                let (front, cut) = (Arc::clone(&self), Arc::clone(&cut));
                async move { Ok::<_, Infallible>(front.answer(request, &cut).await) }
            }
        });
        let mut server = auto::Builder::new(spawner);
        server.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        server.http1().max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS).auto_date_header(false);
        server.http2().timer(TokioTimer::new()).auto_date_header(false);
        let stream = Cuttable { stream, cut };
        let served = match tls {
            Some(tls) => match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                Ok(Ok(stream)) => server.serve_connection_with_upgrades(TokioIo::new(stream), answer).await,
                Ok(Err(error)) => return tracing::debug!(%from, %error, "a connection has no TLS that fits"),
                Err(_) => return,
            },
            None => server.serve_connection_with_upgrades(TokioIo::new(stream), answer).await,
        };
        if let Err(error) = served {
            tracing::debug!(%from, %error, "a connection ended early");
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, cut: &Arc<AtomicBool>) -> Answer {
        // Only there the end of a connection can be the end of an answer.
        let by_end = request.version() < Version::HTTP_11;
        let left = Left::of(&mut request);
        let passed = match self.own_name(&request) {
            Ok(_) if !self.is_held(request.headers()) => {
                let mut page = page(StatusCode::UNAUTHORIZED, "This port is for whoever opened it.");
                page.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return page;
            }
            Ok(name) => self.prepare(&mut request, &name).map(|()| request),
            Err(host) => {
                (self.watcher)(Unserved::Host(host));
                return page(StatusCode::MISDIRECTED_REQUEST, "This port answers to its own name alone.");
            }
        };
        let Some(request) = passed else {
            return page(StatusCode::BAD_REQUEST, "This port passes on requests for pages.");
        };
        match pass(&self.client, &self.tasks.spawner(), request, left).await {
            Ok(answer) => {
                let cut = by_end.then(|| Arc::clone(cut));
                answer.map(|body| Either::Right(Watched { body, cut }))
            }
            Err(error) => self.failed(&error),
        }
    }

    /// The name that the request calls this port by; what it says instead when that is not one.
    fn own_name(&self, request: &Request<Incoming>) -> Result<String, String> {
        let named = request.headers().get_all(HOST).into_iter().map(|host| String::from_utf8_lossy(host.as_bytes()));
        let mut named: Vec<String> = named.map(|host| host.to_ascii_lowercase()).collect();
        named.extend(request.uri().authority().map(|authority| authority.as_str().to_ascii_lowercase()));
        match named.iter().find(|name| !self.names.contains(name)) {
            Some(other) => Err(other.chars().filter(|character| !character.is_control()).take(100).collect()),
            None => named.pop().ok_or_else(|| "no host".to_owned()),
        }
    }

    /// Whether a program may ask here.
    fn is_held(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let said = headers.get(AUTHORIZATION).and_then(|said| said.as_bytes().strip_prefix(b"Bearer "));
        // Digests, so that how long it takes says nothing of the token.
        said.is_some_and(|said| Digest::of(said) == *token)
    }

    /// As it goes on a stream: the path alone, and the port's name beside it, from which the agent makes the upstream's.
    fn prepare(&self, request: &mut Request<Incoming>, name: &str) -> Option<()> {
        let path: PathAndQuery = request.uri().path_and_query().filter(|path| path.path().starts_with('/'))?.clone();
        let host = HeaderValue::from_str(name).ok().filter(|_| request.method() != Method::CONNECT)?;
        // Where it goes is the road's to know; what stands here groups connections.
        let one = Uri::builder().scheme(Scheme::HTTP).authority(Authority::from_static("session"));
        *request.uri_mut() = one.path_and_query(path).build().ok()?;
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        if self.token.is_some() {
            headers.remove(AUTHORIZATION);
        }
        if let Some((name, value)) = &self.saying {
            headers.insert(name, value.clone());
        }
        Some(())
    }

    fn failed(&self, error: &Error) -> Answer {
        let mut cause: &(dyn std::error::Error + 'static) = error;
        while let Some(next) = cause.source().filter(|_| !cause.is::<OpenError>()) {
            cause = next;
        }
        let Some(opening) = cause.downcast_ref::<OpenError>() else {
            tracing::debug!(%error, "a request was not answered");
            return page(StatusCode::BAD_GATEWAY, "The agent ended the request without an answer.");
        };
        (self.watcher)(Unserved::Open(*opening));
        let status = match opening {
            OpenError::Refused(Why::NotAllowed) => StatusCode::FORBIDDEN,
            OpenError::Refused(_) => StatusCode::BAD_GATEWAY,
            OpenError::Ended => StatusCode::SERVICE_UNAVAILABLE,
        };
        page(status, &format!("The request was not sent: {opening}."))
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("names", &self.names).finish_non_exhaustive()
    }
}

fn page(status: StatusCode, text: &str) -> Answer {
    let mut page = Response::new(Either::Left(Full::from(format!("{text}\n"))));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    page
}

/// An answer's body; where it breaks, so does the connection.
#[derive(Debug)]
struct Watched {
    body: Incoming,
    cut: Option<Arc<AtomicBool>>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(Err(_)), Some(cut)) = (&frame, &self.cut) {
            cut.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A program's connection. One that is cut must not look as if it had ended.
struct Cuttable {
    stream: TcpStream,
    cut: Arc<AtomicBool>,
}

impl Drop for Cuttable {
    fn drop(&mut self) {
        if self.cut.load(Ordering::Relaxed) {
            self.stream.set_zero_linger().unwrap_or_default();
        }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
