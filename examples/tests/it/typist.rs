//! Somebody at the keyboard of a session's shell, who looks before typing on.

use std::cell::Cell;
use std::time::Duration;

use bz_client::client::Client;
use bz_client::session::Session;
use bz_core::access::request::{Parameters, Size};
use bz_core::api::access::Connection;
use bz_examples::world::TARGET;
use bz_protocol::client::{Action, Event};
use bz_protocol::frame::Notice;
use bz_protocol::session::End;

/// Far above what anything here needs, so that only a real fault runs into it.
const DEADLINE: Duration = Duration::from_secs(60);
const SIZE: Size = Size { rows: 24, columns: 80 };

pub(crate) struct Typist {
    pub(crate) session: Session,
    /// All that was shown, and how much of it before the last keys.
    pub(crate) seen: Vec<u8>,
    mark: usize,
    /// Whether the terminal asks for a password.
    pub(crate) password: bool,
    pub(crate) taken_over: bool,
    end: Option<End>,
}

impl Typist {
    /// At a new shell of this user.
    pub(crate) async fn at(client: &Client, user: &str) -> Self {
        Self::on(client, user, TARGET).await
    }

    pub(crate) async fn on(client: &Client, user: &str, target: &str) -> Self {
        let parameters = Parameters::Shell { term: "xterm-256color".to_owned(), size: SIZE };
        let asked = client.ask(&format!("{user}@{target}").parse().unwrap(), parameters, None).await.unwrap();
        Self::new(client.session(asked).await.unwrap())
    }

    /// At the shell behind a connection.
    pub(crate) async fn back_at(client: &Client, connection: &Connection) -> Self {
        let asked = client.attach_grant(connection, SIZE).await.unwrap();
        Self::new(client.session(asked).await.unwrap())
    }

    const fn new(session: Session) -> Self {
        Self { session, seen: vec![], mark: 0, password: false, taken_over: false, end: None }
    }

    /// Types a line and waits for what it shows.
    pub(crate) async fn line(&mut self, line: &str, shows: &[&str]) {
        self.keys(&format!("{line}\r")).await;
        self.shows(shows).await;
    }

    pub(crate) async fn keys(&mut self, keys: &str) {
        self.mark = self.seen.len();
        self.act(Action::Bytes { stream: 0, bytes: keys.as_bytes().to_vec() }).await;
    }

    pub(crate) async fn act(&self, action: Action) {
        self.session.actions().act(action).await.unwrap();
    }

    /// What was shown since the last keys.
    pub(crate) fn new_text(&self) -> String {
        String::from_utf8_lossy(&self.seen[self.mark..]).into_owned()
    }

    /// Waits until all of it has come since the last keys, one after the other.
    pub(crate) async fn shows(&mut self, wanted: &[&str]) {
        let mut from = self.mark;
        for one in wanted {
            let (one, found) = (one.as_bytes(), Cell::new(None));
            // A burst is looked through once.
            let looked = Cell::new(from);
            let come = |typist: &Self| {
                let start = looked.replace(typist.seen.len().saturating_sub(one.len()).max(from));
                let new = typist.seen.get(start..).unwrap_or_default();
                found.set(new.windows(one.len()).position(|bytes| bytes == one).map(|at| start + at + one.len()));
                found.get().is_some()
            };
            self.until(&format!("{wanted:?}"), come).await;
            from = found.get().unwrap_or(from);
        }
    }

    pub(crate) async fn ends(&mut self) -> End {
        self.until("the end", |typist| typist.end.is_some()).await;
        self.end.clone().unwrap()
    }

    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let read = async {
            while !holds(self) {
                match self.session.next().await {
                    Some(Event::Bytes { bytes, .. }) => self.seen.extend(bytes),
                    Some(Event::Notice(Notice::Password(on))) => self.password = on,
                    Some(Event::Notice(Notice::TakenOver)) => self.taken_over = true,
                    Some(Event::Ended(end)) => self.end = Some(end),
                    Some(_) => {}
                    None => panic!("the session is gone before {what}: {}", self.tail()),
                }
            }
        };
        if tokio::time::timeout(DEADLINE, read).await.is_err() {
            panic!("{what} did not come: {}", self.tail());
        }
    }

    pub(crate) fn tail(&self) -> String {
        let from = self.mark.saturating_sub(300).max(self.seen.len().saturating_sub(4000));
        format!("{:?}", String::from_utf8_lossy(&self.seen[from..]))
    }
}
