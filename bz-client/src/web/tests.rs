//! The port, from programs on one side to an agent in memory on the other.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bz_protocol::carrier::Stream;
use bz_protocol::driver::OpenError;
use bz_protocol::stream::Why;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Front, Open, Watcher};

/// What becomes of a test that stands still.
const LONG: Duration = Duration::from_secs(20);

/// A page from anywhere that has its own name resolved to this machine gets nothing, and the person hears of it.
#[tokio::test]
async fn a_port_answers_to_its_own_name_alone() {
    let page = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    let port = Port::new(agent(page, false)).await;
    let number = port.at.port();
    let check = async |head: &str, want: &str| {
        let got = port.ask(head, |got| got.contains("\r\n\r\n")).await;
        assert!(got.starts_with(want), "{head}: {got}");
    };
    for host in ["localhost", "127.0.0.1", "[::1]", "LocalHost"] {
        check(&format!("GET / HTTP/1.1\r\nhost: {host}:{number}\r\n\r\n"), "HTTP/1.1 200 OK").await;
        check(&format!("GET http://{host}:{number}/ HTTP/1.1\r\nhost: {host}:{number}\r\n\r\n"), "HTTP/1.1 200 OK")
            .await;
    }
    for host in ["evil.example", "localhost", "localhost:1", "localhost.evil.example", "evil@localhost"] {
        let host = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:{}", number ^ u16::from(host == "localhost"))
        };
        check(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"), "HTTP/1.1 421 ").await;
        let heard = port.heard.lock().unwrap().pop();
        let said = format!("a request for {host} was turned away: this port answers to its own name alone");
        assert_eq!(heard, Some(said));
    }
    check("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 421 ").await;
    check(&format!("GET / HTTP/1.1\r\nhost: localhost:{number}\r\nhost: evil\r\n\r\n"), "HTTP/1.1 421 ").await;
    let mixed = format!("GET http://evil.example/ HTTP/1.1\r\nhost: localhost:{number}\r\n\r\n");
    check(&mixed, "HTTP/1.1 421 ").await;
    check(&format!("OPTIONS * HTTP/1.1\r\nhost: localhost:{number}\r\n\r\n"), "HTTP/1.1 400 ").await;
}

/// F-217~: what is asked goes on a stream as it was asked, under the name of the port.
#[tokio::test]
async fn a_request_goes_on_a_stream_of_the_session() {
    let (agent, seen) = recording("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", false);
    let port = Port::new(agent).await;
    let name = format!("localhost:{}", port.at.port());
    let head = format!("GET /a?b HTTP/1.1\r\nhost: {name}\r\ncookie: a=1\r\nconnection: keep-alive\r\n\r\n");
    let got = port.ask(&format!("{head}{head}"), |got| got.matches("hi").count() == 2).await;
    assert_eq!(got, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".repeat(2));
    let want = format!("GET /a?b HTTP/1.1\r\nhost: {name}\r\ncookie: a=1\r\n\r\n");
    let seen = seen.lock().unwrap().clone();
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&seen), lines(&want.repeat(2)), "{seen}");
}

/// HTTP/2 without TLS, as programs speak it that know the port does.
#[tokio::test]
async fn a_program_may_speak_http_2() {
    let port = Port::new(agent("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", false)).await;
    let stream = TcpStream::connect(port.at).await.unwrap();
    let spawner = TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(spawner, TokioIo::new(stream)).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(connection);
    let ask = async |sender: &mut hyper::client::conn::http2::SendRequest<_>, host: &str| {
        let request = hyper::Request::get(format!("http://{host}:{}/x", port.at.port()));
        let empty = http_body_util::Empty::<hyper::body::Bytes>::new();
        let answer = sender.send_request(request.body(empty).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        (status, http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes())
    };
    assert_eq!(ask(&mut sender, "localhost").await, (200, "hi".into()));
    assert_eq!(ask(&mut sender, "evil.example").await.0, 421);
}

/// Also where the end of a connection is the end of an answer.
#[tokio::test]
async fn a_cut_stream_is_a_cut_connection() {
    let cut = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
    let port = Port::new(agent(cut, true)).await;
    let name = format!("localhost:{}", port.at.port());
    for version in ["1.0", "1.1"] {
        let mut stream = TcpStream::connect(port.at).await.unwrap();
        stream.write_all(format!("GET / HTTP/{version}\r\nhost: {name}\r\n\r\n").as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let end = tokio::time::timeout(LONG, stream.read_to_end(&mut got)).await.expect("it ends");
        let got = String::from_utf8(got).unwrap();
        let cut = end.is_err() || (got.contains("chunked") && !got.contains("0\r\n"));
        assert!(cut, "HTTP/{version} ended in order: {got}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_said() {
    let check = async |why: OpenError, status: &str, text: &str| {
        let port = Port::new(Arc::new(move || Box::pin(async move { Err(why) }))).await;
        let head = format!("GET / HTTP/1.1\r\nhost: localhost:{}\r\n\r\n", port.at.port());
        let got = port.ask(&head, |got| got.contains(text)).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")) && got.contains(text), "{got}");
        assert_eq!(port.heard.lock().unwrap().clone(), [format!("a request was not sent: {why}")]);
    };
    check(OpenError::Refused(Why::NotAllowed), "403", "the grant or the target's local policy says no").await;
    check(OpenError::Refused(Why::Unavailable), "502", "the agent cannot do it").await;
    check(OpenError::Ended, "503", "the session has ended").await;
}

#[tokio::test]
async fn another_protocol_takes_over_a_connection() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst";
    let port = Port::new(agent(switch, true)).await;
    let name = format!("localhost:{}", port.at.port());
    let head = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    let got = port.ask(&head, |_| false).await;
    assert!(got.starts_with("HTTP/1.1 101 ") && got.ends_with("\r\n\r\nfirst"), "{got}");
}

struct Port {
    at: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Port {
    async fn new(open: Open) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let watcher: Watcher = Arc::new(move |error| hears.lock().unwrap().push(error.to_string()));
        let mut serving = JoinSet::new();
        serving.spawn(Front::new(open, at.port(), &Front::HOSTS, watcher).serve(listener));
        Self { at, heard, _serving: serving }
    }

    async fn ask(&self, request: &str, enough: impl Fn(&str) -> bool) -> String {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut got, mut buffer) = (String::new(), vec![0; 4096]);
        while !enough(&got) {
            let read = tokio::time::timeout(LONG, stream.read(&mut buffer)).await;
            let n = read.unwrap_or_else(|_| panic!("after {got:?} nothing came")).unwrap();
            if n == 0 {
                break;
            }
            got.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        got
    }
}

fn agent(answer: &str, leaves: bool) -> Open {
    recording(answer, leaves).0
}

/// An agent that says the same whatever it hears, and may leave then; what was heard.
fn recording(answer: &str, leaves: bool) -> (Open, Arc<Mutex<String>>) {
    let (answer, heard) = (answer.to_owned(), Arc::new(Mutex::new(String::new())));
    let hears = Arc::clone(&heard);
    let open: Open = Arc::new(move || {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(say(theirs, answer.clone(), leaves, Arc::clone(&hears)));
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
    });
    (open, heard)
}

async fn say(mut stream: DuplexStream, answer: String, leaves: bool, hears: Arc<Mutex<String>>) {
    let mut buffer = vec![0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let whole = {
            let mut heard = hears.lock().unwrap();
            heard.push_str(&String::from_utf8_lossy(&buffer[..n]));
            heard.ends_with("\r\n\r\n")
        };
        if whole && (stream.write_all(answer.as_bytes()).await.is_err() || leaves) {
            return;
        }
    }
}
