//! The file: a head, then length-prefixed records, appended and never changed.
//!
//! ```text
//! file      MAGIC 8 | version u16 | record…
//! record    kind u8 | length u32 | !length u32 | body
//! ```
//!
//! The length stands twice, so that a damaged one is told from a record that was cut off while it was written.

use bz_core::digest::{Digest, Label};
use bz_core::time::UnixTime;
use bz_core::wire::WireError;

use crate::frame::Kind;
use crate::handshake::session_id;
use crate::keys::Direction;
use crate::transcript::record::{Claim, Content, MAX_RECORD, Record};
use crate::transcript::verdict::{Reason, Refused};

/// How every transcript begins.
pub const MAGIC: &[u8; 8] = b"\x89bztr\r\n\x1a";
/// The version of the format.
const VERSION: u16 = 1;
/// Bytes before the first record.
const HEAD: usize = MAGIC.len() + 2;
/// Bytes before a record's body.
const RECORD_HEAD: usize = 9;

/// Where in a file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The byte at which the record begins.
    pub offset: usize,
    /// The record's number, from 0.
    pub record: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {} at byte {}", self.record, self.offset)
    }
}

/// Turns records into bytes to append, and keeps what the server's own record signs.
#[derive(Debug, Clone)]
pub struct Writer {
    digest: Digest,
    session: Option<Digest>,
    frames: (u64, u64),
}

impl Writer {
    /// A writer, and the bytes a file begins with.
    #[must_use]
    pub fn new() -> (Self, Vec<u8>) {
        let head = [MAGIC.as_slice(), &VERSION.to_be_bytes()].concat();
        (Self { digest: Digest::labelled(Label::Record, &[&head]), session: None, frames: (0, 0) }, head)
    }

    /// The bytes of a record.
    ///
    /// # Errors
    /// [`WireError::TooLarge`]; nothing has changed then.
    pub fn append(&mut self, record: &Record) -> Result<Vec<u8>, WireError> {
        let bytes = encode(record)?;
        self.note(record)?;
        Ok(bytes)
    }

    /// What the server can sign now about everything appended; `None` before there is an opening.
    #[must_use]
    pub fn claim(&self, time: UnixTime, reason: &str) -> Option<Claim> {
        let (to_agent, to_client) = self.frames;
        Some(Claim {
            session: self.session?,
            digest: self.digest,
            to_agent,
            to_client,
            time,
            reason: reason.to_owned(),
        })
    }

    /// Counts a record that is in the file already.
    pub(super) fn note(&mut self, record: &Record) -> Result<(), WireError> {
        self.digest = record.digest(&self.digest)?;
        match record {
            Record::Opening(opening) => self.session = Some(session_id(&opening.syn, &opening.answer)),
            Record::Segment(opening) => self.session = Some(opening.digest()),
            Record::Frame { direction: Direction::ToAgent, .. } => self.frames.0 = self.frames.0.saturating_add(1),
            Record::Frame { direction: Direction::ToClient, .. } => self.frames.1 = self.frames.1.saturating_add(1),
            Record::Anchors(_)
            | Record::Directory(_)
            | Record::Predecessor(_)
            | Record::Checkpoint { .. }
            | Record::Conflict { .. }
            | Record::Server(_) => {}
        }
        Ok(())
    }
}

fn encode(record: &Record) -> Result<Vec<u8>, WireError> {
    let (kind, body) = record.encode()?;
    let length = u32::try_from(body.len()).map_err(|_| WireError::TooLarge { limit: MAX_RECORD })?;
    Ok([&[kind], length.to_be_bytes().as_slice(), &(!length).to_be_bytes(), &body].concat())
}

/// The records of a file, in order, each with where it is.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: Position,
    cut_off: usize,
    failed: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the first record.
    ///
    /// # Errors
    /// [`Reason::NotATranscript`] or [`Reason::Version`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Refused> {
        let refused = |reason| Refused { reason, at: Position::default() };
        let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or_else(|| refused(Reason::NotATranscript))?;
        let (version, _) = rest.split_first_chunk::<2>().ok_or_else(|| refused(Reason::NotATranscript))?;
        if u16::from_be_bytes(*version) != VERSION {
            return Err(refused(Reason::Version));
        }
        Ok(Self { bytes, at: Position { offset: HEAD, record: 0 }, cut_off: 0, failed: false })
    }

    /// Bytes of a last record that was cut off: known when there are no more records.
    #[must_use]
    pub const fn cut_off(&self) -> usize {
        self.cut_off
    }

    /// Where the next record begins.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.at
    }

    /// The next record; `Ok(None)` at the end, also when the last one is cut off.
    fn read(&mut self) -> Result<Option<(Position, Record)>, Refused> {
        let at = self.at;
        let rest = self.bytes.get(at.offset..).unwrap_or_default();
        self.cut_off = rest.len();
        let Some((head, rest)) = rest.split_first_chunk::<RECORD_HEAD>() else { return Ok(None) };
        let [kind, a, b, c, d, e, f, g, h] = *head;
        let length = u32::from_be_bytes([a, b, c, d]);
        let refused = || Refused { reason: Reason::Malformed, at };
        let length_fits = usize::try_from(length).ok().filter(|l| *l <= MAX_RECORD);
        let length = match length_fits {
            Some(fits) if u32::from_be_bytes([e, f, g, h]) == !length => fits,
            Some(_) | None => return Err(refused()),
        };
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let record = Record::decode(kind, body).ok_or_else(refused)?;
        self.cut_off = 0;
        let offset = at.offset.saturating_add(RECORD_HEAD).saturating_add(length);
        self.at = Position { offset, record: at.record.saturating_add(1) };
        Ok(Some((at, record)))
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<(Position, Record), Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// The same transcript without the content of streams: it verifies as before. A record cut off at the end is left out.
///
/// # Errors
/// [`Refused`] when the file cannot be read.
pub fn withhold(bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    rewrite(bytes, |record| match record {
        Record::Frame { direction, frame } if frame.header.kind == Some(Kind::Bytes) => {
            Record::Frame { direction, frame: frame.withheld() }
        }
        Record::Conflict { direction, frame } => Record::Conflict { direction, frame: frame.withheld() },
        record @ (Record::Anchors(_)
        | Record::Opening(_)
        | Record::Directory(_)
        | Record::Predecessor(_)
        | Record::Segment(_)
        | Record::Frame { .. }
        | Record::Checkpoint { .. }
        | Record::Server(_)) => record,
    })
}

/// The same transcript without tokens: it verifies as "identity attested by the agent". A record cut off at the end is
/// left out.
///
/// # Errors
/// [`Refused`] when the file cannot be read.
pub fn redact(bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    rewrite(bytes, without_tokens)
}

/// The same transcript with records as they were before they were redacted, where `original` knows one. Who asks for it
/// has kept them.
///
/// # Errors
/// [`Refused`] when the file cannot be read, or an original is not that of the record in its place.
pub fn restore(bytes: &[u8], original: impl Fn(u64, &Record) -> Option<Record>) -> Result<Vec<u8>, Refused> {
    let (_, mut out) = Writer::new();
    for next in Reader::new(bytes)? {
        let (at, record) = next?;
        let restored = original(at.record, &record);
        if restored.as_ref().is_some_and(|restored| without_tokens(restored.clone()) != record) {
            return Err(Refused { reason: Reason::Misplaced, at });
        }
        let bytes = encode(restored.as_ref().unwrap_or(&record));
        out.extend(bytes.map_err(|_| Refused { reason: Reason::Malformed, at })?);
    }
    Ok(out)
}

/// A record without tokens; every other as it is.
#[must_use]
pub fn without_tokens(record: Record) -> Record {
    let renews =
        |content: &Content, kind| matches!(content, Content::Full { .. }) && kind == Some(Kind::Reauthenticate);
    match record {
        Record::Opening(mut opening) => {
            opening.certificate = None;
            Record::Opening(opening)
        }
        Record::Anchors(mut anchors) => {
            anchors.keys.truncate(1);
            Record::Anchors(anchors)
        }
        Record::Frame { direction, frame } if renews(&frame.content, frame.header.kind) => {
            Record::Frame { direction, frame: frame.withheld() }
        }
        Record::Conflict { direction, frame } if renews(&frame.content, frame.header.kind) => {
            Record::Conflict { direction, frame: frame.withheld() }
        }
        record @ (Record::Directory(_)
        | Record::Predecessor(_)
        | Record::Segment(_)
        | Record::Frame { .. }
        | Record::Checkpoint { .. }
        | Record::Conflict { .. }
        | Record::Server(_)) => record,
    }
}

fn rewrite(bytes: &[u8], change: impl Fn(Record) -> Record) -> Result<Vec<u8>, Refused> {
    let (_, mut out) = Writer::new();
    for next in Reader::new(bytes)? {
        let (at, record) = next?;
        out.extend(encode(&change(record)).map_err(|_| Refused { reason: Reason::Malformed, at })?);
    }
    Ok(out)
}
