//! Service accounts: programs whose key set an owner of the organization publishes at an address.
//!
//! Such an account signs its own tokens. Its issuer is `jwks:` and the address of its key set, so it can be taken for no
//! OpenID provider, and its keys come from that address and nowhere else. Which addresses may be one is pinned as
//! [`JwksPattern`]s in the trust bundle, by the owner of whoever checks; no server adds any.

use url::Url;

use crate::id::OrganizationId;
use crate::oidc::provider::{Commitment, OrganizationClaim, Provider, ProviderKind};

/// What the issuer of a service account begins with.
pub const SCHEME: &str = "jwks:";
/// The claim of its tokens that names the organization.
pub const ORGANIZATION: &str = "org_id";
/// The most bytes of a pattern or an address.
pub const MAX_ADDRESS: usize = 512;

/// Which addresses of key sets may be service accounts': one address, with `*` for a part of its path.
///
/// `*` stands for at least one character of one segment, and never for a whole segment: on a host that publishes the
/// keys of many organizations that would mean anyone.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, bincode::Encode, bincode::Decode,
)]
#[serde(transparent)]
pub struct JwksPattern(pub String);

/// Why an address or pattern is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not such a URL.
    #[error(
        "it must be an https address (http only on loopback), of at most 512 bytes, without query, fragment, user or dots for folders"
    )]
    Address,
    /// A wildcard that means too much.
    #[error("`*` may stand for a part of the path's segments, never for a whole one nor in the host")]
    Wildcard,
}

impl JwksPattern {
    /// Whether it can be pinned.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn check(&self) -> Result<(), AddressError> {
        let (host, path) = split(&self.0).ok_or(AddressError::Address)?;
        if host.contains('*')
            || path.split('/').any(|segment| !segment.is_empty() && segment.trim_matches('*').is_empty())
        {
            return Err(AddressError::Wildcard);
        }
        check_address(&self.0.replace('*', "x"))
    }

    /// Whether an address is one of those it means.
    #[must_use]
    pub fn means(&self, address: &str) -> bool {
        if self.check().is_err() || check_address(address).is_err() {
            return false;
        }
        let (Some((ours, pattern)), Some((theirs, path))) = (split(&self.0), split(address)) else { return false };
        let (ours_parts, parts): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        ours == theirs
            && ours_parts.len() == parts.len()
            && ours_parts.iter().zip(parts).all(|(pattern, segment)| fits(pattern, segment))
    }
}

/// Whether a key set may be there.
///
/// # Errors
/// [`AddressError::Address`].
pub fn check_address(address: &str) -> Result<(), AddressError> {
    let good = || {
        let url = Url::parse(address).ok()?;
        let loopback = match url.host()? {
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.is_loopback(),
            url::Host::Domain(name) => name == "localhost",
        };
        let scheme = url.scheme() == "https" || (url.scheme() == "http" && loopback);
        let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        // What a parser would write otherwise could mean something else to whoever fetches it.
        let same = url.as_str() == address && !address.contains('*') && !address.contains('%');
        (scheme && plain && url.password().is_none() && same && address.len() <= MAX_ADDRESS).then_some(())
    };
    good().ok_or(AddressError::Address)
}

/// The issuer of the account whose key set is at this address.
#[must_use]
pub fn issuer(address: &str) -> String {
    format!("{SCHEME}{address}")
}

/// The address of the key set of an issuer that is a service account.
#[must_use]
pub fn address(issuer: &str) -> Option<&str> {
    issuer.strip_prefix(SCHEME)
}

/// The audience of service accounts' tokens: the organization.
#[must_use]
pub fn audience(organization: OrganizationId) -> String {
    format!("bz:{organization}")
}

/// The account at this address as a provider, by which its tokens are checked like a person's. Who calls this has
/// compared the address with what is pinned.
pub(crate) fn provider(organization: OrganizationId, address: &str) -> Provider {
    Provider {
        kind: ProviderKind::Oidc,
        issuer: issuer(address),
        audiences: vec![audience(organization)],
        organization: Some(OrganizationClaim { claim: ORGANIZATION.to_owned(), value: organization.to_string() }),
        organization_is_issuer: false,
        domains: Vec::new(),
        commitment: Commitment::Nonce,
        workloads: Vec::new(),
        groups_claim: None,
    }
}

/// Scheme and host, and the path after them.
fn split(address: &str) -> Option<(&str, &str)> {
    let start = address.find("://")?.checked_add(3)?;
    let slash = address.get(start..)?.find('/')?.checked_add(start)?;
    Some(address.split_at(slash))
}

fn fits(pattern: &str, segment: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == segment };
    let Some(rest) = segment.strip_prefix(before) else { return false };
    // At least one character, then whatever fits the rest.
    (1..=rest.len()).any(|taken| rest.get(taken..).is_some_and(|rest| fits(after, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_addresses_of_one_host_and_shape() {
        let google = "https://www.googleapis.com/service_accounts/v1/jwk/*@project.iam.gserviceaccount.com";
        let at = |name: &str| google.replace('*', name);
        let check = |pattern: &str, address: &str, want| {
            assert_eq!(JwksPattern(pattern.to_owned()).means(address), want, "{pattern} {address}");
        };
        check(google, &at("ci"), true);
        check(google, &at(""), false);
        check(google, &at("x/y"), false);
        check(google, &at("x?y"), false);
        check(google, &at("x%2Fy"), false);
        check(google, &at("../evil"), false);
        check(google, &at("ci").replace("project", "other"), false);
        check(google, &at("ci").replace("https", "http"), false);
        check(google, &at("ci").replace("www.googleapis.com", "www.googleapis.com.evil.example"), false);
        check(google, &at("ci").replace("www.googleapis.com", "evil.example/www.googleapis.com"), false);
        check(google, &format!("{}x", at("ci")), false);
        check("https://ci.example/keys.json", "https://ci.example/keys.json", true);
        check("https://ci.example/keys.json", "https://ci.example/keys.json/", false);
        check("https://ci.example/a-*-*.json", "https://ci.example/a-b-c.json", true);
        check("https://ci.example/a-*-*.json", "https://ci.example/a--c.json", false);
        check("http://127.0.0.1:8000/x-*", "http://127.0.0.1:8000/x-1", true);
        check("http://127.0.0.1:8000/x-*", "http://127.0.0.1:8001/x-1", false);
    }

    #[test]
    fn a_pattern_never_means_anyone() {
        for (pattern, want) in [
            ("https://*.example/keys", Err(AddressError::Wildcard)),
            ("https://ci.example/*", Err(AddressError::Wildcard)),
            ("https://ci.example/**/keys", Err(AddressError::Wildcard)),
            ("https://ci.example", Err(AddressError::Address)),
            ("http://ci.example/keys", Err(AddressError::Address)),
            ("https://me@ci.example/keys", Err(AddressError::Address)),
            ("https://ci.example/keys?x=*", Err(AddressError::Address)),
            ("https://ci.example/a/../keys-*", Err(AddressError::Address)),
            ("*", Err(AddressError::Address)),
            ("https://ci.example/keys-*", Ok(())),
            ("http://localhost:1/keys", Ok(())),
        ] {
            assert_eq!(JwksPattern(pattern.to_owned()).check(), want, "{pattern}");
        }
    }
}
