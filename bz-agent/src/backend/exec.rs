//! One command: its three pipes as streams, its status as the session's end.

use bz_core::access::request::Parameters;
use bz_protocol::agent::Action;
use bz_protocol::frame::Fin;
use bz_protocol::gate::Admitted;
use bz_protocol::refusal::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::backend::shell::{Shells, target_user};
use crate::backend::{Io, ToBackend};
use crate::exec::{Exec, ExecRequest};
use crate::helper::ExitStatus;
use crate::user::Environment;

const CHUNK: usize = 32 << 10;
const STDOUT: u32 = 0;
const STDERR: u32 = 1;

pub(super) async fn run(shells: &Shells, admitted: &Admitted, io: &mut Io) -> Result<Fin, Code> {
    let Parameters::Exec { command } = &admitted.request().parameters else { return Err(Code::Malformed) };
    let user = target_user(admitted)?;
    let request = ExecRequest { command: command.clone().into_bytes(), environment: Environment::default() };
    let mut exec = Exec::spawn(&shells.helper, &user, request).await.map_err(|error| {
        tracing::warn!(%error, "a command could not be started");
        Code::Unavailable
    })?;
    let (stdin, stdout, stderr) = (exec.stdin.take(), exec.stdout.take(), exec.stderr.take());
    let Io { words, actions, .. } = io;
    let output = async {
        tokio::join!(copy(stdout, STDOUT, actions), copy(stderr, STDERR, actions));
        exec.wait().await
    };
    tokio::select! {
        status = output => match status {
            Ok(ExitStatus::Code(code)) => Ok(Fin::Exited(code)),
            Ok(ExitStatus::Signal(signal)) => Ok(Fin::Signaled(signal)),
            Err(error) => {
                tracing::warn!(%error, "a command's end is not known");
                Err(Code::Unavailable)
            }
        },
        // The command dies with the value that holds it.
        fin = feed(stdin, words) => Ok(fin),
    }
}

/// Gives the command its input until the session ends.
async fn feed(mut stdin: Option<tokio::net::unix::pipe::Sender>, words: &mut mpsc::Receiver<ToBackend>) -> Fin {
    while let Some(word) = words.recv().await {
        match (word, &mut stdin) {
            (ToBackend::Bytes(bytes), Some(pipe)) => {
                if pipe.write_all(&bytes).await.is_err() {
                    stdin = None;
                }
            }
            (ToBackend::Eof, _) => stdin = None,
            (ToBackend::Finished(_) | ToBackend::Close(_), _) => return Fin::Closed,
            (ToBackend::Bytes(_) | ToBackend::Resize(_), _) => {}
        }
    }
    Fin::Closed
}

async fn copy(pipe: Option<impl AsyncRead + Unpin>, stream: u32, actions: &mpsc::Sender<Action>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        let bytes = buffer.get(..n).unwrap_or_default().to_vec();
        if actions.send(Action::Bytes { stream, bytes }).await.is_err() {
            return;
        }
    }
    // A session that is gone needs no end of its streams.
    actions.send(Action::Eof { stream }).await.unwrap_or_default();
}
