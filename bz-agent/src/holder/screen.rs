//! The screen of a shell, kept so that a client that comes later sees what stands there. Reads
//! output in any pieces; bytes that are not UTF-8 stand as replacement characters here and stay
//! what they are everywhere else. Pure.

mod modes;

use super::message::Size;
use avt::Terminal;
use modes::Modes;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Leaves the alternate screen and every mode that draws elsewhere, without touching the scrollback.
const CLEAR: &str = "\x1b[?1049l\x1b[!p\x1b[r\x1b[0m\x1b[H\x1b[2J";

pub(super) struct Screen {
    /// Absent only if the size was not drawable, which `Size` rules out.
    terminal: Option<Terminal>,
    modes: Modes,
    size: Size,
    /// The beginning of a character whose end has not come yet.
    partial: Vec<u8>,
}

impl Screen {
    pub(super) fn new(size: Size) -> Self {
        Self { terminal: blank(size), modes: Modes::default(), size, partial: Vec::new() }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.modes.feed(bytes);
        let mut pending = std::mem::take(&mut self.partial);
        pending.extend_from_slice(bytes);
        let mut text = String::with_capacity(pending.len());
        let mut chunks = pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            if chunks.peek().is_none() && is_beginning(chunk.invalid()) {
                self.partial = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.guarded(|terminal| terminal.feed(text.as_str()));
    }

    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.guarded(|terminal| terminal.resize(size.cols().into(), size.rows().into()));
    }

    /// Escape sequences that bring any terminal of this size to what this screen shows, and to the
    /// place in the stream where the next byte of output continues.
    pub(super) fn dump(&mut self) -> Vec<u8> {
        let mut dump = String::new();
        self.guarded(|terminal| dump = terminal.dump());
        [CLEAR.as_bytes(), self.modes.dump().as_bytes(), dump.as_bytes(), &self.partial].concat()
    }

    /// A fault in the emulator must cost the picture, not the shell.
    fn guarded(&mut self, act: impl FnOnce(&mut Terminal)) {
        if let Some(terminal) = &mut self.terminal
            && catch_unwind(AssertUnwindSafe(|| act(terminal))).is_err()
        {
            self.terminal = blank(self.size);
        }
    }
}

fn blank(size: Size) -> Option<Terminal> {
    Terminal::new(size.cols().into(), size.rows().into()).ok()
}

fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> Vec<String> {
        let mut terminal = Terminal::new(20, 4).unwrap();
        terminal.feed(String::from_utf8(bytes.to_vec()).unwrap().as_str());
        (0..4).map(|row| terminal.screen().line(row).unwrap().text().trim_end().to_owned()).collect()
    }

    /// Fed in pieces of every length, the dump brings a fresh terminal to the same picture.
    fn check(output: &[u8], expected: &[&str]) {
        for piece in 1..=output.len() {
            let mut screen = Screen::new(Size::clamped(4, 20));
            output.chunks(piece).for_each(|chunk| screen.feed(chunk));
            let mut picture = shown(&screen.dump());
            while picture.last().is_some_and(String::is_empty) {
                picture.pop();
            }
            assert_eq!(picture, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_dump_shows_what_the_output_showed() {
        check(b"one\r\ntwo", &["one", "two"]);
        check("a日本é\r\n\x1b[31mred\x1b[0m".as_bytes(), &["a日本é", "red"]);
        check(b"\xff\xfeok\xe2\x82!", &["\u{fffd}\u{fffd}ok\u{fffd}!"]);
        check(b"gone\x1b[?1049h\x1b[2;3Hhere", &["", "  here"]);
        check(b"1\r\n2\r\n3\r\n4\r\n5", &["2", "3", "4", "5"]);
    }

    #[test]
    fn a_dump_ends_inside_the_character_where_the_output_stopped() {
        let mut screen = Screen::new(Size::clamped(4, 20));
        screen.feed(b"x\xe2\x82");
        let whole = [screen.dump().as_slice(), b"\xac"].concat();
        assert_eq!(shown(&whole).first().unwrap(), "x€");
    }

    #[test]
    fn modes_that_draw_nothing_are_restored_too() {
        let mut screen = Screen::new(Size::clamped(4, 20));
        screen.feed(b"\x1b[?2004h\x1b[?10");
        screen.feed(b"06;1000h\x1b[?1000l\x1b[?77h");
        let dump = String::from_utf8(screen.dump()).unwrap();
        assert!(dump.contains("\x1b[?2004h") && dump.contains("\x1b[?1006h"), "{dump:?}");
        assert!(dump.contains("\x1b[?1000l") && !dump.contains("\x1b[?77"), "{dump:?}");
    }
}
