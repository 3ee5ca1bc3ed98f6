//! What is at rest of a session's content, from a real shell to the files of the server's data folder.

use std::path::PathBuf;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_core::api::policy::{RecordingContent, Subject, SubjectType};
use bz_core::api::record::ConnectionEventType;
use bz_core::id::ConnectionId;
use bz_examples::needs;
use bz_examples::world::{Way, World};
use bz_protocol::frame::Fin;
use bz_protocol::session::End;
use bz_protocol::transcript::{Trust, Verdict};
use serde_json::Value;

use crate::api::call;
use crate::session::{files_with, until};
use crate::typist::Typist;

/// Shown by the shell, and in no line that is typed.
const SHOWN: &str = "shown-at-rest-41";
/// Typed into a program that shows nothing of it.
const TYPED: &str = "typed-at-rest-42";
const NONE: [PathBuf; 0] = [];

/// F-107~, F-108, F-109~, F-113~: without a recording policy no content is at rest, with one it is output, and input
/// where the policy says so; deleted, nothing of it is left, and each transcript still verifies.
#[tokio::test(flavor = "multi_thread")]
async fn content_is_at_rest_where_a_policy_says_so_and_until_it_is_deleted() {
    if !needs::program("bash") {
        return;
    }
    let room = Room::new().await;
    for record in [None, Some(false), Some(true)] {
        room.record(record).await;
        let mut typist = Typist::at(&room.world.client, &room.user).await;
        let connection = typist.session.connection();
        typist.line("printf 'shown-%s-41\\n' at-rest", &[&format!("{SHOWN}\r\n")]).await;
        typist.line("stty raw -echo; printf 'rea%s' dy; head -c 16 | wc -c; stty sane", &["ready"]).await;
        typist.keys(TYPED).await;
        typist.shows(&["16"]).await;
        typist.line("exit 4", &[]).await;
        assert_eq!(typist.ends().await, End::Completed(Fin::Exited(4)));
        let verdict = room.whole(connection).await;
        assert_eq!(verdict.to_client.withheld > 0, record.is_none(), "{record:?}: {verdict:?}");
        assert_eq!(verdict.to_agent.withheld > 0, record != Some(true), "{record:?}: {verdict:?}");
        assert_eq!(room.at_rest(SHOWN), record.is_some(), "output with {record:?}");
        assert_eq!(room.at_rest(TYPED), record == Some(true), "input with {record:?}");
        let list = call(&room.world, "GET", "session-recordings", None).await;
        let listed = String::from_utf8(list).unwrap().contains(&connection.to_string());
        assert_eq!(listed, record.is_some(), "only what is recorded is listed");
        if record.is_some() {
            room.delete(connection).await;
            let verdict = room.whole(connection).await;
            assert!(verdict.to_client.withheld > 0 && verdict.to_agent.withheld > 0, "{verdict:?}");
        }
        assert_eq!(files_with(&room.data(), SHOWN), NONE);
        assert_eq!(files_with(&room.data(), TYPED), NONE);
    }
    room.world.stop().await;
}

/// F-108~: what a recorded shell showed is in the asciicast to the last byte, ten megabytes at once and bytes that are no
/// text among it, which the transcript keeps as they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_and_what_is_no_text_are_recorded_exactly() {
    if !needs::program("bash") {
        return;
    }
    let room = Room::new().await;
    let mut typist = Typist::at(&room.world.client, &room.user).await;
    let connection = typist.session.connection();
    let burst = "printf 'be%s' gin; head -c 10000000 /dev/zero | tr '\\0' x; printf 'e%s' nd";
    typist.line(&format!("stty -opost; {burst}"), &["xend"]).await;
    typist.line("printf 'b%s\\377\\376\\303(\\360\\237\\246\\200e%s' in nd", &["bin", "(\u{1f980}end"]).await;
    typist.line("exit", &[]).await;
    assert_eq!(typist.ends().await, End::Completed(Fin::Exited(0)));
    let between = |text: &str| {
        let burst = text.split_once("begin").unwrap().1.split_once("end").unwrap().0;
        (burst.len(), burst.bytes().all(|byte| byte == b'x'))
    };
    assert_eq!(between(&String::from_utf8_lossy(&typist.seen)), (10_000_000, true), "what the client was shown");
    let verdict = room.whole(connection).await;
    assert_eq!(verdict.to_client.withheld, 0);
    let cast = call(&room.world, "GET", &format!("session-recordings/{connection}"), None).await;
    let shown = shown(std::str::from_utf8(&cast).unwrap());
    assert_eq!(between(&shown), (10_000_000, true), "what the recording shows");
    assert_eq!(shown, String::from_utf8_lossy(&typist.seen), "the recording is not what the client was shown");
    let raw = b"bin\xff\xfe\xc3(\xf0\x9f\xa6\x80end";
    assert!(typist.seen.windows(raw.len()).any(|bytes| bytes == raw));
    let transcript = room.data().join(format!("transcripts/{connection}/1.bzt"));
    let kept = std::fs::read(transcript).unwrap();
    assert!(kept.windows(raw.len()).any(|bytes| bytes == raw), "the transcript has other bytes than were shown");
    room.world.stop().await;
}

/// What a player would show, all at once.
fn shown(cast: &str) -> String {
    let mut lines = cast.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let head = lines.next().unwrap();
    assert_eq!((&head["version"], &head["width"], &head["height"]), (&2.into(), &80.into(), &24.into()), "{head}");
    lines.filter(|event| event[1] == "o").map(|event| event[2].as_str().unwrap().to_owned()).collect()
}

struct Room {
    world: World,
    user: String,
    _folder: tempfile::TempDir,
}

impl Room {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = User::current().unwrap().name;
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        let world = World::start(folder.path(), helper, &user, Way::Ws).await.unwrap();
        Self { world, user, _folder: folder }
    }

    fn data(&self) -> PathBuf {
        self.world.folder.join("server")
    }

    fn at_rest(&self, text: &str) -> bool {
        !files_with(&self.data(), text).is_empty()
    }

    /// Sets the only recording policy: none, or whether it records input as well.
    async fn record(&self, input: Option<bool>) {
        let client = &self.world.client;
        for policy in client.recording_policies().await.unwrap() {
            call(&self.world, "DELETE", &format!("policies/session-recording/{}", policy.id), None).await;
        }
        if let Some(record_input) = input {
            let me = client.me().await.unwrap();
            let subjects = vec![Subject { id: me.id, kind: SubjectType::User }];
            let name = format!("record, input {record_input}");
            let policy = RecordingContent { name, subjects, record_input, ..RecordingContent::default() };
            client.create_recording_policy(&policy).await.unwrap();
        }
    }

    async fn delete(&self, connection: ConnectionId) {
        call(&self.world, "DELETE", &format!("session-recordings/{connection}"), None).await;
    }

    /// What verifying the one transcript of a closed connection says, as soon as it is whole.
    async fn whole(&self, connection: ConnectionId) -> Verdict {
        let log = async || self.world.client.connection_events(1000).await.unwrap();
        let closed = ConnectionEventType::Closed;
        until(log, |all| all.iter().any(|e| e.connection_id == connection && e.connection_event_type == closed)).await;
        let look = async || self.world.transcripts(connection).await.unwrap();
        let whole = |found: &Vec<(PathBuf, Result<Verdict, String>)>| {
            found.first().is_some_and(|(_, verdict)| {
                verdict.as_ref().is_ok_and(|verdict| verdict.complete && verdict.server_claims.is_some())
            })
        };
        let mut found = until(look, whole).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let verdict = found.remove(0).1.unwrap();
        assert_eq!((verdict.trust, verdict.conflicts), (Trust::Proved, 0));
        verdict
    }
}
