//! The way back: everything is decrypted, checked and written beside its place first, and only then put there.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bz_core::time::UnixTime;
use nix::sys::statvfs::statvfs;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::admin::audit;
use crate::backup::age::Opener;
use crate::backup::{BackupError, END, End, FORMAT, MANIFEST, Manifest, at, elsewhere, private, tar};
use crate::config::Config;
use crate::init::{CONFIG, read_config};
use crate::keys;
use crate::seam::Entropy;
use crate::store::{self, Store, copy};

/// The most bytes of what begins and ends a backup.
const MOST_TEXT: u64 = 64 << 10;
/// Where files wait until all are good.
const STAGING: &str = ".restoring";

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Whose.
    pub organization: String,
    /// When the backup was made.
    pub made: UnixTime,
    /// How many files.
    pub files: u64,
    /// The end of the logs in it.
    pub head: Option<String>,
    /// The settings.
    pub settings: PathBuf,
    /// Files that the settings name and that a backup does not hold.
    pub elsewhere: Vec<PathBuf>,
}

/// Restores a backup into a folder that is empty or not there.
///
/// # Errors
/// [`BackupError`]; then the folder is as it was.
pub async fn restore(
    from: &Path,
    data: &Path,
    passphrase: &[u8],
    (entropy, now): (&dyn Entropy, UnixTime),
) -> Result<Restored, BackupError> {
    let (from, data) = (from.to_owned(), std::path::absolute(data).map_err(at(data))?);
    let passphrase = Zeroizing::new(passphrase.to_vec());
    let restored = tokio::task::spawn_blocking(move || put(&from, &data, &passphrase)).await??;
    let (restored, config) = restored;
    // Whoever reads the logs is told that they went on from here.
    let store = Store::open(&config.data)?;
    let resource = format!("backup of {}", restored.made);
    audit(&config, &store, entropy, ("adminservice:restore", resource, now)).await?;
    Ok(restored)
}

fn put(from: &Path, data: &Path, passphrase: &[u8]) -> Result<(Restored, Config), BackupError> {
    let file = File::open(from).map_err(at(from))?;
    let refused = |error| BackupError::Refused { path: from.to_owned(), error };
    let opener = Opener::new(BufReader::new(file), passphrase).map_err(refused)?;
    let staging = Staging::prepare(data)?;
    let mut archive = Archive { from: opener, path: from, end: End::default() };
    let manifest: Manifest = archive.first()?;
    staging.has_room(manifest.bytes)?;
    archive.unpack(&staging.folder)?;
    let config = check(&archive, &manifest, &staging)?;
    staging.move_in()?;
    let restored = Restored {
        organization: manifest.name,
        made: manifest.made,
        files: archive.end.files,
        head: manifest.head,
        settings: data.join(CONFIG),
        elsewhere: elsewhere(&config),
    };
    Ok((restored, config))
}

/// Whether what was unpacked is a whole server, whose settings now name the new folder.
fn check(archive: &Archive<'_>, manifest: &Manifest, staging: &Staging) -> Result<Config, BackupError> {
    let folder = &staging.folder;
    let copied = copy::examine(&folder.join(store::FILE))?;
    let head = copied.head.map(|head| head.to_string());
    if (copied.organization.id, copied.version, &head) != (manifest.organization, manifest.schema, &manifest.head) {
        return Err(archive.odd("its database is another than it says"));
    }
    keys::read_root(folder)?;
    let settings = folder.join(CONFIG);
    let text = fs::read_to_string(&settings).map_err(at(&settings))?;
    let moved = moved(&text, (&manifest.data, &staging.data));
    fs::write(&settings, moved.as_bytes()).map_err(at(&settings))?;
    let config = read_config(&settings, [])?;
    if config.data != staging.data {
        let why =
            format!("its settings name {} as data folder, and not one that could be changed", config.data.display());
        return Err(archive.odd(&why));
    }
    Ok(config)
}

/// Settings in which paths in one folder lie in another.
fn moved(text: &str, (old, new): (&Path, &Path)) -> String {
    let (old, new) = (old.display().to_string(), new.display().to_string());
    let quoted = |text: String, quote: char| {
        let whole = text.replace(&format!("{quote}{old}{quote}"), &format!("{quote}{new}{quote}"));
        whole.replace(&format!("{quote}{old}/"), &format!("{quote}{new}/"))
    };
    quoted(quoted(text.to_owned(), '"'), '\'')
}

/// A backup as it is read.
struct Archive<'a> {
    from: Opener<BufReader<File>>,
    path: &'a Path,
    end: End,
}

impl Archive<'_> {
    fn first(&mut self) -> Result<Manifest, BackupError> {
        match self.next()? {
            Some((name, size)) if name == MANIFEST => {
                let manifest: Manifest = self.text(size)?;
                if manifest.format == FORMAT { Ok(manifest) } else { Err(self.odd("a newer server made it")) }
            }
            _ => Err(self.odd("it does not begin as a backup does")),
        }
    }

    /// Every file into this folder, to the very end.
    fn unpack(&mut self, folder: &Path) -> Result<(), BackupError> {
        loop {
            match self.next()? {
                Some((name, size)) if name == END => {
                    let (counted, stated): (End, End) = (self.end, self.text(size)?);
                    if counted != stated {
                        return Err(self.odd("it holds other files than it says"));
                    }
                    self.end = counted;
                    break;
                }
                Some((name, size)) => self.file(&folder.join(name), size)?,
                None => return Err(self.odd("it has no end")),
            }
        }
        if self.next()?.is_some() || self.from.read(&mut [0]).map_err(|error| self.unreadable(error))? != 0 {
            return Err(self.odd("something follows its end"));
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, size: u64) -> Result<(), BackupError> {
        if let Some(folder) = path.parent() {
            private_folders(folder)?;
        }
        let mut out = private(false).create_new(true).open(path).map_err(at(path))?;
        let mut buffer = vec![0; 64 << 10];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.from.read(buffer.get_mut(..most).unwrap_or_default());
            let read = read.map_err(|error| self.unreadable(error))?;
            if read == 0 {
                return Err(self.odd("it ends early"));
            }
            io::Write::write_all(&mut out, buffer.get(..read).unwrap_or_default()).map_err(at(path))?;
            left = left.saturating_sub(read as u64);
        }
        out.sync_all().map_err(at(path))?;
        self.counted(size)
    }

    fn text<T: DeserializeOwned>(&mut self, size: u64) -> Result<T, BackupError> {
        if size > MOST_TEXT {
            return Err(self.odd("what it says of itself is too long"));
        }
        let mut text = Vec::new();
        (&mut self.from).take(size).read_to_end(&mut text).map_err(|error| self.unreadable(error))?;
        let value = serde_json::from_slice(&text).map_err(|_| self.odd("what it says of itself cannot be read"))?;
        self.counted(size)?;
        Ok(value)
    }

    fn counted(&mut self, size: u64) -> Result<(), BackupError> {
        tar::unpad(&mut self.from, size).map_err(|error| self.unreadable(error))?;
        self.end = End { files: self.end.files.saturating_add(1), bytes: self.end.bytes.saturating_add(size) };
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(String, u64)>, BackupError> {
        tar::next(&mut self.from).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: io::Error) -> BackupError {
        BackupError::Refused { path: self.path.to_owned(), error: error.into() }
    }

    fn odd(&self, why: &str) -> BackupError {
        BackupError::Content { path: self.path.to_owned(), why: why.to_owned() }
    }
}

fn private_folders(folder: &Path) -> Result<(), BackupError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))
}

/// Where files wait. What is still there when it is dropped is of a restore that failed.
struct Staging {
    data: PathBuf,
    folder: PathBuf,
    /// Whether the data folder was not there before.
    made: bool,
}

impl Staging {
    fn prepare(data: &Path) -> Result<Self, BackupError> {
        let made = match fs::read_dir(data) {
            Ok(mut entries) => match entries.next() {
                None => false,
                Some(_) => return Err(BackupError::NotEmpty(data.to_owned())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(at(data)(error)),
        };
        keys::private_folder(data)?;
        let staging = Self { data: data.to_owned(), folder: data.join(STAGING), made };
        keys::private_folder(&staging.folder)?;
        Ok(staging)
    }

    fn has_room(&self, needed: u64) -> Result<(), BackupError> {
        let found = statvfs(&self.folder).map_err(|error| at(&self.folder)(error.into()))?;
        #[allow(clippy::useless_conversion, reason = "the types differ from platform to platform")]
        let free = u64::from(found.blocks_available()).saturating_mul(found.fragment_size());
        if free < needed {
            return Err(BackupError::NoRoom { folder: self.data.clone(), free, needed });
        }
        Ok(())
    }

    /// The database last: without it no server starts.
    fn move_in(self) -> Result<(), BackupError> {
        let move_one = |name: &Path| {
            let (from, to) = (self.folder.join(name), self.data.join(name));
            fs::rename(from, &to).map_err(at(&to))
        };
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let name = PathBuf::from(entry.map_err(at(&self.folder))?.file_name());
            if name != Path::new(store::FILE) {
                move_one(&name)?;
            }
        }
        move_one(Path::new(store::FILE))?;
        File::open(&self.data).and_then(|folder| folder.sync_all()).map_err(at(&self.data))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
        if self.made {
            // Only when it is empty: never what was restored.
            drop(fs::remove_dir(&self.data));
        }
    }
}
