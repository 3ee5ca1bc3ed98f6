//! SSH that ends here: the session's first stream joined to a server of the protocol, and beside it what the record says.

mod channel;
mod command;
mod handler;
mod scp;
mod terminal;
mod throttle;
mod told;
mod transfer;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bz_core::access::request::{Parameters, SshPurpose};
use bz_core::grant::Recording;
use bz_protocol::agent::Action;
use bz_protocol::frame::Fin;
use bz_protocol::gate::Admitted;
use bz_protocol::refusal::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::backend::shell::target_user;
use crate::backend::{Io, ToBackend};
use crate::ssh_server::SshServer;
use crate::user::User;
use handler::{Handler, Job};
use throttle::Throttle;
use told::Told;

const CHUNK: usize = 32 << 10;
const BYTES: u32 = 0;
/// How long what was begun may take to put its things away, once the session ends.
const TIDY: Duration = Duration::from_secs(3);

/// What the channels of one session share.
struct Served {
    server: SshServer,
    user: User,
    /// The only name and the only key that are let in.
    name: String,
    key: Vec<u8>,
    purpose: SshPurpose,
    recording: Recording,
    told: Told,
    throttle: Throttle,
    /// Whether a terminal is open.
    terminal: AtomicBool,
}

pub(super) async fn run(server: &SshServer, admitted: &Admitted, io: &mut Io) -> Result<Fin, Code> {
    let Parameters::SshServer { key, purpose } = &admitted.request().parameters else { return Err(Code::Malformed) };
    let name = admitted.request().user.as_ref().ok_or(Code::User)?.to_string();
    let user = target_user(admitted)?;
    let served = Arc::new(Served {
        server: server.clone(),
        user,
        name,
        key: key.clone(),
        purpose: *purpose,
        recording: admitted.grant().recording,
        told: Told::new(io.actions.clone()),
        throttle: Throttle::default(),
        terminal: AtomicBool::new(false),
    });
    let (jobs, to_do) = mpsc::channel(1);
    let handler = Handler::new(Arc::clone(&served), jobs);
    let (ours, theirs) = tokio::io::duplex(CHUNK);
    let (from_ssh, to_ssh) = tokio::io::split(ours);
    let config = Arc::clone(&server.config);
    let ssh = async {
        let ended = match russh::server::run_stream(config, theirs, handler).await {
            Ok(session) => session.await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a session of SSH ended");
        }
    };
    let Io { words, actions, .. } = io;
    let mut both = pin!(async {
        tokio::join!(ssh, outward(from_ssh, actions), work(to_do));
    });
    tokio::select! {
        () = &mut both => return Ok(Fin::Done),
        () = inward(to_ssh, words, &served.throttle) => {}
    }
    if tokio::time::timeout(TIDY, both).await.is_err() {
        tracing::debug!("a session of SSH that was cut did not end by itself");
    }
    Ok(Fin::Closed)
}

/// Does what the channels ask for, until there are no more of them and all is done.
async fn work(mut to_do: mpsc::Receiver<Job>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            job = to_do.recv() => match job {
                Some(job) => drop(tasks.spawn(job)),
                None => break,
            },
            Some(done) = tasks.join_next() => report(done),
        }
    }
    let rest = async {
        while let Some(done) = tasks.join_next().await {
            report(done);
        }
    };
    if tokio::time::timeout(TIDY, rest).await.is_err() {
        tracing::debug!("a channel of SSH did not end by itself");
    }
}

fn report(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done {
        tracing::error!(%error, "a channel of SSH broke");
    }
}

/// Gives the server what the person's `ssh` says, until the session ends.
async fn inward(mut to_ssh: WriteHalf<DuplexStream>, words: &mut mpsc::Receiver<ToBackend>, throttle: &Throttle) {
    while let Some(word) = words.recv().await {
        match word {
            ToBackend::Bytes(bytes) => {
                throttle.open().await;
                // A server that is gone is noticed at its other side.
                to_ssh.write_all(&bytes).await.unwrap_or_default();
            }
            ToBackend::Eof => to_ssh.shutdown().await.unwrap_or_default(),
            ToBackend::Resize(_) => {}
            ToBackend::Finished(_) | ToBackend::Close(_) => break,
        }
    }
    to_ssh.shutdown().await.unwrap_or_default();
}

async fn outward(mut from_ssh: ReadHalf<DuplexStream>, actions: &mpsc::Sender<Action>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = from_ssh.read(&mut buffer).await {
        let bytes = buffer.get(..n).unwrap_or_default().to_vec();
        if actions.send(Action::Bytes { stream: BYTES, bytes }).await.is_err() {
            return;
        }
    }
    // A session that is gone needs no end of its streams.
    actions.send(Action::Eof { stream: BYTES }).await.unwrap_or_default();
}
