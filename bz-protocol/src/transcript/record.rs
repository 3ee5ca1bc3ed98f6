//! The records of a transcript and their bytes.

use bincode::{Decode, Encode};
use bz_core::digest::{Digest, Label};
use bz_core::grant::ServerCert;
use bz_core::id::OrganizationId;
use bz_core::key::{PrivateKey, PublicKey};
use bz_core::signed::{Object, Signed};
use bz_core::time::UnixTime;
use bz_core::trust::DirectoryEntry;
use bz_core::wire::{self, WireError};

use crate::flow::sealed_commitment;
use crate::frame::{HEADER_BYTES, Header, commitment};
use crate::handshake::{Predecessor, Syn, SynAck};
use crate::keys::{Direction, SALT_BYTES, TAG_BYTES};
use crate::limits::{MAX_PACKET, MAX_PAYLOAD};
use crate::segment::SegmentOpening;

/// The most bytes of one record: an opening with its certificate and answer.
pub const MAX_RECORD: usize = MAX_PACKET + SynAck::LIMIT + 1024;
/// The most keys of the identity provider in a transcript: the current token's, and the initial one's if another.
pub const MAX_KEYS: usize = 2;
/// The most bytes of a server's word about how a session ended.
pub const MAX_REASON: usize = 256;

const MAX_CHECKPOINT: usize = 1024;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The anchors that the server saw the session under. First.
    Anchors(Embedded),
    /// Both opening messages. Second.
    Opening(Box<Opening>),
    /// How a directory names the agent's key.
    Directory(Box<Directory>),
    /// The session before, of an attach: exactly what `SynAck` signs.
    Predecessor(Predecessor),
    /// An agent's segment begins: the opening before it is that of the session that held the shell last, and every
    /// frame behind it is the segment's.
    Segment(Box<Signed<SegmentOpening>>),
    /// A data frame.
    Frame {
        /// Which way.
        direction: Direction,
        /// The frame.
        frame: Frame,
    },
    /// A checkpoint of a sealed session, handed out by an end because nobody else can read it inside.
    Checkpoint {
        /// Of which direction's sender.
        direction: Direction,
        /// The signed statement.
        payload: Vec<u8>,
    },
    /// Other bytes under a number that was recorded before: the server's word that somebody sent both.
    Conflict {
        /// Which way.
        direction: Direction,
        /// The frame.
        frame: Frame,
    },
    /// The server's claim over everything before.
    Server(Box<ServerRecord>),
}

/// The anchors in the file itself: with a trust bundle they must agree with it, without one they prove no more than
/// that the file agrees with itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Embedded {
    /// The organization.
    pub organization: OrganizationId,
    /// The server's root that certified the grant's signer.
    pub root: PublicKey,
    /// The identity provider's keys in the canonical form of RFC 7638: the one that verified the current token, whose
    /// thumbprint `SynAck` signs, and the initial token's where that is another. Empty when the server did not know it.
    pub keys: Vec<String>,
}

/// Both opening messages. Without the certificate the opening is *redacted*: the agent attests the identity.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Opening {
    /// The client's.
    pub syn: Signed<Syn>,
    /// The certificate that it names.
    pub certificate: Option<Vec<u8>>,
    /// The agent's.
    pub answer: Signed<SynAck>,
}

/// A directory entry and the key that signed it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Directory {
    /// The directory's key.
    pub key: PublicKey,
    /// The entry.
    pub entry: Signed<DirectoryEntry>,
}

/// A frame as kept: without its tag, which only the two ends can check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// What is kept of the payload.
    pub content: Content,
}

/// What is kept of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Full {
        /// The commitment's salt.
        salt: [u8; SALT_BYTES],
        /// The payload.
        payload: Vec<u8>,
    },
    /// The commitment alone: deleted, never kept, or sealed.
    Withheld(Digest),
}

/// The server's claim, signed by its record key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// The session.
    pub session: Digest,
    /// The digest of everything before this record; the same with and without withheld content.
    pub digest: Digest,
    /// Frames to the agent before this record.
    pub to_agent: u64,
    /// Frames to the client before this record.
    pub to_client: u64,
    /// The server's wall clock.
    pub time: UnixTime,
    /// Why the session ended, if it did: at most [`MAX_REASON`] bytes.
    pub reason: String,
}

impl Object for Claim {
    const LABEL: Label = Label::Record;
    const VERSION: u16 = 1;
    const LIMIT: usize = 1024;
}

/// A claim and the certificate of the key that signed it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ServerRecord {
    /// The key's certificate.
    pub certificate: Signed<ServerCert>,
    /// The claim.
    pub claim: Signed<Claim>,
}

impl ServerRecord {
    /// Signs a claim, as [`Writer::claim`](super::Writer::claim) makes it, with the server's record key.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] for a reason of more than [`MAX_REASON`] bytes.
    pub fn sign(
        claim: &Claim,
        organization: OrganizationId,
        certificate: Signed<ServerCert>,
        key: &PrivateKey,
    ) -> Result<Self, WireError> {
        if claim.reason.len() > MAX_REASON {
            return Err(WireError::TooLarge { limit: MAX_REASON });
        }
        Ok(Self { certificate, claim: Signed::seal(claim, organization, key)? })
    }
}

impl Frame {
    /// What is kept of a frame as it travelled; `None` when it is too short or long for one.
    #[must_use]
    pub fn of_packet(frame: &[u8]) -> Option<Self> {
        let header = Header::parse(frame)?;
        let body_end = frame.len().checked_sub(TAG_BYTES)?;
        let content = if header.kind.is_some() {
            let body = frame.get(HEADER_BYTES..body_end)?;
            let (salt, payload) = body.split_first_chunk::<SALT_BYTES>()?;
            Content::Full { salt: *salt, payload: payload.to_vec() }
        } else {
            frame.get(HEADER_BYTES..body_end)?;
            Content::Withheld(sealed_commitment(frame))
        };
        let fits = frame.len() <= HEADER_BYTES + SALT_BYTES + MAX_PAYLOAD + TAG_BYTES;
        fits.then_some(Self { header, content })
    }

    /// What is kept of a segment's frame, which has no tag; `None` when it is too short or long for one, or sealed.
    #[must_use]
    pub fn of_segment(frame: &[u8]) -> Option<Self> {
        let header = Header::parse(frame)?;
        let (salt, payload) = frame.get(HEADER_BYTES..)?.split_first_chunk::<SALT_BYTES>()?;
        let content = Content::Full { salt: *salt, payload: payload.to_vec() };
        (header.kind.is_some() && payload.len() <= MAX_PAYLOAD).then_some(Self { header, content })
    }

    /// The commitment to the payload.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        match &self.content {
            Content::Full { salt, payload } => commitment(salt, payload),
            Content::Withheld(commitment) => *commitment,
        }
    }

    /// The payload, where it is kept.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Full { payload, .. } => Some(payload),
            Content::Withheld(_) => None,
        }
    }

    /// The frame without its content.
    #[must_use]
    pub fn withheld(&self) -> Self {
        Self { header: self.header, content: Content::Withheld(self.commitment()) }
    }

    fn encode(&self, direction: Direction) -> Vec<u8> {
        let header = self.header.to_bytes();
        let way = [way_byte(direction)];
        match &self.content {
            Content::Full { salt, payload } => [&way, header.as_slice(), salt, payload].concat(),
            Content::Withheld(commitment) => [&way, header.as_slice(), commitment.as_bytes()].concat(),
        }
    }

    fn decode(body: &[u8], full: bool) -> Option<(Direction, Self)> {
        let (&way, rest) = body.split_first()?;
        let direction = match way {
            0 => Direction::ToAgent,
            1 => Direction::ToClient,
            _ => return None,
        };
        let header = Header::parse(rest)?;
        let rest = rest.get(HEADER_BYTES..)?;
        let content = if full {
            let (salt, payload) = rest.split_first_chunk::<SALT_BYTES>()?;
            Content::Full { salt: *salt, payload: payload.to_vec() }
        } else {
            Content::Withheld(Digest::from_bytes(rest.try_into().ok()?))
        };
        let fits = rest.len() <= SALT_BYTES + MAX_PAYLOAD;
        fits.then_some((direction, Self { header, content }))
    }
}

const fn way_byte(direction: Direction) -> u8 {
    match direction {
        Direction::ToAgent => 0,
        Direction::ToClient => 1,
    }
}

impl Record {
    /// The kind's byte and the body.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] above [`MAX_RECORD`].
    pub fn encode(&self) -> Result<(u8, Vec<u8>), WireError> {
        let form = |frame: &Frame, full, withheld| match frame.content {
            Content::Full { .. } => full,
            Content::Withheld(_) => withheld,
        };
        let (kind, body) = match self {
            Self::Anchors(anchors) => (1, wire::encode(anchors, MAX_RECORD)?),
            Self::Opening(opening) => {
                (if opening.certificate.is_some() { 2 } else { 3 }, wire::encode(opening.as_ref(), MAX_RECORD)?)
            }
            Self::Directory(directory) => (4, wire::encode(directory.as_ref(), MAX_RECORD)?),
            Self::Predecessor(predecessor) => (5, wire::encode(predecessor, MAX_RECORD)?),
            Self::Frame { direction, frame } => (form(frame, 6, 7), frame.encode(*direction)),
            Self::Checkpoint { direction, payload } => (8, wire::encode(&(direction, payload), MAX_CHECKPOINT)?),
            Self::Conflict { direction, frame } => (form(frame, 9, 10), frame.encode(*direction)),
            Self::Server(server) => (11, wire::encode(server.as_ref(), MAX_RECORD)?),
            Self::Segment(opening) => (12, wire::encode(opening.as_ref(), MAX_RECORD)?),
        };
        if body.len() > MAX_RECORD { Err(WireError::TooLarge { limit: MAX_RECORD }) } else { Ok((kind, body)) }
    }

    /// The record of this kind in exactly these bytes; `None` when it is none.
    #[must_use]
    pub fn decode(kind: u8, body: &[u8]) -> Option<Self> {
        let frame = |full| Frame::decode(body, full);
        match kind {
            1 => decode::<Embedded>(body).filter(|a| a.keys.len() <= MAX_KEYS).map(Self::Anchors),
            2 | 3 => {
                let opening: Opening = decode(body)?;
                (opening.certificate.is_some() == (kind == 2)).then(|| Self::Opening(Box::new(opening)))
            }
            4 => decode(body).map(|d| Self::Directory(Box::new(d))),
            5 => decode(body).map(Self::Predecessor),
            6 | 7 => frame(kind == 6).map(|(direction, frame)| Self::Frame { direction, frame }),
            8 => wire::decode(body, MAX_CHECKPOINT).ok().map(|(d, payload)| Self::Checkpoint { direction: d, payload }),
            9 | 10 => frame(kind == 9).map(|(direction, frame)| Self::Conflict { direction, frame }),
            11 => decode(body).map(|s| Self::Server(Box::new(s))),
            12 => decode(body).map(|s| Self::Segment(Box::new(s))),
            _ => None,
        }
    }

    /// The digest of everything up to this record. Content that may be withheld or redacted later stands in it by its
    /// digest alone, so the digest outlives it.
    pub(super) fn digest(&self, before: &Digest) -> Result<Digest, WireError> {
        let (kind, body) = match self {
            Self::Anchors(anchors) => {
                let first = Embedded { keys: anchors.keys.iter().take(1).cloned().collect(), ..anchors.clone() };
                (1, wire::encode(&first, MAX_RECORD)?)
            }
            Self::Opening(opening) => (2, wire::encode(&(opening.syn.digest(), opening.answer.digest()), MAX_RECORD)?),
            Self::Frame { direction, frame } => (6, frame.withheld().encode(*direction)),
            Self::Conflict { direction, frame } => (9, frame.withheld().encode(*direction)),
            Self::Directory(_)
            | Self::Predecessor(_)
            | Self::Segment(_)
            | Self::Checkpoint { .. }
            | Self::Server(_) => self.encode()?,
        };
        Ok(Digest::labelled(Label::Record, &[before.as_bytes(), &[kind], &body]))
    }
}

fn decode<T: Decode<()>>(body: &[u8]) -> Option<T> {
    wire::decode(body, MAX_RECORD).ok()
}
