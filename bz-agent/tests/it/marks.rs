//! What a shell says about itself with the start-up files that Debian ships, and that it still
//! reads its user's own.

use crate::world::{Person, Place, Seen, installed, left_out};
use bz_agent::holders::ExitStatus;
use std::path::Path;

/// The marks in some output, in order: `A`, `B`, `C`, `D;status`, `E;line`.
fn marks(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output).into_owned();
    let codes = text.split('\x1b').filter_map(|part| part.strip_prefix("]133;").or_else(|| part.strip_prefix("]633;")));
    codes.map(|code| code.split_once('\x07').unwrap_or((code, "")).0.to_owned()).collect()
}

/// Types each line when the shell is ready for it: after it has marked the end of the one before.
async fn session(shell: &Path, person: Person, lines: &[&str]) -> (Vec<String>, Seen) {
    let person = person.with_shell(shell);
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    for (count, line) in lines.iter().enumerate() {
        let ready = |seen: &Seen| marks(&seen.output).iter().filter(|mark| mark.starts_with('D')).count() == count;
        let prompt = |seen: &Seen| marks(&seen.output).last().is_some_and(|mark| mark == "B");
        seen.until("the prompt's marks", |seen| ready(seen) && prompt(seen)).await;
        seen.line(line).await;
    }
    let status = seen.ends().await;
    assert_eq!(status, ExitStatus::Code(0), "{}", String::from_utf8_lossy(&seen.output));
    (marks(&seen.output), seen)
}

/// Redrawn prompts mark themselves again; that says nothing new.
fn condensed(marks: &[String]) -> String {
    let mut marks = marks.to_vec();
    marks.dedup();
    while let Some(at) = marks.windows(4).position(|four| four[..2] == ["A", "B"] && four[2..] == ["A", "B"]) {
        marks.drain(at..at + 2);
    }
    marks.join(" | ")
}

const LINES: [&str; 5] = ["echo one", "false", "printf 'a;b\\n'", "echo 'two\rlines'", "exit 0"];

fn expected(lines: &str) -> String {
    format!(
        "A | B | E;echo one | C | D;0 | A | B | E;false | C | D;1 | A | B | E;printf 'a\\x3bb\\\\n' | C | D;0 | A | B | \
         E;echo 'two{lines}lines' | C | D;0 | A | B | E;exit 0 | C"
    )
}

#[tokio::test]
async fn bash_marks_its_commands_with_the_stock_files() {
    let (marks, _) = session(Path::new("/bin/bash"), Person::new(), &LINES).await;
    assert_eq!(condensed(&marks), expected("\\x0a"));
}

#[tokio::test]
async fn bash_says_no_line_rather_than_a_wrong_one() {
    // the stock files keep neither lines that begin with a space nor repeated ones
    let lines = ["echo one", " echo secret", "echo one", "set +o history", "echo two", "exit 0"];
    let (marks, _) = session(Path::new("/bin/bash"), Person::new(), &lines).await;
    let said: Vec<_> = marks.iter().filter(|mark| mark.starts_with('E')).collect();
    assert_eq!(said, ["E;echo one", "E;set +o history"]);
    assert_eq!(marks.iter().filter(|mark| *mark == "C").count(), lines.len());
}

#[tokio::test]
async fn bash_keeps_what_its_user_set_up() {
    let person = Person::new();
    person.write(".bashrc", "PROMPT_COMMAND=\"own=\\$?; $PROMPT_COMMAND\"\nPS1='<\\u $own>'\nset -u\nPS0='[run]'\n");
    person.write(".profile", ". ~/.bashrc\necho pro''file read\n");
    let name = person.user.name.clone();
    let (marks, seen) =
        session(Path::new("/bin/bash"), person, &["false", "env | grep -c -e BZ_ -e PS0 -e PROMPT", "exit 0"]).await;
    assert_eq!(
        condensed(&marks),
        "A | B | E;false | C | D;1 | A | B | E;env | grep -c -e BZ_ -e PS0 -e PROMPT | C | D;1 | A | B | E;exit 0 | C"
    );
    let text = String::from_utf8_lossy(&seen.output).into_owned();
    for kept in ["profile read", &format!("<{name} 0>"), &format!("<{name} 1>"), "[run]0\r\n"] {
        assert!(text.contains(kept), "{kept:?} is missing in {text:?}");
    }
    assert!(!text.contains("unbound") && !text.contains("error"), "{text:?}");
}

#[tokio::test]
async fn a_shell_inside_a_marked_one_starts_clean() {
    let (_, seen) = session(
        Path::new("/bin/bash"),
        Person::new(),
        &["bash -ic 'echo in''side=${BZ_MARKS-none}${PS0-none}'", "exit 0"],
    )
    .await;
    let text = String::from_utf8_lossy(&seen.output);
    assert!(text.contains("inside=nonenone"), "{text:?}");
}

#[tokio::test]
async fn zsh_marks_its_commands_and_reads_each_own_file_once() {
    let Some(zsh) = installed("zsh") else {
        return left_out("marks of zsh", "it is not installed");
    };
    let person = Person::new();
    for file in [".zshenv", ".zprofile", ".zshrc", ".zlogin"] {
        person.write(file, &format!("print -r -- \"read {file} in ${{ZDOTDIR-nowhere}}\"\nPROMPT='%n> '\n"));
    }
    let name = person.user.name.clone();
    let (marks, seen) = session(&zsh, person, &LINES).await;
    assert_eq!(condensed(&marks), expected("\\x0a"));
    let text = String::from_utf8_lossy(&seen.output);
    let read: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("read ")).collect();
    assert_eq!(read, [".zshenv in nowhere", ".zprofile in nowhere", ".zshrc in nowhere", ".zlogin in nowhere"]);
    assert!(text.contains(&format!("{name}> ")), "{text:?}");
    assert!(!leftovers(&name), "the directory made for the start is still there");
}

fn leftovers(name: &str) -> bool {
    let owner = nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
    std::fs::read_dir("/tmp").unwrap().flatten().any(|entry| {
        use std::os::unix::fs::MetadataExt;
        let ours = entry.file_name().to_string_lossy().starts_with("bz-") && entry.path().join(".zshenv").exists();
        ours && entry.metadata().is_ok_and(|found| Some(found.uid()) == owner)
    })
}

#[tokio::test]
async fn fish_marks_its_commands() {
    let Some(fish) = installed("fish") else {
        return left_out("marks of fish", "it is not installed");
    };
    let person = Person::new();
    person.write(".config/fish/config.fish", "echo con'fig' read\nfunction fish_prompt; echo \"own $status> \"; end\n");
    let lines = ["echo one", "false", "printf 'a;b\\n'", "exit 0"];
    let (marks, seen) = session(&fish, person, &lines).await;
    let said: Vec<_> = marks.iter().filter(|mark| mark.starts_with('E') || mark.starts_with('D')).cloned().collect();
    assert_eq!(said, ["E;echo one", "D;0", "E;false", "D;1", "E;printf 'a\\x3bb\\\\n'", "D;0", "E;exit 0", "D;0"]);
    let text = String::from_utf8_lossy(&seen.output);
    assert!(text.contains("config read") && text.contains("own 0> ") && text.contains("own 1> "), "{text:?}");
}

#[tokio::test]
async fn dash_is_left_as_it_is() {
    let Some(dash) = installed("dash") else {
        return left_out("dash", "it is not installed");
    };
    let person = Person::new().with_shell(&dash);
    let place = Place::new();
    let mut seen = place.start(&person.user).await;
    seen.line("echo 0=$0 $(env | grep -c -e BZ_ -e PROMPT)").await;
    seen.shows("0=-dash 0\r\n").await;
    seen.line("exit 5").await;
    assert_eq!(seen.ends().await, ExitStatus::Code(5));
    assert_eq!(marks(&seen.output), [""; 0]);
}
