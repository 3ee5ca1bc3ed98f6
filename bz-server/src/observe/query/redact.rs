//! Statements as the log shows them: without passwords always, without any literal where the policy says so.
//!
//! SQL is read as tokens, never as grammar: what is a string, a number or a comment is the same in every statement. A
//! statement that was cut ends within a token, which is then as long as what is there.

use std::ops::Range;

mod token;

use self::token::{Token, next};

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    MySql,
}

/// How a statement's text is to be read and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) dialect: Dialect,
    /// Whether a backslash in a plain string takes the next character.
    pub(super) backslash: bool,
    /// Whether literals are kept out.
    pub(super) redact: bool,
}

/// A statement as the log shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) text: String,
    /// Its first word, in capitals.
    pub(super) kind: String,
    /// It says a password: parameters and messages about it are not shown either.
    pub(super) secret: bool,
}

/// What stands for a secret.
const HIDDEN: &str = "'***'";
/// What stands for any literal.
const LITERAL: &str = "?";
/// A longer first word is no word of SQL.
const LONGEST_KIND: usize = 20;

/// The statement as the log shows it, control characters not yet escaped.
pub(super) fn shown(text: &str, style: Style) -> Shown {
    let mut shown = Shown { text: String::with_capacity(text.len()), kind: String::new(), secret: false };
    let mut secret = Secret::default();
    for (token, piece) in tokens(text, style) {
        match token {
            Token::Word => {
                let word = piece.to_ascii_uppercase();
                if shown.kind.is_empty() && word.len() <= LONGEST_KIND {
                    shown.kind.clone_from(&word);
                }
                secret.word(&word, &shown.kind);
                shown.text.push_str(piece);
            }
            Token::Literal | Token::Number => {
                let hidden = secret.literal(token == Token::Literal) || speaks_of_secret(piece);
                shown.secret |= hidden;
                shown.text.push_str(match (style.redact, hidden) {
                    (true, _) => LITERAL,
                    (false, true) => HIDDEN,
                    (false, false) => piece,
                });
            }
            Token::Comment if style.redact || speaks_of_secret(piece) => {
                shown.secret |= speaks_of_secret(piece);
                shown.text.push(' ');
            }
            Token::Symbol => {
                shown.secret |= secret.symbol(piece);
                shown.text.push_str(piece);
            }
            Token::Comment | Token::Space | Token::Name => shown.text.push_str(piece),
        }
        shown.secret |= secret.rest;
    }
    shown
}

/// Where in a statement a password may come.
#[derive(Debug, Default)]
struct Secret {
    /// Soon: a word for one was just said.
    next: bool,
    /// It came; strings that continue it may follow.
    came: bool,
    /// From here on to the statement's end.
    rest: bool,
}

impl Secret {
    fn word(&mut self, word: &str, kind: &str) {
        let says = word.ends_with("PASSWORD") || word == "PASSWD" || word == "PWD";
        let joins = matches!(word, "BY" | "AS" | "IS" | "USING" | "TO" | "LIKE");
        let changes = matches!(kind, "ALTER" | "CREATE" | "SET" | "GRANT" | "CHANGE");
        self.next = says || (self.next && joins && !self.came);
        self.came = false;
        self.rest |= word == "IDENTIFIED" || (says && changes);
    }

    fn literal(&mut self, text: bool) -> bool {
        self.came = true;
        self.next || (self.rest && text)
    }

    /// Whether it is a parameter that stands for one.
    fn symbol(&mut self, symbol: &str) -> bool {
        let parameter = symbol == "?" || symbol.len() > 1;
        self.next &= !self.came && !matches!(symbol, ";" | ",");
        self.rest &= symbol != ";";
        self.next && parameter
    }
}

/// A message of the database about a statement: what it quotes, and every number, is left out.
pub(super) fn message(text: &str) -> String {
    let quote = |c: char| matches!(c, '\'' | '"' | '`' | '«' | '»' | '“' | '”' | '„');
    // From the first quotation mark to the last: what is quoted may hold some of its own.
    let (first, last) = (text.find(quote), text.rfind(quote));
    let kept = match (first, last) {
        (Some(first), Some(last)) => {
            let end = text.get(last..).and_then(|rest| rest.chars().next()).map_or(last, |c| last + c.len_utf8());
            [text.get(..first), Some(LITERAL), text.get(end..)].into_iter().flatten().collect()
        }
        _ => text.to_owned(),
    };
    let mut out = String::with_capacity(kept.len());
    for character in kept.chars() {
        match character {
            '0'..='9' if out.ends_with(LITERAL) => {}
            '0'..='9' => out.push_str(LITERAL),
            _ => out.push(character),
        }
    }
    out
}

/// Where the statements of a text are, without the semicolons between them; only those that say something.
pub(super) fn split(text: &str, style: Style, most: usize) -> Vec<Range<usize>> {
    let (mut found, mut from, mut at) = (Vec::new(), 0, 0_usize);
    let (mut says, mut body) = (false, Body::default());
    for (token, piece) in tokens(text, style) {
        let ends = token == Token::Symbol && piece == ";" && body.depth == 0;
        if ends && found.len().saturating_add(1) < most {
            if says {
                found.push(from..at);
            }
            (from, says, body) = (at.saturating_add(1), false, Body::default());
        } else {
            says |= !matches!(token, Token::Space | Token::Comment) && !ends;
            if token == Token::Word && style.dialect == Dialect::Postgres {
                body.word(&piece.to_ascii_uppercase());
            }
        }
        at = at.saturating_add(piece.len());
    }
    if says {
        found.push(from..text.len());
    }
    found
}

/// The body of a function in SQL, `BEGIN ATOMIC … END`, whose semicolons end nothing.
#[derive(Debug, Default)]
struct Body {
    words: u32,
    creates: bool,
    makes_function: bool,
    depth: u32,
}

impl Body {
    fn word(&mut self, word: &str) {
        self.words = self.words.saturating_add(1);
        match word {
            "CREATE" if self.words == 1 => self.creates = true,
            "FUNCTION" | "PROCEDURE" if self.creates && self.words <= 4 => self.makes_function = true,
            "BEGIN" if self.makes_function => self.depth = self.depth.saturating_add(1),
            "CASE" if self.depth > 0 => self.depth = self.depth.saturating_add(1),
            "END" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// Whether a literal or a comment holds what looks like a secret of its own: a connection string, or SQL that sets one.
fn speaks_of_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let lower = lower.trim_end_matches(['\'', '"', '$']);
    let after = |word: &str| {
        let mut rest = lower;
        let mut found = false;
        while let Some((_, behind)) = rest.split_once(word) {
            found |= behind.trim_start().starts_with(['=', '\'', '"', '$', '(']);
            found |= behind.trim_start().starts_with("for ") || behind.trim_start().starts_with("to ");
            rest = behind;
        }
        found
    };
    let address = lower.split_once("://").is_some_and(|(_, rest)| {
        rest.split_once('@').is_some_and(|(user, _)| user.contains(':') && !user.contains(['/', ' ']))
    });
    after("password") || after("passwd") || lower.contains("identified by") || address
}

fn tokens(text: &str, style: Style) -> impl Iterator<Item = (Token, &str)> {
    let (mut rest, mut before) = (text, ' ');
    std::iter::from_fn(move || {
        let (token, length) = next(rest, style, before)?;
        let (piece, after) = rest.split_at_checked(length)?;
        before = piece.chars().next_back()?;
        rest = after;
        Some((token, piece))
    })
}

#[cfg(test)]
mod tests;
