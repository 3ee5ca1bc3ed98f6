//! Requests to a web server that the host reaches: each stream of the session carries HTTP/1.1, one request at a time.
//!
//! The agent is the upstream's client: it verifies its certificate, speaks HTTP/1.1 or HTTP/2 with it, and makes the
//! upstream's names out of those of the person's own port and back. Bodies pass as they come.
//!
//! **Absent:** what is in bodies. A page that names its own server in full leads past the person's port.

pub(super) mod gateway;
pub(super) mod rewrite;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod upstream;

use std::sync::Arc;

use bz_core::access::destination::Destination;
use bz_core::access::upstream::WebRequest;
use bz_core::id::ConnectionId;
use bz_protocol::carrier::Stream;
use bz_protocol::frame::Fin;
use bz_protocol::gate::Admitted;
use bz_protocol::refusal::Code;
use bz_protocol::stream::{StreamRequest, Why};

use tokio::task::JoinSet;

use crate::agent::Context;
use crate::backend::{Io, ToBackend, reach};
use crate::web::Web;

use gateway::Gateway;
use rewrite::Site;
use upstream::{Dial, Upstream};

/// Serves a session's streams until its client ends it.
///
/// # Errors
/// When this host serves none, or the request is none for it.
pub(super) async fn run(
    context: &Arc<Context>,
    (connection, admitted): (ConnectionId, &Admitted),
    (web, request): (&Web, &WebRequest),
    io: &mut Io,
) -> Result<Fin, Code> {
    let destination = request.destination.clone();
    let site = Site::new(&destination, request.tls).map_err(|error| {
        tracing::warn!(%connection, %error, "refused");
        Code::Malformed
    })?;
    let dial = dial(context, admitted, &destination);
    let upstream =
        if request.tls { Upstream::over_tls(dial, &web.tls, &destination) } else { Ok(Upstream::plain(dial)) };
    let upstream = upstream.map_err(|error| {
        tracing::warn!(%connection, %error, "refused");
        Code::Malformed
    })?;
    let gateway = Arc::new(Gateway::new(site, &upstream));
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            opening = io.openings.next() => match opening {
                Some(opening) if *opening.request() == StreamRequest::Dial(destination.clone()) => {
                    let serving = Arc::clone(&gateway).serve(opening.accept(destination.to_string()));
                    streams.spawn(serving);
                }
                Some(opening) => opening.refuse(Why::NotAllowed),
                None => return Ok(Fin::Done),
            },
            word = io.words.recv() => match word {
                Some(ToBackend::Finished(_) | ToBackend::Close(_)) | None => return Ok(Fin::Closed),
                Some(ToBackend::Bytes(_) | ToBackend::Eof | ToBackend::Resize(_)) => {}
            },
            Some(ended) = streams.join_next() => if let Err(error) = ended {
                tracing::error!(%connection, %error, "a stream broke");
            },
        }
    }
}

/// Each connection to the upstream is one that the gate lets be dialled, then.
fn dial(context: &Arc<Context>, admitted: &Admitted, destination: &Destination) -> Dial {
    let (context, admitted, destination) = (Arc::clone(context), admitted.clone(), destination.clone());
    Arc::new(move || {
        let (context, admitted, destination) = (Arc::clone(&context), admitted.clone(), destination.clone());
        Box::pin(async move {
            let (stream, at) = reach::dial(&context, &admitted, &destination).await?;
            tracing::info!(%destination, %at, "connected");
            stream.set_nodelay(true).map_err(|_| Why::Unavailable)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}
