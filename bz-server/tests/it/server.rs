//! A server on a real socket: TLS, HTTP/1.1 and HTTP/2, draining, metrics.

use std::sync::Arc;
use std::time::Duration;

use bz_server::config::Config;
use bz_server::init::{self, InitTls};
use bz_server::seam::links::MemoryLinks;
use bz_server::seam::{SystemClock, SystemEntropy};
use bz_server::{Seams, Server, tls};
use std::sync::Mutex;

use crate::idp::Idp;
use crate::world::{Issuer, config};

/// F-150: the API is there over TLS, for both versions of HTTP, and not without.
#[tokio::test]
async fn it_serves_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let names = InitTls::Make(vec!["127.0.0.1".to_owned()]);
    let made = init::init(config(&folder), names, &SystemClock::new(), &SystemEntropy).await.unwrap();
    let server = Server::start(init::read_config(&made.config, []).unwrap(), seams()).await.unwrap();
    let ca = std::fs::read(folder.path().join("data/ca.crt")).unwrap();
    let client = tls::http_client(Some(&ca), Duration::from_secs(10)).unwrap();
    let url = format!("https://{}/api/v2/trust-bundle", server.local_addr());
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    assert!(answer.text().await.unwrap().contains(&made.fingerprint.to_string()));
    let plain = client.get(url.replace("https", "http")).send().await;
    assert!(plain.is_err(), "plain HTTP is answered on the TLS port: {plain:?}");
    server.shutdown().await;
    assert!(client.get(&url).send().await.is_err(), "a server that was shut down still answers");
}

/// F-258~: health and readiness are on the main port, metrics only on their own loopback port.
#[tokio::test]
async fn it_says_how_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let made = init::init(config(&folder), InitTls::AsConfigured, &SystemClock::new(), &SystemEntropy).await.unwrap();
    let config =
        Config { metrics_listen: Some("127.0.0.1:0".parse().unwrap()), ..init::read_config(&made.config, []).unwrap() };
    let server = Server::start(config, seams()).await.unwrap();
    let client = tls::http_client(None, Duration::from_secs(10)).unwrap();
    let get = async |address: std::net::SocketAddr, path: &str| {
        let answer = client.get(format!("http://{address}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get(server.local_addr(), "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(server.local_addr(), "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(get(server.local_addr(), "/metrics").await.0, 404);
    get(server.local_addr(), "/api/v2/users/me").await;
    let (status, text) = get(server.metrics_addr().unwrap(), "/metrics").await;
    let line = r#"bz_api_calls_total{operation="userservice:me",code="NotLoggedIn"} 1"#;
    assert!(status == 200 && text.contains(line), "{text}");
    server.shutdown().await;
}

fn seams() -> Seams {
    Seams {
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        jwks: Arc::new(Issuer { idp: Mutex::new(Idp::new(1, "k1")) }),
        links: Arc::new(MemoryLinks::default()),
    }
}
