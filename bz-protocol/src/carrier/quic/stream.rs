//! The two halves of a QUIC stream as one.
//!
//! Dropping it finishes what was written and stops the other end's writing: quinn's halves do so by themselves.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// When the other end has everything, or wants nothing more.
type Delivered = Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

pub(super) struct QuicStream {
    send: SendStream,
    receive: RecvStream,
    ending: Option<Delivered>,
}

impl QuicStream {
    pub(super) const fn new(send: SendStream, receive: RecvStream) -> Self {
        Self { send, receive, ending: None }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.get_mut().receive), cx, buffer)
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().send), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.get_mut().send), cx)
    }

    /// Ready when everything arrived: closing the link right after a mere end would throw away what is under way.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let ending = this.ending.get_or_insert_with(|| {
            // An end that was known before, or a reader that stopped, is what `stopped` tells.
            this.send.finish().unwrap_or_default();
            let stopped = this.send.stopped();
            Box::pin(async move { stopped.await.map(|_| ()).map_err(std::io::Error::from) })
        });
        let ended = std::task::ready!(ending.as_mut().poll(cx));
        this.ending = Some(Box::pin(std::future::ready(Ok(()))));
        Poll::Ready(ended)
    }
}
