//! What the relay reads of passing packets: whether the agent accepted, and how it ended. Of sealed sessions, the first.

use bz_core::access::request::{Parameters, Request};
use bz_core::api::record::{CommandEvent, CommandSource};
use bz_core::id::{EventId, OrganizationId};
use bz_core::key::PublicKey;
use bz_core::wire;
use bz_protocol::frame::{Fin, HEADER_BYTES, Header, Kind};
use bz_protocol::keys::{SALT_BYTES, TAG_BYTES};
use bz_protocol::packet::Packet;

use crate::app::App;
use crate::store::connection::Connection;

/// What was seen of one pair of streams.
#[derive(Debug)]
pub(super) struct Watch {
    organization: OrganizationId,
    client_key: Option<PublicKey>,
    /// The command that the client signed, where the request is one.
    pub(super) command: Option<String>,
    /// Whether the agent answered it.
    pub(super) accepted: bool,
    /// The agent's last word.
    pub(super) fin: Option<Fin>,
}

impl Watch {
    pub(super) const fn new(organization: OrganizationId, client_key: Option<PublicKey>) -> Self {
        Self { organization, client_key, command: None, accepted: false, fin: None }
    }

    pub(super) fn see(&mut self, to_agent: bool, packet: &[u8]) {
        match (to_agent, Packet::decode(packet)) {
            (true, Ok(Packet::Syn(syn))) => {
                let opened = self.client_key.and_then(|key| syn.syn.open(&key, self.organization).ok());
                let request = opened.and_then(|syn| Request::decode(&syn.request).ok());
                self.command = request.and_then(|request| match request.parameters {
                    Parameters::Exec { command } => Some(command),
                    Parameters::Shell { .. } | Parameters::Attach { .. } | Parameters::Handler { .. } => None,
                });
            }
            (false, Ok(Packet::SynAck(_))) => self.accepted = true,
            (false, Ok(Packet::DataAck(frame))) => self.fin = fin(&frame).or_else(|| self.fin.take()),
            _ => {}
        }
    }
}

/// The end that an inspected frame carries. Unverified: the record is provisional until a checkpoint covers it.
fn fin(frame: &[u8]) -> Option<Fin> {
    let header = Header::parse(frame).filter(|h| h.kind == Some(Kind::Fin))?;
    let payload = frame.get(HEADER_BYTES + SALT_BYTES..frame.len().checked_sub(TAG_BYTES)?)?;
    debug_assert_eq!(header.kind, Some(Kind::Fin));
    wire::decode(payload, 64).ok()
}

/// Writes a command that an agent accepted into the log.
pub(super) async fn record(app: &App, connection: &Connection, command: String) {
    let Ok(id) = app.random().map(EventId::from_random) else { return };
    let at = app.now().wall;
    let event = CommandEvent {
        id,
        connection_id: connection.id,
        organization_id: app.organization,
        actor: connection.actor.clone(),
        place: connection.place.clone(),
        command,
        source: CommandSource::Request,
        confirmed: true,
        timestamp: at.to_string(),
    };
    if let Err(error) = app.store.add_command_event(event, at).await {
        tracing::error!(%error, "a command could not be logged");
    }
}
