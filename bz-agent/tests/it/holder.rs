//! A shell outlives the agent that started it, loses nothing, and ends when nobody comes back.

use crate::world::{DEADLINE, Person, Place, Seen, Watched, contains, helper, is_root, left_out, run};
use bz_agent::exec::{Exec, ExecRequest};
use bz_agent::holders::{ExitStatus, Holders, HoldersError, IDLE, LinkError, ShellRequest, Size};
use bz_agent::user::{Environment, User};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

#[tokio::test]
async fn a_shell_survives_the_kill_of_its_agent_and_loses_nothing() {
    let person = Person::new();
    let place = Place::new();
    let (mut agent, told) =
        agent(&[], &["shell", &person.user.name, place.directory.path().join("shells").to_str().unwrap()]).await;
    let shell = Watched::new(told.parse().unwrap());
    agent.kill().await.unwrap();
    let mut adopted = place.holders.adopt().await.unwrap();
    assert_eq!(adopted.len(), 1);
    let adopted = adopted.remove(0);
    assert_eq!((adopted.state().base, adopted.state().dropped, adopted.state().exited), (0, 0, None));
    let mut seen = Seen::from(adopted, 0).await;
    // Keys struck earlier would be echoed in the midst of the output.
    seen.shows("number 20000\r\n").await;
    seen.line("echo still=$value.").await;
    seen.shows("still=kept.").await;
    // what came before the kill, what came while nobody was there, and what came now
    let text = String::from_utf8_lossy(&seen.output).into_owned();
    assert!(text.contains("before the kill"), "{text}");
    let numbers = text.lines().filter_map(|line| line.strip_prefix("number ")?.parse::<u32>().ok());
    assert!(numbers.eq(1..=20_000), "a line is missing or stands twice");
    assert!(shell.is_running());
    seen.line("exit").await;
    assert_eq!(seen.ends().await, ExitStatus::Code(0));
}

#[tokio::test]
async fn a_command_dies_with_its_agent() {
    let person = Person::new();
    let (mut agent, told) = agent(&[], &["exec", &person.user.name, "echo $$; exec sleep 1000"]).await;
    let command = Watched::new(told.parse().unwrap());
    assert!(command.is_running());
    agent.kill().await.unwrap();
    command.ended("the command of a killed agent").await;
}

#[tokio::test]
async fn signals_that_the_agent_ignores_are_not_ignored_by_what_it_starts() {
    let person = Person::new();
    let ignoring = ["sh", "-c", "trap '' HUP INT QUIT TERM TSTP CHLD USR1; exec \"$@\"", "sh"];
    let command = "grep SigIgn /proc/$$/status";
    let (mut agent, told) = agent(&ignoring, &["exec", &person.user.name, command]).await;
    // numbers above 31 are the C library's own, or real-time ones that nothing here gives out
    let ignored = u64::from_str_radix(told.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(ignored & 0x7fff_ffff, 0, "{told}");
    agent.kill().await.unwrap();
}

/// An agent in a process of its own, which has done what it was told and waits to be killed.
async fn agent(through: &[&str], orders: &[&str]) -> (Child, String) {
    let this = std::env::current_exe().unwrap();
    let mut words = through.iter().copied().chain([
        this.to_str().unwrap(),
        "--exact",
        "holder::an_agent",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .env("BZ_TEST_AGENT", orders.join("\n"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut agent = command.spawn().unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    let told = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, told)) = line.split_once("TOLD ") {
                return told.to_owned();
            }
        }
        panic!("the agent ended early")
    };
    let told = tokio::time::timeout(DEADLINE, told).await.expect("the agent did not do what it was told");
    (agent, told)
}

/// Not a test: the process that the tests above start and kill.
#[tokio::test]
#[ignore = "started by other tests"]
async fn an_agent() {
    let Ok(orders) = std::env::var("BZ_TEST_AGENT") else {
        return;
    };
    let orders: Vec<_> = orders.lines().collect();
    let user = User { shell: "/bin/bash".into(), ..User::resolve(orders[1]).unwrap() };
    let kept = match orders[0] {
        "shell" => {
            let place =
                Place { holders: Holders::new(helper(), orders[2]).unwrap(), directory: tempfile::tempdir().unwrap() };
            let mut seen = place.start(&user).await;
            seen.confirms = false;
            seen.line("value=kept; echo before the kill; for i in $(seq 20000); do echo number $i; done").await;
            seen.shows("number 1\r\n").await;
            println!("TOLD {}", seen.shell.state().pid);
            Ok(seen)
        }
        _ => {
            let request = ExecRequest { command: orders[2].into(), environment: Environment::default() };
            let mut exec = Exec::spawn(&helper(), &user, request).await.unwrap();
            let told = BufReader::new(exec.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
            println!("TOLD {told}");
            Err(exec)
        }
    };
    // until the kill, or the end of the test that should have killed
    std::io::stdin().read_to_end(&mut vec![]).unwrap();
    drop(kept);
}

#[tokio::test]
async fn a_second_connection_takes_over_from_the_first() {
    let person = Person::new();
    let place = Place::new();
    let mut first = place.start(&person.user).await;
    first.line("echo to the f''irst").await;
    first.shows("to the first").await;
    let second = place.holders.connect(first.shell.id()).await.unwrap();
    let from = second.state().base;
    let mut second = Seen::from(second, from).await;
    let lost = async {
        loop {
            if let Err(error) = first.shell.next().await {
                break error;
            }
        }
    };
    let lost = tokio::time::timeout(DEADLINE, lost).await.expect("the first connection is still open");
    assert!(matches!(lost, LinkError::Closed | LinkError::Io(_)), "{lost}");
    second.line("echo to the s''econd").await;
    second.shows("to the second").await;
}

#[tokio::test]
async fn output_without_an_agent_is_kept_up_to_a_bound_and_the_loss_is_counted() {
    let person = Person::new();
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    let done = place.directory.path().join("done");
    run("mkfifo", &["-m", "666", done.to_str().unwrap()]);
    run("chmod", &["755", place.directory.path().to_str().unwrap()]);
    seen.line(&format!(
        "stty -opost; echo re''ady; read -r go; head -c 10000000 /dev/zero | tr '\\0' x; echo > {}; read -r go",
        done.display()
    ))
    .await;
    seen.shows("ready").await;
    seen.keys(b"\n").await;
    seen.until("the burst", |seen| contains(&seen.output, b"xxx")).await;
    let (id, end) = (seen.shell.id(), seen.end());
    drop(seen);
    // The shell comes here only when all its output has been read, with nobody connected.
    tokio::task::spawn_blocking(move || std::fs::read(done)).await.unwrap().unwrap();
    let shell = place.holders.connect(id).await.unwrap();
    let state = shell.state().clone();
    assert!(state.end > 10_000_000 && state.end - state.base == 4 << 20, "{state:?}");
    assert!(
        state.dropped > 0 && state.base - state.dropped <= end,
        "more than {end} is gone without being counted: {state:?}"
    );
    let mut seen = Seen::from(shell, state.base).await;
    seen.until("what was kept", |seen| seen.end() >= state.end).await;
}

#[tokio::test]
async fn output_that_is_not_confirmed_holds_the_shell_up_and_is_not_lost() {
    let person = Person::new();
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    seen.confirms = false;
    seen.line("stty -opost; echo be''gin; head -c 10000000 /dev/zero | tr '\\0' x; echo e''nd; exit").await;
    seen.until("the part that needs no confirmation", |seen| seen.output.len() >= 4 << 20).await;
    let (offset, _) = seen.repainted().await;
    assert!(offset <= (4 << 20) + (16 << 10), "{offset} bytes were read ahead of the agent");
    seen.confirms = true;
    seen.shell.ack(seen.end()).await.unwrap();
    seen.ends().await;
    let text = String::from_utf8_lossy(&seen.output);
    let (_, burst) = text.split_once("begin\n").unwrap();
    assert_eq!(burst.find(|letter| letter != 'x'), Some(10_000_000));
    assert!(burst.contains("xend\n"));
}

#[tokio::test]
async fn a_shell_that_nobody_comes_back_to_is_hung_up() {
    let person = Person::new();
    let place = Place::new();
    let seen = place.start_with(&person.user, Duration::from_secs(1)).await;
    let (id, shell) = (seen.shell.id(), Watched::new(seen.shell.state().pid));
    assert!(shell.is_running());
    drop(seen);
    shell.ended("an abandoned shell").await;
    gone(&place, id).await;
}

/// Waits until the holder has taken its socket away.
async fn gone(place: &Place, id: bz_agent::holders::ShellId) {
    let socket = place.directory.path().join("shells").join(format!("{id}.sock"));
    let ended = async {
        while socket.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("the holder is still there");
}

#[tokio::test]
async fn an_exit_waits_for_the_agent_and_then_the_holder_goes() {
    let person = Person::new();
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    let (id, shell) = (seen.shell.id(), Watched::new(seen.shell.state().pid));
    seen.line("echo re''ady; read -r go; exit 9").await;
    seen.shows("ready").await;
    seen.line("").await;
    drop(seen);
    shell.ended("the shell").await;
    let state = |shell: &bz_agent::holders::Shell| shell.state().exited;
    let shell = tokio::time::timeout(DEADLINE, async {
        loop {
            let shell = place.holders.adopt().await.unwrap().remove(0);
            if state(&shell).is_some() {
                break shell;
            }
        }
    });
    let shell = shell.await.expect("the exit was never reported");
    assert_eq!((state(&shell), shell.id()), (Some(ExitStatus::Code(9)), id));
    let first = shell.state().base;
    let mut seen = Seen::from(shell, first).await;
    assert_eq!(seen.ends().await, ExitStatus::Code(9));
    seen.shell.release().await.unwrap();
    gone(&place, id).await;
    assert_eq!(place.holders.adopt().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_release_before_the_exit_is_none() {
    let person = Person::new();
    let place = Place::new();
    let seen = place.start(&person.user).await;
    let id = seen.shell.id();
    seen.shell.release().await.unwrap();
    let shell = place.holders.connect(id).await.unwrap();
    let mut seen = Seen::from(shell, 0).await;
    seen.line("echo still h''ere").await;
    seen.shows("still here").await;
}

#[tokio::test]
async fn nonsense_on_the_socket_costs_the_connection_and_not_the_shell() {
    let person = Person::new();
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    let socket = place.directory.path().join("shells").join(format!("{}.sock", seen.shell.id()));
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let hello = b"\0\0\0\x06\0\0\0\0\0\x01";
    let other = b"\0\0\0\x06\0\0\0\0\0\x63";
    for (words, answer) in [
        (&b"\xff\xff\xff\xff"[..], &b""[..]),
        (b"\0\0\0\x04\0\0\0\x63", b""),
        (b"\0\0\0\x0e\0\0\0\x01\0\0\0\0\0\0\0\x02hi", b""),
        (other, b"\0\0\0\x06\0\0\0\0\0\x01"),
        (b"", b""),
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(words).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = vec![];
        stream.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, answer, "for {words:02x?}");
    }
    // None of that was an agent, so the first one is still connected.
    seen.line("echo undis''turbed").await;
    seen.shows("undisturbed").await;
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(&[&hello[..], b"\0\0\0\x04\0\0\0\x63"].concat()).unwrap();
    stream.read_to_end(&mut vec![]).unwrap();
    let from = seen.end();
    let mut seen = Seen::from(place.holders.connect(seen.shell.id()).await.unwrap(), from).await;
    seen.line("echo re''covered").await;
    seen.shows("recovered").await;
}

#[tokio::test]
async fn another_user_is_not_let_in() {
    if !is_root() || !Path::new("/usr/bin/perl").exists() {
        return left_out("another user at the socket", "this is not root, or there is no perl");
    }
    let person = Person::new();
    let place = Place::new();
    let seen = place.start(&person.user).await;
    let shells = place.directory.path().join("shells");
    let socket = shells.join(format!("{}.sock", seen.shell.id()));
    run("chmod", &["755", place.directory.path().to_str().unwrap(), shells.to_str().unwrap()]);
    run("chmod", &["666", socket.to_str().unwrap()]);
    let knock = format!(
        "perl -MIO::Socket::UNIX -e '$SIG{{PIPE}} = \"IGNORE\"; $s = IO::Socket::UNIX->new(\"{}\") or die; \
         syswrite $s, \"\\0\\0\\0\\6\\0\\0\\0\\0\\0\\1\"; print \"heard \", sysread($s, $x, 4) || \"nothing\"'",
        socket.display()
    );
    for (user, answer) in [(person.user.clone(), "heard nothing"), (User::resolve("root").unwrap(), "heard 4")] {
        let request = ExecRequest { command: knock.clone().into(), environment: Environment::default() };
        let mut exec = Exec::spawn(&helper(), &user, request).await.unwrap();
        let mut heard = String::new();
        exec.stdout.take().unwrap().read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, answer, "{} knocked", user.name);
    }
}

#[tokio::test]
async fn a_directory_that_others_can_enter_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let make = |name: &str, mode: u32| {
        let path = place.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let linked = place.path().join("linked");
    std::os::unix::fs::symlink(make("target", 0o700), &linked).unwrap();
    for path in [make("open", 0o755), make("listed", 0o710), linked, "/etc/hostname".into()] {
        let outcome = Holders::new(helper(), &path);
        assert!(matches!(outcome, Err(HoldersError::Exposed { .. })), "for {}: {outcome:?}", path.display());
    }
    assert!(matches!(Holders::new(helper(), place.path().join("no/such")), Err(HoldersError::Directory { .. })));
    assert!(Holders::new(helper(), make("own", 0o700)).is_ok());
}

#[tokio::test]
async fn a_holder_that_was_killed_leaves_nothing_to_adopt() {
    let person = Person::new();
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    let shell = Watched::new(seen.shell.state().pid);
    seen.line("echo kee''per=$PPID.").await;
    seen.shows("keeper=").await;
    let text = String::from_utf8_lossy(&seen.output).into_owned();
    let keeper = text.rsplit("keeper=").find_map(|rest| rest.split_once('.')?.0.parse::<u32>().ok()).unwrap();
    run("kill", &["-9", &keeper.to_string()]);
    shell.ended("a shell without its holder").await;
    assert_eq!(place.holders.adopt().await.unwrap().len(), 0);
    assert_eq!(std::fs::read_dir(place.directory.path().join("shells")).unwrap().count(), 0);
}

#[tokio::test]
async fn many_shells_are_adopted_each_under_its_own_name() {
    let person = Person::new();
    let place = Place::new();
    let mut started = vec![];
    for number in 0..4 {
        let request =
            ShellRequest { environment: Environment::default(), size: Size::clamped(10, 20 + number), idle: IDLE };
        started.push(place.holders.start(&person.user, request).await.unwrap());
    }
    let mut ids: Vec<_> = started.iter().map(|shell| (shell.id(), shell.state().size)).collect();
    drop(started);
    let mut adopted: Vec<_> =
        place.holders.adopt().await.unwrap().iter().map(|shell| (shell.id(), shell.state().size)).collect();
    ids.sort_by_key(|(id, _)| *id);
    adopted.sort_by_key(|(id, _)| *id);
    assert_eq!(adopted, ids);
}
