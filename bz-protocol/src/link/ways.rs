//! Which carrier a link takes: the first over which the server answers.
//!
//! A carrier has won when the server's challenge came over it. Then bytes went both ways on a stream, which a mere TLS
//! handshake does not show, and nobody is logged in yet, so losers leave nothing behind: a second login of an agent
//! would take the first one's place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bz_core::id::{LoginId, OrganizationId};
use bz_core::key::PrivateKey;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::carrier::{Carrier, Class, Link, LinkError, Stream};
use crate::control::{AgentHello, ClientHello, LinkRefusal, ToServer};
use crate::limits::{HEAD_START, LINK_DEAD};
use crate::link::{challenge, in_time, send, welcome};

/// How long [`Recent`] remembers.
const RECENT: Duration = Duration::from_secs(24 * 3600);
/// A link that ended sooner than this worked for less than [`LINK_DEAD`] before its silence was noticed.
const HARDLY: Duration = LINK_DEAD.saturating_mul(2);

/// Remembers which carrier goes first.
pub trait Memory: Send + Sync {
    /// The name of the carrier to begin with, where one is known to be good.
    fn first(&self) -> Option<String>;

    /// This one is to go first from now on.
    fn keep(&self, carrier: &str);
}

/// Remembers for a day, in memory, wherever this machine may be: on a network where another carrier is better, that one
/// starts a little later and wins.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Option<(String, Instant)>>);

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        // Whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory for Recent {
    fn first(&self) -> Option<String> {
        self.lock().as_ref().filter(|(_, at)| at.elapsed() < RECENT).map(|(carrier, _)| carrier.clone())
    }

    fn keep(&self, carrier: &str) {
        let mut kept = self.lock();
        // What is only confirmed grows no younger: now and then the race is run as if nothing were known.
        if kept.as_ref().is_none_or(|(known, at)| known != carrier || at.elapsed() >= RECENT) {
            *kept = Some((carrier.to_owned(), Instant::now()));
        }
    }
}

/// How a server is reached: by one carrier, or by several that race. Clones share what is remembered.
#[derive(Clone)]
pub struct Ways {
    carriers: Vec<Arc<dyn Carrier>>,
    memory: Arc<dyn Memory>,
}

impl<C: Carrier + 'static> From<Arc<C>> for Ways {
    fn from(carrier: Arc<C>) -> Self {
        Self::race([carrier as Arc<dyn Carrier>])
    }
}

impl From<Arc<dyn Carrier>> for Ways {
    fn from(carrier: Arc<dyn Carrier>) -> Self {
        Self::race([carrier])
    }
}

impl Ways {
    /// Carriers that race, in the order in which they start.
    #[must_use]
    pub fn race(carriers: impl IntoIterator<Item = Arc<dyn Carrier>>) -> Self {
        Self { carriers: carriers.into_iter().collect(), memory: Arc::new(Recent::default()) }
    }

    /// The same carriers, the winner remembered there.
    #[must_use]
    pub fn remembering(self, memory: Arc<dyn Memory>) -> Self {
        Self { memory, ..self }
    }

    /// The names of the carriers, as they start when nothing is remembered.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.carriers.iter().map(|carrier| carrier.name())
    }

    /// The first carrier starts at once, each further one [`HEAD_START`] later or when one fails; who brings the
    /// server's challenge wins, and the others are dropped.
    ///
    /// # Errors
    /// When none brings it; says what each met.
    pub async fn hail(&self, organization: OrganizationId) -> Result<Hailed, LinkError> {
        let mut waiting = self.in_order().into_iter();
        let mut running = FuturesUnordered::new();
        let mut failures = Vec::new();
        loop {
            // One more at the start, and whenever one failed or had its time.
            if let Some(carrier) = waiting.next() {
                running.push(answer(carrier, organization));
            }
            if running.is_empty() {
                return Err(self.none(&failures));
            }
            let more = waiting.len() > 0;
            tokio::select! {
                Some((carrier, answer)) = running.next() => match answer {
                    Ok((link, control, challenge)) => {
                        let ways = self.clone();
                        return Ok(Hailed { carrier, link, control, challenge, organization, ways });
                    }
                    Err(error) => {
                        tracing::debug!(carrier, %error, "a carrier brings no answer");
                        failures.push((carrier, error));
                    }
                },
                () = tokio::time::sleep(HEAD_START), if more => {}
            }
        }
    }

    /// Says how long a link stood that ended by itself. A carrier whose link hardly stood does not go first next time,
    /// however well it begins.
    pub fn ended(&self, carrier: &str, stood: Duration) {
        let other = self.names().find(|name| *name != carrier).filter(|_| stood < HARDLY);
        if let Some(other) = other {
            tracing::debug!(carrier, other, "a link hardly stood; the other carrier goes first next time");
            self.memory.keep(other);
        }
    }

    fn in_order(&self) -> Vec<Arc<dyn Carrier>> {
        let mut carriers = self.carriers.clone();
        if carriers.len() > 1
            && let Some(first) = self.memory.first()
        {
            // Stable: the others keep their order.
            carriers.sort_by_key(|carrier| carrier.name() != first);
        }
        carriers
    }

    fn none(&self, failures: &[(&'static str, LinkError)]) -> LinkError {
        match failures {
            [] => LinkError("there is no carrier".to_owned()),
            [(_, only)] if self.carriers.len() == 1 => only.clone(),
            all => {
                let all: Vec<_> = all.iter().map(|(carrier, LinkError(why))| format!("by {carrier}: {why}")).collect();
                LinkError(format!("no carrier reaches the server; {}", all.join("; ")))
            }
        }
    }
}

impl std::fmt::Debug for Ways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ways").field(&self.names().collect::<Vec<_>>()).finish()
    }
}

/// What one carrier brought.
type Answer = (Unclaimed, Box<dyn Stream>, [u8; 32]);

async fn answer(carrier: Arc<dyn Carrier>, organization: OrganizationId) -> (&'static str, Result<Answer, LinkError>) {
    let work = in_time(async {
        let link = Unclaimed(Some(carrier.dial().await?));
        let mut control = link.get()?.open(Class::Interactive).await?;
        let challenge = challenge(&mut control, organization).await?;
        Ok((link, control, challenge))
    });
    (carrier.name(), work.await)
}

/// A link that is closed when nobody takes it.
struct Unclaimed(Option<Arc<dyn Link>>);

impl Unclaimed {
    fn get(&self) -> Result<&Arc<dyn Link>, LinkError> {
        self.0.as_ref().ok_or_else(|| LinkError("closed".to_owned()))
    }

    fn claim(mut self) -> Result<Arc<dyn Link>, LinkError> {
        self.0.take().ok_or_else(|| LinkError("closed".to_owned()))
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.close();
        }
    }
}

/// A server that answered and waits for a login. Dropping it closes the link.
pub struct Hailed {
    carrier: &'static str,
    link: Unclaimed,
    control: Box<dyn Stream>,
    challenge: [u8; 32],
    organization: OrganizationId,
    ways: Ways,
}

impl Hailed {
    /// The carrier that won.
    #[must_use]
    pub const fn carrier(&self) -> &'static str {
        self.carrier
    }

    /// Logs an agent in; `hello` needs its proof filled in.
    ///
    /// # Errors
    /// [`NotLinked`], saying who refused and why.
    pub async fn agent(self, mut hello: AgentHello, key: &PrivateKey) -> Result<Linked, NotLinked> {
        hello.prove(&self.challenge, self.organization, key);
        self.log_in(ToServer::Agent(Box::new(hello))).await
    }

    /// Logs a client in.
    ///
    /// # Errors
    /// [`NotLinked`], saying who refused and why.
    pub async fn client(self, login: LoginId, key: &PrivateKey) -> Result<Linked, NotLinked> {
        let hello = ClientHello::prove(login, &self.challenge, self.organization, key);
        self.log_in(ToServer::Client(hello)).await
    }

    async fn log_in(mut self, hello: ToServer) -> Result<Linked, NotLinked> {
        let control = &mut self.control;
        let said = in_time(async {
            send(control, &hello).await?;
            welcome(control).await
        });
        match said.await {
            Ok(Ok(())) => {
                self.ways.memory.keep(self.carrier);
                Ok(Linked { carrier: self.carrier, link: self.link.claim()?, control: self.control })
            }
            // The server's word is no fault of the carrier.
            Ok(Err(refusal)) => Err(refusal.into()),
            Err(broken) => {
                self.ways.ended(self.carrier, Duration::ZERO);
                Err(broken.into())
            }
        }
    }
}

impl std::fmt::Debug for Hailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hailed").field("carrier", &self.carrier).finish_non_exhaustive()
    }
}

/// Why there is no link.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotLinked {
    /// It broke, or the server cannot be reached.
    #[error(transparent)]
    Broken(#[from] LinkError),
    /// The server refuses. Nothing proves that it is right to.
    #[error(transparent)]
    Refused(#[from] LinkRefusal),
}

impl From<NotLinked> for LinkError {
    fn from(error: NotLinked) -> Self {
        match error {
            NotLinked::Broken(error) => error,
            NotLinked::Refused(refusal) => Self(refusal.to_string()),
        }
    }
}

/// A link that is logged in.
#[derive(Debug)]
pub struct Linked {
    /// The carrier it goes over.
    pub carrier: &'static str,
    /// The link.
    pub link: Arc<dyn Link>,
    /// Its control stream.
    pub control: Box<dyn Stream>,
}

/// Which of the built-in carriers may be used.
#[cfg(all(feature = "ws", feature = "quic"))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one that answers first: QUIC has a head start. WebSocket alone where a proxy leads to the server, or TLS is
    /// not spoken.
    #[default]
    Auto,
    /// WebSocket.
    Ws,
    /// QUIC, straight to the server.
    Quic,
}

#[cfg(all(feature = "ws", feature = "quic"))]
impl Ways {
    /// The built-in ways to the server at `https://…` (or `http://` on loopback), trusting what `tls` trusts.
    #[must_use]
    pub fn to_server(
        server: &url::Url,
        tls: &Arc<rustls::ClientConfig>,
        choice: Choice,
        proxies: &crate::carrier::Proxies,
    ) -> Self {
        let proxy = proxies.to(server).cloned();
        let is_straight = proxy.is_none() && server.scheme() == "https";
        let ws = crate::carrier::Ws::to_server(server, Arc::clone(tls));
        let ws: Arc<dyn Carrier> = Arc::new(match proxy {
            Some(proxy) => ws.through(proxy),
            None => ws,
        });
        let quic = || Arc::new(crate::carrier::Quic::new(server.clone(), Arc::clone(tls))) as Arc<dyn Carrier>;
        match choice {
            Choice::Auto if is_straight => Self::race([quic(), ws]),
            Choice::Auto | Choice::Ws => Self::race([ws]),
            Choice::Quic => Self::race([quic()]),
        }
    }
}
