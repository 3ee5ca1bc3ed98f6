//! The tasks that send logs away, started anew whenever the settings were read again.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::sink;

#[derive(Debug)]
pub(super) struct Sinks {
    end: CancellationToken,
    now: Mutex<CancellationToken>,
    tasks: TaskTracker,
}

impl Sinks {
    pub(super) fn new(end: &CancellationToken, tasks: &TaskTracker) -> Self {
        Self { end: end.clone(), now: Mutex::new(end.child_token()), tasks: tasks.clone() }
    }

    /// Ends those that run, and starts one for each that the settings name.
    pub(super) fn start(&self, app: &Arc<App>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.cancel();
        *now = self.end.child_token();
        for settings in &app.config().sinks {
            self.tasks.spawn(sink::run(Arc::clone(app), settings.clone(), now.clone()));
        }
    }

    pub(super) fn stop(&self) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }
}
