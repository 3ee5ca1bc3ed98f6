//! Web servers behind a target: a port of this machine that a browser, curl or any other program takes for theirs.
//!
//! ```no_run
//! # async fn example(client: bz_client::client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let web = client.web(&"wiki".parse()?).await?;
//! println!("http://localhost:{}/", listener.local_addr()?.port());
//! web.serve(listener, std::sync::Arc::new(|unserved| eprintln!("{unserved}")))?.await;
//! # Ok(())
//! # }
//! ```
//!
//! **Absent:** what is in pages. One that names its own server in full leads past the port.

mod front;

use std::sync::Arc;

use bz_core::access::destination::Destination;
use bz_core::access::request::Parameters;
use bz_core::access::upstream::WebRequest;
use bz_core::api::virtual_target::WebTarget;
use bz_protocol::carrier::Stream;
use bz_protocol::driver::{OpenError, SessionStream};
use bz_protocol::stream::StreamRequest;
use tokio::net::TcpListener;

pub use front::{Front, Open, Unserved, Watcher};

use crate::client::{AskError, Client, FindError};
use crate::database::destination;
use crate::sealed::SealedError;
use crate::session::SessionError;
use crate::target_name::TargetName;
use crate::tunnel::Tunnel;

/// An open way to a web server. Dropping it cuts every request in it.
#[derive(Debug)]
pub struct Web {
    /// What the server says it is.
    pub target: WebTarget,
    /// Where it is, as the agent finds it: what was signed.
    pub destination: Destination,
    /// Whether the agent speaks TLS to it.
    pub tls: bool,
    tunnel: Tunnel,
}

/// Why there is no way to a web server.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// There is no such target.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The server says a place that is none.
    #[error("the server says that it is at {0:?}, which is no web server's place")]
    Place(String),
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

impl Client {
    /// Opens a way to the web server of this name.
    ///
    /// # Errors
    /// [`WebError`].
    pub async fn web(&self, name: &TargetName) -> Result<Web, WebError> {
        let target: WebTarget = self.find_virtual_target(&name.target).await?;
        let tls = target.remote.remote_host.starts_with(HTTPS);
        let destination = destination(&target.remote, if tls { HTTPS } else { HTTP })
            .map_err(|_| WebError::Place(target.remote.remote_host.clone()))?;
        let request = WebRequest { destination: destination.clone(), tls };
        let tunnel = self.behind::<WebError>((name, target.base.id), Parameters::Web(request)).await?;
        Ok(Web { target, destination, tls, tunnel })
    }
}

const HTTP: &str = "http://";
const HTTPS: &str = "https://";

impl Web {
    /// A stream on which HTTP/1.1 is spoken, one request after the other. Each names in `Host` whom its program takes it
    /// for: what comes back is made to lead there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn dial(&self) -> Result<SessionStream, OpenError> {
        self.tunnel.dial(&self.destination).await
    }

    /// Serves the web server on this port, until the session ends. It answers to `localhost` and to the port's own
    /// address alone.
    ///
    /// # Errors
    /// When the port cannot say where it is.
    pub fn serve(
        &self,
        listener: TcpListener,
        watcher: Watcher,
    ) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        let (at, streams, over) = (listener.local_addr()?, self.tunnel.streams(), self.tunnel.over());
        let request = StreamRequest::Dial(self.destination.clone());
        let open: Open = Arc::new(move || {
            let stream = streams.open(request.clone());
            Box::pin(async move { Ok(Box::new(stream.await?) as Box<dyn Stream>) })
        });
        let address = if at.is_ipv6() { format!("[{}]", at.ip()) } else { at.ip().to_string() };
        let hosts: Vec<&str> = Front::HOSTS.into_iter().chain([address.as_str()]).collect();
        let front = Front::new(open, at.port(), &hosts, watcher);
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

#[cfg(test)]
mod tests;
