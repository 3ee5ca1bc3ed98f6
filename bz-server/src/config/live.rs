//! The settings of a running server: read by everybody as if they never changed, and exchanged as a whole.

use std::ops::Deref;
use std::sync::{PoisonError, RwLock};

use crate::config::Config;

/// The settings as they are now.
///
/// Each exchange leaves the settings before it in memory for good, since somebody may still read them: some kilobytes
/// each time that an administrator asks for it.
#[derive(Debug)]
pub struct Live(RwLock<&'static Config>);

impl Live {
    /// These settings.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(RwLock::new(Box::leak(Box::new(config))))
    }

    /// Others from now on.
    pub(crate) fn exchange(&self, config: Config) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Box::leak(Box::new(config));
    }
}

impl Deref for Live {
    type Target = Config;

    fn deref(&self) -> &Config {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
