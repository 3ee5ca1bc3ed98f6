//! The agent's side of its shells: start a holder, find those that an earlier agent left, and talk
//! to each through a [`Shell`].
//!
//! All sockets lie in one directory of the agent's own. A handle that is dropped leaves its shell
//! running, detached; so does the death of the agent.

mod shell;

pub use crate::helper::ExitStatus;
pub use crate::holder::message::{ShellId, ShellState, Size, StartError};
pub use shell::{HolderEvent, LinkError, Shell, ShellWriter};

use crate::frame;
use crate::helper::process::Process;
use crate::helper::{Helper, Role};
use crate::holder::message::{Orders, Outcome, VERSION};
use crate::user::{Environment, User};
use nix::unistd::geteuid;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use thiserror::Error;
use tokio::net::UnixStream;

/// Longer than the helper's own patience with a home on a slow file server.
const PATIENCE: Duration = Duration::from_secs(30);

const SUFFIX: &str = "sock";

/// What a detached shell may wait for its user.
pub const IDLE: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug, Clone)]
pub struct Holders {
    helper: Helper,
    directory: PathBuf,
}

#[derive(Debug, Clone)]
pub struct ShellRequest {
    /// `TERM`, language, and nothing else that `Environment` does not let through.
    pub environment: Environment,
    pub size: Size,
    /// A shell that nobody [attended](Shell::attended) for this long is hung up. Usually [`IDLE`].
    pub idle: Duration,
}

#[derive(Debug, Error)]
pub enum HoldersError {
    #[error("the runtime directory {} cannot be used: {cause}", path.display())]
    Directory { path: PathBuf, cause: io::Error },
    #[error("the runtime directory {} must belong to this agent alone, with mode 0700", path.display())]
    Exposed { path: PathBuf },
    #[error("the holder could not be started: {0}")]
    Helper(#[source] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the shell's holder does not answer: {0}")]
    Connect(#[source] LinkError),
}

impl Holders {
    /// Makes `directory` if it is missing; its parent must exist.
    pub fn new(helper: Helper, directory: impl Into<PathBuf>) -> Result<Self, HoldersError> {
        let path = directory.into();
        let failed = |cause| HoldersError::Directory { path: path.clone(), cause };
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let found = std::fs::symlink_metadata(&path).map_err(failed)?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.permissions().mode() & 0o077 != 0 {
            return Err(HoldersError::Exposed { path });
        }
        Ok(Self { helper, directory: path })
    }

    /// Starts a shell and connects to it. No output comes before [`Shell::take`].
    pub async fn start(&self, user: &User, request: ShellRequest) -> Result<Shell, HoldersError> {
        self.start_as(ShellId::from_random(uuid::Uuid::new_v4().into_bytes()), user, request).await
    }

    /// The same under an id that the caller wrote down before.
    pub(crate) async fn start_as(
        &self,
        id: ShellId,
        user: &User,
        request: ShellRequest,
    ) -> Result<Shell, HoldersError> {
        self.start_with(id, user, (request, None)).await
    }

    /// The same, with one command in the place of an interactive shell.
    pub(crate) async fn start_with(
        &self,
        id: ShellId,
        user: &User,
        (request, command): (ShellRequest, Option<Vec<u8>>),
    ) -> Result<Shell, HoldersError> {
        let orders = Orders {
            version: VERSION,
            id,
            user: user.clone(),
            environment: request.environment,
            size: request.size,
            socket: self.socket(id),
            idle_seconds: request.idle.as_secs(),
            command,
        };
        let (own, control) = BlockingStream::pair().map_err(HoldersError::Helper)?;
        let mut command = self.helper.command(Role::Holder);
        command.stdin(OwnedFd::from(control)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = self.helper.start(command).await.map_err(HoldersError::Helper)?;
        // Let go at once: the holder lives without us, and is reaped when it ends before we do.
        drop(Process::new(child).map_err(HoldersError::Helper)?);
        let control =
            own.set_nonblocking(true).and_then(|()| UnixStream::from_std(own)).map_err(HoldersError::Helper)?;
        match tokio::time::timeout(PATIENCE, order(control, &orders)).await {
            Ok(started) => started?,
            Err(_) => return Err(StartError::Died.into()),
        }
        self.connect(id).await
    }

    /// Connects to a shell; an agent that is connected to it already is cut off.
    pub async fn connect(&self, id: ShellId) -> Result<Shell, HoldersError> {
        Shell::connect(&self.socket(id)).await.map_err(HoldersError::Connect)
    }

    /// Connects to every shell that answers in the directory, and clears away the sockets of those
    /// that ended without a word. A holder that cannot be talked to is left alone.
    pub async fn adopt(&self) -> Result<Vec<Shell>, HoldersError> {
        let mut shells = Vec::new();
        for socket in self.sockets().map_err(|cause| HoldersError::Directory { path: self.directory.clone(), cause })? {
            match Shell::connect(&socket).await {
                Ok(shell) => shells.push(shell),
                Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    clear(&socket);
                }
                Err(error) => {
                    tracing::warn!(%error, socket = %socket.display(), "a shell was not adopted");
                }
            }
        }
        Ok(shells)
    }

    fn sockets(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Clears away what a holder that is gone may have left.
    pub(crate) fn clear(&self, id: ShellId) {
        clear(&self.socket(id));
    }

    /// Whether a shell's holder has its socket, as long as it lives.
    pub(crate) fn has(&self, id: ShellId) -> bool {
        self.socket(id).exists()
    }

    /// Whether a shell's holder lives. Who has the shell keeps it.
    pub(crate) async fn lives(&self, id: ShellId) -> bool {
        Shell::is_kept(&self.socket(id)).await
    }

    fn socket(&self, id: ShellId) -> PathBuf {
        self.directory.join(Path::new(&id.to_string())).with_extension(SUFFIX)
    }
}

fn clear(socket: &Path) {
    match std::fs::remove_file(socket) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, socket = %socket.display(), "a dead shell's socket stays"),
    }
}

async fn order(mut control: UnixStream, orders: &Orders) -> Result<(), StartError> {
    frame::write(&mut control, orders).await?;
    match frame::read(&mut control).await? {
        Some(Outcome::Started) => Ok(()),
        Some(Outcome::Failed(error)) => Err(error),
        None => Err(StartError::Died),
    }
}
