//! SOCKS 5 as far as a browser or curl needs it here: RFC 1928, no authentication, CONNECT. Names are not looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bz_core::access::destination::Destination;
use bz_protocol::driver::{Cut, OpenError, Streams};
use bz_protocol::stream::{StreamRequest, Why};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::tunnel::{ForwardError, between};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;

/// How long a program may take to say where to.
const PATIENCE: Duration = Duration::from_secs(30);

/// The replies of RFC 1928, section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Succeeded = 0,
    Failure = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    TimedOut = 6,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

/// Serves one connection.
pub(super) async fn serve(streams: &Streams, mut stream: TcpStream) -> Result<(), ForwardError> {
    let asked = tokio::time::timeout(PATIENCE, asked(&mut stream)).await;
    let destination = match asked.map_err(|_| ForwardError::Socks("it said nothing for 30 s".to_owned()))? {
        Ok(destination) => destination,
        Err((reply, why)) => {
            if let Some(reply) = reply {
                answer(&mut stream, reply).await;
            }
            return Err(ForwardError::Socks(why));
        }
    };
    match streams.open(StreamRequest::Dial(destination.clone())).await {
        Ok(there) => {
            answer(&mut stream, Reply::Succeeded).await;
            between(there, Cut::new(stream)).await;
            Ok(())
        }
        Err(error) => {
            answer(&mut stream, reply(error)).await;
            Err(ForwardError::Open { destination, error })
        }
    }
}

/// Where the program wants to; a reply for it otherwise, when it is to hear one.
async fn asked<S: AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
) -> Result<Destination, (Option<Reply>, String)> {
    let io = |error: std::io::Error| (None, error.to_string());
    let [version, methods] = read(stream).await.map_err(io)?;
    if version != VERSION {
        return Err((None, format!("version {version}")));
    }
    let mut offered = vec![0; methods.into()];
    stream.read_exact(&mut offered).await.map_err(io)?;
    let chosen = if offered.contains(&NO_AUTHENTICATION) { NO_AUTHENTICATION } else { NONE_ACCEPTABLE };
    stream.write_all(&[VERSION, chosen]).await.map_err(io)?;
    if chosen == NONE_ACCEPTABLE {
        return Err((None, "it insists on authentication".to_owned()));
    }
    let [version, command, _, kind] = read(stream).await.map_err(io)?;
    if version != VERSION {
        return Err((None, format!("version {version}")));
    }
    let host = match kind {
        1 => IpAddr::from(Ipv4Addr::from(read::<4, _>(stream).await.map_err(io)?)).to_string(),
        3 => {
            let [length] = read(stream).await.map_err(io)?;
            let mut name = vec![0; length.into()];
            stream.read_exact(&mut name).await.map_err(io)?;
            String::from_utf8_lossy(&name).into_owned()
        }
        4 => IpAddr::from(Ipv6Addr::from(read::<16, _>(stream).await.map_err(io)?)).to_string(),
        kind => return Err((Some(Reply::AddressNotSupported), format!("an address of kind {kind}"))),
    };
    let port = u16::from_be_bytes(read(stream).await.map_err(io)?);
    if command != CONNECT {
        return Err((Some(Reply::CommandNotSupported), format!("command {command}")));
    }
    Destination::new(&host, port).map_err(|error| (Some(Reply::AddressNotSupported), error.to_string()))
}

async fn read<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The address bound at the far end is nobody's business here: zeros, as most servers say.
async fn answer(stream: &mut TcpStream, reply: Reply) {
    let bytes = [VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0];
    // Whoever does not wait for the answer needs none.
    stream.write_all(&bytes).await.unwrap_or_default();
}

const fn reply(error: OpenError) -> Reply {
    match error {
        OpenError::Refused(Why::NotAllowed) => Reply::NotAllowed,
        OpenError::Refused(Why::NotFound) => Reply::HostUnreachable,
        OpenError::Refused(Why::ConnectionRefused) => Reply::ConnectionRefused,
        OpenError::Refused(Why::Unreachable) => Reply::NetworkUnreachable,
        OpenError::Refused(Why::TimedOut) => Reply::TimedOut,
        OpenError::Refused(Why::Unavailable) | OpenError::Ended => Reply::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(said: &[u8], want: Result<&str, Option<Reply>>) {
        let (mut here, mut there) = tokio::io::duplex(1024);
        there.write_all(said).await.unwrap();
        there.shutdown().await.unwrap();
        let got = asked(&mut here).await;
        let got = got.as_ref().map(ToString::to_string).map_err(|(reply, _)| *reply);
        assert_eq!(got, want.map(str::to_owned), "{said:?}");
    }

    #[tokio::test]
    async fn what_is_asked_is_read_to_the_letter() {
        let hello = [5, 1, 0];
        let all = |rest: &[u8]| [&hello, rest].concat();
        check(&all(b"\x05\x01\x00\x03\x0bDB.internal\x15\x38"), Ok("db.internal:5432")).await;
        check(&all(&[5, 1, 0, 1, 10, 0, 0, 1, 0, 80]), Ok("10.0.0.1:80")).await;
        let six = [&[5, 1, 0, 4][..], &Ipv6Addr::LOCALHOST.octets(), &[0, 80]].concat();
        check(&all(&six), Ok("[::1]:80")).await;
        check(&all(&[5, 2, 0, 1, 10, 0, 0, 1, 0, 80]), Err(Some(Reply::CommandNotSupported))).await;
        check(&all(&[5, 1, 0, 9, 0]), Err(Some(Reply::AddressNotSupported))).await;
        check(&all(&[5, 1, 0, 1, 10, 0, 0, 1, 0, 0]), Err(Some(Reply::AddressNotSupported))).await;
        check(&all(b"\x05\x01\x00\x03\x03a b\x00\x50"), Err(Some(Reply::AddressNotSupported))).await;
        check(&all(&[5, 1, 0, 1, 10]), Err(None)).await;
        check(&[4, 1, 0, 80, 1, 2, 3, 4, 0], Err(None)).await;
        check(&[5, 1, 2], Err(None)).await;
        check(b"GET / HTTP/1.1\r\n", Err(None)).await;
    }
}
