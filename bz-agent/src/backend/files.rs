//! A copy of files: the session's first stream joined to a helper that is the target user.

use bz_core::access::request::Parameters;
use bz_protocol::agent::Action;
use bz_protocol::copy::{Decoder, MANIFEST};
use bz_protocol::frame::Fin;
use bz_protocol::gate::Admitted;
use bz_protocol::refusal::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::backend::shell::target_user;
use crate::backend::{Io, ToBackend};
use crate::files::Files;
use crate::helper::ExitStatus;

const CHUNK: usize = 64 << 10;

pub(super) async fn run(files: &Files, admitted: &Admitted, io: &mut Io) -> Result<Fin, Code> {
    let Parameters::Copy(copy) = &admitted.request().parameters else { return Err(Code::Malformed) };
    let user = target_user(admitted)?;
    let (copying, stream) = files.begin(&admitted.identity().person, (&user, copy)).await.map_err(|error| {
        tracing::warn!(%error, "a copy could not be started");
        Code::Unavailable
    })?;
    let (from_helper, to_helper) = stream.into_split();
    let Io { words, actions, .. } = io;
    let output = async {
        tell(from_helper, actions).await;
        copying.wait().await
    };
    let ended = tokio::select! {
        status = output => Some(status),
        () = feed(to_helper, words) => None,
        () = copying.over() => None,
    };
    match ended {
        Some(Ok(ExitStatus::Code(code))) => Ok(Fin::Exited(code)),
        Some(Ok(ExitStatus::Signal(signal))) => Ok(Fin::Signaled(signal)),
        Some(Err(error)) => {
            tracing::warn!(%error, "a copy's end is not known");
            Err(Code::Unavailable)
        }
        None => {
            copying.tidy().await;
            Ok(Fin::Closed)
        }
    }
}

/// Gives the helper what the client says until the session ends; the helper sees its stream end then.
async fn feed(mut to_helper: OwnedWriteHalf, words: &mut mpsc::Receiver<ToBackend>) {
    while let Some(word) = words.recv().await {
        let written = match word {
            ToBackend::Bytes(bytes) => to_helper.write_all(&bytes).await,
            ToBackend::Eof => to_helper.shutdown().await,
            ToBackend::Resize(_) => Ok(()),
            ToBackend::Finished(_) | ToBackend::Close(_) => return,
        };
        if let Err(error) = written {
            tracing::debug!(%error, "a copy does not listen any more");
        }
    }
}

/// Passes on what the helper says, and says the manifest in it once more on a stream of its own, signed without delay.
async fn tell(mut from_helper: OwnedReadHalf, actions: &mpsc::Sender<Action>) {
    let (mut buffer, mut messages) = (vec![0; CHUNK], Decoder::default());
    while let Ok(n @ 1..) = from_helper.read(&mut buffer).await {
        let bytes = buffer.get(..n).unwrap_or_default().to_vec();
        messages.put(&bytes);
        let said = manifest(&mut messages);
        let mut acts = vec![Action::Bytes { stream: 0, bytes }];
        if !said.is_empty() {
            acts.extend([Action::Bytes { stream: MANIFEST, bytes: said }, Action::Sign]);
        }
        for act in acts {
            if actions.send(act).await.is_err() {
                return;
            }
        }
    }
    // A session that is gone needs no end of its streams.
    for stream in [0, MANIFEST] {
        actions.send(Action::Eof { stream }).await.unwrap_or_default();
    }
}

/// What the messages that are whole say of files.
fn manifest(messages: &mut Decoder) -> Vec<u8> {
    let mut said = Vec::new();
    loop {
        match messages.next_message() {
            Ok(Some(message)) if message.is_manifest() => said.extend(message.encode().unwrap_or_default()),
            Ok(Some(_)) => {}
            Ok(None) => return said,
            Err(error) => {
                // The helper is this program; whoever steered it this far gains nothing but a copy without a manifest,
                // which the log of files says.
                tracing::error!(%error, "a copy's helper does not speak as it should");
                return said;
            }
        }
    }
}
