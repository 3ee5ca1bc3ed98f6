//! What the agent's own SSH server refuses, and what ends its sessions.

use std::os::unix::fs::MetadataExt as _;

use bz_client::ssh::{Credential, SshStream};
use bz_core::api::record::ConnectionEventType as Happened;
use bz_core::ssh::{SshKey, UserCertificate};
use bz_core::target::TargetUser;
use bz_core::time::UnixTime;
use tokio::net::TcpListener;

use super::ends::{ends, running};
use super::site::{HOST, Site, text};
use crate::port::free_port;
use crate::session::until;

/// What an old `scp` could be made to run, and what has nothing to do with it.
const COMMANDS: &[&str] = &[
    "id > pwned",
    "scp -t x; touch pwned",
    "scp -t x;touch pwned",
    "scp -t x && touch pwned",
    "scp -t x || touch pwned",
    "scp -t x | touch pwned",
    "scp -t x & touch pwned",
    "scp -t x\ntouch pwned",
    "scp -t `touch pwned`",
    "scp -t $(touch pwned)",
    "scp -t \"$(touch pwned)\"",
    "scp -t \"`touch pwned`\"",
    "scp -t x > pwned",
    "scp -f <(touch pwned)",
    "scp -S 'touch pwned' -t x",
    "scp -oProxyCommand='touch pwned' -t x",
    "scp -t -S./x x",
    "sh -c 'scp -t x; touch pwned'",
    "/usr/lib/openssh/sftp-server",
    "rsync --server . .",
    "PATH=. scp -t x",
    "./scp -t x",
];

/// F-084~, PR-SSHD-5: where policy allows files alone nothing is run, whatever it is made to look like; what is refused is
/// said to the person, and in the log of connections.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_run_where_policy_allows_files_alone() {
    let Some(site) = Site::inspected(&["FileTransfer"]).await else { return };
    let home = format!("/home/{}", site.person.name);
    // What would run in the place of scp.
    site.person.write("scp", "#!/bin/sh\ntouch pwned\n");
    site.run(&format!("chmod 755 {home}/scp && ls -A {home} > before")).await;
    site.run("ssh -F $F -M -S ./master -f -N $U@web >master.log 2>&1").await;
    for command in COMMANDS {
        std::fs::write(site.at("command"), command).unwrap();
        let output = site.try_run("ssh -F $F -S ./master $U@web \"$(cat command)\"").await;
        assert_eq!(output.status.code(), Some(126), "{command}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("copy files here with scp and sftp, and run nothing"), "{command}");
    }
    site.run("ssh -F $F -S ./master -O exit $U@web").await;
    for shell in ["ssh -F $F -T $U@web", "ssh -F $F -tt $U@web", "ssh -F $F -tt $U@web id"] {
        let output = site.try_run(&format!("echo 'touch pwned' | {shell}")).await;
        assert_eq!(output.status.code(), Some(126), "{shell}: {}", text(&output.stderr));
    }
    site.fails("ssh -F $F -s $U@web netconf").await;
    site.fails("rsync -a before $U@web:").await;
    assert_eq!(site.run(&format!("ls -A {home} | diff before - && echo same")).await, "same\n");
    assert_eq!(site.commands(0).await.len(), 0, "nothing was run");
    let look = async || site.world.client.connection_events(1000).await.unwrap();
    let refused = |event: &bz_core::api::record::ConnectionEvent| {
        event.connection_event_type == Happened::StreamRefused && event.reason.contains("touch pwned")
    };
    until(look, |events| events.iter().filter(|event| refused(event)).count() > 10).await;
    forwarding(&site).await;
    site.stop().await;
}

/// Neither ports nor agents nor displays, either way.
async fn forwarding(site: &Site) {
    let (port, inner) = (free_port(), free_port());
    let forward = "sleep 5 | ssh -F $F -o ExitOnForwardFailure=yes";
    let said = site.fails(&format!("{forward} -N -R {port}:127.0.0.1:{inner} $U@web")).await;
    assert!(said.contains("remote port forwarding failed"), "{said}");
    let said = site.fails(&format!("ssh -F $F -W 127.0.0.1:{inner} $U@web </dev/null")).await;
    assert!(said.contains("nothing is forwarded here: that needs the verb Tunnel"), "{said}");
    let socket = site.at("remote.sock").display().to_string();
    let said = site.fails(&format!("{forward} -N -R {socket}:127.0.0.1:{inner} $U@web")).await;
    assert!(said.contains("remote port forwarding failed"), "{said}");
    let events = site.world.client.connection_events(1000).await.unwrap();
    let to = format!("forwarding to 127.0.0.1:{inner}: not part of the session");
    assert!(events.iter().any(|event| event.reason == to), "{events:#?}");
}

/// F-084~, PR-SSHD-5: where policy allows commands alone no file is copied by scp or sftp; displays and agents are not forwarded, and
/// only harmless variables are set.
#[tokio::test(flavor = "multi_thread")]
async fn no_file_is_copied_where_policy_allows_commands_alone() {
    let Some(site) = Site::inspected(&["Shell"]).await else { return };
    site.run("echo one > one").await;
    for copy in ["scp -F $F one $U@web:", "scp -O -F $F one $U@web:", "echo ls | sftp -F $F -b - $U@web"] {
        let said = site.fails(copy).await;
        assert!(said.contains("policy lets you run commands here, and copy no files"), "{said}");
    }
    assert_eq!(site.files(0).await.len(), 0);
    let set = "LANG=de_DE.UTF-8 LC_TIME=C LD_PRELOAD=x BASH_ENV=x ssh -F $F -A -X -o SendEnv='LANG LC_TIME LD_PRELOAD BASH_ENV'";
    let said = site.run(&format!("{set} $U@web env")).await;
    assert!(said.contains("LANG=de_DE.UTF-8\n") && said.contains("LC_TIME=C\n"), "{said}");
    for absent in ["LD_PRELOAD", "BASH_ENV", "DISPLAY", "SSH_AUTH_SOCK"] {
        assert!(!said.contains(absent), "{absent} in {said}");
    }
    site.stop().await;
}

/// PR-SSHD-1, PR-SSHD-2: one key and one user are let in, by no other means, and the host shows the key that the session
/// told.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_and_one_user_are_let_in() {
    let Some(site) = Site::inspected(&["Shell", "FileTransfer"]).await else { return };
    let name = format!("{}@{HOST}", site.person.name).parse().unwrap();
    let user: TargetUser = site.person.name.parse().unwrap();
    let tries = async |change: &dyn Fn(Credential) -> Credential, user: &TargetUser| {
        let SshStream { stream, credential, host_keys, .. } = site.world.client.ssh_inspected(&name).await.unwrap();
        std::fs::write(site.at("host_key.pub"), host_keys[0].to_line()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let bridge = tokio::spawn(async move {
            let (mut stream, mut tcp) = (stream, listener.accept().await.unwrap().0);
            // However it ends.
            tokio::io::copy_bidirectional(&mut stream, &mut tcp).await.map(drop).unwrap_or_default();
        });
        let credential = change(Credential { user: user.clone(), ..credential });
        let tried = site.tries_at(port, &credential, (user, "127.0.0.1")).await;
        bridge.abort();
        tried
    };
    tries(&|credential| credential, &user).await.expect("it is good as it is");
    let plain = |credential: Credential| {
        let certificate = credential.key.public().blob().to_vec();
        Credential { certificate, ..credential }
    };
    tries(&plain, &user).await.expect("and so is the key alone");
    let denied = |said: Result<(), String>| {
        let said = said.unwrap_err();
        assert!(said.contains("Permission denied (publickey)"), "{said}");
    };
    denied(tries(&|credential| credential, &"root".parse().unwrap()).await);
    let other = SshKey::from_seed(&[7; 32]).unwrap();
    let another = |key: &SshKey, signer: &SshKey, user: &TargetUser| {
        let certificate = UserCertificate {
            key: &key.public(),
            principal: user,
            id: "bz",
            serial: 0,
            after: UnixTime::from_secs(1),
            before: UnixTime::from_secs(1 << 33),
            sources: "0.0.0.0/0,::/0",
        };
        Credential { key: key.clone(), certificate: certificate.sign(&[8; 32], signer), user: user.clone() }
    };
    denied(tries(&|_| another(&other, &other, &user), &user).await);
    // Signed by the session's key, for another one.
    denied(tries(&|credential| another(&other, &credential.key, &user), &user).await);
    let refused = site.fails("ssh -F $F daemon@web true").await;
    assert!(refused.contains("this verb"), "policy names one user: {refused}");
    let mode = site.run("stat -c %a agent/ssh-host.key").await;
    assert_eq!(mode, "600\n");
    site.stop().await;
}

/// PR-SSHD-3: a logout ends a running session and what it runs; so does the end of one of the policies that allow it.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_and_the_end_of_a_policy_end_what_runs() {
    let Some(site) = Site::inspected(&["Shell"]).await else { return };
    site.allow_verbs("files", &site.person.name, &["FileTransfer"]).await;
    let uid: u32 = site.run("id -u $U").await.trim().parse().unwrap();
    let runs = async || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter(|process| process.metadata().is_ok_and(|found| found.uid() == uid)).count()
    };
    let ssh = running(&site).await;
    until(runs, |count| *count > 0).await;
    let (client, api) = (&site.world.client, site.api());
    let policy = client.policies().await.unwrap().into_iter().find(|policy| policy.content.name == "files").unwrap();
    api.delete(&format!("policies/target-connect/{}", policy.id)).await;
    let complaint = ends(ssh).await;
    assert!(complaint.contains("no policy allows it any more"), "it had both verbs: {complaint}");
    until(runs, |count| *count == 0).await;

    let ssh = running(&site).await;
    until(runs, |count| *count > 0).await;
    site.run("bz logout").await;
    let complaint = ends(ssh).await;
    assert!(complaint.contains("logged out"), "{complaint}");
    until(runs, |count| *count == 0).await;
    site.stop().await;
}
