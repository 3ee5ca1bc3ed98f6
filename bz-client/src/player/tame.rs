//! What a recording may say to the terminal that it is played on.
//!
//! To play a recording is to show what a program once wrote, so colors, movements and other screens pass. What is no
//! showing does not: whatever makes a terminal answer, as if its person had typed it, or do something beside its screen,
//! such as filling the clipboard, naming its window or printing.

/// Takes text that was written to one terminal to another.
#[derive(Debug, Default)]
pub struct Tame {
    within: Within,
    sequence: String,
    /// Whether lines were ended by carriage returns, as terminals of hosts end them.
    returns: bool,
    other_screen: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Within {
    #[default]
    Text,
    Escape,
    /// A control sequence, up to its final letter.
    Sequence,
    /// Words for the terminal itself, up to their terminator.
    Words,
    /// Perhaps that terminator.
    WordsEscape,
}

/// Longer ones are none.
const LONGEST: usize = 64;

impl Tame {
    /// The text as it may be shown.
    pub fn take(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for letter in text.chars() {
            self.letter(letter, &mut shown);
        }
        shown
    }

    /// What brings a terminal back from wherever the text left it.
    #[must_use]
    pub fn restore(&self) -> String {
        let screen = if self.other_screen { "\x1b[?1049l" } else { "" };
        // Colors and characters; scrolling everywhere, with the cursor kept; wrapping, cursor, keys; mouse and pasting.
        format!(
            "{screen}\x1b[0m\x1b(B\x0f\x1b7\x1b[r\x1b8\x1b[?7h\x1b[?25h\x1b[?1l\x1b>\x1b[4l\x1b[?5l\
             \x1b[?9l\x1b[?1000l\x1b[?1001l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?2004l\
             \x1b[<u\x1b[>4m"
        )
    }

    fn letter(&mut self, letter: char, shown: &mut String) {
        self.within = match (self.within, letter) {
            // These end whatever was begun.
            (_, '\u{18}' | '\u{1a}') => Within::Text,
            (Within::Words, '\u{7}' | '\u{9c}') | (Within::WordsEscape, '\\') => Within::Text,
            (Within::Words | Within::WordsEscape, '\u{1b}') => Within::WordsEscape,
            (Within::Words | Within::WordsEscape, _) => Within::Words,
            (_, '\u{1b}') => Within::Escape,
            (_, '\u{9b}') | (Within::Escape, '[') => {
                self.sequence.clear();
                Within::Sequence
            }
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') | (Within::Escape, ']' | 'P' | 'X' | '^' | '_') => {
                Within::Words
            }
            (_, '\u{80}'..='\u{9f}') => self.within,
            (Within::Escape, 'Z') => Within::Text,
            (Within::Escape, letter) => {
                shown.push('\u{1b}');
                shown.push(letter);
                Within::Text
            }
            (Within::Sequence, letter) => self.sequence(letter, shown),
            (Within::Text, letter) => {
                self.plain(letter, shown);
                Within::Text
            }
        };
    }

    fn sequence(&mut self, letter: char, shown: &mut String) -> Within {
        if letter.is_control() {
            self.plain(letter, shown);
            return Within::Sequence;
        }
        self.sequence.push(letter);
        if !('\u{40}'..='\u{7e}').contains(&letter) {
            return if self.sequence.len() > LONGEST { Within::Text } else { Within::Sequence };
        }
        if shows(&self.sequence) {
            shown.push_str("\x1b[");
            shown.push_str(&self.sequence);
            if ["?1049", "?1047", "?47"].iter().any(|screen| self.sequence.starts_with(screen)) {
                self.other_screen = letter == 'h';
            }
        }
        Within::Text
    }

    fn plain(&mut self, letter: char, shown: &mut String) {
        match letter {
            // "Who are you?"
            '\u{5}' => {}
            '\r' => {
                self.returns = true;
                shown.push('\r');
            }
            // What a command wrote without a terminal has lines that end as files' do.
            '\n' if !self.returns => shown.push_str("\r\n"),
            letter => shown.push(letter),
        }
    }
}

/// Whether a control sequence only shows something.
fn shows(sequence: &str) -> bool {
    let mut letters = sequence.chars();
    let last = letters.next_back().unwrap_or_default();
    let before = letters.as_str();
    match last {
        // Attributes, states, windows, parameters: answered. Media: printed.
        'c' | 'n' | 't' | 'x' | 'i' => false,
        // Modes, versions, checksums, settings and keys of the terminal: answered.
        'p' | 'q' | 'y' | 'u' | 'v' | 'w' | '{' | '|' | '}' | 'z' => {
            !before.contains(['$', '*', '>', '?', '\'', '<', '='])
        }
        'S' => !before.starts_with('?'),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever it is cut into.
    fn tamed(text: &str) -> String {
        let (mut whole, mut cut) = (Tame::default(), Tame::default());
        let shown = whole.take(text);
        let pieces: String = text.chars().map(|letter| cut.take(&letter.to_string())).collect();
        assert_eq!(shown, pieces, "{text:?} cut into letters");
        shown
    }

    #[test]
    fn what_shows_passes_and_what_is_no_showing_does_not() {
        let passes = [
            "plain \u{e9}\u{1f980}\r\n",
            "\x1b[1;31mred\x1b[0m",
            "\x1b[2J\x1b[H",
            "\x1b[?1049h\x1b[?25l",
            "\x1b(0q\x1b(B",
            "\x1b7\x1b8\x1bM",
            "\x1b[3;20r",
            "\x1b[u",
            "\x1b[2 q",
            "\x1b[5S",
            "\x08\x07\t",
            "\x1b[38;2;1;2;3m",
            "\x1b[!p",
        ];
        for text in passes {
            assert_eq!(tamed(text), text);
        }
        let goes = [
            "\x1b[c",
            "\x1b[0c",
            "\x1b[>c",
            "\x1b[=c",
            "\x1b[6n",
            "\x1b[?6n",
            "\x1b[5n",
            "\x1b[21t",
            "\x1b[8;50;132t",
            "\x1b[x",
            "\x1b[5i",
            "\x1b[?5i",
            "\x1b[>q",
            "\x1b[?2026$p",
            "\x1b[?u",
            "\x1b[1;1;1;1;1;1*y",
            "\x1bZ",
            "\x05",
            "\x1b]0;title\x07",
            "\x1b]52;c;ZXZpbA==\x1b\\",
            "\x1b]10;?\x1b\\",
            "\x1bP$qm\x1b\\",
            "\x1bP+q544e\x1b\\",
            "\x1b_Gi=31,a=q;AAAA\x1b\\",
            "\x1b^x\x1b\\",
            "\x1bXx\x1b\\",
            "\u{9b}c",
            "\u{9d}0;x\u{9c}",
            "\u{90}q\u{9c}",
            "\x1b[?1;1;0S",
            "\x1b]0;never ended",
            "\x1b]8;;http://x\x1b\\",
        ];
        for text in goes {
            assert_eq!(tamed(&format!("a{text}")), "a", "{text:?}");
        }
    }

    #[test]
    fn sequences_end_where_they_end_and_lines_as_terminals_end_them() {
        assert_eq!(tamed("\x1b]0;a\x18b"), "b", "a cancelled one is over");
        assert_eq!(tamed("\x1b]0;a\x1b[31mb\x07c"), "c");
        assert_eq!(tamed("\x1b[3\r1mx"), "\r\x1b[31mx");
        assert_eq!(tamed("one\ntwo\n"), "one\r\ntwo\r\n");
        assert_eq!(tamed("one\r\ntwo\n"), "one\r\ntwo\n");
        assert_eq!(tamed(&format!("\x1b[{}m", "1;".repeat(60))).find('\x1b'), None);
    }

    #[test]
    fn the_other_screen_is_left_only_when_it_is_there() {
        for (text, leaves) in
            [("x", false), ("\x1b[?1049hx", true), ("\x1b[?1049hx\x1b[?1049l", false), ("\x1b[?47h", true)]
        {
            let mut tame = Tame::default();
            tame.take(text);
            assert_eq!(tame.restore().contains("\x1b[?1049l"), leaves, "{text:?}");
        }
    }
}
