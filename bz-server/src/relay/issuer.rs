//! A blind stream from an agent to one of the configured issuers: TLS is end to end inside it, so the server carries
//! the issuer's keys without being able to change them.

use bz_protocol::carrier::Stream;
use tokio::net::TcpStream;
use url::Url;

use crate::app::App;

/// Hosts that Google's discovery document names beside its issuer.
const GOOGLE_KEYS: &str = "www.googleapis.com";

pub(super) async fn relay(app: &App, host: &str, port: u16, mut stream: Box<dyn Stream>) {
    if !is_configured(app, host, port) {
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

fn is_configured(app: &App, host: &str, port: u16) -> bool {
    let same = |issuer: &str| {
        Url::parse(issuer).is_ok_and(|url| {
            url.host_str().is_some_and(|h| h.trim_matches(['[', ']']) == host)
                && url.port_or_known_default() == Some(port)
        })
    };
    let google = |issuer: &str| issuer == "https://accounts.google.com" && host == GOOGLE_KEYS && port == 443;
    app.config.providers.iter().any(|p| same(&p.issuer) || google(&p.issuer))
}
