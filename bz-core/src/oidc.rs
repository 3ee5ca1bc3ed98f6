//! ID tokens: signature, issuer, audience, organization and times, as a pure function of (token, keys, provider, now).
//!
//! Signatures are checked by `openidconnect`'s key types; the rules about claims are ours, because they are stricter
//! than the standard's and decide who a person is.
//!
//! Absent: discovery, fetching keys, the login itself.

pub mod jwks;
pub mod provider;
pub mod service;
pub mod workload;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::json;
use crate::oidc::jwks::{Algorithm, Jwks};
use crate::oidc::provider::{Address, Commitment, Provider, ProviderKind};
use crate::oidc::workload::Workload;
use crate::time::UnixTime;

/// The most bytes a token may have.
pub const MAX_TOKEN: usize = 16 << 10;
/// How far the issuer's clock and ours may differ.
pub const SKEW: Duration = Duration::from_secs(60);

/// What the audience of a job's token begins with.
pub(crate) const JOB: &str = "bz1:";

const MAX_AUDIENCES: usize = 16;
const MAX_GROUPS: usize = 1024;
const MAX_TEXT: usize = 512;

/// Why a token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Larger than [`MAX_TOKEN`].
    #[error("the token is too large")]
    TooLarge,
    /// Not a compact JWS with the claims an ID token has.
    #[error("the token is malformed")]
    Malformed,
    /// Signed with an algorithm that is not RS256, ES256 or `EdDSA`.
    #[error("the token's algorithm is not allowed")]
    Algorithm,
    /// No key of the issuer has the token's key id.
    #[error("the token is signed by a key the issuer does not publish")]
    UnknownKey,
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    Signature,
    /// Another issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// Not made for this client.
    #[error("the token is made for another audience")]
    Audience,
    /// Made for this audience, but given to another party.
    #[error("the token was given to another party (azp)")]
    AuthorizedParty,
    /// Of another organization, or of none.
    #[error("the token is of another organization")]
    Organization,
    /// Of a job that no pinned row means.
    #[error("the token is of a job that the trust bundle does not mean: compare its claims with `workloads` there")]
    Workload,
    /// Past its `exp`.
    #[error("the token has expired")]
    Expired,
    /// Issued in the future, beyond [`SKEW`].
    #[error("the token is issued in the future: check the clock")]
    Future,
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who this is, for ever: issuer and subject.
    pub person: Person,
    /// The `nonce`, where there is one.
    pub nonce: Option<String>,
    /// When it was issued.
    pub issued_at: UnixTime,
    /// When it ends.
    pub expires_at: UnixTime,
    /// An address the organization controls, where the provider gives one.
    pub address: Option<Address>,
    /// The name to show. Proves nothing.
    pub name: Option<String>,
    /// The groups claim, where the provider sends one.
    pub groups: Vec<String>,
    /// What the provider's own directory calls the person, where the token says it.
    pub directory_id: Option<String>,
    /// RFC 7638 thumbprint of the key that verified the token.
    pub key: Digest,
    /// SHA-256 of the token.
    pub digest: Digest,
}

/// A person as the identity provider knows them: never reassigned, unlike an address.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    bincode::Encode,
    bincode::Decode,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Person {
    /// The issuer.
    pub issuer: String,
    /// The subject.
    pub subject: String,
}

/// Whether `exp` is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It must not have passed.
    Checked,
    /// The caller bounds the age by `iat` instead.
    ByAge,
}

/// The audience a token must be made for.
#[derive(Debug, Clone, Copy)]
pub enum Audience<'a> {
    /// One of the provider's client ids.
    Client,
    /// Exactly this text: the commitment of a CI job.
    Exactly(&'a str),
}

/// Checks one token.
///
/// # Errors
/// The first rule of [`TokenError`] that it breaks; [`TokenError::UnknownKey`] is worth fetching keys anew.
pub fn verify(
    token: &str,
    (jwks, provider): (&Jwks, &Provider),
    audience: Audience<'_>,
    expiry: Expiry,
    now: UnixTime,
) -> Result<Claims, TokenError> {
    let parts = Parts::split(token)?;
    let key = jwks.check(parts.algorithm, parts.key_id.as_deref(), parts.signed.as_bytes(), &parts.signature)?;
    let claims = json::object(&parts.payload).ok_or(TokenError::Malformed)?;
    if text(&claims, "iss")? != provider.issuer {
        return Err(TokenError::Issuer);
    }
    check_audience(&claims, provider, audience)?;
    if !provider.owns(&claims) {
        return Err(TokenError::Organization);
    }
    let (issued_at, expires_at) = (seconds(&claims, "iat")?, seconds(&claims, "exp")?);
    if expires_at <= issued_at {
        return Err(TokenError::Malformed);
    }
    if issued_at > now.after(SKEW) {
        return Err(TokenError::Future);
    }
    if expiry == Expiry::Checked && now >= expires_at.after(SKEW) {
        return Err(TokenError::Expired);
    }
    let said = text(&claims, "sub")?;
    let subject = provider.subject(said, &claims).ok_or(TokenError::Workload)?;
    let name = optional(&claims, "name").unwrap_or_default();
    Ok(Claims {
        person: Person { issuer: provider.issuer.clone(), subject },
        nonce: optional(&claims, "nonce")?,
        issued_at,
        expires_at,
        address: provider.address(&claims),
        name: provider.name(said, name),
        groups: groups(&claims, provider)?,
        directory_id: optional(&claims, provider.kind.row().directory).unwrap_or_default(),
        key,
        digest: Digest::of(token.as_bytes()),
    })
}

/// The issuer a token claims, before anything is verified: for finding its provider and nothing else.
#[must_use]
pub fn claimed_issuer(token: &str) -> Option<String> {
    let claims = json::object(&Parts::split(token).ok()?.payload)?;
    text(&claims, "iss").ok().map(str::to_owned)
}

/// Who a token of this provider claims to be of, before its signature is verified: for saying early what is wrong with it,
/// and for comparing what others say, and nothing else.
///
/// # Errors
/// The first rule of [`TokenError`] about who somebody is that it breaks.
pub fn claimed_person(token: &str, provider: &Provider) -> Result<Person, TokenError> {
    let claims = json::object(&Parts::split(token)?.payload).ok_or(TokenError::Malformed)?;
    if text(&claims, "iss")? != provider.issuer {
        return Err(TokenError::Issuer);
    }
    if !provider.owns(&claims) {
        return Err(TokenError::Organization);
    }
    let subject = provider.subject(text(&claims, "sub")?, &claims).ok_or(TokenError::Workload)?;
    Ok(Person { issuer: provider.issuer.clone(), subject })
}

/// Whether a token says that it is a job's, before anything is verified.
pub(crate) fn claimed_commitment(token: &str) -> Option<Commitment> {
    let claims = json::object(&Parts::split(token).ok()?.payload)?;
    let of_job = |audience: &str| audience.starts_with(JOB);
    let is_job = match claims.get("aud")? {
        Value::String(one) => of_job(one),
        Value::Array(many) => many.iter().filter_map(Value::as_str).any(of_job),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    Some(if is_job { Commitment::Audience } else { Commitment::Nonce })
}

/// When a token says that it ends, before anything is verified.
pub(crate) fn claimed_end(token: &str) -> Option<UnixTime> {
    seconds(&json::object(&Parts::split(token).ok()?.payload)?, "exp").ok()
}

/// The thumbprint of the key in a set that signed a token, and nothing else about it.
pub(crate) fn signed_by(token: &str, jwks: &Jwks) -> Option<Digest> {
    let parts = Parts::split(token).ok()?;
    jwks.check(parts.algorithm, parts.key_id.as_deref(), parts.signed.as_bytes(), &parts.signature).ok()
}

/// A provider as a token itself claims it, and of a job the row that somebody else's word for its subject is: for checks
/// that hold no pins and say so.
pub(crate) fn claimed_provider(token: &str, subject: &str) -> Option<Provider> {
    let claims = json::object(&Parts::split(token).ok()?.payload)?;
    let audiences: Vec<String> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) if many.len() <= MAX_AUDIENCES => {
            many.iter().map(|a| a.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let of_job = audiences.iter().any(|a| a.starts_with(JOB));
    Some(Provider {
        kind: ProviderKind::Oidc,
        issuer: text(&claims, "iss").ok()?.to_owned(),
        audiences: if of_job { Vec::new() } else { audiences },
        organization: None,
        organization_is_issuer: true,
        domains: Vec::new(),
        commitment: if of_job { Commitment::Audience } else { Commitment::Nonce },
        workloads: if of_job { vec![Workload::of_subject(subject)?] } else { Vec::new() },
        groups_claim: None,
    })
}

struct Parts<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let header = json::object(&decode(header)?).ok_or(TokenError::Malformed)?;
        // RFC 7515, 4.1.11: who does not know a critical header must refuse; we know none.
        if header.contains_key("crit") {
            return Err(TokenError::Malformed);
        }
        let algorithm = Algorithm::parse(text(&header, "alg")?).ok_or(TokenError::Algorithm)?;
        let key_id = optional(&header, "kid")?;
        Ok(Self { algorithm, key_id, signed, payload: decode(payload)?, signature: decode(signature)? })
    }
}

fn check_audience(claims: &Map<String, Value>, provider: &Provider, wanted: Audience<'_>) -> Result<(), TokenError> {
    let audiences = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) if many.len() <= MAX_AUDIENCES => {
            many.iter().map(Value::as_str).collect::<Option<_>>().ok_or(TokenError::Malformed)?
        }
        _ => return Err(TokenError::Malformed),
    };
    let ours = |audience: &str| match wanted {
        Audience::Client => provider.audiences.iter().any(|a| a == audience),
        Audience::Exactly(text) => text == audience,
    };
    // Every audience must be one of ours: a token shared with a stranger is the stranger's to use.
    if audiences.is_empty() || !audiences.iter().all(|a| ours(a)) {
        return Err(TokenError::Audience);
    }
    match (claims.get("azp"), wanted) {
        (None, _) | (Some(_), Audience::Exactly(_)) => Ok(()),
        (Some(Value::String(party)), Audience::Client) if ours(party) => Ok(()),
        (Some(_), Audience::Client) => Err(TokenError::AuthorizedParty),
    }
}

fn groups(claims: &Map<String, Value>, provider: &Provider) -> Result<Vec<String>, TokenError> {
    let Some(name) = provider.groups_claim() else { return Ok(Vec::new()) };
    match claims.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(many)) if many.len() <= MAX_GROUPS => many
            .iter()
            .map(|group| group.as_str().filter(|g| g.len() <= MAX_TEXT).map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or(TokenError::Malformed),
        Some(_) => Err(TokenError::Malformed),
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<&'a str, TokenError> {
    let text = claims.get(name).and_then(Value::as_str).ok_or(TokenError::Malformed)?;
    if text.is_empty() || text.len() > MAX_TEXT { Err(TokenError::Malformed) } else { Ok(text) }
}

fn optional(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, TokenError> {
    if claims.contains_key(name) { text(claims, name).map(|t| Some(t.to_owned())) } else { Ok(None) }
}

fn seconds(claims: &Map<String, Value>, name: &str) -> Result<UnixTime, TokenError> {
    claims.get(name).and_then(Value::as_u64).map(UnixTime::from_secs).ok_or(TokenError::Malformed)
}
