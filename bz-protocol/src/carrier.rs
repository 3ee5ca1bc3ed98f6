//! Carriers: how bytes get from here to there.
//!
//! A [`Carrier`] dials, a [`Link`] opens and accepts ordered byte streams. Both are small so that a stranger can bring
//! another: nothing of the protocol's security rests on them, they are trusted for delivery and nothing else.

mod memory;
mod pipe;
#[cfg(feature = "ws")]
mod ws;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub use crate::carrier::memory::{MemoryCarrier, memory_pair};
pub use crate::carrier::pipe::{MuxLink, Pipe};
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
    /// Opens a stream.
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
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
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
    stream.write_all(&[length.to_be_bytes().as_slice(), message].concat()).await
}
