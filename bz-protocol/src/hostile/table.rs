//! The table of scenarios. `docs/security-model.md` names them by their ids.

mod expiry;
mod handshake;
mod identity;
mod original;
mod registration;
mod server;
mod transport;

use crate::hostile::relay::{How, Rule, Sort, Which};
use crate::hostile::scenario::{Came, Scenario, Step, Who};
use crate::keys::Direction;

pub(super) const TO_AGENT: Direction = Direction::ToAgent;
pub(super) const TO_CLIENT: Direction = Direction::ToClient;

pub(super) const REFUSED: &[Came] = &[Came::Refused];
pub(super) const ENDED: &[Came] = &[Came::Ended];
pub(super) const ANSWERED: &[Came] = &[Came::Answered];
pub(super) const ENDED_OR_ANSWERED: &[Came] = &[Came::Ended, Came::Answered];
pub(super) const COMPLETE: &[Came] = &[Came::Complete];
pub(super) const NO_SUCCESS: &[Came] = &[Came::Refused, Came::Ended];
/// What is altered may be noticed, or have been no loss.
pub(super) const ENDED_OR_COMPLETE: &[Came] = &[Came::Ended, Came::Complete];
pub(super) const REFUSED_OR_COMPLETE: &[Came] = &[Came::Refused, Came::Complete];
pub(super) const WHATEVER: &[Came] = &[Came::Refused, Came::Ended, Came::Complete];

pub(super) const AGENT: &[Who] = &[Who::Agent];
pub(super) const CLIENT: &[Who] = &[Who::Client];
pub(super) const EITHER: &[Who] = &[Who::Agent, Who::Client];
pub(super) const NOBODY: &[Who] = &[];

/// What is said again must be refused, whatever is expected of the sessions beside it.
pub(super) const REPLAYS_REFUSED: Step = Step::Comes(REFUSED, AGENT);
/// And the sessions go on.
pub(super) const SESSIONS_COMPLETE: Step = Step::Comes(COMPLETE, NOBODY);

pub(super) const fn rule(to: Direction, sort: Sort, which: Which, how: How) -> Rule {
    Rule { to, sort, which, how }
}

/// A session under one rule, of which this must come.
macro_rules! each {
    ($($came:ident $who:ident: $to:ident $sort:expr, $which:expr => $how:expr);+ $(;)?) => {
        &[$(Step::Comes($came, $who), Step::Rules(&[rule($to, $sort, $which, $how)]), Step::Session),+]
    };
}
pub(super) use each;

/// A session under one rule.
macro_rules! under {
    ($($to:ident $sort:expr, $which:expr => $how:expr);+ $(;)?) => {
        &[$(Step::Rules(&[rule($to, $sort, $which, $how)]), Step::Session),+]
    };
}
pub(super) use under;

/// The tables, one after the other.
const TABLES: [&[Scenario]; 8] = [
    HONEST,
    identity::TABLE,
    handshake::TABLE,
    expiry::TABLE,
    transport::TABLE,
    registration::TABLE,
    original::TABLE,
    server::TABLE,
];

const HONEST: &[Scenario] = &[Scenario::new(("honest", "an honest server"), "forwards", &[Step::Session])];

/// Every scenario.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    TABLES.into_iter().flatten()
}
