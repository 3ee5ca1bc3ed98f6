//! The command lens over recordings of real shells, see `lens/record.py`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bz_core::api::record::CommandSource;
use bz_server::observe::{CommandLens, Line};
use serde_json::Value;

#[test]
fn show() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/lens")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            println!("== {path:?}");
            for line in replay(&std::fs::read_to_string(&path).unwrap(), usize::MAX) {
                println!("   {:?} {}", line.source, line.text);
            }
        }
    }
}

/// Every stream cut into pieces of at most so many bytes.
fn replay(recording: &str, piece: usize) -> Vec<Line> {
    let events: Vec<Value> = serde_json::from_str(recording).expect("a recording is a list of events");
    let mut lens = CommandLens::new(24, 80);
    let mut lines = Vec::new();
    let number = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
    for event in &events {
        let bytes = || STANDARD.decode(event[1].as_str().unwrap()).unwrap();
        match event[0].as_str().unwrap() {
            "o" => bytes().chunks(piece).for_each(|bytes| lines.extend(lens.output(bytes))),
            "i" => bytes().chunks(piece).for_each(|bytes| lens.input(bytes)),
            "p" => lens.password(event[1].as_bool().unwrap()),
            "r" => lens.resize(number(&event[1]), number(&event[2])),
            other => panic!("a recording has no event {other}"),
        }
    }
    lines
}
