//! Ranges of addresses, as keys name from where they are taken.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range such as `192.0.2.0/24` or `2001:db8::/32`; an address alone is the range of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// The text is no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a range of addresses such as 192.0.2.0/24, with no bits set beyond its length")]
pub struct ParseCidrError;

impl Cidr {
    /// Whether an address is in the range. One of IPv4 inside IPv6 is the one of IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                u32::from(range).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                u128::from(range).checked_shr(shift) == u128::from(address).checked_shr(shift)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether nothing is said beyond the range's length, which is what a slip of the pen looks like.
    fn is_whole(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => u32::from(address).checked_shl(self.bits.into()).unwrap_or_default() == 0,
            IpAddr::V6(address) => u128::from(address).checked_shl(self.bits.into()).unwrap_or_default() == 0,
        }
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| ParseCidrError)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let plain = |bits: &&str| !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) => Some(bits).filter(plain).and_then(|bits| bits.parse().ok()).ok_or(ParseCidrError)?,
        };
        let range = Self { address, bits };
        if bits <= most && range.is_whole() { Ok(range) } else { Err(ParseCidrError) }
    }
}

impl TryFrom<String> for Cidr {
    type Error = ParseCidrError;

    fn try_from(text: String) -> Result<Self, ParseCidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> Self {
        range.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_begins_as_it_does() {
        let check = |range: &str, address: &str, holds| {
            let range: Cidr = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), holds, "{address} in {range}");
        };
        check("192.0.2.0/24", "192.0.2.255", true);
        check("192.0.2.0/24", "192.0.3.0", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.6", false);
        check("0.0.0.0/0", "255.255.255.255", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "2001:db8::1", true);
        check("::/0", "192.0.2.1", false);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("2001:db8::/32", "2001:db9::", false);
        check("192.0.2.0/24", "::ffff:192.0.2.9", true);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in
            ["", "x", "192.0.2.0/33", "192.0.2.1/24", "::1/64", "192.0.2.0/", "192.0.2.0/+8", "192.0.2/24", "::/129"]
        {
            assert_eq!(text.parse::<Cidr>(), Err(ParseCidrError), "{text:?}");
        }
        assert_eq!("192.0.2.7".parse::<Cidr>().unwrap().to_string(), "192.0.2.7/32");
    }
}
