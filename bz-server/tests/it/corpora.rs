//! The corpora of `fuzz/` for the server, through the functions that the fuzzer calls.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::fuzzed::TARGETS;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fuzz")
}

/// What was found once, and what the fuzzer begins with, breaks nothing.
#[test]
fn corpora_break_nothing() {
    for (name, target) in TARGETS {
        let corpus = folder().join("corpus").join(name);
        let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 1, "{name} has a corpus");
    }
}

#[test]
fn every_program_of_the_fuzzer_is_replayed() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let programs = manifest.split("[[bin]]").skip(1).filter(|bin| bin.contains("required-features"));
    let named: BTreeSet<&str> = programs.map(|bin| bin.split('"').nth(1).unwrap()).collect();
    assert_eq!(named, TARGETS.iter().map(|(name, _)| *name).collect());
}
