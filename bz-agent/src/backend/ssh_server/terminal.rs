//! A terminal with the login shell in it, or one command. A holder keeps it, as it keeps every shell; unlike those it ends
//! with its channel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bz_core::access::request;
use bz_core::id::ShellId;
use bz_protocol::driver::random;
use bz_protocol::ssh::{KEYS, SCREEN, Said};
use tokio::runtime::Handle;

use super::Served;
use super::channel::{Channel, Out, Word, Words};
use super::command::NOT_STARTED;
use crate::backend::shell::hang_up;
use crate::helper::ExitStatus;
use crate::holders::{HolderEvent, Shell, ShellRequest, ShellWriter, Size};

/// What an agent that was killed leaves behind ends after this.
const IDLE: Duration = Duration::from_secs(30);

/// A terminal's shell, hung up when this is dropped.
struct Held(Option<Shell>);

/// The one terminal that a session may have, given back when this is dropped.
struct Turn<'a>(&'a AtomicBool);

pub(super) async fn run(mut channel: Channel, size: Size, command: Option<Vec<u8>>) {
    let served = &channel.served;
    let Some(_turn) = Turn::take(&served.terminal) else {
        channel.out.complain("there is one terminal at a time in this way: run ssh once more without its master").await;
        return channel.out.end(NOT_STARTED).await;
    };
    let Some(shell) = start(&channel, size, command).await else {
        channel.out.complain("the terminal could not be opened").await;
        return channel.out.end(NOT_STARTED).await;
    };
    let (writer, password) = (shell.writer(), AtomicBool::new(false));
    let mut held = Held(Some(shell));
    let status = tokio::select! {
        status = show(&mut held, (&channel.out, served), &password) => status,
        () = feed(&mut channel.words, (&writer, served), &password) => None,
    };
    let _said = served.told.say(&Said::TerminalEnded).await;
    if let Some(status) = status {
        if let Some(shell) = held.0.take() {
            // A holder that is gone needs no leave.
            shell.release().await.unwrap_or_default();
        }
        channel.out.end(status).await;
    }
}

/// `None` where there is none; why is in the agent's own log.
async fn start(channel: &Channel, size: Size, command: Option<Vec<u8>>) -> Option<Shell> {
    let served = &channel.served;
    if let Some(command) = &command
        && !served.told.say(&Said::Command { command: command.clone() }).await
    {
        return None;
    }
    let request = ShellRequest { environment: channel.environment.clone(), size, idle: IDLE };
    let started = async {
        let id = ShellId::from_random(random().map_err(|error| error.to_string())?);
        let shell = served.server.holders.start_with(id, &served.user, (request, command)).await;
        let shell = shell.map_err(|error| error.to_string())?;
        shell.attended().await.map_err(|error| error.to_string())?;
        shell.take(0).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(shell)
    };
    match started.await {
        Ok(shell) => served.told.say(&Said::Terminal { size: shown(size) }).await.then_some(shell),
        Err(error) => {
            tracing::warn!(error, "a terminal could not be opened");
            None
        }
    }
}

const fn shown(size: Size) -> request::Size {
    request::Size { rows: size.rows(), columns: size.cols() }
}

/// Shows the person what the terminal does, until its program ends; `None` when it cannot be shown any more.
async fn show(held: &mut Held, (out, served): (&Out, &Served), password: &AtomicBool) -> Option<ExitStatus> {
    let shell = held.0.as_mut()?;
    let mut to = out.writer(false);
    loop {
        match shell.next().await.ok()? {
            HolderEvent::Output { offset, bytes } => {
                if !served.told.bytes(SCREEN, &bytes).await || !out.write(&mut to, &bytes).await {
                    return None;
                }
                shell.ack(offset.saturating_add(bytes.len() as u64)).await.ok()?;
            }
            HolderEvent::PasswordMode { on, .. } => {
                password.store(on, Ordering::Relaxed);
                if !served.told.say(&Said::Password(on)).await {
                    return None;
                }
            }
            HolderEvent::Repaint { .. } => {}
            HolderEvent::Exited { status, .. } => return Some(status),
        }
    }
}

/// Gives the terminal what the person types, until the channel is closed.
async fn feed(words: &mut Words, (writer, served): (&ShellWriter, &Served), password: &AtomicBool) {
    while let Some(word) = words.next().await {
        match word {
            Word::Bytes(bytes) => {
                // What is typed blindly is nobody else's, unless everything typed is recorded.
                let secret = password.load(Ordering::Relaxed) && !served.recording.input;
                if secret || served.told.bytes(KEYS, &bytes).await {
                    // What there is nobody to take is told by what the terminal shows last.
                    writer.input(&bytes).await.unwrap_or_default();
                }
                words.taken(bytes.len());
            }
            Word::Resize(size) => {
                if served.told.say(&Said::Resize { size: shown(size) }).await {
                    writer.resize(size).await.unwrap_or_default();
                }
            }
            Word::Eof => {}
        }
    }
}

impl<'a> Turn<'a> {
    fn take(taken: &'a AtomicBool) -> Option<Self> {
        (!taken.swap(true, Ordering::AcqRel)).then_some(Self(taken))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(mut shell) = self.0.take() else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                match hang_up(&mut shell).await {
                    Ok(()) => shell.release().await.unwrap_or_default(),
                    Err(error) => tracing::debug!(%error, "a terminal that was hung up"),
                }
            });
        }
    }
}
