//! The relay: live links of agents and clients, and the pairing of their streams.
//!
//! One task per link. A connection pairs a stream of its client's link with a stream of its agent's; packets pass as
//! they came. What the relay reads of an inspected session is for the record; it holds no key to change any of it.
//!
//! Absent: policy and log rows, which are [`crate::connection`]'s.

mod carry;
mod issuer;
mod link;
mod pair;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use bz_core::id::{BootId, ConnectionId, LoginId, ShellId, TargetId};
use bz_core::key::PublicKey;
use bz_core::signed::Signed;
use bz_protocol::carrier::{Link, MuxLink, Pipe, Role};
use bz_protocol::control::{FromServer, LINK_PATH, Order, OrderBody, SignedOrder};
use bz_protocol::limits::MUX_MESSAGE;
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::seam::links::{Count, Links};

/// How long an agent may take to end a session that was closed.
const OBEY: Duration = Duration::from_secs(10);
/// How long the link of a login that is over stays for the last words of what was closed with it.
const FAREWELL: Duration = Duration::from_secs(2);
/// Messages to one link's other end that wait to be said.
const WORDS: usize = 64;
/// Bytes of one WebSocket message: a mux message and its header.
const MAX_MESSAGE: usize = MUX_MESSAGE + 64;

/// The live links of this process.
#[derive(Debug)]
pub struct Relay {
    me: Weak<Self>,
    table: Mutex<Table>,
    app: OnceLock<Weak<App>>,
    tasks: TaskTracker,
    end: CancellationToken,
}

#[derive(Debug, Default)]
struct Table {
    agents: BTreeMap<TargetId, AgentLink>,
    clients: BTreeMap<u64, ClientLink>,
    pairs: BTreeMap<ConnectionId, Vec<Pair>>,
    /// Targets whose link was lost and is not back: which link, so that each loss has a window of its own.
    lost: BTreeMap<TargetId, u64>,
    next: u64,
}

#[derive(Debug)]
struct AgentLink {
    /// Tells links of the same target apart.
    number: u64,
    boot: BootId,
    key: PublicKey,
    counter: u64,
    link: Arc<dyn Link>,
    words: mpsc::Sender<FromServer>,
    /// The shells it has, running or not, as it last said.
    shells: Option<BTreeSet<ShellId>>,
    end: CancellationToken,
}

/// Two paired streams.
#[derive(Debug)]
struct Pair {
    number: u64,
    login: LoginId,
    end: CancellationToken,
    /// A younger pair of the same connection came: how this one ends says nothing of the connection any more.
    superseded: Arc<AtomicBool>,
}

#[derive(Debug)]
struct ClientLink {
    login: LoginId,
    words: mpsc::Sender<FromServer>,
    end: CancellationToken,
}

impl Relay {
    /// A relay without links.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            table: Mutex::default(),
            app: OnceLock::new(),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        })
    }

    /// Gives it the parts it decides with, once; and the window of grace to every target believed online.
    pub fn attach(self: &Arc<Self>, app: &Arc<App>) {
        // The second time it is the same app or a mistake without effect.
        self.app.set(Arc::downgrade(app)).unwrap_or_default();
        self.tasks.spawn(link::grace_after_start(Arc::clone(self), Arc::clone(app)));
    }

    /// The path where links come in.
    pub fn router(self: &Arc<Self>) -> Router {
        let relay = Arc::clone(self);
        let upgrade = move |upgrade: WebSocketUpgrade| {
            let relay = Arc::clone(&relay);
            async move { relay.upgrade(upgrade) }
        };
        Router::new().route(LINK_PATH, get(upgrade))
    }

    fn upgrade(self: Arc<Self>, upgrade: WebSocketUpgrade) -> Response {
        let upgrade = upgrade.protocols(["bz.1"]).max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
        upgrade.on_upgrade(move |socket| async move {
            let link: Arc<dyn Link> = Arc::new(MuxLink::new(Role::Listener, pipe(socket)));
            self.serve(link).await;
        })
    }

    /// Serves one link, whatever carries it, to its end.
    pub async fn serve(self: Arc<Self>, link: Arc<dyn Link>) {
        let Some(app) = self.app.get().and_then(Weak::upgrade) else { return };
        let end = self.end.child_token();
        let task = self.tasks.spawn(link::serve(Arc::clone(&self), app, link, end));
        // A link whose task panicked has ended like any other.
        task.await.unwrap_or_default();
    }

    /// Tells every link that the server goes, and ends them.
    pub async fn shutdown(&self) {
        let drain = FromServer::Drain { within_seconds: 10 };
        {
            let table = self.lock();
            let agents = table.agents.values().map(|a| &a.words);
            for words in agents.chain(table.clients.values().map(|c| &c.words)) {
                // A link that does not listen learns it from its end.
                words.try_send(drain.clone()).unwrap_or_default();
            }
        }
        self.tasks.close();
        self.end.cancel();
        self.tasks.wait().await;
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is consistent after each statement that changes it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something to the links of one login.
    fn tell(&self, login: LoginId, word: &FromServer) {
        for client in self.lock().clients.values().filter(|c| c.login == login) {
            // A link that does not listen learns it from its sessions.
            client.words.try_send(word.clone()).unwrap_or_default();
        }
    }

    /// Orders an agent to do something; signed, so that the agent knows the order for the server's.
    fn order(&self, app: &App, target: TargetId, order: Order) {
        let mut table = self.lock();
        let Some(agent) = table.agents.get_mut(&target) else { return };
        agent.counter = agent.counter.saturating_add(1);
        let body = OrderBody { agent_key: agent.key, boot: agent.boot, counter: agent.counter, order };
        let signed = app.online_keys().map_err(|e| e.to_string()).and_then(|keys| {
            let order = Signed::seal(&body, app.organization, &keys.control.key).map_err(|e| e.to_string())?;
            Ok(SignedOrder { certificate: keys.control.certificate.clone(), order })
        });
        match signed {
            Ok(signed) => {
                if agent.words.try_send(FromServer::Order(signed)).is_err() {
                    tracing::warn!(%target, "an agent does not take orders; its link ends");
                    agent.end.cancel();
                }
            }
            Err(error) => tracing::error!(%error, "an order could not be signed"),
        }
    }
}

impl Links for Relay {
    fn count(&self) -> Count {
        let table = self.lock();
        let sessions = table.pairs.values().map(Vec::len).sum::<usize>() as u64;
        Count { agents: table.agents.len() as u64, clients: table.clients.len() as u64, sessions }
    }

    fn online(&self, target: TargetId) -> Option<BootId> {
        self.lock().agents.get(&target).map(|agent| agent.boot)
    }

    fn closed(&self, connection: ConnectionId, why: &str) {
        let pairs = self.lock().pairs.remove(&connection).unwrap_or_default();
        let (Some(relay), Some(app)) = (self.me.upgrade(), self.app.get().and_then(Weak::upgrade)) else { return };
        let closed = FromServer::Closed { connection, reason: why.to_owned() };
        self.tasks.spawn(async move {
            match app.store.connection(connection).await {
                Ok(Some(row)) => {
                    relay.tell(row.login, &closed);
                    relay.order(&app, row.agent, Order::Close { connection });
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%connection, %error, "a closed connection's ends could not be told"),
            }
            // The agent signs the end; one that does not obey is cut off.
            tokio::select! {
                () = tokio::time::sleep(OBEY) => {}
                () = relay.end.cancelled() => {}
            }
            pairs.iter().for_each(|pair| pair.end.cancel());
        });
    }

    fn logged_out(&self, login: LoginId) {
        let links: Vec<_> = {
            let table = self.lock();
            // What was closed is not in the table any more: its agent's last word is still on its way. A shell's goes at once.
            table.pairs.values().flatten().filter(|pair| pair.login == login).for_each(|pair| pair.end.cancel());
            table.clients.values().filter(|client| client.login == login).map(|client| client.end.clone()).collect()
        };
        let Some(relay) = self.me.upgrade() else { return };
        // Nothing new is paired for a login that is over.
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(FAREWELL) => {}
                () = relay.end.cancelled() => {}
            }
            links.iter().for_each(CancellationToken::cancel);
        });
    }

    fn removed(&self, target: TargetId) {
        if let Some(agent) = self.lock().agents.remove(&target) {
            agent.end.cancel();
        }
    }
}

/// A WebSocket as a pipe of binary messages; text on it ends it.
fn pipe(socket: WebSocket) -> impl Pipe {
    let (sink, stream) = socket.split();
    let stream = stream.filter_map(|message| {
        std::future::ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => None,
            Ok(Message::Text(_)) => Some(Err(std::io::ErrorKind::InvalidData.into())),
            Err(error) => Some(Err(std::io::Error::other(error))),
        })
    });
    let sink = sink
        .sink_map_err(std::io::Error::other)
        .with(|bytes: Bytes| std::future::ready(Ok::<_, std::io::Error>(Message::Binary(bytes))));
    Joined { stream, sink }
}

/// A stream and a sink as one.
struct Joined<R, W> {
    stream: R,
    sink: W,
}

impl<R: futures::Stream + Unpin, W: Unpin> futures::Stream for Joined<R, W> {
    type Item = R::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.get_mut().stream.poll_next_unpin(cx)
    }
}

impl<R: Unpin, W: futures::Sink<Bytes> + Unpin> futures::Sink<Bytes> for Joined<R, W> {
    type Error = W::Error;

    fn poll_ready(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), W::Error>> {
        self.get_mut().sink.poll_ready_unpin(cx)
    }

    fn start_send(self: std::pin::Pin<&mut Self>, item: Bytes) -> Result<(), W::Error> {
        self.get_mut().sink.start_send_unpin(item)
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), W::Error>> {
        self.get_mut().sink.poll_flush_unpin(cx)
    }

    fn poll_close(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), W::Error>> {
        self.get_mut().sink.poll_close_unpin(cx)
    }
}
