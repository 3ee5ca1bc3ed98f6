//! Streams opened later, as the application has them: each reads and writes by itself, and none waits for another.
//!
//! As in [`crate::carrier::MuxLink`], streams and loop meet under a lock that is never held across an await. What a
//! reader has not taken is bounded by the stream's credit, what a writer wrote ahead by [`AHEAD`].

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bz_core::time::Now;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::driver::Machine;
use crate::mux::move_front;
use crate::stream::{Answer, StreamRequest, Why};

/// Bytes that a writer may be ahead of the machine.
const AHEAD: usize = 128 << 10;

/// Why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The agent does not open it.
    #[error(transparent)]
    Refused(#[from] Why),
    /// The session ended first.
    #[error("the session has ended")]
    Ended,
}

/// The streams of one session, to open and to accept.
#[derive(Debug, Clone)]
pub struct Streams {
    shared: Arc<Shared>,
}

/// The loop's side of a session's streams.
#[derive(Debug)]
pub struct StreamHub {
    shared: Arc<Shared>,
    accepted: mpsc::UnboundedSender<Opening>,
}

/// Openings of the other end. Who drops it refuses them all.
#[derive(Debug)]
pub struct Openings {
    openings: mpsc::UnboundedReceiver<Opening>,
}

/// A stream that the other end wants; dropping it refuses it.
#[derive(Debug)]
pub struct Opening {
    request: StreamRequest,
    stream: u32,
    answer: Option<Answer>,
    shared: Arc<Shared>,
}

/// Streams, for the application and for the loop.
#[must_use]
pub fn streams() -> (Streams, Openings, StreamHub) {
    let shared = Arc::new(Shared::default());
    // Bounded by how many streams go on at once.
    let (accepted, openings) = mpsc::unbounded_channel();
    (Streams { shared: Arc::clone(&shared) }, Openings { openings }, StreamHub { shared, accepted })
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something for the loop to do.
    work: Notify,
}

#[derive(Debug, Default)]
struct State {
    asked: VecDeque<(StreamRequest, oneshot::Sender<Result<u32, OpenError>>)>,
    answers: VecDeque<(u32, Answer)>,
    streams: BTreeMap<u32, One>,
    ended: bool,
}

#[derive(Debug, Default)]
struct One {
    incoming: VecDeque<Vec<u8>>,
    /// Bytes of the first of them that were read.
    read: usize,
    /// Bytes that were read, or thrown away, and not told yet.
    taken: usize,
    ended: bool,
    reset: bool,
    outgoing: VecDeque<u8>,
    finish: Finish,
    /// The application has let go of it.
    dropped: bool,
    opening: Option<oneshot::Sender<Result<u32, OpenError>>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How far the end of what this side writes is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Finish {
    #[default]
    No,
    Asked,
    Said,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is inside is consistent after each statement that changes it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn throw_away(&mut self) {
        let unread: usize = self.incoming.iter().map(Vec::len).sum();
        self.taken = self.taken.saturating_add(unread.saturating_sub(self.read));
        self.read = 0;
        self.incoming.clear();
    }

    /// One turn: a frame at most, so that no stream waits for another's all.
    fn pump<M: Machine>(&mut self, stream: u32, machine: &mut M, now: Now) -> bool {
        let mut moved = false;
        if self.taken > 0 {
            let taken = std::mem::take(&mut self.taken);
            moved |= tell(machine, now, StreamAction::Consumed(stream, taken));
        }
        if self.reset {
            return moved;
        }
        let room = machine.writable(stream).min(self.outgoing.len());
        let left = self.dropped && self.finish == Finish::No;
        if room > 0 && !left {
            let mut bytes = Vec::with_capacity(room);
            move_front(&mut self.outgoing, room, |slice| bytes.extend_from_slice(slice));
            moved |= tell(machine, now, StreamAction::Bytes(stream, bytes));
            self.writer.take().into_iter().for_each(Waker::wake);
        }
        if self.outgoing.is_empty() && self.finish == Finish::Asked {
            self.finish = Finish::Said;
            moved |= tell(machine, now, StreamAction::End(stream));
            self.writer.take().into_iter().for_each(Waker::wake);
        }
        // Let go without an end, or without waiting for the other end's.
        if left || (self.dropped && self.finish == Finish::Said && !self.ended) {
            self.reset = true;
            self.outgoing.clear();
            self.throw_away();
            moved |= tell(machine, now, StreamAction::Reset(stream));
        }
        moved
    }

    /// Whether the machine and the application are both done with it.
    fn is_over(&self) -> bool {
        self.dropped && self.taken == 0 && (self.reset || (self.ended && self.finish == Finish::Said))
    }
}

fn tell<M: Machine>(machine: &mut M, now: Now, action: StreamAction) -> bool {
    M::stream_action(action).is_some_and(|action| machine.act(now, action).is_ok())
}

impl Streams {
    /// Opens a stream; ready when the other end has answered.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        &self,
        request: StreamRequest,
    ) -> impl Future<Output = Result<SessionStream, OpenError>> + Send + 'static {
        let (sender, answered) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            if !state.ended {
                state.asked.push_back((request, sender));
            }
        }
        self.shared.work.notify_one();
        let shared = Arc::clone(&self.shared);
        async move {
            let stream = answered.await.unwrap_or(Err(OpenError::Ended))?;
            Ok(SessionStream { stream, shared })
        }
    }
}

impl Openings {
    /// The next stream that the other end wants; `None` when the session has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Opening> {
        self.openings.recv().await
    }
}

impl Opening {
    /// What it is for.
    #[must_use]
    pub const fn request(&self) -> &StreamRequest {
        &self.request
    }

    /// Opens it; `at` is where it leads.
    #[must_use]
    pub fn accept(mut self, at: String) -> SessionStream {
        self.answer = Some(Answer::Opened { at });
        SessionStream { stream: self.stream, shared: Arc::clone(&self.shared) }
    }

    /// Refuses it.
    pub fn refuse(mut self, why: Why) {
        self.answer = Some(Answer::Refused(why));
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let answer = self.answer.take().unwrap_or(Answer::Refused(Why::Unavailable));
        let mut state = self.shared.lock();
        if let Some(one) = state.streams.get_mut(&self.stream)
            && matches!(answer, Answer::Refused(_))
        {
            one.dropped = true;
            one.throw_away();
            // The machine says it together with the refusal.
            one.reset = true;
        }
        state.answers.push_back((self.stream, answer));
        drop(state);
        self.shared.work.notify_one();
    }
}

/// What a machine tells of streams that were opened.
#[derive(Debug)]
pub enum StreamEvent {
    /// The other end wants one.
    Opened(u32, StreamRequest),
    /// The other end answered.
    Answered(u32, Answer),
    /// Bytes.
    Bytes(u32, Vec<u8>),
    /// The end of what the other end writes.
    Ended(u32),
    /// The end of all of it.
    Reset(u32),
}

/// What a machine is told of them.
#[derive(Debug)]
pub enum StreamAction {
    /// Opens one.
    Open(u32, StreamRequest),
    /// Answers an opening.
    Answer(u32, Answer),
    /// Sends bytes.
    Bytes(u32, Vec<u8>),
    /// Ends what is written.
    End(u32),
    /// Ends all of it.
    Reset(u32),
    /// Bytes were taken.
    Consumed(u32, usize),
}

impl StreamHub {
    /// Ready when there may be something to do.
    pub(super) async fn work(&self) {
        self.shared.work.notified().await;
    }

    pub(super) fn take(&self, event: StreamEvent) {
        let mut state = self.shared.lock();
        match event {
            StreamEvent::Opened(stream, request) => {
                state.streams.insert(stream, One::default());
                drop(state);
                let opening = Opening { request, stream, answer: None, shared: Arc::clone(&self.shared) };
                if let Err(mpsc::error::SendError(opening)) = self.accepted.send(opening) {
                    opening.refuse(Why::NotAllowed);
                }
            }
            StreamEvent::Answered(stream, answer) => {
                let Some(one) = state.streams.get_mut(&stream) else { return };
                let told = match answer {
                    Answer::Opened { .. } => Ok(stream),
                    Answer::Refused(why) => Err(OpenError::Refused(why)),
                };
                let refused = told.is_err();
                let wanted = one.opening.take().is_some_and(|opening| opening.send(told).is_ok());
                // Nobody has it: it goes as if it had been dropped.
                one.dropped = refused || !wanted;
                self.shared.work.notify_one();
            }
            StreamEvent::Bytes(stream, bytes) => {
                let Some(one) = state.streams.get_mut(&stream) else { return };
                one.incoming.push_back(bytes);
                if one.dropped {
                    one.throw_away();
                    self.shared.work.notify_one();
                }
                one.reader.take().into_iter().for_each(Waker::wake);
            }
            StreamEvent::Ended(stream) => {
                let Some(one) = state.streams.get_mut(&stream) else { return };
                one.ended = true;
                one.reader.take().into_iter().for_each(Waker::wake);
                self.shared.work.notify_one();
            }
            StreamEvent::Reset(stream) => {
                let Some(one) = state.streams.get_mut(&stream) else { return };
                one.reset = true;
                one.throw_away();
                one.outgoing.clear();
                one.wake();
                self.shared.work.notify_one();
            }
        }
    }

    /// Tells the machine what the application did; `true` when there was something.
    pub(super) fn pump<M: Machine>(&self, machine: &mut M, now: Now) -> bool {
        let mut state = self.shared.lock();
        let mut moved = false;
        while let Some(stream) = machine.next_stream().filter(|_| !state.asked.is_empty()) {
            let Some((request, opening)) = state.asked.pop_front() else { break };
            if !opening.is_closed() && tell(machine, now, StreamAction::Open(stream, request)) {
                state.streams.insert(stream, One { opening: Some(opening), ..One::default() });
                moved = true;
            }
        }
        for (stream, answer) in std::mem::take(&mut state.answers) {
            // Its client may have given it up.
            moved |= tell(machine, now, StreamAction::Answer(stream, answer));
        }
        for (stream, one) in &mut state.streams {
            moved |= one.pump(*stream, machine, now);
        }
        state.streams.retain(|_, one| !one.is_over());
        moved
    }
}

impl Drop for StreamHub {
    /// The session has ended: what came can still be read, and nothing else is done.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.asked.clear();
        state.streams.values_mut().for_each(|one| {
            one.opening = None;
            one.wake();
        });
    }
}

/// One stream, in both directions. Shutting it down ends what is written; dropping it before both directions have ended
/// resets it.
#[derive(Debug)]
pub struct SessionStream {
    stream: u32,
    shared: Arc<Shared>,
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        if let Some(one) = self.shared.lock().streams.get_mut(&self.stream) {
            one.dropped = true;
            one.throw_away();
        }
        self.shared.work.notify_one();
    }
}

fn broken(kind: std::io::ErrorKind, why: &str) -> std::io::Error {
    std::io::Error::new(kind, why.to_owned())
}

impl AsyncRead for SessionStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let mut state = self.shared.lock();
        let session_ended = state.ended;
        let Some(one) = state.streams.get_mut(&self.stream) else { return Poll::Ready(Ok(())) };
        let before = buffer.remaining();
        while let Some(first) = one.incoming.front()
            && buffer.remaining() > 0
        {
            let rest = first.get(one.read..).unwrap_or_default();
            let bytes = rest.get(..rest.len().min(buffer.remaining())).unwrap_or_default();
            buffer.put_slice(bytes);
            one.read = one.read.saturating_add(bytes.len());
            if one.read >= first.len() {
                one.read = 0;
                one.incoming.pop_front();
            }
        }
        let read = before.saturating_sub(buffer.remaining());
        if read > 0 || before == 0 {
            one.taken = one.taken.saturating_add(read);
            drop(state);
            self.shared.work.notify_one();
            return Poll::Ready(Ok(()));
        }
        if one.ended {
            return Poll::Ready(Ok(()));
        }
        if one.reset {
            return Poll::Ready(Err(broken(std::io::ErrorKind::ConnectionReset, "the other end reset the stream")));
        }
        if session_ended {
            return Poll::Ready(Err(broken(std::io::ErrorKind::ConnectionAborted, "the session has ended")));
        }
        one.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl SessionStream {
    /// The stream while it can be written to.
    fn writing<T>(&self, cx: &Context<'_>, step: impl FnOnce(&mut One) -> Option<T>) -> Poll<std::io::Result<T>> {
        let mut state = self.shared.lock();
        let session_ended = state.ended;
        let one = state.streams.get_mut(&self.stream);
        let Some(one) = one.filter(|one| !one.reset && !session_ended) else {
            return Poll::Ready(Err(broken(std::io::ErrorKind::BrokenPipe, "the stream is over")));
        };
        match step(one) {
            Some(done) => Poll::Ready(Ok(done)),
            None => {
                one.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = ready!(self.writing(cx, |one| {
            if one.finish != Finish::No {
                return Some(None);
            }
            let taken = bytes.get(..AHEAD.saturating_sub(one.outgoing.len()).min(bytes.len())).unwrap_or_default();
            one.outgoing.extend(taken);
            (!taken.is_empty() || bytes.is_empty()).then_some(Some(taken.len()))
        }))?;
        self.shared.work.notify_one();
        Poll::Ready(written.ok_or_else(|| broken(std::io::ErrorKind::BrokenPipe, "the stream was shut down")))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.writing(cx, |one| one.outgoing.is_empty().then_some(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let done = self.writing(cx, |one| {
            if one.finish == Finish::No {
                one.finish = Finish::Asked;
            }
            (one.finish == Finish::Said).then_some(())
        });
        self.shared.work.notify_one();
        done
    }
}
