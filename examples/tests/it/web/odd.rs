//! A web server of ours that does what nginx does not: takes over connections, never ends, breaks off, and tells what a
//! browser did.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::{any, get, post};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// It runs until this is dropped.
pub(super) struct Odd {
    pub(super) at: SocketAddr,
    /// What browsers say that they saw.
    pub(super) seen: mpsc::UnboundedReceiver<serde_json::Value>,
    /// Breaks off what waits for it.
    pub(super) breaks: Arc<Notify>,
    _serving: JoinSet<()>,
}

#[derive(Clone)]
struct Told {
    says: mpsc::UnboundedSender<serde_json::Value>,
    breaks: Arc<Notify>,
}

impl Odd {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (says, seen) = mpsc::unbounded_channel();
        let breaks = Arc::new(Notify::new());
        let router = Router::new()
            .route("/ws", any(socket))
            .route("/events", get(events))
            .route("/broken", get(broken))
            .route("/hash", post(hash))
            .route("/origin", post(async |headers: HeaderMap| header(&headers, "origin")))
            .route("/set", get(set))
            .route("/show", get(async |headers: HeaderMap| header(&headers, "cookie")))
            .route("/page", get(async || Html(include_str!("page.html"))))
            .route("/seen", post(told))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Told { says, breaks: Arc::clone(&breaks) });
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { at, seen, breaks, _serving: serving }
    }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn socket(headers: HeaderMap, upgrade: WebSocketUpgrade) -> impl IntoResponse {
    let origin = header(&headers, "origin");
    upgrade.on_upgrade(|mut socket: WebSocket| async move {
        socket.send(origin.into()).await.unwrap();
        while let Some(Ok(message)) = socket.recv().await {
            // Who leaves has left.
            socket.send(message).await.unwrap_or_default();
        }
    })
}

/// One event, and no end.
async fn events() -> impl IntoResponse {
    let first = futures::stream::once(async { Ok::<_, Infallible>(Event::default().data("first")) });
    Sse::new(first.chain(futures::stream::pending()))
}

async fn broken(State(Told { breaks, .. }): State<Told>) -> Body {
    let half = futures::stream::once(async { Ok(Bytes::from_static(b"half")) });
    let end = futures::stream::once(async move {
        breaks.notified().await;
        Err(std::io::Error::other("broken off"))
    });
    Body::from_stream(half.chain(end))
}

async fn hash(body: Body) -> String {
    let mut stream = body.into_data_stream();
    let mut hash = Sha256::new();
    while let Some(piece) = stream.next().await {
        hash.update(piece.unwrap());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn set() -> impl IntoResponse {
    let cookies = ["__Host-sid=one; Secure; Path=/; HttpOnly", "s=two; Secure; SameSite=None; Path=/"];
    cookies.into_iter().map(|cookie| ("set-cookie", cookie)).fold(HeaderMap::new(), |mut headers, (name, value)| {
        headers.append(name, value.parse().unwrap());
        headers
    })
}

async fn told(State(Told { says, .. }): State<Told>, body: Bytes) {
    // A browser may outlive its test.
    says.send(serde_json::from_slice(&body).unwrap()).unwrap_or_default();
}
