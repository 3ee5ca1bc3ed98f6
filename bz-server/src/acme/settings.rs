//! What the settings say of an authority, and what they may not say.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use url::Url;

/// The most names of one certificate.
const MOST_NAMES: usize = 20;
/// The most addresses of people.
const MOST_CONTACTS: usize = 4;

/// A certificate by ACME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeSettings {
    /// The directory of the authority.
    pub acme: Url,
    /// The names that the certificate is for.
    pub names: Vec<String>,
    /// Whom the authority may write to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,
    /// Whether somebody accepted the authority's terms.
    #[serde(default)]
    pub accept_terms: bool,
    /// A PEM file of roots for the authority's own TLS, instead of the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl AcmeSettings {
    /// Whether it can be used as it stands, by a server that is told to be at this address.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn check(&self, public_url: &Url) -> Result<(), &'static str> {
        if self.acme.scheme() != "https" || self.acme.host_str().is_none() {
            return Err("takes an authority's directory at an https address");
        }
        if !self.accept_terms {
            return Err("needs accept_terms = true: read the terms of the authority first");
        }
        let each: BTreeSet<_> = self.names.iter().collect();
        if self.names.is_empty() || self.names.len() > MOST_NAMES || each.len() != self.names.len() {
            return Err("takes 1 to 20 names, each once");
        }
        if !self.names.iter().all(|name| is_name(name)) {
            return Err("takes names of hosts in small letters: no addresses, no wildcards");
        }
        if public_url.scheme() == "https" && !self.names.iter().any(|name| public_url.host_str() == Some(name)) {
            return Err("must have the host of public_url among its names: clients look for that");
        }
        if self.contact.len() > MOST_CONTACTS || !self.contact.iter().all(|address| is_address(address)) {
            return Err("takes up to 4 mail addresses as contact");
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let small = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
    small && matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)))
}

/// As a `mailto:` may have one: RFC 8555 forbids several in one and header fields.
fn is_address(address: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-/=^_`{|}~.@".contains(&byte);
    let parts: Vec<_> = address.split('@').collect();
    address.len() <= 254
        && address.bytes().all(plain)
        && matches!(parts[..], [user, host] if !user.is_empty() && is_name(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut AcmeSettings);

    #[test]
    fn what_could_not_work_is_refused() {
        let url: Url = "https://bz.example.com".parse().unwrap();
        let good = AcmeSettings {
            acme: "https://acme.example/directory".parse().unwrap(),
            names: vec!["bz.example.com".to_owned(), "localhost".to_owned()],
            contact: vec!["ops+bz@example.com".to_owned()],
            accept_terms: true,
            ca: None,
        };
        assert_eq!(good.check(&url), Ok(()));
        fn names(names: &[&str]) -> Vec<String> {
            names.iter().map(|&name| name.to_owned()).collect()
        }
        let cases: [(Change, &str); 16] = [
            (|s| s.acme = "http://acme.example/directory".parse().unwrap(), "https"),
            (|s| s.acme = "mailto:a@example.com".parse().unwrap(), "https"),
            (|s| s.accept_terms = false, "accept_terms"),
            (|s| s.names.clear(), "1 to 20"),
            (|s| s.names = names(&["bz.example.com"; 2]), "each once"),
            (|s| s.names = (0..21).map(|n| format!("n{n}.example.com")).collect(), "1 to 20"),
            (|s| s.names = names(&["*.example.com"]), "no wildcards"),
            (|s| s.names = names(&["192.0.2.1"]), "no addresses"),
            (|s| s.names = names(&["BZ.example.com"]), "small letters"),
            (|s| s.names = names(&["bz example"]), "names of hosts"),
            (|s| s.names = names(&[""]), "names of hosts"),
            (|s| s.names = names(&["other.example.com"]), "public_url"),
            (|s| s.contact = names(&["ops"]), "mail addresses"),
            (|s| s.contact = names(&["a@example.com,b@example.com"]), "mail addresses"),
            (|s| s.contact = names(&["a@example.com?subject=x"]), "mail addresses"),
            (|s| s.contact = names(&["a@example.com"; 5]), "mail addresses"),
        ];
        for (change, part) in cases {
            let mut settings = good.clone();
            change(&mut settings);
            let rule = settings.check(&url).expect_err("nonsense was taken");
            assert!(rule.contains(part), "{rule}: not about {part}");
        }
    }
}
