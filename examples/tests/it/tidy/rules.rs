//! Rules about single files, each with violations it must catch and look-alikes it must leave alone.
//!
//! They read lines, not syntax: they hold habits, and clippy's `disallowed-methods` stand behind the ones about purity.

use bz_core::access::upstream::Wire;
use bz_core::database::DATABASES;

/// Which files are read at all.
pub(super) const EXTENSIONS: [&str; 8] = ["rs", "toml", "sql", "rego", "js", "mjs", "ts", "sh"];

const MOST_LINES: usize = 600;

const FORBIDDEN_MODULES: [&str; 6] = ["util", "utils", "common", "helpers", "types", "manager"];

/// What the pure floors never do themselves.
const IMPURE: [&str; 8] =
    ["async fn", "async move", ".await", "SystemTime::now", "Instant::now", "std::fs", "std::env::var", "tokio::"];

/// Modules that an import in braces would hide from [`IMPURE`].
const IMPURE_MODULES: [&str; 3] = ["fs", "env", "thread"];

const SQL: [&str; 2] = ["SELECT ", "INSERT INTO"];

const NOTES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// A file of the repository.
pub(super) struct Source {
    /// From the root, with `/`.
    pub(super) path: String,
    text: String,
}

type Cases = &'static [(&'static str, &'static str)];

/// A rule about one file, with its own cases: (path, text).
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// The lines that break it, from 1.
    broken: fn(&Source) -> Vec<usize>,
    pub(super) caught: Cases,
    pub(super) left_alone: Cases,
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "a file has at most 600 lines",
        broken: too_long,
        caught: &[("bz-core/src/a.rs", LONG), ("examples/src/bin/tests_all.rs", LONG)],
        left_alone: &[
            ("bz-core/src/a.rs", "//! Short.\n"),
            ("bz-core/src/a/tests.rs", LONG),
            ("bz-core/tests/it/a.rs", LONG),
        ],
    },
    Rule {
        name: "a module opens with //! and says what it is for",
        broken: unannounced,
        caught: &[
            ("bz-core/src/a.rs", "use b::C;\n//! Late.\n"),
            ("bz-core/src/a.rs", ""),
            ("bz-core/src/a.rs", "//!\n"),
            ("examples/src/bin/a.rs", "fn main() {}\n"),
        ],
        left_alone: &[("bz-core/src/a.rs", "//! A thing.\n"), ("fuzz/fuzz_targets/a.rs", "fn a() {}\n")],
    },
    Rule {
        name: "modules are foo.rs with foo/ beside it, never mod.rs",
        broken: |source| file(source.path.rsplit('/').next() == Some("mod.rs")),
        caught: &[("bz-core/src/a/mod.rs", "//! A.\n"), ("bz-core/tests/it/mod.rs", "//! A.\n")],
        left_alone: &[("bz-core/src/mode.rs", "//! A.\n")],
    },
    Rule {
        name: "a module is named for what it is about (no util, common, helpers, types, manager)",
        broken: vaguely_named,
        caught: &[
            ("bz-core/src/util.rs", "//! A.\n"),
            ("bz-core/src/common/key.rs", "//! A.\n"),
            ("bz-core/tests/it/helpers.rs", "//! A.\n"),
            ("bz-core/src/a.rs", "//! A.\npub(crate) mod types {\n}\n"),
            ("bz-core/src/a.rs", "//! A.\nmod manager;\n"),
        ],
        left_alone: &[
            ("bz-agent/src/helper.rs", "//! A.\nmod utility;\nuse prost::types;\n"),
            ("bz-core/src/a.rs", "//! A.\n// mod util;\n"),
        ],
    },
    Rule {
        name: "the pure floors know no clock, no files, no environment, and nothing async",
        broken: impure,
        caught: &[
            ("bz-core/src/a.rs", "//! A.\npub async fn a() {}\n"),
            ("bz-core/src/a.rs", "let now = SystemTime::now();\n"),
            ("bz-core/src/a.rs", "let now = std::time::Instant::now();\n"),
            ("bz-core/src/a.rs", "use std::fs;\n"),
            ("bz-core/src/a.rs", "use std::{env, fmt};\n"),
            ("bz-core/src/a.rs", "let home = std::env::var(\"HOME\");\n"),
            ("bz-protocol/src/mrzap/client.rs", "#[cfg(test)]\nmod tests {\n}\nasync fn a() {}\n"),
            ("bz-protocol/src/mrzap/driver.rs", "async fn a() {}\n"),
            ("bz-protocol/src/driver_state.rs", "async fn a() {}\n"),
            ("bz-protocol/src/copy.rs", "use std::fs::File;\n"),
        ],
        left_alone: &[
            ("bz-core/src/lib.rs", "//! There is no `async fn` here, no `std::fs`.\n"),
            ("bz-core/src/a.rs", "use std::{fmt, envelope::fs_like}; // not std::fs\n"),
            ("bz-core/src/a.rs", "#[cfg(test)]\nmod tests {\n    fn a() { Instant::now(); }\n}\n"),
            ("bz-core/src/a/tests.rs", "fn a() { Instant::now(); }\n"),
            ("bz-protocol/src/carrier.rs", "async fn a() {}\n"),
            ("bz-protocol/src/carrier/ws.rs", "async fn a() {}\n"),
            ("bz-protocol/src/driver.rs", "async fn a() {}\n"),
            ("bz-protocol/src/driver/clock.rs", "fn a() { Instant::now(); }\n"),
            ("bz-protocol/src/files/give.rs", "use std::fs::File;\n"),
            ("bz-protocol/src/hop.rs", "async fn a() {}\n"),
            ("bz-agent/src/link.rs", "async fn a() {}\n"),
        ],
    },
    Rule {
        name: "a note for later carries an issue number, as in (#12)",
        broken: unnumbered_note,
        caught: &[
            ("bz-core/src/a.rs", concat!("// TO", "DO: think\n")),
            ("bz-core/tests/it/a.rs", concat!("// FIX", "ME(somebody) #12\n")),
            ("deny.toml", concat!("# TO", "DO #\n")),
            ("deny.toml", concat!("# TO", "DO(#12) a, TO", "DO b\n")),
        ],
        left_alone: &[
            ("bz-core/src/a.rs", concat!("// TO", "DO(#12): think\n")),
            ("bz-core/src/a.rs", concat!("// FIX", "ME #3\n")),
            ("bz-core/src/a.rs", concat!("const MASTO", "DON: u8 = 1;\n")),
        ],
    },
    Rule {
        name: "only bz-server/src/store knows SQL",
        broken: stray_sql,
        caught: &[
            ("bz-server/src/api/user.rs", "let sql = \"SELECT id FROM user\";\n"),
            ("bz-server/src/jobs.rs", "let sql = \"INSERT INTO user VALUES (1)\";\n"),
            ("bz-client/src/store.rs", "let sql = \"SELECT id FROM user\";\n"),
        ],
        left_alone: &[
            ("bz-server/src/store.rs", "let sql = \"SELECT id FROM user\";\n"),
            ("bz-server/src/store/user.rs", "let sql = \"INSERT INTO user VALUES (1)\";\n"),
            ("bz-server/src/observe/query/tests.rs", "check(\"SELECT 1\");\n"),
            ("bz-server/src/observe/query.rs", "// finds SELECT and the like: \"SELECT 1\"\n"),
        ],
    },
    Rule {
        name: "a service that nobody reads is a row of bz-core/src/database.rs and nothing else",
        broken: stray_service,
        caught: &[
            ("bz-agent/src/backend.rs", "if database == \"redis\" {}\n"),
            ("bz-client/src/command/connect.rs", "/// Opens Redis.\n"),
            ("bz-server/src/policy/bz.rego", "verb == \"MicrosoftSQLServer\"\n"),
            ("bz-core/src/access.rs", "enum Access { MongoDB }\n"),
        ],
        left_alone: &[
            ("bz-core/src/database.rs", "name: \"Redis\",\n"),
            ("bz-agent/src/backend.rs", "if wire == Wire::Plain {}\n"),
            ("examples/tests/it/services.rs", "room.service(\"Redis\");\n"),
        ],
    },
];

impl Rule {
    /// One line for each place where the file breaks the rule.
    pub(super) fn complaints(&self, source: &Source) -> Vec<String> {
        let lines = (self.broken)(source);
        lines.iter().map(|line| format!("{}:{line}: {}", source.path, self.name)).collect()
    }
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The path below `src/` of a crate, for what is built into it.
    fn below_src(&self) -> Option<(&str, &str)> {
        self.path.split_once("/src/").filter(|_| self.is_rust())
    }

    /// Numbered lines without comments and without the tests at the end of a file.
    fn code(&self) -> Vec<(usize, &str)> {
        let mut lines = self.text.lines().zip(1..).peekable();
        let mut code = Vec::new();
        while let Some((line, number)) = lines.next() {
            let tests = |next: &&str| next.starts_with("mod tests {");
            if line == "#[cfg(test)]" && lines.peek().is_some_and(|(next, _)| tests(next)) {
                lines.by_ref().find(|(line, _)| *line == "}");
                continue;
            }
            code.push((number, without_comment(line)));
        }
        code
    }
}

fn too_long(source: &Source) -> Vec<usize> {
    let lines = source.text.lines().count();
    if source.is_rust() && !source.is_test() && lines > MOST_LINES { vec![lines] } else { Vec::new() }
}

fn unannounced(source: &Source) -> Vec<usize> {
    let announced = source.text.strip_prefix("//! ").is_some_and(|rest| rest.starts_with(|c: char| c != '\n'));
    file(source.below_src().is_some() && !announced)
}

fn vaguely_named(source: &Source) -> Vec<usize> {
    if !source.is_rust() {
        return Vec::new();
    }
    let vague = |name: &str| FORBIDDEN_MODULES.contains(&name);
    let mut lines = file(source.path.trim_end_matches(".rs").split('/').any(vague));
    let declared = source.code().into_iter().filter(|(_, line)| declared_module(line).is_some_and(vague));
    lines.extend(declared.map(|(number, _)| number));
    lines
}

fn impure(source: &Source) -> Vec<usize> {
    let pure = match source.below_src() {
        Some(("bz-core", _)) => true,
        Some(("bz-protocol", path)) => !drives(path),
        _ => false,
    };
    if !pure || source.is_test() {
        return Vec::new();
    }
    let code = source.code().into_iter();
    code.filter(|(_, line)| IMPURE.iter().any(|word| line.contains(word)) || imports_impure(line))
        .map(|(number, _)| number)
        .collect()
}

fn unnumbered_note(source: &Source) -> Vec<usize> {
    let lines = source.text.lines().zip(1..);
    lines.filter(|(line, _)| NOTES.iter().any(|note| has_unnumbered(line, note))).map(|(_, number)| number).collect()
}

fn stray_sql(source: &Source) -> Vec<usize> {
    let Some((crate_name, path)) = source.below_src() else {
        return Vec::new();
    };
    let store = crate_name == "bz-server" && (path == "store.rs" || path.starts_with("store/"));
    if store || source.is_test() {
        return Vec::new();
    }
    let code = source.code().into_iter();
    code.filter(|(_, line)| SQL.iter().any(|word| line.contains(word))).map(|(number, _)| number).collect()
}

/// Adding such a service is adding its row: no other line of any program or rule knows one by name.
fn stray_service(source: &Source) -> Vec<usize> {
    let names = || DATABASES.iter().filter(|row| row.wire == Wire::Plain).map(|row| row.name.to_ascii_lowercase());
    if !source.path.contains("/src/") || source.path == "bz-core/src/database.rs" || source.is_test() {
        return Vec::new();
    }
    let known = |line: &str| names().any(|name| line.to_ascii_lowercase().contains(&name));
    let lines = source.text.lines().enumerate();
    lines.filter(|(_, line)| known(line)).map(|(number, _)| number + 1).collect()
}

/// The parts of bz-protocol that are compiled only with a feature: those of carriers may wait and look at the clock, that
/// of copies may touch files, that of the hostile server may wait for real ends.
fn drives(path: &str) -> bool {
    ["carrier", "driver", "files", "hop", "hostile", "link"]
        .iter()
        .any(|module| path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')))
}

fn imports_impure(line: &str) -> bool {
    let Some((_, group)) = line.split_once("std::{") else {
        return false;
    };
    group.split(|c: char| !is_word(c)).any(|word| IMPURE_MODULES.contains(&word))
}

fn declared_module(line: &str) -> Option<&str> {
    let (before, name) = line.split_once("mod ")?;
    let visibility = before.trim();
    let declares = visibility.is_empty() || (visibility.starts_with("pub") && !visibility.contains('='));
    declares.then(|| name.trim_end_matches([' ', '{', '}', ';']))
}

fn has_unnumbered(line: &str, note: &str) -> bool {
    line.match_indices(note).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + note.len()..]);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        let number = after.trim_start_matches(['(', ' ']).strip_prefix('#');
        whole && !number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.split_once(" //").map_or(line, |(code, _)| code)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn file(broken: bool) -> Vec<usize> {
    if broken { vec![1] } else { Vec::new() }
}

/// One line too many.
const LONG: &str = match std::str::from_utf8(&[b'\n'; MOST_LINES + 1]) {
    Ok(text) => text,
    Err(_) => panic!("ASCII is UTF-8"),
};
