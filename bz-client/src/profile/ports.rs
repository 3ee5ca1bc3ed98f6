//! Which port of this machine leads to which target, in the profile's `ports.toml`: so that the next connection has the
//! same one, and the settings of other programs stay right.
//!
//! Nothing here is ever an error: what cannot be read or written is not remembered.

use std::path::PathBuf;

use bz_core::id::TargetId;
use serde::{Deserialize, Serialize};

use crate::file;

/// The most ports kept.
const MOST: usize = 256;

/// The memory of a profile.
#[derive(Debug)]
pub struct PortFile {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    port: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    target: TargetId,
    port: u16,
}

impl PortFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The port that led to this target last.
    #[must_use]
    pub fn find(&self, target: TargetId) -> Option<u16> {
        self.read().port.into_iter().find(|row| row.target == target).map(|row| row.port)
    }

    /// Keeps the port that leads to this target now. No other target has it from now on.
    pub fn keep(&self, target: TargetId, port: u16) {
        let (mut kept, row) = (self.read(), Row { target, port });
        if kept.port.contains(&row) {
            return;
        }
        kept.port.retain(|other| other.target != target && other.port != port);
        kept.port.insert(0, row);
        kept.port.truncate(MOST);
        let text = toml::to_string(&kept).map_err(|error| error.to_string());
        let written = text.and_then(|text| file::replace(&self.path, &text).map_err(|error| error.to_string()));
        if let Err(error) = written {
            tracing::debug!(%error, "the port is not remembered");
        }
    }

    fn read(&self) -> Kept {
        let text = file::read(&self.path).unwrap_or_else(|error| {
            tracing::debug!(%error, "no port is remembered");
            None
        });
        text.and_then(|text| toml::from_str(&text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_belongs_to_the_last_target_that_had_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.toml");
        let (one, two) = (TargetId::from_bytes([1; 16]), TargetId::from_bytes([2; 16]));
        let ports = PortFile::new(path.clone());
        assert_eq!(ports.find(one), None);
        ports.keep(one, 15432);
        ports.keep(two, 15433);
        assert_eq!((ports.find(one), ports.find(two)), (Some(15432), Some(15433)));
        ports.keep(two, 15432);
        assert_eq!((ports.find(one), ports.find(two)), (None, Some(15432)));
        std::fs::write(&path, "no toml").unwrap();
        assert_eq!(ports.find(two), None);
        ports.keep(one, 1);
        assert_eq!(ports.find(one), Some(1));
    }
}
