//! Shells: kept by holders, held by one session at a time.
//!
//! A session that ends lets go of its shell; the shell runs on until its idle limit, its user's or an administrator's
//! word. Attaching repaints the screen inside the authenticated stream.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bz_core::access::request::{Parameters, Size};
use bz_core::id::{ConnectionId, ShellId};
use bz_core::target::FIRST_PERSONAL_UID;
use bz_protocol::agent::Action;
use bz_protocol::frame::{Fin, Notice};
use bz_protocol::gate::Admitted;
use bz_protocol::refusal::Code;
use tokio::sync::mpsc;

use crate::backend::{Closing, Io, ToBackend};
use crate::helper::{ExitStatus, Helper};
use crate::holders::{self, HolderEvent, Holders, HoldersError, Shell, ShellRequest, ShellWriter};
use crate::user::{Environment, User, UserError};

/// The shells of one agent.
#[derive(Debug)]
pub struct Shells {
    pub(crate) helper: Helper,
    holders: Holders,
    idle: Duration,
    owners: Mutex<BTreeMap<ShellId, Owner>>,
}

/// Whose shell it is: an attach is for the same person and user alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    connection: ConnectionId,
    person: bz_core::oidc::Person,
    user: String,
}

impl Shells {
    /// Shells whose holders live in `directory`, which belongs to this agent alone.
    ///
    /// # Errors
    /// [`HoldersError`] when the directory cannot be used.
    pub fn new(helper: Helper, directory: impl Into<PathBuf>) -> Result<Self, HoldersError> {
        let holders = Holders::new(helper.clone(), directory)?;
        Ok(Self { helper, holders, idle: holders::IDLE, owners: Mutex::new(BTreeMap::new()) })
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

    fn owners(&self) -> MutexGuard<'_, BTreeMap<ShellId, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, connection: ConnectionId, admitted: &Admitted) -> Result<(Shell, bool), Code> {
        let user = self.user(admitted)?;
        let owner = Owner { connection, person: admitted.identity().person.clone(), user: user.name.clone() };
        let unavailable = |error: HoldersError| {
            tracing::warn!(%error, "a shell could not be had");
            Code::Unavailable
        };
        match &admitted.request().parameters {
            Parameters::Shell { term, size } => {
                let environment = Environment::default().with("TERM", term).map_err(|_| Code::Malformed)?;
                let request = ShellRequest { environment, size: terminal_size(*size), idle: self.idle };
                let shell = self.holders.start(&user, request).await.map_err(unavailable)?;
                self.owners().insert(shell.id(), owner);
                Ok((shell, false))
            }
            Parameters::Attach { shell, .. } => {
                if self.owners().get(shell) != Some(&owner) {
                    return Err(Code::Grant);
                }
                Ok((self.holders.connect(*shell).await.map_err(unavailable)?, true))
            }
            Parameters::Exec { .. } | Parameters::Handler { .. } => Err(Code::Malformed),
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
    let Io { words, actions } = io;
    let (fin, exited) = tokio::select! {
        fin = feed(&writer, words) => (fin, false),
        end = show(&mut shell, actions) => end,
    };
    if exited {
        shells.owners().remove(&shell.id());
        shell.release().await.unwrap_or_default();
    }
    Ok(fin)
}

/// Gives the shell what the person types, until the session ends.
async fn feed(writer: &ShellWriter, words: &mut mpsc::Receiver<ToBackend>) -> Fin {
    while let Some(word) = words.recv().await {
        let done = match word {
            ToBackend::Bytes(bytes) => writer.input(&bytes).await.err().map(|_| Fin::Closed),
            ToBackend::Resize(size) => writer.resize(terminal_size(size)).await.err().map(|_| Fin::Closed),
            ToBackend::Eof => None,
            ToBackend::Finished(Fin::Closed) | ToBackend::Close(Closing::ForGood) => {
                // A shell that is gone already needs no hangup.
                writer.hangup().await.unwrap_or_default();
                Some(Fin::Closed)
            }
            ToBackend::Finished(_) | ToBackend::Close(Closing::Session) => Some(Fin::Detached),
        };
        if let Some(fin) = done {
            return fin;
        }
    }
    Fin::Detached
}

/// Shows the person what the shell does; whether the shell itself ended.
async fn show(shell: &mut Shell, actions: &mpsc::Sender<Action>) -> (Fin, bool) {
    loop {
        let (action, next) = match shell.next().await {
            Ok(HolderEvent::Output { offset, bytes }) => {
                let end = offset.saturating_add(bytes.len() as u64);
                (Action::Bytes { stream: 0, bytes }, Next::Ack(end))
            }
            Ok(HolderEvent::Repaint { offset, bytes }) => (Action::Bytes { stream: 0, bytes }, Next::Take(offset)),
            Ok(HolderEvent::PasswordMode { on, .. }) => (Action::Notice(Notice::Password(on)), Next::Nothing),
            Ok(HolderEvent::Exited { status, .. }) => return (ended(status), true),
            // Another session of the same person took the shell over, or its holder died.
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
            return (Fin::Detached, false);
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
