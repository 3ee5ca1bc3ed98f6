//! The rules of policies, read by another implementation of Rego: rego-cpp decides made-up questions as the server does.

use std::io::Write as _;
use std::process::{Command, Stdio};

use bz_examples::needs;
use bz_server::policy::engine::RULES;
use bz_server::policy::{Engine, Index, Reach};
use bz_server::store::policy::Policies;
use serde_json::{Value, json};

use crate::generated::{self, Dice, SMALL};

/// How many organizations are made up, and how many questions are asked in each.
const ORGANIZATIONS: u64 = 50;
const QUESTIONS: u64 = 3;

/// F-074: what the server decides is what its rules say, not what its engine makes of them.
#[test]
fn another_implementation_of_rego_decides_the_same() {
    let Some(decide) = needs::REGOPY.here() else { return };
    let engine = Engine::new().unwrap();
    let (mut asked, mut expected) = (Vec::new(), Vec::new());
    for seed in 0..ORGANIZATIONS {
        let mut dice = Dice::new(seed + 10_000);
        let index = Index::of(Policies { all: generated::policies(&mut dice, SMALL), version: 1 });
        for _ in 0..QUESTIONS {
            let question = generated::question(&mut dice, SMALL);
            let (few, many) = (question.clone().about(&index), question.about_all(&index));
            let (decided, reach) = (engine.access(&few), engine.reach(&few));
            let mut input: Value = serde_json::from_str(&few.to_json().unwrap()).unwrap();
            asked.push(json!({"rule": "access", "input": input}));
            expected.push(json!({
                "allowed": decided.allowed, "any_user": decided.any_user, "redacted": decided.redacted,
                "policies": decided.policies, "reason": decided.reason,
                "recorded": {"output": decided.recording.output, "input": decided.recording.input, "required": decided.must_record},
                "users": decided.users.iter().map(|user| user.user.to_string()).collect::<Vec<_>>(),
            }));
            // A question about no verb is one about all.
            (input["verb"], input["user"]) = (Value::Null, Value::Null);
            asked.push(json!({"rule": "reach", "input": input}));
            expected.push(json!({
                "verbs": reach.verbs, "cluster_users": reach.cluster.0, "cluster_groups": reach.cluster.1,
                "users": users_and_verbs(&reach),
            }));
            let input: Value = serde_json::from_str(&many.to_json().unwrap()).unwrap();
            asked.push(json!({"rule": "judged", "input": input}));
            expected.push(json!(engine.judge(&many)));
        }
    }
    let answers = ask(&decide, &asked);
    assert_eq!(answers.len(), asked.len(), "it stopped answering");
    let allowed = expected.iter().filter(|answer| answer["allowed"] == json!(true)).count();
    assert!(allowed > 5, "only {allowed} questions were allowed: they show nothing");
    for ((question, mut answer), expected) in asked.iter().zip(answers).zip(expected) {
        if let Some(users) = answer.get("users").and_then(Value::as_array) {
            // A row of what there is at all has a verb, too.
            let row = |row: &Value| match row.get("verb") {
                Some(verb) => json!([row["user"], verb]),
                None => row["user"].clone(),
            };
            let mut names: Vec<_> = users.iter().map(row).collect();
            names.sort_by_key(ToString::to_string);
            names.dedup();
            answer["users"] = json!(names);
        }
        assert_eq!(sorted(answer), sorted(expected), "rego-cpp decides otherwise: {question}");
    }
}

fn ask(decide: &std::path::Path, questions: &[Value]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("bz.rego");
    std::fs::write(&rules, RULES).unwrap();
    let mut run = Command::new(decide).arg(&rules).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = run.stdin.take().unwrap();
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    // Beside it, for it answers while it is asked.
    let asking = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "it failed: {}", output.status);
    asking.join().unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Sets have no order.
fn sorted(mut value: Value) -> Value {
    for list in value.as_object_mut().into_iter().flat_map(|object| object.values_mut()) {
        if let Some(list) = list.as_array_mut() {
            list.sort_by_key(ToString::to_string);
        }
    }
    value
}

/// Each user with each of its verbs.
fn users_and_verbs(reach: &Reach) -> Vec<Value> {
    let mut rows: Vec<_> = reach
        .users
        .iter()
        .flat_map(|user| user.verbs.iter().map(|verb| json!([user.allowed.user.as_str(), verb])))
        .collect();
    rows.sort_by_key(ToString::to_string);
    rows
}
