//! The control stream as a task uses it: [`Ways`] to a server that answers, logins of both kinds, and a conversation
//! that keeps itself alive.

mod ways;

use std::marker::PhantomData;
use std::sync::Arc;

use bincode::{Decode, Encode};
use bz_core::id::OrganizationId;
use bz_core::time::Mono;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::carrier::{LinkError, Stream, read_message, write_message};
use crate::control::{self, FromServer, Keepalive, LinkRefusal, MAX_MESSAGE, ToServer};
use crate::driver::{Clock, sleep_until};
use crate::limits::HANDSHAKE;

#[cfg(all(feature = "ws", feature = "quic"))]
pub use ways::Choice;
pub use ways::{Hailed, Linked, Memory, NotLinked, Recent, Ways};

/// Sends one control message or preamble.
///
/// # Errors
/// When the stream breaks.
pub async fn send<S, T>(stream: &mut S, message: &T) -> Result<(), LinkError>
where
    S: AsyncWrite + Unpin + ?Sized,
    T: Encode,
{
    let bytes = control::encode(message).map_err(|e| LinkError(e.to_string()))?;
    write_message(stream, &bytes).await.map_err(|e| LinkError(e.to_string()))?;
    stream.flush().await.map_err(|e| LinkError(e.to_string()))
}

/// Receives one control message or preamble.
///
/// # Errors
/// When the stream ends or breaks, or what came is no such message.
pub async fn receive<S, T>(stream: &mut S) -> Result<T, LinkError>
where
    S: AsyncRead + Unpin + ?Sized,
    T: Decode<()>,
{
    let bytes = read_message(stream, MAX_MESSAGE).await.map_err(|e| LinkError(e.to_string()))?;
    let bytes = bytes.ok_or_else(|| LinkError("the stream ended".to_owned()))?;
    control::decode(&bytes).map_err(|e| LinkError(format!("a message on the link is {e}")))
}

/// Greets whoever dialed: sends the challenge and returns the hello, unproved.
///
/// # Errors
/// [`LinkError`], when none comes in time.
pub async fn greet(
    control: &mut Box<dyn Stream>,
    organization: OrganizationId,
    challenge: [u8; 32],
) -> Result<ToServer, LinkError> {
    in_time(async {
        let ToServer::Ping = receive(control).await? else { return Err(unexpected()) };
        send(control, &FromServer::Challenge { random: challenge, organization }).await?;
        receive(control).await
    })
    .await
}

async fn challenge(control: &mut Box<dyn Stream>, organization: OrganizationId) -> Result<[u8; 32], LinkError> {
    // With some carriers a stream exists for the other end only with its first bytes.
    send(control, &ToServer::Ping).await?;
    match receive(control).await? {
        FromServer::Challenge { random, organization: served } if served == organization => Ok(random),
        FromServer::Challenge { .. } => Err(LinkError("the server serves another organization".to_owned())),
        FromServer::Refused(why) => Err(LinkError(why.to_string())),
        FromServer::Welcome
        | FromServer::Ping
        | FromServer::Order(_)
        | FromServer::Closed { .. }
        | FromServer::Drain { .. } => Err(unexpected()),
    }
}

/// Whether the server takes a login; an error when it does not say.
async fn welcome(control: &mut Box<dyn Stream>) -> Result<Result<(), LinkRefusal>, LinkError> {
    match receive(control).await? {
        FromServer::Welcome => Ok(Ok(())),
        FromServer::Refused(why) => Ok(Err(why)),
        FromServer::Challenge { .. }
        | FromServer::Ping
        | FromServer::Order(_)
        | FromServer::Closed { .. }
        | FromServer::Drain { .. } => Err(unexpected()),
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    let late = || LinkError("the other end of the link did not answer in time".to_owned());
    tokio::time::timeout(HANDSHAKE, work).await.map_err(|_| late())?
}

fn unexpected() -> LinkError {
    LinkError("the other end of the link said something out of turn".to_owned())
}

/// A conversation on a control stream that stands: pings when nothing is said, ends when nothing is heard.
#[derive(Debug)]
pub struct Conversation<In, Out> {
    heard: mpsc::Receiver<Result<In, LinkError>>,
    writer: WriteHalf<Box<dyn Stream>>,
    alive: Keepalive,
    clock: Arc<dyn Clock>,
    ping: Out,
    // Ends the reader with the conversation.
    _reader: JoinSet<()>,
    incoming: PhantomData<In>,
}

impl<In, Out> Conversation<In, Out>
where
    In: Decode<()> + Send + 'static,
    Out: Encode + Send + Sync,
{
    /// Takes over a control stream after its login; `ping` is what is said when there is nothing else.
    #[must_use]
    pub fn new(control: Box<dyn Stream>, ping: Out, clock: Arc<dyn Clock>) -> Self {
        let (mut reader, writer) = tokio::io::split(control);
        let (messages, heard) = mpsc::channel(16);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let message = receive(&mut reader).await;
                let last = message.is_err();
                if messages.send(message).await.is_err() || last {
                    return;
                }
            }
        });
        let alive = Keepalive::new(clock.now().mono);
        Self { heard, writer, alive, clock, ping, _reader: task, incoming: PhantomData }
    }

    /// The next message, keeping the link alive while it waits. Cancel-safe but for a ping cut short, after which the
    /// link ends at its next use.
    ///
    /// # Errors
    /// When the link ends or the other end is silent for too long.
    pub async fn next(&mut self) -> Result<In, LinkError> {
        let clock = Arc::clone(&self.clock);
        loop {
            tokio::select! {
                message = self.heard.recv() => {
                    self.alive.heard(clock.now().mono);
                    return message.unwrap_or_else(|| Err(LinkError("the stream ended".to_owned())));
                }
                () = sleep_until(clock.as_ref(), Some(self.alive.wake())) => self.keep_alive(clock.now().mono).await?,
            }
        }
    }

    /// Says something.
    ///
    /// # Errors
    /// When the link ends, or is dead before it takes the message.
    pub async fn say(&mut self, message: &Out) -> Result<(), LinkError> {
        tokio::select! {
            sent = send(&mut self.writer, message) => sent?,
            () = sleep_until(self.clock.as_ref(), Some(self.alive.dies())) => return Err(silent()),
        }
        self.alive.spoke(self.clock.now().mono);
        Ok(())
    }

    async fn keep_alive(&mut self, now: Mono) -> Result<(), LinkError> {
        if self.alive.is_dead(now) {
            return Err(silent());
        }
        if self.alive.speaks(now) {
            tokio::select! {
                sent = send(&mut self.writer, &self.ping) => sent?,
                // A link that takes nothing more is one that died while much was under way.
                () = sleep_until(self.clock.as_ref(), Some(self.alive.dies())) => return Err(silent()),
            }
            self.alive.spoke(now);
        }
        Ok(())
    }
}

fn silent() -> LinkError {
    LinkError("the other end of the link went silent".to_owned())
}

impl std::fmt::Debug for dyn Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
