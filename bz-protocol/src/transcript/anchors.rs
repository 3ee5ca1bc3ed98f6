//! What a transcript is checked against.

use std::collections::BTreeMap;

use bz_core::oidc::jwks::{Jwks, JwksError};
use bz_core::trust::TrustBundle;
use serde_json::{Map, Value};

/// The most issuers of an archive.
const MAX_ISSUERS: usize = 64;
/// The most bytes of an archive's file.
const MAX_ARCHIVE: usize = 16 << 20;

/// Where trust comes from.
#[derive(Debug, Clone, Copy)]
pub enum Anchors<'a> {
    /// The administrator's bundle, and the identity providers' keys as the verifier kept or names them.
    Bundle(&'a TrustBundle, &'a JwksArchive),
    /// What the file itself holds: then it agrees with itself, and proves nothing more.
    FromTranscript,
}

/// Keys that identity providers published, now or earlier, kept by the verifier and never taken from a transcript.
#[derive(Debug, Clone, Default)]
pub struct JwksArchive(BTreeMap<String, Jwks>);

/// Why text is no archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// More issuers, keys or bytes than an archive may have.
    #[error("the archive of identity providers' keys is too large")]
    TooLarge,
    /// Not a JSON object of issuers and their key sets.
    #[error("the archive of identity providers' keys is malformed: expected {{\"ISSUER\": {{\"keys\": […]}}}}")]
    Malformed,
}

impl From<JwksError> for ArchiveError {
    fn from(error: JwksError) -> Self {
        match error {
            JwksError::TooLarge => Self::TooLarge,
            JwksError::Malformed => Self::Malformed,
        }
    }
}

impl JwksArchive {
    /// An archive without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a key set of an issuer, beside those already there.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`].
    pub fn add(&mut self, issuer: &str, keys: &Jwks) -> Result<(), ArchiveError> {
        if self.0.len() >= MAX_ISSUERS && !self.0.contains_key(issuer) {
            return Err(ArchiveError::TooLarge);
        }
        Ok(self.0.entry(issuer.to_owned()).or_default().add(keys)?)
    }

    /// The archive in a file's text: a JSON object of issuers and their key sets.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn parse(text: &str) -> Result<Self, ArchiveError> {
        if text.len() > MAX_ARCHIVE {
            return Err(ArchiveError::TooLarge);
        }
        let sets: Map<String, Value> = serde_json::from_str(text).map_err(|_| ArchiveError::Malformed)?;
        let mut archive = Self::new();
        for (issuer, set) in &sets {
            archive.add(issuer, &Jwks::parse(set.to_string().as_bytes())?)?;
        }
        Ok(archive)
    }

    /// The archive as a file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let set = |keys: &Jwks| serde_json::from_str(&keys.to_json()).unwrap_or_default();
        Value::Object(self.0.iter().map(|(issuer, keys)| (issuer.clone(), set(keys))).collect()).to_string()
    }

    /// The keys of an issuer.
    #[must_use]
    pub fn issuer(&self, issuer: &str) -> Option<&Jwks> {
        self.0.get(issuer)
    }
}
