//! What ends an SSH session from without, what is said then, and what is kept of it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bz_client::login::Login;
use bz_client::ssh::SshStream;
use bz_core::api::record::{ConnectionEvent, ConnectionEventType as Happened};
use bz_protocol::driver::Clock as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use crate::session::{files_with, until};
use crate::ssh::site::{DEADLINE, HOST, Site, text};

/// F-001~, F-012, F-013, F-014, F-016, F-169: a logout ends a running `ssh`, and says why; the log of connections has its beginning
/// and its end, and nothing of what went through it is read, logged, recorded, or in any file of the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_a_running_ssh_of_which_nothing_is_kept() {
    let Some(site) = Site::ready().await else { return };
    site.run("echo 'marker-in-a-file' > secret && scp -F $F secret $U@web:").await;
    let mut ssh = running(&site).await;
    let mut stdin = ssh.stdin.take().unwrap();
    stdin.write_all(b"echo marker-typed; cat secret; echo done-$((40+2))\n").await.unwrap();
    let mut stdout = ssh.stdout.take().unwrap();
    let mut said = String::new();
    while !said.contains("done-42") {
        let mut buffer = [0; 512];
        let n = tokio::time::timeout(DEADLINE, stdout.read(&mut buffer)).await.expect("the shell answers").unwrap();
        assert!(n > 0, "{said}");
        said.push_str(&text(&buffer[..n]));
    }
    assert!(said.contains("marker-typed") && said.contains("marker-in-a-file"), "{said}");

    let another = site.world.log_in(&site.person.name).await.unwrap();
    site.run("bz logout").await;
    let complaint = ends(ssh).await;
    let reason = format!("The server says: closed by the end user {}@example.com: logged out", site.person.name);
    assert!(complaint.contains(&reason), "{complaint}");
    let refused = site.fails("ssh -F $F $U@web true").await;
    assert!(refused.contains("bz: nobody is logged in: run `bz login`"), "{refused}");

    let look = async || {
        let mut events = another.connection_events(100).await.unwrap();
        events.reverse();
        events
    };
    let ended = |events: &Vec<ConnectionEvent>| {
        events.iter().filter(|event| event.connection_event_type == Happened::Closed).count() == 2
    };
    let log = until(look, ended).await;
    let (first, second) = (log.first().unwrap().connection_id, log.last().unwrap().connection_id);
    for (connection, why) in [(first, "the session ended at the target"), (second, "logged out")] {
        let own: Vec<_> = log.iter().filter(|event| event.connection_id == connection).collect();
        let kinds: Vec<_> = own.iter().map(|event| event.connection_event_type).collect();
        assert_eq!(kinds.first(), Some(&Happened::Created), "{own:#?}");
        assert!(kinds.contains(&Happened::ClientConnect) && kinds.last() == Some(&Happened::Closed), "{own:#?}");
        assert!(own.last().unwrap().reason.contains(why), "{own:#?}");
    }
    assert!(another.command_events(100).await.unwrap().is_empty(), "no line of it is in the command log");
    let server = site.world.folder.join("server");
    for marker in ["marker-typed", "marker-in-a-file", "OpenSSH"] {
        assert_eq!(files_with(&server, marker), Vec::<PathBuf>::new(), "{marker} is kept");
    }
    assert!(another.recordings().await.unwrap().is_empty(), "a recording");
    site.stop().await;
}

/// F-017: when the login runs out, and nothing renews it, the way to sshd is cut, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_login_ends_the_way_to_sshd() {
    let Some(site) = Site::start().await else { return };
    site.allow("ssh", &site.person.name).await;
    // As if the provider gave nothing to renew it with.
    let mut login: serde_json::Value = serde_json::from_str(&site.world.client.login().to_text()).unwrap();
    login["refresh_token"] = serde_json::Value::Null;
    let client = site.world.client_of(Login::from_text(&login.to_string()).unwrap()).unwrap();
    let name = format!("{}@{HOST}", site.person.name).parse().unwrap();
    let SshStream { mut stream, expires_at, .. } = client.ssh(&name).await.unwrap();
    let mut said = [0; 8];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"SSH-2.0-");
    // Links die of the long silence and are dialed again; the short step after it is no silence.
    site.clock.advance(expires_at.since(site.clock.now().wall) - Duration::from_secs(10));
    stream.write_all(b"SSH-2.0-test\r\n").await.unwrap();
    let mut answer = [0; 512];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("sshd answers").unwrap();
    site.clock.advance(Duration::from_secs(20));
    let mut rest = vec![];
    let cut = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it ends").unwrap_err();
    assert!(cut.to_string().contains("the login has expired; log in again with `bz login`"), "{cut}");
    site.stop().await;
}

/// A shell at the host, which waits for lines.
pub(super) async fn running(site: &Site) -> Child {
    let mut ssh = site.command("exec ssh -F $F $U@web 'echo begun; exec bash'");
    let ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ssh = ssh.spawn().unwrap();
    let mut begun = [0; 6];
    let read = tokio::time::timeout(DEADLINE, ssh.stdout.as_mut().unwrap().read_exact(&mut begun)).await;
    read.expect("ssh gets in").unwrap();
    ssh
}

/// What an `ssh` that was cut complains.
pub(super) async fn ends(ssh: Child) -> String {
    let output = tokio::time::timeout(DEADLINE, ssh.wait_with_output()).await.expect("ssh ends").unwrap();
    assert_eq!(output.status.code(), Some(255));
    text(&output.stderr)
}
