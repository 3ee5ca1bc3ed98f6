//! One command with pipes: what comes out of it, whose it is, and that nothing of it stays.

use crate::world::{DEADLINE, Person, Watched, helper, is_root, left_out, run};
use bz_agent::exec::{Exec, ExecError, ExecRequest, ExitStatus, LaunchError};
use bz_agent::helper::SwitchStep;
use bz_agent::user::{Environment, User};
use rustix::io::{FdFlags, fcntl_setfd};
use std::collections::BTreeMap;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

fn request(command: &str) -> ExecRequest {
    ExecRequest { command: command.into(), environment: Environment::default() }
}

async fn spawn(user: &User, command: &str) -> Exec {
    Exec::spawn(&helper(), user, request(command)).await.unwrap()
}

/// Runs a command to its end with `input`: its output, errors and status.
async fn outcome(user: &User, command: &str, input: &[u8]) -> (Vec<u8>, Vec<u8>, ExitStatus) {
    let mut exec = spawn(user, command).await;
    let (mut stdin, mut stdout, mut stderr) =
        (exec.stdin.take().unwrap(), exec.stdout.take().unwrap(), exec.stderr.take().unwrap());
    let (mut out, mut err) = (vec![], vec![]);
    let feeding = async move { stdin.write_all(input).await };
    let all = async { tokio::join!(feeding, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err), exec.wait()) };
    let (fed, read, read_err, status) = tokio::time::timeout(DEADLINE, all).await.expect("the command did not end");
    fed.unwrap();
    read.unwrap();
    read_err.unwrap();
    (out, err, status.unwrap())
}

async fn text(user: &User, command: &str) -> String {
    String::from_utf8(outcome(user, command, b"").await.0).unwrap()
}

async fn check(command: &str, input: &[u8], expected: (&[u8], &[u8], ExitStatus)) {
    let person = Person::new();
    let (out, err, status) = outcome(&person.user, command, input).await;
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((show(&out), show(&err), status), (show(expected.0), show(expected.1), expected.2), "for {command:?}");
}

#[tokio::test]
async fn output_errors_and_exit_code_come_apart() {
    check("echo out; echo err >&2; exit 7", b"", (b"out\n", b"err\n", ExitStatus::Code(7))).await;
}

#[tokio::test]
async fn input_goes_in_byte_for_byte_and_ends() {
    check("cat; echo end", b"a\xff\0b", (b"a\xff\0bend\n", b"", ExitStatus::Code(0))).await;
}

#[tokio::test]
async fn a_signal_is_not_an_exit_code() {
    check("kill -9 $$", b"", (b"", b"", ExitStatus::Signal(9))).await;
    check("kill -9 $$; true", b"", (b"", b"", ExitStatus::Signal(9))).await;
    check("exit 137", b"", (b"", b"", ExitStatus::Code(137))).await;
}

#[tokio::test]
async fn much_goes_through_both_ways() {
    let person = Person::new();
    let input: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (out, _, status) = outcome(&person.user, "cat", &input).await;
    assert_eq!(status, ExitStatus::Code(0));
    assert!(out == input, "{} bytes came back from {}", out.len(), input.len());
}

/// The numbers of the shell and of the sleeper it started.
async fn sleepers(exec: &mut Exec) -> Vec<u32> {
    let mut lines = BufReader::new(exec.stdout.take().unwrap()).lines();
    let sleeper = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    vec![exec.pid(), sleeper.parse().unwrap()]
}

#[tokio::test]
async fn dropping_kills_the_whole_group() {
    let person = Person::new();
    let mut exec = spawn(&person.user, "trap '' HUP TERM; sleep 1000 & echo $!; wait").await;
    let watched: Vec<_> = sleepers(&mut exec).await.into_iter().map(Watched::new).collect();
    assert!(watched.iter().all(Watched::is_running));
    drop(exec);
    for process in watched {
        process.ended("a process of a dropped command").await;
    }
}

#[tokio::test]
async fn dropping_kills_what_an_ended_command_left_behind() {
    let person = Person::new();
    let mut exec = spawn(&person.user, "sleep 1000 >&2 & echo $!").await;
    let sleeper = Watched::new(sleepers(&mut exec).await[1]);
    assert_eq!(exec.wait().await.unwrap(), ExitStatus::Code(0));
    assert_eq!(exec.wait().await.unwrap(), ExitStatus::Code(0));
    assert!(sleeper.is_running());
    drop(exec);
    sleeper.ended("the rest of an ended command").await;
}

async fn not_started(user: &User) -> LaunchError {
    match Exec::spawn(&helper(), user, request("echo never")).await {
        Err(ExecError::Launch(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_that_never_ran_has_no_exit_status() {
    let person = Person::new();
    let missing = User { shell: "/no/such/shell".into(), ..person.user.clone() };
    assert_eq!(not_started(&missing).await, LaunchError::Execute { errno: nix::errno::Errno::ENOENT as i32 });
    let useless = User { shell: "/etc/passwd".into(), ..person.user.clone() };
    assert_eq!(not_started(&useless).await, LaunchError::Execute { errno: nix::errno::Errno::EACCES as i32 });
    if !is_root() {
        let root = User { uid: 0, ..person.user.clone() };
        let failure = not_started(&root).await;
        assert!(matches!(&failure, LaunchError::Switch(error) if error.step == SwitchStep::Verify), "{failure:?}");
    }
}

#[tokio::test]
async fn a_helper_that_is_none_is_an_error() {
    let person = Person::new();
    for path in ["/no/such/helper", "/bin/true", "/bin/cat"] {
        let outcome = Exec::spawn(&bz_agent::helper::Helper::at(path), &person.user, request("echo never")).await;
        assert!(
            matches!(outcome, Err(ExecError::Helper(_) | ExecError::Launch(LaunchError::Died | LaunchError::Request))),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_an_argument_is_refused() {
    let person = Person::new();
    for command in [b"echo a\0b".to_vec(), vec![b' '; 128 << 10]] {
        let outcome =
            Exec::spawn(&helper(), &person.user, ExecRequest { command, environment: Environment::default() }).await;
        assert!(matches!(outcome, Err(ExecError::Command)), "{outcome:?}");
    }
    check(
        "printf '\u{e9}\\377'",
        b"",
        ("\u{e9}".as_bytes().iter().chain(b"\xff").copied().collect::<Vec<_>>().as_slice(), b"", ExitStatus::Code(0)),
    )
    .await;
}

#[tokio::test]
async fn the_environment_is_made_from_nothing() {
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "this test needs something that could leak");
    let person = Person::new();
    let environment = Environment::default().with("LANG", "C.UTF-8").unwrap().with("LC_TIME", "POSIX").unwrap();
    let mut exec = Exec::spawn(&helper(), &person.user, ExecRequest { command: b"exec env -0".to_vec(), environment })
        .await
        .unwrap();
    let mut listed = String::new();
    exec.stdout.take().unwrap().read_to_string(&mut listed).await.unwrap();
    let mut listed: BTreeMap<_, _> =
        listed.split_terminator('\0').map(|entry| entry.split_once('=').unwrap()).collect();
    // what bash sets for every program
    for own in ["PWD", "SHLVL", "_", "OLDPWD"] {
        listed.remove(own);
    }
    let home = person.user.home.to_str().unwrap();
    let path = if person.user.uid == 0 {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    } else {
        "/usr/local/bin:/usr/bin:/bin"
    };
    let name = person.user.name.as_str();
    let expected = [
        ("HOME", home),
        ("USER", name),
        ("LOGNAME", name),
        ("SHELL", "/bin/bash"),
        ("PATH", path),
        ("LANG", "C.UTF-8"),
        ("LC_TIME", "POSIX"),
    ];
    assert_eq!(listed, BTreeMap::from(expected));
}

#[tokio::test]
async fn no_file_of_the_agent_is_open_in_a_command() {
    let secret = std::fs::File::open("/etc/hostname").unwrap();
    fcntl_setfd(&secret, FdFlags::empty()).unwrap();
    let person = Person::new();
    let open = text(&person.user, "ls /proc/$$/fd; true").await;
    let open: Vec<_> = open.lines().collect();
    assert_eq!(open, ["0", "1", "2"], "{}", secret.metadata().unwrap().len());
}

#[tokio::test]
async fn a_command_has_a_session_of_its_own_and_no_terminal() {
    let person = Person::new();
    let told = text(
        &person.user,
        "read -r _ _ _ _ group session tty _ < /proc/$$/stat; echo $(($$ == group && $$ == session)) $tty; umask",
    )
    .await;
    assert_eq!(told, "1 0\n0022\n");
}

#[tokio::test]
async fn a_command_starts_at_home_or_at_the_root() {
    let person = Person::new();
    assert_eq!(text(&person.user, "pwd").await, format!("{}\n", person.user.home.display()));
    let homeless = User { home: "/no/such/home".into(), ..person.user.clone() };
    assert_eq!(text(&homeless, "pwd; echo $HOME").await, "/\n/no/such/home\n");
}

#[tokio::test]
async fn root_becomes_another_user_wholly_and_for_good() {
    if !is_root() {
        return left_out("becoming another user", "this is not root");
    }
    let person = Person::in_groups(&["audio", "cdrom"]);
    let name = &person.user.name;
    assert_eq!(text(&person.user, "id").await, run("id", &[name]));
    let status = text(&person.user, "cat /proc/$$/status").await;
    let line = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    let (uid, gid) = (person.user.uid.to_string(), person.user.gid.to_string());
    assert_eq!(line("Uid:"), [uid.as_str(); 4]);
    assert_eq!(line("Gid:"), [gid.as_str(); 4]);
    assert_eq!(line("CapPrm:"), ["0000000000000000"]);
    assert_eq!(line("CapEff:"), ["0000000000000000"]);
    assert_eq!(outcome(&person.user, "cat /etc/shadow", b"").await.2, ExitStatus::Code(1));
}

#[tokio::test]
async fn a_user_that_is_not_what_the_system_makes_of_it_is_not_started() {
    if !is_root() {
        return left_out("a user with impossible groups", "this is not root");
    }
    let person = Person::new();
    // An unsorted list is none that a lookup gives: what the process then holds differs from it.
    let odd = User { groups: vec![9, 1], ..person.user.clone() };
    let failure = not_started(&odd).await;
    assert!(matches!(&failure, LaunchError::Switch(error) if error.step == SwitchStep::Verify), "{failure:?}");
}
