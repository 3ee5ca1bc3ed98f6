//! Copies of files as a user of this machine: one helper for each, with no more rights than that user.

use crate::frame::{self, FrameError};
use crate::helper::files::Orders;
use crate::helper::launch::{self, PATIENCE, Reply};
use crate::helper::process::Process;
use crate::helper::{ExitStatus, Helper, LaunchError, Role};
use crate::user::User;
use bz_core::access::request::CopyRequest;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingStream;
use std::time::Duration;
use thiserror::Error;
use tokio::net::UnixStream;

/// How long a copy that was cut may take to put its last file away.
const TIDY: Duration = Duration::from_secs(2);

/// Serves copies.
#[derive(Debug, Clone)]
pub struct Files {
    helper: Helper,
}

#[derive(Debug, Error)]
pub(crate) enum FilesError {
    #[error("the helper could not be started: {0}")]
    Helper(#[source] std::io::Error),
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// A copy under way. Dropping it kills its process; what it had of a large file stays for the next.
#[derive(Debug)]
pub(crate) struct Copying {
    process: Process,
    /// Keeps the thread alive that the parent-death signal is tied to.
    _helper: Helper,
}

impl Files {
    /// Copies by helpers of this kind.
    #[must_use]
    pub const fn new(helper: Helper) -> Self {
        Self { helper }
    }

    /// Begins a copy; what it says and hears is on the stream.
    pub(crate) async fn begin(&self, user: &User, copy: &CopyRequest) -> Result<(Copying, UnixStream), FilesError> {
        let (own, theirs) = BlockingStream::pair().map_err(FilesError::Helper)?;
        let mut command = self.helper.command(Role::Files);
        let silent = std::process::Stdio::null;
        command.stdin(OwnedFd::from(theirs)).stdout(silent()).stderr(silent());
        let child = self.helper.start(command).await.map_err(FilesError::Helper)?;
        let process = Process::new(child).map_err(FilesError::Helper)?;
        let copying = Copying { process, _helper: self.helper.clone() };
        let stream = own.set_nonblocking(true).and_then(|()| UnixStream::from_std(own));
        let mut stream = stream.map_err(FilesError::Helper)?;
        let orders =
            Orders { version: launch::VERSION, user: user.clone(), agent: std::process::id(), copy: copy.clone() };
        let talk = async {
            frame::write(&mut stream, &orders).await?;
            frame::read(&mut stream).await
        };
        match tokio::time::timeout(PATIENCE, talk).await {
            Ok(Ok(Some(Reply::Ready))) => Ok((copying, stream)),
            Ok(Ok(Some(Reply::Failed(failure)))) => Err(failure.into()),
            Ok(Err(FrameError::TooLarge(_) | FrameError::Malformed)) => Err(LaunchError::Request.into()),
            Ok(Ok(None) | Err(_)) | Err(_) => Err(LaunchError::Died.into()),
        }
    }
}

impl Copying {
    /// Waits for the end. Cancel-safe.
    pub(crate) async fn wait(&self) -> std::io::Result<ExitStatus> {
        self.process.exited().await
    }

    /// Lets a copy end by itself that was cut, and no longer than that takes.
    pub(crate) async fn tidy(&self) {
        if tokio::time::timeout(TIDY, self.process.exited()).await.is_err() {
            tracing::debug!("a copy that was cut did not end by itself");
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.process.kill();
    }
}
