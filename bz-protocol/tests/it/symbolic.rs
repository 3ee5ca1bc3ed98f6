//! The models in `docs/model`, and the variants of them in the table of the README beside it, by Verifpal where it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const VERSION: &str = "1.6.7";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/model")
}

/// A row of the table: a model, checks left out, secrets that got out, and what Verifpal finds.
struct Variant {
    model: String,
    left_out: Vec<String>,
    compromised: Vec<String>,
    found: String,
}

fn variants() -> Vec<Variant> {
    let page = fs::read_to_string(folder().join("README.md")).unwrap();
    let (_, rest) = page.split_once("<!-- variants -->").unwrap();
    let (table, _) = rest.split_once("<!-- end -->").unwrap();
    let list = |cell: &str| cell.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    let row = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let found = cells[3].trim().trim_matches('`').to_owned();
        Variant { model: cells[0].trim().to_owned(), left_out: list(cells[1]), compromised: list(cells[2]), found }
    };
    table.trim().lines().skip(2).map(row).collect()
}

/// The model with these checks left out and these secrets got out.
fn written(model: &str, variant: &Variant) -> String {
    let mut used = 0;
    let mut line = |line: &str| {
        if let Some(rest) = line.strip_prefix("// compromise (") {
            let (name, what) = rest.split_once("): ").unwrap();
            let happens = variant.compromised.iter().any(|one| one == name);
            used += usize::from(happens);
            return if happens { what.to_owned() } else { String::new() };
        }
        match line.rsplit_once("? // (") {
            Some((check, name)) if variant.left_out.iter().any(|one| one == name.trim_end_matches(')')) => {
                used += 1;
                check.to_owned()
            }
            _ => line.to_owned(),
        }
    };
    let text = model.lines().map(&mut line).collect::<Vec<_>>().join("\n") + "\n";
    assert_eq!(used, variant.left_out.len() + variant.compromised.len(), "the model has what a row names");
    text
}

/// Both roots, each compromise of TRUST.md's table, and every check that is left out: found is what the row says. In the
/// default size the model itself and the loss of one root; `BZ_TEST=full` takes all.
#[test]
fn the_model_holds_and_every_check_of_it_is_needed() {
    let all = variants();
    assert!(all.len() > 10 && all[0].left_out.is_empty() && all[0].compromised.is_empty(), "the table is read");
    let read = |variant: &Variant| fs::read_to_string(folder().join(format!("{}.vp", variant.model))).unwrap();
    let texts: Vec<String> = all.iter().map(|variant| written(&read(variant), variant)).collect();
    let version = Command::new("verifpal").arg("--version").stderr(Stdio::null()).output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION)) {
        eprintln!(
            "LEFT OUT: the symbolic model needs verifpal {VERSION}, and it is not here; see docs/model/README.md"
        );
        return;
    }
    let full = std::env::var("BZ_TEST").is_ok_and(|size| size == "full");
    let folder = tempfile::tempdir().unwrap();
    for (variant, text) in all.iter().zip(&texts).take(if full { all.len() } else { 3 }) {
        let path = folder.path().join("variant.vp");
        fs::write(&path, text).unwrap();
        let mut command = Command::new("verifpal");
        command.arg("verify").arg(&path).args(["--result-code", "--quiet", "--sessions", "1", "--color", "never"]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let what = format!("{}, without {:?}, {:?} compromised", variant.model, variant.left_out, variant.compromised);
        println!("{what}: {}", said.trim());
        assert_eq!(said.trim(), variant.found, "{what}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
