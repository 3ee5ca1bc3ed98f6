//! A host with a real sshd and an agent beside it, and a person's desk with the real `bz` and OpenSSH's own programs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bz_agent::agent::{Agent, Running};
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::shell::Shells;
use bz_agent::ssh::asked::Asked;
use bz_agent::ssh::lines::Lines;
use bz_agent::ssh::{Authority, Sshd};
use bz_agent::ssh_server::SshServer;
use bz_client::login::LockedLogin as _;
use bz_client::profile::Profile;
use bz_core::digest::Digest;
use bz_examples::clock::MovableClock;
use bz_examples::needs;
use bz_examples::world::{Idp, Parts, Way, World, provider};
use tokio::process::{Child, Command};

use crate::guide::built;
use crate::person::Person;
use crate::port::free_port;
use crate::session::until;

/// The target with the sshd.
pub(super) const HOST: &str = "web";
/// Far above what anything here needs, also on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// How the host's sshd comes to take a session's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It trusts the agent's key.
    Before,
    /// It asks the agent, once [`Site::settings`] say so.
    Asks,
    /// By a line in a user's file.
    Reads,
}

pub(super) struct Site {
    pub(super) world: World,
    /// The user of the host whom policies name, and who is the person, too.
    pub(super) person: Person,
    pub(super) port: u16,
    pub(super) agent_key: Digest,
    pub(super) agent: Running,
    /// Of server and agent; the programs go by the machine's.
    pub(super) clock: Arc<MovableClock>,
    sshd: Child,
    folder: tempfile::TempDir,
}

impl Site {
    /// `None`, said aloud, where something that it needs is absent. Nobody may use SSH yet.
    pub(super) async fn start() -> Option<Self> {
        Self::start_as(Told::Before).await
    }

    /// The same, with an sshd that is told of sessions so, and as yet of nothing.
    pub(super) async fn start_as(told: Told) -> Option<Self> {
        if !["ssh", "sshd"].map(needs::program).into_iter().all(|here| here) {
            return None;
        }
        let person = Person::with_shell(&needs::find("bash").unwrap())?;
        let folder = tempfile::Builder::new().prefix("s").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("world")).unwrap();
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        let ends_here = SshServer::open(&at("agent"), helper.clone()).unwrap();
        let lines_helper = helper.clone();
        let shells = Shells::new(helper.clone(), at("shells")).unwrap().idle(Duration::from_secs(60));
        let clock = Arc::new(MovableClock::new());
        let idp = Idp::Dev(provider(&person.name, clock.for_idp()).await.unwrap());
        let (user, name) = (person.name.clone(), person.name.clone());
        let parts = Parts { helper, person: name, user, idp, clock: clock.clone(), way: Way::Ws };
        let world = World::of(&at("world"), parts, |_| ()).await.unwrap();
        let identity = world.enroll(HOST).await.unwrap();
        let agent_key = identity.identity_key.public().fingerprint();
        let (port, sshd) = sshd(folder.path()).await;
        let authority = Authority::open(&at("agent")).unwrap();
        let keys = IssuerKeys::ThroughLink(Arc::clone(&world.tls));
        let lines_of = (&authority, Arc::clone(&world.clock));
        let lines = match told {
            Told::Reads => Some(Lines::open(&at("agent"), lines_helper, lines_of).await.unwrap()),
            Told::Before | Told::Asks => None,
        };
        let server = Sshd::new(authority).port(port).host_keys(vec![at("host_key.pub")]);
        let server = match (told, lines) {
            (Told::Asks, _) => server.asks(Asked::listen(&at("agent"), Arc::clone(&world.clock)).unwrap()),
            (_, Some(lines)) => server.reads(lines),
            (_, None) => server,
        };
        let agent =
            Agent::new(identity, world.bundle.clone(), world.carrier.clone(), keys).clock(Arc::clone(&world.clock));
        let agent = agent.ssh(server).ssh_server(ends_here).shell(shells).start().unwrap();
        agent.online().await;
        let site = Self { world, person, port, agent_key, agent, clock, sshd, folder };
        site.log_in().await;
        if told != Told::Before {
            site.settings("").await;
        }
        Some(site)
    }

    /// The same, with a policy for the person's own user, and `ssh` told of the host.
    pub(super) async fn ready() -> Option<Self> {
        let site = Self::start().await?;
        site.allow("ssh", &site.person.name).await;
        site.run("bz generate ssh-config --include").await;
        Some(site)
    }

    /// The person's profile, as `bz login` leaves it, and the agent's key, as its host's owner reads it out.
    async fn log_in(&self) {
        let profile = Profile::new(&self.at("bz"), "default").unwrap();
        let client = &self.world.client;
        profile.keep(client.server(), client.trust()).unwrap();
        profile.login_store().take().await.unwrap().save(&client.login()).unwrap();
        for name in [HOST, "web.Default"] {
            self.run(&format!("bz target trust {name} {}", self.agent_key)).await;
        }
    }

    /// Lets the person tunnel to the host as this user of it.
    pub(super) async fn allow(&self, policy: &str, user: &str) {
        self.allow_verbs(policy, user, &["Tunnel"]).await;
    }

    /// Lets the person do this on the host as this user of it.
    pub(super) async fn allow_verbs(&self, policy: &str, user: &str, verbs: &[&str]) {
        let email = format!("{}@example.com", self.person.name);
        let verbs: String = verbs.iter().map(|verb| format!(" --verb {verb}")).collect();
        self.run(&format!(
            "bz policy create target-access --name {policy} --user {email} --target {HOST} --target-user '{user}'{verbs}"
        ))
        .await;
    }

    /// Where no policy lets the person tunnel, so that the agent itself answers; `ssh` is told of the host.
    pub(super) async fn inspected(verbs: &[&str]) -> Option<Self> {
        let site = Self::start().await?;
        site.allow_verbs("ssh", &site.person.name, verbs).await;
        site.run("bz generate ssh-config --include").await;
        Some(site)
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the person's, in a folder of its own.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        let ssh = format!("ssh -F {}", self.at(".ssh/config").display());
        command
            .args(["-c", line])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", format!("{}:{}:{path}", self.at("bin").display(), built().display()))
            .env("HOME", self.folder.path())
            .env("BZ_CONFIG_DIR", self.at("bz"))
            .env("BZ_CARRIER", "ws")
            .env("BZ_AGENT_STATE_DIR", self.at("agent"))
            .env("F", self.at(".ssh/config"))
            .env("U", &self.person.name)
            .env("RSYNC_RSH", &ssh)
            .env("GIT_SSH_COMMAND", &ssh)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(super) async fn try_run(&self, line: &str) -> Output {
        let output = tokio::time::timeout(DEADLINE, self.command(line).output()).await;
        output.unwrap_or_else(|_| panic!("{line} does not end; sshd says:\n{}", self.log())).unwrap()
    }

    /// Runs a command that must work; what it prints.
    pub(super) async fn run(&self, line: &str) -> String {
        let output = self.try_run(line).await;
        let said = text(&output.stdout);
        assert!(output.status.success(), "{line}: {said}{}; sshd says:\n{}", text(&output.stderr), self.log());
        said
    }

    /// Runs a command that must fail; what it complains.
    pub(super) async fn fails(&self, line: &str) -> String {
        let output = self.try_run(line).await;
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{line}: {}{said}", text(&output.stdout));
        said
    }

    /// The certificates that sshd let in, by their ids, which are those of sessions.
    pub(super) fn let_in(&self) -> Vec<String> {
        let log = self.log();
        let ids = log.lines().filter(|line| line.starts_with("Accepted publickey"));
        ids.filter_map(|line| line.split_once(" ID ")).map(|(_, id)| id.split(' ').next().unwrap().to_owned()).collect()
    }

    /// What lies where `ssh` and `bz` meet, but for files that stay.
    pub(super) fn sockets(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.at("bz/default/ssh")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.ends_with(".lock") && !name.ends_with(".hosts")).collect()
    }

    /// `ssh`, `scp` and `sftp` that take the person's home for theirs, as they take that of the user's entry elsewhere.
    pub(super) fn own_configuration(&self) {
        std::fs::create_dir(self.at("bin")).unwrap();
        for name in ["ssh", "scp", "sftp"] {
            let (path, real) = (self.at("bin").join(name), needs::find(name).unwrap());
            std::fs::write(&path, format!("#!/bin/sh\nexec {} -F \"$F\" \"$@\"\n", real.display())).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Gives sshd these settings beside its own, and no others.
    pub(super) async fn settings(&self, lines: &str) {
        std::fs::write(self.at("sshd_config.d/bz-agent.conf"), lines).unwrap();
        self.reload(&format!("sshd -t -f sshd_config && kill -HUP {}", self.sshd_pid())).await;
    }

    /// Has sshd read its settings anew.
    pub(super) async fn reload(&self, line: &str) {
        let begun = || self.log().matches("Server listening on").count();
        let before = begun();
        self.run(line).await;
        until(async || begun(), |now| *now > before).await;
    }

    /// Its number.
    pub(super) fn sshd_pid(&self) -> u32 {
        self.sshd.id().unwrap()
    }

    /// What sshd has said.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.at("sshd.log")).unwrap_or_default()
    }

    pub(super) async fn stop(mut self) {
        self.sshd.kill().await.unwrap();
        self.agent.stop().await;
        self.world.stop().await;
    }
}

/// An sshd of the test's own on loopback, which trusts what `bz-agent ssh-ca` says, and its port.
/// A real sshd, with its files in this folder, that trusts the agent whose folder is `agent` there.
pub(crate) async fn sshd(folder: &Path) -> (u16, Child) {
    // Where sshd confines its unprivileged part; packages make it when the service starts.
    std::fs::create_dir_all("/run/sshd").unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let run = async |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{program}: {}", text(&output.stderr));
        output.stdout
    };
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at("host_key")]).await;
    let agent = built().join("bz-agent");
    let lines = run(&agent.display().to_string(), &["--state-dir", &at("agent"), "ssh-ca"]).await;
    let port = free_port();
    let settings = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nPidFile none\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitUserEnvironment no\nLogLevel VERBOSE\nSubsystem sftp internal-sftp\nInclude {}/*.conf\n",
        at("host_key"),
        at("sshd_config.d"),
    );
    std::fs::write(folder.join("sshd_config"), settings).unwrap();
    std::fs::create_dir(folder.join("sshd_config.d")).unwrap();
    std::fs::write(folder.join("sshd_config.d/bz-agent.conf"), lines).unwrap();
    let sshd = needs::find("sshd").unwrap();
    let mut command = Command::new(&sshd);
    command.args(["-D", "-f", &at("sshd_config"), "-E", &at("sshd.log")]).kill_on_drop(true);
    let child = command.spawn().unwrap();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        let log = std::fs::read_to_string(folder.join("sshd.log")).unwrap_or_default();
        assert!(tokio::time::Instant::now() < deadline, "sshd does not listen: {log}");
        tokio::task::yield_now().await;
    }
    (port, child)
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
