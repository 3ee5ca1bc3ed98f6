//! What makes a port this session's alone: a certificate to know it by, and a token to be known by. Both in memory.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio_rustls::rustls;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// No certificate.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// No TLS.
    #[error("TLS cannot be set up on this machine: {0}")]
    Tls(#[from] rustls::Error),
    /// No token.
    #[error("the operating system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// One port's.
pub struct Credential {
    server: Arc<ServerConfig>,
    certificate: String,
    token: Zeroizing<String>,
}

impl Credential {
    /// A new one.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn new() -> Result<Self, CredentialError> {
        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let certificate = CertificateParams::new(names)?.self_signed(&key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone()];
        let mut server = versions.with_no_client_auth().with_single_cert(chain, secret)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut())?;
        let token = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()));
        Ok(Self { server: Arc::new(server), certificate: certificate.pem(), token })
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// What a program must show. A secret.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A configuration of `kubectl` with this port as its one context. There is no secret in it: the program that it
    /// names is asked for the token, and prints what [`shown`](Self::shown) gives.
    #[must_use]
    pub fn kubeconfig(&self, name: &str, port: u16, program: &[String]) -> Value {
        let (command, arguments) = program.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
        let exec = json!({
            "apiVersion": API_VERSION,
            "command": command,
            "args": arguments,
            "interactiveMode": "Never",
            "provideClusterInfo": false,
        });
        let cluster = json!({
            "server": format!("https://localhost:{port}"),
            "certificate-authority-data": STANDARD.encode(&self.certificate),
        });
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": {"exec": exec}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        })
    }

    /// A token as `kubectl` takes it from a program.
    #[must_use]
    pub fn shown(token: &str) -> Value {
        json!({"apiVersion": API_VERSION, "kind": "ExecCredential", "status": {"token": token}})
    }
}

/// The one that kubectl knows since 1.11, and still does.
const API_VERSION: &str = "client.authentication.k8s.io/v1beta1";

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}
