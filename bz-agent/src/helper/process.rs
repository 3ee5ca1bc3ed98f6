//! A child process held by its number. It is reaped only when the holder of this value lets go, so
//! that the number, and the process group named by it, cannot pass to a stranger in between.
//! Uses no signal handler: the process belongs to the program that embeds us.

use bincode::{Decode, Encode};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open, waitid,
};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
}

#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// Both are taken by the reaper when this value is dropped.
    held: Option<(Child, AsyncFd<OwnedFd>)>,
    runtime: Handle,
}

impl Process {
    pub(crate) fn new(mut child: Child) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        match watch(pid) {
            Ok(fd) => Ok(Self { pid, held: Some((child, fd)), runtime: Handle::current() }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for the end without reaping; may be called again and gives the same answer.
    pub(crate) async fn exited(&self) -> io::Result<ExitStatus> {
        let (_, fd) = self.held.as_ref().ok_or(io::ErrorKind::NotFound)?;
        exited(fd).await
    }

    /// Kills the process and the group that it leads.
    pub(crate) fn kill(&self) {
        for outcome in [kill_process_group(self.pid, Signal::KILL), kill_process(self.pid, Signal::KILL)] {
            match outcome {
                // no such group yet, no such process any more
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => {
                    tracing::warn!(%errno, pid = %self.pid.as_raw_nonzero(), "a process could not be killed");
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some((mut child, fd)) = self.held.take() {
            self.runtime.spawn(async move {
                if let Err(error) = exited(&fd).await.and_then(|_| child.wait()) {
                    tracing::warn!(%error, "a process was not reaped");
                }
            });
        }
    }
}

/// A process of somebody else's, watched for its end by a handle that no later process of the same number inherits.
#[derive(Debug)]
pub(crate) struct Stranger(Option<AsyncFd<OwnedFd>>);

impl Stranger {
    pub(crate) fn new(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        match watch(pid) {
            Ok(fd) => Ok(Self(Some(fd))),
            // it has ended, and its parent knows
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn ended(self) -> io::Result<()> {
        match self.0 {
            Some(fd) => fd.readable().await.map(drop),
            None => Ok(()),
        }
    }
}

fn watch(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    #[expect(deprecated, reason = "its successor is unsafe for the sake of types that are not I/O-safe; OwnedFd is")]
    AsyncFd::with_interest(fd, Interest::READABLE)
}

async fn exited(fd: &AsyncFd<OwnedFd>) -> io::Result<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        let mut ready = fd.readable().await?;
        if let Some(status) = waitid(WaitId::PidFd(fd.as_fd()), options)? {
            let code = status.exit_status().map(ExitStatus::Code);
            return code
                .or_else(|| status.terminating_signal().map(ExitStatus::Signal))
                .ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        ready.clear_ready();
    }
}
