//! The vault: an agent's identity and pins on disk.
//!
//! One private folder, one private file in it, replaced whole or not at all, and one lock: while a program holds the
//! vault no other one takes it, so two agents never act under one identity. What a registration leaves is written only
//! after the server has accepted it; until then the old identity is what is there.
//!
//! Absent: encryption. Whoever can read the file is the agent's own user or root, and is the agent anyway.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use bz_core::id::{OrganizationId, TargetId};
use bz_core::key::PrivateKey;
use bz_core::trust::TrustBundle;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::agent::Identity;
use crate::file::{self, FileError};

/// The identity's file in the vault's folder.
pub const STATE: &str = "agent.toml";
const LOCK: &str = "lock";
const VERSION: u16 = 1;
/// A bundle and two authorities fit many times.
const MAX_STATE: u64 = 1 << 20;

/// Why the vault cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what this program wrote.
    #[error("{path} is damaged ({fault}): restore it, or move it away and register again as a new target")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong. Never a value: it could be a key.
        fault: String,
    },
    /// Another program holds it.
    #[error("another bz-agent uses {0}: stop it first")]
    Busy(PathBuf),
}

/// What registration leaves.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Who the agent is.
    pub identity: Identity,
    /// The server's address.
    pub server: String,
    /// The target's name.
    pub name: String,
    /// Whether a local policy file is required: then everything is refused without one.
    pub local_policy_required: bool,
    /// The pinned anchors.
    pub bundle: TrustBundle,
    /// Authorities in PEM that the server's certificate may come from, beside the system's.
    pub server_ca: Option<String>,
    /// Authorities in PEM that the identity providers' certificates may come from, beside the system's. Never the
    /// server's own: it would vouch for both roots.
    pub issuer_ca: Option<String>,
}

/// The file's own shape. Not shown by anything: it holds the keys in text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u16,
    organization: OrganizationId,
    target: TargetId,
    name: String,
    server: String,
    local_policy_required: bool,
    identity_key: String,
    control_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server_ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer_ca: Option<String>,
    bundle: TrustBundle,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.identity_key.zeroize();
        self.control_key.zeroize();
    }
}

/// The folder, held by this program alone until it is dropped.
#[derive(Debug)]
pub struct Vault {
    folder: PathBuf,
    _lock: File,
}

impl Vault {
    /// Takes the vault in this folder, which is made where it is absent.
    ///
    /// # Errors
    /// [`VaultError`]; [`VaultError::Busy`] at once when another program has it.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, VaultError> {
        let folder = folder.into();
        file::private_folder(&folder)?;
        let path = folder.join(LOCK);
        let lock = file::open(OpenOptions::new().write(true).create(true).truncate(false), &path);
        let lock = lock.map_err(FileError::io(&path, "opened"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(VaultError::Busy(folder)),
            Err(TryLockError::Error(error)) => Err(FileError::io(&path, "locked")(error).into()),
        }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Who the agent is; `None` when it was never registered.
    ///
    /// # Errors
    /// [`VaultError`], which says what to do.
    pub fn read(&self) -> Result<Option<Registered>, VaultError> {
        peek(&self.folder)
    }

    /// Makes this the agent's identity. After an error, and after a crash at any moment, the old one is still there.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn replace(&self, registered: &Registered) -> Result<(), VaultError> {
        let path = self.folder.join(STATE);
        Ok(file::replace(&path, registered.to_text(&path)?.as_bytes())?)
    }
}

/// Reads a vault that another program may hold: the file is whole at every moment.
///
/// # Errors
/// [`VaultError`].
pub fn peek(folder: &Path) -> Result<Option<Registered>, VaultError> {
    file::check_folder(folder)?;
    let path = folder.join(STATE);
    let Some(bytes) = file::read(&path, MAX_STATE)? else { return Ok(None) };
    Registered::parse(&bytes).map(Some).map_err(|fault| VaultError::Damaged { path, fault })
}

impl Registered {
    fn to_text(&self, path: &Path) -> Result<Zeroizing<String>, VaultError> {
        let hex = |key: &PrivateKey| hex::encode(key.to_bytes().as_slice());
        let stored = Stored {
            version: VERSION,
            organization: self.identity.organization,
            target: self.identity.target,
            name: self.name.clone(),
            server: self.server.clone(),
            local_policy_required: self.local_policy_required,
            identity_key: hex(&self.identity.identity_key),
            control_key: hex(&self.identity.control_key),
            server_ca: self.server_ca.clone(),
            issuer_ca: self.issuer_ca.clone(),
            bundle: self.bundle.clone(),
        };
        let body = toml::to_string(&stored).map(Zeroizing::new);
        let body = body.map_err(|e| VaultError::Damaged { path: path.to_owned(), fault: e.to_string() })?;
        Ok(Zeroizing::new(format!(
            "# This agent's identity. Whoever can read this file can be this agent.\n{}",
            body.as_str()
        )))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        let stored: Stored = toml::from_str(text).map_err(|error| {
            // The library's own words may repeat a value.
            let before = error.span().and_then(|span| text.get(..span.start));
            before.map_or_else(|| "it is no vault".to_owned(), |b| format!("line {}", b.split('\n').count()))
        })?;
        if stored.version != VERSION {
            return Err(format!("it is of version {}, this program knows version {VERSION}", stored.version));
        }
        if stored.organization != stored.bundle.organization {
            return Err("identity and bundle are of different organizations".to_owned());
        }
        stored.bundle.check().map_err(|error| error.to_string())?;
        let identity = Identity {
            organization: stored.organization,
            target: stored.target,
            identity_key: key(&stored.identity_key).ok_or("identity_key is no key")?,
            control_key: key(&stored.control_key).ok_or("control_key is no key")?,
        };
        Ok(Self {
            identity,
            server: stored.server.clone(),
            name: stored.name.clone(),
            local_policy_required: stored.local_policy_required,
            bundle: stored.bundle.clone(),
            server_ca: stored.server_ca.clone(),
            issuer_ca: stored.issuer_ca.clone(),
        })
    }
}

fn key(text: &str) -> Option<PrivateKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text, bytes.as_mut_slice()).ok()?;
    PrivateKey::from_bytes(&bytes).ok()
}
