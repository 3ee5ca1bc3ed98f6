//! The life of a connection: opening → open ⇄ detached → closed, as a pure machine. A target that goes offline closes
//! its connections; one with a shell comes back as detached when the target does.
//!
//! Absent: who may do what, and why it happened. Both are the caller's to know and to log.

use std::fmt;
use std::str::FromStr;

use bz_core::api::record::ConnectionEventType;
use bz_core::id::ShellId;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made; its client has not come yet.
    Opening,
    /// Its client is on it.
    Open,
    /// Its client was on it and left; a shell runs on.
    Detached,
    /// Closed because its target went offline. Its shell may run on there.
    Lost,
    /// Ended, for ever.
    Closed,
}

impl State {
    /// The state as stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Detached => "detached",
            Self::Lost => "lost",
            Self::Closed => "closed",
        }
    }
}

/// Text that names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownState;

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let all = [Self::Opening, Self::Open, Self::Detached, Self::Lost, Self::Closed];
        all.into_iter().find(|s| s.as_str() == text).ok_or(UnknownState)
    }
}

/// What can happen to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Its client's carrier came.
    ClientConnected,
    /// Its client gave way to another of its person, which is on it now.
    ClientReplaced,
    /// Its client's carrier left.
    ClientDisconnected,
    /// The agent says which shell the client is on, or was on when it left; the first word counts.
    ShellAttached(ShellId),
    /// Its target went offline.
    TargetLost,
    /// Somebody or something closes it.
    Closed,
}

/// Who closes a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Its own user, by name.
    EndUser(String),
    /// An administrator, by name.
    Administrator(String),
    /// The server or the target.
    Service,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndUser(name) => write!(f, "the end user {name}"),
            Self::Administrator(name) => write!(f, "the administrator {name}"),
            Self::Service => f.write_str("the service"),
        }
    }
}

/// State and shell together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The state.
    pub state: State,
    /// The shell, once the agent named one.
    pub shell: Option<ShellId>,
}

/// More rows than this come of no step.
pub const MAX_ROWS: usize = 4;

/// One step on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The life after it.
    pub life: Life,
    /// What the log gets, in order: at most [`MAX_ROWS`], nothing when nothing changed.
    pub rows: Vec<ConnectionEventType>,
}

/// Why a step is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The connection has ended.
    #[error("the connection is closed")]
    Ended,
    /// A shell before any client came, or another one than before.
    #[error("this shell does not belong to the connection")]
    Shell,
}

impl Life {
    /// A connection just made.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Opening, shell: None }
    }

    /// Whether nobody can be on it now.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self.state, State::Lost | State::Closed)
    }

    /// What one input makes of it.
    ///
    /// # Errors
    /// [`StepError`]; closing what is closed is no error.
    pub fn step(self, input: Input) -> Result<Step, StepError> {
        use ConnectionEventType as Row;
        let same = |rows| Ok(Step { life: self, rows });
        let to = |state, rows| Ok(Step { life: Self { state, ..self }, rows });
        // The shell is named once; after that whoever comes to the connection comes to it.
        let come = || match self.shell {
            Some(_) => vec![Row::ClientConnect, Row::ShellConnect],
            None => vec![Row::ClientConnect],
        };
        let leave = || match self.shell {
            Some(_) => vec![Row::ShellDisconnect, Row::ClientDisconnect],
            None => vec![Row::ClientDisconnect],
        };
        match (self.state, input) {
            (State::Closed, Input::Closed | Input::TargetLost) | (State::Lost, Input::TargetLost) => same(Vec::new()),
            (State::Closed, Input::ShellAttached(_))
            | (
                State::Closed | State::Lost,
                Input::ClientConnected | Input::ClientReplaced | Input::ClientDisconnected,
            ) => Err(StepError::Ended),
            // It was logged as closed when it was lost.
            (State::Lost, Input::Closed) => to(State::Closed, Vec::new()),
            (State::Lost, Input::ShellAttached(shell)) if self.shell == Some(shell) => {
                to(State::Detached, vec![Row::ShellDisconnect])
            }
            (State::Opening | State::Detached, Input::ClientConnected) => to(State::Open, come()),
            (State::Open, Input::ClientReplaced) => same([leave(), come()].concat()),
            (State::Open, Input::ClientConnected)
            | (State::Opening | State::Detached, Input::ClientDisconnected | Input::ClientReplaced) => same(Vec::new()),
            (State::Open, Input::ClientDisconnected) => to(State::Detached, leave()),
            (State::Open, Input::ShellAttached(shell)) if self.shell.is_none() => {
                Ok(Step { life: Self { shell: Some(shell), ..self }, rows: vec![Row::ShellConnect] })
            }
            // The agent's word came after the client had gone: the shell runs on and can be attached to.
            (State::Detached, Input::ShellAttached(shell)) if self.shell.is_none() => {
                let life = Self { shell: Some(shell), ..self };
                Ok(Step { life, rows: vec![Row::ShellConnect, Row::ShellDisconnect] })
            }
            // Agents say it again with every new link.
            (State::Open | State::Detached, Input::ShellAttached(shell)) if self.shell == Some(shell) => {
                same(Vec::new())
            }
            (State::Opening | State::Open | State::Detached | State::Lost, Input::ShellAttached(_)) => {
                Err(StepError::Shell)
            }
            (State::Opening | State::Open | State::Detached, Input::Closed | Input::TargetLost) => {
                let left = if self.state == State::Open { leave() } else { Vec::new() };
                let lost = input == Input::TargetLost && self.shell.is_some();
                to(if lost { State::Lost } else { State::Closed }, [left, vec![Row::Closed]].concat())
            }
        }
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use ConnectionEventType as Row;

    use super::*;

    const SHELL: ShellId = ShellId::from_bytes([1; 16]);
    const OTHER: ShellId = ShellId::from_bytes([2; 16]);

    use Input::TargetLost as Gone;

    fn check(state: State, shell: Option<ShellId>, input: Input, want: Result<(State, &[Row]), StepError>) {
        let got = Life { state, shell }.step(input).map(|s| (s.life.state, s.rows));
        assert!(got.as_ref().map_or(0, |(_, rows)| rows.len()) <= MAX_ROWS, "{got:?}");
        assert_eq!(got, want.map(|(s, rows)| (s, rows.to_vec())), "{state:?} with {shell:?} gets {input:?}");
    }

    /// F-165, F-169, F-172~: every state × every input.
    #[test]
    fn a_life_goes_one_way() {
        use Input::ClientReplaced as Another;
        use Input::{ClientConnected as Comes, ClientDisconnected as Leaves, Closed as Close, ShellAttached as On};
        check(State::Opening, None, Comes, Ok((State::Open, &[Row::ClientConnect])));
        check(State::Opening, None, Leaves, Ok((State::Opening, &[])));
        check(State::Opening, None, On(SHELL), Err(StepError::Shell));
        check(State::Opening, None, Close, Ok((State::Closed, &[Row::Closed])));
        check(State::Open, None, Comes, Ok((State::Open, &[])));
        let replaced = [Row::ShellDisconnect, Row::ClientDisconnect, Row::ClientConnect, Row::ShellConnect];
        check(State::Opening, None, Another, Ok((State::Opening, &[])));
        check(State::Open, Some(SHELL), Another, Ok((State::Open, &replaced)));
        check(State::Detached, Some(SHELL), Another, Ok((State::Detached, &[])));
        check(State::Open, None, On(SHELL), Ok((State::Open, &[Row::ShellConnect])));
        check(State::Open, Some(SHELL), On(SHELL), Ok((State::Open, &[])));
        check(State::Open, Some(SHELL), On(OTHER), Err(StepError::Shell));
        check(State::Open, None, Leaves, Ok((State::Detached, &[Row::ClientDisconnect])));
        check(State::Open, Some(SHELL), Leaves, Ok((State::Detached, &[Row::ShellDisconnect, Row::ClientDisconnect])));
        check(State::Open, None, Close, Ok((State::Closed, &[Row::ClientDisconnect, Row::Closed])));
        check(State::Detached, None, Comes, Ok((State::Open, &[Row::ClientConnect])));
        check(State::Detached, Some(SHELL), Comes, Ok((State::Open, &[Row::ClientConnect, Row::ShellConnect])));
        check(State::Detached, Some(SHELL), Leaves, Ok((State::Detached, &[])));
        check(State::Detached, None, On(SHELL), Ok((State::Detached, &[Row::ShellConnect, Row::ShellDisconnect])));
        check(State::Detached, Some(SHELL), On(SHELL), Ok((State::Detached, &[])));
        check(State::Detached, Some(SHELL), On(OTHER), Err(StepError::Shell));
        check(State::Detached, Some(SHELL), Close, Ok((State::Closed, &[Row::Closed])));
        for input in [Comes, Another, Leaves, On(SHELL)] {
            check(State::Closed, Some(SHELL), input, Err(StepError::Ended));
        }
        check(State::Closed, None, Close, Ok((State::Closed, &[])));
        check(State::Closed, Some(SHELL), Gone, Ok((State::Closed, &[])));
    }

    /// F-035~: a target that goes offline closes its connections; a kept shell is there again with the target.
    #[test]
    fn a_lost_target_leaves_its_shells_to_come_back() {
        use Input::{ClientConnected as Comes, ClientDisconnected as Leaves, Closed as Close, ShellAttached as On};
        check(State::Opening, None, Gone, Ok((State::Closed, &[Row::Closed])));
        check(State::Open, None, Gone, Ok((State::Closed, &[Row::ClientDisconnect, Row::Closed])));
        let left = &[Row::ShellDisconnect, Row::ClientDisconnect, Row::Closed];
        check(State::Open, Some(SHELL), Gone, Ok((State::Lost, left)));
        check(State::Detached, Some(SHELL), Gone, Ok((State::Lost, &[Row::Closed])));
        check(State::Lost, Some(SHELL), Gone, Ok((State::Lost, &[])));
        check(State::Lost, Some(SHELL), On(SHELL), Ok((State::Detached, &[Row::ShellDisconnect])));
        check(State::Lost, Some(SHELL), On(OTHER), Err(StepError::Shell));
        check(State::Lost, Some(SHELL), Close, Ok((State::Closed, &[])));
        for input in [Comes, Leaves] {
            check(State::Lost, Some(SHELL), input, Err(StepError::Ended));
        }
    }

    #[test]
    fn states_read_back() {
        for state in [State::Opening, State::Open, State::Detached, State::Lost, State::Closed] {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert_eq!("".parse::<State>(), Err(UnknownState));
    }
}
