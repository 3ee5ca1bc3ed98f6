//! What a session behind a target leads to.
use crate::access::destination::Destination;
/// Requests to one web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebRequest {
    /// Where it is, as the agent finds it.
    pub destination: Destination,
    /// Whether the agent speaks TLS to it, and verifies its certificate for the destination's host.
    pub tls: bool,
}

/// Requests to the agent's cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeRequest {
    /// As which user of the cluster.
    pub user: String,
    /// In which of its groups.
    pub groups: Vec<String>,
}
