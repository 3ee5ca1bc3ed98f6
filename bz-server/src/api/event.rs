//! Logs, newest first, in UTC.

use bz_core::api::record::{CommandEvent, ConnectionEvent, FileEvent, KubeEvent, QueryEvent, UserEvent, WebEvent};

use crate::api::openapi::Whole;
use crate::api::{Answer, Call};
use crate::error::ApiError;

/// `GET events/subject`.
pub(super) async fn subject(call: Call) -> Result<Answer<Whole<UserEvent>>, ApiError> {
    Answer::whole(&call.app.store.user_events(call.event_filter()?).await?)
}

/// `GET events/connection`.
pub(super) async fn connection(call: Call) -> Result<Answer<Whole<ConnectionEvent>>, ApiError> {
    Answer::whole(&call.app.store.connection_events(call.event_filter()?).await?)
}

/// `GET events/command`.
pub(super) async fn command(call: Call) -> Result<Answer<Whole<CommandEvent>>, ApiError> {
    Answer::whole(&call.app.store.command_events(call.event_filter()?).await?)
}

/// `GET events/file`.
pub(super) async fn file(call: Call) -> Result<Answer<Whole<FileEvent>>, ApiError> {
    Answer::whole(&call.app.store.file_events(call.event_filter()?).await?)
}

/// `GET events/query`.
pub(super) async fn query(call: Call) -> Result<Answer<Whole<QueryEvent>>, ApiError> {
    Answer::whole(&call.app.store.query_events(call.event_filter()?).await?)
}

/// `GET events/web`.
pub(super) async fn web(call: Call) -> Result<Answer<Whole<WebEvent>>, ApiError> {
    Answer::whole(&call.app.store.web_events(call.event_filter()?).await?)
}

/// `GET events/kube`.
pub(super) async fn kube(call: Call) -> Result<Answer<Whole<KubeEvent>>, ApiError> {
    Answer::whole(&call.app.store.kube_events(call.event_filter()?).await?)
}
