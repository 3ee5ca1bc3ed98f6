//! What is counted, in the text format of Prometheus. Labels are operations and codes, never people or targets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

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
        Self { registry, calls, seconds, sink_behind, sink_failures }
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
    }

    /// Counts rows that were not taken.
    pub(crate) fn sink_failed(&self, sink: &str) {
        self.sink_failures.get_or_create(&SinkLabel { sink: sink.to_owned() }).inc();
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
