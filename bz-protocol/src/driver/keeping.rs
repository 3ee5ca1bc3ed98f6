//! The receipt of a driven session, handed to who keeps it: when the session stands, then at most every ten seconds, and
//! at its end, also when it is cut.

use std::sync::Arc;
use std::time::Duration;

use bz_core::time::Mono;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::driver::{Clock, FLUSH};
use crate::receipt::{NotKept, Receipt, Receipts};

/// The shortest time between two versions of one receipt.
const EVERY: Duration = Duration::from_secs(10);

/// A session's receipt on its way to who keeps it.
pub(super) struct Keeping {
    latest: watch::Sender<Option<Receipt>>,
    task: JoinHandle<()>,
    due: Option<Mono>,
}

impl Keeping {
    /// Must be called within a tokio runtime.
    pub(super) fn new(receipts: Arc<dyn Receipts>, clock: Arc<dyn Clock>) -> Self {
        let (latest, changes) = watch::channel(None);
        // A task of its own: it outlives a session that is dropped until the last version is kept.
        Self { latest, task: tokio::spawn(keep(receipts, clock, changes)), due: None }
    }

    /// Something happened. Hands the receipt over when that is due; otherwise says when it will be.
    pub(super) fn look(&mut self, now: Mono, receipt: impl FnOnce() -> Option<Receipt>) -> Option<Mono> {
        if self.due.is_some_and(|due| now < due) {
            return self.due;
        }
        if self.give(receipt()) {
            self.due = Some(now.after(EVERY));
        }
        None
    }

    /// Hands over a version that differs from the last one.
    pub(super) fn give(&self, receipt: Option<Receipt>) -> bool {
        self.latest.send_if_modified(|latest| {
            let differs = receipt.is_some() && *latest != receipt;
            if differs {
                *latest = receipt;
            }
            differs
        })
    }

    /// Waits until the last version is kept, but not for long.
    pub(super) async fn done(self) {
        drop(self.latest);
        match tokio::time::timeout(FLUSH, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the keeper of receipts broke"),
            Err(_) => tracing::warn!("the receipt of a session is not kept yet; its end does not wait longer"),
        }
    }
}

async fn keep(receipts: Arc<dyn Receipts>, clock: Arc<dyn Clock>, mut changes: watch::Receiver<Option<Receipt>>) {
    let mut failing = false;
    while changes.changed().await.is_ok() {
        let Some(receipt) = changes.borrow_and_update().clone() else { continue };
        let (receipts, now, session) = (Arc::clone(&receipts), clock.now().wall, receipt.session);
        let kept = tokio::task::spawn_blocking(move || receipts.keep(&receipt, now)).await;
        match kept.map_err(|error| NotKept(error.to_string())).flatten() {
            Ok(()) => failing = false,
            // Said once, not every ten seconds.
            Err(_) if failing => {}
            Err(error) => {
                failing = true;
                tracing::warn!(%session, %error, "the receipt of a session cannot be kept; the session goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use bz_core::digest::Digest;
    use bz_core::id::{ConnectionId, OrganizationId};
    use bz_core::time::UnixTime;

    use super::*;
    use crate::driver::SystemClock;
    use crate::receipt::Holder;

    /// TR-RECEIPT-4: kept when the session stands, at most every ten seconds while it goes on, and at its end.
    #[tokio::test]
    async fn a_receipt_is_kept_at_once_then_seldom_and_at_the_end() {
        let notes = Arc::new(Notes::default());
        let mut keeping = Keeping::new(Arc::clone(&notes) as Arc<dyn Receipts>, Arc::new(SystemClock::new()));
        let at = |seconds| Mono::at(Duration::from_secs(seconds));
        let not_asked = || panic!("it is not due");
        assert_eq!(keeping.look(at(0), || None), None, "there is no session yet");
        assert_eq!(keeping.look(at(5), || Some(receipt(0))), None);
        notes.hold(1).await;
        for second in 5..15 {
            assert_eq!(keeping.look(at(second), not_asked), Some(at(15)));
        }
        assert_eq!(keeping.look(at(15), || Some(receipt(0))), None, "nothing has changed");
        assert_eq!(keeping.look(at(16), || Some(receipt(1))), None);
        notes.hold(2).await;
        assert_eq!(keeping.look(at(25), not_asked), Some(at(26)));
        keeping.give(Some(receipt(2)));
        keeping.done().await;
        assert_eq!(*notes.0.lock().unwrap(), [0, 1, 2]);
    }

    /// TR-RECEIPT-4: who cannot keep one is asked again, and a session that is dropped leaves its last one.
    #[tokio::test]
    async fn what_could_not_be_kept_is_tried_again_and_a_cut_loses_nothing() {
        let notes = Arc::new(Notes::default());
        let mut keeping = Keeping::new(Arc::clone(&notes) as Arc<dyn Receipts>, Arc::new(SystemClock::new()));
        keeping.look(Mono::at(Duration::ZERO), || Some(receipt(FAILS)));
        notes.hold(1).await;
        keeping.give(Some(receipt(7)));
        drop(keeping);
        notes.hold(2).await;
        assert_eq!(*notes.0.lock().unwrap(), [FAILS, 7]);
    }

    const FAILS: u64 = 99;

    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<u64>>, tokio::sync::Notify);

    impl Notes {
        async fn hold(&self, count: usize) {
            let held = async {
                while self.0.lock().unwrap().len() < count {
                    self.1.notified().await;
                }
            };
            let waited = tokio::time::timeout(Duration::from_secs(20), held).await;
            assert!(waited.is_ok(), "waiting for {count}, kept {:?}", self.0.lock().unwrap());
        }
    }

    impl Receipts for Notes {
        fn keep(&self, receipt: &Receipt, _: UnixTime) -> Result<(), NotKept> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(receipt.delivered);
            self.1.notify_one();
            if receipt.delivered == FAILS { Err(NotKept("the disk is full".to_owned())) } else { Ok(()) }
        }
    }

    fn receipt(delivered: u64) -> Receipt {
        Receipt {
            holder: Holder::Client,
            organization: OrganizationId::from_bytes([1; 16]),
            connection: ConnectionId::from_bytes([2; 16]),
            session: Digest::of(b"session"),
            opening: Digest::of(b"opening"),
            client: None,
            agent: None,
            delivered,
            close: None,
        }
    }
}
