//! What else a stolen server can do, and a client that keeps no rule.

use std::time::Duration;

use bz_core::access::request::Parameters;
use bz_core::access::{Mode, Verb};
use bz_core::ssh::SshKey;

use crate::frame::Kind;
use crate::hostile::case::Forgery;
use crate::hostile::relay::{How, Sort, Which};
use crate::hostile::scenario::{Keys, Local, OrderLie, Rogue, Scenario, Step};
use crate::hostile::table::{
    AGENT, COMPLETE, EITHER, ENDED, ENDED_OR_COMPLETE, NOBODY, REFUSED, REFUSED_OR_COMPLETE, REPLAYS_REFUSED,
    SESSIONS_COMPLETE, TO_AGENT, TO_CLIENT, rule, under,
};

const TYPED: Sort = Sort::Frame(Kind::Bytes);

const WHOLE_SERVER: &[Forgery] = &[
    Forgery {
        name: "the person's certificate under a key of the server's own",
        change: |c| {
            c.by_thief();
        },
    },
    Forgery {
        name: "the person's newest token, kept",
        change: |c| {
            c.by_thief();
            c.random = [9; 32];
        },
    },
    Forgery {
        name: "a token of the server's own making",
        change: |c| {
            c.by_thief();
            c.bind();
            c.both(|t| t.signing = crate::hostile::token::Signing::UnknownKey);
        },
    },
];

const OWN_LOGIN: &[Forgery] = &[
    Forgery {
        name: "a login that the server began, for its console",
        change: |c| {
            c.by_thief();
            c.bind();
            c.both(|t| t.set("aud", "bz-console"));
        },
    },
    Forgery {
        name: "the same, for both",
        change: |c| {
            c.by_thief();
            c.bind();
            c.both(|t| t.set("aud", vec!["bz-console", "bz-cli"]));
        },
    },
];

const PROVIDER_ALONE: &[Forgery] = &[
    Forgery {
        name: "a real token bound to the provider's own key, and no grant",
        change: |c| {
            c.by_thief();
            c.bind();
            c.grant_bytes = Some(vec![]);
        },
    },
    Forgery {
        name: "the same, and a grant of its own making",
        change: |c| {
            c.by_thief();
            c.bind();
            c.signer = c.thief.clone();
        },
    },
    Forgery {
        name: "the same, and the grant that a person was given",
        change: |c| {
            let was = c.grant.client_key;
            c.by_thief();
            c.bind();
            c.grant.client_key = was;
        },
    },
];

const OWN_CLOCK: &[Forgery] = &[
    Forgery {
        name: "a grant of a server whose clock is an hour ahead",
        change: |c| {
            c.grant.not_before = c.now.after(Duration::from_secs(3600));
            c.grant.not_after = c.now.after(Duration::from_secs(3900));
        },
    },
    Forgery {
        name: "a grant of a server whose clock stands still",
        change: |c| {
            c.grant.not_before = c.server.not_before;
            c.grant.not_after = c.server.not_before.after(Duration::from_secs(300));
        },
    },
    Forgery {
        name: "a grant good for a year, used after the opening window",
        change: |c| {
            c.grant.not_before = c.server.not_before;
            c.grant.not_after = c.now.after(Duration::from_secs(365 * 24 * 3600));
        },
    },
];

const SSH: &[Forgery] = &[
    Forgery {
        name: "the host's own sshd where a route was granted",
        change: |c| {
            c.request.user = "alice".parse().ok();
            c.request.parameters = Parameters::Ssh { key: ssh_key() };
        },
    },
    Forgery {
        name: "the host's own sshd, granted to a key of the server's own",
        change: |c| {
            c.by_thief();
            c.request.user = "alice".parse().ok();
            c.request.parameters = Parameters::Ssh { key: ssh_key() };
            c.grant_what_is_asked();
        },
    },
];

const OTHER_HONEST: &[Forgery] = &[
    Forgery { name: "another honest agent's key in the grant", change: |c| c.grant.agent_key = c.thief.public() },
    Forgery {
        name: "another honest agent's target in the grant",
        change: |c| c.grant.target = bz_core::id::TargetId::from_bytes([7; 16]),
    },
    Forgery { name: "another verb", change: |c| c.grant.verb = Verb::Shell },
];

const READ_ALONG: &[Forgery] = &[
    Forgery {
        name: "a grant for an inspected session where a sealed one was asked for",
        change: |c| {
            c.request.mode = Mode::Sealed;
            c.grant.mode = Mode::Inspected;
        },
    },
    Forgery {
        name: "a grant for a sealed session of another request",
        change: |c| {
            c.request.mode = Mode::Sealed;
            c.grant.mode = Mode::Sealed;
        },
    },
];

const COLLUDING: &[Forgery] =
    &[Forgery { name: "a grant without the second factor, for a live login", change: |_| () }];

pub(super) const TABLE: &[Scenario] = &[
    Scenario::new(("stolen", "the whole server, and every token that it was ever sent"), "opens sessions by itself, with its own real grant", &[Step::Own(WHOLE_SERVER)])
        .comes(REFUSED, AGENT),
    Scenario::new(("own-login", "a login of the server's own"), "uses what its own console was given", &[Step::Own(OWN_LOGIN)])
        .comes(REFUSED, AGENT),
    Scenario::new(("provider", "the provider alone"), "makes real tokens for a key of its own, and has no grant", &[Step::Own(PROVIDER_ALONE)])
        .comes(REFUSED, AGENT),
    Scenario::new(("server-and-login", "the server and one live login"), "grants what the host's owner does not allow", &[Step::Local(Local::SecondFactor), Step::Own(COLLUDING), Step::Local(Local::AllowsAnother), Step::Own(COLLUDING)])
        .comes(REFUSED, AGENT)
        .note("within the local policy it may act: that is what the policy is for"),
    Scenario::new(("drop", "a frame withheld"), "withholds one", under! { TO_AGENT TYPED, Which::Below(3) => How::Drop; TO_CLIENT TYPED, Which::Below(3) => How::Drop })
        .comes(ENDED, EITHER),
    Scenario::new(("delay", "everything stands still for an hour's part"), "lets time pass between lines", &[Step::Open, Step::Lines(1), Step::Pass(Duration::from_secs(600)), Step::Lines(1), Step::Pass(Duration::from_secs(600)), Step::Lines(1), Step::Close])
        .comes(COMPLETE, NOBODY),
    Scenario::new(("duplicate", "a frame twice"), "lets one pass twice", under! { TO_AGENT TYPED, Which::Below(3) => How::Twice; TO_CLIENT TYPED, Which::Below(3) => How::Twice })
        .comes(ENDED, EITHER),
    Scenario::new(("reorder", "frames in another order"), "lets one wait for the next", under! { TO_AGENT TYPED, Which::Below(2) => How::Later; TO_CLIENT TYPED, Which::Below(2) => How::Later })
        .comes(ENDED, EITHER),
    Scenario::new(("truncate", "frames cut short"), "cuts one", under! { TO_AGENT TYPED, Which::Below(3) => How::Truncate; TO_CLIENT TYPED, Which::Below(3) => How::Truncate })
        .comes(ENDED, EITHER),
    Scenario::new(
        ("splice", "frames of one session in another"),
        "puts an earlier session's frames in the place of this one's",
        &[
            Step::Session,
            Step::Rules(&[rule(TO_AGENT, TYPED, Which::Below(3), How::OfEarlier)]), Step::Session,
            Step::Rules(&[]), Step::Session,
            Step::Rules(&[rule(TO_CLIENT, TYPED, Which::Below(3), How::OfEarlier)]), Step::Session,
        ],
    )
    .comes(ENDED_OR_COMPLETE, EITHER),
    Scenario::new(("replay", "a session said again"), "says all of it again, to the agent's next start too", &[SESSIONS_COMPLETE, Step::Session, REPLAYS_REFUSED, Step::ReplayAll, Step::Restart, Step::ReplayAll])
        .comes(REFUSED_OR_COMPLETE, AGENT),
    Scenario::new(
        ("reauth-withheld", "a newer token withheld"),
        "withholds it",
        &[
            Step::Rules(&[rule(TO_AGENT, Sort::Frame(Kind::Reauthenticate), Which::From(0), How::Drop)]),
            Step::Open, Step::Lines(1), Step::Newer(&[Forgery { name: "newer", change: |_| () }]), Step::Lines(1), Step::Close,
        ],
    )
    .comes(ENDED_OR_COMPLETE, EITHER)
    .note("a frame withheld is a gap; a session without a newer token ends with its login: E1"),
    Scenario::new(
        ("reauth-forged", "a newer token altered on its way"),
        "alters it",
        &[
            Step::Rules(&[rule(TO_AGENT, Sort::Frame(Kind::Reauthenticate), Which::At(0), How::Flip)]),
            Step::Open, Step::Lines(1), Step::Newer(&[Forgery { name: "newer", change: |_| () }]), Step::Lines(1), Step::Close,
        ],
    )
    .comes(ENDED, EITHER),
    Scenario::new(("suppress-recording", "a recording suppressed"), "grants without recording where the host wants it", &[Step::Local(Local::Recorded), Step::Session])
        .comes(REFUSED, AGENT)
        .note("a server can withhold or delete its own records; receipts show it: bz-protocol/tests/it/receipt.rs"),
    Scenario::new(("own-clock", "a clock of the server's own"), "grants by it", &[Step::Pass(Duration::from_secs(1200)), Step::Given(OWN_CLOCK)])
        .comes(REFUSED, AGENT),
    Scenario::new(("issuer-withheld", "the issuer's keys withheld for longer than they are good"), "withholds them for two hours", &[Step::Session, Step::Publish(Keys::Withheld), Step::Restart, Step::Session])
        .comes(REFUSED_OR_COMPLETE, AGENT),
    Scenario::new(("ssh-certificate", "an SSH certificate"), "asks for one for a key of its own", &[Step::Own(SSH)])
        .comes(REFUSED, AGENT)
        .note("the server has no key that signs any: each host's agent has its own, and signs after both roots agreed"),
    Scenario::new(("other-agent", "another honest agent"), "names it in what it hands out", &[Step::Given(OTHER_HONEST)]).comes(REFUSED, AGENT),
    Scenario::new(("read-along", "a sealed session made readable"), "grants the other mode", &[Step::Given(READ_ALONG)]).comes(REFUSED, AGENT),
    Scenario::new(("sealed", "a sealed session, altered"), "alters frames that it cannot read", &[Step::Mode(Mode::Sealed), Step::Session, Step::Rules(&[rule(TO_AGENT, Sort::Data, Which::Below(5), How::Flip)]), Step::Session, Step::Rules(&[rule(TO_CLIENT, Sort::Data, Which::Below(5), How::Flip)]), Step::Session])
        .comes(ENDED_OR_COMPLETE, EITHER),
    Scenario::new(("tail", "a record's tail cut off"), "withholds the end of a session from its own record, and from the client", &[Step::Rules(&[rule(TO_CLIENT, Sort::Frame(Kind::Fin), Which::From(0), How::Cut), rule(TO_CLIENT, Sort::ResumeAck, Which::From(0), How::Cut)]), Step::Session])
        .comes(ENDED, NOBODY)
        .note("`bz verify` counts what no checkpoint covers, and receipts name the end: bz-protocol/tests/it/transcript.rs, receipt.rs"),
    Scenario::new(("downgrade", "an older version"), "takes the newest out of the list", under! { TO_AGENT Sort::Syn, Which::At(0) => How::Downgrade }).comes(REFUSED, AGENT),
    Scenario::new(("orders", "orders that nobody may give"), "orders under other keys, and for another start", &[Step::Open, Step::Lines(1), Step::Order(OrderLie::ByGrantKey), Step::Order(OrderLie::OtherStart), Step::Order(OrderLie::ByNobody), Step::Pass(Duration::from_secs(1)), Step::Lines(1), Step::Close])
        .comes(COMPLETE, NOBODY),
    Scenario::new(("resume-stolen", "a resumption of the server's own"), "answers a client that comes back in the agent's name", &[Step::Rules(&[rule(TO_CLIENT, Sort::ResumeAck, Which::At(0), How::Flip), rule(TO_AGENT, Sort::Resume, Which::At(1), How::Flip)]), Step::Open, Step::Lines(1), Step::Cut, Step::Lines(1), Step::Close])
        .comes(ENDED_OR_COMPLETE, NOBODY),
    Scenario::new(("rogue-tags", "a client whose tags are wrong"), "has it type a line", &[Step::Rogue(Rogue::WrongTags)]).comes(ENDED, AGENT),
    Scenario::new(("rogue-resume", "a client that says something else after a resumption"), "has it come back", &[Step::Rogue(Rogue::OtherBytes)]).comes(ENDED, AGENT),
    Scenario::new(("rogue-unsigned", "a client that signs nothing"), "has it send more than anybody takes unsigned", &[Step::Rogue(Rogue::NoCheckpoints)]).comes(ENDED, AGENT),
    Scenario::new(("rogue-checkpoint", "a client that signs something else than it sent"), "has it type on", &[Step::Rogue(Rogue::FalseCheckpoint)]).comes(ENDED, AGENT),
];

/// A key of the server's own, as OpenSSH writes it.
fn ssh_key() -> Vec<u8> {
    SshKey::from_seed(&[9; 32]).map(|key| key.public().blob().to_vec()).unwrap_or_default()
}
