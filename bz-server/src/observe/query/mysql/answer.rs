//! Answers of the server.

use bz_core::api::record::QueryOutcome;

use crate::observe::query::cut::{Fields, Malformed};
use crate::observe::query::mysql::command::{Command, used};
use crate::observe::query::mysql::{CONTINUED, MySqlLens, Status, can};
use crate::observe::query::value::length_encoded_number;
use crate::observe::query::{QueryError, Statement, name};

/// An end of rows in the old form is shorter.
const LONGEST_EOF: usize = 9;
/// A word about progress in the place of an error's number.
const PROGRESS: u16 = 0xffff;

/// What comes next of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    First,
    /// So many descriptions of columns, then what is between them and the rows.
    Columns(u64),
    BeforeRows,
    Rows,
    /// So many packets of a prepared statement's description.
    Description(u64),
}

impl MySqlLens {
    pub(super) fn answer(&mut self, length: usize, body: &[u8]) -> Result<(), Malformed> {
        let first = body.first().copied();
        if first == Some(0xff) && error_number(body) == Some(PROGRESS) {
            return Ok(());
        }
        let ends_rows = first == Some(0xfe) && length < if self.deprecates_eof() { CONTINUED } else { LONGEST_EOF };
        match self.expect {
            Expect::First => return self.first_of_answer(length, body),
            Expect::Columns(_) | Expect::BeforeRows | Expect::Rows if first == Some(0xff) => self.failed(body),
            Expect::Columns(left) => self.expect = self.after_columns(left.saturating_sub(1)),
            Expect::BeforeRows => {
                let cursor = eof_status(body).is_some_and(|status| status.has(Status::CURSOR));
                self.expect = Expect::Rows;
                if cursor {
                    self.done(None, eof_status(body).ok_or(Malformed)?);
                }
            }
            Expect::Rows if ends_rows => {
                let status = if self.deprecates_eof() { self.status_of_ok(body) } else { eof_status(body) };
                let rows = std::mem::take(&mut self.rows);
                self.done(Some(rows), status.ok_or(Malformed)?);
            }
            Expect::Rows => self.rows = self.rows.saturating_add(1),
            Expect::Description(left) if left > 1 => self.expect = Expect::Description(left.saturating_sub(1)),
            Expect::Description(_) => drop(self.pop()),
        }
        Ok(())
    }

    const fn deprecates_eof(&self) -> bool {
        self.can & can::DEPRECATE_EOF != 0
    }

    const fn after_columns(&self, left: u64) -> Expect {
        match (left, self.deprecates_eof()) {
            (0, true) => Expect::Rows,
            (0, false) => Expect::BeforeRows,
            _ => Expect::Columns(left),
        }
    }

    fn first_of_answer(&mut self, length: usize, body: &[u8]) -> Result<(), Malformed> {
        let first = body.first().copied().ok_or(Malformed)?;
        let Some(command) = self.waiting.front() else {
            // Nobody asked: the server ends the connection.
            if first == 0xff {
                let now = self.log.now;
                self.log.fail(&Statement::named("SESSION", ""), now, error(body)).millis = None;
            }
            return Ok(());
        };
        match command {
            Command::Text => drop(self.pop()),
            _ if first == 0xff => self.failed(body),
            Command::Query(_) | Command::Execute(_) => match first {
                0x00 => {
                    let affected = length_encoded_number(&mut Fields(body.get(1..).unwrap_or_default()));
                    let status = self.status_of_ok(body).ok_or(Malformed)?;
                    self.done(affected, status);
                }
                0xfb => {
                    self.sending_file = true;
                    let file = name(body.get(1..).unwrap_or_default());
                    let now = self.log.now;
                    let file = if self.log.redact { "?".to_owned() } else { file };
                    self.log.add(&Statement::named("LOCAL INFILE", &file), QueryOutcome::Done, now).millis = None;
                }
                _ => self.expect = self.columns(body).ok_or(Malformed)?,
            },
            Command::Prepare(..) => self.prepared_answer(body).ok_or(Malformed)?,
            Command::Rows => {
                self.expect = Expect::Rows;
                return self.answer(length, body);
            }
            Command::ChangeUser { .. } if first != 0x00 => {}
            Command::Simple(..) | Command::Use(..) | Command::ChangeUser { .. } => self.simple(),
        }
        Ok(())
    }

    /// How many columns rows have, and whether they are described.
    fn columns(&self, body: &[u8]) -> Option<Expect> {
        let mut fields = Fields(body);
        let count = length_encoded_number(&mut fields)?;
        let says = self.can & (can::OPTIONAL_METADATA | can::MARIADB_CACHED_METADATA) != 0;
        let described = !says || fields.byte()? != 0;
        Some(self.after_columns(if described { count } else { 0 }))
    }

    fn prepared_answer(&mut self, body: &[u8]) -> Option<()> {
        let mut fields = Fields(body.get(1..)?);
        let id = u32::from_le_bytes(fields.array()?);
        let columns = u64::from(u16::from_le_bytes(fields.array()?));
        let parameters = u16::from_le_bytes(fields.array()?);
        // Filler, warnings.
        fields.take(3)?;
        let described = self.can & can::OPTIONAL_METADATA == 0 || fields.byte().is_none_or(|follow| follow != 0);
        let Some(Command::Prepare(text, _)) = self.waiting.front_mut() else { return None };
        let text = std::mem::take(text);
        self.held = self.held.saturating_sub(text.len());
        self.prepare(&text, id, parameters);
        let ends = |count: u64| if count > 0 && !self.deprecates_eof() { 1 } else { 0 };
        let parts = u64::from(parameters);
        let packets = [parts, ends(parts), columns, ends(columns)].iter().sum();
        if described && packets > 0 {
            self.expect = Expect::Description(packets);
        } else {
            drop(self.pop());
        }
        Some(())
    }

    fn simple(&mut self) {
        match self.pop() {
            Some(Command::Use(database, at)) => {
                self.uses(&database);
                self.log.add(&used(&database), QueryOutcome::Done, at);
            }
            Some(Command::ChangeUser { user, database, at }) => {
                (self.log.user, self.log.database) = (user, database);
                self.log.add(&Statement::named("LOGIN", ""), QueryOutcome::Done, at);
            }
            Some(Command::Simple(Some(statement), at)) => {
                self.log.add(&statement, QueryOutcome::Done, at);
            }
            Some(
                Command::Simple(None, _)
                | Command::Query(_)
                | Command::Prepare(..)
                | Command::Execute(_)
                | Command::Rows
                | Command::Text,
            )
            | None => {}
        }
    }

    /// The end of a set of rows, or of a statement without one.
    fn done(&mut self, rows: Option<u64>, status: Status) {
        let (more, set) = (status.has(Status::MORE), self.expect != Expect::First);
        self.expect = Expect::First;
        self.total = match (self.total, rows) {
            // What a procedure itself changed is not said beside the rows that it gave.
            (Some(total), Some(rows)) if set => Some(total.saturating_add(rows)),
            (total, rows) => total.or(rows),
        };
        let at = self.before.replace(self.log.now);
        match self.waiting.front_mut() {
            Some(Command::Query(text)) => {
                let at = at.unwrap_or(text.at);
                let whole = 0..text.text.len();
                let several = text.pieces.len() > 1;
                let piece = match (text.pieces.front().cloned(), text.pieces.back()) {
                    // Semicolons within what was one statement.
                    (Some(first), Some(last)) if !more => first.start..last.end,
                    (Some(first), _) => first,
                    (None, _) => whole,
                };
                let text_of = text.text.clone();
                let statement = self.statement(&text_of, piece);
                if more && (!several || (set && statement.kind == "CALL")) {
                    // The last of them, or a procedure, goes on.
                    self.before = Some(at);
                    return;
                }
                if let Some(Command::Query(text)) = self.waiting.front_mut() {
                    text.pieces.pop_front();
                }
                self.ran(&statement, Vec::new(), at);
            }
            Some(Command::Execute(execution)) => {
                let at = execution.at;
                if more {
                    return;
                }
                if let Some(Command::Execute(execution)) = self.pop_keeping_total() {
                    let (statement, values) = self.executed(&execution);
                    self.ran(&statement, values, at);
                }
                return;
            }
            Some(
                Command::Prepare(..)
                | Command::Rows
                | Command::Simple(..)
                | Command::Use(..)
                | Command::ChangeUser { .. }
                | Command::Text,
            )
            | None => {}
        }
        if !more {
            drop(self.pop());
        }
    }

    fn ran(&mut self, statement: &Statement, values: Vec<Option<String>>, at: u64) {
        let rows = self.total.take();
        let line = self.log.add(statement, QueryOutcome::Done, at);
        (line.rows, line.parameters) = (rows, values);
        if statement.kind == "USE" {
            let database = statement.text.get(3..).unwrap_or_default();
            let database = database.trim().trim_end_matches(';').trim().trim_matches('`');
            self.log.database = database.to_owned();
        }
    }

    fn failed(&mut self, body: &[u8]) {
        let (error, before) = (error(body), self.before);
        let Some(command) = self.pop() else { return };
        match command {
            Command::Query(mut text) => {
                let at = before.unwrap_or(text.at);
                let first = text.pieces.pop_front().unwrap_or(0..text.text.len());
                let statement = self.statement(&text.text, first);
                self.log.fail(&statement, at, error);
                if !text.pieces.is_empty() {
                    self.left(Command::Query(text), QueryOutcome::Skipped);
                }
            }
            Command::Prepare(text, at) => {
                let statement = Statement::read(&String::from_utf8_lossy(&text), self.style());
                self.log.fail(&statement, at, error);
            }
            Command::Execute(execution) => {
                let (statement, values) = self.executed(&execution);
                self.log.fail(&statement, execution.at, error).parameters = values;
            }
            Command::Use(database, at) => {
                self.log.fail(&used(&database), at, error);
            }
            Command::ChangeUser { at, .. } => {
                self.log.fail(&Statement::named("LOGIN", ""), at, error);
            }
            Command::Simple(Some(statement), at) => {
                self.log.fail(&statement, at, error);
            }
            Command::Simple(None, _) | Command::Rows | Command::Text => {}
        }
    }

    /// What an OK says, also of how strings are to be read.
    pub(super) fn status_of_ok(&mut self, body: &[u8]) -> Option<Status> {
        let mut fields = Fields(body.get(1..)?);
        // Rows that were changed, and the last number that was given.
        length_encoded_number(&mut fields)?;
        length_encoded_number(&mut fields)?;
        let status = Status::read(&mut fields)?;
        self.plain_backslash = status.has(Status::PLAIN_BACKSLASH);
        Some(status)
    }
}

/// The old end of rows: warnings, then the status.
fn eof_status(body: &[u8]) -> Option<Status> {
    Status::read(&mut Fields(body.get(3..)?))
}

fn error_number(body: &[u8]) -> Option<u16> {
    Fields(body.get(1..)?).array().map(u16::from_le_bytes)
}

/// What an error says: its number, its SQLSTATE where there is one, and words.
pub(super) fn error(body: &[u8]) -> QueryError {
    let rest = body.get(3..).unwrap_or_default();
    match rest.split_first() {
        Some((b'#', rest)) => {
            let (state, message) = rest.split_at_checked(5).unwrap_or((rest, &[]));
            QueryError { code: name(state), message: name(message) }
        }
        _ => QueryError { code: String::new(), message: name(rest) },
    }
}
