//! Everything `bz` prints: results as tables or JSON on standard output, the rest on standard error.
//!
//! Names come from strangers, so control characters are taken out of whatever is shown; JSON escapes them.

mod fit;

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Attribute, Cell, Color, Table as Grid, presets};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::{ColorWhen, Global};
use crate::exit::Exit;

/// Where and how to print.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    color: bool,
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Field>>,
    empty: &'static str,
}

/// One field of a row.
#[derive(Debug)]
pub(crate) struct Field {
    text: String,
    tone: Tone,
}

/// What a field means, as a color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Faint,
}

impl Field {
    pub(crate) fn toned(text: &impl ToString, tone: Tone) -> Self {
        Self { text: text.to_string(), tone }
    }
}

impl<T: ToString> From<T> for Field {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), tone: Tone::Plain }
    }
}

impl Table {
    /// A table that says `empty` when it has no rows; without headings where the first column says all.
    pub(crate) fn new(headings: impl Into<Vec<&'static str>>, empty: &'static str) -> Self {
        Self { headings: headings.into(), rows: Vec::new(), empty }
    }

    /// The same, to go on below another.
    pub(crate) fn without_headings(self) -> Self {
        Self { headings: Vec::new(), ..self }
    }

    pub(crate) fn row(&mut self, fields: impl Into<Vec<Field>>) {
        self.rows.push(fields.into());
    }
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let auto = || {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
                || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
            !refused && io::stdout().is_terminal()
        };
        let color = match global.color {
            ColorWhen::Auto => auto(),
            ColorWhen::Always => true,
            ColorWhen::Never => false,
        };
        Self { json: global.json, quiet: global.quiet, color }
    }

    /// A result: the value as JSON, or the table made of it.
    pub(crate) fn list<T: Serialize>(&self, value: &T, table: impl FnOnce() -> Table) -> io::Result<()> {
        if self.json { self.json(value) } else { self.table(&table()) }
    }

    /// A result: the value as JSON, or one line.
    pub(crate) fn result<T: Serialize>(&self, value: &T, line: &str) -> io::Result<()> {
        if self.json { self.json(value) } else { writeln!(io::stdout(), "{}", shown(line)) }
    }

    /// Some of the results, of which more will come: each as JSON on a line of its own, or the table made of them.
    pub(crate) fn stream<T: Serialize>(&self, values: &[T], table: &Table) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            values.iter().try_for_each(|value| writeln!(out, "{}", serde_json::to_string(value)?))?;
        } else if !table.rows.is_empty() {
            drop(out);
            self.table(table)?;
            out = io::stdout().lock();
        }
        out.flush()
    }

    /// What another program asked for, as JSON whatever was asked of this one.
    #[expect(clippy::unused_self, reason = "everything that prints asks this type")]
    pub(crate) fn credential(&self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(io::stdout(), "{value}")
    }

    /// One of several results, as JSON on a line of its own.
    #[expect(clippy::unused_self, reason = "everything that prints asks this type")]
    #[cfg(unix)]
    pub(crate) fn line(&self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(io::stdout(), "{value}")
    }

    /// Whether results are JSON.
    #[cfg(unix)]
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether remarks are left out.
    #[cfg(unix)]
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A remark, unless quiet.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// A remark, also when quiet.
    #[expect(clippy::unused_self, reason = "everything that prints asks this type")]
    pub(crate) fn warn(&self, text: &str) {
        // There is nobody left to tell when standard error is closed.
        drop(writeln!(io::stderr(), "{}", shown(text)));
    }

    /// Why the run failed.
    pub(crate) fn error(&self, error: &anyhow::Error, exit: Exit) {
        let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        };
        if error.chain().any(is_closed_pipe) {
            return;
        }
        let text = told(error);
        if self.json {
            let body = serde_json::json!({"error": {"message": text, "exitCode": exit.number()}});
            drop(writeln!(io::stderr(), "{body}"));
        } else {
            self.warn(&format!("bz: {text}"));
        }
    }

    #[expect(clippy::unused_self, reason = "everything that prints asks this type")]
    fn json<T: Serialize>(&self, value: &T) -> io::Result<()> {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(value)?)
    }

    fn table(&self, table: &Table) -> io::Result<()> {
        if table.rows.is_empty() {
            self.say(table.empty);
            return Ok(());
        }
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING);
        if self.color {
            grid.enforce_styling();
        } else {
            grid.force_no_tty();
        }
        if !table.headings.is_empty() {
            grid.set_header(table.headings.iter().map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
        }
        let mut texts: Vec<Vec<String>> =
            table.rows.iter().map(|row| row.iter().map(|field| one_line(&field.text)).collect()).collect();
        if let Some(room) = room() {
            fit::fit(&table.headings, &mut texts, room);
        }
        for (row, texts) in table.rows.iter().zip(texts) {
            grid.add_row(row.iter().zip(texts).map(|(field, text)| cell(field.tone, text)));
        }
        // The first column begins at the margin, and no line ends in blanks.
        let lines = grid.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
        writeln!(io::stdout(), "{}", lines.collect::<Vec<_>>().join("\n"))
    }
}

/// How wide the terminal is that results go to, if they go to one.
fn room() -> Option<usize> {
    let (columns, _) = io::stdout().is_terminal().then(|| crossterm::terminal::size().ok()).flatten()?;
    Some(columns.into()).filter(|columns| *columns > 0)
}

fn one_line(text: &str) -> String {
    shown(text).replace('\n', "\u{fffd}")
}

fn cell(tone: Tone, text: String) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Faint => cell.fg(Color::DarkGrey),
    }
}

/// The text without control characters other than line ends.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// A time of the API in this machine's own zone; as it came when it is none.
pub(crate) fn local(time: &str) -> String {
    shown_in(time, TimeZone::system())
}

fn shown_in(time: &str, zone: TimeZone) -> String {
    let Ok(stamp) = time.parse::<Timestamp>() else { return time.to_owned() };
    stamp.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// An error and its causes, but for those whose words it has said already.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[31mb\r\nc\u{9b}"), "a\u{fffd}[31mb\u{fffd}\nc\u{fffd}");
    }

    #[test]
    fn what_is_no_time_is_shown_as_it_is() {
        assert_eq!(local("soon"), "soon");
        assert_eq!(local("2026-01-02T03:04:05Z").len(), "2026-01-02 03:04:05".len());
    }

    /// F-158: times come in UTC and are shown in the reader's zone, in summer and winter; those that were written in other
    /// zones stand among them in the order in which they happened.
    #[test]
    fn times_are_shown_in_the_readers_zone() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let newfoundland = TimeZone::posix("NST3:30NDT,M3.2.0,M11.1.0").unwrap();
        for (time, east, west) in [
            ("2026-01-31T23:30:00Z", "2026-02-01 00:30:00", "2026-01-31 20:00:00"),
            ("2026-07-01T12:00:00.123Z", "2026-07-01 14:00:00", "2026-07-01 09:30:00"),
            ("2026-07-01T22:00:00+09:00", "2026-07-01 15:00:00", "2026-07-01 10:30:00"),
        ] {
            assert_eq!(shown_in(time, berlin.clone()), east);
            assert_eq!(shown_in(time, newfoundland.clone()), west);
        }
        let happened = ["2026-03-01T10:00:00+09:00", "2026-03-01T01:30:00Z", "2026-02-28T22:00:00-04:00"];
        let shown = happened.map(|time| shown_in(time, newfoundland.clone()));
        assert!(shown.is_sorted() && !happened.is_sorted(), "{shown:?}");
    }

    #[test]
    fn a_cause_is_told_once() {
        let check = |error: anyhow::Error, want: &str| assert_eq!(told(&error), want);
        let cause = || anyhow::anyhow!("the cable is cut");
        check(cause(), "the cable is cut");
        check(cause().context("no answer"), "no answer: the cable is cut");
        check(cause().context("no answer: the cable is cut").context("x"), "x: no answer: the cable is cut");
    }
}
