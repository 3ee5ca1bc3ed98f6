//! The seams to the world: clock, randomness, an issuer's keys, directories, live links. Each has a real one and a fake
//! beside it; the directories' is a server of the tests.
//!
//! Absent: the real links, which live with the relay.

pub mod directory;
pub mod jwks;
pub mod links;

use std::sync::Mutex;
use std::time::Duration;

use bz_core::time::{Mono, Now, UnixTime};
pub use bz_protocol::driver::{Clock, SystemClock};

/// A clock that stands until it is moved.
#[derive(Debug)]
pub struct FakeClock(Mutex<Now>);

impl FakeClock {
    /// A clock that stands at this wall time.
    #[must_use]
    pub fn at(wall: UnixTime) -> Self {
        Self(Mutex::new(Now { mono: Mono::at(Duration::ZERO), wall }))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = now.after(by);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
