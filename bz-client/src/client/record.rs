//! What the server keeps: transcripts, recordings, and the three logs.

use std::time::Duration;

use bz_core::api::record::{
    AgentStatusEvent, CommandEvent, ConnectionEvent, FileEvent, KubeEvent, QueryEvent, RecordingMatch,
    SessionRecording, TranscriptFile, UserEvent, WebEvent,
};
use bz_core::id::{ConnectionId, TargetId};
use bz_core::time::UnixTime;

use reqwest::header::{CONTENT_RANGE, ETAG};

use crate::client::Client;
use crate::http::Incoming;
use crate::rest::RestError;

/// How often a download is taken up again without a byte in between, and after how long.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A file on its way from the server, of a size nobody knows before.
#[derive(Debug)]
pub struct Download {
    come: Incoming,
    again: Option<Again>,
}

/// What a download is taken up with where it broke off.
#[derive(Debug)]
struct Again {
    client: Client,
    path: String,
    /// The version, as its first answer said.
    tag: Option<String>,
    at: u64,
    tries: u32,
}

impl Download {
    const fn of(come: Incoming) -> Self {
        Self { come, again: None }
    }

    /// The next bytes; `None` when it is whole. One that breaks off is taken up again where the server can do that.
    ///
    /// # Errors
    /// [`RestError`] when it breaks off for good; what came is not whole then. [`RestError::Changed`] when the rest is of
    /// something else than what came.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, RestError> {
        loop {
            let broken = match self.come.next().await {
                Ok(bytes) => {
                    if let (Some(again), Some(bytes)) = (&mut self.again, &bytes) {
                        again.at = again.at.saturating_add(bytes.len() as u64);
                        again.tries = 0;
                    }
                    return Ok(bytes);
                }
                Err(error) => RestError::from(error),
            };
            let Some(again) = &mut self.again else { return Err(broken) };
            match again.open(broken).await? {
                Some(come) => self.come = come,
                None => return Ok(None),
            }
        }
    }
}

impl Again {
    /// The rest, as soon as the server is there; `None` when there is none.
    async fn open(&mut self, mut broken: RestError) -> Result<Option<Incoming>, RestError> {
        while self.tries < TRIES {
            self.tries += 1;
            let clock = &self.client.clock;
            clock.wait(clock.now().mono.after(PAUSE)).await;
            let from = (self.at, self.tag.as_deref());
            let caller = self.client.caller().await;
            match self.client.rest.download_from(&caller, (&self.path, &[]), Some(from)).await {
                Ok(come) => {
                    let same = come.header(ETAG) == self.tag.as_deref();
                    let here = format!("bytes {}-", self.at);
                    let fits = same && come.header(CONTENT_RANGE).is_some_and(|range| range.starts_with(&here));
                    // From the very beginning anything is the rest.
                    return if fits || self.at == 0 { Ok(Some(come)) } else { Err(RestError::Changed) };
                }
                Err(RestError::NoAnswer(error)) => broken = error.into(),
                Err(RestError::Refused(refused)) if refused.status == 416 => return Err(RestError::Changed),
                Err(error) => return Err(error),
            }
        }
        Err(broken)
    }
}

/// Which events of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// At most so many, the newest.
    pub count: u32,
    /// Of these connections; all when empty.
    pub connections: Vec<ConnectionId>,
    /// Not before.
    pub from: Option<UnixTime>,
    /// Not after.
    pub to: Option<UnixTime>,
    /// Of people or keys that were called so; all when empty.
    pub subjects: Vec<String>,
    /// On targets that were called so; all when empty.
    pub targets: Vec<String>,
    /// As these target users; all when empty.
    pub target_users: Vec<String>,
    /// Whose command or statement has this in it.
    pub search: Option<String>,
    /// Of calls: only those that policy denied.
    pub denied: bool,
}

impl EventFilter {
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("eventCount", self.count.to_string())];
        query.extend(self.connections.iter().map(|connection| ("connectionIds", connection.to_string())));
        query.extend(self.from.map(|time| ("startTimestamp", time.to_string())));
        query.extend(self.to.map(|time| ("endTimestamp", time.to_string())));
        query.extend(self.subjects.iter().map(|name| ("subjectNames", name.clone())));
        query.extend(self.targets.iter().map(|name| ("targetNames", name.clone())));
        query.extend(self.target_users.iter().map(|user| ("targetUsers", user.clone())));
        query.extend(self.search.iter().map(|text| ("commandSearch", text.clone())));
        query.extend(self.denied.then(|| ("evaluation", "false".to_owned())));
        query
    }
}

impl Client {
    /// The transcripts of a connection, one for each of its sessions.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn transcripts(&self, connection: ConnectionId) -> Result<Vec<TranscriptFile>, RestError> {
        self.get(&format!("connections/{connection}/transcripts"), &[]).await
    }

    /// One transcript, without tokens. To be verified by who gets it, and not by the server's word.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn transcript(&self, connection: ConnectionId, number: u32) -> Result<Download, RestError> {
        self.download(&format!("connections/{connection}/transcripts/{number}"), &[]).await
    }

    /// One transcript with its tokens: for who may have them, when they have ended.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn transcript_with_tokens(&self, connection: ConnectionId, number: u32) -> Result<Download, RestError> {
        self.download(&format!("connections/{connection}/transcripts/{number}"), &[("tokens", "true")]).await
    }

    /// The connections that were recorded, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn recordings(&self) -> Result<Vec<SessionRecording>, RestError> {
        self.get("session-recordings", &[]).await
    }

    /// A recording as an asciicast, as far as it goes by now. It is taken up again where it breaks off.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn recording(&self, connection: ConnectionId) -> Result<Download, RestError> {
        let path = format!("session-recordings/{connection}");
        let come = self.rest.download(&self.caller().await, &path, &[]).await?;
        let tag = come.header(ETAG).map(str::to_owned);
        Ok(Download { come, again: Some(Again { client: self.clone(), path, tag, at: 0, tries: 0 }) })
    }

    /// Deletes what was recorded of a connection so far; with `stop` nothing more is recorded of it.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn delete_recording(&self, connection: ConnectionId, stop: bool) -> Result<(), RestError> {
        let stop = if stop { "true" } else { "false" };
        self.rest.delete(&self.caller().await, &format!("session-recordings/{connection}"), &[("stop", stop)]).await
    }

    /// The lines shown in a recording that hold this text.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn search_recording(
        &self,
        connection: ConnectionId,
        text: &str,
    ) -> Result<Vec<RecordingMatch>, RestError> {
        self.get(&format!("session-recordings/{connection}/search"), &[("q", text)]).await
    }

    /// Calls of the API that fit, newest first. Connections are no part of them.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn user_events_where(&self, filter: &EventFilter) -> Result<Vec<UserEvent>, RestError> {
        self.events("events/subject", filter).await
    }

    /// What happened to connections, as far as it fits, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn connection_events_where(&self, filter: &EventFilter) -> Result<Vec<ConnectionEvent>, RestError> {
        self.events("events/connection", filter).await
    }

    /// Command lines that fit, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn command_events_where(&self, filter: &EventFilter) -> Result<Vec<CommandEvent>, RestError> {
        self.events("events/command", filter).await
    }

    /// Files that fit, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn file_events_where(&self, filter: &EventFilter) -> Result<Vec<FileEvent>, RestError> {
        self.events("events/file", filter).await
    }

    /// Statements of databases that fit, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn query_events_where(&self, filter: &EventFilter) -> Result<Vec<QueryEvent>, RestError> {
        self.events("events/query", filter).await
    }

    /// Requests to web servers that fit, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn web_events_where(&self, filter: &EventFilter) -> Result<Vec<WebEvent>, RestError> {
        self.events("events/web", filter).await
    }

    /// When agents of a target came, left and started again, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn agent_status_events(
        &self,
        target: TargetId,
        filter: &EventFilter,
    ) -> Result<Vec<AgentStatusEvent>, RestError> {
        let mut query = filter.query();
        query.push(("targetId", target.to_string()));
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.get("events/agent-status-change", &query).await
    }

    /// Requests to clusters that fit, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn kube_events_where(&self, filter: &EventFilter) -> Result<Vec<KubeEvent>, RestError> {
        self.events("events/kube", filter).await
    }

    /// Events of the log of this name that fit, newest first.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn events_of<T: serde::de::DeserializeOwned>(
        &self,
        log: &str,
        filter: &EventFilter,
    ) -> Result<Vec<T>, RestError> {
        self.events(&format!("events/{log}"), filter).await
    }

    async fn events<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        filter: &EventFilter,
    ) -> Result<Vec<T>, RestError> {
        let query = filter.query();
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.get(path, &query).await
    }

    async fn download(&self, path: &str, query: &[(&str, &str)]) -> Result<Download, RestError> {
        Ok(Download::of(self.rest.download(&self.caller().await, path, query).await?))
    }
}
