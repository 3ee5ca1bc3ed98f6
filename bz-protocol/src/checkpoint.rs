//! Checkpoints: an end's signature over everything it has sent and seen so far.

use bincode::{Decode, Encode};
use bz_core::digest::{Digest, Label};
use bz_core::id::OrganizationId;
use bz_core::key::{PrivateKey, PublicKey};
use bz_core::signed::{Object, ObjectError, Signed};
use bz_core::time::UnixTime;
use bz_core::wire::WireError;

use crate::keys::Direction;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// The session.
    pub session: Digest,
    /// The number of the frame that carries this: everything before it is covered.
    pub number: u64,
    /// The own chain's head before that frame. In sealed sessions the chain covers headers alone.
    pub head: Digest,
    /// How many of the peer's frames were processed.
    pub peer_number: u64,
    /// The peer's chain's head after them.
    pub peer_head: Digest,
    /// Payload bytes of streams sent so far.
    pub bytes: u64,
    /// The wall clock.
    pub time: UnixTime,
}

/// A client's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ClientCheckpoint(pub Statement);

/// An agent's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AgentCheckpoint(pub Statement);

impl Object for ClientCheckpoint {
    const LABEL: Label = Label::ClientCheckpoint;
    const VERSION: u16 = 1;
    const LIMIT: usize = 512;
}

impl Object for AgentCheckpoint {
    const LABEL: Label = Label::AgentCheckpoint;
    const VERSION: u16 = 1;
    const LIMIT: usize = 512;
}

/// Who signs: the direction decides the label.
#[derive(Debug, Clone, Copy)]
pub struct Signer {
    /// The organization.
    pub organization: OrganizationId,
    /// The direction signed for.
    pub direction: Direction,
}

impl Signer {
    /// A checkpoint frame's payload.
    ///
    /// # Errors
    /// [`WireError`] does not happen: a statement has one size.
    pub fn sign(&self, statement: Statement, key: &PrivateKey) -> Result<Vec<u8>, WireError> {
        let limit = ClientCheckpoint::LIMIT + 128;
        match self.direction {
            Direction::ToAgent => {
                bz_core::wire::encode(&Signed::seal(&ClientCheckpoint(statement), self.organization, key)?, limit)
            }
            Direction::ToClient => {
                bz_core::wire::encode(&Signed::seal(&AgentCheckpoint(statement), self.organization, key)?, limit)
            }
        }
    }

    /// The statement in a checkpoint frame's payload, when `key` signed it.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn verify(&self, payload: &[u8], key: &PublicKey) -> Result<Statement, ObjectError> {
        let limit = ClientCheckpoint::LIMIT + 128;
        match self.direction {
            Direction::ToAgent => {
                let signed: Signed<ClientCheckpoint> = bz_core::wire::decode(payload, limit)?;
                signed.open(key, self.organization).map(|c| c.0)
            }
            Direction::ToClient => {
                let signed: Signed<AgentCheckpoint> = bz_core::wire::decode(payload, limit)?;
                signed.open(key, self.organization).map(|c| c.0)
            }
        }
    }
}
