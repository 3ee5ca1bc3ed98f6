//! How long decisions take in a large organization, and lists of many targets.
//!
//! `cargo bench -p bz-server --bench policies`: 1,000 policies, 1,000 people in 100 groups and 5,000 targets; then 10,000
//! targets in a store. Every decision selects its candidates, asks the rules, and reads their answer.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark stops where it goes wrong"
)]

#[path = "../tests/it/policy/generated.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod generated;

use std::time::{Duration, Instant};

use bz_core::digest::Digest;
use bz_core::id::{ApiKeyId, EnvironmentId, OrganizationId, TargetId};
use bz_core::key::PrivateKey;
use bz_core::label::Labels;
use bz_core::time::UnixTime;
use bz_server::policy::{AccessQuestion, Decision, Engine, Index};
use bz_server::store::Store;
use bz_server::store::api_key::ApiKey;
use bz_server::store::organization::Organization;
use bz_server::store::policy::Policies;
use bz_server::store::target::{NewTarget, Part, Target, TargetFilter};

use crate::generated::{Dice, NOW, Size};

const LARGE: Size = Size { people: 1000, groups: 100, targets: 5000, environments: 40, policies: 1000, entries: 8 };
/// Questions of the first measure.
const QUESTIONS: usize = 20_000;
/// Targets of the second.
const TARGETS: u64 = 10_000;
/// What they register by.
const KEY: ApiKeyId = ApiKeyId::from_bytes([3; 16]);

#[tokio::main]
async fn main() {
    decisions();
    lists().await;
}

fn decisions() {
    let engine = Engine::new().unwrap();
    let mut dice = Dice::new(1);
    let all = generated::policies(&mut dice, LARGE);
    let began = Instant::now();
    let index = Index::of(Policies { all, version: 1 });
    println!("{} policies entered in {:.1?}", LARGE.policies, began.elapsed());
    let questions: Vec<_> = (0..QUESTIONS).map(|_| generated::question(&mut dice, LARGE)).collect();
    // Those that some policy is about are a few of these, so they are measured apart, too.
    let about = |question: &&AccessQuestion| !(*question).clone().about(&index).policies.is_empty();
    let concerned: Vec<_> = questions.iter().filter(about).cloned().collect();
    measure("any question", &engine, &index, &questions);
    measure("questions with candidates", &engine, &index, &concerned);
}

fn measure(name: &str, engine: &Engine, index: &Index, questions: &[AccessQuestion]) {
    let (mut took, mut allowed, mut candidates) = (Vec::new(), 0, 0);
    for question in questions.iter().cycle().take(QUESTIONS) {
        let question = question.clone();
        let began = Instant::now();
        let question = question.about(index);
        let decision: Decision = engine.access(&question);
        took.push(began.elapsed());
        allowed += usize::from(decision.allowed);
        candidates = candidates.max(question.policies.len());
    }
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 1000];
    println!(
        "{name:<28} p50 {:.1?}, p99 {:.1?}, slowest {:.1?}; {allowed} of {} allowed, at most {candidates} candidates",
        at(500),
        at(990),
        at(999),
        took.len(),
    );
}

async fn lists() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let created = UnixTime::from_millis(NOW);
    let organization =
        Organization { id: OrganizationId::from_bytes([1; 16]), name: "bench".to_owned(), created, policy_version: 1 };
    store.create_organization(organization, EnvironmentId::from_bytes([2; 16])).await.unwrap();
    let key = ApiKey { is_registration: true, ..ApiKey::new(KEY, "bench".to_owned(), created) };
    store.add_api_key(key, Digest::of(b"bench")).await.unwrap();
    let made: Vec<_> = (0..TARGETS).map(|number| tokio::spawn(make(store.clone(), number))).collect();
    for target in made {
        target.await.unwrap();
    }
    let need = |text: &str| vec![text.parse().unwrap()];
    let page = Part { after: None, limit: Some(100) };
    for (name, filter, part) in [
        ("all of them", TargetFilter::default(), Part::default()),
        ("a page of them", TargetFilter::default(), page.clone()),
        ("by a label, all", TargetFilter { labels: need("role=web"), ..TargetFilter::default() }, Part::default()),
        ("by a label, a page", TargetFilter { labels: need("role=web"), ..TargetFilter::default() }, page.clone()),
        ("by what few have", TargetFilter { labels: need("rare"), ..TargetFilter::default() }, page.clone()),
        ("by part of a name", TargetFilter { search: Some("t99".to_owned()), ..TargetFilter::default() }, page),
    ] {
        let (mut slowest, mut found) = (Duration::ZERO, 0);
        for _ in 0..10 {
            let began = Instant::now();
            found = store.targets_fitting(filter.clone(), part.clone()).await.unwrap().len();
            slowest = slowest.max(began.elapsed());
        }
        println!("{name:<28} {found:>5} of {TARGETS} targets in at most {slowest:.1?}");
    }
}

async fn make(store: Store, number: u64) -> Target {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let key = |last: u8| {
        PrivateKey::from_seed(&{
            let mut seed = seed;
            seed[31] = last;
            seed
        })
        .unwrap()
        .public()
    };
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let new = NewTarget {
        id: TargetId::from_bytes(id),
        replaces: None,
        name: format!("t{number:05}"),
        environment: None,
        identity_key: key(1),
        control_key: key(2),
        host_name: format!("t{number:05}.example.com"),
        version: "1.0.0".to_owned(),
        local_policy: false,
        by: KEY,
        agent_labels: Labels::new(),
    };
    store.register_target(new, UnixTime::from_millis(NOW)).await.unwrap();
    let target = store.target(TargetId::from_bytes(id)).await.unwrap().unwrap();
    let mut labels: Labels = [("role", if number.is_multiple_of(3) { "web" } else { "db" }), ("tier", "prod")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    if number.is_multiple_of(500) {
        labels.insert("rare".to_owned(), "yes".to_owned());
    }
    store.change_target(target.id, (target.name.clone(), target.environment), labels).await.unwrap();
    target
}
