//! A person's desk: one folder with a home of its own, programs in windows, and a browser.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bz_examples::browser::{authorize_without_browser, loopback_client};
use pty_process::{OwnedWritePty, Size};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use url::Url;

/// Far above what anything here needs, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The folder in which the guide is followed.
pub(super) struct Desk {
    folder: tempfile::TempDir,
    /// What every window begins with.
    preamble: String,
    /// The addresses that programs open in the browser, a line each.
    pages: BufReader<pipe::Receiver>,
}

impl Desk {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("home")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("pages")).status().unwrap();
        assert!(made.success(), "mkfifo fails");
        let pages = pipe::OpenOptions::new().read_write(true).open_receiver(at("pages")).unwrap();
        std::fs::write(at("browser"), format!("#!/bin/sh\necho \"$1\" > '{}'\n", at("pages").display())).unwrap();
        std::fs::set_permissions(at("browser"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, preamble: String::new(), pages: BufReader::new(pages) }
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A line that every window begins with, such as an `export`.
    pub(super) fn begin_with(&mut self, line: &str) {
        self.preamble = format!("{line}\n");
    }

    fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("HOME", self.at("home")),
            // A client that is killed says no word over QUIC, and is missed after 50 s.
            ("BZ_CARRIER", "ws".into()),
            ("PATH", std::env::var_os("PATH").unwrap_or_default().into()),
            ("BROWSER", self.at("browser")),
            ("TERM", "xterm-256color".into()),
            ("BZ_LOG", "info,bz_agent::session=debug".into()),
            // As root the agent's own folders would be the machine's.
            ("BZ_AGENT_STATE_DIR", self.at("agent")),
            ("BZ_AGENT_LOCAL_POLICY", self.at("agent-policy.toml")),
        ]
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{}{line}", self.preamble)]).current_dir(self.folder.path());
        command.env_clear().envs(self.environment()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub(super) async fn try_run(&self, line: &str) -> Output {
        let output = tokio::time::timeout(DEADLINE, self.command(line).output()).await;
        output.unwrap_or_else(|_| panic!("{line} does not end")).unwrap()
    }

    /// Runs a command that must work; what it prints.
    pub(super) async fn run(&self, line: &str) -> String {
        let output = self.try_run(line).await;
        assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command until it prints this.
    pub(super) async fn run_until(&self, line: &str, holds: impl Fn(&str) -> bool) -> String {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let said = self.run(line).await;
            if holds(&said) {
                return said;
            }
            assert!(tokio::time::Instant::now() < deadline, "{line} never says what it should: {said}");
        }
    }

    /// Starts a program that stays.
    pub(super) fn start(&self, line: &str) -> Program {
        let mut child = self.command(&format!("exec {line}")).stderr(Stdio::piped()).spawn().unwrap();
        let said = Said::new(line, child.stderr.take().unwrap());
        Program { child, said }
    }

    /// Starts a program in a terminal.
    pub(super) fn terminal(&self, line: &str) -> Terminal {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(Size::new(24, 80)).unwrap();
        // Whoever runs the tests in the background has Ctrl-C ignored, and so would everything below; a person has not.
        let command = pty_process::Command::new("env")
            .args(["--default-signal=INT,QUIT", "bash", "-c", &format!("{}exec {line}", self.preamble)])
            .current_dir(self.folder.path())
            .env_clear()
            .envs(self.environment())
            .kill_on_drop(true);
        let child = command.spawn(pts).unwrap();
        let (output, input) = pty.into_split();
        Terminal { child, input, said: Said::new(line, output) }
    }

    /// Waits for the page that a program opens in the browser.
    pub(super) async fn opened_page(&mut self) -> String {
        let mut page = String::new();
        let opened = tokio::time::timeout(DEADLINE, self.pages.read_line(&mut page)).await;
        opened.expect("no program opens a page in the browser").unwrap();
        page.trim().to_owned()
    }

    /// Waits for the page that a program opens in the browser, logs `user` in, and follows the redirect.
    pub(super) async fn log_in_at_the_browser(&mut self, user: &str) {
        let page = self.opened_page().await;
        let redirect = authorize_without_browser(&Url::parse(&page).unwrap(), user).await.unwrap();
        loopback_client().unwrap().get(redirect).send().await.unwrap().error_for_status().unwrap();
    }
}

impl Drop for Desk {
    /// What a failed test left running would run for a week.
    fn drop(&mut self) {
        let sockets = std::fs::read_dir(self.at("agent/shells")).into_iter().flatten().flatten();
        for socket in sockets.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "sock")) {
            let holder = std::os::unix::net::UnixStream::connect(socket).and_then(|stream| {
                stream.set_nonblocking(true)?;
                tokio::net::UnixStream::from_std(stream)?.peer_cred()
            });
            if let Some(pid) = holder.ok().and_then(|holder| holder.pid()) {
                std::process::Command::new("kill")
                    .args(["-9", &pid.to_string()])
                    .status()
                    .map(drop)
                    .unwrap_or_default();
            }
        }
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a program has printed so far; shown when the test fails.
struct Said {
    line: String,
    text: Arc<Mutex<String>>,
    grown: watch::Receiver<()>,
}

impl Said {
    fn new(line: &str, mut from: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (grows, grown) = watch::channel(());
        let kept = Arc::clone(&text);
        // Ends with the program: a terminal without one gives an error.
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer).await {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&buffer[..n]));
                grows.send_replace(());
            }
        });
        Self { line: line.to_owned(), text, grown }
    }

    fn now(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn wait(&mut self, wanted: &str) -> String {
        let come = async {
            while !self.now().contains(wanted) {
                if self.grown.changed().await.is_err() {
                    break;
                }
            }
        };
        let waited = tokio::time::timeout(DEADLINE, come).await;
        let said = self.now();
        assert!(waited.is_ok() && said.contains(wanted), "{} does not say {wanted:?}", self.line);
        said
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {} said:\n{}", self.line, self.now());
        }
    }
}

/// A program that stays, killed when dropped.
pub(super) struct Program {
    child: Child,
    said: Said,
}

impl Program {
    /// What it has said once it said this.
    pub(super) async fn says(&mut self, wanted: &str) -> String {
        self.said.wait(wanted).await
    }

    /// Its status, once it has said everything.
    pub(super) async fn ends(&mut self) -> Option<i32> {
        let ended = async {
            let status = self.child.wait().await.unwrap();
            while self.said.grown.changed().await.is_ok() {}
            status.code()
        };
        tokio::time::timeout(DEADLINE, ended).await.expect("the program does not end")
    }

    /// What it has said so far.
    pub(super) fn said(&self) -> String {
        self.said.now()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id().expect("the program runs")
    }

    /// Kills it without a word.
    pub(super) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A program in a terminal, killed when dropped.
pub(super) struct Terminal {
    child: Child,
    input: OwnedWritePty,
    said: Said,
}

impl Terminal {
    pub(super) async fn types(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).await.unwrap();
    }

    /// What it has shown once it showed this.
    pub(super) async fn shows(&mut self, wanted: &str) -> String {
        self.said.wait(wanted).await
    }

    pub(super) async fn ends(&mut self) -> Option<i32> {
        tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("the program does not end").unwrap().code()
    }

    pub(super) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}
