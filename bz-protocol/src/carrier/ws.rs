//! WebSocket over TLS: works wherever HTTPS does.

use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use url::Url;

use crate::carrier::{Boxed, Carrier, Link, LinkError, MuxLink, Pipe, Proxy, Role};
use crate::control::LINK_PATH;
use crate::limits::MUX_MESSAGE;

/// The subprotocol both ends name.
pub(super) const SUBPROTOCOL: &str = "bz.1";
/// Bytes of one WebSocket message: a mux message and its header.
const MAX_MESSAGE: usize = MUX_MESSAGE + 64;

/// Dials a server's WebSocket.
#[derive(Debug, Clone)]
pub struct Ws {
    url: Url,
    tls: Arc<rustls::ClientConfig>,
    proxy: Option<Proxy>,
}

impl Ws {
    /// A carrier to `wss://…` (or `ws://` on loopback), trusting what `tls` trusts.
    #[must_use]
    pub const fn new(url: Url, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { url, tls, proxy: None }
    }

    /// A carrier to the link of the server at `https://…` (or `http://` on loopback).
    #[must_use]
    pub fn to_server(server: &Url, tls: Arc<rustls::ClientConfig>) -> Self {
        let mut url = server.clone();
        let scheme = if url.scheme() == "http" { "ws" } else { "wss" };
        // An address of any other kind stays what it is, and is no WebSocket's when it is dialed.
        url.set_scheme(scheme).unwrap_or_default();
        let path = format!("{}{LINK_PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Self::new(url, tls)
    }

    /// The same carrier through a proxy.
    #[must_use]
    pub fn through(self, proxy: Proxy) -> Self {
        Self { proxy: Some(proxy), ..self }
    }

    async fn connect(&self) -> Result<Arc<dyn Link>, LinkError> {
        let fail = |what: &str, error: &dyn std::fmt::Display| LinkError(format!("{what} {}: {error}", self.url));
        let host = self.url.host_str().ok_or_else(|| fail("no host in", &""))?.trim_matches(['[', ']']);
        let port = self.url.port_or_known_default().ok_or_else(|| fail("no port in", &""))?;
        let tcp = match &self.proxy {
            Some(proxy) => proxy.connect(host, port).await?,
            None => TcpStream::connect((host, port)).await.map_err(|e| fail("cannot reach", &e))?,
        };
        tcp.set_nodelay(true).map_err(|e| fail("cannot use", &e))?;
        if self.url.scheme() == "wss" {
            let name = rustls::pki_types::ServerName::try_from(host.to_owned());
            let name = name.map_err(|e| fail("not a server name in", &e))?;
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
            let stream = connector.connect(name, tcp).await.map_err(|e| fail("no secure connection to", &e))?;
            self.upgrade(stream).await
        } else {
            let loopback = tcp.peer_addr().is_ok_and(|a| a.ip().is_loopback());
            if !loopback || self.proxy.is_some() {
                return Err(fail("refusing an unencrypted connection to", &"only loopback may be unencrypted"));
            }
            self.upgrade(tcp).await
        }
    }

    async fn upgrade<S>(&self, stream: S) -> Result<Arc<dyn Link>, LinkError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let fail = |error: &dyn std::fmt::Display| LinkError(format!("no WebSocket at {}: {error}", self.url));
        let mut request = self.url.as_str().into_client_request().map_err(|e| fail(&e))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
        let (socket, _) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config())).await.map_err(|e| fail(&e))?;
        Ok(Arc::new(MuxLink::new(Role::Dialer, ws_pipe(socket))))
    }
}

impl Carrier for Ws {
    fn name(&self) -> &'static str {
        "ws"
    }

    fn dial(&self) -> Boxed<'_, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(self.connect())
    }
}

/// The bounds of a WebSocket that carries a link.
fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE))
}

/// A WebSocket as a pipe of binary messages; anything else on it ends it.
pub fn ws_pipe<S>(socket: WebSocketStream<S>) -> impl Pipe
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    socket
        .filter_map(|message| {
            std::future::ready(match message {
                Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => None,
                Ok(Message::Text(_)) => Some(Err(std::io::ErrorKind::InvalidData.into())),
                Err(error) => Some(Err(std::io::Error::other(error))),
            })
        })
        .sink_map_err(std::io::Error::other)
        .with(|bytes: Bytes| std::future::ready(Ok::<_, std::io::Error>(Message::Binary(bytes))))
}
