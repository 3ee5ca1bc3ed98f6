//! What agent and holder say to each other. The first variant of each direction keeps its shape for
//! ever: it is how two versions find out about each other.

use crate::helper::{ExitStatus, LaunchError};
use crate::user::{Environment, User};
use bincode::{Decode, Encode};
use std::path::PathBuf;
use thiserror::Error;

pub(crate) const VERSION: u16 = 1;

pub use bz_core::id::ShellId;

/// A terminal's size in characters.
///
/// Clients report 0 for "unknown", and anything for a joke. A side is at least 1, and at most
/// 1000 columns and 500 rows: more than any real screen, little enough to keep in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Size {
    rows: u16,
    cols: u16,
}

impl Size {
    pub fn clamped(rows: u16, cols: u16) -> Self {
        Self { rows: rows.clamp(1, 500), cols: cols.clamp(1, 1000) }
    }

    pub const fn rows(self) -> u16 {
        self.rows
    }

    pub const fn cols(self) -> u16 {
        self.cols
    }

    /// The same again for a size that came over a socket.
    pub(super) fn checked(self) -> Self {
        Self::clamped(self.rows, self.cols)
    }
}

/// Where a shell stands when an agent connects.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ShellState {
    pub id: ShellId,
    pub user: String,
    /// The shell's process.
    pub pid: u32,
    pub size: Size,
    /// Number of the first byte of output that is still kept.
    pub base: u64,
    /// Number of the next byte of output.
    pub end: u64,
    /// Bytes of output lost so far, because no agent took them and the room was used up.
    pub dropped: u64,
    /// Bytes of input taken so far. What an agent had sent beyond this when it was cut off is lost.
    pub input: u64,
    /// Whether the foreground program reads a line with its echo off.
    pub password: bool,
    /// How the shell ended, when it has ended and all its output is in.
    pub exited: Option<ExitStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum ShellSignal {
    Hangup,
    Kill,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum ToHolder {
    Hello {
        version: u16,
    },
    Input(Vec<u8>),
    Resize(Size),
    Signal(ShellSignal),
    /// Send output from this byte on, or from the first one still kept.
    Take {
        from: u64,
    },
    /// Everything before `offset` is safe with the agent and may be forgotten.
    Ack {
        offset: u64,
    },
    /// The screen as it is after all output so far; that output goes first, where it was asked for.
    Repaint,
    /// The agent knows of the exit and has all output.
    Release,
    /// A person is there, until this agent goes: the shell is not idle.
    Attended,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum FromHolder {
    Refused {
        version: u16,
    },
    State(ShellState),
    Output {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// One part of a screen dump; the last part says so.
    Repaint {
        offset: u64,
        part: Vec<u8>,
        last: bool,
    },
    PasswordMode {
        offset: u64,
        on: bool,
    },
    Exited {
        offset: u64,
        status: ExitStatus,
    },
    /// Bytes of input that have reached the terminal, counted like `ShellState::input`.
    Written {
        total: u64,
    },
}

/// What a new holder is told over its standard input.
#[derive(Debug, Clone, Encode, Decode)]
pub(crate) struct Orders {
    pub(crate) version: u16,
    pub(crate) id: ShellId,
    pub(crate) user: User,
    pub(crate) environment: Environment,
    pub(crate) size: Size,
    pub(crate) socket: PathBuf,
    pub(crate) idle_seconds: u64,
    /// What the login shell runs instead of asking for commands.
    pub(crate) command: Option<Vec<u8>>,
}

#[derive(Debug, Encode, Decode)]
pub(crate) enum Outcome {
    Started,
    Failed(StartError),
}

/// Why a holder did not come up.
#[derive(Debug, Clone, PartialEq, Eq, Error, Encode, Decode)]
pub enum StartError {
    #[error("agent and helper are of different versions")]
    Version,
    #[error("the holder did not understand its orders")]
    Orders,
    #[error("the holder could not set up {what}: {}", std::io::Error::from_raw_os_error(*errno))]
    System { what: String, errno: i32 },
    #[error("the shell was not started: {0}")]
    Shell(LaunchError),
    #[error("the holder ended, or did not answer in time")]
    Died,
}

impl StartError {
    pub(super) fn system(what: &str, error: &std::io::Error) -> Self {
        Self::System { what: what.to_owned(), errno: error.raw_os_error().unwrap_or_default() }
    }
}
