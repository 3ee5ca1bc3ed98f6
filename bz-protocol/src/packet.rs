//! Packets: what travels on a session's carrier stream, each one byte of kind and a body.

use bincode::{Decode, Encode};
use bz_core::digest::{Digest, Label};
use bz_core::signed::{Object, Signed};
use bz_core::wire::{self, WireError};

use crate::handshake::{Syn, SynAck};
use crate::limits::MAX_PACKET;
use crate::refusal::Code;

/// A packet.
pub type Packet = PacketOf<Vec<u8>>;
/// A packet whose frame was not copied out of the bytes that it came in.
pub type PacketRef<'a> = PacketOf<&'a [u8]>;

/// A packet whose frames are such bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PacketOf<B> {
    /// The client's opening.
    Syn(Box<SynPacket>),
    /// The agent's answer.
    SynAck(Box<Signed<SynAck>>),
    /// A data frame from the client.
    Data(B),
    /// A data frame from the agent.
    DataAck(B),
    /// A control frame.
    Control(B),
    /// A refusal that proves nothing.
    Refusal(Code),
    /// The client on a new carrier.
    Resume(Resume),
    /// The agent's answer.
    ResumeAck(ResumeAck),
    /// The client's proof that it is there now.
    ResumeDone(ResumeDone),
    /// The agent's answer for a session that it does not know.
    Forgotten(Box<Signed<Forgotten>>),
}

/// `Syn` and, unless it is believed to be known, the certificate it names.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SynPacket {
    /// The signed message.
    pub syn: Signed<Syn>,
    /// The certificate.
    pub certificate: Option<Vec<u8>>,
}

impl std::fmt::Debug for SynPacket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SynPacket").field("syn", &self.syn).finish_non_exhaustive()
    }
}

/// The client on a new carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Resume {
    /// The session.
    pub session: Digest,
    /// Strictly rising.
    pub epoch: u64,
    /// The client's random.
    pub random: [u8; 32],
    /// The next data number the client expects.
    pub position: u64,
    /// HMAC under the session's resume key.
    pub proof: [u8; 32],
}

/// The agent's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ResumeAck {
    /// The epoch answered.
    pub epoch: u64,
    /// The agent's random.
    pub random: [u8; 32],
    /// The next data number the agent expects.
    pub position: u64,
    /// HMAC over both randoms and positions.
    pub proof: [u8; 32],
}

/// The client's proof that it saw the agent's random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ResumeDone {
    /// The epoch.
    pub epoch: u64,
    /// HMAC over both randoms and positions.
    pub proof: [u8; 32],
}

/// What an agent signs for a session that it does not know: one that ended, or that died with an earlier start of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Forgotten {
    /// The session.
    pub session: Digest,
    /// The random of the [`Resume`] that this answers, so that no answer is kept for later.
    pub random: [u8; 32],
}

impl Object for Forgotten {
    const LABEL: Label = Label::Forgotten;
    const VERSION: u16 = 1;
    const LIMIT: usize = 256;
}

impl<B: AsRef<[u8]>> PacketOf<B> {
    /// The packet's bytes.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] above [`MAX_PACKET`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let frame = |kind: u8, body: &[u8]| [&[kind], body].concat();
        let with = |kind: u8, body: Vec<u8>| frame(kind, &body);
        let bytes = match self {
            Self::Syn(syn) => with(1, wire::encode(syn.as_ref(), MAX_PACKET)?),
            Self::SynAck(ack) => with(2, wire::encode(ack.as_ref(), MAX_PACKET)?),
            Self::Data(body) => frame(3, body.as_ref()),
            Self::DataAck(body) => frame(4, body.as_ref()),
            Self::Control(body) => frame(5, body.as_ref()),
            Self::Refusal(code) => with(6, wire::encode(code, MAX_PACKET)?),
            Self::Resume(resume) => with(7, wire::encode(resume, MAX_PACKET)?),
            Self::ResumeAck(ack) => with(8, wire::encode(ack, MAX_PACKET)?),
            Self::ResumeDone(done) => with(9, wire::encode(done, MAX_PACKET)?),
            Self::Forgotten(forgotten) => with(10, wire::encode(forgotten.as_ref(), MAX_PACKET)?),
        };
        if bytes.len() > MAX_PACKET { Err(WireError::TooLarge { limit: MAX_PACKET }) } else { Ok(bytes) }
    }

    /// The packet's name, for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Syn(_) => "Syn",
            Self::SynAck(_) => "SynAck",
            Self::Data(_) => "Data",
            Self::DataAck(_) => "DataAck",
            Self::Control(_) => "Control",
            Self::Refusal(_) => "Refusal",
            Self::Resume(_) => "Resume",
            Self::ResumeAck(_) => "ResumeAck",
            Self::ResumeDone(_) => "ResumeDone",
            Self::Forgotten(_) => "Forgotten",
        }
    }
}

impl Packet {
    /// The packet in exactly these bytes.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Ok(match PacketRef::peek(bytes)? {
            PacketRef::Data(frame) => Self::Data(frame.to_vec()),
            PacketRef::DataAck(frame) => Self::DataAck(frame.to_vec()),
            PacketRef::Control(frame) => Self::Control(frame.to_vec()),
            PacketRef::Syn(syn) => Self::Syn(syn),
            PacketRef::SynAck(ack) => Self::SynAck(ack),
            PacketRef::Refusal(code) => Self::Refusal(code),
            PacketRef::Resume(resume) => Self::Resume(resume),
            PacketRef::ResumeAck(ack) => Self::ResumeAck(ack),
            PacketRef::ResumeDone(done) => Self::ResumeDone(done),
            PacketRef::Forgotten(forgotten) => Self::Forgotten(forgotten),
        })
    }
}

impl<'a> PacketRef<'a> {
    /// The packet in exactly these bytes, its frame not copied.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn peek(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_PACKET {
            return Err(WireError::TooLarge { limit: MAX_PACKET });
        }
        let (kind, body) = bytes.split_first().ok_or(WireError::Malformed)?;
        match kind {
            1 => wire::decode(body, MAX_PACKET).map(|s| Self::Syn(Box::new(s))),
            2 => wire::decode(body, MAX_PACKET).map(|s| Self::SynAck(Box::new(s))),
            3 => Ok(Self::Data(body)),
            4 => Ok(Self::DataAck(body)),
            5 => Ok(Self::Control(body)),
            6 => wire::decode(body, MAX_PACKET).map(Self::Refusal),
            7 => wire::decode(body, MAX_PACKET).map(Self::Resume),
            8 => wire::decode(body, MAX_PACKET).map(Self::ResumeAck),
            9 => wire::decode(body, MAX_PACKET).map(Self::ResumeDone),
            10 => wire::decode(body, MAX_PACKET).map(|f| Self::Forgotten(Box::new(f))),
            _ => Err(WireError::Malformed),
        }
    }
}
