//! PostgreSQL's protocol, version 3: what the client asks waits in a queue for what the server answers.
//!
//! Requests of the extended protocol may be sent ahead of their answers; when one fails, all up to the next `Sync` are
//! not run. Rows and the content of `COPY` are counted or skipped, notices and notifications are no answers.

use std::collections::VecDeque;
use std::sync::Arc;

use bz_core::api::record::QueryOutcome;
use bz_protocol::keys::Direction;

use crate::observe::query::cut::{Cutter, Fields, Malformed, Plan};
use crate::observe::query::redact::{self, Dialect, Style};
use crate::observe::query::{
    Log, MOST_OF_A_MESSAGE, MOST_REQUESTS, MOST_STATEMENTS, MOST_WAITING, QueryError, QueryLine, Statement, name,
};

mod batch;

use self::batch::{Batch, Bound, Failure, Names, Request, Text};

/// Codes in the place of a version, in the first message of a client.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// The server takes no longer first message.
const LONGEST_FIRST: u32 = 10_000;
/// Neither end takes a longer message.
const LONGEST: u32 = 0x3fff_ffff;

const TLS_WORD: &str = "the connection is encrypted within the stream, which cannot be read";

/// Reads one stream of PostgreSQL's protocol.
#[derive(Debug, Clone)]
pub struct PostgresLens {
    log: Log,
    client: Cutter,
    server: Cutter,
    phase: Phase,
    /// Requests for encryption that are not answered: one byte each.
    asked: u32,
    batch: Batch,
    /// When the login began.
    began: u64,
    /// Backslashes in plain strings mean something, as the server said.
    backslash: bool,
    /// The content of a `COPY` to the server is under way.
    copying: bool,
    /// Rows since the last statement ended.
    rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client has not said who it is.
    First,
    /// The server has not let it in.
    Login,
    Open,
    /// Nothing that matters comes.
    Over,
}

impl PostgresLens {
    pub(super) fn new(redact: bool) -> Self {
        Self {
            log: Log::new(redact),
            client: Cutter::default(),
            server: Cutter::default(),
            phase: Phase::First,
            asked: 0,
            batch: Batch::default(),
            began: 0,
            backslash: false,
            copying: false,
            rows: 0,
        }
    }

    pub(super) fn bytes(&mut self, now_millis: u64, way: Direction, mut bytes: &[u8]) -> Vec<QueryLine> {
        self.log.now = now_millis;
        while !bytes.is_empty() && !self.log.lost && self.phase != Phase::Over {
            let done = match way {
                Direction::ToAgent => self.of_client(&mut bytes),
                Direction::ToClient => self.of_server(&mut bytes),
            };
            if done == Err(Malformed) {
                self.log.lose("these bytes are not PostgreSQL's protocol");
            }
            if self.batch.requests() > MOST_REQUESTS || self.batch.held() > MOST_WAITING {
                self.log.lose("more requests wait for their answers than are kept");
            }
        }
        self.log.take()
    }

    pub(super) const fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    pub(super) fn finish(&mut self) -> Vec<QueryLine> {
        if self.log.lost {
            return Vec::new();
        }
        if self.phase == Phase::Login {
            self.log.add(&Statement::named("LOGIN", ""), QueryOutcome::Unanswered, self.began);
        }
        for request in self.batch.all() {
            self.without_answer(request, QueryOutcome::Unanswered, &mut Names::default());
        }
        self.phase = Phase::Over;
        self.log.take()
    }

    fn style(&self) -> Style {
        Style { dialect: Dialect::Postgres, backslash: self.backslash, redact: self.log.redact }
    }

    fn of_client(&mut self, bytes: &mut &[u8]) -> Result<(), Malformed> {
        let first = self.phase == Phase::First;
        let whole = if first {
            self.client.cut(bytes, 4, |head| length(head, LONGEST_FIRST, MOST_OF_A_MESSAGE))?
        } else {
            self.client.cut(bytes, 5, |head| {
                let (kind, rest) = head.split_first().ok_or(Malformed)?;
                length(rest, LONGEST, kept_of_client(*kind)?)
            })?
        };
        if whole {
            let kind = self.client.head().first().copied().unwrap_or_default();
            let body = self.client.take_body();
            let done = if first { self.first(&body) } else { self.request(kind, &body) };
            self.client.next(body);
            return done;
        }
        Ok(())
    }

    fn of_server(&mut self, bytes: &mut &[u8]) -> Result<(), Malformed> {
        if self.asked > 0 {
            let Some((answer, rest)) = bytes.split_first() else { return Ok(()) };
            (*bytes, self.asked) = (rest, self.asked.saturating_sub(1));
            return match answer {
                b'N' => Ok(()),
                b'S' | b'G' => {
                    self.log.lose(TLS_WORD);
                    Ok(())
                }
                _ => Err(Malformed),
            };
        }
        let whole = self.server.cut(bytes, 5, |head| {
            let (kind, rest) = head.split_first().ok_or(Malformed)?;
            length(rest, LONGEST, kept_of_server(*kind)?)
        })?;
        if whole {
            let kind = self.server.head().first().copied().unwrap_or_default();
            let body = self.server.take_body();
            self.answer(kind, &body);
            self.server.next(body);
        }
        Ok(())
    }

    /// The client's first message: who it is, or what it wants before it says so.
    fn first(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields(body);
        let code = u32::from_be_bytes(fields.array().ok_or(Malformed)?);
        match code {
            TLS | GSS => self.asked = self.asked.saturating_add(1),
            CANCEL => {
                self.phase = Phase::Over;
                self.log.add(&Statement::named("CANCEL", ""), QueryOutcome::Done, self.log.now).millis = None;
            }
            _ if code >> 16 == 3 => {
                while let Some(key) = fields.text().filter(|key| !key.is_empty()) {
                    let value = name(fields.text().ok_or(Malformed)?);
                    match key {
                        b"user" => self.log.user = value,
                        b"database" => self.log.database = value,
                        _ => {}
                    }
                }
                if self.log.database.is_empty() {
                    self.log.database.clone_from(&self.log.user);
                }
                (self.phase, self.began) = (Phase::Login, self.log.now);
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn request(&mut self, kind: u8, body: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields(body);
        let at = self.log.now;
        let request = match kind {
            b'Q' => Request::Query(self.text(fields.text_or_rest(), true), at),
            b'P' => {
                let name = fields.text().ok_or(Malformed)?.to_vec();
                let text = self.text(fields.text_or_rest(), false);
                Request::Parse { name, statement: text.whole, types: types(fields), at }
            }
            b'B' => Request::Bind(Bound::read(fields).ok_or(Malformed)?, at),
            b'D' => {
                let statement = fields.byte() == Some(b'S');
                Request::Describe { statement, name: fields.text().unwrap_or_default().to_vec(), at }
            }
            b'C' => {
                let statement = fields.byte() == Some(b'S');
                Request::Close { statement, name: fields.text().unwrap_or_default().to_vec(), at }
            }
            b'E' => Request::Execute { portal: fields.text().ok_or(Malformed)?.to_vec(), at },
            b'F' => {
                let oid = u32::from_be_bytes(fields.array().ok_or(Malformed)?);
                let whole = Arc::new(Statement::named("FUNCTION", &format!("function {oid}")));
                Request::Query(Text { whole, pieces: VecDeque::new() }, at)
            }
            // The server ignores one while it takes the content of a COPY.
            b'S' if !self.copying => Request::Sync(at),
            b'c' | b'f' => {
                self.copying = false;
                return Ok(());
            }
            b'X' => {
                self.phase = if self.batch.requests() == 0 { Phase::Over } else { self.phase };
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let (Some(mut names), false) = (self.batch.skipping.take(), matches!(request, Request::Sync(_))) {
            self.without_answer(request, QueryOutcome::Skipped, &mut names);
            self.batch.skipping = Some(names);
        } else {
            self.batch.push(request);
        }
        Ok(())
    }

    /// A statement's text, in pieces when it may be several.
    fn text(&self, bytes: &[u8], several: bool) -> Text {
        let (text, style) = (String::from_utf8_lossy(bytes), self.style());
        let pieces = if several { redact::split(&text, style, MOST_STATEMENTS) } else { Vec::new() };
        let read = |text: &str| Arc::new(Statement::read(text, style));
        let pieces = match pieces.len() {
            0 | 1 => Vec::new(),
            _ => pieces.into_iter().filter_map(|piece| text.get(piece).map(read)).collect(),
        };
        Text { whole: read(&text), pieces: pieces.into() }
    }

    fn answer(&mut self, kind: u8, body: &[u8]) {
        if matches!(kind, b'G' | b'W') {
            self.copying = true;
            self.batch.copying();
        }
        match kind {
            b'D' => self.rows = self.rows.saturating_add(1),
            b'S' => self.setting(Fields(body)),
            b'C' => self.complete(body),
            b'I' | b'V' => self.completed(None, None),
            b's' => {
                let rows = Some(std::mem::take(&mut self.rows));
                self.completed(None, rows);
            }
            b'E' => self.failed(&error(Fields(body))),
            b'Z' => self.ready(),
            b't' => self.batch.described(Fields(body)),
            b'1' | b'2' | b'3' | b'n' | b'T' => self.batch.confirmed(kind),
            _ => {}
        }
    }

    fn setting(&mut self, mut fields: Fields<'_>) {
        let (setting, value) = (fields.text(), fields.text());
        if setting == Some(b"standard_conforming_strings") {
            self.backslash = value == Some(b"off");
        }
    }

    /// `SELECT 5`, `INSERT 0 1`, `CREATE TABLE`.
    fn complete(&mut self, body: &[u8]) {
        let tag = name(Fields(body).text_or_rest());
        let numbers = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
        let words: Vec<&str> = tag.split(' ').filter(|word| !numbers(word)).collect();
        let rows = tag.rsplit(' ').next().and_then(|last| last.parse().ok());
        self.completed(Some(words.join(" ")), rows);
    }

    fn completed(&mut self, kind: Option<String>, rows: Option<u64>) {
        (self.rows, self.copying) = (0, false);
        let now = self.log.now;
        let Some(ran) = self.batch.completed(now) else { return };
        let redact = self.log.redact;
        let line = self.log.add(&ran.statement, QueryOutcome::Done, ran.at);
        line.kind = kind.unwrap_or_else(|| line.kind.clone());
        line.rows = rows;
        line.parameters = ran.parameters(redact);
    }

    fn failed(&mut self, error: &QueryError) {
        (self.rows, self.copying) = (0, false);
        if self.phase == Phase::Login {
            self.phase = Phase::Over;
            self.log.fail(&Statement::named("LOGIN", ""), self.began, error.clone());
            return;
        }
        let redact = self.log.redact;
        match self.batch.failed(self.log.now) {
            Some(Failure { ran, rest, mut names, goes_on }) => {
                self.log.fail(&ran.statement, ran.at, error.clone()).parameters = ran.parameters(redact);
                for request in rest {
                    self.without_answer(request, QueryOutcome::Skipped, &mut names);
                }
                self.batch.skipping = goes_on.then_some(names);
            }
            // Nobody asked: the server ends the connection.
            None => {
                self.log.fail(&Statement::named("SESSION", ""), self.log.now, error.clone()).millis = None;
            }
        }
    }

    fn ready(&mut self) {
        (self.rows, self.copying) = (0, false);
        if self.phase == Phase::Login {
            self.phase = Phase::Open;
            self.log.add(&Statement::named("LOGIN", ""), QueryOutcome::Done, self.began);
            return;
        }
        for (request, failed) in self.batch.ready() {
            let outcome = if failed { QueryOutcome::Skipped } else { QueryOutcome::Unanswered };
            self.without_answer(request, outcome, &mut Names::default());
        }
    }

    /// What was asked and is not answered.
    fn without_answer(&mut self, request: Request, outcome: QueryOutcome, names: &mut Names) {
        let redact = self.log.redact;
        for ran in self.batch.texts(request, names) {
            self.log.add(&ran.statement, outcome, ran.at).parameters = ran.parameters(redact);
        }
    }
}

/// The body that four bytes of length announce, themselves counted in.
fn length(bytes: &[u8], most: u32, keep: usize) -> Result<Plan, Malformed> {
    let length = u32::from_be_bytes(bytes.try_into().map_err(|_| Malformed)?);
    let body = length.checked_sub(4).filter(|_| length <= most).ok_or(Malformed)?;
    Ok(Plan { length: usize::try_from(body).map_err(|_| Malformed)?, keep })
}

const fn kept_of_client(kind: u8) -> Result<usize, Malformed> {
    match kind {
        b'Q' | b'P' | b'B' => Ok(MOST_OF_A_MESSAGE),
        b'D' | b'C' | b'E' | b'F' => Ok(1024),
        // Passwords above all.
        b'p' | b'S' | b'H' | b'X' | b'd' | b'c' | b'f' => Ok(0),
        _ => Err(Malformed),
    }
}

const fn kept_of_server(kind: u8) -> Result<usize, Malformed> {
    match kind {
        b'C' | b'S' | b't' => Ok(1024),
        b'E' => Ok(8192),
        b'R' | b'K' | b'Z' | b'T' | b'D' | b'I' | b'N' | b'A' | b'1' | b'2' | b'3' | b's' | b'n' | b'G' | b'H'
        | b'W' | b'd' | b'c' | b'V' | b'v' => Ok(0),
        _ => Err(Malformed),
    }
}

/// Types of parameters, as far as they are there.
fn types(mut fields: Fields<'_>) -> Vec<u32> {
    let count = fields.array().map_or(0, u16::from_be_bytes);
    (0..count).map_while(|_| fields.array().map(u32::from_be_bytes)).collect()
}

fn error(mut fields: Fields<'_>) -> QueryError {
    let mut error = QueryError { code: String::new(), message: String::new() };
    while let Some(kind) = fields.byte().filter(|kind| *kind != 0) {
        let value = fields.text_or_rest();
        match kind {
            b'C' => error.code = name(value),
            b'M' => error.message = name(value),
            _ => {}
        }
    }
    error
}
