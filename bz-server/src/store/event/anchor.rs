//! What retention leaves of the rows that it cuts: how many there were, the hash of the last one and when, signed by
//! the server's record key, which its root certifies.

use bz_core::grant::{Pins, Purpose, ServerCert};
use bz_core::id::OrganizationId;
use bz_core::key::PublicKey;
use bz_core::log::LogAnchor;
use bz_core::signed::{Object, Signed};
use bz_core::time::UnixTime;
use bz_core::wire;
use rusqlite::{Transaction, params};

use crate::keys::OnlineKey;
use crate::store::event::chain::{Audited, Broken, Head, hash, number, walk};
use crate::store::event::find;
use crate::store::{Store, StoreError, first, millis, time};

/// Rows that one transaction cuts: others want to write, too.
const AT_ONCE: i64 = 20_000;

/// Where the logs begin since retention cut them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The last row that was cut.
    pub head: Head,
    /// When it was.
    pub at: UnixTime,
    certificate: Signed<ServerCert>,
    signed: Signed<LogAnchor>,
}

impl Anchor {
    /// Whether a key that one of these roots certifies says exactly this.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn verify(&self, organization: OrganizationId, roots: &[PublicKey]) -> Result<(), String> {
        let pins = Pins { organization, roots, now: self.at };
        let certificate =
            ServerCert::verify(&self.certificate, Purpose::Record, &pins).map_err(|error| error.to_string())?;
        let body = self.signed.open(&certificate.key, organization).map_err(|error| error.to_string())?;
        if body == (LogAnchor { count: self.head.count, hash: self.head.hash, at: self.at }) {
            Ok(())
        } else {
            Err("it is signed for another row".to_owned())
        }
    }
}

/// Which rows retention cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Those from before this,
    pub before: UnixTime,
    /// as far as every sink took them,
    pub taken: Option<u64>,
    /// and whoever took them or not, those from before this.
    pub at_last: UnixTime,
}

impl From<UnixTime> for Bounds {
    /// All from before this: nobody waits for them.
    fn from(before: UnixTime) -> Self {
        Self { before, taken: None, at_last: before }
    }
}

/// Who signs, and when.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The record key.
    pub key: OnlineKey,
    /// The organization.
    pub organization: OrganizationId,
    /// The wall clock.
    pub now: UnixTime,
}

impl Store {
    /// Cuts some of the rows off that are older than this, from the beginning on, and signs for them; how many, none when
    /// there are no more. A row that is older than one before it stays with that one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cut_events(&self, bounds: Bounds, signer: Signer) -> Result<u64, StoreError> {
        self.transact(move |tx| cut(tx, bounds, &signer)).await
    }

    /// The number of the first row that is there, or of the next one where none is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_begin(&self) -> Result<u64, StoreError> {
        self.read(|tx| Ok(last(tx)?.map_or(0, |anchor| anchor.head.count).saturating_add(1))).await
    }

    /// Walks the whole chain. A head that was written down earlier must lie on it; what retention left must be signed
    /// under one of these roots.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_events(
        &self,
        known: Option<Head>,
        (organization, roots): (OrganizationId, Vec<PublicKey>),
    ) -> Result<Result<Audited, Broken>, StoreError> {
        self.read_all(move |tx| walk(tx, known, |anchor| anchor.verify(organization, &roots))).await
    }
}

fn cut(tx: &Transaction<'_>, bounds: Bounds, signer: &Signer) -> Result<u64, StoreError> {
    let taken = bounds.taken.map_or(i64::MAX, |taken| i64::try_from(taken).unwrap_or(i64::MAX));
    let (before, at_last) = (millis(bounds.before), millis(bounds.at_last));
    let sql = "SELECT seq FROM event WHERE +at >= ?1 OR (seq > ?2 AND +at >= ?3) ORDER BY seq LIMIT 1";
    let keep = first(tx, sql, &[&before, &taken, &at_last], |row| Ok(row.get::<_, i64>("seq")?))?;
    let sql = "SELECT seq, hash FROM event WHERE ?1 IS NULL OR seq < ?1 ORDER BY seq LIMIT 1 OFFSET ?2";
    let end = |skip: i64| first(tx, sql, &[&keep, &skip], |row| Ok((row.get::<_, i64>("seq")?, hash(row)?)));
    let sql = "SELECT seq, hash FROM event WHERE ?1 IS NULL OR seq < ?1 ORDER BY seq DESC LIMIT 1";
    let last = match end(AT_ONCE - 1)? {
        Some(last) => Some(last),
        None => first(tx, sql, &[&keep], |row| Ok((row.get::<_, i64>("seq")?, hash(row)?)))?,
    };
    let Some((last, hash)) = last else { return Ok(0) };
    find::forget(tx, last)?;
    let gone = tx.execute("DELETE FROM event WHERE seq <= ?1", [last])?;
    let body = LogAnchor { count: u64::try_from(last).unwrap_or_default(), hash, at: signer.now };
    let failed = |error: wire::WireError| StoreError::Failed(error.to_string());
    let signed = Signed::seal(&body, signer.organization, &signer.key.key).map_err(failed)?;
    let certificate = wire::encode(&signer.key.certificate, ServerCert::LIMIT * 2).map_err(failed)?;
    let signed = wire::encode(&signed, LogAnchor::LIMIT * 2).map_err(failed)?;
    // One is enough: each says how many rows there were before it.
    tx.execute("DELETE FROM event_anchor", [])?;
    tx.execute(
        "INSERT INTO event_anchor (count, hash, at, certificate, signed) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![last, hash.as_bytes(), millis(signer.now), certificate, signed],
    )?;
    Ok(gone as u64)
}

/// What retention left, if it ever cut.
pub(super) fn last(tx: &Transaction<'_>) -> Result<Option<Anchor>, StoreError> {
    first(tx, "SELECT * FROM event_anchor ORDER BY count DESC LIMIT 1", &[], |row| {
        let unreadable = |_| StoreError::Unreadable("what retention left of the logs".to_owned());
        let bytes = |column| Ok::<_, StoreError>(row.get::<_, Vec<u8>>(column)?);
        Ok(Anchor {
            head: Head { count: number(row, "count")?, hash: hash(row)? },
            at: time(row, "at")?,
            certificate: wire::decode(&bytes("certificate")?, ServerCert::LIMIT * 2).map_err(unreadable)?,
            signed: wire::decode(&bytes("signed")?, LogAnchor::LIMIT * 2).map_err(unreadable)?,
        })
    })
}
