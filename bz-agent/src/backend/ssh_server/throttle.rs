//! How much of what a person sends may wait in memory for programs that do not read.
//!
//! The server of the protocol grants room to a channel again as soon as bytes have come, whoever has read them, so the
//! stream below it is what is held up. But behind a program's input may come the word that there is room for its output,
//! and a program that waits for that reads nothing: while output waits, more may come, up to a limit above it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

const SOFT: usize = 2 << 20;
const HARD: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct Throttle {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that wait for programs.
    waiting: usize,
    /// Writers that wait for room at the person's side.
    writing: usize,
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Two numbers, each consistent by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until more may come.
    pub(super) async fn open(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_open() {
                return;
            }
            changed.await;
        }
    }

    fn is_open(&self) -> bool {
        let state = self.lock();
        state.waiting < SOFT || (state.writing > 0 && state.waiting < HARD)
    }

    pub(super) fn add(&self, bytes: usize) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_add(bytes);
    }

    pub(super) fn taken(&self, bytes: usize) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(bytes);
        drop(state);
        self.changed.notify_one();
    }

    /// Output is being written, until this is dropped.
    pub(super) fn writing(&self) -> Writing<'_> {
        let mut state = self.lock();
        state.writing = state.writing.saturating_add(1);
        drop(state);
        self.changed.notify_one();
        Writing(self)
    }
}

pub(super) struct Writing<'a>(&'a Throttle);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.writing = state.writing.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_closes_above_its_limit_and_opens_for_output_that_waits() {
        let throttle = Throttle::default();
        throttle.add(SOFT);
        assert!(!throttle.is_open());
        let writing = throttle.writing();
        assert!(throttle.is_open(), "the word that there is room may be behind it");
        throttle.add(HARD - SOFT);
        assert!(!throttle.is_open(), "and yet there is an end");
        drop(writing);
        let taken = async { throttle.taken(HARD) };
        tokio::join!(throttle.open(), taken);
        assert!(throttle.is_open());
    }
}
