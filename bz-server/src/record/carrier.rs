//! One carrier of a session as the record sees it: which session it belongs to, and what each of its packets gives.

mod copied;
mod opened;
mod queried;
mod requested;
mod segment;
mod told;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bz_core::access::request::{Parameters, Request, Size};
use bz_core::api::record::ConnectionEventType;
use bz_core::digest::Digest;
use bz_core::grant::Recording;
use bz_core::key::PublicKey;
use bz_core::oidc::jwks::Jwks;
use bz_core::time::UnixTime;
use bz_core::wire;
use bz_protocol::frame::{Fin, Kind, Notice};
use bz_protocol::keys::Direction;
use bz_protocol::packet::{Packet, SynPacket};
use bz_protocol::refusal::Code;
use bz_protocol::transcript::{Keep, Observed, Observer, Parties, Seen, Violation};
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::observe::{self, Exchange, FileLine, Line};
use crate::record::carrier::queried::Queries;
use crate::record::carrier::told::Told;
use crate::record::pen::{Note, Pen};
use crate::record::{Records, blocking};
use crate::store::connection::Connection;
use crate::store::event::EventFilter;

/// Packets whose records wait to be written.
const QUEUE: usize = 256;
/// The most bytes of a `Fin`, a size or a notice.
const MAX_SMALL: usize = 64;
/// Lines that wait for a checkpoint; an agent signs at least each second.
const MAX_LINES: usize = 4096;

/// Why a packet is not relayed and its session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// It does not fit what came before.
    #[error("a packet does not fit the session: {0}")]
    Violation(#[from] Violation),
    /// Somebody sent two versions of one frame.
    #[error("frame {0} was sent in two versions")]
    Conflict(u64),
    /// The session's record ended.
    #[error("the session is over")]
    Ended,
    /// A session that is in no record.
    #[error("the record does not know the session")]
    Unknown,
    /// The record could not be written, and the settings say that the session ends then.
    #[error("the session could not be recorded")]
    NotKept,
}

/// A connection's two ends, whose signatures a session must have.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The session key of the client's login.
    pub client_key: PublicKey,
    /// The identity key of the agent.
    pub agent_key: PublicKey,
    /// The person's identity provider.
    pub issuer: String,
}

/// One session: what was seen of it, whatever carries it.
#[derive(Debug)]
pub(super) struct Session {
    inner: Mutex<Inner>,
    ended: Arc<OnceLock<String>>,
    done: CancellationToken,
    failed: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    observer: Observer,
    /// An agent's, without a client.
    segment: bool,
    /// The opening message, which a client repeats when its answer was lost.
    syn: Option<Digest>,
    /// What reads the streams for the command log.
    lens: observe::Observer,
    /// The line of this connection that was logged last: output that nobody acknowledged is told again, up to the
    /// repaint of an attach, and a line in it is the same one. Of several only the first is known again.
    again: Option<String>,
    /// Lines that no checkpoint of the agent covers yet, by the frame they were read in.
    lines: Vec<(u64, Line)>,
    /// The same of files.
    files: Vec<(u64, FileLine)>,
    /// The same of statements.
    queries: Queries,
    /// The same of requests to web servers.
    requests: Vec<(u64, Exchange)>,
    /// The last frame that was read of what the target shows.
    shown: u64,
    fin: Option<Fin>,
    refused: Option<Code>,
    carriers: usize,
    over: Option<String>,
    /// Gone when the record is to end.
    notes: Option<mpsc::Sender<Note>>,
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is inside is consistent after each statement that changes it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notes(&self) -> Option<mpsc::Sender<Note>> {
        self.lock().notes.clone()
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().observer.session().is_some()
    }

    pub(super) fn over(&self, why: &str) {
        self.lock().over.get_or_insert_with(|| why.to_owned());
    }

    /// Keeps this content from now on.
    pub(super) fn keep(&self, recording: Recording) {
        self.lock().observer.keep_content(recording.output, recording.input);
    }

    /// Until everything so far is written.
    async fn settled(&self) -> Result<(), Unrecorded> {
        let (done, settled) = oneshot::channel();
        let notes = self.notes().ok_or(Unrecorded::Ended)?;
        notes.send(Note::Settle { done }).await.map_err(|_| Unrecorded::Ended)?;
        if settled.await == Ok(true) { Ok(()) } else { Err(Unrecorded::NotKept) }
    }

    /// Until the file is written to its end.
    pub(super) async fn done(&self) {
        self.done.cancelled().await;
    }

    pub(super) fn end_if_idle(&self, taken_over: bool) {
        let mut inner = self.lock();
        if inner.carriers > 0 {
            return;
        }
        let never_began = || inner.observer.session().is_none().then(String::new);
        let by_ends = || {
            inner
                .observer
                .ended()
                .map(|_| if inner.segment { "the agent ended it" } else { "both ends closed it" }.to_owned())
        };
        let by_other = || taken_over.then(|| "what came after it took over".to_owned());
        let over = by_ends().or_else(|| inner.over.clone()).or_else(never_began).or_else(by_other);
        if let Some(reason) = over {
            self.ended.get_or_init(|| reason);
            inner.notes = None;
        }
    }

    /// One more carrier, unless the record is about to end.
    fn joined(&self, is: impl FnOnce(&Inner) -> bool) -> bool {
        let mut inner = self.lock();
        let joins = inner.notes.is_some() && is(&inner);
        if joins {
            inner.carriers = inner.carriers.saturating_add(1);
        }
        joins
    }
}

impl Inner {
    /// Reads a frame for the command log.
    fn read(&mut self, seen: &Seen, now: UnixTime) {
        self.queries.read(&mut self.lens, seen, now);
        if seen.kind == Some(Kind::Bytes) {
            if seen.direction == Direction::ToClient {
                self.shown = seen.number;
            }
            let lines = self.lens.said(seen.direction, seen.stream, &seen.payload);
            self.add(lines);
            let files = self.lens.files(seen.direction, seen.stream, &seen.payload);
            self.add_files(files);
        }
        match (seen.direction, seen.kind) {
            (Direction::ToClient, Some(Kind::Bytes)) if seen.stream == 0 => {
                let mut lines = self.lens.output(&seen.payload);
                if lines.first().is_some_and(|first| Some(&first.text) == self.again.take().as_ref()) {
                    lines.remove(0);
                }
                self.add(lines);
            }
            (Direction::ToAgent, Some(Kind::Bytes)) => self.lens.input(&seen.payload),
            (Direction::ToAgent, Some(Kind::Resize)) => {
                if let Ok(size) = wire::decode::<Size>(&seen.payload, MAX_SMALL).map(Size::clamped) {
                    self.lens.resize(size.rows, size.columns);
                }
            }
            (Direction::ToClient, Some(Kind::Notice)) => match wire::decode(&seen.payload, MAX_SMALL) {
                Ok(Notice::Password(on)) => self.lens.password(on),
                Ok(Notice::Repaint) => self.again = None,
                Ok(Notice::TakenOver | Notice::LoginEnds) | Err(_) => {}
            },
            _ => {}
        }
    }

    fn add(&mut self, lines: Vec<Line>) {
        let room = MAX_LINES.saturating_sub(self.lines.len());
        self.lines.extend(lines.into_iter().take(room).map(|line| (self.shown, line)));
    }

    fn add_files(&mut self, files: Vec<FileLine>) {
        let shown = self.shown;
        self.files.extend(files.into_iter().map(|file| (shown, file)));
    }

    /// The files that a checkpoint of the agent covers by now; also others when there are too many to wait.
    fn confirmed_files(&mut self) -> Vec<(FileLine, bool)> {
        let observer = &self.observer;
        let covered = |number: u64| observer.is_confirmed(Direction::ToClient, number);
        let count = self.files.iter().take_while(|(number, _)| covered(*number)).count();
        let count = if self.files.len() > MAX_LINES { self.files.len() } else { count };
        self.files.drain(..count).map(|(number, file)| (file, covered(number))).collect()
    }

    fn confirmed_queries(&mut self, all: bool) -> Vec<queried::Queried> {
        self.queries.confirmed(&self.observer, all)
    }

    /// The lines that a checkpoint of the agent covers by now.
    fn confirmed_lines(&mut self) -> Vec<Line> {
        let observer = &self.observer;
        let covered = |(number, _): &&(u64, Line)| observer.is_confirmed(Direction::ToClient, *number);
        let count = self.lines.iter().take_while(covered).count();
        self.lines.drain(..count).map(|(_, line)| line).collect()
    }
}

/// A pair of streams.
#[derive(Debug)]
pub struct Carrier {
    app: Arc<App>,
    connection: Connection,
    ends: Ends,
    session: OnceCell<Arc<Session>>,
}

impl Carrier {
    /// A carrier that has carried nothing.
    #[must_use]
    pub const fn new(app: Arc<App>, connection: Connection, ends: Ends) -> Self {
        Self { app, connection, ends, session: OnceCell::const_new() }
    }

    /// Takes a packet that is about to be relayed.
    ///
    /// # Errors
    /// [`Unrecorded`]: the packet must not go on, and the session must end.
    pub async fn see(&self, direction: Direction, packet: &[u8]) -> Result<(), Unrecorded> {
        let session = match direction {
            Direction::ToAgent => self.session.get_or_try_init(|| self.find(packet)).await?,
            Direction::ToClient => self.session.get().ok_or(Unrecorded::Violation(Violation::OutOfTurn))?,
        };
        let opened = self.take(session, |inner| {
            let observed = inner.observer.observe(direction, packet)?;
            if direction == Direction::ToAgent && inner.observer.session().is_none() {
                self.asked(inner, packet);
            }
            Ok(observed)
        });
        if opened.await? && direction == Direction::ToClient {
            if self.connection.record.required {
                session.settled().await?;
            }
            self.app.records.sweep(self.connection.id);
        }
        Ok(())
    }

    /// Observes something and queues what is kept of it; whether it was an opening.
    async fn take(
        &self,
        session: &Session,
        observe: impl FnOnce(&mut Inner) -> Result<Observed, Violation>,
    ) -> Result<bool, Unrecorded> {
        let notes = session.notes().ok_or(Unrecorded::Ended)?;
        // A place in the queue first: what is observed is queued in the same breath, in order.
        let place = notes.reserve_owned().await.map_err(|_| Unrecorded::Ended)?;
        if session.failed.is_cancelled() {
            return Err(Unrecorded::NotKept);
        }
        let (told, opened, (reported, refused)) = {
            let mut inner = session.lock();
            let observed = observe(&mut inner)?;
            let opened = observed.seen.is_none() && !observed.keep.is_empty();
            if !observed.keep.is_empty() {
                place.send(Note::Keep(observed.keep));
            }
            if let Some(number) = observed.conflict {
                return Err(Unrecorded::Conflict(number));
            }
            inner.fin = observed.seen.as_ref().and_then(fin).or_else(|| inner.fin.take());
            inner.refused = observed.seen.as_ref().and_then(refused).or(inner.refused);
            if let Some(seen) = &observed.seen {
                inner.read(seen, self.app.now().wall);
                inner.read_requests(seen, self.app.now().wall);
            }
            let reported = observed.seen.as_ref().and_then(opened::report);
            let refused = inner.lens.refused();
            (inner.told(), opened, (reported, refused))
        };
        for what in refused {
            self.noted(ConnectionEventType::StreamRefused, format!("{what}: not part of the session")).await;
        }
        if let Some(report) = reported {
            self.reported(&report).await;
        }
        // Before the packet goes on: what it did is in the logs when it is heard of.
        self.rows(told).log(&self.app).await;
        Ok(opened)
    }

    /// How the agent said it ended.
    #[must_use]
    pub fn fin(&self) -> Option<Fin> {
        self.session.get().and_then(|session| session.lock().fin.clone())
    }

    /// Why the agent said it goes no further.
    #[must_use]
    pub fn refused(&self) -> Option<Code> {
        self.session.get().and_then(|session| session.lock().refused)
    }

    /// The opening that the observer just accepted.
    fn asked(&self, inner: &mut Inner, packet: &[u8]) {
        let Ok(Packet::Syn(syn)) = Packet::decode(packet) else { return };
        inner.syn = Some(syn.syn.digest());
        let Some(request) = self.request(&syn) else { return };
        let size = request.parameters.size().unwrap_or(Size { rows: 24, columns: 80 });
        let lens = observe::Observer::new(request.access().spec().lens, size.rows, size.columns);
        let attached = request.parameters.shell().is_some();
        inner.lens = if attached { lens.attached() } else { lens };
        inner.lines.clear();
        if let Parameters::Copy(copy) = &request.parameters {
            inner.lens = observe::Observer::copy(copy);
        }
        if let Parameters::Database(database) = &request.parameters {
            inner.lens = observe::Observer::queries(database, self.connection.redacted);
        }
        if let Parameters::Exec { command } = &request.parameters {
            inner.lines.extend(inner.lens.request(command).map(|line| (0, line)));
        }
    }

    fn request(&self, packet: &SynPacket) -> Option<Request> {
        let syn = packet.syn.open(&self.ends.client_key, self.app.organization).ok()?;
        Request::decode(&syn.request).ok()
    }

    /// The session that a carrier's first packet belongs to.
    async fn find(&self, packet: &[u8]) -> Result<Arc<Session>, Unrecorded> {
        match Packet::decode(packet).map_err(Violation::from)? {
            Packet::Syn(syn) => {
                let digest = Some(syn.syn.digest());
                match self.join(|inner| inner.syn == digest) {
                    Some(found) => Ok(found),
                    None => {
                        let again = self.last_line().await;
                        let session = self.begin(Observer::new(self.parties().await, self.keep()), Pen::new());
                        session.lock().again = again;
                        self.keep_as_now(&session).await;
                        Ok(session)
                    }
                }
            }
            Packet::Resume(resume) => {
                let same = |inner: &Inner| inner.observer.session() == Some(resume.session);
                if let Some(found) = self.join(same) {
                    return Ok(found);
                }
                let _turn = self.app.records.turn.lock().await;
                match self.join(same) {
                    Some(found) => Ok(found),
                    None => self.take_up(resume.session).await,
                }
            }
            Packet::SynAck(_)
            | Packet::Data(_)
            | Packet::DataAck(_)
            | Packet::Control(_)
            | Packet::Refusal(_)
            | Packet::ResumeAck(_)
            | Packet::ResumeDone(_)
            | Packet::Forgotten(_) => Err(Violation::OutOfTurn.into()),
        }
    }

    fn join(&self, is: impl Fn(&Inner) -> bool) -> Option<Arc<Session>> {
        let live = self.app.records.lock();
        live.get(&self.connection.id)?.iter().find(|session| session.joined(&is)).cloned()
    }

    /// Goes on from the file of a session whose record ended: the server was started anew, or another client was there.
    async fn take_up(&self, session: Digest) -> Result<Arc<Session>, Unrecorded> {
        let records = &self.app.records;
        let ending = records.lock().get(&self.connection.id).cloned().unwrap_or_default();
        for other in ending.into_iter().filter(|s| s.ended.get().is_some()) {
            other.done().await;
        }
        let (parties, keep) = (self.parties().await, self.keep());
        let parts = records.parts(self.connection.id).await.map_err(|_| Unrecorded::NotKept)?;
        for part in parts.into_iter().rev() {
            let parties = parties.clone();
            let path = part.path.clone();
            let found = blocking(move || Ok(Pen::resume(parties, keep, part.path))).await;
            if let Ok(Some((observer, pen))) = found
                && observer.session() == Some(session)
            {
                let session = self.begin(observer, pen);
                session.listen_again(self.connection.access.spec().lens);
                self.read_again(&session, path).await;
                self.keep_as_now(&session).await;
                return Ok(session);
            }
        }
        Err(Unrecorded::Unknown)
    }

    fn begin(&self, observer: Observer, pen: Pen) -> Arc<Session> {
        let (notes, queue) = mpsc::channel(QUEUE);
        let inner = Inner {
            observer,
            segment: false,
            syn: None,
            lens: observe::Observer::Opaque,
            again: None,
            lines: Vec::new(),
            files: Vec::new(),
            queries: Queries::default(),
            requests: Vec::new(),
            shown: 0,
            fin: None,
            refused: None,
            carriers: 1,
            over: None,
            notes: Some(notes),
        };
        let session = Arc::new(Session {
            inner: Mutex::new(inner),
            ended: Arc::default(),
            done: CancellationToken::new(),
            failed: CancellationToken::new(),
        });
        let records = &self.app.records;
        records.lock().entry(self.connection.id).or_default().push(Arc::clone(&session));
        let place = pen.of(&self.app, self.connection.clone(), session.failed.clone());
        let (ended, app, id) = (Arc::clone(&session.ended), Arc::downgrade(&self.app), self.connection.id);
        let (done, weak) = (session.done.clone().drop_guard(), Arc::downgrade(&session));
        records.tasks.spawn(async move {
            place.run(queue, &ended).await;
            if let (Some(app), Some(session)) = (app.upgrade(), weak.upgrade()) {
                app.records.forget(id, &session);
            }
            drop(done);
        });
        session
    }

    fn keep(&self) -> Keep {
        let apart = observe::apart(self.connection.access.spec().lens);
        Keep { output: self.connection.record.keeps.output, input: self.connection.record.keeps.input, apart }
    }

    /// What is kept may have changed since the streams were paired, and a change tells only sessions that are known.
    async fn keep_as_now(&self, session: &Session) {
        if let Ok(Some(now)) = self.app.store.connection(self.connection.id).await {
            session.keep(now.record.keeps);
        }
    }

    async fn parties(&self) -> Parties {
        let bundle = self.app.bundle();
        let provider = bundle.providers.iter().find(|p| p.issuer == self.ends.issuer);
        let keys = match provider {
            Some(provider) => self.app.jwks.keys(provider, self.app.now().mono).await.ok(),
            None => None,
        };
        Parties {
            organization: self.app.organization,
            root: self.app.root(),
            connection: self.connection.id,
            client_key: self.ends.client_key,
            agent_key: self.ends.agent_key,
            certificates: Vec::new(),
            // Without them the transcript lacks the one key, and a verifier's own archive must have it.
            keys: keys.map(|keys| Jwks::clone(&keys)).unwrap_or_default(),
            directory: None,
        }
    }

    async fn last_line(&self) -> Option<String> {
        let filter = EventFilter { connections: vec![self.connection.id], limit: 1, ..EventFilter::default() };
        let last = self.app.store.command_events(filter).await.ok()?;
        last.into_iter().next().map(|event| event.command)
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let Some(session) = self.session.get() else { return };
        let told = {
            let mut inner = session.lock();
            inner.carriers = inner.carriers.saturating_sub(1);
            let last = inner.carriers == 0 && inner.observer.session().is_some();
            if last { inner.last_told(self.app.now().wall) } else { Told::default() }
        };
        let (rows, app) = (self.rows(told), Arc::clone(&self.app));
        self.app.records.tasks.spawn(async move { rows.log(&app).await });
        Records::sweep(&self.app.records, self.connection.id);
    }
}

/// The end that a frame of the agent carries.
fn fin(seen: &Seen) -> Option<Fin> {
    let ends = seen.kind == Some(Kind::Fin) && seen.direction == Direction::ToClient;
    if ends { wire::decode(&seen.payload, MAX_SMALL).ok() } else { None }
}

/// The refusal that a frame of the agent carries.
fn refused(seen: &Seen) -> Option<Code> {
    let refuses = seen.kind == Some(Kind::Refuse) && seen.direction == Direction::ToClient;
    if refuses { wire::decode(&seen.payload, MAX_SMALL).ok() } else { None }
}
