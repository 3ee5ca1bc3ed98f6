//! The whole table against the pure machines, and against machines that are careless.

use super::{Machines, Outcome, Scenario, Weakness, at_once, play, scenarios};

/// Seeds of a run: a few in the default size, many with `BZ_TEST=full`.
#[expect(clippy::disallowed_methods, reason = "a test reads how large it is to be")]
fn seeds() -> std::ops::Range<u64> {
    if std::env::var("BZ_TEST").is_ok_and(|size| size == "full") { 0..50 } else { 0..2 }
}

fn run(scenario: &Scenario, seed: u64, weakness: Weakness) -> Result<Outcome, String> {
    let field = Machines::weakened(seed, weakness);
    field
        .and_then(|mut field| at_once(play(&mut field, scenario, seed)))
        .map_err(|e| format!("{}, seed {seed}: {e}", scenario.id))
}

/// Nothing that a hostile server does has an unsafe effect on the pure machines, and who should notice does.
#[test]
fn every_scenario_is_safe_and_as_expected_on_the_machines() {
    let mut bad = Vec::new();
    for scenario in scenarios() {
        for seed in seeds() {
            let outcome = match run(scenario, seed, Weakness::None) {
                Ok(outcome) => outcome,
                Err(error) => {
                    bad.push(error);
                    continue;
                }
            };
            if !outcome.is_good() {
                bad.push(format!(
                    "{} seed {seed}: {} {:?} {:?} noticed {:?}, came {:?}, saw {}",
                    scenario.id,
                    outcome.verdict(),
                    outcome.harm,
                    outcome.unexpected,
                    outcome.noticed,
                    outcome.came,
                    outcome.saw
                ));
            }
        }
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
}

/// A host that is careless is seen to be: the kit can fail.
#[test]
fn a_careless_host_is_seen() {
    let check = |weakness, ids: &[&str]| {
        for id in ids {
            let scenario = scenarios().find(|scenario| scenario.id == *id).unwrap();
            let seen = (0..8).any(|seed| run(scenario, seed, weakness).is_ok_and(|outcome| outcome.harm.is_some()));
            assert!(seen, "{weakness:?}: {id} comes out safe");
        }
    };
    check(Weakness::AsksNoRoot, &["I1", "H10", "stolen", "provider"]);
    check(Weakness::ActsOnFrames, &["H1-unsigned", "duplicate", "rogue-tags"]);
    check(Weakness::ActsOnOpening, &["H2", "W6"]);
}

/// Every case of the reference is here, by its own name, and no name twice.
#[test]
fn every_case_is_named_once() {
    let ids: Vec<_> = scenarios().map(|scenario| scenario.id).collect();
    let cases = [("I", 8), ("H", 11), ("E", 3), ("T", 11), ("R", 6), ("W", 15)];
    for (letter, count) in cases {
        for number in 1..=count {
            let id = format!("{letter}{number}");
            assert!(ids.contains(&id.as_str()), "{id} is missing");
        }
    }
    let once: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(once.len(), ids.len(), "a name stands twice");
}
