//! The agents' programs: files of one folder, which the server gives to whoever asks, and the digests that scripts carry.
//!
//! The folder is its administrator's to fill. Absent: links, folders and names that are more than names.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bz_core::api::autodiscovery::Artifact;
use sha2::{Digest as _, Sha256};

/// The folder in the data folder.
pub const FOLDER: &str = "artifacts";
/// The most files that are listed.
const MOST: usize = 64;
/// The most bytes of one: an agent has tens of millions.
const MOST_BYTES: u64 = 1 << 30;
const LONGEST_NAME: usize = 100;

/// The folder, and what is known of its files.
#[derive(Debug, Clone)]
pub(crate) struct Artifacts {
    folder: PathBuf,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

/// A digest, for as long as the file is the same.
#[derive(Debug, Clone)]
struct Known {
    modified: SystemTime,
    artifact: Artifact,
}

impl Artifacts {
    pub(crate) fn new(data: &Path) -> Self {
        Self { folder: data.join(FOLDER), known: Arc::default() }
    }

    /// All of them, by name; none where there is no folder.
    pub(crate) async fn list(&self) -> io::Result<Vec<Artifact>> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.read()).await.map_err(io::Error::other)?
    }

    /// One, with its file; nothing when there is none of that name.
    pub(crate) async fn open(&self, name: &str) -> io::Result<Option<(Artifact, fs::File)>> {
        let (this, name) = (self.clone(), name.to_owned());
        let open = move || {
            let Some(artifact) = this.artifact(&name)? else { return Ok(None) };
            Ok(Some((artifact, fs::File::open(this.folder.join(&name))?)))
        };
        tokio::task::spawn_blocking(open).await.map_err(io::Error::other)?
    }

    fn read(&self) -> io::Result<Vec<Artifact>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| is_name(name)).collect();
        names.sort();
        names.truncate(MOST);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name));
        names.iter().filter_map(|name| self.artifact(name).transpose()).collect()
    }

    fn artifact(&self, name: &str) -> io::Result<Option<Artifact>> {
        if !is_name(name) {
            return Ok(None);
        }
        let path = self.folder.join(name);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() <= MOST_BYTES => found,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (size, modified) = (found.len(), found.modified()?);
        let same = |known: &&Known| known.modified == modified && known.artifact.size == size;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(name).filter(same) {
            return Ok(Some(known.artifact.clone()));
        }
        // One at a time, under the lock: many who ask at once wait for one reader.
        let artifact = Artifact { name: name.to_owned(), sha256: sum(&path)?, size };
        if known.len() < MOST {
            known.insert(name.to_owned(), Known { modified, artifact: artifact.clone() });
        }
        Ok(Some(artifact))
    }
}

/// Letters, digits and `-_.`, of which the first is no dot.
fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    plain && (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.')
}

fn sum(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (fs::File::open(path)?, Sha256::new(), vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some([]) | None => return Ok(hex::encode(hash.finalize())),
            Some(bytes) => hash.update(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_of_the_folder_are_given_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(data.path());
        assert_eq!(artifacts.list().await.unwrap(), []);
        let folder = data.path().join(FOLDER);
        fs::create_dir_all(folder.join("folder")).unwrap();
        fs::write(data.path().join("root.key"), "secret").unwrap();
        fs::write(folder.join(".hidden"), "x").unwrap();
        fs::write(folder.join("bz-agent-linux-x86_64"), "one").unwrap();
        std::os::unix::fs::symlink(data.path().join("root.key"), folder.join("link")).unwrap();
        let list = artifacts.list().await.unwrap();
        assert_eq!(list.iter().map(|a| (a.name.as_str(), a.size)).collect::<Vec<_>>(), [("bz-agent-linux-x86_64", 3)]);
        assert_eq!(list[0].sha256, hex::encode(Sha256::digest("one")));
        for name in ["", ".", "..", "../root.key", "link", "folder", ".hidden", "a/b", "nothing", &"x".repeat(101)] {
            assert!(artifacts.open(name).await.unwrap().is_none(), "{name:?} is given");
        }
        fs::write(folder.join("bz-agent-linux-x86_64"), "another").unwrap();
        let (artifact, _) = artifacts.open("bz-agent-linux-x86_64").await.unwrap().unwrap();
        assert_eq!(artifact.sha256, hex::encode(Sha256::digest("another")), "a file that was replaced");
    }
}
