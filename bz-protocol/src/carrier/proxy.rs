//! HTTP proxies on the way to a server: which one, by value, and the tunnel that CONNECT makes through it.
//!
//! Absent: the environment, which programs read and pass on; proxies that are spoken to over TLS or SOCKS.

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::net::TcpStream;
use tower_service::Service as _;
use url::{Host, Url};

use crate::carrier::LinkError;

/// An HTTP proxy, and what it wants to hear before it serves.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// The proxy that leads to secure servers, and the servers it does not lead to: what programs find in `HTTPS_PROXY` and
/// `NO_PROXY`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    proxy: Option<Proxy>,
    except: String,
}

/// A setting that names no proxy. It may hold a password, so it is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the address of an HTTP proxy: expected http://[user:password@]host:port")]
pub struct ProxyError;

impl Proxy {
    /// The proxy at `http://[user:password@]host:port`.
    ///
    /// # Errors
    /// [`ProxyError`] for anything else, also for proxies of another kind.
    pub fn new(address: &str) -> Result<Self, ProxyError> {
        // Any host will do: this asks only whether there is a proxy.
        let any = Uri::from_static("https://server.invalid/");
        let found = Matcher::builder().https(address).build().intercept(&any).ok_or(ProxyError)?;
        let uri = found.uri().clone();
        if uri.scheme_str() != Some("http") {
            return Err(ProxyError);
        }
        Ok(Self { uri, authorization: found.basic_auth().cloned() })
    }

    /// Its address, without what it wants to hear.
    #[must_use]
    pub const fn address(&self) -> &Uri {
        &self.uri
    }

    /// The value of `Proxy-Authorization`, where it wants one. A secret.
    #[must_use]
    pub const fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// A connection to a host that the proxy looks up and dials.
    ///
    /// # Errors
    /// When the proxy cannot be reached or does not connect.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, LinkError> {
        let fail =
            |error: &dyn std::fmt::Display| LinkError(format!("no way to {host}:{port} through proxy {self}: {error}"));
        let named = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let there = Uri::builder().scheme("https").authority(format!("{named}:{port}")).path_and_query("/").build();
        let mut tunnel = Tunnel::new(self.uri.clone(), HttpConnector::new());
        if let Some(authorization) = &self.authorization {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let ready = std::future::poll_fn(|cx| tunnel.poll_ready(cx)).await;
        ready.map_err(|e| fail(&causes(&e)))?;
        let opened = tunnel.call(there.map_err(|e| fail(&e))?).await;
        Ok(opened.map_err(|e| fail(&causes(&e)))?.into_inner())
    }
}

impl Proxies {
    /// The proxy of this address, but for the hosts, domains and networks in a list with commas. Both may be empty.
    ///
    /// # Errors
    /// [`ProxyError`] when the address is none: going around it in silence would be no answer.
    pub fn new(address: &str, except: &str) -> Result<Self, ProxyError> {
        let address = address.trim();
        let proxy = if address.is_empty() { None } else { Some(Proxy::new(address)?) };
        Ok(Self { proxy, except: except.to_owned() })
    }

    /// The proxy that leads to a host; none to this machine itself.
    #[must_use]
    pub fn to(&self, url: &Url) -> Option<&Proxy> {
        let proxy = self.proxy.as_ref()?;
        let here = match url.host()? {
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
            Host::Domain(name) => name == "localhost",
        };
        let there = Uri::builder().scheme("https").authority(url.host_str()?).path_and_query("/").build().ok()?;
        let matcher = Matcher::builder().https(proxy.uri.to_string()).no(self.except.as_str()).build();
        (!here && matcher.intercept(&there).is_some()).then_some(proxy)
    }

    /// The proxy, whatever it leads to.
    #[must_use]
    pub const fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Where it does not lead.
    #[must_use]
    pub fn except(&self) -> &str {
        &self.except
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    texts.join(": ")
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.uri.authority().map_or("", |authority| authority.as_str()))
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies").field("proxy", &self.proxy).field("except", &self.except).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_http_and_keeps_its_password_to_itself() {
        let proxy = Proxy::new("http://me:pass%40word@proxy.example:3128").unwrap();
        assert_eq!(proxy.authorization().unwrap(), "Basic bWU6cGFzc0B3b3Jk");
        let proxies = Proxies::new("me:secret@proxy.example:3128", "").unwrap();
        for said in
            [format!("{proxy} {proxy:?}"), format!("{proxies:?} {:?}", proxies.proxy().unwrap().authorization())]
        {
            assert!(said.contains("proxy.example:3128"), "{said}");
            assert!(!said.contains("pass") && !said.contains("secret") && !said.contains("Basic"), "{said}");
        }
        for bad in ["https://proxy:1", "socks5://proxy:1", "ftp://proxy:1", "http://", "//", "a b"] {
            assert_eq!(Proxies::new(bad, ""), Err(ProxyError), "{bad:?}");
        }
        assert_eq!(Proxies::new(" ", "*").unwrap().proxy(), None);
    }

    #[test]
    fn exceptions_and_this_machine_are_reached_without_it() {
        let check = |except: &str, url: &str, through: bool| {
            let proxies = Proxies::new("http://proxy.example:3128", except).unwrap();
            assert_eq!(proxies.to(&url.parse().unwrap()).is_some(), through, "{url} with NO_PROXY={except:?}");
        };
        check("", "https://bz.example.com", true);
        check("", "wss://bz.example.com:8443/api", true);
        check("other.example, 10.0.0.0/8", "https://bz.example.com", true);
        check("example.com", "https://bz.example.com", false);
        check(".example.com", "wss://bz.example.com", false);
        check("ample.com", "https://bz.example.com", true);
        check("*", "https://bz.example.com", false);
        check("10.0.0.0/8", "https://10.1.2.3", false);
        check("10.0.0.0/8", "https://11.1.2.3", true);
        check("fd00::/8", "https://[fd00::1]:8443", false);
        for here in ["https://localhost:1", "https://127.0.0.9", "https://[::1]:1"] {
            check("", here, false);
        }
    }
}
