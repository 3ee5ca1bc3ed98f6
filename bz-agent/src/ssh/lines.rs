//! The last resort: a line in the `authorized_keys` of the target user, for sshds that neither believe nor ask.
//!
//! It names this host's authority, for one user and this machine's own addresses, and goes after half a minute, or with
//! its session. A helper that is the user writes it.
//!
//! Whose file may have a line is written down in the agent's own folder before it has one; an agent that is killed finds
//! it there when it starts again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bz_core::target::TargetUser;
use bz_protocol::driver::Clock;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::file::{self, FileError};
use crate::frame;
use crate::helper::keys::{Edit, EditError, Orders};
use crate::helper::launch::{self, PATIENCE, Reply};
use crate::helper::process::Process;
use crate::helper::{Helper, LaunchError, Role};
use crate::ssh::Authority;
use crate::user::{User, UserError};

/// Of the users whose files may have a line, in the agent's folder.
const FOLDER: &str = "ssh-lines";
/// How long a line stays.
const LIFE: Duration = Duration::from_secs(30);
/// How often a line is tried to be removed that cannot be, and after what time again.
const TRIES: u32 = 20;

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// The agent's own folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The target user.
    #[error(transparent)]
    User(#[from] UserError),
    /// No helper.
    #[error("the helper could not be started: {0}")]
    Helper(#[source] io::Error),
    /// It could not be that user.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The file of the user.
    #[error("the authorized_keys of {user} stays as it is: {cause}")]
    Edit {
        /// Whose.
        user: String,
        /// Why.
        cause: EditError,
    },
    /// The agent ends.
    #[error("the agent ends")]
    Ending,
}

/// Lines in users' own files.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Inner>);

struct Inner {
    helper: Helper,
    folder: PathBuf,
    /// What each line of this agent has in it.
    mark: String,
    clock: Arc<dyn Clock>,
    /// How many lines each user's file has; held while a file is edited.
    live: Mutex<BTreeMap<String, usize>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A line. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Line(#[expect(dead_code, reason = "it is held")] DropGuard);

impl Lines {
    /// Whether an agent with this folder ever wrote lines.
    #[must_use]
    pub fn were_written(folder: &Path) -> bool {
        folder.join(FOLDER).exists()
    }

    /// Lines of the agent whose folder this is; those that an agent left that was killed are removed.
    ///
    /// # Errors
    /// [`FileError`]. What cannot be removed is said, and tried again at the next start.
    pub async fn open(
        folder: &Path,
        helper: Helper,
        (authority, clock): (&Authority, Arc<dyn Clock>),
    ) -> Result<Self, FileError> {
        let folder = folder.join(FOLDER);
        file::private_folder(&folder)?;
        let lines = Self(Arc::new(Inner { helper, folder, mark: authority.mark(), clock, live: Mutex::default() }));
        lines.sweep().await?;
        Ok(lines)
    }

    /// Removes every line that there may be.
    ///
    /// # Errors
    /// When the agent's folder cannot be read.
    pub async fn sweep(&self) -> Result<(), FileError> {
        let inner = &self.0;
        let mut live = inner.live.lock().await;
        let read = || fs::read_dir(&inner.folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        for name in read().map_err(FileError::io(&inner.folder, "read"))? {
            let Some(user) = name.to_str().and_then(|name| name.parse::<TargetUser>().ok()) else { continue };
            match inner.edit(user.as_str(), Edit::Remove { holding: inner.mark.clone() }).await {
                Ok(()) => {
                    live.remove(user.as_str());
                    inner.forget(user.as_str());
                }
                Err(error) => tracing::warn!(%user, %error, "a line that lets nobody in any more stays"),
            }
        }
        Ok(())
    }

    /// Writes a line that is one user's.
    pub(super) async fn add(&self, user: &TargetUser, line: String) -> Result<Line, LinesError> {
        let (token, inner, user) = (CancellationToken::new(), Arc::clone(&self.0), user.as_str().to_owned());
        let (over, guard) = (token.clone(), token.drop_guard());
        let (tell, told) = oneshot::channel();
        // A task of its own: a line that is being written when its session ends is removed all the same.
        tokio::spawn(async move {
            let until = inner.clock.now().mono.after(LIFE);
            let added = inner.add(&user, &line).await;
            let is_there = added.is_ok();
            // Who asked may be gone; then the token says so, too.
            drop(tell.send(added));
            if is_there {
                tokio::select! {
                    () = inner.clock.wait(until) => {}
                    () = over.cancelled() => {}
                }
                inner.remove(&user, line).await;
            }
        });
        told.await.map_err(|_| LinesError::Ending)??;
        Ok(Line(guard))
    }
}

impl Inner {
    async fn add(&self, user: &str, line: &str) -> Result<(), LinesError> {
        let mut live = self.live.lock().await;
        file::replace(&self.folder.join(user), b"")?;
        let added = self.edit(user, Edit::Add { line: line.to_owned() }).await;
        match added {
            Ok(()) => *live.entry(user.to_owned()).or_default() += 1,
            // One that was there before is still to be removed.
            Err(LinesError::Edit { .. } | LinesError::User(_)) if !live.contains_key(user) => self.forget(user),
            Err(_) => {}
        }
        added
    }

    async fn remove(&self, user: &str, line: String) {
        for _ in 0..TRIES {
            let mut live = self.live.lock().await;
            match self.edit(user, Edit::Remove { holding: line.clone() }).await {
                Ok(()) => {
                    let left = live.get(user).map_or(0, |count| count.saturating_sub(1));
                    if left == 0 {
                        live.remove(user);
                        self.forget(user);
                    } else {
                        live.insert(user.to_owned(), left);
                    }
                    return;
                }
                Err(error) => tracing::warn!(user, %error, "a line that lets nobody in any more stays for now"),
            }
            drop(live);
            self.clock.wait(self.clock.now().mono.after(LIFE)).await;
        }
    }

    fn forget(&self, user: &str) {
        if let Err(error) = fs::remove_file(self.folder.join(user)) {
            tracing::debug!(user, %error, "a user's file is looked at once more when the agent starts");
        }
    }

    /// Edits a user's file, as that user.
    async fn edit(&self, user: &str, edit: Edit) -> Result<(), LinesError> {
        let user = User::resolve(user)?;
        let (own, theirs) = BlockingStream::pair().map_err(LinesError::Helper)?;
        let mut command = self.helper.command(Role::Keys);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = self.helper.start(command).await.map_err(LinesError::Helper)?;
        let process = Process::new(child).map_err(LinesError::Helper)?;
        let stream = own.set_nonblocking(true).and_then(|()| UnixStream::from_std(own));
        let mut stream = stream.map_err(LinesError::Helper)?;
        let name = user.name.clone();
        let orders = Orders { version: launch::VERSION, user, agent: std::process::id(), edit };
        let talk = async {
            frame::write(&mut stream, &orders).await?;
            match frame::read(&mut stream).await? {
                Some(Reply::Ready) => Ok(Ok(frame::read::<Result<(), EditError>>(&mut stream).await?)),
                Some(Reply::Failed(failure)) => Ok(Err(failure)),
                None => Ok(Ok(None)),
            }
        };
        let talked: Result<Result<_, frame::FrameError>, _> = tokio::time::timeout(PATIENCE, talk).await;
        process.kill();
        match talked {
            Ok(Ok(Ok(Some(edited)))) => edited.map_err(|cause| LinesError::Edit { user: name, cause }),
            Ok(Ok(Err(failure))) => Err(failure.into()),
            Ok(Ok(Ok(None)) | Err(_)) | Err(_) => Err(LaunchError::Died.into()),
        }
    }
}
