//! A shell in its terminal: what a person at a keyboard relies on.

use crate::world::{Person, Place, Watched, is_root};
use bz_agent::holders::{ExitStatus, Size};

/// A shell at its first prompt, without marks in what it shows.
macro_rules! at_a_prompt {
    ($place:ident, $seen:ident) => {
        let person = Person::new();
        let $place = Place::new();
        let mut $seen = $place.start(&person.user).await;
        $seen.line("PS1='at-'prompt'> '").await;
        $seen.shows("at-prompt>").await;
    };
}

#[tokio::test]
async fn a_login_shell_of_the_user_runs_in_a_terminal_of_its_own() {
    let person = Person::new();
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    assert_eq!(seen.shell.state().user, person.user.name);
    seen.line("echo 0=$0 pid=$$ term=$TERM lang=$LANG; shopt login_shell").await;
    seen.shows(&format!("0=-bash pid={} term=xterm-256color lang=C.UTF-8\r\n", seen.shell.state().pid)).await;
    seen.shows("login_shell    \ton").await;
    seen.line("id -un; pwd; stat -c %U:%a $(tty); ls /proc/$$/fd | tr '\\n' ' '").await;
    let name = &person.user.name;
    seen.shows(&format!("{name}\r\n{}\r\n{name}:620\r\n0 1 2 255 ", person.user.home.display())).await;
    seen.line("env | cut -d= -f1 | sort | tr '\\n' ' '").await;
    seen.shows("LOGNAME ").await;
    let shown = String::from_utf8_lossy(&seen.output).into_owned();
    assert!(!shown.contains("CARGO") && !shown.contains("BZ_MARKS") && !shown.contains("PROMPT_COMMAND"), "{shown}");
    seen.line("exit 3").await;
    assert_eq!(seen.ends().await, ExitStatus::Code(3));
}

#[tokio::test]
async fn a_shell_that_is_killed_ends_by_that_signal() {
    at_a_prompt!(place, seen);
    seen.line("kill -9 $$").await;
    assert_eq!(seen.ends().await, ExitStatus::Signal(9));
}

#[tokio::test]
async fn a_resize_is_seen_by_the_program_in_front() {
    at_a_prompt!(place, seen);
    seen.line("stty size").await;
    seen.shows("24 80\r\n").await;
    seen.line(r#"perl -e '$SIG{WINCH} = sub { system "stty size" }; print STDERR "re", "ady"; sleep 1 while 1'"#).await;
    seen.shows("ready").await;
    seen.shell.resize(Size::clamped(40, 123)).await.unwrap();
    seen.shows("40 123\r\n").await;
    seen.shell.resize(Size::clamped(0, 65535)).await.unwrap();
    seen.shows("1 1000\r\n").await;
}

#[tokio::test]
async fn keys_reach_jobs_and_only_the_one_in_front() {
    at_a_prompt!(place, seen);
    seen.line("sleep 1000 & echo back''ground=$!.").await;
    seen.shows("background=").await;
    seen.line("echo re''ady; cat").await;
    seen.shows("ready").await;
    seen.line("typed twice").await;
    seen.shows("typed twice\r\ntyped twice\r\n").await;
    seen.keys(b"\x1a").await;
    seen.shows("Stopped").await;
    seen.line("echo re''ady; fg").await;
    // The shell names the job it brings to the front.
    seen.shows("ready\r\ncat\r\n").await;
    seen.line("again").await;
    seen.shows("again\r\nagain\r\n").await;
    seen.keys(b"\x03").await;
    seen.shows("at-prompt>").await;
    seen.line("echo status=$?").await;
    seen.shows("status=130").await;
    seen.line("jobs -r | wc -l | tr '\\n' '.'").await;
    seen.shows("1.").await;
    seen.line("kill %1; wait %1; echo ended=$?").await;
    seen.shows("ended=143").await;
    seen.line("echo re''ady; cat > /dev/null; echo ended=$?").await;
    seen.shows("ready").await;
    seen.keys(b"\x04").await;
    seen.shows("ended=0").await;
}

#[tokio::test]
async fn secrets_are_announced_and_a_prompt_is_none() {
    at_a_prompt!(place, seen);
    assert_eq!(seen.passwords, [], "a prompt, or the shell's start, was taken for a secret");
    seen.line("read -rs secret; echo le''ngth=${#secret}").await;
    seen.asks_for_password(true).await;
    seen.line("hunter2").await;
    seen.shows("length=7").await;
    seen.asks_for_password(false).await;
    seen.line("stty -echo; cat").await;
    seen.asks_for_password(true).await;
    seen.line("shown once").await;
    seen.shows("shown once").await;
    seen.keys(b"\x03").await;
    seen.shows("at-prompt>").await;
    seen.asks_for_password(false).await;
    let changes: Vec<_> = seen.passwords.iter().map(|(_, on)| *on).collect();
    assert_eq!(changes, [true, false, true, false]);
    assert!(!String::from_utf8_lossy(&seen.output).contains("hunter2"));
}

#[tokio::test]
async fn a_burst_arrives_whole() {
    at_a_prompt!(place, seen);
    seen.line("stty -opost; echo be''gin; head -c 10000000 /dev/zero | tr '\\0' x; echo e''nd; exit").await;
    assert_eq!(seen.ends().await, ExitStatus::Code(0));
    let text = String::from_utf8_lossy(&seen.output);
    let (_, burst) = text.split_once("begin\n").unwrap();
    let (burst, _) = burst.split_once("end\n").unwrap();
    assert!(burst.bytes().all(|byte| byte == b'x'), "something stands inside the burst");
    assert_eq!(burst.len(), 10_000_000);
    assert_eq!(seen.exited.unwrap().0, seen.end());
}

#[tokio::test]
async fn bytes_that_are_no_text_arrive_as_they_are() {
    at_a_prompt!(place, seen);
    seen.line("stty -opost; for i in $(seq 0 255); do printf \"\\\\x$(printf %x $i)\"; done; echo e''nd").await;
    seen.shows("end").await;
    let all: Vec<u8> = (0..=255).collect();
    assert!(crate::world::contains(&seen.output, &all), "{:?}", String::from_utf8_lossy(&seen.output));
    seen.line("exit").await;
    seen.ends().await;
}

#[tokio::test]
async fn a_paste_waits_for_the_program_and_none_of_it_is_lost() {
    at_a_prompt!(place, seen);
    seen.line("stty raw -echo; echo re''ady; head -c 3000000 | md5sum; stty sane; echo e''nd").await;
    seen.shows("ready").await;
    let paste: Vec<u8> = (0..3_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    let expected = {
        let file = place.directory.path().join("paste");
        std::fs::write(&file, &paste).unwrap();
        crate::world::run("md5sum", &[file.to_str().unwrap()])[..32].to_owned()
    };
    let writer = seen.shell.writer();
    let pasting = tokio::spawn(async move { writer.input(&paste).await });
    seen.shows(&expected).await;
    pasting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_hang_up_ends_the_shell_and_its_jobs() {
    at_a_prompt!(place, seen);
    // A job that is not its program yet loses a hang-up in bash, and between a command and the next
    // prompt bash passes none on.
    seen.line(r#"sleep 1000 & until [ "$(</proc/$!/comm)" = sleep ]; do :; done; echo jo''b=$!."#).await;
    seen.shows("job=").await;
    seen.shows("at-prompt>").await;
    let text = String::from_utf8_lossy(&seen.output).into_owned();
    let job = text.rsplit("job=").find_map(|rest| rest.split_once('.')?.0.parse().ok()).unwrap();
    let (job, shell) = (Watched::new(job), Watched::new(seen.shell.state().pid));
    assert!(job.is_running() && shell.is_running());
    seen.shell.hangup().await.unwrap();
    assert_eq!(seen.ends().await, ExitStatus::Signal(1));
    job.ended("a job of a hung-up shell").await;
    shell.ended("a hung-up shell").await;
}

#[tokio::test]
async fn a_shell_that_ignores_a_hang_up_can_be_killed() {
    at_a_prompt!(place, seen);
    seen.line(
        r#"exec perl -e '$SIG{HUP} = sub { print STDERR "not ", "yet" }; print STDERR "re", "ady"; sleep 1 while 1'"#,
    )
    .await;
    seen.shows("ready").await;
    seen.shell.hangup().await.unwrap();
    seen.shows("not yet").await;
    seen.shell.kill().await.unwrap();
    assert_eq!(seen.ends().await, ExitStatus::Signal(9));
}

/// As bash misses one between its prompt and its first read.
#[tokio::test]
async fn a_shell_that_missed_a_hang_up_is_told_again() {
    at_a_prompt!(place, seen);
    seen.line(r#"exec perl -e '$SIG{HUP} = sub { $SIG{HUP} = "DEFAULT" }; print STDERR "re", "ady"; sleep 1 while 1'"#)
        .await;
    seen.shows("ready").await;
    seen.shell.hangup().await.unwrap();
    assert_eq!(seen.ends().await, ExitStatus::Signal(1));
}

#[tokio::test]
async fn the_screen_is_painted_again_as_it_stands() {
    at_a_prompt!(place, seen);
    seen.line("clear; printf 'a\\033[31mred\\033[0m\\n\\033[5;10Hmiddle \\u65e5\\u672c'; printf '\\033[?2004h\\033[10;1He''nd'; read -r answer").await;
    seen.shows("end").await;
    let (offset, dump) = seen.repainted().await;
    let live = drawn(&seen.output[..usize::try_from(offset).unwrap()]);
    assert!(live.0.iter().any(|line| line == "         middle 日本"), "{live:?}");
    assert_eq!(drawn(&dump), live);
    assert!(crate::world::contains(&dump, b"\x1b[?2004h"));
}

#[tokio::test]
async fn the_screen_of_an_editor_is_painted_again_and_the_one_below_it_is_kept() {
    at_a_prompt!(place, seen);
    seen.line("clear; echo below; printf '\\033[?1049h\\033[H\\033[2Ja''bove'; read -r answer; printf '\\033[?1049l'; echo back").await;
    seen.shows("above").await;
    let (offset, dump) = seen.repainted().await;
    assert_eq!(drawn(&dump), drawn(&seen.output[..usize::try_from(offset).unwrap()]));
    seen.line("").await;
    seen.shows("back\r\n").await;
    let rest = &seen.output[usize::try_from(offset).unwrap()..];
    assert_eq!(drawn(&[&dump, rest].concat()), drawn(&seen.output));
    assert!(drawn(&seen.output).0.iter().any(|line| line == "below"));
}

/// The text and the cursor of a terminal that was given these bytes.
fn drawn(bytes: &[u8]) -> (Vec<String>, (usize, usize)) {
    let mut terminal = avt::Terminal::new(80, 24).unwrap();
    terminal.feed(String::from_utf8_lossy(bytes).as_ref());
    let lines = (0..24).map(|row| terminal.screen().line(row).unwrap().text().trim_end().to_owned()).collect();
    (lines, (terminal.cursor().col, terminal.cursor().row))
}

#[tokio::test]
async fn a_shell_of_a_user_cannot_be_had_when_the_switch_fails() {
    let person = Person::new();
    let place = Place::new();
    let other = bz_agent::user::User { shell: "/no/such/shell".into(), ..person.user.clone() };
    let request = bz_agent::holders::ShellRequest {
        environment: bz_agent::user::Environment::default(),
        size: Size::clamped(24, 80),
        idle: bz_agent::holders::IDLE,
    };
    let outcome = place.holders.start(&other, request).await;
    let launch = bz_agent::helper::LaunchError::Execute { errno: nix::errno::Errno::ENOENT as i32 };
    let expected = bz_agent::holders::StartError::Shell(launch);
    assert!(
        matches!(&outcome, Err(bz_agent::holders::HoldersError::Start(error)) if *error == expected),
        "{outcome:?}"
    );
    assert_eq!(place.holders.adopt().await.unwrap().len(), 0);
    assert_eq!(std::fs::read_dir(place.directory.path().join("shells")).unwrap().count(), 0, "root: {}", is_root());
}
