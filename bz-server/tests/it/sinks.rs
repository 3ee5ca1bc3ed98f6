//! Logs sent away: to real files, sockets and a web server, in order, over failures and restarts, and nothing missing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bz_core::api::record::UserEvent;
use bz_server::Server;
use bz_server::config::SinkSettings;
use bz_server::store::event::{EventFilter, Log};
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream, UnixDatagram};

use crate::world::{As, World};

/// A file has every row, each line as an export has it; moved away it begins anew, and a restart goes on where it was.
#[tokio::test]
async fn a_file_gets_every_row_over_rotation_and_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let sink = SinkSettings { name: "lines".to_owned(), file: Some(path.clone()), ..SinkSettings::default() };
    let mut world = world_with(sink).await;
    let server = serve(&world).await;
    let admin = world.admin().await;
    await_rows(&world, || lines(&path)).await;
    let moved = folder.path().join("events.jsonl.1");
    std::fs::rename(&path, &moved).unwrap();
    world.get(As::Client(&admin), "/users/me").await.done();
    let all = || [lines(&moved), lines(&path)].concat();
    await_rows(&world, all).await;
    assert_eq!(lines(&path).len(), 1, "the moved file was not written to");
    server.shutdown().await;

    world.get(As::Client(&admin), "/users/me").await.done();
    // What a crash leaves of a line.
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, b"{\"seq\":").unwrap();
    world = world.restarted().await;
    let server = serve(&world).await;
    await_rows(&world, || all().into_iter().filter(|line| serde_json::from_str::<Value>(line).is_ok()).collect()).await;
    let sent: Vec<_> = all().into_iter().filter(|line| line != "{\"seq\":").collect();
    let export = world.get(As::Client(&admin), "/events/export").await.body;
    let export = String::from_utf8(export).unwrap();
    let exported: Vec<_> = export.lines().take(sent.len()).map(str::to_owned).collect();
    assert_eq!(sent, exported, "the lines are those of an export");
    server.shutdown().await;
}

/// A webhook's calls are signed; what it refuses comes again, in order; rows of other logs do not come.
#[tokio::test]
async fn a_webhook_gets_signed_rows_until_it_takes_them() {
    const SECRET: &str = "0123456789abcdef0123";
    type Calls = Arc<Mutex<Vec<(HeaderMap, String)>>>;
    let (seen, refusals): (Calls, _) = (Arc::default(), Arc::new(Mutex::new(2)));
    let (kept, left) = (Arc::clone(&seen), Arc::clone(&refusals));
    let take = async move |headers: HeaderMap, body: String| {
        let mut left = left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        kept.lock().unwrap().push((headers, body));
        StatusCode::NO_CONTENT
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, Router::new().route("/in", post(take))).await });
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let sink = SinkSettings {
        name: "siem".to_owned(),
        webhook: Some(url.parse().unwrap()),
        secret: Some(secret),
        logs: vec!["subject".to_owned()],
        ..SinkSettings::default()
    };
    let world = world_with(sink).await;
    let server = serve(&world).await;
    let admin = world.admin().await;
    world.agent(&admin, "web").await;
    for _ in 0..2 {
        soon(|| *refusals.lock().unwrap() < 2).await;
        world.advance(10);
    }
    let bodies = || seen.lock().unwrap().iter().map(|(_, body)| body.clone()).collect::<String>();
    await_rows(&world, || {
        world.advance(1);
        bodies().lines().map(str::to_owned).collect()
    })
    .await;
    server.shutdown().await;
    serving.abort();
    for (headers, body) in seen.lock().unwrap().iter() {
        let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
        let signature = header("x-bz-signature");
        let (time, tag) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        hmac::verify(&key, format!("{time}.{body}").as_bytes(), &hex::decode(tag).unwrap()).expect("the signature");
        let numbers: Vec<u64> = body.lines().map(number).collect();
        assert_eq!(header("x-bz-first"), numbers.first().unwrap().to_string());
        assert_eq!(header("x-bz-last"), numbers.last().unwrap().to_string());
        assert!(body.lines().all(|line| line.contains("\"log\":\"subject\"")), "{body}");
    }
    let metrics = world.app.metrics.text().unwrap();
    assert!(metrics.contains("bz_sink_failures_total{sink=\"siem\"} 2"), "{metrics}");
    assert!(metrics.contains("bz_sink_behind_rows{sink=\"siem\"} 0"), "{metrics}");
}

/// Syslog over TCP: each message has its length before it; a receiver that went away gets what it may not have seen again.
#[tokio::test]
async fn syslog_over_tcp_loses_nothing_when_its_receiver_starts_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sink =
        SinkSettings { name: "s".to_owned(), syslog: Some(format!("tcp://{address}")), ..SinkSettings::default() };
    let world = world_with(sink).await;
    let server = serve(&world).await;
    let admin = world.admin().await;
    let mut stream = listener.accept().await.unwrap().0;
    let first = framed(&mut stream, 1).await;
    drop((stream, listener));
    world.get(As::Client(&admin), "/users/me").await.done();
    let listener = TcpListener::bind(address).await.unwrap();
    let accepted = async {
        loop {
            tokio::select! {
                accepted = listener.accept() => return accepted.unwrap().0,
                () = tokio::time::sleep(Duration::from_millis(20)) => world.advance(5),
            }
        }
    };
    let mut stream = accepted.await;
    let again = framed(&mut stream, 2).await;
    let numbers = |messages: &[String]| messages.iter().map(|m| number(&m[m.find('{').unwrap()..])).collect::<Vec<_>>();
    assert_eq!((numbers(&first), numbers(&again)), (vec![1], vec![1, 2]));
    assert!(again[1].starts_with("<110>1 2027-") && again[1].contains(" bz-server - subject - {"), "{}", again[1]);
    server.shutdown().await;
}

/// A collector gets requests of the published shape, and its token; what it refuses comes again.
#[tokio::test]
async fn a_collector_gets_log_records() {
    type Calls = Arc<Mutex<Vec<(HeaderMap, String)>>>;
    let seen = Calls::default();
    let kept = Arc::clone(&seen);
    let take = async move |headers: HeaderMap, body: String| {
        let mut kept = kept.lock().unwrap();
        kept.push((headers, body));
        let status = if kept.len() == 1 { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
        (status, r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}"#)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/logs", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/logs", post(take))).await });
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token");
    std::fs::write(&secret, "a-token\n").unwrap();
    let (otlp, secret) = (Some(url.parse().unwrap()), Some(secret));
    let world = world_with(SinkSettings { name: "c".to_owned(), otlp, secret, ..SinkSettings::default() }).await;
    let server = serve(&world).await;
    world.admin().await;
    world.get(As::Nobody, "/users").await;
    let taken = || -> Vec<Value> {
        let calls = seen.lock().unwrap();
        calls.iter().skip(1).flat_map(|(_, body)| records(&serde_json::from_str(body).unwrap())).collect()
    };
    let head = world.app.store.event_head().await.unwrap().count;
    soon(|| {
        world.advance(1);
        taken().len() as u64 >= head
    })
    .await;
    server.shutdown().await;
    serving.abort();
    for (headers, _) in seen.lock().unwrap().iter() {
        assert_eq!(
            (&headers["content-type"], &headers["authorization"]),
            (&"application/json".parse().unwrap(), &"Bearer a-token".parse().unwrap())
        );
    }
    let rows = world.app.store.events_after((Log::ALL.to_vec(), EventFilter::default()), 0).await.unwrap().0;
    for (row, record) in rows.iter().zip(taken()) {
        let refused = row.body.contains("\"evaluation\":false");
        let (number, text) = if refused { (13, "WARN") } else { (9, "INFO") };
        assert_eq!((&record["severityNumber"], &record["severityText"]), (&json!(number), &json!(text)));
        assert_eq!(record["timeUnixNano"], json!(format!("{}000000", row.at.as_millis())));
        assert_eq!(record["body"], json!({ "stringValue": row.body }));
        let attributes = record["attributes"].as_array().unwrap();
        for (key, value) in [
            ("bz.seq", json!({ "intValue": row.seq.to_string() })),
            ("bz.log", json!({ "stringValue": row.log.name() })),
            ("bz.hash", json!({ "stringValue": row.hash.to_string() })),
        ] {
            assert!(attributes.contains(&json!({ "key": key, "value": value })), "{key} of {record}");
        }
    }
    assert!(taken().iter().any(|record| record["severityNumber"] == 13), "no refused call came");
}

/// Retention waits for a sink that is behind, and cuts what it took as soon as it took it; one that is dead holds rows as
/// long as the settings say, and the log names it then.
#[tokio::test]
async fn retention_waits_for_a_sink_and_not_for_ever() {
    const DAY: u64 = 24 * 3600;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/events.jsonl");
    let sink = SinkSettings { name: "late".to_owned(), file: Some(path.clone()), ..SinkSettings::default() };
    let world = World::with(|config| {
        config.sinks = vec![sink];
        (config.events_keep_days, config.sinks_wait_days) = (Some(2), 3);
    })
    .await;
    let server = serve(&world).await;
    world.admin().await;
    let begin_after = async |days: u64| {
        world.advance(days * DAY);
        bz_server::jobs::tick(&world.app).await.unwrap();
        world.app.store.events_begin().await.unwrap()
    };
    assert_eq!(begin_after(3).await, 1, "rows that wait were cut");
    let head = world.app.store.event_head().await.unwrap().count;
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    soon(|| {
        world.advance(60);
        lines(&path).len() as u64 >= head
    })
    .await;
    until_begin(&world, head + 1).await;
    until_cut(&world, "\"notTakenBy\":[]").await;

    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    world.get(As::Nobody, "/users/me").await;
    let waiting = world.app.store.event_head().await.unwrap().count;
    assert!(begin_after(3).await <= waiting, "rows that wait were cut");
    begin_after(3).await;
    until_begin(&world, waiting + 1).await;
    until_cut(&world, "\"notTakenBy\":[\"late\"]").await;
    server.shutdown().await;
}

/// The local daemon's socket gets a datagram for each row.
#[tokio::test]
async fn the_local_syslog_gets_datagrams() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    let syslog = Some(format!("unix:{}", path.display()));
    let world = world_with(SinkSettings { name: "s".to_owned(), syslog, ..SinkSettings::default() }).await;
    let server = serve(&world).await;
    world.admin().await;
    let mut buffer = vec![0; 100_000];
    let read = tokio::time::timeout(DEADLINE, socket.recv(&mut buffer)).await.expect("a datagram").unwrap();
    let said = String::from_utf8_lossy(&buffer[..read]).into_owned();
    assert!(said.contains(" bz-server - subject - {\"seq\":1,"), "{said}");
    server.shutdown().await;
}

/// Settings that could not work are refused with their rule.
#[test]
fn settings_of_a_sink_are_checked() {
    let sink = |change: fn(&mut SinkSettings)| {
        let file = Some(PathBuf::from("/x"));
        let mut sink = SinkSettings { name: "a".to_owned(), file, ..SinkSettings::default() };
        change(&mut sink);
        sink.check()
    };
    assert_eq!(sink(|_| ()), Ok(()));
    for (change, part) in [
        ((|s| s.name.clear()) as fn(&mut SinkSettings), "a name"),
        (|s| s.name = "a b".to_owned(), "a name"),
        (|s| s.file = None, "exactly one"),
        (|s| s.syslog = Some("unix:/dev/log".to_owned()), "exactly one"),
        (|s| s.secret = Some("/s".into()), "a secret for a webhook"),
        (|s| (s.file, s.syslog) = (None, Some("udp://x:514".to_owned())), "syslog as"),
        (|s| s.logs = vec!["commands".to_owned()], "names logs"),
        (
            |s| {
                s.file = None;
                s.webhook = Some("http://siem.example/".parse().unwrap());
                s.secret = Some("/s".into());
            },
            "https addresses",
        ),
    ] {
        let refused = sink(change).expect_err(part);
        assert!(refused.contains(part), "{refused}");
    }
}

const DEADLINE: Duration = Duration::from_secs(20);

async fn world_with(sink: SinkSettings) -> World {
    World::with(|config| config.sinks = vec![sink]).await
}

async fn serve(world: &World) -> Server {
    Server::serve(Arc::clone(&world.app), world.router.clone()).await.unwrap()
}

/// Until retention cut all rows before this one.
async fn until_begin(world: &World, begin: u64) {
    let looking = async {
        while world.app.store.events_begin().await.unwrap() < begin {
            bz_server::jobs::tick(&world.app).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.expect("rows are cut in time");
}

/// Until the log says so of a cut, which it does after the cut, whichever tick it was of.
async fn until_cut(world: &World, said: &str) {
    let cut = |event: &UserEvent| event.service_action == "auditservice:cut" && event.context.contains(said);
    let looking = async {
        loop {
            let filter = EventFilter { limit: 10, ..EventFilter::default() };
            if world.app.store.user_events(filter).await.unwrap().iter().any(cut) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("no cut says {said}"));
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn number(line: &str) -> u64 {
    serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()
}

/// Until all rows that there are have come, each once and in order.
async fn await_rows(world: &World, come: impl Fn() -> Vec<String>) {
    let head = world.app.store.event_head().await.unwrap().count;
    let want: Vec<u64> = (1..=head).collect();
    soon(|| come().len() >= want.len()).await;
    assert_eq!(come().iter().map(|line| number(line)).collect::<Vec<_>>(), want);
}

async fn soon(holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.expect("it comes in time");
}

/// The records of a request, whose shape is the published one: `opentelemetry-proto`, logs/v1.
fn records(request: &Value) -> Vec<Value> {
    let only = |value: &Value, fields: &[&str]| {
        let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
        assert!(object.keys().all(|key| fields.contains(&key.as_str())), "{value} has more than {fields:?}");
    };
    let digits = |value: &Value| {
        let text = value.as_str().unwrap_or_else(|| panic!("64 bits are a text: {value}"));
        assert!(text.parse::<u64>().is_ok(), "{text}");
    };
    let attributes = |of: &Value| {
        for attribute in of["attributes"].as_array().unwrap() {
            only(attribute, &["key", "value"]);
            only(&attribute["value"], &["stringValue", "intValue"]);
            assert!(attribute["key"].as_str().is_some_and(|key| !key.is_empty()), "{attribute}");
        }
    };
    only(request, &["resourceLogs"]);
    let mut all = Vec::new();
    for resource in request["resourceLogs"].as_array().unwrap() {
        only(resource, &["resource", "scopeLogs", "schemaUrl"]);
        attributes(&resource["resource"]);
        for scope in resource["scopeLogs"].as_array().unwrap() {
            only(scope, &["scope", "logRecords", "schemaUrl"]);
            assert!(scope["scope"]["name"].is_string(), "{scope}");
            for record in scope["logRecords"].as_array().unwrap() {
                let fields =
                    ["timeUnixNano", "observedTimeUnixNano", "severityNumber", "severityText", "body", "attributes"];
                only(record, &fields);
                only(&record["body"], &["stringValue"]);
                digits(&record["timeUnixNano"]);
                digits(&record["observedTimeUnixNano"]);
                attributes(record);
                all.push(record.clone());
            }
        }
    }
    all
}

/// Messages after their lengths.
async fn framed(stream: &mut TcpStream, count: usize) -> Vec<String> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let mut length = 0;
        loop {
            match tokio::time::timeout(DEADLINE, stream.read_u8()).await.expect("a message").unwrap() {
                b' ' => break,
                digit => length = length * 10 + usize::from(digit - b'0'),
            }
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await.unwrap();
        messages.push(String::from_utf8(message).unwrap());
    }
    messages
}
