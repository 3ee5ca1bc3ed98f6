//! Keeping the login alive: refreshed at three quarters of its life, by one caller at a time.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bz_core::api::error::Code;
use bz_core::time::UnixTime;
use tokio::sync::Mutex;

use crate::client::Client;
use crate::file::FileError;
use crate::login::{LockedLogin, Login, LoginError, ProviderFailed};
use crate::rest::Caller;

/// How long a refresh that failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why the login was not refreshed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The provider or the server says no.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The stored login cannot be read or kept.
    #[error(transparent)]
    Store(#[from] FileError),
    /// Another login has taken this one's place, or it was logged out.
    #[error("this login was replaced or logged out by another program: start again")]
    Replaced,
}

/// The login of all clones of a client.
#[derive(Debug)]
pub(super) struct LiveLogin {
    now: RwLock<Login>,
    /// Held while refreshing; when the last attempt failed.
    refreshing: Mutex<Option<UnixTime>>,
}

impl LiveLogin {
    pub(super) fn new(login: Login) -> Self {
        Self { now: RwLock::new(login), refreshing: Mutex::new(None) }
    }

    pub(super) fn get(&self) -> Login {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, login: &Login) {
        self.now.write().unwrap_or_else(PoisonError::into_inner).clone_from(login);
    }
}

impl Client {
    /// The caller of the next call, refreshed when that is due. A refresh that fails is no reason not to call: while
    /// the login lives it is good, and after that the server says so.
    pub(super) async fn caller(&self) -> Caller {
        self.refresh_when_due().await;
        self.login.get().caller()
    }

    /// Refreshes the login now.
    ///
    /// # Errors
    /// [`RefreshError`]; most mean that the person must log in again.
    pub async fn refresh(&self) -> Result<(), RefreshError> {
        let mut failed = self.login.refreshing.lock().await;
        let outcome = self.refresh_locked().await;
        *failed = outcome.is_err().then(|| self.now());
        outcome
    }

    /// Whether a login that the server no longer knows cannot be brought back by a refresh. A provider or server that
    /// cannot be reached says nothing about that.
    pub(crate) async fn is_out(&self) -> bool {
        if !self.login.get().is_refreshable() {
            return true;
        }
        match self.refresh().await {
            Ok(()) => false,
            Err(
                RefreshError::Replaced | RefreshError::Login(LoginError::NoRefreshToken | LoginError::NoTokenSource(_)),
            ) => true,
            Err(RefreshError::Login(LoginError::Server(error))) => error.code() == Some(Code::NotLoggedIn),
            Err(RefreshError::Login(LoginError::Provider(error))) => !matches!(error, ProviderFailed::NoAnswer(_)),
            Err(RefreshError::Login(_) | RefreshError::Store(_)) => false,
        }
    }

    /// Refreshes the login when that is due; a failure is logged and left for the next time.
    pub(crate) async fn refresh_when_due(&self) {
        if self.login.get().is_refresh_due(self.now())
            && let Err(error) = self.refresh_if_due().await
        {
            tracing::warn!(%error, "the login could not be refreshed");
        }
    }

    async fn refresh_if_due(&self) -> Result<(), RefreshError> {
        let mut failed = self.login.refreshing.lock().await;
        let (login, now) = (self.login.get(), self.now());
        let lately = failed.is_some_and(|at| now < at.after(RETRY_AFTER));
        // Another call may have done it meanwhile.
        if lately || !login.is_refreshable() || !login.is_refresh_due(now) {
            return Ok(());
        }
        let outcome = self.refresh_locked().await;
        *failed = outcome.is_err().then_some(now);
        outcome
    }

    async fn refresh_locked(&self) -> Result<(), RefreshError> {
        let present = self.login.get();
        let Some(store) = &self.store else { return self.exchange(&present, None).await };
        let locked = store.lock().await?;
        match locked.load()? {
            Some(stored) if stored.id() != present.id() => Err(RefreshError::Replaced),
            None => Err(RefreshError::Replaced),
            Some(stored) if stored.obtained_at() > present.obtained_at() => {
                self.login.set(&stored);
                Ok(())
            }
            Some(_) => self.exchange(&present, Some(locked.as_ref())).await,
        }
    }

    async fn exchange(&self, present: &Login, locked: Option<&dyn LockedLogin>) -> Result<(), RefreshError> {
        let fresh = match present.token_source() {
            Some(_) => present.renewed(self.tokens.as_deref(), &self.trust, self.clock().as_ref()).await?,
            None => present.refreshed((self.server(), &self.rest), &self.trust, self.clock().as_ref()).await?,
        };
        self.keep_keys(&fresh);
        // Kept before anything else can fail: the old refresh token is spent.
        self.keep(&fresh, locked)?;
        let registered = fresh.register(&self.rest).await?;
        self.keep(&registered, locked)?;
        Ok(())
    }

    /// What cannot be kept is missed by a later check of a transcript, and by nothing now.
    fn keep_keys(&self, login: &Login) {
        let Some((seen, keys)) = self.seen_keys.as_ref().zip(login.issuer_keys()) else { return };
        if let Err(error) = seen.saw(&login.person().issuer, keys, self.now()) {
            tracing::warn!(%error, "the identity provider's keys cannot be kept");
        }
    }

    fn keep(&self, login: &Login, locked: Option<&dyn LockedLogin>) -> Result<(), FileError> {
        self.login.set(login);
        locked.map_or(Ok(()), |locked| locked.save(login))
    }
}
