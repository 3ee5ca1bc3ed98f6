//! Places that logs are sent to: files, syslog, webhooks and collectors of OpenTelemetry.
//!
//! Each has a cursor in the store, which moves only past rows that were taken: over a restart nothing is lost, and the last
//! rows may come twice.
//!
//! ```text
//! store ──rows after the cursor──▶ batch ──Receiver::take──▶ file | syslog | webhook | otlp
//!   ▲                                            │ taken
//!   └────────────────── cursor ◀─────────────────┘   refused: wait, longer each time, and send the same again
//! ```
//!
//! Absent: UDP, over which nobody knows what came, and filters beyond which log, which receivers have.

mod file;
mod otlp;
mod syslog;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bz_core::time::Mono;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::app::App;
use crate::store::StoreError;
use crate::store::event::{EventFilter, Log, Row};

/// The most sinks.
pub const MOST: usize = 16;
/// The most bytes of rows that are sent at once, unless one alone has more.
const BATCH: usize = 512 << 10;
/// How long a sink that refused is left alone at first, and at most.
const WAIT: Duration = Duration::from_secs(1);
const MOST_WAIT: Duration = Duration::from_secs(60);
/// How long a batch may still take when all ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// How many rows of other logs may pass before it is remembered that they did, and for how long: retention waits for what
/// is not remembered.
const FAR: u64 = 10_000;
const LONG: Duration = Duration::from_secs(3600);
/// How long a receiver may take for a batch.
const PATIENCE: Duration = Duration::from_secs(30);

/// A place that logs are sent to. Exactly one of `file`, `syslog`, `webhook` and `otlp` says where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    /// Its name, under which is remembered what it took.
    pub name: String,
    /// A file of JSON lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// `unix:/dev/log`, `tcp://host:514` or `tls://host:6514`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog: Option<String>,
    /// Where JSON lines are posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Url>,
    /// Where a collector of OpenTelemetry takes logs over HTTP, its path included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Url>,
    /// The file of the secret that a webhook's calls are signed with, or that a collector knows this server by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<PathBuf>,
    /// A PEM file of roots for a receiver over TLS, instead of the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The logs by name; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
}

impl SinkSettings {
    /// Whether it can be used as it stands.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(plain) {
            return Err("needs a name of 1 to 64 letters, digits, dashes, dots and underscores");
        }
        let places = [self.file.is_some(), self.syslog.is_some(), self.webhook.is_some(), self.otlp.is_some()];
        if places.iter().filter(|there| **there).count() != 1 {
            return Err("says by exactly one of file, syslog, webhook and otlp where it is");
        }
        if self.webhook.is_some() != self.secret.is_some() && self.otlp.is_none() {
            return Err("needs a secret for a webhook, may have one for otlp, and for nothing else");
        }
        if self.webhook.iter().chain(&self.otlp).any(|url| !crate::seam::jwks::may_fetch(url)) {
            return Err("takes webhook and otlp at https addresses, and on loopback at http ones");
        }
        if self.syslog.as_ref().is_some_and(|address| syslog::Address::parse(address).is_none()) {
            return Err("takes syslog as unix:PATH, tcp://HOST:PORT or tls://HOST:PORT");
        }
        if self.logs.len() > Log::ALL.len() || self.logs.iter().any(|name| Log::named(name).is_none()) {
            return Err(
                "names logs as the API does: subject, connection, command, file, query, web, kube, agent-status-change",
            );
        }
        Ok(())
    }

    fn logs(&self) -> Vec<Log> {
        let named: Vec<_> = self.logs.iter().filter_map(|name| Log::named(name)).collect();
        if named.is_empty() { Log::ALL.to_vec() } else { named }
    }

    fn receiver(&self, app: &App) -> Result<Box<dyn Receiver>, SinkError> {
        if let Some(path) = &self.file {
            return Ok(Box::new(file::Lines::new(path.clone())));
        }
        if let Some(address) = self.syslog.as_deref().and_then(syslog::Address::parse) {
            let host = app.config().public_url.host_str().unwrap_or("-").to_owned();
            return Ok(Box::new(syslog::Syslog::new(address, self.ca.as_deref(), host)?));
        }
        if let Some(url) = &self.otlp {
            let host = app.config().public_url.host_str().unwrap_or("-").to_owned();
            let files = (self.secret.as_deref(), self.ca.as_deref());
            return Ok(Box::new(otlp::Otlp::new(url.clone(), files, host, app.clock())?));
        }
        match (&self.webhook, &self.secret) {
            (Some(url), Some(secret)) => {
                Ok(Box::new(webhook::Webhook::new(url.clone(), secret, self.ca.as_deref(), app.clock())?))
            }
            _ => Err(SinkError::Settings("says nowhere where it is")),
        }
    }
}

/// Why rows were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    #[error(transparent)]
    File(#[from] std::io::Error),
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("it answers {0}")]
    Status(reqwest::StatusCode),
    #[error("it took longer than {} seconds", PATIENCE.as_secs())]
    Slow,
    #[error("{0}")]
    Settings(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Something that takes rows.
pub(crate) trait Receiver: Send {
    /// Takes all of these or fails; what was taken in part is sent again.
    fn take<'a>(&'a mut self, rows: &'a [Row]) -> BoxFuture<'a, Result<(), SinkError>>;
}

/// Sends rows to one sink until it is told to stop.
pub(crate) async fn run(app: Arc<App>, settings: SinkSettings, stop: CancellationToken) {
    let name = settings.name.clone();
    let added = app.store.added_events();
    let app_now = app.now().mono;
    let mut feed =
        Feed { logs: settings.logs(), app, settings, receiver: None, at: None, noted: 0, since: app_now, added };
    let mut wait = WAIT;
    loop {
        let step = tokio::select! {
            step = feed.step() => step,
            () = stopped(&stop) => return,
        };
        if stop.is_cancelled() {
            return;
        }
        let pause = match step {
            Ok(true) => {
                wait = WAIT;
                continue;
            }
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(sink = %name, %error, "logs are not taken, and sent again in {} s", wait.as_secs());
                feed.app.metrics.sink_failed(&name);
                let until = feed.app.now().mono.after(wait);
                wait = wait.saturating_mul(2).min(MOST_WAIT);
                Some(until)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = feed.wait(pause) => {}
        }
    }
}

/// A moment after it was told to stop: what was just taken is noted, and does not come twice.
async fn stopped(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FAREWELL).await;
}

struct Feed {
    app: Arc<App>,
    settings: SinkSettings,
    logs: Vec<Log>,
    receiver: Option<Box<dyn Receiver>>,
    /// The last row that was taken, as the store knows it.
    at: Option<u64>,
    /// The last row that the store knows was taken.
    noted: u64,
    /// Since when it knows it.
    since: Mono,
    added: watch::Receiver<i64>,
}

impl Feed {
    /// Sends what there is next; whether there was anything.
    async fn step(&mut self) -> Result<bool, SinkError> {
        // Before the look, so that what comes after it wakes.
        self.added.mark_unchanged();
        let store = &self.app.store;
        if self.at.is_none() {
            self.noted = store.sink(self.settings.name.clone()).await?.unwrap_or(0);
            self.at = Some(self.noted);
        }
        let at = self.at.unwrap_or(self.noted);
        let (rows, next) = store.events_after((self.logs.clone(), EventFilter::default()), at).await?;
        let behind = store.event_head().await?.count.saturating_sub(at);
        self.app.metrics.sink_behind(&self.settings.name, behind);
        if next <= at {
            self.note_passed(at, self.app.now().mono.since(self.since) >= LONG).await?;
            return Ok(false);
        }
        let receiver = match &mut self.receiver {
            Some(receiver) => receiver,
            none => none.insert(self.settings.receiver(&self.app)?),
        };
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let (batch, more) = rest.split_at(fitting(rest));
            let taken = tokio::time::timeout(PATIENCE, receiver.take(batch)).await;
            taken.map_err(|_| SinkError::Slow)??;
            rest = more;
            let last = if rest.is_empty() { next } else { batch.last().map_or(at, |row| row.seq) };
            store.note_sink(self.settings.name.clone(), last).await?;
            (self.at, self.noted, self.since) = (Some(last), last, self.app.now().mono);
        }
        if rows.is_empty() {
            self.at = Some(next);
            self.note_passed(next, next.saturating_sub(self.noted) >= FAR).await?;
        }
        self.app.metrics.sink_behind(&self.settings.name, behind.saturating_sub(next.saturating_sub(at)));
        Ok(true)
    }

    /// Remembers that rows of other logs passed, where it is time to.
    async fn note_passed(&mut self, at: u64, is_time: bool) -> Result<(), SinkError> {
        if is_time && at > self.noted {
            self.app.store.note_sink(self.settings.name.clone(), at).await?;
            (self.noted, self.since) = (at, self.app.now().mono);
        }
        Ok(())
    }

    /// Until this time; where there is none, until rows are added, also by another program, such as a command on this host.
    async fn wait(&mut self, until: Option<Mono>) {
        let again = until.unwrap_or_else(|| self.app.now().mono.after(MOST_WAIT));
        tokio::select! {
            _ = self.added.changed(), if until.is_none() => {}
            () = self.app.clock().wait(again) => {}
        }
    }
}

/// How many of these rows are sent at once.
fn fitting(rows: &[Row]) -> usize {
    let mut size = 0_usize;
    let fits = rows.iter().take_while(|row| {
        size = size.saturating_add(row.body.len());
        size <= BATCH
    });
    fits.count().max(1).min(rows.len())
}
