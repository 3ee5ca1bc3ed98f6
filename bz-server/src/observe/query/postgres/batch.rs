//! Requests that wait for their answers, and the names of statements and portals that they use.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::observe::query::cut::Fields;
use crate::observe::query::{LONGEST_NAME, MOST_PARAMETERS, MOST_PREPARED, MOST_WAITING, Statement, value};

/// What a client asked.
#[derive(Debug, Clone)]
pub(super) enum Request {
    /// A text that may be several statements.
    Query(Text, u64),
    Parse {
        name: Vec<u8>,
        statement: Arc<Statement>,
        types: Vec<u32>,
        at: u64,
    },
    Bind(Bound, u64),
    Describe {
        statement: bool,
        name: Vec<u8>,
        at: u64,
    },
    Close {
        statement: bool,
        name: Vec<u8>,
        at: u64,
    },
    Execute {
        portal: Vec<u8>,
        at: u64,
    },
    Sync(u64),
}

/// A text, and the statements in it when there are several.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) whole: Arc<Statement>,
    pub(super) pieces: VecDeque<Arc<Statement>>,
}

/// A portal: a statement with its parameters.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    portal: Vec<u8>,
    statement: Vec<u8>,
    parameters: Vec<Parameter>,
    /// There are more than are kept.
    more: bool,
}

#[derive(Debug, Clone)]
struct Parameter {
    binary: bool,
    /// As much as is shown.
    bytes: Option<Vec<u8>>,
}

/// What ran, or was to: a statement and the values it was given.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) statement: Arc<Statement>,
    pub(super) at: u64,
    values: Arc<Vec<Option<String>>>,
}

/// What failed, and what is not run because of it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) ran: Ran,
    pub(super) rest: Vec<Request>,
    /// What was named by what is not run.
    pub(super) names: Names,
    /// What comes next is not run either.
    pub(super) goes_on: bool,
}

/// Statements and portals by their names.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    statements: BTreeMap<Vec<u8>, Prepared>,
    portals: BTreeMap<Vec<u8>, Portal>,
    /// Bytes of all of it.
    held: usize,
}

#[derive(Debug, Clone)]
struct Portal {
    statement: Arc<Statement>,
    values: Arc<Vec<Option<String>>>,
}

#[derive(Debug, Clone)]
struct Prepared {
    statement: Arc<Statement>,
    types: Vec<u32>,
}

/// All that waits, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    waiting: VecDeque<Request>,
    names: Names,
    held: usize,
    /// What was asked first in `waiting` failed, and nothing more of it is run.
    failed: bool,
    /// When the statement before in the same text ended.
    before: Option<u64>,
    /// Set while the server skips to the next `Sync`: what was named meanwhile.
    pub(super) skipping: Option<Names>,
}

impl Ran {
    fn of(statement: Arc<Statement>, at: u64) -> Self {
        Self { statement, at, values: Arc::default() }
    }

    pub(super) fn parameters(&self, redact: bool) -> Vec<Option<String>> {
        if redact || self.statement.secret {
            return self.values.iter().map(|_| Some("?".to_owned())).collect();
        }
        self.values.to_vec()
    }
}

impl Bound {
    /// What was cut off is missing in it, and it says so.
    pub(super) fn read(mut fields: Fields<'_>) -> Option<Self> {
        let portal = fields.text()?.to_vec();
        let statement = fields.text()?.to_vec();
        let formats = fields.array().map_or(0, u16::from_be_bytes);
        let formats: Vec<u16> = (0..formats).map_while(|_| fields.array().map(u16::from_be_bytes)).collect();
        let count = fields.array().map(u16::from_be_bytes).map(usize::from);
        let mut parameters = Vec::new();
        for at in 0..count.unwrap_or(0).min(MOST_PARAMETERS) {
            let format = if formats.len() == 1 { formats.first() } else { formats.get(at) };
            let binary = format == Some(&1);
            let Some(length) = fields.array().map(i32::from_be_bytes) else { break };
            let Ok(length) = usize::try_from(length) else {
                parameters.push(Parameter { binary, bytes: None });
                continue;
            };
            // Of what was cut, as much as is there.
            let bytes = fields.take(length).unwrap_or_else(|| std::mem::take(&mut fields.0));
            let bytes = bytes.get(..=LONGEST_NAME).unwrap_or(bytes);
            parameters.push(Parameter { binary, bytes: Some(bytes.to_vec()) });
        }
        let more = count.is_none_or(|count| parameters.len() < count);
        Some(Self { portal, statement, parameters, more })
    }

    fn values(&self, types: &[u32]) -> Vec<Option<String>> {
        let shown = |(at, parameter): (usize, &Parameter)| {
            let oid = types.get(at).copied().unwrap_or(0);
            let bytes = parameter.bytes.as_deref()?;
            Some(if parameter.binary { value::postgres(oid, bytes) } else { value::text(bytes) })
        };
        let mut values: Vec<_> = self.parameters.iter().enumerate().map(shown).collect();
        if self.more {
            values.push(Some("…".to_owned()));
        }
        values
    }

    fn size(&self) -> usize {
        self.parameters.iter().map(|p| p.bytes.as_ref().map_or(1, Vec::len)).sum()
    }
}

impl Request {
    /// About how much of it is kept.
    fn size(&self) -> usize {
        match self {
            Self::Query(text, _) => text.whole.text.len().saturating_mul(2),
            Self::Parse { name, statement, .. } => name.len().saturating_add(statement.text.len()),
            Self::Bind(bound, _) => bound.size(),
            Self::Describe { name, .. } | Self::Close { name, .. } => name.len(),
            Self::Execute { portal, .. } => portal.len(),
            Self::Sync(_) => 0,
        }
    }
}

impl Names {
    fn prepare(&mut self, name: Vec<u8>, statement: Arc<Statement>, types: Vec<u32>) {
        self.close(true, &name);
        self.bound();
        self.held = self.held.saturating_add(statement.text.len());
        self.statements.insert(name, Prepared { statement, types });
    }

    fn bind(&mut self, bound: &Bound, of: &Prepared) {
        self.close(false, &bound.portal);
        self.bound();
        let values = bound.values(&of.types);
        self.held = self.held.saturating_add(size(&values));
        let portal = Portal { statement: Arc::clone(&of.statement), values: Arc::new(values) };
        self.portals.insert(bound.portal.clone(), portal);
    }

    fn close(&mut self, statement: bool, name: &[u8]) {
        let freed = if statement {
            self.statements.remove(name).map_or(0, |old| old.statement.text.len())
        } else {
            self.portals.remove(name).map_or(0, |old| size(&old.values))
        };
        self.held = self.held.saturating_sub(freed);
    }

    /// Forgets everything rather than to grow: what is used later shows as unknown.
    fn bound(&mut self) {
        let many = self.statements.len() >= MOST_PREPARED || self.portals.len() >= MOST_PREPARED;
        if many || self.held > MOST_WAITING {
            *self = Self::default();
        }
    }
}

fn size(values: &[Option<String>]) -> usize {
    values.iter().map(|value| value.as_ref().map_or(1, String::len)).sum()
}

impl Batch {
    pub(super) fn requests(&self) -> usize {
        self.waiting.len()
    }

    /// About how many bytes wait.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    pub(super) fn push(&mut self, request: Request) {
        self.held = self.held.saturating_add(request.size());
        self.waiting.push_back(request);
    }

    fn pop(&mut self) -> Option<Request> {
        let request = self.waiting.pop_front()?;
        self.held = self.held.saturating_sub(request.size());
        Some(request)
    }

    /// Everything, when nothing more comes.
    pub(super) fn all(&mut self) -> Vec<Request> {
        let answered = self.before.take().is_some();
        if matches!(self.waiting.front(), Some(Request::Query(text, _)) if answered && text.pieces.is_empty()) {
            self.pop();
        }
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// The server takes the content of a `COPY`: it ignores a `Sync` that was sent ahead.
    pub(super) fn copying(&mut self) {
        if matches!(self.waiting.front(), Some(Request::Execute { .. })) {
            while matches!(self.waiting.get(1), Some(Request::Sync(_))) {
                self.waiting.remove(1);
            }
        }
    }

    /// An answer that says that one request was done.
    pub(super) fn confirmed(&mut self, kind: u8) {
        let fits = match self.waiting.front() {
            Some(Request::Parse { .. }) => kind == b'1',
            Some(Request::Bind(..)) => kind == b'2',
            Some(Request::Close { .. }) => kind == b'3',
            Some(Request::Describe { .. }) => matches!(kind, b'T' | b'n'),
            Some(Request::Query(..) | Request::Execute { .. } | Request::Sync(_)) | None => false,
        };
        if !fits {
            return;
        }
        match self.pop() {
            Some(Request::Parse { name, statement, types, .. }) => self.names.prepare(name, statement, types),
            Some(Request::Bind(bound, _)) => {
                let of = self.prepared(&bound.statement, None);
                self.names.bind(&bound, &of);
            }
            Some(Request::Close { statement, name, .. }) => self.names.close(statement, &name),
            Some(Request::Describe { .. } | Request::Query(..) | Request::Execute { .. } | Request::Sync(_)) | None => {
            }
        }
    }

    /// What the types of a statement's parameters are, by the server's word.
    pub(super) fn described(&mut self, mut fields: Fields<'_>) {
        if let Some(Request::Describe { statement: true, name, .. }) = self.waiting.front()
            && let Some(prepared) = self.names.statements.get_mut(name)
            && let Some(count) = fields.array().map(u16::from_be_bytes)
        {
            prepared.types = (0..count).map_while(|_| fields.array().map(u32::from_be_bytes)).collect();
        }
    }

    /// A statement was run to its end, or to its limit of rows.
    pub(super) fn completed(&mut self, now: u64) -> Option<Ran> {
        match self.waiting.front_mut()? {
            Request::Query(text, at) => {
                let at = self.before.replace(now).unwrap_or(*at);
                // A text that is one statement has no pieces.
                let statement = text.pieces.pop_front().unwrap_or_else(|| Arc::clone(&text.whole));
                Some(Ran::of(statement, at))
            }
            Request::Execute { .. } => {
                let request = self.pop()?;
                self.ran(&request, None)
            }
            Request::Parse { .. }
            | Request::Bind(..)
            | Request::Describe { .. }
            | Request::Close { .. }
            | Request::Sync(_) => None,
        }
    }

    /// What failed, and what is not run because of it.
    pub(super) fn failed(&mut self, now: u64) -> Option<Failure> {
        let alone = |ran| Some(Failure { ran, rest: Vec::new(), names: Names::default(), goes_on: false });
        match self.waiting.front_mut()? {
            Request::Query(text, at) => {
                let at = self.before.replace(now).unwrap_or(*at);
                let statement = text.pieces.pop_front().unwrap_or_else(|| Arc::clone(&text.whole));
                self.failed = true;
                return alone(Ran::of(statement, at));
            }
            // What was run before it could not be committed.
            Request::Sync(at) => {
                let at = *at;
                self.failed = true;
                return alone(Ran::of(Arc::new(Statement::named("COMMIT", "")), at));
            }
            Request::Parse { .. }
            | Request::Bind(..)
            | Request::Describe { .. }
            | Request::Close { .. }
            | Request::Execute { .. } => {}
        }
        let first = self.pop()?;
        let ran = self.ran(&first, None)?;
        let mut names = Names::default();
        drop(self.texts(first, &mut names));
        let mut rest = Vec::new();
        while self.waiting.front().is_some_and(|request| !matches!(request, Request::Sync(_))) {
            rest.extend(self.pop());
        }
        Some(Failure { ran, rest, names, goes_on: self.waiting.is_empty() })
    }

    /// The server waits for what comes next: what was asked up to here is answered, or never will be; and whether it
    /// failed.
    pub(super) fn ready(&mut self) -> Vec<(Request, bool)> {
        let (mut left, failed) = (Vec::new(), std::mem::take(&mut self.failed));
        let answered = self.before.take().is_some();
        // Whatever was skipped, it is no longer.
        self.skipping = None;
        while let Some(request) = self.pop() {
            match request {
                Request::Sync(_) => break,
                Request::Query(text, _) if text.pieces.is_empty() && (answered || failed) => break,
                Request::Query(text, at) => {
                    left.push((Request::Query(text, at), failed));
                    break;
                }
                other @ (Request::Parse { .. }
                | Request::Bind(..)
                | Request::Describe { .. }
                | Request::Close { .. }
                | Request::Execute { .. }) => left.push((other, failed)),
            }
        }
        left
    }

    /// The statements of a request that is not answered.
    pub(super) fn texts(&self, request: Request, names: &mut Names) -> Vec<Ran> {
        match request {
            Request::Query(text, at) if text.pieces.is_empty() => vec![Ran::of(text.whole, at)],
            Request::Query(text, at) => text.pieces.into_iter().map(|piece| Ran::of(piece, at)).collect(),
            Request::Execute { .. } => self.ran(&request, Some(names)).into_iter().collect(),
            Request::Parse { name, statement, types, .. } => {
                names.prepare(name, statement, types);
                Vec::new()
            }
            Request::Bind(bound, _) => {
                let of = self.prepared(&bound.statement, Some(names));
                names.bind(&bound, &of);
                Vec::new()
            }
            Request::Describe { .. } | Request::Close { .. } | Request::Sync(_) => Vec::new(),
        }
    }

    fn prepared(&self, name: &[u8], newer: Option<&Names>) -> Prepared {
        let found = newer.and_then(|names| names.statements.get(name)).or_else(|| self.names.statements.get(name));
        found.cloned().unwrap_or_else(|| Prepared { statement: unknown(), types: Vec::new() })
    }

    /// What a request is about.
    fn ran(&self, request: &Request, newer: Option<&Names>) -> Option<Ran> {
        let of_portal = |name: &[u8], at| {
            let found = newer.and_then(|names| names.portals.get(name)).or_else(|| self.names.portals.get(name));
            match found.cloned() {
                Some(Portal { statement, values }) => Ran { statement, at, values },
                None => Ran::of(unknown(), at),
            }
        };
        let ran = match request {
            Request::Query(text, at) => Ran::of(Arc::clone(&text.whole), *at),
            Request::Parse { statement, at, .. } => Ran::of(Arc::clone(statement), *at),
            Request::Bind(bound, at) => {
                let of = self.prepared(&bound.statement, newer);
                let values = Arc::new(bound.values(&of.types));
                Ran { statement: of.statement, at: *at, values }
            }
            Request::Describe { statement: true, name, at } | Request::Close { statement: true, name, at } => {
                Ran::of(self.prepared(name, newer).statement, *at)
            }
            Request::Describe { name, at, .. } | Request::Close { name, at, .. } => of_portal(name, *at),
            Request::Execute { portal, at } => of_portal(portal, *at),
            Request::Sync(_) => return None,
        };
        Some(ran)
    }
}

/// A statement that was prepared out of sight, or too long ago.
fn unknown() -> Arc<Statement> {
    Arc::new(Statement::named("", "(a prepared statement that is not known)"))
}
