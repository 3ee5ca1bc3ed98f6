//! Pages that no program runs through: what they say is looked for where it comes from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect_file;

/// F-251: each message of the guide to trouble is one that a program says, letter for letter, and has its remedy.
#[test]
fn troubleshooting_speaks_of_real_messages() {
    let said: String = ["bz-agent/src", "bz-client/src", "bz-core/src", "bz-server/src"].map(spoken).concat();
    let page = read("docs/troubleshooting.md");
    let entries: Vec<_> = page.split("\n### ").skip(1).collect();
    assert!(entries.len() >= 25, "only {} entries", entries.len());
    for entry in entries {
        let message = entry.lines().next().unwrap().trim_matches('`');
        assert!(said.contains(message), "no program says {message:?}");
        let rest = entry.split_once('\n').unwrap().1.split("\n## ").next().unwrap();
        assert!(rest.split_whitespace().count() >= 12, "{message:?} has no cause or no remedy");
    }
}

/// F-220: each term is explained on the page that it leads to, under the heading that is named.
#[test]
fn the_glossary_leads_to_where_terms_are_explained() {
    let page = read("docs/glossary.md");
    let entries: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("- **")).collect();
    assert!(entries.len() >= 25, "only {} terms", entries.len());
    let terms: Vec<_> = entries.iter().map(|entry| entry.split("**").next().unwrap().to_lowercase()).collect();
    assert!(terms.is_sorted(), "the terms are in no order: {terms:?}");
    for (entry, term) in entries.iter().zip(&terms) {
        let link = entry.rsplit("](").next().unwrap().split(')').next().unwrap();
        let (file, section) = link.split_once('#').unwrap_or((link, ""));
        let mut text = read(&format!("docs/{file}"));
        if !section.is_empty() {
            let at = text.lines().position(|line| line.starts_with('#') && anchor(line) == section);
            let at = at.unwrap_or_else(|| panic!("{term}: {file} has no heading for #{section}"));
            let lines: Vec<_> = text.lines().skip(at).collect();
            let end = lines.iter().skip(1).position(|line| line.starts_with("## ")).map_or(lines.len(), |end| end + 1);
            text = lines[..end].join("\n");
        }
        assert!(text.to_lowercase().contains(term.trim_end_matches('y')), "{term} is not on {link}");
    }
}

/// F-219: the page about the parts names each crate, and how they meet.
#[test]
fn the_architecture_has_its_page() {
    let page = read("ARCHITECTURE.md");
    for crate_name in ["bz-core", "bz-protocol", "bz-agent", "bz-client", "bz-server", "examples"] {
        assert!(page.contains(&format!("| `{crate_name}` |")), "{crate_name} is not in the table");
    }
    assert!(page.contains("## A session in motion"));
}

/// F-254: who needs help finds where to ask, from the front page on.
#[test]
fn the_front_page_leads_to_help() {
    assert!(read("README.md").contains("(docs/troubleshooting.md)"));
    let page = read("docs/troubleshooting.md");
    let (_, help) = page.split_once("\n## Getting help\n").expect("where to ask");
    assert!(help.contains("open an issue") && help.contains("../SECURITY.md"), "{help}");
}

/// F-255: whoever finds a flaw learns where to say so privately, what is answered, and what is in scope.
#[test]
fn the_security_policy_says_how_to_report() {
    let page = read("SECURITY.md");
    for needed in [
        "## How to report",
        "Report a vulnerability",
        "privately",
        "## Supported versions",
        "## In scope",
        "## Out of scope",
    ] {
        assert!(page.contains(needed), "SECURITY.md does not say {needed:?}");
    }
    assert!(read("README.md").contains("SECURITY.md"), "the front page does not lead there");
}

/// F-257: the changelog has its form: versions, newest first, and under each what was added, changed or removed.
#[test]
fn the_changelog_keeps_its_form() {
    let page = read("CHANGELOG.md");
    let versions: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(versions.first(), Some(&"[Unreleased]"));
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for heading in page.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(kinds.contains(&heading), "{heading}");
    }
    let entries = page.lines().filter(|line| line.starts_with("- "));
    assert!(entries.clone().count() > 20 && entries.clone().all(|line| line.ends_with('.')), "an entry is no sentence");
}

/// F-256: whose work is in the programs, and under which licence; `UPDATE_EXPECT=1` writes the page.
#[test]
fn the_licences_of_others_are_named() {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .args(["--all-features", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut by_licence: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        if !package["source"].is_null() {
            let licence = text(&package["license"]).replace('/', " OR ");
            assert!(!licence.is_empty(), "{} names no licence", package["name"]);
            by_licence.entry(licence).or_default().push(text(&package["name"]));
        }
    }
    let mut page = String::from(
        "# Whose work is in here\n\n<!-- Made by a test of the examples: UPDATE_EXPECT=1 writes it. -->\n\nThe programs \
         and libraries are built with these crates, on Linux and with all features; tests and examples use some of them \
         alone.\nEach crate's own text of its licence is in its package.\n",
    );
    for (licence, mut names) in by_licence {
        names.sort();
        names.dedup();
        write!(page, "\n## {licence}\n\n{}\n", names.join(", ")).unwrap();
    }
    expect_file!["../../../docs/third-party-licences.md"].assert_eq(&page);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the examples lie in the workspace").to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All sources below a folder, with texts that go on in the next line made whole.
fn spoken(folder: &str) -> String {
    let (mut folders, mut all) = (vec![root().join(folder)], String::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                let mut parts = text.split("\\\n");
                all.push_str(parts.next().unwrap_or_default());
                parts.for_each(|part| all.push_str(part.trim_start()));
            }
        }
    }
    all
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
