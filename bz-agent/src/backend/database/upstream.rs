//! The connection to the database itself, with or without TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bz_protocol::stream::Why;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How TLS is spoken to the database.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tls {
    /// To a host of this name or address.
    pub(super) fn new(config: &Arc<ClientConfig>, host: String) -> Option<Self> {
        let name = ServerName::try_from(host).ok()?;
        Some(Self { connector: TlsConnector::from(Arc::clone(config)), name })
    }

    /// # Errors
    /// Why it is not the database that was asked for, or no TLS.
    pub(super) async fn over(&self, mut there: Held) -> Result<Held, Why> {
        let stream = std::mem::replace(&mut there.stream, Stream::Gone);
        let Stream::Plain(tcp) = stream else { return Err(Why::Unavailable) };
        match self.connector.connect(self.name.clone(), tcp).await {
            Ok(stream) => Ok(Held { stream: Stream::Tls(Box::new(stream)), whole: false }),
            Err(error) => {
                tracing::info!(%error, host = ?self.name, "no TLS to the database");
                Err(why(&error))
            }
        }
    }
}

fn why(error: &io::Error) -> Why {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(wrong)) = inner else { return Why::Tls };
    let is = |kinds: &[CertificateError]| kinds.iter().any(|kind| kind == wrong);
    // An authority of the same name that is another one signs badly.
    if is(&[CertificateError::UnknownIssuer, CertificateError::BadSignature]) {
        Why::UnknownAuthority
    } else if is(&[CertificateError::Expired]) || matches!(wrong, CertificateError::ExpiredContext { .. }) {
        Why::CertificateExpired
    } else if is(&[CertificateError::NotValidForName])
        || matches!(wrong, CertificateError::NotValidForNameContext { .. })
    {
        Why::WrongName
    } else {
        Why::Tls
    }
}

/// A connection that is reset when it is dropped before both directions ended in order.
pub(super) struct Held {
    stream: Stream,
    pub(super) whole: bool,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Handed on.
    Gone,
}

impl Held {
    pub(super) const fn new(tcp: TcpStream) -> Self {
        Self { stream: Stream::Plain(tcp), whole: false }
    }

    pub(super) const fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let tcp = match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::Gone => return,
        };
        if !self.whole {
            // One that is gone already needs no reset.
            tcp.set_zero_linger().unwrap_or_default();
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}
