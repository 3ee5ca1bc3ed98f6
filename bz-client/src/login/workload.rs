//! Logging in as a job of CI or of a cloud: the job asks its issuer for a token whose audience commits to the session key.
//! No browser, no secret that anybody keeps; later tokens come from where the first one came from, as long as the job
//! lives.

mod source;

use std::sync::Arc;

use bz_core::api::Bytes;
use bz_core::api::login::Registered;
use bz_core::api::service_account::LoginWorkload;
use bz_core::cert::{BzCert, CertError, CertRequest};
use bz_core::id::LoginId;
use bz_core::key::PrivateKey;
use bz_core::oidc::{self, Person, TokenError};
use bz_core::time::UnixTime;
use bz_protocol::driver::Clock;

use crate::clock;
use crate::login::{Login, LoginError, honest};
use crate::rest::{Caller, Rest, RestError};
use crate::secret::Secret;
use crate::server::Server;
use crate::trust::Trust;

pub use source::{Command, GithubActions, GoogleMetadata, Token, TokenSource, TokenSourceError};

impl Login {
    /// Logs a job in, by a token that it asks for now.
    ///
    /// # Errors
    /// [`LoginError`]; what the trust bundle does not mean is said before the server is asked.
    pub async fn begin_workload(
        server: &Server,
        trust: &Trust,
        source: &dyn TokenSource,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, LoginError> {
        let organization = trust.bundle().organization;
        let key = PrivateKey::from_seed(&clock::random()?)?;
        let request = CertRequest::new(organization, &key, clock::random()?);
        let started_at = clock.now().wall;
        let token = source.token(&request.audience()).await?;
        let certificate = request.certificate(token.reveal(), token.reveal())?;
        let person = job(trust, &certificate, &token)?;
        let rest = Rest::new(server)?.with_clock(clock);
        let caller = Caller { login: LoginId::from_random(clock::random()?), key: key.clone() };
        let registered = register(&rest, &caller, certificate.clone()).await?;
        honest(&registered, organization, &person)?;
        Ok(Self {
            id: caller.login,
            organization,
            issuer: person.issuer,
            key,
            request,
            initial: token.clone(),
            current: token,
            refresh: None,
            token_source: Some(source.name()),
            started_at,
            obtained_at: started_at,
            token_expires_at: ends(&certificate, started_at),
            expires_at: registered.expires_at,
            user: registered.user,
            mfa: registered.mfa_action_required,
            issuer_keys: None,
        })
    }

    /// The same login with a newer token of the same job, to be registered with the server.
    pub(crate) async fn renewed(
        &self,
        source: Option<&dyn TokenSource>,
        trust: &Trust,
        clock: &dyn Clock,
    ) -> Result<Self, LoginError> {
        let source = source.ok_or_else(|| LoginError::NoTokenSource(self.token_source.clone().unwrap_or_default()))?;
        let obtained_at = clock.now().wall;
        let token = source.token(&self.request.audience()).await?;
        let certificate = self.request.certificate(self.initial.reveal(), token.reveal())?;
        if job(trust, &certificate, &token)? != self.person() {
            return Err(LoginError::OtherPerson);
        }
        let token_expires_at = ends(&certificate, obtained_at);
        Ok(Self { current: token, obtained_at, token_expires_at, ..self.clone() })
    }
}

pub(super) async fn register(rest: &Rest, caller: &Caller, certificate: Vec<u8>) -> Result<Registered, RestError> {
    let body = LoginWorkload { certificate: Bytes(certificate) };
    rest.post(caller, "service-accounts/workloads/login", &body).await
}

/// The pinned row that the job is.
fn job(trust: &Trust, certificate: &[u8], token: &Secret) -> Result<Person, LoginError> {
    let provider = trust.bundle().provider_of(certificate).ok_or(CertError::Initial(TokenError::Issuer))?;
    oidc::claimed_person(token.reveal(), &provider).map_err(|error| CertError::Initial(error).into())
}

/// The token says when it ends, and whoever checks it knows better.
fn ends(certificate: &[u8], now: UnixTime) -> UnixTime {
    BzCert::claimed_end(certificate).unwrap_or(now).min(now.after(bz_core::cert::MAX_JOB_TOKEN))
}
