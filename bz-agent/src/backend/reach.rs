//! Connections of the agent's own, to where grant and local policy let them lead, and nowhere else.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bz_core::access::destination::{Destination, Host};
use bz_protocol::gate::{Admitted, Dialable};
use bz_protocol::stream::Why;
use tokio::net::TcpStream;

use crate::agent::Context;

/// How long a name may take to be found, and all its addresses together to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// A connection to where the gate lets it lead.
pub(super) async fn dial(
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
