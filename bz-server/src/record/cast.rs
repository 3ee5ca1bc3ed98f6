//! The asciicast v2 view of kept frames: made when it is asked for, so that content is stored once.
//!
//! Times are the agent's: a frame's is that of the agent's first checkpoint behind it, the only ones that somebody
//! signed. What no checkpoint follows yet has the last one's.

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
use bz_protocol::ssh::{self, Decoder, Said};
use bz_protocol::transcript::{Embedded, Frame, Opening, Reader, Record, Refused};
use serde_json::json;

const SIZE: Size = Size { rows: 24, columns: 80 };
const MAX_SIZE: usize = 16;

/// The asciicast of these transcripts of one connection, oldest first.
///
/// # Errors
/// [`Refused`] when one of them is damaged.
pub fn asciicast<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Result<String, Refused> {
    let files: Vec<&[u8]> = files.into_iter().collect();
    let mut heads = BTreeMap::new();
    for file in &files {
        heads.extend(part(file)?.predecessor.map(|p| (p.session, p.to_client)));
    }
    let mut cast = Cast::default();
    for file in files {
        let Part { id, segment, .. } = part(file)?;
        let (mut anchors, mut agent) = (None, None);
        let mut again = id.and_then(|id| Some(Again::new(&id, heads.get(&id)?)));
        for next in Reader::new(file)? {
            match next?.1 {
                Record::Anchors(embedded) => anchors = Some(embedded),
                Record::Opening(opening) => {
                    let opened = anchors.as_ref().and_then(|anchors| opened(anchors, &opening));
                    if let Some((_, began, size)) = opened.as_ref().filter(|_| !segment) {
                        cast.begins(*began, *size);
                    }
                    agent = opened.map(|(agent, ..)| agent);
                    cast.said = agent.as_ref().filter(|agent| agent.ends_ssh).map(|_| Decoder::default());
                }
                Record::Frame { direction, frame } => {
                    let comes_again = again.as_mut().is_some_and(|again| again.has(direction, &frame));
                    if !comes_again || frame.header.kind == Some(Kind::Checkpoint) {
                        take(&mut cast, direction, &frame, agent.as_ref());
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
        cast.part_ends();
    }
    Ok(cast.into_text())
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

/// An asciicast in the making.
#[derive(Debug, Default)]
pub struct Cast {
    began: Option<(UnixTime, Size)>,
    now: Option<UnixTime>,
    /// Bytes of a character that the next frame ends, by direction and stream.
    halves: BTreeMap<(bool, u32), Vec<u8>>,
    /// Events whose time the next checkpoint says.
    waiting: Vec<(char, String)>,
    events: Vec<(UnixTime, char, String)>,
    /// What an agent says of the SSH that it ends.
    said: Option<Decoder>,
}

impl Cast {
    /// A session begins; the first one's size and time are the whole cast's.
    pub fn begins(&mut self, at: UnixTime, size: Size) {
        if self.began.is_none() {
            self.began = Some((at, size));
        } else {
            self.resized(size);
        }
        self.now = self.now.max(Some(at));
    }

    /// Bytes of a stream.
    pub fn bytes(&mut self, direction: Direction, stream: u32, bytes: &[u8]) {
        let input = direction == Direction::ToAgent;
        let half = self.halves.entry((input, stream)).or_default();
        half.extend_from_slice(bytes);
        let text = whole_text(half);
        if !text.is_empty() {
            self.waiting.push((if input { 'i' } else { 'o' }, text));
        }
    }

    /// Bytes of a stream beside SSH.
    fn ssh(&mut self, stream: u32, bytes: &[u8]) {
        match stream {
            ssh::SCREEN | ssh::OUTPUT => self.bytes(Direction::ToClient, stream, bytes),
            ssh::KEYS | ssh::INPUT => self.bytes(Direction::ToAgent, stream, bytes),
            ssh::SAID => {
                let Some(mut said) = self.said.take() else { return };
                said.put(bytes);
                while let Ok(Some(message)) = said.next_message() {
                    if let Said::Terminal { size } | Said::Resize { size } = message {
                        self.resized(size.clamped());
                    }
                }
                self.said = Some(said);
            }
            _ => {}
        }
    }

    /// The terminal has another size.
    pub fn resized(&mut self, size: Size) {
        self.waiting.push(('r', format!("{}x{}", size.columns, size.rows)));
    }

    /// The agent's clock, after everything so far.
    pub fn time(&mut self, now: UnixTime) {
        // A clock that was set back does not turn a recording back.
        let now = self.now.map_or(now, |before| before.max(now));
        self.now = Some(now);
        self.events.extend(self.waiting.drain(..).map(|(kind, text)| (now, kind, text)));
    }

    /// Nothing more comes of a session: a half character is none.
    pub fn part_ends(&mut self) {
        for ((input, _), half) in std::mem::take(&mut self.halves) {
            if !half.is_empty() {
                self.waiting.push((if input { 'i' } else { 'o' }, char::REPLACEMENT_CHARACTER.to_string()));
            }
        }
        self.time(self.now.unwrap_or(UnixTime::from_millis(0)));
    }

    /// The text: a header, and one line for each event.
    #[must_use]
    pub fn into_text(self) -> String {
        let (began, size) = self.began.unwrap_or((UnixTime::from_millis(0), SIZE));
        let header = json!({ "version": 2, "width": size.columns, "height": size.rows, "timestamp": began.as_secs() });
        let mut text = format!("{header}\n");
        for (at, kind, data) in self.events {
            let millis = at.as_millis().saturating_sub(began.as_millis());
            let data = serde_json::Value::from(data);
            text.push_str(&format!("[{}.{:03}, \"{kind}\", {data}]\n", millis / 1000, millis % 1000));
        }
        text
    }
}

/// Takes all whole characters out of `bytes`; what is none becomes a replacement, and a cut one stays.
fn whole_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = Vec::new();
    let last = bytes.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
    let cut = std::str::from_utf8(bytes.get(bytes.len().saturating_sub(last)..).unwrap_or_default())
        .is_err_and(|error| error.error_len().is_none());
    if cut {
        rest = bytes.split_off(bytes.len().saturating_sub(last));
    }
    text.push_str(&String::from_utf8_lossy(bytes));
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const OUT: Direction = Direction::ToClient;

    /// F-113: header and events are asciicast v2, with times as signed.
    #[test]
    fn a_cast_is_asciicast_v2() {
        let mut cast = Cast::default();
        cast.begins(UnixTime::from_millis(10_000_500), Size { rows: 50, columns: 132 });
        cast.bytes(OUT, 0, b"$ ");
        cast.bytes(Direction::ToAgent, 0, b"ls\r");
        cast.time(UnixTime::from_millis(10_001_750));
        cast.resized(Size { rows: 24, columns: 80 });
        cast.bytes(OUT, 0, b"\x1b[1m\"x\"\r\n");
        cast.time(UnixTime::from_millis(10_001_000));
        cast.part_ends();
        let lines: Vec<Value> = cast.into_text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let header = json!({"version": 2, "width": 132, "height": 50, "timestamp": 10_000});
        let events = [
            json!([1.25, "o", "$ "]),
            json!([1.25, "i", "ls\r"]),
            json!([1.25, "r", "80x24"]),
            json!([1.25, "o", "\u{1b}[1m\"x\"\r\n"]),
        ];
        assert_eq!(lines[0], header);
        assert_eq!(lines[1..], events, "a clock set back must not turn the times back");
    }

    /// A character cut by frames arrives whole, in its own stream; what is none is replaced.
    #[test]
    fn characters_cut_by_frames_are_whole() {
        let check = |frames: &[(u32, &[u8])], want: &[&str]| {
            let mut cast = Cast::default();
            cast.begins(UnixTime::from_secs(1), SIZE);
            for (stream, bytes) in frames {
                cast.bytes(OUT, *stream, bytes);
            }
            cast.part_ends();
            let got: Vec<String> = cast.events.into_iter().map(|(_, _, text)| text).collect();
            assert_eq!(got, want, "{frames:?}");
        };
        check(&[(0, b"a\xe2"), (0, b"\x82"), (0, b"\xacb")], &["a", "\u{20ac}b"]);
        check(&[(0, b"\xf0\x9f"), (1, b"err"), (0, b"\x98\x80")], &["err", "\u{1f600}"]);
        check(&[(0, b"a\xffb"), (0, b"\xc3")], &["a\u{fffd}b", "\u{fffd}"]);
        check(&[(0, b"\xff\xe2\x82")], &["\u{fffd}", "\u{fffd}"]);
        check(&[(0, b"")], &[]);
    }
}
