//! Which server, and how its TLS certificate is known.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bz_core::digest::Digest;
use bz_protocol::carrier::Proxies;
use url::{Host, Url};

/// The most pins at once: the present key and its successor.
pub const MAX_PINS: usize = 2;

/// A server's address and the roots its certificate is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    url: Url,
    roots: Roots,
    proxies: Proxies,
}

/// What a TLS certificate is checked against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// What the operating system trusts.
    #[default]
    Platform,
    /// That, and these certificates, as PEM text.
    Ca(String),
    /// The key of the server's certificate, or of an authority in the chain it sends, and nothing else: one or two.
    Pins(Vec<SpkiPin>),
}

/// SHA-256 of a certificate's `SubjectPublicKeyInfo`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpkiPin(Digest);

/// Why an address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Not an address of a server.
    #[error("{0:?} is not a server's address: give one such as https://bz.example.com")]
    Url(String),
    /// Plain http beyond this machine.
    #[error("{0} would be spoken to without TLS: use https (http is for this machine alone)")]
    Plain(String),
    /// No pin, or more than [`MAX_PINS`].
    #[error("give one or two pins, not {0}")]
    Pins(usize),
    /// No certificate in the PEM text.
    #[error("the CA file holds no certificate: it must be PEM, with BEGIN CERTIFICATE")]
    Ca,
}

impl Server {
    /// The server at `https://host[:port]`, or `http://` on a loopback address.
    ///
    /// # Errors
    /// [`ServerError`] for anything else.
    pub fn new(url: &str) -> Result<Self, ServerError> {
        let refused = || ServerError::Url(url.chars().take(128).collect());
        let text = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
        let mut url = Url::parse(&text).map_err(|_| refused())?;
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !plain || !url.username().is_empty() || url.password().is_some() || url.host_str().is_none() {
            return Err(refused());
        }
        url.set_path("/");
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err(ServerError::Plain(url.to_string())),
            _ => return Err(refused()),
        }
        Ok(Self { url, roots: Roots::Platform, proxies: Proxies::default() })
    }

    /// The same server, its certificate checked against these.
    ///
    /// # Errors
    /// [`ServerError::Pins`] for none or too many, [`ServerError::Ca`] for text without a certificate.
    pub fn with_roots(mut self, roots: Roots) -> Result<Self, ServerError> {
        match &roots {
            Roots::Platform => {}
            Roots::Ca(pem) if crate::http::certificates(pem).is_empty() => return Err(ServerError::Ca),
            Roots::Ca(_) => {}
            Roots::Pins(pins) if pins.is_empty() || pins.len() > MAX_PINS => return Err(ServerError::Pins(pins.len())),
            Roots::Pins(_) => {}
        }
        self.roots = roots;
        Ok(self)
    }

    /// The same server, it and its identity provider reached through these proxies. By default there are none: the
    /// environment is the program's to read.
    #[must_use]
    pub fn with_proxies(self, proxies: Proxies) -> Self {
        Self { proxies, ..self }
    }

    /// The built-in ways to it.
    ///
    /// # Errors
    /// [`crate::HttpError`] when no TLS can be set up here.
    #[cfg(all(feature = "ws", feature = "quic"))]
    pub fn ways(&self, choice: bz_protocol::link::Choice) -> Result<bz_protocol::link::Ways, crate::HttpError> {
        crate::http::choose(self, choice)
    }

    /// The proxies that lead to it.
    #[must_use]
    pub const fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Its address.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// What its certificate is checked against.
    #[must_use]
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl SpkiPin {
    /// The pin of this digest.
    #[must_use]
    pub const fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.0
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpkiPin({})", self.0)
    }
}

/// Text that is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a pin: expected 64 hexadecimal digits, or sha256// and base64")]
pub struct ParsePinError;

impl FromStr for SpkiPin {
    type Err = ParsePinError;

    fn from_str(text: &str) -> Result<Self, ParsePinError> {
        if let Some(base64) = text.strip_prefix("sha256//") {
            let bytes = STANDARD.decode(base64).map_err(|_| ParsePinError)?;
            return <[u8; 32]>::try_from(bytes).map(|b| Self(Digest::from_bytes(b))).map_err(|_| ParsePinError);
        }
        text.parse().map(Self).map_err(|_| ParsePinError)
    }
}

/// Whether a URL stays on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Where programs in Google's cloud ask who they are, without TLS: the name leads to their own machine's host.
pub(crate) const GOOGLE_METADATA: &str = "metadata.google.internal";

/// Whether something secret may be sent there.
pub(crate) fn is_safe(url: &Url) -> bool {
    let local = is_loopback(url) || url.host_str() == Some(GOOGLE_METADATA);
    url.scheme() == "https" || (url.scheme() == "http" && local)
}
