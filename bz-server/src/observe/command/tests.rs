//! What holds for the command lens: lines as typed, secrets never, and no difference by how bytes are cut.

use bz_core::api::record::CommandSource::{Marks, Screen};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What happens at a terminal.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Output(Vec<u8>),
    Input(Vec<u8>),
    Password(bool),
    Resize(u16, u16),
}

const ON: Event = Event::Password(true);
const OFF: Event = Event::Password(false);

/// `ls` at a shell that marks and names.
const NAMED: &str = "\x1b]133;A\x07$ \x1b]133;B\x07ls\r\n\x1b]633;E;ls -l\x07\x1b]133;C\x07x\r\n\x1b]133;D;0\x07";
const PROMPT: &str = "\x1b]133;A\x07$ \x1b]133;B\x07";
const RUN: &str = "\x1b]133;C\x07";

#[test]
fn what_was_shown_of_a_typed_line_is_read_from_the_screen() {
    check("the echo comes late", &[o("$ "), i("ls\r"), o("ls\r\n")], &["ls"]);
    check("the echo comes at once", &[o("$ "), i("l"), o("l"), i("s"), o("s"), i("\r"), o("\r\nx")], &["ls"]);
    check("two at once", &[o("$ "), i("a b\rc d\r"), o("a b\r\nout\r\n$ c d\r\n")], &["a b", "c d"]);
    check("typed ahead", &[i("ls\r"), o("1\r\n2\r\n3\r\n$ ls\r\n")], &["ls"]);
    check("nothing typed", &[o("$ "), i("\r"), o("\r\n$ "), i(" \r"), o(" \r\n")], &[]);
    check("taken back", &[o("$ "), i("lz\x7fs\r"), o("lz\x08 \x08s\r\n")], &["ls"]);
    check("begun again", &[o("$ "), i("no\x15ls\r"), o("no\r$   \r$ ls\r\n")], &["ls"]);
    check("history", &[o("$ "), i("\x1b[A"), o("make all"), i("\r"), o("\r\n")], &["make all"]);
    check("edited, history", &[o("$ "), i("\x1bOA\x1b[D"), o("make all\x08"), i("\r"), o("\r\n")], &["make all"]);
    check("completed", &[o("$ "), i("ls /et\t"), o("ls /etc/"), i("\r"), o("\r\n")], &["ls /etc/"]);
    let listed = o("ls /e\r\netc  edc\r\n$ ls /etc/");
    check("completed below a list", &[o("$ "), i("ls /e\tt\t"), listed, i("\r"), o("\r\n")], &["ls /etc/"]);
    let cleared = o("\x1b[H\x1b[2J$ make\x1b[K");
    check("cleared, edited", &[o("\r\n\n$ "), i("\x1b[A\x0c"), cleared, i("\r"), o("\r\n")], &["make"]);
    let right = o("$                now\r\x1b[2C");
    check("a prompt on the right", &[right, i("\x1b[A"), o("make"), i("\r"), o("\r\n")], &["make"]);
    check("wide", &[o("$ "), i("echo naïve 日本\r"), o("echo naïve 日本\r\n")], &["echo naïve 日本"]);
    let long = format!("echo {}", "0123456789".repeat(20));
    let typed = format!("{long}\r");
    check("wrapped", &[o("$ "), i("\x1b[A"), o(&long), i("\r"), o("\r\n")], &[&long]);
    check("wrapped, resized", &[o("$ "), i(&typed), o(&long), Event::Resize(10, 33), o("\r\n")], &[&long]);
    let scrolled = [Event::Resize(2, 20), o("$ "), i("\x1b[A"), o(&long), i("\r"), o("\r\n")];
    check("longer than the screen", &scrolled, &[&long]);
    check("pasted", &[o("$ "), i("\x1b[200~a b\x1b[201~\r"), o("a b\r\n")], &["a b"]);
    let two = o("if a\r\n> b");
    check("pasted lines", &[o("$ "), i("\x1b[200~if a\rb\x1b[201~"), two, i("\r"), o("\r\n")], &["if a\\x0a> b"]);
    check("gone on with", &[o("$ "), i("if a\r"), o("if a\r\n> "), i("b\r"), o("b\r\n")], &["if a", "b"]);
    let answers = i("\x1b[3;4R\x1b[?6c\x1b[I\x1b]11;rgb:0/0/0\x1b\\\x1b]4;1;x\x07");
    check("answers of the terminal", &[answers, o("$ "), i("\x1b[A"), o("ls"), i("\r"), o("\r\n")], &["ls"]);
    check("a key like an answer", &[o("$ "), i("\x1bP"), o("ls"), i("\r"), o("\r\n")], &["ls"]);
}

#[test]
fn a_line_that_did_not_run_is_not_read() {
    check("given up", &[o("$ "), i("rm x\x03"), o("rm x^C\r\n$ "), i("ls\r"), o("ls\r\n")], &["ls"]);
    check("given up at once", &[o("$ "), i("rm x\r\x03"), o("rm x^C\r\n$ ")], &[]);
    check("the end of the input", &[o("$ "), i("\x04"), o("exit\r\n")], &[]);
    check("given up, marked", &[o(NAMED), o(PROMPT), i("rm x\x03"), o("rm x^C\r\n"), o(PROMPT)], &["= ls -l"]);
}

#[test]
fn secrets_and_full_screens_are_not_read() {
    check("not shown", &[o("Password: "), i("hunter2\r"), o("\r\n$ ")], &[]);
    check("shown as stars", &[o("Password: "), i("\x1b[Chunter2\r"), o("*******\r\n")], &[]);
    check("asked for", &[o("Password: "), ON, i("hunter2\r"), OFF, o("hunter2\r\n")], &[]);
    check("asked for late", &[o("Password: "), i("hun"), ON, i("ter2\r"), OFF, o("hunter2\r\n")], &[]);
    check("entered before", &[o("Password: "), i("hunter2\r"), ON, o("hunter2\r\n"), OFF], &[]);
    check("afterwards", &[ON, i("hunter2\r"), OFF, o("\r\n$ "), i("ls\r"), o("ls\r\n")], &["ls"]);
    let (full, over) = (o("\x1b[?1049h\x1b[H"), o("\x1b[?1049l"));
    check("an editor", &[full.clone(), i(":q\r"), o(":q\r\n"), over.clone()], &[]);
    check("shown later", &[full.clone(), i(":q\r"), over.clone(), o(":q\r\n")], &[]);
    check("before", &[o("$ "), i("vi\r:q\r"), o("vi\r\n"), full, over, o(":q\r\n")], &["vi"]);
}

#[test]
fn marks_go_before_the_screen() {
    check("named", &[i("ls\r"), o(NAMED)], &["= ls -l"]);
    check("named, nothing typed", &[o(NAMED), o(NAMED)], &["= ls -l", "= ls -l"]);
    check("answers", &[o(PROMPT), o(RUN), i("yes\r"), o("yes\r\n")], &["yes"]);
    let unnamed = [o(PROMPT), i("ls\r"), o("ls\r\n"), o(RUN), o("x\r\n")];
    check("not named", &unnamed, &["ls"]);
    let lines = [o(PROMPT), i("if a\r"), o("if a\r\n> "), i("b\r"), o("b\r\n"), o(RUN)];
    check("not named, gone on with", &lines, &["if a\\x0ab"]);
    check("prompts alone", &[o(PROMPT), i("ls\r"), o("ls\r\n"), o(PROMPT)], &["ls"]);
    check(
        "escaped",
        &[o(r"]633;E;a\x3bb\x0ac\\;nonce".replace(']', "\x1b]").as_str()), o("\x1b\\")],
        &["= a;b\\x0ac\\"],
    );
    check("called off", &[o("\x1b]633;E;ls\x18")], &[]);
    check("others' commands", &[o("\x1b]0;633;E;ls\x07\x1b]633;D;ls\x07")], &[]);
}

/// What was typed before a prompt is shown by the terminal at once, and by the shell once more.
#[test]
fn a_line_typed_ahead_is_logged_once() {
    let once = "ls -l\r\n";
    let again = "\x1b]133;A\x07$ \x1b]133;B\x07ls -l\r\n";
    let ran = "\x1b]633;E;ls -l\x07\x1b]133;C\x07x\r\n\x1b]133;D;0\x07";
    let ahead = [i("ls -l\r"), o(once), o(again), o(ran)];
    check("before the first prompt", &ahead, &["= ls -l"]);
    check(
        "behind a command",
        &[&[o(NAMED), o(PROMPT), o("\r\n"), o(RUN)], &ahead[..]].concat(),
        &["= ls -l", "= ls -l"],
    );
    let two =
        [i("ls -l\rid\r"), o("ls -l\r\nid\r\n"), o(again), o(ran), o(PROMPT), o("id\r\n\x1b]633;E;id\x07"), o(RUN)];
    check("two", &two, &["= ls -l", "= id"]);
    check("kept out of history", &[i(" a\r"), o(" a\r\n"), o(PROMPT), o(" a\r\n"), o(RUN)], &["a"]);
    check("without marks", &[i("ls -l\r"), o("ls -l\r\n$ x\r\n$ ")], &["ls -l"]);
    let answered = [o(PROMPT), o(RUN), i("yes\r"), o("yes\r\n"), o(PROMPT), i("ls -l\r"), o("ls -l\r\n"), o(ran)];
    check("an answer before", &answered, &["yes", "= ls -l"]);
    let same = [o(PROMPT), o(RUN), i("ls -l\r"), o(once), o(PROMPT), i("ls -l\r"), o(once), o(ran)];
    check("the answer is like the next line", &same, &["ls -l", "= ls -l"]);
    check("a prompt after", &[i("a\r"), o("a\r\n$ "), i("b\r"), o("b\r\n$ ")], &["a", "b"]);
    let many: Vec<_> = (0..40).map(|n| o(&format!("{n}\r\n"))).collect();
    let keys: Vec<_> = (0..40).map(|n| i(&format!("{n}\r"))).collect();
    let typed: Vec<_> = keys.into_iter().zip(many).flat_map(|(key, shown)| [key, shown]).collect();
    let numbers: Vec<_> = (0..40).map(|n| n.to_string()).collect();
    check("many answers", &typed, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    let mut lens = CommandLens::new(24, 80);
    lens.input(b"1\r2\r3\r");
    assert_eq!(lens.output(b"1\r\n2\r\n3\r\n"), [], "they wait");
    assert_eq!(lens.output(b"$ "), []);
    lens.input(b"ls\r");
    assert_eq!(lens.output(b"ls\r\n").len(), 4, "until the next line");
}

#[test]
fn whatever_arrives_stays_small() {
    let mut lens = CommandLens::new(0, u16::MAX);
    let flood = "x".repeat(1 << 20);
    let lines = [lens.output(b"\x1b]633;E;"), lens.output(flood.as_bytes()), lens.output(b"\x07")].concat();
    assert_eq!(lines.len(), 1, "the name that never seemed to end");
    assert!(lines.iter().all(|line| line.text.len() <= LONGEST_LINE));
    let _none = lens.output(b"\x1b[8;65535;65535t\x1b[65535b\x1b[65535;65535H$ ");
    for _ in 0..100 {
        lens.input(flood.get(..40_000).unwrap().as_bytes());
        lens.input(b"\r");
    }
    assert_eq!(lens.entered.len(), MOST_ENTERED);
    let most = lens.entered.iter().filter_map(|typed| typed.plain.as_ref()).map(String::len).max();
    assert!(most.is_none_or(|most| most <= LONGEST_LINE));
    for _ in 0..PATIENCE {
        let _none = lens.output(b"\n");
    }
    assert!(lens.entered.is_empty(), "nobody waits for them any more");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_may_be_cut_anywhere(events in vec(event(), 0..24), cuts in vec(1_usize..9, 1..12)) {
        let mut sizes = cuts.iter().copied().cycle();
        let mut pieces = Vec::new();
        for event in &events {
            let (bytes, made): (_, fn(Vec<u8>) -> Event) = match event {
                Event::Output(bytes) => (bytes, Event::Output),
                Event::Input(bytes) => (bytes, Event::Input),
                Event::Password(_) | Event::Resize(..) => {
                    pieces.push(event.clone());
                    continue;
                }
            };
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                pieces.push(made(piece.to_vec()));
                rest = more;
            }
        }
        let lines = run(&events);
        prop_assert_eq!(&run(&pieces), &lines);
        for line in lines {
            prop_assert!(line.text.len() <= LONGEST_LINE && !line.text.chars().any(char::is_control), "{:?}", line);
        }
    }
}

/// Pieces that make lines often.
const SHOWN: [&str; 32] = [
    "$ ",
    "ls",
    "é日本",
    "\r\n",
    "\n",
    "\r",
    "\x08",
    "\x1b[K",
    "\x1b[2J\x1b[H",
    "\x1b[?1049h",
    "\x1b[?1049l",
    "\x1bc",
    "\x1b[65535b",
    "\x1b[8;65535;65535t",
    "\x1b[3;1H",
    "\x1b[2B",
    "\x1b[A",
    "\x1b[5;2r",
    "\x1bM",
    "\x1b[65535S",
    "\x1b]633;E;",
    "a\\x3bb",
    "\x07",
    "\x1b\\",
    "\x1b]133;A\x07",
    "\x1b]133;B\x07",
    "\x1b]133;C\x07",
    "\x1b]133;D;0\x07",
    "\x1b[4h",
    "\x1b[99999999999L",
    "\u{9d}633;E;x\u{9c}",
    "0123456789012345678901234567890123",
];
const TYPED: [&str; 17] = [
    "ls",
    "l",
    "é日",
    "\r",
    "\n",
    "\x03",
    "\x7f",
    "\x15",
    "\t",
    "\x1b[A",
    "\x1b[200~",
    "\x1b[201~",
    "\x1b]11;x\x1b\\",
    "\x1b",
    "\x1bP",
    "\x1b[3;4R",
    "\x04",
];

/// Those pieces among noise.
fn event() -> impl Strategy<Value = Event> {
    let shown = prop::sample::select(&SHOWN[..]);
    let typed = prop::sample::select(&TYPED[..]);
    let noise = || vec(any::<u8>(), 0..12);
    let bytes = |texts: Vec<&str>| texts.concat().into_bytes();
    prop_oneof![
        4 => vec(shown, 0..8).prop_map(move |texts| Event::Output(bytes(texts))),
        4 => vec(typed, 0..6).prop_map(move |texts| Event::Input(bytes(texts))),
        1 => noise().prop_map(Event::Output),
        1 => noise().prop_map(Event::Input),
        1 => any::<bool>().prop_map(Event::Password),
        1 => (size(), size()).prop_map(|(rows, columns)| Event::Resize(rows, columns)),
    ]
}

fn size() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(1), Just(2), Just(24), Just(80), Just(u16::MAX), any::<u16>()]
}

fn o(text: &str) -> Event {
    Event::Output(text.into())
}

fn i(text: &str) -> Event {
    Event::Input(text.into())
}

fn run(events: &[Event]) -> Vec<Line> {
    let mut lens = CommandLens::new(24, 80);
    let mut lines = Vec::new();
    for event in events {
        match event {
            Event::Output(bytes) => lines.extend(lens.output(bytes)),
            Event::Input(bytes) => lens.input(bytes),
            Event::Password(on) => lens.password(*on),
            Event::Resize(rows, columns) => lens.resize(*rows, *columns),
        }
    }
    lines.extend(lens.finish());
    lines
}

/// The first line after an attach stands at a prompt whose marks went by before: it is logged once, by the shell's name for
/// it where there is one.
#[test]
fn the_first_line_after_an_attach_is_logged_once() {
    let check = |name: &str, output: &[&str], expected: &[(&str, CommandSource)]| {
        let mut lens = CommandLens::new(24, 80).attached();
        let mut lines = lens.output(b"$ ");
        lens.input(b"ls\r");
        lines.extend(output.iter().flat_map(|output| lens.output(output.as_bytes())));
        lens.input(b"id\r");
        lines.extend(lens.output(b"id\r\n$ "));
        lines.extend(lens.finish());
        let got: Vec<_> = lines.iter().map(|line| (line.text.as_str(), line.source)).collect();
        assert_eq!(got, expected, "{name}");
    };
    let named = ["ls\r\n", "\x1b]633;E;ls\x07\x1b]133;C\x07x\r\n\x1b]133;D;0\x07\x1b]133;A\x07$ "];
    check("with marks", &named, &[("ls", Marks)]);
    check("without marks", &["ls\r\n", "x\r\n$ "], &[("ls", Screen), ("id", Screen)]);
}

/// Lines that the shell named are expected with `= ` before them.
#[track_caller]
fn check(name: &str, events: &[Event], expected: &[&str]) {
    let expected = expected.iter().map(|line| match line.strip_prefix("= ") {
        Some(named) => Line { text: named.into(), source: Marks },
        None => Line { text: (*line).into(), source: Screen },
    });
    assert_eq!(run(events), expected.collect::<Vec<_>>(), "{name}: {events:?}");
}
