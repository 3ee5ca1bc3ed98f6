//! What a development provider is told at its start: users, clients, lives, and the clock it believes.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::StartError;

/// The settings of a [`super::DevIdp`].
#[derive(Clone, Debug)]
pub struct DevIdpConfig {
    /// A loopback address; port 0 takes a free port.
    pub listen: SocketAddr,
    pub users: Vec<User>,
    /// Public clients. Each may redirect to any port and path of the loopback interface (RFC 8252, section 7.3).
    pub client_ids: Vec<String>,
    pub id_token_life: Duration,
    /// Logs this user in without a page, unless `login_hint` names another or `prompt` asks for the page.
    pub auto_login: Option<String>,
    pub refresh_nonce: RefreshNonce,
    pub clock: Clock,
}

/// Whether ID tokens from a refresh repeat the nonce of the login; providers differ, and OpenID Connect allows both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshNonce {
    Kept,
    Dropped,
}

/// Somebody who can log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What is typed into the login page; also the `name` claim.
    pub name: String,
    pub sub: String,
    pub email: String,
    pub email_verified: bool,
    /// The organization claim; left out of the token when `None`.
    pub hd: Option<String>,
    pub groups: Vec<String>,
}

/// Where the provider takes the time from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl DevIdpConfig {
    /// One client, tokens of an hour, the login page for everybody, the nonce kept, the system's clock.
    #[must_use]
    pub fn new(listen: SocketAddr, client_id: &str, users: Vec<User>) -> Self {
        Self {
            listen,
            users,
            client_ids: vec![client_id.to_owned()],
            id_token_life: Duration::from_secs(3600),
            auto_login: None,
            refresh_nonce: RefreshNonce::Kept,
            clock: Clock::system(),
        }
    }

    pub(super) fn check(&self) -> Result<(), StartError> {
        if !self.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(self.listen));
        }
        if self.client_ids.is_empty() {
            return Err(StartError::NoClient);
        }
        let (mut names, mut subs) = (BTreeSet::new(), BTreeSet::new());
        for user in &self.users {
            if !names.insert(&user.name) || !subs.insert(&user.sub) {
                return Err(StartError::SameUserTwice(user.name.clone()));
            }
        }
        match &self.auto_login {
            Some(name) if !names.contains(name) => Err(StartError::UnknownAutoLogin(name.clone())),
            Some(_) | None => Ok(()),
        }
    }
}

impl User {
    /// A user with a verified address, no organization and no groups; `sub` is made from the name.
    #[must_use]
    pub fn new(name: &str, email: &str) -> Self {
        Self {
            name: name.to_owned(),
            sub: format!("dev-{name}"),
            email: email.to_owned(),
            email_verified: true,
            hd: None,
            groups: Vec::new(),
        }
    }

    #[must_use]
    pub fn with_hd(mut self, hd: &str) -> Self {
        self.hd = Some(hd.to_owned());
        self
    }

    #[must_use]
    pub fn with_groups(mut self, groups: &[&str]) -> Self {
        self.groups = groups.iter().map(|&group| group.to_owned()).collect();
        self
    }
}

impl Clock {
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(SystemTime::now)
    }

    /// A clock that tests can turn.
    pub fn from_fn(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Seconds since 1970; a time before that counts as 1970.
    pub(super) fn unix(&self) -> u64 {
        (self.0)().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock(..)")
    }
}
