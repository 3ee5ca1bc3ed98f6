//! `cargo suite`: sets up what the tests need, then runs all of them.
//!
//! It never installs without having said what: it asks, unless `CI=true` or `--yes` answers for it.
//! It decides nothing about tests. What a missing program means is said in `bz_examples::needs`.

use std::env;
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bz_examples::needs::{self, PEERS, Peer, Program};
use clap::Parser;

/// Sets up what the tests need, then runs every test of the workspace.
///
/// Tests use real programs: shells, editors, an OpenID provider. This command lists those that are absent and asks
/// before it installs them: by apt-get when you are root on Debian, else you get the line to run.
/// Without them the tests still run, and each says what it left out.
#[derive(Debug, Parser)]
#[command(name = "cargo suite", bin_name = "cargo suite", after_help = EXAMPLES)]
struct Arguments {
    /// Installs without asking
    #[arg(long, short)]
    yes: bool,

    /// Lists the programs the tests use and which are absent, then stops
    #[arg(long)]
    list: bool,

    /// Handed to `cargo test`; what follows a second `--` reaches the tests themselves
    #[arg(last = true, value_name = "CARGO TEST ARGUMENTS")]
    cargo_test: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  cargo suite                          everything
  cargo suite --list                   what is needed, and what is absent here
  cargo suite --yes                    everything, installing without a question
  cargo suite -- -p bz-core            the tests of one crate
  cargo suite -- -- --nocapture tidy   the tests whose name contains \"tidy\", with what they print
  CI=true cargo suite                  as CI does: nothing is asked, and nothing may be left out

The exit code is 0 only if everything asked for was done and every test passed.";

/// A folder of npm packages that a test's server lives in.
const NPM_FOLDERS: [&str; 1] = ["examples/oidc-provider"];

/// What builds a real Kubernetes.
const KUBERNETES: &str = "examples/peers/kubernetes/build";
/// What that needs.
const KUBERNETES_PACKAGES: [&str; 4] = ["dpkg-dev", "golang-1.19-go", "make", "rsync"];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut steps = Steps::default();
    let result = run(&arguments, &mut steps);
    steps.summary();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("cargo suite: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, steps: &mut Steps) -> Result<()> {
    let root = root()?;
    if arguments.list {
        list();
        return Ok(());
    }
    let plan = Plan::new(&root);
    if !plan.is_empty() {
        plan.show();
        if plan.agreed(arguments.yes)? {
            plan.carry_out(&root, steps)?;
        }
        plan.check_complete()?;
    }
    steps.time("tests", || test(&root, &arguments.cargo_test))
}

/// What is absent, and how it would come here.
struct Plan {
    programs: Vec<Program>,
    npm_folders: Vec<&'static str>,
    /// Whether Kubernetes is to be built.
    kubernetes: bool,
    /// What is to be installed in Pythons of their own.
    peers: Vec<Peer>,
}

impl Plan {
    fn new(root: &Path) -> Self {
        let npm_folders = NPM_FOLDERS.into_iter().filter(|folder| wants_npm(&root.join(folder))).collect();
        let kubernetes = needs::find_kubernetes().is_none();
        let peers = PEERS.into_iter().filter(|peer| peer.find().is_none()).collect();
        Self { programs: needs::missing(), npm_folders, kubernetes, peers }
    }

    const fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.npm_folders.is_empty() && !self.kubernetes && self.peers.is_empty()
    }

    fn show(&self) {
        if !self.programs.is_empty() {
            say("The tests use these programs, which are absent here:");
            for Program { name, package, why } in &self.programs {
                say(&format!("  {name:<10} Debian package {package:<10} {why}"));
            }
            if !can_install() {
                say("Only root on Debian can install them from here. Elsewhere, the line is:");
                say(&format!("  sudo apt-get install {}", self.packages().join(" ")));
            }
        }
        for folder in &self.npm_folders {
            say(&format!("The npm packages that {folder}/package-lock.json names are not there yet (`npm ci`)."));
        }
        for Peer { name, build, .. } in &self.peers {
            say(&format!("{name}, which {build} installs from PyPI, is not there yet: some seconds."));
        }
        if self.kubernetes {
            say(&format!(
                "The real Kubernetes that {KUBERNETES} builds from Debian's sources is not there yet: some minutes, and \
                 3 GB on the way. It needs the Debian packages {}.",
                KUBERNETES_PACKAGES.join(", ")
            ));
        }
    }

    /// Whether to install; nothing is asked where nothing could be done.
    fn agreed(&self, yes: bool) -> Result<bool> {
        if yes || needs::in_ci() {
            return Ok(true);
        }
        if self.npm_folders.is_empty() && self.peers.is_empty() && !can_install() {
            return Ok(false);
        }
        if !io::stdin().is_terminal() {
            say("Nobody is there to ask: going on without (--yes installs).");
            return Ok(false);
        }
        say("Install them now? [y/N]");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn carry_out(&self, root: &Path, steps: &mut Steps) -> Result<()> {
        if !self.programs.is_empty() && can_install() {
            steps.time("Debian packages", || {
                run_to_end(apt_get().arg("update"))?;
                run_to_end(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(self.packages()))
            })?;
        }
        for folder in &self.npm_folders {
            if needs::find("npm").is_none() {
                say(&format!("npm is absent, so {folder} stays without its packages."));
                continue;
            }
            steps.time(&format!("npm ci in {folder}"), || {
                run_to_end(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(root.join(folder)))
            })?;
        }
        for peer in self.peers.iter().filter(|_| needs::find("python3").is_some()) {
            steps.time(peer.name, || {
                run_to_end(Command::new(root.join(peer.build)).arg(peer.folder()).current_dir(root))
            })?;
        }
        if self.kubernetes && can_install() {
            steps.time("Kubernetes", || {
                run_to_end(apt_get().arg("update"))?;
                run_to_end(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(KUBERNETES_PACKAGES))?;
                run_to_end(Command::new(root.join(KUBERNETES)).arg(needs::kubernetes_folder()).current_dir(root))
            })?;
        }
        Ok(())
    }

    /// Under `CI=true` a program that is still absent ends the run before the tests start.
    fn check_complete(&self) -> Result<()> {
        let absent: Vec<&str> = needs::missing().iter().map(|program| program.name).collect();
        if needs::in_ci() && !absent.is_empty() {
            bail!("CI=true leaves nothing out, but these programs are still absent: {}", absent.join(", "));
        }
        Ok(())
    }

    fn packages(&self) -> Vec<&'static str> {
        self.programs.iter().map(|program| program.package).collect()
    }
}

fn list() {
    for Program { name, package, why } in needs::PROGRAMS {
        let place = needs::find(name)
            .map_or_else(|| format!("absent (Debian package {package})"), |path| path.display().to_string());
        say(&format!("{name:<10} {place:<36} {why}"));
    }
    let place = needs::find_kubernetes();
    let place = place.map_or_else(|| format!("absent ({KUBERNETES} builds it)"), |path| path.display().to_string());
    say(&format!("Kubernetes {place:<36} a real API server behind a target"));
    for peer in PEERS {
        let place = peer.find();
        let place =
            place.map_or_else(|| format!("absent ({} installs it)", peer.build), |path| path.display().to_string());
        say(&format!("{:<12} {place:<34} {}", peer.name, peer.why));
    }
}

/// A folder whose lock file is newer than what was installed from it.
fn wants_npm(folder: &Path) -> bool {
    let written = |path: PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    let lock = written(folder.join("package-lock.json"));
    let installed = written(folder.join("node_modules/.package-lock.json"));
    lock.is_some() && lock > installed
}

fn can_install() -> bool {
    Path::new("/etc/debian_version").exists() && needs::find("apt-get").is_some() && is_root()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn test(root: &Path, arguments: &[String]) -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(["test", "--locked", "--all-features"]);
    if !names_a_package(arguments) {
        command.arg("--workspace");
    }
    run_to_end(command.args(arguments))
}

fn names_a_package(arguments: &[String]) -> bool {
    let cargos_own = arguments.iter().take_while(|argument| *argument != "--");
    cargos_own.into_iter().any(|argument| argument.starts_with("-p") || argument.starts_with("--package"))
}

fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Ok(root.context("the examples lie in no workspace")?.to_path_buf())
}

fn run_to_end(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    say(&format!("$ {line}"));
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What was done, how it ended, and how long it took.
#[derive(Default)]
struct Steps(Vec<(String, bool, Duration)>);

impl Steps {
    fn time(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        let result = step();
        self.0.push((name.to_owned(), result.is_ok(), start.elapsed()));
        result
    }

    fn summary(&self) {
        for (name, passed, took) in &self.0 {
            let verdict = if *passed { "ok" } else { "FAILED" };
            say(&format!("{:>6.1} s  {verdict:<6}  {name}", took.as_secs_f64()));
        }
    }
}

#[expect(clippy::print_stdout, reason = "this program speaks to the person who runs it")]
fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_named_package_takes_the_place_of_the_workspace() {
        let check = |line: &str, expected: bool| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(names_a_package(&arguments), expected, "{line:?}");
        };
        check("", false);
        check("--release", false);
        check("-p bz-core", true);
        check("-pbz-core", true);
        check("--package=bz-core", true);
        check("-- -p", false);
    }

    #[test]
    fn npm_packages_are_wanted_until_they_are_as_new_as_the_lock_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!wants_npm(folder.path()), "no lock file");
        fs::write(folder.path().join("package-lock.json"), "{}").unwrap();
        assert!(wants_npm(folder.path()), "nothing installed");
        fs::create_dir(folder.path().join("node_modules")).unwrap();
        fs::write(folder.path().join("node_modules/.package-lock.json"), "{}").unwrap();
        assert!(!wants_npm(folder.path()), "installed after the lock file");
    }

    #[test]
    fn a_failing_step_is_told_from_one_that_passes() {
        let mut steps = Steps::default();
        steps.time("good", || run_to_end(&mut Command::new("true"))).unwrap();
        let error = steps.time("bad", || run_to_end(&mut Command::new("false"))).unwrap_err();
        assert_eq!(error.to_string(), "`false` failed (exit status: 1)");
        let verdicts: Vec<bool> = steps.0.iter().map(|(_, passed, _)| *passed).collect();
        assert_eq!(verdicts, [true, false]);
    }
}
