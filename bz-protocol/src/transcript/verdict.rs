//! What a check of a transcript says.

use std::collections::VecDeque;

use bz_core::access::request::{Request, RequestError};
use bz_core::cert::CertError;
use bz_core::digest::Digest;
use bz_core::grant::{GrantError, ServerCertError};
use bz_core::id::{ConnectionId, GrantId, OrganizationId, PolicyId};
use bz_core::key::PublicKey;
use bz_core::oidc::Person;
use bz_core::signed::ObjectError;
use bz_core::target::TargetUser;
use bz_core::time::UnixTime;

use crate::checkpoint::Statement;
use crate::frame::Fin;
use crate::handshake::Predecessor;
use crate::keys::Direction;
use crate::segment::SegmentOpening;
use crate::transcript::file::Position;
use crate::transcript::history::{Coverage, Fault};

/// What the proof rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// On the verifier's own anchors.
    Proved,
    /// On what the file says itself: it is in one piece, and no more is known.
    SelfConsistent,
}

/// How the person is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The tokens are there and verify.
    Proved,
    /// The tokens were taken out. The agent signed that it verified them, and the grant names the person.
    AttestedByAgent,
}

/// How the agent's key is known to be the target's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentKnown {
    /// The directory, which the server does not hold, names it under this name.
    Directory(String),
    /// The client pinned it and the server's grant names it: the file holds nothing more about it.
    Grant,
}

/// What a transcript proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the proof rests on. Anything but [`Trust::Proved`] is no success.
    pub trust: Trust,
    /// How the person is known.
    pub identity: Identity,
    /// The organization.
    pub organization: OrganizationId,
    /// The session.
    pub session: Digest,
    /// The connection.
    pub connection: ConnectionId,
    /// Who.
    pub person: Person,
    /// What they asked for: target, user, mode and parameters.
    pub request: Request,
    /// As whom on the target.
    pub user: Option<TargetUser>,
    /// The grant.
    pub grant: GrantId,
    /// The policies that allowed it, as the server said.
    pub policies: Vec<PolicyId>,
    /// The client's session key.
    pub client_key: PublicKey,
    /// The agent's identity key.
    pub agent_key: PublicKey,
    /// How that key is known to be the target's.
    pub agent_known: AgentKnown,
    /// The session before this one, of an attach.
    pub predecessor: Option<Predecessor>,
    /// The agent's segment that this is of: nobody was attached, the agent alone signs, and [`Self::person`] is who held
    /// the shell last. `None` for a session.
    pub segment: Option<SegmentOpening>,
    /// When the agent accepted, or began the segment, by its own clock.
    pub started: UnixTime,
    /// When the agent signed its end, by its own clock; `None` when that is not in the file.
    pub ended: Option<UnixTime>,
    /// The last time that either end signed.
    pub last_signed: Option<UnixTime>,
    /// What the agent itself signed at the end; `None` in sealed sessions, and where the end is missing.
    pub status: Option<Fin>,
    /// Whether both signed ends are in the file: nothing can be missing behind them.
    pub complete: bool,
    /// From the client to the agent.
    pub to_agent: WayVerdict,
    /// From the agent to the client.
    pub to_client: WayVerdict,
    /// What neither end signed and the server did not claim: cut off, and part of no other count.
    pub uncovered_tail: Tail,
    /// What only the server vouches for.
    pub server_claims: Option<ServerClaims>,
    /// Frames that the server recorded as sent in two versions.
    pub conflicts: u64,
    /// For receipts: what every count of frames hashes to.
    pub(crate) heads: Heads,
}

/// The head of each chain after every count of frames.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) to_agent: VecDeque<Digest>,
    pub(crate) to_client: VecDeque<Digest>,
}

impl std::fmt::Debug for Heads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Heads({}, {})", self.to_agent.len(), self.to_client.len())
    }
}

impl Verdict {
    /// One direction.
    #[must_use]
    pub const fn way(&self, direction: Direction) -> &WayVerdict {
        match direction {
            Direction::ToAgent => &self.to_agent,
            Direction::ToClient => &self.to_client,
        }
    }

    /// Whether this goes on where `earlier` ended, by the agent's signed word.
    #[must_use]
    pub fn follows(&self, earlier: &Self) -> Following {
        let Some(named) = self.predecessor.filter(|named| named.session == earlier.session) else {
            return Following::Other;
        };
        let holds = |direction, head| earlier.heads(direction).contains(head);
        if holds(Direction::ToAgent, &named.to_agent) && holds(Direction::ToClient, &named.to_client) {
            Following::Whole
        } else {
            Following::Shortened
        }
    }

    pub(crate) const fn heads(&self, direction: Direction) -> &VecDeque<Digest> {
        match direction {
            Direction::ToAgent => &self.heads.to_agent,
            Direction::ToClient => &self.heads.to_client,
        }
    }
}

/// How one transcript stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Following {
    /// It names another predecessor, or none.
    Other,
    /// It goes on there, and everything that the agent knew to have passed the server is in the earlier one.
    Whole,
    /// It goes on there, and the earlier one lacks frames that the agent signed for.
    Shortened,
}

/// What is proved of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WayVerdict {
    /// Frames that an end signed: meant relative to that end's honesty, see [`Self::coverage`].
    pub frames: u64,
    /// Stream bytes that its sender signed for, whether their content is here or not.
    pub bytes: u64,
    /// Those frames whose content is withheld.
    pub withheld: u64,
    /// Who signed how many.
    pub coverage: Coverage,
    /// The sender's last checkpoint.
    pub last: Option<Statement>,
}

/// A part that is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// Frames.
    pub frames: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What only the server's own signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerClaims {
    /// When, by the server's clock.
    pub time: UnixTime,
    /// What it says about the end; empty when it says nothing.
    pub reason: String,
    /// The frames and bytes that no end signed.
    pub only: Tail,
}

/// A transcript that proves nothing, why, and where that shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused at {at}: {reason}")]
pub struct Refused {
    /// The rule it breaks.
    pub reason: Reason,
    /// Where that shows: the record, and its first byte.
    pub at: Position,
}

/// The rules a transcript can break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Another file.
    #[error("this is no transcript")]
    NotATranscript,
    /// A version of the format that this program does not know.
    #[error("the transcript has a version this program does not know")]
    Version,
    /// Bytes that are no record.
    #[error("the record is damaged")]
    Malformed,
    /// A record where it has no place.
    #[error("the record has no place here")]
    Misplaced,
    /// Nothing says whose session this is.
    #[error("the opening is missing")]
    NoOpening,
    /// Of another organization than the trust bundle's.
    #[error("the transcript is of another organization")]
    Organization,
    /// Its server root is not in the trust bundle.
    #[error("the server's root key is not in the trust bundle")]
    RootUnknown,
    /// The identity provider is not in the trust bundle.
    #[error("the identity provider is not in the trust bundle")]
    IssuerUnknown,
    /// The verifier's archive lacks the key that the agent says verified the token.
    #[error("the archive lacks the identity provider's key {0}")]
    KeyNotArchived(Digest),
    /// The file's own key of the identity provider is not the one the agent signed for, or missing where it is needed.
    #[error("the identity provider's key is not the one that the agent signed for")]
    IdpKey,
    /// The certificate is another than the one signed for.
    #[error("the certificate is another than the one that the client signed for")]
    CertificateMismatch,
    /// The certificate proves nothing.
    #[error(transparent)]
    Certificate(CertError),
    /// The client's opening message proves nothing.
    #[error("the client's opening message: {0}")]
    Syn(ObjectError),
    /// The request in it is none.
    #[error(transparent)]
    Request(RequestError),
    /// The agent named in the client's message did not sign the answer.
    #[error("the agent's answer: {0}")]
    SynAck(ObjectError),
    /// The answer is to another message, or chose what was not offered.
    #[error("the agent's answer is for another {0}")]
    AnswerFor(&'static str),
    /// The grant proves nothing.
    #[error(transparent)]
    Grant(GrantError),
    /// The grant is for something else.
    #[error("the grant is for another {0}")]
    GrantFor(&'static str),
    /// The directory entry is no pinned directory's, or for another agent or target.
    #[error("the directory entry: {0}")]
    Directory(&'static str),
    /// The predecessor is not the one that the agent signed.
    #[error("the session before is not the one that the agent signed")]
    Predecessor,
    /// The agent did not sign the segment's opening.
    #[error("the segment's opening: {0}")]
    Segment(ObjectError),
    /// The segment does not go on from the session before it.
    #[error("the segment is of another {0}")]
    SegmentOf(&'static str),
    /// A frame or checkpoint breaks a rule.
    #[error("{} {number}: {fault}", way(.direction))]
    Frame {
        /// Which way.
        direction: Direction,
        /// Its number.
        number: u64,
        /// The rule.
        fault: Fault,
    },
    /// The server's certificate for its claims.
    #[error(transparent)]
    ServerCert(ServerCertError),
    /// The server's claim is not signed by that key.
    #[error("the server's claim: {0}")]
    Claim(ObjectError),
    /// The server's claim is about other bytes.
    #[error("the server's claim is about another {0}")]
    ClaimFor(&'static str),
}

const fn way(direction: &Direction) -> &'static str {
    match direction {
        Direction::ToAgent => "frame to the agent",
        Direction::ToClient => "frame to the client",
    }
}
