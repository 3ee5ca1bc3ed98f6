//! Hosts whose sshd does not believe the agent's authority: one that asks the agent about each key, and one that reads
//! the target user's own file and nothing else.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bz_agent::vault::{Registered, Vault};
use bz_client::ssh::{Credential, SshStream};
use bz_core::digest::Digest;
use bz_core::ssh::SshKey;
use bz_core::target::TargetUser;
use bz_examples::needs;
use tokio::process::Child;

use crate::guide::built;
use crate::guide::page::Page;
use crate::person::Person;
use crate::session::until;
use crate::ssh::site::{HOST, Site, Told, text};

/// Longer than a certificate is answered for, and than a line stays.
const MINUTE: Duration = Duration::from_secs(61);
const HALF: Duration = Duration::from_secs(31);

/// F-178~, F-247: sshd asks the agent, and lets in the certificate of a session that is open, as its one user, for one
/// minute; of everything else the agent says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_sshd_that_asks_the_agent_lets_sessions_in() {
    let Some(site) = Site::start_as(Told::Asks).await else { return };
    let Some(other) = Person::with_shell(&needs::find("bash").unwrap()) else { return };
    for user in [&site.person.name, &other.name] {
        site.allow(&format!("ssh as {user}").replace(' ', "-"), user).await;
    }
    site.run("bz generate ssh-config --include").await;
    let refused = site.fails("ssh -F $F $U@web true").await;
    assert!(refused.contains("Permission denied (publickey)"), "{refused}");
    assert!(refused.contains("`bz-agent ssh-ca` prints the lines that it needs"), "{refused}");
    let _program = site.asks().await;
    assert_eq!(site.run("ssh -F $F $U@web id -un").await, format!("{}\n", site.person.name));
    assert_eq!(site.let_in().len(), 1, "sshd's log names the session: {}", site.log());
    site.run("echo 42 > sent && scp -F $F sent $U@web: && ssh -F $F $U@web cat sent | grep 42").await;

    let opened = site.opens().await;
    let [user, someone, root] =
        [site.person.name.as_str(), &other.name, "root"].map(|name| name.parse::<TargetUser>().unwrap());
    let answer = site.asked(&user, &opened.credential).await;
    let session = format!(" bz-agent session {}\n", site.let_in_as(&opened.credential).await);
    let begin = format!(
        "restrict,pty,port-forwarding,agent-forwarding,X11-forwarding,user-rc,from=\"127.0.0.1,::1\",cert-authority,principals=\"{user}\" ecdsa-sha2-nistp256 "
    );
    assert!(answer.starts_with(&begin) && answer.ends_with(&session) && answer.lines().count() == 1, "{answer}");
    let denied = async |credential: &Credential, user| {
        let said = site.tries(credential, (user, "127.0.0.1")).await.unwrap_err();
        assert!(said.contains("Permission denied (publickey)"), "{said}");
        assert_eq!(site.asked(user, credential).await, "");
    };
    denied(&Credential { user: root.clone(), ..opened.credential.clone() }, &root).await;
    denied(&Credential { user: someone.clone(), ..opened.credential.clone() }, &someone).await;
    let plain = opened.credential.key.public().blob().to_vec();
    denied(&Credential { certificate: plain, ..opened.credential.clone() }, &user).await;
    let stranger = SshKey::from_seed(&[9; 32]).unwrap().public().blob().to_vec();
    denied(&Credential { certificate: stranger, ..opened.credential.clone() }, &user).await;

    // A session that is over, though its certificate is no older than a moment.
    site.world.client.close(opened.connection).await.unwrap();
    until(async || site.asked(&user, &opened.credential).await, String::is_empty).await;
    denied(&opened.credential, &user).await;
    let opened = site.opens().await;
    assert_ne!(site.asked(&user, &opened.credential).await, "");
    site.clock.advance(MINUTE);
    denied(&opened.credential, &user).await;
    site.folder_is_the_agents();
    site.stop().await;
}

/// F-178~, F-247: where sshd reads users' own files alone, a line of the session's is in them for half a minute at most,
/// and everything else in them stays as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_half_a_minute_lets_a_session_in() {
    let Some(site) = Site::start_as(Told::Reads).await else { return };
    let Some(other) = Person::with_shell(&needs::find("bash").unwrap()) else { return };
    site.allow("ssh", &site.person.name).await;
    site.run("bz generate ssh-config --include").await;
    assert_eq!(site.run("ssh -F $F $U@web id -un").await, format!("{}\n", site.person.name));
    site.is_restored("").await;
    let found = (site.keys_folder().metadata().unwrap(), site.keys().metadata().unwrap());
    assert_eq!((found.0.mode() & 0o7777, found.1.mode() & 0o7777), (0o700, 0o600));
    assert_eq!(found.1.uid().to_string(), site.run("id -u $U").await.trim());

    // A file as people have them: with a comment, without an end of its last line, readable to a group.
    let own = "# mine\n\nssh-ed25519 AAAA me@home\nno-pty ssh-rsa BBBB \"odd";
    site.write(own, 0o640);
    site.run(&format!("chgrp sudo {}", site.keys().display())).await;
    let group = site.keys().metadata().unwrap().gid();
    let at_once = site.run("for i in 1 2 3 4 5 6; do ssh -F $F $U@web echo at-once & done; wait").await;
    assert_eq!(at_once, "at-once\n".repeat(6));
    site.is_restored(&format!("{own}\n")).await;
    let opened = site.opens().await;
    let line = site.lines().pop().unwrap();
    assert!(line.contains(&format!("cert-authority,principals=\"{}\"", site.person.name)), "{line}");
    let session = site.let_in_as(&opened.credential).await;
    assert!(line.starts_with("restrict,") && line.ends_with(&session), "{line} is not of {session}");
    let as_other = Credential { user: other.name.parse().unwrap(), ..opened.credential.clone() };
    let said = site.tries(&as_other, (&other.name.parse().unwrap(), "127.0.0.1")).await.unwrap_err();
    assert!(said.contains("Permission denied (publickey)"), "{said}");
    assert!(!Path::new(&format!("/home/{}/.ssh", other.name)).exists(), "nobody was let in there");

    site.clock.advance(HALF);
    site.is_restored(&format!("{own}\n")).await;
    let said = site.tries(&opened.credential, (&site.person.name.parse().unwrap(), "127.0.0.1")).await.unwrap_err();
    assert!(
        said.contains("Permission denied (publickey)"),
        "the line's time is over, the certificate's is not: {said}"
    );
    drop(opened);
    let found = site.keys().metadata().unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o640, group));
    assert_eq!(site.run(&format!("ls -A {}", site.keys_folder().display())).await, "authorized_keys\n");
    assert_eq!(site.run("ls -A agent/ssh-lines").await, "");
    site.stop().await;
}

/// F-247: a file, or a folder, that is not simply the user's own stays as it is, and nobody gets in by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_written_into_a_users_own_plain_file_alone() {
    let Some(site) = Site::start_as(Told::Reads).await else { return };
    site.allow("ssh", &site.person.name).await;
    site.run("bz generate ssh-config --include").await;
    let (folder, keys) = (site.keys_folder(), site.keys());
    let elsewhere = PathBuf::from(format!("/home/{}/elsewhere", site.person.name));
    site.run(&format!("mkdir {} && chown $U {0}", elsewhere.display())).await;
    let lines = |says: &str| vec![("authorized_keys".to_owned(), says.to_owned())];
    let refused = async |why: &str, is: Vec<(String, String)>| {
        let said = site.fails("ssh -F $F $U@web true").await;
        assert!(said.contains("the agent cannot do this now"), "{why}: {said}");
        assert_eq!(contents(&elsewhere), is, "{why}");
    };
    // Its folder is a link, to one of the user's own.
    site.run(&format!("echo theirs > {0}/authorized_keys && chown -R $U {0}", elsewhere.display())).await;
    symlink(&elsewhere, &folder).unwrap();
    refused(".ssh is a link", lines("theirs\n")).await;
    std::fs::remove_file(&folder).unwrap();
    // The file is.
    site.write("", 0o600);
    std::fs::remove_file(&keys).unwrap();
    symlink(elsewhere.join("authorized_keys"), &keys).unwrap();
    refused("the file is a link", lines("theirs\n")).await;
    assert!(keys.is_symlink());
    std::fs::remove_file(&keys).unwrap();
    std::fs::hard_link(elsewhere.join("authorized_keys"), &keys).unwrap();
    refused("the file has two names", lines("theirs\n")).await;
    std::fs::remove_file(&keys).unwrap();
    for (why, make) in [
        ("somebody else's", "echo x > $K"),
        ("writable by all", "echo x > $K && chown $U $K && chmod 666 $K"),
        ("a pipe", "mkfifo $K && chown $U $K"),
        ("a folder", "mkdir $K && chown $U $K"),
        ("too large", "truncate -s 2M $K && chown $U $K"),
        ("a folder writable by all", "echo x > $K && chown $U $K && chmod 777 $(dirname $K)"),
    ] {
        site.run(&format!("K={}; {make}", keys.display())).await;
        let before = site.run(&format!("ls -lARn --time-style=full-iso {}", folder.display())).await;
        refused(why, lines("theirs\n")).await;
        let after = site.run(&format!("ls -lARn --time-style=full-iso {}", folder.display())).await;
        assert_eq!(after, before, "{why}");
        site.run(&format!("rm -rf {} && chmod 700 {}", keys.display(), folder.display())).await;
    }
    full(&site).await;
    site.stop().await;
}

/// On a disk that is full the old file stays whole.
async fn full(site: &Site) {
    let (folder, keys) = (site.keys_folder(), site.keys());
    let options = ["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"];
    let mounted = std::process::Command::new("mount").args(options).arg(&folder).status().unwrap().success();
    if !mounted {
        assert!(!needs::in_ci(), "needs the right to mount");
        println!("left out: only who may mount can have a disk that is full");
        return;
    }
    let own = "x".repeat(30_000);
    site.run(&format!("chown $U {}", folder.display())).await;
    site.write(&own, 0o600);
    site.run(&format!("head -c 40000 /dev/zero > {}/rest; true", folder.display())).await;
    let said = site.fails("ssh -F $F $U@web true").await;
    assert!(said.contains("the agent cannot do this now"), "{said}");
    assert_eq!(std::fs::read_to_string(&keys).unwrap(), own);
    assert_eq!(site.run(&format!("ls -A {}", folder.display())).await, "authorized_keys\nrest\n");
    std::fs::remove_file(folder.join("rest")).unwrap();
    site.run("ssh -F $F $U@web true").await;
    site.is_restored(&format!("{own}\n")).await;
    assert!(std::process::Command::new("umount").arg(&folder).status().unwrap().success());
}

/// F-247: nobody's file has a line unless the host's owner says so.
#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_written_unless_the_hosts_owner_says_so() {
    let Some(site) = Site::ready().await else { return };
    let opened = site.opens().await;
    site.let_in_as(&opened.credential).await;
    assert!(!site.keys_folder().exists() && !site.at("agent/ssh-lines").exists());
    assert!(!site.at("agent/ssh-keys.sock").exists(), "and nobody is answered");
    site.stop().await;
}

/// F-247: an agent that is killed leaves its line, which the next start removes, whichever way it lets people in then.
#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_an_agent_that_was_killed_goes_at_its_next_start() {
    let Some(site) = Site::start_as(Told::Reads).await else { return };
    site.registers("kept").await;
    site.write("ssh-ed25519 AAAA me@home\n", 0o600);
    let mut agent = site.runs(&["--ssh-login", "authorized-keys"]);
    let name = format!("{}@kept", site.person.name).parse().unwrap();
    let look = async || site.world.client.ssh(&name).await.ok();
    let opened = until(look, Option::is_some).await.unwrap();
    assert_eq!(site.lines().len(), 1);
    agent.kill().await.unwrap();
    assert_eq!(site.lines().len(), 1, "nobody was there to remove it");
    drop(opened);

    let mut agent = site.runs(&[]);
    site.is_restored("ssh-ed25519 AAAA me@home\n").await;
    agent.kill().await.unwrap();

    // One that ends in order leaves none.
    let mut agent = site.runs(&["--ssh-login", "authorized-keys"]);
    let opened = until(look, Option::is_some).await.unwrap();
    assert_eq!(site.lines().len(), 1);
    site.run(&format!("kill -TERM {}", agent.id().unwrap())).await;
    agent.wait().await.unwrap();
    assert_eq!(site.lines(), Vec::<String>::new());
    drop(opened);
    site.stop().await;
}

/// F-178~, F-247: the section as written, on a host whose sshd trusts no key: first asked, then by a line.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_sshds_that_trust_no_key_is_as_written() {
    let Some(site) = Site::start_as(Told::Reads).await else { return };
    let fingerprint = site.registers("kept").await;
    site.run(&format!("bz target trust kept {fingerprint} && bz generate ssh-config --include")).await;
    let mut page = Page::connecting("SSH where sshd trusts no key");
    page.put("/etc/ssh/sshd_config.d/bz-agent.conf", &site.at("sshd_config.d/bz-agent.conf").display());
    page.put("sshd -t && systemctl reload ssh", &format!("sshd -t -f sshd_config && kill -HUP {}", site.sshd_pid()));
    let (lines, reload) = (page.next("bz-agent ssh-ca"), page.next("sshd -t"));
    let kept = format!("export BZ_AGENT_STATE_DIR={};", site.at("kept").display());
    let _program = site.asks_by(&format!("{kept} {lines}"), &reload).await;
    let ssh = "ssh -F $F $U@kept id -un";
    let name = format!("{}\n", site.person.name);
    let mut agent = site.runs_line(&page.next("bz-agent run"));
    until(async || text(&site.try_run(ssh).await.stdout), |said| *said == name).await;
    assert!(!site.keys_folder().exists(), "nothing is written there");
    agent.kill().await.unwrap();
    site.settings("").await;
    let mut agent = site.runs_line(&page.next("bz-agent run"));
    until(async || text(&site.try_run(ssh).await.stdout), |said| *said == name).await;
    site.is_restored("").await;
    agent.kill().await.unwrap();
    page.ends();
    site.stop().await;
}

fn contents(folder: &Path) -> Vec<(String, String)> {
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    found.sort_by_key(std::fs::DirEntry::file_name);
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(entry.path()).unwrap())
    };
    found.into_iter().map(read).collect()
}

impl Site {
    /// Has sshd ask, as `bz-agent ssh-ca` says.
    async fn asks(&self) -> tempfile::TempDir {
        let write = format!("bz-agent ssh-ca --login command > {}", self.at("sshd_config.d/bz-agent.conf").display());
        self.asks_by(&write, &format!("sshd -t -f sshd_config && kill -HUP {}", self.sshd_pid())).await
    }

    /// The same by these commands. The program lies where sshd believes that only root put it.
    async fn asks_by(&self, write: &str, reload: &str) -> tempfile::TempDir {
        let place = tempfile::tempdir_in("/run").unwrap();
        let (program, own) = (place.path().join("bz-agent"), built().join("bz-agent").canonicalize().unwrap());
        std::fs::write(&program, format!("#!/bin/sh\nexec {} \"$@\"\n", own.display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        self.run(write).await;
        let settings = self.at("sshd_config.d/bz-agent.conf");
        let lines = std::fs::read_to_string(&settings).unwrap();
        assert!(lines.contains("\nAuthorizedKeysCommandUser root\n"), "{lines}");
        let changed = lines.replace(&own.display().to_string(), &program.display().to_string());
        assert_ne!(changed, lines, "the program names itself");
        std::fs::write(&settings, changed).unwrap();
        self.reload(reload).await;
        place
    }

    /// A session of the person's own program, with the host's own sshd.
    async fn opens(&self) -> SshStream {
        let name = format!("{}@{HOST}", self.person.name).parse().unwrap();
        self.world.client.ssh(&name).await.unwrap()
    }

    /// What the agent answers.
    async fn asked(&self, user: &TargetUser, credential: &Credential) -> String {
        self.run(&format!("bz-agent ssh-keys {user} {}", STANDARD.encode(&credential.certificate))).await
    }

    /// Logs in with a session's certificate; the session as sshd's log names it.
    async fn let_in_as(&self, credential: &Credential) -> String {
        self.tries(credential, (&credential.user, "127.0.0.1")).await.expect("it is good as it is");
        self.let_in().pop().unwrap()
    }

    fn folder_is_the_agents(&self) {
        let folder = self.at("agent").metadata().unwrap();
        assert_eq!((folder.mode() & 0o777, folder.uid()), (0o700, 0), "nobody else asks");
    }

    fn keys_folder(&self) -> PathBuf {
        PathBuf::from(format!("/home/{}/.ssh", self.person.name))
    }

    fn keys(&self) -> PathBuf {
        self.keys_folder().join("authorized_keys")
    }

    /// Gives the person's user of the host a file.
    fn write(&self, text: &str, mode: u32) {
        let (folder, keys) = (self.keys_folder(), self.keys());
        if !folder.exists() {
            std::fs::create_dir(&folder).unwrap();
        }
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(&keys, text).unwrap();
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(mode)).unwrap();
        let owner = format!("/home/{}", self.person.name);
        let home = std::fs::metadata(owner).unwrap();
        for path in [&folder, &keys] {
            std::os::unix::fs::chown(path, Some(home.uid()), Some(home.gid())).unwrap();
        }
    }

    /// The lines of sessions that are in it.
    fn lines(&self) -> Vec<String> {
        let all = std::fs::read_to_string(self.keys()).unwrap_or_default();
        all.lines().filter(|line| line.contains("bz-agent session")).map(str::to_owned).collect()
    }

    /// Waits until the file is this again.
    async fn is_restored(&self, text: &str) {
        until(async || std::fs::read_to_string(self.keys()).unwrap(), |now| now == text).await;
    }

    /// Another target of the same host, with a folder of its own; its agent's key.
    async fn registers(&self, name: &str) -> Digest {
        let identity = self.world.enroll(name).await.unwrap();
        let fingerprint = identity.identity_key.public().fingerprint();
        let registered = Registered {
            identity,
            server: self.world.client.server().url().as_str().trim_end_matches('/').to_owned(),
            name: name.to_owned(),
            local_policy_required: false,
            bundle: self.world.bundle.clone(),
            server_ca: Some(std::fs::read_to_string(self.world.folder.join("server/ca.crt")).unwrap()),
            issuer_ca: None,
        };
        Vault::open(self.at(name)).unwrap().replace(&registered).unwrap();
        self.run(&format!(
            "bz policy create target-access --name {name} --user $U@example.com --target {name} --target-user $U --verb Tunnel"
        ))
        .await;
        fingerprint
    }

    /// The real program, with that folder.
    fn runs(&self, arguments: &[&str]) -> Child {
        self.runs_line(&format!("bz-agent run {}", arguments.join(" ")))
    }

    /// The same by a line that a person types.
    fn runs_line(&self, line: &str) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.at("agent.log")).unwrap();
        let mut command = self.command(&format!("exec {line}"));
        command.env("BZ_AGENT_STATE_DIR", self.at("kept")).env("BZ_AGENT_CARRIER", "ws");
        command.env("BZ_AGENT_SSH_PORT", self.port.to_string()).env("BZ_AGENT_SSH_HOST_KEYS", self.at("host_key.pub"));
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }
}
