//! What of a shell's output a session was told, and how much of that its client acknowledged.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bz_protocol::segment::Delivered;
use tokio::sync::watch;

use crate::backend::shell::table::Holding;

/// Bytes told in a session, against the number of the shell's next byte after them. The two differ by repaints.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Marks>);

#[derive(Debug, Default)]
struct Marks {
    told: u64,
    /// (bytes told, next byte), oldest first.
    waiting: VecDeque<(u64, u64)>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, Marks> {
        // Each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes are told, and with them everything before the shell's byte `next`.
    pub(super) fn tells(&self, bytes: usize, next: u64) {
        let mut marks = self.lock();
        marks.told = marks.told.saturating_add(bytes as u64);
        let told = marks.told;
        marks.waiting.push_back((told, next));
    }

    /// The client acknowledged so much: the number before which the holder may forget, when that is news.
    pub(super) fn confirmed(&self, delivered: Option<Delivered>, holding: &Holding) -> Option<u64> {
        let delivered = delivered?;
        holding.delivered(delivered);
        self.safe(delivered.bytes)
    }

    fn safe(&self, bytes: u64) -> Option<u64> {
        let waiting = &mut self.lock().waiting;
        let mut safe = None;
        while let Some((_, next)) = waiting.pop_front_if(|(told, _)| *told <= bytes) {
            safe = Some(next);
        }
        safe
    }

    /// Waits until everything told is acknowledged; `false` when the session is over before that.
    pub(super) async fn heard_out(&self, mut delivered: watch::Receiver<Option<Delivered>>) -> bool {
        let told = self.lock().told;
        delivered.wait_for(|delivered| told == 0 || delivered.is_some_and(|d| d.bytes >= told)).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repaint_counts_in_the_session_and_not_in_the_shell() {
        let told = Told::default();
        told.tells(10, 10);
        told.tells(500, 10);
        told.tells(5, 15);
        let check = |bytes, want| assert_eq!(told.safe(bytes), want, "{bytes} acknowledged");
        check(9, None);
        check(10, Some(10));
        check(509, None);
        check(514, Some(10));
        check(515, Some(15));
        check(515, None);
    }
}
