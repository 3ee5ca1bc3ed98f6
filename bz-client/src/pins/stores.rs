//! Pins in memory, and pins in a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::file::{self, FileError};
use crate::pins::{KnownAgents, Pin};

/// The most names that are kept.
const MAX_PINS: usize = 4096;

/// Pins that end with the program. Also the way to give a headless client what it may know.
#[derive(Debug, Default)]
pub struct MemoryPins(Mutex<BTreeMap<String, Pin>>);

impl KnownAgents for MemoryPins {
    fn find(&self, name: &str) -> Result<Option<Pin>, FileError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    fn keep(&self, name: &str, pin: &Pin) -> Result<(), FileError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), pin.clone());
        Ok(())
    }
}

/// Pins in a TOML file: a table per name as typed.
#[derive(Debug)]
pub struct KnownAgentsFile {
    path: PathBuf,
}

impl KnownAgentsFile {
    /// The file there; made with the first pin.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn read(&self) -> Result<BTreeMap<String, Pin>, FileError> {
        let Some(text) = file::read(&self.path)? else { return Ok(BTreeMap::new()) };
        toml::from_str(&text).map_err(|error| {
            let remedy = "mend it or move it away; every agent is then met for the first time again";
            FileError::damaged(&self.path, error.message(), remedy)
        })
    }
}

impl KnownAgents for KnownAgentsFile {
    fn find(&self, name: &str) -> Result<Option<Pin>, FileError> {
        Ok(self.read()?.remove(name))
    }

    fn keep(&self, name: &str, pin: &Pin) -> Result<(), FileError> {
        // One change at a time, also between programs: each reads the file anew.
        let _changing = file::lock_beside(&self.path)?;
        let mut pins = self.read()?;
        if pins.get(name) == Some(pin) {
            return Ok(());
        }
        if pins.len() >= MAX_PINS && !pins.contains_key(name) {
            let remedy = "remove the names you no longer use";
            return Err(FileError::damaged(&self.path, "it holds more names than fit", remedy));
        }
        pins.insert(name.to_owned(), pin.clone());
        let damaged = |error: toml::ser::Error| FileError::damaged(&self.path, &error.to_string(), "move it away");
        file::replace(&self.path, &toml::to_string(&pins).map_err(damaged)?)
    }
}
