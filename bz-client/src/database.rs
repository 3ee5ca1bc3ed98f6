//! Databases and other services behind a target, as ports and streams of this program.
//!
//! A session leads to the one place that its target names, as the person saw and signed it; each connection is a stream
//! of its own. Absent: what is spoken on them, which is the business of the program that connects.

use bz_core::access::destination::{Destination, Host, ParseDestinationError};
use bz_core::access::request::Parameters;
use bz_core::access::upstream::DatabaseRequest;
use bz_core::api::virtual_target::{DatabaseTarget, Remote};
use bz_core::database::{ANY, Database as Row};
use bz_protocol::driver::{OpenError, SessionStream};
use tokio::net::TcpListener;

use crate::client::{AskError, Client, FindError};
use crate::sealed::SealedError;
use crate::session::SessionError;
use crate::target_name::TargetName;
use crate::tunnel::{Tunnel, Watcher};

/// An open way to a database. Dropping it cuts every connection in it.
#[derive(Debug)]
pub struct Database {
    /// What the server says it is.
    pub target: DatabaseTarget,
    /// Where it is, as the agent finds it: what was signed.
    pub destination: Destination,
    tunnel: Tunnel,
}

/// Why there is no way to a database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is no such target.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The server says a place that is none.
    #[error("the server says that it is at {0:?}, which is no place")]
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

/// The place a virtual target is at.
pub(crate) fn destination(remote: &Remote, scheme: &str) -> Result<Destination, ParseDestinationError> {
    let host = remote.remote_host.strip_prefix(scheme).ok_or(ParseDestinationError)?;
    Destination::new(host, remote.remote_port.value.unwrap_or_default())
}

impl Client {
    /// Opens a way to the database, or whatever else is behind one port, of this name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn database(&self, name: &TargetName) -> Result<Database, DatabaseError> {
        let target: DatabaseTarget = self.find_virtual_target(&name.target).await?;
        self.open_database(target, name).await
    }

    async fn open_database(&self, target: DatabaseTarget, name: &TargetName) -> Result<Database, DatabaseError> {
        let no_place = |_| DatabaseError::Place(target.remote.remote_host.clone());
        let destination = destination(&target.remote, "").map_err(no_place)?;
        let (wire, tls) = (row(&target).wire, target.upstream_tls);
        let request = DatabaseRequest { destination: destination.clone(), wire, tls };
        let tunnel = self.behind::<DatabaseError>((name, target.base.id), Parameters::Database(request)).await?;
        Ok(Database { target, destination, tunnel })
    }
}

/// What a database is; one that this program does not know is any.
fn row(target: &DatabaseTarget) -> &'static Row {
    let name = target.database_authentication_config.database.as_deref().unwrap_or_default();
    Row::named(name).unwrap_or(&ANY)
}

impl Database {
    /// A connection of its own to the database.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn dial(&self) -> Result<SessionStream, OpenError> {
        self.tunnel.dial(&self.destination).await
    }

    /// Leads every connection that comes to this port to one of the database's, until the session ends.
    pub fn serve(&self, listener: TcpListener, watcher: Watcher) -> impl Future<Output = ()> + Send + 'static {
        self.tunnel.forward(listener, self.destination.clone(), watcher)
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

    /// The account of the database, where policy or the person named one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.tunnel.asked.request.user.as_ref().map(bz_core::target::TargetUser::as_str)
    }

    /// The usual program for this database at that address of this machine, with its arguments; empty where there is none.
    #[must_use]
    pub fn command(&self, host: &str, port: u16) -> Vec<String> {
        row(&self.target).command((host, port), self.user())
    }
}

/// The host of a place, without its port.
#[must_use]
pub fn host(destination: &Destination) -> String {
    match destination.host() {
        Host::Name(name) => name,
        Host::Address(address) => address.to_string(),
    }
}
