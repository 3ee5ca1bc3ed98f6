//! The one thread that writes: what waits is done together and made durable together, each thing whole or not at all.
//!
//! Making durable is what takes time, so one commit serves all that came while the last one went on. Nothing is answered
//! before it: who hears that something was kept finds it after a power cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use crate::store::StoreError;
use crate::store::event::find;

/// The most jobs of one commit.
const MOST: usize = 256;

/// Something to do, and somebody who waits for it.
pub(super) trait Job: Send {
    /// Does it inside a transaction; an error leaves nothing of it.
    fn run(&mut self, tx: &Transaction<'_>) -> Result<(), StoreError>;

    /// Answers; when the commit failed, that.
    fn answer(self: Box<Self>, failed: Option<StoreError>);
}

struct Task<T, F> {
    run: Option<F>,
    result: Result<T, StoreError>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

/// A job, and where its answer comes.
pub(super) fn job<T, F>(run: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T, StoreError>>)
where
    T: Send + 'static,
    F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    (Box::new(Task { run: Some(run), result: Err(StoreError::Closed), answer }), answered)
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, tx: &Transaction<'_>) -> Result<(), StoreError> {
        if let Some(run) = self.run.take() {
            self.result = alone(tx, run);
        }
        self.result.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn answer(self: Box<Self>, failed: Option<StoreError>) {
        // Nobody waits any more when the receiver is gone; it was done all the same.
        drop(self.answer.send(failed.map_or(self.result, Err)));
    }
}

/// Runs it so that its error takes back what it did, and nothing else.
fn alone<T>(
    tx: &Transaction<'_>,
    run: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    tx.prepare_cached("SAVEPOINT job")?.execute([])?;
    let result = run(tx);
    // After some errors, such as a full disk, SQLite has taken back the whole transaction already.
    if !tx.is_autocommit() {
        if result.is_err() {
            tx.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        tx.prepare_cached("RELEASE job")?.execute([])?;
    }
    result
}

/// Does what comes until nobody is left who could ask for anything; says when rows of the logs were added.
pub(super) fn run(mut connection: Connection, mut queue: mpsc::Receiver<Box<dyn Job>>, added: &watch::Sender<i64>) {
    let last = Arc::new(AtomicI64::new(0));
    let seen = Arc::clone(&last);
    let hook = move |_, _: &str, table: &str, row: i64| {
        if table == "event" {
            seen.fetch_max(row, Ordering::Relaxed);
        }
    };
    if let Err(error) = connection.update_hook(Some(hook)) {
        tracing::error!(%error, "the database does not say when rows are added");
    }
    while let Some(first) = queue.blocking_recv() {
        let mut jobs = Vec::new();
        let failed = together(&mut connection, first, &mut queue, &mut jobs).err();
        for job in jobs {
            job.answer(failed.clone());
        }
        let last = last.load(Ordering::Relaxed);
        added.send_if_modified(|before| std::mem::replace(before, last) != last);
    }
}

fn together(
    connection: &mut Connection,
    first: Box<dyn Job>,
    queue: &mut mpsc::Receiver<Box<dyn Job>>,
    jobs: &mut Vec<Box<dyn Job>>,
) -> Result<(), StoreError> {
    jobs.push(first);
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut at = 0;
    while let Some(job) = jobs.get_mut(at) {
        let done = job.run(&tx);
        if tx.is_autocommit() {
            // What the others did is gone with it.
            let ended = || StoreError::Failed("a transaction ended by itself".to_owned());
            return Err(done.err().unwrap_or_else(ended));
        }
        at += 1;
        if at < MOST {
            jobs.extend(queue.try_recv().ok());
        }
    }
    find::index(&tx)?;
    Ok(tx.commit()?)
}
