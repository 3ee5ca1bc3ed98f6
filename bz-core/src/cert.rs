//! `BzCert`: an ID token bound to the client's key.
//!
//! The commitment, a hash of the client's key, a random and a proof of possession, is the `nonce` of the login's ID token
//! (or the audience of a CI job's), so the identity provider signs it without knowing. Later tokens of the same person
//! keep the certificate alive up to the maximum age that the agent's owner chose.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bincode::{Decode, Encode};

use crate::digest::{Digest, Label};
use crate::id::OrganizationId;
use crate::key::{PrivateKey, PublicKey, Signature};
use crate::oidc::jwks::Jwks;
use crate::oidc::provider::{Commitment, Provider};
use crate::oidc::{self, Audience, Claims, Expiry, TokenError};
use crate::time::UnixTime;
use crate::wire::{self, WireError};

/// The most bytes a certificate may have: two tokens and the rest.
pub const MAX_CERT: usize = 2 * oidc::MAX_TOKEN + 1024;
/// How long after it was issued a job's current token counts at most, whatever it says itself.
pub const MAX_JOB_TOKEN: Duration = Duration::from_secs(3600);
/// How long after the login a certificate may be used, unless the agent's owner says otherwise.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

const VERSION: u16 = 1;
/// ECDSA on P-256 with SHA-256, the only algorithm yet.
const ALGORITHM: u16 = 1;

/// Why a certificate proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// Not an encoding of a certificate.
    #[error("the certificate is {0}")]
    Wire(#[from] WireError),
    /// A version or algorithm this program does not know.
    #[error("the certificate has a version or algorithm this program does not know")]
    Version,
    /// Of another organization.
    #[error("the certificate is of another organization")]
    Organization,
    /// The initial token proves nothing.
    #[error("the login's token is refused: {0}")]
    Initial(TokenError),
    /// The current token proves nothing.
    #[error("the current token is refused: {0}")]
    Current(TokenError),
    /// The initial token commits to another key, random or proof.
    #[error("the login's token is bound to another key")]
    Commitment,
    /// The proof of possession is another key's.
    #[error("the proof of possession does not verify")]
    Proof,
    /// The two tokens are of different people.
    #[error("the current token is of another person than the login's")]
    OtherPerson,
    /// The login is longer ago than the owner of the agent allows.
    #[error("the login is too old: log in again")]
    TooOld,
    /// Older than a token already accepted for this certificate.
    #[error("an older token than one already used")]
    Older,
}

/// A check that passed: the only way to a certificate's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A client's certificate, as verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BzCert {
    client_key: PublicKey,
    claims: Claims,
    initial: VerifiedInitial,
    digest: Digest,
    expires_at: UnixTime,
    login_ends: UnixTime,
}

impl BzCert {
    /// The client's session key.
    #[must_use]
    pub const fn client_key(&self) -> PublicKey {
        self.client_key
    }

    /// What the current token says.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The initial token's verification, to be kept for [`CertCheck::known_initial`].
    #[must_use]
    pub const fn initial(&self) -> &VerifiedInitial {
        &self.initial
    }

    /// SHA-256 of the certificate as received: what a `Syn` names.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// When it ends: at the current token's `exp` and [`oidc::SKEW`], or the maximum age, whichever is earlier.
    #[must_use]
    pub const fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    /// When the maximum age ends, which no refreshed token extends.
    #[must_use]
    pub const fn login_ends(&self) -> UnixTime {
        self.login_ends
    }
}

/// An initial token that was verified once; it stays good by its hash until the maximum age, even when the issuer has
/// since withdrawn the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedInitial {
    claims: Claims,
    commitment: String,
}

impl VerifiedInitial {
    /// SHA-256 of the token.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.claims.digest
    }

    /// The thumbprint of the key that signed it.
    #[must_use]
    pub const fn key(&self) -> Digest {
        self.claims.key
    }
}

/// What a certificate is checked against.
#[derive(Debug, Clone, Copy)]
pub struct CertCheck<'a> {
    /// The pinned organization.
    pub organization: OrganizationId,
    /// The pinned provider, found by [`crate::trust::TrustBundle::provider_of`].
    pub provider: &'a Provider,
    /// The issuer's keys.
    pub jwks: &'a Jwks,
    /// How long after the login the certificate may be used.
    pub max_age: Duration,
    /// An earlier verification of the initial token, where one is kept.
    pub known_initial: Option<&'a VerifiedInitial>,
    /// The `iat` of the last current token accepted for this certificate.
    pub not_older_than: Option<UnixTime>,
    /// The wall clock.
    pub now: UnixTime,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode)]
struct Body {
    label: String,
    version: u16,
    organization: OrganizationId,
    initial_token: String,
    current_token: String,
    client_key: PublicKey,
    algorithm: u16,
    random: [u8; 32],
    proof: Signature,
}

/// The client's half of a certificate, made before the login: what the token must commit to.
#[derive(Clone)]
pub struct CertRequest {
    organization: OrganizationId,
    client_key: PublicKey,
    random: [u8; 32],
    proof: Signature,
}

impl CertRequest {
    /// Binds `key` and 32 random bytes.
    #[must_use]
    pub fn new(organization: OrganizationId, key: &PrivateKey, random: [u8; 32]) -> Self {
        let client_key = key.public();
        let proof = key.sign(Label::CertProof, &proof_bytes(organization, &client_key, &random));
        Self { organization, client_key, random, proof }
    }

    /// The commitment: the `nonce` of the login.
    #[must_use]
    pub fn commitment(&self) -> String {
        commitment(self.organization, &self.client_key, &self.random, &self.proof)
    }

    /// The audience of a CI job's token: `bz1:<organization>:<commitment>`.
    #[must_use]
    pub fn audience(&self) -> String {
        audience(self.organization, &self.commitment())
    }

    /// The certificate with these tokens; after the login both are the same.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when the tokens are.
    pub fn certificate(&self, initial_token: &str, current_token: &str) -> Result<Vec<u8>, WireError> {
        let body = Body {
            label: Label::CertCommitment.as_str().to_owned(),
            version: VERSION,
            organization: self.organization,
            initial_token: initial_token.to_owned(),
            current_token: current_token.to_owned(),
            client_key: self.client_key,
            algorithm: ALGORITHM,
            random: self.random,
            proof: self.proof,
        };
        wire::encode(&body, MAX_CERT)
    }

    /// The random and the proof, for the profile that keeps a login over several runs.
    #[must_use]
    pub const fn parts(&self) -> ([u8; 32], Signature) {
        (self.random, self.proof)
    }
}

impl fmt::Debug for CertRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertRequest").field("client_key", &self.client_key).finish_non_exhaustive()
    }
}

impl BzCert {
    /// The issuer that a certificate claims, before anything is verified: for finding its provider and nothing else.
    #[must_use]
    pub fn claimed_issuer(bytes: &[u8]) -> Option<String> {
        let body: Body = wire::decode(bytes, MAX_CERT).ok()?;
        oidc::claimed_issuer(&body.current_token)
    }

    /// Where a certificate claims to be committed to, before anything is verified: for finding its provider and nothing
    /// else.
    #[must_use]
    pub fn claimed_commitment(bytes: &[u8]) -> Option<Commitment> {
        let body: Body = wire::decode(bytes, MAX_CERT).ok()?;
        oidc::claimed_commitment(&body.current_token)
    }

    /// The client key that a certificate claims, before anything is verified: for finding what is kept of it.
    #[must_use]
    pub fn claimed_client_key(bytes: &[u8]) -> Option<PublicKey> {
        wire::decode::<Body>(bytes, MAX_CERT).ok().map(|body| body.client_key)
    }

    /// Which keys of a set signed the initial and the current token: for finding what a transcript must hold, and
    /// nothing else.
    #[must_use]
    pub fn signed_by(bytes: &[u8], jwks: &Jwks) -> Option<(Digest, Digest)> {
        let body: Body = wire::decode(bytes, MAX_CERT).ok()?;
        Some((oidc::signed_by(&body.initial_token, jwks)?, oidc::signed_by(&body.current_token, jwks)?))
    }

    /// When the later of both tokens ends, before anything is verified: how long a stored certificate is a secret.
    #[must_use]
    pub fn claimed_end(bytes: &[u8]) -> Option<UnixTime> {
        let body: Body = wire::decode(bytes, MAX_CERT).ok()?;
        Some(oidc::claimed_end(&body.initial_token)?.max(oidc::claimed_end(&body.current_token)?))
    }

    /// A provider as the certificate itself claims it, and a job's subject as the grant does: for checks that hold no
    /// pins, and say so.
    #[must_use]
    pub fn claimed_provider(bytes: &[u8], subject: &str) -> Option<Provider> {
        let body: Body = wire::decode(bytes, MAX_CERT).ok()?;
        oidc::claimed_provider(&body.current_token, subject)
    }

    /// Verifies a certificate.
    ///
    /// # Errors
    /// The first rule of [`CertError`] it breaks.
    pub fn verify(bytes: &[u8], check: &CertCheck<'_>) -> Result<Verified<Self>, CertError> {
        let body: Body = wire::decode(bytes, MAX_CERT)?;
        if body.label != Label::CertCommitment.as_str() || body.version != VERSION || body.algorithm != ALGORITHM {
            return Err(CertError::Version);
        }
        if body.organization != check.organization {
            return Err(CertError::Organization);
        }
        let proof = proof_bytes(body.organization, &body.client_key, &body.random);
        body.client_key.verify(Label::CertProof, &proof, &body.proof).map_err(|_| CertError::Proof)?;
        let commitment = commitment(body.organization, &body.client_key, &body.random, &body.proof);
        let initial = body.initial(check, &commitment)?;
        let claims = body.current(check, &commitment, &initial)?;
        let login_ends = initial.claims.issued_at.after(check.max_age);
        Ok(Verified(Self {
            client_key: body.client_key,
            expires_at: login_ends.min(token_end(check.provider, &claims)),
            login_ends,
            claims,
            initial,
            digest: Digest::of(bytes),
        }))
    }
}

impl Body {
    fn initial(&self, check: &CertCheck<'_>, commitment: &str) -> Result<VerifiedInitial, CertError> {
        let digest = Digest::of(self.initial_token.as_bytes());
        let known = check.known_initial.filter(|known| known.digest() == digest && known.commitment == commitment);
        let claims = match known {
            Some(known) => known.claims.clone(),
            None => {
                let text = audience(self.organization, commitment);
                let audience = wanted(check.provider, &text);
                let keys = (check.jwks, check.provider);
                oidc::verify(&self.initial_token, keys, audience, Expiry::ByAge, check.now)
                    .map_err(CertError::Initial)?
            }
        };
        if check.provider.commitment == Commitment::Nonce && claims.nonce.as_deref() != Some(commitment) {
            return Err(CertError::Commitment);
        }
        if check.now >= claims.issued_at.after(check.max_age) {
            return Err(CertError::TooOld);
        }
        Ok(VerifiedInitial { claims, commitment: commitment.to_owned() })
    }

    fn current(&self, check: &CertCheck<'_>, commitment: &str, initial: &VerifiedInitial) -> Result<Claims, CertError> {
        let text = audience(self.organization, commitment);
        let audience = wanted(check.provider, &text);
        let keys = (check.jwks, check.provider);
        let claims = oidc::verify(&self.current_token, keys, audience, Expiry::Checked, check.now)
            .map_err(CertError::Current)?;
        if check.now >= token_end(check.provider, &claims) {
            return Err(CertError::Current(TokenError::Expired));
        }
        if claims.person != initial.claims.person {
            return Err(CertError::OtherPerson);
        }
        let oldest = check.not_older_than.map_or(initial.claims.issued_at, |last| last.max(initial.claims.issued_at));
        if claims.issued_at < oldest { Err(CertError::Older) } else { Ok(claims) }
    }
}

/// When a current token counts no longer.
fn token_end(provider: &Provider, claims: &Claims) -> UnixTime {
    let said = claims.expires_at.after(oidc::SKEW);
    match provider.commitment {
        Commitment::Nonce => said,
        Commitment::Audience => said.min(claims.issued_at.after(MAX_JOB_TOKEN).after(oidc::SKEW)),
    }
}

fn wanted<'a>(provider: &Provider, text: &'a str) -> Audience<'a> {
    match provider.commitment {
        Commitment::Nonce => Audience::Client,
        Commitment::Audience => Audience::Exactly(text),
    }
}

fn proof_bytes(organization: OrganizationId, key: &PublicKey, random: &[u8; 32]) -> Vec<u8> {
    [organization.as_bytes().as_slice(), &key.to_bytes(), &ALGORITHM.to_be_bytes(), random].concat()
}

fn commitment(organization: OrganizationId, key: &PublicKey, random: &[u8; 32], proof: &Signature) -> String {
    let parts: [&[u8]; 5] =
        [organization.as_bytes(), &key.to_bytes(), &ALGORITHM.to_be_bytes(), random, proof.as_bytes()];
    URL_SAFE_NO_PAD.encode(Digest::labelled(Label::CertCommitment, &parts).as_bytes())
}

fn audience(organization: OrganizationId, commitment: &str) -> String {
    format!("{}{organization}:{commitment}", oidc::JOB)
}
