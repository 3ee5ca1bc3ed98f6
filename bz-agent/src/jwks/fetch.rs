//! Two GETs: the issuer's discovery document, and the keys it names.

use std::sync::Arc;

use bz_core::oidc::jwks::{Jwks, JwksError, MAX_JWKS};
use bz_core::oidc::service;
use bz_protocol::carrier::Boxed;
use hyper::StatusCode;

use crate::http::{Dial, Http, HttpError, Question};
use crate::jwks::JwksSource;

/// Why an issuer's keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The issuer's keys are pinned, and there are none for this one.
    #[error("no keys are pinned for this issuer")]
    NotPinned,
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The answer is no document.
    #[error("{url} answered {what}")]
    Answer {
        /// Which URL.
        url: String,
        /// What.
        what: String,
    },
    /// Another issuer's document.
    #[error("the discovery document names another issuer")]
    OtherIssuer,
    /// Not a key set.
    #[error(transparent)]
    Jwks(#[from] JwksError),
}

/// Fetches keys by discovery.
pub struct Fetch(Http);

impl Fetch {
    /// Fetches over `dial`, trusting what `tls` trusts.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self(Http { dial, tls })
    }

    async fn keys(&self, issuer: &str) -> Result<Jwks, FetchError> {
        // A service account's issuer says where its keys are.
        if let Some(address) = service::address(issuer) {
            return Ok(Jwks::parse(&self.get(address).await?)?);
        }
        let discovery = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let odd = |what: &str| FetchError::Answer { url: discovery.clone(), what: what.to_owned() };
        let document: serde_json::Value =
            serde_json::from_slice(&self.get(&discovery).await?).map_err(|_| odd("no JSON"))?;
        let text = |name: &str| document.get(name).and_then(serde_json::Value::as_str);
        if text("issuer") != Some(issuer) {
            return Err(FetchError::OtherIssuer);
        }
        let keys = text("jwks_uri").ok_or_else(|| odd("no jwks_uri"))?;
        Ok(Jwks::parse(&self.get(keys).await?)?)
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let question = Question { url, body: None, api_key: None, limit: MAX_JWKS };
        match self.0.ask(question).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(FetchError::Answer { url: url.to_owned(), what: status.to_string() }),
        }
    }
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fetch")
    }
}

impl JwksSource for Fetch {
    fn fetch<'a>(&'a self, issuer: &'a str) -> Boxed<'a, Result<Jwks, FetchError>> {
        Box::pin(self.keys(issuer))
    }
}
