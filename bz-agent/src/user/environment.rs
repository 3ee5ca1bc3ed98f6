//! What of the caller's environment may reach a program on the target: the terminal's name and the
//! language, each bounded. Absent: everything the agent itself was started with.

use crate::user::User;
use bincode::{Decode, Encode};
use std::ffi::OsString;
use thiserror::Error;

/// Names that a caller may set. All of them are read by programs of every privilege already when
/// they come from a plain terminal, and none names a file to load.
const ALLOWED: [&str; 16] = [
    "TERM",
    "COLORTERM",
    "LANG",
    "LC_ALL",
    "LC_ADDRESS",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
];

/// No terminal or locale name comes near this length.
const LONGEST: usize = 64;

/// Variables checked against the allow-list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Environment(Vec<(String, String)>);

/// A variable that a caller may not set, or may not set to this value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the variable {name:?} may not be set to this value from outside")]
pub struct RefusedVariable {
    pub name: String,
}

impl Environment {
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, RefusedVariable> {
        variables.into_iter().try_fold(Self::default(), |taken, (name, value)| taken.with(&name, &value))
    }

    /// The same with one more variable; a later value replaces an earlier one.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, RefusedVariable> {
        if !ALLOWED.contains(&name) || value.len() > LONGEST || !value.bytes().all(plain) {
            let name = name.chars().take(LONGEST).collect();
            return Err(RefusedVariable { name });
        }
        self.0.retain(|(taken, _)| taken != name);
        self.0.push((name.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// The whole environment of a program run as `user`.
    pub(crate) fn of(&self, user: &User) -> Vec<(OsString, OsString)> {
        let own = [
            ("HOME", user.home.clone().into_os_string()),
            ("USER", user.name.clone().into()),
            ("LOGNAME", user.name.clone().into()),
            ("SHELL", user.shell.clone().into_os_string()),
            ("PATH", user.path().into()),
        ];
        let given = self.0.iter().map(|(name, value)| (name.into(), value.into()));
        own.into_iter().map(|(name, value)| (name.into(), value)).chain(given).collect()
    }
}

/// The characters of terminal and locale names; no slash, which would turn a locale into a path.
const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@' | b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str, taken: bool) {
        assert_eq!(Environment::default().with(name, value).is_ok(), taken, "for {name}={value}");
    }

    #[test]
    fn only_terminal_and_language_pass_and_only_as_plain_short_words() {
        check("TERM", "screen.xterm-256color", true);
        check("LANG", "de_DE.UTF-8", true);
        check("LC_CTYPE", "ca_ES.UTF-8@valencia", true);
        check("LC_ALL", "", true);
        check("LC_EVIL", "C", false);
        check("LANG", "../../tmp/locale", false);
        check("TERM", "xterm\n", false);
        check("TERM", &"x".repeat(65), false);
        check("LD_PRELOAD", "x.so", false);
        check("PATH", "bin", false);
        check("BASH_ENV", "x", false);
        check("lang", "C", false);
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let one = Environment::new([("LANG".into(), "C".into()), ("LANG".into(), "POSIX".into())]).unwrap();
        assert_eq!(one.0, [("LANG".to_owned(), "POSIX".to_owned())]);
    }
}
