//! Where a person's `ssh` finds its session: a socket to ask for the key, and a file with the host's keys.
//!
//! `ssh` looks for the socket when it logs in, after its `ProxyCommand` has connected, under a name that it knows before:
//! target and user. Several at once for the same target take turns from sshd's first line to the login, so that each logs
//! in with its own certificate.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bz_core::digest::Digest;
use bz_core::ssh::HostKey;
use bz_core::target::TargetUser;
use tokio::net::UnixListener;
use tokio::time::Instant;

use crate::file::{self, FileError};
use crate::ssh::agent::OneLogin;
use crate::ssh::config::is_host;
use crate::target_name::TargetRef;
use crate::{clock, platform};

/// The most bytes of a Unix socket's address, its end not counted, on every system.
const MAX_SOCKET: usize = 103;
/// Bytes of a name's part for the target.
const NAME: usize = 16;
/// The longest name of a socket: for its target, and for its user.
const MAX_NAME: usize = NAME + 1 + 32;
/// How long `ssh` may take to log in before others are let go on.
const TURN: Duration = Duration::from_secs(15);
/// How long to wait for the others' turns; the certificate lives for a minute.
const TURNS: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(10);

/// The names that `ssh` looks for, of one target.
#[derive(Debug, Clone)]
pub struct Names {
    folder: PathBuf,
    target: String,
    name: String,
}

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// No socket can have such a name.
    #[error("{0} is too long for a folder of sockets: name a shorter one with `bz generate ssh-config --run-dir DIR`")]
    TooLong(PathBuf),
    /// Not a host's name.
    #[error("{0} cannot be the name of a host to ssh: name the target by its id")]
    Name(String),
    /// Others can use the folder.
    #[error("{0} must be a folder of yours alone: run `chmod 700` on it, or name another one")]
    Exposed(PathBuf),
    /// Others hold it.
    #[error("too many ssh to this target are logging in at this moment: try again")]
    Busy,
    /// The operating system gives no random bytes.
    #[error(transparent)]
    Random(#[from] crate::NoRandom),
}

impl Names {
    /// The names below this folder, for a target as `ssh` is told of it.
    ///
    /// # Errors
    /// [`DoorError::TooLong`], [`DoorError::Name`].
    pub fn new(folder: &Path, target: &TargetRef) -> Result<Self, DoorError> {
        let target = target.to_string();
        if !is_host(&target) {
            return Err(DoorError::Name(target));
        }
        let name = Digest::of(target.as_bytes()).to_string();
        let name = name.get(..NAME).unwrap_or(&name).to_owned();
        // One byte for the separator.
        if folder.as_os_str().len() + 1 + MAX_NAME > MAX_SOCKET {
            return Err(DoorError::TooLong(folder.to_owned()));
        }
        Ok(Self { folder: folder.to_owned(), target, name })
    }

    /// The file with the host's keys.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.join(format!("{}.hosts", self.name))
    }

    /// The socket, for a user or for `ssh`'s word for it, `%r`.
    #[must_use]
    pub fn socket(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{}-{user}", self.name))
    }

    /// Waits for its turn and opens: from then on `ssh` finds host keys and socket.
    ///
    /// # Errors
    /// [`DoorError`].
    pub async fn open(&self, user: &TargetUser, keys: &[HostKey]) -> Result<Door, DoorError> {
        platform::create_private_dir(&self.folder).map_err(FileError::io(&self.folder, "made"))?;
        let found = fs::symlink_metadata(&self.folder).map_err(FileError::io(&self.folder, "examined"))?;
        if !found.is_dir() || found.mode() & 0o077 != 0 {
            return Err(DoorError::Exposed(self.folder.clone()));
        }
        let turn = self.turn().await?;
        let lines: String = keys.iter().map(|key| format!("{} {}\n", self.target, key.to_line())).collect();
        file::replace(&self.known_hosts(), &lines)?;
        let socket = self.socket(user.as_str());
        let fresh = self.folder.join(format!(".{}", hex::encode(clock::random::<8>()?)));
        let bound = UnixListener::bind(&fresh).and_then(|listener| {
            fs::rename(&fresh, &socket)?;
            Ok(listener)
        });
        let listener = bound.map_err(|error| {
            // What is left answers nobody.
            drop(fs::remove_file(&fresh));
            FileError::io(&socket, "made")(error)
        })?;
        Ok(Door { listener, socket, _turn: turn })
    }

    async fn turn(&self) -> Result<File, DoorError> {
        let path = self.folder.join(format!("{}.lock", self.name));
        let turn = platform::open_lock(&path).map_err(FileError::io(&path, "opened"))?;
        let deadline = Instant::now() + TURNS;
        loop {
            match turn.try_lock() {
                Ok(()) => return Ok(turn),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Err(TryLockError::WouldBlock) => return Err(DoorError::Busy),
                Err(TryLockError::Error(error)) => return Err(FileError::io(&path, "locked")(error).into()),
            }
        }
    }
}

/// An open door. Dropping it lets the next one have its turn.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    socket: PathBuf,
    /// Unlocked when dropped, after the socket is gone: nobody else has made one of this name meanwhile.
    _turn: File,
}

impl Door {
    /// Answers until one `ssh` has logged in, or has had the time for it.
    ///
    /// # Errors
    /// When the socket breaks.
    pub async fn serve(self, login: &OneLogin<'_>) -> io::Result<()> {
        let one = async {
            loop {
                let (stream, _) = self.listener.accept().await?;
                match login.serve(stream).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(error) => tracing::debug!(%error, "somebody else asked for the key"),
                }
            }
        };
        tokio::time::timeout(TURN, one).await.unwrap_or(Ok(()))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // That it stays is no error: it answers nobody, and the next one takes its name.
        drop(fs::remove_file(&self.socket));
    }
}
