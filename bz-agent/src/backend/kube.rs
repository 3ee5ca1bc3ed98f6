//! Requests to the agent's cluster, **by impersonation only**: each says as whom, the agent's own account says that it
//! may, and the cluster decides what that user may do.
//!
//! What a client says of who it is goes no further, in any spelling: the user and the groups are those of the request
//! that the person signed, the grant names and the local policy allows.
//!
//! **Absent:** any other account, also where the cluster would take one.

use std::fmt;
use std::sync::Arc;

use bz_core::access::upstream::KubeRequest;
use bz_core::id::ConnectionId;
use bz_protocol::carrier::Stream;
use bz_protocol::frame::Fin;
use bz_protocol::refusal::Code;
use bz_protocol::stream::{StreamRequest, Why};
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::http::uri::{Authority, Scheme};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::backend::http::gateway::{Gateway, Manner, Unusable};
use crate::backend::http::rewrite::{Site, is_claim, plain};
use crate::backend::http::upstream::{Dial, Upstream};
use crate::backend::{Io, ToBackend};
use crate::kube::Cluster;

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");

/// Beginnings of headers by which somebody says who they are: to the API server, to one that trusts a proxy before it,
/// and to us.
const SAYS_WHO: [&str; 3] = ["impersonate-", "x-remote-", "bz-"];
/// A token can hide among the protocols of a WebSocket.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Requests as one user of one cluster.
struct Impersonation {
    site: Site,
    cluster: Cluster,
    user: HeaderValue,
    groups: Vec<HeaderValue>,
}

impl Impersonation {
    fn new(cluster: Cluster, request: &KubeRequest) -> Result<Self, Unusable> {
        let header = |name: &String| {
            let value = HeaderValue::from_str(name).ok().filter(|value| !value.is_empty());
            value.ok_or(Unusable::Request("its user or a group cannot stand in a request"))
        };
        let site = Site::new(&cluster.server, true)?;
        let groups = request.groups.iter().map(header).collect::<Result<_, _>>()?;
        Ok(Self { site, cluster, user: header(&request.user)?, groups })
    }

    /// Makes the headers those of the user alone.
    fn impersonate(&self, headers: &mut HeaderMap, token: &str) -> Result<(), Unusable> {
        let says_who = |name: &HeaderName| {
            let name = plain(name);
            name == "authorization" || SAYS_WHO.iter().any(|start| name.starts_with(start))
        };
        let gone: Vec<HeaderName> = headers.keys().filter(|name| says_who(name) || is_claim(name)).cloned().collect();
        for name in gone.iter().chain([&COOKIE]) {
            headers.remove(name);
        }
        without_token(headers);
        let mut own = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Unusable::Agent("the agent's token cannot stand in a request"))?;
        own.set_sensitive(true);
        headers.insert(AUTHORIZATION, own);
        headers.insert(IMPERSONATE_USER, self.user.clone());
        for group in &self.groups {
            headers.append(IMPERSONATE_GROUP, group.clone());
        }
        Ok(())
    }
}

/// The protocols of a WebSocket without those that are tokens.
fn without_token(headers: &mut HeaderMap) {
    let all = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().map(|value| value.to_str().unwrap_or_default());
    let names = all.flat_map(|value| value.split(',')).map(str::trim);
    let is_token =
        |name: &&str| name.get(..TOKEN_PROTOCOL.len()).is_some_and(|start| start.eq_ignore_ascii_case(TOKEN_PROTOCOL));
    let left: Vec<&str> = names.filter(|name| !name.is_empty() && !is_token(name)).collect();
    let left = HeaderValue::from_str(&left.join(", ")).ok().filter(|left| !left.is_empty());
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(left) = left {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, left);
    }
}

impl Manner for Impersonation {
    type Asked = ();

    fn request(&self, headers: &mut HeaderMap) -> Result<(), Unusable> {
        let token = self.cluster.token().map_err(|error| {
            tracing::error!(%error, "the agent's own token cannot be used");
            Unusable::Agent("the agent has no token of the cluster")
        })?;
        headers.remove(HOST);
        self.impersonate(headers, &token)
    }

    fn answer(&self, (): &(), _: &mut HeaderMap) {}

    fn place(&self) -> (Scheme, Authority) {
        self.site.place()
    }
}

impl fmt::Debug for Impersonation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Impersonation").field("user", &self.user).field("groups", &self.groups).finish_non_exhaustive()
    }
}

/// Serves a session's streams until its client ends it.
///
/// # Errors
/// When the cluster cannot be spoken to, or the request is none for it.
pub(super) async fn run(
    connection: ConnectionId,
    (cluster, request): (&Cluster, &KubeRequest),
    io: &mut Io,
) -> Result<Fin, Code> {
    let refused = |error: &dyn fmt::Display| tracing::warn!(%connection, %error, "refused");
    let manner = Impersonation::new(cluster.clone(), request).map_err(|error| {
        refused(&error);
        Code::Malformed
    })?;
    let tls = cluster.tls().map_err(|error| {
        refused(&error);
        Code::Unavailable
    })?;
    let upstream = Upstream::over_tls(dial(cluster), &tls, &cluster.server).map_err(|error| {
        refused(&error);
        Code::Unavailable
    })?;
    let gateway = Arc::new(Gateway::new(manner, &upstream));
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            opening = io.openings.next() => match opening {
                Some(opening) if *opening.request() == StreamRequest::Service => {
                    streams.spawn(Arc::clone(&gateway).serve(opening.accept(cluster.server.to_string())));
                }
                Some(opening) => opening.refuse(Why::NotAllowed),
                None => return Ok(Fin::Done),
            },
            word = io.words.recv() => match word {
                Some(ToBackend::Finished(_) | ToBackend::Close(_)) | None => return Ok(Fin::Closed),
                Some(ToBackend::Bytes(_) | ToBackend::Eof | ToBackend::Resize(_)) => {}
            },
            Some(ended) = streams.join_next() => if let Err(error) = ended {
                tracing::error!(%connection, %error, "a stream broke");
            },
        }
    }
}

/// To the one place that the host's owner named; nobody else has a say in it.
fn dial(cluster: &Cluster) -> Dial {
    let server = cluster.server.clone();
    Arc::new(move || {
        let server = server.clone();
        Box::pin(async move {
            let connect = TcpStream::connect(server.to_string());
            let stream = tokio::time::timeout(PATIENCE, connect).await.map_err(|_| Why::TimedOut)?;
            let stream = stream.map_err(|_| Why::ConnectionRefused)?;
            stream.set_nodelay(true).map_err(|_| Why::Unavailable)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

/// How long a connection to the API server may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(test)]
mod tests;
