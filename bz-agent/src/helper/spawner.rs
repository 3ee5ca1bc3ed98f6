//! The one thread that starts helpers. The kernel ties a parent-death signal to the *thread* that
//! forked, and threads of an async runtime come and go; this one stays as long as anything it
//! started may still be needed.

use std::io;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tokio::sync::oneshot;

#[derive(Debug, Clone, Default)]
pub(super) struct Spawner(Arc<Mutex<Option<mpsc::Sender<Job>>>>);

#[derive(Debug)]
struct Job {
    command: Command,
    started: oneshot::Sender<io::Result<Child>>,
}

impl Spawner {
    pub(super) async fn start(&self, command: Command) -> io::Result<Child> {
        let (started, outcome) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts helpers is gone");
        self.thread()?.send(Job { command, started }).map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }

    fn thread(&self) -> io::Result<mpsc::Sender<Job>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = slot.as_ref() {
            return Ok(jobs.clone());
        }
        let (jobs, queue) = mpsc::channel();
        std::thread::Builder::new().name("bz-spawner".into()).spawn(move || work(&queue))?;
        Ok(slot.insert(jobs).clone())
    }
}

fn work(queue: &mpsc::Receiver<Job>) {
    while let Ok(Job { mut command, started }) = queue.recv() {
        let outcome = command.spawn();
        drop(command);
        if let Err(Ok(mut unwanted)) = started.send(outcome) {
            // Nobody waits any more: its control socket is closed, so it ends by itself at once.
            if let Err(error) = unwanted.kill().and_then(|()| unwanted.wait()) {
                tracing::warn!(%error, "a helper that nobody waits for was not reaped");
            }
        }
    }
}
