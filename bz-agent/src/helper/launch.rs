//! The role that turns into somebody's program: one request comes in with one open file, which
//! becomes standard input; the process becomes the user and executes the program.
//!
//! The outcome travels over the control socket, which closes by itself when `exec` succeeds:
//! `Ready` and then the end of the stream is success; `Failed` is a failure; an end without `Ready`
//! is a helper that died. A failure is thereby never mistaken for an exit status of the program.

use super::identity::{SwitchError, become_user};
use crate::frame::{self, FrameError};
use crate::user::User;
use bincode::{Decode, Encode};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{Signal, getpgrp, getpid, getppid, set_parent_process_death_signal, setsid, umask};
use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::signal::unix::SignalKind;

/// Agent and helper are one program, unless somebody named another one with `Helper::at`.
pub(crate) const VERSION: u16 = 1;

/// A helper answers in milliseconds; a home on a dead file server is what takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Encode, Decode)]
pub(crate) struct Launch {
    pub(crate) version: u16,
    pub(crate) user: User,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) environment: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) scratch: Option<Scratch>,
    pub(crate) lifetime: Lifetime,
}

/// How long the launched program may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Lifetime {
    /// Killed when the process of this number dies.
    With(u32),
    /// Ends by its terminal's hang-up.
    Terminal,
}

/// Files made for the program in a directory of its user's own, which a variable then names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Scratch {
    pub(crate) variable: String,
    pub(crate) files: Vec<(String, String)>,
}

#[derive(Debug, Encode, Decode)]
pub(crate) enum Reply {
    Ready,
    Failed(LaunchError),
}

/// Why a program was not started. Never an outcome of the program itself.
#[derive(Debug, Clone, PartialEq, Eq, Error, Encode, Decode)]
pub enum LaunchError {
    #[error("agent and helper are of different versions")]
    Version,
    #[error("the helper did not understand its orders")]
    Request,
    #[error(transparent)]
    Switch(SwitchError),
    #[error("the new session could not be made: {}", std::io::Error::from_raw_os_error(*errno))]
    Session { errno: i32 },
    #[error("the program could not be executed: {}", std::io::Error::from_raw_os_error(*errno))]
    Execute { errno: i32 },
    #[error("the agent ended while the program was being started")]
    Orphaned,
    #[error("the helper ended, or did not answer in time")]
    Died,
}

/// The agent's side: sends the orders, and returns when the program runs.
pub(crate) async fn launch(
    mut control: UnixStream,
    stdin: BorrowedFd<'_>,
    request: &Launch,
) -> Result<(), LaunchError> {
    let talk = async {
        send_file(&control, stdin)?;
        frame::write(&mut control, request).await?;
        match frame::read(&mut control).await? {
            Some(Reply::Ready) => Ok(frame::read(&mut control).await?),
            Some(reply @ Reply::Failed(_)) => Ok(Some(reply)),
            None => Err(FrameError::Truncated),
        }
    };
    match tokio::time::timeout(PATIENCE, talk).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(Reply::Failed(failure)))) => Err(failure),
        Ok(Err(FrameError::TooLarge(_) | FrameError::Malformed)) => Err(LaunchError::Request),
        Ok(Ok(Some(Reply::Ready)) | Err(_)) | Err(_) => Err(LaunchError::Died),
    }
}

/// The helper's side; returns only when the program was not started.
pub(super) fn run() -> i32 {
    let Ok(own) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return 2;
    };
    let mut control = BlockingStream::from(own);
    let Err(failure) = obey(&mut control);
    // An agent that is gone hears nothing; the exit code is for whoever traces this process.
    match frame::write_blocking(&mut control, &Reply::Failed(failure)) {
        Ok(()) => 1,
        Err(_) => 2,
    }
}

fn obey(control: &mut BlockingStream) -> Result<std::convert::Infallible, LaunchError> {
    let stdin = receive_file(control)?;
    let request: Launch = frame::read_blocking(control).map_err(|_| LaunchError::Request)?;
    if request.version != VERSION {
        return Err(LaunchError::Version);
    }
    if getpgrp() != getpid() {
        setsid().map_err(|errno| LaunchError::Session { errno: errno.raw_os_error() })?;
    }
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    become_user(&request.user).map_err(LaunchError::Switch)?;
    // After the change of user, which would clear it again.
    if let Lifetime::With(agent) = request.lifetime {
        live_with(agent)?;
    }
    // A home that is missing or closed to its user is no reason to keep the user out.
    std::env::set_current_dir(&request.user.home)
        .or_else(|_| std::env::set_current_dir("/"))
        .map_err(|error| execute(&error))?;
    let scratch = request.scratch.as_ref().and_then(prepare);
    forget_ignored_signals();
    rustix::stdio::dup2_stdin(&stdin).map_err(|errno| execute(&errno.into()))?;
    frame::write_blocking(control, &Reply::Ready).map_err(|_| LaunchError::Orphaned)?;
    let (first, rest) = request.arguments.split_first().ok_or(LaunchError::Request)?;
    let mut program = std::process::Command::new(&request.program);
    program.arg0(text(first)).args(rest.iter().map(text)).env_clear();
    program.envs(request.environment.iter().map(|(name, value)| (text(name), text(value)))).envs(scratch);
    Err(execute(&program.exec()))
}

/// Becomes the user, for as long as the agent lives, where relative paths are named from.
#[cfg(any(feature = "files", feature = "ssh"))]
pub(super) fn settle(user: &User, agent: u32) -> Result<(), LaunchError> {
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    become_user(user).map_err(LaunchError::Switch)?;
    // After the change of user, which would clear it again.
    live_with(agent)?;
    // Without it only full paths lead anywhere.
    std::env::set_current_dir(&user.home)
        .or_else(|_| std::env::set_current_dir("/"))
        .map_err(|error| execute(&error))?;
    survive_limits();
    Ok(())
}

/// A file that is too large for the user is an error of that file, and not the end of the copy.
#[cfg(any(feature = "files", feature = "ssh"))]
fn survive_limits() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
        return;
    };
    let _inside = runtime.enter();
    // Where even this is refused, the kernel ends the copy.
    drop(tokio::signal::unix::signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32)));
}

/// Dies when the agent does.
fn live_with(agent: u32) -> Result<(), LaunchError> {
    let died = |_| LaunchError::Orphaned;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(died)?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent == Some(agent) { Ok(()) } else { Err(LaunchError::Orphaned) }
}

fn text(bytes: impl AsRef<[u8]>) -> OsString {
    OsString::from_vec(bytes.as_ref().to_vec())
}

fn execute(error: &std::io::Error) -> LaunchError {
    LaunchError::Execute { errno: error.raw_os_error().unwrap_or_default() }
}

/// Runs as the user, so that no file of another owner is ever written. Without room for the files
/// the program starts without them.
fn prepare(scratch: &Scratch) -> Option<(String, PathBuf)> {
    let directory = tempfile::Builder::new().prefix("bz-").tempdir_in("/tmp").ok()?;
    for (name, contents) in &scratch.files {
        std::fs::write(directory.path().join(name), contents).ok()?;
    }
    Some((scratch.variable.clone(), directory.keep()))
}

/// An agent started under `nohup` ignores signals, and ignoring is inherited. A handler is not: it
/// falls back to the default at `exec`. So each signal gets a handler, which is never run.
fn forget_ignored_signals() {
    use nix::sys::signal::Signal::{SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU};
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
        return;
    };
    let _inside = runtime.enter();
    let named = [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
        SignalKind::alarm(),
        SignalKind::child(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::window_change(),
    ];
    for kind in
        named.into_iter().chain([SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU].map(|signal| SignalKind::from_raw(signal as i32)))
    {
        // Where even this is refused, the signal stays as it was inherited.
        drop(tokio::signal::unix::signal(kind));
    }
}

fn send_file(control: &UnixStream, file: BorrowedFd<'_>) -> std::io::Result<()> {
    let files = [file];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    sendmsg(control, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_file(control: &BlockingStream) -> Result<OwnedFd, LaunchError> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(|_| LaunchError::Request)?;
    let files = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    files.flatten().next().ok_or(LaunchError::Request)
}
