//! The seams to the world: clock, randomness, an issuer's keys, directories, live links. Each has a real one and a fake
//! beside it; the directories' is a server of the tests.
//!
//! Absent: the real links, which live with the relay.

pub mod directory;
pub mod jwks;
pub mod links;

use std::time::Duration;

use bz_core::time::{Mono, Now, UnixTime};
pub use bz_protocol::driver::{Clock, SystemClock};
use futures::future::BoxFuture;
use tokio::sync::watch;

/// A clock that stands until it is moved.
#[derive(Debug)]
pub struct FakeClock(watch::Sender<Now>);

impl FakeClock {
    /// A clock that stands at this wall time.
    #[must_use]
    pub fn at(wall: UnixTime) -> Self {
        Self(watch::channel(Now { mono: Mono::at(Duration::ZERO), wall }).0)
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = now.after(by));
    }

    /// Sets the wall clock, also back; the other goes on.
    pub fn set_wall(&self, wall: UnixTime) {
        self.0.send_modify(|now| now.wall = wall);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Now {
        *self.0.borrow()
    }

    fn wait(&self, at: Mono) -> BoxFuture<'_, ()> {
        let mut now = self.0.subscribe();
        Box::pin(async move {
            // Its sender is this clock, which outlives whoever waits.
            drop(now.wait_for(|now| now.mono >= at).await);
        })
    }
}

/// The operating system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct EntropyError;

/// Random bytes.
pub trait Entropy: Send + Sync {
    /// Fills all of `bytes`.
    ///
    /// # Errors
    /// [`EntropyError`]; nothing goes on without.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

/// `N` random bytes.
///
/// # Errors
/// [`EntropyError`].
pub fn random<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(bytes).map_err(|_| EntropyError)
    }
}
