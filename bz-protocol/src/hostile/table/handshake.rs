//! Handshake and chains: what somebody on the way can try.

use std::time::Duration;

use bz_core::access::Mode;
use bz_core::access::Verb;
use bz_core::access::request::Parameters;
use bz_core::digest::Digest;
use bz_core::grant::Purpose;
use bz_core::id::{BootId, OrganizationId, TargetId};
use bz_core::target::UserRule;

use crate::frame::Kind;
use crate::hostile::case::Forgery;
use crate::hostile::organization::connection;
use crate::hostile::relay::{How, Sort, Which};
use crate::hostile::scenario::{Local, Scenario, Step};
use crate::hostile::table::{
    AGENT, CLIENT, COMPLETE, EITHER, ENDED, ENDED_OR_COMPLETE, NOBODY, REFUSED, REFUSED_OR_COMPLETE, REPLAYS_REFUSED,
    SESSIONS_COMPLETE, TO_AGENT, TO_CLIENT, WHATEVER, each, rule, under,
};
use crate::refusal::Code;

/// Any of the first frames of a session.
const EARLY: Which = Which::Below(5);
const FIRST: Which = Which::At(0);
const TYPED: Sort = Sort::Frame(Kind::Bytes);

/// The grants of every wrong kind that the server's real key can sign.
pub(super) const WRONG_GRANTS: &[Forgery] = &[
    Forgery {
        name: "a grant past its time",
        change: |c| {
            c.grant.not_before = c.server.not_before;
            c.grant.not_after = c.now;
        },
    },
    Forgery {
        name: "a grant before its time",
        change: |c| {
            c.grant.not_before = c.now.after(Duration::from_secs(120));
        },
    },
    Forgery { name: "a grant for another action", change: |c| c.grant.verb = Verb::Tunnel },
    Forgery {
        name: "a grant for another route",
        change: |c| c.grant.verb = Verb::Handler { name: "other".to_owned() },
    },
    Forgery { name: "a grant for another target user", change: |c| c.grant.user = Some(UserRule::Username) },
    Forgery { name: "a grant for another target", change: |c| c.grant.target = TargetId::from_bytes([9; 16]) },
    Forgery { name: "a grant for another connection", change: |c| c.grant.connection = connection(99) },
    Forgery { name: "a grant for another agent", change: |c| c.grant.agent_key = c.thief.public() },
    Forgery { name: "a grant for another start of the agent", change: |c| c.grant.boot = BootId::from_bytes([9; 16]) },
    Forgery { name: "a grant for another client's key", change: |c| c.grant.client_key = c.thief.public() },
    Forgery { name: "a grant for another person", change: |c| c.grant.person.subject = "bob".to_owned() },
    Forgery {
        name: "a grant for another issuer's person",
        change: |c| c.grant.person.issuer = "https://evil.example".to_owned(),
    },
    Forgery { name: "a grant for another mode", change: |c| c.grant.mode = Mode::Sealed },
    Forgery { name: "a grant for another request", change: |c| c.grant.request = Digest::of(b"other") },
    Forgery {
        name: "a grant for another remote host",
        change: |c| c.grant.scope = bz_core::grant::Scope::Destinations(vec![]),
    },
    Forgery { name: "a grant by another key", change: |c| c.signer = c.thief.clone() },
    Forgery { name: "a grant under a root of the server's own", change: |c| c.root = c.thief.clone() },
    Forgery { name: "a grant by a key for orders", change: |c| c.server.purpose = Purpose::Control },
    Forgery { name: "a grant by a key for records", change: |c| c.server.purpose = Purpose::Record },
    Forgery { name: "a grant by a key of yesterday", change: |c| c.server.not_after = c.now },
    Forgery {
        name: "another organization's grant",
        change: |c| c.grant_organization = OrganizationId::from_bytes([9; 16]),
    },
];

/// The same for what only a client of the server's own would send.
const WRONG_OPENINGS: &[Forgery] = &[
    Forgery { name: "no grant", change: |c| c.grant_bytes = Some(vec![]) },
    Forgery { name: "a grant that is none", change: |c| c.grant_bytes = Some(vec![1; 300]) },
    Forgery {
        name: "another route than granted",
        change: |c| c.request.parameters = Parameters::Handler { route: "other".to_owned() },
    },
    Forgery {
        name: "a command where a route was granted",
        change: |c| {
            c.request.user = "root".parse().ok();
            c.request.parameters = Parameters::Exec { command: "id".to_owned() };
        },
    },
    Forgery { name: "another target than granted", change: |c| c.request.target = TargetId::from_bytes([9; 16]) },
    Forgery {
        name: "a target of another agent, granted",
        change: |c| {
            c.request.target = TargetId::from_bytes([9; 16]);
            c.grant_what_is_asked();
        },
    },
    Forgery { name: "another connection than granted", change: |c| c.connection = connection(98) },
    Forgery { name: "an opening for another agent", change: |c| c.agent_key = c.thief.public() },
    Forgery {
        name: "an opening for another organization",
        change: |c| c.organization = OrganizationId::from_bytes([9; 16]),
    },
];

const REPLAYS: &[Step] = &[
    Step::Open,
    Step::Lines(1),
    REPLAYS_REFUSED,
    Step::ReplayOpening { elsewhere: false },
    Step::ReplayOpening { elsewhere: true },
    Step::Lines(1),
    SESSIONS_COMPLETE,
    Step::Close,
    REPLAYS_REFUSED,
    Step::ReplayOpening { elsewhere: false },
    Step::ReplayOpening { elsewhere: true },
    Step::ReplayAll,
    Step::Restart,
    Step::ReplayOpening { elsewhere: false },
    Step::ReplayAll,
];

pub(super) const LOCAL: &[Step] = &[
    Step::Local(Local::AllowsAnother),
    Step::Session,
    Step::Local(Local::SealedOnly),
    Step::Session,
    Step::Local(Local::Recorded),
    Step::Session,
    Step::Local(Local::SecondFactor),
    Step::Session,
    Step::Local(Local::Unusable),
    Step::Session,
];

pub(super) const TABLE: &[Scenario] = &[
    Scenario::new(
        ("H1", "messages altered or cut short, at each position"),
        "alters a bit of, or cuts, each kind of message",
        each! {
            REFUSED_OR_COMPLETE AGENT: TO_AGENT Sort::Syn, FIRST => How::Flip;
            COMPLETE NOBODY: TO_AGENT Sort::Syn, FIRST => How::Truncate;
            ENDED CLIENT: TO_CLIENT Sort::SynAck, FIRST => How::Flip; ENDED CLIENT: TO_CLIENT Sort::SynAck, FIRST => How::Truncate;
            ENDED AGENT: TO_AGENT Sort::Data, EARLY => How::Flip; ENDED AGENT: TO_AGENT Sort::Data, EARLY => How::Truncate;
            ENDED CLIENT: TO_CLIENT Sort::Data, EARLY => How::Flip; ENDED CLIENT: TO_CLIENT Sort::Data, EARLY => How::Truncate;
            ENDED_OR_COMPLETE AGENT: TO_AGENT Sort::Control, FIRST => How::Flip; ENDED_OR_COMPLETE CLIENT: TO_CLIENT Sort::Control, FIRST => How::Flip;
        },
    )
    .comes(WHATEVER, EITHER)
    .note("complete where no opening could be read, so that the client came again with its own, and where an acknowledgement came after everything was done; refused or ended otherwise; every bit of every packet: bz-protocol/tests/it/hostile.rs"),
    Scenario::new(
        ("H1-unsigned", "messages of the server's own making"),
        "types a line of its own before a person's, and shows one of its own",
        under! { TO_AGENT TYPED, Which::Below(3) => How::Invent("rm -rf /"); TO_CLIENT TYPED, Which::Below(3) => How::Invent("did it") },
    )
    .comes(ENDED, EITHER),
    Scenario::new(("H2", "openings that were seen before"), "says them again: beside, after, elsewhere, after a restart", REPLAYS)
        .comes(REFUSED_OR_COMPLETE, AGENT),
    Scenario::new(
        ("H2-other", "openings for another target"),
        "opens with what names another agent, target, connection or organization",
        &[Step::Own(WRONG_OPENINGS)],
    )
    .comes(REFUSED, AGENT),
    Scenario::new(
        ("H3", "frames replayed, moved, withheld, doubled, or of another session"),
        "does each, one session after the other",
        under! {
            TO_AGENT TYPED, Which::Below(3) => How::Twice; TO_AGENT TYPED, Which::Below(2) => How::Later;
            TO_AGENT TYPED, Which::Below(2) => How::Drop; TO_AGENT TYPED, FIRST => How::Again(1);
            TO_AGENT TYPED, FIRST => How::OfEarlier; TO_AGENT TYPED, Which::Below(3) => How::Mirror;
        },
    )
    .comes(ENDED, AGENT),
    Scenario::new(
        ("H4", "carriers cut, at each position"),
        "loses data, acknowledgements, or both, with the carrier",
        under! {
            TO_AGENT Sort::Data, Which::Below(6) => How::Cut; TO_CLIENT Sort::Data, Which::Below(6) => How::Cut;
            TO_AGENT Sort::Data, Which::Below(6) => How::PassAndCut; TO_CLIENT Sort::Data, Which::Below(6) => How::PassAndCut;
            TO_AGENT Sort::Control, FIRST => How::Cut; TO_CLIENT Sort::Control, FIRST => How::Cut;
            TO_CLIENT Sort::SynAck, FIRST => How::Cut; TO_AGENT Sort::Syn, FIRST => How::PassAndCut;
        },
    )
    .comes(COMPLETE, NOBODY),
    Scenario::new(
        ("H5", "errors and output of the server's making"),
        "refuses in the agent's name, shows output of an earlier session, and of its own",
        &[
            SESSIONS_COMPLETE,
            Step::Session,
            Step::Comes(ENDED, CLIENT),
            Step::Rules(&[rule(TO_CLIENT, TYPED, Which::Below(3), How::OfEarlier)]),
            Step::Session,
            Step::Rules(&[rule(TO_CLIENT, TYPED, Which::Below(3), How::Refuse(Code::Expired))]),
            Step::Session,
            Step::Rules(&[rule(TO_CLIENT, TYPED, Which::Below(3), How::Mirror)]),
            Step::Session,
            Step::Rules(&[rule(TO_CLIENT, TYPED, Which::Below(3), How::Invent("did everything"))]),
            Step::Session,
        ],
    )
    .comes(ENDED_OR_COMPLETE, CLIENT),
    Scenario::new(
        ("H5-cut", "a session without its end"),
        "withholds the agent's signed end, and every carrier after it",
        &[
            Step::Rules(&[
                rule(TO_CLIENT, Sort::Frame(Kind::Fin), Which::From(0), How::Cut),
                rule(TO_CLIENT, Sort::ResumeAck, Which::From(0), How::Cut),
            ]),
            Step::Session,
        ],
    )
    .comes(ENDED, NOBODY),
    Scenario::new(
        ("H5-before", "a refusal before there are keys"),
        "refuses in the agent's name",
        under! { TO_CLIENT Sort::SynAck, FIRST => How::Refuse(Code::LocalPolicy) },
    )
    .comes(REFUSED, NOBODY)
    .note("nothing was done, and the person is told that nothing proves it"),
    Scenario::new(
        ("H6", "another key for the agent"),
        "answers under a key of its own",
        under! { TO_CLIENT Sort::SynAck, FIRST => How::OtherAgent },
    )
    .comes(ENDED, CLIENT)
    .note("another key under a known name, and `bz target trust`: examples/tests/it/liar.rs"),
    Scenario::new(
        ("H7", "a login on a link turned into a signature over a session"),
        "logs the agent in with a challenge of its choosing, and answers in its name",
        under! { TO_CLIENT Sort::SynAck, FIRST => How::OtherAgent },
    )
    .comes(ENDED, CLIENT)
    .note("there is no such signature: another key signs logins, and its label begins no other (PR-LABEL-1, PR-LINK-1)"),
    Scenario::new(
        ("H8", "an older version"),
        "takes the newest version out of the client's list",
        under! { TO_AGENT Sort::Syn, FIRST => How::Downgrade },
    )
    .comes(REFUSED, AGENT)
    .note("unknown extensions: PR-OBJ-2"),
    Scenario::new(
        ("H9", "somebody else at a person's session"),
        "opens the session of another person on this person's grant, and this person's on another key",
        &[Step::Open, Step::Lines(1), REPLAYS_REFUSED, Step::Own(OTHERS), SESSIONS_COMPLETE, Step::Lines(1), Step::Close],
    )
    .comes(REFUSED_OR_COMPLETE, AGENT)
    .note("a route has nothing to attach to; shells: bz-agent/tests/it/shells.rs"),
    Scenario::new(
        ("H10", "grants of every wrong kind, by the real key"),
        "hands each to a person's client that asks no question of its own",
        &[Step::Given(WRONG_GRANTS)],
    )
    .comes(REFUSED, AGENT),
    Scenario::new(("H11", "a host that allows less than the grant"), "grants it all the same", LOCAL).comes(REFUSED, AGENT),
];

const OTHERS: &[Forgery] = &[
    Forgery { name: "another person's token on this person's grant", change: |c| c.both(|t| t.set("sub", "bob")) },
    Forgery { name: "this person's token under another key", change: |c| c.by_thief() },
];
