//! The whole system: what a newcomer sees of the first command.

use std::process::{Command, Output};

fn quickstart(words: &[&str]) -> Output {
    run(&[&["--"], words].concat())
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quickstart")).args(arguments).output().expect("quickstart runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// F-002~, F-030, F-031, F-177, F-179: client, server, agent, identity provider and a command through all of them, over
/// WebSocket and TLS alone; output, error and status apart, and the log of it.
#[test]
fn a_command_goes_through_all_parts() {
    let output = quickstart(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert_eq!(text(&output.stdout), "out\n");
    assert!(said.lines().any(|line| line == "err"), "{said}");
    assert!(said.contains("sh -c 'echo out; echo err >&2; exit 7'"), "the command log: {said}");
    assert!(said.contains(" verifies: "), "the transcript: {said}");
    tidy_up(&said);
}

/// The same over QUIC: nothing but the carrier is another.
#[test]
fn a_command_goes_over_quic() {
    let output = run(&["--carrier", "quic", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert_eq!(text(&output.stdout), "out\n");
    assert!(said.contains("linked by quic"), "the carrier: {said}");
    assert!(said.contains(" verifies: "), "the transcript: {said}");
    tidy_up(&said);
}

/// The first command keeps what it made for its user; a test does not.
fn tidy_up(said: &str) {
    let folder = said.lines().find_map(|line| line.split_once("everything is kept in ")).expect("a folder is named").1;
    assert!(folder.contains("bz-quickstart-"), "{folder}");
    std::fs::remove_dir_all(folder).expect("the folder is there");
}

/// A signal is told apart from a status, as a shell tells it.
#[test]
fn a_signal_is_told_as_128_and_its_number() {
    let output = quickstart(&["kill -TERM $$"]);
    assert_eq!(output.status.code(), Some(143));
    tidy_up(&text(&output.stderr));
}
