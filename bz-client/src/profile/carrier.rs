//! Which carrier won the race, per server and network, in the profile's `carriers.toml`.
//!
//! A network is known by this machine's own address on the way out: that asks nobody and costs nothing. Networks that
//! give the same address are one here, which the race puts right: the carrier that is not remembered still gets its
//! turn. For the same reason nothing here is ever an error: what cannot be read or written is not remembered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use bz_core::time::UnixTime;
use bz_protocol::link::Memory;
use serde::{Deserialize, Serialize};

use crate::{clock, file};

/// How long a winner is remembered. Then the race is run as if nothing were known.
const REMEMBERED: Duration = Duration::from_secs(3 * 24 * 3600);
/// The most winners kept.
const MOST: usize = 32;

/// The memory of a profile.
#[derive(Debug)]
pub struct CarrierFile {
    path: PathBuf,
    server: String,
    address: fn() -> Option<IpAddr>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    winner: Vec<Winner>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Winner {
    server: String,
    /// This machine's address; none without a network.
    address: Option<IpAddr>,
    carrier: String,
    /// Seconds of the epoch.
    until: u64,
}

impl CarrierFile {
    pub(super) const fn new(path: PathBuf, server: String) -> Self {
        Self { path, server, address: own_address }
    }

    fn read(&self) -> Kept {
        let text = file::read(&self.path).unwrap_or_else(|error| {
            tracing::debug!(%error, "no carrier is remembered");
            None
        });
        let mut kept: Kept = text.map_or_else(Kept::default, |text| {
            toml::from_str(&text).unwrap_or_else(|error| {
                tracing::debug!(path = %self.path.display(), error = error.message(), "no carrier is remembered");
                Kept::default()
            })
        });
        let now = clock::system().now().wall;
        // A date farther off than any that is written here comes from another clock.
        kept.winner.retain(|winner| (seconds(now)..=seconds(now.after(REMEMBERED))).contains(&winner.until));
        kept
    }

    fn is_here(&self, winner: &Winner, address: Option<IpAddr>) -> bool {
        winner.server == self.server && winner.address == address
    }
}

impl Memory for CarrierFile {
    fn first(&self) -> Option<String> {
        let address = (self.address)();
        self.read().winner.into_iter().find(|winner| self.is_here(winner, address)).map(|winner| winner.carrier)
    }

    fn keep(&self, carrier: &str) {
        let (mut kept, address) = (self.read(), (self.address)());
        if kept.winner.iter().any(|winner| self.is_here(winner, address) && winner.carrier == carrier) {
            return;
        }
        kept.winner.retain(|winner| !self.is_here(winner, address));
        // The newest first: the oldest go when there are too many.
        let until = seconds(clock::system().now().wall.after(REMEMBERED));
        let winner = Winner { server: self.server.clone(), address, carrier: carrier.to_owned(), until };
        kept.winner.insert(0, winner);
        kept.winner.truncate(MOST);
        let text = toml::to_string(&kept).map_err(|error| error.to_string());
        let written = text.and_then(|text| file::replace(&self.path, &text).map_err(|error| error.to_string()));
        if let Err(error) = written {
            tracing::debug!(%error, "the carrier that won is not remembered");
        }
    }
}

fn seconds(time: UnixTime) -> u64 {
    time.as_millis() / 1000
}

/// This machine's own address on the way out. A UDP socket that is connected sends nothing: it only learns which address
/// its packets would leave from. The far addresses are of the ranges kept for documentation.
fn own_address() -> Option<IpAddr> {
    let ask = |from: IpAddr, to: IpAddr| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let documented = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    ask(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
        .or_else(|| ask(Ipv6Addr::UNSPECIFIED.into(), documented.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: fn() -> Option<IpAddr> = || Some(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2)));
    const CAFE: fn() -> Option<IpAddr> = || Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)));

    #[test]
    fn winners_are_remembered_per_server_and_network() {
        let folder = tempfile::tempdir().unwrap();
        let at = |server: &str, address| CarrierFile {
            path: folder.path().join("carriers.toml"),
            server: server.to_owned(),
            address,
        };
        assert_eq!(at("one", HOME).first(), None);
        at("one", HOME).keep("ws");
        at("one", CAFE).keep("quic");
        at("two", || None).keep("ws");
        at("one", HOME).keep("quic");
        at("one", CAFE).keep("ws");
        let first = |server, address| at(server, address).first();
        assert_eq!(first("one", HOME).as_deref(), Some("quic"));
        assert_eq!(first("one", CAFE).as_deref(), Some("ws"));
        assert_eq!(first("two", || None).as_deref(), Some("ws"));
        assert_eq!(first("two", HOME), None);
        for number in 0..MOST {
            at(&format!("another {number}"), HOME).keep("ws");
        }
        assert_eq!(first("one", CAFE), None, "there is a bound, and the oldest go");
    }

    #[test]
    fn what_cannot_be_used_is_not_remembered_and_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carriers.toml");
        let memory = CarrierFile { path: path.clone(), server: "one".to_owned(), address: HOME };
        let winner = |until: u64| {
            format!("[[winner]]\nserver = \"one\"\naddress = \"192.168.1.2\"\ncarrier = \"ws\"\nuntil = {until}\n")
        };
        let now = seconds(clock::system().now().wall);
        let check = |text: &str, first: Option<&str>| {
            std::fs::write(&path, text).unwrap();
            assert_eq!(memory.first().as_deref(), first, "{text}");
        };
        check(&winner(now + 60), Some("ws"));
        check(&winner(now - 1), None);
        check(&winner(now + 2 * REMEMBERED.as_secs()), None);
        check(&winner(now + 60).replace("192.168", "nonsense"), None);
        check("[[[", None);
        check("\0", None);
        memory.keep("quic");
        assert_eq!(memory.first().as_deref(), Some("quic"), "a damaged file is replaced");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        memory.keep("quic");
        assert_eq!(memory.first(), None);
    }

    #[test]
    fn asking_for_the_own_address_asks_nobody() {
        // On a machine without any network there is none.
        if let Some(address) = own_address() {
            assert!(!address.is_unspecified(), "{address}");
        }
    }
}
