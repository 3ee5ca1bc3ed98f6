//! The helper: this program started once more to do what a process with threads must not do.
//!
//! Becoming another user between `fork` and `exec` of a threaded program is unsound to write in
//! safe Rust, so it is not written: the agent re-executes itself, and the new process, alone and
//! single-threaded, becomes the user and executes the shell (`launch`), keeps a shell beside the agent
//! (`holder`), or becomes the user and copies files (`files`; `transfer` for `scp` and `sftp`) or edits its keys (`keys`). Requests come over a socket on standard input, never on the command
//! line, where every user of the machine could read them.

#[cfg(feature = "files")]
pub(crate) mod files;
mod identity;
#[cfg(feature = "ssh")]
pub(crate) mod keys;
pub(crate) mod launch;
pub(crate) mod process;
#[cfg(feature = "ssh-server")]
pub(crate) mod transfer;
mod spawner;

pub use identity::{SwitchError, SwitchStep};
#[cfg(feature = "ssh")]
pub use keys::EditError;
pub use launch::LaunchError;
pub use process::ExitStatus;

use spawner::Spawner;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

const MARK: &str = "__bz-helper";

/// Stays the very file this process runs, also after an upgrade replaced it on disk: agent and
/// helper are always of one version.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The token that shells and commands are started with: proof that a program at this path knows
/// how to be a helper.
#[derive(Debug, Clone)]
pub struct Helper {
    path: PathBuf,
    spawner: Spawner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Launch,
    Holder,
    #[cfg(feature = "files")]
    Files,
    #[cfg(feature = "ssh-server")]
    Transfer,
    #[cfg(feature = "ssh")]
    Keys,
}

/// Must be the first line of `main`, before any thread, file or signal handler exists.
///
/// In a process that was started as a helper this plays the role asked for and never returns.
/// Everywhere else it only returns the token.
#[must_use]
pub fn enter() -> Helper {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != MARK) {
        return Helper::at(THIS_PROGRAM);
    }
    let role = arguments.next().and_then(|name| Role::ALL.iter().copied().find(|role| name == role.name()));
    let code = match (role, close_inherited()) {
        (Some(Role::Launch), Ok(())) => launch::run(),
        (Some(Role::Holder), Ok(())) => crate::holder::run(&Helper::at(THIS_PROGRAM)),
        #[cfg(feature = "files")]
        (Some(Role::Files), Ok(())) => files::run(),
        #[cfg(feature = "ssh-server")]
        (Some(Role::Transfer), Ok(())) => transfer::run(),
        #[cfg(feature = "ssh")]
        (Some(Role::Keys), Ok(())) => keys::run(),
        (None, _) | (_, Err(_)) => 2,
    };
    #[expect(clippy::exit, reason = "a helper has no main to return to")]
    std::process::exit(code)
}

impl Role {
    const ALL: &[Self] = &[
        Self::Launch,
        Self::Holder,
        #[cfg(feature = "files")]
        Self::Files,
        #[cfg(feature = "ssh-server")]
        Self::Transfer,
        #[cfg(feature = "ssh")]
        Self::Keys,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Holder => "holder",
            #[cfg(feature = "files")]
            Self::Files => "files",
            #[cfg(feature = "ssh-server")]
            Self::Transfer => "transfer",
            #[cfg(feature = "ssh")]
            Self::Keys => "keys",
        }
    }
}

impl Helper {
    /// For a program that ships a helper beside itself. `path` must call [`enter`] first thing.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), spawner: Spawner::default() }
    }

    /// A command that starts this helper with nothing of the environment; its orders come over
    /// whatever socket the caller puts on standard input.
    pub(crate) fn command(&self, role: Role) -> Command {
        let mut command = Command::new(&self.path);
        command.arg0("bz-helper").args([MARK, role.name()]).env_clear().current_dir("/");
        command
    }

    pub(crate) async fn start(&self, command: Command) -> std::io::Result<Child> {
        self.spawner.start(command).await
    }
}

/// What a library of the embedding program left open without close-on-exec ends here, before
/// anything of our own is open, and reaches neither a shell nor a process that outlives the agent.
fn close_inherited() -> std::io::Result<()> {
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| entry.map(|entry| entry.file_name()));
    let open: Vec<_> = names.collect::<std::io::Result<_>>()?;
    let numbers = open.iter().filter_map(|name| name.to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2) {
        match nix::unistd::close(number) {
            // the listing itself was open while it was read
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
