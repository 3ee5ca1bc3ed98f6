//! Real databases, each in a folder of its own, with certificates of our own authorities.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::port::free_port;
use bz_examples::needs;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// The password of everybody.
pub(crate) const PASSWORD: &str = "hush-hush";

/// Certificates for databases.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    Expired,
    OtherName,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority for databases");
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What the agent of this host is given to believe.
    pub(crate) fn config(&self) -> std::sync::Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        std::sync::Arc::new(config.unwrap().with_root_certificates(roots).with_no_client_auth())
    }

    /// A certificate for `localhost`, and its key.
    fn certificate(&self, flaw: Flaw) -> (String, String) {
        let name = if flaw == Flaw::OtherName { "db.example.com" } else { "localhost" };
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if flaw == Flaw::Expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A database that runs; dropping it ends it.
pub(crate) struct Database {
    child: std::process::Child,
    pub(crate) port: u16,
    kind: Kind,
    folder: tempfile::TempDir,
    /// What it was started with.
    certified: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    MariaDb,
}

impl Database {
    /// `None` where the programs for it are absent; without TLS unless it is given a certificate.
    pub(crate) fn start(kind: Kind, certificate: Option<(&Authority, Flaw)>) -> Option<Self> {
        let programs = match kind {
            Kind::Postgres => ["psql", "pg_ctlcluster"],
            Kind::MariaDb => ["mariadb", "mariadbd"],
        };
        if !programs.into_iter().all(needs::program) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        kind.make(folder.path());
        if let Some((authority, flaw)) = certificate {
            kind.certify(folder.path(), authority.certificate(flaw));
        }
        let port = free_port();
        let certified = certificate.is_some();
        let child = kind.run(folder.path(), port, certified);
        let mut database = Self { child, port, kind, folder, certified };
        database.wait();
        database.prepare();
        Some(database)
    }

    /// Ends it at once, and starts it again at the same port.
    pub(crate) fn restart(&mut self) {
        self.end();
        self.child = self.kind.run(self.folder.path(), self.port, self.certified);
        self.wait();
    }

    /// The same with another certificate, or none.
    pub(crate) fn restart_with(&mut self, certificate: Option<(&Authority, Flaw)>) {
        self.certified = certificate.is_some();
        if let Some((authority, flaw)) = certificate {
            self.kind.certify(self.folder.path(), authority.certificate(flaw));
        }
        self.restart();
    }

    /// Runs a statement as the database's own administrator, past everything.
    pub(crate) fn direct(&self, statement: &str) -> String {
        let output = self.kind.client(("127.0.0.1", self.port), "admin").arg(statement).output().unwrap();
        assert!(output.status.success(), "{statement}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.kind.ready(self.folder.path(), self.port).output().unwrap();
            if output.status.success() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "{:?} ended: {}", self.kind, self.log());
            assert!(Instant::now() < deadline, "{:?} is not ready: {output:?}, {}", self.kind, self.log());
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its users: `admin`, `alice` and `bob`.
    fn prepare(&self) {
        for user in ["alice", "bob"] {
            match self.kind {
                Kind::Postgres => {
                    self.direct(&format!("create role {user} login password '{PASSWORD}'"));
                    self.direct(&format!("grant create on schema public to {user}"));
                }
                Kind::MariaDb => {
                    self.direct(&format!("create user {user}@'%' identified by '{PASSWORD}'"));
                    self.direct(&format!("grant all on shop.* to {user}@'%'"));
                }
            }
        }
    }

    /// Ends it at once.
    pub(crate) fn end(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            return;
        }
        // PostgreSQL's and MariaDB's way to end at once, children included.
        let process = rustix::process::Pid::from_child(&self.child);
        let signal =
            if self.kind == Kind::Postgres { rustix::process::Signal::QUIT } else { rustix::process::Signal::KILL };
        rustix::process::kill_process(process, signal).unwrap_or_default();
        self.child.wait().unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.end();
    }
}

impl Kind {
    /// Makes an empty database in the folder, with an administrator.
    fn make(self, folder: &Path) {
        let user = self.owner();
        own(folder, user);
        match self {
            Self::Postgres => {
                std::fs::write(folder.join("password"), PASSWORD).unwrap();
                let mut make = as_user(user, &postgres_program("initdb"));
                make.args(["--username=admin", "--auth-host=scram-sha-256", "--auth-local=trust", "--no-sync"]);
                make.arg("--pwfile").arg(folder.join("password")).arg("-D").arg(folder.join("data"));
                works(&make.output().unwrap());
            }
            Self::MariaDb => {
                let mut make = as_user(user, Path::new("mariadb-install-db"));
                make.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                let data = format!("--datadir={}", folder.join("data").display());
                works(&make.arg(data).output().unwrap());
                let first = format!(
                    "create database shop; create user admin@'%' identified by '{PASSWORD}'; \
                     grant all on *.* to admin@'%' with grant option;\n"
                );
                std::fs::write(folder.join("first.sql"), first.replace("; ", ";\n")).unwrap();
            }
        }
    }

    fn certify(self, folder: &Path, (certificate, key): (String, String)) {
        for (name, pem) in [("server.crt", certificate), ("server.key", key)] {
            let path = folder.join(name);
            std::fs::write(&path, pem).unwrap();
            works(&Command::new("chmod").arg("0600").arg(&path).output().unwrap());
            own(&path, self.owner());
        }
    }

    fn run(self, folder: &Path, port: u16, certified: bool) -> std::process::Child {
        let at = |name: &str| folder.join(name).display().to_string();
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let port = port.to_string();
        let mut program = match self {
            Self::Postgres => {
                let mut program = as_user(self.owner(), &postgres_program("postgres"));
                program.args(["-D", &at("data"), "-h", "127.0.0.1", "-p", &port, "-k", &at("")]);
                program.args(["-c", "fsync=off"]);
                if certified {
                    program.args(["-c", "ssl=on"]);
                    program.args(["-c", &format!("ssl_cert_file={}", at("server.crt"))]);
                    program.args(["-c", &format!("ssl_key_file={}", at("server.key"))]);
                }
                program
            }
            Self::MariaDb => {
                let mut program = as_user(self.owner(), &needs::find("mariadbd").unwrap());
                program.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
                program.args(["--local-infile=1", &format!("--port={port}")]);
                for (option, name) in [("datadir", "data"), ("socket", "socket"), ("pid-file", "pid")] {
                    program.arg(format!("--{option}={}", at(name)));
                }
                if folder.join("first.sql").exists() && !folder.join("data/shop").exists() {
                    program.arg(format!("--init-file={}", at("first.sql")));
                }
                if certified {
                    program
                        .args([format!("--ssl-cert={}", at("server.crt")), format!("--ssl-key={}", at("server.key"))]);
                }
                program
            }
        };
        program.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// The program that says whether the database answers.
    fn ready(self, folder: &Path, port: u16) -> Command {
        match self {
            Self::Postgres => {
                let mut program = Command::new(postgres_program("pg_isready"));
                program.args(["--quiet", "-h", "127.0.0.1", "-p", &port.to_string()]);
                program
            }
            Self::MariaDb => {
                let mut program = self.client(("127.0.0.1", port), "admin");
                program.arg("select 1").current_dir(folder);
                program
            }
        }
    }

    /// The client that people have, about to run the statement that is its last argument.
    pub(crate) fn client(self, (host, port): (&str, u16), user: &str) -> Command {
        let port = port.to_string();
        let mut program = match self {
            Self::Postgres => {
                let mut program = Command::new("psql");
                program.args(["-X", "-A", "-t", "-h", host, "-p", &port, "-U", user, "-d", "postgres", "-c"]);
                program
            }
            Self::MariaDb => {
                let mut program = Command::new("mariadb");
                program.args(["--no-defaults", "--batch", "--skip-column-names", "--local-infile=1"]);
                program.args(["-h", host, "-P", &port, "-u", user, "-D", "shop", "-e"]);
                program
            }
        };
        program.env("PGPASSWORD", PASSWORD).env("MYSQL_PWD", PASSWORD).stdin(Stdio::null());
        program
    }

    /// Who may run it: neither of them runs as root.
    fn owner(self) -> Option<&'static str> {
        let root = rustix::process::geteuid().is_root();
        root.then_some(if self == Self::Postgres { "postgres" } else { "mysql" })
    }
}

/// A program of PostgreSQL's, which Debian keeps out of the usual folders.
pub(crate) fn postgres_program(name: &str) -> PathBuf {
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin").join(name)).filter(|path| path.exists()))
        .collect();
    versions.sort();
    versions.pop().unwrap_or_else(|| name.into())
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program).current_dir("/");
    command
}

fn own(path: &Path, user: Option<&str>) {
    if let Some(user) = user {
        works(&Command::new("chown").arg(format!("{user}:{user}")).arg(path).output().unwrap());
    }
}

fn works(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}
