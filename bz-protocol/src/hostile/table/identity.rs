//! Identity: what somebody who makes or steals tokens can try.

use std::time::Duration;

use crate::hostile::case::Forgery;
use crate::hostile::scenario::{Keys, OrderLie, Scenario, Step};
use crate::hostile::table::{AGENT, COMPLETE, ENDED, NO_SUCCESS, NOBODY, REFUSED};
use crate::hostile::token::Signing;

pub(super) const WRONG_TOKENS: &[Forgery] = &[
    Forgery { name: "another issuer", change: |c| c.both(|t| t.set("iss", "https://evil.example")) },
    Forgery { name: "another audience", change: |c| c.both(|t| t.set("aud", "console")) },
    Forgery { name: "one audience more", change: |c| c.both(|t| t.set("aud", vec!["bz-cli", "console"])) },
    Forgery { name: "another authorized party", change: |c| c.both(|t| t.set("azp", "console")) },
    Forgery { name: "alg none", change: |c| c.both(|t| t.signing = Signing::None) },
    Forgery { name: "HS256 with the public key", change: |c| c.both(|t| t.signing = Signing::PublicKeyAsSecret) },
    Forgery { name: "a key that nobody published", change: |c| c.both(|t| t.signing = Signing::UnknownKey) },
    Forgery { name: "an altered signature", change: |c| c.both(|t| t.signing = Signing::Flipped) },
];

const WRONG_BINDING: &[Forgery] = &[
    Forgery { name: "no nonce", change: |c| c.both(|t| t.unset("nonce")) },
    Forgery { name: "another nonce", change: |c| c.both(|t| t.set("nonce", "x")) },
    Forgery { name: "another key", change: |c| c.by_thief() },
    Forgery { name: "another random", change: |c| c.random = [8; 32] },
    Forgery { name: "an altered proof", change: |c| c.spoil = Some(|b| flip(b, 1)) },
    Forgery {
        name: "another version's label",
        change: |c| {
            c.spoil = Some(|b| {
                if let Some(x) = b.get_mut(10) {
                    *x ^= 1;
                }
            });
        },
    },
];

const WRONG_NEWER: &[Forgery] = &[
    Forgery { name: "a newer token of another person", change: |c| c.current.set("sub", "bob") },
    Forgery { name: "a newer token of another issuer", change: |c| c.current.set("iss", "https://evil.example") },
    Forgery { name: "a newer token, altered", change: |c| c.current.signing = Signing::Flipped },
    Forgery { name: "a newer token for another audience", change: |c| c.current.set("aud", "console") },
    Forgery {
        name: "a token from before the login",
        change: |c| {
            let before = c.initial.claims.get("iat").and_then(serde_json::Value::as_u64).unwrap_or_default();
            c.current.set("iat", before.saturating_sub(7200));
        },
    },
];

const WRONG_TIMES: &[Forgery] = &[
    Forgery { name: "a login of 25 hours ago", change: |c| c.initial.set("iat", ago(c.now, 25 * 3600)) },
    Forgery { name: "a login of 24 hours and a minute ago", change: |c| c.initial.set("iat", ago(c.now, 86_461)) },
    Forgery {
        name: "a token of a time to come",
        change: |c| {
            let now = c.now;
            c.both(|t| t.set("iat", now.as_secs().saturating_add(120)));
        },
    },
    Forgery { name: "no iat", change: |c| c.both(|t| t.unset("iat")) },
    Forgery { name: "no exp", change: |c| c.both(|t| t.unset("exp")) },
    Forgery {
        name: "an end before its beginning",
        change: |c| {
            let end = ago(c.now, 7200);
            c.both(|t| t.set("exp", end));
        },
    },
];

const WRONG_ORGANIZATION: &[Forgery] = &[
    Forgery { name: "no organization", change: |c| c.both(|t| t.unset("org")) },
    Forgery { name: "an empty organization", change: |c| c.both(|t| t.set("org", "")) },
    Forgery { name: "another organization", change: |c| c.both(|t| t.set("org", "evil")) },
    Forgery { name: "a list of organizations", change: |c| c.both(|t| t.set("org", vec!["acme", "evil"])) },
    Forgery {
        name: "a consumer tenant",
        change: |c| {
            c.both(|t| t.set("iss", "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"));
        },
    },
];

const STRANGE_TOKENS: &[Forgery] = &[
    Forgery {
        name: "a token of 12 KiB of claims",
        change: |c| {
            c.both(|t| {
                t.set("sub", "b");
                t.set("pad", "x".repeat(8000));
            });
        },
    },
    Forgery { name: "a token nested 4,000 deep", change: |c| c.both(|t| t.text = Some("[".repeat(4000).into_bytes())) },
    Forgery { name: "a token that is no JSON", change: |c| c.both(|t| t.text = Some(b"alice".to_vec())) },
    Forgery { name: "a token that is no UTF-8", change: |c| c.both(|t| t.text = Some(vec![b'{', 0xff, 0xfe, b'}'])) },
    Forgery {
        name: "a claim twice",
        change: |c| c.both(|t| t.text = Some(t.claims.to_string().replacen('{', "{\"sub\":\"root\",", 1).into_bytes())),
    },
];

const RECREATED: &[Forgery] =
    &[Forgery { name: "the same address under a new subject", change: |c| c.both(|t| t.set("sub", "alice-again")) }];

pub(super) const HONEST_NEWER: &[Forgery] = &[Forgery { name: "a newer token", change: |_| () }];

pub(super) const HOUR: Duration = Duration::from_secs(3700);

pub(super) const TABLE: &[Scenario] = &[
    Scenario::new(("I1", "tokens that are not the pinned provider's for this product"), "opens with each", &[Step::Own(WRONG_TOKENS)])
        .comes(REFUSED, AGENT)
        .note("one refetch at most for an unknown key: bz-agent/tests/it/issuer.rs"),
    Scenario::new(("I2", "certificates whose token is bound to something else"), "opens with each", &[Step::Own(WRONG_BINDING)])
        .comes(REFUSED, AGENT),
    Scenario::new(
        ("I3", "refreshed tokens of somebody else"),
        "opens with each, and puts each in the place of a refreshed token; the honest one moves the end",
        &[
            Step::Own(WRONG_NEWER),
            Step::Open, Step::Lines(1), Step::Pass(Duration::from_secs(1800)), Step::Newer(WRONG_NEWER), Step::Lines(1),
            Step::Pass(Duration::from_secs(1900)), Step::Close,
        ],
    )
    .comes(NO_SUCCESS, AGENT),
    Scenario::new(("I4", "tokens at the wrong time"), "opens with each", &[Step::Own(WRONG_TIMES)])
        .comes(REFUSED, AGENT)
        .note("to the second: bz-core/tests/it/cert.rs"),
    Scenario::new(("I5", "tokens of another organization, or of none"), "opens with each", &[Step::Own(WRONG_ORGANIZATION)])
        .comes(REFUSED, AGENT)
        .note("a bundle without an organization is refused where it is read: TRUST-1"),
    Scenario::new(
        ("I6", "the provider changes its keys in a session"),
        "forwards; the session goes on, and a new login opens one",
        &[
            Step::Open, Step::Lines(1), Step::Publish(Keys::Rotated), Step::Pass(Duration::from_secs(15)), Step::Lines(1),
            Step::Close, Step::Session,
        ],
    )
    .comes(COMPLETE, NOBODY),
    Scenario::new(
        ("I6-cold", "the provider's keys are withheld from an agent that has none"),
        "withholds them",
        &[Step::Publish(Keys::Withheld), Step::Session],
    )
    .comes(REFUSED, AGENT),
    Scenario::new(
        ("I7", "a person who was deactivated"),
        "lets the session of a person go on who gets no newer token; opens one for the same address under a new subject",
        &[Step::Open, Step::Lines(1), Step::Pass(HOUR), Step::Lines(1), Step::Close, Step::Own(RECREATED)],
    )
    .comes(NO_SUCCESS, AGENT),
    Scenario::new(
        ("I7-order", "an honest server closes the session of a person who was deactivated"),
        "orders the agent to close it",
        &[Step::Open, Step::Lines(1), Step::Order(OrderLie::Close), Step::Pass(Duration::from_secs(1)), Step::Close],
    )
    .comes(ENDED, AGENT),
    Scenario::new(("I8", "tokens that are hard to read"), "opens with each", &[Step::Own(STRANGE_TOKENS)]).comes(REFUSED, AGENT),
];

fn flip(bytes: &mut [u8], from_end: usize) {
    let at = bytes.len().saturating_sub(from_end);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}

fn ago(now: bz_core::time::UnixTime, seconds: u64) -> u64 {
    now.as_secs().saturating_sub(seconds)
}
