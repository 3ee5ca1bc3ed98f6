//! One hop of HTTP, as both ends of a web session make it: a request comes in on one connection and goes out on another.
//!
//! On a stream of such a session HTTP/1.1 is spoken, one request at a time. What belongs to a single connection
//! (RFC 9110, section 7.6.1) stops at each end; bodies pass as they come; a protocol that takes over a connection
//! (RFC 9110, section 7.8: WebSocket, SPDY) passes as bytes.
//!
//! **Absent:** what each end changes in a request beyond that, which is its own.

mod road;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::rt::Executor;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

pub use crate::hop::road::{Road, Roads};

/// The most bytes of a request's or an answer's head.
pub const MAX_HEAD: usize = 128 << 10;
/// The most headers of one.
pub const MAX_HEADERS: usize = 256;

/// Headers of one connection beside those that `Connection` names.
const OF_ONE_HOP: [HeaderName; 7] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];
/// An older name of `Connection`.
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Tasks that end with their owner.
#[derive(Debug, Default)]
pub struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Starts tasks for an owner; nothing once the owner is gone.
#[derive(Debug, Clone)]
pub struct Spawner(Weak<Mutex<JoinSet<()>>>);

impl Tasks {
    /// What starts them.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.0))
    }
}

impl<F> Executor<F> for Spawner
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        if let Some(tasks) = self.0.upgrade() {
            // The set is whole after each statement that changes it.
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                drop(future.await);
            });
        }
    }
}

/// Takes away what belongs to the connection a message came on; gives back the protocol that it wants to change to.
fn leave_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .into_iter()
        .chain(headers.get_all(PROXY_CONNECTION))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let upgrade = headers.get(UPGRADE).filter(|_| named.contains(&UPGRADE)).cloned();
    // A peer that takes trailers says so to each hop (RFC 9110, section 10.1.4).
    let trailers = headers.get_all(TE).into_iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    for name in OF_ONE_HOP.iter().chain([&PROXY_CONNECTION]).chain(&named) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    upgrade
}

/// Says that this connection changes to another protocol, or wants to.
fn ask_upgrade(headers: &mut HeaderMap, protocol: Option<HeaderValue>) {
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// What a request said of the connection it came on.
#[derive(Debug)]
pub struct Left {
    here: OnUpgrade,
    upgrade: Option<HeaderValue>,
}

impl Left {
    /// Takes it from a request: before anything else is changed in it, so that nobody can have that taken away.
    #[must_use]
    pub fn of<B>(request: &mut Request<B>) -> Self {
        let here = hyper::upgrade::on(&mut *request);
        Self { here, upgrade: leave_hop(request.headers_mut()) }
    }

    /// Whether the connection is to change to another protocol.
    #[must_use]
    pub const fn is_upgrade(&self) -> bool {
        self.upgrade.is_some()
    }
}

/// Sends a request on, and gives back the answer as it goes back. Its body comes later, and so does what follows an
/// upgrade: a task of the owner's carries it.
///
/// # Errors
/// When there is no whole head of an answer.
pub async fn pass<C, B>(
    client: &Client<C, B>,
    tasks: &Spawner,
    mut request: Request<B>,
    left: Left,
) -> Result<Response<Incoming>, Error>
where
    C: Connect + Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    ask_upgrade(request.headers_mut(), left.upgrade);
    *request.version_mut() = Version::HTTP_11;
    let mut answer = client.request(request).await?;
    let upgrade = leave_hop(answer.headers_mut());
    *answer.version_mut() = Version::HTTP_11;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        ask_upgrade(answer.headers_mut(), upgrade);
        let there = hyper::upgrade::on(&mut answer);
        tasks.execute(carry(left.here, there));
    }
    Ok(answer)
}

/// Bytes both ways until both have ended. What is cut at one end is cut at the other.
async fn carry(here: OnUpgrade, there: OnUpgrade) {
    match tokio::try_join!(here, there) {
        Ok((here, there)) => {
            let (mut here, mut there) = (TokioIo::new(here), TokioIo::new(there));
            if let Err(error) = tokio::io::copy_bidirectional(&mut here, &mut there).await {
                tracing::debug!(%error, "an upgraded connection ended early");
            }
        }
        Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let check = |given: &[(&str, &str)], left: &[&str], upgrade: Option<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            let found = leave_hop(&mut headers);
            assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), upgrade, "{given:?}");
            assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), left, "{given:?}");
        };
        check(&[("Host", "a"), ("Keep-Alive", "5"), ("Proxy-Authorization", "x")], &["host"], None);
        check(&[("Connection", "close, X-Mine"), ("x-mine", "1"), ("x-other", "1")], &["x-other"], None);
        check(&[("connection", "keep-alive"), ("Connection", "Upgrade"), ("Upgrade", "ws")], &[], Some("ws"));
        check(&[("Upgrade", "h2c")], &[], None);
        check(&[("TE", "Trailers"), ("Trailer", "x")], &["trailer", "te"], None);
        check(&[("TE", "gzip"), ("Transfer-Encoding", "chunked")], &[], None);
        check(&[("Proxy-Connection", "x-mine"), ("x-mine", "1")], &[], None);
    }
}
