//! A running server: listeners, TLS, and an end that lets running calls finish.

mod quic;
pub mod reload;
mod sinks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::acme;
use crate::api::{self, Peer};
use crate::app::{App, AppError, Seams};
use crate::auth::key::write_uses;
use crate::config::{Config, Tls};
use crate::jobs;
use crate::relay::Relay;
use crate::server::sinks::Sinks;
use crate::tls::{self, TlsError};

/// The most connections at once; later ones wait.
const MOST: usize = 10_000;
/// The most bytes of a request's headers over HTTP/2.
const MOST_HEADERS: u32 = 32 << 10;
/// How long a peer may take for the TLS handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its parts.
    #[error(transparent)]
    App(#[from] AppError),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its address.
    #[error("cannot listen on {address}: {error}. End the program that has it, or set another address")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What happened.
        error: std::io::Error,
    },
}

/// A running server. Dropping it ends it at once; [`Server::shutdown`] lets running calls finish.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    local: SocketAddr,
    metrics: Option<SocketAddr>,
    quic: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
    // Ends what is left when the server is dropped.
    _end: tokio_util::sync::DropGuard,
    end: CancellationToken,
    relay: Option<Arc<Relay>>,
    sinks: Sinks,
}

impl Server {
    /// Starts a server of the REST API.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, seams: Seams) -> Result<Self, StartError> {
        let app = Arc::new(App::open(config, seams).await?);
        let router = api::router(Arc::clone(&app));
        Self::serve(app, router).await
    }

    /// Starts a server of the REST API and of links.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_with(config: Config, seams: Seams, relay: Arc<Relay>) -> Result<Self, StartError> {
        let app = Arc::new(App::open(config, seams).await?);
        relay.attach(&app);
        let links = relay.router().layer(map_response(api::headers::secure));
        let router = api::router(Arc::clone(&app)).merge(links);
        let mut server = Self::serve(app, router).await?;
        if let Some(listener) = quic::listen(&server.app, server.local)? {
            server.quic = Some(listener.local_addr());
            let (stop, end) = (server.stop.clone(), server.end.clone());
            let door = quic::QuicDoor { relay: Arc::clone(&relay), stop, end, tasks: server.tasks.clone() };
            server.tasks.spawn(door.accept(listener));
        }
        server.relay = Some(relay);
        Ok(server)
    }

    /// Serves a router that was made over these parts: the API, and what is merged beside it.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn serve(app: Arc<App>, router: Router) -> Result<Self, StartError> {
        let acceptor = match &app.certificates {
            None => None,
            Some(certificates) => Some(TlsAcceptor::from(Arc::new(tls::server(Arc::clone(certificates))?))),
        };
        let (listener, local) = listen(app.config().listen).await?;
        let (stop, end, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let door = Door {
            router,
            acceptor,
            stop: stop.clone(),
            end: end.clone(),
            tasks: tasks.clone(),
            places: Arc::new(Semaphore::new(MOST)),
        };
        let metrics = match app.config().metrics_listen {
            None => None,
            Some(address) => {
                let (listener, local) = listen(address).await?;
                let door = Door { router: metrics(Arc::clone(&app)), acceptor: None, ..door.clone() };
                tasks.spawn(door.accept(listener));
                Some(local)
            }
        };
        tasks.spawn(door.accept(listener));
        tasks.spawn(keep_time(Arc::clone(&app), (stop.clone(), end.clone())));
        tasks.spawn(keep_groups(Arc::clone(&app), (stop.clone(), end.clone())));
        if matches!(app.config().tls, Tls::Acme(_)) {
            tasks.spawn(acme::keep(Arc::clone(&app), stop.clone()));
        }
        tracing::info!(%local, tls = app.certificates.is_some(), "listening");
        let guard = end.clone().drop_guard();
        let sinks = Sinks::new(&end, &tasks);
        sinks.start(&app);
        Ok(Self { app, local, metrics, quic: None, stop, tasks, _end: guard, end, relay: None, sinks })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Where metrics are served, if anywhere.
    #[must_use]
    pub const fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where links over QUIC arrive, if they can.
    #[must_use]
    pub const fn quic_addr(&self) -> Option<SocketAddr> {
        self.quic
    }

    /// The parts.
    #[must_use]
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Takes no more connections, lets running calls finish, and ends what is left after the configured time.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.app.stopping.cancel();
        self.tasks.close();
        if let Some(relay) = &self.relay {
            relay.shutdown().await;
        }
        self.app.records.shutdown().await;
        self.sinks.stop();
        self.app.calls.close();
        if let Err(error) = write_uses(&self.app).await {
            tracing::warn!(%error, "when keys were last used is not written down");
        }
        let drain = Duration::from_secs(self.app.config().drain_seconds.into());
        let drained = async {
            self.tasks.wait().await;
            self.app.calls.wait().await;
        };
        if tokio::time::timeout(drain, drained).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "ending connections that did not finish");
            self.end.cancel();
            self.tasks.wait().await;
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

async fn keep_time(app: Arc<App>, (stop, end): (CancellationToken, CancellationToken)) {
    // By its own clock, so that a policy ends at its minute also where a test moves hours.
    let mut next = app.now().mono.after(jobs::EVERY);
    loop {
        let now = app.now().mono;
        tokio::select! {
            () = stop.cancelled() => return,
            () = end.cancelled() => return,
            () = app.clock().wait(now.after(jobs::EVERY_END)) => {}
        }
        let done = if app.now().mono >= next {
            next = app.now().mono.after(jobs::EVERY);
            jobs::tick(&app).await
        } else {
            jobs::end_policies(&app).await
        };
        if let Err(error) = done {
            app.metrics.job_failures.inc();
            tracing::warn!(%error, "a job failed and is tried again");
        }
    }
}

async fn keep_groups(app: Arc<App>, (stop, end): (CancellationToken, CancellationToken)) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = end.cancelled() => return,
            done = jobs::groups(&app) => if let Err(error) = done {
                app.metrics.job_failures.inc();
                tracing::warn!(%error, "asking directories failed and is tried again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = end.cancelled() => return,
            () = tokio::time::sleep(jobs::EVERY) => {}
        }
    }
}

fn metrics(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(api::ready))
        .with_state(app)
}

async fn metrics_text(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    app.metrics.look(&app).await;
    match app.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, kind)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// One listener's way in.
#[derive(Clone)]
struct Door {
    router: Router,
    acceptor: Option<TlsAcceptor>,
    stop: CancellationToken,
    end: CancellationToken,
    tasks: TaskTracker,
    places: Arc<Semaphore>,
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        loop {
            let place = tokio::select! {
                () = self.stop.cancelled() => return,
                place = Arc::clone(&self.places).acquire_owned() => place,
            };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.end.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let door = self.clone();
                    self.tasks.spawn(async move {
                        tokio::select! {
                            () = door.end.cancelled() => {}
                            () = door.welcome(stream, peer) => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: the next accept would fail at once, too.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn welcome(&self, stream: TcpStream, peer: SocketAddr) {
        // Keystrokes are small and urgent.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "no TCP_NODELAY");
        }
        match &self.acceptor {
            None => self.talk(stream, peer).await,
            Some(acceptor) => match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                // An authority that looked for a proof has seen it now.
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(acme::ALPN) => {}
                Ok(Ok(stream)) => self.talk(stream, peer).await,
                Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            },
        }
    }

    async fn talk(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let router = self.router.clone();
        let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            router.clone().oneshot(request.map(axum::body::Body::new))
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_headers(64);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .max_concurrent_streams(100)
            .max_header_list_size(MOST_HEADERS);
        let talk = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::pin!(talk);
        let talked = tokio::select! {
            talked = talk.as_mut() => talked,
            () = self.stop.cancelled() => {
                talk.as_mut().graceful_shutdown();
                talk.await
            }
        };
        if let Err(error) = talked {
            tracing::debug!(%error, %peer, "a connection ended badly");
        }
    }
}
