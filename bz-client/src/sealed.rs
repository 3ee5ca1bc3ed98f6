//! Names that led to sealed sessions: what nobody in between could read becomes readable only when the person says so.
//!
//! What a name behind a host leads to is the server's to say, and with that whether statements or requests are read on
//! the way. Who met a name sealed once would not notice; so the names are kept, as typed and by the target's id, and a
//! session that the server could read is not asked for under them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bz_core::access::request::Parameters;
use bz_core::access::{Access, Mode};
use bz_core::id::TargetId;
use serde::{Deserialize, Serialize};

use crate::client::{AskError, Client};
use crate::file::{self, FileError};
use crate::session::SessionError;
use crate::target_name::{TargetName, TargetRef};
use crate::tunnel::Tunnel;

/// The most names that are kept.
const MOST: usize = 4096;

/// Where the names are kept.
pub trait SealedNames: fmt::Debug + Send + Sync {
    /// Whether this name was sealed.
    ///
    /// # Errors
    /// When that is not known; nothing is opened then.
    fn has(&self, name: &str) -> Result<bool, FileError>;

    /// Keeps whether it is.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn set(&self, name: &str, sealed: bool) -> Result<(), FileError>;
}

/// A name was sealed, and would not be any more.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The server says that it is something else now.
    #[error(
        "{name} was sealed until now, and the server says that it is {about}, which it reads and logs: nothing was opened. \
         If an administrator changed what it is, run `bz connect --inspected {name}` once"
    )]
    Inspected {
        /// The name as typed.
        name: String,
        /// What it would be.
        about: &'static str,
    },
    /// The names cannot be read or kept.
    #[error(transparent)]
    Store(#[from] FileError),
}

/// The names, and whether one that was sealed may be opened for the server to read.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) names: Arc<dyn SealedNames>,
    pub(crate) may_be_read: bool,
}

impl Default for Sealed {
    fn default() -> Self {
        Self { names: Arc::new(MemorySealed::default()), may_be_read: false }
    }
}

impl Sealed {
    /// Whether a session of this kind may be asked for under a name.
    pub(crate) fn check(&self, name: &TargetRef, (id, access): (TargetId, Access)) -> Result<(), SealedError> {
        let spec = access.spec();
        if spec.mode == Mode::Sealed || self.may_be_read {
            return Ok(());
        }
        for kept in [name.to_string(), id.to_string()] {
            if self.names.has(&kept)? {
                return Err(SealedError::Inspected { name: name.to_string(), about: spec.about });
            }
        }
        Ok(())
    }

    /// Keeps what a name led to.
    pub(crate) fn met(&self, name: &TargetRef, (id, access): (TargetId, Access)) -> Result<(), SealedError> {
        let sealed = access.spec().mode == Mode::Sealed;
        for kept in [name.to_string(), id.to_string()] {
            self.names.set(&kept, sealed)?;
        }
        Ok(())
    }
}

impl Client {
    /// Opens a session with what is behind a host, unless it was sealed under this name and would be read.
    pub(crate) async fn behind<E>(
        &self,
        (name, id): (&TargetName, TargetId),
        parameters: Parameters,
    ) -> Result<Tunnel, E>
    where
        E: From<SealedError> + From<AskError> + From<SessionError>,
    {
        let access = parameters.access();
        self.sealed().check(&name.target, (id, access))?;
        let by_id = TargetName { user: name.user.clone(), target: TargetRef::Id(id) };
        let session = self.session(self.ask(&by_id, parameters, None).await?).await?;
        self.sealed().met(&name.target, (id, access))?;
        Ok(Tunnel::new(self.clone(), session))
    }
}

/// Names that end with the program.
#[derive(Debug, Default)]
pub struct MemorySealed(Mutex<BTreeSet<String>>);

impl SealedNames for MemorySealed {
    fn has(&self, name: &str) -> Result<bool, FileError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name))
    }

    fn set(&self, name: &str, sealed: bool) -> Result<(), FileError> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sealed {
            names.insert(name.to_owned());
        } else {
            names.remove(name);
        }
        Ok(())
    }
}

/// Names in a TOML file.
#[derive(Debug)]
pub struct SealedFile {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    #[serde(default)]
    sealed: BTreeSet<String>,
}

impl SealedFile {
    /// The file there; made with the first name.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn read(&self) -> Result<Kept, FileError> {
        let Some(text) = file::read(&self.path)? else { return Ok(Kept::default()) };
        toml::from_str(&text).map_err(|error| {
            let remedy = "mend it or move it away; nothing is then known to have been sealed";
            FileError::damaged(&self.path, error.message(), remedy)
        })
    }
}

impl SealedNames for SealedFile {
    fn has(&self, name: &str) -> Result<bool, FileError> {
        Ok(self.read()?.sealed.contains(name))
    }

    fn set(&self, name: &str, sealed: bool) -> Result<(), FileError> {
        // One change at a time, also between programs: each reads the file anew.
        let _changing = file::lock_beside(&self.path)?;
        let mut kept = self.read()?;
        let changed = if sealed { kept.sealed.insert(name.to_owned()) } else { kept.sealed.remove(name) };
        if !changed {
            return Ok(());
        }
        if kept.sealed.len() > MOST {
            let remedy = "remove the names you no longer use";
            return Err(FileError::damaged(&self.path, "it holds more names than fit", remedy));
        }
        let damaged = |error: toml::ser::Error| FileError::damaged(&self.path, &error.to_string(), "move it away");
        file::replace(&self.path, &toml::to_string(&kept).map_err(damaged)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_not_read_unless_the_person_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealed.toml");
        let stores: [Arc<dyn SealedNames>; 2] =
            [Arc::new(MemorySealed::default()), Arc::new(SealedFile::new(path.clone()))];
        let [cache, other]: [TargetRef; 2] = ["cache", "other"].map(|name| name.parse().unwrap());
        let [id, another] = [1, 2].map(|n| TargetId::from_bytes([n; 16]));
        for names in stores {
            let sealed = Sealed { names: Arc::clone(&names), may_be_read: false };
            sealed.check(&cache, (id, Access::Database)).expect("nothing is known of it");
            sealed.met(&cache, (id, Access::Database)).unwrap();
            sealed.check(&cache, (id, Access::Database)).expect("it never was sealed");
            sealed.met(&cache, (id, Access::Tcp)).unwrap();
            for (name, id) in [(&cache, id), (&cache, another), (&other, id)] {
                for access in [Access::Database, Access::Web, Access::Kube] {
                    let refused = sealed.check(name, (id, access)).unwrap_err();
                    assert!(matches!(refused, SealedError::Inspected { .. }), "{name} {access:?}: {refused}");
                }
                sealed.check(name, (id, Access::Tcp)).expect("sealed as ever");
            }
            sealed.check(&other, (another, Access::Database)).expect("another one");
            let told = Sealed { names, may_be_read: true };
            told.check(&cache, (id, Access::Database)).expect("the person said so");
            told.met(&cache, (id, Access::Database)).unwrap();
            sealed.check(&cache, (id, Access::Database)).expect("and it is known from now on");
        }
        std::fs::write(&path, "sealed = 1").unwrap();
        let damaged = Sealed { names: Arc::new(SealedFile::new(path)), may_be_read: false };
        assert!(matches!(damaged.check(&cache, (id, Access::Web)), Err(SealedError::Store(_))));
        damaged.check(&cache, (id, Access::Tcp)).expect("what is sealed asks nobody");
    }
}
