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

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hostile-server.md");
const MODEL: &str = include_str!("../../../docs/security-model.md");

/// F-218~: the page about the hostile server lists every scenario as the table has it.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test keeps a page as the table is")]
fn the_page_lists_every_scenario() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once("<!-- scenarios -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let rows: String = scenarios().map(row).collect();
    let head = "| id | scenario | the server | comes to be | who notices | beside it |\n|---|---|---|---|---|---|\n";
    let wanted = format!("{before}<!-- scenarios -->\n{head}{rows}<!-- end -->{after}");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(PAGE, &wanted).unwrap();
    } else {
        assert!(page == wanted, "docs/hostile-server.md is not as the table is: UPDATE_EXPECT=1 makes it so");
    }
}

fn row(scenario: &Scenario) -> String {
    let Scenario { id, name, does, expect, note, .. } = scenario;
    let came: Vec<_> = expect.came.iter().map(|came| came.name()).collect();
    let who: Vec<_> = expect.who.iter().map(|who| who.name()).collect();
    let (anchor, came, who) = (id.to_lowercase(), came.join(" or "), who.join(" or "));
    format!("| <a id=\"{anchor}\"></a>`{id}` | {name} | {does} | {came} | {who} | {note} |\n")
}

/// F-218, F-049: the compromise table names scenarios for what each stolen part can and cannot do, and each of them is
/// one.
#[test]
fn the_security_model_names_scenarios() {
    let table: Vec<&str> = MODEL.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(table.len(), 6, "six parts can be stolen");
    for row in table {
        assert!(row.rsplit('|').nth(1).is_some_and(|cannot| cannot.contains("hostile-server.md#")), "{row}");
    }
    let links: Vec<&str> =
        MODEL.split("](hostile-server.md#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 30, "only {} links", links.len());
    for link in links {
        assert!(scenarios().any(|scenario| scenario.id.to_lowercase() == link), "{link} is no scenario");
    }
}
