//! What a session behind a target leads to: one database, one web server, or the agent's cluster.
//!
//! The person signs the place itself, not the name the server keeps it under: who changes what a name means changes
//! nothing that was signed.

use bincode::{Decode, Encode};

use crate::access::destination::Destination;
use crate::access::{Access, request::RequestError};

/// The most groups of one request.
pub const MAX_GROUPS: usize = 32;
/// The most bytes of a cluster's user or group.
pub const MAX_CLUSTER_NAME: usize = 256;

/// What is spoken on a database's connections, as far as anybody between the ends knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Wire {
    /// Anything: carried, not read.
    Plain,
    /// PostgreSQL's frontend/backend protocol, version 3.
    Postgres,
    /// The client/server protocol of MySQL and MariaDB.
    Mysql,
}

/// Connections to one database.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DatabaseRequest {
    /// Where it is, as the agent finds it.
    pub destination: Destination,
    /// What it speaks.
    pub wire: Wire,
    /// Whether the agent speaks TLS to it, and verifies its certificate for the destination's host. Programs that speak
    /// [`Wire::Plain`] do that themselves.
    pub tls: bool,
}

/// Requests to one web server.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WebRequest {
    /// Where it is, as the agent finds it.
    pub destination: Destination,
    /// Whether the agent speaks TLS to it, and verifies its certificate for the destination's host.
    pub tls: bool,
}

/// Requests to the agent's cluster.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KubeRequest {
    /// As which user of the cluster.
    pub user: String,
    /// In which of its groups.
    pub groups: Vec<String>,
}

impl DatabaseRequest {
    /// The technology: a database nobody reads is a service like any other.
    #[must_use]
    pub const fn access(&self) -> Access {
        match self.wire {
            Wire::Plain => Access::Tcp,
            Wire::Postgres | Wire::Mysql => Access::Database,
        }
    }

    pub(super) fn check(&self) -> Result<(), RequestError> {
        if self.wire == Wire::Plain && self.tls { Err(RequestError::Parameter("TLS setting")) } else { Ok(()) }
    }
}

impl KubeRequest {
    pub(super) fn check(&self) -> Result<(), RequestError> {
        let mut groups = self.groups.clone();
        groups.sort();
        groups.dedup();
        if !is_cluster_name(&self.user) {
            return Err(RequestError::Parameter("cluster user"));
        }
        let good = groups.len() == self.groups.len() && groups.len() <= MAX_GROUPS;
        let good = good && groups.iter().all(|group| is_cluster_name(group));
        if good { Ok(()) } else { Err(RequestError::Parameter("list of cluster groups")) }
    }
}

/// Whether this can name a user or group of a cluster: 1 to 256 printable characters of ASCII, which is what fits into a
/// header as it is.
#[must_use]
pub fn is_cluster_name(name: &str) -> bool {
    (1..=MAX_CLUSTER_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}
