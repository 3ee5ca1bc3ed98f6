//! Expiry.

use std::time::Duration;

use crate::hostile::scenario::{OrderLie, Scenario, Step};
use crate::hostile::table::identity::{HONEST_NEWER, HOUR};
use crate::hostile::table::{AGENT, COMPLETE, ENDED, NOBODY};

pub(super) const TABLE: &[Scenario] = &[
    Scenario::new(
        ("E1", "a session that only listens, past the end of its login"),
        "keeps it open",
        &[Step::Open, Step::Lines(1), Step::Pass(HOUR), Step::Close],
    )
    .comes(ENDED, AGENT),
    Scenario::new(
        ("E2", "a login refreshed in time"),
        "forwards",
        &[
            Step::Open,
            Step::Lines(1),
            Step::Pass(Duration::from_secs(2400)),
            Step::Newer(HONEST_NEWER),
            Step::Lines(1),
            Step::Pass(Duration::from_secs(2400)),
            Step::Lines(1),
            Step::Close,
        ],
    )
    .comes(COMPLETE, NOBODY),
    Scenario::new(
        ("E3", "a logout"),
        "closes the session in order",
        &[Step::Open, Step::Lines(1), Step::Order(OrderLie::Close), Step::Pass(Duration::from_secs(1)), Step::Close],
    )
    .comes(ENDED, AGENT)
    .note("shells that stay: bz-agent/tests/it/shells.rs"),
];
