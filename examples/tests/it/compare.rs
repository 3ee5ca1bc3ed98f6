//! `cargo compare` measures what it says. Its figures are no matter of tests.

use std::path::Path;
use std::process::Command;

use bz_examples::needs;
use serde_json::Value;

/// Every row has figures of both sides, whichever is the better one.
#[test]
fn everything_is_measured_on_both_sides() {
    if !["ssh", "sshd", "rsync", "pg_ctlcluster"].map(needs::program).into_iter().all(|here| here) {
        return;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_compare"));
    let mut command = Command::new(program);
    command.args(["--json", "--mib", "1", "--runs", "1", "--seconds", "1", "--programs"]);
    let output = command.arg(program.parent().unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let (ws, quic) = ("sealed tunnel, ws", "sealed tunnel, quic");
    assert_eq!(
        names,
        [
            "session start, cold",
            "ssh session start",
            "scp of 1 MiB",
            "rsync of 1 MiB",
            ws,
            ws,
            "sealed tunnel, ws: CPU",
            "sealed tunnel, ws, against copying",
            "pgbench -S, 1 at once",
            "pgbench -S, 4 at once",
            quic,
            quic,
            "sealed tunnel, quic: CPU",
        ]
    );
    for row in &rows {
        let figure = |name: &str| row[name].as_f64().filter(|figure| figure.is_finite()).unwrap_or(-1.0);
        // A hundredth of a second of processors may be none.
        let least = if row["unit"] == "s/GiB" { 0.0 } else { f64::MIN_POSITIVE };
        assert!(figure("ours") >= least && figure("theirs") >= least, "{row}");
        if let Some(ratio) = row["ratio"].as_f64() {
            assert_eq!(row["reached"].as_bool(), Some(ratio >= figure("goal")), "{row}");
        }
    }
}
