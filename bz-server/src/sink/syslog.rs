//! Syslog as RFC 5424 has it, to the local daemon's socket, or over TCP or TLS with each message's length before it
//! (RFC 5425, RFC 6587).
//!
//! No receiver of syslog says what it took. So the batch before is kept, and sent again where its connection is found
//! closed: rows may come twice, and are lost only where a receiver that goes on loses them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bz_core::time::UnixTime;
use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixDatagram, UnixStream};
use tokio_rustls::TlsConnector;

use crate::sink::{Receiver, SinkError};
use crate::store::event::{Log, Row};
use crate::tls;

/// Facility 13, the log of an audit.
const FACILITY: u8 = 13;
const INFORMATIONAL: u8 = 6;
const WARNING: u8 = 4;

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(String),
    Tls { address: String, name: ServerName<'static> },
}

impl Address {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        let (scheme, address) = text.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        port.parse::<u16>().ok().filter(|port| *port > 0)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).ok()?;
        match scheme {
            "tcp" => Some(Self::Tcp(address.to_owned())),
            "tls" => Some(Self::Tls { address: address.to_owned(), name }),
            _ => None,
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

enum Line {
    Datagrams(UnixDatagram),
    Stream(Box<dyn Stream>),
}

pub(super) struct Syslog {
    address: Address,
    connector: Option<TlsConnector>,
    host: String,
    line: Option<Line>,
    /// What was written last, and no receiver confirmed.
    before: Vec<u8>,
}

impl Syslog {
    pub(super) fn new(address: Address, ca: Option<&Path>, host: String) -> Result<Self, SinkError> {
        let connector = match address {
            Address::Tls { .. } => {
                let roots = ca.map(std::fs::read).transpose()?;
                Some(TlsConnector::from(Arc::new(tls::client(roots.as_deref())?)))
            }
            Address::Unix(_) | Address::Tcp(_) => None,
        };
        Ok(Self { address, connector, host, line: None, before: Vec::new() })
    }

    async fn dial(&self) -> Result<Line, SinkError> {
        Ok(match (&self.address, &self.connector) {
            (Address::Unix(path), _) => {
                let socket = UnixDatagram::unbound()?;
                match socket.connect(path) {
                    Ok(()) => Line::Datagrams(socket),
                    // A socket of the other kind.
                    Err(_) => Line::Stream(Box::new(UnixStream::connect(path).await?)),
                }
            }
            (Address::Tls { address, name }, Some(connector)) => {
                let stream = TcpStream::connect(address).await?;
                Line::Stream(Box::new(connector.connect(name.clone(), stream).await?))
            }
            (Address::Tcp(address) | Address::Tls { address, .. }, _) => {
                Line::Stream(Box::new(TcpStream::connect(address).await?))
            }
        })
    }

    async fn send(&mut self, rows: &[Row]) -> Result<(), SinkError> {
        if let Some(Line::Stream(stream)) = &mut self.line
            && is_closed(stream).await
        {
            self.line = None;
        }
        let messages: Vec<_> = rows.iter().map(|row| message(row, &self.host)).collect();
        let is_new = self.line.is_none();
        let line = match self.line.take() {
            Some(line) => line,
            None => self.dial().await?,
        };
        match line {
            Line::Datagrams(socket) => {
                for (row, text) in rows.iter().zip(&messages) {
                    if let Err(error) = socket.send(text.as_bytes()).await {
                        // Longer than the daemon's socket takes: that it was, and where it is.
                        tracing::debug!(%error, row = row.seq, "a row is sent to syslog without its content");
                        socket.send(message(&shortened(row), &self.host).as_bytes()).await?;
                    }
                }
                self.line = Some(Line::Datagrams(socket));
            }
            Line::Stream(mut stream) => {
                let framed: String = messages.iter().map(|text| format!("{} {text}", text.len())).collect();
                if is_new && !self.before.is_empty() {
                    stream.write_all(&self.before).await?;
                }
                stream.write_all(framed.as_bytes()).await?;
                stream.flush().await?;
                self.before = framed.into_bytes();
                self.line = Some(Line::Stream(stream));
            }
        }
        Ok(())
    }
}

impl Receiver for Syslog {
    fn take<'a>(&'a mut self, rows: &'a [Row]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.send(rows))
    }
}

/// Whether the other end has closed; it never says anything.
async fn is_closed(stream: &mut Box<dyn Stream>) -> bool {
    let mut buffer = [0; 64];
    tokio::select! {
        biased;
        read = stream.read(&mut buffer) => !matches!(read, Ok(1..)),
        () = std::future::ready(()) => false,
    }
}

/// `<priority>1 time host bz-server - log - line`.
fn message(row: &Row, host: &str) -> String {
    let refused = row.log == Log::Calls && row.body.contains("\"evaluation\":false");
    let priority = u16::from(FACILITY) * 8 + u16::from(if refused { WARNING } else { INFORMATIONAL });
    let line = row.line();
    format!("<{priority}>1 {} {host} bz-server - {} - {}", time(row.at), row.log.name(), line.trim_end())
}

/// To the millisecond: the format has no more than six digits.
fn time(at: UnixTime) -> String {
    at.to_string()
}

fn shortened(row: &Row) -> Row {
    Row { body: "null".to_owned(), ..row.clone() }
}

#[cfg(test)]
mod tests {
    use bz_core::digest::Digest;

    use super::*;

    #[test]
    fn addresses_are_read() {
        let name = |host: &str| ServerName::try_from(host.to_owned()).unwrap();
        for (text, want) in [
            ("unix:/dev/log", Some(Address::Unix("/dev/log".into()))),
            ("unix:dev/log", None),
            ("tcp://log.example:514", Some(Address::Tcp("log.example:514".to_owned()))),
            ("tcp://[::1]:514", Some(Address::Tcp("[::1]:514".to_owned()))),
            (
                "tls://log.example:6514",
                Some(Address::Tls { address: "log.example:6514".to_owned(), name: name("log.example") }),
            ),
            ("tcp://log.example", None),
            ("tcp://log.example:0", None),
            ("tcp://log.example:70000", None),
            ("udp://log.example:514", None),
            ("log.example:514", None),
        ] {
            assert_eq!(Address::parse(text), want, "{text}");
        }
    }

    #[test]
    fn a_message_is_of_rfc_5424() {
        let row = Row {
            seq: 7,
            log: Log::Calls,
            at: UnixTime::from_millis(1_800_000_000_123),
            body: "{\"evaluation\":false}".to_owned(),
            hash: Digest::from_bytes([0; 32]),
        };
        let said = message(&row, "bz.example");
        let (head, line) = said.split_at(said.find('{').unwrap());
        assert_eq!(head, "<108>1 2027-01-15T08:00:00.123Z bz.example bz-server - subject - ");
        assert_eq!(line, row.line().trim_end());
        let fine = Row { body: "{\"evaluation\":true}".to_owned(), ..row };
        assert!(message(&fine, "x").starts_with("<110>1 "));
    }
}
