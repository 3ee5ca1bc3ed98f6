//! Logs, newest first, in UTC, a page at a time.

mod filter;

use axum::http::StatusCode;
use bz_core::api::record::{KubeEvent, KubeEventFields};

use crate::api::{Answer, Call};
use crate::error::ApiError;
use crate::store::event::{Log, Page, Row};

/// `GET events/subject`.
pub(super) async fn subject(call: Call) -> Result<Answer, ApiError> {
    log(call, Log::Calls).await
}

/// `GET events/connection`.
pub(super) async fn connection(call: Call) -> Result<Answer, ApiError> {
    log(call, Log::Connections).await
}

/// `GET events/command`.
pub(super) async fn command(call: Call) -> Result<Answer, ApiError> {
    log(call, Log::Commands).await
}

/// `GET events/file`.
pub(super) async fn file(call: Call) -> Result<Answer, ApiError> {
    log(call, Log::Files).await
}

/// `GET events/query`.
pub(super) async fn query(call: Call) -> Result<Answer, ApiError> {
    log(call, Log::Queries).await
}

/// `GET events/web`.
pub(super) async fn web(call: Call) -> Result<Answer, ApiError> {
    log(call, Log::Web).await
}

/// `GET events/kube`: with the fields of the original beside ours.
pub(super) async fn kube(call: Call) -> Result<Answer, ApiError> {
    let filter = filter::of(&call, Log::Kube)?;
    let page = call.app.store.events(Log::Kube, filter).await?;
    let both = |row: &Row| {
        let event: KubeEvent = serde_json::from_str(&row.body).map_err(ApiError::internal)?;
        Ok(KubeEventFields::of(event))
    };
    let events = page.rows.iter().map(both).collect::<Result<Vec<_>, ApiError>>()?;
    Ok(Answer { link: next(&call, &page), ..Answer::json(&events)? })
}

/// `GET events/agent-status-change`: of one target, which is named.
pub(super) async fn agent_status_change(call: Call) -> Result<Answer, ApiError> {
    if call.query("targetId").is_empty() {
        return Err(ApiError::field("targetId", "is needed: name a target"));
    }
    log(call, Log::Agents).await
}

/// `GET events/head`: the end of the chain, to be written down somewhere else.
pub(super) async fn head(call: Call) -> Result<Answer, ApiError> {
    let head = call.app.store.event_head().await?;
    Answer::json(&bz_core::api::record::LogHead {
        count: head.count,
        hash: head.hash.to_string(),
        head: head.to_string(),
        timestamp: call.now().to_string(),
    })
}

/// Bodies go out as they are stored: what was hashed is what is read.
async fn log(call: Call, log: Log) -> Result<Answer, ApiError> {
    let filter = filter::of(&call, log)?;
    let page = call.app.store.events(log, filter).await?;
    let bodies: Vec<_> = page.rows.iter().map(|row| row.body.as_str()).collect();
    let text = format!("[{}]", bodies.join(","));
    let body = Some(("application/json", text.into_bytes()));
    Ok(Answer { status: StatusCode::OK, body, link: next(&call, &page) })
}

/// The call for the next page.
fn next(call: &Call, page: &Page) -> Option<String> {
    page.next.map(|cursor| call.next_page(&cursor.to_string()))
}
