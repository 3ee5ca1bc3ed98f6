//! Every carrier keeps the same promises: one check, over whatever is built in, on real sockets.

use std::sync::Arc;
use std::time::Duration;

use bz_protocol::carrier::{Carrier, Class, Link, MemoryCarrier, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// No check takes a second; one that hangs says so.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let (carrier, mut links) = MemoryCarrier::new();
    let dialed = carrier.dial().await.unwrap();
    check("memory", dialed, links.recv().await.unwrap()).await;
}

/// Over TLS and a loopback socket.
#[cfg(feature = "ws")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws() {
    use bz_protocol::carrier::{MuxLink, Role, Ws, ws_pipe};
    let (server, client) = certified();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
    let accepted = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(tcp).await.unwrap();
        let socket = tokio_tungstenite::accept_hdr_async(tls, protocol).await.unwrap();
        Arc::new(MuxLink::new(Role::Listener, ws_pipe(socket))) as Arc<dyn Link>
    };
    let ws = Ws::new(url, Arc::new(client));
    let (dialed, accepted) = tokio::join!(ws.dial(), accepted);
    check("ws", dialed.unwrap(), accepted).await;
}

/// PR-MUX-1: two ends that write more than lies between them, before either reads, both get on.
#[cfg(feature = "ws")]
#[tokio::test]
async fn two_ends_that_write_do_not_wait_for_each_other() {
    use bz_protocol::carrier::{MuxLink, Role, ws_pipe};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role as End;
    let (near, far) = tokio::io::duplex(4 << 10);
    let (near, far) = tokio::join!(
        WebSocketStream::from_raw_socket(near, End::Client, None),
        WebSocketStream::from_raw_socket(far, End::Server, None)
    );
    let dialed: Arc<dyn Link> = Arc::new(MuxLink::new(Role::Dialer, ws_pipe(near)));
    let accepted: Arc<dyn Link> = Arc::new(MuxLink::new(Role::Listener, ws_pipe(far)));
    let (mut ours, mut theirs) = pair(&dialed, &accepted, Class::Bulk).await;
    let block = &pattern(4)[..128 << 10];
    let write = async |stream: &mut Box<dyn Stream>| {
        stream.write_all(block).await.unwrap();
        stream.flush().await.unwrap();
    };
    let both = async {
        let ((), ()) = tokio::join!(write(&mut ours), write(&mut theirs));
        for stream in [&mut ours, &mut theirs] {
            let mut got = vec![0; block.len()];
            stream.read_exact(&mut got).await.unwrap();
            assert!(got == block, "other bytes arrived");
        }
    };
    in_time("both write, then both read", both).await;
}

#[cfg(feature = "quic")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic() {
    use bz_protocol::carrier::{Quic, QuicListener};
    let (server, client) = certified();
    let listener = QuicListener::bind("127.0.0.1:0".parse().unwrap(), server).unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().port()).parse().unwrap();
    let quic = Quic::new(url, Arc::new(client));
    let accepted = async { listener.accept().await.unwrap().link().await.unwrap() };
    let (dialed, accepted) = tokio::join!(quic.dial(), accepted);
    check("quic", dialed.unwrap(), accepted).await;
}

/// Who is not the server's certificate's is not spoken to.
#[cfg(feature = "quic")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_refuses_a_stranger() {
    use bz_protocol::carrier::{Quic, QuicListener};
    let ((server, _), (_, other)) = (certified(), certified());
    let listener = QuicListener::bind("127.0.0.1:0".parse().unwrap(), server).unwrap();
    let url: url::Url = format!("https://localhost:{}/", listener.local_addr().port()).parse().unwrap();
    let accepted = async { listener.accept().await.unwrap().link().await };
    let quic = Quic::new(url.clone(), Arc::new(other.clone()));
    let (dialed, accepted) = tokio::join!(quic.dial(), accepted);
    let refused = dialed.unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
    assert!(accepted.is_err(), "the listener believes the handshake was made");
    let plain = url.as_str().replace("https", "http").parse().unwrap();
    assert!(Quic::new(plain, Arc::new(other)).dial().await.is_err(), "an address without TLS was dialed");
}

/// PR-LINK-4: everything a link promises, both ways. In memory a stream outlives its link: nothing lies between its ends.
async fn check(name: &str, dialed: Arc<dyn Link>, accepted: Arc<dyn Link>) {
    for (way, opener, other) in [("dialed", &dialed, &accepted), ("accepted", &accepted, &dialed)] {
        for class in [Class::Interactive, Class::Bulk] {
            let what = format!("{name}, opened by the {way} end, {class:?}");
            in_time(&what, exchange(opener, other, class)).await;
            in_time(&what, last_words(opener, other, class)).await;
            in_time(&what, stopped(opener, other, class)).await;
        }
    }
    in_time(&format!("{name}: 200 streams"), many(&dialed, &accepted)).await;
    in_time(&format!("{name}: the end"), closed(&dialed, &accepted, name != "memory")).await;
}

/// A MiB each way, exactly; the first end leaves the other way open.
async fn exchange(opener: &Arc<dyn Link>, other: &Arc<dyn Link>, class: Class) {
    let (there, back) = (pattern(1), pattern(2));
    let (mut ours, mut theirs) = pair(opener, other, class).await;
    let answer = async {
        let got = rest(&mut theirs).await;
        theirs.write_all(&back).await.unwrap();
        theirs.shutdown().await.unwrap();
        got
    };
    let ask = async {
        ours.write_all(&there).await.unwrap();
        ours.shutdown().await.unwrap();
        rest(&mut ours).await
    };
    let (at_other, at_opener) = tokio::join!(answer, ask);
    assert!(at_other == there, "{} bytes arrived of {}, or others", at_other.len(), there.len());
    assert!(at_opener == back, "{} bytes came back of {}, or others", at_opener.len(), back.len());
}

/// What was written before a stream is dropped arrives, and then a clean end.
async fn last_words(opener: &Arc<dyn Link>, other: &Arc<dyn Link>, class: Class) {
    let (mut ours, mut theirs) = pair(opener, other, class).await;
    ours.write_all(b"last words").await.unwrap();
    drop(ours);
    assert_eq!(rest(&mut theirs).await, b"last words");
}

/// Who writes to a dropped stream learns it.
async fn stopped(opener: &Arc<dyn Link>, other: &Arc<dyn Link>, class: Class) {
    let (mut ours, theirs) = pair(opener, other, class).await;
    drop(theirs);
    let block = pattern(3);
    while ours.write_all(&block).await.is_ok() {}
}

async fn many(dialed: &Arc<dyn Link>, accepted: &Arc<dyn Link>) {
    let echo = async {
        let mut streams = Vec::new();
        for _ in 0..200 {
            let mut stream = accepted.accept().await.unwrap();
            let mut number = [0; 4];
            stream.read_exact(&mut number).await.unwrap();
            stream.write_all(&number).await.unwrap();
            streams.push(stream);
        }
        streams
    };
    let open = async {
        let mut streams = Vec::new();
        for number in 0..200_u32 {
            let mut stream = dialed.open(Class::Bulk).await.unwrap();
            stream.write_all(&number.to_be_bytes()).await.unwrap();
            streams.push(stream);
        }
        streams
    };
    let (mut opened, kept) = tokio::join!(open, echo);
    for (number, stream) in (0_u32..).zip(&mut opened) {
        assert_eq!(stream.read_u32().await.unwrap(), number, "a stream got another's bytes");
    }
    drop(kept);
}

/// The end of a link is no end of a stream: what waits learns that it broke.
async fn closed(dialed: &Arc<dyn Link>, accepted: &Arc<dyn Link>, streams_break: bool) {
    let (mut ours, mut theirs) = pair(dialed, accepted, Class::Bulk).await;
    dialed.close();
    assert!(dialed.open(Class::Bulk).await.is_err(), "a closed link opens streams");
    assert!(accepted.accept().await.is_err(), "a closed link accepts streams");
    if streams_break {
        for (whose, stream) in [("closing", &mut ours), ("other", &mut theirs)] {
            let end = stream.read_u8().await.map_err(|e| e.kind());
            let clean = matches!(end, Ok(_) | Err(std::io::ErrorKind::UnexpectedEof));
            assert!(!clean, "the {whose} end takes a broken link for a clean end: {end:?}");
        }
    }
}

/// A stream as both ends have it; one byte tells the other end of it.
async fn pair(opener: &Arc<dyn Link>, other: &Arc<dyn Link>, class: Class) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let mut ours = opener.open(class).await.unwrap();
    ours.write_all(b"!").await.unwrap();
    let mut theirs = other.accept().await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'!');
    (ours, theirs)
}

async fn rest(stream: &mut Box<dyn Stream>) -> Vec<u8> {
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    got
}

fn pattern(seed: u64) -> Vec<u8> {
    (0..1_u64 << 20).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7) as u8).collect()
}

async fn in_time(what: &str, work: impl Future<Output = ()>) {
    assert!(tokio::time::timeout(DEADLINE, work).await.is_ok(), "{what}: it hangs");
}

#[cfg(feature = "ws")]
#[expect(clippy::result_large_err, clippy::unnecessary_wraps, reason = "the callback's type is the library's")]
fn protocol(
    _: &tokio_tungstenite::tungstenite::handshake::server::Request,
    mut response: tokio_tungstenite::tungstenite::handshake::server::Response,
) -> Result<
    tokio_tungstenite::tungstenite::handshake::server::Response,
    tokio_tungstenite::tungstenite::handshake::server::ErrorResponse,
> {
    let protocol = http::HeaderValue::from_static("bz.1");
    response.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    Ok(response)
}

/// A server for `localhost`, and a client that trusts it alone.
#[cfg(any(feature = "ws", feature = "quic"))]
fn certified() -> (rustls::ServerConfig, rustls::ClientConfig) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    (server, client.with_root_certificates(roots).with_no_client_auth())
}
