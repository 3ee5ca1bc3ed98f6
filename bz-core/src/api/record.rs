//! Logs and records, newest first, all times UTC.

use serde::{Deserialize, Serialize};

use crate::api::access::ConnectionState;
use crate::api::policy::SubjectType;
use crate::id::{ConnectionId, EnvironmentId, EventId, OrganizationId, TargetId, UserId};
use crate::key::PublicKey;

/// Who did something, as every event names it. Kept when the person is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// Who; absent when nobody was proved.
    pub subject_id: Option<UserId>,
    /// What kind.
    pub subject_type: SubjectType,
    /// The address or name then.
    pub subject_name: String,
    /// Whether an administrator then.
    pub is_admin: bool,
}

/// Where something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The target.
    pub target_id: TargetId,
    /// Its name then.
    pub target_name: String,
    /// Its kind.
    pub target_type: String,
    /// As whom.
    pub target_user: String,
    /// In which groups of a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_groups: Vec<String>,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Its name then.
    pub environment_name: String,
}

/// A call of the API: `GET events/subject`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct UserEvent {
    /// The event.
    pub id: EventId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Who.
    #[serde(flatten)]
    pub actor: Actor,
    /// What, such as `connectionservice:connect`.
    pub service_action: String,
    /// On what.
    pub resource: String,
    /// Whether policy allowed it.
    pub evaluation: bool,
    /// When, RFC 3339.
    pub timestamp: String,
    /// From where.
    pub ip_address: String,
    /// More about it, as JSON text.
    pub context: String,
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConnectionEventType {
    /// Opened.
    Created,
    /// Closed.
    Closed,
    /// Its client came.
    ClientConnect,
    /// Its client left.
    ClientDisconnect,
    /// A client came to its shell.
    ShellConnect,
    /// A client left its shell, which runs on.
    ShellDisconnect,
    /// A stream was opened in it, by its agent's report: the reason says where to.
    StreamOpen,
    /// A stream was asked for and not opened, by its agent's report.
    StreamRefused,
}

/// `GET events/connection`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectionEvent {
    /// The event.
    pub id: EventId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Whose.
    #[serde(flatten)]
    pub actor: Actor,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The space it began in.
    pub session_name: String,
    /// What happened.
    pub connection_event_type: ConnectionEventType,
    /// Who or what made it happen, in a sentence.
    pub reason: String,
    /// When, RFC 3339.
    pub timestamp: String,
    /// The server's node.
    pub connection_node_id: String,
}

/// `GET events/command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CommandEvent {
    /// The event.
    pub id: EventId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Whose.
    #[serde(flatten)]
    pub actor: Actor,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The command line.
    pub command: String,
    /// How it was read.
    pub source: CommandSource,
    /// Whether a checkpoint of the agent covers it.
    pub confirmed: bool,
    /// When, RFC 3339.
    pub timestamp: String,
}

/// How a command line was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CommandSource {
    /// The request itself was the command.
    Request,
    /// The shell marked it.
    Marks,
    /// Read from the emulated screen: an aid to reading, not a control.
    Screen,
}

/// `GET events/file`: a file that was copied, or was to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct FileEvent {
    /// The event.
    pub id: EventId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Whose.
    #[serde(flatten)]
    pub actor: Actor,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Which way.
    pub direction: FileDirection,
    /// Its full path on the target; what is no plain text in it is escaped as `\xNN`.
    pub path: String,
    /// What became of it.
    pub outcome: FileOutcome,
    /// Its bytes; of an incomplete one, those that went over.
    pub size: u64,
    /// The SHA-256 of its content, when it was copied whole.
    pub sha256: Option<String>,
    /// Why it was not copied, as the target said it.
    pub problem: Option<String>,
    /// Whether a checkpoint of the agent covers it.
    pub confirmed: bool,
    /// When, RFC 3339.
    pub timestamp: String,
}

/// Which way a file went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum FileDirection {
    /// To the target.
    ToTarget,
    /// From the target.
    FromTarget,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum FileOutcome {
    /// The target gave or took it whole.
    Copied,
    /// The copy ended, or gave up, within it.
    Incomplete,
    /// It was not copied.
    Failed,
    /// The stream was not that of a copy: there may be more than the log knows.
    Unparsed,
    /// It was removed on the target.
    Removed,
    /// It has another name on the target now: that of the row `movedTo` that follows.
    MovedFrom,
    /// It has this name on the target now.
    MovedTo,
}

/// `GET events/query`: a statement that a database was asked to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct QueryEvent {
    /// The event.
    pub id: EventId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// Which of the programs' connections in it.
    pub stream: u32,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Whose.
    #[serde(flatten)]
    pub actor: Actor,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The database's user who logged in.
    pub database_user: String,
    /// The database.
    pub database: String,
    /// What kind of statement, such as `SELECT`; `LOGIN` for the login itself.
    pub kind: String,
    /// Its text, without passwords; control characters in it are escaped.
    pub statement: String,
    /// Values of the parameters of a prepared statement; null is NULL.
    pub parameters: Vec<Option<String>>,
    /// What became of it.
    pub outcome: QueryOutcome,
    /// Rows that came, or were changed, where the database says so.
    pub rows: Option<u64>,
    /// How long the answer took, seen from the server.
    pub duration_millis: Option<u64>,
    /// The database's code for what is wrong (SQLSTATE).
    pub sql_state: Option<String>,
    /// What is wrong, in words.
    pub problem: Option<String>,
    /// Whether a checkpoint of the agent covers it.
    pub confirmed: bool,
    /// When it was asked, RFC 3339.
    pub timestamp: String,
}

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum QueryOutcome {
    /// The database ran it.
    Done,
    /// The database says that it failed.
    Failed,
    /// It was not run, because one before it failed.
    Skipped,
    /// No answer was seen.
    Unanswered,
    /// The stream could not be read from here on: there may be more than the log knows.
    Unparsed,
}

/// `GET events/web`: a request to a web server behind a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebEvent {
    /// The event.
    pub id: EventId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Whose.
    #[serde(flatten)]
    pub actor: Actor,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// `GET`, …; empty where nothing could be read.
    pub method: String,
    /// The path, and of a query the names without their values; what is no plain text in it is escaped as `\xNN`.
    pub path: String,
    /// The answer's status, where there was one.
    pub status: Option<u16>,
    /// Bytes of the request's body; of an upgraded connection, all that went there.
    pub request_bytes: u64,
    /// Bytes of the answer's body; of an upgraded connection, all that came back.
    pub response_bytes: u64,
    /// From the request's coming to the answer's end, by the server's clock.
    pub duration_millis: u64,
    /// What became of it.
    pub outcome: WebOutcome,
    /// Whether a checkpoint of the agent covers it.
    pub confirmed: bool,
    /// When the request came, RFC 3339.
    pub timestamp: String,
}

/// What a request to a cluster asks for, in the words of the cluster's own policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KubeAction {
    /// `get`, `list`, `watch`, `create`, …; of what is no resource, the method.
    pub verb: String,
    /// `pods`, `pods/exec`, …; empty for what is none.
    pub resource: String,
    /// The namespace, where there is one.
    pub namespace: Option<String>,
    /// The name, where one is asked for.
    pub name: Option<String>,
    /// What is run in a container.
    pub command: Option<String>,
}

/// `GET events/kube`: a request to a cluster. As whom is said by the place: its user and groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KubeEvent {
    /// The request, as of any web server.
    #[serde(flatten)]
    pub request: WebEvent,
    /// What it asks for.
    #[serde(flatten)]
    pub action: KubeAction,
    /// The command on the person's machine that it belongs to, by the person's own word.
    pub kubectl: Option<String>,
}

/// The same with the names that the original has for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KubeEventFields {
    /// Our own.
    #[serde(flatten)]
    pub event: KubeEvent,
    /// When.
    pub creation_date: String,
    /// As whom in the cluster.
    pub role: String,
    /// The API that was called: one, since each call is an event.
    pub endpoints: Vec<KubeEndpoint>,
    /// What was run in a container.
    pub exec_commands: Vec<KubeEndpoint>,
    /// The command on the person's machine.
    pub kube_english_command: String,
    /// The answer's status; 0 when there was none.
    pub status_code: u16,
    /// Whose.
    pub user_id: Option<UserId>,
    /// The person's address then.
    pub user_email: String,
    /// The cluster.
    pub cluster_id: TargetId,
}

/// One call of a cluster's API, or one command in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KubeEndpoint {
    /// The event.
    pub id: EventId,
    /// When.
    pub time_created: String,
    /// Method and path, or the command.
    pub event: String,
}

impl KubeEventFields {
    /// An event with both kinds of names.
    #[must_use]
    pub fn of(event: KubeEvent) -> Self {
        let request = &event.request;
        let endpoint = |event: String| KubeEndpoint { id: request.id, time_created: request.timestamp.clone(), event };
        Self {
            creation_date: request.timestamp.clone(),
            role: request.place.target_user.clone(),
            endpoints: vec![endpoint(format!("{} {}", request.method, request.path))],
            exec_commands: event.action.command.iter().map(|command| endpoint(command.clone())).collect(),
            kube_english_command: event.kubectl.clone().unwrap_or_default(),
            status_code: request.status.unwrap_or_default(),
            user_id: request.actor.subject_id,
            user_email: request.actor.subject_name.clone(),
            cluster_id: request.place.target_id,
            event,
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum WebOutcome {
    /// It was answered, and the answer was whole.
    Answered,
    /// There was no answer, or it was cut.
    Incomplete,
    /// Another protocol, such as WebSocket, took the connection over. What it carried is not read.
    Upgraded,
    /// The stream was no HTTP: there may be more than the log knows.
    Unparsed,
}

/// `GET events/agent-status-change`: an agent that came, went or started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentStatusEvent {
    /// The event.
    pub id: EventId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Its target.
    pub target_id: TargetId,
    /// The target's name then.
    pub target_name: String,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// The environment's name then.
    pub environment_name: String,
    /// From what to what, such as `OnlineToOffline`.
    pub status_change: String,
    /// When, RFC 3339.
    #[serde(rename = "timeStamp")]
    pub timestamp: String,
    /// Why, in a sentence.
    pub reason: String,
    /// The agent's identity key.
    pub agent_public_key: PublicKey,
}

/// `GET events/head`: the end of the chain of all logs. Whoever writes it down elsewhere can prove later that nothing
/// before it was changed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogHead {
    /// How many rows there ever were.
    pub count: u64,
    /// The hash of the last one.
    pub hash: String,
    /// Both, as `bz-server audit verify --head` takes them.
    pub head: String,
    /// When this was so, RFC 3339.
    pub timestamp: String,
}

/// `GET session-recordings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SessionRecording {
    /// The connection.
    pub connection_id: ConnectionId,
    /// When it was made, RFC 3339.
    pub time_created: String,
    /// Where it is in its life.
    pub connection_state: ConnectionState,
    /// The target.
    pub target_id: TargetId,
    /// Always `Bzero` yet.
    pub target_type: String,
    /// Its name then.
    pub target_name: String,
    /// As whom.
    pub target_user: String,
    /// Whether what the person typed is recorded, too.
    pub input_recorded: bool,
    /// Whose.
    pub subject_id: UserId,
    /// The bytes of its transcripts.
    pub size: u64,
    /// When what was recorded until then was deleted, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_deleted: Option<String>,
}

/// `GET session-recordings/{id}/search`: a line that was shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecordingMatch {
    /// When it began, in seconds from the recording's beginning.
    pub offset_seconds: f64,
    /// The line, without colors.
    pub line: String,
}

/// `GET connections/{id}/transcripts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TranscriptFile {
    /// Its number within the connection, from 1: one session each.
    pub number: u32,
    /// Its bytes.
    pub size: u64,
}
