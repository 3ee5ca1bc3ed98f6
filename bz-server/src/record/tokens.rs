//! Tokens of sessions, apart from their transcripts and encrypted: `<n>.tokens` beside `<n>.bzt`.
//!
//! ```text
//! file    entry…
//! entry   record's number u64 | length u32 | nonce 12 | AES-256-GCM of the whole record, tag included
//! ```
//!
//! The transcript itself holds each such record redacted. Both together are the transcript as it was seen, and an entry
//! counts only where its record, redacted, is exactly what the transcript holds. The key is a file of the data folder:
//! what it protects is a copy of the records without it. Who has the whole folder has the tokens.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bz_core::cert::BzCert;
use bz_core::id::ConnectionId;
use bz_core::time::UnixTime;
use bz_protocol::frame::Kind;
use bz_protocol::transcript::{Content, MAX_RECORD, Record, without_tokens};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const EXTENSION: &str = "tokens";
const LABEL: &[u8] = b"bz/1 tokens\0";
const HEAD: usize = 8 + 4 + NONCE_LEN;

/// The key that tokens are encrypted under.
pub(crate) struct TokenKey(LessSafeKey);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

/// A record with tokens, its place, and a nonce that is used once.
pub(super) struct Secret {
    pub(super) number: u64,
    pub(super) record: Record,
    pub(super) nonce: [u8; NONCE_LEN],
}

/// A transcript's tokens.
#[derive(Default)]
pub(crate) struct Tokens {
    records: BTreeMap<u64, Vec<Record>>,
    /// Entries that are damaged, or under another key.
    pub(crate) unreadable: u64,
}

impl TokenKey {
    pub(crate) fn new(bytes: &[u8; 32]) -> io::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| io::Error::other("it is no key for AES-256-GCM"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn seal(&self, connection: ConnectionId, secret: &Secret) -> io::Result<Vec<u8>> {
        let (kind, body) = secret.record.encode().map_err(io::Error::other)?;
        let mut sealed = [&[kind], body.as_slice()].concat();
        let nonce = Nonce::assume_unique_for_key(secret.nonce);
        let encrypted = self.0.seal_in_place_append_tag(nonce, aad(connection, secret.number), &mut sealed);
        encrypted.map_err(|_| io::Error::other("the tokens cannot be encrypted"))?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        Ok([&secret.number.to_be_bytes()[..], &length.to_be_bytes(), &secret.nonce, &sealed].concat())
    }

    fn open(&self, connection: ConnectionId, number: u64, (nonce, sealed): ([u8; NONCE_LEN], &[u8])) -> Option<Record> {
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self.0.open_in_place(nonce, aad(connection, number), &mut sealed).ok()?;
        let (kind, body) = plain.split_first()?;
        Record::decode(*kind, body)
    }

    /// Appends these to the tokens of a transcript.
    pub(super) fn append(&self, connection: ConnectionId, transcript: &Path, secrets: &[Secret]) -> io::Result<()> {
        if secrets.is_empty() {
            return Ok(());
        }
        let entries: Vec<Vec<u8>> = secrets.iter().map(|s| self.seal(connection, s)).collect::<io::Result<_>>()?;
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path(transcript))?;
        file.write_all(&entries.concat())
    }

    /// The tokens of a transcript.
    pub(super) fn read(&self, connection: ConnectionId, transcript: &Path) -> io::Result<Tokens> {
        let bytes = match std::fs::read(path(transcript)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tokens::default()),
            Err(error) => return Err(error),
        };
        let (mut rest, mut found) = (bytes.as_slice(), Tokens::default());
        while let Some((entry, more)) = entry(rest) {
            rest = more;
            match self.open(connection, entry.0, (entry.1, entry.2)) {
                Some(record) => found.records.entry(entry.0).or_default().push(record),
                None => found.unreadable = found.unreadable.saturating_add(1),
            }
        }
        Ok(found)
    }
}

impl Tokens {
    /// The record as it was seen, where the transcript holds it redacted.
    pub(crate) fn original(&self, number: u64, at_rest: &Record) -> Option<Record> {
        self.records.get(&number)?.iter().find(|record| without_tokens((*record).clone()) == *at_rest).cloned()
    }

    /// Whether the record's tokens are lost: it was a renewal, and nothing is kept of what it showed.
    pub(crate) fn lack(&self, number: u64, at_rest: &Record) -> bool {
        let (Record::Frame { frame, .. } | Record::Conflict { frame, .. }) = at_rest else { return false };
        let withheld = frame.header.kind == Some(Kind::Reauthenticate) && matches!(frame.content, Content::Withheld(_));
        withheld && self.original(number, at_rest).is_none()
    }

    /// When the last of the tokens ends; `None` when there are none.
    pub(crate) fn end(&self) -> Option<UnixTime> {
        self.records.values().flatten().filter_map(certificate).filter_map(|bytes| BzCert::claimed_end(&bytes)).max()
    }
}

/// Cuts off what was not written to its end, before more is appended.
pub(super) fn mend(transcript: &Path) -> io::Result<()> {
    let path = path(transcript);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut rest = bytes.as_slice();
    while let Some((_, more)) = entry(rest) {
        rest = more;
    }
    let whole = u64::try_from(bytes.len().saturating_sub(rest.len())).map_err(io::Error::other)?;
    OpenOptions::new().write(true).open(&path)?.set_len(whole)
}

/// Whether a record has something that [`without_tokens`] takes out.
pub(super) fn has_tokens(record: &Record) -> bool {
    let keys = if let Record::Anchors(anchors) = record { anchors.keys.len() } else { 0 };
    keys > 1 || certificate(record).is_some()
}

fn certificate(record: &Record) -> Option<Vec<u8>> {
    if let Record::Opening(opening) = record {
        return opening.certificate.clone();
    }
    let (Record::Frame { frame, .. } | Record::Conflict { frame, .. }) = record else { return None };
    match &frame.content {
        Content::Full { payload, .. } if frame.header.kind == Some(Kind::Reauthenticate) => Some(payload.clone()),
        Content::Full { .. } | Content::Withheld(_) => None,
    }
}

type Entry<'a> = (u64, [u8; NONCE_LEN], &'a [u8]);

/// The next entry; `None` at the end, also when the last one is cut off.
fn entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let (number, head) = head.split_first_chunk::<8>()?;
    let (length, nonce) = head.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|l| *l <= MAX_RECORD + 64)?;
    let (sealed, rest) = rest.split_at_checked(length)?;
    Some(((u64::from_be_bytes(*number), nonce.try_into().ok()?, sealed), rest))
}

fn aad(connection: ConnectionId, number: u64) -> Aad<Vec<u8>> {
    Aad::from([LABEL, connection.as_bytes(), &number.to_be_bytes()].concat())
}

fn path(transcript: &Path) -> PathBuf {
    transcript.with_extension(EXTENSION)
}
