//! The tokens of SQL, as both dialects have them.

use crate::observe::query::redact::{Dialect, Style};

/// What a piece of a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Space,
    Comment,
    Word,
    /// A quoted name.
    Name,
    Number,
    /// A string of any kind.
    Literal,
    /// Anything else, one character; also what opens a comment that MySQL executes.
    Symbol,
}

/// What comes first in `rest` and how long it is; `None` at the end. `before` is the character before it.
pub(super) fn next(rest: &str, style: Style, before: char) -> Option<(Token, usize)> {
    let first = rest.chars().next()?;
    let mysql = style.dialect == Dialect::MySql;
    let found = match first {
        _ if first.is_whitespace() => (Token::Space, while_chars(rest, char::is_whitespace)),
        '-' if begins_line_comment(rest, mysql) => (Token::Comment, line(rest)),
        '#' if mysql => (Token::Comment, line(rest)),
        '/' if mysql && (rest.starts_with("/*!") || rest.starts_with("/*M!")) => {
            let marks = if rest.starts_with("/*!") { 3 } else { 4 };
            let version = while_chars(rest.get(marks..).unwrap_or_default(), |c| c.is_ascii_digit());
            (Token::Symbol, marks.saturating_add(version))
        }
        '/' if rest.starts_with("/*") => (Token::Comment, block(rest, !mysql)),
        '\'' => (Token::Literal, quoted(rest, '\'', style.backslash)),
        '"' if mysql => (Token::Literal, quoted(rest, '"', style.backslash)),
        '"' => (Token::Name, quoted(rest, '"', false)),
        '`' if mysql => (Token::Name, quoted(rest, '`', false)),
        '$' if !mysql => dollar(rest),
        '0'..='9' => (Token::Number, number(rest)),
        '.' if rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit()) && !in_word(before) && before != '"' => {
            (Token::Number, number(rest))
        }
        _ if begins_word(first) => word(rest, style),
        _ => (Token::Symbol, first.len_utf8()),
    };
    Some(found)
}

const fn begins_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

const fn in_word(c: char) -> bool {
    begins_word(c) || c.is_ascii_digit() || c == '$'
}

fn while_chars(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// A word, or the literal that one letter before a quotation mark makes.
fn word(rest: &str, style: Style) -> (Token, usize) {
    let length = while_chars(rest, in_word);
    let (word, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
    let prefix = word.to_ascii_uppercase();
    let (prefix, marks) = match (prefix.as_str(), style.dialect) {
        ("U", Dialect::Postgres) if after.starts_with("&'") || after.starts_with("&\"") => ("U", 1),
        (prefix, _) => (prefix, 0),
    };
    let after = after.get(marks..).unwrap_or_default();
    let length = length.saturating_add(marks);
    if prefix == "U" && after.starts_with('"') && marks == 1 {
        return (Token::Name, length.saturating_add(quoted(after, '"', false)));
    }
    let escapes = match (prefix, style.dialect) {
        ("E", Dialect::Postgres) => Some(true),
        ("U", Dialect::Postgres) if marks == 1 => Some(false),
        ("N" | "B" | "X", _) => Some(style.backslash),
        _ => None,
    };
    match escapes {
        Some(backslash) if after.starts_with('\'') => {
            (Token::Literal, length.saturating_add(quoted(after, '\'', backslash)))
        }
        _ => (Token::Word, length.saturating_sub(marks)),
    }
}

/// From a quotation mark to the one that ends it, both included.
fn quoted(text: &str, mark: char, backslash: bool) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if backslash && character == '\\' {
            characters.next();
        } else if character == mark && characters.next_if(|(_, c)| *c == mark).is_none() {
            return at.saturating_add(mark.len_utf8());
        }
    }
    text.len()
}

/// `$1`, or `$tag$ … $tag$`.
fn dollar(rest: &str) -> (Token, usize) {
    let behind = rest.get(1..).unwrap_or_default();
    if behind.starts_with(|c: char| c.is_ascii_digit()) {
        return (Token::Symbol, while_chars(behind, |c| c.is_ascii_digit()).saturating_add(1));
    }
    let tag = while_chars(behind, |c| in_word(c) && c != '$').saturating_add(2);
    match rest.get(..tag) {
        Some(tag) if tag.ends_with('$') => {
            let body = rest.get(tag.len()..).unwrap_or_default();
            let end = body.find(tag).map_or(rest.len(), |end| end.saturating_add(tag.len().saturating_mul(2)));
            (Token::Literal, end)
        }
        _ => (Token::Symbol, 1),
    }
}

/// A number, with whatever letters stick to it.
fn number(text: &str) -> usize {
    let mut length = 0_usize;
    let mut before = ' ';
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    for character in text.chars() {
        let exponent = matches!(before, 'e' | 'E') && matches!(character, '+' | '-') && !hexadecimal;
        if !(character.is_ascii_alphanumeric() || matches!(character, '_' | '.') || exponent) {
            break;
        }
        length = length.saturating_add(character.len_utf8());
        before = character;
    }
    length
}

fn begins_line_comment(rest: &str, mysql: bool) -> bool {
    let behind = rest.strip_prefix("--");
    behind.is_some_and(|behind| {
        !mysql || behind.is_empty() || behind.starts_with(|c: char| c.is_whitespace() || c.is_control())
    })
}

fn line(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}

/// A comment between `/*` and `*/`; PostgreSQL's hold others.
fn block(text: &str, nested: bool) -> usize {
    let (mut at, mut depth) = (2_usize, 1_u32);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("*/") {
            (at, depth) = (at.saturating_add(2), depth.saturating_sub(1));
            if depth == 0 {
                return at;
            }
        } else if nested && rest.starts_with("/*") {
            (at, depth) = (at.saturating_add(2), depth.saturating_add(1));
        } else {
            at = at.saturating_add(rest.chars().next().map_or(1, char::len_utf8));
        }
    }
    text.len()
}
