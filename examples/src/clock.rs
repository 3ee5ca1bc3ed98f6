//! A clock that runs, and that a test moves forward: hours pass in a moment, for every part of a system that shares it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bz_core::time::{Mono, Now};
use bz_protocol::carrier::Boxed;
use bz_protocol::driver::{Clock, SystemClock};
use tokio::sync::watch;

use crate::idp;

/// The machine's clocks and how far ahead of them it is.
#[derive(Debug)]
pub struct MovableClock {
    machine: SystemClock,
    ahead: watch::Sender<Duration>,
}

impl MovableClock {
    /// A clock that agrees with the machine's until it is moved.
    #[must_use]
    pub fn new() -> Self {
        Self { machine: SystemClock::new(), ahead: watch::Sender::new(Duration::ZERO) }
    }

    /// Moves it forward; whoever waits by it has waited so much longer.
    pub fn advance(&self, by: Duration) {
        self.ahead.send_modify(|ahead| *ahead = ahead.saturating_add(by));
    }

    /// The same clock for the development identity provider.
    #[must_use]
    pub fn for_idp(self: &std::sync::Arc<Self>) -> idp::Clock {
        let clock = std::sync::Arc::clone(self);
        let wall = move || UNIX_EPOCH.checked_add(Duration::from_millis(clock.now().wall.as_millis()));
        idp::Clock::from_fn(move || wall().unwrap_or_else(SystemTime::now))
    }
}

impl Default for MovableClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MovableClock {
    fn now(&self) -> Now {
        self.machine.now().after(*self.ahead.borrow())
    }

    fn wait(&self, at: Mono) -> Boxed<'_, ()> {
        Box::pin(async move {
            let mut moved = self.ahead.subscribe();
            loop {
                let left = at.since(self.now().mono);
                if left.is_zero() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    // The sender lives in this clock.
                    _ = moved.changed() => {}
                }
            }
        })
    }
}
