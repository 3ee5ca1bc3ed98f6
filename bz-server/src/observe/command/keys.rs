//! What a person's bytes mean to a line being typed.
//!
//! Terminals also answer questions of programs through the same stream: those answers are no keys.

use super::utf8::Utf8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Text(char),
    /// Takes back the character before.
    Erase,
    /// Takes back the whole line.
    EraseLine,
    /// Changes the line in a way that only the shell knows: an arrow, completion, history, search.
    Edit,
    Enter,
    /// Gives the line up.
    Cancel,
    /// The beginning of a key or of an answer.
    Begun,
    /// It was an answer.
    Answered,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    utf8: Utf8,
    state: State,
    pasting: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// A control sequence; so many of its characters as are needed to know a paste.
    Sequence(String),
    Single,
    /// An answer such as a color; a person's key with the same beginning ends with the next control character.
    Answer,
    AnswerEnd,
}

/// As long as `200`, which begins a paste, and one more so that a longer one is not taken for it.
const LONGEST_SEQUENCE: usize = 4;

impl Keys {
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for character in self.utf8.decode(bytes).chars() {
            self.take(character, &mut keys);
        }
        keys
    }

    fn take(&mut self, character: char, keys: &mut Vec<Key>) {
        let state = std::mem::take(&mut self.state);
        if matches!(character, '\x00'..='\x1a' | '\x1c'..='\x1f') && !matches!(state, State::Ground) {
            if matches!((state, character), (State::Answer, '\x07')) {
                return keys.push(Key::Answered);
            }
            keys.push(Key::Edit);
            return keys.extend(self.plain(character));
        }
        self.state = match (state, character) {
            (State::Answer, '\x1b') => State::AnswerEnd,
            (State::Answer, _) => State::Answer,
            (State::AnswerEnd, '\\') => {
                keys.push(Key::Answered);
                State::Ground
            }
            (_, '\x1b') => State::Escape,
            (State::Ground, _) => {
                keys.extend(self.plain(character));
                State::Ground
            }
            (State::Escape | State::AnswerEnd, '[') => State::Sequence(String::new()),
            (State::Escape | State::AnswerEnd, 'O') => State::Single,
            (State::Escape | State::AnswerEnd, ']' | 'P' | 'X' | '^' | '_') => {
                keys.push(Key::Begun);
                State::Answer
            }
            (State::Escape | State::AnswerEnd | State::Single, _) => {
                keys.push(Key::Edit);
                State::Ground
            }
            (State::Sequence(parameters), '\x40'..='\x7e') => {
                keys.extend(self.sequence(&parameters, character));
                State::Ground
            }
            (State::Sequence(mut parameters), _) => {
                if parameters.len() < LONGEST_SEQUENCE {
                    parameters.push(character);
                }
                State::Sequence(parameters)
            }
        };
    }

    fn plain(&self, character: char) -> Option<Key> {
        match character {
            _ if self.pasting && character.is_control() => Some(Key::Edit),
            '\r' | '\n' => Some(Key::Enter),
            '\x03' | '\x1a' | '\x1c' => Some(Key::Cancel),
            '\x08' | '\x7f' => Some(Key::Erase),
            '\x15' => Some(Key::EraseLine),
            '\x04' | '\x0c' | '\0' => None, // the end of a file, or the same line drawn anew
            _ if character.is_control() => Some(Key::Edit),
            _ => Some(Key::Text(character)),
        }
    }

    fn sequence(&mut self, parameters: &str, last: char) -> Option<Key> {
        match (parameters, last) {
            ("200", '~') => {
                self.pasting = true;
                None
            }
            ("201", '~') => {
                self.pasting = false;
                None
            }
            (_, 'A'..='H' | 'P'..='Q' | 'S' | 'Z' | '~' | 'u') => Some(Key::Edit),
            _ => None,
        }
    }
}
