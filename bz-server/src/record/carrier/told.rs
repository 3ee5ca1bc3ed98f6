//! What was read of a session, on its way into the logs: command lines, files, statements, requests.

use bz_core::api::record::{CommandEvent, FileEvent, QueryEvent};
use bz_core::id::EventId;
use bz_core::time::UnixTime;

use crate::app::App;
use crate::observe::{Exchange, FileLine, Line};
use crate::record::carrier::queried::{Queried, log_queries};
use crate::record::carrier::requested::{Requested, log_requests};
use crate::record::carrier::{Carrier, Inner};

/// What was read, each with whether a checkpoint of the agent covers it.
#[derive(Debug, Default)]
pub(super) struct Told {
    lines: Vec<(Line, bool)>,
    files: Vec<(FileLine, bool)>,
    queries: Vec<Queried>,
    requests: Vec<(Exchange, bool)>,
}

/// The rows it becomes; nothing of a log whose rows could not be named.
pub(super) struct Rows {
    commands: Option<Vec<(CommandEvent, UnixTime)>>,
    files: Option<(Vec<FileEvent>, UnixTime)>,
    queries: Option<Vec<(QueryEvent, UnixTime)>>,
    requests: Option<Requested>,
}

impl Inner {
    /// What a checkpoint covers by now.
    pub(super) fn told(&mut self) -> Told {
        Told {
            lines: self.confirmed_lines().into_iter().map(|line| (line, true)).collect(),
            files: self.confirmed_files(),
            queries: self.confirmed_queries(false),
            requests: self.confirmed_requests(),
        }
    }

    /// All that is left when nothing more comes.
    pub(super) fn last_told(&mut self, now: UnixTime) -> Told {
        let left = self.lens.finish();
        self.add(left);
        let left = self.lens.finish_files();
        self.add_files(left);
        let left = self.lens.finish_statements();
        self.queries.add(left);
        let mut told = Told { queries: self.confirmed_queries(true), requests: self.last_requests(now), ..self.told() };
        told.files.extend(std::mem::take(&mut self.files).into_iter().map(|(_, file)| (file, false)));
        told.lines.extend(std::mem::take(&mut self.lines).into_iter().map(|(_, line)| (line, false)));
        told
    }
}

impl Carrier {
    /// Rows for the logs.
    pub(super) fn rows(&self, told: Told) -> Rows {
        let commands = told.lines.into_iter().map(|(line, confirmed)| self.event(line, confirmed));
        Rows {
            commands: commands.collect(),
            files: self.file_events(told.files),
            queries: self.query_events(told.queries),
            requests: self.requested(told.requests),
        }
    }

    /// Files for the log; whether a checkpoint of the agent covers each.
    fn file_events(&self, files: Vec<(FileLine, bool)>) -> Option<(Vec<FileEvent>, UnixTime)> {
        let at = self.app.now().wall;
        let event = |(line, confirmed): (FileLine, bool)| {
            let id = self.app.random().map(EventId::from_random).ok()?;
            Some(FileEvent {
                id,
                connection_id: self.connection.id,
                organization_id: self.app.organization,
                actor: self.connection.actor.clone(),
                place: self.connection.place.clone(),
                direction: line.direction,
                path: line.path,
                outcome: line.outcome,
                size: line.size,
                sha256: line.digest.map(|digest| digest.to_string()),
                problem: line.problem.map(|problem| problem.to_string()),
                confirmed,
                timestamp: at.to_string(),
            })
        };
        files.into_iter().map(event).collect::<Option<Vec<_>>>().map(|events| (events, at))
    }

    /// A command line for the log; whether a checkpoint of the agent covers it.
    fn event(&self, line: Line, confirmed: bool) -> Option<(CommandEvent, UnixTime)> {
        let id = self.app.random().map(EventId::from_random).ok()?;
        let at = self.app.now().wall;
        let event = CommandEvent {
            id,
            connection_id: self.connection.id,
            organization_id: self.app.organization,
            actor: self.connection.actor.clone(),
            place: self.connection.place.clone(),
            command: line.text,
            source: line.source,
            confirmed,
            timestamp: at.to_string(),
        };
        Some((event, at))
    }
}

impl Rows {
    /// Writes them down, in the order in which they were typed.
    pub(super) async fn log(self, app: &App) {
        log_commands(app, self.commands).await;
        log_files(app, self.files).await;
        log_queries(app, self.queries).await;
        log_requests(app, self.requests).await;
    }
}

async fn log_files(app: &App, events: Option<(Vec<FileEvent>, UnixTime)>) {
    let Some((events, at)) = events else {
        tracing::error!("files could not be logged: the operating system gives no random bytes");
        return;
    };
    if !events.is_empty()
        && let Err(error) = app.store.add_events(events.into_iter().map(|event| (event, at)).collect()).await
    {
        tracing::error!(%error, "files could not be logged");
    }
}

async fn log_commands(app: &App, events: Option<Vec<(CommandEvent, UnixTime)>>) {
    let Some(events) = events else {
        tracing::error!("a command could not be logged: the operating system gives no random bytes");
        return;
    };
    if !events.is_empty()
        && let Err(error) = app.store.add_events(events).await
    {
        tracing::error!(%error, "commands could not be logged");
    }
}
