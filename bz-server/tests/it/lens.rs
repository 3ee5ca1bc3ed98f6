//! The command lens over recordings of real shells, see `lens/record.py`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bz_core::api::record::CommandSource::{self, Marks, Screen};
use bz_server::observe::{CommandLens, Line};
use serde_json::Value;

struct Recording {
    name: &'static str,
    events: &'static str,
    /// Who says the lines that are typed at the shell itself.
    source: CommandSource,
    /// How a loop typed in two lines is read.
    repeated: &'static [&'static str],
    /// What was done besides.
    more: &'static [More],
}

#[derive(Clone, Copy, PartialEq)]
enum More {
    /// History was gone back in, and a line from it edited.
    History,
    /// Lines were pasted, searched, completed, cleared, and edited on a narrower screen.
    Edited,
    /// A secret was asked for by this command.
    Secret(&'static str),
    /// A shell without marks was run in this one.
    Nested,
    /// The shell was told not to remember a line, and does not name it then.
    Unnamed,
}

const READ: More = More::Secret("read -s secret");
const RECORDINGS: [Recording; 7] = [
    Recording {
        name: "bash with marks",
        events: include_str!("lens/bash_marks.json"),
        source: Marks,
        repeated: &["for i in 1 2; do echo $i; done"],
        more: &[More::History, More::Edited, READ, More::Nested, More::Unnamed],
    },
    Recording {
        name: "zsh with marks",
        events: include_str!("lens/zsh_marks.json"),
        source: Marks,
        repeated: &[r"for i in 1 2\x0ado echo $i; done"],
        more: &[More::History, More::Edited, READ, More::Nested],
    },
    Recording {
        name: "fish with marks",
        events: include_str!("lens/fish_marks.json"),
        source: Marks,
        repeated: &[r"for i in 1 2\x0aecho $i; end"],
        more: &[More::History, More::Secret("read --silent secret"), More::Nested],
    },
    Recording {
        name: "bash",
        events: include_str!("lens/bash_plain.json"),
        source: Screen,
        repeated: &["for i in 1 2", "do echo $i; done"],
        more: &[More::History, More::Edited, READ, More::Nested],
    },
    Recording {
        name: "zsh",
        events: include_str!("lens/zsh_plain.json"),
        source: Screen,
        repeated: &["for i in 1 2", "do echo $i; done"],
        more: &[More::History, More::Edited, READ, More::Nested],
    },
    Recording {
        name: "fish",
        events: include_str!("lens/fish_plain.json"),
        source: Screen,
        repeated: &["for i in 1 2", "echo $i; end"],
        more: &[More::History, More::Nested],
    },
    Recording {
        name: "dash",
        events: include_str!("lens/dash.json"),
        source: Screen,
        repeated: &["for i in 1 2", "do echo $i; done"],
        more: &[],
    },
];

/// F-159~: one line for each that was typed, as the shell took it; no secret, and nothing from `less` and `vi`.
#[test]
fn real_shells_are_read_line_by_line() {
    for recording in &RECORDINGS {
        for piece in [usize::MAX, 1, 2, 7] {
            let lines = recording.replay(piece);
            assert_eq!(lines, recording.expected(), "{}, in pieces of {piece} bytes", recording.name);
        }
    }
}

/// The recordings are worth something only as long as the secret is in them and the terminal said that it is one.
#[test]
fn recordings_hold_a_secret() {
    for Recording { name, events, .. } in &RECORDINGS {
        let events: Vec<Value> = serde_json::from_str(events).unwrap();
        let asked = events.iter().position(|event| event[0] == "p" && event[1] == true);
        let typed =
            events.iter().skip(asked.unwrap_or(events.len())).take_while(|event| event[0] != "p" || event[1] == true);
        let typed = typed
            .filter(|event| event[0] == "i")
            .flat_map(|event| STANDARD.decode(event[1].as_str().unwrap()).unwrap());
        assert_eq!(String::from_utf8(typed.collect()).unwrap(), "hunter2\r", "{name}");
    }
}

impl Recording {
    fn expected(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut add = |source, texts: &[&str]| {
            lines.extend(texts.iter().map(|text| Line { text: (*text).to_owned(), source }));
        };
        let (long, longer) = (format!("echo {}", "a".repeat(100)), format!("echo {}", "b".repeat(70)));
        let source = self.source;
        add(source, &["echo hi", "echo fixed"]);
        if self.more.contains(&More::History) {
            add(source, &["echo fiXXxed"]);
        }
        add(source, &["echo naïve 日本", &long, "echo at once"]);
        add(source, self.repeated);
        add(source, &["read word"]);
        add(Screen, &["answered"]);
        add(
            source,
            &["cat notes.txt", "stty -echo; head -n 1; stty echo", "less notes.txt", "vi notes.txt", "echo back"],
        );
        for more in self.more {
            match more {
                More::History => {}
                More::Edited => {
                    add(source, &["echo pasted text", "echo fixed", "ls /etc/hostname", "echo after clear", &longer]);
                }
                More::Secret(command) => add(source, &[command]),
                More::Nested => {
                    add(source, &["dash"]);
                    add(Screen, &["echo inner", "exit"]);
                }
                More::Unnamed => add(Screen, &["echo kept out of history"]),
            }
        }
        add(source, &["exit"]);
        lines
    }

    /// Every stream cut into pieces of at most so many bytes.
    fn replay(&self, piece: usize) -> Vec<Line> {
        let events: Vec<Value> = serde_json::from_str(self.events).expect("a recording is a list of events");
        let mut lens = CommandLens::new(24, 80);
        let mut lines = Vec::new();
        let number = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
        for event in &events {
            let bytes = || STANDARD.decode(event[1].as_str().unwrap()).unwrap();
            match event[0].as_str().unwrap() {
                "o" => bytes().chunks(piece).for_each(|bytes| lines.extend(lens.output(bytes))),
                "i" => bytes().chunks(piece).for_each(|bytes| lens.input(bytes)),
                "p" => lens.password(event[1].as_bool().unwrap()),
                "r" => lens.resize(number(&event[1]), number(&event[2])),
                other => panic!("a recording has no event {other}"),
            }
        }
        lines
    }
}
