//! A recording in progress, as server-sent events: from its beginning, then as it grows, to its end.
//!
//! It is read from its files as fast as the other end takes it, and never waits for anybody: who does not read holds up
//! neither the session nor its record. A line is sent when the agent signed what it shows, which it does each second.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use bz_core::id::ConnectionId;
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::api::event::stream::ALIVE;
use crate::api::openapi::Events;
use crate::api::recording::{is_over, recorded};
use crate::api::right::Right;
use crate::api::{Answer, Call};
use crate::app::App;
use crate::error::ApiError;
use crate::record::RecordError;
use crate::record::live::Grown;
use crate::record::watch::{Place, Watcher};

/// `GET session-recordings/{id}/stream`: from the beginning, or after the line that `Last-Event-ID` names.
pub(in crate::api) async fn watch(call: Call) -> Result<Answer<Events>, ApiError> {
    let (connection, _) = recorded(&call).await?;
    let header = call.head.headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default().to_owned());
    let after = match header.or_else(|| call.query("after").pop()) {
        None => None,
        Some(text) => Some(text.parse().map_err(|()| ApiError::field("Last-Event-ID", "must be the id of a line"))?),
    };
    let place = Arc::clone(&call.app.streams).try_acquire_owned().map_err(|_| ApiError::too_many())?;
    let mut grows = call.app.records.grows(connection.id);
    let deletions = grows.borrow_and_update().deletions;
    let flow = Flow {
        app: Arc::clone(&call.app),
        right: Right::of(&call),
        connection: connection.id,
        watcher: Watcher::new(connection.id),
        grows,
        deletions,
        after,
        headed: false,
        ended: false,
        _place: place,
    };
    Ok(Answer::flowing(Events::MEDIA, Body::from_stream(flow.run("retry: 2000\n\n".to_owned()))))
}

/// One who watches.
struct Flow {
    app: Arc<App>,
    right: Right,
    connection: ConnectionId,
    watcher: Watcher,
    grows: watch::Receiver<Grown>,
    /// How many deletions of this recording were told.
    deletions: u64,
    /// The last line that was sent.
    after: Option<Place>,
    headed: bool,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Flow {
    fn run(self, greeting: String) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        futures::stream::unfold((self, Some(greeting)), |(mut flow, greeting)| async move {
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
            if self.ended || self.app.stopping.is_cancelled() || !self.right.holds().await {
                return None;
            }
            // Before the look, so that what comes after it wakes.
            self.grows.borrow_and_update();
            let text = match self.look().await {
                Ok(text) => text,
                Err(error) => {
                    tracing::warn!(connection = %self.connection, %error, "a recording cannot be watched further");
                    return None;
                }
            };
            if !text.is_empty() {
                return Some(text);
            }
            if let Some(alive) = self.wait().await {
                return Some(alive);
            }
        }
    }

    /// What there is now; nothing when there is nothing new.
    async fn look(&mut self) -> Result<String, RecordError> {
        let over = match self.app.store.connection(self.connection).await {
            Ok(Some(connection)) => is_over(&self.app, &connection).then_some(connection),
            Ok(None) => None,
            Err(error) => return Err(RecordError::Task(error.to_string())),
        };
        loop {
            let lines = self.watcher.next(&self.app.records, over.is_some()).await?;
            // After the read: nothing that was deleted by now is sent.
            let deletions = self.grows.borrow().deletions;
            if deletions != self.deletions {
                self.deletions = deletions;
                self.watcher = Watcher::new(self.connection);
                return Ok("event: deleted\ndata: {}\n\n".to_owned());
            }
            let Some(lines) = lines else {
                self.ended = over.is_some();
                return Ok(if self.ended { "event: end\ndata: {}\n\n".to_owned() } else { String::new() });
            };
            let text = self.show(lines);
            if !text.is_empty() {
                return Ok(text);
            }
        }
    }

    /// Lines that the other end has not seen, behind the header.
    fn show(&mut self, lines: Vec<(Place, String)>) -> String {
        let mut text = String::new();
        if let Some(header) = self.watcher.header().filter(|_| !self.headed) {
            self.headed = true;
            text = format!("event: header\ndata: {header}\n\n");
        }
        for (place, line) in lines {
            if self.after.is_none_or(|after| place > after) {
                self.after = Some(place);
                text.push_str(&format!("id: {place}\nevent: line\ndata: {line}\n\n"));
            }
        }
        text
    }

    /// Until there may be more, or a sign of life is due.
    async fn wait(&mut self) -> Option<String> {
        let at = self.app.now().mono.after(ALIVE);
        tokio::select! {
            _ = self.grows.changed() => None,
            () = self.app.stopping.cancelled() => None,
            () = self.app.clock().wait(at) => Some(":\n\n".to_owned()),
        }
    }
}
