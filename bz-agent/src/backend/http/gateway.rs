//! One session's requests: each comes in on a stream of the session and goes out to the upstream.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bz_protocol::hop::{Left, MAX_HEAD, MAX_HEADERS, Roads, Tasks, pass};
use bz_protocol::stream::Why;
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::http::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::upstream::{NotReached, Upstream};

/// How long an upstream may think about an answer, from the last it heard of the request.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is changed in requests and answers.
pub(in crate::backend) trait Manner: Send + Sync + 'static {
    /// What an answer's changes need to know of its request.
    type Asked: Send;

    /// Makes a request the upstream's.
    fn request(&self, headers: &mut HeaderMap) -> Result<Self::Asked, Unusable>;

    /// Makes an answer the client's.
    fn answer(&self, asked: &Self::Asked, headers: &mut HeaderMap);

    /// What the upstream is called in a request.
    fn place(&self) -> (Scheme, Authority);
}

/// A request that cannot be passed on, in words for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::backend) enum Unusable {
    /// It is not one to pass on.
    #[error("This is no request to pass on: {0}.")]
    Request(&'static str),
    /// The agent lacks something for it.
    #[cfg(feature = "kube")]
    #[error("The target passes nothing on now: {0}.")]
    Agent(&'static str),
}

impl Unusable {
    const fn status(self) -> StatusCode {
        match self {
            Self::Request(_) => StatusCode::BAD_REQUEST,
            #[cfg(feature = "kube")]
            Self::Agent(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The way to one upstream.
pub(in crate::backend) struct Gateway<M> {
    manner: M,
    usual: Client<Roads<NotReached>, Going>,
    /// For what takes over a connection, which HTTP/2 has no use for.
    changing: Client<Roads<NotReached>, Going>,
    patience: Duration,
    /// Last: what the clients started ends with them.
    tasks: Tasks,
}

impl<M: Manner> Gateway<M> {
    pub(in crate::backend) fn new(manner: M, upstream: &Upstream) -> Self {
        let tasks = Tasks::default();
        Self {
            manner,
            usual: upstream.client(&[b"h2", b"http/1.1"], tasks.spawner()),
            changing: upstream.client(&[b"http/1.1"], tasks.spawner()),
            patience: PATIENCE,
            tasks,
        }
    }

    #[cfg(test)]
    pub(in crate::backend) const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Answers the requests that come on a stream, until its end.
    pub(in crate::backend) async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) {
        let answer = service_fn(move |request| {
            let gateway = Arc::clone(&self);
            async move { Ok::<_, Infallible>(gateway.answer(request).await) }
        });
        let served = http1::Builder::new()
            .auto_date_header(false)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a stream of requests ended early");
        }
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Either<Full<Bytes>, Incoming>> {
        let left = Left::of(&mut request);
        let prepared = self.manner.request(request.headers_mut());
        let (asked, uri) = match prepared.and_then(|asked| Ok((asked, self.uri(&request)?))) {
            Ok(prepared) => prepared,
            Err(wrong) => return page(wrong.status(), &wrong.to_string()),
        };
        *request.uri_mut() = uri;
        let (request, heard) = Going::wrap(request);
        let client = if left.is_upgrade() { &self.changing } else { &self.usual };
        let spawner = self.tasks.spawner();
        let passed = pass(client, &spawner, request, left);
        match heard.within(self.patience, passed).await {
            Some(Ok(mut answer)) => {
                self.manner.answer(&asked, answer.headers_mut());
                answer.map(Either::Right)
            }
            Some(Err(error)) => self.failed(&error),
            None => {
                let text = format!("did not answer within {} seconds", self.patience.as_secs());
                page(StatusCode::GATEWAY_TIMEOUT, &format!("{} {text}.", self.name()))
            }
        }
    }

    fn uri(&self, request: &Request<Incoming>) -> Result<Uri, Unusable> {
        let path = request.uri().path_and_query().filter(|path| path.path().starts_with('/'));
        let (Some(path), true) = (path, request.method() != Method::CONNECT) else {
            return Err(Unusable::Request("it asks for no page of a server"));
        };
        let (scheme, authority) = self.manner.place();
        let built = Uri::builder().scheme(scheme).authority(authority).path_and_query(path.clone()).build();
        built.map_err(|_| Unusable::Request("its address is none"))
    }

    fn name(&self) -> String {
        let (scheme, authority) = self.manner.place();
        format!("{scheme}://{authority}")
    }

    fn failed(&self, error: &Error) -> Response<Either<Full<Bytes>, Incoming>> {
        let (name, cause) = (self.name(), root(error));
        tracing::warn!(upstream = %name, error = %causes(error), "a request was not answered");
        match cause.downcast_ref::<NotReached>() {
            Some(NotReached::Dial(Why::TimedOut) | NotReached::TlsTimedOut) => {
                page(StatusCode::GATEWAY_TIMEOUT, &format!("The target does not reach {name} in time."))
            }
            Some(NotReached::Dial(why)) if *why == Why::NotAllowed => {
                page(StatusCode::FORBIDDEN, &format!("The target does not lead to {name}: {why}."))
            }
            Some(NotReached::Dial(why)) => {
                page(StatusCode::BAD_GATEWAY, &format!("The target does not reach {name}: {why}."))
            }
            Some(why @ (NotReached::Tls(_) | NotReached::Name)) => {
                page(StatusCode::BAD_GATEWAY, &format!("The target has no secure connection to {name}: {why}."))
            }
            None => page(StatusCode::BAD_GATEWAY, &format!("{name} ended the connection, or answered with no HTTP.")),
        }
    }
}

/// An answer of the agent's own.
fn page(status: StatusCode, text: &str) -> Response<Either<Full<Bytes>, Incoming>> {
    let mut page = Response::new(Either::Left(Full::from(format!("{text}\n"))));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    page
}

/// The innermost cause that is ours to explain, or the last.
fn root<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut root = error;
    while let Some(cause) = root.source().filter(|_| !root.is::<NotReached>()) {
        root = cause;
    }
    root
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A request's body on its way, and when something of it was last taken.
pub(in crate::backend) struct Going {
    body: Incoming,
    heard: Heard,
}

/// When the upstream last heard of a request.
#[derive(Debug, Clone)]
struct Heard(Arc<Mutex<Instant>>);

impl Going {
    fn wrap(request: Request<Incoming>) -> (Request<Self>, Heard) {
        let heard = Heard(Arc::new(Mutex::new(Instant::now())));
        (request.map(|body| Self { body, heard: heard.clone() }), heard)
    }
}

impl Heard {
    fn last(&self) -> Instant {
        // One value, whole at any time.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// What becomes of the work; `None` when nothing of the request was taken for so long, and there is no answer.
    async fn within<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let last = self.last();
            tokio::select! {
                done = &mut work => return Some(done),
                () = tokio::time::sleep_until(last.checked_add(patience).unwrap_or(last)) => {}
            }
            if self.last() == last {
                return None;
            }
        }
    }
}

impl Body for Going {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.heard.now();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
