//! Requests to web servers and clusters behind targets, for their logs.

use bz_core::access::Lens;
use bz_core::api::record::{KubeEvent, WebEvent};
use bz_core::id::EventId;
use bz_core::time::UnixTime;
use bz_protocol::frame::Kind;
use bz_protocol::keys::Direction;
use bz_protocol::transcript::Seen;

use crate::app::App;
use crate::observe::{self, Exchange, Observer};
use crate::record::carrier::{Carrier, Inner, MAX_LINES, Session};

impl Inner {
    /// Reads a frame for the log of requests.
    pub(super) fn read_requests(&mut self, seen: &Seen, at: UnixTime) {
        let stream = (seen.direction, seen.stream);
        let lines = match seen.kind {
            Some(Kind::Bytes) => self.lens.requests(at, stream, &seen.payload),
            Some(Kind::Eof) => self.lens.request_eof(at, stream),
            Some(Kind::Reset) => self.lens.request_reset(at, seen.stream),
            _ => Vec::new(),
        };
        let number = if seen.direction == Direction::ToClient { seen.number } else { self.shown };
        self.requests.extend(lines.into_iter().map(|line| (number, line)));
        let typed = self.lens.typed();
        self.add(typed);
    }

    /// The requests that a checkpoint of the agent covers by now; also others when there are too many to wait.
    pub(super) fn confirmed_requests(&mut self) -> Vec<(Exchange, bool)> {
        let observer = &self.observer;
        let covered = |number: u64| observer.is_confirmed(Direction::ToClient, number);
        let count = self.requests.iter().take_while(|(number, _)| covered(*number)).count();
        let count = if self.requests.len() > MAX_LINES { self.requests.len() } else { count };
        self.requests.drain(..count).map(|(number, line)| (line, covered(number))).collect()
    }

    /// Those that are left when nothing more comes, and whether a checkpoint of the agent covers each.
    pub(super) fn last_requests(&mut self, at: UnixTime) -> Vec<(Exchange, bool)> {
        let left = self.lens.finish_requests(at);
        let shown = self.shown;
        self.requests.extend(left.into_iter().map(|line| (shown, line)));
        let mut last = self.confirmed_requests();
        last.extend(std::mem::take(&mut self.requests).into_iter().map(|(_, line)| (line, false)));
        last
    }
}

impl Session {
    /// A session that is gone on with, as after a start of the server. What was under way on a stream then is not known:
    /// the stream is read on from where a request begins, or is none.
    pub(super) fn listen_again(&self, lens: Lens) {
        match lens {
            Lens::Http | Lens::Kube => self.lock().lens = Observer::new(lens, 0, 0),
            Lens::Ssh => self.lock().lens = Observer::Ssh(Box::new(observe::SshLens::resumed())),
            Lens::Command | Lens::Request | Lens::Opaque | Lens::Files | Lens::Query => {}
        }
    }
}

impl Carrier {
    /// Requests for the log; whether a checkpoint of the agent covers each.
    pub(super) fn requested(&self, lines: Vec<(Exchange, bool)>) -> Option<Requested> {
        if self.connection.access.spec().lens != Lens::Kube {
            let events = lines.into_iter().map(|(line, confirmed)| self.web_event(line, confirmed));
            return events.collect::<Option<_>>().map(Requested::Web);
        }
        let event = |(line, confirmed): (Exchange, bool)| {
            let (action, kubectl) = (observe::kube::action(&line), line.wanted.as_deref().map(observe::http::escaped));
            Some(KubeEvent { request: self.web_event(line, confirmed)?, action, kubectl })
        };
        lines.into_iter().map(event).collect::<Option<_>>().map(Requested::Kube)
    }

    fn web_event(&self, line: Exchange, confirmed: bool) -> Option<WebEvent> {
        let id = self.app.random().map(EventId::from_random).ok()?;
        Some(WebEvent {
            id,
            connection_id: self.connection.id,
            organization_id: self.app.organization,
            actor: self.connection.actor.clone(),
            place: self.connection.place.clone(),
            path: line.path(),
            method: line.method,
            status: line.status,
            request_bytes: line.sent,
            response_bytes: line.received,
            duration_millis: u64::try_from(line.ended.since(line.began).as_millis()).unwrap_or(u64::MAX),
            outcome: line.outcome,
            confirmed,
            timestamp: line.began.to_string(),
        })
    }
}

/// Rows for a log.
pub(super) enum Requested {
    Web(Vec<WebEvent>),
    Kube(Vec<KubeEvent>),
}

/// Writes them down.
pub(super) async fn log_requests(app: &App, requested: Option<Requested>) {
    let at = app.now().wall;
    let logged = match requested {
        Some(Requested::Web(events)) if !events.is_empty() => app.store.add_events(timed(events, at)).await,
        Some(Requested::Kube(events)) if !events.is_empty() => app.store.add_events(timed(events, at)).await,
        Some(_) => return,
        None => {
            tracing::error!("requests could not be logged: the operating system gives no random bytes");
            return;
        }
    };
    if let Err(error) = logged {
        tracing::error!(%error, "requests could not be logged");
    }
}

fn timed<E>(events: Vec<E>, at: UnixTime) -> Vec<(E, UnixTime)> {
    events.into_iter().map(|event| (event, at)).collect()
}
