//! Grants: the server's signed word for one connection.
//!
//! A grant is signed by a short-lived key that a root of the trust bundle certified for that purpose alone. It names the
//! person, the client's key, the agent and its boot, and the exact request; a second request needs a second grant.

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::access::destination::DestinationRule;
use crate::access::{Mode, Verb};
use crate::digest::{Digest, Label};
use crate::id::{BootId, ConnectionId, GrantId, OrganizationId, PolicyId, TargetId};
use crate::key::PublicKey;
use crate::oidc::Person;
use crate::signed::{Object, ObjectError, Signed};
use crate::target::UserRule;
use crate::time::UnixTime;

/// The longest a grant may wait for its session to open, whatever it says.
pub const MAX_OPENING: Duration = Duration::from_secs(15 * 60);
/// The longest a session may last on one grant, whatever it says.
pub const MAX_SESSION: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most bytes a grant and its certificate may have.
pub const MAX_GRANT: usize = 24 << 10;

/// What an online key of the server may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Purpose {
    /// Grants.
    Grant,
    /// Control messages.
    Control,
    /// Records.
    Record,
}

/// A root's certificate for an online key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ServerCert {
    /// The key.
    pub key: PublicKey,
    /// The one thing it may sign.
    pub purpose: Purpose,
    /// The server's node that holds it.
    pub node: String,
    /// From when.
    pub not_before: UnixTime,
    /// Until when.
    pub not_after: UnixTime,
}

impl Object for ServerCert {
    const LABEL: Label = Label::ServerCert;
    const VERSION: u16 = 1;
    const LIMIT: usize = 1024;
}

/// A trust decision's view of the world: pins and the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Pins<'a> {
    /// The organization.
    pub organization: OrganizationId,
    /// The accepted roots.
    pub roots: &'a [PublicKey],
    /// The wall clock.
    pub now: UnixTime,
}

/// Why a server's certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerCertError {
    /// No pinned root signed it.
    #[error("the server's certificate is signed by no pinned root")]
    Root,
    /// Not a certificate of this organization.
    #[error("the server's certificate: {0}")]
    Object(ObjectError),
    /// Certified for something else.
    #[error("the server's key is certified for another purpose")]
    Purpose,
    /// Not yet, or no longer.
    #[error("the server's certificate is not valid now: check the clock")]
    Validity,
}

impl ServerCert {
    /// The certified key, when a pinned root signed it for this purpose and time.
    ///
    /// # Errors
    /// The first rule of [`ServerCertError`] it breaks.
    pub fn verify(signed: &Signed<Self>, purpose: Purpose, pins: &Pins<'_>) -> Result<Self, ServerCertError> {
        let mut last = ServerCertError::Root;
        for root in pins.roots {
            match signed.open(root, pins.organization) {
                Ok(cert) => return cert.check(purpose, pins.now),
                Err(ObjectError::Signature) => {}
                Err(error) => last = ServerCertError::Object(error),
            }
        }
        Err(last)
    }

    fn check(self, purpose: Purpose, now: UnixTime) -> Result<Self, ServerCertError> {
        if self.purpose != purpose {
            return Err(ServerCertError::Purpose);
        }
        let valid = now.after(crate::oidc::SKEW) >= self.not_before && now < self.not_after;
        if valid { Ok(self) } else { Err(ServerCertError::Validity) }
    }
}

/// Whether and what must be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Recording {
    /// What the target shows.
    pub output: bool,
    /// What the person types, too.
    pub input: bool,
}

/// Which streams a session may open after its first.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Scope {
    /// None but what the request itself asks for.
    Request,
    /// To these destinations.
    Destinations(Vec<DestinationRule>),
}

/// How and when the person passed the server's second factor.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Mfa {
    /// The method, such as `totp`.
    pub method: String,
    /// When.
    pub at: UnixTime,
}

/// What a grant says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct GrantBody {
    /// The grant's own id: used once.
    pub id: GrantId,
    /// The connection.
    pub connection: ConnectionId,
    /// The person.
    pub person: Person,
    /// The client's session key.
    pub client_key: PublicKey,
    /// The agent's identity key.
    pub agent_key: PublicKey,
    /// The agent's present start.
    pub boot: BootId,
    /// The target.
    pub target: TargetId,
    /// The verb.
    pub verb: Verb,
    /// The target user, by name or from the person's identity; none for handlers and tunnels.
    pub user: Option<UserRule>,
    /// Who can read the content.
    pub mode: Mode,
    /// What must be recorded.
    pub recording: Recording,
    /// SHA-256 of the exact request.
    pub request: Digest,
    /// Streams opened later.
    pub scope: Scope,
    /// The second factor, where one was asked for.
    pub mfa: Option<Mfa>,
    /// The policies that allow it.
    pub policies: Vec<PolicyId>,
    /// Counts every change of policies.
    pub policy_version: u64,
    /// From when the session may open.
    pub not_before: UnixTime,
    /// Until when the session may open.
    pub not_after: UnixTime,
    /// How long the session may last, in seconds.
    pub session_seconds: u32,
}

impl Object for GrantBody {
    const LABEL: Label = Label::Grant;
    const VERSION: u16 = 1;
    const LIMIT: usize = 16 << 10;
}

/// A grant as it travels: the certificate of the key that signed it, and the grant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedGrant {
    /// The key's certificate.
    pub certificate: Signed<ServerCert>,
    /// The grant.
    pub grant: Signed<GrantBody>,
}

/// Why a grant is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The certificate beside it is refused.
    #[error(transparent)]
    Certificate(ServerCertError),
    /// The certified key did not sign it, or it is no grant of this organization.
    #[error("the grant: {0}")]
    Object(ObjectError),
    /// Its time to open has not come.
    #[error("the grant is not valid yet: check the clock")]
    NotYet,
    /// Its time to open has passed.
    #[error("the grant has expired: ask again")]
    Expired,
}

/// A grant whose signatures and times were checked: the server's half of the evidence.
///
/// There is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant(GrantBody);

impl Grant {
    /// Checks certificate, signature and times.
    ///
    /// # Errors
    /// The first rule of [`GrantError`] it breaks.
    pub fn verify(signed: &SignedGrant, pins: &Pins<'_>) -> Result<Self, GrantError> {
        let certificate =
            ServerCert::verify(&signed.certificate, Purpose::Grant, pins).map_err(GrantError::Certificate)?;
        let body = signed.grant.open(&certificate.key, pins.organization).map_err(GrantError::Object)?;
        if pins.now.after(crate::oidc::SKEW) < body.not_before {
            return Err(GrantError::NotYet);
        }
        let opens_until = body.not_after.min(body.not_before.after(MAX_OPENING));
        if pins.now >= opens_until { Err(GrantError::Expired) } else { Ok(Self(body)) }
    }

    /// How long the session may last: what the grant says, at most [`MAX_SESSION`].
    #[must_use]
    pub fn session_cap(&self) -> Duration {
        Duration::from_secs(self.0.session_seconds.into()).min(MAX_SESSION)
    }
}

impl std::ops::Deref for Grant {
    type Target = GrantBody;

    fn deref(&self) -> &GrantBody {
        &self.0
    }
}

#[cfg(test)]
mod tests;
