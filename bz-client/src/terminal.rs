//! A session on the person's own terminal, or on plain standard streams.
//!
//! Absent: deciding what to connect to. Raw mode is left again on every way out.

mod escape;
mod play;
mod window;

use std::io::Write as _;

use bz_core::access::request::Size;
use bz_protocol::client::{Action, Event};
use bz_protocol::frame::Fin;
use bz_protocol::session::End;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use crate::session::{Actions, Session};
use crate::terminal::escape::{Escape, Typed};

pub use crate::terminal::play::{Screen, play};

const CHUNK: usize = 16 << 10;

/// The size of the terminal on standard output; 24 × 80 when there is none.
#[must_use]
pub fn size() -> Size {
    let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
    Size { rows, columns }.clamped()
}

/// `TERM`, as far as a target may hear it.
#[must_use]
pub fn term() -> String {
    let plain = |t: &String| t.len() <= 64 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b));
    std::env::var("TERM").ok().filter(|t| !t.is_empty()).filter(plain).unwrap_or_else(|| "xterm-256color".to_owned())
}

/// Runs a command's session on standard input, output and error.
///
/// # Errors
/// When standard output or error cannot be written; the session is closed then.
pub async fn pipes(session: Session) -> std::io::Result<End> {
    let mut session = session;
    let input = Input::new(session.actions(), None);
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let end = loop {
        match session.next().await {
            Some(Event::Bytes { stream: 0, bytes }) => {
                out.write_all(&bytes)?;
                out.flush()?;
            }
            Some(Event::Bytes { bytes, .. }) => err.write_all(&bytes)?,
            Some(Event::Ended(end)) => break end,
            Some(
                Event::Opened(_)
                | Event::Eof { .. }
                | Event::Answered { .. }
                | Event::Reset { .. }
                | Event::Notice(_)
                | Event::Resumed,
            ) => {}
            None => break End::Lost,
        }
    };
    drop(input);
    Ok(end)
}

/// Runs a shell's session on this terminal: raw, resized with it. Enter, `~`, `.` detaches.
///
/// # Errors
/// When the terminal cannot be used.
pub async fn shell(session: Session) -> std::io::Result<End> {
    let raw = Raw::enter()?;
    let (leave, left) = mpsc::channel(1);
    let input = Input::new(session.actions(), Some((Escape::default(), leave)));
    let end = window::show(session, left).await;
    drop((input, raw));
    end
}

/// The exit status that stands for an end: the command's own, 128 and the signal, or 255 for anything else. A session that
/// somebody closed did not do what it was for.
#[must_use]
pub fn status(end: &End) -> u8 {
    match end {
        End::Completed(Fin::Exited(code)) => u8::try_from(code & 0xff).unwrap_or(255),
        End::Completed(Fin::Signaled(signal)) => u8::try_from(128 + (signal & 0x7f)).unwrap_or(255),
        End::Completed(Fin::Detached | Fin::Done) => 0,
        End::Completed(Fin::Closed)
        | End::Reported(_)
        | End::Refused(_)
        | End::Misbehavior(_)
        | End::Timeout
        | End::Lost
        | End::Expired
        | End::Forgotten
        | End::Truncated => 255,
    }
}

/// What a person should read about an end; `None` when there is nothing to say.
#[must_use]
pub fn farewell(end: &End) -> Option<String> {
    match end {
        End::Completed(Fin::Detached) => Some("Detached: the shell runs on.".to_owned()),
        End::Completed(Fin::Closed) => Some("The connection was closed.".to_owned()),
        End::Completed(Fin::Exited(_) | Fin::Signaled(_) | Fin::Done) => None,
        End::Misbehavior(_) => Some(format!(
            "{end}\nNothing after it was shown or done. If it happens again, tell your administrator: the server, or \
             somebody on the way, may be lying."
        )),
        End::Truncated => Some(format!("{end}\nWhat came is the target's, but it may not be all.")),
        End::Lost => {
            Some(format!("{end}\nA shell runs on: `bz list-connections` shows it, and `bz attach` comes back to it."))
        }
        End::Timeout => Some(format!("{end}: try again; `bz list-targets` shows whether the target is online")),
        End::Reported(_) | End::Refused(_) | End::Forgotten | End::Expired => Some(end.to_string()),
    }
}

/// Reads standard input on a thread of its own, which nothing can interrupt, and feeds the session.
struct Input(tokio::task::JoinHandle<()>);

impl Input {
    fn new(actions: Actions, escape: Option<(Escape, mpsc::Sender<()>)>) -> Self {
        Self(tokio::spawn(feed(actions, escape)))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn feed(actions: Actions, mut escape: Option<(Escape, mpsc::Sender<()>)>) {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        let bytes = match input.read(&mut buffer).await {
            Ok(n @ 1..) => buffer.get(..n).unwrap_or_default().to_vec(),
            Ok(0) | Err(_) => {
                // A session that has ended needs no end of its input.
                actions.act(Action::Eof { stream: 0 }).await.unwrap_or_default();
                return;
            }
        };
        let typed = match &mut escape {
            Some((escape, _)) => escape.typed(&bytes),
            None => Typed::Bytes(bytes),
        };
        let acted = match typed {
            Typed::Bytes(bytes) if bytes.is_empty() => continue,
            Typed::Bytes(bytes) => actions.act(Action::Bytes { stream: 0, bytes }).await,
            Typed::Detach => {
                if let Some((_, leave)) = &escape {
                    // One word is enough.
                    leave.try_send(()).unwrap_or_default();
                }
                continue;
            }
        };
        if acted.is_err() {
            return;
        }
    }
}

/// Raw mode, left when dropped.
#[derive(Debug)]
struct Raw;

impl Raw {
    fn enter() -> std::io::Result<Self> {
        crossterm::terminal::enable_raw_mode()?;
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = crossterm::terminal::disable_raw_mode() {
            tracing::warn!(%error, "the terminal stays raw: run `reset`");
        }
    }
}

struct Resizes(mpsc::Receiver<()>);

impl Resizes {
    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
fn resizes() -> std::io::Result<Resizes> {
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change())?;
    let (changes, changed) = mpsc::channel(1);
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            if changes.is_closed() {
                return;
            }
            // One that waits stands for all.
            changes.try_send(()).unwrap_or_default();
        }
    });
    Ok(Resizes(changed))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
fn resizes() -> std::io::Result<Resizes> {
    let (changes, changed) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut last = size();
        while !changes.is_closed() {
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
            if size() != last {
                last = size();
                changes.try_send(()).unwrap_or_default();
            }
        }
    });
    Ok(Resizes(changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_status_and_a_word_unless_it_is_the_command_s_own() {
        let check = |end: End, want: u8, word: &str| {
            assert_eq!(status(&end), want, "{end:?}");
            let said = farewell(&end).unwrap_or_default();
            assert!(said.contains(word) && said.is_empty() == word.is_empty(), "{end:?}: {said:?}");
        };
        check(End::Completed(Fin::Exited(7)), 7, "");
        check(End::Completed(Fin::Signaled(15)), 143, "");
        check(End::Completed(Fin::Done), 0, "");
        check(End::Completed(Fin::Detached), 0, "runs on");
        check(End::Completed(Fin::Closed), 255, "was closed");
        check(End::Expired, 255, "bz login");
        check(End::Lost, 255, "lost");
        check(End::Forgotten, 255, "started anew");
    }
}
