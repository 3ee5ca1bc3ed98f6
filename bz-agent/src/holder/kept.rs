//! What a holder keeps of one shell, and what of it the agent is still owed. Pure: no file, no
//! clock; the loop that owns it feeds it and asks for the next message.

use super::message::{FromHolder, ShellId, ShellState, Size};
use super::ring::Ring;
use super::screen::Screen;
use crate::frame::CHUNK;
use crate::helper::ExitStatus;
use std::collections::BTreeSet;

pub(super) struct Kept {
    pub(super) id: ShellId,
    pub(super) user: String,
    pub(super) pid: u32,
    pub(super) ring: Ring,
    screen: Screen,
    size: Size,
    password: bool,
    exited: Option<ExitStatus>,
    /// Input taken from agents, and the part of it that reached the terminal.
    pub(super) input: u64,
    pub(super) written: u64,
    owed: Owed,
}

/// Everything here is bounded: a fact is owed once, however often it changed before it was sent.
#[derive(Default)]
struct Owed {
    facts: BTreeSet<Fact>,
    /// The number of the next byte to send, once the agent has asked for output.
    output: Option<u64>,
    /// Where in the output the terminal began to ask for a password: nothing is shown that was typed before it.
    asks_at: Option<u64>,
    /// A dump on its way: the offset it belongs to, and what of it is left.
    dump: Option<(u64, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    State,
    Written,
    Password,
    Repaint,
    Exited,
}

impl Owed {
    fn take(&mut self, fact: Fact) -> bool {
        self.facts.remove(&fact)
    }
}

impl Kept {
    pub(super) fn new(id: ShellId, user: String, pid: u32, size: Size) -> Self {
        Self {
            id,
            user,
            pid,
            ring: Ring::default(),
            screen: Screen::new(size),
            size,
            password: false,
            exited: None,
            input: 0,
            written: 0,
            owed: Owed::default(),
        }
    }

    /// An agent came: it is owed the state and nothing else until it asks.
    pub(super) fn connected(&mut self) {
        let exit = self.exited.map(|_| Fact::Exited);
        self.owed = Owed { facts: exit.into_iter().chain([Fact::State]).collect(), ..Owed::default() };
    }

    /// The agent went: from here on only the newest output is kept.
    pub(super) fn disconnected(&mut self) {
        self.owed = Owed::default();
        self.ring.shed();
    }

    pub(super) fn output(&mut self, bytes: &[u8]) {
        self.ring.push(bytes);
        self.screen.feed(bytes);
    }

    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.screen.resize(size);
    }

    pub(super) fn password(&mut self, on: bool) {
        if self.password != on {
            self.password = on;
            self.owed.facts.insert(Fact::Password);
            self.owed.asks_at = Some(self.ring.end()).filter(|_| on);
        }
    }

    pub(super) fn wrote(&mut self, count: u64) {
        self.written = self.written.saturating_add(count);
        self.owed.facts.insert(Fact::Written);
    }

    pub(super) fn exited(&mut self, status: ExitStatus) {
        self.exited = Some(status);
        self.owed.facts.insert(Fact::Exited);
    }

    pub(super) fn take(&mut self, from: u64) {
        self.owed.output = Some(from.max(self.ring.base()));
    }

    pub(super) fn repaint(&mut self) {
        self.owed.facts.insert(Fact::Repaint);
    }

    /// The next message for the agent, most urgent first. Every call takes what it returns.
    pub(super) fn next(&mut self) -> Option<FromHolder> {
        if self.owed.take(Fact::State) {
            return Some(FromHolder::State(self.state()));
        }
        if self.owed.take(Fact::Written) {
            return Some(FromHolder::Written { total: self.written });
        }
        if self.owed.asks_at.is_none_or(|at| self.owed.output.is_none_or(|next| next >= at))
            && self.owed.take(Fact::Password)
        {
            let offset = self.owed.asks_at.take().unwrap_or_else(|| self.ring.end());
            return Some(FromHolder::PasswordMode { offset, on: self.password });
        }
        self.next_repaint().or_else(|| self.next_output()).or_else(|| self.next_exit())
    }

    /// Whether a repaint waits for output that goes first. Until then no more is read, so that it comes to an end.
    pub(super) fn repaint_waits(&self) -> bool {
        self.owed.facts.contains(&Fact::Repaint) && self.owed.output.is_some_and(|next| next < self.ring.end())
    }

    fn next_repaint(&mut self) -> Option<FromHolder> {
        if self.owed.dump.is_none() && !self.repaint_waits() && self.owed.take(Fact::Repaint) {
            self.owed.dump = Some((self.ring.end(), self.screen.dump()));
        }
        let (offset, mut part) = self.owed.dump.take()?;
        let rest = part.split_off(part.len().min(CHUNK));
        let last = rest.is_empty();
        if !last {
            self.owed.dump = Some((offset, rest));
        }
        Some(FromHolder::Repaint { offset, part, last })
    }

    fn next_output(&mut self) -> Option<FromHolder> {
        let from = self.owed.output?;
        let until_asked = self.owed.asks_at.map(|at| usize::try_from(at.saturating_sub(from)).unwrap_or(CHUNK));
        let (offset, bytes) = self.ring.read(from, until_asked.unwrap_or(CHUNK).min(CHUNK));
        if bytes.is_empty() {
            return None;
        }
        self.owed.output = Some(offset.saturating_add(bytes.len() as u64));
        Some(FromHolder::Output { offset, bytes })
    }

    fn next_exit(&mut self) -> Option<FromHolder> {
        let all_sent = self.owed.output.is_some_and(|next| next >= self.ring.end());
        let status = self.exited.filter(|_| all_sent && self.owed.take(Fact::Exited))?;
        Some(FromHolder::Exited { offset: self.ring.end(), status })
    }

    fn state(&self) -> ShellState {
        ShellState {
            id: self.id,
            user: self.user.clone(),
            pid: self.pid,
            size: self.size,
            base: self.ring.base(),
            end: self.ring.end(),
            dropped: self.ring.dropped(),
            input: self.input,
            password: self.password,
            exited: self.exited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        Kept::new(ShellId::from_bytes([7; 16]), "alice".into(), 7, Size::clamped(4, 20))
    }

    fn drain(kept: &mut Kept) -> Vec<String> {
        let short = |message| match message {
            FromHolder::Output { offset, bytes } => format!("output {offset} {}", bytes.len()),
            FromHolder::Repaint { offset, last, .. } => format!("repaint {offset} {last}"),
            FromHolder::State(state) => format!("state {}..{} dropped {}", state.base, state.end, state.dropped),
            FromHolder::PasswordMode { offset, on } => format!("password {offset} {on}"),
            FromHolder::Exited { offset, status } => format!("exited {offset} {status:?}"),
            other @ (FromHolder::Refused { .. } | FromHolder::Written { .. }) => {
                format!("{other:?}")
            }
        };
        std::iter::from_fn(|| kept.next()).map(short).collect()
    }

    #[test]
    fn an_agent_that_has_not_asked_gets_the_state_and_no_output_or_exit() {
        let mut kept = kept();
        kept.output(b"hello");
        kept.exited(ExitStatus::Code(0));
        kept.connected();
        assert_eq!(drain(&mut kept), ["state 0..5 dropped 0"]);
        kept.take(2);
        assert_eq!(drain(&mut kept), ["output 2 3", "exited 5 Code(0)"]);
        assert_eq!(drain(&mut kept), [""; 0]);
    }

    #[test]
    fn a_second_agent_gets_what_the_first_did_not_confirm() {
        let mut kept = kept();
        kept.connected();
        kept.take(0);
        kept.output(&vec![b'x'; CHUNK + 1]);
        assert_eq!(drain(&mut kept), ["state 0..65537 dropped 0", "output 0 65536", "output 65536 1"]);
        kept.ring.release(65_530);
        kept.disconnected();
        kept.connected();
        kept.take(0);
        assert_eq!(drain(&mut kept), ["state 65530..65537 dropped 0", "output 65530 7"]);
    }

    #[test]
    fn facts_are_owed_once_and_go_before_output() {
        let mut kept = kept();
        kept.connected();
        assert_eq!(drain(&mut kept).len(), 1);
        kept.take(0);
        kept.output(b"0123456789");
        kept.wrote(1);
        kept.wrote(2);
        kept.repaint();
        kept.repaint();
        assert_eq!(drain(&mut kept), ["Written { total: 3 }", "output 0 10", "repaint 10 true"]);
    }

    #[test]
    fn a_question_for_a_password_comes_after_what_was_shown_before_it_and_its_end_at_once() {
        let mut kept = kept();
        kept.connected();
        kept.take(0);
        kept.output(b"Password: ");
        kept.password(true);
        kept.output(b"more");
        assert_eq!(drain(&mut kept), ["state 0..14 dropped 0", "output 0 10", "password 10 true", "output 10 4"]);
        kept.output(b"$ ");
        kept.password(false);
        assert_eq!(drain(&mut kept), ["password 16 false", "output 14 2"]);
        kept.output(b"again: ");
        kept.password(true);
        kept.password(false);
        assert_eq!(drain(&mut kept), ["password 23 false", "output 16 7"]);
        kept.connected();
        kept.password(true);
        assert_eq!(drain(&mut kept), ["state 0..23 dropped 0", "password 23 true"]);
    }

    #[test]
    fn output_that_was_asked_for_goes_before_the_repaint_that_shows_it() {
        let mut kept = kept();
        kept.connected();
        kept.output(&vec![b'x'; CHUNK + 1]);
        kept.repaint();
        assert_eq!(drain(&mut kept)[1..], ["repaint 65537 true"], "none was asked for");
        kept.take(0);
        kept.repaint();
        assert!(kept.repaint_waits());
        assert_eq!(drain(&mut kept), ["output 0 65536", "output 65536 1", "repaint 65537 true"]);
        assert!(!kept.repaint_waits());
        kept.ring.release(u64::MAX);
        kept.connected();
        kept.take(0);
        kept.repaint();
        assert_eq!(drain(&mut kept)[1..], ["repaint 65537 true"], "nothing is left to go first");
    }
}
