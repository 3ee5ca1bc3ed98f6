//! QUIC: one connection per link and one QUIC stream per stream, so that a lost packet delays its own stream alone.
//!
//! QUIC tells the other end of a stream with its first bytes: who opens one speaks first, as everything of this
//! protocol does. Absent: datagrams, one-way streams, and early data, which could be replayed.

mod stream;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, IdleTimeout, TransportConfig, VarInt};
use url::Url;

use crate::carrier::{Boxed, Carrier, Class, Link, LinkError, Stream};
use crate::limits::{LINK_DEAD, MAX_LINK_STREAMS, MUX_CREDIT};
use stream::QuicStream;

/// What both ends name in TLS.
const ALPN: &[u8] = b"bz/1";
/// Often enough for two losses before [`LINK_DEAD`], and for most address translators.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Bytes of a link that arrived and were not read. Streams that nobody reads may fill it and then hold up the others, so
/// it has room for 256 of them.
const LINK_WINDOW: u32 = 64 << 20;
/// How long the other end may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried, at once.
const ADDRESSES: usize = 4;

/// Dials a server's QUIC port.
#[derive(Debug, Clone)]
pub struct Quic {
    url: Url,
    tls: Arc<rustls::ClientConfig>,
}

impl Quic {
    /// A carrier to the host and port of `https://…`, trusting what `tls` trusts.
    #[must_use]
    pub const fn new(url: Url, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { url, tls }
    }

    async fn connect(&self) -> Result<Arc<dyn Link>, LinkError> {
        let fail = |what: &str, error: &dyn std::fmt::Display| LinkError(format!("{what} {}: {error}", self.url));
        if self.url.scheme() != "https" {
            return Err(fail("QUIC is always encrypted, which is not", &"not an https address"));
        }
        let host = self.url.host_str().ok_or_else(|| fail("no host in", &""))?.trim_matches(['[', ']']);
        let port = self.url.port_or_known_default().ok_or_else(|| fail("no port in", &""))?;
        let config = self.config().map_err(|e| fail("no secure connection to", &e))?;
        let addresses = tokio::net::lookup_host((host, port)).await.map_err(|e| fail("cannot find", &e))?;
        // An address without a listener may never say so: the first to answer wins.
        let dials: Vec<_> = addresses.take(ADDRESSES).map(|a| Box::pin(dial(a, host, config.clone()))).collect();
        if dials.is_empty() {
            return Err(fail("cannot find", &"it has no address"));
        }
        let (link, _) = futures::future::select_ok(dials).await.map_err(|e| fail("cannot reach", &e))?;
        Ok(Arc::new(link))
    }

    fn config(&self) -> Result<quinn::ClientConfig, String> {
        let mut tls = rustls::ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.enable_early_data = false;
        let tls = QuicClientConfig::try_from(tls).map_err(|e| e.to_string())?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport().map_err(|e| e.to_string())?));
        Ok(config)
    }
}

impl Carrier for Quic {
    fn name(&self) -> &'static str {
        "quic"
    }

    fn dial(&self) -> Boxed<'_, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(self.connect())
    }
}

/// Each link has a socket of its own, which goes with it: nothing of a network that was left behind is kept.
async fn dial(address: SocketAddr, host: &str, config: quinn::ClientConfig) -> Result<QuicLink, String> {
    let any: SocketAddr =
        if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let endpoint = Endpoint::client(any).map_err(|e| e.to_string())?;
    let connecting = endpoint.connect_with(config, address, host).map_err(|e| e.to_string())?;
    let connection = tokio::time::timeout(PATIENCE, connecting).await.map_err(|_| "no answer".to_owned())?;
    Ok(QuicLink { connection: connection.map_err(|e| e.to_string())? })
}

/// Where links arrive. Dropping it takes no more; links that are there go on.
#[derive(Debug)]
pub struct QuicListener {
    endpoint: Endpoint,
    local: SocketAddr,
}

impl QuicListener {
    /// Listens under the certificate of `tls`.
    ///
    /// # Errors
    /// When the address cannot be had, or `tls` does not speak TLS 1.3.
    pub fn bind(address: SocketAddr, mut tls: rustls::ServerConfig) -> std::io::Result<Self> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.max_early_data_size = 0;
        let tls = QuicServerConfig::try_from(tls).map_err(std::io::Error::other)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(Arc::new(transport().map_err(std::io::Error::other)?));
        let endpoint = Endpoint::server(config, address)?;
        let local = endpoint.local_addr()?;
        Ok(Self { endpoint, local })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next that calls; `None` when the socket is gone. Cancel-safe.
    pub async fn accept(&self) -> Option<QuicCaller> {
        self.endpoint.accept().await.map(QuicCaller)
    }
}

/// One that calls, before its handshake. Dropping it refuses it.
#[derive(Debug)]
pub struct QuicCaller(quinn::Incoming);

impl QuicCaller {
    /// From where, as its packets say.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// When it fails, or takes longer than ten seconds.
    pub async fn link(self) -> Result<Arc<dyn Link>, LinkError> {
        let connection = tokio::time::timeout(PATIENCE, async { self.0.await }).await;
        let connection = connection.map_err(|_| LinkError("the handshake took too long".to_owned()))?;
        Ok(Arc::new(QuicLink { connection: connection.map_err(|e| gone(&e))? }))
    }
}

/// A link over a QUIC connection. Dropping it ends the link.
#[derive(Debug)]
struct QuicLink {
    connection: Connection,
}

impl Drop for QuicLink {
    fn drop(&mut self) {
        self.close();
    }
}

impl Link for QuicLink {
    fn open(&self, class: Class) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let (send, receive) = self.connection.open_bi().await.map_err(|e| gone(&e))?;
            let priority = match class {
                Class::Interactive => 1,
                Class::Bulk => 0,
            };
            // It was opened just now: there is nothing else to say of it.
            send.set_priority(priority).map_err(|e| LinkError(e.to_string()))?;
            Ok(Box::new(QuicStream::new(send, receive)) as Box<dyn Stream>)
        })
    }

    fn accept(&self) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let (send, receive) = self.connection.accept_bi().await.map_err(|e| gone(&e))?;
            Ok(Box::new(QuicStream::new(send, receive)) as Box<dyn Stream>)
        })
    }

    fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"closed");
    }
}

fn gone(error: &quinn::ConnectionError) -> LinkError {
    LinkError(error.to_string())
}

/// The bounds of a connection, the same at both ends.
fn transport() -> Result<TransportConfig, quinn::VarIntBoundsExceeded> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::try_from(MAX_LINK_STREAMS as u64)?)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::try_from(MUX_CREDIT as u64)?)
        .receive_window(VarInt::from_u32(LINK_WINDOW))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEPALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(LINK_DEAD)?));
    Ok(transport)
}
