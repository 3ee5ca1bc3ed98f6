//! Rules about crates: who may use whom, what may never come in, what may be there only once.

use serde_json::Value;

/// Every crate of ours, and those of ours it may use, also in its tests.
const FLOORS: &[(&str, &[&str])] = &[
    ("bz-core", &[]),
    ("bz-protocol", &["bz-core"]),
    ("bz-agent", &["bz-core", "bz-protocol"]),
    ("bz-client", &["bz-core", "bz-protocol"]),
    ("bz-server", &["bz-core", "bz-protocol"]),
    ("bz-examples", &["bz-core", "bz-protocol", "bz-agent", "bz-client", "bz-server"]),
    ("bz-fuzz", &["bz-core", "bz-protocol", "bz-agent", "bz-client", "bz-server"]),
];

/// What has no place below the pure floors.
const IMPURE: [&str; 6] = ["tokio", "async-std", "smol", "mio", "reqwest", "hyper"];

/// Crates of which two copies would be two sets of types, or two wire formats.
const SINGLE: [&str; 5] = ["rustls", "p256", "quinn", "tokio-tungstenite", "bincode"];

/// Uses of a higher or a neighboring floor, from the output of `cargo metadata`.
pub(super) fn complaints(metadata: &Value) -> Vec<String> {
    let packages = array(&metadata["packages"]);
    let ours: Vec<&str> = packages.iter().map(|package| text(&package["name"])).collect();
    let mut complaints = Vec::new();
    if !ours.contains(&"bz-core") {
        complaints.push("cargo metadata names no bz-core".to_owned());
    }
    for package in packages {
        let name = text(&package["name"]);
        let Some((_, may_use)) = FLOORS.iter().find(|(floor, _)| *floor == name) else {
            complaints.push(format!("{name} stands on no floor: give it a row in FLOORS"));
            continue;
        };
        let used = array(&package["dependencies"]).iter();
        let used = used.filter(|used| !used["path"].is_null() || ours.contains(&text(&used["name"])));
        let used = used.map(|used| text(&used["name"]));
        let upward = used.filter(|used| !may_use.contains(used));
        complaints.extend(upward.map(|used| format!("{name} must not use {used}")));
    }
    complaints
}

/// Runtimes and networks in the output of `cargo tree --prefix none`.
pub(super) fn impure(crate_name: &str, tree: &str) -> Vec<String> {
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    if !names.contains(&crate_name) {
        return vec![format!("cargo tree does not name {crate_name} itself")];
    }
    let found = IMPURE.iter().filter(|name| names.contains(name));
    found.map(|name| format!("{crate_name} brings {name}")).collect()
}

/// Crates of [`SINGLE`] with more than one version in a `Cargo.lock`.
pub(super) fn doubled(lock: &str) -> Vec<String> {
    if versions(lock, "bz-core").len() != 1 {
        return vec!["Cargo.lock does not name bz-core once".to_owned()];
    }
    let all = SINGLE.iter().map(|name| (name, versions(lock, name)));
    let doubled = all.filter(|(_, versions)| versions.len() > 1);
    doubled.map(|(name, versions)| format!("{name} is there as {}", versions.join(" and "))).collect()
}

/// The manifests that the output of `cargo metadata` names.
pub(super) fn manifests(metadata: &Value) -> Vec<String> {
    array(&metadata["packages"]).iter().map(|package| text(&package["manifest_path"]).to_owned()).collect()
}

/// A complaint unless the manifest has `[lints] workspace = true`.
pub(super) fn without_lints(path: &str, manifest: &str) -> Option<String> {
    let after = manifest.lines().skip_while(|line| line.trim() != "[lints]").skip(1);
    let mut table = after.take_while(|line| !line.starts_with('['));
    (!table.any(|line| line.trim() == "workspace = true")).then(|| format!("{path} has no `[lints] workspace = true`"))
}

fn versions<'a>(lock: &'a str, name: &str) -> Vec<&'a str> {
    let header = format!("name = \"{name}\"");
    let (names, versions) = (lock.lines(), lock.lines().skip(1));
    let found = names.zip(versions).filter(|(line, _)| *line == header);
    found.filter_map(|(_, line)| line.strip_prefix("version = \"")?.strip_suffix('"')).collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array in the output of cargo metadata")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text in the output of cargo metadata")
}

mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_use_of_a_higher_or_neighboring_floor_is_caught() {
        let check = |user: &str, used: &str, kind: Value, expected: &[&str]| {
            let found = complaints(&metadata(user, &json!({ "name": used, "path": "/x", "kind": kind })));
            assert_eq!(found, expected, "{user} uses {used} ({kind})");
        };
        check("bz-protocol", "bz-core", Value::Null, &[]);
        check("bz-examples", "bz-server", Value::Null, &[]);
        check("bz-core", "bz-protocol", Value::Null, &["bz-core must not use bz-protocol"]);
        check("bz-protocol", "bz-agent", Value::Null, &["bz-protocol must not use bz-agent"]);
        check("bz-agent", "bz-client", json!("dev"), &["bz-agent must not use bz-client"]);
        check("bz-client", "bz-server", json!("build"), &["bz-client must not use bz-server"]);
        check("bz-server", "bz-examples", json!("dev"), &["bz-server must not use bz-examples"]);
        check("bz-extra", "bz-core", Value::Null, &["bz-extra stands on no floor: give it a row in FLOORS"]);
        check("bz-core", "somewhere-else", Value::Null, &["bz-core must not use somewhere-else"]);
    }

    #[test]
    fn metadata_without_our_crates_is_caught() {
        assert_eq!(complaints(&json!({ "packages": [] })), ["cargo metadata names no bz-core"]);
    }

    #[test]
    fn a_runtime_below_a_pure_floor_is_caught() {
        let check = |tree: &str, expected: &[&str]| assert_eq!(impure("bz-core", tree), expected, "{tree}");
        check("bz-core v0.1.0 (/x)\np256 v0.14.0\ntokio-like v1.0.0", &[]);
        check("", &["cargo tree does not name bz-core itself"]);
        for name in IMPURE {
            check(&format!("bz-core v0.1.0 (/x)\n{name} v1.0.0"), &[&format!("bz-core brings {name}")]);
        }
    }

    #[test]
    fn a_second_version_is_caught() {
        let package = |name: &str, version: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        let ours = package("bz-core", "0.1.0");
        assert_eq!(
            doubled(&[ours.clone(), package("base64", "0.22.0"), package("base64", "0.23.0")].concat()),
            [""; 0]
        );
        assert_eq!(doubled(""), ["Cargo.lock does not name bz-core once"]);
        for name in SINGLE {
            let lock = [ours.clone(), package(name, "1.0.0")].concat();
            assert_eq!(doubled(&lock), [""; 0]);
            let lock = [lock, package(name, "2.0.0")].concat();
            assert_eq!(doubled(&lock), [format!("{name} is there as 1.0.0 and 2.0.0")]);
        }
    }

    #[test]
    fn a_crate_without_the_lints_is_caught() {
        let caught = Some("x has no `[lints] workspace = true`".to_owned());
        assert_eq!(without_lints("x", "[package]\n\n[lints]\nworkspace = true\n\n[features]"), None);
        assert_eq!(without_lints("x", "[package]\nworkspace = true\n"), caught);
        assert_eq!(without_lints("x", "[lints]\n\n[dependencies.y]\nworkspace = true\n"), caught);
        assert_eq!(without_lints("x", "[lints]\n# workspace = true\n"), caught);
    }

    fn metadata(name: &str, used: &Value) -> Value {
        let mut packages = vec![json!({ "name": name, "dependencies": [used] })];
        if name != "bz-core" {
            packages.push(json!({ "name": "bz-core", "dependencies": [] }));
        }
        json!({ "packages": packages })
    }
}
