//! Sessions: from a checked connection to bytes with a proved agent, over as many carriers as it takes.

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bz_core::access::request::Parameters;
use bz_core::id::ConnectionId;
use bz_core::key::KeyError;
use bz_core::time::Mono;
use bz_core::wire::{self, WireError};
use bz_protocol::SendError;
use bz_protocol::carrier::{LinkError, Stream};
use bz_protocol::client::{Action, Client as Machine, Event, Opened, Opening, OpeningError};
use bz_protocol::control::LinkRefusal;
use bz_protocol::driver::{Channels, Streams, drive_keeping, sleep_until, streams};
use bz_protocol::limits::{MAX_PAYLOAD, PATIENCE};
use bz_protocol::link::NotLinked;
use bz_protocol::session::End;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::PollSender;

use crate::client::{AskError, Asked, Client};
use crate::clock;
use crate::pins::PinError;
use crate::target_name::TargetName;

/// How often a session looks whether its login was refreshed.
const REFRESH_EVERY: Duration = Duration::from_secs(15);
/// The shortest wait between two carriers.
const FASTEST: Duration = Duration::from_millis(100);
/// The longest wait between two carriers.
const SLOWEST: Duration = Duration::from_secs(5);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no connection.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The client was made without a carrier.
    #[error("this client has no carrier: give it one, or build with feature `ws`")]
    NoCarrier,
    /// The server's link cannot be had.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The opening message cannot be made.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The grant or the certificate cannot be encoded.
    #[error("the opening is {0}")]
    Wire(#[from] WireError),
    /// The operating system gives no random bytes.
    #[error(transparent)]
    Random(#[from] crate::NoRandom),
    /// The agent's key cannot be kept.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// It ended before it was open. What the server says beside it, unproved.
    #[error("{end}{}{}", unproved(.end), said(.reason.as_deref()))]
    Ended {
        /// How.
        end: End,
        /// What the server says.
        reason: Option<String>,
    },
    /// The seeds give no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What a person must know about a refusal that nobody signed.
const fn unproved(end: &End) -> &'static str {
    if matches!(end, End::Reported(_)) { ". Nothing was opened; the server could have made this up" } else { "" }
}

fn said(reason: Option<&str>) -> String {
    reason.map(|r| format!(" (the server says: {r})")).unwrap_or_default()
}

/// An open session. Dropping it cuts it: a shell runs on, detached.
#[derive(Debug)]
pub struct Session {
    /// What the agent said when it accepted.
    pub opened: Opened,
    /// What was asked.
    pub asked: Asked,
    actions: mpsc::Sender<Action>,
    events: mpsc::Receiver<Event>,
    streams: Streams,
    client: Client,
    carried: Arc<watch::Sender<bool>>,
    tasks: JoinSet<()>,
}

/// Everything a session does, for tasks of their own.
#[derive(Debug, Clone)]
pub struct Actions(mpsc::Sender<Action>);

impl Actions {
    /// Does one thing; waits while the other end must first take what was sent.
    ///
    /// # Errors
    /// [`SendError::NotOpen`] when the session has ended.
    pub async fn act(&self, action: Action) -> Result<(), SendError> {
        self.0.send(action).await.map_err(|_| SendError::NotOpen)
    }

    /// The same for a thread that may wait.
    #[cfg(all(feature = "files", unix))]
    pub(crate) fn act_blocking(&self, action: Action) -> Result<(), SendError> {
        self.0.blocking_send(action).map_err(|_| SendError::NotOpen)
    }
}

impl Client {
    /// Opens a session on a connection that was asked for.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn session(&self, asked: Asked) -> Result<Session, SessionError> {
        let links = self.links().ok_or(SessionError::NoCarrier)?;
        let connection = asked.made.connection_id;
        let login = self.login();
        // The first carrier before the machine: a server that cannot be reached is no protocol error.
        let first = links.session(&login, connection).await.map_err(LinkError::from)?;
        let opening = Opening {
            organization: login.organization(),
            connection,
            agent_key: asked.made.agent_public_key,
            request: asked.request_bytes.clone(),
            grant: wire::encode(&asked.grant, bz_core::grant::MAX_GRANT)?,
            certificate: login.certificate()?,
            certificate_known: false,
            key: login.key().clone(),
            ephemeral_seed: clock::random()?,
            random: clock::random()?,
            patience: PATIENCE,
        };
        let machine = Machine::new(opening, self.clock().now())?;
        let (carriers, from_links) = mpsc::channel(1);
        let (actions, from_us) = mpsc::channel(8);
        let (to_us, events) = mpsc::channel(32);
        let (streams, _, hub) = streams();
        let channels = Channels { carriers: from_links, actions: from_us, events: to_us, streams: hub };
        let mut tasks = JoinSet::new();
        let driver = drive_keeping(machine, channels, Arc::clone(self.clock()), self.receipts());
        tasks.spawn(async move {
            let end = driver.await;
            tracing::debug!(%connection, %end, "session ended");
        });
        let carried = Arc::new(watch::channel(true).0);
        tasks.spawn(supply(self.clone(), connection, (first, carriers), Arc::clone(&carried)));
        let client = self.clone();
        let mut session = Session { opened: nothing_yet(), asked, actions, events, streams, client, carried, tasks };
        session.opened = session.wait_open().await?;
        self.met(&session.asked)?;
        session.tasks.spawn(reauthenticate(self.clone(), session.actions()));
        Ok(session)
    }

    /// Why the server says a connection of this client ended. Nothing proves it.
    #[must_use]
    pub fn reason(&self, connection: ConnectionId) -> Option<String> {
        self.links().and_then(|links| links.reason(connection))
    }

    /// Asks for a route of the agent's program and opens it as a stream of bytes.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn open(&self, target: &TargetName, route: &str) -> Result<Dialed, SessionError> {
        let parameters = Parameters::Handler { route: route.to_owned() };
        let asked = self.ask(target, parameters, None).await?;
        Ok(Dialed::new(self.session(asked).await?))
    }
}

const fn nothing_yet() -> Opened {
    let zero = bz_core::digest::Digest::from_bytes([0; 32]);
    let expires_at = bz_core::time::UnixTime::from_millis(0);
    Opened { session: zero, expires_at, attached: None, facts: vec![] }
}

impl Session {
    /// The next thing that happened; `None` after [`Event::Ended`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = ready!(self.events.poll_recv(cx));
        if matches!(event, Some(Event::Opened(_) | Event::Resumed)) {
            self.carried.send_replace(true);
        }
        Poll::Ready(event)
    }

    /// Whether a carrier carries the session. `false` from when one broke until the session goes on over another, as
    /// [`Self::next`] tells it; what is done meanwhile is done then, if it ever is.
    #[must_use]
    pub fn carried(&self) -> watch::Receiver<bool> {
        self.carried.subscribe()
    }

    /// What can be done with it.
    #[must_use]
    pub fn actions(&self) -> Actions {
        Actions(self.actions.clone())
    }

    /// Streams to open in it, where its kind has any: see [`crate::tunnel`].
    #[must_use]
    pub fn streams(&self) -> Streams {
        self.streams.clone()
    }

    /// The connection.
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        self.asked.made.connection_id
    }

    /// Why the server says the connection ended. Nothing proves it.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.client.reason(self.connection())
    }

    async fn wait_open(&mut self) -> Result<Opened, SessionError> {
        loop {
            match self.next().await {
                Some(Event::Opened(opened)) => return Ok(*opened),
                Some(Event::Ended(end)) => return Err(SessionError::Ended { end, reason: self.reason() }),
                Some(
                    Event::Bytes { .. }
                    | Event::Eof { .. }
                    | Event::Answered { .. }
                    | Event::Reset { .. }
                    | Event::Notice(_)
                    | Event::Resumed,
                ) => {}
                None => return Err(SessionError::Ended { end: End::Lost, reason: self.reason() }),
            }
        }
    }
}

/// Gives the machine a carrier, and another whenever one breaks, until nobody takes them or the server says that the
/// connection is closed, or the login over: nothing proves that, and without the agent's signed end the session counts as cut short.
async fn supply(
    client: Client,
    connection: ConnectionId,
    (first, carriers): (Box<dyn Stream>, mpsc::Sender<Box<dyn Stream>>),
    carried: Arc<watch::Sender<bool>>,
) {
    let mut next = Some(first);
    let mut wait = FASTEST;
    loop {
        let Some(links) = client.links() else { return };
        let stream = match next.take() {
            Some(stream) => Ok(stream),
            None => links.session(&client.login(), connection).await,
        };
        match stream {
            Ok(stream) => {
                let (gone, is_gone) = oneshot::channel();
                if carriers.send(Box::new(Watched { stream, _gone: gone })).await.is_err() {
                    return;
                }
                tokio::select! {
                    // Nothing is sent on it: it ends with the stream.
                    _ = is_gone => {}
                    () = carriers.closed() => return,
                }
                // Not after one that brought nothing: the next may bring nothing either.
                if carried.send_replace(false) {
                    wait = FASTEST;
                }
            }
            Err(NotLinked::Refused(LinkRefusal::Unknown)) if client.is_out().await => {
                links.over(connection, "the login is over: it was logged out, or it ended");
            }
            Err(error) => tracing::debug!(%error, "no carrier yet"),
        }
        if links.reason(connection).is_some() {
            return;
        }
        let at: Mono = client.clock().now().mono.after(wait);
        tokio::select! {
            () = sleep_until(client.clock().as_ref(), Some(at)) => {}
            () = carriers.closed() => return,
        }
        wait = wait.saturating_mul(2).min(SLOWEST);
    }
}

/// Sends each newer token into the session before the old one ends.
async fn reauthenticate(client: Client, actions: Actions) {
    let mut sent = client.login().obtained_at();
    loop {
        let at = client.clock().now().mono.after(REFRESH_EVERY);
        sleep_until(client.clock().as_ref(), Some(at)).await;
        client.refresh_when_due().await;
        let login = client.login();
        if login.obtained_at() > sent {
            sent = login.obtained_at();
            let Ok(certificate) = login.certificate() else { continue };
            if actions.act(Action::Reauthenticate(certificate)).await.is_err() {
                return;
            }
        }
    }
}

/// A stream that says when both halves of it are gone.
struct Watched {
    stream: Box<dyn Stream>,
    _gone: oneshot::Sender<()>,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
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

/// A session as one stream of bytes. A read that ends without the agent's signed end is an error, not an end.
#[derive(Debug)]
pub struct Dialed {
    // The session ends when this is dropped.
    session: Session,
    actions: PollSender<Action>,
    /// Bytes that came, and how many of them were read.
    came: (Vec<u8>, usize),
    /// The other end said its last.
    eof: bool,
    /// This end did.
    finished: bool,
    end: Option<End>,
}

impl Dialed {
    /// Takes a session's first stream.
    #[must_use]
    pub fn new(session: Session) -> Self {
        let actions = PollSender::new(session.actions.clone());
        Self { session, actions, came: (Vec::new(), 0), eof: false, finished: false, end: None }
    }

    /// How the session ended, once it has. What was not read by then is thrown away.
    pub async fn ended(mut self) -> End {
        loop {
            if let Some(end) = self.end {
                return end;
            }
            let event = self.session.next().await;
            self.happened(event);
        }
    }

    fn happened(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Bytes { stream: 0, bytes }) => self.came = (bytes, 0),
            Some(Event::Eof { stream: 0 }) => self.eof = true,
            Some(Event::Ended(end)) => self.end = Some(end),
            None => self.end = Some(End::Lost),
            // What an agent says beside it is for the record.
            Some(
                Event::Bytes { .. }
                | Event::Opened(_)
                | Event::Eof { .. }
                | Event::Answered { .. }
                | Event::Reset { .. }
                | Event::Notice(_)
                | Event::Resumed,
            ) => {}
        }
    }

    /// Room for one more action.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.actions.poll_reserve(cx).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    fn act(&mut self, action: Action) -> std::io::Result<()> {
        self.actions.send_item(action).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Dialed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        loop {
            let (bytes, read) = &mut this.came;
            let rest = bytes.get(*read..).unwrap_or_default();
            let part = rest.get(..rest.len().min(buffer.remaining())).unwrap_or_default();
            if !part.is_empty() || buffer.remaining() == 0 {
                buffer.put_slice(part);
                *read = read.saturating_add(part.len());
                return Poll::Ready(Ok(()));
            }
            if this.eof || matches!(this.end, Some(End::Completed(_))) {
                return Poll::Ready(Ok(()));
            }
            if let Some(end) = &this.end {
                return Poll::Ready(Err(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, end.clone())));
            }
            let event = ready!(this.session.poll_next(cx));
            this.happened(event);
        }
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.get(..bytes.len().min(MAX_PAYLOAD)).unwrap_or_default();
        if !taken.is_empty() {
            ready!(this.poll_room(cx))?;
            this.act(Action::Bytes { stream: 0, bytes: taken.to_vec() })?;
        }
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if !this.finished {
            // A session that has ended needs no end of its stream.
            if ready!(this.poll_room(cx)).is_ok() {
                this.act(Action::Eof { stream: 0 }).unwrap_or_default();
            }
            this.finished = true;
        }
        Poll::Ready(Ok(()))
    }
}
