//! A server on a real socket: TLS, HTTP/1.1 and HTTP/2, draining, metrics.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use bz_core::oidc::provider::Provider;
use bz_server::config::Config;
use bz_server::init::{self, InitTls};
use bz_server::relay::Relay;
use bz_server::seam::jwks::{FetchError, HttpJwks, JwksSource as _};
use bz_server::seam::links::MemoryLinks;
use bz_server::seam::{SystemClock, SystemEntropy};
use bz_server::{Seams, Server, tls};
use serde_json::json;

use crate::idp::Idp;
use crate::logged::Logged;
use crate::world::{Issuer, config};

/// F-150: the API is there over TLS, for both versions of HTTP, and not without.
#[tokio::test]
async fn it_serves_over_tls() {
    let _logged = Logged::here();
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

/// A renewed certificate is shown to who comes after it, and calls that are under way lose nothing; files that cannot be
/// read change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_under_load() {
    let _logged = Logged::here();
    let folder = tempfile::tempdir().unwrap();
    let names = || vec!["127.0.0.1".to_owned()];
    let made = init::init(config(&folder), InitTls::Make(names()), &SystemClock::new(), &SystemEntropy).await.unwrap();
    let at = |name: &str| folder.path().join("data").join(name);
    let server = Server::start(init::read_config(&made.config, []).unwrap(), seams()).await.unwrap();
    let client = |ca: &str| tls::http_client(Some(ca.as_bytes()), Duration::from_secs(10)).unwrap();
    let old_ca = std::fs::read_to_string(at("ca.crt")).unwrap();
    let url = format!("https://{}/healthz", server.local_addr());
    let (open, stop) = (client(&old_ca), tokio_util::sync::CancellationToken::new());
    let (done, load) = (stop.clone(), open.clone());
    let address = url.clone();
    let calls = tokio::spawn(async move {
        let mut calls = 0_u32;
        while !done.is_cancelled() {
            let answer = load.get(&address).send().await.unwrap_or_else(|error| panic!("call {calls}: {error}"));
            assert_eq!(answer.status().as_u16(), 200);
            calls += 1;
        }
        calls
    });
    let new = tls::make("Example", names(), 2027).unwrap();
    let reaches = async |ca: &str| client(ca).get(&url).send().await.is_ok();
    std::fs::write(at("tls.crt"), "half").unwrap();
    bz_server::jobs::tick(server.app()).await.unwrap();
    assert!(reaches(&old_ca).await, "a file that cannot be read took the certificate away");
    let ends = server.app().certificates.as_ref().unwrap().ends();
    std::fs::write(at("tls.key"), &new.key).unwrap();
    bz_server::jobs::tick(server.app()).await.unwrap();
    assert!(reaches(&old_ca).await && !reaches(&new.ca).await);
    std::fs::write(at("tls.crt"), &new.chain).unwrap();
    bz_server::jobs::tick(server.app()).await.unwrap();
    assert!(reaches(&new.ca).await && !reaches(&old_ca).await, "the new certificate is not shown");
    assert!(server.app().certificates.as_ref().unwrap().ends() > ends);
    assert_eq!(open.get(&url).send().await.unwrap().status().as_u16(), 200, "a connection that was open ended");
    stop.cancel();
    assert!(calls.await.unwrap() > 0);
    server.shutdown().await;
}

/// QUIC has the same port number; switched off, or its port taken, the server is whole without it.
#[tokio::test]
async fn it_serves_without_its_udp_port() {
    let _logged = Logged::here();
    let folder = tempfile::tempdir().unwrap();
    let names = InitTls::Make(vec!["127.0.0.1".to_owned()]);
    let made = init::init(config(&folder), names, &SystemClock::new(), &SystemEntropy).await.unwrap();
    let ca = std::fs::read(folder.path().join("data/ca.crt")).unwrap();
    let client = tls::http_client(Some(&ca), Duration::from_secs(10)).unwrap();
    let read = init::read_config(&made.config, []).unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    for (config, quic) in [
        (Config { listen, ..read.clone() }, false),
        (Config { quic: false, ..read.clone() }, false),
        (read.clone(), true),
    ] {
        let server = Server::start_with(config, seams(), Relay::new()).await.unwrap();
        assert_eq!(server.quic_addr(), quic.then(|| server.local_addr()), "the UDP port");
        let answer = client.get(format!("https://{}/healthz", server.local_addr())).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        server.shutdown().await;
    }
}

/// A port that another program has: the server does not start, and names it.
#[tokio::test]
async fn a_taken_port_is_named() {
    let _logged = Logged::here();
    let folder = tempfile::tempdir().unwrap();
    let made = init::init(config(&folder), InitTls::AsConfigured, &SystemClock::new(), &SystemEntropy).await.unwrap();
    let read = init::read_config(&made.config, []).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for config in [Config { listen: address, ..read.clone() }, Config { metrics_listen: Some(address), ..read }] {
        let said = Server::start(config, seams()).await.expect_err("the port is taken").to_string();
        let want = format!(
            "cannot listen on {address}: Address already in use (os error 98). End the program that has it, or set \
             another address"
        );
        assert_eq!(said, want);
    }
}

/// F-258~: health and readiness are on the main port, metrics only on their own loopback port.
#[tokio::test]
async fn it_says_how_it_is() {
    let _logged = Logged::here();
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

/// The real source reads discovery and keys from the issuer, and takes no document of another.
#[tokio::test]
async fn keys_come_from_the_issuer_itself() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let discovery = |of: &str| json!({"issuer": of, "jwks_uri": format!("{issuer}/keys")}).to_string();
    let (own, others) = (discovery(&format!("{issuer}/own")), discovery("http://127.0.0.1:1"));
    let keys = json!({"keys": [Idp::new(1, "k1").jwk()]}).to_string();
    let router = Router::new()
        .route("/own/.well-known/openid-configuration", get(async || own))
        .route("/other/.well-known/openid-configuration", get(async || others))
        .route("/moved/.well-known/openid-configuration", get(async || Redirect::permanent("/own/")))
        .route("/keys", get(async || keys));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let source = HttpJwks::new(None).unwrap();
    let fetch = async |path: &str| {
        let provider = Provider { issuer: format!("{issuer}{path}"), ..crate::idp::provider() };
        source.fetch(&provider).await.map(|keys| keys.len())
    };
    assert_eq!(fetch("/own").await, Ok(1));
    assert!(matches!(fetch("/other").await, Err(FetchError::Unusable { what, .. }) if what.contains("another issuer")));
    assert!(matches!(fetch("/moved").await, Err(FetchError::Unreachable { why, .. }) if why == "status 308"));
    assert!(matches!(fetch("/none").await, Err(FetchError::Unreachable { why, .. }) if why == "status 404"));
    serving.abort();
}

/// The program: `init`, `serve` until SIGTERM, `bundle`, `admin claim`, and words for a folder that is in use.
#[tokio::test]
async fn the_program_serves_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from.toml");
    std::fs::write(&from, toml::to_string(&config(&folder)).unwrap()).unwrap();
    let file = folder.path().join("data/server.toml");
    let program = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bz-server"));
        command.args(arguments).env("BZ_CONFIG", &file).stdin(Stdio::null());
        command
    };
    let run = |arguments: &[&str]| {
        let out = program(arguments).output().unwrap();
        (out.status.success(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let init = ["init", "--from", from.to_str().unwrap()];
    let (done, said, complaint) = run(&init);
    assert!(done && said.contains("bz login --server ") && said.contains(" --claim "), "{said}{complaint}");
    assert!(run(&init).2.contains("overwrites nothing"));
    assert!(run(&["bundle"]).1.contains("# Trust bundle. Fingerprint"));
    assert_eq!(run(&["admin", "claim"]).1.trim().len(), 23);
    assert!(run(&["admin", "reset-mfa", "nobody"]).2.contains("there is no user nobody"));
    assert_eq!(run(&["--print-default-config"]).1, Config::default_text());
    let mut serving = program(&["serve"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serving.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("listening")), "the server never listened");
    let pid = nix::unistd::Pid::from_raw(serving.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert!(serving.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("stopping")), "{rest:?}");
}

fn seams() -> Seams {
    Seams {
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        jwks: Arc::new(Issuer { idp: Mutex::new(Idp::new(1, "k1")) }),
        links: Arc::new(MemoryLinks::default()),
    }
}
