//! One command of a user, with pipes: what `scp`, `sftp` and a remote command need. The login shell
//! runs it, with a fresh session, no terminal, and nothing of the agent's environment.

use crate::helper::launch::{self, Launch, Lifetime, launch};
use crate::helper::process::Process;
use crate::helper::{Helper, Role};
use crate::user::{Environment, User};
use std::io::pipe;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};

pub use crate::helper::{ExitStatus, LaunchError};

/// The kernel takes no single argument longer than this.
const LONGEST_COMMAND: usize = (128 << 10) - 1;

#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// Given to the login shell behind `-c`, byte for byte.
    pub command: Vec<u8>,
    pub environment: Environment,
}

#[derive(Debug, Error)]
pub enum ExecError {
    #[error("a command holds a zero byte or is longer than {LONGEST_COMMAND} bytes")]
    Command,
    #[error("the helper could not be started: {0}")]
    Helper(#[source] std::io::Error),
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// A running command. Dropping it kills the command and its whole process group, also what the
/// command left running there. If the agent is killed, the command's shell is killed with it.
///
/// Each pipe may be taken out and used on its own; dropping `stdin` tells the command that no more
/// input comes.
#[derive(Debug)]
pub struct Exec {
    pub stdin: Option<Sender>,
    pub stdout: Option<Receiver>,
    pub stderr: Option<Receiver>,
    process: Process,
    /// Keeps the thread alive that the parent-death signal is tied to.
    _helper: Helper,
}

impl Exec {
    pub async fn spawn(helper: &Helper, user: &User, request: ExecRequest) -> Result<Self, ExecError> {
        if request.command.len() > LONGEST_COMMAND || request.command.contains(&0) {
            return Err(ExecError::Command);
        }
        let (own, control) = BlockingStream::pair().map_err(ExecError::Helper)?;
        let (stdin, to_stdin) = pipe().map_err(ExecError::Helper)?;
        let (from_stdout, stdout) = pipe().map_err(ExecError::Helper)?;
        let (from_stderr, stderr) = pipe().map_err(ExecError::Helper)?;
        let mut command = helper.command(Role::Launch);
        command.stdin(OwnedFd::from(control)).stdout(stdout).stderr(stderr);
        let child = helper.start(command).await.map_err(ExecError::Helper)?;
        let process = Process::new(child).map_err(ExecError::Helper)?;
        let mut started = Self {
            stdin: Some(Sender::from_owned_fd(to_stdin.into()).map_err(ExecError::Helper)?),
            stdout: Some(Receiver::from_owned_fd(from_stdout.into()).map_err(ExecError::Helper)?),
            stderr: Some(Receiver::from_owned_fd(from_stderr.into()).map_err(ExecError::Helper)?),
            process,
            _helper: helper.clone(),
        };
        let control = own.set_nonblocking(true).and_then(|()| UnixStream::from_std(own)).map_err(ExecError::Helper)?;
        match launch(control, stdin.as_fd(), &orders(user, request)).await {
            Ok(()) => Ok(started),
            Err(failure) => {
                started.stdin = None;
                Err(failure.into())
            }
        }
    }

    /// Waits for the end of the command; its output may still be in the pipes then. Cancel-safe.
    pub async fn wait(&self) -> std::io::Result<ExitStatus> {
        self.process.exited().await
    }

    pub fn pid(&self) -> u32 {
        self.process.pid().as_raw_nonzero().get().unsigned_abs()
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.process.kill();
    }
}

fn orders(user: &User, request: ExecRequest) -> Launch {
    let name = user.shell.file_name().unwrap_or(user.shell.as_os_str());
    let environment = request.environment.of(user).into_iter();
    Launch {
        version: launch::VERSION,
        user: user.clone(),
        program: Path::new(&user.shell).to_owned(),
        arguments: vec![name.as_bytes().to_vec(), b"-c".to_vec(), request.command],
        environment: environment.map(|(name, value)| (name.into_vec(), value.into_vec())).collect(),
        scratch: None,
        lifetime: Lifetime::With(std::process::id()),
    }
}
