//! The client's one link: dialed when it is needed, shared by every session, dialed again when it breaks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};

use bz_core::id::ConnectionId;
use bz_protocol::carrier::{Carrier, Class, Link, LinkError, Stream};
use bz_protocol::control::{FromServer, Preamble, ToServer};
use bz_protocol::driver::Clock;
use bz_protocol::link::{Conversation, client_login, send};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::login::Login;

/// Why connections ended, as the server said. Nothing proves it.
pub(crate) type Reasons = Arc<Lock<BTreeMap<ConnectionId, String>>>;

/// The most reasons kept.
const MAX_REASONS: usize = 256;

/// The link, or how to get one.
pub(crate) struct Links {
    carrier: Arc<dyn Carrier>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Live>>,
    reasons: Reasons,
}

struct Live {
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
    pub(crate) fn new(carrier: Arc<dyn Carrier>, clock: Arc<dyn Clock>) -> Self {
        Self { carrier, clock, current: Mutex::new(None), reasons: Reasons::default() }
    }

    /// A stream for a connection's session, over the link that stands or a new one.
    pub(crate) async fn session(&self, login: &Login, connection: ConnectionId) -> Result<Box<dyn Stream>, LinkError> {
        let link = self.link(login).await?;
        let mut stream = link.open(Class::Interactive).await?;
        send(&mut stream, &Preamble::Session { connection }).await?;
        Ok(stream)
    }

    /// Why the server says a connection ended.
    pub(crate) fn reason(&self, connection: ConnectionId) -> Option<String> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).get(&connection).cloned()
    }

    async fn link(&self, login: &Login) -> Result<Arc<dyn Link>, LinkError> {
        let mut current = self.current.lock().await;
        if let Some(live) = current.as_ref().filter(|l| l.stands.load(Ordering::Acquire)) {
            return Ok(Arc::clone(&live.link));
        }
        *current = None;
        let link = self.carrier.dial().await?;
        let mut control = link.open(Class::Interactive).await?;
        client_login(&mut control, login.organization(), login.id(), login.key()).await?;
        let stands = Arc::new(AtomicBool::new(true));
        let talk = converse(control, Arc::clone(&self.clock), Arc::clone(&stands), Arc::clone(&self.reasons));
        let conversation = tokio::spawn(talk).abort_handle();
        *current = Some(Live { link: Arc::clone(&link), stands, conversation });
        Ok(link)
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("carrier", &self.carrier.name()).finish_non_exhaustive()
    }
}

/// Keeps the link alive and listens, until it ends.
async fn converse(control: Box<dyn Stream>, clock: Arc<dyn Clock>, stands: Arc<AtomicBool>, reasons: Reasons) {
    let mut server = Conversation::<FromServer, ToServer>::new(control, ToServer::Ping, clock);
    loop {
        match server.next().await {
            Ok(FromServer::Closed { connection, reason }) => {
                let mut reasons = reasons.lock().unwrap_or_else(PoisonError::into_inner);
                if reasons.len() < MAX_REASONS {
                    reasons.insert(connection, reason);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the link to the server ended");
                stands.store(false, Ordering::Release);
                return;
            }
        }
    }
}
