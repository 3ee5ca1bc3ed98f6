//! How a command line is written into the log, and how the shell's mark writes it.

use crate::observe::LONGEST_LINE;

/// The line as the log shows it; `None` if there is nothing to show.
#[must_use]
pub fn shown(line: &str) -> Option<String> {
    let text = shown_whole(line.trim());
    (!text.is_empty()).then_some(text)
}

/// The same of text whose spaces at both ends mean something.
#[must_use]
pub fn shown_whole(line: &str) -> String {
    let mut text = String::new();
    for character in line.chars() {
        if text.len() + 10 > LONGEST_LINE {
            break; // ten bytes are the longest that one character becomes
        }
        match character {
            '\0'..='\x1f' | '\x7f' => text.push_str(&format!("\\x{:02x}", u32::from(character))),
            _ if character.is_control() || misleads(character) => text.extend(character.escape_unicode()),
            _ => text.push(character),
        }
    }
    text
}

/// Whether a character shows as itself, and changes nothing around it.
#[must_use]
pub fn is_plain(character: char) -> bool {
    !character.is_control() && !misleads(character)
}

/// Characters that show nothing but change how their neighbors are shown.
fn misleads(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Dots or stars that stand for a secret.
#[must_use]
pub(super) fn masks(line: &str) -> bool {
    line.chars().all(|character| matches!(character, '*' | '•' | '●'))
}

/// The line of a mark: `\\` is a backslash and `\x3b` the character with that number.
#[must_use]
pub(super) fn unescaped(mark: &str) -> String {
    let mut text = String::new();
    let mut rest = mark;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let coded = after.strip_prefix('x').and_then(|code| code.get(..2));
        let coded = coded.filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let number = coded.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(u8::is_ascii);
        rest = if let Some(number) = number {
            text.push(char::from(number));
            after.get(3..).unwrap_or_default()
        } else {
            text.push('\\');
            after.strip_prefix('\\').unwrap_or(after)
        };
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_the_shells_write_them() {
        for (mark, line) in [
            ("echo one", "echo one"),
            (r"printf 'a\x3bb\\n'", r"printf 'a;b\n'"),
            (r"echo 'two\x0alines'", "echo 'two\nlines'"),
            (r"\\x3b \", r"\x3b \"),
            (r"\x3 \xzz \xff \x+1 \é", r"\x3 \xzz \xff \x+1 \é"),
            ("", ""),
        ] {
            assert_eq!(unescaped(mark), line, "of {mark}");
        }
    }

    #[test]
    fn nothing_in_the_log_moves_a_cursor_or_turns_the_text() {
        assert_eq!(shown("  a\nb\x1b[2J\u{9b}\u{202e}é\x7f "), Some(r"a\x0ab\x1b[2J\u{9b}\u{202e}é\x7f".into()));
        assert_eq!(shown(" \t "), None);
        let long = shown(&"\u{feff}日".repeat(LONGEST_LINE)).unwrap();
        assert!(long.len() <= LONGEST_LINE && long.len() > LONGEST_LINE - 16, "{} bytes", long.len());
    }
}
