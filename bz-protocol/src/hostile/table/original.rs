//! The weaknesses of the design that this one comes after: each is a scenario that it would not have passed.

use std::time::Duration;

use crate::frame::Kind;
use crate::hostile::case::Forgery;
use crate::hostile::relay::{How, Sort, Which};
use crate::hostile::scenario::{Keys, Local, Scenario, Step};
use crate::hostile::table::handshake::{LOCAL, WRONG_GRANTS};
use crate::hostile::table::identity::HOUR;
use crate::hostile::table::{
    AGENT, ANSWERED, CLIENT, COMPLETE, ENDED, ENDED_OR_ANSWERED, ENDED_OR_COMPLETE, NOBODY, REFUSED,
    REFUSED_OR_COMPLETE, REPLAYS_REFUSED, SESSIONS_COMPLETE, TO_AGENT, TO_CLIENT, rule, under,
};
use crate::refusal::Code;

const TYPED: Sort = Sort::Frame(Kind::Bytes);

const OTHER_APPLICATIONS: &[Forgery] = &[
    Forgery { name: "the person's token for another application", change: |c| c.both(|t| t.set("aud", "mail")) },
    Forgery { name: "a refreshed token of a colleague", change: |c| c.current.set("sub", "bob") },
];

const COLLEAGUE: &[Forgery] = &[Forgery {
    name: "a colleague's own login at this person's session",
    change: |c| {
        c.both(|t| t.set("sub", "bob"));
        c.by_thief();
        c.bind();
        c.grant.client_key = c.key.public();
    },
}];

const OWN_ROOT: &[Forgery] = &[
    Forgery { name: "a grant under the server's own root", change: |c| c.root = c.thief.clone() },
    Forgery {
        name: "a login at the server's own provider",
        change: |c| {
            c.by_thief();
            c.bind();
            c.both(|t| t.set("iss", "https://server.example"));
        },
    },
];

const NOBODYS_TENANT: &[Forgery] = &[
    Forgery { name: "no organization claim", change: |c| c.both(|t| t.unset("org")) },
    Forgery { name: "the organization \"None\"", change: |c| c.both(|t| t.set("org", "None")) },
    Forgery { name: "an empty organization", change: |c| c.both(|t| t.set("org", "")) },
];

pub(super) const TABLE: &[Scenario] = &[
    Scenario::new(("W1", "no authorization on the target"), "hands out grants of every wrong kind", &[Step::Given(WRONG_GRANTS)])
        .comes(REFUSED, AGENT),
    Scenario::new(("W2", "audience and refreshed subject unchecked"), "opens with tokens for other applications and of other people", &[Step::Own(OTHER_APPLICATIONS)])
        .comes(REFUSED, AGENT),
    Scenario::new(
        ("W3", "output unsigned"),
        "alters output, shows its own, and errors of its own",
        under! {
            TO_CLIENT TYPED, Which::Below(3) => How::Flip; TO_CLIENT TYPED, Which::Below(3) => How::Invent("all is well");
            TO_CLIENT TYPED, Which::Below(3) => How::Refuse(Code::Unavailable);
        },
    )
    .comes(ENDED, CLIENT),
    Scenario::new(("W4", "any key taken for the agent's"), "answers under a key of its own", under! { TO_CLIENT Sort::SynAck, Which::At(0) => How::OtherAgent })
        .comes(ENDED, CLIENT),
    Scenario::new(
        ("W5", "the agent signs what the server chooses"),
        "logs the agent in as often as it likes, and answers a client in its name",
        &[
            Step::Restart, Step::Restart,
            Step::Rules(&[rule(TO_CLIENT, Sort::SynAck, Which::At(0), How::OtherAgent)]), Step::Session,
        ],
    )
    .comes(ENDED, CLIENT)
    .note("logins are signed by another key, under a label that begins no other"),
    Scenario::new(
        ("W6", "an opening acts when it is replayed"),
        "brings openings whose confirmation it withholds, and the same again",
        &[
            Step::Comes(ENDED, AGENT), Step::Rules(&[rule(TO_AGENT, Sort::Data, Which::From(0), How::Drop)]), Step::Session,
            Step::Comes(ANSWERED, NOBODY), Step::ReplayOpening { elsewhere: false }, Step::ReplayOpening { elsewhere: true },
        ],
    )
    .comes(ENDED_OR_ANSWERED, AGENT)
    .note("an opening is answered until its grant is used, and nothing is done before the client's confirmation, which only its key makes"),
    Scenario::new(
        ("W7", "recovery does things twice"),
        "lets lines through, hides every acknowledgement, and cuts; then refuses in the agent's name",
        &[
            Step::Rules(&[
                rule(TO_CLIENT, Sort::Control, Which::From(0), How::Drop),
                rule(TO_CLIENT, TYPED, Which::At(1), How::Cut),
            ]),
            Step::Comes(COMPLETE, NOBODY),
            Step::Session,
            Step::Comes(ENDED, CLIENT),
            Step::Rules(&[rule(TO_CLIENT, TYPED, Which::At(1), How::Refuse(Code::Malformed))]),
            Step::Session,
        ],
    )
    .comes(ENDED_OR_COMPLETE, CLIENT),
    Scenario::new(("W8", "anybody of the organization takes a session over"), "opens a colleague's login on this person's grant", &[Step::Open, Step::Lines(1), REPLAYS_REFUSED, Step::Own(COLLEAGUE), SESSIONS_COMPLETE, Step::Lines(1), Step::Close])
        .comes(REFUSED_OR_COMPLETE, AGENT),
    Scenario::new(("W9", "host keys over an unsigned stream"), "alters the answer that holds them", under! { TO_CLIENT Sort::SynAck, Which::At(0) => How::Flip })
        .comes(ENDED, CLIENT)
        .note("they are facts in the signed answer: PR-SSHD-2"),
    Scenario::new(("W10", "expiry only looked at when something is typed"), "keeps a session open in which nobody types", &[Step::Open, Step::Lines(1), Step::Pass(HOUR), Step::Close])
        .comes(ENDED, AGENT),
    Scenario::new(
        ("W11", "a login that ends with its provider's key"),
        "forwards while the provider changes its keys",
        &[Step::Open, Step::Lines(1), Step::Publish(Keys::Rotated), Step::Pass(Duration::from_secs(15)), Step::Lines(1), Step::Close],
    )
    .comes(COMPLETE, NOBODY),
    Scenario::new(("W12", "an organization that means everybody"), "opens with tokens of no organization", &[Step::Own(NOBODYS_TENANT)]).comes(REFUSED, AGENT),
    Scenario::new(("W13", "pins that come from the server"), "opens under anchors of its own", &[Step::Own(OWN_ROOT)]).comes(REFUSED, AGENT),
    Scenario::new(("W14", "no evidence of a second factor"), "grants without one where the host wants it", &[Step::Local(Local::SecondFactor), Step::Session])
        .comes(REFUSED, AGENT),
    Scenario::new(
        ("W15", "nobody gets in while the provider's keys cannot be fetched"),
        "withholds them from an agent that has them",
        &[Step::Session, Step::Publish(Keys::Withheld), Step::Session],
    )
    .comes(COMPLETE, NOBODY),
    Scenario::new(("W-local", "policy only at the server"), "grants what the host's owner does not allow", LOCAL).comes(REFUSED, AGENT),
];
