//! Copies of files as a user of this machine: one helper for each, with no more rights than that user.

use crate::frame::{self, FrameError};
use crate::helper::files::Orders;
use crate::helper::launch::{self, PATIENCE, Reply};
use crate::helper::process::Process;
use crate::helper::{ExitStatus, Helper, LaunchError, Role};
use crate::user::User;
use bz_core::access::request::CopyRequest;
use bz_core::oidc::Person;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a copy that was cut may take to put its last file away.
const TIDY: Duration = Duration::from_secs(2);

/// Serves copies.
#[derive(Debug, Clone)]
pub struct Files {
    helper: Helper,
    under_way: Arc<Mutex<BTreeMap<Key, Turn>>>,
}

/// Who copies what, as whom. The same again takes the place of the one before: its client is gone, or will be told.
type Key = (Person, String, Vec<u8>);

/// A copy's hold on what it copies.
#[derive(Debug, Clone, Default)]
struct Turn {
    /// It is to end.
    over: CancellationToken,
    /// Its process has ended.
    ended: CancellationToken,
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
    /// Both are taken when this value is dropped.
    held: Option<(Process, DropGuard)>,
    over: CancellationToken,
    runtime: Handle,
    /// Keeps the thread alive that the parent-death signal is tied to.
    _helper: Helper,
}

impl Files {
    /// Copies by helpers of this kind.
    #[must_use]
    pub fn new(helper: Helper) -> Self {
        Self { helper, under_way: Arc::default() }
    }

    /// Begins a person's copy; what it says and hears is on the stream.
    pub(crate) async fn begin(
        &self,
        person: &Person,
        (user, copy): (&User, &CopyRequest),
    ) -> Result<(Copying, UnixStream), FilesError> {
        let turn = self.turn((person.clone(), user.name.clone(), encoded(copy)?)).await;
        let ended = turn.ended.drop_guard();
        let (own, theirs) = BlockingStream::pair().map_err(FilesError::Helper)?;
        let mut command = self.helper.command(Role::Files);
        let silent = std::process::Stdio::null;
        command.stdin(OwnedFd::from(theirs)).stdout(silent()).stderr(silent());
        let child = self.helper.start(command).await.map_err(FilesError::Helper)?;
        let process = Process::new(child).map_err(FilesError::Helper)?;
        let held = Some((process, ended));
        let copying = Copying { held, over: turn.over, runtime: Handle::current(), _helper: self.helper.clone() };
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

impl Files {
    /// Waits until the same copy, begun before, has let go.
    async fn turn(&self, key: Key) -> Turn {
        let (turn, before) = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.retain(|_, turn| !turn.ended.is_cancelled());
            let turn = Turn::default();
            let before = under_way.insert(key, turn.clone());
            (turn, before)
        };
        if let Some(before) = before {
            before.over.cancel();
            before.ended.cancelled().await;
        }
        turn
    }
}

fn encoded(copy: &CopyRequest) -> Result<Vec<u8>, FilesError> {
    frame::encode(copy).map_err(|_| LaunchError::Request.into())
}

impl Copying {
    /// Waits for the end. Cancel-safe.
    pub(crate) async fn wait(&self) -> std::io::Result<ExitStatus> {
        match &self.held {
            Some((process, _)) => process.exited().await,
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    /// Until the same copy was begun anew.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Lets a copy end by itself that was cut, and no longer than that takes.
    pub(crate) async fn tidy(&self) {
        if tokio::time::timeout(TIDY, self.wait()).await.is_err() {
            tracing::debug!("a copy that was cut did not end by itself");
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        let Some((process, ended)) = self.held.take() else { return };
        process.kill();
        self.runtime.spawn(async move {
            if let Err(error) = process.exited().await {
                tracing::warn!(%error, "a copy's end is not known");
            }
            drop(ended);
        });
    }
}
