//! What a server tells anybody, and by which carriers: for finding out what is wrong.

use bz_core::digest::Digest;
use bz_core::trust::TrustBundle;

use crate::rest::{Rest, RestError, ahead};
use crate::server::Server;

/// What a server tells anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// How many seconds this machine's clock is ahead of the server's, where the server told its time.
    pub clock_ahead: Option<i64>,
    /// The fingerprint of the server's own trust bundle, or what is wrong with it.
    pub bundle: Result<Digest, String>,
}

/// Asks a server for its bundle and its time.
///
/// # Errors
/// [`RestError`] when it cannot be reached.
pub async fn server_facts(server: &Server) -> Result<ServerFacts, RestError> {
    let rest = Rest::new(server)?;
    let (text, date) = rest.trust_bundle().await?;
    let bundle = TrustBundle::parse(&text.bundle).and_then(|bundle| bundle.fingerprint());
    Ok(ServerFacts {
        clock_ahead: date.map(|theirs| ahead(rest.now(), theirs)),
        bundle: bundle.map_err(|error| error.to_string()),
    })
}

/// How long a carrier may take to show that it works.
#[cfg(all(feature = "ws", feature = "quic"))]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Whether a server answers by the carriers of this choice. Nobody is logged in.
///
/// # Errors
/// Why it does not.
#[cfg(all(feature = "ws", feature = "quic"))]
pub async fn answers(
    server: &Server,
    choice: bz_protocol::link::Choice,
    organization: bz_core::id::OrganizationId,
) -> Result<(), bz_protocol::carrier::LinkError> {
    use bz_protocol::carrier::LinkError;
    let ways = server.ways(choice).map_err(|error| LinkError(error.to_string()))?;
    let late = |_| LinkError("no answer within 5 seconds".to_owned());
    tokio::time::timeout(PATIENCE, ways.hail(organization)).await.map_err(late)?.map(drop)
}
