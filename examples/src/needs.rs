//! The programs that tests use beside Rust: which ones, where they come from, and what to do when one is absent.
//!
//! A test that needs one starts with
//!
//! ```no_run
//! use bz_examples::needs;
//! if !needs::program("zsh") {
//!     return;
//! }
//! ```
//!
//! and so is left out, visibly, on a machine without it. Under `CI=true` nothing may be left out: there the same line fails.
//! Installing is not done here but by `cargo suite`, which reads the same table.

use std::env;
use std::path::{Path, PathBuf};

/// One program and why somebody would install it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// The file to look for.
    pub name: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
    /// What is tested with it.
    pub why: &'static str,
}

/// Every program that any test needs. `cargo suite` installs from here, so a test can only ask for what is listed.
pub const PROGRAMS: &[Program] = &[
    row("bash", "bash", "the usual login shell, and its command lines"),
    row("dash", "dash", "a shell that marks no command lines"),
    row("zsh", "zsh", "a login shell, and its command lines"),
    row("fish", "fish", "a login shell, and its command lines"),
    row("vim", "vim", "a full-screen program in a terminal"),
    row("tmux", "tmux", "a terminal within a terminal"),
    row("sudo", "sudo", "a change of user within a shell"),
    row("git", "git", "real traffic through a tunnel"),
    row("curl", "curl", "real traffic through SOCKS, and to web servers"),
    row("nginx", "nginx-light", "a real web server behind a target"),
    row("chromium", "chromium", "a real browser at a web server behind a target"),
    row("ssh", "openssh-client", "the ssh that people have, with scp and sftp"),
    row("ssh-agent", "openssh-client", "a person's own keys, which are never offered"),
    row("sshd", "openssh-server", "the sshd that hosts have"),
    row("rsync", "rsync", "files through ssh"),
    row("kubectl", "kubernetes-client", "what people have for clusters"),
    row("tar", "tar", "copies to a cluster's pods"),
    row("mmdebstrap", "mmdebstrap", "the root file system of a host that becomes a target"),
    row("unshare", "util-linux", "mounts of that host's own"),
    row("python3", "python3-venv", "makes Pythons apart for schemathesis, regopy and Ansible"),
    row("openssl", "openssl", "a second opinion on keys, certificates and TLS"),
    row("node", "nodejs", "the real OpenID provider"),
    row("npm", "npm", "installs the real OpenID provider"),
    row("psql", "postgresql-client", "the client that people have for PostgreSQL"),
    row("pg_ctlcluster", "postgresql", "PostgreSQL itself, and pgbench"),
    row("mariadb", "mariadb-client", "the client that people have for MySQL and MariaDB"),
    row("mariadbd", "mariadb-server", "MariaDB itself"),
    row("age", "age", "a second opinion on backups"),
    row("pebble", "pebble", "an authority that gives certificates"),
    row("rsyslogd", "rsyslog", "the syslog that hosts have"),
];

/// Folders that hold servers and administrators' tools but are often missing from a user's `PATH`.
const MORE_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Says whether `name` is here; if not, prints `left out: …`, and the caller returns.
///
/// # Panics
/// Under `CI=true` when it is absent, and anywhere when it is not in [`PROGRAMS`].
#[must_use = "a test that goes on without its program fails for the wrong reason"]
#[track_caller]
pub fn program(name: &str) -> bool {
    match answer(name, is_here(name), in_ci()) {
        Answer::Here => true,
        Answer::LeftOut(line) => {
            say(&line);
            false
        }
        Answer::Fail(line) => fail(&line),
    }
}

/// Whether this is a run in which nothing may be left out.
pub fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

/// Where the program is, if it is here and may be executed.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).chain(MORE_FOLDERS.map(PathBuf::from)).collect();
    find_in(&folders, name)
}

/// Where the programs of a real Kubernetes are: the folder that `BZ_KUBERNETES` names, or what
/// `examples/peers/kubernetes/build` made below `target`. Absent they are like any other program of the table.
#[track_caller]
pub fn kubernetes() -> Option<PathBuf> {
    let found = find_kubernetes();
    if found.is_some() {
        return found;
    }
    let line = "Kubernetes is absent (a real API server; `examples/peers/kubernetes/build` makes it, and `cargo suite` runs that)";
    if in_ci() {
        fail(&format!("{line}, and CI=true leaves nothing out"));
    }
    say(&format!("left out: {line}"));
    None
}

/// A program from `PyPI`, in a Python of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// What it is called.
    pub name: &'static str,
    /// What installs it, below the repository.
    pub build: &'static str,
    /// Its program, below where it is installed.
    program: &'static str,
    /// The variable that names its program elsewhere.
    variable: &'static str,
    /// What is tested with it.
    pub why: &'static str,
}

/// What makes up requests for the API.
pub const SCHEMATHESIS: Peer = Peer {
    name: "schemathesis",
    build: "examples/peers/schemathesis/build",
    program: "bin/schemathesis",
    variable: "BZ_SCHEMATHESIS",
    why: "makes up requests from the API's description",
};
/// What decides by the rules of policies, too.
pub const REGOPY: Peer = Peer {
    name: "regopy",
    build: "examples/peers/regopy/build",
    program: "bin/decide",
    variable: "BZ_REGOPY",
    why: "reads the rules of policies independently of the server",
};
/// What takes playbooks.
pub const ANSIBLE: Peer = Peer {
    name: "ansible",
    build: "examples/peers/ansible/build",
    program: "bin/ansible-playbook",
    variable: "BZ_ANSIBLE",
    why: "says whether a playbook is one",
};
/// What `docs/verify.py` runs on; the tests of `bz-protocol` look for it where it is installed.
pub const VERIFIER: Peer = Peer {
    name: "verifier",
    build: "examples/peers/verifier/build",
    program: "bin/python3",
    variable: "BZ_VERIFIER",
    why: "runs the second verifier of transcripts",
};
/// All of them.
pub const PEERS: [Peer; 4] = [SCHEMATHESIS, REGOPY, ANSIBLE, VERIFIER];

impl Peer {
    /// Where its program is. Absent it is like any other program of the table.
    #[track_caller]
    #[must_use = "a test that goes on without its program fails for the wrong reason"]
    pub fn here(&self) -> Option<PathBuf> {
        let found = self.find();
        if found.is_some() {
            return found;
        }
        let Self { name, why, build, .. } = self;
        let line = format!("{name} is absent (it {why}; `{build}` installs it, and `cargo suite` runs that)");
        if in_ci() {
            fail(&format!("{line}, and CI=true leaves nothing out"));
        }
        say(&format!("left out: {line}"));
        None
    }

    /// Its program, if it is here.
    #[must_use]
    pub fn find(&self) -> Option<PathBuf> {
        let named = env::var_os(self.variable).map(PathBuf::from);
        let program = named.unwrap_or_else(|| self.folder().join(self.program));
        is_executable(&program).then_some(program)
    }

    /// Where the suite has it installed.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers").join(self.name)
    }
}

/// The folder with its programs, if they are here.
pub fn find_kubernetes() -> Option<PathBuf> {
    let named = env::var_os("BZ_KUBERNETES").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| kubernetes_folder().join("bin"));
    is_executable(&folder.join("kubelet")).then_some(folder)
}

/// Where the suite has Kubernetes built.
#[must_use]
pub fn kubernetes_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/kubernetes")
}

/// The rows whose program is absent.
pub fn missing() -> Vec<Program> {
    PROGRAMS.iter().copied().filter(|program| !is_here(program.name)).collect()
}

/// Whether a program is here whole: Debian's python3 comes without what makes a Python apart, whatever its package says.
fn is_here(name: &str) -> bool {
    let whole = |python: PathBuf| {
        let run = std::process::Command::new(python).args(["-c", "import ensurepip, venv"]).output();
        run.is_ok_and(|output| output.status.success())
    };
    find(name).is_some_and(|path| name != "python3" || whole(path))
}

const fn row(name: &'static str, package: &'static str, why: &'static str) -> Program {
    Program { name, package, why }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Here,
    LeftOut(String),
    Fail(String),
}

fn answer(name: &str, here: bool, ci: bool) -> Answer {
    let Some(program) = PROGRAMS.iter().find(|program| program.name == name) else {
        return Answer::Fail(format!(
            "{name} is not in the table of examples/src/needs.rs, so `cargo suite` cannot install it"
        ));
    };
    let Program { package, why, .. } = program;
    match (here, ci) {
        (true, _) => Answer::Here,
        (false, false) => Answer::LeftOut(format!(
            "left out: {name} is absent ({why}; Debian package {package}; `cargo suite` installs it)"
        )),
        (false, true) => {
            Answer::Fail(format!("{name} is absent and CI=true leaves nothing out ({why}; Debian package {package})"))
        }
    }
}

fn find_in(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(name)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[expect(clippy::print_stderr, reason = "a test says what it leaves out to the person who runs it")]
fn say(line: &str) {
    eprintln!("{line}");
}

#[expect(clippy::panic, reason = "this is how a test fails")]
#[track_caller]
fn fail(line: &str) -> ! {
    panic!("{line}");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_absent_program_is_left_out_at_home_and_a_failure_in_ci() {
        let left_out = "left out: zsh is absent (a login shell, and its command lines; \
                        Debian package zsh; `cargo suite` installs it)";
        let failure = "zsh is absent and CI=true leaves nothing out (a login shell, and its command \
                       lines; Debian package zsh)";
        assert_eq!(answer("zsh", true, false), Answer::Here);
        assert_eq!(answer("zsh", true, true), Answer::Here);
        assert_eq!(answer("zsh", false, false), Answer::LeftOut(left_out.into()));
        assert_eq!(answer("zsh", false, true), Answer::Fail(failure.into()));
    }

    #[test]
    fn a_program_outside_the_table_is_a_failure_even_when_it_is_here() {
        for ci in [false, true] {
            assert!(matches!(answer("cat", true, ci), Answer::Fail(_)), "CI={ci}");
        }
    }

    #[test]
    #[should_panic(expected = "is not in the table")]
    fn asking_for_a_program_outside_the_table_panics() {
        let _here = program("no-such-program");
    }

    #[test]
    fn only_executable_files_are_found_and_the_first_folder_wins() {
        let (first, second) = (folder(), folder());
        let folders = [first.path().to_path_buf(), second.path().to_path_buf()];
        put(first.path(), "notes", 0o644);
        put(second.path(), "tool", 0o755);
        fs::create_dir(first.path().join("place")).unwrap();

        assert_eq!(find_in(&folders, "notes"), None, "not executable");
        assert_eq!(find_in(&folders, "place"), None, "a folder");
        assert_eq!(find_in(&folders, "tool"), Some(second.path().join("tool")));
        put(first.path(), "tool", 0o755);
        assert_eq!(find_in(&folders, "tool"), Some(first.path().join("tool")));
    }

    #[test]
    fn no_program_stands_in_the_table_twice() {
        for (at, program) in PROGRAMS.iter().enumerate() {
            assert!(!PROGRAMS[..at].iter().any(|other| other.name == program.name), "{program:?}");
        }
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn put(folder: &Path, name: &str, mode: u32) {
        let path = folder.join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}
