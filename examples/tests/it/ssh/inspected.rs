//! People's own `ssh`, `scp` and `sftp` where policy allows no tunnel: the agent itself ends SSH, and the record says what
//! they did.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bz_client::client::EventFilter;
use bz_core::api::policy::{RecordingContent, Subject, SubjectType};
use bz_core::api::record::{CommandEvent, CommandSource, FileDirection, FileEvent, FileOutcome};
use bz_core::digest::Digest;
use bz_examples::needs;
use pty_process::Size;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::site::{DEADLINE, Site, text};
use crate::guide::api::Api;
use crate::session::{files_with, until};

impl Site {
    /// The command log, oldest first, once it has so many lines.
    pub(super) async fn commands(&self, count: usize) -> Vec<CommandEvent> {
        let look = async || self.world.client.command_events(100).await.unwrap();
        let mut lines = until(look, |lines| lines.len() >= count).await;
        lines.reverse();
        lines
    }

    /// The file log, oldest first, once it has so many rows.
    pub(super) async fn files(&self, count: usize) -> Vec<FileEvent> {
        let filter = EventFilter { count: 1000, ..EventFilter::default() };
        let look = async || self.world.client.file_events_where(&filter).await.unwrap();
        let mut rows = until(look, |rows| rows.len() >= count).await;
        rows.reverse();
        rows
    }

    /// The server's own interface, as an administrator.
    pub(super) fn api(&self) -> Api {
        let client = &self.world.client;
        let ca = std::fs::read_to_string(self.world.folder.join("server/ca.crt")).unwrap();
        Api::new(client.server().url().as_str().trim_end_matches('/'), &ca, &client.login().to_text())
    }

    fn home(&self, name: &str) -> String {
        format!("/home/{}/{name}", self.person.name)
    }
}

/// F-004~, F-178~, PR-SSHD-7, PR-SSHD-8: commands with input, both outputs and their status, without an sshd, as the user and nobody else; each
/// is in the command log, covered by the agent's signature, and none of SSH itself is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_run_without_an_sshd() {
    let Some(site) = Site::inspected(&["Shell"]).await else { return };
    for policy in site.world.client.recording_policies().await.unwrap() {
        site.api().delete(&format!("policies/session-recording/{}", policy.id)).await;
    }
    // Who wants a sealed way gets none that the server reads, whatever it says about policies.
    let name = format!("{}@web", site.person.name).parse().unwrap();
    assert!(site.world.client.ssh(&name).await.is_err(), "it fell back to what the server reads");
    site.run("ssh -F $F $U@web true").await;
    let said = site.run("echo marker-heard | ssh -F $F $U@web 'cat; id -un; pwd'").await;
    assert_eq!(said, format!("marker-heard\n{}\n{}\n", site.person.name, site.home("").trim_end_matches('/')));
    let output = site.try_run("ssh -F $F $U@web.Default 'echo oh >&2; exit 7'").await;
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(7), "oh\n"));
    let output = site.try_run("ssh -F $F $U@web 'kill -TERM $$'").await;
    assert_eq!(output.status.code(), Some(255), "{}", text(&output.stderr));
    // What comes back waits for room that is granted behind what goes there.
    let said = site.run("head -c 30000000 /dev/zero | ssh -F $F $U@web 'cat' | wc -c").await;
    assert_eq!(said, "30000000\n");
    let said = site.run("echo 'echo from-a-script; exit 3' | ssh -F $F -T $U@web; echo $?").await;
    assert_eq!(said, "from-a-script\n3\n");
    assert_eq!(site.let_in(), Vec::<String>::new(), "the host's own sshd has no part in it");

    let log = site.commands(6).await;
    let lines: Vec<_> = log.iter().map(|line| line.command.as_str()).collect();
    let want = ["true", "cat; id -un; pwd", "echo oh >&2; exit 7", "kill -TERM $$", "cat", "exec \"$SHELL\""];
    assert_eq!(lines, want);
    assert!(log.iter().all(|line| line.confirmed && line.source == CommandSource::Request), "{log:#?}");
    for marker in ["marker-heard", "from-a-script", "SSH-2.0"] {
        assert_eq!(files_with(&site.world.folder.join("server"), marker), Vec::<PathBuf>::new(), "{marker} is kept");
    }
    site.stop().await;
}

/// F-108~, F-113~, F-159~, PR-SSHD-8: a terminal of the person's size; what is typed is in the command log and not what is typed
/// blindly; a recording has what the terminal shows, and what a command without one says.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_recorded_as_any_shell_is() {
    let Some(site) = Site::inspected(&["Shell"]).await else { return };
    let client = &site.world.client;
    let subjects = vec![Subject { id: client.me().await.unwrap().id, kind: SubjectType::User }];
    let policy = RecordingContent { name: "record".to_owned(), subjects, ..RecordingContent::default() };
    client.create_recording_policy(&policy).await.unwrap();

    let (pty, pts) = pty_process::open().unwrap();
    pty.resize(Size::new(31, 97)).unwrap();
    let command = site.command("");
    let mut typist = pty_process::Command::new("bash").args(["-c", "ssh -F $F $U@web"]).env_clear();
    for (name, value) in command.as_std().get_envs() {
        typist = typist.env(name, value.unwrap());
    }
    let mut child = typist.env("TERM", "xterm").current_dir(site.at("")).spawn(pts).unwrap();
    let (mut output, mut input) = pty.into_split();
    let mut shown = String::new();
    for (typed, wanted) in [
        ("", "$ "),
        ("stty size; echo typed-$((40+2))\r", "typed-42"),
        ("read -rsp 'secret: ' secret; echo \"${#secret} read\"\r", "secret: "),
        ("hidden-word\r", "11 read"),
        ("exit 5\r", "exit"),
    ] {
        input.write_all(typed.as_bytes()).await.unwrap();
        let seen = shown.len();
        while !shown[seen..].contains(wanted) || (wanted == "secret: " && shown[seen..].matches(wanted).count() < 2) {
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(DEADLINE, output.read(&mut buffer)).await;
            let n = read.unwrap_or_else(|_| panic!("no {wanted:?} in {shown}")).unwrap_or_default();
            assert!(n > 0, "no {wanted:?} in {shown}");
            shown.push_str(&text(&buffer[..n]));
        }
    }
    assert!(shown.contains("31 97"), "{shown}");
    assert_eq!(child.wait().await.unwrap().code(), Some(5), "{shown}");
    let asked = site.try_run("ssh -F $F -tt $U@web 'tty >/dev/null && echo in-a-terminal; exit 3' </dev/null").await;
    assert_eq!((asked.status.code(), text(&asked.stdout).trim_end()), (Some(3), "in-a-terminal"));
    site.run("ssh -F $F $U@web 'echo said-without-one'").await;

    let log = site.commands(5).await;
    let lines: Vec<_> = log.iter().map(|line| line.command.as_str()).collect();
    let read = "read -rsp 'secret: ' secret; echo \"${#secret} read\"";
    let asked = "tty >/dev/null && echo in-a-terminal; exit 3";
    assert_eq!(lines, ["stty size; echo typed-$((40+2))", read, "exit 5", asked, "echo said-without-one"]);
    assert!(log.iter().all(|line| line.confirmed), "{log:#?}");
    let mut recorded = Vec::new();
    for recording in client.recordings().await.unwrap() {
        let mut download = client.recording(recording.connection_id).await.unwrap();
        let mut cast = Vec::new();
        while let Some(bytes) = download.next().await.unwrap() {
            cast.extend(bytes);
        }
        recorded.push(text(&cast));
    }
    let all = recorded.concat();
    for part in ["typed-42", "\"r\", \"97x31\"", "in-a-terminal", "said-without-one"] {
        assert!(all.contains(part), "no {part} in {all}");
    }
    assert!(!all.contains("hidden-word") && !all.contains("SSH-2.0"), "{all}");
    let server = site.world.folder.join("server");
    assert_eq!(files_with(&server, "hidden-word"), Vec::<PathBuf>::new());
    site.stop().await;
}

/// F-084~, F-178~, F-214~: files with scp, new and old, and with sftp, with modes, times and odd names, where policy gives
/// no shell; each is in the file log with its path, size, digest and direction.
#[tokio::test(flavor = "multi_thread")]
async fn files_go_without_a_shell_and_each_is_logged() {
    let Some(site) = Site::inspected(&["FileTransfer"]).await else { return };
    let make = "mkdir -p tree/deep && echo one > tree/one && echo 'two words' > 'tree/deep/with space' && : > tree/empty && \
                head -c 7000000 /dev/urandom > tree/deep/large && chmod 640 tree/one && touch -d 2001-02-03 tree/one && \
                echo odd > $'tree/deep/new\\nline'";
    site.run(make).await;
    let digest = |name: &str| Digest::of(&std::fs::read(site.at(name)).unwrap()).to_string();
    let names =
        [("one", "one"), ("empty", "empty"), ("deep/with space", "deep/with space"), ("deep/large", "deep/large")];
    for (name, there, back, odd) in [
        ("scp", "scp -F $F -rp tree $U@web:", "scp -F $F -rp $U@web:tree back-scp", true),
        ("old", "scp -O -F $F -rp tree $U@web:old", "scp -O -F $F -rp $U@web:old back-old", false),
        (
            "sftp",
            "printf 'mkdir sftp\\nput -Rp tree/* sftp\\n' | sftp -F $F -b - $U@web",
            "printf 'get -Rp sftp back-sftp\\n' | sftp -F $F -b - $U@web",
            true,
        ),
    ] {
        let before = site.files(0).await.len();
        if !odd {
            // The old protocol has no way to say such a name, and writes another one.
            site.run("rm $'tree/deep/new\\nline'").await;
        }
        site.run(there).await;
        site.run(back).await;
        let back = format!("back-{name}");
        site.run(&format!(
            "diff -r tree {back} && cmp <(stat -c '%a %Y' tree/one) <(stat -c '%a %Y' {back}/one) && \
             test \"$(stat -c %U {0})\" = $U",
            site.home(if name == "scp" { "tree/one" } else { name })
        ))
        .await;
        let folder = site.home(if name == "scp" { "tree" } else { name });
        let count = if odd { 5 } else { 4 };
        let rows = site.files(before + 2 * count).await.split_off(before);
        assert_eq!(rows.len(), 2 * count, "{rows:#?}");
        for (here, way) in [(0, FileDirection::ToTarget), (count, FileDirection::FromTarget)] {
            let part = &rows[here..here + count];
            for (local, remote) in names {
                let row = part.iter().find(|row| row.path == format!("{folder}/{remote}"));
                let row = row.unwrap_or_else(|| panic!("no {folder}/{remote} in {part:#?}"));
                let size = std::fs::metadata(site.at("tree").join(local)).unwrap().len();
                assert_eq!((row.direction, row.outcome, row.size), (way, FileOutcome::Copied, size), "{row:#?}");
                assert_eq!(row.sha256, Some(digest(&format!("tree/{local}"))), "{row:#?}");
                assert!(row.confirmed, "{row:#?}");
            }
            let lines = part.iter().filter(|row| row.path.ends_with("new\\x0aline")).count();
            assert_eq!(lines, usize::from(odd), "{part:#?}");
        }
        site.run("echo odd > $'tree/deep/new\\nline'").await;
    }
    requests(&site).await;
    assert_eq!(site.commands(0).await.len(), 0, "nothing was run");
    site.stop().await;
}

/// What else sftp can do.
async fn requests(site: &Site) {
    let batch = "cd sftp\nls -l\nrename one two\nmkdir new\nput tree/one new/one\nrm new/one\nrmdir new\nsymlink two link\n\
                 chmod 600 two\ndf\nls -la deep\npwd\n";
    std::fs::write(site.at("batch"), batch).unwrap();
    let said = site.run("sftp -F $F -b batch $U@web").await;
    let here = site.home("sftp");
    assert!(said.contains("with space") && said.contains(&format!("Remote working directory: {here}")), "{said}");
    let left = site.run(&format!("cd {here} && stat -c '%a %N' two link && ls")).await;
    assert_eq!(left, "600 'two'\n777 'link' -> 'two'\ndeep\nempty\nlink\ntwo\n");
    // What goes on in the middle is read again for its digest.
    let part = "head -c 1000000 tree/deep/large > part && cp part whole && cat tree/deep/large >> /dev/null";
    site.run(&format!("{part} && printf 'put part resumed\\n' | sftp -F $F -b - $U@web")).await;
    let rest = "printf 'reput tree/deep/large resumed\\n' | sftp -F $F -b - $U@web";
    site.run(rest).await;
    let rows = until(
        async || site.files(0).await,
        |rows| rows.iter().filter(|row| row.path.ends_with("/resumed")).count() == 2,
    )
    .await;
    let last = rows.iter().rfind(|row| row.path.ends_with("/resumed")).unwrap();
    let whole = Digest::of(&std::fs::read(site.at("tree/deep/large")).unwrap()).to_string();
    assert_eq!((last.size, &last.sha256), (7_000_000, &Some(whole)), "{last:#?}");
}

/// F-214~: what the user may not, and what there is no room for, is said to the person and in the log.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_system_refuses_is_said_and_logged() {
    let Some(site) = Site::inspected(&["FileTransfer"]).await else { return };
    site.run("echo one > one && head -c 8000000 /dev/urandom > large").await;
    let small = site.at("small");
    std::fs::create_dir(&small).unwrap();
    let mut mount = std::process::Command::new("mount");
    let mounted =
        mount.args(["-t", "tmpfs", "-o", "size=3m,mode=777", "tmpfs"]).arg(&small).status().unwrap().success();
    assert!(mounted || !needs::in_ci(), "needs the right to mount");
    // The way to it is for everybody.
    site.run("chmod 755 .").await;
    let small = small.display().to_string();
    for scp in ["scp", "scp -O"] {
        let said = site.fails(&format!("{scp} -F $F one $U@web:/root/one")).await;
        assert!(said.to_lowercase().contains("permission denied"), "{said}");
        let said = site.fails(&format!("{scp} -F $F $U@web:/etc/shadow shadow")).await;
        assert!(said.to_lowercase().contains("permission denied"), "{said}");
        let said = site.fails(&format!("{scp} -F $F $U@web:absent x")).await;
        assert!(said.to_lowercase().contains("no such file"), "{said}");
        let said = site.fails(&format!("{scp} -F $F $U@web:/dev/zero x")).await;
        assert!(said.contains("/dev/zero") && !site.at("x").exists(), "{said}");
        if mounted {
            site.fails(&format!("{scp} -F $F large $U@web:{small}/large")).await;
            site.run(&format!("rm -f {small}/large")).await;
        }
    }
    if mounted {
        assert!(std::process::Command::new("umount").arg(&small).status().unwrap().success());
    }
    let rows = site.files(if mounted { 4 } else { 2 }).await;
    let row = |path: &str, outcome| rows.iter().find(|row| row.path == path && row.outcome == outcome);
    let denied = row("/root/one", FileOutcome::Failed).unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!((denied.problem.as_deref(), denied.size), (Some("permission denied"), 0), "{denied:#?}");
    assert!(row("/etc/shadow", FileOutcome::Failed).is_some(), "{rows:#?}");
    if mounted {
        let full = row(&format!("{small}/large"), FileOutcome::Incomplete).unwrap_or_else(|| panic!("{rows:#?}"));
        assert!(full.size < 3 << 20 && full.sha256.is_none(), "{full:#?}");
    }
    site.stop().await;
}

/// What a person sends to a program that does not read stays with the person, and what a person does not read with the
/// program: little of it is held in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_never_reads_holds_its_person_up() {
    let Some(site) = Site::inspected(&["Shell"]).await else { return };
    let mut ssh = site.command("exec ssh -F $F $U@web 'echo begun; exec sleep 1000'");
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 6];
    tokio::time::timeout(DEADLINE, ssh.stdout.as_mut().unwrap().read_exact(&mut begun)).await.unwrap().unwrap();
    let mut unread = site.command("exec ssh -F $F $U@web 'head -c 200000000 /dev/zero; touch finished'");
    let mut unread = unread.stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut sent) = (ssh.stdin.take().unwrap(), 0);
    let piece = vec![0; 64 << 10];
    // However slow this machine is: a wait that ends too soon only counts too little.
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), stdin.write_all(&piece)).await {
        written.unwrap();
        sent += piece.len();
        assert!(sent < 64 << 20, "{sent} bytes are held somewhere");
    }
    // Others are not held up by it.
    assert_eq!(site.run("ssh -F $F $U@web echo on").await, "on\n");
    assert!(!std::fs::exists(site.home("finished")).unwrap(), "what nobody reads is held somewhere");
    drop(stdin);
    ssh.kill().await.unwrap();
    unread.kill().await.unwrap();
    site.stop().await;
}
