//! Command lines out of a terminal's two streams.
//!
//! Where the shell marks its prompts and names its commands, the names are the log. Everywhere else a line is read from
//! the emulated screen, at the moment when the cursor leaves it after an Enter: so the echo has come, however late, and
//! what the shell made of editing, completion and history stands there. What was not shown is not logged.
//!
//! A line with nothing before it stands at no prompt: it was typed ahead, or answers a program. It waits for the shell's
//! next word, so that what the shell then names is logged once. So does the first line of a terminal that was come back
//! to, whose prompt's marks went by before. A program's questions look like a shell's, so answers
//! that are shown are logged too. Where a shell makes something else of what was typed, as bash does with keys struck
//! between Ctrl-C and its next prompt, the log has what ran. What is typed into a program that has the whole screen is
//! not read, and a terminal multiplexer is such a program.

mod keys;
mod screen;
pub mod text;
mod utf8;

use std::collections::VecDeque;
use std::fmt;

use bz_core::api::record::CommandSource;

use self::keys::{Key, Keys};
use self::screen::{Place, Screen, Step};
use super::{LONGEST_LINE, Line};

/// Reads one terminal.
#[derive(Debug)]
pub struct CommandLens {
    screen: Screen,
    keys: Keys,
    typing: Option<Typed>,
    /// Entered, but not yet seen to leave the screen's line.
    entered: VecDeque<Typed>,
    /// Read where no prompt stood, and not yet named or passed over by a shell.
    ahead: VecDeque<String>,
    shell: Shell,
    password: bool,
    /// The prompt was drawn before this began: whether a shell marks it is not known.
    unknown: bool,
}

/// One line, from its first key on.
struct Typed {
    place: Place,
    /// What the keys alone make of it, while nothing but text was typed.
    plain: Option<String>,
    /// How many lines the output may still end before this one is given up.
    patience: u16,
}

/// A line on the screen.
struct Found {
    line: String,
    /// Whether nothing stands before it.
    alone: bool,
}

/// What the shell's marks have said.
#[derive(Debug, Default)]
struct Shell {
    phase: Phase,
    /// Whether it has ever marked a command's start: then a line without one did not run.
    executes: bool,
    /// Lines read from the screen at this prompt, until the shell names the command itself.
    held: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// No marks, or a command runs that may be a shell without marks.
    #[default]
    Elsewhere,
    Prompt,
    /// The line at the prompt has been named.
    Named,
}

/// Lines typed ahead of a busy program; older ones are forgotten.
const MOST_ENTERED: usize = 16;
/// A line typed ahead may wait for a program that prints this much.
const PATIENCE: u16 = 10_000;

impl CommandLens {
    #[must_use]
    pub fn new(rows: u16, columns: u16) -> Self {
        Self {
            screen: Screen::new(rows, columns),
            keys: Keys::default(),
            typing: None,
            entered: VecDeque::new(),
            ahead: VecDeque::new(),
            shell: Shell::default(),
            password: false,
            unknown: false,
        }
    }

    /// The same for a terminal that is come back to: its first line may yet be named, and waits for that.
    #[must_use]
    pub fn attached(self) -> Self {
        Self { unknown: true, ..self }
    }

    /// What came from the target, and the lines that it completes.
    #[must_use]
    pub fn output(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for character in self.screen.decode(bytes).chars() {
            if let Some(step) = self.screen.step(character) {
                self.step(step, &mut lines);
            }
        }
        lines
    }

    /// What the person typed.
    pub fn input(&mut self, bytes: &[u8]) {
        for key in self.keys.read(bytes) {
            if !self.password && !self.screen.is_alternate() {
                self.key(key);
            }
        }
    }

    /// The lines that waited for a word that does not come any more.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Line> {
        self.ahead.drain(..).filter_map(|line| on_screen(&line)).collect()
    }

    /// A screen has rows and columns; what says otherwise changes nothing.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.screen.resize(rows, columns);
    }

    /// The terminal asks for a password, or no longer.
    pub fn password(&mut self, on: bool) {
        self.password = on;
        self.forget();
    }

    fn forget(&mut self) {
        self.typing = None;
        self.entered.clear();
    }

    fn key(&mut self, key: Key) {
        match key {
            Key::Text(character) => self.typed().push(character),
            Key::Edit => self.typed().plain = None,
            Key::Begun => {
                self.typed();
            }
            Key::Answered => self.typing = self.typing.take().filter(|typed| typed.plain.as_deref() != Some("")),
            Key::Erase => {
                self.plain().map(String::pop);
            }
            Key::EraseLine => {
                self.plain().map(String::clear);
            }
            Key::Enter => {
                let typed = self.typing.take();
                self.entered
                    .extend(typed.filter(|typed| typed.plain.as_ref().is_none_or(|text| !text.trim().is_empty())));
                if self.entered.len() > MOST_ENTERED {
                    self.entered.pop_front();
                }
            }
            Key::Cancel => {
                self.forget();
                self.shell.held.clear();
            }
        }
    }

    fn typed(&mut self) -> &mut Typed {
        let screen = &mut self.screen;
        self.typing.get_or_insert_with(|| Typed {
            place: screen.place(),
            plain: Some(String::new()),
            patience: PATIENCE,
        })
    }

    fn plain(&mut self) -> Option<&mut String> {
        self.typing.as_mut()?.plain.as_mut()
    }

    fn step(&mut self, step: Step, lines: &mut Vec<Line>) {
        match step {
            Step::PromptStart => {
                if self.shell.phase == Phase::Prompt && !self.shell.executes {
                    self.ran_unnamed(lines);
                }
                self.shell.begin(Phase::Prompt);
            }
            Step::InputStart => {
                self.shell.phase = Phase::Prompt;
                if let Some(typed) = &mut self.typing {
                    typed.place = self.screen.place();
                }
            }
            Step::Named(line) => {
                self.pass_over(&line, lines);
                lines.extend(text::shown(&line).map(|text| Line { text, source: CommandSource::Marks }));
                self.shell.begin(Phase::Named);
                self.entered.retain(|typed| typed.plain.is_some());
            }
            Step::Executed => {
                if self.shell.phase == Phase::Prompt {
                    self.ran_unnamed(lines);
                }
                self.shell.executes = true;
                self.shell.begin(Phase::Elsewhere);
                self.entered.retain(|typed| typed.plain.is_some());
            }
            Step::Finished => self.shell.begin(Phase::Prompt),
            Step::LineEnd(function) => {
                let line = self.leave(Typed::found);
                if line.is_none() {
                    self.wane();
                }
                self.read(line, lines);
                self.screen.apply(function);
            }
            Step::Down(function) => {
                let line = self.leave(Typed::found_redrawn);
                self.read(line, lines);
                self.screen.apply(function);
            }
            Step::Other(function) => {
                self.screen.apply(function);
                if self.screen.is_alternate() {
                    self.forget();
                }
            }
        }
    }

    fn read(&mut self, line: Option<Found>, lines: &mut Vec<Line>) {
        let unknown = line.is_some() && std::mem::take(&mut self.unknown);
        match (line, self.shell.phase) {
            (Some(Found { line, alone }), Phase::Elsewhere) if alone || unknown => {
                self.ahead.push_back(line);
                if self.ahead.len() > MOST_ENTERED {
                    lines.extend(self.ahead.pop_front().and_then(|oldest| on_screen(&oldest)));
                }
            }
            (Some(Found { line, .. }), Phase::Elsewhere) => {
                lines.extend(self.finish());
                lines.extend(on_screen(&line));
            }
            (Some(Found { line, .. }), Phase::Prompt) => self.shell.hold(line),
            (Some(_), Phase::Named) | (None, _) => {}
        }
    }

    /// The shell names a line: one that was typed ahead, unless it was read at the prompt. All before it was not for
    /// the shell.
    fn pass_over(&mut self, named: &str, lines: &mut Vec<Line>) {
        let is_named = |line: &String| text::shown(line) == text::shown(named);
        let named = self.ahead.iter().position(is_named).filter(|_| self.shell.held.is_empty());
        let passed = self.ahead.drain(..named.unwrap_or(self.ahead.len()));
        lines.extend(passed.filter_map(|line| on_screen(&line)));
        self.ahead.pop_front();
    }

    /// A line ran that the shell did not name: one that was read at the prompt, or else the next that was typed ahead.
    fn ran_unnamed(&mut self, lines: &mut Vec<Line>) {
        if self.shell.held.is_empty() {
            lines.extend(self.ahead.pop_front().and_then(|line| on_screen(&line)));
        } else {
            lines.extend(self.finish());
            lines.extend(self.shell.release());
        }
    }

    /// The entered line that stands in the line which the cursor is about to leave.
    fn leave(&mut self, found: fn(&Typed, &Screen, &str) -> Option<String>) -> Option<Found> {
        if self.entered.is_empty() || self.screen.is_alternate() {
            return None;
        }
        let whole = self.screen.line();
        let mut entered = self.entered.iter().enumerate();
        let (index, line) = entered.find_map(|(index, typed)| Some((index, found(typed, &self.screen, &whole)?)))?;
        self.entered.drain(..=index);
        Some(Found { alone: whole.trim() == line.trim(), line })
    }

    /// A line ended that is none of those entered: an edited one is gone, the others may yet come.
    fn wane(&mut self) {
        for typed in &mut self.entered {
            typed.patience = typed.patience.saturating_sub(1);
        }
        self.entered.retain(|typed| typed.patience > 0 && typed.plain.is_some());
    }
}

impl Typed {
    fn push(&mut self, character: char) {
        if let Some(plain) = &mut self.plain {
            if plain.len() < LONGEST_LINE {
                plain.push(character);
            } else {
                self.plain = None;
            }
        }
    }

    /// Text that was typed whole is looked for; of an edited line only its place is known.
    fn found(&self, screen: &Screen, line: &str) -> Option<String> {
        self.matched(line, || screen.behind(&self.place, line))
    }

    fn found_redrawn(&self, _: &Screen, line: &str) -> Option<String> {
        self.matched(line, || self.place.redrawn(line))
    }

    fn matched(&self, line: &str, behind: impl FnOnce() -> Option<String>) -> Option<String> {
        match self.plain.as_deref().map(str::trim_end) {
            Some(plain) if line.ends_with(plain) => Some(plain.to_owned()),
            Some(plain) => behind().filter(|behind| behind.starts_with(plain)).map(|_| plain.to_owned()),
            None => behind().filter(|behind| !behind.trim().is_empty()),
        }
    }
}

impl fmt::Debug for Typed {
    /// What is typed may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}

impl Shell {
    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.held.clear();
    }

    fn hold(&mut self, line: String) {
        if self.held.iter().map(|held| held.len() + 1).sum::<usize>() < LONGEST_LINE {
            self.held.push(line); // what is longer in all would be cut from the log as well
        }
    }

    fn release(&mut self) -> Option<Line> {
        on_screen(&std::mem::take(&mut self.held).join("\n"))
    }
}

fn on_screen(line: &str) -> Option<Line> {
    if text::masks(line.trim()) {
        return None;
    }
    text::shown(line).map(|text| Line { text, source: CommandSource::Screen })
}

#[cfg(test)]
mod tests;
