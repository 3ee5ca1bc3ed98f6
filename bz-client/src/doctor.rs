//! What a server tells anybody: for finding out what is wrong.

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
