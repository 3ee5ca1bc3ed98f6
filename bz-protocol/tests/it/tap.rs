//! What a relay that records does: observes each packet and appends what it is told to.

use bz_core::grant::{Purpose, ServerCert};
use bz_core::key::PrivateKey;
use bz_core::signed::Signed;
use bz_core::time::UnixTime;
use bz_protocol::frame::Kind;
use bz_protocol::keys::Direction;
use bz_protocol::transcript::{
    JwksArchive, Keep, Observer, Parties, Position, Reader, Record, ServerRecord, Violation, Writer,
};

use crate::idp::ISSUER;
use crate::sim::Side;
use crate::world::{CONNECTION, ORG, START, World, key};

pub(crate) struct Tap {
    /// Whether it sees packets when they arrive, not when they leave: what is lost on the way was lost before it.
    pub(crate) far: bool,
    pub(crate) observer: Observer,
    pub(crate) file: Vec<u8>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) conflicts: Vec<u64>,
    /// Stream bytes seen, to the agent and to the client.
    pub(crate) seen: (Vec<u8>, Vec<u8>),
    writer: Writer,
    parties: Parties,
    keep: Keep,
}

impl Tap {
    pub(crate) fn new(world: &World, keep: Keep) -> Self {
        Self::with(parties(world), keep)
    }

    pub(crate) fn with(parties: Parties, keep: Keep) -> Self {
        let (writer, file) = Writer::new();
        let observer = Observer::new(parties.clone(), keep);
        let (violations, conflicts) = (vec![], vec![]);
        Self { far: false, observer, file, violations, conflicts, seen: (vec![], vec![]), writer, parties, keep }
    }

    pub(crate) fn observe(&mut self, to: Side, packet: &[u8]) {
        let direction = match to {
            Side::Agent => Direction::ToAgent,
            Side::Client => Direction::ToClient,
        };
        match self.observer.observe(direction, packet) {
            Err(violation) => self.violations.push(violation),
            Ok(observed) => {
                observed.keep.iter().for_each(|record| self.append(record));
                self.conflicts.extend(observed.conflict);
                if let Some(seen) = observed.seen.filter(|seen| seen.kind == Some(Kind::Bytes)) {
                    match direction {
                        Direction::ToAgent => self.seen.0.extend(seen.payload),
                        Direction::ToClient => self.seen.1.extend(seen.payload),
                    }
                }
            }
        }
    }

    pub(crate) fn append(&mut self, record: &Record) {
        let bytes = self.writer.append(record).unwrap();
        self.file.extend(bytes);
    }

    /// The server signs for everything so far.
    pub(crate) fn claim(&mut self, world: &World, reason: &str) {
        let claim = self.writer.claim(UnixTime::from_secs(START + 60), reason).unwrap();
        let certificate = certificate(world, Purpose::Record);
        let server = ServerRecord::sign(&claim, ORG, certificate, &record_key()).unwrap();
        self.append(&Record::Server(Box::new(server)));
    }

    /// The server crashes while it writes a record, and starts again.
    pub(crate) fn restart(&mut self) {
        self.file.extend([7, 0, 0, 0, 54]);
        let (observer, writer, length) = Observer::resume(self.parties.clone(), self.keep, &self.file).unwrap();
        self.file.truncate(length);
        (self.observer, self.writer) = (observer, writer);
    }
}

pub(crate) fn record_key() -> PrivateKey {
    key(14)
}

pub(crate) fn certificate(world: &World, purpose: Purpose) -> Signed<ServerCert> {
    let certificate = ServerCert {
        key: record_key().public(),
        purpose,
        node: "one".to_owned(),
        not_before: UnixTime::from_secs(START - 10),
        not_after: UnixTime::from_secs(START + 86400),
    };
    Signed::seal(&certificate, ORG, &world.root).unwrap()
}

pub(crate) fn parties(world: &World) -> Parties {
    Parties {
        organization: ORG,
        root: world.root.public(),
        connection: CONNECTION,
        client_key: world.client_key.public(),
        agent_key: world.agent_key.public(),
        certificates: vec![world.certificate(0)],
        keys: World::jwks(),
        directory: None,
    }
}

pub(crate) fn archive() -> JwksArchive {
    let mut archive = JwksArchive::new();
    archive.add(ISSUER, &World::jwks()).unwrap();
    archive
}

pub(crate) fn records(file: &[u8]) -> Vec<(Position, Record)> {
    Reader::new(file).unwrap().map(Result::unwrap).collect()
}

/// A file of these records, as a forger writes it.
pub(crate) fn file<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<u8> {
    let (mut writer, mut file) = Writer::new();
    for record in records {
        file.extend(writer.append(record).unwrap());
    }
    file
}
