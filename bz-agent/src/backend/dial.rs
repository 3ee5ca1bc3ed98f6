//! Streams of a tunnel: each a connection of the agent's own, to where the gate lets it lead.

use std::sync::Arc;

use bz_core::id::ConnectionId;
use bz_protocol::driver::{Cut, Opening, carry};
use bz_protocol::frame::Fin;
use bz_protocol::gate::Admitted;
use bz_protocol::stream::{StreamRequest, Why};
use tokio::task::JoinSet;

use crate::agent::Context;
use crate::backend::reach::dial;
use crate::backend::{Io, ToBackend};

/// Serves a tunnel's streams until its client ends it.
pub(super) async fn run(context: &Arc<Context>, connection: ConnectionId, admitted: &Admitted, io: &mut Io) -> Fin {
    each(connection, io, |opening| serve(Arc::clone(context), connection, admitted.clone(), opening)).await
}

/// Serves each stream of a session by itself until its client ends it.
pub(super) async fn each<F>(connection: ConnectionId, io: &mut Io, serve: impl Fn(Opening) -> F) -> Fin
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            opening = io.openings.next() => match opening {
                Some(opening) => {
                    streams.spawn(serve(opening));
                }
                None => return Fin::Done,
            },
            word = io.words.recv() => match word {
                Some(ToBackend::Finished(_) | ToBackend::Close(_)) | None => return Fin::Closed,
                Some(ToBackend::Bytes(_) | ToBackend::Eof | ToBackend::Resize(_)) => {}
            },
            Some(ended) = streams.join_next() => if let Err(error) = ended {
                tracing::error!(%connection, %error, "a stream broke");
            },
        }
    }
}

async fn serve(context: Arc<Context>, connection: ConnectionId, admitted: Admitted, opening: Opening) {
    let StreamRequest::Dial(destination) = opening.request().clone() else {
        return opening.refuse(Why::NotAllowed);
    };
    match dial(&context, &admitted, &destination).await {
        Ok((there, at)) => {
            tracing::info!(%connection, %destination, %at, "stream opened");
            let here = opening.accept(at.to_string());
            if let Err(error) = carry(here, Cut::new(there)).await {
                tracing::debug!(%connection, %destination, %error, "stream ended early");
            }
        }
        Err(why) => {
            tracing::info!(%connection, %destination, %why, "stream refused");
            opening.refuse(why);
        }
    }
}
