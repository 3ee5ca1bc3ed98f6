//! What the provider remembers: its keys, its users, and what it issued to whom.
//!
//! Absent: HTTP. Everything here is a plain value behind one lock that is never held across a wait.

mod directory;
mod grants;
mod keys;
mod token;

pub(super) use grants::{GrantError, Issued, Login, Redemption, Request, ReturnTo};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::config::{Clock, DevIdpConfig, RefreshNonce, User};
use directory::Directory;
use grants::Grants;
pub(in crate::idp) use keys::Keyring;

/// The provider without its socket.
#[derive(Debug)]
pub(super) struct Provider {
    issuer: Url,
    client_ids: Vec<String>,
    auto_login: Option<String>,
    id_token_life: Duration,
    refresh_nonce: RefreshNonce,
    clock: Clock,
    jwks_fetches: AtomicU64,
    state: Mutex<State>,
}

/// The part that changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) keys: Keyring,
    pub(super) directory: Directory,
    pub(super) grants: Grants,
}

/// The grant that an ID token is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    Login,
    Refresh,
}

impl Provider {
    pub(super) fn new(issuer: Url, config: DevIdpConfig) -> Self {
        Self {
            issuer,
            client_ids: config.client_ids,
            auto_login: config.auto_login,
            id_token_life: config.id_token_life,
            refresh_nonce: config.refresh_nonce,
            clock: config.clock,
            jwks_fetches: AtomicU64::new(0),
            state: Mutex::new(State {
                keys: Keyring::generate(),
                directory: Directory::new(config.users),
                grants: Grants::default(),
            }),
        }
    }

    /// The only way to the changing part; a panic elsewhere must not take the whole provider down with it.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn issuer(&self) -> &Url {
        &self.issuer
    }

    pub(super) fn knows_client(&self, id: &str) -> bool {
        self.client_ids.iter().any(|known| known == id)
    }

    pub(super) fn auto_login(&self) -> Option<&str> {
        self.auto_login.as_deref()
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.unix()
    }

    pub(super) fn token_life(&self) -> u64 {
        self.id_token_life.as_secs()
    }

    pub(super) fn jwks(&self) -> Value {
        self.jwks_fetches.fetch_add(1, Ordering::Relaxed);
        self.with(|state| state.keys.jwks())
    }

    pub(super) fn jwks_fetches(&self) -> u64 {
        self.jwks_fetches.load(Ordering::Relaxed)
    }

    /// An ID token for a login, or nothing if the user was disabled meanwhile.
    pub(super) fn id_token(&self, login: &Login, occasion: Occasion) -> Option<String> {
        let nonce = match (occasion, self.refresh_nonce) {
            (Occasion::Refresh, RefreshNonce::Dropped) => None,
            (Occasion::Login, _) | (Occasion::Refresh, RefreshNonce::Kept) => login.nonce.as_deref(),
        };
        let now = self.now();
        self.with(|state| {
            let user = state.directory.find(&login.user)?;
            let claims = self.claims(user, login, nonce, now);
            Some(state.keys.sign(&claims))
        })
    }

    pub(super) fn claims_of(&self, user: &str, client_id: &str, nonce: Option<&str>) -> Option<Value> {
        let now = self.now();
        let login = Login {
            user: user.to_owned(),
            client_id: client_id.to_owned(),
            nonce: None,
            scope: Vec::new(),
            auth_time: now,
        };
        self.with(|state| Some(self.claims(state.directory.find(user)?, &login, nonce, now)))
    }

    fn claims(&self, user: &User, login: &Login, nonce: Option<&str>, now: u64) -> Value {
        let mut claims = user_claims(user);
        claims.extend(object(json!({
            "iss": self.issuer.as_str(),
            "aud": login.client_id,
            "iat": now,
            "exp": now.saturating_add(self.token_life()),
            "auth_time": login.auth_time,
        })));
        if let Some(nonce) = nonce {
            claims.insert("nonce".to_owned(), nonce.into());
        }
        Value::Object(claims)
    }
}

/// What is said of a user in ID tokens and at the userinfo endpoint, whatever scopes were asked for.
pub(super) fn user_claims(user: &User) -> serde_json::Map<String, Value> {
    let mut claims = object(json!({
        "sub": user.sub,
        "name": user.name,
        "email": user.email,
        "email_verified": user.email_verified,
        "groups": user.groups,
    }));
    if let Some(hd) = &user.hd {
        claims.insert("hd".to_owned(), hd.as_str().into());
    }
    claims
}

fn object(value: Value) -> serde_json::Map<String, Value> {
    if let Value::Object(map) = value { map } else { serde_json::Map::new() }
}
