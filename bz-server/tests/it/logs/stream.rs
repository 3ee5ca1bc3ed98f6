//! Logs as they grow, and logs to take along.

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use bz_core::api::error::Code;
use bz_core::digest::{Digest, Label};
use futures::StreamExt as _;
use serde_json::Value;
use std::time::Duration;

use super::filled;
use crate::world::{As, World};

/// F-156~: events come as they are logged, filtered, each once and in order; who comes back with the last number goes on
/// behind it.
#[tokio::test]
async fn a_log_is_followed() {
    let world = World::new().await;
    let key = world.key(&world.admin().await, false).await;
    filled::from(&world, 0).await;
    let mut stream = Stream::open(&world, &key, "?logs=command&logs=query", None).await;
    filled::from(&world, 10).await;
    let first = stream.take(6).await;
    assert_eq!(first.iter().map(|e| e.log.as_str()).collect::<Vec<_>>(), ["command", "query"].repeat(3));
    assert!(first.is_sorted_by(|a, b| a.number < b.number), "{first:?}");
    assert_eq!(first[2].event["command"], "cat /etc/passwd");
    drop(stream);
    filled::from(&world, 20).await;
    // Behind the third of what was seen.
    let mut again = Stream::open(&world, &key, "?logs=command&logs=query", Some(first[2].number)).await;
    let rest = again.take(9).await;
    assert_eq!(rest[..3], first[3..]);
    let mut narrow = Stream::open(&world, &key, "?commandSearch=passwd&after=0", None).await;
    let found = narrow.take(3).await;
    assert!(found.iter().all(|e| e.event["command"] == "cat /etc/passwd"), "{found:?}");
    let mut calls = Stream::open(&world, &key, "?logs=subject&evaluation=false&after=0", None).await;
    assert_eq!(calls.take(3).await[0].event["serviceAction"], "policymanagementservice:add");
    let bad = |path: &'static str| world.get(As::Key(&key), path);
    bad("/events/stream?logs=nothing").await.refused(Code::BadRequest);
    bad("/events/stream?after=-1").await.refused(Code::BadRequest);
    bad("/events/export?logs=command&targetIds=x").await.refused(Code::BadRequest);
}

/// A reader that does not read holds nothing up and is sent everything when it does; there are no more readers than
/// places, and what one leaves is another's.
#[tokio::test]
async fn slow_readers_are_bounded() {
    let world = World::new().await;
    let key = world.key(&world.admin().await, false).await;
    let mut slow = Stream::open(&world, &key, "?logs=command", None).await;
    filled::commands(&world, 2100).await;
    let all = slow.take(2100).await;
    assert!(all.is_sorted_by(|a, b| a.number < b.number), "events came twice or in another order");
    let mut others = Vec::new();
    for _ in 0..127 {
        others.push(Stream::open(&world, &key, "", None).await);
    }
    world.get(As::Key(&key), "/events/stream").await.refused(Code::TooMany);
    others.pop();
    Stream::open(&world, &key, "", None).await;
}

/// A stream ends when its reader loses the right to it, and when the server stops.
#[tokio::test]
async fn a_stream_ends_with_its_right() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (key, other) = (world.key(&admin, false).await, world.key(&admin, false).await);
    let mut stream = Stream::open(&world, &key, "?logs=command", None).await;
    let mut kept = Stream::open(&world, &other, "?logs=command", None).await;
    let own: Value = world.get(As::Key(&key), "/subjects/me").await.ok();
    let own = own["id"].as_str().unwrap();
    world.raw(As::Client(&admin), "DELETE", &format!("/api-keys/{own}"), vec![]).await.done();
    world.advance(3);
    filled::from(&world, 0).await;
    assert!(stream.ends().await, "a key that was deleted reads on");
    assert_eq!(kept.take(3).await.len(), 3, "another's goes on");
    world.app.stopping.cancel();
    assert!(kept.ends().await, "a stream goes on when the server stops");
}

/// An export has every row with what proves it: its lines alone make the chain up to the head, by the formula in the
/// admin guide.
#[tokio::test]
async fn an_export_proves_itself() {
    let world = World::new().await;
    let key = world.key(&world.admin().await, false).await;
    filled::from(&world, 0).await;
    filled::commands(&world, 1500).await;
    let head = world.app.store.event_head().await.unwrap();
    let reply = world.get(As::Key(&key), "/events/export").await;
    assert_eq!(reply.status, StatusCode::OK);
    let text = String::from_utf8(reply.body).unwrap();
    let (mut before, mut count) = ([0; 32], 0_u64);
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let numbers = ["seq", "at"].map(|field| value[field].as_u64().unwrap());
        let names = ["", "subject", "connection", "command", "file", "query", "web", "kube", "agent-status-change"];
        let log = names.iter().position(|name| value["log"] == *name).unwrap() as u64;
        // The body as it stands on the line.
        let body = line.split_once(",\"event\":").unwrap().1.strip_suffix('}').unwrap();
        let [seq, at] = numbers.map(u64::to_be_bytes);
        let parts = [&before[..], &seq, &log.to_be_bytes(), &at, body.as_bytes()];
        let hash = Digest::labelled(Label::LogRow, &parts);
        assert_eq!(value["hash"], hash.to_string(), "row {}", numbers[0]);
        (before, count) = (*hash.as_bytes(), numbers[0]);
    }
    assert_eq!((count, Digest::from_bytes(before)), (head.count, head.hash));
    let some = world.get(As::Key(&key), "/events/export?logs=command&targetUsers=root&after=100").await;
    let lines = String::from_utf8(some.body).unwrap();
    let seqs: Vec<_> =
        lines.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["seq"].as_u64().unwrap()).collect();
    assert!(seqs.len() > 100 && seqs.iter().all(|seq| *seq > 100), "{seqs:?}");
}

#[derive(Debug, Clone, PartialEq)]
struct Seen {
    number: u64,
    log: String,
    event: Value,
}

struct Stream {
    body: BodyDataStream,
    text: String,
}

impl Stream {
    /// Opens a stream, and waits until the server has begun it.
    async fn open(world: &World, key: &str, query: &str, last: Option<u64>) -> Self {
        let mut request = Request::builder().uri(format!("/api/v2/events/stream{query}")).header("X-API-KEY", key);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last.to_string());
        }
        let answer = world.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut stream = Self { body: answer.into_body().into_data_stream(), text: String::new() };
        let greeting = stream.chunk().await.expect("a greeting");
        assert!(greeting.starts_with("retry:"), "{greeting}");
        stream
    }

    async fn chunk(&mut self) -> Option<String> {
        let chunk = tokio::time::timeout(Duration::from_secs(30), self.body.next()).await.expect("something comes");
        chunk.map(|bytes| String::from_utf8(bytes.unwrap().to_vec()).unwrap())
    }

    async fn take(&mut self, count: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        while seen.len() < count {
            match self.text.split_once("\n\n").map(|(one, rest)| (one.to_owned(), rest.to_owned())) {
                Some((one, rest)) => {
                    self.text = rest;
                    let field = |name| one.lines().find_map(|line: &str| line.strip_prefix(name));
                    let Some(number) = field("id: ") else { continue };
                    seen.push(Seen {
                        number: number.parse().unwrap(),
                        log: field("event: ").unwrap().to_owned(),
                        event: serde_json::from_str(field("data: ").unwrap()).unwrap(),
                    });
                }
                None => {
                    let more = self.chunk().await.expect("the stream goes on");
                    self.text += &more;
                }
            }
        }
        seen
    }

    async fn ends(&mut self) -> bool {
        while let Some(text) = self.chunk().await {
            if text.contains("data:") {
                return false;
            }
        }
        true
    }
}
