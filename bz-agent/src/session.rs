//! Sessions: one task each, from the first packet to the end; one that panics takes no other with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bz_core::digest::Digest;
use bz_core::id::ConnectionId;
use bz_core::signed::Signed;
use bz_protocol::agent::{Action, Agent, Config, Event};
use bz_protocol::carrier::{Prefixed, Stream, read_message, write_message};
use bz_protocol::driver::{Channels, Openings, drive_keeping, random, streams};
use bz_protocol::gate::{Admission, Admitted, Denial, Opening};
use bz_protocol::limits::{HANDSHAKE, MAX_PACKET};
use bz_protocol::packet::{Forgotten, Packet, Resume};
use bz_protocol::refusal::Code;
use bz_protocol::segment::Delivered;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::agent::Context;
use crate::backend::{Closing, Io, ToBackend};

/// When the agent stops: how long a client may take to acknowledge its session's end, and how long the rest may take.
const ANSWERED: Duration = Duration::from_millis(500);
const CUT: Duration = Duration::from_secs(5);
/// Sessions of one agent at once.
const MAX_SESSIONS: usize = 4096;

/// The sessions of one agent.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Table>);

#[derive(Default)]
struct Table {
    tasks: JoinSet<()>,
    running: BTreeMap<u64, Entry>,
    next: u64,
}

struct Entry {
    connection: ConnectionId,
    syn: Digest,
    /// Known once the `Syn` was answered.
    session: Option<Digest>,
    carriers: mpsc::Sender<Box<dyn Stream>>,
    closing: mpsc::Sender<Closing>,
    task: AbortHandle,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is consistent after each statement that changes it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a connection's sessions.
    pub(crate) fn close(&self, connection: ConnectionId, closing: Closing) {
        for entry in self.lock().running.values().filter(|e| e.connection == connection) {
            if entry.closing.try_send(closing).is_err() {
                entry.task.abort();
            }
        }
    }

    /// Lets every session say its end.
    pub(crate) async fn end(&self) {
        let mut tasks = std::mem::take(&mut self.lock().tasks);
        // The second time those end, too, that have said their end to a client that does not answer.
        for wait in [ANSWERED, CUT] {
            for entry in self.lock().running.values() {
                entry.closing.try_send(Closing::Session).unwrap_or_default();
            }
            let all = async { while tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(wait, all).await.is_ok() {
                return;
            }
        }
        tracing::warn!("sessions did not end in time and were cut");
    }

    pub(crate) fn abort(&self) {
        self.lock().tasks.abort_all();
    }

    /// Where a carrier with this first packet belongs, if a session is waiting for it.
    fn find(&self, packet: &Packet) -> Option<mpsc::Sender<Box<dyn Stream>>> {
        let fits = |entry: &&Entry| match packet {
            Packet::Syn(syn) => entry.syn == syn.syn.digest(),
            Packet::Resume(resume) => entry.session == Some(resume.session),
            Packet::SynAck(_)
            | Packet::Data(_)
            | Packet::DataAck(_)
            | Packet::Control(_)
            | Packet::Refusal(_)
            | Packet::ResumeAck(_)
            | Packet::ResumeDone(_)
            | Packet::Forgotten(_) => false,
        };
        self.lock().running.values().find(fits).map(|e| e.carriers.clone())
    }

    /// Whether a session of the connection may have been answered and is not known by its id yet.
    fn is_opening(&self, connection: ConnectionId) -> bool {
        self.lock().running.values().any(|entry| entry.connection == connection && entry.session.is_none())
    }
}

/// A stream of a connection: the first carrier of a new session, or another carrier of one that runs.
pub(crate) async fn carrier(context: &Arc<Context>, connection: ConnectionId, mut stream: Box<dyn Stream>) {
    let first = tokio::time::timeout(HANDSHAKE, read_message(&mut stream, MAX_PACKET)).await;
    let Ok(Ok(Some(bytes))) = first else {
        tracing::debug!(%connection, "a carrier without a first packet");
        return;
    };
    let Ok(packet) = Packet::decode(&bytes) else {
        tracing::warn!(%connection, "a carrier whose first packet is malformed");
        return;
    };
    let known = context.sessions.find(&packet);
    let again = |stream| Box::new(Prefixed::message(&bytes, stream));
    match (known, packet) {
        (Some(carriers), _) => {
            if carriers.send(again(stream)).await.is_err() {
                tracing::debug!(%connection, "a carrier for a session that has just ended");
            }
        }
        (None, Packet::Syn(syn)) => start(context, connection, syn.syn.digest(), again(stream)).await,
        (None, Packet::Resume(resume)) if !context.sessions.is_opening(connection) => {
            tracing::info!(%connection, "a client comes back to a session that is not known");
            if let Err(error) = forgotten(context, &resume, stream).await {
                tracing::debug!(%connection, %error, "it could not be told");
            }
        }
        (None, packet) => tracing::debug!(%connection, packet = packet.name(), "a carrier for no session"),
    }
}

/// Says that the session is not known, so that its client need not wait for it.
async fn forgotten(context: &Context, resume: &Resume, mut stream: Box<dyn Stream>) -> std::io::Result<()> {
    let identity = &context.identity;
    let body = Forgotten { session: resume.session, random: resume.random };
    let signed = Signed::seal(&body, identity.organization, &identity.identity_key).map_err(std::io::Error::other)?;
    let packet = Packet::Forgotten(Box::new(signed)).encode().map_err(std::io::Error::other)?;
    let told = async {
        write_message(&mut stream, &packet).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(HANDSHAKE, told).await.map_err(std::io::Error::other)?
}

async fn start(context: &Arc<Context>, connection: ConnectionId, syn: Digest, stream: Box<dyn Stream>) {
    let (carriers, from_links) = mpsc::channel(4);
    let (closing, closed) = mpsc::channel(1);
    if carriers.send(stream).await.is_err() {
        return;
    }
    let mut table = context.sessions.lock();
    if table.running.len() >= MAX_SESSIONS {
        tracing::warn!(%connection, "too many sessions");
        return;
    }
    while table.tasks.try_join_next().is_some() {}
    let id = table.next;
    table.next = id.wrapping_add(1);
    let session = Session { id, connection, context: Arc::clone(context) };
    let task = table.tasks.spawn(session.run(from_links, closed));
    table.running.insert(id, Entry { connection, syn, session: None, carriers, closing, task });
}

struct Session {
    id: u64,
    connection: ConnectionId,
    context: Arc<Context>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Also when the task panicked.
        self.context.sessions.lock().running.remove(&self.id);
    }
}

impl Session {
    async fn run(self, carriers: mpsc::Receiver<Box<dyn Stream>>, closed: mpsc::Receiver<Closing>) {
        let (Ok(seed), Ok(fresh)) = (random(), random()) else {
            tracing::error!("the operating system gives no random bytes");
            return;
        };
        let identity = &self.context.identity;
        let config = Config::new(identity.organization, identity.identity_key.clone(), seed, fresh);
        let machine = Agent::new(config, self.context.clock.now());
        let (actions, from_us) = mpsc::channel(8);
        let (to_us, events) = mpsc::channel(8);
        let (_, openings, streams) = streams();
        let channels = Channels { carriers, actions: from_us, events: to_us, streams };
        let (clock, receipts) = (Arc::clone(&self.context.clock), self.context.receipts.clone());
        let driver = drive_keeping(machine, channels, clock, receipts);
        let end = tokio::join!(driver, self.serve(actions, (events, openings), closed)).0;
        tracing::info!(connection = %self.connection, %end, "session ended");
    }

    /// Answers the machine's questions, and stands between it and the back end.
    async fn serve(
        &self,
        actions: mpsc::Sender<Action>,
        (mut events, openings): (mpsc::Receiver<Event>, Openings),
        mut closed: mpsc::Receiver<Closing>,
    ) {
        let mut backend: Option<Running> = None;
        let mut openings = Some(openings);
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                Some(closing) = closed.recv() => {
                    if !close(backend.as_ref(), closing, &actions).await {
                        return;
                    }
                    continue;
                }
                Err(error) = ended(&mut backend) => {
                    tracing::error!(connection = %self.connection, %error, "a back end broke; its session ends");
                    backend = None;
                    if actions.send(Action::Refuse(Code::Unavailable)).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Some(event) = event else { return };
            let answer = match event {
                Event::Judge(opening) => Some(self.judge(&opening).await),
                Event::Answered { session } => {
                    self.known_as(session);
                    None
                }
                Event::Confirmed(confirmed) => {
                    let admitted = self.context.gate().consume(*confirmed, self.context.clock.now());
                    match admitted {
                        Ok(admitted) => {
                            // A session is confirmed once.
                            backend = openings.take().map(|openings| self.begin(admitted, actions.clone(), openings));
                            None
                        }
                        Err(denial) => Some(self.refuse(&denial)),
                    }
                }
                Event::Reauthenticate(certificate) => match &backend {
                    Some(running) => self.renew(&running.admitted, &certificate).await,
                    None => None,
                },
                Event::Ended(_) => None,
                event @ (Event::Bytes { .. }
                | Event::Eof { .. }
                | Event::Resize(_)
                | Event::Finished(_)
                | Event::Delivered(_)
                | Event::Open { .. }
                | Event::Reset { .. }
                | Event::Resumed) => pass(backend.as_ref(), event).await,
            };
            if let Some(action) = answer
                && actions.send(action).await.is_err()
            {
                return;
            }
        }
    }

    async fn judge(&self, opening: &Opening) -> Action {
        match self.admit(opening).await {
            Ok(admission) => {
                let attached = self.context.backends.attached(&admission);
                match self.context.backends.facts(&admission) {
                    Ok(facts) => Action::Admit { admission: Box::new(admission), attached, facts },
                    Err(code) => Action::Refuse(code),
                }
            }
            Err(denial) => self.refuse(&denial),
        }
    }

    async fn admit(&self, opening: &Opening) -> Result<Admission, Denial> {
        let issuer = self.context.gate().issuer(opening)?;
        let jwks = self.context.jwks.get(&issuer).await;
        let first = self.context.gate().admit(opening, jwks.as_ref(), self.context.clock.now());
        match first {
            Err(denial) if denial.wants_fresh_keys() => {
                let jwks = self.context.jwks.get_anew(&issuer).await;
                self.context.gate().admit(opening, jwks.as_ref(), self.context.clock.now())
            }
            decided => decided,
        }
    }

    async fn renew(&self, admitted: &Admitted, certificate: &[u8]) -> Option<Action> {
        let issuer = self.context.gate().issuer_of(certificate).ok()?;
        let jwks = self.context.jwks.get_anew(&issuer).await;
        let renewal = self.context.gate().renew(admitted, certificate, jwks.as_ref(), self.context.clock.now());
        match renewal {
            Ok(renewal) => Some(Action::Renew(renewal)),
            Err(denial) => {
                tracing::warn!(connection = %self.connection, %denial, "a newer token is refused; the session ends at its old end");
                None
            }
        }
    }

    fn refuse(&self, denial: &Denial) -> Action {
        if denial.code() == Code::CertificateUnknown {
            tracing::debug!(connection = %self.connection, "asking for the certificate");
        } else {
            tracing::warn!(connection = %self.connection, %denial, "refused");
        }
        Action::Refuse(denial.code())
    }

    fn known_as(&self, session: Digest) {
        if let Some(entry) = self.context.sessions.lock().running.get_mut(&self.id) {
            entry.session = Some(session);
        }
    }

    fn begin(&self, admitted: Admitted, actions: mpsc::Sender<Action>, openings: Openings) -> Running {
        let (to_backend, words) = mpsc::channel(64);
        let mut task = JoinSet::new();
        let (context, connection) = (Arc::clone(&self.context), self.connection);
        let (delivered, seen) = watch::channel(None);
        let io = Io { words, actions, openings, delivered: seen };
        task.spawn(crate::backend::run(context, connection, admitted.clone(), io));
        Running { admitted: Box::new(admitted), to_backend, delivered, asked: AtomicBool::new(false), task }
    }
}

/// A back end at work; ends with the session.
struct Running {
    admitted: Box<Admitted>,
    to_backend: mpsc::Sender<ToBackend>,
    /// Not among the words: those may wait for a program that does not read.
    delivered: watch::Sender<Option<Delivered>>,
    /// Whether it was asked to end after it had said its end.
    asked: AtomicBool,
    task: JoinSet<()>,
}

/// How the back end's task ended, as soon as it has.
async fn ended(backend: &mut Option<Running>) -> Result<(), JoinError> {
    let ended = match backend {
        Some(running) => running.task.join_next().await,
        None => None,
    };
    match ended {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

/// Ends a session by order; `false` when there is nothing to wait for.
async fn close(backend: Option<&Running>, closing: Closing, actions: &mpsc::Sender<Action>) -> bool {
    match backend {
        // Its end was said: the first time its client may still answer, the second time nobody waits for that.
        Some(running) if running.task.is_empty() => !running.asked.swap(true, Ordering::Relaxed),
        Some(running) => {
            running.tell(ToBackend::Close(closing)).await;
            true
        }
        None => actions.send(Action::Refuse(Code::Revoked)).await.is_ok(),
    }
}

/// Gives a back end what concerns it; there is nothing to answer.
async fn pass(backend: Option<&Running>, event: Event) -> Option<Action> {
    let running = backend?;
    if let Event::Delivered(delivered) = event {
        running.delivered.send_replace(Some(delivered));
    } else if let Some(word) = ToBackend::from_event(event) {
        running.tell(word).await;
    }
    None
}

impl Running {
    async fn tell(&self, word: ToBackend) {
        // A back end that has ended has said so to the machine itself.
        self.to_backend.send(word).await.unwrap_or_default();
    }
}
