//! Who keeps receipts, how many, and for how long. Files are the business of the floors above.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bz_core::digest::Digest;
use bz_core::time::UnixTime;

use crate::receipt::Receipt;

/// Where an end keeps its receipts.
pub trait Receipts: fmt::Debug + Send + Sync {
    /// Keeps this one in place of an earlier one of its session. It may block; no session waits for it before its end.
    ///
    /// # Errors
    /// [`NotKept`]: said, and no reason to end a session.
    fn keep(&self, receipt: &Receipt, now: UnixTime) -> Result<(), NotKept>;
}

/// A receipt is not where it should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(pub String);

/// How many receipts are kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most of them; the oldest go first.
    pub most: usize,
    /// How long after their last change; for ever when absent.
    pub age: Option<Duration>,
}

impl Bounds {
    /// A client's: the last hundred.
    pub const CLIENT: Self = Self { most: 100, age: None };
    /// An agent's: 90 days, and never more than 8,192, which is 32 MiB at most.
    pub const AGENT: Self = Self { most: 8192, age: Some(Duration::from_secs(90 * 24 * 3600)) };
}

/// Which sessions' receipts are kept, and when each last changed.
#[derive(Debug, Clone)]
pub struct Shelf {
    bounds: Bounds,
    kept: BTreeMap<Digest, UnixTime>,
}

impl Shelf {
    /// A shelf on which these stand already.
    #[must_use]
    pub fn new(bounds: Bounds, kept: impl IntoIterator<Item = (Digest, UnixTime)>) -> Self {
        Self { bounds, kept: kept.into_iter().collect() }
    }

    /// Puts a session's receipt there.
    pub fn put(&mut self, session: Digest, now: UnixTime) {
        self.kept.insert(session, now);
    }

    /// The sessions whose receipts go now: those past their age, then the oldest above the most. They are forgotten
    /// here.
    pub fn swept(&mut self, now: UnixTime) -> Vec<Digest> {
        let age = self.bounds.age;
        let old = |changed: &UnixTime| age.is_some_and(|age| changed.after(age) < now);
        let mut swept: Vec<Digest> = self.kept.extract_if(.., |_, changed| old(changed)).map(|(s, _)| s).collect();
        while self.kept.len() > self.bounds.most {
            let oldest = self.kept.iter().min_by_key(|(_, changed)| **changed).map(|(session, _)| *session);
            let Some(oldest) = oldest else { break };
            self.kept.remove(&oldest);
            swept.push(oldest);
        }
        swept
    }
}

/// Receipts that end with the program.
#[derive(Debug)]
pub struct MemoryReceipts(Mutex<(Shelf, BTreeMap<Digest, Receipt>)>);

impl MemoryReceipts {
    /// None yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self(Mutex::new((Shelf::new(bounds, []), BTreeMap::new())))
    }

    /// All that are kept.
    #[must_use]
    pub fn all(&self) -> Vec<Receipt> {
        self.lock().1.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, (Shelf, BTreeMap<Digest, Receipt>)> {
        // At worst a receipt stands there that the shelf has forgotten, and is replaced or goes with the program.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipts for MemoryReceipts {
    fn keep(&self, receipt: &Receipt, now: UnixTime) -> Result<(), NotKept> {
        let mut inner = self.lock();
        let (shelf, receipts) = &mut *inner;
        shelf.put(receipt.session, now);
        receipts.insert(receipt.session, receipt.clone());
        for session in shelf.swept(now) {
            receipts.remove(&session);
        }
        Ok(())
    }
}
