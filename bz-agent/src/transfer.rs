//! A helper that serves `sftp` or `scp` as a user of this machine, with no more rights than that user.

use crate::frame;
use crate::helper::launch::{self, PATIENCE, Reply};
use crate::helper::process::Process;
use crate::helper::transfer::{Orders, Service};
use crate::helper::{ExitStatus, Helper, LaunchError, Role};
use crate::user::User;
use bz_protocol::ssh::SshFile;
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingStream;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;

#[derive(Debug, Error)]
pub(crate) enum TransferError {
    #[error("the helper could not be started: {0}")]
    Helper(#[from] std::io::Error),
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// A service under way. Dropping it kills its process.
#[derive(Debug)]
pub(crate) struct Transfer {
    process: Process,
    /// Keeps the thread alive that the parent-death signal is tied to.
    _helper: Helper,
}

/// What the helper says of files.
#[derive(Debug)]
pub(crate) struct Log(Receiver);

impl Transfer {
    /// Begins; the protocol is on the stream.
    pub(crate) async fn begin(
        helper: &Helper,
        user: &User,
        service: Service,
    ) -> Result<(Self, UnixStream, Log), TransferError> {
        let (own, theirs) = BlockingStream::pair()?;
        let (log, stdout) = pipe()?;
        let mut command = helper.command(Role::Transfer);
        command.stdin(OwnedFd::from(theirs)).stdout(stdout).stderr(std::process::Stdio::null());
        let process = Process::new(helper.start(command).await?)?;
        let transfer = Self { process, _helper: helper.clone() };
        own.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(own)?;
        let orders = Orders { version: launch::VERSION, user: user.clone(), agent: std::process::id(), service };
        let talk = async {
            frame::write(&mut stream, &orders).await?;
            frame::read(&mut stream).await
        };
        match tokio::time::timeout(PATIENCE, talk).await {
            Ok(Ok(Some(Reply::Ready))) => Ok((transfer, stream, Log(Receiver::from_owned_fd(log.into())?))),
            Ok(Ok(Some(Reply::Failed(failure)))) => Err(failure.into()),
            Ok(Ok(None) | Err(_)) | Err(_) => Err(LaunchError::Died.into()),
        }
    }

    /// Waits for the end. Cancel-safe.
    pub(crate) async fn wait(&self) -> std::io::Result<ExitStatus> {
        self.process.exited().await
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.process.kill();
    }
}

impl Log {
    /// The next file; `None` at the end. Not cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<SshFile> {
        frame::read(&mut self.0).await.unwrap_or_else(|error| {
            // The helper is this program; whoever steered it this far gains nothing but a transfer without a log.
            tracing::error!(%error, "a transfer's helper does not speak as it should");
            None
        })
    }
}
