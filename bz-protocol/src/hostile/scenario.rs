//! Scenarios: what a hostile server does, step by step, and what must come of it. They are data.

use std::time::Duration;

use bz_core::access::Mode;

use crate::hostile::case::Forgery;
use crate::hostile::relay::Rule;

/// Who can notice something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The agent, on the target.
    Agent,
    /// The client, at the person's side.
    Client,
}

impl Who {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Client => "client",
        }
    }
}

/// What a session or an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Came {
    /// It was never opened, and nothing was done. For an attempt of the server's own: the agent said no, or ended it.
    Refused,
    /// The agent answered what the server said as it answers an opening; without a client's key nothing follows.
    Answered,
    /// The agent neither answered nor refused nor ended what the server tried, for as long as one waits for it.
    Nothing,
    /// It ended before its end, and the person was told.
    Ended,
    /// Everything was done once, and shown.
    Complete,
}

impl Came {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Answered => "answered",
            Self::Nothing => "nothing",
            Self::Ended => "ended",
            Self::Complete => "complete",
        }
    }
}

/// What must come of a scenario. Whatever comes, an unsafe effect is never expected.
#[derive(Debug, Clone, Copy)]
pub struct Expect {
    /// One of these for each session and attempt.
    pub came: &'static [Came],
    /// One of these has to notice each that is not complete; nobody where that is empty.
    pub who: &'static [Who],
}

/// What the issuer publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Its keys.
    Own,
    /// It cannot be reached.
    Withheld,
    /// New keys; the old are gone.
    Rotated,
}

/// What the host's owner wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// The person may act.
    Allows,
    /// Somebody else may.
    AllowsAnother,
    /// Only sealed sessions may be opened.
    SealedOnly,
    /// What is opened must be recorded.
    Recorded,
    /// A second factor must have been shown.
    SecondFactor,
    /// No file where one is required, or one that others can write.
    Unusable,
}

/// An order to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderLie {
    /// One that the control key signed: it can only narrow.
    Close,
    /// The grant key signed it.
    ByGrantKey,
    /// For another start of the agent.
    OtherStart,
    /// A key of nobody's signed it.
    ByNobody,
}

/// What a client does that keeps no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rogue {
    /// Its frames have wrong tags.
    WrongTags,
    /// It sends other bytes under the numbers of those that it sent before its carrier was cut.
    OtherBytes,
    /// It signs nothing.
    NoCheckpoints,
    /// It signs something else than it sent.
    FalseCheckpoint,
    /// It sends more than it was credited.
    TooMuch,
}

/// One step of a scenario.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// From the next session on the server does this to packets; each of them has to be done.
    Rules(&'static [Rule]),
    /// From here on this must come of sessions and attempts: less than the scenario's own [`Expect`] allows.
    Comes(&'static [Came], &'static [Who]),
    /// A person opens a session, types three lines, and closes it.
    Session,
    /// A person opens a session.
    Open,
    /// And types so many lines.
    Lines(u32),
    /// And closes it.
    Close,
    /// The server opens sessions by itself, with each of these.
    Own(&'static [Forgery]),
    /// The server hands each of these to the person's client, which asks no question of its own.
    Given(&'static [Forgery]),
    /// The server says again what the person's client opened the last session with.
    ReplayOpening {
        /// Under another connection's number.
        elsewhere: bool,
    },
    /// The server says again everything that it saw on its way to the agent.
    ReplayAll,
    /// The person sends a newer certificate.
    Newer(&'static [Forgery]),
    /// The server gives an order.
    Order(OrderLie),
    /// A client that keeps no rule has a session.
    Rogue(Rogue),
    /// All carriers are cut.
    Cut,
    /// The agent is started anew.
    Restart,
    /// So much time passes.
    Pass(Duration),
    /// What the issuer publishes.
    Publish(Keys),
    /// What the host's owner wrote.
    Local(Local),
    /// In which mode sessions are asked for from now on.
    Mode(Mode),
}

/// One thing that a hostile server does.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its short name, such as `H3`, `W5` for a weakness of the original, or a word.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What the server does.
    pub does: &'static str,
    /// The steps.
    pub steps: &'static [Step],
    /// What must come of it.
    pub expect: Expect,
    /// Where a case cannot exist here, or a part of it is no server's to do: why, and what shows that part.
    pub note: &'static str,
}

impl Scenario {
    /// A scenario of which nothing wrong comes, until [`Self::comes`] says what does.
    #[must_use]
    pub const fn new((id, name): (&'static str, &'static str), does: &'static str, steps: &'static [Step]) -> Self {
        Self { id, name, does, steps, expect: Expect { came: &[Came::Complete], who: &[] }, note: "" }
    }

    /// What must come of it, and who has to notice.
    #[must_use]
    pub const fn comes(self, came: &'static [Came], who: &'static [Who]) -> Self {
        Self { expect: Expect { came, who }, ..self }
    }

    /// What is to be said beside it.
    #[must_use]
    pub const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}
