//! `Syn` and `SynAck`: what both ends sign before anything happens.

use bincode::{Decode, Encode};
use bz_core::digest::{Digest, Label};
use bz_core::id::{ConnectionId, ShellId};
use bz_core::key::PublicKey;
use bz_core::signed::{Object, Signed};
use bz_core::time::UnixTime;

/// The client's opening, signed by its session key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Syn {
    /// Every version the client speaks.
    pub versions: Vec<u16>,
    /// Every suite the client speaks.
    pub suites: Vec<u16>,
    /// The client's key for this agreement alone.
    pub ephemeral: PublicKey,
    /// Random.
    pub random: [u8; 32],
    /// The agent meant.
    pub agent_key: PublicKey,
    /// The connection.
    pub connection: ConnectionId,
    /// The exact bytes of the [`bz_core::access::request::Request`].
    pub request: Vec<u8>,
    /// SHA-256 of the client's `BzCert`.
    pub certificate: Digest,
    /// The exact bytes of the [`bz_core::grant::SignedGrant`].
    pub grant: Vec<u8>,
}

impl Object for Syn {
    const LABEL: Label = Label::Syn;
    const VERSION: u16 = 1;
    const LIMIT: usize = 64 << 10;
}

/// The agent's answer, signed by its identity key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SynAck {
    /// Digest of the signed `Syn`.
    pub syn: Digest,
    /// The version chosen: the newest both speak.
    pub version: u16,
    /// The suite chosen.
    pub suite: u16,
    /// The agent's key for this agreement alone.
    pub ephemeral: PublicKey,
    /// Random, always fresh.
    pub random: [u8; 32],
    /// Payload bytes the client may send before they are credited: per session, per stream.
    pub credit: (u64, u64),
    /// When the session ends unless it is re-authenticated.
    pub expires_at: UnixTime,
    /// RFC 7638 thumbprint of the identity provider's key that verified the current token.
    pub idp_key: Digest,
    /// When the agent verified it.
    pub verified_at: UnixTime,
    /// What an attached shell was before.
    pub attached: Option<Attached>,
    /// Facts about the target, such as SSH host keys.
    pub facts: Vec<Fact>,
}

impl Object for SynAck {
    const LABEL: Label = Label::SynAck;
    const VERSION: u16 = 1;
    const LIMIT: usize = 16 << 10;
}

/// The shell an attach goes on with, and the session before, so that the two transcripts are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Attached {
    /// The shell.
    pub shell: ShellId,
    /// The session or agent segment before this one. What that sent behind the head named here is told again.
    pub predecessor: Option<Predecessor>,
}

/// Where the session before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Predecessor {
    /// Its id.
    pub session: Digest,
    /// Its chain to the agent.
    pub to_agent: Digest,
    /// Its chain to the client.
    pub to_client: Digest,
}

/// Something the agent says about its target.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fact {
    /// What.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// The session's id: it covers both messages whole, so every key, chain and checkpoint does.
#[must_use]
pub fn session_id(syn: &Signed<Syn>, ack: &Signed<SynAck>) -> Digest {
    Digest::labelled(Label::Session, &[syn.digest().as_bytes(), ack.digest().as_bytes()])
}
