//! Registration and life of an agent. Most of it is between agent and REST, where this server has nothing to forward:
//! each scenario is the nearest thing that it can try on a session, and its note names what shows the rest.

use crate::hostile::case::Forgery;
use crate::hostile::scenario::{Scenario, Step};
use crate::hostile::table::{
    AGENT, COMPLETE, NOBODY, REFUSED, REFUSED_OR_COMPLETE, REPLAYS_REFUSED, SESSIONS_COMPLETE,
};
use bz_core::id::OrganizationId;

const OTHER_AGENTS: &[Forgery] = &[
    Forgery {
        name: "an agent of the server's own in this one's place",
        change: |c| {
            c.agent_key = c.thief.public();
            c.grant.agent_key = c.thief.public();
        },
    },
    Forgery { name: "a grant that another agent should use", change: |c| c.grant.agent_key = c.thief.public() },
];

const OTHER_PINS: &[Forgery] = &[
    Forgery { name: "a root that the server names", change: |c| c.root = c.thief.clone() },
    Forgery { name: "an issuer that the server names", change: |c| c.both(|t| t.set("iss", "https://server.example")) },
    Forgery {
        name: "an organization that the server names",
        change: |c| c.organization = OrganizationId::from_bytes([8; 16]),
    },
];

pub(super) const TABLE: &[Scenario] = &[
    Scenario::new(
        ("R1", "a registration used again"),
        "opens on an agent that it registered by itself in this one's place",
        &[Step::Own(OTHER_AGENTS)],
    )
    .comes(REFUSED, AGENT)
    .note("registration keys, their reuse and end: bz-server/tests/it/registration_keys.rs; a registration that fails: bz-agent/tests/it/program.rs"),
    Scenario::new(("R2", "an agent killed at any moment"), "forwards across starts", &[Step::Session, Step::Restart, Step::Session])
        .comes(COMPLETE, NOBODY)
        .note("no server writes the key file; its mode and its writing: bz-agent/tests/it/vault.rs"),
    Scenario::new(("R3", "pins that the server would like to choose"), "opens under a root, an issuer, an organization of its own", &[Step::Own(OTHER_PINS)])
        .comes(REFUSED, AGENT)
        .note("pins come from the administrator's bundle; taking them from a server is said loudly: bz-agent/tests/it/program.rs"),
    Scenario::new(("R4", "a second agent under the same name"), "brings it this one's openings", &[Step::Own(OTHER_AGENTS)])
        .comes(REFUSED, AGENT),
    Scenario::new(
        ("R5", "an agent started anew between sessions"),
        "keeps what it saw of the start before",
        &[SESSIONS_COMPLETE, Step::Session, Step::Restart, REPLAYS_REFUSED, Step::ReplayAll, SESSIONS_COMPLETE, Step::Session],
    )
    .comes(REFUSED_OR_COMPLETE, AGENT)
    .note("shells across starts: bz-agent/tests/it/program.rs"),
    Scenario::new(("R6", "tokens and keys in logs"), "forwards", &[Step::Session])
        .comes(COMPLETE, NOBODY)
        .note("no server writes the agent's log; examples/tests/it/hostile.rs looks for tokens and keys in what every scenario had logged"),
];
