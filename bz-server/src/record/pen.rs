//! One session's file and the task that writes it, off the relay's way.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use bz_core::api::record::UserEvent;
use bz_core::id::EventId;
use bz_protocol::transcript::{
    Keep, MAX_REASON, Observer, Parties, Reader, Record, ServerRecord, Writer, without_tokens,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::OnRecordFailure;
use crate::connection::close;
use crate::connection::life::By;
use crate::keys::private_folder;
use crate::record::carrier::Unrecorded;
use crate::record::tokens::{self, Secret, has_tokens};
use crate::record::{RecordError, TokenKey, list, part_path, withhold_file};
use crate::store::connection::Connection;

/// What the log of calls names a record that could not be kept.
const LOST: &str = "recordservice:lost";
/// Notes taken out of the queue at once, and written together.
const BATCH: usize = 64;

/// What a pen is told.
#[derive(Debug)]
pub(super) enum Note {
    /// Append these.
    Keep(Vec<Record>),
    /// Answer when everything before this is written: whether nothing was lost.
    Settle {
        /// The answer.
        done: oneshot::Sender<bool>,
    },
    /// Withhold all content so far, and with `stop` all that follows; answers with the file, if there is one.
    Withhold {
        /// Whether to keep no content from now on.
        stop: bool,
        /// The answer.
        done: oneshot::Sender<Result<Option<PathBuf>, RecordError>>,
    },
}

/// A transcript as far as it is written.
#[derive(Debug)]
pub(super) struct Pen {
    writer: Writer,
    /// Records so far.
    count: u64,
    head: Vec<u8>,
    file: Option<(File, PathBuf)>,
}

/// A pen, and whose session it writes.
#[derive(Debug)]
pub(super) struct Writing {
    pen: Pen,
    key: Arc<TokenKey>,
    app: Weak<App>,
    connection: Connection,
    folder: PathBuf,
    /// Told to the relay when the session is to end with its record.
    failed: CancellationToken,
    lost: bool,
    stopped: bool,
}

impl Pen {
    /// A pen without a file: the first record makes one.
    pub(super) fn new() -> Self {
        let (writer, head) = Writer::new();
        Self { writer, count: 0, head, file: None }
    }

    /// A pen at the end of a file, and the observer of its session; `None` when it is not one of these ends.
    pub(super) fn resume(parties: Parties, keep: Keep, path: PathBuf) -> Option<(Observer, Self)> {
        let bytes = fs::read(&path).ok()?;
        let (observer, writer, length) = Observer::resume(parties, keep, &bytes).ok()?;
        let file = OpenOptions::new().append(true).open(&path).ok()?;
        file.set_len(u64::try_from(length).ok()?).ok()?;
        tokens::mend(&path).ok()?;
        let count = u64::try_from(Reader::new(bytes.get(..length)?).ok()?.count()).ok()?;
        Some((observer, Self { writer, count, head: Vec::new(), file: Some((file, path)) }))
    }

    pub(super) fn of(self, app: &Arc<App>, connection: Connection, failed: CancellationToken) -> Writing {
        let (folder, key) = (app.records.folder(connection.id), Arc::clone(&app.records.key));
        Writing { pen: self, key, app: Arc::downgrade(app), connection, folder, failed, lost: false, stopped: false }
    }
}

impl Writing {
    /// Writes until nobody is left to tell it anything, and then the server's own word about the end, if there is one.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Note>, ended: &OnceLock<String>) {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            let mut records = Vec::new();
            for note in batch.drain(..) {
                match note {
                    Note::Keep(more) => records.extend(more),
                    Note::Settle { done } => {
                        self.append(std::mem::take(&mut records)).await;
                        // Who asked may have gone.
                        done.send(!self.lost).unwrap_or_default();
                    }
                    Note::Withhold { stop, done } => {
                        self.append(std::mem::take(&mut records)).await;
                        self.stopped |= stop;
                        // Who asked may have gone; it is done all the same.
                        done.send(self.withhold().await).unwrap_or_default();
                    }
                }
            }
            self.append(records).await;
        }
        if let Some(reason) = ended.get() {
            self.close(reason).await;
        }
    }

    async fn append(&mut self, records: Vec<Record>) {
        if self.lost || records.is_empty() {
            return;
        }
        let (mut bytes, mut secrets) = (std::mem::take(&mut self.pen.head), Vec::new());
        for record in records {
            let appended = self.append_one(if self.stopped { without_content(record) } else { record });
            match appended {
                Ok((more, secret)) => {
                    bytes.extend(more);
                    secrets.extend(secret);
                }
                Err(error) => return self.lose(&error).await,
            }
        }
        self.write(bytes, secrets, false).await;
    }

    /// A record's bytes without its tokens, and the tokens.
    fn append_one(&mut self, record: Record) -> Result<(Vec<u8>, Option<Secret>), String> {
        let number = self.pen.count;
        self.pen.count = number.saturating_add(1);
        let secret = if has_tokens(&record) {
            let app = self.app.upgrade().ok_or("the server ends")?;
            let nonce = app.random().map_err(|error| error.to_string())?;
            Some(Secret { number, record: record.clone(), nonce })
        } else {
            None
        };
        let bytes = self.pen.writer.append(&without_tokens(record)).map_err(|error| error.to_string())?;
        Ok((bytes, secret))
    }

    /// The server's claim over everything before.
    async fn close(&mut self, reason: &str) {
        let Some(app) = self.app.upgrade().filter(|_| !self.lost && self.pen.file.is_some()) else { return };
        let mut short = reason.to_owned();
        short.truncate(short.floor_char_boundary(MAX_REASON));
        let Some(claim) = self.pen.writer.claim(app.now().wall, &short) else { return };
        let signed = app.online_keys().map_err(|e| e.to_string()).and_then(|keys| {
            let certificate = keys.record.certificate.clone();
            ServerRecord::sign(&claim, app.organization, certificate, &keys.record.key).map_err(|e| e.to_string())
        });
        let bytes = signed
            .and_then(|signed| self.pen.writer.append(&Record::Server(Box::new(signed))).map_err(|e| e.to_string()));
        match bytes {
            Ok(bytes) => self.write(bytes, Vec::new(), true).await,
            Err(error) => self.lose(&error).await,
        }
    }

    async fn write(&mut self, bytes: Vec<u8>, secrets: Vec<Secret>, last: bool) {
        let (open, folder) = (self.pen.file.take(), self.folder.clone());
        let (key, connection) = (Arc::clone(&self.key), self.connection.id);
        let written = tokio::task::spawn_blocking(move || {
            let (mut file, path) = match open {
                Some(open) => open,
                None => create(&folder)?,
            };
            // First: what the transcript holds redacted can be had whole, and what it does not hold counts for nothing.
            key.append(connection, &path, &secrets)?;
            file.write_all(&bytes)?;
            if last {
                file.sync_all()?;
            }
            Ok::<_, io::Error>((file, path))
        });
        match written.await.map_err(io::Error::other).flatten() {
            Ok(open) => {
                self.pen.file = Some(open);
                if let Some(app) = self.app.upgrade() {
                    app.records.grew(connection);
                }
            }
            Err(error) => self.lose(&error.to_string()).await,
        }
    }

    /// The file ends here, and the log says so.
    async fn lose(&mut self, why: &str) {
        self.lost = true;
        let id = self.connection.id;
        tracing::error!(connection = %id, why, "a session's record could not be written and has a gap from here on");
        let Some(app) = self.app.upgrade() else { return };
        app.metrics.records_lost.inc();
        if self.connection.record.required || app.config().on_record_failure == OnRecordFailure::End {
            self.failed.cancel();
        }
        // It may have come to be required since, or no longer.
        let required = match app.store.connection(id).await {
            Ok(known) => known.map_or(self.connection.record.required, |now| now.record.required),
            // Nobody can say that it is not.
            Err(_) => true,
        };
        let then = if required { OnRecordFailure::End } else { app.config().on_record_failure };
        if then == OnRecordFailure::End {
            self.failed.cancel();
        }
        if required {
            // Also one in which nothing passes just now.
            let (app, why) = (Arc::clone(&app), Unrecorded::NotKept.to_string());
            app.clone().records.tasks.spawn(async move {
                if let Err(error) = close(&app, id, &By::Service, &why).await {
                    tracing::error!(connection = %id, %error, "a session that must be recorded is not, and could not be closed");
                }
            });
        }
        let Ok(event) = app.random().map(EventId::from_random) else { return };
        let now = app.now().wall;
        let event = UserEvent {
            id: event,
            organization_id: app.organization,
            actor: self.connection.actor.clone(),
            service_action: LOST.to_owned(),
            resource: id.to_string(),
            evaluation: false,
            timestamp: now.to_string(),
            ip_address: String::new(),
            context: json!({ "why": why, "then": then, "required": required }).to_string(),
        };
        if let Err(error) = app.store.add_user_event(event, now).await {
            tracing::error!(%error, "nor could that be logged");
        }
    }

    async fn withhold(&mut self) -> Result<Option<PathBuf>, RecordError> {
        let Some((file, path)) = self.pen.file.take() else { return Ok(None) };
        let rewritten = tokio::task::spawn_blocking(move || {
            let failed = |error| RecordError::File { path: path.clone(), error };
            let done = withhold_file(&path);
            // Whatever happened, the pen goes on at the end of the file that stands there now.
            drop(file);
            let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
            Ok((done, (file, path)))
        });
        match rewritten.await.map_err(|e| RecordError::Task(e.to_string())).flatten() {
            Ok((done, open)) => {
                let path = open.1.clone();
                self.pen.file = Some(open);
                done.map(|()| Some(path))
            }
            Err(error) => {
                self.lose(&error.to_string()).await;
                Err(error)
            }
        }
    }
}

fn without_content(record: Record) -> Record {
    use bz_protocol::frame::Kind;
    match record {
        Record::Frame { direction, frame } if frame.header.kind == Some(Kind::Bytes) => {
            Record::Frame { direction, frame: frame.withheld() }
        }
        Record::Conflict { direction, frame } => Record::Conflict { direction, frame: frame.withheld() },
        record @ (Record::Anchors(_)
        | Record::Opening(_)
        | Record::Directory(_)
        | Record::Predecessor(_)
        | Record::Segment(_)
        | Record::Frame { .. }
        | Record::Checkpoint { .. }
        | Record::Server(_)) => record,
    }
}

/// A new file of the next number.
fn create(folder: &Path) -> io::Result<(File, PathBuf)> {
    private_folder(folder).map_err(io::Error::other)?;
    let mut number = list(folder).map_err(io::Error::other)?.last().map_or(1, |part| part.number.saturating_add(1));
    loop {
        let path = part_path(folder, number);
        match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((file, path)),
            // Another session of the connection was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number = number.saturating_add(1),
            Err(error) => return Err(error),
        }
    }
}

/// Writes a private file from its beginning.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all())
}
