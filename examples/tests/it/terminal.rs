//! The first command in a terminal, as a newcomer sits before it: the real program on a real pseudoterminal.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bz_examples::needs;
use pty_process::{OwnedReadPty, OwnedWritePty, Size};
use rustix::termios::{LocalModes, Termios, tcgetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

/// Far above what anything here needs, so that only a real fault runs into it.
const DEADLINE: Duration = Duration::from_secs(60);
/// The prompt that the tests set, and how they set it: what comes back of the keys is something else.
const PROMPT: &str = "at-prompt> ";
const SET_PROMPT: &str = "PS1='at-'prompt'> '";

/// F-005, F-007~: what a person does in any terminal works through client, server and agent: editing, signals, job
/// control, sizes, an editor; and the terminal is as it was before.
#[tokio::test(flavor = "multi_thread")]
async fn quickstart_is_a_shell_like_any_other() {
    if !needs::program("bash") || !needs::program("vim") {
        return;
    }
    let mut desk = Desk::with(&[], None);
    let before = desk.modes();
    desk.shows(&["leave with `exit`"]).await;
    desk.line(SET_PROMPT, &[PROMPT]).await;
    assert!(!desk.modes().local_modes.contains(LocalModes::ICANON), "keys go to the shell one by one");
    desk.line("printf 'one-%d\\n' 1", &["one-1\r\n", PROMPT]).await;

    // By then it is the program in front; a key struck while a shell starts one can get lost between the two.
    desk.line("sh -c 'printf \"rea%s\\n\" dy; exec sleep 1000'", &["ready\r\n"]).await;
    desk.keys("\x03", &[PROMPT]).await;
    desk.line("printf 'status-%d\\n' $?", &["status-130\r\n", PROMPT]).await;

    desk.line("printf 'rea%s\\n' dy; cat", &["ready\r\n"]).await;
    desk.line("twice", &["twice\r\ntwice\r\n"]).await;
    desk.keys("\x1a", &["Stopped", PROMPT]).await;
    desk.line("jobs", &["Stopped", PROMPT]).await;
    desk.line("fg", &["cat\r\n"]).await;
    desk.line("again", &["again\r\nagain\r\n"]).await;
    desk.keys("\x04", &[PROMPT]).await;

    let watch = r#"perl -e '$SIG{WINCH} = sub { system "stty size"; print STDERR "so" }; print STDERR "rea", "dy"; sleep 1 while 1'"#;
    desk.line(watch, &["ready"]).await;
    for (rows, columns, seen) in [(40, 123, "40 123\r\nso"), (0, 65535, "1 1000\r\nso"), (65535, 0, "500 1\r\nso")] {
        desk.mark = desk.seen.len();
        desk.keyboard.resize(Size::new(rows, columns)).unwrap();
        desk.shows(&[seen]).await;
    }
    desk.mark = desk.seen.len();
    desk.keyboard.resize(Size::new(24, 80)).unwrap();
    desk.shows(&["24 80\r\nso"]).await;
    desk.keys("\x03", &[PROMPT]).await;

    desk.line("vim -u NONE", &["\x1b[?1049h", "~"]).await;
    desk.keys(":q!\r", &["\x1b[?1049l", PROMPT]).await;
    desk.line("exit 5", &[" verifies: ", "everything is kept in "]).await;
    assert_eq!(desk.ends().await.code(), Some(5), "{}", desk.tail());
    same(&desk.modes(), &before);
}

/// Where the shell's terminal dies, the person's own is given back, and the exit status says what happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_whose_terminal_dies_gives_back_the_persons() {
    let mut desk = Desk::with(&[], None);
    let before = desk.modes();
    desk.shows(&["leave with `exit`"]).await;
    desk.line(SET_PROMPT, &[PROMPT]).await;
    // The process above the shell is what keeps its terminal.
    desk.line("kill -9 $PPID", &["everything is kept in "]).await;
    assert_eq!(desk.ends().await.code(), Some(129), "{}", desk.tail());
    same(&desk.modes(), &before);
}

/// Output that nobody takes is an error, after which the terminal is not left raw.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_gives_the_terminal_back() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut desk = Desk::with(&[], Some(writer.into()));
    let before = desk.modes();
    drop(reader);
    desk.shows(&["Broken pipe"]).await;
    assert_eq!(desk.ends().await.code(), Some(1), "{}", desk.tail());
    same(&desk.modes(), &before);
}

#[track_caller]
fn same(now: &Termios, before: &Termios) {
    let modes = |t: &Termios| (t.input_modes, t.output_modes, t.control_modes, t.local_modes);
    assert_eq!(modes(now), modes(before), "the terminal is not as it was");
    assert!(now.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO), "{now:?}");
}

/// Somebody before a terminal in which quickstart runs.
struct Desk {
    program: Child,
    screen: OwnedReadPty,
    keyboard: OwnedWritePty,
    terminal: OwnedFd,
    seen: String,
    /// How much was seen before the last keys.
    mark: usize,
    hung_up: bool,
    /// The first command keeps what it made for its user; a test does not.
    _folder: tempfile::TempDir,
}

impl Desk {
    fn with(arguments: &[&str], output: Option<OwnedFd>) -> Self {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(Size::new(24, 80)).unwrap();
        // Held open, so that its modes can be seen when the program has gone.
        let terminal = pty.as_fd().try_clone_to_owned().unwrap();
        let command = pty_process::Command::new(env!("CARGO_BIN_EXE_quickstart")).args(arguments);
        let folder = tempfile::tempdir().unwrap();
        let command = command.env("TERM", "xterm-256color").env("TMPDIR", folder.path());
        let mut command = command.kill_on_drop(true);
        if let Some(output) = output {
            command = command.stdout(Stdio::from(output));
        }
        let program = command.spawn(pts).unwrap();
        let (screen, keyboard) = pty.into_split();
        Self { program, screen, keyboard, terminal, seen: String::new(), mark: 0, hung_up: false, _folder: folder }
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }

    async fn line(&mut self, line: &str, shows: &[&str]) {
        self.keys(&format!("{line}\r"), shows).await;
    }

    /// Types, and waits until all of it has come, one after the other.
    async fn keys(&mut self, keys: &str, shows: &[&str]) {
        self.mark = self.seen.len();
        self.keyboard.write_all(keys.as_bytes()).await.unwrap();
        self.shows(shows).await;
    }

    async fn shows(&mut self, wanted: &[&str]) {
        let mark = self.mark;
        let come =
            |seen: &str| wanted.iter().try_fold(&seen[mark..], |rest, one| Some(rest.split_once(one)?.1)).is_some();
        self.until(&format!("{wanted:?}"), |desk| come(&desk.seen)).await;
    }

    async fn ends(&mut self) -> ExitStatus {
        self.until("the end", |desk| desk.hung_up).await;
        tokio::time::timeout(DEADLINE, self.program.wait()).await.expect("it ends when it has said all").unwrap()
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let read = async {
            let mut buffer = vec![0; 16 << 10];
            while !holds(self) {
                match self.screen.read(&mut buffer).await {
                    Ok(count @ 1..) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                    // The kernel reports a terminal that nobody has open as an input/output error.
                    Ok(0) | Err(_) if !self.hung_up => self.hung_up = true,
                    Ok(_) | Err(_) => panic!("the program is gone before {what}: {}", self.tail()),
                }
            }
        };
        if tokio::time::timeout(DEADLINE, read).await.is_err() {
            panic!("{what} did not come: {}", self.tail());
        }
    }

    fn tail(&self) -> String {
        format!("{:?}", self.seen.get(self.mark.saturating_sub(500)..).unwrap_or(&self.seen))
    }
}
