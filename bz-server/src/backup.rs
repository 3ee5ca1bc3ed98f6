//! Backups: everything that a server is, in one encrypted file, made while it runs; and the way back, into an empty
//! folder only.
//!
//! ```text
//! age( tar( backup.json, bz-server.db, server.toml, every other file of the data folder…, end.json ) )
//! ```
//!
//! The database is copied as it is at one moment; transcripts only grow, and are copied after it, each up to where it is
//! then. Absent: files that lie elsewhere, such as certificates that another program renews: they are named.

mod age;
mod restore;
mod tar;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bz_core::id::OrganizationId;
use bz_core::time::UnixTime;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use crate::backup::age::AgeError;
pub use crate::backup::restore::{Restored, restore};

use crate::admin::{AdminError, audit};
use crate::backup::age::{Random, Sealer};
use crate::config::{Config, Tls};
use crate::init::{CONFIG, InitError};
use crate::keys::KeysError;
use crate::seam::{Entropy, EntropyError, random};
use crate::store::operation::Done;
use crate::store::{self, Store, StoreError, copy};

/// The least bytes of a passphrase.
pub const LEAST_PASSPHRASE: usize = 12;
/// The first file of a backup, and the last.
const MANIFEST: &str = "backup.json";
const END: &str = "end.json";
/// The database's copy while a backup is made.
const DRAFT: &str = "backup";
/// What ends its name while it grows.
const PART: &str = ".part";
/// Held while one is made.
const LOCK: &str = "backup.lock";
/// What backups are written and read as.
const FORMAT: u32 = 1;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file would be lost.
    #[error("{0} exists and is not overwritten")]
    Exists(PathBuf),
    /// The folder is in use.
    #[error("{0} is not empty: a backup is restored into an empty folder, or one that is not there yet")]
    NotEmpty(PathBuf),
    /// It could be guessed.
    #[error("the passphrase is shorter than {LEAST_PASSPHRASE} bytes: `openssl rand -base64 30` makes a good one")]
    Passphrase,
    /// Another one is being made.
    #[error("another backup of this folder is being made")]
    Running,
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// A backup cannot be opened, or does not hold.
    #[error("{path}: {error}. Nothing was restored")]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        error: AgeError,
    },
    /// It decrypts, and is not what this server restores.
    #[error("{path}: {why}. Nothing was restored")]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The disk has no room.
    #[error("{folder} has room for {free} bytes, and the backup has {needed}. Nothing was restored")]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// What is free.
        free: u64,
        /// What is needed.
        needed: u64,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The settings.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The log.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The operating system.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A task ended before its time.
    #[error("the work ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What begins a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    made: UnixTime,
    server: String,
    schema: usize,
    organization: OrganizationId,
    name: String,
    /// The data folder: where settings name it, they are changed when it is restored elsewhere.
    data: PathBuf,
    /// About how much room it needs.
    bytes: u64,
    /// The end of the logs.
    head: Option<String>,
}

/// What ends one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    files: u64,
    bytes: u64,
}

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// How many files.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// The end of the logs in it.
    pub head: Option<String>,
    /// Files that the settings name and that lie elsewhere.
    pub elsewhere: Vec<PathBuf>,
    /// What is in the folder and was not taken, being no plain file.
    pub left_out: Vec<PathBuf>,
}

/// Saves all of a server's data folder in one file, beside the running server or without one.
///
/// # Errors
/// [`BackupError`]; then there is no file.
pub async fn save(
    (config, settings): (&Config, &Path),
    to: &Path,
    passphrase: &[u8],
    (entropy, now): (&dyn Entropy, UnixTime),
) -> Result<Saved, BackupError> {
    if passphrase.len() < LEAST_PASSPHRASE {
        return Err(BackupError::Passphrase);
    }
    if to.exists() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let random = Random { key: Zeroizing::new(random(entropy)?), salt: random(entropy)?, nonce: random(entropy)? };
    let store = Store::open(&config.data)?;
    let resource = to.display().to_string();
    audit(config, &store, entropy, ("adminservice:backup", resource, now)).await?;
    let job = Job { config: config.clone(), settings: settings.to_owned(), to: to.to_owned(), now };
    let passphrase = Zeroizing::new(passphrase.to_vec());
    let saved = tokio::task::spawn_blocking(move || job.run(&passphrase, &random)).await??;
    store.note_done(Done::Backup, now).await?;
    Ok(saved)
}

struct Job {
    config: Config,
    settings: PathBuf,
    to: PathBuf,
    now: UnixTime,
}

impl Job {
    /// Where it grows.
    fn part(&self) -> Draft {
        let mut name = self.to.clone().into_os_string();
        name.push(PART);
        Draft(name.into())
    }

    fn run(self, passphrase: &[u8], random: &Random) -> Result<Saved, BackupError> {
        let data = &self.config.data;
        let lock = data.join(LOCK);
        let held = private(true).open(&lock).map_err(at(&lock))?;
        held.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => BackupError::Running,
            fs::TryLockError::Error(error) => BackupError::File { path: lock, error },
        })?;
        let draft = Draft(data.join(format!("{}.{DRAFT}", store::FILE)));
        let copied = copy::snapshot(data, &draft.0)?;
        // Who is killed leaves no part of a backup under the name of one.
        let part = self.part();
        drop(fs::remove_file(&part.0));
        let out = private(false).create_new(true).open(&part.0).map_err(at(&part.0))?;
        let saved = self.write(out, (passphrase, random), (&draft.0, copied))?;
        put(&part.0, &self.to)?;
        drop(part);
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
        Ok(saved)
    }

    fn write(
        &self,
        out: File,
        (passphrase, random): (&[u8], &Random),
        (draft, copied): (&Path, copy::Copied),
    ) -> Result<Saved, BackupError> {
        let (found, left_out) = files(&self.config.data)?;
        let data = &self.config.data;
        let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
        let head = copied.head.map(|head| head.to_string());
        let manifest = Manifest {
            format: FORMAT,
            made: self.now,
            server: env!("CARGO_PKG_VERSION").to_owned(),
            schema: copied.version,
            organization: copied.organization.id,
            name: copied.organization.name,
            data: data.clone(),
            bytes: found.iter().map(|name| size(&data.join(name))).fold(size(draft), u64::saturating_add),
            head: head.clone(),
        };
        let written = at(&self.to);
        let sealed = Sealer::new(BufWriter::new(out), (passphrase, age::work()), random);
        let sealer = sealed.map_err(|error| BackupError::Refused { path: self.to.clone(), error })?;
        let mut archive = Archive { out: sealer, path: &self.to, end: End::default() };
        archive.text(MANIFEST, &manifest)?;
        archive.file(store::FILE, draft)?;
        archive.file(CONFIG, &self.settings)?;
        for name in &found {
            archive.file(name, &data.join(name))?;
        }
        let end = archive.end;
        archive.text(END, &end)?;
        tar::end(&mut archive.out).map_err(at(&self.to))?;
        let file = archive.out.finish().and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
        file.and_then(|file| file.sync_all()).map_err(written)?;
        Ok(Saved { files: end.files, bytes: end.bytes, head, elsewhere: elsewhere(&self.config), left_out })
    }
}

/// The encrypted archive as it grows.
struct Archive<'a> {
    out: Sealer<BufWriter<File>>,
    path: &'a Path,
    end: End,
}

impl Archive<'_> {
    fn text(&mut self, name: &str, value: &impl Serialize) -> Result<(), BackupError> {
        let text = serde_json::to_vec(value).map_err(|error| at(self.path)(error.into()))?;
        self.entry(name, text.len() as u64, &mut text.as_slice()).map_err(at(self.path))
    }

    /// A file up to where it is now: what is added to it meanwhile is of a later backup.
    fn file(&mut self, name: &str, path: &Path) -> Result<(), BackupError> {
        let opened = File::open(path).and_then(|file| file.metadata().map(|meta| (file, meta.len())));
        let (mut file, size) = match opened {
            Ok(opened) => opened,
            // Deleted since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && name.contains('/') => return Ok(()),
            Err(error) => return Err(at(path)(error)),
        };
        self.entry(name, size, &mut file).map_err(|error| {
            let path = if error.kind() == io::ErrorKind::UnexpectedEof { path } else { self.path };
            at(path)(error)
        })
    }

    fn entry(&mut self, name: &str, size: u64, from: &mut impl Read) -> io::Result<()> {
        tar::head(&mut self.out, name, size)?;
        if io::copy(&mut from.take(size), &mut self.out)? != size {
            let why = "it became shorter while it was copied: make the backup again";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        tar::pad(&mut self.out, size)?;
        self.end = End { files: self.end.files.saturating_add(1), bytes: self.end.bytes.saturating_add(size) };
        Ok(())
    }
}

/// Gives a backup that is whole its name.
fn put(part: &Path, to: &Path) -> Result<(), BackupError> {
    // A hard link fails where a rename would overwrite; not every file system has them.
    match fs::hard_link(part, to) {
        Ok(()) => Ok(()),
        Err(_) if to.exists() => Err(BackupError::Exists(to.to_owned())),
        Err(_) => fs::rename(part, to).map_err(at(to)),
    }
}

/// A file that is gone when the work is done, whatever came of it.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// The plain files of the data folder by their names in it, and what else is there. What belongs to the database is not
/// among them, and neither are the settings, which are taken from where they were read.
fn files(data: &Path) -> Result<(Vec<String>, Vec<PathBuf>), BackupError> {
    let (mut folders, mut found, mut left_out) = (vec![data.to_owned()], Vec::new(), Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry.map_err(at(&folder))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(at(&folder))?);
            let name = path.strip_prefix(data).ok().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name.starts_with(store::FILE)
                || name == LOCK
                || name == CONFIG
                || name.ends_with(".new")
                || name.ends_with(PART)
            {
                continue;
            }
            match name.len() {
                _ if kind.is_dir() => folders.push(path),
                1..=tar::MOST_NAME if kind.is_file() => found.push(name),
                _ => left_out.push(path),
            }
        }
    }
    found.sort();
    Ok((found, left_out))
}

/// What the settings name outside the data folder.
fn elsewhere(config: &Config) -> Vec<PathBuf> {
    let tls = match &config.tls {
        Tls::Off(_) => Vec::new(),
        Tls::Files(files) => vec![files.certificate.clone(), files.key.clone()],
        Tls::Acme(settings) => settings.ca.clone().into_iter().collect(),
    };
    let named = tls.into_iter().chain(config.provider_ca.clone());
    named.filter(|path| !path.starts_with(&config.data)).collect()
}

fn private(create: bool) -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(create).mode(0o600);
    options
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |error| BackupError::File { path, error }
}
