//! Logging in: a session key, an OIDC login whose `nonce` commits to it, and the certificate the server registers.
//!
//! Absent: passwords, which are typed at the provider and nowhere else; the device flow, which carries no nonce.

mod browser;
mod provider;
mod redirect;
mod service_account;
mod store;
mod stored;
mod workload;

use std::fmt;
use std::sync::Arc;

use bz_core::api::Bytes;
use bz_core::api::login::{MfaActionRequired, RegisterUser, Registered, User};
use bz_core::cert::{BzCert, CertCheck, CertError, CertRequest, DEFAULT_MAX_AGE};
use bz_core::id::{LoginId, OrganizationId};
use bz_core::key::{KeyError, PrivateKey};
use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::provider::Provider;
use bz_core::oidc::{self, Audience, Expiry, Person, TokenError};
use bz_core::time::UnixTime;
use bz_core::wire::WireError;
use bz_protocol::driver::Clock;
use tokio::time::timeout;
use url::Url;

use crate::clock::{self, NoRandom};
use crate::rest::{Caller, Rest, RestError};
use crate::secret::Secret;
use crate::server::Server;
use crate::trust::{Trust, TrustError};
use provider::Oidc;
use redirect::{Expected, LIMIT, Redirect};

pub use browser::{Browser, BrowserFailed, Opening};
pub use provider::ProviderFailed;
pub use redirect::RedirectError;
pub use service_account::{CredentialsError, ServiceIdentity};
pub use store::{LockedLogin, Locking, LoginStore};
pub use stored::ParseLoginError;
pub use workload::{Command, GithubActions, GoogleMetadata, Token, TokenSource, TokenSourceError};

/// A login: the session key, the tokens bound to it, and who the server says this is. Clones share nothing.
#[derive(Clone)]
pub struct Login {
    id: LoginId,
    organization: OrganizationId,
    issuer: String,
    key: PrivateKey,
    request: CertRequest,
    initial: Secret,
    current: Secret,
    refresh: Option<Secret>,
    /// What a job's newer tokens come from, as [`TokenSource::name`] says it.
    token_source: Option<String>,
    started_at: UnixTime,
    obtained_at: UnixTime,
    token_expires_at: UnixTime,
    expires_at: UnixTime,
    user: User,
    mfa: MfaActionRequired,
    /// Not stored: known as long as this program runs.
    issuer_keys: Option<Arc<Jwks>>,
}

/// What a person may choose about a login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginOptions {
    /// Which provider, where the bundle names several for people.
    pub issuer: Option<String>,
    /// The claim code that makes this person an administrator.
    pub claim: Option<Secret>,
    /// The loopback port of the redirect; any free one when absent. For providers that take no other than one they know.
    pub port: Option<u16>,
}

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The bundle names no provider to log in at.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The provider gave no tokens.
    #[error(transparent)]
    Provider(#[from] ProviderFailed),
    /// The redirect did not come or carries no code.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The page could not be shown.
    #[error(transparent)]
    Browser(#[from] BrowserFailed),
    /// No target would accept the tokens.
    #[error("no target would accept this login: {0}. Log in again; when that does not help, ask `bz doctor`")]
    Certificate(#[from] CertError),
    /// The refreshed token proves nothing.
    #[error("the refreshed token is refused: {0}. Log in again; when that does not help, ask `bz doctor`")]
    Token(#[from] TokenError),
    /// The refreshed token is of another person.
    #[error("the refreshed token is of another person: log in again")]
    OtherPerson,
    /// No refresh token, so the login cannot be prolonged.
    #[error("the identity provider gave no refresh token: log in again")]
    NoRefreshToken,
    /// A job's tokens do not come.
    #[error(transparent)]
    TokenSource(#[from] TokenSourceError),
    /// Nothing here gives this job's tokens.
    #[error("this login is a job's whose tokens come from {0}, which is not here: log in again, in the job")]
    NoTokenSource(String),
    /// The tokens are larger than a certificate may be.
    #[error("the identity provider's tokens are {0}: its administrator must put less into them")]
    TooLarge(#[from] WireError),
    /// The server does not say what the provider wants to hear.
    #[error(transparent)]
    Settings(RestError),
    /// The server does not register the certificate.
    #[error("the server refuses the login: {0}")]
    Server(#[from] RestError),
    /// The server registered somebody else.
    #[error("the server registered another {0} than the one that logged in: do not use it")]
    Lie(&'static str),
    /// A service account's credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandom),
}

impl Login {
    /// Logs a person in, by a browser, and registers them with the server.
    ///
    /// # Errors
    /// [`LoginError`], which says what to do next.
    pub async fn begin(
        server: &Server,
        trust: &Trust,
        options: &LoginOptions,
        browser: &dyn Browser,
    ) -> Result<Self, LoginError> {
        Self::begin_at(server, trust, options, browser, &clock::system()).await
    }

    /// The same, telling the time by this clock.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn begin_at(
        server: &Server,
        trust: &Trust,
        options: &LoginOptions,
        browser: &dyn Browser,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, LoginError> {
        let provider = trust.login_provider(options.issuer.as_deref())?;
        let organization = trust.bundle().organization;
        let key = PrivateKey::from_seed(&clock::random()?)?;
        let request = CertRequest::new(organization, &key, clock::random()?);
        let rest = Rest::new(server)?.with_clock(clock);
        let settings = rest.login_settings(&provider.issuer).await.map_err(LoginError::Settings)?;
        let oidc = Oidc::discover(provider, server).await?.with(settings);
        let tokens = by_browser(&oidc, provider, &request.commitment(), (options, browser)).await?;
        let certificate = request.certificate(tokens.id.reveal(), tokens.id.reveal())?;
        // As a target will: what it would refuse is better said now.
        let verified = BzCert::verify(&certificate, &check(organization, provider, &oidc, clock.now().wall))?;
        let claims = verified.claims();
        let caller = Caller { login: LoginId::from_random(clock::random()?), key: key.clone() };
        let registered = register(&rest, &caller, (certificate, options.claim.as_ref())).await?;
        honest(&registered, organization, &claims.person)?;
        Ok(Self {
            id: caller.login,
            organization,
            issuer: provider.issuer.clone(),
            key,
            request,
            initial: tokens.id.clone(),
            current: tokens.id,
            refresh: tokens.refresh,
            token_source: None,
            started_at: claims.issued_at,
            obtained_at: clock.now().wall,
            token_expires_at: claims.expires_at,
            expires_at: registered.expires_at.min(claims.expires_at),
            user: registered.user,
            mfa: registered.mfa_action_required,
            issuer_keys: Some(Arc::new(oidc.jwks().clone())),
        })
    }

    /// The same login with a newer current token, to be registered with the server. The initial token stays.
    ///
    /// The provider may take each refresh token once: keep the answer before using it. It lasts no longer than before
    /// until the server has registered it.
    ///
    /// # Errors
    /// [`LoginError`]; most mean that the person must log in again.
    pub(crate) async fn refreshed(
        &self,
        (server, rest): (&Server, &Rest),
        trust: &Trust,
        clock: &dyn Clock,
    ) -> Result<Self, LoginError> {
        let refresh = self.refresh.as_ref().ok_or(LoginError::NoRefreshToken)?;
        let provider = trust.login_provider(Some(&self.issuer))?;
        let settings = rest.login_settings(&provider.issuer).await.map_err(LoginError::Settings)?;
        let oidc = Oidc::discover(provider, server).await?.with(settings);
        let tokens = oidc.refresh(refresh).await?;
        let keys = (oidc.jwks(), provider);
        let claims = oidc::verify(tokens.id.reveal(), keys, Audience::Client, Expiry::Checked, clock.now().wall)?;
        if claims.person != self.person() {
            return Err(LoginError::OtherPerson);
        }
        Ok(Self {
            current: tokens.id,
            refresh: tokens.refresh.or_else(|| self.refresh.clone()),
            obtained_at: clock.now().wall,
            token_expires_at: claims.expires_at,
            issuer_keys: Some(Arc::new(oidc.jwks().clone())),
            ..self.clone()
        })
    }

    /// Registers the present certificate with the server.
    pub(crate) async fn register(&self, rest: &Rest) -> Result<Self, LoginError> {
        let registered = match self.token_source {
            Some(_) => workload::register(rest, &self.caller(), self.certificate()?).await?,
            None => register(rest, &self.caller(), (self.certificate()?, None)).await?,
        };
        honest(&registered, self.organization, &self.person())?;
        let expires_at = registered.expires_at.min(self.token_expires_at);
        Ok(Self { expires_at, user: registered.user, mfa: registered.mfa_action_required, ..self.clone() })
    }

    /// The login's id at the server.
    #[must_use]
    pub const fn id(&self) -> LoginId {
        self.id
    }

    /// The organization.
    #[must_use]
    pub const fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// The session key.
    #[must_use]
    pub const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The `BzCert` with the present tokens.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when the tokens are.
    pub fn certificate(&self) -> Result<Vec<u8>, WireError> {
        self.request.certificate(self.initial.reveal(), self.current.reveal())
    }

    /// The current ID token, for re-authentication inside a session.
    #[must_use]
    pub const fn current_token(&self) -> &Secret {
        &self.current
    }

    /// Who this is, as the provider knows them.
    #[must_use]
    pub fn person(&self) -> Person {
        Person { issuer: self.user.issuer.clone(), subject: self.user.subject.clone() }
    }

    /// The keys that the identity provider published when this program obtained the current token: to be kept, so that
    /// transcripts can be checked when the provider has others. `None` of a login that was stored.
    #[must_use]
    pub fn issuer_keys(&self) -> Option<&Jwks> {
        self.issuer_keys.as_deref()
    }

    /// Who this is, as the server knows them.
    #[must_use]
    pub const fn user(&self) -> &User {
        &self.user
    }

    /// What a second factor still asks for.
    #[must_use]
    pub const fn mfa(&self) -> MfaActionRequired {
        self.mfa
    }

    /// When the current token was obtained.
    #[must_use]
    pub const fn obtained_at(&self) -> UnixTime {
        self.obtained_at
    }

    /// When the login ends unless it is refreshed.
    #[must_use]
    pub const fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    /// When targets stop accepting the login whatever is refreshed, unless their owners chose another maximum age.
    #[must_use]
    pub fn login_ends(&self) -> UnixTime {
        self.started_at.after(DEFAULT_MAX_AGE)
    }

    /// Whether newer tokens can be had: the provider gave a refresh token, or a job asks for its own.
    #[must_use]
    pub const fn is_refreshable(&self) -> bool {
        self.refresh.is_some() || self.token_source.is_some()
    }

    /// What a job's tokens come from, as [`TokenSource::name`] says it.
    #[must_use]
    pub fn token_source(&self) -> Option<&str> {
        self.token_source.as_deref()
    }

    /// Whether three quarters of the current token's life are over.
    #[must_use]
    pub fn is_refresh_due(&self, now: UnixTime) -> bool {
        let life = self.expires_at.since(self.obtained_at);
        now >= self.obtained_at.after(life / 4 * 3)
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller { login: self.id, key: self.key.clone() }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("id", &self.id)
            .field("user", &self.user.id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The keys that a pinned provider publishes now: what a verifier keeps beside transcripts.
///
/// # Errors
/// [`ProviderFailed`].
pub async fn issuer_keys(provider: &Provider, server: &Server) -> Result<Jwks, ProviderFailed> {
    Ok(Oidc::discover(provider, server).await?.jwks().clone())
}

async fn by_browser(
    oidc: &Oidc,
    provider: &Provider,
    nonce: &str,
    (options, browser): (&LoginOptions, &dyn Browser),
) -> Result<provider::Tokens, LoginError> {
    let listener = Redirect::bind(options.port.unwrap_or(0)).await?;
    let address = listener.address();
    let page = oidc.page(&address, nonce)?;
    let redirect = Url::parse(&address).map_err(|_| RedirectError::OtherAddress(address.clone()))?;
    let expected = Expected { redirect, state: page.state.clone(), issuer: provider.issuer.clone() };
    let answer = async {
        let waiting = listener.wait(&expected);
        tokio::pin!(waiting);
        let shown = tokio::select! {
            url = &mut waiting => return Ok::<_, LoginError>(url?),
            shown = browser.open(&page.url) => shown?,
        };
        match shown {
            Some(url) => Ok(url),
            None => Ok(waiting.await?),
        }
    };
    let url = timeout(LIMIT, answer).await.map_err(|_| RedirectError::TimedOut)??;
    let code = expected.code(&url)?;
    Ok(oidc.exchange(page, &address, code).await?)
}

fn check<'a>(organization: OrganizationId, provider: &'a Provider, oidc: &'a Oidc, now: UnixTime) -> CertCheck<'a> {
    CertCheck {
        organization,
        provider,
        jwks: oidc.jwks(),
        max_age: DEFAULT_MAX_AGE,
        known_initial: None,
        not_older_than: None,
        now,
    }
}

async fn register(
    rest: &Rest,
    caller: &Caller,
    (certificate, claim): (Vec<u8>, Option<&Secret>),
) -> Result<Registered, RestError> {
    let claim = claim.map(|code| code.reveal().to_owned());
    rest.post(caller, "users/register", &RegisterUser { certificate: Bytes(certificate), claim }).await
}

fn honest(registered: &Registered, organization: OrganizationId, person: &Person) -> Result<(), LoginError> {
    if registered.user.organization_id != organization {
        return Err(LoginError::Lie("organization"));
    }
    if (&registered.user.issuer, &registered.user.subject) != (&person.issuer, &person.subject) {
        return Err(LoginError::Lie("person"));
    }
    Ok(())
}
