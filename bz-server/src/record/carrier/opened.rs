//! What the agent says of streams that a sealed session opened: into the log of connections.

use bz_core::api::record::ConnectionEventType;
use bz_core::signed::Signed;
use bz_protocol::frame::Kind;
use bz_protocol::keys::Direction;
use bz_protocol::stream::{Answer, Report};
use bz_protocol::transcript::Seen;

use crate::record::carrier::Carrier;

impl Carrier {
    /// The agent's word about a stream goes into the log before it goes on.
    pub(super) async fn reported(&self, signed: &Signed<Report>) {
        let Ok(report) = signed.open(&self.ends.agent_key, self.app.organization) else { return };
        let destination = &report.request;
        let (kind, reason) = match &report.answer {
            Answer::Opened { at } => (ConnectionEventType::StreamOpen, format!("to {destination}, at {at}")),
            Answer::Refused(why) => (ConnectionEventType::StreamRefused, format!("to {destination}: {why}")),
        };
        self.noted(kind, reason).await;
    }

    /// Something that happened within a session, into the log of connections.
    pub(super) async fn noted(&self, kind: ConnectionEventType, reason: String) {
        let log = match crate::connection::log(&self.app, reason) {
            Ok(log) => log,
            Err(error) => return tracing::error!(%error, "a stream could not be logged"),
        };
        if let Err(error) = self.app.store.log_connection(self.connection.clone(), kind, log).await {
            tracing::error!(%error, "a stream could not be logged");
        }
    }
}

/// The report that a frame of the agent carries. The observer has verified it.
pub(super) fn report(seen: &Seen) -> Option<Signed<Report>> {
    let reports = seen.kind == Some(Kind::Report) && seen.direction == Direction::ToClient;
    if reports { Report::decode(&seen.payload).ok() } else { None }
}
