//! Shells: kept by holders, held by one session at a time.
//!
//! A session that ends lets go of its shell; the shell runs on until its idle limit, its user's or an administrator's
//! word. Attaching repaints the screen inside the authenticated stream.

mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bz_core::access::request::{Parameters, Size};
use bz_core::id::{ConnectionId, ShellId};
use bz_core::target::FIRST_PERSONAL_UID;
use bz_protocol::agent::Action;
use bz_protocol::control::ShellReport;
use bz_protocol::driver::random;
use bz_protocol::frame::{Fin, Notice};
use bz_protocol::gate::Admitted;
use bz_protocol::refusal::Code;
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};

use crate::backend::shell::table::{Owner, Table};
use crate::backend::{Closing, Io, ToBackend};
use crate::helper::{ExitStatus, Helper};
use crate::holders::{self, HolderEvent, Holders, HoldersError, LinkError, Shell, ShellRequest, ShellWriter};
use crate::user::{Environment, User, UserError};

/// How long a shell that was hung up may take to end before it is killed.
const HANGUP: Duration = Duration::from_secs(5);

/// The shells of one agent.
#[derive(Debug)]
pub struct Shells {
    pub(crate) helper: Helper,
    holders: Holders,
    idle: Duration,
    table: Arc<Table>,
}

impl Shells {
    /// Shells whose holders live in `directory`, which belongs to this agent alone.
    ///
    /// # Errors
    /// [`HoldersError`] when the directory cannot be used.
    pub fn new(helper: Helper, directory: impl Into<PathBuf>) -> Result<Self, HoldersError> {
        let holders = Holders::new(helper.clone(), directory)?;
        Ok(Self { helper, table: Table::new(holders.clone()), holders, idle: holders::IDLE })
    }

    /// Finds the shells that an earlier agent left in the directory, with the people they belong to; how many. Call it
    /// before the agent starts.
    ///
    /// # Errors
    /// [`HoldersError`] when the directory cannot be read.
    pub async fn adopt(&self) -> Result<usize, HoldersError> {
        let found = self.holders.adopt().await?;
        let found: Vec<_> = found.iter().map(|s| (s.id(), s.state().pid, s.state().exited.is_none())).collect();
        Ok(self.table.adopt(&found))
    }

    pub(crate) fn reports(&self) -> watch::Receiver<Vec<ShellReport>> {
        self.table.reports()
    }

    /// Ends a connection's shells that no session is on.
    pub(crate) fn hang_up(&self, connection: ConnectionId) {
        for shell in self.table.of(connection) {
            let holders = self.holders.clone();
            self.table.spawn(async move {
                match holders.connect(shell).await {
                    Ok(held) => end(held).await,
                    Err(error) => tracing::warn!(%shell, %error, "a shell to be ended does not answer"),
                }
            });
        }
    }

    /// How long a shell without a session is kept.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// The target user of a session, as the host knows it.
    pub(crate) fn user(&self, admitted: &Admitted) -> Result<User, Code> {
        let name = admitted.request().user.as_ref().ok_or(Code::User)?;
        let user = User::resolve(name.as_str()).map_err(|error| {
            tracing::warn!(%error, "the target user cannot be used");
            match error {
                UserError::Lookup { .. } => Code::Unavailable,
                UserError::NotFound { .. } | UserError::NoShell { .. } | UserError::NotPermitted { .. } => Code::User,
            }
        })?;
        // What comes out of an identity is a person, never one of the system's own users.
        if admitted.user_is_substituted() && user.uid < FIRST_PERSONAL_UID {
            tracing::warn!(user = %user.name, uid = user.uid, "a substitution gave a user of the system");
            return Err(Code::User);
        }
        Ok(user)
    }

    async fn open(&self, connection: ConnectionId, admitted: &Admitted) -> Result<(Shell, bool), Code> {
        let user = self.user(admitted)?;
        let owner = Owner { connection, person: admitted.identity().person.clone(), user: user.name.clone() };
        match &admitted.request().parameters {
            Parameters::Shell { term, size } => {
                let environment = Environment::default().with("TERM", term).map_err(|_| Code::Malformed)?;
                let request = ShellRequest { environment, size: terminal_size(*size), idle: self.idle };
                Ok((self.start(&user, request, &owner).await?, false))
            }
            Parameters::Attach { shell, .. } => {
                if !self.table.is(*shell, &owner) {
                    return Err(Code::Grant);
                }
                Ok((self.holders.connect(*shell).await.map_err(unavailable)?, true))
            }
            Parameters::Exec { .. } | Parameters::Handler { .. } => Err(Code::Malformed),
        }
    }

    async fn start(&self, user: &User, request: ShellRequest, owner: &Owner) -> Result<Shell, Code> {
        if !self.table.has_room() {
            tracing::warn!("too many shells are kept");
            return Err(Code::Unavailable);
        }
        let id = ShellId::from_random(random().map_err(unavailable)?);
        self.table.write(id, owner).await.map_err(unavailable)?;
        match self.holders.start_as(id, user, request).await {
            Ok(shell) => {
                self.table.started(id, shell.state().pid);
                Ok(shell)
            }
            Err(error) => {
                self.table.forget(id);
                Err(unavailable(error))
            }
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> Code {
    tracing::warn!(%error, "a shell could not be had");
    Code::Unavailable
}

/// Hangs a shell up, and kills one that does not listen.
async fn end(mut shell: Shell) {
    let heard = async {
        shell.hangup().await?;
        shell.take(shell.state().end).await?;
        match tokio::time::timeout(HANGUP, exited(&mut shell)).await {
            Ok(exited) => exited,
            Err(_) => shell.kill().await,
        }
    };
    match heard.await {
        Ok(()) => shell.release().await.unwrap_or_default(),
        // It has ended, or another session holds it.
        Err(error) => tracing::debug!(%error, "a shell that was hung up"),
    }
}

async fn exited(shell: &mut Shell) -> Result<(), LinkError> {
    loop {
        match shell.next().await? {
            HolderEvent::Exited { .. } => return Ok(()),
            HolderEvent::Output { offset, bytes } => shell.ack(offset.saturating_add(bytes.len() as u64)).await?,
            HolderEvent::Repaint { .. } | HolderEvent::PasswordMode { .. } => {}
        }
    }
}

fn terminal_size(size: Size) -> holders::Size {
    let size = size.clamped();
    holders::Size::clamped(size.rows, size.columns)
}

pub(super) async fn run(
    shells: &Shells,
    connection: ConnectionId,
    admitted: &Admitted,
    io: &mut Io,
) -> Result<Fin, Code> {
    let (mut shell, attached) = shells.open(connection, admitted).await?;
    let writer = shell.writer();
    if attached {
        if let Parameters::Attach { size, .. } = admitted.request().parameters {
            writer.resize(terminal_size(size)).await.map_err(|_| Code::Unavailable)?;
        }
        io.act(Action::Notice(Notice::Repaint)).await;
        shell.repaint().await.map_err(|_| Code::Unavailable)?;
    } else {
        shell.take(0).await.map_err(|_| Code::Unavailable)?;
    }
    if shell.state().password {
        // Asked before this session came; a change is told as it happens.
        io.act(Action::Notice(Notice::Password(true))).await;
    }
    let Io { words, actions } = io;
    let (fin, then) = tokio::select! {
        fed = feed(&writer, words) => fed,
        shown = show(shells, &mut shell, actions) => shown,
    };
    match then {
        Then::Leave => {}
        Then::End => shells.table.spawn(end(shell)),
        Then::Release => {
            shells.table.forget(shell.id());
            // A holder that is gone needs no leave.
            shell.release().await.unwrap_or_default();
        }
    }
    Ok(fin)
}

/// What becomes of the shell when its session has ended.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It runs on.
    Leave,
    /// It is hung up.
    End,
    /// It has ended by itself.
    Release,
}

/// Gives the shell what the person types, until the session ends.
async fn feed(writer: &ShellWriter, words: &mut mpsc::Receiver<ToBackend>) -> (Fin, Then) {
    while let Some(word) = words.recv().await {
        let taken = match word {
            ToBackend::Bytes(bytes) => writer.input(&bytes).await,
            ToBackend::Resize(size) => writer.resize(terminal_size(size)).await,
            ToBackend::Eof => Ok(()),
            ToBackend::Finished(Fin::Closed) | ToBackend::Close(Closing::ForGood) => return (Fin::Closed, Then::End),
            ToBackend::Finished(_) | ToBackend::Close(Closing::Session) => break,
        };
        if taken.is_err() {
            // Why there is nobody to take it is told by what the shell shows last.
            std::future::pending::<()>().await;
        }
    }
    (Fin::Detached, Then::Leave)
}

/// Shows the person what the shell does, until it ends or somebody else has it.
async fn show(shells: &Shells, shell: &mut Shell, actions: &mpsc::Sender<Action>) -> (Fin, Then) {
    loop {
        let (action, next) = match shell.next().await {
            Ok(HolderEvent::Output { offset, bytes }) => {
                let end = offset.saturating_add(bytes.len() as u64);
                (Action::Bytes { stream: 0, bytes }, Next::Ack(end))
            }
            Ok(HolderEvent::Repaint { offset, bytes }) => (Action::Bytes { stream: 0, bytes }, Next::Take(offset)),
            Ok(HolderEvent::PasswordMode { on, .. }) => (Action::Notice(Notice::Password(on)), Next::Nothing),
            Ok(HolderEvent::Exited { status, .. }) => return (ended(status), Then::Release),
            // Its terminal died with its holder, and that hung it up.
            Err(_) if !shells.holders.lives(shell.id()).await => {
                return (Fin::Signaled(Signal::SIGHUP as i32), Then::Release);
            }
            // Another session of the same person took the shell over.
            Err(_) => (Action::Notice(Notice::TakenOver), Next::Leave),
        };
        let told = actions.send(action).await.is_ok();
        let heard = match next {
            Next::Ack(end) => shell.ack(end).await.is_ok(),
            Next::Take(from) => shell.take(from).await.is_ok(),
            Next::Nothing => true,
            Next::Leave => false,
        };
        if !told || !heard {
            return (Fin::Detached, Then::Leave);
        }
    }
}

/// What the holder must hear after its word was passed on.
enum Next {
    Ack(u64),
    Take(u64),
    Nothing,
    Leave,
}

fn ended(status: ExitStatus) -> Fin {
    match status {
        ExitStatus::Code(code) => Fin::Exited(code),
        ExitStatus::Signal(signal) => Fin::Signaled(signal),
    }
}
