//! Carriers: how bytes get from here to there.
//!
//! A [`Carrier`] dials, a [`Link`] opens and accepts ordered byte streams. Both are small so that a stranger can bring
//! another: nothing of the protocol's security rests on them, they are trusted for delivery and nothing else.

mod memory;
mod pipe;
#[cfg(feature = "proxy")]
mod proxy;
#[cfg(feature = "quic")]
mod quic;
#[cfg(feature = "ws")]
mod ws;

use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

pub use crate::carrier::memory::{MemoryCarrier, memory_pair};
pub use crate::carrier::pipe::{MuxLink, Pipe};
#[cfg(feature = "proxy")]
pub use crate::carrier::proxy::{Proxies, Proxy, ProxyError};
#[cfg(feature = "quic")]
pub use crate::carrier::quic::{Quic, QuicCaller, QuicListener};
#[cfg(feature = "ws")]
pub use crate::carrier::ws::{Ws, ws_pipe};
pub use crate::mux::{Class, Role};

/// A future that can be named in a trait.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An ordered stream of bytes, both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A link that is gone, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the link is gone: {0}")]
pub struct LinkError(pub String);

/// An authenticated connection that opens and accepts streams.
pub trait Link: Send + Sync {
    /// Opens a stream. The other end may learn of it with its first bytes only: who opens it speaks first.
    fn open(&self, class: Class) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>>;

    /// The next stream the other end opened. Cancel-safe.
    fn accept(&self) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>>;

    /// Ends the link.
    fn close(&self);
}

/// A way to dial a server.
pub trait Carrier: Send + Sync {
    /// Its name, for logs and choice.
    fn name(&self) -> &'static str;

    /// Dials once.
    fn dial(&self) -> Boxed<'_, Result<Arc<dyn Link>, LinkError>>;
}

/// Reads one length-prefixed message; `None` at the end of the stream.
///
/// # Errors
/// When the stream breaks, or announces more than `limit` bytes.
pub async fn read_message<S>(stream: &mut S, limit: usize) -> std::io::Result<Option<Vec<u8>>>
where
    S: AsyncRead + Unpin + ?Sized,
{
    let mut length = [0; 4];
    let mut read = 0;
    while read < length.len() {
        let rest = length.get_mut(read..).unwrap_or_default();
        match stream.read(rest).await? {
            0 if read == 0 => return Ok(None),
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => read = read.saturating_add(n),
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut message = Vec::with_capacity(length);
    // Exactly the capacity, and no byte of it written twice.
    let read = AsyncReadExt::take(&mut *stream, length as u64).read_to_end(&mut message).await?;
    if read < length { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(message)) }
}

/// Writes one length-prefixed message, without flushing.
///
/// # Errors
/// When the stream breaks.
pub async fn write_message<S>(stream: &mut S, message: &[u8]) -> std::io::Result<()>
where
    S: AsyncWrite + Unpin + ?Sized,
{
    let length = u32::try_from(message.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let (length, mut stream) = (length.to_be_bytes(), stream);
    if stream.is_write_vectored() {
        AsyncWriteExt::write_all_buf(&mut stream, &mut bytes::Buf::chain(length.as_slice(), message)).await
    } else {
        stream.write_all(&[length.as_slice(), message].concat()).await
    }
}

/// A stream whose first bytes were read already, and are read again.
#[derive(Debug)]
pub struct Prefixed {
    prefix: std::io::Cursor<Vec<u8>>,
    stream: Box<dyn Stream>,
}

impl Prefixed {
    /// Puts a length-prefixed message back before the stream.
    #[must_use]
    pub fn message(message: &[u8], stream: Box<dyn Stream>) -> Self {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        Self { prefix: std::io::Cursor::new([length.as_slice(), message].concat()), stream }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut this.prefix).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut this.stream).poll_read(cx, buffer)
        }
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for dyn Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Carrier({})", self.name())
    }
}
