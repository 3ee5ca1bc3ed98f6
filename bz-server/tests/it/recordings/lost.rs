//! Records that cannot be written, or not be read: who must be recorded is not let in and not let on, and what is left of
//! a record is shown.

use std::fs;
use std::path::PathBuf;

use bz_core::access::Mode;
use bz_core::access::request::Parameters;
use bz_core::api::Bytes;
use bz_core::api::error::Code;
use bz_core::api::record::{ConnectionEvent, ConnectionEventType};
use bz_core::wire;
use bz_protocol::transcript::Reader;
use bz_server::config::OnRecordFailure;
use bz_server::record::{FOLDER, Unrecorded};
use serde_json::{Value, json};

use super::live::Watching;
use super::{LATER, SECRET, Stage, shell, until};
use crate::world::{As, Reply};

const UNREADABLE: &str = "nothing can be recorded: who must be recorded is refused";
const GAP: &str = "a session's record could not be written and has a gap from here on";
const NOT_KEPT: &str = "closed by the service: the session could not be recorded";

/// Where a policy requires a recording nobody is let in by a way that cannot be recorded, nor while the server cannot
/// record; others are let in.
#[tokio::test]
async fn no_recording_no_session() {
    let stage = Stage::new(None).await;
    stage.world.logged.expect_error(UNREADABLE);
    for verb in ["Tunnel", "FileTransfer"] {
        stage.allow(verb).await;
    }
    let sealed = json!({"mode": Mode::Sealed});
    let tunnel =
        json!({"parameters": parameters(&Parameters::Tunnel { destinations: vec!["127.0.0.1:22".parse().unwrap()] })});
    let asked = async |more: &Value| stage.ask(more).await;
    asked(&sealed).await.done();
    asked(&tunnel).await.done();
    stage.record(&json!({"required": true})).await;
    let said = asked(&sealed).await.refused(Code::Denied).error_msg;
    assert!(said.starts_with("your shells are recorded, so they cannot be sealed"), "{said}");
    let said = asked(&tunnel).await.refused(Code::Denied).error_msg;
    assert!(said.starts_with("you must be recorded, and what goes this way cannot be"), "{said}");
    asked(&json!({})).await.done();

    let blocked = stage.block();
    let said = asked(&json!({})).await.refused(Code::Conflict).error_msg;
    assert!(said.contains("only while you are recorded, and the server cannot record now"), "{said}");
    let policy = format!("/policies/session-recording/{}", stage.recording_policy().await);
    stage.patch(&policy, &json!({"required": false})).await;
    asked(&json!({})).await.done();
    stage.patch(&policy, &json!({"required": true})).await;
    fs::remove_file(blocked).unwrap();
    asked(&json!({})).await.done();
}

/// A session that must be recorded ends with its record, at its beginning and in its middle, whatever the settings say of
/// others, and its person reads why.
#[tokio::test]
async fn a_session_that_must_be_recorded_ends_with_its_record() {
    let stage = Stage::with(None, OnRecordFailure::Continue).await;
    stage.world.logged.expect_error(GAP);
    stage.record(&json!({"required": true})).await;
    let stage = Stage { made: stage.connect(&shell()).await, ..stage };
    assert!(stage.made.recorded);

    // At its beginning: the agent's answer does not reach the client before it is written.
    let blocked = stage.block();
    let talk = stage.talk(&shell()).await;
    assert_eq!(talk.refused, Some(Unrecorded::NotKept));
    drop(talk);
    stage.closed_with(NOT_KEPT).await;
    fs::remove_file(blocked).unwrap();

    // In its middle: the disk takes no more. Here the file is one that cannot be written to.
    let stage = Stage { made: stage.connect(&shell()).await, ..stage };
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.second().await;
    assert_eq!(talk.refused, None);
    stage.cast_with(SECRET).await;
    let file = stage.data().join(FOLDER).join(stage.id()).join("1.tokens");
    fs::remove_file(&file).unwrap_or_default();
    fs::create_dir(&file).unwrap();
    talk.renews().await;
    stage.closed_with(NOT_KEPT).await;
    let log = stage.world.log().await;
    let lost = log.iter().find(|e| e.service_action == "recordservice:lost" && e.resource == stage.id()).unwrap();
    let context: Value = serde_json::from_str(&lost.context).unwrap();
    assert_eq!((&context["then"], &context["required"]), (&json!("end"), &json!(true)), "{context}");
}

/// Recording that is required is not stopped, and what was not recorded ends when it becomes required.
#[tokio::test]
async fn what_must_be_recorded_goes_on_recorded_or_not_at_all() {
    let stage = Stage::new(None).await;
    stage.record(&json!({})).await;
    let stage = Stage { made: stage.connect(&shell()).await, ..stage };
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.second().await;
    stage.cast_with(SECRET).await;
    let policy = format!("/policies/session-recording/{}", stage.recording_policy().await);
    stage.patch(&policy, &json!({"required": true})).await;
    let path = format!("/session-recordings/{}?stop=true", stage.id());
    let refused = stage.world.raw(As::Client(&stage.admin), "DELETE", &path, vec![]).await;
    let said = refused.refused(Code::Conflict).error_msg;
    assert!(said.contains("close the connection first"), "{said}");
    stage.delete(false).await;
    talk.says(LATER).await;
    talk.second().await;
    stage.cast_with(LATER).await;

    stage.patch(&policy, &json!({"required": false})).await;
    stage.delete(true).await;
    stage.patch(&policy, &json!({"required": true})).await;
    let why = "it must be recorded from now on, and was not: connect again";
    stage.closed_with(&format!("closed by the administrator root-of-all@example.com: {why}")).await;

    // One that began before anybody was recorded.
    let stage = Stage::new(None).await;
    let _talk = stage.talk(&shell()).await;
    stage.record(&json!({"required": true})).await;
    stage.closed_with(&format!("closed by the administrator root-of-all@example.com: {why}")).await;
}

/// F-113~: of a record that was cut off while it was written everything whole is shown, and it goes on from there; of a
/// damaged one what comes before the damage, and that it is damaged; both can be deleted.
#[tokio::test]
async fn what_is_left_of_a_record_is_shown() {
    let stage = Stage::new(Some(false)).await;
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.second().await;
    stage.cast_with(SECRET).await;
    talk.cut();
    stage.world.app.records.shutdown().await;
    let file = stage.data().join(FOLDER).join(stage.id()).join("1.bzt");
    let whole = fs::read(&file).unwrap();

    // As a server leaves it that was killed while it wrote.
    for torn in [1, 8, 9, 40] {
        fs::write(&file, [&whole[..], &whole[10..10 + torn]].concat()).unwrap();
        let cast = stage.cast_with(SECRET).await;
        assert!(!cast.contains("damaged"), "{torn}: {cast}");
    }
    talk.connect().await;
    assert_eq!(talk.refused, None, "a record is gone on with from its last whole piece");
    talk.says(LATER).await;
    talk.close().await;
    stage.verdict_when(|v| v.complete && v.server_claims.is_some()).await;
    stage.cast_with(LATER).await;
    let whole = fs::read(&file).unwrap();

    // Cut off anywhere, and damaged anywhere: never a failure of the server.
    let shown = async || {
        let reply = stage.get(&format!("/session-recordings/{}", stage.id())).await;
        reply.done();
        stage.get(&format!("/session-recordings/{}/search?q=a", stage.id())).await.done();
        String::from_utf8(reply.body).unwrap()
    };
    for length in (10..whole.len()).step_by(97) {
        fs::write(&file, &whole[..length]).unwrap();
        let cast = shown().await;
        assert!(cast.starts_with("{\"") && cast.ends_with('\n'), "{length}: {cast}");
    }
    for at in (0..whole.len()).step_by(61) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        fs::write(&file, &bytes).unwrap();
        assert!(shown().await.starts_with("{\""), "{at}");
    }
    let at = whole.windows(LATER.len()).position(|w| w == LATER.as_bytes()).unwrap();
    let mut starts = Reader::new(&whole).unwrap().map(|record| record.unwrap().0.offset);
    let start = starts.by_ref().take_while(|start| *start < at).last().unwrap();
    let mut bytes = whole.clone();
    bytes[start..start + 9].fill(0xee);
    fs::write(&file, &bytes).unwrap();
    let cast = shown().await;
    assert!(cast.contains(SECRET), "{cast}");
    let connection = stage.id();
    let path = format!("/connections/{connection}/close");
    stage.world.raw(As::Client(&stage.admin), "PATCH", &path, vec![]).await.done();
    let seen = Watching::open(&stage, "", None).await.rest().await;
    assert_eq!((seen.first().unwrap().as_str(), seen.last().unwrap().as_str()), ("header", "end"));
    assert!(seen.iter().any(|text| text.contains("damaged")) && seen.contains(&SECRET.to_owned()), "{seen:?}");
    stage.delete(false).await;
    assert!(!stage.at_rest(SECRET) && !stage.at_rest(LATER), "a damaged record keeps content that was deleted");
    assert!(!shown().await.contains(SECRET));
}

fn parameters(parameters: &Parameters) -> Bytes {
    Bytes(wire::encode(parameters, 1024).unwrap())
}

impl Stage {
    async fn ask(&self, more: &Value) -> Reply {
        let mut body = json!({"targetId": self.web.id});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.world.call(As::Client(&self.alice), "POST", "/connections/universal", &body).await
    }

    async fn allow(&self, verb: &str) {
        let subjects = json!([{"id": self.world.id_of(&self.alice).await, "type": "User"}]);
        let policy = json!({"name": verb, "subjects": subjects, "targets": [{"id": self.web.id, "type": "Bzero"}],
            "targetUsers": [{"userName": "deploy"}], "verbs": [{"type": verb}]});
        self.world.call(As::Client(&self.admin), "POST", "/policies/target-connect", &policy).await.done();
    }

    /// Nothing can be written where records are: a file is in their folder's place.
    fn block(&self) -> PathBuf {
        let place = self.data().join(FOLDER);
        fs::remove_dir_all(&place).unwrap_or_default();
        fs::write(&place, "no folder").unwrap();
        place
    }

    /// The connection is closed, with this reason.
    async fn closed_with(&self, reason: &str) {
        let closed = async || {
            let log: Vec<ConnectionEvent> = self.get("/events/connection").await.ok();
            let is = |e: &&ConnectionEvent| {
                e.connection_id == self.made.connection_id && e.connection_event_type == ConnectionEventType::Closed
            };
            log.iter().find(is).map(|e| e.reason.clone())
        };
        until("the connection is closed", async || closed().await.is_some()).await;
        assert_eq!(closed().await.as_deref(), Some(reason));
    }
}
