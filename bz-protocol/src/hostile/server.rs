//! A hostile server's links: agents and clients log in at it as at any other, and it forwards as its relay likes.
//!
//! Absent: sockets. Whoever listens hands over the links, whatever carries them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bz_core::id::{BootId, ConnectionId, OrganizationId};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::carrier::{Class, Link, LinkError, Stream, read_message, write_message};
use crate::control::{FromServer, Preamble, ToServer};
use crate::driver::Clock;
use crate::hostile::relay::Relay;
use crate::keys::Direction;
use crate::limits::MAX_PACKET;
use crate::link::{Conversation, greet, receive, send};

/// A server that lies. Dropping it ends every link.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    organization: OrganizationId,
    relay: Relay,
    clock: Arc<dyn Clock>,
    agent: watch::Sender<Option<Arc<AgentLink>>>,
    cuts: watch::Sender<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("organization", &self.organization).finish_non_exhaustive()
    }
}

/// An agent that logged in.
pub(crate) struct AgentLink {
    link: Arc<dyn Link>,
    pub(crate) boot: BootId,
    pub(crate) words: mpsc::Sender<FromServer>,
}

impl Server {
    /// A server without links.
    #[must_use]
    pub fn new(organization: OrganizationId, relay: Relay, clock: Arc<dyn Clock>) -> Self {
        let shared =
            Shared { organization, relay, clock, agent: watch::Sender::new(None), cuts: watch::Sender::new(0) };
        Self { shared: Arc::new(shared), tasks: Mutex::default() }
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        // Whole at every moment.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a link until it ends.
    pub fn take(&self, link: Arc<dyn Link>) {
        let shared = Arc::clone(&self.shared);
        self.tasks().spawn(async move {
            if let Err(error) = Arc::clone(&shared).serve(Arc::clone(&link)).await {
                tracing::debug!(%error, "a link of the hostile server ended");
            }
            let is_this = |agent: &Option<Arc<AgentLink>>| agent.as_ref().is_some_and(|a| Arc::ptr_eq(&a.link, &link));
            shared.agent.send_if_modified(|agent| is_this(agent) && agent.take().is_some());
        });
    }

    /// The agent's link, of another start than `not`.
    pub(crate) async fn agent(&self, not: Option<BootId>) -> Option<Arc<AgentLink>> {
        let mut agent = self.shared.agent.subscribe();
        let found = agent.wait_for(|link| link.as_ref().is_some_and(|link| Some(link.boot) != not)).await;
        found.ok().and_then(|link| link.clone())
    }

    /// Cuts the carriers of all sessions.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts = cuts.wrapping_add(1));
    }
}

impl AgentLink {
    /// A stream of the server's own for a connection.
    pub(crate) async fn stream(&self, connection: ConnectionId) -> Result<Box<dyn Stream>, LinkError> {
        let mut stream = self.link.open(Class::Interactive).await?;
        send(&mut stream, &Preamble::Session { connection }).await?;
        Ok(stream)
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, link: Arc<dyn Link>) -> Result<(), LinkError> {
        let mut control = link.accept().await?;
        let hello = greet(&mut control, self.organization, [9; 32]).await?;
        send(&mut control, &FromServer::Welcome).await?;
        let (words, mut to_say) = mpsc::channel(8);
        let is_agent = match hello {
            ToServer::Agent(hello) => {
                let agent = AgentLink { link: Arc::clone(&link), boot: hello.boot, words };
                self.agent.send_replace(Some(Arc::new(agent)));
                true
            }
            ToServer::Client(_) | ToServer::Ping | ToServer::Shells(_) => false,
        };
        let clock = Arc::clone(&self.clock);
        let mut talk = Conversation::<ToServer, FromServer>::new(control, FromServer::Ping, clock);
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                heard = talk.next() => drop(heard?),
                Some(word) = to_say.recv() => talk.say(&word).await?,
                stream = link.accept() => {
                    let (stream, shared) = (stream?, Arc::clone(&self));
                    // An agent's own streams are for its issuer and its segments: nothing is behind them here.
                    if !is_agent {
                        sessions.spawn(async move { shared.session(stream).await.unwrap_or_default() });
                    }
                }
            }
        }
    }

    async fn session(&self, mut client: Box<dyn Stream>) -> Result<(), LinkError> {
        let Preamble::Session { connection } = receive(&mut client).await? else { return Ok(()) };
        let mut agents = self.agent.subscribe();
        // An agent that was cut off comes back.
        let agent = agents.wait_for(Option::is_some).await.ok().and_then(|agent| agent.clone());
        let agent = agent.ok_or_else(|| LinkError("no agent".to_owned()))?;
        let far = agent.stream(connection).await?;
        let mut cuts = self.cuts.subscribe();
        let ((from_client, to_client), (from_agent, to_agent)) = (tokio::io::split(client), tokio::io::split(far));
        let client_left = AtomicBool::new(false);
        let inward = async {
            let carried = self.carry(Direction::ToAgent, from_client, to_agent).await;
            client_left.store(true, Ordering::SeqCst);
            carried
        };
        let outward = async {
            let carried = self.carry(Direction::ToClient, from_agent, to_client).await;
            if carried.is_ok() && !client_left.load(Ordering::SeqCst) {
                self.relay.agent_leaves();
            }
            carried
        };
        tokio::select! {
            // One that was cut cuts the other; one that came to its end does not.
            both = futures::future::try_join(inward, outward) => both.map(drop).unwrap_or_default(),
            _ = cuts.changed() => {}
        }
        Ok(())
    }

    async fn carry<R, W>(&self, to: Direction, mut from: R, mut out: W) -> Result<(), LinkError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while let Ok(Some(packet)) = read_message(&mut from, MAX_PACKET).await {
            let passed = self.relay.pass(to, &packet);
            let write = async {
                for packet in &passed.packets {
                    write_message(&mut out, packet).await?;
                }
                out.flush().await
            };
            let written: std::io::Result<()> = write.await;
            if passed.cut {
                return Err(LinkError("cut".to_owned()));
            }
            if written.is_err() {
                return Ok(());
            }
        }
        out.shutdown().await.unwrap_or_default();
        Ok(())
    }
}
