//! The whole table against the pure machines, and against machines that are careless.

use std::sync::Arc;

use bz_core::id::BootId;
use bz_core::key::Signature;
use tokio::task::JoinSet;

use super::{
    AgentUnderTest, Asking, ClientUnderTest, Ends, How, Machines, Outcome, Parts, Rule, Scenario, Sort, Step, Told,
    Weakness, Which, Wire, at_once, play, scenarios,
};
use crate::carrier::{Boxed, Carrier, MemoryCarrier};
use crate::control::{AgentHello, LINK_VERSIONS};
use crate::gate::LocalRule;
use crate::keys::Direction;
use crate::link::Ways;

/// Seeds of a run: a few in the default size, many with `BZ_TEST=full`.
#[expect(clippy::disallowed_methods, reason = "a test reads how large it is to be")]
fn seeds() -> std::ops::Range<u64> {
    if std::env::var("BZ_TEST").is_ok_and(|size| size == "full") { 0..50 } else { 0..8 }
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

/// Who meets silence in the place of a refusal is told so: an attempt, a replay, and a client that keeps no rule.
#[test]
fn a_silent_host_is_seen() {
    let check = |id: &str, what: &str| {
        let scenario = scenarios().find(|scenario| scenario.id == id).unwrap();
        let outcome = run(scenario, 0, Weakness::Silent).unwrap();
        let said = outcome.unexpected.unwrap_or_default();
        assert!(said.contains(what) && said.contains("came to be nothing"), "{id}: {said:?} says nothing of {what:?}");
    };
    for id in ["I1", "I2", "I4", "I5", "I8", "H2-other", "stolen", "provider", "W13"] {
        check(id, "the server heard nothing");
    }
    for id in ["H2", "replay", "T9", "R5"] {
        check(id, "a replay: the server heard nothing");
    }
    for id in ["rogue-tags", "rogue-resume", "rogue-unsigned", "rogue-checkpoint", "T8"] {
        check(id, "the client heard an answer");
    }
}

/// A scenario whose rule never fires, or changes nothing, and one that has nothing to say again show nothing.
#[test]
fn what_did_not_happen_is_no_success() {
    const NEVER: &[Step] = &[Step::Rules(&[rule(Sort::Resume, How::Drop)]), Step::Session];
    const REPLACED: &[Step] = &[Step::Rules(&[rule(Sort::Resume, How::Drop)]), Step::Rules(&[]), Step::Session];
    const SAME: &[Step] = &[Step::Rules(&[rule(Sort::Data, How::OfEarlier)]), Step::Session];
    const LATE: &[Step] = &[Step::Rules(&[rule(Sort::Data, How::Again(500))]), Step::Session];
    const NOTHING: &[Step] = &[Step::ReplayAll];
    const FIRES: &[Step] = &[Step::Rules(&[rule(Sort::Syn, How::Cut)]), Step::Session];
    for (name, steps) in
        [("never", NEVER), ("replaced", REPLACED), ("same", SAME), ("late", LATE), ("nothing to say", NOTHING)]
    {
        let scenario = Scenario::new((name, name), "does nothing", steps);
        let outcome = run(&scenario, 0, Weakness::None).unwrap();
        let said = outcome.unexpected.as_deref().unwrap_or_default();
        assert!(said.starts_with("did not happen: "), "{name}: {outcome:?}");
    }
    let honest = Scenario::new(("fires", "fires"), "cuts", FIRES);
    assert!(run(&honest, 0, Weakness::None).unwrap().is_good(), "a rule that fired is told as one that did not");
}

const fn rule(sort: Sort, how: How) -> Rule {
    Rule { to: Direction::ToAgent, sort, which: Which::At(0), how }
}

/// An agent on a real link that takes every stream and never says a word: an attempt on it is no refusal.
#[tokio::test(start_paused = true)]
async fn a_deaf_agent_is_seen() {
    let attempt = scenarios().find(|scenario| scenario.id == "R4").unwrap();
    let rogue = scenarios().find(|scenario| scenario.id == "rogue-tags").unwrap();
    for (scenario, what) in [(attempt, "came to be nothing"), (rogue, "did not happen: WrongTags")] {
        let (carrier, links) = MemoryCarrier::new();
        let mut wire = Wire::start(Deaf(carrier), links, 0).await.unwrap();
        let outcome = play(&mut wire, scenario, 0).await.unwrap();
        wire.stop().await;
        assert!(outcome.noticed.is_empty(), "{outcome:?}");
        assert!(outcome.unexpected.as_ref().is_some_and(|said| said.contains(what)), "{outcome:?}");
    }
}

struct Deaf(MemoryCarrier);

impl Ends for Deaf {
    fn carrier(&self) -> &'static str {
        "memory"
    }

    fn agent<'a>(&'a self, parts: &'a Parts) -> Boxed<'a, Result<Box<dyn AgentUnderTest>, String>> {
        Box::pin(async move {
            let of = &parts.organization;
            let hello = AgentHello {
                versions: LINK_VERSIONS.to_vec(),
                target: of.target,
                boot: BootId::from_bytes([1; 16]),
                version: String::new(),
                routes: vec![],
                proof: Signature::from_bytes([0; 64]),
            };
            let ways = Ways::race([Arc::new(self.0.clone()) as Arc<dyn Carrier>]);
            let hailed = ways.hail(of.id).await.map_err(|error| error.to_string())?;
            let linked = hailed.agent(hello, &of.agent_control).await.map_err(|error| error.to_string())?;
            let mut task = JoinSet::new();
            task.spawn(async move {
                let (mut held, _control) = (vec![], linked.control);
                while let Ok(stream) = linked.link.accept().await {
                    held.push(stream);
                }
            });
            Ok(Box::new(Listening(task)) as Box<dyn AgentUnderTest>)
        })
    }

    fn client<'a>(&'a self, _: &'a Parts, _: Asking) -> Boxed<'a, Result<Box<dyn ClientUnderTest>, Told>> {
        unreachable!("no person is asked for")
    }
}

/// Dropping it drops the link.
struct Listening(JoinSet<()>);

impl AgentUnderTest for Listening {
    fn local(&self, _: LocalRule) {}

    fn stop(self: Box<Self>) -> Boxed<'static, ()> {
        Box::pin(async move { drop(self.0) })
    }
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
