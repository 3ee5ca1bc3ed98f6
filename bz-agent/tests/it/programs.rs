//! Programs that do much to a terminal start and quit in a shell of ours.

use crate::world::{Person, Place, installed, is_root, left_out, run};

#[tokio::test]
async fn an_editor_edits() {
    let Some(_) = installed("vim") else {
        return left_out("vim", "it is not installed");
    };
    let person = Person::new();
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    seen.line("vim -u NONE -n note").await;
    seen.shows("\"note\" [New").await;
    seen.keys(b"iwritten in a shell\x1b:wq\r").await;
    seen.shows("written").await;
    seen.line("echo ba''ck; cat note").await;
    seen.shows("back\r\nwritten in a shell\r\n").await;
}

#[tokio::test]
async fn a_multiplexer_runs_a_shell_in_the_shell() {
    let Some(_) = installed("tmux") else {
        return left_out("tmux", "it is not installed");
    };
    let person = Person::new();
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    seen.line(&format!("tmux -L bz -f /dev/null new -s in{}side", "''")).await;
    seen.shows("[inside]").await;
    seen.line("echo pane=$TMUX_PANE.").await;
    seen.shows("pane=%0.").await;
    seen.line("exit").await;
    seen.shows("[exited]").await;
    seen.line("echo status=$?").await;
    seen.shows("status=0").await;
}

#[tokio::test]
async fn sudo_gives_a_root_shell_and_asks_nobody_for_a_secret() {
    let (Some(_), true) = (installed("sudo"), is_root()) else {
        return left_out("sudo", "it is not installed, or no user may be allowed to use it");
    };
    let person = Person::new();
    let rule = Rule::new(&person.user.name, "NOPASSWD: ALL");
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    seen.line("sudo -i").await;
    seen.shows("# ").await;
    seen.line("echo now=$(id -u) home=$HOME").await;
    seen.shows("now=0 home=/root").await;
    seen.line("exit").await;
    seen.shows("$ ").await;
    seen.line("echo now=$(id -u) home=$HOME").await;
    seen.shows(&format!("now={} home={}", person.user.uid, person.user.home.display())).await;
    drop(rule);
}

#[tokio::test]
async fn sudo_that_asks_for_a_password_is_announced() {
    let (Some(_), true) = (installed("sudo"), is_root()) else {
        return left_out("sudo", "it is not installed, or no user may be allowed to use it");
    };
    let person = Person::new();
    let hash = run("openssl", &["passwd", "-6", "open sesame"]);
    run("usermod", &["-p", hash.trim(), &person.user.name]);
    let rule = Rule::new(&person.user.name, "ALL");
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    seen.line("sudo -k; sudo -p se''cret: id -u; echo do''ne").await;
    seen.shows("secret:").await;
    seen.asks_for_password(true).await;
    seen.line("open sesame").await;
    seen.shows("0\r\ndone").await;
    seen.asks_for_password(false).await;
    assert!(!String::from_utf8_lossy(&seen.output).contains("sesame"));
    drop(rule);
}

/// Lets a user become root.
struct Rule(String);

impl Rule {
    fn new(user: &str, commands: &str) -> Self {
        let path = format!("/etc/sudoers.d/{user}");
        std::fs::write(&path, format!("{user} ALL=(ALL) {commands}\n")).unwrap();
        run("chmod", &["0440", &path]);
        Self(path)
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}
