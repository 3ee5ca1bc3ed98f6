//! The client's one link: dialed when it is needed, shared by every session, dialed again when it breaks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use bz_core::id::ConnectionId;
use bz_protocol::carrier::{Class, Link, LinkError, Stream};
use bz_protocol::control::{FromServer, Preamble, ToServer};
use bz_protocol::driver::Clock;
use bz_protocol::link::{Conversation, Linked, NotLinked, Ways, send};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::login::Login;

/// Why connections ended, as the server said. Nothing proves it.
pub(crate) type Reasons = Arc<Lock<BTreeMap<ConnectionId, String>>>;

/// The most reasons kept.
const MAX_REASONS: usize = 256;

/// The link, or how to get one.
#[derive(Debug)]
pub(crate) struct Links {
    ways: Ways,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Live>>,
    reasons: Reasons,
}

#[derive(Debug)]
struct Live {
    carrier: &'static str,
    link: Arc<dyn Link>,
    stands: Arc<AtomicBool>,
    conversation: AbortHandle,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.conversation.abort();
        self.link.close();
    }
}

impl Links {
    pub(crate) fn new(ways: Ways, clock: Arc<dyn Clock>) -> Self {
        Self { ways, clock, current: Mutex::new(None), reasons: Reasons::default() }
    }

    /// A stream for a connection's session, over the link that stands or a new one.
    pub(crate) async fn session(&self, login: &Login, connection: ConnectionId) -> Result<Box<dyn Stream>, NotLinked> {
        let link = self.link(login).await?;
        let mut stream = link.open(Class::Interactive).await?;
        send(&mut stream, &Preamble::Session { connection }).await?;
        Ok(stream)
    }

    /// What carries the link that stands.
    pub(crate) async fn carrier(&self) -> Option<&'static str> {
        self.current.lock().await.as_ref().filter(|live| live.stands()).map(|live| live.carrier)
    }

    /// Why the server says a connection ended.
    pub(crate) fn reason(&self, connection: ConnectionId) -> Option<String> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).get(&connection).cloned()
    }

    /// What the server says of a connection to this program alone: that its login is over.
    pub(crate) fn over(&self, connection: ConnectionId, why: &str) {
        note(&self.reasons, connection, why.to_owned());
    }

    async fn link(&self, login: &Login) -> Result<Arc<dyn Link>, NotLinked> {
        let mut current = self.current.lock().await;
        if let Some(live) = current.as_ref().filter(|live| live.stands()) {
            return Ok(Arc::clone(&live.link));
        }
        *current = None;
        let hailed = self.ways.hail(login.organization()).await?;
        let Linked { carrier, link, control } = hailed.client(login.id(), login.key()).await?;
        tracing::debug!(carrier, "linked to the server");
        let stands = Arc::new(AtomicBool::new(true));
        let talk = converse(control, Arc::clone(&self.clock), Arc::clone(&self.reasons));
        let (ways, began) = (self.ways.clone(), self.clock.now().mono);
        let (clock, over) = (Arc::clone(&self.clock), Arc::clone(&stands));
        let dead = Arc::clone(&link);
        let conversation = tokio::spawn(async move {
            let error = talk.await;
            let stood: Duration = clock.now().mono.since(began);
            tracing::debug!(carrier, %error, ?stood, "the link to the server ended");
            over.store(false, Ordering::Release);
            // Sessions on it must hear of it, also when nothing but silence ended it.
            dead.close();
            ways.ended(carrier, stood);
        });
        *current = Some(Live { carrier, link: Arc::clone(&link), stands, conversation: conversation.abort_handle() });
        Ok(link)
    }
}

impl Live {
    fn stands(&self) -> bool {
        self.stands.load(Ordering::Acquire)
    }
}

/// Keeps the link alive and listens, until it ends.
async fn converse(control: Box<dyn Stream>, clock: Arc<dyn Clock>, reasons: Reasons) -> LinkError {
    let mut server = Conversation::<FromServer, ToServer>::new(control, ToServer::Ping, clock);
    loop {
        match server.next().await {
            Ok(FromServer::Closed { connection, reason }) => {
                note(&reasons, connection, reason);
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

fn note(reasons: &Reasons, connection: ConnectionId, reason: String) {
    let mut reasons = reasons.lock().unwrap_or_else(PoisonError::into_inner);
    if reasons.len() < MAX_REASONS {
        reasons.insert(connection, reason);
    }
}
