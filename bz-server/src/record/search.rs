//! What was shown in a recording, as plain lines, searched. An aid to finding the place: what a program painted anywhere
//! on the screen is read in the order in which it came.

use bz_core::api::record::RecordingMatch;
use serde_json::Value;

/// The most lines that are found, and the most characters of a line that are looked at.
const MOST: usize = 1000;
const LONGEST: usize = 4096;

/// The lines of an asciicast's output that hold this text, whatever its letters' case, with the time of their beginning.
#[must_use]
pub fn search(cast: &str, text: &str) -> Vec<RecordingMatch> {
    let wanted = text.to_lowercase();
    let mut screen = Screen::default();
    let mut found = Vec::new();
    for line in cast.lines() {
        let Ok(Value::Array(event)) = serde_json::from_str(line) else { continue };
        let [time, kind, shown] = event.as_slice() else { continue };
        let (Some(time), Some("o"), Some(shown)) = (time.as_f64(), kind.as_str(), shown.as_str()) else { continue };
        for letter in shown.chars() {
            if let Some(whole) = screen.take(time, letter) {
                found.extend(fits(whole, &wanted));
            }
        }
    }
    found.extend(fits(screen.end(), &wanted));
    found.truncate(MOST);
    found
}

fn fits((time, line): (f64, String), wanted: &str) -> Option<RecordingMatch> {
    line.to_lowercase().contains(wanted).then_some(RecordingMatch { offset_seconds: time, line })
}

/// A line as it comes, without what only a terminal understands.
#[derive(Debug, Default)]
struct Screen {
    began: f64,
    line: String,
    within: Within,
}

/// Where in a control sequence.
#[derive(Debug, Default, Clone, Copy)]
enum Within {
    #[default]
    Text,
    Escape,
    /// Up to its final byte.
    Sequence,
    /// Up to its terminator.
    Words,
}

impl Screen {
    fn take(&mut self, time: f64, letter: char) -> Option<(f64, String)> {
        self.within = match (self.within, letter) {
            (Within::Escape, '[') => Within::Sequence,
            (Within::Escape, ']' | 'P' | '_' | '^' | 'X') => Within::Words,
            (Within::Escape, _) => Within::Text,
            (Within::Sequence, '\u{40}'..='\u{7e}') | (Within::Words, '\u{7}') => Within::Text,
            (Within::Text | Within::Words, '\u{1b}') => Within::Escape,
            (within @ (Within::Sequence | Within::Words), _) => within,
            (Within::Text, '\n') => return Some(self.end()),
            (Within::Text, '\u{8}') => {
                self.line.pop();
                Within::Text
            }
            (Within::Text, _) => {
                if self.line.is_empty() {
                    self.began = time;
                }
                if !letter.is_control() && self.line.len() < LONGEST {
                    self.line.push(letter);
                }
                Within::Text
            }
        };
        None
    }

    fn end(&mut self) -> (f64, String) {
        (self.began, std::mem::take(&mut self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F-114~: text is found across events and colors, with the time of its line, and not in what only steers.
    #[test]
    fn text_is_found_with_its_time() {
        let cast = [
            r#"{"version": 2, "width": 80, "height": 24}"#,
            r#"[0.5, "o", "$ ec"]"#,
            r#"[1.25, "o", "ho \u001b[1mHello\u001b[0m world\r\n"]"#,
            r#"[1.5, "i", "hello typed"]"#,
            r#"[2.0, "o", "\u001b]0;hello title\u0007helo\blo\r\nlast hello"]"#,
            r#"[3.0, "r", "80x24"]"#,
        ]
        .join("\n");
        let found =
            |text: &str| search(&cast, text).into_iter().map(|f| (f.offset_seconds, f.line)).collect::<Vec<_>>();
        let line = |time: f64, line: &str| (time, line.to_owned());
        let all = [line(0.5, "$ echo Hello world"), line(2.0, "hello"), line(2.0, "last hello")];
        assert_eq!(found("hello"), all);
        assert_eq!(found("HELLO WORLD"), [line(0.5, "$ echo Hello world")]);
        assert_eq!(found("hello title"), []);
        assert_eq!(found("typed"), []);
        assert_eq!(found("hello"), found("Hello"));
        assert_eq!(found("hellolo"), []);
    }
}
