//! Transport: what somebody who carries the bytes can do to them, and to those who wait for them.

use std::time::Duration;

use crate::frame::Kind;
use crate::hostile::relay::{How, Sort, Which};
use crate::hostile::scenario::{OrderLie, Rogue, Scenario, Step};
use crate::hostile::table::{
    AGENT, CLIENT, COMPLETE, EITHER, ENDED, ENDED_OR_COMPLETE, NOBODY, REFUSED, REFUSED_OR_COMPLETE, REPLAYS_REFUSED,
    SESSIONS_COMPLETE, TO_AGENT, TO_CLIENT, each, rule, under,
};

const FIRST: Which = Which::At(0);

pub(super) const TABLE: &[Scenario] = &[
    Scenario::new(
        ("T1", "a link that was gone for eight hours"),
        "comes back",
        &[Step::Session, Step::Pass(Duration::from_secs(8 * 3600)), Step::Session],
    )
    .comes(COMPLETE, NOBODY),
    Scenario::new(
        ("T2", "a path that takes everything and gives nothing"),
        "swallows what comes after the first frames, both ways",
        &[
            Step::Rules(&[
                rule(TO_AGENT, Sort::Any, Which::From(3), How::Drop),
                rule(TO_CLIENT, Sort::Any, Which::From(1), How::Drop),
            ]),
            Step::Session,
        ],
    )
    .comes(ENDED, NOBODY)
    .note("silence is noticed after two missed keepalives: PR-LINK-3"),
    Scenario::new(
        ("T3", "a server that goes away in a session"),
        "cuts every carrier",
        &[Step::Open, Step::Lines(1), Step::Cut, Step::Lines(1), Step::Cut, Step::Lines(1), Step::Close],
    )
    .comes(COMPLETE, NOBODY)
    .note("jitter of who comes back: bz-agent/src/link.rs"),
    Scenario::new(
        ("T4", "a session before its agent is there"),
        "brings it while the agent is started anew",
        &[Step::Restart, Step::Session],
    )
    .comes(COMPLETE, NOBODY)
    .note("there is one message to open a session, so none can overtake another"),
    Scenario::new(
        ("T5", "openings, ends and orders that come twice"),
        "doubles each",
        &[
            Step::Rules(&[rule(TO_AGENT, Sort::Syn, FIRST, How::Twice)]), Step::Session,
            Step::Rules(&[rule(TO_AGENT, Sort::Frame(Kind::Fin), FIRST, How::Twice)]), Step::Session,
            Step::Comes(ENDED, AGENT), Step::Rules(&[]), Step::Open, Step::Lines(1), Step::Order(OrderLie::Close), Step::Order(OrderLie::Close),
            Step::Pass(Duration::from_secs(1)), Step::Close,
        ],
    )
    .comes(ENDED_OR_COMPLETE, AGENT)
    .note("a second opening and a second end end the session, unless the agent is still judging the first, or done; an order always does, obeyed once: PR-LINK-2"),
    Scenario::new(
        ("T6", "answers that refuse"),
        "refuses each session once, in the agent's name",
        under! {
            TO_CLIENT Sort::SynAck, FIRST => How::Refuse(crate::refusal::Code::Unavailable);
            TO_CLIENT Sort::SynAck, FIRST => How::Refuse(crate::refusal::Code::Identity);
            TO_CLIENT Sort::SynAck, FIRST => How::Refuse(crate::refusal::Code::Revoked);
        },
    )
    .comes(REFUSED, NOBODY)
    .note("status codes of HTTP are no part of a session; REST's: bz-client/tests/it/refusals.rs"),
    Scenario::new(
        ("T7", "a delay of everything that one end says"),
        "lets frames wait for the next",
        under! { TO_CLIENT Sort::Control, Which::From(0) => How::Drop },
    )
    .comes(COMPLETE, NOBODY)
    .note("a stream that nobody reads holds up no other: PR-STREAM-5"),
    Scenario::new(("T8", "a peer that takes no notice of credit"), "has a client send more than it may", &[Step::Rogue(Rogue::TooMuch)])
        .comes(ENDED, AGENT)
        .note("memory for a peer that never reads: PR-FLOW-3"),
    Scenario::new(
        ("T9", "carriers of a session that nobody knows"),
        "says everything of a session again after a restart",
        &[SESSIONS_COMPLETE, Step::Session, Step::Restart, REPLAYS_REFUSED, Step::ReplayAll],
    )
    .comes(REFUSED_OR_COMPLETE, AGENT),
    Scenario::new(
        ("T10", "an agent that is killed in a session"),
        "brings the client to its next start",
        &[Step::Open, Step::Lines(1), Step::Restart, Step::Lines(1), Step::Close],
    )
    .comes(ENDED_OR_COMPLETE, EITHER),
    Scenario::new(
        ("T11", "frames that are none"),
        "sends empty, unknown, too long and hollow frames to both ends",
        each! {
            ENDED AGENT: TO_AGENT Sort::Data, Which::Below(4) => How::Bytes(&[]); ENDED AGENT: TO_AGENT Sort::Data, Which::Below(4) => How::Bytes(&[99]);
            ENDED_OR_COMPLETE AGENT: TO_AGENT Sort::Data, Which::Below(4) => How::Zeros(200_000); ENDED AGENT: TO_AGENT Sort::Data, Which::Below(4) => How::Bytes(&[3]);
            ENDED CLIENT: TO_CLIENT Sort::Data, Which::Below(4) => How::Bytes(&[]); ENDED CLIENT: TO_CLIENT Sort::Data, Which::Below(4) => How::Bytes(&[99]);
            ENDED_OR_COMPLETE CLIENT: TO_CLIENT Sort::Data, Which::Below(4) => How::Zeros(200_000); ENDED CLIENT: TO_CLIENT Sort::Data, Which::Below(4) => How::Bytes(&[4]);
            COMPLETE NOBODY: TO_AGENT Sort::Syn, FIRST => How::Bytes(&[1]); COMPLETE NOBODY: TO_AGENT Sort::Syn, FIRST => How::Zeros(70_000);
        },
    )
    .comes(ENDED_OR_COMPLETE, EITHER)
    .note("a packet too long for any carrier ends the carrier, and the session goes on over the next; where no opening could be read, the client comes again"),
];
