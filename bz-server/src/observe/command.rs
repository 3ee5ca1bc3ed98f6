//! Command lines out of a terminal's two streams.
//!
//! Where the shell marks its prompts and names its commands, the names are the log. Everywhere else a line is read from
//! the emulated screen, at the moment when the cursor leaves it after an Enter: so the echo has come, however late, and
//! what the shell made of editing, completion and history stands there. What was not shown is not logged.
//!
//! A line typed ahead while a command runs is seen twice where the terminal shows it twice. A program's questions look
//! like a shell's, so answers that are shown are logged too.

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
    shell: Shell,
    password: bool,
}

/// One line, from its first key on.
struct Typed {
    place: Place,
    /// What the keys alone make of it, while nothing but text was typed.
    plain: Option<String>,
    /// How many lines the output may still end before this one is given up.
    patience: u16,
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
            shell: Shell::default(),
            password: false,
        }
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
            Key::Erase => {
                if let Some(plain) = self.typing.as_mut().and_then(|typed| typed.plain.as_mut()) {
                    plain.pop();
                }
            }
            Key::EraseLine => {
                if let Some(plain) = self.typing.as_mut().and_then(|typed| typed.plain.as_mut()) {
                    plain.clear();
                }
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

    fn step(&mut self, step: Step, lines: &mut Vec<Line>) {
        match step {
            Step::PromptStart => {
                if self.shell.phase == Phase::Prompt && !self.shell.executes {
                    lines.extend(self.shell.release());
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
                lines.extend(text::shown(&line).map(|text| Line { text, source: CommandSource::Marks }));
                self.shell.begin(Phase::Named);
            }
            Step::Executed => {
                if self.shell.phase == Phase::Prompt {
                    lines.extend(self.shell.release());
                }
                self.shell.executes = true;
                self.shell.begin(Phase::Elsewhere);
            }
            Step::Finished => self.shell.begin(Phase::Prompt),
            Step::LineEnd(function) => {
                if let Some(line) = self.line_end() {
                    match self.shell.phase {
                        Phase::Elsewhere => lines.extend(on_screen(&line)),
                        Phase::Prompt => self.shell.hold(line),
                        Phase::Named => {}
                    }
                }
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

    /// The entered line that stands in the line which the cursor is about to leave.
    fn line_end(&mut self) -> Option<String> {
        if self.entered.is_empty() || self.screen.is_alternate() {
            return None;
        }
        let line = self.screen.line();
        for (index, typed) in self.entered.iter().enumerate() {
            if let Some(found) = typed.found(&self.screen, &line) {
                self.entered.drain(..=index);
                return Some(found);
            }
        }
        for typed in &mut self.entered {
            typed.patience = typed.patience.saturating_sub(1);
        }
        self.entered.retain(|typed| typed.patience > 0 && typed.plain.is_some());
        None
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
        let behind = || screen.behind(&self.place, line);
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
