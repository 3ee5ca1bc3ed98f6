//! Where a tunnel may lead: a host and a port, and rules over them.
//!
//! A rule is text, in policies, requests and grants alike: `db.internal:5432`, `*.internal:443`, `10.0.0.0/8:*`,
//! `[fd00::/8]:1-1024`, `*:*`. A name is matched as it was asked for; a network by the address that is dialled.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use bincode::{Decode, Encode};

use crate::local::is_guarded;

/// The most bytes of a host's name (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;
/// The most rules of one request, grant or local rule.
pub const MAX_RULES: usize = 64;

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name, in lower case; the target looks it up.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// Where one stream of a tunnel leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct Destination(String);

/// Text that names no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a destination: use HOST:PORT, or [ADDRESS]:PORT for IPv6")]
pub struct ParseDestinationError;

impl Destination {
    /// A destination.
    ///
    /// # Errors
    /// [`ParseDestinationError`] for a host that is neither a name nor an address, and for port 0.
    pub fn new(host: &str, port: u16) -> Result<Self, ParseDestinationError> {
        let host = parse_host(host).ok_or(ParseDestinationError)?;
        if port == 0 { Err(ParseDestinationError) } else { Ok(Self(written(&host, port))) }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> Host {
        let (host, _) = self.parts();
        host.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Address)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        // It was written by `new`.
        self.parts().1.parse().unwrap_or_default()
    }

    fn parts(&self) -> (&str, &str) {
        let (host, port) = self.0.rsplit_once(':').unwrap_or_default();
        (host.trim_start_matches('[').trim_end_matches(']'), port)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Destination {
    type Err = ParseDestinationError;

    fn from_str(text: &str) -> Result<Self, ParseDestinationError> {
        let (host, port) = split(text).ok_or(ParseDestinationError)?;
        Self::new(host, parse_port(port).ok_or(ParseDestinationError)?)
    }
}

impl<C> Decode<C> for Destination {
    fn decode<D: bincode::de::Decoder<Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        let text = String::decode(decoder)?;
        let parsed: Option<Self> = text.parse().ok();
        // One value has one encoding.
        parsed.filter(|parsed| parsed.0 == text).ok_or(bincode::error::DecodeError::Other("not a destination"))
    }
}

bincode::impl_borrow_decode!(Destination);

/// Destinations that are meant together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationRule {
    hosts: Hosts,
    ports: (u16, u16),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hosts {
    Any,
    Name(String),
    /// Every name that ends so: with the dot.
    Below(String),
    Network(IpAddr, u8),
}

/// Text that names no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a rule for destinations: use HOST:PORT, where HOST is a name, *.NAME, an address, a network such as \
     10.0.0.0/8 or [fd00::/8], or *, and PORT a number, a range such as 8000-8100, or *"
)]
pub struct ParseDestinationRuleError;

impl DestinationRule {
    /// Whether the rule could mean this destination: a name may turn out to be in its network.
    #[must_use]
    pub fn may_mean(&self, destination: &Destination) -> bool {
        self.means_port(destination.port())
            && match (&self.hosts, destination.host()) {
                (_, Host::Address(address)) => self.means_host(destination, address),
                (Hosts::Any | Hosts::Network(..), Host::Name(_)) => true,
                (Hosts::Name(name), Host::Name(asked)) => *name == asked,
                (Hosts::Below(suffix), Host::Name(asked)) => asked.ends_with(suffix.as_str()),
            }
    }

    /// Whether the rule means this destination when this address of it is dialled.
    ///
    /// An address that is [guarded](is_guarded) is meant by a rule of networks alone.
    #[must_use]
    pub fn means(&self, destination: &Destination, address: IpAddr) -> bool {
        self.means_port(destination.port()) && self.means_host(destination, address)
    }

    fn means_host(&self, destination: &Destination, address: IpAddr) -> bool {
        let asked = |holds: &dyn Fn(&str) -> bool| match destination.host() {
            Host::Name(name) => holds(&name),
            Host::Address(_) => false,
        };
        match &self.hosts {
            Hosts::Network(network, bits) => contains(*network, *bits, address),
            Hosts::Any => !is_guarded(address),
            Hosts::Name(name) => !is_guarded(address) && asked(&|asked| asked == name),
            Hosts::Below(suffix) => !is_guarded(address) && asked(&|asked| asked.ends_with(suffix.as_str())),
        }
    }

    fn means_port(&self, port: u16) -> bool {
        (self.ports.0..=self.ports.1).contains(&port)
    }
}

impl From<&Destination> for DestinationRule {
    fn from(destination: &Destination) -> Self {
        let hosts = match destination.host() {
            Host::Name(name) => Hosts::Name(name),
            Host::Address(address) => Hosts::Network(address, bits_of(address)),
        };
        Self { hosts, ports: (destination.port(), destination.port()) }
    }
}

impl fmt::Display for DestinationRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::Any => f.write_str("*")?,
            Hosts::Name(name) => f.write_str(name)?,
            Hosts::Below(suffix) => write!(f, "*{suffix}")?,
            Hosts::Network(address, bits) => {
                let network = if *bits == bits_of(*address) { String::new() } else { format!("/{bits}") };
                match address {
                    IpAddr::V4(v4) => write!(f, "{v4}{network}")?,
                    IpAddr::V6(v6) => write!(f, "[{v6}{network}]")?,
                }
            }
        }
        match self.ports {
            (1, u16::MAX) => f.write_str(":*"),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

impl FromStr for DestinationRule {
    type Err = ParseDestinationRuleError;

    fn from_str(text: &str) -> Result<Self, ParseDestinationRuleError> {
        parse_rule(text).ok_or(ParseDestinationRuleError)
    }
}

impl serde::Serialize for DestinationRule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for DestinationRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Encode for DestinationRule {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        self.to_string().encode(encoder)
    }
}

impl<C> Decode<C> for DestinationRule {
    fn decode<D: bincode::de::Decoder<Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        let text = String::decode(decoder)?;
        let parsed: Option<Self> = text.parse().ok();
        parsed
            .filter(|p| p.to_string() == text)
            .ok_or(bincode::error::DecodeError::Other("not a rule for destinations"))
    }
}

bincode::impl_borrow_decode!(DestinationRule);

fn parse_rule(text: &str) -> Option<DestinationRule> {
    let (host, port) = split(text)?;
    let ports = match port.split_once('-') {
        None if port == "*" => (1, u16::MAX),
        None => {
            let port = parse_port(port)?;
            (port, port)
        }
        Some((first, last)) => (parse_port(first)?, parse_port(last)?),
    };
    let hosts = match (host, host.strip_prefix('*'), host.split_once('/')) {
        ("*", ..) => Hosts::Any,
        (_, Some(suffix), _) => match parse_host(suffix.strip_prefix('.')?)? {
            Host::Name(name) => Hosts::Below(format!(".{name}")),
            Host::Address(_) => return None,
        },
        (_, None, Some((address, bits))) => {
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok().filter(|bits| *bits <= bits_of(address))?;
            Hosts::Network(address, bits)
        }
        (_, None, None) => match parse_host(host)? {
            Host::Name(name) => Hosts::Name(name),
            Host::Address(address) => Hosts::Network(address, bits_of(address)),
        },
    };
    (ports.0 <= ports.1).then_some(DestinationRule { hosts, ports })
}

/// Host and port; brackets stand around what has colons.
fn split(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|host| host.contains(':')).map(|host| (host, port)),
        None => (!host.contains(':')).then_some((host, port)),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == text)
}

fn parse_host(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Host::Address(address));
    }
    let label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        !label.is_empty() && label.len() <= 63 && plain && !label.starts_with('-')
    };
    // What is all digits and dots is an address that somebody else would read in another way.
    let named = text.bytes().any(|b| b.is_ascii_alphabetic()) && !text.to_ascii_lowercase().starts_with("0x");
    let fits = text.len() <= MAX_HOST && named && text.split('.').all(label);
    fits.then(|| Host::Name(text.to_ascii_lowercase()))
}

fn written(host: &Host, port: u16) -> String {
    match host {
        Host::Name(name) => format!("{name}:{port}"),
        Host::Address(address) => SocketAddr::new(*address, port).to_string(),
    }
}

const fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether a network has an address; one of IPv4 that came as IPv6 is the same address.
fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let plain = |address: IpAddr| match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let wide = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    };
    let (network, address) = (plain(network), plain(address));
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    network.is_ipv4() == address.is_ipv4() && wide(network) & mask == wide(address) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_read_back_and_have_one_form() {
        for (text, want) in [
            ("db.internal:5432", Some("db.internal:5432")),
            ("DB.Internal:5432", Some("db.internal:5432")),
            ("10.0.0.1:22", Some("10.0.0.1:22")),
            ("[::1]:80", Some("[::1]:80")),
            ("localhost:1", Some("localhost:1")),
            ("::1:80", None),
            ("db", None),
            ("db:0", None),
            ("db:65536", None),
            ("db:+1", None),
            ("db:080", None),
            ("a b:1", None),
            ("-x:1", None),
            ("a..b:1", None),
            ("2130706433:80", None),
            ("127.1:80", None),
            ("0x7f.1:80", None),
            ("[db]:1", None),
            (":1", None),
        ] {
            let parsed = text.parse::<Destination>().ok().map(|d| d.to_string());
            assert_eq!(parsed.as_deref(), want, "{text}");
        }
    }

    fn check(rule: &str, destination: &str, address: &str, (may, means): (bool, bool)) {
        let parsed: DestinationRule = rule.parse().unwrap();
        assert_eq!(parsed.to_string(), rule, "written otherwise than read");
        let destination: Destination = destination.parse().unwrap();
        assert_eq!(parsed.may_mean(&destination), may, "{rule} for {destination}, before it is looked up");
        assert_eq!(
            parsed.means(&destination, address.parse().unwrap()),
            means,
            "{rule} for {destination} at {address}"
        );
    }

    /// TRUST-4: a name counts as it was asked, a network by the address dialled, and a guarded address by a network.
    #[test]
    fn rules_mean_what_they_say() {
        check("db.internal:5432", "db.internal:5432", "10.0.0.1", (true, true));
        check("db.internal:5432", "DB.INTERNAL:5432", "10.0.0.1", (true, true));
        check("db.internal:5432", "db.internal:5433", "10.0.0.1", (false, false));
        check("db.internal:5432", "other.internal:5432", "10.0.0.1", (false, false));
        check("db.internal:5432", "10.0.0.1:5432", "10.0.0.1", (false, false));
        check("*.internal:*", "a.b.internal:1", "10.0.0.1", (true, true));
        check("*.internal:*", "internal:1", "10.0.0.1", (false, false));
        check("*.internal:*", "evilinternal:1", "10.0.0.1", (false, false));
        check("10.0.0.0/8:*", "10.1.2.3:9", "10.1.2.3", (true, true));
        check("10.0.0.0/8:*", "11.1.2.3:9", "11.1.2.3", (false, false));
        check("10.0.0.0/8:*", "name.example:9", "10.1.2.3", (true, true));
        check("10.0.0.0/8:*", "name.example:9", "8.8.8.8", (true, false));
        check("10.0.0.0/8:*", "[::ffff:10.1.2.3]:9", "::ffff:10.1.2.3", (true, true));
        check("[fd00::/8]:1-1024", "[fd00::1]:443", "fd00::1", (true, true));
        check("[fd00::/8]:1-1024", "[fd00::1]:1025", "fd00::1", (false, false));
        check("0.0.0.0/0:*", "9.9.9.9:53", "9.9.9.9", (true, true));
        check("0.0.0.0/0:*", "[2001:db8::1]:53", "2001:db8::1", (false, false));
        check("*:*", "9.9.9.9:53", "9.9.9.9", (true, true));
        check("*:*", "169.254.169.254:80", "169.254.169.254", (false, false));
        check("*:*", "metadata.example:80", "169.254.169.254", (true, false));
        check("metadata.example:80", "metadata.example:80", "169.254.169.254", (true, false));
        check("169.254.169.254:80", "169.254.169.254:80", "169.254.169.254", (true, true));
        for bad in ["", "*", "*:", "10.0.0.0/33:*", "*x:1", "*.:1", "*.10.0.0.1:1", "a:9-1", "fd00::/8:1", "a/8:1"] {
            assert_eq!(bad.parse::<DestinationRule>(), Err(ParseDestinationRuleError), "{bad}");
        }
    }

    #[test]
    fn what_travels_is_checked() {
        let destination: Destination = "db.internal:5432".parse().unwrap();
        let bytes = crate::wire::encode(&destination, 1024).unwrap();
        assert_eq!(crate::wire::decode::<Destination>(&bytes, 1024), Ok(destination.clone()));
        let rule = DestinationRule::from(&destination);
        let bytes = crate::wire::encode(&rule, 1024).unwrap();
        assert_eq!(crate::wire::decode::<DestinationRule>(&bytes, 1024), Ok(rule));
        for bad in ["DB.internal:5432", "db.internal:0", "db.internal", "*:*"] {
            let bytes = crate::wire::encode(&bad.to_owned(), 1024).unwrap();
            assert!(crate::wire::decode::<Destination>(&bytes, 1024).is_err(), "{bad}");
        }
    }
}
