//! A blind stream from an agent to one of the configured issuers: TLS is end to end inside it, so the server carries
//! the issuer's keys without being able to change them.

use bz_protocol::carrier::Stream;
use tokio::net::TcpStream;
use url::Url;

use crate::app::App;

/// Hosts that Google's discovery document names beside its issuer.
const GOOGLE_KEYS: &str = "www.googleapis.com";

pub(super) async fn relay(app: &App, host: &str, port: u16, mut stream: Box<dyn Stream>) {
    if !is_configured(app, host, port) && !is_service_accounts(app, host, port).await {
        tracing::warn!(%host, port, "an agent asked for a host that is no configured issuer's");
        return;
    }
    match TcpStream::connect((host, port)).await {
        Ok(mut issuer) => {
            if let Err(error) = tokio::io::copy_bidirectional(&mut stream, &mut issuer).await {
                tracing::debug!(%host, %error, "a stream to an issuer broke");
            }
        }
        Err(error) => tracing::warn!(%host, port, %error, "an issuer cannot be reached"),
    }
}

/// Whether some service account publishes its keys there.
async fn is_service_accounts(app: &App, host: &str, port: u16) -> bool {
    let accounts = app.store.service_accounts().await.unwrap_or_else(|error| {
        tracing::error!(%error, "service accounts cannot be read");
        Vec::new()
    });
    accounts.iter().any(|account| account.enabled && account.jwks_url().is_some_and(|url| is_at(url, host, port)))
}

fn is_at(address: &str, host: &str, port: u16) -> bool {
    Url::parse(address).is_ok_and(|url| {
        url.host_str().is_some_and(|h| h.trim_matches(['[', ']']) == host) && url.port_or_known_default() == Some(port)
    })
}

fn is_configured(app: &App, host: &str, port: u16) -> bool {
    let google = |issuer: &str| issuer == "https://accounts.google.com" && host == GOOGLE_KEYS && port == 443;
    app.config().providers.iter().any(|p| is_at(&p.issuer, host, port) || google(&p.issuer))
}
