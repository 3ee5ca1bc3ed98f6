//! What is counted, in the text format of Prometheus. Labels are operations and codes, never people or targets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A call's label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    operation: &'static str,
    code: String,
}

/// The counters of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabel, Counter>,
    seconds: Histogram,
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
        Self { registry, calls, seconds }
    }

    /// Counts one call.
    pub fn called(&self, operation: &'static str, code: String, took: std::time::Duration) {
        self.calls.get_or_create(&CallLabel { operation, code }).inc();
        self.seconds.observe(took.as_secs_f64());
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
