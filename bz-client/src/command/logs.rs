//! `bz logs`: what happened, newest first.

use std::collections::BTreeSet;

use bz_client::client::EventFilter;
use bz_core::api::record::{
    CommandEvent, ConnectionEvent, FileDirection, FileEvent, FileOutcome, KubeEvent, QueryEvent, QueryOutcome,
    UserEvent, WebEvent,
};
use bz_core::id::ConnectionId;
use bz_core::time::UnixTime;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone, local};

/// What `bz logs` shows.
#[derive(Debug, Subcommand)]
pub(crate) enum Logs {
    /// Connections: opened, closed, clients that came and left, and why
    Connections(OfConnections),
    /// Command lines typed in shells or run by exec
    Commands(Searched),
    /// Files that were copied, or were to be, with their digests
    Files(OfConnections),
    /// Statements that databases were asked to run, with their parameters, rows and errors
    Queries(Searched),
    /// Requests to web servers behind targets, with their answers' status; of a query the names alone
    Web(OfConnections),
    /// Requests to clusters: as whom, what they asked for, and what the cluster said
    Kube(OfConnections),
    /// Calls of the API: who did what, and whether policy allowed it
    Users(OfCalls),
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// At most so many, the newest; the server gives no more than 1000 at once
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100)]
    count: u32,
    /// Not before this time, such as 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<UnixTime>,
    /// Not after this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<UnixTime>,
    /// Only of this person or key, by address or name; may be given several times
    #[arg(long, short, value_name = "NAME")]
    user: Vec<String>,
    /// Go on and show what comes, the newest last; with --json each event on a line of its own
    #[arg(long, short, visible_alias = "watch")]
    follow: bool,
}

/// Which events of connections.
#[derive(Debug, Args)]
pub(crate) struct OfConnections {
    #[command(flatten)]
    which: Which,
    /// Only of this connection; may be given several times
    #[arg(long, short, value_name = "CONNECTION")]
    connection: Vec<ConnectionId>,
    /// Only on targets of this name; may be given several times
    #[arg(long, short, value_name = "NAME")]
    target: Vec<String>,
    /// Only as this target user; may be given several times
    #[arg(long, value_name = "USER")]
    target_user: Vec<String>,
}

/// Which events of a log that is searched.
#[derive(Debug, Args)]
pub(crate) struct Searched {
    #[command(flatten)]
    of: OfConnections,
    /// Only those with this text in them, whatever the case of its letters
    #[arg(long, short, value_name = "TEXT")]
    search: Option<String>,
}

/// Which calls.
#[derive(Debug, Args)]
pub(crate) struct OfCalls {
    #[command(flatten)]
    which: Which,
    /// Only those that policy denied
    #[arg(long)]
    denied: bool,
}

impl Logs {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Self::Connections(of) => show(context, ("connection", of.which.follow, of.filter()), connections).await,
            Self::Commands(of) => show(context, ("command", of.of.which.follow, of.filter()), commands).await,
            Self::Files(of) => show(context, ("file", of.which.follow, of.filter()), files).await,
            Self::Queries(of) => show(context, ("query", of.of.which.follow, of.filter()), queries).await,
            Self::Web(of) => show(context, ("web", of.which.follow, of.filter()), requests).await,
            Self::Kube(of) => show(context, ("kube", of.which.follow, of.filter()), cluster).await,
            Self::Users(of) => show(context, ("subject", of.which.follow, of.filter()), users).await,
        }
    }
}

/// Shows a log; with `follow` the oldest of what there is first, and then what comes, until the program is ended.
async fn show<E: Serialize + DeserializeOwned>(
    context: &Context<'_>,
    (log, follow, filter): (&str, bool, EventFilter),
    table: fn(&[E]) -> Table,
) -> anyhow::Result<Exit> {
    let client = context.client()?;
    if !follow {
        let events: Vec<E> = client.events_of(log, &filter).await?;
        context.output.list(&events, || table(&events))?;
        return Ok(Exit::Fine);
    }
    // Begun before the look, so that nothing falls between; what both have is shown once.
    let mut following = client.follow(log, &filter).await?;
    let mut events: Vec<Value> = client.events_of(log, &filter).await?;
    events.reverse();
    let known: BTreeSet<String> = events.iter().filter_map(id).collect();
    let typed: Vec<E> = events.iter().map(E::deserialize).collect::<Result<_, _>>()?;
    context.output.stream(&events, &table(&typed))?;
    loop {
        let event: Value = serde_json::from_str(&following.next().await?.event)?;
        if id(&event).is_none_or(|id| !known.contains(&id)) {
            let row = table(&[E::deserialize(&event)?]).without_headings();
            context.output.stream(&[event], &row)?;
        }
    }
}

fn id(event: &Value) -> Option<String> {
    event.get("id").and_then(Value::as_str).map(str::to_owned)
}

impl Which {
    fn filter(&self) -> EventFilter {
        EventFilter {
            count: self.count,
            from: self.since,
            to: self.until,
            subjects: self.user.clone(),
            ..EventFilter::default()
        }
    }
}

impl OfConnections {
    fn filter(&self) -> EventFilter {
        EventFilter {
            connections: self.connection.clone(),
            targets: self.target.clone(),
            target_users: self.target_user.clone(),
            ..self.which.filter()
        }
    }
}

impl Searched {
    fn filter(&self) -> EventFilter {
        EventFilter { search: self.search.clone(), ..self.of.filter() }
    }
}

impl OfCalls {
    fn filter(&self) -> EventFilter {
        EventFilter { denied: self.denied, ..self.which.filter() }
    }
}

fn connections(events: &[ConnectionEvent]) -> Table {
    let headings = ["Time", "Event", "Person", "Target user", "Target", "Connection", "Reason"];
    let mut table = Table::new(headings, "No events.");
    for event in events {
        table.row([
            local(&event.timestamp).into(),
            format!("{:?}", event.connection_event_type).into(),
            event.actor.subject_name.as_str().into(),
            event.place.target_user.as_str().into(),
            event.place.target_name.as_str().into(),
            event.connection_id.into(),
            event.reason.as_str().into(),
        ]);
    }
    table
}

fn commands(events: &[CommandEvent]) -> Table {
    let headings = ["Time", "Person", "Target user", "Target", "Command", "Read from", "Signed by the agent"];
    let mut table = Table::new(headings, "No commands.");
    for event in events {
        table.row([
            local(&event.timestamp).into(),
            event.actor.subject_name.as_str().into(),
            event.place.target_user.as_str().into(),
            event.place.target_name.as_str().into(),
            event.command.as_str().into(),
            format!("{:?}", event.source).to_lowercase().into(),
            if event.confirmed { "yes" } else { "no" }.into(),
        ]);
    }
    table
}

fn files(events: &[FileEvent]) -> Table {
    let headings = [
        "Time",
        "Person",
        "Target user",
        "Target",
        "Way",
        "Path",
        "Bytes",
        "Outcome",
        "SHA-256",
        "Signed by the agent",
    ];
    let mut table = Table::new(headings, "No files.");
    for event in events {
        table.row([
            local(&event.timestamp).into(),
            event.actor.subject_name.as_str().into(),
            event.place.target_user.as_str().into(),
            event.place.target_name.as_str().into(),
            if event.direction == FileDirection::ToTarget { "to" } else { "from" }.into(),
            event.path.as_str().into(),
            event.size.into(),
            event.problem.clone().unwrap_or_else(|| fate(event.outcome).to_owned()).into(),
            event.sha256.as_deref().unwrap_or_default().into(),
            if event.confirmed { "yes" } else { "no" }.into(),
        ]);
    }
    table
}

fn queries(events: &[QueryEvent]) -> Table {
    let headings = [
        "Time",
        "Person",
        "Target",
        "Database user",
        "Database",
        "Statement",
        "Parameters",
        "Rows",
        "Milliseconds",
        "Outcome",
        "Signed by the agent",
    ];
    let mut table = Table::new(headings, "No statements.");
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    for event in events {
        let statement = if event.statement.is_empty() { &event.kind } else { &event.statement };
        table.row([
            local(&event.timestamp).into(),
            event.actor.subject_name.as_str().into(),
            event.place.target_name.as_str().into(),
            event.database_user.as_str().into(),
            event.database.as_str().into(),
            statement.as_str().into(),
            parameters(&event.parameters).into(),
            number(event.rows).into(),
            number(event.duration_millis).into(),
            outcome(event).into(),
            if event.confirmed { "yes" } else { "no" }.into(),
        ]);
    }
    table
}

fn parameters(values: &[Option<String>]) -> String {
    values.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(", ")
}

const fn fate(outcome: FileOutcome) -> &'static str {
    match outcome {
        FileOutcome::Copied => "copied",
        FileOutcome::Incomplete => "incomplete",
        FileOutcome::Failed => "failed",
        FileOutcome::Unparsed => "unparsed",
        FileOutcome::Removed => "removed",
        FileOutcome::MovedFrom => "moved from here",
        FileOutcome::MovedTo => "moved here",
    }
}

fn outcome(event: &QueryEvent) -> String {
    let name = match event.outcome {
        QueryOutcome::Done => "done",
        QueryOutcome::Failed => "failed",
        QueryOutcome::Skipped => "skipped",
        QueryOutcome::Unanswered => "unanswered",
        QueryOutcome::Unparsed => "unparsed",
    };
    let parts = [Some(name), event.sql_state.as_deref().filter(|code| !code.is_empty()), event.problem.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn requests(events: &[WebEvent]) -> Table {
    let headings = [
        "Time",
        "Person",
        "Target",
        "Method",
        "Path",
        "Status",
        "Sent",
        "Received",
        "Milliseconds",
        "Outcome",
        "Signed by the agent",
    ];
    let mut table = Table::new(headings, "No requests.");
    for event in events {
        table.row([
            local(&event.timestamp).into(),
            event.actor.subject_name.as_str().into(),
            event.place.target_name.as_str().into(),
            event.method.as_str().into(),
            event.path.as_str().into(),
            event.status.map(|status| status.to_string()).unwrap_or_default().into(),
            event.request_bytes.into(),
            event.response_bytes.into(),
            event.duration_millis.into(),
            format!("{:?}", event.outcome).to_lowercase().into(),
            if event.confirmed { "yes" } else { "no" }.into(),
        ]);
    }
    table
}

fn cluster(events: &[KubeEvent]) -> Table {
    let headings = [
        "Time",
        "Person",
        "Cluster",
        "As",
        "Groups",
        "Verb",
        "Resource",
        "Namespace",
        "Name",
        "Status",
        "Command",
        "Signed by the agent",
    ];
    let mut table = Table::new(headings, "No requests.");
    for KubeEvent { request, action, kubectl } in events {
        table.row([
            local(&request.timestamp).into(),
            request.actor.subject_name.as_str().into(),
            request.place.target_name.as_str().into(),
            request.place.target_user.as_str().into(),
            request.place.target_groups.join(", ").into(),
            action.verb.as_str().into(),
            if action.resource.is_empty() { request.path.as_str() } else { &action.resource }.into(),
            action.namespace.as_deref().unwrap_or_default().into(),
            action.name.as_deref().unwrap_or_default().into(),
            request.status.map(|status| status.to_string()).unwrap_or_default().into(),
            action.command.as_deref().or(kubectl.as_deref()).unwrap_or_default().into(),
            if request.confirmed { "yes" } else { "no" }.into(),
        ]);
    }
    table
}

fn users(events: &[UserEvent]) -> Table {
    let mut table = Table::new(["Time", "Who", "Action", "Resource", "", "From"], "No events.");
    for event in events {
        let outcome =
            if event.evaluation { Field::toned(&"allowed", Tone::Plain) } else { Field::toned(&"denied", Tone::Bad) };
        table.row([
            local(&event.timestamp).into(),
            event.actor.subject_name.as_str().into(),
            event.service_action.as_str().into(),
            event.resource.as_str().into(),
            outcome,
            event.ip_address.as_str().into(),
        ]);
    }
    table
}

fn time(text: &str) -> Result<UnixTime, String> {
    let stamp: jiff::Timestamp = text.parse().map_err(|_| "a time looks like 2026-01-02T03:04:05Z".to_owned())?;
    u64::try_from(stamp.as_millisecond()).map(UnixTime::from_millis).map_err(|_| "that was before 1970".to_owned())
}
