//! The examples run, and print what they are there to show.

use std::process::Command;

fn check(program: &str, wanted: &[&str]) {
    check_status(program, 0, wanted);
}

fn check_status(program: &str, status: i32, wanted: &[&str]) {
    let output = Command::new(program).output().expect("an example runs");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{program}: {said}{complained}");
    for wanted in wanted {
        assert!(said.contains(wanted), "{program}: no {wanted:?} in {said:?}");
    }
}

#[test]
fn an_agent_is_embedded() {
    check(env!("CARGO_BIN_EXE_embed_agent"), &["hello, dev-", "nobody on the way can read this"]);
}

#[test]
fn a_client_dials() {
    check(env!("CARGO_BIN_EXE_dial"), &["IS ANYBODY THERE?"]);
}

#[test]
fn a_shell_is_embedded() {
    check(env!("CARGO_BIN_EXE_embed_shell"), &["I am "]);
}

#[test]
fn a_pipeline_runs_a_command_and_has_its_status() {
    check_status(env!("CARGO_BIN_EXE_ci_exec"), 3, &["deployed"]);
}

#[test]
fn a_carrier_of_ones_own_carries() {
    check(env!("CARGO_BIN_EXE_carrier"), &["over a Unix socket, both ways"]);
}

/// Each message, who checks what, and what each end says of a changed bit.
#[test]
fn a_handshake_is_shown_step_by_step() {
    check(
        env!("CARGO_BIN_EXE_handshake"),
        &[
            "1 client → agent: Syn, ",
            "agent: https://idp.example says that alice holds the client's key",
            "agent: the pinned server root granted this request to that person and key",
            "2 agent → client: SynAck, ",
            "client: the pinned agent's key signed this exchange: session ",
            "agent: the client has the keys; the grant is used up, and only now something happens",
            "client shows: hello, alice",
            "agent: the opening message: the signature does not verify",
            "the client's end: the session was tampered with or the other end is faulty: the answer is not the pinned agent's",
            "the agent's end: the session was tampered with or the other end is faulty: a message was altered on its way",
        ],
    );
}

/// F-049~: the record of a session can be checked without its server, and not changed.
#[test]
fn a_transcript_is_verified() {
    check(env!("CARGO_BIN_EXE_verify_transcript"), &["Proved: dev-", "echo for the record", "changed: "]);
}
