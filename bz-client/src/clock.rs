//! The machine's clocks and the operating system's randomness, in one place.

use std::sync::Arc;

use bz_protocol::driver::{Clock, SystemClock};

/// The machine's clocks, for who was given no others.
pub(crate) fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandom;

/// Fresh random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}
