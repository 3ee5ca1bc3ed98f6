//! Logs as they grow, as server-sent events, and logs to take along, as lines of JSON.
//!
//! Both are read from the store as fast as the other end takes them: nothing waits in memory for a slow reader but the
//! one step that it is at. Whoever reads is asked for their right again and again while it goes on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::api::event::filter;
use crate::api::openapi::{Events, Lines};
use crate::api::right::Right;
use crate::api::{Answer, Call};
use crate::app::App;
use crate::error::ApiError;
use crate::store::event::{EventFilter, Log, Row};

/// Streams at once.
pub(crate) const MOST_STREAMS: usize = 128;
/// How often something is sent when nothing happens, so that both ends know that the other is there.
pub(crate) const ALIVE: Duration = Duration::from_secs(10);

/// `GET events/stream`: what comes from now on, or after the event that `Last-Event-ID` names.
pub(in crate::api) async fn stream(call: Call) -> Result<Answer<Events>, ApiError> {
    let head = call.app.store.event_head().await?.count;
    let header = call.head.headers.get("last-event-id").and_then(|id| id.to_str().ok().map(str::to_owned));
    let after = match header.or_else(|| call.query("after").pop()) {
        None => head,
        Some(text) => text.parse().map_err(|_| ApiError::field("Last-Event-ID", "must be the number of an event"))?,
    };
    // Of a head that is not there yet, nothing would ever come.
    let flow = Flow::of(&call, (after.min(head), None))?;
    Ok(Answer::flowing(Events::MEDIA, Body::from_stream(flow.run(Some("retry: 2000\n\n".to_owned())))))
}

/// `GET events/export`: all there is, oldest first, with what proves it: each line's hash follows from the one before
/// when nothing is filtered out.
pub(in crate::api) async fn export(call: Call) -> Result<Answer<Lines>, ApiError> {
    let after = call.query("after").pop().and_then(|text| text.parse().ok()).unwrap_or(0);
    let head = call.app.store.event_head().await?.count;
    let flow = Flow::of(&call, (after, Some(head)))?;
    Ok(Answer::flowing(Lines::MEDIA, Body::from_stream(flow.run(None))))
}

/// One reader.
struct Flow {
    app: Arc<App>,
    right: Right,
    logs: Vec<Log>,
    filter: EventFilter,
    /// The last row that was looked at.
    after: u64,
    /// Where an export ends.
    until: Option<u64>,
    added: watch::Receiver<i64>,
    _place: OwnedSemaphorePermit,
}

impl Flow {
    fn of(call: &Call, (after, until): (u64, Option<u64>)) -> Result<Self, ApiError> {
        let place = Arc::clone(&call.app.streams).try_acquire_owned().map_err(|_| ApiError::too_many())?;
        let named: Vec<_> = call.query("logs").iter().filter_map(|name| Log::named(name)).collect();
        Ok(Self {
            app: Arc::clone(&call.app),
            right: Right::of(call),
            logs: if named.is_empty() { Log::ALL.to_vec() } else { named },
            filter: filter::of_all(call)?,
            after,
            until,
            added: call.app.store.added_events(),
            _place: place,
        })
    }

    /// What goes over, from a greeting on.
    fn run(self, greeting: Option<String>) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        futures::stream::unfold((self, greeting), |(mut flow, greeting)| async move {
            let text = match greeting {
                Some(greeting) => greeting,
                None => flow.step().await?,
            };
            Some((Ok(Bytes::from(text)), (flow, None)))
        })
    }

    /// The next that goes over; `None` at the end.
    async fn step(&mut self) -> Option<String> {
        loop {
            if self.app.stopping.is_cancelled() || !self.right.holds().await {
                return None;
            }
            // Before the look, so that what comes after it wakes.
            self.added.mark_unchanged();
            let question = (self.logs.clone(), self.filter.clone());
            let (rows, next) = match self.app.store.events_after(question, self.after).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "a stream of events ends");
                    return None;
                }
            };
            let went_on = next > self.after;
            self.after = next;
            let text = self.show(&rows);
            match (text.is_empty(), self.until) {
                (false, _) => return Some(text),
                (true, Some(until)) if next >= until || !went_on => return None,
                (true, Some(_)) => {}
                (true, None) if went_on => {}
                (true, None) => {
                    if let Some(alive) = self.wait().await {
                        return Some(alive);
                    }
                }
            }
        }
    }

    /// Until something was added, or a sign of life is due.
    async fn wait(&mut self) -> Option<String> {
        let at = self.app.now().mono.after(ALIVE);
        tokio::select! {
            _ = self.added.changed() => None,
            () = self.app.stopping.cancelled() => None,
            () = self.app.clock().wait(at) => Some(":\n\n".to_owned()),
        }
    }

    fn show(&self, rows: &[Row]) -> String {
        let rows = rows.iter().filter(|row| self.until.is_none_or(|until| row.seq <= until));
        rows.map(|row| if self.until.is_some() { row.line() } else { event(row) }).collect()
    }
}

/// A server-sent event. A body is JSON on one line.
fn event(row: &Row) -> String {
    format!("id: {}\nevent: {}\ndata: {}\n\n", row.seq, row.log.name(), row.body)
}
