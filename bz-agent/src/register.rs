//! Registration: from a registration key to an [`Identity`], proved by both of the agent's keys.
//!
//! Absent: files. What registration leaves is the caller's to keep, atomically, before the old identity is let go.

use std::sync::Arc;

use bz_core::api::error::ErrorBody;
use bz_core::api::login::TrustBundleText;
use bz_core::api::register::{AgentRegistered, RegisterAgent};
use bz_core::api::{Bytes, PREFIX};
use bz_core::id::{OrganizationId, TargetId};
use bz_core::key::{KeyError, PrivateKey};
use bz_core::label::Labels;
use bz_core::time::UnixTime;
use bz_core::trust::{BundleError, MAX_BUNDLE, TrustBundle};
use bz_protocol::driver::random;

use crate::agent::Identity;
use crate::http::{Dial, Http, HttpError, Question};

/// Bytes of the server's answer.
const MAX_ANSWER: usize = 64 << 10;

/// Why there is no registration.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The server cannot be asked.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server refuses.
    #[error("the server refuses: {}", .0.error_msg)]
    Refused(Box<ErrorBody>),
    /// The server's answer makes no sense.
    #[error("the server's answer is malformed ({0})")]
    Answer(String),
    /// The server's trust bundle is none.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// No random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(#[from] std::io::Error),
    /// The seed gives no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What an agent registers as.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The server's address, such as `https://bz.example.com`.
    pub server: String,
    /// The organization, from the trust bundle.
    pub organization: OrganizationId,
    /// The target's name.
    pub name: String,
    /// The host's own name.
    pub host_name: String,
    /// The environment; the default one when absent.
    pub environment: Option<String>,
    /// Whether the host's owner keeps a local policy file.
    pub local_policy: bool,
    /// The target that this registration replaces, and its keys.
    pub replaces: Option<Identity>,
    /// The wall clock.
    pub now: UnixTime,
    /// What the host says of itself.
    pub labels: Labels,
}

/// The way to a server that is asked over HTTP.
#[derive(Clone)]
pub struct Reach {
    /// Whom it believes.
    pub tls: Arc<rustls::ClientConfig>,
    /// How it gets there: [`crate::http::Direct`], or through a proxy.
    pub dial: Arc<dyn Dial>,
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach").finish_non_exhaustive()
    }
}

/// Registers once. `key` is the registration key's secret.
///
/// # Errors
/// [`RegisterError`]; nothing has changed here then, and an identity to be replaced is still good.
pub async fn register(registration: &Registration, key: &str, reach: Reach) -> Result<Identity, RegisterError> {
    let (identity_key, control_key, target) = match &registration.replaces {
        Some(old) => (old.identity_key.clone(), old.control_key.clone(), Some(old.target)),
        None => (PrivateKey::from_seed(&random()?)?, PrivateKey::from_seed(&random()?)?, None),
    };
    let body = body(registration, target, (&identity_key, &control_key));
    let body = serde_json::to_vec(&body).map_err(|e| RegisterError::Answer(e.to_string()))?;
    let http = Http { dial: reach.dial, tls: reach.tls };
    let url = format!("{}{PREFIX}/agent/register", registration.server.trim_end_matches('/'));
    let question = Question { url: &url, body: Some(body), api_key: Some(key), limit: MAX_ANSWER };
    let (status, answer) = http.ask(question).await?;
    if !status.is_success() {
        let refused = serde_json::from_slice(&answer).map_err(|_| RegisterError::Answer(status.to_string()))?;
        return Err(RegisterError::Refused(Box::new(refused)));
    }
    let made: AgentRegistered = serde_json::from_slice(&answer).map_err(|e| RegisterError::Answer(e.to_string()))?;
    if target.is_some_and(|t| t != made.target_id) {
        return Err(RegisterError::Answer("another target than the one replaced".to_owned()));
    }
    Ok(Identity { organization: registration.organization, target: made.target_id, identity_key, control_key })
}

/// The server's trust bundle, as the server itself tells it: trust on first use. Everything an agent checks later rests
/// on this answer, so a caller says so to a person.
///
/// # Errors
/// [`RegisterError`].
pub async fn trust_bundle(server: &str, reach: Reach) -> Result<TrustBundle, RegisterError> {
    let http = Http { dial: reach.dial, tls: reach.tls };
    let url = format!("{}{PREFIX}/trust-bundle", server.trim_end_matches('/'));
    let question = Question { url: &url, body: None, api_key: None, limit: 2 * MAX_BUNDLE };
    let (status, answer) = http.ask(question).await?;
    if !status.is_success() {
        return Err(RegisterError::Answer(status.to_string()));
    }
    let text: TrustBundleText = serde_json::from_slice(&answer).map_err(|e| RegisterError::Answer(e.to_string()))?;
    Ok(TrustBundle::parse(&text.bundle)?)
}

fn body(
    registration: &Registration,
    target: Option<TargetId>,
    (identity, control): (&PrivateKey, &PrivateKey),
) -> RegisterAgent {
    let mut body = RegisterAgent {
        public_key: identity.public(),
        control_key: control.public(),
        identity_proof: Bytes(Vec::new()),
        control_proof: Bytes(Vec::new()),
        organization_id: registration.organization,
        time: registration.now,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        target_name: registration.name.clone(),
        target_host_name: registration.host_name.clone(),
        environment_name: registration.environment.clone(),
        local_policy: registration.local_policy,
        target_id: target,
        labels: registration.labels.clone(),
    };
    body.prove(identity, control);
    body
}
