//! What a scenario is played on: the pure machines, or real ends over a real carrier.

use std::time::Duration;

use bz_core::access::Mode;
use bz_core::id::{BootId, ConnectionId};
use bz_core::oidc::jwks::Jwks;
use bz_core::time::Now;

use crate::carrier::Boxed;
use crate::control::SignedOrder;
use crate::gate::LocalRule;
use crate::hostile::case::Asking;
use crate::hostile::effects::Observer;
use crate::hostile::organization::{KitError, Organization};
use crate::hostile::relay::Relay;
use crate::hostile::talk::{Attempt, Talker};
use crate::session::End;

/// How a session ended for the person who had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How it ended; `None` when it never opened for another reason than the protocol's.
    pub end: Option<End>,
    /// What the person read.
    pub words: String,
    /// Whether it ended before the person closed it.
    pub early: bool,
}

impl Told {
    /// Words of an end, as the machine says them.
    #[must_use]
    pub fn of(end: End) -> Self {
        Self { words: end.to_string(), end: Some(end), early: false }
    }

    /// Whether the person was told that all is well.
    #[must_use]
    pub const fn success(&self) -> bool {
        matches!(self.end, Some(End::Completed(_)))
    }
}

/// The ends under attack, and the server between them.
pub trait Field: Send {
    /// What carries the sessions: `machines`, `ws`, `quic`.
    fn carrier(&self) -> &'static str;
    /// The organization.
    fn organization(&self) -> &Organization;
    /// The server as it forwards.
    fn relay(&self) -> &Relay;
    /// The target's program, and what the person sees.
    fn observer(&self) -> &Observer;
    /// The agent's present start.
    fn boot(&self) -> BootId;
    /// Now, for agent and client.
    fn now(&self) -> Now;
    /// A person opens a session over the server, of this number.
    fn open(&mut self, session: u32, asking: Asking) -> Boxed<'_, Result<(), KitError>>;
    /// The person types a line and waits for its answer, or the session's end, or long enough to be sure of neither.
    fn line(&mut self, text: String) -> Boxed<'_, Result<(), KitError>>;
    /// The person sends a newer certificate.
    fn reauthenticate(&mut self, certificate: Vec<u8>) -> Boxed<'_, Result<(), KitError>>;
    /// The person closes the session and hears its end; or hears the end that it had.
    fn close(&mut self) -> Boxed<'_, Result<Told, KitError>>;
    /// Somebody talks to the agent on streams of the server's own, for this connection, until the agent ends the last of
    /// them or has nothing more to say.
    fn talk<'a>(
        &'a mut self,
        connection: ConnectionId,
        talker: &'a mut dyn Talker,
    ) -> Boxed<'a, Result<Attempt, KitError>>;
    /// The server gives the agent an order.
    fn order(&mut self, order: SignedOrder) -> Boxed<'_, Result<(), KitError>>;
    /// The server cuts all carriers of sessions; the ends may come back.
    fn cut(&mut self) -> Boxed<'_, Result<(), KitError>>;
    /// The agent is started anew.
    fn restart(&mut self) -> Boxed<'_, Result<(), KitError>>;
    /// Time passes, for both ends.
    fn pass(&mut self, time: Duration) -> Boxed<'_, Result<(), KitError>>;
    /// The issuer publishes these keys from now on; `None` while it cannot be reached.
    fn publish(&mut self, keys: Option<Jwks>);
    /// The host's owner changes the local policy.
    fn local(&mut self, rule: LocalRule);
    /// In which mode sessions are asked for.
    fn mode(&self) -> Mode;
}
