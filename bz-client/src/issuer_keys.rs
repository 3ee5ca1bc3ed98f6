//! The identity providers' keys as they were seen, so that a transcript can be checked offline after the provider has
//! changed them.
//!
//! The file is what `bz verify --keys` reads: an object of issuers and their key sets. Each key also says when it was
//! first and last seen. Keys are only added; above the bound the one that was not seen for longest goes.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bz_core::oidc::jwks::{Jwks, MAX_KEYS};
use bz_core::time::UnixTime;
use bz_protocol::transcript::JwksArchive;
use serde_json::{Map, Value, json};

use crate::file::{self, FileError};

/// What of a key is kept: what verifies a signature, and no certificates.
const MEMBERS: [&str; 9] = ["kty", "use", "alg", "kid", "n", "e", "crv", "x", "y"];
/// The most bytes of one issuer's keys: some sixty of the usual kind.
const MAX_SET: usize = 60 << 10;
const FIRST: &str = "bz_first_seen";
const LAST: &str = "bz_last_seen";
/// A key that is seen again within this time is not written again.
const SEEN_ANEW: Duration = Duration::from_secs(24 * 3600);

/// Where keys are kept that identity providers publish.
pub trait SeenKeys: fmt::Debug + Send + Sync {
    /// Keeps the keys that an issuer published, as they were had from the issuer itself.
    ///
    /// # Errors
    /// When they cannot be kept. No reason to refuse a login.
    fn saw(&self, issuer: &str, keys: &Jwks, now: UnixTime) -> Result<(), FileError>;
}

/// Keys in a JSON file.
#[derive(Debug)]
pub struct SeenKeysFile {
    path: PathBuf,
}

impl SeenKeysFile {
    /// The file there; made with the first key.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// All keys that were seen; `None` while there is no file.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be read or is no archive.
    pub fn archive(&self) -> Result<Option<JwksArchive>, FileError> {
        let Some(text) = file::read(&self.path)? else { return Ok(None) };
        JwksArchive::parse(&text).map(Some).map_err(|error| self.damaged(&error.to_string()))
    }

    fn read(&self) -> Result<Map<String, Value>, FileError> {
        let Some(text) = file::read(&self.path)? else { return Ok(Map::new()) };
        JwksArchive::parse(&text).map_err(|error| self.damaged(&error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| self.damaged(&error.to_string()))
    }

    fn damaged(&self, fault: &str) -> FileError {
        FileError::damaged(&self.path, fault, "move it away; transcripts from before then need `bz verify --keys FILE`")
    }
}

impl SeenKeys for SeenKeysFile {
    fn saw(&self, issuer: &str, keys: &Jwks, now: UnixTime) -> Result<(), FileError> {
        // One change at a time, also between programs: each reads the file anew.
        let _changing = file::lock_beside(&self.path)?;
        let mut all = self.read()?;
        let set = all.entry(issuer.to_owned()).or_insert_with(|| json!({"keys": []}));
        if !add(set, keys, now) {
            return Ok(());
        }
        let text = Value::Object(all).to_string();
        if text.len() as u64 > file::MAX_FILE {
            return Err(self.damaged("there is no room for another issuer"));
        }
        file::replace(&self.path, &text)
    }
}

/// Takes the keys into a set; whether anything changed.
fn add(set: &mut Value, keys: &Jwks, now: UnixTime) -> bool {
    let published: Value = serde_json::from_str(&keys.to_json()).unwrap_or_default();
    let Some(known) = set.get_mut("keys").and_then(Value::as_array_mut) else { return false };
    let mut changed = false;
    for key in published.get("keys").and_then(Value::as_array).into_iter().flatten() {
        let mut key = kept(key);
        match known.iter_mut().find(|other| kept(other) == key) {
            Some(found) if seen(found).is_some_and(|last| now.since(last) < SEEN_ANEW) => {}
            Some(found) => {
                note(found, LAST, now);
                changed = true;
            }
            None => {
                note(&mut key, FIRST, now);
                note(&mut key, LAST, now);
                known.push(key);
                changed = true;
            }
        }
    }
    let size = |known: &[Value]| known.iter().map(|key| key.to_string().len()).sum::<usize>();
    while known.len() > MAX_KEYS || (known.len() > 1 && size(known) > MAX_SET) {
        let oldest = known.iter().enumerate().min_by_key(|(_, key)| seen(key)).map(|(at, _)| at);
        known.remove(oldest.unwrap_or_default());
    }
    changed
}

fn kept(key: &Value) -> Value {
    let member = |name: &&str| key.get(*name).map(|value| ((*name).to_owned(), value.clone()));
    Value::Object(MEMBERS.iter().filter_map(member).collect())
}

fn note(key: &mut Value, member: &str, now: UnixTime) {
    if let Some(members) = key.as_object_mut() {
        members.insert(member.to_owned(), json!(now.as_secs()));
    }
}

fn seen(key: &Value) -> Option<UnixTime> {
    key.get(LAST).and_then(Value::as_u64).map(UnixTime::from_secs)
}
