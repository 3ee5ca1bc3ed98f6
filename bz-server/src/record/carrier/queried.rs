//! Statements of database sessions: they wait for a checkpoint of the agent, and go into the log.

use std::collections::VecDeque;
use std::path::PathBuf;

use bz_core::access::request::{Parameters, Request};
use bz_core::api::record::QueryEvent;
use bz_core::id::EventId;
use bz_core::time::UnixTime;
use bz_protocol::keys::Direction;
use bz_protocol::transcript::{Observer as Transcript, Reader, Record, Seen};

use crate::observe::{Observer, QueryLine};
use crate::record::Part;
use crate::record::carrier::{Carrier, Session};

/// The most bytes of lines that wait for a checkpoint. Agents sign at least each second, and each mebibyte.
const MOST_WAITING: usize = 16 << 20;
/// About what a line has beside its text.
const LINE: usize = 256;

/// A statement, its stream, and whether a checkpoint of the agent covers it.
pub(super) type Queried = (u32, QueryLine, bool);

/// Statements that no checkpoint covers yet.
#[derive(Debug, Default)]
pub(super) struct Queries {
    /// By the last frame of the agent when they were read.
    waiting: VecDeque<(u64, u32, QueryLine)>,
    bytes: usize,
    shown: u64,
}

impl Queries {
    /// Reads a frame.
    pub(super) fn read(&mut self, lens: &mut Observer, seen: &Seen, now: UnixTime) {
        if seen.direction == Direction::ToClient {
            self.shown = seen.number;
        }
        if let Some(kind) = seen.kind {
            let content = (seen.stream, seen.payload.as_slice());
            self.add(lens.statements(now.as_millis(), (seen.direction, kind), content));
        }
    }

    pub(super) fn add(&mut self, lines: Vec<(u32, QueryLine)>) {
        for (stream, line) in lines {
            self.bytes = self.bytes.saturating_add(size(&line));
            self.waiting.push_back((self.shown, stream, line));
        }
    }

    /// Those that a checkpoint covers by now; also others when there are too many to wait, or when nothing more comes.
    pub(super) fn confirmed(&mut self, observer: &Transcript, all: bool) -> Vec<Queried> {
        let all = all || self.bytes > MOST_WAITING;
        let mut ready = Vec::new();
        while let Some((number, ..)) = self.waiting.front() {
            let covered = observer.is_confirmed(Direction::ToClient, *number);
            if !covered && !all {
                break;
            }
            ready.extend(self.waiting.pop_front().map(|(_, stream, line)| (stream, line, covered)));
        }
        let gone: usize = ready.iter().map(|(_, line, _)| size(line)).sum();
        self.bytes = self.bytes.saturating_sub(gone);
        ready
    }
}

fn size(line: &QueryLine) -> usize {
    let parameters: usize = line.parameters.iter().flatten().map(String::len).sum();
    line.statement.len().saturating_add(parameters).saturating_add(LINE)
}

impl Carrier {
    pub(super) fn query_events(&self, lines: Vec<Queried>) -> Option<Vec<(QueryEvent, UnixTime)>> {
        let event = |(stream, line, confirmed): Queried| {
            let at = UnixTime::from_millis(line.at);
            let event = QueryEvent {
                id: self.app.random().map(EventId::from_random).ok()?,
                connection_id: self.connection.id,
                stream,
                organization_id: self.app.organization,
                actor: self.connection.actor.clone(),
                place: self.connection.place.clone(),
                database_user: line.user,
                database: line.database,
                kind: line.kind,
                statement: line.statement,
                parameters: line.parameters,
                outcome: line.outcome,
                rows: line.rows,
                duration_millis: line.millis,
                sql_state: line.error.as_ref().map(|error| error.code.clone()),
                problem: line.error.map(|error| error.message),
                confirmed,
                timestamp: at.to_string(),
            };
            Some((event, at))
        };
        lines.into_iter().map(event).collect()
    }

    /// Gives a session that is gone on with, as after a start of the server, its lens back. Streams that were open then
    /// are said to be unparsed.
    pub(super) async fn read_statements_again(&self, session: &Session, path: PathBuf) {
        let Ok(head) = self.app.records.head(Part { number: 0, size: 0, path }).await else { return };
        let Some(request) = self.opening(&head) else { return };
        if let Parameters::Database(database) = &request.parameters {
            session.lock().lens = Observer::queries(database, self.connection.redacted);
        }
    }

    fn opening(&self, head: &[u8]) -> Option<Request> {
        for next in Reader::new(head).ok()? {
            if let Record::Opening(opening) = next.ok()?.1 {
                let syn = opening.syn.open(&self.ends.client_key, self.app.organization).ok()?;
                return Request::decode(&syn.request).ok();
            }
        }
        None
    }
}

pub(super) async fn log_queries(app: &crate::app::App, events: Option<Vec<(QueryEvent, UnixTime)>>) {
    let Some(events) = events else {
        tracing::error!("statements could not be logged: the operating system gives no random bytes");
        return;
    };
    if !events.is_empty()
        && let Err(error) = app.store.add_events(events).await
    {
        tracing::error!(%error, "statements could not be logged");
    }
}
