//! A handler's stream: bytes both ways between the session and the embedding program.

use bz_core::access::request::Parameters;
use bz_protocol::agent::Action;
use bz_protocol::frame::Fin;
use bz_protocol::gate::Admitted;
use bz_protocol::refusal::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::agent::Context;
use crate::backend::{Io, ToBackend};
use crate::handler::Call;

/// Bytes between the session and the handler under way.
const BUFFER: usize = 64 << 10;

pub(super) async fn run(context: &Context, admitted: &Admitted, io: &mut Io) -> Result<Fin, Code> {
    let Parameters::Handler { route } = &admitted.request().parameters else { return Err(Code::Malformed) };
    let routed = context.routes.get(route).ok_or(Code::Unavailable)?;
    // The route's own wish is a floor: a sealed route is not read by anybody on the way.
    if routed.route.mode == bz_core::access::Mode::Sealed && admitted.request().mode != routed.route.mode {
        return Err(Code::Unavailable);
    }
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let call =
        Call { identity: admitted.identity().clone(), grant: admitted.grant().clone(), stream: Box::new(theirs) };
    let (mut from_handler, mut to_handler) = tokio::io::split(ours);
    let Io { words, actions, .. } = io;
    let serve = routed.handler.serve(call);
    let inward = async {
        while let Some(word) = words.recv().await {
            let written = match word {
                ToBackend::Bytes(bytes) => to_handler.write_all(&bytes).await,
                ToBackend::Eof => to_handler.shutdown().await,
                ToBackend::Resize(_) => Ok(()),
                ToBackend::Finished(_) | ToBackend::Close(_) => return,
            };
            if let Err(error) = written {
                tracing::debug!(%error, "the handler does not listen any more");
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(n @ 1..) = from_handler.read(&mut buffer).await {
            let bytes = buffer.get(..n).unwrap_or_default().to_vec();
            if actions.send(Action::Bytes { stream: 0, bytes }).await.is_err() {
                return;
            }
        }
    };
    let served = async {
        let (served, ()) = tokio::join!(serve, outward);
        served
    };
    tokio::select! {
        served = served => match served {
            Ok(()) => Ok(Fin::Done),
            Err(error) => {
                tracing::warn!(%route, %error, "a handler failed");
                Err(Code::Unavailable)
            }
        },
        () = inward => Ok(Fin::Closed),
    }
}
