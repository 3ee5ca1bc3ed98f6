//! The host's own sshd: its bytes as stream 0, and before them, as stream 1, the certificate that it lets in.

use bz_core::access::request::Parameters;
use bz_core::ssh::SshPublicKey;
use bz_protocol::agent::Action;
use bz_protocol::driver::Clock;
use bz_protocol::frame::Fin;
use bz_protocol::gate::Admitted;
use bz_protocol::refusal::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

use crate::account;
use crate::backend::{Io, ToBackend};
use crate::ssh::Sshd;

const CHUNK: usize = 64 << 10;
const BYTES: u32 = 0;
const CERTIFICATE: u32 = 1;

pub(super) async fn run(sshd: &Sshd, admitted: &Admitted, clock: &dyn Clock, io: &mut Io) -> Result<Fin, Code> {
    let Parameters::Ssh { key } = &admitted.request().parameters else { return Err(Code::Malformed) };
    let key = SshPublicKey::from_blob(key).map_err(|_| Code::Malformed)?;
    let name = admitted.request().user.as_ref().ok_or(Code::User)?;
    // Whether that user may log in is sshd's to say, which also switches to it.
    let entry = account::find(name.as_str()).map_err(unavailable)?.ok_or_else(|| {
        tracing::warn!(user = %name, "there is no such user on this machine");
        Code::User
    })?;
    super::check_person(admitted, entry.uid.as_raw())?;
    let stream = sshd.dial().await.map_err(unavailable)?;
    let mut pass = sshd.admit((&key, name), admitted.session(), clock).await.map_err(unavailable)?;
    // A session that is gone is noticed below.
    io.act(Action::Bytes { stream: CERTIFICATE, bytes: std::mem::take(&mut pass.certificate) }).await;
    io.act(Action::Eof { stream: CERTIFICATE }).await;
    let fin = carry(stream, io).await;
    // Until here sshd may be told of it.
    drop(pass);
    Ok(fin)
}

fn unavailable(error: impl std::fmt::Display) -> Code {
    tracing::warn!(%error, "a session with the host's sshd cannot be had");
    Code::Unavailable
}

/// Carries bytes both ways until both ends have said their last, or the session ends.
async fn carry(stream: TcpStream, io: &mut Io) -> Fin {
    let (from_sshd, to_sshd) = stream.into_split();
    let Io { words, actions, .. } = io;
    let said_all = Notify::new();
    let both = async {
        tokio::join!(outward(from_sshd, actions), said_all.notified());
    };
    tokio::select! {
        () = both => Fin::Done,
        () = inward(to_sshd, words, &said_all) => Fin::Closed,
    }
}

/// Gives sshd what the person says, until the session ends.
async fn inward(mut to_sshd: OwnedWriteHalf, words: &mut mpsc::Receiver<ToBackend>, said_all: &Notify) {
    while let Some(word) = words.recv().await {
        let more = match word {
            ToBackend::Bytes(bytes) => to_sshd.write_all(&bytes).await.is_ok(),
            ToBackend::Eof => {
                // An sshd that is gone needs no end.
                to_sshd.shutdown().await.unwrap_or_default();
                false
            }
            ToBackend::Resize(_) => true,
            ToBackend::Finished(_) | ToBackend::Close(_) => return,
        };
        if !more {
            said_all.notify_one();
        }
    }
}

async fn outward(mut from_sshd: OwnedReadHalf, actions: &mpsc::Sender<Action>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = from_sshd.read(&mut buffer).await {
        let bytes = buffer.get(..n).unwrap_or_default().to_vec();
        if actions.send(Action::Bytes { stream: BYTES, bytes }).await.is_err() {
            return;
        }
    }
    // A session that is gone needs no end of its streams.
    actions.send(Action::Eof { stream: BYTES }).await.unwrap_or_default();
}
