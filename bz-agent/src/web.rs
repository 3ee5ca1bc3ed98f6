//! What this host's owner says of the web servers that people reach through it.

use std::sync::Arc;

use rustls::ClientConfig;

/// Requests to web servers that this host reaches.
#[derive(Debug, Clone)]
pub struct Web {
    pub(crate) tls: Arc<ClientConfig>,
}

impl Web {
    /// Over TLS, web servers are believed that this configuration believes.
    #[must_use]
    pub const fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls }
    }
}
