//! A shell on the person's terminal: what it shows, a word when it cannot be reached, and a way out at any time.

use std::io::Write as _;
use std::time::Duration;

use bz_protocol::client::{Action, Event};
use bz_protocol::frame::{Fin, Notice};
use bz_protocol::limits::PATIENCE;
use bz_protocol::session::End;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::session::Session;
use crate::terminal::{resizes, size};

/// A shorter interruption is nobody's business.
const NOTICED: Duration = Duration::from_secs(2);
/// How long a session may take to end when its person leaves it.
const LEAVING: Duration = Duration::from_secs(3);

/// What is to be done besides showing.
#[derive(Default)]
struct Todo {
    resize: bool,
    leave: bool,
    /// Nobody waits for the session's end any longer than this.
    left: Option<Instant>,
    /// When to say that the session is interrupted.
    interrupted: Option<Instant>,
    said: bool,
}

impl Todo {
    fn action(&self) -> Option<Action> {
        let resize = self.resize.then(|| Action::Resize(size()));
        resize.or_else(|| self.leave.then_some(Action::Finish(Fin::Detached)))
    }

    /// Done, or the session has ended, which needs neither.
    const fn acted(&mut self) {
        if self.resize {
            self.resize = false;
        } else {
            self.leave = false;
        }
    }

    fn leave(&mut self, now: Instant) {
        self.leave = true;
        self.left = self.left.or_else(|| now.checked_add(LEAVING));
    }

    /// What the person is told.
    fn carried(&mut self, carried: bool, now: Instant) -> Option<String> {
        self.interrupted = if carried { None } else { now.checked_add(NOTICED).filter(|_| !self.said) };
        let again = carried && std::mem::take(&mut self.said);
        again.then(|| "Connected again.".to_owned())
    }

    fn wake(&self) -> Option<Instant> {
        [self.left, self.interrupted].into_iter().flatten().min()
    }

    fn is_left(&self, now: Instant) -> bool {
        self.left.is_some_and(|at| at <= now)
    }

    fn time(&mut self, now: Instant) -> Option<String> {
        self.interrupted.take_if(|at| *at <= now)?;
        self.said = true;
        let minutes = PATIENCE.as_secs() / 60;
        Some(format!("The connection is interrupted; it is tried again for {minutes} minutes. Enter ~ . leaves."))
    }
}

/// Shows the session until it ends; a word from `leave` detaches.
pub(super) async fn show(mut session: Session, mut leave: mpsc::Receiver<()>) -> std::io::Result<End> {
    let (actions, mut carried, mut resized) = (session.actions(), session.carried(), resizes()?);
    let mut todo = Todo::default();
    loop {
        let action = todo.action();
        let acts = action.is_some();
        let act = async {
            if let Some(action) = action {
                actions.act(action).await.unwrap_or_default();
            }
        };
        tokio::select! {
            event = session.next() => if let Some(end) = shown(event)? { return Ok(end) },
            () = act, if acts => todo.acted(),
            () = resized.next() => todo.resize = true,
            Some(()) = leave.recv() => todo.leave(Instant::now()),
            Ok(()) = carried.changed() => {
                let carried = *carried.borrow_and_update();
                say(todo.carried(carried, Instant::now()))?;
            }
            () = sleep_until(todo.wake()) => {
                if todo.is_left(Instant::now()) {
                    return Ok(End::Lost);
                }
                say(todo.time(Instant::now()))?;
            }
        }
    }
}

/// The end, when this is it.
fn shown(event: Option<Event>) -> std::io::Result<Option<End>> {
    match event {
        Some(Event::Bytes { bytes, .. }) => {
            let mut out = std::io::stdout();
            out.write_all(&bytes)?;
            out.flush()?;
        }
        Some(Event::Notice(Notice::TakenOver)) => say(Some("This shell was taken over by another of your sessions."))?,
        Some(Event::Notice(Notice::LoginEnds)) => say(Some("Your login ends soon: run `bz login` in another window."))?,
        Some(Event::Ended(end)) => return Ok(Some(end)),
        Some(
            Event::Opened(_)
            | Event::Eof { .. }
            | Event::Answered { .. }
            | Event::Reset { .. }
            | Event::Notice(Notice::Password(_) | Notice::Repaint)
            | Event::Resumed,
        ) => {}
        None => return Ok(Some(End::Lost)),
    }
    Ok(None)
}

fn say(words: Option<impl std::fmt::Display>) -> std::io::Result<()> {
    let Some(words) = words else { return Ok(()) };
    let mut out = std::io::stdout();
    write!(out, "\r\n{words}\r\n")?;
    out.flush()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_interruption_is_told_once_and_its_end_as_well() {
        let start = Instant::now();
        let at = |seconds| start.checked_add(Duration::from_secs(seconds)).unwrap();
        let mut todo = Todo::default();
        // A short one, of which nobody hears.
        assert_eq!((todo.carried(false, at(0)), todo.wake()), (None, Some(at(2))));
        assert_eq!((todo.carried(true, at(1)), todo.wake()), (None, None));
        assert_eq!(todo.carried(false, at(10)), None);
        assert!(todo.time(at(12)).unwrap().contains("interrupted"));
        assert_eq!((todo.carried(false, at(13)), todo.wake()), (None, None));
        assert_eq!(todo.carried(true, at(20)).as_deref(), Some("Connected again."));
        assert_eq!(todo.carried(true, at(21)), None);
    }

    #[test]
    fn who_leaves_waits_three_seconds_for_the_session_to_end_and_no_longer() {
        let start = Instant::now();
        let mut todo = Todo { resize: true, ..Todo::default() };
        todo.leave(start);
        assert!(matches!(todo.action(), Some(Action::Resize(_))));
        todo.acted();
        assert!(matches!(todo.action(), Some(Action::Finish(Fin::Detached))));
        todo.acted();
        assert!(todo.action().is_none());
        let end = start.checked_add(LEAVING).unwrap();
        todo.leave(end);
        assert_eq!(todo.wake(), Some(end));
        assert!(!todo.is_left(start) && todo.is_left(end));
    }
}
