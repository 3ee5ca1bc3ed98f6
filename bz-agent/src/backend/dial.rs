//! Streams of a tunnel: each a connection of the agent's own, to where the gate lets it lead.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bz_core::access::destination::{Destination, Host};
use bz_core::id::ConnectionId;
use bz_protocol::driver::{Cut, Opening, carry};
use bz_protocol::frame::Fin;
use bz_protocol::gate::{Admitted, Dialable};
use bz_protocol::stream::{StreamRequest, Why};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::agent::Context;
use crate::backend::{Io, ToBackend};

/// How long a name may take to be found, and all its addresses together to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Serves a tunnel's streams until its client ends it.
pub(super) async fn run(context: &Arc<Context>, connection: ConnectionId, admitted: &Admitted, io: &mut Io) -> Fin {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            opening = io.openings.next() => match opening {
                Some(opening) => {
                    streams.spawn(serve(Arc::clone(context), connection, admitted.clone(), opening));
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

async fn dial(
    context: &Context,
    admitted: &Admitted,
    destination: &Destination,
) -> Result<(TcpStream, SocketAddr), Why> {
    let denied = |denial| {
        tracing::warn!(%destination, %denial, "a stream is not allowed");
        Why::NotAllowed
    };
    context.gate().may_lead(admitted, destination).map_err(denied)?;
    let found = tokio::time::timeout(PATIENCE, look_up(destination)).await.map_err(|_| Why::NotFound)??;
    let leads = |address: SocketAddr| context.gate().leads(admitted, destination, address.ip());
    let (mut allowed, mut refused) = (Vec::new(), None);
    for address in found {
        match leads(address) {
            Ok(dialable) => allowed.push(dialable),
            Err(denial) => refused = Some(denial),
        }
    }
    match (allowed.is_empty(), refused) {
        (true, Some(denial)) => Err(denied(denial)),
        (true, None) => Err(Why::NotFound),
        (false, _) => tokio::time::timeout(PATIENCE, connect(&allowed)).await.map_err(|_| Why::TimedOut)?,
    }
}

async fn look_up(destination: &Destination) -> Result<Vec<SocketAddr>, Why> {
    let port = destination.port();
    match destination.host() {
        Host::Address(address) => Ok(vec![SocketAddr::new(address, port)]),
        Host::Name(name) => {
            let found = tokio::net::lookup_host((name, port)).await.map_err(|_| Why::NotFound)?;
            Ok(found.take(MAX_ADDRESSES).collect())
        }
    }
}

/// The first of the addresses that answers.
async fn connect(addresses: &[Dialable]) -> Result<(TcpStream, SocketAddr), Why> {
    let mut last = Why::NotFound;
    for dialable in addresses {
        match TcpStream::connect(dialable.address()).await {
            Ok(stream) => return Ok((stream, dialable.address())),
            Err(error) => last = why(error.kind()),
        }
    }
    Err(last)
}

fn why(kind: ErrorKind) -> Why {
    let unreachable = [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable, ErrorKind::AddrNotAvailable];
    if kind == ErrorKind::ConnectionRefused {
        Why::ConnectionRefused
    } else if kind == ErrorKind::TimedOut {
        Why::TimedOut
    } else if unreachable.contains(&kind) {
        Why::Unreachable
    } else {
        Why::Unavailable
    }
}
