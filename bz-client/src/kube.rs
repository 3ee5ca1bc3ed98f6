//! Clusters that a target leads to: a port of this machine that `kubectl`, or any other program of Kubernetes, takes for
//! the API server.
//!
//! The port speaks TLS under a certificate of its own, made for this session and kept in memory, and answers to whoever
//! holds its token, made likewise. Neither is worth anything once the session is over, and neither leaves this machine.
//!
//! **Absent:** the program `kubectl`; who the person is in the cluster, which the agent says there.

mod credential;

use std::sync::Arc;

use bz_core::access::request::Parameters;
use bz_core::access::upstream::KubeRequest;
use bz_core::api::virtual_target::KubeTarget;
use bz_protocol::carrier::Stream;
use bz_protocol::driver::{OpenError, SessionStream};
use bz_protocol::stream::StreamRequest;
use hyper::header::{HeaderName, HeaderValue};
use tokio::net::TcpListener;

pub use credential::{Credential, CredentialError};

use crate::client::{AskError, Client, FindError};
use crate::sealed::SealedError;
use crate::session::SessionError;
use crate::target_name::{TargetName, TargetRef};
use crate::tunnel::Tunnel;
use crate::web::{Front, Open, Watcher};

/// In which header the agent hears which command a request belongs to. It goes no further than the log.
const COMMAND: HeaderName = HeaderName::from_static("bz-command");
/// The most bytes of a command that are told.
const MAX_COMMAND: usize = 4 << 10;

/// As whom somebody wants to be in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// The user; the only one that policy allows when absent.
    pub user: Option<String>,
    /// The groups; all that policy names when absent.
    pub groups: Option<Vec<String>>,
}

/// An open way to a cluster. Dropping it cuts every request in it.
#[derive(Debug)]
pub struct Kube {
    /// What the server says it is.
    pub target: KubeTarget,
    /// As whom: what was signed.
    pub role: KubeRequest,
    tunnel: Tunnel,
}

/// Why there is no way to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// There is no such target.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Policy allows several users, or none.
    #[error("{}", user_needed(.0))]
    User(Vec<String>),
    /// The connection was not made.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It was sealed, and would not be any more.
    #[error(transparent)]
    Sealed(#[from] SealedError),
}

fn user_needed(allowed: &[String]) -> String {
    match allowed {
        [] => "no policy lets you be anybody in this cluster".to_owned(),
        several => format!("say as whom, with --as: policies let you be {}", several.join(", ")),
    }
}

impl Client {
    /// Opens a way to the cluster of this name.
    ///
    /// # Errors
    /// [`KubeError`].
    pub async fn kube(&self, name: &TargetRef, role: Role) -> Result<Kube, KubeError> {
        let target: KubeTarget = self.find_virtual_target(name).await?;
        let user = match (role.user, target.allowed_cluster_users.as_slice()) {
            (Some(user), _) => user,
            (None, [only]) if only != "*" => only.clone(),
            (None, several) => return Err(KubeError::User(several.to_vec())),
        };
        let named = || target.allowed_cluster_groups.iter().filter(|group| *group != "*").cloned().collect();
        let role = KubeRequest { user, groups: role.groups.unwrap_or_else(named) };
        let as_typed = TargetName { user: None, target: name.clone() };
        let parameters = Parameters::Kube(role.clone());
        let tunnel = self.behind::<KubeError>((&as_typed, target.base.id), parameters).await?;
        Ok(Kube { target, role, tunnel })
    }
}

impl Kube {
    /// A stream on which HTTP/1.1 is spoken with the API server, one request after the other.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn dial(&self) -> Result<SessionStream, OpenError> {
        self.tunnel.streams().open(StreamRequest::Service).await
    }

    /// Serves the API server on this port for whoever holds the credential, until the session ends. The command is what
    /// the log says of the requests, where they all are of one.
    ///
    /// # Errors
    /// When the port cannot say where it is.
    pub fn serve(
        &self,
        listener: TcpListener,
        (credential, command): (&Credential, Option<&str>),
        watcher: Watcher,
    ) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        let (at, streams, over) = (listener.local_addr()?, self.tunnel.streams(), self.tunnel.over());
        let open: Open = Arc::new(move || {
            let stream = streams.open(StreamRequest::Service);
            Box::pin(async move { Ok(Box::new(stream.await?) as Box<dyn Stream>) })
        });
        let front = Front::new(open, at.port(), &Front::HOSTS, watcher);
        let mut front = front.over_tls(credential.server()).for_holder_of(credential.token());
        if let Some(command) = command.and_then(told) {
            front = front.saying(COMMAND, command);
        }
        Ok(async move {
            tokio::select! {
                () = front.serve(listener) => {}
                () = over => {}
            }
        })
    }

    /// The session behind it.
    #[must_use]
    pub const fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// The same, when the way itself is no longer needed.
    #[must_use]
    pub fn into_tunnel(self) -> Tunnel {
        self.tunnel
    }
}

/// A command as it fits into a header.
fn told(command: &str) -> Option<HeaderValue> {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = command.chars().take(MAX_COMMAND).map(plain).collect();
    HeaderValue::from_bytes(text.as_bytes()).ok()
}
