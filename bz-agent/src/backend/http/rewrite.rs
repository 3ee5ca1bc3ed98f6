//! Names: what the person's browser calls its own port is the upstream's name there, and the other way round.
//!
//! Pure. The client says in `Host` how its port is called; everything else is made from that.

use hyper::http::header::{
    CONTENT_LOCATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, ORIGIN, REFERER, REFRESH, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
};
use hyper::http::uri::{Authority, Scheme};
use url::{Position, Url};

use super::gateway::{Manner, Unusable};
use bz_core::access::destination::{Destination, Host};

/// What makes a cookie's name one that a browser takes over TLS only.
const PREFIXES: [&str; 3] = ["__Secure-", "__Host-", "__Http-"];
/// What is put before such a name on the person's side, where the port speaks no TLS.
const RENAMED: &str = "bz.";

/// What a client says of whom it speaks for. Here that is the agent's to know, and it tells nobody.
const CLAIMS: [&str; 5] = ["forwarded", "x-forwarded", "x-real-ip", "x-client-ip", "true-client-ip"];

/// A web server as its own pages call it.
#[derive(Debug, Clone)]
pub(in crate::backend) struct Site {
    tls: bool,
    authority: Authority,
    host: String,
}

/// How the person's browser calls the port: `localhost:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backend) struct Local(String);

impl Site {
    /// The port is left out where it is the scheme's own, as browsers do.
    pub(in crate::backend) fn new(destination: &Destination, tls: bool) -> Result<Self, Unusable> {
        let host = match destination.host() {
            Host::Name(name) => name,
            Host::Address(address) if address.is_ipv6() => format!("[{address}]"),
            Host::Address(address) => address.to_string(),
        };
        let usual = destination.port() == if tls { 443 } else { 80 };
        let text = if usual { host.clone() } else { format!("{host}:{}", destination.port()) };
        let authority =
            text.parse().map_err(|_| Unusable::Request("the web server's name cannot stand in a request"))?;
        Ok(Self { tls, authority, host })
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority)
    }
}

impl Manner for Site {
    type Asked = Local;

    fn place(&self) -> (Scheme, Authority) {
        (if self.tls { Scheme::HTTPS } else { Scheme::HTTP }, self.authority.clone())
    }

    fn request(&self, headers: &mut HeaderMap) -> Result<Local, Unusable> {
        let local = Local::of(headers)?;
        // The next connection names it anew.
        headers.remove(HOST);
        let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
        for name in claims {
            headers.remove(name);
        }
        for name in [ORIGIN, REFERER] {
            change(headers, &name, |value| local.without(value).map(|rest| format!("{}{rest}", self.origin())));
        }
        cookies(headers);
        Ok(local)
    }

    fn answer(&self, local: &Local, headers: &mut HeaderMap) {
        // Both speak of TLS at a name that is not this one.
        headers.remove(STRICT_TRANSPORT_SECURITY);
        headers.remove("alt-svc");
        for name in [LOCATION, CONTENT_LOCATION] {
            change(headers, &name, |value| self.local_url(local, value));
        }
        change(headers, &REFRESH, |value| {
            let at = value.to_ascii_lowercase().find("url=")?.checked_add(4)?;
            let (before, url) = value.split_at_checked(at)?;
            Some(format!("{before}{}", self.local_url(local, url.trim_matches(['"', '\'', ' ']))?))
        });
        let set: Vec<HeaderValue> = headers.get_all(SET_COOKIE).into_iter().cloned().collect();
        headers.remove(SET_COOKIE);
        for cookie in set {
            headers.append(SET_COOKIE, self.set_cookie(&cookie).unwrap_or(cookie));
        }
    }
}

impl Site {
    /// The same page by its local name, where it is one of this server's.
    fn local_url(&self, local: &Local, value: &str) -> Option<String> {
        let whole = if value.starts_with("//") { format!("{}:{value}", self.scheme()) } else { value.to_owned() };
        let (url, own) = (Url::parse(&whole).ok()?, Url::parse(&self.origin()).ok()?);
        let same = url.origin() == own.origin();
        // A server behind something that speaks TLS for it often names itself without.
        let plainly = self.tls && own.port().is_none() && url.scheme() == "http" && url.port().is_none();
        let here = same || (plainly && url.host() == own.host());
        (here && url.username().is_empty()).then(|| format!("http://{}{}", local.0, &url[Position::BeforePath..]))
    }

    /// A cookie as a browser keeps it for a port that speaks no TLS; `None` when it may stay as it is.
    fn set_cookie(&self, cookie: &HeaderValue) -> Option<HeaderValue> {
        let text = std::str::from_utf8(cookie.as_bytes()).ok()?;
        let mut parts = text.split(';');
        let first = parts.next()?.trim_start();
        let mut out = if is_prefixed(first) { format!("{RENAMED}{first}") } else { first.to_owned() };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let drop = match name.trim().to_ascii_lowercase().as_str() {
                "domain" => self.is_own(value.trim()),
                // What is said of TLS alone; `SameSite=None` is taken together with `Secure` only.
                "secure" | "partitioned" => true,
                "samesite" => value.trim().eq_ignore_ascii_case("none"),
                _ => false,
            };
            if !drop {
                out.push(';');
                out.push_str(part);
            }
        }
        HeaderValue::from_bytes(out.as_bytes()).ok()
    }

    /// Whether a cookie's domain is one that this server may set.
    fn is_own(&self, domain: &str) -> bool {
        let domain = domain.trim_start_matches('.').to_ascii_lowercase();
        let below = || self.host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'));
        self.host == domain || (!domain.is_empty() && below())
    }
}

impl Local {
    fn of(headers: &HeaderMap) -> Result<Self, Unusable> {
        let mut hosts = headers.get_all(HOST).into_iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Unusable::Request("a request names its host once"));
        };
        let wrong = Unusable::Request("the request's host is no name of a port");
        let authority: Authority = host.as_bytes().try_into().map_err(|_| wrong)?;
        if authority.as_str().contains('@') { Err(wrong) } else { Ok(Self(authority.as_str().to_owned())) }
    }

    /// What follows this port's name in an address of it.
    fn without<'a>(&self, value: &'a str) -> Option<&'a str> {
        let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"))?;
        let (name, rest) = rest.split_at_checked(self.0.len())?;
        let ends = rest.is_empty() || rest.starts_with(['/', '?', '#']);
        (ends && name.eq_ignore_ascii_case(&self.0)).then_some(rest)
    }
}

/// Some servers take `_` and `-` for the same.
pub(in crate::backend) fn plain(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

pub(in crate::backend) fn is_claim(name: &HeaderName) -> bool {
    let name = plain(name);
    name.starts_with("x-forwarded-") || CLAIMS.contains(&name.as_str())
}

fn is_prefixed(cookie: &str) -> bool {
    PREFIXES.iter().any(|prefix| cookie.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

/// The cookies under the names that the upstream gave them, in one header as HTTP/1.1 has them.
fn cookies(headers: &mut HeaderMap) {
    let all: Vec<&[u8]> = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    let joined = all.join(&b"; "[..]);
    let Ok(text) = std::str::from_utf8(&joined) else { return };
    if text.is_empty() {
        return;
    }
    let own = |cookie: &str| {
        let cookie = cookie.trim_start();
        cookie.strip_prefix(RENAMED).filter(|name| is_prefixed(name)).unwrap_or(cookie).to_owned()
    };
    let text = text.split(';').map(own).collect::<Vec<_>>().join("; ");
    if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
        headers.insert(COOKIE, value);
    }
}

fn change(headers: &mut HeaderMap, name: &HeaderName, to: impl FnOnce(&str) -> Option<String>) {
    let changed = headers.get(name).and_then(|value| to(value.to_str().ok()?));
    if let Some(value) = changed.and_then(|value| HeaderValue::from_str(&value).ok()) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(destination: &str, tls: bool) -> Site {
        Site::new(&destination.parse().unwrap(), tls).unwrap()
    }

    fn headers(given: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn a_server_is_called_as_its_own_pages_call_it() {
        let check = |destination, tls, want: &str| assert_eq!(site(destination, tls).origin(), want);
        check("app.internal:80", false, "http://app.internal");
        check("app.internal:443", true, "https://app.internal");
        check("app.internal:443", false, "http://app.internal:443");
        check("app.internal:8443", true, "https://app.internal:8443");
        check("[fd00::1]:8080", false, "http://[fd00::1]:8080");
    }

    #[test]
    fn a_request_speaks_to_the_upstream_by_its_own_name() {
        let check = |given: &[(&str, &str)], left: &[&str]| {
            let mut found = headers(given);
            found.append(HOST, HeaderValue::from_static("localhost:8080"));
            let local = site("app.internal:443", true).request(&mut found).unwrap();
            assert_eq!(local, Local("localhost:8080".to_owned()));
            assert_eq!(shown(&found), left, "{given:?}");
        };
        check(&[("origin", "http://localhost:8080")], &["origin: https://app.internal"]);
        check(&[("origin", "http://localhost:80801")], &["origin: http://localhost:80801"]);
        check(&[("origin", "https://evil.example")], &["origin: https://evil.example"]);
        check(&[("origin", "null")], &["origin: null"]);
        check(&[("referer", "http://LOCALHOST:8080/a?b")], &["referer: https://app.internal/a?b"]);
        check(&[("referer", "http://localhost:8080.evil/")], &["referer: http://localhost:8080.evil/"]);
        check(&[("X-Forwarded-For", "1"), ("x_forwarded_host", "h"), ("Forwarded", "for=1"), ("X-Real-IP", "1")], &[]);
        check(&[("cookie", "a=1; bz.__Host-s=2"), ("cookie", "bz.c=3")], &["cookie: a=1; __Host-s=2; bz.c=3"]);
        check(&[("authorization", "Basic eDp5"), ("accept", "*/*")], &["authorization: Basic eDp5", "accept: */*"]);
    }

    #[test]
    fn a_request_names_one_host() {
        let check = |given: &[(&str, &str)]| {
            let refused = site("app.internal:80", false).request(&mut headers(given));
            assert!(refused.is_err(), "{given:?}: {refused:?}");
        };
        check(&[]);
        check(&[("host", "localhost:1"), ("host", "localhost:1")]);
        check(&[("host", "a b")]);
        check(&[("host", "")]);
        check(&[("host", "evil@localhost:1")]);
    }

    #[test]
    fn an_answer_leads_back_to_the_local_port() {
        let local = Local("localhost:8080".to_owned());
        let check = |site: &Site, name: &str, value: &str, want: Option<&str>| {
            let mut found = headers(&[(name, value)]);
            site.answer(&local, &mut found);
            let want: Vec<_> = want.iter().map(|want| format!("{name}: {want}")).collect();
            assert_eq!(shown(&found), want, "{name}: {value}");
        };
        let (tls, plain) = (site("app.internal:443", true), site("app.internal:80", false));
        let odd = site("app.internal:9000", false);
        check(&tls, "location", "https://app.internal/a?b#c", Some("http://localhost:8080/a?b#c"));
        check(&tls, "location", "https://APP.internal:443/", Some("http://localhost:8080/"));
        check(&tls, "location", "//app.internal/x", Some("http://localhost:8080/x"));
        check(&tls, "location", "http://app.internal/x", Some("http://localhost:8080/x"));
        check(&plain, "location", "https://app.internal/x", Some("https://app.internal/x"));
        check(&odd, "location", "http://app.internal:9000/x", Some("http://localhost:8080/x"));
        check(&odd, "location", "http://app.internal/x", Some("http://app.internal/x"));
        check(&tls, "location", "/relative", Some("/relative"));
        check(&tls, "location", "https://idp.example/login", Some("https://idp.example/login"));
        check(&tls, "location", "https://app.internal@evil/", Some("https://app.internal@evil/"));
        check(&tls, "content-location", "https://app.internal/a", Some("http://localhost:8080/a"));
        check(&tls, "refresh", "5; URL=https://app.internal/a", Some("5; URL=http://localhost:8080/a"));
        check(&tls, "refresh", "5", Some("5"));
        check(&tls, "strict-transport-security", "max-age=1", None);
        check(&tls, "alt-svc", "h3=\":443\"", None);
    }

    #[test]
    fn cookies_are_ones_that_a_browser_keeps_for_the_port() {
        let check = |cookie: &str, want: &str| {
            let mut found = headers(&[("set-cookie", cookie)]);
            site("app.corp.example:443", true).answer(&Local("localhost:1".to_owned()), &mut found);
            assert_eq!(shown(&found), [format!("set-cookie: {want}")]);
        };
        check("s=1; Path=/; HttpOnly", "s=1; Path=/; HttpOnly");
        check("s=1; Domain=app.corp.example; Secure", "s=1");
        check("s=1; domain=.corp.example; SameSite=Lax", "s=1; SameSite=Lax");
        check("s=1; Domain=other.example", "s=1; Domain=other.example");
        check("s=1; SameSite=None; Secure; Partitioned", "s=1");
        check("__Host-s=a=b; Secure; Path=/", "bz.__Host-s=a=b; Path=/");
        check("__secure-s=1; secure", "bz.__secure-s=1");
    }
}
