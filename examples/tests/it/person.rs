//! A user of this machine who lives as long as a test: a login shell of one's choice, the start-up files that every new
//! user gets, a password, and the right to `sudo`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use bz_agent::user::User;
use bz_examples::needs;

/// The account tools lock one file and do not wait for each other; other tests make users as well.
const LOCK: &str = "/run/bz-agent-tests.lock";

pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl Person {
    /// `None`, said aloud, where this process may make no users. In CI it must.
    pub(crate) fn with_shell(shell: &Path) -> Option<Self> {
        if !User::current().is_ok_and(|user| user.uid == 0) {
            assert!(!needs::in_ci(), "this is not root and CI=true leaves nothing out");
            println!("left out: only root can make a user whose login shell is {}", shell.display());
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bze{}n{number}", std::process::id());
        let password = format!("Login-{}-{number}", std::process::id());
        account("useradd", &["-m", "-s", &shell.display().to_string(), "-G", "sudo", &name], "");
        let person = Self { name, password };
        account("chpasswd", &[], &format!("{}:{}\n", person.name, person.password));
        Some(person)
    }

    /// Writes a file into the home, which is the person's to read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(Path::new("/home").join(&self.name).join(name), text).unwrap();
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        account("userdel", &["-f", "-r", &self.name], "");
    }
}

fn account(tool: &str, arguments: &[&str], input: &str) {
    let mut command = Command::new("flock");
    command.arg(LOCK).arg(tool).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("flock runs");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    // userdel reports a mail spool that never existed, and still removes the user.
    let done = status.success() || (tool == "userdel" && status.code() == Some(12));
    assert!(done, "{tool} {arguments:?}: {}", String::from_utf8_lossy(&stderr));
}
