//! A user to act as, a directory for holders, and an observer that waits for what a shell shows.

use bz_agent::helper::Helper;
use bz_agent::holders::{ExitStatus, HolderEvent, Holders, IDLE, Shell, ShellRequest, Size};
use bz_agent::user::{Environment, User};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Far above what anything here needs, so that only a real fault runs into it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn helper() -> Helper {
    Helper::at(env!("CARGO_BIN_EXE_bz-helper"))
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says what is left out and why; where everything must run, that is a failure.
pub(crate) fn left_out(what: &str, why: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{what} may not be left out here: {why}");
    println!("LEFT OUT: {what}: {why}");
}

pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    ["/bin", "/usr/bin", "/usr/sbin", "/usr/local/bin"]
        .iter()
        .map(|place| Path::new(place).join(program))
        .find(|path| path.exists())
}

/// Somebody with the system's stock start-up files. As root that is a new user of its own, removed
/// at the end; otherwise this very user in a new home.
pub(crate) struct Person {
    pub(crate) user: User,
    home: Option<TempDir>,
}

/// The account tools lock one file and do not wait for each other.
static ACCOUNTS: Mutex<()> = Mutex::new(());

impl Person {
    pub(crate) fn new() -> Self {
        Self::in_groups(&[])
    }

    pub(crate) fn in_groups(groups: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !is_root() {
            let home = tempfile::tempdir().unwrap();
            run("cp", &["-rT", "/etc/skel", home.path().to_str().unwrap()]);
            let user = User { home: home.path().to_owned(), shell: "/bin/bash".into(), ..User::current().unwrap() };
            return Self { user, home: Some(home) };
        }
        let name = format!("bzt{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        account("useradd", &["-m", "-s", "/bin/bash", "-G", &groups.join(","), &name]);
        Self { user: User::resolve(&name).unwrap(), home: None }
    }

    /// One of the system's own users, who could log in all the same.
    pub(crate) fn of_the_system() -> Self {
        let name = format!("bzs{}", std::process::id());
        account("useradd", &["-r", "-m", "-s", "/bin/bash", &name]);
        Self { user: User::resolve(&name).unwrap(), home: None }
    }

    pub(crate) fn with_shell(mut self, shell: &Path) -> Self {
        self.user.shell = shell.to_owned();
        self
    }

    pub(crate) fn write(&self, name: &str, contents: &str) {
        let path = self.user.home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        if is_root() {
            run("chown", &["-R", &self.user.name, self.user.home.to_str().unwrap()]);
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        if self.home.is_none() {
            account("userdel", &["-f", "-r", &self.user.name]);
        }
    }
}

/// Another program on the machine may hold the lock for a moment: its file's end is waited for.
fn account(tool: &str, arguments: &[&str]) {
    let _alone = ACCOUNTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let output = Command::new("flock").arg("/run/bz-agent-tests.lock").arg(tool).args(arguments).output().unwrap();
    // userdel reports a mail spool that never existed, and still removes the user
    let done = output.status.success() || (tool == "userdel" && output.status.code() == Some(12));
    assert!(done, "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A process watched by a handle, which no later process of the same number can take over.
pub(crate) struct Watched(Option<std::os::fd::OwnedFd>);

impl Watched {
    pub(crate) fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        Self(pidfd_open(pid, PidfdFlags::empty()).ok())
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    pub(crate) async fn ended(self, what: &str) {
        let what = what.to_owned();
        let wait = move || assert!(self.ends_within(DEADLINE), "{what} is still running");
        tokio::task::spawn_blocking(wait).await.unwrap();
    }

    fn ends_within(&self, time: Duration) -> bool {
        let Some(fd) = &self.0 else { return true };
        let time = Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap(), tv_nsec: 0 };
        poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&time)).unwrap() > 0
    }
}

/// A place for holders that goes away with the test.
pub(crate) struct Place {
    pub(crate) holders: Holders,
    pub(crate) directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let holders = Holders::new(helper(), directory.path().join("shells")).unwrap();
        Self { holders, directory }
    }

    pub(crate) async fn start(&self, user: &User) -> Seen {
        self.start_with(user, IDLE).await
    }

    pub(crate) async fn start_with(&self, user: &User, idle: Duration) -> Seen {
        let environment =
            Environment::default().with("TERM", "xterm-256color").unwrap().with("LANG", "C.UTF-8").unwrap();
        let request = ShellRequest { environment, size: Size::clamped(24, 80), idle };
        Seen::from(self.holders.start(user, request).await.unwrap(), 0).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        end_holders(&self.directory.path().join("shells"));
    }
}

/// What a test left running would run for a week.
pub(crate) fn end_holders(directory: &Path) {
    let found = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for socket in found.map(|entry| entry.path()) {
        let holder = UnixStream::connect(socket).ok().and_then(|stream| socket_peercred(&stream).ok());
        if let Some(holder) = holder {
            kill_process(holder.pid, Signal::KILL).unwrap_or_default();
        }
    }
}

/// A shell, and everything it has shown so far.
pub(crate) struct Seen {
    pub(crate) shell: Shell,
    pub(crate) first: u64,
    pub(crate) output: Vec<u8>,
    pub(crate) passwords: Vec<(u64, bool)>,
    pub(crate) repaint: Option<(u64, Vec<u8>)>,
    pub(crate) exited: Option<(u64, ExitStatus)>,
    /// What was shown before the last input.
    mark: usize,
    /// Whether output is confirmed as it comes.
    pub(crate) confirms: bool,
}

impl Seen {
    pub(crate) async fn from(shell: Shell, first: u64) -> Self {
        shell.take(first).await.unwrap();
        Self { shell, first, output: vec![], passwords: vec![], repaint: None, exited: None, mark: 0, confirms: true }
    }

    pub(crate) fn end(&self) -> u64 {
        self.first + self.output.len() as u64
    }

    /// Types a line, as if at a keyboard.
    pub(crate) async fn line(&mut self, line: &str) {
        self.keys(format!("{line}\r").as_bytes()).await;
    }

    pub(crate) async fn keys(&mut self, keys: &[u8]) {
        self.mark = self.output.len();
        self.shell.input(keys).await.unwrap();
    }

    /// Waits until `text` has been shown since the last input.
    pub(crate) async fn shows(&mut self, text: &str) {
        let mark = self.mark;
        self.until(text, |seen| contains(seen.output.get(mark..).unwrap_or_default(), text.as_bytes())).await;
    }

    pub(crate) async fn asks_for_password(&mut self, on: bool) {
        self.until(&format!("password mode {on}"), |seen| seen.passwords.last().map_or(!on, |(_, last)| *last == on))
            .await;
    }

    pub(crate) async fn ends(&mut self) -> ExitStatus {
        self.until("the exit", |seen| seen.exited.is_some()).await;
        self.exited.unwrap().1
    }

    pub(crate) async fn repainted(&mut self) -> (u64, Vec<u8>) {
        self.shell.repaint().await.unwrap();
        self.until("a repaint", |seen| seen.repaint.is_some()).await;
        self.repaint.take().unwrap()
    }

    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                self.step().await;
            }
        };
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            let tail = self.output.len().saturating_sub(2000);
            panic!("{what:?} did not come; the last output was {:?}", String::from_utf8_lossy(&self.output[tail..]));
        }
    }

    pub(crate) async fn step(&mut self) {
        match self.shell.next().await.unwrap() {
            HolderEvent::Output { offset, bytes } => {
                assert_eq!(offset, self.end(), "output has a gap or comes twice");
                self.output.extend(bytes);
                if self.confirms {
                    self.shell.ack(self.end()).await.unwrap();
                }
            }
            HolderEvent::Repaint { offset, bytes } => self.repaint = Some((offset, bytes)),
            HolderEvent::PasswordMode { offset, on } => self.passwords.push((offset, on)),
            HolderEvent::Exited { offset, status } => self.exited = Some((offset, status)),
        }
    }
}

pub(crate) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
