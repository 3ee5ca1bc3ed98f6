//! Tunnels: any protocol to whatever a target reaches, each connection a stream of one session.
//!
//! ```no_run
//! # async fn example(client: bz_client::client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use tokio::io::AsyncWriteExt as _;
//!
//! let tunnel = client.tunnel(&"web-1".parse()?, vec!["db.internal:5432".parse()?]).await?;
//! let mut stream = tunnel.dial(&"db.internal:5432".parse()?).await?;
//! stream.write_all(b"hello").await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Absent:** names are looked up by the target, never here; UDP.

mod socks;

use std::sync::Arc;
use std::time::Duration;

use bz_core::access::destination::{Destination, DestinationRule};
use bz_core::access::request::Parameters;
use bz_core::id::ConnectionId;
use bz_core::time::UnixTime;
use bz_protocol::client::{Action, Event};
use bz_protocol::driver::{Cut, OpenError, SessionStream, Streams, carry};
use bz_protocol::frame::Fin;
use bz_protocol::session::End;
use bz_protocol::stream::StreamRequest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Asked, Client};
use crate::session::{Actions, Session, SessionError};
use crate::target_name::TargetName;

/// How long to leave a listener alone that cannot accept: files may have run out.
const BREATH: Duration = Duration::from_millis(100);

/// An open tunnel. Dropping it cuts every stream in it.
#[derive(Debug)]
pub struct Tunnel {
    /// What was asked.
    pub asked: Asked,
    expires_at: UnixTime,
    streams: Streams,
    actions: Actions,
    client: Client,
    ended: watch::Receiver<Option<End>>,
    _task: JoinSet<()>,
}

/// What a connection that came to a port could not have, for whoever watches.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// It was not opened.
    #[error("{destination}: {error}")]
    Open {
        /// Where to.
        destination: Destination,
        /// Why.
        error: OpenError,
    },
    /// It is no SOCKS.
    #[error("a connection that does not speak SOCKS 5 as needed here: {0}")]
    Socks(String),
    /// The port takes no connections now.
    #[error("no connection can be taken: {0}")]
    Accept(std::io::Error),
}

/// Hears what could not be opened.
pub type Watcher = Arc<dyn Fn(ForwardError) + Send + Sync>;

impl Client {
    /// Opens a tunnel to these destinations. No stream to any other is opened in it, whoever asks.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn tunnel(
        &self,
        target: &TargetName,
        destinations: Vec<DestinationRule>,
    ) -> Result<Tunnel, SessionError> {
        let asked = self.ask(target, Parameters::Tunnel { destinations }, None).await?;
        let session = self.session(asked).await?;
        Ok(Tunnel::new(self.clone(), session))
    }
}

impl Tunnel {
    pub(crate) fn new(client: Client, session: Session) -> Self {
        let (streams, actions, asked) = (session.streams(), session.actions(), session.asked.clone());
        let expires_at = session.opened.expires_at;
        let (end, ended) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut session = session;
            let last = loop {
                match session.next().await {
                    Some(Event::Ended(end)) => break end,
                    Some(_) => {}
                    None => break End::Lost,
                }
            };
            end.send_replace(Some(last));
        });
        Self { asked, expires_at, streams, actions, client, ended, _task: task }
    }

    /// Opens a stream to one of the tunnel's destinations; ready when it stands.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn dial(&self, destination: &Destination) -> Result<SessionStream, OpenError> {
        self.streams.open(StreamRequest::Dial(destination.clone())).await
    }

    /// Takes the connections that come to a port, each to a stream of its own, until the tunnel ends.
    pub fn forward(
        &self,
        listener: TcpListener,
        destination: Destination,
        watcher: Watcher,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (streams, ended) = (self.streams.clone(), self.ended.clone());
        accept(listener, (watcher, ended), move |stream| {
            let (streams, destination) = (streams.clone(), destination.clone());
            async move { through(&streams, destination, stream).await }
        })
    }

    /// Serves SOCKS 5 (RFC 1928: no authentication, CONNECT alone) on a port, until the tunnel ends.
    pub fn socks(&self, listener: TcpListener, watcher: Watcher) -> impl Future<Output = ()> + Send + 'static {
        let (streams, ended) = (self.streams.clone(), self.ended.clone());
        accept(listener, (watcher, ended), move |stream| {
            let streams = streams.clone();
            async move { socks::serve(&streams, stream).await }
        })
    }

    /// How it ended, as soon as it has. Cancel-safe.
    pub async fn ended(&self) -> End {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or(End::Lost)
    }

    /// The connection.
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        self.asked.made.connection_id
    }

    /// When it ended unless the login had been renewed since: the end the agent gave it at first.
    #[must_use]
    pub const fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    /// Why the server says it ended. Nothing proves it.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.client.reason(self.connection())
    }

    /// Ends it, signed by both ends.
    pub async fn close(self) -> End {
        // One that has ended needs no word.
        self.actions.act(Action::Finish(Fin::Closed)).await.unwrap_or_default();
        self.ended().await
    }
}

async fn accept<F, R>(listener: TcpListener, (watcher, mut ended): (Watcher, watch::Receiver<Option<End>>), serve: F)
where
    F: Fn(TcpStream) -> R + Send,
    R: Future<Output = Result<(), ForwardError>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (served, watcher) = (serve(stream), Arc::clone(&watcher));
                    connections.spawn(async move {
                        if let Err(error) = served.await {
                            watcher(error);
                        }
                    });
                }
                Err(error) => {
                    watcher(ForwardError::Accept(error));
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = over(&mut ended) => return,
        }
    }
}

async fn over(ended: &mut watch::Receiver<Option<End>>) {
    // One whose task is gone is over, too.
    ended.wait_for(Option::is_some).await.map(drop).unwrap_or_default();
}

/// One connection's way through. One that is not opened is reset: an end in order would be an empty answer.
async fn through(streams: &Streams, destination: Destination, stream: TcpStream) -> Result<(), ForwardError> {
    let held = Cut::new(stream);
    match streams.open(StreamRequest::Dial(destination.clone())).await {
        Ok(there) => {
            between(there, held).await;
            Ok(())
        }
        Err(error) => Err(ForwardError::Open { destination, error }),
    }
}

/// Bytes both ways until both have ended.
async fn between(there: SessionStream, here: Cut) {
    if let Err(error) = carry(there, here).await {
        tracing::debug!(%error, "a stream ended early");
    }
}
