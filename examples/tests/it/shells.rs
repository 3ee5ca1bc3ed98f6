//! The command log over real login shells with the start-up files that Debian ships, from the keyboard of a client to
//! the server's table.

use std::path::PathBuf;

use bz_agent::helper::Helper;
use bz_core::api::record::CommandSource::{self, Marks, Screen};
use bz_examples::needs;
use bz_examples::world::{Way, World};
use bz_protocol::frame::Fin;
use bz_protocol::session::End;

use crate::person::Person;
use crate::session::{files_with, until};
use crate::typist::Typist;

/// What is typed at questions that do not show it, at the shell itself and below `sudo`.
const SECRET: &str = "unseen-hunter2";
const DEEPER: &str = "unseen-hunter3";

/// One thing that a person does, and what is known of it afterwards.
struct Step {
    keys: String,
    /// What is waited for, one after the other. Nothing of it can come out of the keys alone.
    shows: Vec<String>,
    /// Typed when the terminal asks for a password.
    password: Option<String>,
    logged: Option<(String, CommandSource)>,
}

struct Shell {
    name: &'static str,
    /// The end of its prompt.
    prompt: &'static str,
    /// Who says the lines that are typed at it.
    source: CommandSource,
    steps: fn(&Self, &Person) -> Vec<Step>,
}

/// F-088, F-106, F-159~, F-160~: each line that ran is logged once, as the shell took it.
#[tokio::test(flavor = "multi_thread")]
async fn bash_is_read_with_the_stock_files() {
    check(&Shell {
        name: "bash",
        prompt: "\x1b]133;B",
        source: Marks,
        steps: |shell, person| {
            let mut again = shell.line("\x1b[A", "printf 'three-%d\\n' 4", &["three-4\r\n"]);
            // The stock files keep a repeated line out of the history, and then the shell does not name it.
            again.logged.as_mut().unwrap().1 = Screen;
            [
                shell.first(),
                shell.edited(),
                vec![again],
                shell.many("do printf 'in-%d\\n' $i; done", &["for i in 1 2; do printf 'in-%d\\n' $i; done"]),
                shell.given_up(),
                shell.secret("read -s secret", "${#secret}"),
                shell.programs(person),
            ]
            .into_iter()
            .flatten()
            .collect()
        },
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dash_is_read_from_the_screen() {
    check(&Shell {
        name: "dash",
        prompt: "$ ",
        source: Screen,
        steps: |shell, person| {
            [
                shell.first(),
                shell.many("do printf 'in-%d\\n' $i; done", &["for i in 1 2", "do printf 'in-%d\\n' $i; done"]),
                shell.given_up(),
                shell.secret("stty -echo; read secret; stty echo", "${#secret}"),
                shell.programs(person),
            ]
            .into_iter()
            .flatten()
            .collect()
        },
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zsh_is_read_with_the_stock_files() {
    check(&Shell {
        name: "zsh",
        prompt: "\x1b]133;B",
        source: Marks,
        steps: |shell, person| {
            // What a new user is asked first: `2` takes the settings that Debian recommends.
            let asked = Step { keys: "2".to_owned(), ..shell.unlogged("", &[]) };
            [
                vec![asked],
                shell.first(),
                shell.edited(),
                vec![shell.line("\x1b[A", "printf 'three-%d\\n' 4", &["three-4\r\n"])],
                shell.many("do printf 'in-%d\\n' $i; done", &[r"for i in 1 2\x0ado printf 'in-%d\n' $i; done"]),
                shell.given_up(),
                shell.secret("read -s secret", "${#secret}"),
                shell.programs(person),
            ]
            .into_iter()
            .flatten()
            .collect()
        },
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fish_is_read_with_the_stock_files() {
    check(&Shell {
        name: "fish",
        prompt: "\x1b]133;B",
        source: Marks,
        steps: |shell, person| {
            [
                shell.first(),
                shell.edited(),
                vec![shell.line("\x1b[A", "printf 'three-%d\\n' 4", &["three-4\r\n"])],
                shell.many("printf 'in-%d\\n' $i; end", &[r"for i in 1 2\x0aprintf 'in-%d\n' $i; end"]),
                shell.given_up(),
                shell.secret("read --silent secret", "(string length $secret)"),
                shell.programs(person),
            ]
            .into_iter()
            .flatten()
            .collect()
        },
    })
    .await;
}

impl Shell {
    /// A line that is logged as it stands.
    fn plain(&self, line: &str, shows: &[&str]) -> Step {
        self.line(line, line, shows)
    }

    fn line(&self, keys: &str, logged: &str, shows: &[&str]) -> Step {
        Step { logged: Some((logged.to_owned(), self.source)), ..self.unlogged(&format!("{keys}\r"), shows) }
    }

    fn unlogged(&self, keys: &str, shows: &[&str]) -> Step {
        let shows = shows.iter().copied().chain([self.prompt]).map(str::to_owned).collect();
        Step { keys: keys.to_owned(), shows, password: None, logged: None }
    }

    fn first(&self) -> Vec<Step> {
        vec![
            self.plain("printf 'one-%d\\n' 1", &["one-1\r\n"]),
            self.line("prnt\x7f\x7fintf 'two-%d\\n' 2", "printf 'two-%d\\n' 2", &["two-2\r\n"]),
        ]
    }

    /// To the beginning of the line, back in the history, and completed.
    fn edited(&self) -> Vec<Step> {
        vec![
            self.line("rintf 'three-%d\\n' 3\x01p", "printf 'three-%d\\n' 3", &["three-3\r\n"]),
            self.line("wc -c /etc/hostn\t", "wc -c /etc/hostname", &[" /etc/hostname\r\n"]),
            self.line("\x1b[A\x1b[A\x7f4", "printf 'three-%d\\n' 4", &["three-4\r\n"]),
        ]
    }

    /// A loop in two lines, which a shell names as one and a screen shows as two.
    fn many(&self, second: &str, logged: &[&str]) -> Vec<Step> {
        let (first, last) = (logged[0], logged[logged.len() - 1]);
        let mut begun = self.plain("for i in 1 2", &[]);
        begun.shows = vec![if self.name == "fish" { "\r\n" } else { "> " }.to_owned()];
        begun.logged = begun.logged.filter(|_| first != last);
        vec![begun, self.line(second, last, &["in-2\r\n"])]
    }

    /// Typed and taken back with Ctrl-C.
    fn given_up(&self) -> Vec<Step> {
        let mut typed = self.unlogged("rm given-up", &[]);
        // fish draws it again in color, and hears no Ctrl-C meanwhile.
        typed.shows = vec!["given-up".to_owned(); if self.name == "fish" { 2 } else { 1 }];
        vec![typed, self.unlogged("\x03", &[])]
    }

    fn secret(&self, asks: &str, length: &str) -> Vec<Step> {
        let asked = Step { password: Some(SECRET.to_owned()), ..self.plain(asks, &[]) };
        let length = format!("printf 'long-%d\\n' {length}");
        vec![asked, self.plain(&length, &[&format!("long-{}\r\n", SECRET.len())])]
    }

    fn programs(&self, person: &Person) -> Vec<Step> {
        let sudo = Step { password: Some(person.password.clone()), ..self.plain("sudo id -u", &["\r\n0\r\n"]) };
        let mut steps = vec![sudo];
        steps.extend(self.root());
        steps.extend(self.full_screens());
        let mut last = self.plain("exit 3", &[]);
        last.shows.clear();
        steps.push(last);
        steps
    }

    /// A shell of another user inside this one, which knows nothing of marks; its terminal is one of `sudo`'s own.
    fn root(&self) -> Vec<Step> {
        let inner = Self { name: "sudo -i", prompt: "# ", source: Screen, steps: |_, _| vec![] };
        let mut enter = self.plain("sudo -i", &[]);
        enter.shows = vec![inner.prompt.to_owned()];
        let asks = "stty -echo; printf 'rea%s\\n' dy; read -r x; stty echo; printf 'long-%d\\n' ${#x}";
        let mut asked = inner.plain(asks, &[]);
        asked.shows = vec!["ready\r\n".to_owned()];
        let answered = inner.unlogged(&format!("{DEEPER}\r"), &[&format!("long-{}\r\n", DEEPER.len())]);
        let leave = Step { shows: self.plain("", &["logout"]).shows, ..inner.plain("exit", &[]) };
        vec![enter, inner.plain("printf 'inner-%d\\n' 5", &["inner-5\r\n"]), asked, answered, leave]
    }

    /// What is typed into programs that have the whole screen is not read.
    fn full_screens(&self) -> Vec<Step> {
        let (on, off) = ("\x1b[?1049h", "\x1b[?1049l");
        let enter = |line, ready: &str| Step { shows: vec![on.to_owned(), ready.to_owned()], ..self.plain(line, &[]) };
        let mut inside = self.unlogged("printf 'mux-%d\\n' 6\r", &[]);
        inside.shows = vec!["mux-6".to_owned()];
        vec![
            enter("tmux", "[0]"),
            inside,
            self.unlogged("exit\r", &[off]),
            enter("vim notes", "notes"),
            self.unlogged("iwritten unseen\x1b:wq\r", &[off]),
            self.plain("wc -w notes", &["2 notes\r\n"]),
        ]
    }
}

/// What is typed before the first prompt is shown twice, by the terminal and by the shell, and logged once.
#[tokio::test(flavor = "multi_thread")]
async fn lines_typed_ahead_are_logged_once() {
    for name in ["bash", "dash", "zsh", "fish"] {
        if !needs::program(name) {
            continue;
        }
        let Some(person) = Person::with_shell(&needs::find(name).unwrap()) else { return };
        // Else zsh asks its new user first.
        person.write(".zshrc", "");
        let folder = tempfile::tempdir().unwrap();
        let world = World::start(folder.path(), Helper::at(env!("CARGO_BIN_EXE_helper")), &person.name, Way::Ws);
        let world = world.await.unwrap();
        let mut typist = Typist::at(&world.client, &person.name).await;
        let lines = ["printf 'ahead-%d\\n' 1", "printf 'ahead-%d\\n' 2", "exit 3"];
        typist.keys(&format!("{}\r", lines.join("\r"))).await;
        assert_eq!(typist.ends().await, End::Completed(Fin::Exited(3)), "{name}: {}", typist.tail());
        let look = async || world.client.command_events(100).await.unwrap();
        let rows = until(look, |rows| rows.iter().any(|row| row.command == "exit 3")).await;
        let logged: Vec<_> = rows.iter().rev().map(|row| row.command.as_str()).collect();
        assert_eq!(logged, lines, "{name}, which showed {}", typist.tail());
        world.stop().await;
    }
}

async fn check(shell: &Shell) {
    if ![shell.name, "sudo", "tmux", "vim"].map(needs::program).into_iter().all(|here| here) {
        return;
    }
    let Some(person) = Person::with_shell(&needs::find(shell.name).unwrap()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), Helper::at(env!("CARGO_BIN_EXE_helper")), &person.name, Way::Ws);
    let world = world.await.unwrap();
    let mut typist = Typist::at(&world.client, &person.name).await;
    let steps = (shell.steps)(shell, &person);
    typist.shows(&[if shell.name == "zsh" { "parentheses ---" } else { shell.prompt }]).await;
    for step in &steps {
        typist.keys(&step.keys).await;
        if let Some(password) = &step.password {
            asked(&mut typist, shell.name).await;
            typist.keys(&format!("{password}\r")).await;
        }
        typist.shows(&step.shows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    assert_eq!(typist.ends().await, End::Completed(Fin::Exited(3)), "{}: {}", shell.name, typist.tail());
    let look = async || world.client.command_events(100).await.unwrap();
    let rows = until(look, |rows| rows.iter().any(|row| row.command == "exit 3")).await;
    let logged: Vec<_> = rows.iter().rev().map(|row| (row.command.clone(), row.source)).collect();
    let expected: Vec<_> = steps.into_iter().filter_map(|step| step.logged).collect();
    assert_eq!(logged, expected, "{}", shell.name);
    assert!(rows.iter().all(|row| row.confirmed && row.place.target_user == person.name), "{rows:?}");
    let server = world.folder.join("server");
    for secret in [SECRET, DEEPER, &person.password] {
        assert_eq!(files_with(&server, secret), Vec::<PathBuf>::new(), "{}: {secret} is kept", shell.name);
    }
    assert!(!files_with(&server, "inner-5").is_empty(), "the output is recorded");
    world.stop().await;
}

/// fish reads a secret key by key and draws dots, so the terminal has no word for it.
async fn asked(typist: &mut Typist, shell: &str) {
    let reads = |shown: &str| shown.split_once("]133;C").is_some_and(|(_, reads)| reads.contains("> "));
    let draws = |typist: &Typist| shell == "fish" && reads(&typist.new_text());
    typist.until("a question for a password", |typist| typist.password || draws(typist)).await;
}
