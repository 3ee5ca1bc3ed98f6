//! The issuers' keys: fetched from the issuers themselves, kept for a while, never older than a bound.

mod fetch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bz_core::oidc::jwks::Jwks;
use bz_core::time::Mono;
use bz_protocol::carrier::Boxed;
use bz_protocol::driver::Clock;
use tokio::sync::Mutex;

pub use crate::jwks::fetch::{Fetch, FetchError};

/// Where an agent has the issuers' keys from.
#[derive(Clone)]
pub enum IssuerKeys {
    /// From the issuers, TLS end to end, through the agent's own link: its one outbound connection is enough. The
    /// configuration says which authorities are believed.
    ThroughLink(Arc<rustls::ClientConfig>),
    /// From somewhere else: [`Fetch`] over [`crate::http::Direct`], or [`Pinned`].
    From(Arc<dyn JwksSource>),
}

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ThroughLink(_) => "ThroughLink",
            Self::From(_) => "From",
        })
    }
}

/// How long keys are used without asking again.
const FRESH: Duration = Duration::from_secs(300);
/// How long past that they are still used while the issuer does not answer.
const STALE: Duration = Duration::from_secs(3600);
/// How often an unknown key may make us ask again.
const REFETCH: Duration = Duration::from_secs(10);

/// Gets an issuer's keys from the issuer, never from the server's word.
pub trait JwksSource: Send + Sync {
    /// Fetches them once.
    fn fetch<'a>(&'a self, issuer: &'a str) -> Boxed<'a, Result<Jwks, FetchError>>;
}

/// Keys that were given, such as a pinned file's: the same for ever.
#[derive(Debug, Clone)]
pub struct Pinned(pub BTreeMap<String, Jwks>);

impl JwksSource for Pinned {
    fn fetch<'a>(&'a self, issuer: &'a str) -> Boxed<'a, Result<Jwks, FetchError>> {
        Box::pin(async move { self.0.get(issuer).cloned().ok_or(FetchError::NotPinned) })
    }
}

/// Keeps what was fetched.
pub(crate) struct Cache {
    source: Arc<dyn JwksSource>,
    clock: Arc<dyn Clock>,
    entries: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    jwks: Jwks,
    fetched: Mono,
}

impl Cache {
    pub(crate) fn new(source: Arc<dyn JwksSource>, clock: Arc<dyn Clock>) -> Self {
        Self { source, clock, entries: Mutex::new(BTreeMap::new()) }
    }

    /// An issuer's keys; `None` when they cannot be had. One fetch at a time: who waits finds what the other fetched.
    pub(crate) async fn get(&self, issuer: &str) -> Option<Jwks> {
        self.younger_than(issuer, FRESH).await
    }

    /// The keys after a token named one we do not have, at most so often.
    pub(crate) async fn get_anew(&self, issuer: &str) -> Option<Jwks> {
        self.younger_than(issuer, REFETCH).await
    }

    async fn younger_than(&self, issuer: &str, age: Duration) -> Option<Jwks> {
        let mut entries = self.entries.lock().await;
        let now = self.clock.now().mono;
        if let Some(entry) = entries.get(issuer)
            && now.since(entry.fetched) < age
        {
            return Some(entry.jwks.clone());
        }
        match self.source.fetch(issuer).await {
            Ok(jwks) => {
                entries.insert(issuer.to_owned(), Entry { jwks: jwks.clone(), fetched: now });
                Some(jwks)
            }
            Err(error) => {
                tracing::warn!(%issuer, %error, "the issuer's keys cannot be fetched");
                let usable = |e: &&Entry| now.since(e.fetched) < FRESH.saturating_add(STALE);
                entries.get(issuer).filter(usable).map(|e| e.jwks.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests;
