//! Recordings as they are seen from outside while they are made: watched, taken along in parts, deleted, and kept as
//! policy says now.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Request, StatusCode};
use bz_core::api::error::Code;
use bz_core::api::record::SessionRecording;
use bz_server::jobs;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::{LATER, SECRET, Stage, TYPED, shell, until};
use crate::world::As;

const ECHO: &str = "a-line-that-only-the-echo-shows";
const AGAIN: &str = "a-line-of-a-third-time";

/// F-109: a recording is watched from its beginning on, live, taken up again where its stream broke off, and ends with
/// its connection; who may not see it does not watch it.
#[tokio::test]
async fn a_recording_is_watched_from_its_beginning_to_its_end() {
    let stage = Stage::new(Some(true)).await;
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.second().await;
    let mut first = Watching::open(&stage, "", None).await;
    assert_eq!(first.event().await.unwrap().kind, "header");
    let line = first.line().await;
    assert_eq!((&line.data[1], &line.data[2]), (&json!("o"), &json!(SECRET)));
    talk.hears(TYPED).await;
    talk.says(ECHO).await;
    talk.second().await;
    let typed = first.line().await;
    assert_eq!((&typed.data[1], &typed.data[2]), (&json!("i"), &json!(TYPED)));
    let echo = first.line().await.id;
    drop(first);
    talk.cut();
    stage.world.app.records.shutdown().await;
    talk.connect().await;

    // Meanwhile it went on; who comes back sees the rest, and nothing twice.
    talk.says(LATER).await;
    talk.second().await;
    for (query, last) in [("", Some(echo.clone())), (&*format!("?after={echo}"), None)] {
        let mut again = Watching::open(&stage, query, last.as_deref()).await;
        assert_eq!(again.line().await.data[2], LATER, "{query} {last:?}");
    }
    let mut rest = Watching::open(&stage, "", Some(&echo)).await;
    assert_eq!(rest.line().await.data[2], LATER);
    talk.close().await;
    stage.closes().await;
    assert_eq!(rest.rest().await, ["end"]);
    let mut whole = Watching::open(&stage, "", None).await;
    assert_eq!(whole.rest().await, ["header", SECRET, TYPED, ECHO, LATER, "end"]);

    let path = format!("/session-recordings/{}/stream", stage.id());
    stage.world.get(As::Client(&stage.alice), &path).await.refused(Code::Denied);
    stage.get(&format!("{path}?after=1.x.3")).await.refused(Code::BadRequest);
    let none = "/session-recordings/00000000-0000-4000-8000-00000000000f/stream";
    stage.get(none).await.refused(Code::NotFound);
}

/// F-109~: who watches and never reads holds up neither the session nor its record.
#[tokio::test]
async fn who_does_not_read_hurts_nobody() {
    let stage = Stage::new(Some(false)).await;
    let mut talk = stage.talk(&shell()).await;
    let never = Watching::open(&stage, "", None).await;
    let line = "0123456789abcdef".repeat(2048);
    for _ in 0..64 {
        talk.says(&line).await;
        talk.second().await;
    }
    talk.close().await;
    let verdict = stage.verdict_when(|v| v.server_claims.is_some()).await;
    assert_eq!((verdict.complete, verdict.to_client.withheld), (true, 0));
    stage.closes().await;
    let mut late = never;
    let seen = late.rest().await;
    assert_eq!(seen.iter().map(String::len).sum::<usize>() - "headerend".len(), 64 * line.len());
}

/// F-110~: parts of a recording, while it is made and after: what is there of it stays as it is, and one that ended has a
/// version by which a download is taken up.
#[tokio::test]
async fn a_recording_is_taken_along_in_parts() {
    let stage = Stage::new(Some(false)).await;
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.second().await;
    let running = stage.cast_with(SECRET).await;
    let (status, headers, part) = stage.part("bytes=10-", None).await;
    assert_eq!((status, &part), (StatusCode::PARTIAL_CONTENT, &running[10..].to_owned()));
    assert_eq!(headers["content-range"], format!("bytes 10-{}/{}", running.len() - 1, running.len()));
    let weak = headers["etag"].to_str().unwrap().to_owned();
    assert!(weak.starts_with("W/"), "{weak}");
    // Of what still grows no part is that of the very same whole.
    let (status, _, whole) = stage.part("bytes=10-", Some(&weak)).await;
    assert_eq!((status, &whole), (StatusCode::OK, &running));

    // What is not signed yet has no time: it is not there, so that what is there stays as it is.
    talk.says(LATER).await;
    assert_eq!(stage.part("bytes=0-", None).await.2, running);
    talk.second().await;
    let more = stage.cast_with(LATER).await;
    assert!(more.starts_with(&running), "{running}\n{more}");
    assert_eq!(stage.part("bytes=0-", None).await.1["etag"], *weak);
    talk.close().await;
    stage.closes().await;

    let (status, headers, whole) = stage.part("", None).await;
    assert_eq!((status, headers["accept-ranges"].to_str().unwrap()), (StatusCode::OK, "bytes"));
    assert!(whole.starts_with(&more));
    let strong = headers["etag"].to_str().unwrap().to_owned();
    assert!(strong.starts_with('"'), "{strong}");
    let (status, _, rest) = stage.part(&format!("bytes={}-", more.len() - 7), Some(&strong)).await;
    assert_eq!((status, rest.as_str()), (StatusCode::PARTIAL_CONTENT, &whole[more.len() - 7..]));
    for other in [&*weak, "\"another\"", "Sat, 29 Oct 1994 19:43:31 GMT", "*"] {
        assert_eq!(stage.part("bytes=5-6", Some(other)).await.0, StatusCode::OK, "{other}");
    }
    for ignored in ["bytes=0-1,3-4", "lines=0-1", "bytes=9-1", "bytes=", "x"] {
        assert_eq!(stage.part(ignored, None).await.2, whole, "{ignored}");
    }
    for nowhere in [&*format!("bytes={}-", whole.len()), "bytes=-0", "bytes=99999999999999999999999-"] {
        let (status, headers, body) = stage.part(nowhere, None).await;
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE, "{nowhere}: {body}");
        assert_eq!(headers["content-range"], format!("bytes */{}", whole.len()));
    }
}

/// F-111~: deleted while the session runs: who watches is told and sees only what comes after; the list and the log say
/// when and by whom, and what was stopped stays so, also over a start of the server.
#[tokio::test]
async fn who_watches_is_told_of_a_deletion() {
    let stage = Stage::new(Some(false)).await;
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.second().await;
    let mut watching = Watching::open(&stage, "", None).await;
    watching.event().await;
    assert_eq!(watching.line().await.data[2], SECRET);
    let seen = watching.last.clone();
    stage.delete(false).await;
    assert_eq!(watching.event().await.unwrap().kind, "deleted");
    talk.says(LATER).await;
    talk.second().await;
    assert_eq!(watching.line().await.data[2], LATER);
    let mut again = Watching::open(&stage, "", Some(&seen)).await;
    assert_eq!(again.line().await.data[2], LATER, "what was deleted counts as seen");
    let list: Vec<SessionRecording> = stage.get("/session-recordings").await.ok();
    assert!(list[0].time_deleted.is_some());
    let log = stage.world.log().await;
    let event = log.iter().find(|e| e.service_action == "recordservice:delete").expect("a deletion is logged");
    assert_eq!((event.resource.as_str(), event.actor.subject_name.as_str()), (&*stage.id(), "root-of-all@example.com"));

    stage.delete(true).await;
    assert!(!stage.at_rest(LATER));
    talk.cut();
    stage.world.app.records.shutdown().await;
    talk.connect().await;
    talk.says(AGAIN).await;
    talk.close().await;
    stage.verdict_when(|v| v.complete && v.server_claims.is_some()).await;
    assert!(!stage.at_rest(AGAIN), "what was stopped goes on after a start");
}

/// F-112: recording ends when its subject leaves the policy or the policy goes, in sessions that run, at once; it goes on
/// when a policy wants it again, but never where the person was told that it is not recorded.
#[tokio::test]
async fn recording_lasts_as_long_as_its_policy() {
    let stage = Stage::new(Some(true)).await;
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.hears(TYPED).await;
    talk.second().await;
    stage.cast_with(TYPED).await;
    let policy = stage.recording_policy().await;
    let path = format!("/policies/session-recording/{policy}");

    // Input is not recorded any more; then nothing is; then both are again.
    stage.patch(&path, &json!({"recordInput": false})).await;
    talk.says("output-while-input-is-not").await;
    talk.hears("input-while-it-is-not").await;
    let subjects = stage.world.get(As::Client(&stage.admin), &path).await.ok::<Value>()["subjects"].clone();
    let other = json!([{"id": stage.world.id_of(&stage.admin).await, "type": "User"}]);
    stage.patch(&path, &json!({"subjects": other})).await;
    talk.says(LATER).await;
    talk.second().await;
    stage.patch(&path, &json!({"subjects": subjects, "recordInput": true})).await;
    talk.says("output-of-who-is-back").await;
    stage.world.raw(As::Client(&stage.admin), "DELETE", &path, vec![]).await.done();
    talk.says(AGAIN).await;
    talk.close().await;
    let verdict = stage.verdict_when(|v| v.server_claims.is_some()).await;
    assert_eq!((verdict.complete, verdict.conflicts), (true, 0));
    let kept = ["output-while-input-is-not", "output-of-who-is-back", SECRET, TYPED].map(|text| stage.at_rest(text));
    assert_eq!(kept, [true; 4]);
    let gone = ["input-while-it-is-not", LATER, AGAIN].map(|text| stage.at_rest(text));
    assert_eq!(gone, [false; 3]);
    let cast = stage.cast_with(SECRET).await;
    assert!(cast.contains("output-of-who-is-back"), "what was recorded stays: {cast}");
    let log = stage.world.log().await;
    let changes = log.iter().filter(|e| e.service_action == "recordservice:changed" && e.resource == stage.id());
    assert_eq!(changes.count(), 4, "each change is logged");

    // A session that began unrecorded: its person was told so.
    let stage = Stage::new(None).await;
    let mut talk = stage.talk(&shell()).await;
    stage.record(&json!({"recordInput": true})).await;
    talk.says(SECRET).await;
    talk.close().await;
    assert!(!stage.at_rest(SECRET));
}

/// Recordings are deleted when they are older than they are kept, which the log says with their connections; the proof of
/// their sessions stays, and what still runs is not old.
#[tokio::test]
async fn old_recordings_are_deleted_and_that_is_logged() {
    let stage = Stage::new(Some(false)).await;
    let mut config = bz_server::config::Config::clone(&stage.world.app.config());
    config.recordings_keep_days = Some(30);
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.close().await;
    stage.verdict_when(|v| v.server_claims.is_some()).await;
    let id = stage.id();
    let running = stage.world.connect(&stage.alice, &stage.web).await;
    let world = stage.world.moved(config).await;
    let stage = Stage { world, ..stage };
    let days = |days: u64| days * 24 * 3600;
    stage.world.advance(days(31));
    jobs::tick(&stage.world.app).await.unwrap();
    assert!(stage.at_rest(SECRET), "a connection that is open is not old");
    stage.closes_now().await;
    stage.world.advance(days(29));
    jobs::tick(&stage.world.app).await.unwrap();
    assert!(stage.at_rest(SECRET), "it is kept for 30 days after its end");
    stage.world.advance(days(2));
    for _ in 0..2 {
        jobs::tick(&stage.world.app).await.unwrap();
    }
    assert!(!stage.at_rest(SECRET));
    assert!(stage.verdict_when(|v| v.server_claims.is_some()).await.complete);
    let log = stage.world.log().await;
    let events: Vec<_> = log.iter().filter(|e| e.service_action == "recordservice:expired").collect();
    assert_eq!(events.len(), 1, "{events:?}");
    let context: Value = serde_json::from_str(&events[0].context).unwrap();
    assert!(context["connections"].as_array().unwrap().contains(&json!(id)), "{context}");
    assert_eq!((&context["keepDays"], &context["failed"]), (&json!(30), &json!(0)));
    drop(running);
}

/// A watched recording.
pub(super) struct Watching {
    body: BodyDataStream,
    text: String,
    /// The id of the last line.
    last: String,
}

pub(super) struct Seen {
    id: String,
    kind: String,
    data: Value,
}

impl Watching {
    pub(super) async fn open(stage: &Stage, query: &str, last: Option<&str>) -> Self {
        let path = format!("/session-recordings/{}/stream{query}", stage.id());
        let headers: Vec<_> = last.map(|last| ("Last-Event-ID", last)).into_iter().collect();
        let answer = stage.world.answer(stage.request(&path, &headers)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut watching =
            Self { body: answer.into_body().into_data_stream(), text: String::new(), last: String::new() };
        let greeting = watching.chunk().await.expect("a greeting");
        assert!(greeting.starts_with("retry:"), "{greeting}");
        watching
    }

    async fn chunk(&mut self) -> Option<String> {
        let chunk = tokio::time::timeout(Duration::from_secs(60), self.body.next()).await.expect("something comes");
        chunk.map(|bytes| String::from_utf8(bytes.unwrap().to_vec()).unwrap())
    }

    /// The next event; `None` at the end.
    pub(super) async fn event(&mut self) -> Option<Seen> {
        loop {
            let Some((one, rest)) = self.text.split_once("\n\n").map(|(one, rest)| (one.to_owned(), rest.to_owned()))
            else {
                let more = self.chunk().await?;
                self.text += &more;
                continue;
            };
            self.text = rest;
            let field = |name| one.lines().find_map(|line: &str| line.strip_prefix(name));
            let (Some(kind), Some(data)) = (field("event: "), field("data: ")) else { continue };
            let id = field("id: ").unwrap_or_default().to_owned();
            return Some(Seen { id, kind: kind.to_owned(), data: serde_json::from_str(data).unwrap() });
        }
    }

    /// The next line.
    pub(super) async fn line(&mut self) -> Seen {
        loop {
            let event = self.event().await.expect("the recording goes on");
            if event.kind == "line" {
                self.last.clone_from(&event.id);
                return event;
            }
            assert_eq!(event.kind, "header", "{}", event.data);
        }
    }

    /// All that comes: what lines say, and of everything else what it is.
    pub(super) async fn rest(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(event) = self.event().await {
            seen.push(if event.kind == "line" { event.data[2].as_str().unwrap().to_owned() } else { event.kind });
        }
        seen
    }
}

impl Stage {
    fn request(&self, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
        let path = format!("/api/v2{path}");
        let proof = self.world.proof(&self.admin, "GET", &path, b"").to_header();
        let request = Request::builder().uri(&path).header("Authorization", proof);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(Body::empty()).unwrap()
    }

    /// A part of the recording.
    async fn part(&self, range: &str, seen: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut headers = vec![("Range", range)];
        headers.retain(|(_, range)| !range.is_empty());
        headers.extend(seen.map(|seen| ("If-Range", seen)));
        let reply = self.world.send(self.request(&format!("/session-recordings/{}", self.id()), &headers)).await;
        (reply.status, reply.headers, String::from_utf8(reply.body).unwrap())
    }

    /// The connection is closed, and its record written to its end.
    async fn closes(&self) {
        self.closes_now().await;
        let etag = async || self.part("bytes=0-0", None).await.1["etag"].to_str().unwrap().starts_with('"');
        until("the recording is over", etag).await;
    }

    async fn closes_now(&self) {
        let admin = self.world.user("root-of-all").await;
        let path = format!("/connections/{}/close", self.id());
        self.world.raw(As::Client(&admin), "PATCH", &path, vec![]).await.done();
    }

    pub(super) async fn recording_policy(&self) -> String {
        let all: Vec<Value> = self.get("/policies/session-recording").await.ok();
        all[0]["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn patch(&self, path: &str, change: &Value) {
        self.world.call(As::Client(&self.admin), "PATCH", path, change).await.done();
    }

    /// A recording policy about the person, with these fields besides.
    pub(super) async fn record(&self, more: &Value) {
        let subjects = json!([{"id": self.world.id_of(&self.alice).await, "type": "User"}]);
        let mut policy = json!({"name": "recorded", "subjects": subjects});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.world.call(As::Client(&self.admin), "POST", "/policies/session-recording", &policy).await.done();
    }
}
