//! What is selected for the engine: never less than decides.

use bz_server::policy::engine::RULES;
use bz_server::policy::{AccessQuestion, Document, Engine, Index};
use bz_server::store::policy::{Policies, Policy, PolicyKind};
use serde_json::{Value, json};

use crate::generated::{self, Dice, SMALL};

/// Leaving out policies that cannot be about a question changes no answer to it, whatever organization it
/// is asked in.
#[test]
fn what_is_left_out_would_have_changed_nothing() {
    let engine = Engine::new().unwrap();
    let (mut allowed, mut left_out) = (0, 0);
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let all = generated::policies(&mut dice, SMALL);
        let index = Index::of(Policies { all: all.clone(), version: 1 });
        for number in 0..12 {
            let question = generated::question(&mut dice, SMALL);
            let (few, every) = (question.clone().about(&index), with_all(question, &all));
            let (decided, judged) = (engine.access(&few), engine.access(&every));
            assert_eq!(decided, judged, "seed {seed}, question {number}: {few:#?}");
            assert_eq!(engine.reach(&few), engine.reach(&every), "seed {seed}, question {number}: {few:#?}");
            allowed += usize::from(decided.allowed);
            left_out += every.policies.len() - few.policies.len();
        }
    }
    assert!(allowed > 60, "only {allowed} of the questions were allowed: they show nothing");
    assert!(left_out > 6_000, "only {left_out} policies were left out: selection does nothing");
}

/// The bytecode decides as regorus' interpreter of the same rules does, which shares nothing with it but the parser.
#[test]
fn bytecode_and_interpreter_agree() {
    let engine = Engine::new().unwrap();
    let mut interpreter = regorus::Engine::new();
    interpreter.add_policy("bz.rego".to_owned(), RULES.to_owned()).unwrap();
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let all = generated::policies(&mut dice, SMALL);
        let index = Index::of(Policies { all: all.clone(), version: 1 });
        for number in 0..4 {
            let question = generated::question(&mut dice, SMALL);
            for question in [question.clone().about(&index), with_all(question, &all)] {
                let mut ask = |rule: &str| {
                    interpreter.set_input_json(&question.to_json().unwrap()).unwrap();
                    let answer = interpreter.eval_rule(format!("data.bz.{rule}")).unwrap();
                    serde_json::from_str::<Value>(&answer.to_json_str().unwrap()).unwrap()
                };
                let (access, judged) = (ask("access"), ask("judged"));
                let decided = engine.access(&question);
                let about = format!("seed {seed}, question {number}: {}", question.to_json().unwrap());
                assert_eq!(json!(decided.allowed), access["allowed"], "{about}");
                assert_eq!(json!(decided.reason), access["reason"], "{about}");
                assert_eq!(json!(decided.policies), access["policies"], "{about}");
                assert_eq!(json!(decided.redacted), access["redacted"], "{about}");
                assert_eq!(json!(engine.judge(&question)), judged, "{about}");
            }
        }
    }
}

fn with_all(mut question: AccessQuestion, all: &[Policy]) -> AccessQuestion {
    let documents = |recording: bool| {
        let of = all.iter().filter(|policy| (policy.kind == PolicyKind::SessionRecording) == recording);
        of.map(Document::of).collect()
    };
    question.policies = documents(false);
    question.recording = documents(true);
    question
}
