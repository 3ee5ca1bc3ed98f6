//! The hostile server against the real agent and the real client, and against the machines: bounded, and seeds printed.

use bz_examples::hostile::{Program, Way, play_all, play_over};
use bz_protocol::hostile::{Organization, START, scenarios};
use futures::StreamExt as _;

use crate::logged::Logged;

/// The seed of a run: another each day would hide what one has found.
const SEED: u64 = 1;

/// F-047~, F-049, F-062~, F-063~, F-064, F-080: nothing that a hostile server does has an unsafe effect, over either carrier;
/// who should notice does, and nobody is told of success where there is none. Nothing of it makes an error of the agent's
/// own, and no token and no key comes into a log (R6).
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_hostile_server_does_is_unsafe() {
    let logged = Logged::here();
    let (mut bad, mut count) = (Vec::new(), 0);
    let mut played = play_all(scenarios().collect(), SEED);
    while let Some(played) = played.next().await {
        count += 1;
        if !played.is_good() {
            bad.push(format!("{} over {}: {:?}", played.scenario.id, played.carrier, played.outcome));
        }
    }
    assert_eq!(count, 3 * scenarios().count());
    assert!(bad.is_empty(), "seed {SEED}; `cargo hostile --only ID --seed {SEED}` plays one:\n{}", bad.join("\n"));
    let log = logged.all();
    assert!(log.iter().any(|line| line.contains("refused")), "nothing was logged");
    let of = Organization::new(SEED, START).unwrap();
    let mut secrets: Vec<String> = vec!["eyJ".to_owned()];
    for key in [of.root, of.grant, of.control, of.agent, of.agent_control, of.person, of.thief] {
        let bytes = *key.to_bytes();
        secrets.extend([bytes.iter().map(|byte| format!("{byte:02x}")).collect(), format!("{bytes:?}")]);
    }
    let leaks: Vec<_> = log.iter().filter(|line| secrets.iter().any(|secret| line.contains(secret))).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
}

/// A target whose program does everything twice is seen, over either carrier: the kit can fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_careless_program_is_seen() {
    let honest = scenarios().find(|scenario| scenario.id == "honest").unwrap();
    for way in [Way::Ws, Way::Quic] {
        let outcome = play_over((way, Program::Careless), honest, SEED).await.unwrap();
        assert_eq!(outcome.verdict(), "UNSAFE", "{outcome:?}");
        assert!(
            outcome.harm.is_some_and(|harm| harm.contains("line 1\", \"session 1 line 1")),
            "it says what was done"
        );
    }
}
