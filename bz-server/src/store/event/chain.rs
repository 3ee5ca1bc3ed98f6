//! The chain: how rows are added to it, and how it is proved that none was changed, taken out, put in or moved.

use std::fmt;
use std::str::FromStr;

use bz_core::digest::{Digest, Label};
use bz_core::time::UnixTime;
use rusqlite::{Row as Found, Transaction, params};

use crate::store::event::Log;
use crate::store::event::anchor::{self, Anchor};
use crate::store::{StoreError, first, millis, rows};

/// An end of the chain: what an auditor writes down, as `count:hash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many rows there ever were, those that retention cut included.
    pub count: u64,
    /// The hash of the last one.
    pub hash: Digest,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.count, self.hash)
    }
}

/// Not a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a head is a number, a colon and 64 hexadecimal digits, as `bz-server audit head` prints it")]
pub struct ParseHeadError;

impl FromStr for Head {
    type Err = ParseHeadError;

    fn from_str(text: &str) -> Result<Self, ParseHeadError> {
        let (count, hash) = text.trim().split_once(':').ok_or(ParseHeadError)?;
        let (count, hash) = (count.parse(), hash.parse());
        Ok(Self { count: count.map_err(|_| ParseHeadError)?, hash: hash.map_err(|_| ParseHeadError)? })
    }
}

/// Where a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A row is not what was hashed, or not where it was.
    #[error("row {0} was changed, or does not follow from the one before it")]
    Row(u64),
    /// Rows are not there.
    #[error("row {expected} is missing: the next one is {found}")]
    Missing {
        /// Which should be there.
        expected: u64,
        /// Which is.
        found: u64,
    },
    /// The end was cut off.
    #[error("the logs end at row {found}, and should have {expected} rows: the last ones were removed")]
    Truncated {
        /// How many there should be.
        expected: u64,
        /// The last one.
        found: u64,
    },
    /// The rows hold, and their noted end does not fit to them.
    #[error("the noted end of the logs does not fit to their last row, {0}: rows were added or noted past the server")]
    End(u64),
    /// It is not the chain that an auditor saw.
    #[error("row {0} has another hash than the head that was written down: the logs were rewritten before it")]
    Head(u64),
    /// The head that an auditor wrote down is of rows that retention cut.
    #[error("retention cut the logs at row {cut}: a head of row {head} cannot be compared any more")]
    Cut {
        /// The auditor's.
        head: u64,
        /// The last that was cut.
        cut: u64,
    },
    /// What retention left is not the server's word.
    #[error("the beginning of the logs was cut at row {0}, and no key of this server says so: {1}")]
    Anchor(u64, String),
}

/// What an audit saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// The end of the chain.
    pub head: Head,
    /// The rows that are there.
    pub rows: u64,
    /// What retention cut, if anything.
    pub cut: Option<Anchor>,
}

/// How one row follows from the one before.
fn link(before: &Digest, (seq, log, at): (u64, i64, i64), body: &str) -> Digest {
    let parts = [before.as_bytes(), &seq.to_be_bytes()[..], &log.to_be_bytes(), &at.to_be_bytes(), body.as_bytes()];
    Digest::labelled(Label::LogRow, &parts)
}

/// The noted end.
pub(in crate::store) fn head(tx: &Transaction<'_>) -> Result<Head, StoreError> {
    let found = first(tx, "SELECT count, hash FROM event_head", &[], |row| {
        Ok(Head { count: number(row, "count")?, hash: hash(row)? })
    })?;
    found.ok_or_else(|| StoreError::Unreadable("no end of the logs".to_owned()))
}

fn set_head(tx: &Transaction<'_>, head: &Head) -> Result<(), StoreError> {
    let mut set = tx.prepare_cached("UPDATE event_head SET count = ?1, hash = ?2")?;
    set.execute(params![i64::try_from(head.count).unwrap_or(i64::MAX), head.hash.as_bytes()])?;
    Ok(())
}

/// The end of the chain inside a transaction, where rows are added.
pub(super) struct Chain<'a> {
    tx: &'a Transaction<'a>,
    end: Head,
}

impl<'a> Chain<'a> {
    pub(super) fn open(tx: &'a Transaction<'a>) -> Result<Self, StoreError> {
        Ok(Self { tx, end: head(tx)? })
    }

    /// Adds a row at the end.
    pub(super) fn append(&mut self, log: Log, at: UnixTime, body: &str) -> Result<(), StoreError> {
        let (seq, at) = (self.end.count.saturating_add(1), millis(at));
        let hash = link(&self.end.hash, (seq, log.number(), at), body);
        let row = i64::try_from(seq).unwrap_or(i64::MAX);
        let sql = "INSERT INTO event (seq, log, at, body, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.tx.prepare_cached(sql)?.execute(params![row, log.number(), at, body, hash.as_bytes()])?;
        self.end = Head { count: seq, hash };
        Ok(())
    }

    /// Notes where the chain ends now.
    pub(super) fn close(self) -> Result<(), StoreError> {
        set_head(self.tx, &self.end)
    }
}

/// Hashes the rows that a migration brought in, in their order.
pub(super) fn chain_all(tx: &Transaction<'_>) -> Result<(), StoreError> {
    let mut end = Head { count: 0, hash: Digest::from_bytes([0; 32]) };
    let mut statement = tx.prepare("SELECT seq, log, at, body FROM event ORDER BY seq")?;
    let mut update = tx.prepare("UPDATE event SET hash = ?2 WHERE seq = ?1")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let (seq, log, at) = (number(row, "seq")?, row.get("log")?, row.get("at")?);
        let body: String = row.get("body")?;
        end = Head { count: seq, hash: link(&end.hash, (seq, log, at), &body) };
        update.execute(params![row.get::<_, i64>("seq")?, end.hash.as_bytes()])?;
    }
    set_head(tx, &end)
}

/// Walks the chain from its beginning, or from where retention cut it, to its noted end; past a head that was written
/// down earlier, if one is given. Whether the server signed what retention left is asked of `signed`.
pub(super) fn walk(
    tx: &Transaction<'_>,
    known: Option<Head>,
    signed: impl FnOnce(&Anchor) -> Result<(), String>,
) -> Result<Result<Audited, Broken>, StoreError> {
    let cut = anchor::last(tx)?;
    let (mut end, mut rows) = (Head { count: 0, hash: Digest::from_bytes([0; 32]) }, 0);
    if let Some(anchor) = &cut {
        end = anchor.head;
        if let Err(why) = signed(anchor) {
            return Ok(Err(Broken::Anchor(end.count, why)));
        }
    }
    if let Some(known) = known.filter(|known| known.count < end.count) {
        return Ok(Err(Broken::Cut { head: known.count, cut: end.count }));
    }
    let differs = |end: &Head| known.is_some_and(|known| known.count == end.count && known.hash != end.hash);
    if differs(&end) {
        return Ok(Err(Broken::Head(end.count)));
    }
    let mut statement = tx.prepare("SELECT seq, log, at, body, hash FROM event ORDER BY seq")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let (seq, log, at) = (number(row, "seq")?, row.get("log")?, row.get("at")?);
        let (expected, body) = (end.count.saturating_add(1), row.get_ref("body")?.as_str().unwrap_or_default());
        if seq != expected {
            return Ok(Err(Broken::Missing { expected, found: seq }));
        }
        let now = Head { count: seq, hash: link(&end.hash, (seq, log, at), body) };
        if hash(row).ok() != Some(now.hash) {
            return Ok(Err(Broken::Row(seq)));
        }
        if differs(&now) {
            return Ok(Err(Broken::Head(seq)));
        }
        (end, rows) = (now, rows + 1);
    }
    let noted = head(tx)?;
    let expected = noted.count.max(known.map_or(0, |known| known.count));
    Ok(if expected > end.count {
        Err(Broken::Truncated { expected, found: end.count })
    } else if noted != end {
        Err(Broken::End(end.count))
    } else {
        Ok(Audited { head: end, rows, cut })
    })
}

/// Where the log of calls of an older database, which was a chain of its own, does not hold.
pub(super) fn broken_before(tx: &Transaction<'_>) -> Result<Option<i64>, StoreError> {
    use sha2::{Digest as _, Sha256};
    let mut before = [0; 32];
    let all = rows(tx, "SELECT seq, body, hash FROM user_event ORDER BY seq", &[], |row| {
        Ok((row.get::<_, i64>("seq")?, row.get::<_, String>("body")?, row.get::<_, String>("hash")?))
    })?;
    for (seq, body, hash) in all {
        before = Sha256::new().chain_update(before).chain_update(body.as_bytes()).finalize().into();
        if hash != hex::encode(before) {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}

pub(super) fn number(row: &Found<'_>, column: &str) -> Result<u64, StoreError> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| StoreError::Unreadable(format!("a {column}")))
}

pub(super) fn hash(row: &Found<'_>) -> Result<Digest, StoreError> {
    let bytes: Vec<u8> = row.get("hash")?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| StoreError::Unreadable("a hash".to_owned()))?;
    Ok(Digest::from_bytes(bytes))
}
