//! Going on over another carrier: three messages that prove both ends are there now and agree on the positions.

use bz_core::digest::Digest;
use ring::hmac;

use crate::flow::Misbehavior;
use crate::packet::{Resume, ResumeAck, ResumeDone};

/// Makes and checks the proofs.
pub(crate) struct ResumeKeys {
    key: hmac::Key,
    session: Digest,
}

/// A resumption under way, as both ends see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resuming {
    pub(crate) epoch: u64,
    pub(crate) client: ([u8; 32], u64),
    pub(crate) agent: ([u8; 32], u64),
}

impl ResumeKeys {
    pub(crate) const fn new(key: hmac::Key, session: Digest) -> Self {
        Self { key, session }
    }

    pub(crate) fn resume(&self, epoch: u64, random: [u8; 32], position: u64) -> Resume {
        let proof = self.prove("client", &first(epoch, (random, position)));
        Resume { session: self.session, epoch, random, position, proof }
    }

    pub(crate) fn check_resume(&self, resume: &Resume) -> Result<(), Misbehavior> {
        let same = resume.session == self.session;
        let proved = self.verify("client", &first(resume.epoch, (resume.random, resume.position)), &resume.proof);
        if same && proved { Ok(()) } else { Err(Misbehavior::Resume) }
    }

    pub(crate) fn ack(&self, resuming: &Resuming) -> ResumeAck {
        let (random, position) = resuming.agent;
        ResumeAck { epoch: resuming.epoch, random, position, proof: self.prove("agent", &both(resuming)) }
    }

    pub(crate) fn check_ack(&self, ack: &ResumeAck, resuming: &Resuming) -> Result<(), Misbehavior> {
        if self.verify("agent", &both(resuming), &ack.proof) { Ok(()) } else { Err(Misbehavior::Resume) }
    }

    pub(crate) fn done(&self, resuming: &Resuming) -> ResumeDone {
        ResumeDone { epoch: resuming.epoch, proof: self.prove("done", &both(resuming)) }
    }

    pub(crate) fn check_done(&self, done: &ResumeDone, resuming: &Resuming) -> Result<(), Misbehavior> {
        let proved = self.verify("done", &both(resuming), &done.proof);
        if done.epoch == resuming.epoch && proved { Ok(()) } else { Err(Misbehavior::Resume) }
    }

    fn prove(&self, step: &str, content: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.key, &self.message(step, content));
        let mut proof = [0; 32];
        for (to, from) in proof.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        proof
    }

    fn verify(&self, step: &str, content: &[u8], proof: &[u8; 32]) -> bool {
        hmac::verify(&self.key, &self.message(step, content), proof).is_ok()
    }

    fn message(&self, step: &str, content: &[u8]) -> Vec<u8> {
        [b"bz/1 resume ", step.as_bytes(), &[0], self.session.as_bytes(), content].concat()
    }
}

fn first(epoch: u64, (random, position): ([u8; 32], u64)) -> Vec<u8> {
    [epoch.to_be_bytes().as_slice(), &random, &position.to_be_bytes()].concat()
}

fn both(resuming: &Resuming) -> Vec<u8> {
    let (random, position) = resuming.agent;
    [first(resuming.epoch, resuming.client).as_slice(), &random, &position.to_be_bytes()].concat()
}
