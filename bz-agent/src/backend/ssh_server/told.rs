//! What the record is told, beside a stream that nobody else can read.

use std::sync::atomic::{AtomicU32, Ordering};

use bz_protocol::agent::Action;
use bz_protocol::ssh::{MAX_REFUSED, SAID, Said};
use tokio::sync::mpsc;

/// What was refused is said so often, and then no more: it can be asked for without end.
const MAX_REFUSALS: u32 = 100;

#[derive(Debug)]
pub(super) struct Told {
    actions: mpsc::Sender<Action>,
    refusals: AtomicU32,
}

impl Told {
    pub(super) const fn new(actions: mpsc::Sender<Action>) -> Self {
        Self { actions, refusals: AtomicU32::new(0) }
    }

    /// Says it, signed without delay; `false` when it could not be said, and so must not be done.
    #[must_use]
    pub(super) async fn say(&self, said: &Said) -> bool {
        let Ok(bytes) = said.encode() else {
            tracing::error!(?said, "something has no place in the record");
            return false;
        };
        let bytes = Action::Bytes { stream: SAID, bytes };
        self.actions.send(bytes).await.is_ok() && self.actions.send(Action::Sign).await.is_ok()
    }

    /// What was refused. That it could not be said changes nothing.
    pub(super) async fn refused(&self, what: &str) {
        let end = what.floor_char_boundary(MAX_REFUSED);
        let what = what.get(..end).unwrap_or_default().to_owned();
        if self.refusals.fetch_add(1, Ordering::Relaxed) >= MAX_REFUSALS {
            return;
        }
        tracing::info!(what, "refused");
        let _said = self.say(&Said::Refused { what }).await;
    }

    /// Bytes of a terminal or command.
    #[must_use]
    pub(super) async fn bytes(&self, stream: u32, bytes: &[u8]) -> bool {
        bytes.is_empty() || self.actions.send(Action::Bytes { stream, bytes: bytes.to_vec() }).await.is_ok()
    }
}
