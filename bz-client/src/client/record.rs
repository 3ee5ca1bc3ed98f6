//! What the server keeps: transcripts, recordings, and the three logs.

use bz_core::api::record::{
    AgentStatusEvent, CommandEvent, ConnectionEvent, FileEvent, KubeEvent, QueryEvent, RecordingMatch,
    SessionRecording, TranscriptFile, UserEvent, WebEvent,
};
use bz_core::id::{ConnectionId, TargetId};
use bz_core::time::UnixTime;

use crate::client::Client;
use crate::http::Incoming;
use crate::rest::RestError;

/// A file on its way from the server, of a size nobody knows before.
#[derive(Debug)]
pub struct Download(Incoming);

impl Download {
    /// The next bytes; `None` when it is whole.
    ///
    /// # Errors
    /// [`RestError`] when it breaks off; what came is not whole then.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, RestError> {
        Ok(self.0.next().await?)
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

    /// A recording as an asciicast, as far as it goes by now.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn recording(&self, connection: ConnectionId) -> Result<Download, RestError> {
        self.download(&format!("session-recordings/{connection}"), &[]).await
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
        Ok(Download(self.rest.download(&self.caller().await, path, query).await?))
    }
}
