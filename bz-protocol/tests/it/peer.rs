//! Either end by the letter of `docs/protocol.md`, apart from the crate's own machines: it shares no key schedule and
//! no frame code with them, and keeps no rule unless told to.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bz_core::access::Mode;
use bz_core::digest::Digest;
use bz_core::key::{EphemeralKey, PrivateKey};
use bz_core::signed::Signed;
use bz_core::time::UnixTime;
use bz_core::wire;
use bz_protocol::checkpoint::{AgentCheckpoint, ClientCheckpoint, Statement};
use bz_protocol::frame::{Chain, Kind, commitment};
use bz_protocol::handshake::{Syn, SynAck, session_id};
use bz_protocol::keys::Direction;
use bz_protocol::packet::{Packet, Resume, ResumeAck, ResumeDone};
use hkdf::Hkdf;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use sha2::Sha256;

use crate::world::{AGENT_SEED, CLIENT_SEED, ORG, START, World};

pub(crate) struct Peer {
    keys: Hkdf<Sha256>,
    mode: Mode,
    key: PrivateKey,
    out: Direction,
    pub(crate) session: Digest,
    pub(crate) number: u64,
    pub(crate) chain: Chain,
    /// Payload bytes of streams sent.
    pub(crate) bytes: u64,
    pub(crate) seen: u64,
    pub(crate) seen_chain: Chain,
    pub(crate) control: u64,
    /// By their names, so that long tests derive each once.
    derived: RefCell<BTreeMap<String, [u8; 32]>>,
}

impl Peer {
    /// The client's end of a handshake that both machines' seeds decide.
    pub(crate) fn client(world: &World, syn: &Signed<Syn>, ack: &Signed<SynAck>) -> Self {
        let ephemeral = ack.open(&world.agent_key.public(), ORG).unwrap().ephemeral;
        let shared = EphemeralKey::from_seed(&CLIENT_SEED).unwrap().agree(&ephemeral);
        Self::new(world.mode, &world.client_key, Direction::ToAgent, session_id(syn, ack), &shared)
    }

    /// The agent's end.
    pub(crate) fn agent(world: &World, syn: &Signed<Syn>, ack: &Signed<SynAck>) -> Self {
        let ephemeral = syn.open(&world.client_key.public(), ORG).unwrap().ephemeral;
        let shared = EphemeralKey::from_seed(&AGENT_SEED).unwrap().agree(&ephemeral);
        Self::new(world.mode, &world.agent_key, Direction::ToClient, session_id(syn, ack), &shared)
    }

    fn new(mode: Mode, key: &PrivateKey, out: Direction, session: Digest, shared: &[u8; 32]) -> Self {
        Self {
            keys: Hkdf::new(Some(session.as_bytes()), shared),
            mode,
            key: key.clone(),
            out,
            session,
            number: 0,
            chain: Chain::new(&session, out),
            bytes: 0,
            seen: 0,
            seen_chain: Chain::new(&session, out.reverse()),
            control: 0,
            derived: RefCell::default(),
        }
    }

    /// The next data packet, whatever it carries.
    pub(crate) fn data(&mut self, kind: Kind, stream: u32, payload: &[u8]) -> Vec<u8> {
        if self.mode == Mode::Sealed && kind == Kind::Fin && self.out == Direction::ToClient {
            return self.readable(kind, stream, payload);
        }
        let mut header = [self.number.to_be_bytes(), self.seen.to_be_bytes()].concat();
        let frame = match self.mode {
            Mode::Inspected => {
                header.push(kind.byte());
                header.extend(stream.to_be_bytes());
                let salt = self.salt();
                self.chain.add(&header.clone().try_into().unwrap(), &commitment(&salt, payload));
                self.tagged("data", self.number, [header.as_slice(), &salt, payload].concat())
            }
            Mode::Sealed => {
                header.extend([0; 5]);
                let inner = [&[kind.byte()], stream.to_be_bytes().as_slice(), payload].concat();
                let frame = self.encrypted("data", self.number, header.clone(), inner);
                let tag = &frame[frame.len() - 16..];
                self.chain.add(&header.try_into().unwrap(), &commitment(&[0; 16], tag));
                frame
            }
        };
        self.number += 1;
        if kind == Kind::Bytes {
            self.bytes += payload.len() as u64;
        }
        let packet = if self.out == Direction::ToAgent { Packet::Data(frame) } else { Packet::DataAck(frame) };
        packet.encode().unwrap()
    }

    /// The next data packet, readable whatever the mode.
    pub(crate) fn readable(&mut self, kind: Kind, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut header = [self.number.to_be_bytes(), self.seen.to_be_bytes()].concat();
        header.push(kind.byte());
        header.extend(stream.to_be_bytes());
        let salt = self.salt();
        self.chain.add(&header.clone().try_into().unwrap(), &commitment(&salt, payload));
        let frame = self.tagged("data", self.number, [header.as_slice(), &salt, payload].concat());
        self.number += 1;
        let packet = if self.out == Direction::ToAgent { Packet::Data(frame) } else { Packet::DataAck(frame) };
        packet.encode().unwrap()
    }

    /// What an honest end would sign now.
    pub(crate) fn statement(&self) -> Statement {
        Statement {
            session: self.session,
            number: self.number,
            head: self.chain.head(),
            peer_number: self.seen,
            peer_head: self.seen_chain.head(),
            bytes: self.bytes,
            time: UnixTime::from_secs(START),
        }
    }

    pub(crate) fn checkpoint(&mut self) -> Vec<u8> {
        let payload = self.sign(self.statement());
        self.data(Kind::Checkpoint, 0, &payload)
    }

    /// A checkpoint's payload.
    pub(crate) fn sign(&self, statement: Statement) -> Vec<u8> {
        match self.out {
            Direction::ToAgent => {
                wire::encode(&Signed::seal(&ClientCheckpoint(statement), ORG, &self.key).unwrap(), 1024)
            }
            Direction::ToClient => {
                wire::encode(&Signed::seal(&AgentCheckpoint(statement), ORG, &self.key).unwrap(), 1024)
            }
        }
        .unwrap()
    }

    /// Takes note of the other end's data packet, and gives what it carries.
    pub(crate) fn saw(&mut self, packet: &[u8]) -> Vec<u8> {
        let (frame, header): (_, [u8; 21]) = (&packet[1..], packet[1..22].try_into().unwrap());
        let body = &frame[21..frame.len() - 16];
        self.seen += 1;
        match self.mode {
            Mode::Inspected => {
                self.seen_chain.add(&header, &commitment(body[..16].try_into().unwrap(), &body[16..]));
                body[16..].to_vec()
            }
            Mode::Sealed if header[16] == 0 => {
                self.seen_chain.add(&header, &commitment(&[0; 16], &frame[frame.len() - 16..]));
                Vec::new()
            }
            Mode::Sealed => {
                self.seen_chain.add(&header, &commitment(body[..16].try_into().unwrap(), &body[16..]));
                body[16..].to_vec()
            }
        }
    }

    /// The next control packet.
    pub(crate) fn control(&mut self, received: u64, session: u64, streams: &[(u32, u64)]) -> Vec<u8> {
        let body = wire::encode(&(received, session, streams.to_vec()), 8192).unwrap();
        let number = self.control;
        self.control += 1;
        let head = number.to_be_bytes().to_vec();
        let frame = match self.mode {
            Mode::Inspected => self.tagged("control", number, [head, body].concat()),
            Mode::Sealed => self.encrypted("control", number, head, body),
        };
        Packet::Control(frame).encode().unwrap()
    }

    pub(crate) fn resume(&self, epoch: u64, random: [u8; 32]) -> Resume {
        let proof = self.prove("client", &[&epoch.to_be_bytes(), &random, &self.seen.to_be_bytes()]);
        Resume { session: self.session, epoch, random, position: self.seen, proof }
    }

    pub(crate) fn resume_ack(&self, resume: &Resume, random: [u8; 32]) -> ResumeAck {
        let mut ack = ResumeAck { epoch: resume.epoch, random, position: self.seen, proof: [0; 32] };
        ack.proof = self.prove_both("agent", resume, &ack);
        ack
    }

    pub(crate) fn resume_done(&self, resume: &Resume, ack: &ResumeAck) -> ResumeDone {
        ResumeDone { epoch: resume.epoch, proof: self.prove_both("done", resume, ack) }
    }

    fn prove_both(&self, step: &str, resume: &Resume, ack: &ResumeAck) -> [u8; 32] {
        let (client, agent) = (resume.position.to_be_bytes(), ack.position.to_be_bytes());
        self.prove(step, &[&resume.epoch.to_be_bytes(), &resume.random, &client, &ack.random, &agent])
    }

    fn prove(&self, step: &str, parts: &[&[u8]]) -> [u8; 32] {
        let message = [b"bz/1 resume ", step.as_bytes(), &[0], self.session.as_bytes(), &parts.concat()].concat();
        hmac_of(&self.expand("resume"), &message)
    }

    fn salt(&self) -> [u8; 16] {
        let salts = self.expand(&format!("salt, {}, data", self.way()));
        hmac_of(&salts, &self.number.to_be_bytes())[..16].try_into().unwrap()
    }

    fn tagged(&self, space: &str, number: u64, mut frame: Vec<u8>) -> Vec<u8> {
        let key = self.aead(space);
        let tag = key.seal_in_place_separate_tag(nonce(number), Aad::from(&frame), &mut []).unwrap();
        frame.extend(tag.as_ref());
        frame
    }

    fn encrypted(&self, space: &str, number: u64, mut head: Vec<u8>, mut body: Vec<u8>) -> Vec<u8> {
        self.aead(space).seal_in_place_append_tag(nonce(number), Aad::from(&head), &mut body).unwrap();
        head.extend(body);
        head
    }

    fn aead(&self, space: &str) -> LessSafeKey {
        let secret = self.expand(&format!("channel, {}, {space}", self.way()));
        let mut key = [0; 32];
        Hkdf::<Sha256>::from_prk(&secret).unwrap().expand(b"bz/1 aead", &mut key).unwrap();
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap())
    }

    fn expand(&self, what: &str) -> [u8; 32] {
        *self.derived.borrow_mut().entry(what.to_owned()).or_insert_with(|| {
            let mut out = [0; 32];
            self.keys.expand(format!("bz/1 {} {what}", self.mode).as_bytes(), &mut out).unwrap();
            out
        })
    }

    const fn way(&self) -> &'static str {
        match self.out {
            Direction::ToAgent => "to agent",
            Direction::ToClient => "to client",
        }
    }
}

fn hmac_of(key: &[u8], message: &[u8]) -> [u8; 32] {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().try_into().unwrap()
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
