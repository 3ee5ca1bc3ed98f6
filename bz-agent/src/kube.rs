//! The cluster that this host leads to: where its API server is, and who the agent is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bz_core::access::destination::Destination;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Where a pod finds its cluster's certificate authority and its own token.
pub const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The most bytes of a token.
const MAX_TOKEN: usize = 64 << 10;

/// Why the cluster cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file.
    #[error("{path} cannot be read: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// What is in a file.
    #[error("{path} holds no {what}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A cluster. Its files are read when they are needed, so that those that are replaced count.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) server: Destination,
    ca: PathBuf,
    token: PathBuf,
}

impl Cluster {
    /// The cluster with this API server, this authority's certificates in PEM, and this token of the agent's own.
    #[must_use]
    pub fn new(server: Destination, ca: impl Into<PathBuf>, token: impl Into<PathBuf>) -> Self {
        Self { server, ca: ca.into(), token: token.into() }
    }

    /// The cluster of the pod that this program runs in, whose API server is there.
    #[must_use]
    pub fn of_pod(server: Destination) -> Self {
        let folder = Path::new(IN_CLUSTER);
        Self::new(server, folder.join("ca.crt"), folder.join("token"))
    }

    /// Whether its files are there and hold what they should.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn check(&self) -> Result<(), ClusterError> {
        self.tls()?;
        self.token().map(drop)
    }

    /// What to believe of the API server: its own authority alone.
    pub(crate) fn tls(&self) -> Result<ClientConfig, ClusterError> {
        let pem = read(&self.ca)?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).map_while(Result::ok));
        if added == 0 {
            return Err(ClusterError::Content { path: self.ca.clone(), what: "certificate in PEM" });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(versions.with_root_certificates(roots).with_no_client_auth())
    }

    /// The agent's own token, as it is now.
    pub(crate) fn token(&self) -> Result<String, ClusterError> {
        let bytes = read(&self.token)?;
        let token = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        let good = !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic());
        let wrong = || ClusterError::Content { path: self.token.clone(), what: "token" };
        if good { Ok(token.to_owned()) } else { Err(wrong()) }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClusterError> {
    std::fs::read(path).map_err(|error| ClusterError::File { path: path.to_owned(), error })
}
