//! Copies of the database: one to take away while the server writes, and one before each step to a newer version.
//!
//! Absent: what else a backup holds, which is `backup`'s.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::store::event::chain;
use crate::store::{FILE, Head, MIGRATIONS, Organization, StoreError, open_reader, organization, version};

/// How many copies from before an upgrade are kept.
pub const KEPT: usize = 3;

/// How long a copy waits for a program that holds the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// A copy, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Its version.
    pub version: usize,
    /// Whose it is.
    pub organization: Organization,
    /// The end of its logs; none in versions before they were one chain.
    pub head: Option<Head>,
}

/// Copies the database of this folder as it is at one moment, beside a server that goes on writing.
///
/// # Errors
/// [`StoreError`]; then there is no copy.
pub fn snapshot(data: &Path, to: &Path) -> Result<Copied, StoreError> {
    let from = open_reader(&data.join(FILE))?;
    let copied = copy(&from, to).and_then(|()| examine(to));
    if copied.is_err() {
        remove(to);
    }
    copied
}

/// Reads a database as a whole, and says what it is.
///
/// # Errors
/// [`StoreError::Unreadable`] when it is damaged, [`StoreError::Newer`] when this server cannot read it.
pub fn examine(path: &Path) -> Result<Copied, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // One file: what lies beside it would be forgotten when it is moved.
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Unreadable(format!("damaged pages ({found})")));
    }
    let version = version(&connection)?;
    if version > MIGRATIONS.len() {
        return Err(StoreError::Newer { found: version, known: MIGRATIONS.len(), copy: None });
    }
    let tx = connection.transaction()?;
    let missing = || StoreError::Unreadable("no organization".to_owned());
    let organization = organization::organization(&tx)?.ok_or_else(missing)?;
    let chained = tx.prepare("SELECT 1 FROM event_head").is_ok();
    let head = if chained { Some(chain::head(&tx)?) } else { None };
    Ok(Copied { version, organization, head })
}

/// What is damaged in the database of this folder, if anything, beside a server that goes on.
///
/// # Errors
/// [`StoreError`].
pub async fn damage(data: &Path) -> Result<Option<String>, StoreError> {
    let path = data.join(FILE);
    let looked = tokio::task::spawn_blocking(move || {
        let found: String = open_reader(&path)?.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok((found != "ok").then_some(found))
    });
    looked.await.map_err(|error| StoreError::Failed(error.to_string()))?
}

/// Copies the database before it is brought from this version to a newer one, and forgets the oldest such copies.
pub(super) fn before_upgrade(from: &Connection, path: &Path, version: usize) -> Result<PathBuf, StoreError> {
    let copy_path = kept(path, version);
    let draft = copy_path.with_extension("part");
    remove(&draft);
    copy(from, &draft).inspect_err(|_| remove(&draft))?;
    fs::rename(&draft, &copy_path).map_err(|error| StoreError::Failed(format!("{}: {error}", copy_path.display())))?;
    for (_, old) in copies(path).into_iter().rev().skip(KEPT) {
        remove(&old);
    }
    tracing::info!(copy = %copy_path.display(), version, "the database was copied before it is brought up to date");
    Ok(copy_path)
}

/// The newest copy that a server of this version can read.
pub(super) fn readable(path: &Path, known: usize) -> Option<PathBuf> {
    copies(path).into_iter().rev().find(|(version, _)| *version <= known).map(|(_, path)| path)
}

fn kept(path: &Path, version: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".version-{version}"));
    PathBuf::from(name)
}

/// All copies from before upgrades, oldest version first.
fn copies(path: &Path) -> Vec<(usize, PathBuf)> {
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    let mut found: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(FILE)?.strip_prefix(".version-")?.parse().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort();
    found
}

fn copy(from: &Connection, to: &Path) -> Result<(), StoreError> {
    private(to)?;
    let mut into = Connection::open(to)?;
    let backup = Backup::new(from, &mut into)?;
    let mut waited = Duration::ZERO;
    let pause = Duration::from_millis(50);
    // All pages in one step: they are of one moment, and nobody who writes waits for it.
    while waited < PATIENCE {
        if backup.step(-1)? == StepResult::Done {
            return Ok(());
        }
        std::thread::sleep(pause);
        waited = waited.saturating_add(pause);
    }
    Err(StoreError::Locked)
}

/// Only its owner may read it, from its first byte on.
fn private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    made.map(drop).map_err(|error| StoreError::Failed(format!("{}: {error}", path.display())))
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a copy of the database stays behind");
    }
}
