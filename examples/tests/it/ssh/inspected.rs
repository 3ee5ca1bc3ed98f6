//! People's own `ssh`, `scp` and `sftp` where policy allows no tunnel: the agent itself ends SSH, and the record says what
//! they did.

use super::site::{Site, text};

/// F-004~: commands with input, both outputs and their status, without an sshd, as the user and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_run_without_an_sshd() {
    let Some(site) = Site::inspected(&["Shell"]).await else { return };
    site.run("ssh -F $F $U@web true").await;
    let said = site.run("echo 'for you' | ssh -F $F $U@web 'cat; id -un'").await;
    assert_eq!(said, format!("for you\n{}\n", site.person.name));
    let output = site.try_run("ssh -F $F $U@web.Default 'echo oh >&2; exit 7'").await;
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(7), "oh\n"));
    let said = site.run("head -c 30000000 /dev/zero | ssh -F $F $U@web 'cat' | wc -c").await;
    assert_eq!(said, "30000000\n");
    assert_eq!(site.let_in(), Vec::<String>::new(), "the host's own sshd has no part in it");
    site.stop().await;
}
