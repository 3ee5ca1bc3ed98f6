//! Transcripts as one asciicast, record by record: whole when somebody downloads it, as it grows when somebody watches.

use std::collections::BTreeMap;

use bz_core::access::Access;
use bz_core::access::request::{Request, Size};
use bz_core::digest::Digest;
use bz_core::grant::{MAX_GRANT, SignedGrant};
use bz_core::key::PublicKey;
use bz_core::time::UnixTime;
use bz_core::wire;
use bz_protocol::checkpoint::Signer;
use bz_protocol::frame::{Chain, Kind};
use bz_protocol::handshake::{Predecessor, Syn, session_id};
use bz_protocol::keys::Direction;
use bz_protocol::ssh::Decoder;
use bz_protocol::transcript::{Embedded, Frame, Opening, Reader, Record, Refused};

use crate::record::cast::{Cast, SIZE};

const MAX_SIZE: usize = 16;
/// What a cast says where its transcript cannot be read.
const DAMAGED: &str = "the record is damaged from here on";

/// The asciicast of these transcripts of one connection, oldest first, as far as they can be read.
///
/// Of one that goes on, what has no time yet is left out: so what is given of it is the beginning of what will be.
#[must_use]
pub fn asciicast<'a>(files: impl IntoIterator<Item = &'a [u8]>, ended: bool) -> String {
    let files: Vec<&[u8]> = files.into_iter().collect();
    let mut view = View::default();
    files.iter().for_each(|file| view.knows(file));
    for (at, file) in files.iter().enumerate() {
        view.begin(file);
        match Reader::new(file) {
            Ok(records) => records.for_each(|next| match next {
                Ok((_, record)) => view.take(record),
                Err(_) => view.damaged(),
            }),
            Err(_) => view.damaged(),
        }
        if ended || at + 1 < files.len() {
            view.end();
        }
    }
    view.cast.into_text()
}

/// What was read so far.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) cast: Cast,
    /// How far each session's output was told when another went on with it.
    heads: BTreeMap<Digest, Digest>,
    segment: bool,
    anchors: Option<Embedded>,
    agent: Option<Agent>,
    again: Option<Again>,
}

impl View {
    /// Learns from a transcript's first records whether it tells again what another one holds.
    pub(crate) fn knows(&mut self, head: &[u8]) {
        let part = part(head).unwrap_or_default();
        self.heads.extend(part.predecessor.map(|p| (p.session, p.to_client)));
    }

    /// A transcript begins; it is known by its first records.
    pub(crate) fn begin(&mut self, head: &[u8]) {
        let Part { id, segment, .. } = part(head).unwrap_or_default();
        self.segment = segment;
        (self.anchors, self.agent) = (None, None);
        self.again = id.and_then(|id| Some(Again::new(&id, self.heads.get(&id)?)));
    }

    /// Its next record.
    pub(crate) fn take(&mut self, record: Record) {
        match record {
            Record::Anchors(embedded) => self.anchors = Some(embedded),
            Record::Opening(opening) => {
                let opened = self.anchors.as_ref().and_then(|anchors| opened(anchors, &opening));
                if let Some((_, began, size)) = opened.as_ref().filter(|_| !self.segment) {
                    self.cast.begins(*began, *size);
                }
                self.agent = opened.map(|(agent, ..)| agent);
                self.cast.said = self.agent.as_ref().filter(|agent| agent.ends_ssh).map(|_| Decoder::default());
            }
            Record::Frame { direction, frame } => {
                let comes_again = self.again.as_mut().is_some_and(|again| again.has(direction, &frame));
                if !comes_again || frame.header.kind == Some(Kind::Checkpoint) {
                    take(&mut self.cast, direction, &frame, self.agent.as_ref());
                }
            }
            Record::Directory(_)
            | Record::Predecessor(_)
            | Record::Segment(_)
            | Record::Checkpoint { .. }
            | Record::Conflict { .. }
            | Record::Server(_) => {}
        }
    }

    /// Nothing more comes of it.
    pub(crate) fn end(&mut self) {
        self.cast.part_ends();
    }

    /// Nothing more of it can be read.
    pub(crate) fn damaged(&mut self) {
        self.cast.part_ends();
        self.cast.mark(DAMAGED);
    }
}

/// Which frames to the client the transcript behind this one tells again: those behind the head that it names.
struct Again {
    chain: Chain,
    last: Digest,
}

impl Again {
    fn new(session: &Digest, last: &Digest) -> Self {
        Self { chain: Chain::new(session, Direction::ToClient), last: *last }
    }

    fn has(&mut self, direction: Direction, frame: &Frame) -> bool {
        let again = direction == Direction::ToClient && self.chain.head() == self.last;
        if direction == Direction::ToClient && !again {
            self.chain.add(&frame.header.to_bytes(), &frame.commitment());
        }
        again
    }
}

/// What a transcript is of.
#[derive(Default)]
struct Part {
    id: Option<Digest>,
    segment: bool,
    predecessor: Option<Predecessor>,
}

fn part(file: &[u8]) -> Result<Part, Refused> {
    let mut part = Part::default();
    let (mut anchors, mut agent) = (None, None);
    for next in Reader::new(file)? {
        match next?.1 {
            Record::Anchors(embedded) => anchors = Some(embedded),
            Record::Opening(opening) => {
                part.id = Some(session_id(&opening.syn, &opening.answer));
                agent = anchors.as_ref().and_then(|anchors| opened(anchors, &opening)).map(|(agent, ..)| agent);
            }
            Record::Segment(opening) => {
                let body = agent.as_ref().and_then(|a| opening.open(&a.key, a.signer.organization).ok());
                let predecessor = body.and_then(|body| body.predecessor);
                part = Part { id: Some(opening.digest()), segment: true, predecessor };
            }
            Record::Predecessor(predecessor) => part.predecessor = Some(predecessor),
            Record::Directory(_) => {}
            Record::Frame { .. } | Record::Checkpoint { .. } | Record::Conflict { .. } | Record::Server(_) => break,
        }
    }
    Ok(part)
}

/// Whoever signed the session's checkpoints to the client.
struct Agent {
    signer: Signer,
    key: PublicKey,
    /// The content is SSH, and what it shows is said beside it.
    ends_ssh: bool,
}

fn opened(anchors: &Embedded, opening: &Opening) -> Option<(Agent, UnixTime, Size)> {
    let organization = anchors.organization;
    let client = |syn: &Syn| {
        let signed: SignedGrant = wire::decode(&syn.grant, MAX_GRANT).ok()?;
        let certificate = signed.certificate.open(&anchors.root, organization).ok()?;
        signed.grant.open(&certificate.key, organization).ok().map(|grant| grant.client_key)
    };
    let syn = opening.syn.open_by(organization, client).ok()?;
    let answer = opening.answer.open(&syn.agent_key, organization).ok()?;
    let parameters = Request::decode(&syn.request).ok()?.parameters;
    let (size, ends_ssh) = (parameters.size().unwrap_or(SIZE), parameters.access() == Access::SshServer);
    let signer = Signer { organization, direction: Direction::ToClient };
    let agent = Agent { signer, key: syn.agent_key, ends_ssh };
    Some((agent, answer.verified_at, size))
}

fn take(cast: &mut Cast, direction: Direction, frame: &Frame, agent: Option<&Agent>) {
    let Some(payload) = frame.payload() else { return };
    match (frame.header.kind, direction, agent) {
        (Some(Kind::Bytes), Direction::ToClient, _) if cast.said.is_some() => cast.ssh(frame.header.stream, payload),
        (Some(Kind::Bytes), direction, _) => cast.bytes(direction, frame.header.stream, payload),
        (Some(Kind::Resize), Direction::ToAgent, _) => {
            if let Ok(size) = wire::decode::<Size>(payload, MAX_SIZE) {
                cast.resized(size.clamped());
            }
        }
        (Some(Kind::Checkpoint), Direction::ToClient, Some(agent)) => {
            if let Ok(statement) = agent.signer.verify(payload, &agent.key) {
                cast.time(statement.time);
            }
        }
        (Some(_) | None, ..) => {}
    }
}
