//! What the parts of a test wrote to their logs: an `error!` nobody expected fails the test.
//!
//! One subscriber for the whole binary; each event belongs to the runtime it came from, and so to one test. Absent: what
//! child processes say, and threads that are in no runtime.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tokio::runtime::{Handle, Id};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// The log of one test. At its end nothing may have gone wrong but what was expected.
#[derive(Debug)]
pub(crate) struct Logged {
    runtime: Id,
}

/// What was logged in one runtime, and which errors belong there.
#[derive(Debug, Default)]
struct Log {
    expected: Vec<&'static str>,
    lines: Vec<(Level, String)>,
}

/// By the runtime's id, which is never given twice.
static LOGS: Mutex<BTreeMap<String, Log>> = Mutex::new(BTreeMap::new());

impl Logged {
    /// Listens from now on to everything in this test's runtime.
    pub(crate) fn here() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let subscriber = tracing_subscriber::registry().with(Listener);
            tracing::subscriber::set_global_default(subscriber).expect("the only subscriber of this binary");
        });
        let this = Self { runtime: Handle::current().id() };
        logs().entry(this.runtime.to_string()).or_default();
        this
    }

    /// Errors that contain this are part of the test.
    pub(crate) fn expect_error(&self, words: &'static str) {
        logs().entry(self.runtime.to_string()).or_default().expected.push(words);
    }

    /// Every line, for a failure to show.
    pub(crate) fn all(&self) -> Vec<String> {
        let logs = logs();
        logs.get(&self.runtime.to_string())
            .into_iter()
            .flat_map(|log| &log.lines)
            .map(|(_, text)| text.clone())
            .collect()
    }

    /// Whether a line of the log contains all of these.
    pub(crate) fn has(&self, words: &[&str]) -> bool {
        self.all().iter().any(|text| words.iter().all(|word| text.contains(word)))
    }

    fn wrong(&self) -> Vec<String> {
        let logs = logs();
        let Some(log) = logs.get(&self.runtime.to_string()) else { return Vec::new() };
        let is_expected = |text: &str| log.expected.iter().any(|words| text.contains(words));
        let errors = log.lines.iter().filter(|(level, text)| *level == Level::ERROR && !is_expected(text));
        errors.map(|(_, text)| text.clone()).collect()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let wrong = self.wrong();
        // A test that has failed already has said why.
        assert!(std::thread::panicking() || wrong.is_empty(), "errors were logged: {wrong:#?}");
    }
}

fn logs() -> MutexGuard<'static, BTreeMap<String, Log>> {
    LOGS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Listener;

impl<S: Subscriber> Layer<S> for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("bz_")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut words = Words(event.metadata().target().to_owned());
        event.record(&mut words);
        if let Some(log) = logs().get_mut(&runtime.id().to_string()) {
            log.lines.push((*event.metadata().level(), words.0));
        }
    }
}

/// The message and the fields of an event, in one line.
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a string takes everything");
    }
}

/// An error fails its own test, and no other.
#[test]
fn an_unexpected_error_fails_its_test_alone() {
    let run = |expect: bool| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let logged = Logged::here();
            if expect {
                logged.expect_error("the roof is on fire");
            }
            let cause = "a match";
            let fire = async move { tracing::error!(target: "bz_test", cause, "the roof is on fire") };
            tokio::spawn(fire).await.unwrap();
            tracing::warn!(target: "bz_test", "it smells");
            (logged.has(&["the roof", "a match"]), logged.has(&["smells"]), logged.wrong().len(), logged)
        })
    };
    let (whole, warned, wrong, beside) = run(true);
    assert_eq!((whole, warned, wrong), (true, true, 0));
    let (.., wrong, logged) = run(false);
    assert_eq!(wrong, 1);
    let dropped = std::panic::catch_unwind(move || drop(logged));
    let said = dropped.expect_err("it fails").downcast::<String>().unwrap();
    assert!(said.contains("the roof is on fire") && said.contains("a match"), "{said}");
    drop(beside);
}
