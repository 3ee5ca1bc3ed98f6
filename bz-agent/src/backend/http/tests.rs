//! The gateway between a stream and an upstream, both in memory, to the letter.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bz_protocol::carrier::Stream;
use bz_protocol::stream::Why;
use rustls::ClientConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::gateway::{Gateway, Manner};
use super::rewrite::Site;
use super::upstream::{Dial, Upstream};

/// What becomes of a test that stands still.
const LONG: Duration = Duration::from_secs(20);

const GET: &str = "GET /a?b=c HTTP/1.1\r\nhost: localhost:8080\r\n\r\n";

/// PR-WEB-1: what the upstream is sent and what comes back, to the letter.
#[tokio::test]
async fn a_request_and_its_answer_pass_whole() {
    let check = async |request: &str, (seen, answer): (&str, &str), back: &str| {
        let (upstream, heard) = scripted(answer, false);
        let got = ask(&gateway(upstream), request, |got| got.len() >= back.len()).await;
        assert_eq!(heard.lock().unwrap().replace("\r\n", "\n"), seen.replace("\r\n", "\n"), "{request}");
        assert_eq!(got.replace("\r\n", "\n"), back.replace("\r\n", "\n"), "{answer}");
    };
    let seen = "GET /a?b=c HTTP/1.1\nhost: app.internal\n\n";
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    check(GET, (seen, whole), whole).await;
    // A length that nobody said becomes chunks, which have an end.
    let open = "HTTP/1.0 200 OK\r\n\r\nhi";
    check(GET, (seen, open), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").await;
    for bare in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"] {
        check(GET, (seen, bare), bare).await;
    }
    let head = "HEAD / HTTP/1.1\r\nhost: localhost:8080\r\n\r\n";
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    check(head, ("HEAD / HTTP/1.1\nhost: app.internal\n\n", length), length).await;
    let early = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    check(GET, (seen, early), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    // Trailers go on where both ends take them.
    let trailing = "HTTP/1.1 200 OK\r\ntrailer: sum\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nsum: 1\r\n\r\n";
    let wants = "GET /a?b=c HTTP/1.1\r\nhost: localhost:8080\r\nte: trailers\r\nconnection: te\r\n\r\n";
    check(wants, ("GET /a?b=c HTTP/1.1\nte: trailers\nhost: app.internal\n\n", trailing), trailing).await;
    let secret =
        "GET / HTTP/1.1\r\nhost: localhost:8080\r\nconnection: x-hop\r\nx-hop: 1\r\nx-forwarded-for: 1\r\n\r\n";
    check(secret, ("GET / HTTP/1.1\nhost: app.internal\n\n", whole), whole).await;
    let upload = "POST / HTTP/1.1\r\nhost: localhost:8080\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let chunks = "POST / HTTP/1.1\nhost: app.internal\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n";
    check(upload, (chunks, whole), whole).await;
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://app.internal/x\r\ncontent-length: 0\r\n\r\n";
    check(GET, (seen, moved), &moved.replace("app.internal", "localhost:8080")).await;
}

/// PR-WEB-3: what is cut short is never taken for an end.
#[tokio::test]
async fn a_cut_upstream_is_a_cut_answer() {
    for (answer, broken) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi", "content-length: 10\r\n\r\nhi"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", "chunked\r\n\r\n2\r\nhi\r\n"),
    ] {
        let got = ask(&gateway(scripted(answer, true).0), GET, |_| false).await;
        assert!(got.ends_with(broken), "{answer} came back as {got}");
    }
}

/// Several requests, one after the other, on one stream.
#[tokio::test]
async fn a_stream_carries_one_request_after_the_other() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    let got =
        ask(&gateway(scripted(answer, false).0), &format!("{GET}{GET}{GET}"), |got| got.len() >= 3 * answer.len())
            .await;
    assert_eq!(got, answer.repeat(3));
}

#[tokio::test]
async fn what_goes_wrong_is_said_in_plain_words() {
    let check = async |gateway: Arc<Gateway<Site>>, request: &str, status: &str, text: &str| {
        let got = ask(&gateway, request, |got| got.contains(text)).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {got}");
        assert!(got.contains(text), "{request}: {got}");
    };
    let refused = |why| -> Dial { Arc::new(move || Box::pin(async move { Err(why) })) };
    let there = |why| gateway(refused(why));
    check(there(Why::ConnectionRefused), GET, "502", "does not reach http://app.internal: the connection was refused")
        .await;
    check(there(Why::NotFound), GET, "502", "the target does not find that name").await;
    check(there(Why::TimedOut), GET, "504", "does not reach http://app.internal in time").await;
    check(there(Why::NotAllowed), GET, "403", "does not lead to http://app.internal").await;
    let odd = |answer: &'static str| gateway(scripted(answer, true).0);
    check(odd("SSH-2.0-OpenSSH_9\r\n"), GET, "502", "answered with no HTTP").await;
    check(odd(""), GET, "502", "ended the connection").await;
    for bad in ["GET / HTTP/1.1\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nhost: localhost:1\r\n\r\n"] {
        check(odd(""), bad, "400", "This is no request to pass on").await;
    }
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    check(gateway(scripted(&long, false).0), GET, "502", "answered with no HTTP").await;
    let silent: Dial = Arc::new(|| Box::pin(async { Ok(Box::new(tokio::io::duplex(1).0) as Box<dyn Stream>) }));
    let site = Site::new(&"app.internal:80".parse().unwrap(), false).unwrap();
    let (_open, held) = tokio::io::duplex(1024);
    let held = Mutex::new(Some(held));
    let holds: Dial = Arc::new(move || {
        let held = held.lock().unwrap().take();
        Box::pin(async move { held.map(|held| Box::new(held) as Box<dyn Stream>).ok_or(Why::Unavailable) })
    });
    let waits = Gateway::new(site, &Upstream::plain(holds)).patience(Duration::from_millis(50));
    check(Arc::new(waits), GET, "504", "http://app.internal did not answer within 0 seconds").await;
    check(gateway(silent), GET, "502", "ended the connection").await;
}

/// Another protocol takes over both connections, both ways, and ends with either.
#[tokio::test]
async fn an_upgraded_connection_passes_bytes() {
    let dial: Dial = dial(|mut stream: DuplexStream| async move {
        let mut head = vec![0; 4096];
        let n = stream.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..n]).into_owned();
        assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst ";
        stream.write_all(switch).await.unwrap();
        let mut said = [0; 4];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(&said).await.unwrap();
    });
    let request =
        "GET /ws HTTP/1.1\r\nhost: localhost:8080\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n";
    let got = ask(&gateway(dial), &format!("{request}ping"), |_| false).await;
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(got, format!("{head}first ping"));
}

/// PR-WEB-2: HTTP/2 where the upstream speaks it, for a certificate that is the destination's, and no other.
#[tokio::test]
async fn an_upstream_is_verified_and_may_speak_http_2() {
    let own = rcgen::generate_simple_self_signed(["app.internal".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["other.internal".to_owned()]).unwrap();
    let check = async |presented: &rcgen::CertifiedKey<rcgen::KeyPair>, alpn: &'static [u8], want: &str| {
        let (server, believed) = (tls_server(presented, alpn), tls_client(&own));
        let dial: Dial = dial(move |stream: DuplexStream| {
            let server = Arc::clone(&server);
            async move {
                // A client that does not believe it ends it.
                let Ok(stream) = tokio_rustls::TlsAcceptor::from(server).accept(stream).await else { return };
                speak(hyper_util::rt::TokioIo::new(stream), alpn == b"h2").await;
            }
        });
        let destination = "app.internal:443".parse().unwrap();
        let upstream = Upstream::over_tls(dial, &believed, &destination).unwrap();
        let gateway = Gateway::new(Site::new(&destination, true).unwrap(), &upstream);
        let got = ask(&Arc::new(gateway), GET, |got| got.contains(want)).await;
        assert!(got.contains(want), "{alpn:?}: {got}");
    };
    check(&own, b"h2", "HTTP/2.0 app.internal /a?b=c").await;
    check(&own, b"http/1.1", "HTTP/1.1 app.internal /a?b=c").await;
    check(&other, b"h2", "The target has no secure connection to https://app.internal").await;
}

fn gateway(dial: Dial) -> Arc<Gateway<Site>> {
    let site = Site::new(&"app.internal:80".parse().unwrap(), false).unwrap();
    Arc::new(Gateway::new(site, &Upstream::plain(dial)))
}

/// Sends it on a stream, and gives what comes back: until it is enough, or the stream ends.
pub(in crate::backend) async fn ask<M: Manner>(
    gateway: &Arc<Gateway<M>>,
    request: &str,
    enough: impl Fn(&str) -> bool,
) -> String {
    let (mut here, there) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(Arc::clone(gateway).serve(there));
    here.write_all(request.as_bytes()).await.unwrap();
    let (mut got, mut buffer) = (String::new(), vec![0; 4096]);
    while !enough(&got) {
        let read = here.read(&mut buffer);
        let n =
            tokio::time::timeout(LONG, read).await.unwrap_or_else(|_| panic!("after {got:?} nothing came")).unwrap();
        if n == 0 {
            break;
        }
        got.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    drop(here);
    serving.await.unwrap();
    got
}

fn dial<F, R>(each: F) -> Dial
where
    F: Fn(DuplexStream) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    Arc::new(move || {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(each(theirs));
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
    })
}

/// An upstream that says the same whatever it hears, and may leave then; what the first connection heard of it.
pub(in crate::backend) fn scripted(answer: &str, leaves: bool) -> (Dial, Arc<Mutex<String>>) {
    let (answer, heard) = (answer.to_owned(), Arc::new(Mutex::new(String::new())));
    let hears = Arc::clone(&heard);
    let ends = leaves || answer.starts_with("HTTP/1.0");
    let dial = dial(move |mut stream: DuplexStream| {
        let (answer, hears) = (answer.clone(), Arc::clone(&hears));
        async move {
            let mut buffer = vec![0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                let whole = {
                    let mut heard = hears.lock().unwrap();
                    heard.push_str(&String::from_utf8_lossy(&buffer[..n]));
                    heard.ends_with("\r\n\r\n") && (!heard.contains("chunked") || heard.ends_with("0\r\n\r\n"))
                };
                if whole && (stream.write_all(answer.as_bytes()).await.is_err() || ends) {
                    return;
                }
            }
        }
    });
    (dial, heard)
}

/// Says which version it hears, by which name, and for what.
async fn speak(io: impl hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static, h2: bool) {
    let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
        let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
        let named = request.uri().authority().map(ToString::to_string).or(host).unwrap();
        let said = format!("{:?} {named} {}", request.version(), request.uri().path_and_query().unwrap());
        Ok::<_, std::convert::Infallible>(hyper::Response::new(said))
    });
    let spawner = hyper_util::rt::TokioExecutor::new();
    let served = match h2 {
        true => hyper::server::conn::http2::Builder::new(spawner).serve_connection(io, service).await,
        false => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
    };
    // However its client leaves.
    served.unwrap_or_default();
}

fn tls_server(presented: &rcgen::CertifiedKey<rcgen::KeyPair>, alpn: &[u8]) -> Arc<rustls::ServerConfig> {
    let key = PrivateKeyDer::try_from(presented.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![presented.cert.der().clone()];
    let mut config = versions.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

fn tls_client(believed: &rcgen::CertifiedKey<rcgen::KeyPair>) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(believed.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    versions.with_root_certificates(roots).with_no_client_auth()
}
