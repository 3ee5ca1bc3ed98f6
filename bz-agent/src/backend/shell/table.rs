//! Whose shell is whose, and who has it: in memory for every attach, beside the holder's socket for the next start of
//! the agent, and as reports for the server.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bz_core::digest::Digest;
use bz_core::id::{ConnectionId, ShellId};
use bz_core::oidc::Person;
use bz_protocol::control::ShellReport;
use bz_protocol::handshake::Predecessor;
use bz_protocol::segment::Delivered;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backend::shell::end;
use crate::file::{self, FileError};
use crate::helper::process::Stranger;
use crate::holders::{Holders, Shell};

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

/// What stands in a shell's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    owner: Owner,
    /// See [`Kept::shown`].
    session: Option<String>,
}

#[derive(Debug)]
struct Kept {
    owner: Owner,
    life: Life,
    /// The session that held it last; `None` for a sealed one, whose output the server must not see.
    shown: Option<Digest>,
    /// How much of that session, or of the segments after it, passed the server; unknown after a restart.
    delivered: Option<Delivered>,
    hold: Option<Hold>,
    /// Its connection was closed while a session had it.
    closed: bool,
}

/// Who has the shell: one session or segment at a time.
#[derive(Debug)]
struct Hold {
    number: u64,
    /// How a segment is asked to let go, or when a session that leaves has; nothing asks another session, which is cut
    /// off.
    segment: Option<LetGo>,
}

/// Between a segment and who wants its shell.
#[derive(Debug, Clone, Default)]
pub(super) struct LetGo {
    /// Somebody wants the shell.
    pub(super) wanted: CancellationToken,
    /// The segment is off it.
    pub(super) done: CancellationToken,
}

/// How long a segment may take to let go; then it is cut off.
const LETTING_GO: Duration = Duration::from_secs(5);

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
    /// Counts what can make a shell one that nobody has.
    changes: watch::Sender<u64>,
}

impl Table {
    pub(super) fn new(holders: Holders) -> Arc<Self> {
        let (reports, _) = watch::channel(Vec::new());
        let (changes, _) = watch::channel(0);
        Arc::new(Self { holders, kept: Mutex::default(), watchers: Mutex::default(), reports, changes })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShellId, Kept>> {
        // Each change is one insertion or removal.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shells that run, or whose end is in no record yet, now and after each change.
    pub(super) fn reports(&self) -> watch::Receiver<Vec<ShellReport>> {
        let mut reports = self.reports.subscribe();
        reports.mark_changed();
        reports
    }

    pub(super) fn has_room(&self) -> bool {
        self.lock().len() < MAX_SHELLS
    }

    pub(super) fn is(&self, shell: ShellId, owner: &Owner) -> bool {
        self.lock().get(&shell).is_some_and(|kept| kept.owner == *owner)
    }

    /// Ends the shells that a connection began. One that a session has is the session's to end; should the session
    /// leave it instead, it ends then.
    pub(super) fn close(self: &Arc<Self>, connection: ConnectionId) {
        let mut alone = Vec::new();
        for (shell, kept) in self.lock().iter_mut().filter(|(_, kept)| kept.owner.connection == connection) {
            kept.closed = kept.hold.as_ref().is_some_and(|hold| hold.segment.is_none());
            if !kept.closed {
                alone.push(*shell);
            }
        }
        alone.into_iter().for_each(|shell| self.hang_up(shell));
    }

    fn hang_up(self: &Arc<Self>, shell: ShellId) {
        let table = Arc::downgrade(self);
        self.spawn(async move {
            let Some(table) = table.upgrade() else { return };
            let _holding = table.hold(shell).await;
            match table.holders.connect(shell).await {
                Ok(held) => end(&table, held).await,
                Err(error) => tracing::warn!(%shell, %error, "a shell to be ended does not answer"),
            }
        });
    }

    /// Writes down whose a shell will be, before it exists: a crash in between leaves no shell that is nobody's.
    pub(super) async fn write(&self, shell: ShellId, owner: &Owner) -> Result<(), FileError> {
        self.write_entry(shell, owner, None).await?;
        let owner = owner.clone();
        let kept = Kept { owner, life: Life::Starting, shown: None, delivered: None, hold: None, closed: false };
        self.lock().insert(shell, kept);
        Ok(())
    }

    async fn write_entry(&self, shell: ShellId, owner: &Owner, session: Option<Digest>) -> Result<(), FileError> {
        let path = self.path(shell);
        let entry = Entry { owner: owner.clone(), session: session.map(|s| s.to_string()) };
        let bytes = serde_json::to_vec(&entry).map_err(|e| FileError::io(&path, "written")(e.into()))?;
        let written = tokio::task::spawn_blocking(move || file::replace(&path, &bytes)).await;
        written.map_err(|e| FileError::io(&self.path(shell), "written")(std::io::Error::other(e)))?
    }

    /// Takes a shell, from whoever has it.
    pub(super) async fn hold(self: &Arc<Self>, shell: ShellId) -> Holding {
        let number = self.count();
        let before = {
            let mut kept = self.lock();
            kept.get_mut(&shell).and_then(|kept| kept.hold.replace(Hold { number, segment: None }))
        };
        // Before the return: whoever drops this future lets go again.
        let holding = Holding { table: Arc::downgrade(self), shell, number };
        if let Some(segment) = before.and_then(|hold| hold.segment) {
            segment.wanted.cancel();
            if tokio::time::timeout(LETTING_GO, segment.done.cancelled()).await.is_err() {
                tracing::warn!(%shell, "a segment did not let go of its shell and is cut off");
            }
        }
        holding
    }

    /// Takes a shell that nobody has, for a segment after its session. Also one that has ended: its last words are told.
    pub(super) fn hold_for_segment(self: &Arc<Self>, shell: ShellId) -> Option<(Holding, LetGo, Left)> {
        let number = self.count();
        let mut all = self.lock();
        let kept = all.get_mut(&shell).filter(|kept| kept.is_left())?;
        let left = Left { connection: kept.owner.connection, held: kept.shown?, delivered: kept.delivered };
        let let_go = LetGo::default();
        kept.hold = Some(Hold { number, segment: Some(let_go.clone()) });
        Some((Holding { table: Arc::downgrade(self), shell, number }, let_go, left))
    }

    /// The shells that nobody has, where a segment may be made of them.
    pub(super) fn left(&self) -> Vec<ShellId> {
        self.lock().iter().filter(|(_, kept)| kept.is_left()).map(|(shell, _)| *shell).collect()
    }

    /// Changes whenever a shell may have been left.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What an attach goes on from.
    pub(super) fn predecessor(&self, shell: ShellId) -> Option<Predecessor> {
        self.lock().get(&shell)?.delivered.map(|delivered| delivered.upto)
    }

    fn count(&self) -> u64 {
        let mut number = 0;
        self.changes.send_modify(|count| {
            *count = count.wrapping_add(1);
            number = *count;
        });
        number
    }

    /// The shell is there, running or ended: it is listed until its holder is gone.
    pub(super) fn started(self: &Arc<Self>, shell: &Shell) {
        let (id, running) = (shell.id(), shell.state().exited.is_none());
        let watched = Stranger::new(shell.holder()).and_then(|holder| {
            let process = running.then(|| Stranger::new(shell.state().pid)).transpose()?;
            Ok((process, holder))
        });
        let (process, holder) = match watched {
            Ok(watched) => watched,
            Err(error) => return tracing::warn!(shell = %id, %error, "a shell cannot be watched and is not listed"),
        };
        if let Some(kept) = self.lock().get_mut(&id) {
            kept.life = if running { Life::Running } else { Life::Ended };
        }
        let table = Arc::downgrade(self);
        self.spawn(async move {
            if let Some(process) = process {
                end_of(id, process).await;
                table.upgrade().inspect(|table| table.ended(id));
            }
            end_of(id, holder).await;
            table.upgrade().inspect(|table| table.gone(id));
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

    /// Finds the owners of shells that an earlier agent left; how many.
    pub(super) fn adopt(self: &Arc<Self>, shells: &[Shell]) -> usize {
        let mut adopted = 0;
        for shell in shells {
            match self.read(shell.id()) {
                Ok((owner, shown)) => {
                    let kept = Kept { owner, life: Life::Starting, shown, delivered: None, hold: None, closed: false };
                    self.lock().insert(shell.id(), kept);
                    self.started(shell);
                    adopted += 1;
                }
                // Nobody can attach to it; it ends with its idle limit.
                Err(why) => tracing::warn!(shell = %shell.id(), %why, "it is not known whose shell this is"),
            }
        }
        self.sweep();
        self.publish();
        adopted
    }

    fn read(&self, shell: ShellId) -> Result<(Owner, Option<Digest>), String> {
        let bytes = file::read(&self.path(shell), MAX_OWNER).map_err(|e| e.to_string())?;
        let bytes = bytes.ok_or("its owner's file is absent")?;
        let Entry { owner, session } = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        let session = session.map(|s| s.parse().map_err(|_| "its owner's file names no session".to_owned()));
        Ok((owner, session.transpose()?))
    }

    fn ended(&self, shell: ShellId) {
        if let Some(kept) = self.lock().get_mut(&shell) {
            kept.life = Life::Ended;
        }
        self.publish();
    }

    /// Nobody keeps the shell any more.
    fn gone(&self, shell: ShellId) {
        self.holders.clear(shell);
        self.forget(shell);
    }

    fn publish(&self) {
        let kept = self.lock();
        let report = |(shell, kept): (&ShellId, &Kept)| {
            let running = match kept.life {
                Life::Starting => return None,
                Life::Running => true,
                Life::Ended => false,
            };
            Some(ShellReport { shell: *shell, connection: kept.owner.connection, running })
        };
        let reports: Vec<_> = kept.iter().filter_map(report).collect();
        self.reports.send_if_modified(|old| {
            let changed = *old != reports;
            *old = reports;
            changed
        });
        self.count();
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

impl Kept {
    fn is_left(&self) -> bool {
        self.life != Life::Starting && self.hold.is_none() && self.shown.is_some()
    }
}

/// What a segment goes on from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) connection: ConnectionId,
    pub(super) held: Digest,
    pub(super) delivered: Option<Delivered>,
}

/// A shell that one session or segment has. Dropping it lets go.
#[derive(Debug)]
pub(super) struct Holding {
    table: Weak<Table>,
    shell: ShellId,
    number: u64,
}

impl Holding {
    /// A session begins on the shell. Its output may be shown to the server unless the session is sealed.
    pub(super) async fn begins(&self, session: Digest, sealed: bool) -> Result<(), FileError> {
        let Some(table) = self.table.upgrade() else { return Ok(()) };
        let shown = Some(session).filter(|_| !sealed);
        let delivered = shown.map(Delivered::nothing_of);
        let owner = self.with(|kept| {
            (kept.shown, kept.delivered) = (shown, delivered);
            kept.owner.clone()
        });
        match owner {
            Some(owner) => table.write_entry(self.shell, &owner, shown).await,
            None => Ok(()),
        }
    }

    /// The session is over and lets go as soon as the shell's holder has heard everything: until `done`.
    pub(super) fn leaves(&self) -> LetGo {
        let let_go = LetGo::default();
        let segment = Some(let_go.clone());
        self.with(|kept| kept.hold = Some(Hold { number: self.number, segment }));
        let_go
    }

    /// So much of the session or segment passed the server.
    pub(super) fn delivered(&self, delivered: Delivered) {
        self.with(|kept| {
            if kept.shown.is_some() {
                kept.delivered = Some(delivered);
            }
        });
    }

    /// Nothing when somebody else took the shell.
    fn with<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        let table = self.table.upgrade()?;
        let mut kept = table.lock();
        let kept = kept.get_mut(&self.shell).filter(|k| k.hold.as_ref().is_some_and(|h| h.number == self.number))?;
        Some(change(kept))
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let closed = self.with(|kept| {
            kept.hold = None;
            std::mem::take(&mut kept.closed)
        });
        let Some(table) = self.table.upgrade() else { return };
        table.count();
        if closed == Some(true) {
            table.hang_up(self.shell);
        }
    }
}

async fn end_of(shell: ShellId, process: Stranger) {
    if let Err(error) = process.ended().await {
        tracing::warn!(%shell, %error, "the end of a shell or its holder is not known");
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "the file of a shell that is gone stays"),
    }
}
