//! Where the links of both ends arrive: a WebSocket or QUIC listener on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bz_protocol::carrier::{Carrier, Link, MuxLink, Quic, QuicListener, Role, Ws, ws_pipe};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::world::Way;

pub(super) struct Listener {
    pub(super) carrier: Arc<dyn Carrier>,
    pub(super) links: mpsc::Receiver<Arc<dyn Link>>,
    /// Ends the listener when it is dropped.
    pub(super) task: JoinSet<()>,
}

impl Listener {
    pub(super) async fn bind(way: Way) -> Result<Self> {
        let (sender, links) = mpsc::channel(8);
        let mut task = JoinSet::new();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (server, client) = certified()?;
        let carrier: Arc<dyn Carrier> = if way == Way::Quic {
            let listener = QuicListener::bind(address, server)?;
            let url = format!("https://localhost:{}", listener.local_addr().port()).parse()?;
            task.spawn(quic(listener, sender));
            Arc::new(Quic::new(url, Arc::new(client)))
        } else {
            let listener = TcpListener::bind(address).await?;
            let url = format!("ws://127.0.0.1:{}/", listener.local_addr()?.port()).parse()?;
            task.spawn(ws(listener, sender));
            Arc::new(Ws::new(url, Arc::new(client)))
        };
        Ok(Self { carrier, links, task })
    }
}

async fn quic(listener: QuicListener, links: mpsc::Sender<Arc<dyn Link>>) {
    while let Some(caller) = listener.accept().await {
        let Ok(link) = caller.link().await else { continue };
        if links.send(link).await.is_err() {
            return;
        }
    }
}

async fn ws(listener: TcpListener, links: mpsc::Sender<Arc<dyn Link>>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let Ok(socket) = tokio_tungstenite::accept_hdr_async(tcp, protocol).await else { continue };
        let link: Arc<dyn Link> = Arc::new(MuxLink::new(Role::Listener, ws_pipe(socket)));
        if links.send(link).await.is_err() {
            return;
        }
    }
}

#[expect(clippy::result_large_err, clippy::unnecessary_wraps, reason = "the library's own type of a callback")]
fn protocol(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("bz.1"));
    Ok(response)
}

/// A server for `localhost`, and a client that trusts it alone.
fn certified() -> Result<(rustls::ServerConfig, rustls::ClientConfig)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let client = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let server = server.context("a certificate for loopback")?;
    Ok((server, client.with_root_certificates(roots).with_no_client_auth()))
}
