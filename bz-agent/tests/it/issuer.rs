//! The issuer's keys through the agent's one link: TLS ends at the agent, the server in between sees ciphertext.

use std::sync::{Arc, Mutex};

use bz_agent::handler::Call;
use bz_agent::jwks::IssuerKeys;
use bz_core::access::Mode;
use bz_core::api::target::Route;
use bz_core::oidc::provider::Provider;
use bz_protocol::carrier::Stream;
use bz_protocol::control::Preamble;
use bz_protocol::frame::Fin;
use bz_protocol::link::receive;
use bz_protocol::refusal::Code;
use bz_protocol::session::End;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::gate_world::World;
use crate::idp::provider;
use crate::server::{Ask, Server, Stand};
use crate::world::contains;

/// The agent asks the issuer itself, over the only connection it has; a server that answers in the issuer's
/// place is not believed.
#[tokio::test]
async fn the_issuers_keys_come_through_the_link_and_the_server_sees_none_of_it() {
    let issuer = Issuer::start().await;
    let (running, mut server) = stand(&issuer).await;
    let mut relay = Relay::start(&server, issuer.port);
    assert_eq!(open(&mut server, &issuer.url, 1).await, End::Completed(Fin::Done));
    let seen = relay.seen.lock().unwrap().clone();
    assert_eq!(*relay.asked.lock().unwrap(), vec![("localhost".to_owned(), issuer.port); 2]);
    assert!(seen.len() > 500 && !contains(&seen, b"jwks") && !contains(&seen, b"HTTP"), "the server can read it");
    relay.tasks.shutdown().await;
    drop(running);

    // The same, with a server that sends the agent to an issuer of its own.
    let other = Issuer::start().await;
    let (_running, mut server) = stand(&issuer).await;
    let relay = Relay::start(&server, other.port);
    let refused = open(&mut server, &issuer.url, 1).await;
    assert_eq!(refused, End::Reported(Code::Unavailable));
    assert!(!relay.asked.lock().unwrap().is_empty(), "the agent did not ask");
}

async fn stand(issuer: &Issuer) -> (bz_agent::agent::Running, Server) {
    let world = World::new();
    let mut bundle = world.bundle();
    bundle.providers = vec![Provider { issuer: issuer.url.clone(), ..provider() }];
    let stand = Stand::pinning(world, bundle, IssuerKeys::ThroughLink(issuer.believed()));
    let route = Route { name: "done".to_owned(), description: "a test's".to_owned(), mode: Mode::Sealed };
    let stand = Stand { agent: stand.agent.route(route, |_: Call| async { Ok(()) }), ..stand };
    let (running, server, _) = stand.start().await;
    (running, server)
}

/// Opens a session with a login at this issuer.
async fn open(server: &mut Server, issuer: &str, number: u8) -> End {
    issuer.clone_into(&mut server.known.issuer);
    server.ask(Ask::route(number, "done")).await.end().await
}

/// The server's blind relay to one port, which keeps what it sees.
pub(crate) struct Relay {
    seen: Arc<Mutex<Vec<u8>>>,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
    tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) fn start(server: &Server, to: u16) -> Self {
        let (seen, asked) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(vec![])));
        let (all, hosts, link) = (Arc::clone(&seen), Arc::clone(&asked), Arc::clone(&server.link));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok(mut stream) = link.accept().await {
                let (host, port) = match receive(&mut stream).await {
                    Ok(Preamble::Issuer { host, port }) => (host, port),
                    // A server that takes no segments.
                    Ok(Preamble::Segment { .. }) => continue,
                    other => panic!("another stream: {other:?}"),
                };
                hosts.lock().unwrap().push((host, port));
                tokio::spawn(relay(stream, to, Arc::clone(&all)));
            }
        });
        Self { seen, asked, tasks }
    }
}

async fn relay(stream: Box<dyn Stream>, to: u16, seen: Arc<Mutex<Vec<u8>>>) {
    let issuer = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
    let ((mut from_agent, mut to_agent), (mut from_issuer, mut to_issuer)) =
        (tokio::io::split(stream), issuer.into_split());
    let inward = async {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from_agent.read(&mut buffer).await {
            seen.lock().unwrap().extend(&buffer[..n]);
            to_issuer.write_all(&buffer[..n]).await.unwrap();
        }
    };
    let outward = async {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from_issuer.read(&mut buffer).await {
            seen.lock().unwrap().extend(&buffer[..n]);
            if to_agent.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

/// An identity provider on loopback: a discovery document and keys, over TLS.
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) port: u16,
    /// Its certificate, as a file would hold it.
    pub(crate) pem: String,
    certificate: CertificateDer<'static>,
    _task: JoinSet<()>,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("https://localhost:{port}");
        let issuer = url.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Who does not believe this certificate says so here.
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, &issuer).await;
                }
            }
        });
        Self { url, port, pem: made.cert.pem(), certificate, _task: task }
    }

    /// What an agent's owner configures: this issuer's certificate alone.
    fn believed(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(versions.with_root_certificates(roots).with_no_client_auth())
    }
}

async fn answer(mut stream: tokio_rustls::server::TlsStream<TcpStream>, issuer: &str) {
    let mut asked = vec![];
    while !contains(&asked, b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        asked.push(byte);
    }
    let body = if contains(&asked, b"/.well-known/openid-configuration") {
        json!({"issuer": issuer, "jwks_uri": format!("{issuer}/jwks")})
    } else {
        json!({"keys": [World::idp().jwk()]})
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}
