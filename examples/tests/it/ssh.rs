//! People's own `ssh` and everything that goes through it, to the host's own sshd: the real programs of OpenSSH at both
//! ends.

mod site;

use site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_with_its_input_output_and_status() {
    let Some(site) = Site::ready().await else { return };
    let said = site.run("echo 'for you' | ssh -F $F $U@web 'cat; id -un'").await;
    assert_eq!(said, format!("for you\n{}\n", site.person.name));
    let output = site.try_run("ssh -F $F $U@web.Default 'echo oh >&2; exit 7'").await;
    assert_eq!((output.status.code(), site::text(&output.stderr).as_str()), (Some(7), "oh\n"));
    site.stop().await;
}
