//! Refusals: what a peer may hear. Detail stays where it arose.

use bincode::{Decode, Encode};

/// Why an agent refuses, in one of a few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Code {
    /// The certificate named by its hash is not known: send it along.
    CertificateUnknown,
    /// Malformed, or of a version or suite this agent does not speak.
    Malformed,
    /// The identity is not proved: log in again.
    Identity,
    /// The grant does not allow this: ask again.
    Grant,
    /// The host's local policy does not allow it.
    LocalPolicy,
    /// The target user does not exist on the host, or may not be used.
    User,
    /// The agent cannot do it now.
    Unavailable,
    /// The agent's clock is wrong.
    Clock,
    /// The identity or the session has expired: log in again.
    Expired,
    /// An administrator, a logout or a changed policy ended it.
    Revoked,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 10] = [
        Self::CertificateUnknown,
        Self::Malformed,
        Self::Identity,
        Self::Grant,
        Self::LocalPolicy,
        Self::User,
        Self::Unavailable,
        Self::Clock,
        Self::Expired,
        Self::Revoked,
    ];
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CertificateUnknown => "the agent does not know this login yet",
            Self::Malformed => "the agent does not understand this request; are both ends of the same release?",
            Self::Identity => "the agent does not accept this login; log in again with `bz login`",
            Self::Grant => "the agent does not accept the server's grant; try again",
            Self::LocalPolicy => "the local policy of the target's host does not allow this",
            Self::User => {
                "the target user does not exist on the host, or may not be used: its administrator makes users"
            }
            Self::Unavailable => "the agent cannot do this now; try again",
            Self::Clock => "the clock of the target's host is wrong",
            Self::Expired => "the login has expired; log in again with `bz login`",
            Self::Revoked => "the access was withdrawn",
        })
    }
}
