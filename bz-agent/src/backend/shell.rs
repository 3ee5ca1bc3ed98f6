//! Shells: kept by holders, held by one session at a time.
//!
//! A session that ends lets go of its shell; the shell runs on until its idle limit, its user's or an administrator's
//! word, and the agent goes on with its record in a segment. Attaching repaints the screen inside the authenticated
//! stream.

mod segment;
mod table;
mod told;

pub(crate) use segment::keep as keep_segments;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::access::request::{Parameters, Size};
use bz_core::id::{ConnectionId, ShellId};
use bz_protocol::agent::Action;
use bz_protocol::control::ShellReport;
use bz_protocol::driver::random;
use bz_protocol::frame::{Fin, Notice};
use bz_protocol::gate::Admitted;
use bz_protocol::handshake::Predecessor;
use bz_protocol::refusal::Code;
use bz_protocol::segment::Delivered;
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};

use crate::backend::shell::table::{Holding, Owner, Table};
use crate::backend::shell::told::Told;
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

/// The target user of a session, as the host knows it.
pub(crate) fn target_user(admitted: &Admitted) -> Result<User, Code> {
    let name = admitted.request().user.as_ref().ok_or(Code::User)?;
    let user = User::resolve(name.as_str()).map_err(|error| {
        tracing::warn!(%error, "the target user cannot be used");
        match error {
            UserError::Lookup { .. } => Code::Unavailable,
            UserError::NotFound { .. } | UserError::NoShell { .. } | UserError::NotPermitted { .. } => Code::User,
        }
    })?;
    super::check_person(admitted, user.uid)?;
    Ok(user)
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
        Ok(self.table.adopt(&found))
    }

    pub(crate) fn reports(&self) -> watch::Receiver<Vec<ShellReport>> {
        self.table.reports()
    }

    /// Ends a connection's shells: those that a session is on when it leaves them, if it does not end them itself.
    pub(crate) fn hang_up(&self, connection: ConnectionId) {
        self.table.close(connection);
    }

    /// What an attach to this shell goes on from.
    pub(crate) fn predecessor(&self, shell: ShellId) -> Option<Predecessor> {
        self.table.predecessor(shell)
    }

    /// How long a shell without a session is kept.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    async fn open(&self, connection: ConnectionId, admitted: &Admitted) -> Result<(Shell, Holding), Code> {
        let user = target_user(admitted)?;
        let owner = Owner { connection, person: admitted.identity().person.clone(), user: user.name.clone() };
        match &admitted.request().parameters {
            Parameters::Shell { term, size } => {
                let environment = Environment::default().with("TERM", term).map_err(|_| Code::Malformed)?;
                let request = ShellRequest { environment, size: terminal_size(*size), idle: self.idle };
                let shell = self.start(&user, request, &owner).await?;
                let holding = self.hold(shell.id(), admitted).await?;
                Ok((shell, holding))
            }
            Parameters::Attach { shell, .. } => {
                if !self.table.is(*shell, &owner) {
                    return Err(Code::Grant);
                }
                let holding = self.hold(*shell, admitted).await?;
                Ok((self.holders.connect(*shell).await.map_err(unavailable)?, holding))
            }
            Parameters::Exec { .. }
            | Parameters::Handler { .. }
            | Parameters::Tunnel { .. }
            | Parameters::Ssh { .. }
            | Parameters::Copy(_)
            | Parameters::Database(_)
            | Parameters::Web(_)
            | Parameters::Kube(_)
            | Parameters::SshServer { .. } => Err(Code::Malformed),
        }
    }

    async fn hold(&self, shell: ShellId, admitted: &Admitted) -> Result<Holding, Code> {
        let holding = self.table.hold(shell).await;
        let sealed = admitted.request().mode == Mode::Sealed;
        holding.begins(admitted.session(), sealed).await.map_err(unavailable)?;
        Ok(holding)
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
                self.table.started(&shell);
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
async fn end(table: &Table, mut shell: Shell) {
    match hang_up(&mut shell).await {
        Ok(()) => {
            table.forget(shell.id());
            shell.release().await.unwrap_or_default();
        }
        // It has ended, or another session holds it.
        Err(error) => tracing::debug!(%error, "a shell that was hung up"),
    }
}

pub(super) async fn hang_up(shell: &mut Shell) -> Result<(), LinkError> {
    shell.hangup().await?;
    shell.take(shell.state().end).await?;
    match tokio::time::timeout(HANGUP, exited(shell)).await {
        Ok(exited) => exited,
        Err(_) => shell.kill().await,
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

pub(super) fn terminal_size(size: Size) -> holders::Size {
    let size = size.clamped();
    holders::Size::clamped(size.rows, size.columns)
}

pub(super) async fn run(
    shells: &Shells,
    connection: ConnectionId,
    admitted: &Admitted,
    io: &mut Io,
) -> Result<Fin, Code> {
    let (mut shell, holding) = shells.open(connection, admitted).await?;
    let writer = shell.writer();
    begin(&shell, &admitted.request().parameters).await.map_err(unavailable)?;
    if shell.state().password {
        // Asked before this session came; a change is told as it happens.
        io.act(Action::Notice(Notice::Password(true))).await;
    }
    let (told, delivered) = (Told::default(), &mut io.delivered);
    let (fin, then) = tokio::select! {
        fed = feed(&writer, &mut io.words) => fed,
        shown = show(shells, &mut shell, &io.actions, &told) => shown,
        gone = confirm(&writer, delivered.clone(), (&told, &holding)) => match gone {},
    };
    // What was acknowledged last may not have been looked at.
    let last = *delivered.borrow_and_update();
    if let Some(offset) = told.confirmed(last, &holding) {
        shell.ack(offset).await.unwrap_or_default();
    }
    match then {
        Then::Leave => {
            let off = holding.leaves().done.drop_guard();
            drop(writer);
            shells.table.spawn(async move {
                shell.leave().await;
                drop((off, holding));
            });
        }
        Then::End => {
            let table = Arc::downgrade(&shells.table);
            shells.table.spawn(async move {
                if let Some(table) = table.upgrade() {
                    end(&table, shell).await;
                }
                drop(holding);
            });
        }
        Then::Release => {
            let (table, delivered) = (Arc::downgrade(&shells.table), delivered.clone());
            shells.table.spawn(async move {
                if told.heard_out(delivered).await
                    && let Some(table) = table.upgrade()
                {
                    table.forget(shell.id());
                    // A holder that is gone needs no leave.
                    shell.release().await.unwrap_or_default();
                }
                drop(holding);
            });
        }
    }
    Ok(fin)
}

/// A person is there; output that is in no record goes before the repaint that shows it.
async fn begin(shell: &Shell, parameters: &Parameters) -> Result<(), LinkError> {
    shell.attended().await?;
    shell.take(0).await?;
    if let Parameters::Attach { size, .. } = parameters {
        shell.resize(terminal_size(*size)).await?;
        shell.repaint().await?;
    }
    Ok(())
}

/// Lets the holder forget what the client acknowledged, and notes it for who comes next.
async fn confirm(
    writer: &ShellWriter,
    mut delivered: watch::Receiver<Option<Delivered>>,
    (told, holding): (&Told, &Holding),
) -> Infallible {
    while delivered.changed().await.is_ok() {
        let last = *delivered.borrow_and_update();
        if let Some(offset) = told.confirmed(last, holding)
            && writer.ack(offset).await.is_err()
        {
            break;
        }
    }
    std::future::pending().await
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
async fn show(shells: &Shells, shell: &mut Shell, actions: &mpsc::Sender<Action>, told: &Told) -> (Fin, Then) {
    let leave = (Fin::Detached, Then::Leave);
    let tell = async |action| actions.send(action).await.is_ok();
    loop {
        let heard = match shell.next().await {
            Ok(HolderEvent::Output { offset, bytes }) => {
                told.tells(bytes.len(), offset.saturating_add(bytes.len() as u64));
                tell(Action::Bytes { stream: 0, bytes }).await
            }
            Ok(HolderEvent::Repaint { offset, bytes }) => {
                told.tells(bytes.len(), offset);
                tell(Action::Notice(Notice::Repaint)).await && tell(Action::Bytes { stream: 0, bytes }).await
            }
            Ok(HolderEvent::PasswordMode { on, .. }) => tell(Action::Notice(Notice::Password(on))).await,
            Ok(HolderEvent::Exited { status, .. }) => return (ended(status), Then::Release),
            // Its terminal died with its holder, and that hung it up.
            Err(_) if !shells.holders.lives(shell.id()).await => {
                return (Fin::Signaled(Signal::SIGHUP as i32), Then::Release);
            }
            // Another session of the same person took the shell over.
            Err(_) => {
                tell(Action::Notice(Notice::TakenOver)).await;
                return leave;
            }
        };
        if !heard {
            return leave;
        }
    }
}

fn ended(status: ExitStatus) -> Fin {
    match status {
        ExitStatus::Code(code) => Fin::Exited(code),
        ExitStatus::Signal(signal) => Fin::Signaled(signal),
    }
}
