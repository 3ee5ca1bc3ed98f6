//! Connections to the upstream, kept while they may be used again: plain, or over TLS that speaks HTTP/2 where it can.

use std::sync::Arc;
use std::time::Duration;

use bz_core::access::destination::{Destination, Host};
use bz_protocol::carrier::{Boxed, Stream};
use bz_protocol::hop::{MAX_HEAD, MAX_HEADERS, Road, Roads, Spawner};
use bz_protocol::stream::Why;
use hyper::body::Body;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioTimer;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

/// How long TLS may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection waits to be used again.
const IDLE: Duration = Duration::from_secs(60);
/// How often an HTTP/2 connection in use is asked whether it lives.
const ALIVE: Duration = Duration::from_secs(30);

/// Opens a connection to where the gate lets it lead.
pub(in crate::backend) type Dial = Arc<dyn Fn() -> Boxed<'static, Result<Box<dyn Stream>, Why>> + Send + Sync>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::backend) enum NotReached {
    #[error(transparent)]
    Dial(#[from] Why),
    #[error("its certificate is not one to trust, or it speaks no TLS: {0}")]
    Tls(std::io::Error),
    #[error("TLS was not set up in time")]
    TlsTimedOut,
    #[error("its name cannot stand in a certificate")]
    Name,
}

/// Where requests go.
#[derive(Clone)]
pub(in crate::backend) struct Upstream {
    dial: Dial,
    tls: Option<(ClientConfig, ServerName<'static>)>,
}

impl Upstream {
    pub(in crate::backend) const fn plain(dial: Dial) -> Self {
        Self { dial, tls: None }
    }

    /// Verified for the destination's host.
    pub(in crate::backend) fn over_tls(
        dial: Dial,
        tls: &ClientConfig,
        destination: &Destination,
    ) -> Result<Self, NotReached> {
        let name = match destination.host() {
            Host::Name(name) => ServerName::try_from(name).map_err(|_| NotReached::Name)?,
            Host::Address(address) => ServerName::from(address),
        };
        Ok(Self { dial, tls: Some((tls.clone(), name)) })
    }

    /// A client that speaks what the upstream likes best of these.
    pub(in crate::backend) fn client<B>(&self, protocols: &[&[u8]], spawner: Spawner) -> Client<Roads<NotReached>, B>
    where
        B: Body<Data: Send> + Send,
    {
        let dial = Arc::clone(&self.dial);
        let tls = self.tls.clone().map(|(mut tls, name)| {
            tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            (Arc::new(tls), name)
        });
        let open = move || -> Boxed<'static, _> { Box::pin(connect(Arc::clone(&dial), tls.clone())) };
        Client::builder(spawner)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_buf_size(MAX_HEAD)
            .http1_max_headers(MAX_HEADERS)
            .http2_max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .http2_keep_alive_interval(ALIVE)
            .http2_adaptive_window(true)
            .build(Roads::new(open))
    }
}

async fn connect(dial: Dial, tls: Option<(Arc<ClientConfig>, ServerName<'static>)>) -> Result<Road, NotReached> {
    let stream = dial().await?;
    let Some((tls, name)) = tls else { return Ok(Road::new(stream, false)) };
    let handshake = tokio_rustls::TlsConnector::from(tls).connect(name, stream);
    let stream = tokio::time::timeout(PATIENCE, handshake).await.map_err(|_| NotReached::TlsTimedOut)?;
    let stream = stream.map_err(NotReached::Tls)?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Road::new(Box::new(stream), h2))
}
