//! What is compared, on loopback: our server and agent in this process with `bz` beside it, and an sshd that is target and
//! jump host.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bz_agent::agent::{Agent, Running};
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::shell::Shells;
use bz_agent::ssh::{Authority, Sshd};
use bz_agent::user::User;
use bz_client::login::LockedLogin as _;
use bz_client::profile::Profile;
use bz_core::access::Verb;
use bz_core::api::policy::{PolicyTarget, ProxyContent, Subject, SubjectType, TargetConnectContent};
use bz_core::api::target::{TargetKind, TargetUserName};
use bz_core::api::virtual_target::{DatabaseAuthentication, NewVirtualTarget, Port};
use bz_core::target::UserRule;
use bz_examples::needs;
use bz_examples::world::{Way, World};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The target, as `bz` and `ssh` know it.
pub(crate) const HOST: &str = "web";
/// Its database.
pub(crate) const DATABASE: &str = "pg";
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything runs.
#[derive(Debug)]
pub(crate) struct Site {
    world: World,
    agent: Running,
    user: String,
    /// Where `bz` and `bz-agent` are.
    programs: PathBuf,
    way: Way,
    /// The sshd.
    pub(crate) ssh: u16,
    /// The database, where PostgreSQL is installed.
    pub(crate) database: Option<u16>,
    _programs: Vec<Child>,
    folder: TempDir,
}

impl Site {
    /// Starts it, with links over this carrier.
    pub(crate) async fn start(helper: Helper, programs: &Path, way: Way) -> Result<Self> {
        for program in ["ssh", "sshd", "ssh-keygen", "scp", "rsync"] {
            ensure!(needs::find(program).is_some(), "{program} is needed: `cargo suite --list` says what is");
        }
        // A short name: sockets lie in it.
        let folder = tempfile::Builder::new().prefix("c").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("world"))?;
        let user = User::current()?.name;
        let world = World::start(&at("world"), helper.clone(), &user, way).await?;
        let identity = world.enroll(HOST).await?;
        let (target, fingerprint) = (identity.target, identity.identity_key.public().fingerprint());
        let authority = Authority::open(&at("agent"))?;
        let mut children = vec![];
        let ssh = free_port()?;
        children.push(sshd(folder.path(), programs, ssh).await?);
        let keys = IssuerKeys::ThroughLink(Arc::clone(&world.tls));
        let server = Sshd::new(authority).port(ssh).host_keys(vec![at("host_key.pub")]);
        let agent = Agent::new(identity, world.bundle.clone(), world.carrier.clone(), keys);
        let agent = agent.ssh(server).tunnels().shell(Shells::new(helper, at("shells"))?).start()?;
        agent.online().await;
        let database = match postgres(folder.path()).await? {
            Some((child, port)) => {
                children.push(child);
                Some(port)
            }
            None => None,
        };
        let programs = programs.to_owned();
        let site = Self { world, agent, user, programs, way, ssh, database, _programs: children, folder };
        site.allow(target).await?;
        site.know(&fingerprint.to_string()).await?;
        Ok(site)
    }

    /// A path in its folder, which is the person's home, too.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As whom sessions run there.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    async fn allow(&self, target: bz_core::id::TargetId) -> Result<()> {
        let client = &self.world.client;
        let subjects = vec![Subject { id: client.me().await?.id, kind: SubjectType::User }];
        let policy = TargetConnectContent {
            name: "everything".to_owned(),
            subjects: subjects.clone(),
            targets: vec![PolicyTarget { id: target, kind: "Bzero".to_owned() }],
            target_users: vec![TargetUserName { user_name: UserRule::Literal(self.user.parse()?) }],
            verbs: vec![Verb::Tunnel, Verb::Shell],
            ..TargetConnectContent::default()
        };
        client.create_policy(&policy).await?;
        let Some(port) = self.database else { return Ok(()) };
        let kind = Some("Postgres".to_owned());
        let new = NewVirtualTarget {
            target_name: DATABASE.to_owned(),
            proxy_target_id: Some(target),
            remote_host: Some(Ipv4Addr::LOCALHOST.to_string()),
            remote_port: Some(Port { value: Some(port) }),
            database_authentication_config: Some(DatabaseAuthentication { database: kind, ..Default::default() }),
            ..NewVirtualTarget::default()
        };
        let made = client.create_virtual_target(TargetKind::Db, &new).await?;
        let policy = ProxyContent {
            name: DATABASE.to_owned(),
            subjects,
            targets: vec![PolicyTarget { id: made.target_id, kind: "Db".to_owned() }],
            ..ProxyContent::default()
        };
        client.create_proxy_policy(&policy).await?;
        Ok(())
    }

    /// The profile of `bz`, and both configurations of `ssh`: ours, and one with the person's own key as people have it.
    async fn know(&self, fingerprint: &str) -> Result<()> {
        let profile = Profile::new(&self.at("bz"), "default")?;
        profile.keep(self.world.client.server(), self.world.client.trust())?;
        profile.login_store().take().await?.save(&self.world.client.login())?;
        for name in [HOST, "web.Default"] {
            self.run(&format!("bz target trust {name} {fingerprint}")).await?;
        }
        self.run("bz generate ssh-config --include").await?;
        let (port, user, folder) = (self.ssh, &self.user, self.folder.path().display());
        let host = |name: &str, more: &str| {
            format!(
                "Host {name}\n HostName 127.0.0.1\n Port {port}\n User {user}\n IdentityFile {folder}/id\n \
                 IdentitiesOnly yes\n StrictHostKeyChecking no\n UserKnownHostsFile {folder}/known\n LogLevel ERROR\n{more}"
            )
        };
        let text = host("direct jump", "") + &host("jumped", " ProxyJump jump\n");
        std::fs::write(self.at("direct"), text)?;
        Ok(())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        let way = match self.way {
            Way::Auto => "auto",
            Way::Ws => "ws",
            Way::Quic => "quic",
        };
        command.args(["-c", line]).stdin(Stdio::null()).current_dir(self.folder.path()).kill_on_drop(true);
        command.env("PATH", format!("{}:{path}", self.programs.display()));
        command.env("HOME", self.folder.path()).env("BZ_CONFIG_DIR", self.at("bz")).env("BZ_CARRIER", way);
        // The configurations of `ssh`.
        command.env("OURS", self.at(".ssh/config")).env("DIRECT", self.at("direct"));
        command
    }

    /// Runs a line that must work; what it prints.
    pub(crate) async fn run(&self, line: &str) -> Result<String> {
        let output = self.command(line).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line}: {} {said}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts what leads to somewhere by a port of this machine, and waits until it does.
    pub(crate) async fn leads(&self, line: &str, port: u16) -> Result<Child> {
        let child = self.command(&format!("exec {line}")).stdout(Stdio::null()).spawn()?;
        listens(port).await.with_context(|| line.to_owned())?;
        Ok(child)
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.agent.stop().await;
        self.world.stop().await;
    }
}

/// Until somebody takes connections there.
async fn listens(port: u16) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        ensure!(Instant::now() < deadline, "nobody listens at port {port}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr()?.port())
}

/// An sshd that lets in the person's own key, and what the agent signs for.
async fn sshd(folder: &Path, programs: &Path, port: u16) -> Result<Child> {
    // Where sshd confines its unprivileged part; packages make it when the service starts.
    std::fs::create_dir_all("/run/sshd")?;
    let at = |name: &str| folder.join(name).display().to_string();
    for key in ["host_key", "id"] {
        works("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).await?;
    }
    std::fs::copy(folder.join("id.pub"), folder.join("authorized"))?;
    let agent = programs.join("bz-agent").display().to_string();
    let lines = works(&agent, &["--state-dir", &at("agent"), "ssh-ca"]).await?;
    let settings = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
         PasswordAuthentication no\nAuthorizedKeysFile {}\nMaxStartups 100\nSubsystem sftp internal-sftp\n{lines}",
        at("host_key"),
        at("authorized"),
    );
    std::fs::write(folder.join("sshd_config"), settings)?;
    let program = needs::find("sshd").context("sshd")?;
    let mut command = Command::new(program);
    command.args(["-D", "-f", &at("sshd_config"), "-E", &at("sshd.log")]).kill_on_drop(true);
    let child = command.spawn()?;
    listens(port).await?;
    Ok(child)
}

/// A PostgreSQL of the comparison's own; none where it is not installed, or where nobody but root is there to run it.
async fn postgres(folder: &Path) -> Result<Option<(Child, u16)>> {
    let Some(bin) = postgres_folder() else { return Ok(None) };
    let (data, port) = (folder.join("pg"), free_port()?);
    std::fs::create_dir(&data)?;
    works("chown", &["postgres", &data.display().to_string()]).await?;
    works("chmod", &["755", &folder.display().to_string()]).await?;
    let as_postgres = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(bin.join(program));
        command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command
    };
    let data = data.join("d");
    let made = as_postgres("initdb").arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres"]).status().await?;
    ensure!(made.success(), "initdb: {made}");
    let port_text = port.to_string();
    let mut command = as_postgres("postgres");
    command.arg("-D").arg(&data).args(["-p", &port_text, "-k", "/tmp", "-c", "listen_addresses=127.0.0.1"]);
    let child = command.spawn()?;
    listens(port).await?;
    Ok(Some((child, port)))
}

/// Where Debian keeps the newest one's programs.
pub(crate) fn postgres_folder() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
    folders.sort();
    folders.into_iter().rfind(|folder| folder.join("pgbench").is_file())
}

async fn works(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().await.with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
