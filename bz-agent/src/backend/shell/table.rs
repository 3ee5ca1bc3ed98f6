//! Whose shell is whose: in memory for every attach, beside the holder's socket for the next start of the agent, and
//! as reports for the server.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bz_core::id::{ConnectionId, ShellId};
use bz_core::oidc::Person;
use bz_protocol::control::ShellReport;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::file::{self, FileError};
use crate::helper::process::Stranger;
use crate::holders::Holders;

const SUFFIX: &str = "owner";
const MAX_OWNER: u64 = 8 << 10;
/// Shells of one agent, running or to be looked at once more. Their reports fit into one message.
const MAX_SHELLS: usize = 1024;

/// Whose shell it is: an attach is for the same person and user alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Owner {
    /// The connection the shell began with, and belongs to.
    pub(super) connection: ConnectionId,
    pub(super) person: Person,
    pub(super) user: String,
}

#[derive(Debug)]
struct Kept {
    owner: Owner,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Starting,
    Running,
    /// Stays to be looked at as long as its holder does.
    Ended,
}

/// The shells of one directory.
#[derive(Debug)]
pub(super) struct Table {
    holders: Holders,
    kept: Mutex<BTreeMap<ShellId, Kept>>,
    watchers: Mutex<JoinSet<()>>,
    reports: watch::Sender<Vec<ShellReport>>,
}

impl Table {
    pub(super) fn new(holders: Holders) -> Arc<Self> {
        let (reports, _) = watch::channel(Vec::new());
        Arc::new(Self { holders, kept: Mutex::default(), watchers: Mutex::default(), reports })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShellId, Kept>> {
        // Each change is one insertion or removal.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shells that run, now and after each change.
    pub(super) fn reports(&self) -> watch::Receiver<Vec<ShellReport>> {
        let mut reports = self.reports.subscribe();
        reports.mark_changed();
        reports
    }

    pub(super) fn has_room(&self) -> bool {
        self.forget_the_gone();
        self.lock().len() < MAX_SHELLS
    }

    pub(super) fn is(&self, shell: ShellId, owner: &Owner) -> bool {
        self.lock().get(&shell).is_some_and(|kept| kept.owner == *owner)
    }

    /// The shells that a connection began.
    pub(super) fn of(&self, connection: ConnectionId) -> Vec<ShellId> {
        self.lock().iter().filter(|(_, kept)| kept.owner.connection == connection).map(|(shell, _)| *shell).collect()
    }

    /// Writes down whose a shell will be, before it exists: a crash in between leaves no shell that is nobody's.
    pub(super) async fn write(&self, shell: ShellId, owner: &Owner) -> Result<(), FileError> {
        let path = self.path(shell);
        let bytes = serde_json::to_vec(owner).map_err(|e| FileError::io(&path, "written")(e.into()))?;
        let written = tokio::task::spawn_blocking(move || file::replace(&path, &bytes)).await;
        written.map_err(|e| FileError::io(&self.path(shell), "written")(std::io::Error::other(e)))??;
        self.lock().insert(shell, Kept { owner: owner.clone(), life: Life::Starting });
        Ok(())
    }

    /// The shell runs, as this process.
    pub(super) fn started(self: &Arc<Self>, shell: ShellId, pid: u32) {
        let watched = match Stranger::new(pid) {
            Ok(watched) => watched,
            Err(error) => return tracing::warn!(%shell, %error, "a shell cannot be watched and is not listed"),
        };
        if let Some(kept) = self.lock().get_mut(&shell) {
            kept.life = Life::Running;
        }
        let table = Arc::downgrade(self);
        self.spawn(async move {
            if let Err(error) = watched.ended().await {
                tracing::warn!(%shell, %error, "a shell's end is not known");
            }
            if let Some(table) = table.upgrade() {
                table.ended(shell);
            }
        });
        self.publish();
    }

    /// A task that ends with this table at the latest.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Shell and holder are gone, or never came.
    pub(super) fn forget(&self, shell: ShellId) {
        self.lock().remove(&shell);
        remove(&self.path(shell));
        self.publish();
    }

    /// Finds the owners of shells that an earlier agent left: (shell, process, whether it runs).
    pub(super) fn adopt(self: &Arc<Self>, shells: &[(ShellId, u32, bool)]) -> usize {
        let mut adopted = 0;
        for (shell, pid, running) in shells {
            match self.read(*shell) {
                Ok(owner) => {
                    self.lock().insert(*shell, Kept { owner, life: Life::Ended });
                    if *running {
                        self.started(*shell, *pid);
                    }
                    adopted += 1;
                }
                // Nobody can attach to it; it ends with its idle limit.
                Err(why) => tracing::warn!(%shell, %why, "it is not known whose shell this is"),
            }
        }
        self.sweep();
        self.publish();
        adopted
    }

    fn read(&self, shell: ShellId) -> Result<Owner, String> {
        let bytes = file::read(&self.path(shell), MAX_OWNER).map_err(|e| e.to_string())?;
        serde_json::from_slice(&bytes.ok_or("its owner's file is absent")?).map_err(|e| e.to_string())
    }

    fn ended(&self, shell: ShellId) {
        if let Some(kept) = self.lock().get_mut(&shell) {
            kept.life = Life::Ended;
        }
        self.publish();
    }

    /// Lets go of ended shells whose holders went by themselves.
    fn forget_the_gone(&self) {
        self.lock().retain(|shell, kept| {
            let stays = kept.life != Life::Ended || self.holders.has(*shell);
            if !stays {
                remove(&self.path(*shell));
            }
            stays
        });
    }

    fn publish(&self) {
        let kept = self.lock();
        let running = kept.iter().filter(|(_, kept)| kept.life == Life::Running);
        let reports: Vec<_> = running
            .map(|(shell, kept)| ShellReport { shell: *shell, connection: kept.owner.connection, running: true })
            .collect();
        self.reports.send_if_modified(|old| {
            let changed = *old != reports;
            *old = reports;
            changed
        });
    }

    /// Removes the files of shells that ended while no agent was there.
    fn sweep(&self) {
        let entries = std::fs::read_dir(self.holders.directory()).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let Some((shell, suffix)) = path.file_name().and_then(OsStr::to_str).and_then(|n| n.split_once('.')) else {
                continue;
            };
            // `owner`, or `owner.new` of an agent that was killed while it wrote.
            let gone = shell.parse().is_ok_and(|shell| !self.holders.has(shell) && !self.lock().contains_key(&shell));
            if suffix.starts_with(SUFFIX) && gone {
                remove(&path);
            }
        }
    }

    fn path(&self, shell: ShellId) -> PathBuf {
        self.holders.directory().join(shell.to_string()).with_extension(SUFFIX)
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "the file of a shell that is gone stays"),
    }
}
