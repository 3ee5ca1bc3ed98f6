//! Receipts: what each end keeps of a session, so that a transcript that was lost or shortened shows.
//!
//! Absent: files. What keeps receipts implements [`Receipts`].

mod keep;

use bincode::{Decode, Encode};
use bz_core::access::Mode;
use bz_core::digest::Digest;
use bz_core::id::{ConnectionId, OrganizationId};
use bz_core::signed::{Object, ObjectError, Signed};
use bz_core::time::UnixTime;
use bz_core::wire::{self, WireError};

use crate::checkpoint::{AgentCheckpoint, ClientCheckpoint, Signer, Statement};
use crate::frame::Fin;
use crate::keys::Direction;
use crate::transcript::Verdict;

pub use keep::{Bounds, MemoryReceipts, NotKept, Receipts, Shelf};

/// The most bytes of a receipt.
pub const MAX_RECEIPT: usize = 4096;
const LABEL: &str = "bz/1 receipt;";

/// Which end keeps a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Holder {
    /// The client.
    Client,
    /// The agent.
    Agent,
}

impl Holder {
    /// The direction in which it sends.
    #[must_use]
    pub const fn sends(self) -> Direction {
        match self {
            Self::Client => Direction::ToAgent,
            Self::Agent => Direction::ToClient,
        }
    }
}

/// What one end knows of a session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// Whose.
    pub holder: Holder,
    /// The organization.
    pub organization: OrganizationId,
    /// The connection.
    pub connection: ConnectionId,
    /// The session.
    pub session: Digest,
    /// The digest of the client's opening message.
    pub opening: Digest,
    /// The client's last checkpoint: statement and signature, as sent.
    pub client: Option<Vec<u8>>,
    /// The agent's last checkpoint.
    pub agent: Option<Vec<u8>>,
    /// How many of the holder's own frames the other end acknowledged.
    pub delivered: u64,
    /// What the agent said at the end; `None` while the session runs, or when it was cut.
    pub close: Option<Fin>,
}

/// Bytes that are no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not an encoding of one.
    #[error("the receipt is {0}")]
    Wire(#[from] WireError),
    /// Another file.
    #[error("this is no receipt")]
    Label,
}

impl Receipt {
    /// The receipt's bytes.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] above [`MAX_RECEIPT`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(&(LABEL, self), MAX_RECEIPT)
    }

    /// The receipt in exactly these bytes.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let (label, receipt): (String, Self) = wire::decode(bytes, MAX_RECEIPT)?;
        if label == LABEL { Ok(receipt) } else { Err(ReceiptError::Label) }
    }

    /// The latest time in its checkpoints, unverified: the holder's own note, to find a session by.
    #[must_use]
    pub fn noted_at(&self) -> Option<UnixTime> {
        let client = self.client.as_deref().and_then(|c| self.time_in(c, |ClientCheckpoint(said)| said.time));
        client.max(self.agent.as_deref().and_then(|c| self.time_in(c, |AgentCheckpoint(said)| said.time)))
    }

    fn time_in<T: Object>(&self, checkpoint: &[u8], time: impl Fn(&T) -> UnixTime) -> Option<UnixTime> {
        let signed: Signed<T> = wire::decode(checkpoint, MAX_RECEIPT).ok()?;
        let mut noted = None;
        // Nobody's key is at hand: what is looked at is not believed, and the object itself is not had.
        let _unproved = signed.open_by(self.organization, |body| {
            noted = Some(time(body));
            None
        });
        noted
    }

    fn checkpoint(&self, direction: Direction) -> Option<&[u8]> {
        match direction {
            Direction::ToAgent => self.client.as_deref(),
            Direction::ToClient => self.agent.as_deref(),
        }
    }
}

/// What a receipt says about a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The transcript holds everything that the holder knows to have passed the server. These many frames are proved
    /// by the receipt's checkpoints, in sealed sessions, too.
    Whole {
        /// To the agent.
        to_agent: u64,
        /// To the client.
        to_client: u64,
    },
    /// It is of another session.
    OtherSession,
    /// The receipt's checkpoint is not signed by that session's end: the receipt proves nothing.
    Forged {
        /// Whose.
        of: Holder,
        /// Why.
        error: ObjectError,
    },
    /// Frames passed the server that the transcript lacks.
    Shortened {
        /// Which way.
        direction: Direction,
        /// Frames in the transcript.
        held: u64,
        /// Frames that must be there.
        passed: u64,
    },
    /// The ends signed another history than the transcript tells.
    OtherHistory {
        /// Which way.
        direction: Direction,
        /// After how many frames.
        after: u64,
    },
}

/// Compares what an end kept with what a transcript proves.
#[must_use]
pub fn compare(receipt: &Receipt, verdict: &Verdict) -> Comparison {
    if receipt.session != verdict.session || receipt.organization != verdict.organization {
        return Comparison::OtherSession;
    }
    let client = statement(receipt, verdict, Holder::Client);
    let agent = statement(receipt, verdict, Holder::Agent);
    let (client, agent) = match (client, agent) {
        (Err(forged), _) | (_, Err(forged)) => return forged,
        (Ok(client), Ok(agent)) => (client, agent),
    };
    for (holder, said) in [(Holder::Client, &client), (Holder::Agent, &agent)] {
        let Some(said) = said else { continue };
        let own = (holder.sends(), said.number, said.head);
        let peer = (holder.sends().reverse(), said.peer_number, said.peer_head);
        for (direction, after, head) in [own, peer] {
            let told = usize::try_from(after).ok().and_then(|after| verdict.heads(direction).get(after));
            if told.is_some_and(|told| *told != head) {
                return Comparison::OtherHistory { direction, after };
            }
        }
    }
    let (own, peer) = match receipt.holder {
        Holder::Client => (&client, &agent),
        Holder::Agent => (&agent, &client),
    };
    // What the other end signed came through the server, and so did what it counts of ours. Our own last words may
    // never have left.
    let signed =
        |said: &Option<Statement>| said.as_ref().map_or((0, 0), |s| (s.number.saturating_add(1), s.peer_number));
    let own_passed = signed(peer).1.max(receipt.delivered);
    let peer_passed = signed(peer).0.max(signed(own).1);
    let direction = receipt.holder.sends();
    for (direction, passed) in [(direction, own_passed), (direction.reverse(), peer_passed)] {
        let held = (verdict.heads(direction).len() as u64).saturating_sub(1);
        if held < passed {
            return Comparison::Shortened { direction, held, passed };
        }
    }
    let proved = |own: &Option<Statement>, peer: &Option<Statement>| {
        let own = own.as_ref().map_or(0, |s| s.number);
        own.max(peer.as_ref().map_or(0, |s| s.peer_number))
    };
    Comparison::Whole { to_agent: proved(&client, &agent), to_client: proved(&agent, &client) }
}

/// Whether a transcript that a receipt fits holds the end, though it cannot show it by itself.
///
/// So it is with all of a sealed session whose end the holder knows, and with a session of which the agent itself knows no
/// end.
#[must_use]
pub fn explains_end(receipt: &Receipt, verdict: &Verdict) -> bool {
    let Comparison::Whole { to_agent, to_client } = compare(receipt, verdict) else { return false };
    // There is a head more than frames, and the last frame is the checkpoint itself.
    let all = |proved: u64, direction| proved.saturating_add(2) >= verdict.heads(direction).len() as u64;
    match &receipt.close {
        Some(_) => {
            verdict.request.mode == Mode::Sealed
                && all(to_agent, Direction::ToAgent)
                && all(to_client, Direction::ToClient)
        }
        None => receipt.holder == Holder::Agent,
    }
}

/// The receipts of sessions of which there is no transcript.
#[must_use]
pub fn missing<'a>(receipts: &'a [Receipt], verdicts: &[Verdict]) -> Vec<&'a Receipt> {
    receipts.iter().filter(|receipt| verdicts.iter().all(|verdict| verdict.session != receipt.session)).collect()
}

fn statement(receipt: &Receipt, verdict: &Verdict, of: Holder) -> Result<Option<Statement>, Comparison> {
    let direction = of.sends();
    let Some(payload) = receipt.checkpoint(direction) else { return Ok(None) };
    let key = match of {
        Holder::Client => &verdict.client_key,
        Holder::Agent => &verdict.agent_key,
    };
    let signer = Signer { organization: verdict.organization, direction };
    let statement = signer.verify(payload, key).map_err(|error| Comparison::Forged { of, error })?;
    if statement.session == verdict.session {
        Ok(Some(statement))
    } else {
        Err(Comparison::Forged { of, error: ObjectError::Label })
    }
}
