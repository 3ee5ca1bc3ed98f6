//! Logging in as a service account: the program signs its own token, by a key whose public half its owner publishes, and
//! gives a code of a secret that the server shares with it. No browser, no refresh: it logs in again.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bz_core::api::Bytes;
use bz_core::api::error::Code;
use bz_core::api::login::Registered;
use bz_core::api::service_account::LoginServiceAccount;
use bz_core::cert::{CertRequest, DEFAULT_MAX_AGE};
use bz_core::id::{LoginId, OrganizationId};
use bz_core::key::PrivateKey;
use bz_core::oidc::Person;
use bz_core::oidc::service;
use bz_core::time::UnixTime;
use bz_core::totp::{STEP_SECONDS, TotpSecret};
use bz_protocol::driver::{Clock, sleep_until};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::clock;
use crate::login::{Login, LoginError, honest};
use crate::rest::{Caller, Rest, RestError};
use crate::secret::Secret;
use crate::server::Server;
use crate::trust::Trust;

/// Where Google publishes the keys of its service accounts, before the account's address.
const GOOGLE: &str = "https://www.googleapis.com/service_accounts/v1/jwk/";
/// How often a code that another job of the account gave first is followed by the next one.
const TRIES: u32 = 10;

/// What a service account proves itself with: the first root.
#[derive(Clone)]
pub struct ServiceIdentity {
    /// What people and logs call it.
    pub email: String,
    /// The subject of its tokens.
    pub external_id: String,
    /// The id of its key in the key set.
    pub key_id: String,
    /// Where the key set is.
    pub jwks_url: String,
    /// The pattern that agents' owners pin.
    pub jwks_url_pattern: String,
    key: Secret,
}

impl std::fmt::Debug for ServiceIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceIdentity").field("email", &self.email).finish_non_exhaustive()
    }
}

/// The text holds no credentials of a service account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Not the JSON of such a file.
    #[error("these are no credentials of a service account: {0}")]
    Malformed(String),
    /// A key that cannot sign.
    #[error("the credentials' private_key is no PKCS #8 key for RS256, ES256 or EdDSA, as PEM")]
    Key,
}

/// The file as providers give it; a generic one names its key set.
#[derive(Deserialize)]
struct File {
    client_id: String,
    client_email: String,
    private_key_id: String,
    private_key: String,
    #[serde(default, rename = "jwksURL")]
    jwks_url: Option<String>,
    #[serde(default, rename = "jwksURLPattern")]
    jwks_url_pattern: Option<String>,
}

impl ServiceIdentity {
    /// Reads a provider's credentials: Google's as it gives them, any other's with `jwksURL` and `jwksURLPattern`.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn parse(json: &str) -> Result<Self, CredentialsError> {
        let file: File = serde_json::from_str(json).map_err(|e| CredentialsError::Malformed(e.to_string()))?;
        let domain = file.client_email.split_once('@').map(|(_, domain)| domain.to_owned());
        let (url, pattern) = match (file.jwks_url, file.jwks_url_pattern, domain) {
            (Some(url), Some(pattern), _) => (url, pattern),
            (Some(url), None, _) => (url.clone(), url),
            (None, _, Some(domain)) => (format!("{GOOGLE}{}", file.client_email), format!("{GOOGLE}*@{domain}")),
            (None, _, None) => return Err(CredentialsError::Malformed("client_email is no address".to_owned())),
        };
        let key = Secret::new(file.private_key);
        Signer::of(&key)?;
        Ok(Self {
            email: file.client_email,
            external_id: file.client_id,
            key_id: file.private_key_id,
            jwks_url: url,
            jwks_url_pattern: pattern,
            key,
        })
    }

    /// A token that the account signs for one client key.
    fn token(&self, organization: OrganizationId, nonce: &str, now: UnixTime) -> Result<String, CredentialsError> {
        let signer = Signer::of(&self.key)?;
        let header = json!({"alg": signer.name(), "kid": self.key_id, "typ": "JWT", "jku": self.jwks_url});
        let claims = json!({
            "iss": service::issuer(&self.jwks_url),
            "sub": self.external_id,
            "azp": service::audience(organization),
            "aud": service::audience(organization),
            "email": self.email,
            service::ORGANIZATION: organization.to_string(),
            "iat": now.as_secs(),
            "exp": now.after(DEFAULT_MAX_AGE).as_secs(),
            "nonce": nonce,
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = signer.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

enum Signer {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn of(pem: &Secret) -> Result<Self, CredentialsError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.reveal().as_bytes()).map_err(|_| CredentialsError::Key)?;
        let der = der.secret_pkcs8_der();
        let ecdsa = || EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
        RsaKeyPair::from_pkcs8(der)
            .map(Self::Rsa)
            .or_else(|_| ecdsa().map(Self::Ecdsa))
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self::Ed25519))
            .map_err(|_| CredentialsError::Key)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ecdsa(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, CredentialsError> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).map_err(|_| CredentialsError::Key)?;
                Ok(signature)
            }
            Self::Ecdsa(key) => Ok(key.sign(&random, bytes).map_err(|_| CredentialsError::Key)?.as_ref().to_vec()),
            Self::Ed25519(key) => Ok(key.sign(bytes).as_ref().to_vec()),
        }
    }
}

impl Login {
    /// Logs a service account in: its own signature, and a code of the secret that the server gave when it was made.
    ///
    /// Where another job of the account gave the same code first, this waits for the next one.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn begin_service_account(
        server: &Server,
        trust: &Trust,
        (identity, secret): (&ServiceIdentity, &TotpSecret),
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, LoginError> {
        let organization = trust.bundle().organization;
        let key = PrivateKey::from_seed(&clock::random()?)?;
        let request = CertRequest::new(organization, &key, clock::random()?);
        let rest = Rest::new(server)?.with_clock(clock);
        let started_at = clock.now().wall;
        let token = identity.token(organization, &request.commitment(), started_at)?;
        let certificate = request.certificate(&token, &token)?;
        let caller = Caller { login: LoginId::from_random(clock::random()?), key: key.clone() };
        let registered = register(&rest, &caller, (&certificate, secret), clock).await?;
        let person = Person { issuer: service::issuer(&identity.jwks_url), subject: identity.external_id.clone() };
        honest(&registered, organization, &person)?;
        let token_expires_at = started_at.after(DEFAULT_MAX_AGE);
        Ok(Self {
            id: caller.login,
            organization,
            issuer: person.issuer,
            key,
            request,
            initial: Secret::new(token.clone()),
            current: Secret::new(token),
            refresh: None,
            token_source: None,
            started_at,
            obtained_at: clock.now().wall,
            token_expires_at,
            expires_at: registered.expires_at.min(token_expires_at),
            user: registered.user,
            mfa: registered.mfa_action_required,
            issuer_keys: None,
        })
    }
}

async fn register(
    rest: &Rest,
    caller: &Caller,
    (certificate, secret): (&[u8], &TotpSecret),
    clock: &Arc<dyn Clock>,
) -> Result<Registered, RestError> {
    let mut tries = 0;
    loop {
        let step = bz_core::totp::step(clock.now().wall);
        let passcode = Zeroizing::new(secret.code(step));
        let body =
            LoginServiceAccount { certificate: Bytes(certificate.to_vec()), totp_passcode: passcode.to_string() };
        tries += 1;
        match rest.post(caller, "service-accounts/login", &body).await {
            Err(error) if error.code() == Some(Code::MfaUsed) && tries < TRIES => {}
            other => return other,
        }
        let next = UnixTime::from_secs((step + 1) * STEP_SECONDS);
        let wait = next.since(clock.now().wall).saturating_add(Duration::from_millis(10));
        sleep_until(clock.as_ref(), Some(clock.now().mono.after(wait))).await;
    }
}
