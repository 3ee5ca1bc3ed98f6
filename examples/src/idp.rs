//! A small OpenID provider for development and tests: code flow with PKCE, refresh with rotation, ES256 ID tokens.
//!
//! It listens on loopback only and asks for no password, so whoever reaches it may be anybody. Absent, on purpose:
//! passwords, browser sessions (every authorization is a login of its own), confidential clients, implicit, hybrid and
//! device flow, dynamic registration, and anything that outlives the process.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bz_examples::idp::{DevIdp, DevIdpConfig, User};
//! let alice = User::new("alice", "alice@example.com").with_hd("example.com");
//! let idp = DevIdp::start(DevIdpConfig::new("127.0.0.1:0".parse()?, "bz-cli", vec![alice])).await?;
//! assert!(idp.issuer().as_str().starts_with("http://127.0.0.1:"));
//! # Ok(()) }
//! ```

mod config;
mod http;
pub mod jobs;
mod state;

pub use config::{Clock, DevIdpConfig, RefreshNonce, User};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

use state::Provider;

/// How long [`DevIdp::stop`] waits for requests under way.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// A running development provider. Dropping it closes the listener and ends its idle connections.
#[derive(Debug)]
pub struct DevIdp {
    provider: Arc<Provider>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// What becomes of the key that signed until a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldKey {
    /// It stays in the JWKS, so that tokens it signed still verify.
    Published,
    /// It leaves the JWKS at once, with every key before it.
    Withdrawn,
}

/// Why a provider did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("the development identity provider asks for no password and serves loopback only, not {0}")]
    NotLoopback(SocketAddr),
    #[error("no client id is configured: nobody could log in")]
    NoClient,
    #[error("two users are named {0:?}, or share their sub")]
    SameUserTwice(String),
    #[error("auto_login names {0:?}, who is not among the users")]
    UnknownAutoLogin(String),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the address does not make an issuer URL")]
    Issuer(#[from] url::ParseError),
}

/// The provider knows no user of this name.
#[derive(Debug, thiserror::Error)]
#[error("the development identity provider knows no user {0:?}")]
pub struct UnknownUser(pub String);

impl DevIdp {
    /// Binds `config.listen` (port 0 takes a free one) and serves until it is stopped or dropped.
    ///
    /// # Errors
    /// Refuses an address that is not loopback, a configuration nobody can log in with, and an address in use.
    pub async fn start(config: DevIdpConfig) -> Result<Self, StartError> {
        config.check()?;
        let wanted = config.listen;
        let failed = |source| StartError::Listen { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let issuer = Url::parse(&format!("http://{bound}/"))?;
        let provider = Arc::new(Provider::new(issuer, config));
        let (stop, stopped) = oneshot::channel::<()>();
        let router = http::router(Arc::clone(&provider));
        let server = tokio::spawn(async move {
            // A dropped sender ends the wait just as a sent value does.
            let until = async move { stopped.await.unwrap_or(()) };
            // axum answers accept errors itself; this future has no failure left to tell.
            drop(axum::serve(listener, router).with_graceful_shutdown(until).await);
        });
        Ok(Self { provider, stop, server })
    }

    /// The issuer. Its text, slash at the end included, is the `iss` of every token.
    #[must_use]
    pub fn issuer(&self) -> Url {
        self.provider.issuer().clone()
    }

    /// The `kid` of the key that signs now.
    #[must_use]
    pub fn kid(&self) -> String {
        self.provider.with(|state| state.keys.kid().to_owned())
    }

    /// How often the JWKS was fetched, for tests of caches.
    #[must_use]
    pub fn jwks_fetches(&self) -> u64 {
        self.provider.jwks_fetches()
    }

    /// Signs with a new key from now on and returns its `kid`.
    pub fn rotate_keys(&self, old: OldKey) -> String {
        self.provider.with(|state| {
            state.keys.rotate(old);
            state.keys.kid().to_owned()
        })
    }

    /// Adds a user, or replaces (and enables) the one of that name; what was issued before stays good.
    pub fn put_user(&self, user: User) {
        self.provider.with(|state| state.directory.put(user));
    }

    /// Lets a user log in no more, and revokes the codes, refresh tokens and access tokens given so far.
    ///
    /// # Errors
    /// The provider knows no such user.
    pub fn disable_user(&self, name: &str) -> Result<(), UnknownUser> {
        self.provider.with(|state| {
            if !state.directory.disable(name) {
                return Err(UnknownUser(name.to_owned()));
            }
            state.grants.revoke_user(name);
            Ok(())
        })
    }

    /// The claims that a login of `user` would get now: a good start for a token that is wrong in one place.
    ///
    /// # Errors
    /// The provider knows no such user.
    pub fn claims(&self, user: &str, client_id: &str, nonce: Option<&str>) -> Result<Value, UnknownUser> {
        self.provider.claims_of(user, client_id, nonce).ok_or_else(|| UnknownUser(user.to_owned()))
    }

    /// A JWT over `claims` exactly as given, under the usual header.
    #[must_use]
    pub fn sign_claims(&self, claims: &Value) -> String {
        self.provider.with(|state| state.keys.sign(claims))
    }

    /// A JWT over `header` and `claims` exactly as given, signed with the current key whatever the header says.
    #[must_use]
    pub fn sign_raw(&self, header: &Value, claims: &Value) -> String {
        self.provider.with(|state| state.keys.sign_under(header, claims))
    }

    /// Ends the provider after the requests under way, or after five seconds.
    pub async fn stop(self) {
        drop(self.stop);
        let mut server = self.server;
        if tokio::time::timeout(STOP_DEADLINE, &mut server).await.is_err() {
            server.abort();
        }
    }
}
