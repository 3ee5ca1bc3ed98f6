//! Rules of the house that neither the compiler nor clippy can hold.
//!
//! Each check is a function of text, so each is also shown a planted violation that it must catch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod floors;
mod rules;

use rules::{RULES, Source};

#[test]
fn the_sources_keep_the_rules() {
    let sources = sources();
    assert!(sources.len() > 10, "the walk through the repository found only {} files", sources.len());
    let complaints: Vec<String> =
        RULES.iter().flat_map(|rule| sources.iter().flat_map(|source| rule.complaints(source))).collect();
    none(&complaints);
}

#[test]
fn every_rule_catches_a_planted_violation_and_leaves_the_rest_alone() {
    for rule in RULES {
        for (path, text) in rule.caught {
            assert_ne!(rule.complaints(&Source::new(path, text)), [""; 0], "{}: {path}: {text}", rule.name);
        }
        for (path, text) in rule.left_alone {
            assert_eq!(rule.complaints(&Source::new(path, text)), [""; 0], "{}: {path}: {text}", rule.name);
        }
        assert!(!rule.caught.is_empty() && !rule.left_alone.is_empty(), "{} has no cases", rule.name);
    }
}

#[test]
fn crates_use_lower_floors_only() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    none(&floors::complaints(&serde_json::from_str(&metadata).expect("cargo metadata prints JSON")));
}

#[test]
fn the_lower_floors_bring_no_runtime_and_no_network() {
    for (crate_name, more) in [("bz-core", &[][..]), ("bz-protocol", &["--no-default-features"][..])] {
        let tree = ["tree", "-p", crate_name, "-e", "normal", "--prefix", "none", "--offline", "--locked"];
        none(&floors::impure(crate_name, &cargo(&[&tree, more].concat())));
    }
}

#[test]
fn crates_that_must_be_single_are() {
    none(&floors::doubled(&read("Cargo.lock")));
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let manifests = floors::manifests(&serde_json::from_str(&metadata).expect("cargo metadata prints JSON"));
    assert!(manifests.len() >= 6, "cargo metadata names only {manifests:?}");
    let complaints = manifests
        .iter()
        .filter_map(|path| floors::without_lints(path, &fs::read_to_string(path).expect("a manifest can be read")));
    none(&complaints.collect::<Vec<_>>());
}

fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the examples lie in the workspace").to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments).current_dir(root()).output().expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}:\n{errors}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// Every file of ours that a rule might be about, in the same order in every run.
fn sources() -> Vec<Source> {
    let (root, mut found) = (root(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder can be read").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            if path.is_symlink() || name.starts_with('.') || ["target", "node_modules"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| rules::EXTENSIONS.iter().any(|one| extension == *one)) {
                let relative = path.strip_prefix(&root).expect("below the root").to_string_lossy();
                let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{relative}: {error}"));
                found.push(Source::new(&relative, &text));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}
