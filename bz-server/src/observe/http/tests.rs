//! What the lens says of connections, however they are cut.

use super::*;
use proptest::prelude::*;

const AT: UnixTime = UnixTime::from_millis(1_000);

/// What a connection said: to the agent, or back.
type Said<'a> = (Direction, &'a str);

const ASK: Direction = Direction::ToAgent;
const BACK: Direction = Direction::ToClient;

/// What the lens says of it, in pieces of this size, and at its end.
fn read(said: &[Said<'_>], step: usize) -> Vec<String> {
    let mut lens = HttpLens::default();
    let mut lines = Vec::new();
    for (way, text) in said {
        for piece in text.as_bytes().chunks(step) {
            lines.extend(lens.bytes(AT, (*way, 16), piece));
        }
    }
    lines.extend(lens.eof(AT, (BACK, 16)));
    assert_eq!(lens.finish(AT), []);
    lines.iter().map(shown).collect()
}

fn shown(line: &Exchange) -> String {
    let status = line.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let what = format!("{:?}", line.outcome).to_lowercase();
    format!("{} {} {status} {}/{} {what}", line.method, line.path(), line.sent, line.received)
}

fn check(said: &[Said<'_>], want: &[&str]) {
    for step in [1, 2, 7, usize::MAX] {
        assert_eq!(read(said, step), want, "in pieces of {step}: {said:?}");
    }
}

/// F-217~: each request with its method, path, status and bytes.
#[test]
fn an_exchange_is_one_line() {
    let get = (ASK, "GET /a?q=secret&b=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    check(&[get, (BACK, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")], &["GET /a?q=…&b=… 200 0/2 answered"]);
    let post = (ASK, "POST /f HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    check(&[post, (BACK, "HTTP/1.1 201 Made\r\ncontent-length: 0\r\n\r\n")], &["POST /f 201 3/0 answered"]);
    let chunked = "transfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nsum: 1\r\n\r\n";
    let (put, ok) = (format!("PUT /f HTTP/1.1\r\n{chunked}"), format!("HTTP/1.1 200 OK\r\n{chunked}"));
    check(&[(ASK, &put), (BACK, &ok)], &["PUT /f 200 13/13 answered"]);
    check(&[get, (BACK, "HTTP/1.0 200 OK\r\n\r\nuntil the end")], &["GET /a?q=…&b=… 200 0/13 answered"]);
    check(&[(ASK, "GET /?token HTTP/1.1\r\n\r\n"), (BACK, "HTTP/1.1 204 No\r\n\r\n")], &["GET /?… 204 0/0 answered"]);
}

#[test]
fn answers_without_a_body_have_none() {
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    let get = "GET /2 HTTP/1.1\r\n\r\n";
    check(
        &[(ASK, "HEAD /1 HTTP/1.1\r\n\r\n"), (BACK, long), (ASK, get), (BACK, "HTTP/1.1 304 Same\r\n\r\n")],
        &["HEAD /1 200 0/0 answered", "GET /2 304 0/0 answered"],
    );
    let early = "HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
    check(&[(ASK, get), (BACK, early)], &["GET /2 204 0/0 answered"]);
}

#[test]
fn requests_may_come_before_the_answers() {
    let asks = "GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\ncontent-length: 1\r\n\r\nxGET /3 HTTP/1.1\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\ny";
    check(
        &[(ASK, asks), (BACK, answer), (BACK, answer), (BACK, "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")],
        &["GET /1 200 0/1 answered", "POST /2 200 1/1 answered", "GET /3 500 0/0 answered"],
    );
}

#[test]
fn what_is_cut_is_said_to_be() {
    let get = "GET / HTTP/1.1\r\n\r\n";
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    check(&[(ASK, get), (BACK, cut)], &["GET / 200 0/4 incomplete"]);
    check(&[(ASK, get)], &["GET / - 0/0 incomplete"]);
    check(&[(ASK, "GET / HT")], &[]);
}

#[test]
fn another_protocol_is_counted_and_not_read() {
    let ask = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nhello";
    check(&[(ASK, ask), (BACK, switch), (ASK, "GET / HTTP")], &["GET /ws 101 10/5 upgraded"]);
    check(&[(ASK, ask), (BACK, "HTTP/1.1 426 No\r\ncontent-length: 0\r\n\r\n")], &["GET /ws 426 0/0 answered"]);
}

#[test]
fn what_is_no_http_is_said_once() {
    let get = "GET / HTTP/1.1\r\n\r\n";
    for bad in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "GET / HTTP/9\r\n\r\n",
        "\0\0\0\0\n\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    ] {
        let line = "  - 0/0 unparsed";
        check(&[(ASK, bad), (ASK, get), (ASK, bad)], &[line]);
    }
    check(&[(BACK, "HTTP/1.1 200 OK\r\n\r\n"), (ASK, get)], &["  - 0/0 unparsed"]);
    check(&[(ASK, get), (BACK, "220 smtp ready\r\n\r\n"), (BACK, "x")], &["GET / - 0/0 unparsed"]);
    let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for bad in ["zz\r\n", "-1\r\n", "11111111111111111\r\n", "1\r\nabc\r\n"] {
        let said = read(&[(ASK, get), (BACK, chunk), (BACK, bad)], 1);
        assert!(said[0].ends_with("unparsed") && said.len() == 1, "{bad}: {said:?}");
    }
}

/// Nothing of any length is kept whole.
#[test]
fn what_is_long_is_bounded() {
    let mut lens = HttpLens::default();
    let long = "x".repeat(100_000);
    let said = [
        format!("GET /{long} HTTP/1.1\r\nx: {long}\r\n\r\n"),
        format!("HTTP/1.1 200 {long}\r\nx: {long}\r\ncontent-length: 0\r\n\r\n"),
    ];
    let mut lines = lens.bytes(AT, (ASK, 16), said[0].as_bytes());
    lines.extend(lens.bytes(AT, (BACK, 16), said[1].as_bytes()));
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.status == Some(200) && line.path().len() <= LONGEST + "…".len(), "{}", line.path().len());
    let many = "GET / HTTP/1.1\r\n\r\n".repeat(MAX_PENDING + 1);
    let lines = lens.bytes(AT, (ASK, 17), many.as_bytes());
    assert_eq!(lines.len(), MAX_PENDING, "{lines:?}");
}

/// Of a session that lost its carrier, what is under way is said, and not twice.
#[test]
fn what_is_under_way_is_said_when_nothing_comes() {
    let mut lens = HttpLens::default();
    let get = b"GET /a HTTP/1.1\r\n\r\n";
    assert_eq!(lens.bytes(AT, (ASK, 16), get), []);
    assert_eq!(lens.finish(AT).iter().map(shown).collect::<Vec<_>>(), ["GET /a - 0/0 incomplete"]);
    assert_eq!((lens.finish(AT), lens.reset(AT, 16)), (vec![], vec![]));
    assert_eq!(lens.bytes(AT, (ASK, 17), get), []);
    let later = UnixTime::from_millis(3_500);
    let line = lens.bytes(later, (BACK, 17), b"HTTP/1.1 204 No\r\n\r\n").remove(0);
    assert_eq!((line.began, line.ended), (AT, later));
}

/// What log lines show is one line of plain text, whatever was sent.
#[test]
fn a_path_is_shown_safely() {
    let check = |target: &str, want: &str| {
        let ask = format!("GET {target} HTTP/1.1\r\n\r\n");
        let said = read(&[(ASK, &ask), (BACK, "HTTP/1.1 204 No\r\n\r\n")], 3);
        assert_eq!(said, [format!("GET {want} 204 0/0 answered")]);
    };
    check("/%0a?x%0a=1", "/%0a?x%0a=…");
    check("/\u{202e}x", r"/\xe2\x80\xaex");
}

proptest! {
    /// The same lines, whatever the bytes are cut into.
    #[test]
    fn cuts_change_nothing(cuts in prop::collection::vec(1_usize..40, 1..60), noise in prop::collection::vec(any::<u8>(), 0..40)) {
        let asks = [
            &b"POST /1?a=b HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello"[..],
            b"PUT /2 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
            b"GET /3 HTTP/1.1\r\n\r\n",
            &noise,
        ].concat();
        let answers = b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\
                        transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
        let run = |cuts: &[usize]| {
            let mut lens = HttpLens::default();
            let mut lines = Vec::new();
            for (way, mut rest) in [(ASK, &asks[..]), (BACK, &answers[..])] {
                let mut at = 0;
                while !rest.is_empty() {
                    let (piece, left) = rest.split_at(cuts[at % cuts.len()].min(rest.len()));
                    lines.extend(lens.bytes(AT, (way, 16), piece));
                    (rest, at) = (left, at + 1);
                }
            }
            lines.extend(lens.reset(AT, 16));
            lines
        };
        prop_assert_eq!(run(&cuts), run(&[usize::MAX]));
    }
}
