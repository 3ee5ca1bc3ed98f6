//! A client that keeps no rule: it has a login and a grant, and seals what it likes.

use bz_core::digest::Digest;
use bz_core::key::EphemeralKey;
use bz_core::signed::Signed;
use bz_core::time::Now;

use crate::checkpoint::{Signer, Statement};
use crate::client::Opening;
use crate::flow::{ResumeKeys, Resuming};
use crate::frame::{Chain, HEADER_BYTES, Header, Kind, commitment};
use crate::handshake::{Syn, SynAck, session_id};
use crate::hostile::organization::KitError;
use crate::hostile::scenario::Rogue;
use crate::hostile::talk::Talker;
use crate::keys::{Channel, Direction, Secrets, Space};
use crate::limits::{MAX_PAYLOAD, SUITES, VERSIONS};
use crate::packet::{Packet, SynPacket};

/// Rounds of bytes that are more than anybody takes unsigned.
const ROUNDS: u32 = 20;

/// Its end of a session. Inspected only.
pub struct RogueClient {
    kind: Rogue,
    opening: Opening,
    syn: Signed<Syn>,
    ephemeral: Option<EphemeralKey>,
    line: String,
    other: String,
    keys: Option<Keys>,
    streams: u32,
    leaves: bool,
    did: bool,
}

struct Keys {
    session: Digest,
    out: Channel,
    resume: ResumeKeys,
    chain: Chain,
    peer: Chain,
    number: u64,
    bytes: u64,
    heard: u64,
    resuming: Option<Resuming>,
}

impl std::fmt::Debug for RogueClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RogueClient").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl RogueClient {
    /// A session that is not asked for yet. It types `line`, and then, or in its place, `other`.
    ///
    /// # Errors
    /// When a seed gives no key, or something is too large.
    pub fn new(kind: Rogue, opening: Opening, (line, other): (String, String)) -> Result<Self, KitError> {
        let ephemeral = EphemeralKey::from_seed(&opening.ephemeral_seed)?;
        let body = Syn {
            versions: VERSIONS.to_vec(),
            suites: SUITES.to_vec(),
            ephemeral: ephemeral.public(),
            random: opening.random,
            agent_key: opening.agent_key,
            connection: opening.connection,
            request: opening.request.clone(),
            certificate: Digest::of(&opening.certificate),
            grant: opening.grant.clone(),
        };
        let syn = Signed::seal(&body, opening.organization, &opening.key)?;
        Ok(Self {
            kind,
            opening,
            syn,
            ephemeral: Some(ephemeral),
            line,
            other,
            keys: None,
            streams: 0,
            leaves: false,
            did: false,
        })
    }

    /// Whether it came to break a rule: it was let in, and said what it should not.
    #[must_use]
    pub const fn did(&self) -> bool {
        self.did
    }

    fn opened(&mut self, now: Now, ack: &Signed<SynAck>) -> Option<Vec<Vec<u8>>> {
        let body = ack.open(&self.opening.agent_key, self.opening.organization).ok()?;
        let session = session_id(&self.syn, ack);
        let shared = self.ephemeral.take()?.agree(&body.ephemeral);
        let secrets = Secrets::new(&shared, &session, bz_core::access::Mode::Inspected);
        self.keys = Some(Keys {
            session,
            out: secrets.channel(Direction::ToAgent, Space::Data),
            resume: ResumeKeys::new(secrets.resume(), session),
            chain: Chain::new(&session, Direction::ToAgent),
            peer: Chain::new(&session, Direction::ToClient),
            number: 0,
            bytes: 0,
            heard: 0,
            resuming: None,
        });
        let mut packets = vec![self.checkpoint(now, 0)?];
        match self.kind {
            Rogue::WrongTags => {
                let mut typed = self.typed(&self.line.clone())?;
                if let Some(last) = typed.last_mut() {
                    *last ^= 1;
                }
                packets.push(typed);
            }
            Rogue::OtherBytes => {
                packets.push(self.typed(&self.line.clone())?);
                packets.push(self.checkpoint(now, 0)?);
            }
            Rogue::NoCheckpoints | Rogue::TooMuch => {
                let filler = "x".repeat(MAX_PAYLOAD);
                for round in 0..ROUNDS {
                    // Streams in turn, so that no stream's credit is what runs out.
                    let stream = if self.kind == Rogue::TooMuch { 1 } else { round % 16 };
                    packets.push(self.frame(Kind::Bytes, stream, filler.as_bytes())?);
                }
                packets.push(self.typed(&self.other.clone())?);
            }
            Rogue::FalseCheckpoint => {
                packets.push(self.typed(&self.line.clone())?);
                packets.push(self.checkpoint(now, 1)?);
                packets.push(self.typed(&self.other.clone())?);
            }
        }
        self.did = self.kind != Rogue::OtherBytes;
        Some(packets)
    }

    fn typed(&mut self, line: &str) -> Option<Vec<u8>> {
        self.frame(Kind::Bytes, 0, format!("{line}\n").as_bytes())
    }

    fn checkpoint(&mut self, now: Now, lie: u64) -> Option<Vec<u8>> {
        let keys = self.keys.as_ref()?;
        let statement = Statement {
            session: keys.session,
            number: keys.number,
            head: keys.chain.head(),
            peer_number: 0,
            peer_head: keys.peer.head(),
            bytes: keys.bytes.saturating_add(lie),
            time: now.wall,
        };
        let signer = Signer { organization: self.opening.organization, direction: Direction::ToAgent };
        let payload = signer.sign(statement, &self.opening.key).ok()?;
        self.frame(Kind::Checkpoint, 0, &payload)
    }

    fn frame(&mut self, kind: Kind, stream: u32, payload: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.as_mut()?;
        let header: [u8; HEADER_BYTES] = Header { number: keys.number, peer: 0, kind: Some(kind), stream }.to_bytes();
        let salt = keys.out.salt(keys.number);
        let mut frame = [header.as_slice(), &salt].concat();
        keys.out.seal(keys.number, &mut frame, &[payload]).ok()?;
        keys.chain.add(&header, &commitment(&salt, payload));
        keys.number = keys.number.saturating_add(1);
        if kind == Kind::Bytes {
            keys.bytes = keys.bytes.saturating_add(payload.len() as u64);
        }
        Packet::Data(frame).encode().ok()
    }

    /// On a new stream: the session goes on, with other bytes under the numbers of those that it sent.
    fn resume(&mut self) -> Option<Vec<u8>> {
        let keys = self.keys.as_mut()?;
        let resuming = Resuming { epoch: 1, client: ([5; 32], keys.heard), agent: ([0; 32], 0) };
        keys.resuming = Some(resuming);
        Packet::Resume(keys.resume.resume(1, resuming.client.0, resuming.client.1)).encode().ok()
    }

    fn resumed(&mut self, ack: &crate::packet::ResumeAck) -> Option<Vec<Vec<u8>>> {
        let keys = self.keys.as_mut()?;
        let mut resuming = keys.resuming?;
        resuming.agent = (ack.random, ack.position);
        let done = Packet::ResumeDone(keys.resume.done(&resuming)).encode().ok()?;
        // The line's own number once more, though the agent says that it has it.
        (keys.number, keys.chain) = (1, Chain::new(&keys.session, Direction::ToAgent));
        let other = self.other.clone();
        let packets = vec![done, self.typed(&other)?];
        self.did = true;
        Some(packets)
    }
}

impl Talker for RogueClient {
    fn begin(&mut self, _now: Now) -> Vec<Vec<u8>> {
        self.streams = self.streams.saturating_add(1);
        self.leaves = false;
        match self.streams {
            1 => {
                let certificate = Some(self.opening.certificate.clone());
                let syn = Packet::Syn(Box::new(SynPacket { syn: self.syn.clone(), certificate }));
                syn.encode().into_iter().collect()
            }
            2 if self.kind == Rogue::OtherBytes => self.resume().into_iter().collect(),
            _ => vec![],
        }
    }

    fn hear(&mut self, now: Now, packet: &[u8]) -> Vec<Vec<u8>> {
        match Packet::decode(packet) {
            Ok(Packet::SynAck(ack)) => self.opened(now, &ack).unwrap_or_default(),
            Ok(Packet::ResumeAck(ack)) => self.resumed(&ack).unwrap_or_default(),
            Ok(Packet::DataAck(frame)) => {
                let answered = frame.windows(4).any(|window| window == b"did ");
                if let Some(keys) = &mut self.keys {
                    keys.heard = keys.heard.saturating_add(1);
                }
                self.leaves = answered && self.kind == Rogue::OtherBytes && self.streams == 1;
                vec![]
            }
            _ => vec![],
        }
    }

    fn leaves(&mut self) -> bool {
        self.leaves
    }
}
