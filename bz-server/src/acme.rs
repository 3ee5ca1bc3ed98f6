//! Certificates from an authority by ACME (RFC 8555), which are proved at this server's own listener by TLS-ALPN-01
//! (RFC 8737): there is no second port and no other program.
//!
//! ```text
//! due? ──▶ account ──▶ order ──▶ proof shown to the authority ──▶ certificate ──▶ acme.pem ──▶ shown to all
//!   ▲         │ any failure: the certificate that is there stays, and it is tried again, later each time
//!   └─────────┘
//! ```
//!
//! Chain and key are one file of the data folder, so that they change together; the account's key is another. Absent:
//! HTTP-01 and DNS-01, wildcards and addresses, which this kind of proof is not for, and revocation.

mod http;
mod settings;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use crate::acme::settings::AcmeSettings;
pub use crate::acme::state::Failure;

use crate::acme::http::Http;
use crate::acme::state::State;
use crate::app::App;
use crate::config::{Config, Tls, TlsFiles};
use crate::jobs::own_event;
use crate::tls::{self, Certificates, TlsError};

/// The protocol that an authority names when it looks for a proof.
pub(crate) const ALPN: &[u8] = b"acme-tls/1";
/// Chain and key.
const FILE: &str = "acme.pem";
/// How often it is looked whether a certificate is due.
const EVERY: Duration = Duration::from_secs(30);
/// How long after a failure it is tried again, at first and at most: authorities count failures by the hour.
const WAIT: Duration = Duration::from_secs(60);
const MOST_WAIT: Duration = Duration::from_secs(4 * 3600);
/// How long the authority may take to look for the proofs, and to make the certificate.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// TLS is not by ACME.
    #[error("the settings take no certificate by ACME")]
    Off,
    /// The authority, or the way to it.
    #[error("the authority {directory}: {error}")]
    Authority {
        /// Its directory.
        directory: String,
        /// What happened.
        error: instant_acme::Error,
    },
    /// The authority knows no proof that this server can give.
    #[error("the authority offers no tls-alpn-01 for {0}")]
    NoChallenge(String),
    /// The authority did not find the proof.
    #[error("the authority does not believe that {name} is this server: {why}. It must reach port 443 of it")]
    Refused {
        /// The name.
        name: String,
        /// What it says.
        why: String,
    },
    /// What came is no certificate for the key.
    #[error("what the authority sent cannot be used: {0}")]
    Certificate(#[from] TlsError),
    /// Its request or proof cannot be made.
    #[error("a certificate request cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// A file of the data folder.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: std::io::Error,
    },
}

/// Where chain and key are.
pub(crate) fn files(data: &Path) -> TlsFiles {
    TlsFiles { certificate: data.join(FILE), key: data.join(FILE) }
}

/// What went wrong at the last attempt, if that failed.
#[must_use]
pub fn last_failure(data: &Path) -> Option<Failure> {
    State::read(data).failure
}

/// Takes certificates as they become due, until the server stops.
pub(crate) async fn keep(app: Arc<App>, stop: CancellationToken) {
    let mut wait = WAIT;
    loop {
        let mut pause = EVERY;
        if is_due(&app) {
            let renewed = tokio::select! {
                renewed = renew(&app) => renewed,
                () = stop.cancelled() => return,
            };
            // One that is due as soon as it came, by a clock that is wrong, is asked for no more often than none.
            if renewed.is_ok() && !is_due(&app) {
                wait = WAIT;
            } else {
                pause = wait;
                wait = wait.saturating_mul(2).min(MOST_WAIT);
            }
        }
        let until = app.now().mono.after(pause);
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.clock().wait(until) => {}
        }
    }
}

/// Whether there is no certificate, one for other names, or one whose last third has begun.
fn is_due(app: &App) -> bool {
    let config = app.config();
    let (Tls::Acme(settings), Some(shown)) = (&config.tls, &app.certificates) else { return false };
    let Some((begins, ends)) = shown.validity() else { return true };
    let (now, third) = (app.now().wall, ends.since(begins) / 3);
    ends.since(now) <= third || State::read(&config.data).names != settings.names
}

/// Takes a new certificate now, and shows it. What happened is said in the server's log, in the log of calls, and counted.
///
/// # Errors
/// [`AcmeError`]; then the certificate stays that was shown before.
pub async fn renew(app: &App) -> Result<(), AcmeError> {
    let (config, now) = (app.config(), app.now().wall);
    let (Tls::Acme(settings), Some(shown)) = (&config.tls, &app.certificates) else { return Err(AcmeError::Off) };
    let taken = take(&config, settings, shown).await;
    match &taken {
        Ok(()) => {
            tracing::info!(names = ?settings.names, ends = ?shown.validity().map(|(_, ends)| ends), "a new certificate is shown");
        }
        Err(error) => {
            app.metrics.acme_failures.inc();
            tracing::warn!(%error, "no new certificate; the one that is there stays");
            let mut state = State::read(&config.data);
            state.failure = Some(Failure { at: now, why: error.to_string() });
            if let Err(error) = state.write(&config.data) {
                tracing::warn!(%error, "why there is no new certificate is not written down");
            }
        }
    }
    let said = match &taken {
        Ok(()) => json!({ "names": settings.names, "ends": shown.ends().map(|ends| ends.to_string()) }),
        Err(error) => json!({ "names": settings.names, "failed": error.to_string() }),
    };
    let noted = match own_event(app, ("certificateservice:renew", "TLS certificate"), said.to_string()) {
        Ok(event) => app.store.add_user_event(event, now).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        tracing::error!(%error, "what became of the certificate is not in the log");
    }
    taken
}

async fn take(config: &Config, settings: &AcmeSettings, shown: &Certificates) -> Result<(), AcmeError> {
    let authority = |error| AcmeError::Authority { directory: settings.acme.to_string(), error };
    let account = account(config, settings).await?;
    let names: Vec<_> = settings.names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await.map_err(authority)?;
    let proofs = Proofs(shown);
    prove(&mut order, &proofs, settings).await?;
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) | Err(instant_acme::Error::Api(_)) => return Err(refused(&mut order, settings).await),
        Err(error) => return Err(authority(error)),
    }
    drop(proofs);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(settings.names.clone())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    order.finalize_csr(request.der()).await.map_err(authority)?;
    let chain = order.poll_certificate(&PATIENCE).await.map_err(authority)?;
    let files = files(&config.data);
    put(&files, &format!("{}\n{}", chain.trim_end(), key.serialize_pem()))?;
    let mut state = State::read(&config.data);
    (state.names, state.failure) = (settings.names.clone(), None);
    state.write(&config.data)?;
    Ok(shown.read_again(&files)?)
}

/// The account of this server at the authority; a new one where there is none.
async fn account(config: &Config, settings: &AcmeSettings) -> Result<Account, AcmeError> {
    let directory = settings.acme.to_string();
    let authority = |error| AcmeError::Authority { directory: directory.clone(), error };
    let http = Http::new(settings.ca.as_deref())?;
    let builder = Account::builder_with_http(Box::new(http));
    let mut state = State::read(&config.data);
    if let Some(credentials) = state.account(&directory) {
        return builder.from_credentials(credentials).await.map_err(authority);
    }
    let contact: Vec<_> = settings.contact.iter().map(|address| format!("mailto:{address}")).collect();
    let contact: Vec<_> = contact.iter().map(String::as_str).collect();
    let new =
        NewAccount { contact: &contact, terms_of_service_agreed: settings.accept_terms, only_return_existing: false };
    let made = builder.create(&new, directory.clone(), None).await;
    let (account, credentials) = made.map_err(authority)?;
    state.set_account(directory, &credentials);
    state.write(&config.data)?;
    Ok(account)
}

/// What is shown to the authority, until it is dropped.
struct Proofs<'a>(&'a Certificates);

impl Drop for Proofs<'_> {
    fn drop(&mut self) {
        self.0.prove_nothing();
    }
}

/// Shows a proof for each name that needs one, and asks the authority to look.
async fn prove(order: &mut Order, proofs: &Proofs<'_>, settings: &AcmeSettings) -> Result<(), AcmeError> {
    let authority = |error| AcmeError::Authority { directory: settings.acme.to_string(), error };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(authority)?;
        let name = authorization.identifier().to_string();
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or_else(|| AcmeError::NoChallenge(name.clone()))?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.clone()])?;
        params.custom_extensions =
            vec![CustomExtension::new_acme_identifier(challenge.key_authorization().digest().as_ref())];
        let proof = params.self_signed(&key)?;
        proofs.0.prove(&name, tls::certified(proof.der().clone(), &key)?);
        challenge.set_ready().await.map_err(authority)?;
    }
    Ok(())
}

/// What the authority says of the first name that it does not believe.
async fn refused(order: &mut Order, settings: &AcmeSettings) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        // As it is now: what the order knows of it is from before the authority looked.
        let Ok(state) = authorization.refresh().await else { continue };
        let error = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = error {
            return AcmeError::Refused { name, why: problem.to_string() };
        }
    }
    AcmeError::Refused { name: settings.names.join(", "), why: "it does not say why".to_owned() }
}

/// Puts chain and key in their place, whole or not at all.
fn put(files: &TlsFiles, text: &str) -> Result<(), AcmeError> {
    let draft = files.certificate.with_extension("new");
    state::write_over(&draft, text.as_bytes())?;
    // What cannot be shown does not take the place of what is.
    tls::ends(&TlsFiles { certificate: draft.clone(), key: draft.clone() })?;
    let at = |error| AcmeError::File { path: files.certificate.clone(), error };
    std::fs::rename(&draft, &files.certificate).map_err(at)
}
