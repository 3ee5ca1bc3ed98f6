//! A certified OpenID provider (the npm package `oidc-provider`) as a child process, for tests that must not depend on
//! our own reading of OpenID Connect.
//!
//! It signs with RS256, its issuer has no slash at the end, it redirects its clients ([`CLIENT_ID`], and one that
//! has a secret) to `/callback` on any loopback port, and it gives a refresh token only for `offline_access` with `prompt=consent`. Its users are
//! `alice` and `bob` (`hd` example.com) and `eve` (`hd` elsewhere.test). Absent: installing it, which is npm's work.

mod child;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::idp::OldKey;
use child::Child;

/// The public client that the provider knows.
pub const CLIENT_ID: &str = "bz-cli";
/// A client that was given a secret, which anybody may know.
pub const DESKTOP_CLIENT_ID: &str = "bz-desktop";
/// See [`DESKTOP_CLIENT_ID`].
pub const DESKTOP_CLIENT_SECRET: &str = "kept from nobody";

/// How people get what is missing.
const INSTALL: &str = "npm ci --prefix examples/oidc-provider";

/// The running provider; dropping it kills the process.
#[derive(Debug)]
pub struct CertifiedIdp {
    issuer: String,
    child: tokio::sync::Mutex<Child>,
}

/// Why the provider did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("{0} is missing: run `{INSTALL}`")]
    NotInstalled(PathBuf),
    #[error("the program `node` is missing: install Node.js 20 or newer, then run `{INSTALL}`")]
    NoNode,
    #[error("`node` could not be started")]
    Spawn(#[source] std::io::Error),
    #[error("the provider did not say where it listens")]
    Silent(#[from] OrderError),
    #[error("the provider's first line names no issuer: {0}")]
    FirstLine(Value),
}

/// Why the running provider did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    #[error("the provider gave no answer in time; on stderr it said: {stderr}")]
    Timeout { stderr: String },
    #[error("the provider ended; on stderr it said: {stderr}")]
    Ended { stderr: String },
    #[error("the provider answered with something else than one short line of JSON: {line:?}")]
    Answer { line: String },
    #[error("the provider refused: {0}")]
    Refused(String),
    #[error("the pipe to the provider failed")]
    Pipe(#[from] std::io::Error),
}

impl CertifiedIdp {
    /// Where the provider is installed once [`StartError::NotInstalled`] no longer comes.
    #[must_use]
    pub fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc-provider")
    }

    /// Starts the provider on a free port of 127.0.0.1 and waits until it listens.
    ///
    /// # Errors
    /// Says what to run when Node.js or the package is missing.
    pub async fn start() -> Result<Self, StartError> {
        let folder = Self::folder();
        let package = folder.join("node_modules").join("oidc-provider");
        if !package.is_dir() {
            return Err(StartError::NotInstalled(package));
        }
        let mut child = Child::spawn(&folder).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound { StartError::NoNode } else { StartError::Spawn(error) }
        })?;
        let first = child.line().await?;
        let issuer = first.get("issuer").and_then(Value::as_str).map(str::to_owned);
        let issuer = issuer.ok_or(StartError::FirstLine(first))?;
        Ok(Self { issuer, child: tokio::sync::Mutex::new(child) })
    }

    /// The issuer, letter for letter as in the tokens: a `Url` would add a slash.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs with a new key from now on and returns its `kid`; grants and refresh tokens stay good.
    ///
    /// # Errors
    /// When the process is gone or does not answer.
    pub async fn rotate_keys(&self, old: OldKey) -> Result<String, OrderError> {
        let old = match old {
            OldKey::Published => "published",
            OldKey::Withdrawn => "withdrawn",
        };
        let answer = self.order(&json!({ "rotate": old })).await?;
        let kid = answer.get("kid").and_then(Value::as_str).map(str::to_owned);
        kid.ok_or_else(|| OrderError::Answer { line: answer.to_string() })
    }

    /// Changes the life of ID tokens made from now on; whole seconds, at least one.
    ///
    /// # Errors
    /// When the process is gone or refuses the value.
    pub async fn set_id_token_life(&self, life: Duration) -> Result<(), OrderError> {
        self.order(&json!({ "idTokenSeconds": life.as_secs() })).await.map(drop)
    }

    /// Moves the provider's clock forward, by whole seconds.
    ///
    /// # Errors
    /// When the process is gone or refuses the value.
    pub async fn advance(&self, by: Duration) -> Result<(), OrderError> {
        self.order(&json!({ "forwardSeconds": by.as_secs() })).await.map(drop)
    }

    async fn order(&self, order: &Value) -> Result<Value, OrderError> {
        let mut child = self.child.lock().await;
        child.send(order).await?;
        let answer = child.line().await?;
        match answer.get("error") {
            Some(error) => Err(OrderError::Refused(error.to_string())),
            None => Ok(answer),
        }
    }
}
