//! What is counted, in the text format of Prometheus. Labels are operations, codes and names in the settings, never people
//! or targets: their number is bounded by what the administrator wrote.
//!
//! What can be asked for at any time is asked for when somebody looks.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::app::App;
use crate::doctor;
use crate::store::operation::Done;

/// How long the database may take to answer whoever looks.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// A call's label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    operation: &'static str,
    code: String,
}

/// A sink's label: its name in the settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

/// The counters of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabel, Counter>,
    seconds: Histogram,
    sink_behind: Family<SinkLabel, Gauge>,
    sink_failures: Family<SinkLabel, Counter>,
    /// Times that the periodic work failed.
    pub(crate) job_failures: Counter,
    /// Times that keys of an identity provider could not be had.
    pub(crate) provider_failures: Counter,
    /// Records of sessions that could not be written.
    pub(crate) records_lost: Counter,
    /// Times that an authority gave no certificate.
    pub(crate) acme_failures: Counter,
    now: Seen,
}

/// What is asked for when somebody looks.
#[derive(Debug, Default)]
struct Seen {
    agents: Gauge,
    clients: Gauge,
    sessions: Gauge,
    waiting: Gauge,
    store_seconds: Gauge<f64, AtomicU64>,
    rows: Gauge,
    free: Gauge,
    certificate: Gauge,
    backup: Gauge,
}

impl Seen {
    fn register(&self, registry: &mut Registry) {
        registry.register("agent_links", "Agents that have a link", self.agents.clone());
        registry.register("client_links", "Clients that have a link", self.clients.clone());
        registry.register("sessions", "Paired streams of live sessions", self.sessions.clone());
        registry.register("store_waiting", "Calls that wait for the database", self.waiting.clone());
        registry.register("store_answer_seconds", "How long the database took just now", self.store_seconds.clone());
        registry.register("log_rows", "Rows that the logs ever had", self.rows.clone());
        registry.register("data_free_bytes", "Free room on the disk of the data folder", self.free.clone());
        let help = "When the TLS certificate ends, in seconds since 1970; 0 without TLS";
        registry.register("certificate_end_seconds", help, self.certificate.clone());
        let help = "When the last backup was made, in seconds since 1970; 0 when there was none";
        registry.register("backup_seconds", help, self.backup.clone());
    }
}

impl Metrics {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("bz");
        let calls = Family::<CallLabel, Counter>::default();
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        registry.register("api_calls", "Calls of the API by operation and code", calls.clone());
        registry.register("api_call_seconds", "How long calls of the API took", seconds.clone());
        let (sink_behind, sink_failures) =
            (Family::<SinkLabel, Gauge>::default(), Family::<SinkLabel, Counter>::default());
        registry.register("sink_behind_rows", "Rows of the logs that a sink has not taken yet", sink_behind.clone());
        registry.register("sink_failures", "Attempts to send rows that a sink did not take", sink_failures.clone());
        let now = Seen::default();
        now.register(&mut registry);
        let [job_failures, provider_failures, records_lost, acme_failures] = [(); 4].map(|()| Counter::default());
        registry.register("job_failures", "Times that the periodic work failed", job_failures.clone());
        let help = "Times that keys of an identity provider could not be had";
        registry.register("provider_failures", help, provider_failures.clone());
        registry.register("records_lost", "Records of sessions that could not be written", records_lost.clone());
        let help = "Times that an authority gave no new TLS certificate";
        registry.register("acme_failures", help, acme_failures.clone());
        Self {
            registry,
            calls,
            seconds,
            sink_behind,
            sink_failures,
            job_failures,
            provider_failures,
            records_lost,
            acme_failures,
            now,
        }
    }

    /// Counts one call.
    pub fn called(&self, operation: &'static str, code: String, took: std::time::Duration) {
        self.calls.get_or_create(&CallLabel { operation, code }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// How many rows a sink has not taken yet.
    pub(crate) fn sink_behind(&self, sink: &str, rows: u64) {
        let label = SinkLabel { sink: sink.to_owned() };
        self.sink_behind.get_or_create(&label).set(i64::try_from(rows).unwrap_or(i64::MAX));
        // Told from the first look on: what was never there cannot grow.
        drop(self.sink_failures.get_or_create(&label));
    }

    /// Counts rows that were not taken.
    pub(crate) fn sink_failed(&self, sink: &str) {
        self.sink_failures.get_or_create(&SinkLabel { sink: sink.to_owned() }).inc();
    }

    /// Asks for what can be asked for at any time. What does not answer is left as it was, but for the database, whose
    /// answer then took as long as it was waited for.
    pub(crate) async fn look(&self, app: &App) {
        let (seen, whole) = (&self.now, |number: u64| i64::try_from(number).unwrap_or(i64::MAX));
        let live = app.links.count();
        seen.agents.set(whole(live.agents));
        seen.clients.set(whole(live.clients));
        seen.sessions.set(whole(live.sessions));
        seen.waiting.set(whole(app.store.waiting().0 as u64));
        let asked = std::time::Instant::now();
        let answered = tokio::time::timeout(PATIENCE, app.store.ping()).await;
        seen.store_seconds.set(if matches!(answered, Ok(Err(_))) {
            f64::INFINITY
        } else {
            asked.elapsed().as_secs_f64()
        });
        if let Ok(head) = app.store.event_head().await {
            seen.rows.set(whole(head.count));
        }
        if let Some((free, _)) = doctor::free(&app.config().data) {
            seen.free.set(whole(free));
        }
        if let Some(end) = app.certificates.as_ref().and_then(|certificates| certificates.ends()) {
            seen.certificate.set(whole(end.as_secs()));
        }
        if let Ok(Some(at)) = app.store.last_done(Done::Backup).await {
            seen.backup.set(whole(at.as_secs()));
        }
    }

    /// All of them as text.
    ///
    /// # Errors
    /// [`std::fmt::Error`], which does not happen.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
