//! Shell integration: what a shell is given so that it says what in its output is what.
//!
//! `OSC 133;A` begins a prompt, `B` the typed line, `C` the command's output, and `D;status` ends
//! it; `OSC 633;E;line` is the line itself, with `\`, `;` and control characters escaped.
//!
//! All of it rides on the environment and arguments of one shell. The user's start-up files are
//! read as ever and win wherever they set the same thing; a shell started inside this one, a shell
//! not known here, and `dash` give no marks. Marks are an aid to reading, not a control: whoever
//! has the shell can switch them off or write false ones.

use std::path::Path;

/// What to add to a login shell's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    pub environment: Vec<(String, String)>,
    pub arguments: Vec<String>,
    pub directory: Option<Directory>,
}

/// Files that the shell finds in a private directory, made for this one start and removed by it,
/// whose path the variable holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    pub variable: String,
    pub files: Vec<(String, String)>,
}

/// Evaluated at each prompt; until the script has run it is the script, and in a shell that has
/// inherited nothing but this text it is nothing.
const PROMPT_COMMAND: &str = r#"${__bz_done-eval "${BZ_MARKS-}"}"#;

/// Stands where start-up files replaced `PROMPT_COMMAND`: at least each command's output is marked.
const PS0: &str = r"\e]133;C\a";

#[must_use]
pub fn marks(shell: &Path) -> Marks {
    match shell.file_name().and_then(|name| name.to_str()) {
        Some("bash" | "rbash") => Marks {
            environment: pairs(&[
                ("PROMPT_COMMAND", PROMPT_COMMAND),
                ("PS0", PS0),
                ("BZ_MARKS", include_str!("marks/bash.sh")),
            ]),
            ..Marks::default()
        },
        Some("zsh") => Marks {
            directory: Some(Directory {
                variable: "ZDOTDIR".into(),
                files: pairs(&[(".zshenv", include_str!("marks/zshenv.zsh"))]),
            }),
            ..Marks::default()
        },
        Some("fish") => Marks {
            arguments: vec!["--init-command".into(), include_str!("marks/init.fish").into()],
            ..Marks::default()
        },
        Some(_) | None => Marks::default(),
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_that_are_not_known_get_nothing() {
        for shell in ["/bin/sh", "/bin/dash", "/usr/bin/ksh", "/opt/notbash", "/", ""] {
            assert_eq!(marks(Path::new(shell)), Marks::default(), "for {shell:?}");
        }
    }

    #[test]
    fn a_shell_is_known_by_its_name_wherever_it_lies() {
        for shell in ["/bin/bash", "/usr/local/bin/zsh", "/home/a/bin/fish"] {
            assert_ne!(marks(Path::new(shell)), Marks::default(), "for {shell:?}");
        }
    }
}
