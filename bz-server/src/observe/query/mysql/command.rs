//! Commands of the client, and statements that it prepared.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bz_core::api::record::QueryOutcome;

use crate::observe::query::cut::{Fields, Malformed};
use crate::observe::query::mysql::login::change_of_user;
use crate::observe::query::mysql::{MySqlLens, Phase, can};
use crate::observe::query::value::{self, length_encoded, length_encoded_number};
use crate::observe::query::{
    LONGEST_NAME, MOST_PARAMETERS, MOST_PREPARED, MOST_STATEMENTS, MOST_WAITING, Statement, name, redact,
};

/// The statement prepared last, in MariaDB's protocol.
const LAST: u32 = u32::MAX;
/// An execution that says itself how many parameters it has.
const COUNTS_PARAMETERS: u8 = 8;
/// Long values that are sent ahead of their execution, at once.
const MOST_LONG: usize = 256;

/// What waits for an answer.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Query(Text),
    Prepare(Vec<u8>, u64),
    Execute(Execution),
    /// Rows of a cursor, or names of columns: rows without a line.
    Rows,
    /// One packet as the answer; what it was, if that is worth a line.
    Simple(Option<Statement>, u64),
    /// The same for a change of database.
    Use(Vec<u8>, u64),
    ChangeUser {
        user: String,
        database: String,
        at: u64,
    },
    /// A packet of any content as the answer.
    Text,
}

/// A text and the statements in it.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) pieces: VecDeque<Range<usize>>,
    pub(super) at: u64,
}

/// A prepared statement that is run.
#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub(super) id: u32,
    /// What is behind the number of the statement.
    body: Vec<u8>,
    long: BTreeMap<u16, Vec<u8>>,
    /// Many at once.
    bulk: bool,
    pub(super) at: u64,
}

/// Statements that are prepared, by the server's numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Prepared {
    statements: BTreeMap<u32, One>,
    long: BTreeMap<(u32, u16), Vec<u8>>,
    last: u32,
    held: usize,
}

#[derive(Debug, Clone)]
struct One {
    statement: Statement,
    parameters: u16,
    /// As they were bound last.
    types: Vec<[u8; 2]>,
}

impl Command {
    /// About how much of it is kept.
    pub(super) fn size(&self) -> usize {
        match self {
            // The pieces are bounded by the text.
            Self::Query(text) => text.text.len(),
            Self::Prepare(text, _) | Self::Use(text, _) => text.len(),
            Self::Execute(one) => one.body.len().saturating_add(one.long.values().map(Vec::len).sum()),
            Self::Rows | Self::Simple(..) | Self::ChangeUser { .. } | Self::Text => 1,
        }
    }
}

impl MySqlLens {
    /// The first packet of a command.
    pub(super) fn command(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let (code, rest) = body.split_first().ok_or(Malformed)?;
        let (at, mut fields) = (self.log.now, Fields(rest));
        let says = |kind: &str, text: &str| Command::Simple(Some(Statement::named(kind, text)), at);
        let command = match code {
            0x01 => {
                self.phase = if self.waiting.is_empty() { Phase::Over } else { self.phase };
                return Ok(());
            }
            0x02 => Command::Use(rest.get(..LONGEST_NAME).unwrap_or(rest).to_vec(), at),
            0x03 => Command::Query(self.text(rest)),
            0x04 | 0x1c => Command::Rows,
            0x05 => says("CREATE", &format!("create database {}", name(rest))),
            0x06 => says("DROP", &format!("drop database {}", name(rest))),
            0x08 => says("SHUTDOWN", ""),
            0x09 => Command::Text,
            0x0a => Command::Query(Text { text: "show processlist".to_owned(), pieces: VecDeque::new(), at }),
            0x0c => says("KILL", &fields.array().map(u32::from_le_bytes).map_or_else(String::new, |id| id.to_string())),
            // To refresh, for the debugger, to see whether it lives, in the background, to begin anew.
            0x07 | 0x0d | 0x0e | 0x1d | 0x1f | 0x1a => {
                if *code == 0x1a {
                    let id = fields.array().map_or(0, u32::from_le_bytes);
                    self.prepared.long.retain(|(of, _), _| *of != id);
                }
                Command::Simple(None, at)
            }
            0x11 => {
                let (user, database) = change_of_user(fields).ok_or(Malformed)?;
                Command::ChangeUser { user, database, at }
            }
            0x12 | 0x15 | 0x1e => {
                self.log.lose("replication, which is not read");
                return Ok(());
            }
            0x16 => Command::Prepare(rest.to_vec(), at),
            0x17 | 0xfa => self.execution(fields, *code == 0xfa).ok_or(Malformed)?,
            0x18 => return self.long_data(fields).ok_or(Malformed),
            0x19 => {
                self.prepared.close(u32::from_le_bytes(fields.array().ok_or(Malformed)?));
                return Ok(());
            }
            0x1b => {
                let off = fields.array().map_or(0, u16::from_le_bytes) != 0;
                self.can = if off { self.can & !can::MULTI_STATEMENTS } else { self.can | can::MULTI_STATEMENTS };
                Command::Simple(None, at)
            }
            _ => return Err(Malformed),
        };
        self.push(command);
        Ok(())
    }

    fn text(&self, rest: &[u8]) -> Text {
        let mut fields = Fields(rest);
        if self.can & can::QUERY_ATTRIBUTES != 0 && skip_attributes(&mut fields).is_none() {
            fields = Fields(b"(a statement behind attributes that cannot be read)");
        }
        let text = String::from_utf8_lossy(fields.0).into_owned();
        let several = self.can & can::MULTI_STATEMENTS != 0;
        let pieces = if several { redact::split(&text, self.style(), MOST_STATEMENTS) } else { Vec::new() };
        let pieces = if pieces.len() > 1 { pieces.into() } else { VecDeque::new() };
        Text { text, pieces, at: self.log.now }
    }

    fn execution(&mut self, mut fields: Fields<'_>, bulk: bool) -> Option<Command> {
        let id = u32::from_le_bytes(fields.array()?);
        let mut long = BTreeMap::new();
        self.prepared.long.retain(|(of, at), data| {
            let own = *of == id;
            if own {
                long.insert(*at, std::mem::take(data));
            }
            !own
        });
        Some(Command::Execute(Execution { id, body: fields.0.to_vec(), long, bulk, at: self.log.now }))
    }

    /// A piece of a value; more of it may follow.
    fn long_data(&mut self, mut fields: Fields<'_>) -> Option<()> {
        let key = (u32::from_le_bytes(fields.array()?), u16::from_le_bytes(fields.array()?));
        let long = &mut self.prepared.long;
        if long.len() < MOST_LONG || long.contains_key(&key) {
            let value = long.entry(key).or_default();
            let room = (LONGEST_NAME + 1).saturating_sub(value.len());
            value.extend_from_slice(fields.0.get(..room).unwrap_or(fields.0));
        }
        Some(())
    }

    pub(super) fn prepare(&mut self, text: &[u8], id: u32, parameters: u16) {
        let statement = Statement::read(&String::from_utf8_lossy(text), self.style());
        let prepared = &mut self.prepared;
        prepared.close(id);
        // Forgets everything rather than to grow: what is used later shows as unknown.
        if prepared.statements.len() >= MOST_PREPARED || prepared.held > MOST_WAITING {
            *prepared = Prepared::default();
        }
        prepared.held = prepared.held.saturating_add(statement.text.len());
        prepared.last = id;
        prepared.statements.insert(id, One { statement, parameters, types: Vec::new() });
    }

    /// The statement of an execution, and its values.
    pub(super) fn executed(&mut self, execution: &Execution) -> (Statement, Vec<Option<String>>) {
        let id = if execution.id == LAST { self.prepared.last } else { execution.id };
        let can = self.can;
        let Some(one) = self.prepared.statements.get_mut(&id) else {
            return (Statement::named("", "(a prepared statement that is not known)"), Vec::new());
        };
        let mut values = Vec::new();
        if execution.bulk || read_values(one, execution, can, &mut values).is_none() {
            values.push(Some("…".to_owned()));
        }
        if self.log.redact || one.statement.secret {
            values.iter_mut().for_each(|value| *value = Some("?".to_owned()));
        }
        (one.statement.clone(), values)
    }

    /// A command that is not answered.
    pub(super) fn left(&mut self, command: Command, outcome: QueryOutcome) {
        match command {
            Command::Query(text) => {
                let whole = 0..text.text.len();
                let pieces = if text.pieces.is_empty() { [whole].into() } else { text.pieces };
                for piece in pieces {
                    let statement = self.statement(&text.text, piece);
                    self.log.add(&statement, outcome, text.at);
                }
            }
            Command::Prepare(text, at) => {
                let statement = Statement::read(&String::from_utf8_lossy(&text), self.style());
                self.log.add(&statement, outcome, at);
            }
            Command::Execute(execution) => {
                let (statement, values) = self.executed(&execution);
                self.log.add(&statement, outcome, execution.at).parameters = values;
            }
            Command::Use(database, at) => {
                self.log.add(&used(&database), outcome, at);
            }
            Command::ChangeUser { at, .. } => {
                self.log.add(&Statement::named("LOGIN", ""), outcome, at);
            }
            Command::Simple(Some(statement), at) => {
                self.log.add(&statement, outcome, at);
            }
            Command::Simple(None, _) | Command::Rows | Command::Text => {}
        }
    }

    pub(super) fn statement(&self, text: &str, piece: Range<usize>) -> Statement {
        Statement::read(text.get(piece).unwrap_or(text), self.style())
    }
}

/// A change of database as a line says it.
pub(super) fn used(database: &[u8]) -> Statement {
    Statement::named("USE", &format!("use {}", name(database)))
}

impl Prepared {
    fn close(&mut self, id: u32) {
        if let Some(old) = self.statements.remove(&id) {
            self.held = self.held.saturating_sub(old.statement.text.len());
        }
        self.long.retain(|(of, _), _| *of != id);
    }
}

/// The values of an execution; `None` when what was kept of it ends before they do.
fn read_values(one: &mut One, execution: &Execution, can: u64, values: &mut Vec<Option<String>>) -> Option<()> {
    let mut fields = Fields(&execution.body);
    let flags = fields.byte()?;
    // How often.
    fields.take(4)?;
    let named = can & can::QUERY_ATTRIBUTES != 0;
    let count = if named && flags & COUNTS_PARAMETERS != 0 {
        usize::try_from(length_encoded_number(&mut fields)?).ok()?
    } else {
        usize::from(one.parameters)
    };
    if count == 0 {
        return Some(());
    }
    let nulls = fields.take(count.div_ceil(8))?;
    if fields.byte()? != 0 {
        one.types.clear();
        for _ in 0..count {
            one.types.push(fields.array()?);
            if named {
                length_encoded(&mut fields)?;
            }
        }
    }
    let (types, own) = (&one.types, usize::from(one.parameters));
    for (at, [kind, sign]) in types.iter().copied().enumerate().take(own.min(MOST_PARAMETERS)) {
        let null = nulls.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
        let long = u16::try_from(at).ok().and_then(|at| execution.long.get(&at));
        values.push(match (long, null) {
            (Some(long), _) => Some(value::text(long)),
            (None, true) => None,
            (None, false) => value::mysql(kind, sign & 0x80 != 0, &mut fields)?,
        });
    }
    (own <= MOST_PARAMETERS).then_some(())
}

/// Attributes of a query, which are sent like parameters.
fn skip_attributes(fields: &mut Fields<'_>) -> Option<()> {
    let count = usize::try_from(length_encoded_number(fields)?).ok()?;
    // Sets of them: one.
    length_encoded_number(fields)?;
    if count == 0 {
        return Some(());
    }
    let nulls = fields.take(count.div_ceil(8))?;
    fields.byte().filter(|bound| *bound == 1)?;
    let mut types = Vec::new();
    for _ in 0..count {
        let [kind, sign] = fields.array()?;
        types.push((kind, sign & 0x80 != 0));
        length_encoded(fields)?;
    }
    for (at, (kind, unsigned)) in types.into_iter().enumerate() {
        if nulls.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 0) {
            value::mysql(kind, unsigned, fields)?;
        }
    }
    Some(())
}
