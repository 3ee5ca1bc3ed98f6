//! The settings of a running server, exchanged as a whole.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::Config;

/// The settings as they are now. Whoever reads them goes on with those that were there when it began.
#[derive(Debug)]
pub struct Live(RwLock<Arc<Config>>);

impl Live {
    /// These settings.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    /// The settings now.
    #[must_use]
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Others from now on.
    pub(crate) fn exchange(&self, config: Config) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}
