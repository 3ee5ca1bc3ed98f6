//! The terminal as the person sees it, and what a shell's marks say in between.
//!
//! Whatever the target sends, it stays small and quick: its size has a limit that a target cannot change, and sequences
//! that ask for much work are cut to what a screen can show.

use std::fmt;
use std::ops::Range;

use avt::parser::{Function, Osc, ShellIntegration, State};
use avt::{Anchor, Operation, Parser, ScreenKind, Terminal};

use super::text;
use super::utf8::Utf8;

pub(super) struct Screen {
    utf8: Utf8,
    parser: Parser,
    /// The text of the operating system command that is being read, up to [`LONGEST_COMMAND`].
    command: String,
    terminal: Terminal,
}

/// What comes next in the output.
#[derive(Debug)]
pub(super) enum Step {
    PromptStart,
    InputStart,
    /// The line that the shell is about to run.
    Named(String),
    Executed,
    Finished,
    /// The cursor is about to leave its line for the next one.
    LineEnd(Function),
    /// The cursor is about to go down, perhaps to come back.
    Down(Function),
    Other(Function),
}

/// A place on the screen that moves with its text, and what stood around it in its line: a prompt to its left, and for
/// some shells one to its right.
pub(super) struct Place {
    anchor: Option<Anchor>,
    before: String,
    after: String,
}

/// Four times the longest line: each character of it may come escaped.
const LONGEST_COMMAND: usize = 4 * crate::observe::LONGEST_LINE;
/// Larger than screens are; two such screens take a few megabytes.
const MOST: (u16, u16) = (200, 500);
/// For terminals that do not say how large they are.
const USUAL: (u16, u16) = (24, 80);
/// How many rows one line may fill above the cursor, and below it; what is beyond is left out.
const WRAPPED_ROWS: usize = 64;

impl Screen {
    pub(super) fn new(rows: u16, columns: u16) -> Self {
        let (rows, columns) = sensible(rows, columns).unwrap_or(USUAL);
        let mut terminal = smallest();
        terminal.resize(columns.into(), rows.into());
        Self { utf8: Utf8::default(), parser: Parser::new(), command: String::new(), terminal }
    }

    pub(super) fn resize(&mut self, rows: u16, columns: u16) {
        if let Some((rows, columns)) = sensible(rows, columns) {
            self.terminal.resize(columns.into(), rows.into());
        }
    }

    pub(super) fn decode(&mut self, bytes: &[u8]) -> String {
        self.utf8.decode(bytes)
    }

    /// Reads one character; what it completes takes effect with [`Self::apply`].
    pub(super) fn step(&mut self, character: char) -> Option<Step> {
        let inside = self.parser.state == State::OscString;
        let function = self.parser.feed(character);
        let still = self.parser.state == State::OscString;
        if still && inside && !character.is_control() && self.command.len() < LONGEST_COMMAND {
            self.command.push(character);
        } else if still && !inside {
            self.command.clear();
        } else if inside
            && !still
            && !matches!(character, '\x18' | '\x1a')
            && let Some(line) = std::mem::take(&mut self.command).strip_prefix("633;E;")
        {
            let line = line.split(';').next().unwrap_or_default();
            return Some(Step::Named(text::unescaped(line)));
        }
        function.map(Step::of)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all else is the emulator's own matter")]
    pub(super) fn apply(&mut self, function: Function) {
        let (columns, _) = self.terminal.size();
        let function = match function {
            Function::Xtwinops(_) => return,
            Function::Rep(count) => Function::Rep(count.min(u16::try_from(columns).unwrap_or(u16::MAX))),
            other => other,
        };
        self.terminal.execute(Operation::Function(function));
    }

    /// A program has the whole screen.
    pub(super) fn is_alternate(&self) -> bool {
        self.terminal.active_screen_kind() == ScreenKind::Alternate
    }

    /// Where the cursor is.
    pub(super) fn place(&mut self) -> Place {
        let (row, column) = self.cursor();
        let mut before = String::new();
        for each in self.first_row(row)..=row {
            self.push_row(&mut before, each, 0..if each == row { column } else { usize::MAX });
        }
        let mut after = String::new();
        self.push_row(&mut after, row, column..usize::MAX);
        let anchor = self.terminal.anchor_at(self.terminal.cursor_position());
        Place { anchor, before, after: after.trim().to_owned() }
    }

    /// The whole line that the cursor is in.
    pub(super) fn line(&self) -> String {
        let (row, _) = self.cursor();
        self.rows(self.first_row(row), 0)
    }

    /// What stands behind the place, to the end of the cursor's `line`.
    pub(super) fn behind(&self, place: &Place, line: &str) -> Option<String> {
        let drawn = place.redrawn(line);
        drawn.or_else(|| {
            let position = self.terminal.resolve(place.anchor.as_ref()?)?;
            let row = self.history().checked_add_signed(position.row)?;
            let near = self.cursor().0.checked_sub(row).is_some_and(|rows| rows < WRAPPED_ROWS);
            let primary = position.screen == ScreenKind::Primary;
            (near && primary).then(|| place.without_after(&self.rows(row, position.col)))
        })
    }

    /// Rows that have left the screen at its top. All rows are counted from the first of them.
    fn history(&self) -> usize {
        self.terminal.screen().all_lines().count().saturating_sub(self.terminal.size().1)
    }

    fn cursor(&self) -> (usize, usize) {
        let cursor = self.terminal.cursor();
        (self.history() + cursor.row, cursor.col)
    }

    /// From there to the end of the cursor's line; rows that are lines of their own are parted.
    fn rows(&self, first: usize, column: usize) -> String {
        let mut text = String::new();
        let (cursor, _) = self.cursor();
        for row in first..first.saturating_add(2 * WRAPPED_ROWS) {
            let wrapped = self.push_row(&mut text, row, if row == first { column } else { 0 }..usize::MAX);
            if !wrapped {
                text.truncate(text.trim_end().len());
                if row >= cursor {
                    break;
                }
                text.push('\n');
            }
        }
        text
    }

    /// Whether the row goes on in the next one.
    fn push_row(&self, text: &mut String, row: usize, columns: Range<usize>) -> bool {
        let Some(line) = self.row(row) else { return false };
        let cells = line.cells().get(columns.start..columns.end.min(line.len())).unwrap_or_default();
        text.extend(cells.iter().filter(|cell| cell.width() > 0).map(avt::Cell::char));
        line.is_wrapped()
    }

    fn first_row(&self, row: usize) -> usize {
        let wraps = |row: usize| self.row(row).is_some_and(avt::Line::is_wrapped);
        let mut first = row;
        while let Some(above) = first.checked_sub(1).filter(|above| row - above <= WRAPPED_ROWS && wraps(*above)) {
            first = above;
        }
        first
    }

    fn row(&self, row: usize) -> Option<&avt::Line> {
        self.terminal.screen().all_lines().nth(row)
    }
}

impl Place {
    /// A line that was drawn anew elsewhere is known by its prompt.
    pub(super) fn redrawn(&self, line: &str) -> Option<String> {
        let behind = line.strip_prefix(&self.before).filter(|_| !self.before.trim().is_empty());
        behind.map(|behind| self.without_after(behind))
    }

    fn without_after(&self, text: &str) -> String {
        text.strip_suffix(&self.after).unwrap_or(text).trim_end().to_owned()
    }
}

impl Step {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all else is the emulator's own matter")]
    fn of(function: Function) -> Self {
        match function {
            Function::Osc(Osc::ShellIntegration(mark)) => match mark {
                ShellIntegration::PromptStart => Self::PromptStart,
                ShellIntegration::CommandStart => Self::InputStart,
                ShellIntegration::CommandExecuted => Self::Executed,
                ShellIntegration::CommandFinished { .. } => Self::Finished,
            },
            Function::Lf | Function::Nel => Self::LineEnd(function),
            Function::Cud(_) | Function::Cnl(_) => Self::Down(function),
            other => Self::Other(other),
        }
    }
}

impl fmt::Debug for Place {
    /// What is on a screen is nobody's to print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("size", &self.terminal.size()).finish_non_exhaustive()
    }
}

fn sensible(rows: u16, columns: u16) -> Option<(u16, u16)> {
    (rows > 0 && columns > 0).then(|| (rows.min(MOST.0), columns.min(MOST.1)))
}

#[expect(clippy::expect_used, reason = "only a size of zero is refused")]
fn smallest() -> Terminal {
    Terminal::with_scrollback(1, 1, Some(WRAPPED_ROWS)).expect("one row of one column is a screen")
}
