//! The gate: where both roots of trust are checked, on the target, before anything happens.
//!
//! ```text
//! Opening ──admit──▶ Admission ──SynAck, first Data──▶ Confirmed ──consume──▶ Admitted
//! ```
//!
//! Each arrow is the only way to the next type, and a back end takes an [`Admitted`]. A replayed opening stops at
//! `Admission`: only the holder of the client's ephemeral key confirms, so a replay burns nothing and does nothing.
//!
//! Absent: fetching keys and reading the policy file; both are arguments.

mod cache;
mod scope;
mod used;

use std::time::Duration;

use bz_core::access::Verb;
use bz_core::access::request::{Request, RequestError};
use bz_core::cert::{BzCert, CertCheck, CertError, Verified};
use bz_core::digest::Digest;
use bz_core::grant::{Grant, GrantError, MAX_GRANT, Pins, SignedGrant};
use bz_core::id::{BootId, TargetId};
use bz_core::key::PublicKey;
use bz_core::local::{LocalDenial, LocalPolicy, Question};
use bz_core::oidc::TokenError;
use bz_core::oidc::jwks::Jwks;
use bz_core::signed::{ObjectError, Signed};
use bz_core::target::TargetUser;
use bz_core::time::{Mono, Now, UnixTime};
use bz_core::trust::TrustBundle;
use bz_core::wire;

use crate::gate::cache::Certificates;
pub use crate::gate::scope::Dialable;
use crate::gate::used::Used;
use crate::handshake::Syn;
use crate::limits::{LOGIN_WARNING, SUITES, VERSIONS};
use crate::packet::SynPacket;
use crate::refusal::Code;

/// What the host's owner allows.
#[derive(Debug, Clone)]
pub enum LocalRule {
    /// No file, and none required: the grant alone decides.
    Unrestricted,
    /// The file's rules.
    Policy(LocalPolicy),
    /// A file that is missing though required, malformed, or writable by others: everything is refused.
    RefuseAll(String),
}

/// An agent's pins and what it remembers of one start.
#[derive(Debug)]
pub struct Gate {
    /// The pinned anchors.
    pub bundle: TrustBundle,
    /// This agent's identity key.
    pub agent_key: PublicKey,
    /// The targets this agent acts for.
    pub targets: Vec<TargetId>,
    /// This start.
    pub boot: BootId,
    /// How long after a login it may be used.
    pub max_age: Duration,
    /// What the host's owner allows.
    pub local: LocalRule,
    /// A clock before this is wrong: when this program was built.
    pub built_at: UnixTime,
    certificates: Certificates,
    used: Used,
}

/// Why the gate refuses. Logged here; the peer hears only its [`Code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The wall clock is before the build date.
    #[error("the clock of this host is wrong: it is before this program was built")]
    Clock,
    /// No version or suite in common.
    #[error("the client speaks no version or suite that this agent speaks")]
    Version,
    /// The certificate came neither now nor before.
    #[error("the certificate is not known")]
    CertificateUnknown,
    /// The certificate beside the `Syn` is another than it names.
    #[error("the certificate is another than the one named")]
    CertificateMismatch,
    /// The issuer is not pinned.
    #[error("the certificate's issuer is not pinned here")]
    IssuerUnknown,
    /// The issuer's keys could not be had.
    #[error("the issuer's keys cannot be had")]
    KeysUnavailable,
    /// The certificate proves nothing.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// The `Syn` is not the certificate's key's.
    #[error("the opening message: {0}")]
    Syn(ObjectError),
    /// The `Syn` is for another agent.
    #[error("the opening message is for another agent")]
    OtherAgent,
    /// The request is no request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The grant proves nothing.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The grant is for something else.
    #[error("the grant is for another {0}")]
    GrantFor(&'static str),
    /// The grant was used.
    #[error("the grant was used before")]
    GrantUsed,
    /// Too many grants are remembered.
    #[error("too many grants in a short time")]
    GrantsFull,
    /// The target user does not follow from the identity.
    #[error("the target user does not follow from the person's identity")]
    User,
    /// A stream to somewhere the grant does not name.
    #[error("the grant does not allow this destination")]
    Destination,
    /// The host's owner says no.
    #[error(transparent)]
    Local(#[from] LocalDenial),
    /// The local policy cannot be used.
    #[error("everything is refused: {0}")]
    LocalUnusable(String),
    /// A re-authentication with another certificate.
    #[error("the newer certificate is not the session's")]
    OtherCertificate,
}

impl Denial {
    /// What the peer may hear.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Clock => Code::Clock,
            Self::Version | Self::Request(_) => Code::Malformed,
            Self::CertificateUnknown => Code::CertificateUnknown,
            Self::KeysUnavailable | Self::GrantsFull => Code::Unavailable,
            Self::CertificateMismatch
            | Self::IssuerUnknown
            | Self::Certificate(_)
            | Self::Syn(_)
            | Self::OtherCertificate => Code::Identity,
            Self::OtherAgent | Self::Grant(_) | Self::GrantFor(_) | Self::GrantUsed | Self::Destination => Code::Grant,
            Self::User => Code::User,
            Self::Local(_) | Self::LocalUnusable(_) => Code::LocalPolicy,
        }
    }

    /// Whether fetching the issuer's keys anew could help.
    #[must_use]
    pub const fn wants_fresh_keys(&self) -> bool {
        matches!(
            self,
            Self::KeysUnavailable
                | Self::Certificate(
                    CertError::Initial(TokenError::UnknownKey) | CertError::Current(TokenError::UnknownKey)
                )
        )
    }
}

/// A `Syn` as it came: nothing of it is verified.
#[derive(Debug, Clone)]
pub struct Opening(SynPacket);

impl Opening {
    pub(crate) const fn new(packet: SynPacket) -> Self {
        Self(packet)
    }

    /// Digest of the signed message: the same for a repetition of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.syn.digest()
    }

    /// The certificate beside it.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.0.certificate.as_deref()
    }
}

/// Both roots agree: certificate, grant, request and local policy were checked.
#[derive(Debug)]
pub struct Admission {
    pub(crate) syn: Signed<Syn>,
    pub(crate) body: Syn,
    pub(crate) certificate: Verified<BzCert>,
    grant: Grant,
    request: Request,
    pub(crate) ends: Ends,
    pub(crate) verified_at: UnixTime,
}

impl Admission {
    /// The mode, equal in request and grant.
    pub(crate) const fn mode(&self) -> bz_core::access::Mode {
        self.request.mode
    }

    /// The request, for looking up what it needs without doing any of it.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// Who, as the identity provider proved.
    #[must_use]
    pub fn identity(&self) -> &bz_core::oidc::Claims {
        self.certificate.claims()
    }
}

/// When a session ends: the login's end, which a newer token moves, and the cap, which nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    login: Instant,
    cap: Instant,
}

/// One instant on both clocks; whichever comes first counts, so a step back of the wall clock extends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instant {
    mono: Mono,
    wall: UnixTime,
}

impl Instant {
    fn at(wall: UnixTime, now: Now) -> Self {
        Self { mono: now.mono.after(wall.since(now.wall)), wall }
    }

    fn passed(self, now: Now) -> bool {
        now.mono >= self.mono || now.wall >= self.wall
    }
}

impl Ends {
    pub(crate) fn passed(self, now: Now) -> bool {
        self.login.passed(now) || self.cap.passed(now)
    }

    pub(crate) fn wall(self) -> UnixTime {
        self.login.wall.min(self.cap.wall)
    }

    pub(crate) fn wake(self) -> Mono {
        self.login.mono.min(self.cap.mono)
    }

    /// When to ask for a new login: not when it ends so soon anyway that the warning would come at once.
    pub(crate) fn warning(self, now: Now) -> Option<Mono> {
        let left = self.login.mono.since(now.mono).checked_sub(LOGIN_WARNING)?;
        (!left.is_zero()).then(|| now.mono.after(left))
    }

    /// A login's end only moves on: the same token again, under a wall clock that was set back, moves nothing.
    pub(crate) fn renewed(self, renewal: &Renewal) -> Self {
        if renewal.login.wall > self.login.wall { Self { login: renewal.login, ..self } } else { self }
    }
}

/// The client proved that it is there now: the first frame under the session's keys.
#[derive(Debug)]
pub struct Confirmed {
    pub(crate) admission: Admission,
    pub(crate) session: Digest,
}

impl Confirmed {
    /// The session's id.
    #[must_use]
    pub const fn session(&self) -> Digest {
        self.session
    }
}

/// What a back end needs: a session whose grant was consumed.
#[derive(Debug, Clone)]
pub struct Admitted {
    certificate: Verified<BzCert>,
    grant: Grant,
    request: Request,
    session: Digest,
}

impl Admitted {
    /// Who, as the identity provider proved.
    #[must_use]
    pub fn identity(&self) -> &bz_core::oidc::Claims {
        self.certificate.claims()
    }

    /// The grant.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The request.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// The session's id.
    #[must_use]
    pub const fn session(&self) -> Digest {
        self.session
    }

    /// Whether the target user came from the identity: then its uid must be a person's.
    #[must_use]
    pub fn user_is_substituted(&self) -> bool {
        self.grant.user.as_ref().is_some_and(bz_core::target::UserRule::is_substituted)
    }

    /// The certificate's digest, by which [`Gate::renew`] knows it.
    #[must_use]
    pub fn certificate(&self) -> Digest {
        self.certificate.digest()
    }
}

/// A newer token of a session's certificate.
#[derive(Debug)]
pub struct Renewal {
    login: Instant,
}

impl Gate {
    /// A gate that remembers nothing yet.
    #[must_use]
    pub fn new(bundle: TrustBundle, agent_key: PublicKey, targets: Vec<TargetId>, boot: BootId) -> Self {
        Self {
            bundle,
            agent_key,
            targets,
            boot,
            max_age: bz_core::cert::DEFAULT_MAX_AGE,
            local: LocalRule::Unrestricted,
            built_at: UnixTime::from_millis(0),
            certificates: Certificates::default(),
            used: Used::default(),
        }
    }

    /// The issuer whose keys [`Self::admit`] needs for this opening: the pinned one that its certificate claims.
    ///
    /// # Errors
    /// [`Denial`] when the certificate is not known or its issuer is not pinned.
    pub fn issuer(&self, opening: &Opening) -> Result<String, Denial> {
        let digest = self.certificate_digest(opening)?;
        let bytes = self.certificate_bytes(opening, digest)?;
        self.pinned_issuer(bytes)
    }

    /// Checks everything there is to check before anything happens.
    ///
    /// # Errors
    /// The first rule of [`Denial`] it breaks. Nothing but the certificate cache has changed.
    pub fn admit(&mut self, opening: &Opening, jwks: Option<&Jwks>, now: Now) -> Result<Admission, Denial> {
        if now.wall < self.built_at {
            return Err(Denial::Clock);
        }
        let digest = self.certificate_digest(opening)?;
        let bytes = self.certificate_bytes(opening, digest)?.to_vec();
        let certificate = self.verify_certificate(&bytes, jwks, now)?;
        let syn = &opening.0.syn;
        let body = syn.open(&certificate.client_key(), self.bundle.organization).map_err(Denial::Syn)?;
        if !VERSIONS.iter().any(|v| body.versions.contains(v)) || !SUITES.iter().any(|s| body.suites.contains(s)) {
            return Err(Denial::Version);
        }
        if body.agent_key != self.agent_key {
            return Err(Denial::OtherAgent);
        }
        let pins = Pins { organization: self.bundle.organization, roots: &self.bundle.roots, now: now.wall };
        let signed: SignedGrant = wire::decode(&body.grant, MAX_GRANT).map_err(|e| GrantError::Object(e.into()))?;
        let grant = Grant::verify(&signed, &pins)?;
        let request = Request::decode(&body.request)?;
        self.compare(&grant, &body, &certificate, &request)?;
        if self.used.contains(&grant.id) {
            return Err(Denial::GrantUsed);
        }
        let cap = self.local_cap(&certificate, &grant, (&request, Some(now.wall)))?;
        let ends = Ends {
            login: Instant::at(certificate.expires_at(), now),
            cap: Instant { mono: now.mono.after(cap), wall: now.wall.after(cap) },
        };
        self.certificates.keep(digest, bytes, &certificate);
        Ok(Admission { syn: syn.clone(), body, certificate, grant, request, ends, verified_at: now.wall })
    }

    /// Consumes the grant of a confirmed session: once.
    ///
    /// # Errors
    /// [`Denial::GrantUsed`] the second time, [`Denial::GrantsFull`] when too many are remembered.
    pub fn consume(&mut self, confirmed: Confirmed, now: Now) -> Result<Admitted, Denial> {
        let Confirmed { admission, session } = confirmed;
        self.used.take(admission.grant.id, now)?;
        Ok(Admitted { certificate: admission.certificate, grant: admission.grant, request: admission.request, session })
    }

    /// Checks a newer certificate for a running session: same login, same person, same key; the local policy anew.
    ///
    /// # Errors
    /// [`Denial`]; the session then ends at its old end.
    pub fn renew(
        &mut self,
        admitted: &Admitted,
        bytes: &[u8],
        jwks: Option<&Jwks>,
        now: Now,
    ) -> Result<Renewal, Denial> {
        if now.wall < self.built_at {
            return Err(Denial::Clock);
        }
        let certificate = self.verify_certificate(bytes, jwks, now)?;
        let same = certificate.client_key() == admitted.certificate.client_key()
            && certificate.initial() == admitted.certificate.initial();
        if !same {
            return Err(Denial::OtherCertificate);
        }
        // The address may be another than at the opening, and with it the user it stands for.
        if target_user(&admitted.grant, &certificate)? != admitted.request.user {
            return Err(Denial::User);
        }
        self.local_cap(&certificate, &admitted.grant, (&admitted.request, None))?;
        self.certificates.keep(certificate.digest(), bytes.to_vec(), &certificate);
        Ok(Renewal { login: Instant::at(certificate.expires_at(), now) })
    }

    fn certificate_digest(&self, opening: &Opening) -> Result<Digest, Denial> {
        // The digest is read before the signature is checked, to find the key that checks it.
        let mut named = None;
        let unverified = opening.0.syn.open_by(self.bundle.organization, |syn: &Syn| {
            named = Some(syn.certificate);
            None
        });
        match (named, unverified) {
            (Some(digest), _) => Ok(digest),
            (None, Err(error)) => Err(Denial::Syn(error)),
            (None, Ok(_)) => Err(Denial::CertificateUnknown),
        }
    }

    fn certificate_bytes<'a>(&'a self, opening: &'a Opening, digest: Digest) -> Result<&'a [u8], Denial> {
        match opening.certificate() {
            Some(bytes) if Digest::of(bytes) == digest => Ok(bytes),
            Some(_) => Err(Denial::CertificateMismatch),
            None => self.certificates.bytes(&digest).ok_or(Denial::CertificateUnknown),
        }
    }

    fn pinned_issuer(&self, certificate: &[u8]) -> Result<String, Denial> {
        self.bundle.provider_of(certificate).map(|p| p.issuer.clone()).ok_or(Denial::IssuerUnknown)
    }

    /// The issuer whose keys [`Self::renew`] needs.
    ///
    /// # Errors
    /// [`Denial::IssuerUnknown`] when it is not pinned.
    pub fn issuer_of(&self, certificate: &[u8]) -> Result<String, Denial> {
        self.pinned_issuer(certificate)
    }

    fn verify_certificate(&self, bytes: &[u8], jwks: Option<&Jwks>, now: Now) -> Result<Verified<BzCert>, Denial> {
        let provider = self.bundle.provider_of(bytes).ok_or(Denial::IssuerUnknown)?;
        let (known_initial, not_older_than) = self.certificates.known(bytes);
        let check = CertCheck {
            organization: self.bundle.organization,
            provider: &provider,
            jwks: jwks.ok_or(Denial::KeysUnavailable)?,
            max_age: self.max_age,
            known_initial,
            not_older_than,
            now: now.wall,
        };
        Ok(BzCert::verify(bytes, &check)?)
    }

    fn compare(
        &self,
        grant: &Grant,
        syn: &Syn,
        certificate: &Verified<BzCert>,
        request: &Request,
    ) -> Result<(), Denial> {
        let check = |same: bool, what| if same { Ok(()) } else { Err(Denial::GrantFor(what)) };
        check(grant.agent_key == self.agent_key, "agent")?;
        check(grant.boot == self.boot, "start of the agent")?;
        check(grant.client_key == certificate.client_key(), "client key")?;
        check(grant.person == certificate.claims().person, "person")?;
        check(grant.connection == syn.connection, "connection")?;
        check(grant.target == request.target && self.targets.contains(&request.target), "target")?;
        check(grant.verb == request.verb(), "verb")?;
        check(grant.mode == request.mode, "mode")?;
        check(grant.request == Request::digest(&syn.request), "request")?;
        check(grant.scope == request.parameters.scope(), "scope")?;
        check(target_user(grant, certificate)? == request.user, "target user")
    }

    fn local_cap(
        &self,
        certificate: &Verified<BzCert>,
        grant: &Grant,
        (request, opens_at): (&Request, Option<UnixTime>),
    ) -> Result<Duration, Denial> {
        let policy = match &self.local {
            LocalRule::Unrestricted => return Ok(grant.session_cap()),
            LocalRule::Policy(policy) => policy,
            LocalRule::RefuseAll(why) => return Err(Denial::LocalUnusable(why.clone())),
        };
        let mut cap = grant.session_cap();
        // Each verb may be another rule's; the shortest of their sessions counts.
        for verb in request.verbs() {
            let asked = Question { opens_at, ..question(certificate, grant, request, &verb) };
            let allowed = policy.decide(&asked)?;
            cap = allowed.session_cap.map_or(cap, |local| local.min(cap));
        }
        Ok(cap)
    }
}

/// What the host's owner is asked of a session that is open.
fn question<'a>(
    certificate: &'a Verified<BzCert>,
    grant: &'a Grant,
    request: &'a Request,
    verb: &'a Verb,
) -> Question<'a> {
    let (user, recorded) = (request.user.as_ref(), grant.recording.output);
    let cluster = request.parameters.cluster();
    let (claims, mfa, mode) = (certificate.claims(), grant.mfa.as_ref(), request.mode);
    Question { claims, verb, user, cluster, mode, recorded, mfa, opens_at: None }
}

/// The user the grant means for this person, computed from the person's own token.
fn target_user(grant: &Grant, certificate: &Verified<BzCert>) -> Result<Option<TargetUser>, Denial> {
    let address = certificate.claims().address.as_ref();
    grant.user.as_ref().map(|rule| rule.resolve(address).ok_or(Denial::User)).transpose()
}
