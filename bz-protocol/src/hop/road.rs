//! Streams as connections of hyper's client, which keeps those that may be used again.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;

use crate::carrier::{Boxed, Stream};

/// A stream that requests go out on.
pub struct Road {
    io: TokioIo<Box<dyn Stream>>,
    h2: bool,
}

impl Road {
    /// One on which HTTP/1.1 is spoken, or with `h2` HTTP/2.
    #[must_use]
    pub fn new(stream: Box<dyn Stream>, h2: bool) -> Self {
        Self { io: TokioIo::new(stream), h2 }
    }
}

/// Opens roads, whatever they are asked for: all requests go to the same place.
pub struct Roads<E> {
    open: Arc<dyn Fn() -> Boxed<'static, Result<Road, E>> + Send + Sync>,
}

impl<E> Roads<E> {
    /// Roads that are opened so.
    pub fn new(open: impl Fn() -> Boxed<'static, Result<Road, E>> + Send + Sync + 'static) -> Self {
        Self { open: Arc::new(open) }
    }
}

impl<E> Clone for Roads<E> {
    fn clone(&self) -> Self {
        Self { open: Arc::clone(&self.open) }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> tower_service::Service<Uri> for Roads<E> {
    type Response = Road;
    type Error = E;
    type Future = Boxed<'static, Result<Road, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        (self.open)()
    }
}

impl Connection for Road {
    fn connected(&self) -> Connected {
        if self.h2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Road {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Road {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl fmt::Debug for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Road").field("h2", &self.h2).finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Roads<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roads").finish_non_exhaustive()
    }
}
