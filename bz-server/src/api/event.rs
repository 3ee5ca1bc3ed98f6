//! Logs, newest first, in UTC, a page at a time.

pub(super) mod filter;
pub(crate) mod stream;

use bz_core::api::record::{
    AgentStatusEvent, CommandEvent, ConnectionEvent, FileEvent, KubeEvent, KubeEventFields, LogHead, QueryEvent,
    UserEvent, WebEvent,
};

use crate::api::page::List;
use crate::api::{Answer, Call};
use crate::error::ApiError;
use crate::store::event::{Log, Row};

/// `GET events/subject`.
pub(super) async fn subject(call: Call) -> Result<Answer<List<UserEvent>>, ApiError> {
    log(call, Log::Calls).await
}

/// `GET events/connection`.
pub(super) async fn connection(call: Call) -> Result<Answer<List<ConnectionEvent>>, ApiError> {
    log(call, Log::Connections).await
}

/// `GET events/command`.
pub(super) async fn command(call: Call) -> Result<Answer<List<CommandEvent>>, ApiError> {
    log(call, Log::Commands).await
}

/// `GET events/file`.
pub(super) async fn file(call: Call) -> Result<Answer<List<FileEvent>>, ApiError> {
    log(call, Log::Files).await
}

/// `GET events/query`.
pub(super) async fn query(call: Call) -> Result<Answer<List<QueryEvent>>, ApiError> {
    log(call, Log::Queries).await
}

/// `GET events/web`.
pub(super) async fn web(call: Call) -> Result<Answer<List<WebEvent>>, ApiError> {
    log(call, Log::Web).await
}

/// `GET events/kube`: with the fields of the original beside ours.
pub(super) async fn kube(call: Call) -> Result<Answer<List<KubeEventFields>>, ApiError> {
    let page = call.app.store.events(Log::Kube, filter::of(&call, Log::Kube)?).await?;
    let both = |row: &Row| {
        let event: KubeEvent = serde_json::from_str(&row.body).map_err(ApiError::internal)?;
        Ok(KubeEventFields::of(event))
    };
    let events = page.rows.iter().map(both).collect::<Result<Vec<_>, ApiError>>()?;
    Answer::page(&call, &events, page.next.map(|next| next.to_string()).as_deref())
}

/// `GET events/agent-status-change`: of one target, which is named.
pub(super) async fn agent_status_change(call: Call) -> Result<Answer<List<AgentStatusEvent>>, ApiError> {
    if call.query("targetId").is_empty() {
        return Err(ApiError::field("targetId", "is needed: name a target"));
    }
    log(call, Log::Agents).await
}

/// `GET events/head`: the end of the chain, to be written down somewhere else.
pub(super) async fn head(call: Call) -> Result<Answer<LogHead>, ApiError> {
    let head = call.app.store.event_head().await?;
    Answer::json(&LogHead {
        count: head.count,
        hash: head.hash.to_string(),
        head: head.to_string(),
        timestamp: call.now().to_string(),
    })
}

/// Bodies go out as they are stored: what was hashed is what is read.
async fn log<T>(call: Call, log: Log) -> Result<Answer<List<T>>, ApiError> {
    let page = call.app.store.events(log, filter::of(&call, log)?).await?;
    let bodies: Vec<_> = page.rows.iter().map(|row| row.body.as_str()).collect();
    let text = format!("[{}]", bodies.join(","));
    Answer::of("application/json", text.into_bytes())
        .leading_on(&call, page.next.map(|next| next.to_string()).as_deref())
}
