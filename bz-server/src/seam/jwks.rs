//! An issuer's keys: where they come from, and how long they are believed.
//!
//! Absent: verification, which is `bz_core`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bz_core::oidc::jwks::{Jwks, MAX_JWKS};
use bz_core::oidc::provider::Provider;
use bz_core::oidc::service;
use bz_core::time::Mono;
use futures::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Mutex;
use url::Url;

/// How long fetched keys are used without asking again.
pub const FRESH: Duration = Duration::from_secs(300);
/// How often an unknown key id may cause a fetch: anybody can send one.
pub const REFETCH: Duration = Duration::from_secs(30);

const MAX_DISCOVERY: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why no keys were got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Not reached, or no success.
    #[error("the identity provider {issuer} cannot be reached: {why}")]
    Unreachable {
        /// Which.
        issuer: String,
        /// What happened.
        why: String,
    },
    /// It answered something that is no discovery document or key set.
    #[error("the identity provider {issuer} answers with {what}")]
    Unusable {
        /// Which.
        issuer: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No client can be built.
    #[error("no TLS client for identity providers: {0}")]
    Client(String),
}

/// Where an issuer's keys come from.
pub trait JwksSource: Send + Sync {
    /// The keys as the issuer publishes them now.
    fn fetch<'a>(&'a self, provider: &'a Provider) -> BoxFuture<'a, Result<Jwks, FetchError>>;
}

/// Keys fetched once and believed for [`FRESH`]; one entry per pinned provider.
pub struct JwksCache {
    source: Arc<dyn JwksSource>,
    failures: Counter,
    // Held over the fetch: a burst of logins asks the issuer once.
    kept: Mutex<BTreeMap<String, Kept>>,
}

struct Kept {
    keys: Arc<Jwks>,
    at: Mono,
}

impl std::fmt::Debug for JwksCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwksCache").finish_non_exhaustive()
    }
}

impl JwksCache {
    /// An empty cache over a source.
    #[must_use]
    pub fn new(source: Arc<dyn JwksSource>) -> Self {
        Self { source, kept: Mutex::new(BTreeMap::new()), failures: Counter::default() }
    }

    /// Counts there how often keys could not be had.
    #[must_use]
    pub fn counting(self, failures: Counter) -> Self {
        Self { failures, ..self }
    }

    /// The keys, fetched when there are none younger than [`FRESH`].
    ///
    /// # Errors
    /// [`FetchError`] when they cannot be fetched.
    pub async fn keys(&self, provider: &Provider, now: Mono) -> Result<Arc<Jwks>, FetchError> {
        self.younger_than(FRESH, provider, now).await
    }

    /// The keys for a token whose key id was unknown: fetched again, at most once per [`REFETCH`].
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn keys_again(&self, provider: &Provider, now: Mono) -> Result<Arc<Jwks>, FetchError> {
        self.younger_than(REFETCH, provider, now).await
    }

    /// Forgets an issuer's keys, so that the next check fetches them.
    pub async fn forget(&self, issuer: &str) {
        self.kept.lock().await.remove(issuer);
    }

    async fn younger_than(&self, age: Duration, provider: &Provider, now: Mono) -> Result<Arc<Jwks>, FetchError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.get(&provider.issuer)
            && now.since(kept.at) < age
        {
            return Ok(Arc::clone(&kept.keys));
        }
        let fetched = self.source.fetch(provider).await;
        let counted = fetched.inspect_err(|_| {
            self.failures.inc();
        });
        let keys = Arc::new(counted?);
        kept.insert(provider.issuer.clone(), Kept { keys: Arc::clone(&keys), at: now });
        Ok(keys)
    }
}

/// Keys fetched from the issuer itself over TLS, without redirects.
#[derive(Debug, Clone)]
pub struct HttpJwks {
    client: reqwest::Client,
}

#[derive(serde::Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

impl HttpJwks {
    /// A source that trusts the platform's roots, or only the roots in `ca` (PEM) when given.
    ///
    /// # Errors
    /// [`FetchError::Client`] when the roots cannot be used.
    pub fn new(ca: Option<&[u8]>) -> Result<Self, FetchError> {
        let client = crate::tls::http_client(ca, TIMEOUT).map_err(|e| FetchError::Client(e.to_string()))?;
        Ok(Self { client })
    }

    async fn get(&self, provider: &Provider, url: Url, limit: usize) -> Result<Vec<u8>, FetchError> {
        let unreachable = |why: String| FetchError::Unreachable { issuer: provider.issuer.clone(), why };
        if !may_fetch(&url) {
            return Err(unusable(provider, "an address that is neither https nor on loopback"));
        }
        let mut answer = self.client.get(url).send().await.map_err(|e| unreachable(chain(&e)))?;
        if !answer.status().is_success() {
            return Err(unreachable(format!("status {}", answer.status().as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| unreachable(chain(&e)))? {
            if body.len() + chunk.len() > limit {
                return Err(unusable(provider, "more bytes than such a document has"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn fetch_from(&self, provider: &Provider) -> Result<Jwks, FetchError> {
        // A service account's issuer says where its keys are.
        if let Some(address) = service::address(&provider.issuer) {
            let url = Url::parse(address).map_err(|_| unusable(provider, "a name that is no URL"))?;
            let body = self.get(provider, url, MAX_JWKS).await?;
            return Jwks::parse(&body).map_err(|_| unusable(provider, "no key set, or one that is too large"));
        }
        let base = provider.issuer.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/.well-known/openid-configuration"))
            .map_err(|_| unusable(provider, "a name that is no URL"))?;
        let body = self.get(provider, url, MAX_DISCOVERY).await?;
        let found: Discovery =
            serde_json::from_slice(&body).map_err(|_| unusable(provider, "no discovery document"))?;
        if found.issuer != provider.issuer {
            return Err(unusable(provider, "a discovery document of another issuer"));
        }
        let body = self.get(provider, found.jwks_uri, MAX_JWKS).await?;
        Jwks::parse(&body).map_err(|_| unusable(provider, "no key set, or one that is too large"))
    }
}

impl JwksSource for HttpJwks {
    fn fetch<'a>(&'a self, provider: &'a Provider) -> BoxFuture<'a, Result<Jwks, FetchError>> {
        Box::pin(self.fetch_from(provider))
    }
}

/// Whether an address is asked by this server: over TLS, or on its own machine.
pub(crate) fn may_fetch(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

fn unusable(provider: &Provider, what: &'static str) -> FetchError {
    FetchError::Unusable { issuer: provider.issuer.clone(), what }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |e| e.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bz_core::oidc::provider::{Commitment, ProviderKind};

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl JwksSource for Counted {
        fn fetch<'a>(&'a self, _: &'a Provider) -> BoxFuture<'a, Result<Jwks, FetchError>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(Jwks::default()) })
        }
    }

    #[tokio::test]
    async fn keys_are_fetched_once_per_five_minutes_and_strangers_cannot_hurry_it() {
        let source = Arc::new(Counted::default());
        let cache = JwksCache::new(Arc::clone(&source) as Arc<dyn JwksSource>);
        let provider = provider();
        for (second, again, fetches) in
            [(0, false, 1), (299, false, 1), (29, true, 1), (30, true, 2), (31, true, 2), (330, false, 3)]
        {
            let now = Mono::at(Duration::from_secs(second));
            if again {
                cache.keys_again(&provider, now).await.unwrap();
            } else {
                cache.keys(&provider, now).await.unwrap();
            }
            assert_eq!(source.0.load(Ordering::SeqCst), fetches, "at second {second}, again: {again}");
        }
    }

    #[test]
    fn only_tls_or_loopback_is_fetched() {
        for (url, may) in [
            ("https://idp.example/x", true),
            ("http://127.0.0.1:1/x", true),
            ("http://[::1]:1/x", true),
            ("http://localhost/x", true),
            ("http://idp.example/x", false),
            ("http://169.254.169.254/x", false),
            ("ftp://127.0.0.1/x", false),
        ] {
            assert_eq!(may_fetch(&Url::parse(url).unwrap()), may, "{url}");
        }
    }

    fn provider() -> Provider {
        Provider {
            kind: ProviderKind::Okta,
            issuer: "https://idp.example".to_owned(),
            audiences: vec!["cli".to_owned()],
            organization: None,
            organization_is_issuer: false,
            domains: Vec::new(),
            commitment: Commitment::Nonce,
            workloads: vec![],
            groups_claim: None,
        }
    }
}
