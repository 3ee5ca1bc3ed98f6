//! The table of scenarios.

use crate::frame::Kind;
use crate::hostile::case::Forgery;
use crate::hostile::relay::{How, Rule, Sort, Which};
use crate::hostile::scenario::{Came, Expect, Scenario, Step, Who};
use crate::keys::Direction;

const AGENT: Direction = Direction::ToAgent;
const CLIENT: Direction = Direction::ToClient;

const fn rule(to: Direction, sort: Sort, which: Which, how: How) -> Rule {
    Rule { to, sort, which, how }
}

const THIEF: &[Forgery] =
    &[Forgery { name: "the person's token under a key of the server's own", change: |case| case.by_thief() }];

/// Every scenario.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "honest",
        name: "an honest server",
        does: "forwards",
        steps: &[Step::Session],
        expect: Expect { came: &[Came::Complete], who: &[] },
        note: "",
    },
    Scenario {
        id: "thief",
        name: "the whole server, and no login",
        does: "opens a session by itself, with its own real grant",
        steps: &[Step::Own(THIEF)],
        expect: Expect { came: &[Came::Refused], who: &[Who::Agent] },
        note: "",
    },
    Scenario {
        id: "flip-typed",
        name: "a byte of what was typed",
        does: "alters one bit of a frame to the agent",
        steps: &[Step::Rules(&[rule(AGENT, Sort::Frame(Kind::Bytes), Which::Below(3), How::Flip)]), Step::Session],
        expect: Expect { came: &[Came::Ended], who: &[Who::Agent] },
        note: "",
    },
    Scenario {
        id: "twice-shown",
        name: "a byte of what is shown",
        does: "alters one bit of a frame to the client",
        steps: &[Step::Rules(&[rule(CLIENT, Sort::Frame(Kind::Bytes), Which::Below(3), How::Flip)]), Step::Session],
        expect: Expect { came: &[Came::Ended], who: &[Who::Client] },
        note: "",
    },
];
