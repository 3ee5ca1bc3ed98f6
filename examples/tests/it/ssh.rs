//! People's own `ssh` and everything that goes through it, to the host's own sshd: the real programs of OpenSSH at both
//! ends.

mod denied;
mod ends;
mod inspected;
mod page;
mod refused;
mod site;
mod unbelieving;

use std::process::Stdio;

use bz_examples::needs;
use pty_process::Size;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use site::sshd;
use site::{Site, text};

/// F-004~, F-178~, F-214~, F-232~: commands with input, output and status; a terminal; several at once, each let in by a
/// certificate of its own session; a master whose guests need no new one.
#[tokio::test(flavor = "multi_thread")]
async fn ssh_is_ssh_as_ever() {
    let Some(site) = Site::ready().await else { return };
    let said = site.run("echo 'for you' | ssh -F $F $U@web 'cat; id -un'").await;
    assert_eq!(said, format!("for you\n{}\n", site.person.name));
    let output = site.try_run("ssh -F $F $U@web.Default 'echo oh >&2; exit 7'").await;
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(7), "oh\n"));
    let said = site.run("head -c 3000000 /dev/zero | ssh -F $F $U@web 'cat' | wc -c").await;
    assert_eq!(said, "3000000\n");
    terminal(&site).await;

    let before = site.let_in().len();
    let said = site.run("for i in 1 2 3 4 5 6; do ssh -F $F $U@web echo at-once-$i & done; wait").await;
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["at-once-1", "at-once-2", "at-once-3", "at-once-4", "at-once-5", "at-once-6"]);
    let mut ids = site.let_in().split_off(before);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "each with a session's own certificate: {ids:?}");

    let before = site.let_in().len();
    // As an editor does that works on another machine: one master, a script on its input, a way in for its own traffic.
    site.run("ssh -F $F -M -S ./master -f -N $U@web >master.log 2>&1").await;
    let said = site.run("echo 'echo from-a-script; exit 3' | ssh -F $F -S ./master -T $U@web bash; echo $?").await;
    assert_eq!(said, "from-a-script\n3\n");
    site.run("ssh -F $F -S ./master $U@web true").await;
    site.run("ssh -F $F -S ./master -O exit $U@web").await;
    assert_eq!(site.let_in().len(), before + 1, "the guests came in with the master");
    assert_eq!(site.sockets(), Vec::<String>::new(), "what ssh and bz met at is gone");
    site.stop().await;
}

/// A person types at a prompt, in a terminal of some size.
async fn terminal(site: &Site) {
    let (pty, pts) = pty_process::open().unwrap();
    pty.resize(Size::new(31, 97)).unwrap();
    let command = site.command("");
    let command = command.as_std();
    let mut typist = pty_process::Command::new("bash").args(["-c", "ssh -F $F $U@web"]).env_clear();
    for (name, value) in command.get_envs() {
        typist = typist.env(name, value.unwrap());
    }
    let mut child = typist.env("TERM", "xterm").current_dir(site.at("")).spawn(pts).unwrap();
    let (mut output, mut input) = pty.into_split();
    input.write_all(b"stty size; echo typed-$((40+2)); exit 5\r").await.unwrap();
    let mut shown = Vec::new();
    // A terminal that nobody has open any more gives an error at its end.
    let read = output.read_to_end(&mut shown);
    tokio::time::timeout(site::DEADLINE, read).await.expect("ssh does not end").map(drop).unwrap_or_default();
    let shown = text(&shown);
    assert!(shown.contains("31 97") && shown.contains("typed-42"), "{shown}");
    assert_eq!(child.wait().await.unwrap().code(), Some(5), "{shown}");
}

/// F-178~, F-232~: files with scp, old and new, sftp and rsync, with modes, times and odd names; and a repository.
#[tokio::test(flavor = "multi_thread")]
async fn files_go_with_the_tools_that_people_have() {
    if !["rsync", "git"].map(needs::program).into_iter().all(|here| here) {
        return;
    }
    let Some(site) = Site::ready().await else { return };
    let make = "mkdir -p tree/deep && echo one > tree/one && echo 'two words' > 'tree/deep/with space' && ln -s one tree/link \
                && head -c 700000 /dev/urandom > tree/deep/large && chmod 640 tree/one && touch -d 2001-02-03 tree/one";
    site.run(make).await;
    // What the host's user has is read back by the same tool, and must be what was sent.
    for (name, there, back) in [
        ("scp", "scp -F $F -rp tree $U@web:scp", "scp -F $F -rp $U@web:scp back-scp"),
        ("scp -O", "scp -O -F $F -rp tree $U@web:old", "scp -O -F $F -rp $U@web:old back-old"),
        (
            "sftp",
            "printf 'mkdir sftp\\nput -Rp tree/* sftp\\n' | sftp -F $F -b - $U@web",
            "printf 'get -Rp sftp back-sftp\\n' | sftp -F $F -b - $U@web",
        ),
        ("rsync", "rsync -a tree/ $U@web:rsync", "rsync -a $U@web:rsync/ back-rsync"),
    ] {
        site.run(there).await;
        site.run(back).await;
        let kept = if name == "rsync" { "cmp <(readlink tree/link) <(readlink back-rsync/link) &&" } else { "" };
        let back = back.split_whitespace().find_map(|word| word.strip_prefix("back-")).unwrap();
        let back = format!("back-{}", back.trim_end_matches("\\n'"));
        site.run(&format!(
            "{kept} diff -r tree/deep {back}/deep && cmp tree/one {back}/one && \
             cmp <(stat -c '%a %Y' tree/one) <(stat -c '%a %Y' {back}/one)"
        ))
        .await;
    }
    let again = site.run("rsync -a --stats tree/ $U@web:rsync").await;
    assert!(again.contains("Number of regular files transferred: 0"), "{again}");

    site.run(
        "git init -q repo && cd repo && git config user.email a@b && git config user.name a && git add -N . && \
              git commit -q --allow-empty -m first && ssh -F $F $U@web git init -q --bare repo.git && \
              git push -q $U@web:repo.git HEAD:refs/heads/main",
    )
    .await;
    let said = site.run("git clone -q -b main $U@web:repo.git clone && git -C clone log --format=%s").await;
    assert_eq!(said, "first\n");
    site.stop().await;
}

/// F-018~: forwarding either way, and to wherever a program asks, carries any bytes to what the host reaches.
#[tokio::test(flavor = "multi_thread")]
async fn forwarding_reaches_what_the_host_reaches() {
    let Some(site) = Site::ready().await else { return };
    // Something only the host can reach, which speaks first.
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inner_port = inner.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = inner.accept().await {
            tokio::spawn(async move {
                stream.write_all(b"hello\n").await.unwrap();
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.map(drop).unwrap_or_default();
                to.shutdown().await.unwrap_or_default();
            });
        }
    });
    let [local, socks, remote] = [(); 3].map(|()| crate::port::free_port());
    let mut ssh = site
        .command(&format!(
            "exec ssh -F $F -o ExitOnForwardFailure=yes -L {local}:127.0.0.1:{inner_port} -D {socks} \
             -R {remote}:127.0.0.1:{inner_port} $U@web 'echo ready; cat'"
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    ssh.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    assert_eq!(&ready, b"ready\n");
    for (port, hello) in [(local, &[][..]), (remote, &[]), (socks, &[5, 1, 0][..])] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        if !hello.is_empty() {
            stream.write_all(hello).await.unwrap();
            stream.write_all(&[&[5, 1, 0, 1, 127, 0, 0, 1][..], &inner_port.to_be_bytes()].concat()).await.unwrap();
            let mut agreed = [0; 12];
            stream.read_exact(&mut agreed).await.unwrap();
            assert_eq!(agreed[..4], [5, 0, 5, 0], "the proxy of ssh agrees");
        }
        let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
        let (mut from, mut to) = stream.into_split();
        let send = async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut came = Vec::new();
        let both = async { tokio::join!(send, from.read_to_end(&mut came)).1.unwrap() };
        tokio::time::timeout(site::DEADLINE, both).await.expect("what was sent comes back");
        assert!(came == [b"hello\n", sent.as_slice()].concat(), "port {port}: {} bytes", came.len());
    }
    drop(ssh.stdin.take());
    assert!(ssh.wait().await.unwrap().success());
    site.stop().await;
}
