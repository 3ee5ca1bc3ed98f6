//! The pseudoterminal and the login shell in it. The holder keeps the one side; the helper that
//! becomes the shell gets the other as its controlling terminal, so that Ctrl-C and job control work.

use super::message::{Orders, ShellSignal, Size, StartError};
use crate::frame::FrameError;
use crate::helper::launch::{self, Launch, Lifetime, Scratch, launch};
use crate::helper::{Helper, Role};
use crate::marks::{Marks, marks};
use pty_process::{OwnedReadPty, OwnedWritePty};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use tokio::net::UnixStream;
use tokio::process::Child;

/// A stopped process hears nothing before it goes on.
const HANG_UP: &[Signal] = &[Signal::HUP, Signal::CONT];

pub(super) struct Terminal {
    pub(super) reader: OwnedReadPty,
    pub(super) writer: OwnedWritePty,
    pub(super) shell: Child,
    pub(super) control: Control,
}

/// What is done to a terminal besides reading and writing it.
pub(super) struct Control {
    master: OwnedFd,
    shell: Option<Pid>,
}

impl Terminal {
    pub(super) async fn open(helper: &Helper, orders: &Orders) -> Result<Self, StartError> {
        let failed = |error: io::Error| StartError::system("the terminal", &error);
        let (pty, pts) = pty_process::open().map_err(|error| failed(plain(error)))?;
        pty.resize(pty_process::Size::new(orders.size.rows(), orders.size.cols()))
            .map_err(|error| failed(plain(error)))?;
        // A terminal belongs to whoever sits at it: programs open it again by name.
        nix::unistd::fchown(pts.as_fd(), Some(orders.user.owner()), None).map_err(|errno| failed(errno.into()))?;
        rustix::fs::fchmod(pts.as_fd(), rustix::fs::Mode::from_raw_mode(0o620))
            .map_err(|errno| failed(errno.into()))?;
        let stdin = pts.as_fd().try_clone_to_owned().map_err(failed)?;
        let master = pty.as_fd().try_clone_to_owned().map_err(failed)?;
        let (own, control) = BlockingStream::pair().map_err(failed)?;
        let command = tokio::process::Command::from(helper.command(Role::Launch));
        let command = pty_process::Command::from(command).stdin(OwnedFd::from(control));
        let shell = command.spawn(pts).map_err(|error| failed(plain(error)))?;
        own.set_nonblocking(true).map_err(failed)?;
        let own = UnixStream::from_std(own).map_err(failed)?;
        launch(own, stdin.as_fd(), &login(orders)).await.map_err(StartError::Shell)?;
        let pid = shell.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let (reader, writer) = pty.into_split();
        Ok(Self { reader, writer, shell, control: Control { master, shell: pid } })
    }
}

impl Control {
    pub(super) fn resize(&self, size: Size) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows(), ws_col: size.cols(), ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    /// A program that reads a whole line with the echo off asks for a secret. A line editor, which
    /// draws the echo itself, reads single keys.
    pub(super) fn asks_for_secret(&self) -> bool {
        tcgetattr(&self.master).is_ok_and(|modes| {
            modes.local_modes.contains(LocalModes::ICANON) && !modes.local_modes.contains(LocalModes::ECHO)
        })
    }

    pub(super) fn output_waits(&self) -> bool {
        poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    pub(super) fn pid(&self) -> u32 {
        self.shell.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// The shell's number may belong to a stranger from now on.
    pub(super) const fn forget_shell(&mut self) {
        self.shell = None;
    }

    /// Reaches the shell and whatever has the terminal; a shell passes a hang-up on to its jobs.
    pub(super) fn signal(&self, signal: ShellSignal) {
        let foreground = tcgetpgrp(&self.master).ok().filter(|_| self.shell.is_some());
        let signals: &[_] = match signal {
            ShellSignal::Hangup => HANG_UP,
            ShellSignal::Kill => &[Signal::KILL],
        };
        for group in [foreground.filter(|group| Some(*group) != self.shell), self.shell].into_iter().flatten() {
            send(group, signals);
        }
    }

    /// Once more to the shell alone: what has the terminal hears of it when the shell ends.
    pub(super) fn hang_up_shell(&self) {
        if let Some(shell) = self.shell {
            send(shell, HANG_UP);
        }
    }
}

fn send(group: Pid, signals: &[Signal]) {
    for signal in signals {
        // A group that is gone, or is root's while this holder is not, is left alone.
        kill_process_group(group, *signal).unwrap_or_default();
    }
}

fn login(orders: &Orders) -> Launch {
    let marks = if orders.command.is_some() { Marks::default() } else { marks(&orders.user.shell) };
    let name = orders.user.shell.file_name().unwrap_or_default();
    let dash = if orders.command.is_some() { b"".as_slice() } else { b"-" };
    let command = orders.command.clone().into_iter().flat_map(|command| [b"-c".to_vec(), command]);
    let arguments = marks.arguments.into_iter().map(String::into_bytes).chain(command);
    let marked = marks.environment.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let environment = orders.environment.of(&orders.user).into_iter().chain(marked);
    Launch {
        version: launch::VERSION,
        user: orders.user.clone(),
        program: Path::new(&orders.user.shell).to_owned(),
        arguments: std::iter::once([dash, name.as_bytes()].concat()).chain(arguments).collect(),
        environment: environment.map(|(name, value)| (name.into_vec(), value.into_vec())).collect(),
        scratch: marks.directory.map(|made| Scratch { variable: made.variable, files: made.files }),
        lifetime: Lifetime::Terminal,
    }
}

fn plain(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(errno) => errno.into(),
        pty_process::Error::TokioAsyncFd(_) | pty_process::Error::Unsplit(..) => io::Error::other(error.to_string()),
    }
}

impl From<FrameError> for StartError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge(_) | FrameError::Malformed => Self::Orders,
            FrameError::Truncated | FrameError::Io(_) => Self::Died,
        }
    }
}
