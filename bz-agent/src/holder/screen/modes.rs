//! Modes that change what a terminal sends instead of what it shows: the mouse, pasted text, focus,
//! the keypad. The emulator does not keep them, and without them a client that attaches to an editor
//! has no mouse. Pure.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Mouse tracking and its encodings, focus, alternate scroll, bracketed paste.
const KEPT: [u16; 10] = [9, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 2004];

#[derive(Debug, Default)]
pub(super) struct Modes {
    on: BTreeSet<u16>,
    keypad: bool,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    /// Behind `ESC [`.
    Control,
    /// Behind `ESC [ ?`, with the numbers so far; longer lists than this name nothing kept here.
    Private(Vec<u16>),
}

const LONGEST: usize = 16;

impl Modes {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let state = std::mem::take(&mut self.state);
            self.state = self.step(state, *byte);
        }
    }

    fn step(&mut self, state: State, byte: u8) -> State {
        match (state, byte) {
            (_, 0x1b) => State::Escape,
            (State::Escape, b'[') => State::Control,
            (State::Escape, b'c') => {
                *self = Self::default();
                State::Ground
            }
            (State::Escape, b'=' | b'>') => {
                self.keypad = byte == b'=';
                State::Ground
            }
            (State::Control, b'?') => State::Private(vec![0]),
            (State::Private(mut numbers), b'0'..=b'9') => {
                if let Some(last) = numbers.last_mut() {
                    *last = last.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                }
                State::Private(numbers)
            }
            (State::Private(mut numbers), b';') if numbers.len() < LONGEST => {
                numbers.push(0);
                State::Private(numbers)
            }
            (State::Private(numbers), b'h' | b'l') => {
                self.set(&numbers, byte == b'h');
                State::Ground
            }
            (State::Ground | State::Escape | State::Control | State::Private(_), _) => State::Ground,
        }
    }

    fn set(&mut self, numbers: &[u16], on: bool) {
        for number in numbers.iter().filter(|number| KEPT.contains(number)) {
            if on {
                self.on.insert(*number);
            } else {
                self.on.remove(number);
            }
        }
    }

    pub(super) fn dump(&self) -> String {
        let mut dump = String::from(if self.keypad { "\x1b=" } else { "\x1b>" });
        for number in KEPT {
            let letter = if self.on.contains(&number) { 'h' } else { 'l' };
            if write!(dump, "\x1b[?{number}{letter}").is_err() {
                break;
            }
        }
        dump
    }
}
