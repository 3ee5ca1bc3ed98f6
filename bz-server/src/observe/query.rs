//! Which statements a database session ran, read from the plaintext of its streams: one reader for each.
//!
//! Pure, and the same lines whatever the bytes are cut into. What a reader cannot read it says once, as
//! [`QueryOutcome::Unparsed`], and then it is silent: the traffic passes in any case. Of a message no more than
//! `MOST_OF_A_MESSAGE` is kept, of all that waits for its answer no more than `MOST_WAITING`.
//!
//! Passwords are never in a line: not those of logins, which are skipped, nor those that a statement sets.

mod cut;
mod mysql;
mod postgres;
mod redact;
mod streams;
mod value;

use bz_core::access::upstream::Wire;
use bz_core::api::record::QueryOutcome;
use bz_protocol::keys::Direction;

pub use self::mysql::MySqlLens;
pub use self::postgres::PostgresLens;
pub use self::streams::QueriesLens;

use crate::observe::command::text;

/// The most of a message that is read; the rest of it is skipped.
const MOST_OF_A_MESSAGE: usize = 64 << 10;
/// The most bytes of statements and parameters that wait for their answers, and of those that are prepared.
const MOST_WAITING: usize = 4 << 20;
/// The most statements that are prepared, or portals that are open, at once.
const MOST_PREPARED: usize = 4096;
/// The most requests that wait for an answer.
const MOST_REQUESTS: usize = 1 << 16;
/// Statements in one text; what is behind them is shown with the last.
const MOST_STATEMENTS: usize = 1000;
/// The most characters of a message, a name, or a parameter.
const LONGEST_NAME: usize = 1024;
/// The most parameters of one statement that are shown.
const MOST_PARAMETERS: usize = 256;

/// One row for the log of queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryLine {
    /// When it was asked, in milliseconds since 1970.
    pub at: u64,
    /// The database's user who logged in.
    pub user: String,
    /// The database.
    pub database: String,
    /// What kind of statement: its first words.
    pub kind: String,
    /// Its text, safe to show.
    pub statement: String,
    /// Values of its parameters; `None` is a NULL.
    pub parameters: Vec<Option<String>>,
    /// What became of it.
    pub outcome: QueryOutcome,
    /// Rows that came, or were changed, where the database says so.
    pub rows: Option<u64>,
    /// How long the answer took, in milliseconds.
    pub millis: Option<u64>,
    /// What the database, or the reader, says is wrong.
    pub error: Option<QueryError>,
}

/// What is wrong with a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// The database's code (SQLSTATE); empty when it is the reader's word.
    pub code: String,
    /// In words, safe to show.
    pub message: String,
}

/// Reads one stream of a database session.
#[derive(Debug, Clone)]
pub enum QueryLens {
    /// Of PostgreSQL's protocol.
    Postgres(Box<PostgresLens>),
    /// Of MySQL's.
    MySql(Box<MySqlLens>),
}

impl QueryLens {
    /// A lens on a stream that begins now; whether literals are kept out of its lines. `None` where nothing is read.
    #[must_use]
    pub fn new(wire: Wire, redact: bool) -> Option<Self> {
        match wire {
            Wire::Postgres => Some(Self::Postgres(Box::new(PostgresLens::new(redact)))),
            Wire::Mysql => Some(Self::MySql(Box::new(MySqlLens::new(redact)))),
            Wire::Plain => None,
        }
    }

    /// Reads no more of it, and says why.
    #[must_use]
    pub fn lost(&mut self, now_millis: u64, why: &str) -> Vec<QueryLine> {
        let log = match self {
            Self::Postgres(lens) => lens.log(),
            Self::MySql(lens) => lens.log(),
        };
        log.now = now_millis;
        log.lose(why);
        log.take()
    }

    /// Bytes of the stream.
    #[must_use]
    pub fn bytes(&mut self, now_millis: u64, way: Direction, bytes: &[u8]) -> Vec<QueryLine> {
        match self {
            Self::Postgres(lens) => lens.bytes(now_millis, way, bytes),
            Self::MySql(lens) => lens.bytes(now_millis, way, bytes),
        }
    }

    /// What is left to say when nothing more comes: statements that were not answered.
    #[must_use]
    pub fn finish(&mut self) -> Vec<QueryLine> {
        match self {
            Self::Postgres(lens) => lens.finish(),
            Self::MySql(lens) => lens.finish(),
        }
    }
}

/// What every line of a stream has in common, and the lines that wait to be taken.
#[derive(Debug, Clone, Default)]
struct Log {
    user: String,
    database: String,
    redact: bool,
    now: u64,
    lines: Vec<QueryLine>,
    /// Nothing is read any more.
    lost: bool,
}

/// A statement as it is known until it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    text: String,
    kind: String,
    /// Neither parameters nor messages about it are shown.
    secret: bool,
}

impl Statement {
    fn read(text: &str, style: redact::Style) -> Self {
        let shown = redact::shown(text, style);
        Self { text: text::shown(&shown.text).unwrap_or_default(), kind: shown.kind, secret: shown.secret }
    }

    /// Something that is no SQL.
    fn named(kind: &str, text: &str) -> Self {
        Self { text: name(text.as_bytes()), kind: kind.to_owned(), secret: false }
    }
}

impl Log {
    fn new(redact: bool) -> Self {
        Self { redact, ..Self::default() }
    }

    fn take(&mut self) -> Vec<QueryLine> {
        std::mem::take(&mut self.lines)
    }

    /// Adds a line about a statement, and gives it to be completed.
    fn add(&mut self, statement: &Statement, outcome: QueryOutcome, at: u64) -> &mut QueryLine {
        let answered = matches!(outcome, QueryOutcome::Done | QueryOutcome::Failed);
        let line = QueryLine {
            at,
            user: self.user.clone(),
            database: self.database.clone(),
            kind: statement.kind.clone(),
            statement: statement.text.clone(),
            parameters: Vec::new(),
            outcome,
            rows: None,
            millis: answered.then(|| self.now.saturating_sub(at)),
            error: None,
        };
        self.lines.push(line);
        let last = self.lines.len().saturating_sub(1);
        #[expect(clippy::indexing_slicing, reason = "pushed one line above")]
        &mut self.lines[last]
    }

    /// An answer that says what is wrong.
    fn fail(&mut self, statement: &Statement, at: u64, error: QueryError) -> &mut QueryLine {
        let hide = self.redact || statement.secret;
        let line = self.add(statement, QueryOutcome::Failed, at);
        let message = if hide { redact::message(&error.message) } else { error.message };
        line.error = Some(QueryError { message, ..error });
        line
    }

    /// Says once that the stream cannot be read, and why.
    fn lose(&mut self, why: &str) {
        if !self.lost {
            self.lost = true;
            let at = self.now;
            let line = self.add(&Statement::named("", ""), QueryOutcome::Unparsed, at);
            line.error = Some(QueryError { code: String::new(), message: why.to_owned() });
        }
    }
}

/// Text of the database, safe to show and bounded.
fn name(bytes: &[u8]) -> String {
    let bytes = bytes.get(..LONGEST_NAME).unwrap_or(bytes);
    text::shown(&String::from_utf8_lossy(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
