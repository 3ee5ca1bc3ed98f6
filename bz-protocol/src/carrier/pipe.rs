//! Streams over any pipe of messages, by [`Mux`].
//!
//! One task moves messages; streams read and write the mux under a lock that is never held across an await, as quinn
//! does with its own machine: handing every byte to a task by channel would copy it once more and wake twice.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::{Sink, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use crate::carrier::{Boxed, Class, Link, LinkError, Role, Stream};
use crate::mux::{Mux, MuxEvent, Read};

/// Streams opened and not yet accepted.
const BACKLOG: usize = 256;
/// Messages put on the pipe between two flushes.
const BATCH: usize = 32;

/// A pipe that carries whole messages in order.
pub trait Pipe:
    futures::Stream<Item = std::io::Result<Bytes>> + Sink<Bytes, Error = std::io::Error> + Send + Unpin + 'static
{
}

impl<T> Pipe for T where
    T: futures::Stream<Item = std::io::Result<Bytes>> + Sink<Bytes, Error = std::io::Error> + Send + Unpin + 'static
{
}

/// A link over a pipe. Dropping it ends the link.
#[derive(Debug)]
pub struct MuxLink {
    shared: Arc<Shared>,
    accept: tokio::sync::Mutex<mpsc::Receiver<u32>>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something to send.
    work: Notify,
}

#[derive(Debug)]
struct State {
    mux: Mux,
    readers: BTreeMap<u32, Waker>,
    writers: BTreeMap<u32, Waker>,
    /// Messages that were given to the pipe, and how many of them the pipe has flushed.
    given: u64,
    flushed: u64,
    /// Why the link is gone.
    gone: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held left a consistent mux: it has no step that panics halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, why: String) {
        let mut state = self.lock();
        state.gone.get_or_insert(why);
        let State { readers, writers, .. } = &mut *state;
        for (_, waker) in std::mem::take(readers).into_iter().chain(std::mem::take(writers)) {
            waker.wake();
        }
    }
}

impl MuxLink {
    /// Starts the task that moves messages.
    #[must_use]
    pub fn new(role: Role, pipe: impl Pipe) -> Self {
        let state = State {
            mux: Mux::new(role),
            readers: BTreeMap::new(),
            writers: BTreeMap::new(),
            given: 0,
            flushed: 0,
            gone: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Notify::new() });
        let (opened, accept) = mpsc::channel(BACKLOG);
        let run = run(Arc::clone(&shared), opened, pipe);
        let task = tokio::spawn(run).abort_handle();
        Self { shared, accept: tokio::sync::Mutex::new(accept), task }
    }

    fn gone(&self) -> LinkError {
        LinkError(self.shared.lock().gone.clone().unwrap_or_else(|| "closed".to_owned()))
    }
}

impl Drop for MuxLink {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.end("closed".to_owned());
    }
}

impl Link for MuxLink {
    fn open(&self, class: Class) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let id = {
                let mut state = self.shared.lock();
                if let Some(why) = &state.gone {
                    return Err(LinkError(why.clone()));
                }
                state.mux.open(class).map_err(|e| LinkError(e.to_string()))?
            };
            self.shared.work.notify_one();
            Ok(MuxStream::boxed(id, &self.shared))
        })
    }

    fn accept(&self) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let id = self.accept.lock().await.recv().await.ok_or_else(|| self.gone())?;
            Ok(MuxStream::boxed(id, &self.shared))
        })
    }

    fn close(&self) {
        self.task.abort();
        self.shared.end("closed".to_owned());
    }
}

/// Both ways go on by themselves: two ends that wait until the other one reads would wait for ever.
async fn run(shared: Arc<Shared>, opened: mpsc::Sender<u32>, pipe: impl Pipe) {
    let (mut sink, messages) = pipe.split();
    // What came together is taken together, and wakes its readers once.
    let mut messages = messages.ready_chunks(BATCH);
    let inward = async {
        loop {
            let received = match messages.next().await {
                Some(came) => receive(&shared, &opened, came),
                None => Err("the other end closed it".to_owned()),
            };
            if let Err(why) = received {
                break why;
            }
            // Credit, or what credit lets go.
            shared.work.notify_one();
        }
    };
    let outward = async {
        loop {
            if let Err(error) = send(&shared, &mut sink).await {
                break error.to_string();
            }
            shared.work.notified().await;
        }
    };
    let why = tokio::select! {
        why = inward => why,
        why = outward => why,
    };
    tracing::debug!(%why, "link ended");
    shared.end(why);
}

fn receive(shared: &Shared, opened: &mpsc::Sender<u32>, came: Vec<std::io::Result<Bytes>>) -> Result<(), String> {
    let mut state = shared.lock();
    let received = came.into_iter().try_for_each(|message| {
        let message = message.map_err(|error| error.to_string())?;
        state.mux.receive(&message).map_err(|e| e.to_string())
    });
    // What came before a fault was said all the same.
    wake(&mut state, opened).and(received)
}

/// Puts everything that may be sent on the pipe.
async fn send<S>(shared: &Shared, pipe: &mut S) -> std::io::Result<()>
where
    S: Sink<Bytes, Error = std::io::Error> + Unpin,
{
    let mut batch = 0;
    loop {
        let message = {
            let mut state = shared.lock();
            let message = state.mux.poll();
            state.given = state.given.wrapping_add(u64::from(message.is_some()));
            wake_writers(&mut state);
            message
        };
        let Some(message) = message else { break };
        pipe.feed(message.into()).await?;
        batch += 1;
        if batch == BATCH {
            flush(shared, pipe).await?;
            batch = 0;
        }
    }
    flush(shared, pipe).await
}

/// Only then has a stream been flushed: a program that ends takes what its pipe still holds with it.
async fn flush<S>(shared: &Shared, pipe: &mut S) -> std::io::Result<()>
where
    S: Sink<Bytes, Error = std::io::Error> + Unpin + ?Sized,
{
    pipe.flush().await?;
    let mut state = shared.lock();
    if state.flushed != state.given {
        state.flushed = state.given;
        std::mem::take(&mut state.writers).into_values().for_each(Waker::wake);
    }
    Ok(())
}

fn wake(state: &mut State, opened: &mpsc::Sender<u32>) -> Result<(), String> {
    while let Some(event) = state.mux.event() {
        match event {
            MuxEvent::Opened(id, _) => {
                opened.try_send(id).map_err(|_| "the other end opens streams faster than they are taken".to_owned())?;
            }
            MuxEvent::Readable(id) => state.readers.remove(&id).into_iter().for_each(Waker::wake),
            MuxEvent::Writable(id) => state.writers.remove(&id).into_iter().for_each(Waker::wake),
        }
    }
    Ok(())
}

/// Sending makes no events but `Writable`.
fn wake_writers(state: &mut State) {
    while let Some(MuxEvent::Writable(id) | MuxEvent::Readable(id) | MuxEvent::Opened(id, _)) = state.mux.event() {
        state.writers.remove(&id).into_iter().for_each(Waker::wake);
    }
}

/// One stream of a [`MuxLink`].
struct MuxStream {
    id: u32,
    shared: Arc<Shared>,
    /// How much the pipe must have flushed until this stream is; known once its last byte was given to the pipe.
    flushed_at: Option<u64>,
    finished: bool,
}

impl MuxStream {
    fn boxed(id: u32, shared: &Arc<Shared>) -> Box<dyn Stream> {
        Box::new(Self { id, shared: Arc::clone(shared), flushed_at: None, finished: false })
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        self.shared.lock().mux.drop_stream(self.id);
        self.shared.work.notify_one();
    }
}

fn broken(why: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, why.to_owned())
}

impl AsyncRead for MuxStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let mut state = self.shared.lock();
        match state.mux.read(self.id, buffer.remaining(), |slice| buffer.put_slice(slice)) {
            Read::Bytes(_) => {
                let urgent = state.mux.is_urgent();
                drop(state);
                if urgent {
                    self.shared.work.notify_one();
                }
                Poll::Ready(Ok(()))
            }
            Read::End => Poll::Ready(Ok(())),
            Read::Wait => {
                if let Some(why) = &state.gone {
                    return Poll::Ready(Err(broken(why)));
                }
                state.readers.insert(self.id, cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.get_mut().write(cx, &[IoSlice::new(bytes)])
    }

    /// What is written together leaves together.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.get_mut().write(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let mut state = this.shared.lock();
        if state.mux.is_flushed(this.id) {
            let at = *this.flushed_at.get_or_insert(state.given);
            if state.flushed >= at {
                return Poll::Ready(Ok(()));
            }
        }
        if let Some(why) = &state.gone {
            return Poll::Ready(Err(broken(why)));
        }
        state.writers.insert(this.id, cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if !self.finished {
            self.finished = true;
            self.flushed_at = None;
            self.shared.lock().mux.finish(self.id);
            self.shared.work.notify_one();
        }
        self.poll_flush(cx)
    }
}

impl MuxStream {
    fn write(&mut self, cx: &Context<'_>, parts: &[IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        self.flushed_at = None;
        let mut state = self.shared.lock();
        if let Some(why) = &state.gone {
            return Poll::Ready(Err(broken(why)));
        }
        let mut written = 0_usize;
        for part in parts {
            match state.mux.write(self.id, part) {
                None => return Poll::Ready(Err(broken("the other end reads no more"))),
                Some(n) => {
                    written = written.saturating_add(n);
                    if n < part.len() {
                        break;
                    }
                }
            }
        }
        if written == 0 && parts.iter().any(|part| !part.is_empty()) {
            state.writers.insert(self.id, cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.shared.work.notify_one();
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc::{self, Sender};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A pipe on which nothing comes, and whose flush waits until what was put on it has been taken.
    struct OneWay(Sender<Bytes>);

    impl futures::Stream for OneWay {
        type Item = std::io::Result<Bytes>;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Pending
        }
    }

    impl Sink<Bytes> for OneWay {
        type Error = std::io::Error;

        fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            self.0.poll_ready_unpin(cx).map_err(std::io::Error::other)
        }

        fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> std::io::Result<()> {
            self.0.start_send_unpin(message).map_err(std::io::Error::other)
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            self.poll_ready(cx)
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Who flushed and then ends the process loses nothing.
    #[tokio::test]
    async fn a_stream_is_flushed_when_its_pipe_is() {
        let (pipe, mut taken) = mpsc::channel(0);
        let link = MuxLink::new(Role::Dialer, OneWay(pipe));
        let mut stream = link.open(Class::Interactive).await.unwrap();
        stream.write_all(b"last words").await.unwrap();
        let flushed = tokio::spawn(async move { stream.flush().await.map(|()| stream) });
        loop {
            // On one thread, whatever can go on without this test has gone on by then.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(!flushed.is_finished(), "flushed before the pipe was");
            let message = taken.next().await.unwrap();
            if message.windows(10).any(|window| window == b"last words") {
                break;
            }
        }
        flushed.await.unwrap().unwrap();
    }
}
