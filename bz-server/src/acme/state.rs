//! What is remembered between certificates: the account and its key, for which names the last one was, and why there is no
//! newer one. One file of the data folder, its owner's alone.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bz_core::time::UnixTime;
use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::acme::AcmeError;

const FILE: &str = "acme.json";

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: UnixTime,
    /// Why.
    pub why: String,
}

/// Not in `Debug`: it has the account's key.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(default)]
    pub(super) names: Vec<String>,
    #[serde(default)]
    pub(super) failure: Option<Failure>,
    #[serde(default)]
    directory: String,
    #[serde(default)]
    account: Value,
}

impl State {
    /// What is there; nothing where it cannot be read: then a new account is as good.
    pub(super) fn read(data: &Path) -> Self {
        let text = fs::read(data.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(super) fn write(&self, data: &Path) -> Result<(), AcmeError> {
        let path = data.join(FILE);
        let at = |error| AcmeError::File { path: path.clone(), error };
        let text = serde_json::to_vec_pretty(self).map_err(|error| at(error.into()))?;
        let draft = path.with_extension("json.new");
        write_over(&draft, &text)?;
        fs::rename(&draft, &path).map_err(at)
    }

    /// The account at this authority.
    pub(super) fn account(&self, directory: &str) -> Option<AccountCredentials> {
        let is_there = self.directory == directory;
        is_there.then(|| serde_json::from_value(self.account.clone()).ok()).flatten()
    }

    pub(super) fn set_account(&mut self, directory: String, credentials: &AccountCredentials) {
        self.account = serde_json::to_value(credentials).unwrap_or_default();
        self.directory = directory;
    }
}

/// Writes a file that its owner alone reads.
pub(super) fn write_over(path: &Path, content: &[u8]) -> Result<(), AcmeError> {
    let at = |error| AcmeError::File { path: path.to_owned(), error };
    // One that was left behind may have been anybody's to read.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(error)),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at)
}
