//! The control stream of a link: who is there, and what is asked of them.
//!
//! The first stream of every link, opened by the end that dialed. The server sends a challenge; an agent answers with
//! its control key, a client with its session key; neither signature means anything elsewhere. Then keepalives go both
//! ways. What the server orders can only narrow: it closes, revokes or drains, and each order that an agent obeys is
//! signed by the server's control key for this agent, this start and a rising counter.
//!
//! Pure: messages, the proofs in them, and the keepalive machine.

use bincode::{Decode, Encode};
use bz_core::api::target::Route;
use bz_core::digest::{Digest, Label};
use bz_core::grant::{Pins, Purpose, ServerCert, ServerCertError};
use bz_core::id::{BootId, ConnectionId, LoginId, OrganizationId, ShellId, TargetId};
use bz_core::key::{BadSignature, PrivateKey, PublicKey, Signature};
use bz_core::signed::{Object, ObjectError, Signed};
use bz_core::time::Mono;
use bz_core::wire::{self, WireError};

use crate::limits::{KEEPALIVE, LINK_DEAD};

/// Where a server's WebSocket link is.
pub const LINK_PATH: &str = "/api/v2/link";
/// The most bytes of a control message.
pub const MAX_MESSAGE: usize = 64 << 10;

/// What the server says on a control stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FromServer {
    /// First: prove who you are over this.
    Challenge {
        /// 32 random bytes.
        random: [u8; 32],
        /// The organization served.
        organization: OrganizationId,
    },
    /// The proof was accepted.
    Welcome,
    /// It was not; the link ends.
    Refused(LinkRefusal),
    /// A keepalive.
    Ping,
    /// To an agent: a signed order.
    Order(SignedOrder),
    /// To a client: a connection ended, and why, for people.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: String,
    },
    /// The server will go away: dial again elsewhere or later, at this many seconds at most.
    Drain {
        /// Spread the dialing over this time.
        within_seconds: u32,
    },
}

/// What the other end says on a control stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToServer {
    /// An agent.
    Agent(Box<AgentHello>),
    /// A client.
    Client(ClientHello),
    /// A keepalive.
    Ping,
    /// From an agent: the shells it keeps, anew after each change.
    Shells(Vec<ShellReport>),
}

/// Why a link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum LinkRefusal {
    /// No version in common.
    #[error("server and agent or client are of releases that do not understand each other")]
    Version,
    /// The proof is not this target's or login's.
    #[error("the server does not know this key; register the agent or log in again")]
    Unknown,
    /// Too many links.
    #[error("the server takes no more links now")]
    Busy,
}

/// An agent's proof of its control key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AgentHello {
    /// The link versions it speaks.
    pub versions: Vec<u16>,
    /// Its target.
    pub target: TargetId,
    /// This start.
    pub boot: BootId,
    /// Its version, for people.
    pub version: String,
    /// Routes its program serves.
    pub routes: Vec<Route>,
    /// By the control key.
    pub proof: Signature,
}

/// A client's proof of its session key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ClientHello {
    /// The link versions it speaks.
    pub versions: Vec<u16>,
    /// Its login.
    pub login: LoginId,
    /// By the session key.
    pub proof: Signature,
}

/// A shell that an agent keeps.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ShellReport {
    /// The shell.
    pub shell: ShellId,
    /// The connection it began with.
    pub connection: ConnectionId,
    /// Whether it still runs.
    pub running: bool,
}

impl AgentHello {
    /// Signs the challenge.
    pub fn prove(&mut self, challenge: &[u8; 32], organization: OrganizationId, key: &PrivateKey) {
        self.proof = key.sign(Label::ControlLogin, self.claim(challenge, organization).as_bytes());
    }

    /// Checks the proof against the registered control key.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn check(
        &self,
        challenge: &[u8; 32],
        organization: OrganizationId,
        key: &PublicKey,
    ) -> Result<(), BadSignature> {
        key.verify(Label::ControlLogin, self.claim(challenge, organization).as_bytes(), &self.proof)
    }

    fn claim(&self, challenge: &[u8; 32], organization: OrganizationId) -> Digest {
        let parts: [&[u8]; 4] = [organization.as_bytes(), challenge, self.target.as_bytes(), self.boot.as_bytes()];
        Digest::labelled(Label::ControlLogin, &parts)
    }
}

impl ClientHello {
    /// Signs the challenge.
    #[must_use]
    pub fn prove(login: LoginId, challenge: &[u8; 32], organization: OrganizationId, key: &PrivateKey) -> Self {
        let claim = Self::claim(login, challenge, organization);
        let proof = key.sign(Label::LinkLogin, claim.as_bytes());
        Self { versions: LINK_VERSIONS.to_vec(), login, proof }
    }

    /// Checks the proof against the login's session key.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn check(
        &self,
        challenge: &[u8; 32],
        organization: OrganizationId,
        key: &PublicKey,
    ) -> Result<(), BadSignature> {
        let claim = Self::claim(self.login, challenge, organization);
        key.verify(Label::LinkLogin, claim.as_bytes(), &self.proof)
    }

    fn claim(login: LoginId, challenge: &[u8; 32], organization: OrganizationId) -> Digest {
        Digest::labelled(Label::LinkLogin, &[organization.as_bytes(), challenge, login.as_bytes()])
    }
}

/// The link versions this program speaks, newest first.
pub const LINK_VERSIONS: &[u16] = &[1];

/// What a stream opened later on a link is for: its first message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Preamble {
    /// The packets of one connection's session.
    Session {
        /// Which.
        connection: ConnectionId,
    },
    /// From an agent: bytes to one of the configured issuers, TLS end to end inside.
    Issuer {
        /// The issuer's host.
        host: String,
        /// And port.
        port: u16,
    },
    /// From an agent: what a shell of this connection shows while nobody is attached; see [`crate::segment`].
    Segment {
        /// Which.
        connection: ConnectionId,
    },
}

/// What the server orders an agent to do.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Order {
    /// End this connection's session, and its shell.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// End this connection's session; its shell runs on.
    Detach {
        /// Which.
        connection: ConnectionId,
    },
}

/// An order, for one start of one agent, once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct OrderBody {
    /// The agent's identity key.
    pub agent_key: PublicKey,
    /// The agent's start.
    pub boot: BootId,
    /// Strictly rising.
    pub counter: u64,
    /// What to do.
    pub order: Order,
}

impl Object for OrderBody {
    const LABEL: Label = Label::ControlOrder;
    const VERSION: u16 = 1;
    const LIMIT: usize = 1024;
}

/// An order as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedOrder {
    /// The control key's certificate.
    pub certificate: Signed<ServerCert>,
    /// The order.
    pub order: Signed<OrderBody>,
}

/// Why an order is not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The certificate is refused.
    #[error(transparent)]
    Certificate(ServerCertError),
    /// Not signed by the certified key.
    #[error("the order: {0}")]
    Object(ObjectError),
    /// For another agent or start.
    #[error("the order is for another agent or another start of it")]
    OtherAgent,
    /// Obeyed before.
    #[error("the order is a replay")]
    Replay,
}

/// An agent's ear: obeys each order once.
#[derive(Debug)]
pub struct Orders {
    agent_key: PublicKey,
    boot: BootId,
    counter: u64,
}

impl Orders {
    /// An ear that has heard nothing.
    #[must_use]
    pub const fn new(agent_key: PublicKey, boot: BootId) -> Self {
        Self { agent_key, boot, counter: 0 }
    }

    /// The order, when it is signed for this agent and newer than every one before.
    ///
    /// # Errors
    /// [`OrderError`].
    pub fn hear(&mut self, signed: &SignedOrder, pins: &Pins<'_>) -> Result<Order, OrderError> {
        let certificate =
            ServerCert::verify(&signed.certificate, Purpose::Control, pins).map_err(OrderError::Certificate)?;
        let body = signed.order.open(&certificate.key, pins.organization).map_err(OrderError::Object)?;
        if body.agent_key != self.agent_key || body.boot != self.boot {
            return Err(OrderError::OtherAgent);
        }
        if body.counter <= self.counter {
            return Err(OrderError::Replay);
        }
        self.counter = body.counter;
        Ok(body.order)
    }
}

/// A control message's bytes.
///
/// # Errors
/// [`WireError::TooLarge`] above [`MAX_MESSAGE`].
pub fn encode<T: Encode>(message: &T) -> Result<Vec<u8>, WireError> {
    wire::encode(message, MAX_MESSAGE)
}

/// The control message in exactly these bytes.
///
/// # Errors
/// [`WireError`].
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, WireError> {
    wire::decode(bytes, MAX_MESSAGE)
}

/// Both directions' keepalive of one link: when to speak, and when the other end is dead.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    spoken: Mono,
    heard: Mono,
}

impl Keepalive {
    /// A link that begins now.
    #[must_use]
    pub const fn new(now: Mono) -> Self {
        Self { spoken: now, heard: now }
    }

    /// Something came.
    pub const fn heard(&mut self, now: Mono) {
        self.heard = now;
    }

    /// Something was sent.
    pub const fn spoke(&mut self, now: Mono) {
        self.spoken = now;
    }

    /// Whether it is time to say something.
    #[must_use]
    pub fn speaks(&self, now: Mono) -> bool {
        now >= self.spoken.after(KEEPALIVE)
    }

    /// Whether two keepalives in a row were missed.
    #[must_use]
    pub fn is_dead(&self, now: Mono) -> bool {
        now >= self.dies()
    }

    /// When two keepalives in a row will have been missed.
    #[must_use]
    pub fn dies(&self) -> Mono {
        self.heard.after(LINK_DEAD)
    }

    /// When one of the two changes.
    #[must_use]
    pub fn wake(&self) -> Mono {
        self.spoken.after(KEEPALIVE).min(self.dies())
    }
}

#[cfg(test)]
mod tests;
