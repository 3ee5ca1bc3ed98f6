//! The holder's one socket. Whoever comes through must be the user that started the holder and must
//! say `Hello` in a version that is spoken here; only then does the holder hear of it.

use super::message::{FromHolder, ToHolder, VERSION};
use crate::frame;
use nix::unistd::geteuid;
use std::io;
use std::os::unix::net::UnixListener as BlockingListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A `Hello` is the first thing an agent says; who is silent has no business here.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than this at once is not one agent being restarted.
const WAITING: usize = 4;

/// The socket's file, removed when the holder ends.
pub(super) struct Door(PathBuf);

/// An agent's connection, as two tasks and their queues. Dropping it closes the connection.
pub(super) struct Link {
    pub(super) incoming: mpsc::Receiver<ToHolder>,
    pub(super) outgoing: mpsc::Sender<Vec<u8>>,
    _tasks: JoinSet<()>,
}

impl Door {
    /// Needs a umask that leaves the socket to its owner.
    pub(super) fn open(path: &Path) -> io::Result<(Self, UnixListener)> {
        let listener = BlockingListener::bind(path)?;
        let door = Self(path.to_owned());
        listener.set_nonblocking(true)?;
        Ok((door, UnixListener::from_std(listener)?))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Where the file is gone already, so is its directory's agent.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Lets agents in, as long as somebody takes them.
pub(super) async fn answer(listener: UnixListener, admitted: mpsc::Sender<UnixStream>) {
    let mut waiting = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if waiting.len() < WAITING => {
                if let Ok((stream, _)) = accepted {
                    let admitted = admitted.clone();
                    waiting.spawn(tokio::time::timeout(PATIENCE, admit(stream, admitted)));
                }
            }
            Some(_) = waiting.join_next(), if !waiting.is_empty() => {}
        }
    }
}

async fn admit(mut stream: UnixStream, admitted: mpsc::Sender<UnixStream>) {
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw()) {
        return;
    }
    match frame::read(&mut stream).await {
        Ok(Some(ToHolder::Hello { version: VERSION })) => drop(admitted.send(stream).await),
        Ok(Some(ToHolder::Hello { .. })) => {
            drop(frame::write(&mut stream, &FromHolder::Refused { version: VERSION }).await);
        }
        Ok(_) | Err(_) => {}
    }
}

impl Link {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        // Few and small: what waits in a queue is neither in the ring nor with the agent.
        let (to_loop, incoming) = mpsc::channel(4);
        let (outgoing, from_loop) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        tasks.spawn(read(reader, to_loop));
        tasks.spawn(write(writer, from_loop));
        Self { incoming, outgoing, _tasks: tasks }
    }
}

/// Ends with the stream, or at the first thing that is not a message.
async fn read(mut stream: OwnedReadHalf, to_loop: mpsc::Sender<ToHolder>) {
    while let Ok(Some(message)) = frame::read(&mut stream).await {
        if to_loop.send(message).await.is_err() {
            break;
        }
    }
}

async fn write(mut stream: OwnedWriteHalf, mut from_loop: mpsc::Receiver<Vec<u8>>) {
    use tokio::io::AsyncWriteExt;
    while let Some(frame) = from_loop.recv().await {
        if stream.write_all(&frame).await.is_err() {
            break;
        }
    }
}
