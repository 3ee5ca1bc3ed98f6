//! A disk that is full while a session is recorded: it ends or goes on, as the settings say, and never silently.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::terminal::farewell;
use bz_core::access::request::Parameters;
use bz_core::api::policy::{RecordingContent, Subject, SubjectType};
use bz_core::api::record::{ConnectionEvent, ConnectionEventType, UserEvent};
use bz_examples::needs;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::client::{Action, Event};
use bz_protocol::frame::Fin;
use bz_protocol::session::End;
use bz_server::config::{Config, OnRecordFailure};
use bz_server::record::FOLDER;

use crate::logged::Logged;

/// More than the disk holds, and than waits to be written.
const BYTES: usize = 24 << 20;

/// F-107~: the person, the log of the connection, the log of calls and the server's own log say what happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_record() {
    let Some(seen) = record_on_a_full_disk(OnRecordFailure::End, false).await else { return };
    assert!(seen.bytes < BYTES, "the session went on without its record");
    let told = "the session was cut short: its end is not signed\nWhat came is the target's, but it may not be all.";
    assert_eq!(farewell(&seen.end).as_deref(), Some(told));
    let reason = "closed by the service: the session could not be recorded";
    assert_eq!((seen.reason.as_deref(), seen.closed.as_str()), (Some(reason), reason));
    assert!(
        seen.audit.contains("No space left on device") && seen.audit.contains("\"then\":\"end\""),
        "{}",
        seen.audit
    );
}

/// F-107~: where the settings put the work before its record, the work is whole, and the gap in the record is logged.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_without_its_record() {
    let Some(seen) = record_on_a_full_disk(OnRecordFailure::Continue, false).await else { return };
    assert_eq!((seen.bytes, &seen.end), (BYTES, &End::Completed(Fin::Exited(0))));
    assert_eq!(seen.closed, "closed by the service: it exited with 0");
    let then = "\"then\":\"continue\"";
    assert!(seen.audit.contains("No space left on device") && seen.audit.contains(then), "{}", seen.audit);
}

/// Where a policy requires the recording its session ends with it, whatever the settings say, and nobody is let in before
/// there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_recorded_ends_with_its_record() {
    let Some(seen) = record_on_a_full_disk(OnRecordFailure::Continue, true).await else { return };
    assert!(seen.bytes < BYTES, "the session went on without its record");
    let reason = "closed by the service: the session could not be recorded";
    assert_eq!((seen.reason.as_deref(), seen.closed.as_str()), (Some(reason), reason));
    assert!(seen.audit.contains("\"then\":\"end\"") && seen.audit.contains("\"required\":true"), "{}", seen.audit);
    let refused = seen.refused.expect("nobody is let in");
    assert!(refused.contains("only while you are recorded, and the server cannot record now"), "{refused}");
}

struct Seen {
    bytes: usize,
    end: End,
    /// What the server told the client.
    reason: Option<String>,
    /// What the connection's log says of its end.
    closed: String,
    /// What the log of calls says of the record.
    audit: String,
    /// What who asks again is told.
    refused: Option<String>,
}

async fn record_on_a_full_disk(choice: OnRecordFailure, required: bool) -> Option<Seen> {
    let logged = Logged::here();
    logged.expect_error("a session's record could not be written and has a gap from here on");
    let folder = tempfile::tempdir().unwrap();
    let (user, helper) = (User::current().unwrap().name, Helper::at(env!("CARGO_BIN_EXE_helper")));
    let settings = |config: &mut Config| config.on_record_failure = choice;
    let world = World::start_with(folder.path(), helper, (&user, Way::Ws), settings).await.unwrap();
    let Some(_disk) = Disk::at(folder.path().join("server").join(FOLDER)) else {
        world.stop().await;
        return None;
    };
    if required {
        logged.expect_error("nothing can be recorded: who must be recorded is refused");
        let me = world.client.me().await.unwrap().id;
        let subjects = vec![Subject { id: me, kind: SubjectType::User }];
        let policy = RecordingContent { name: "required".into(), subjects, required, ..RecordingContent::default() };
        world.client.create_recording_policy(&policy).await.unwrap();
    }
    // It waits for a line, so that it begins on a disk that still takes something.
    let command = format!("echo; read -r go; head -c {} /dev/urandom; echo", BYTES - 2);
    let target = format!("{user}@{TARGET}").parse().unwrap();
    let asked = world.client.ask(&target, Parameters::Exec { command }, None).await.unwrap();
    let mut session = world.client.session(asked).await.unwrap();
    let command = || Parameters::Exec { command: "true".to_owned() };
    session.actions().act(Action::Bytes { stream: 0, bytes: b"go\n".to_vec() }).await.unwrap();
    let (mut bytes, id) = (0, session.connection());
    let end = loop {
        match session.next().await.expect("a session says its end") {
            Event::Bytes { bytes: more, .. } => bytes += more.len(),
            Event::Ended(end) => break end,
            Event::Opened(_)
            | Event::Eof { .. }
            | Event::Notice(_)
            | Event::Answered { .. }
            | Event::Reset { .. }
            | Event::Resumed => {}
        }
    };
    let is_closed = |e: &ConnectionEvent| e.connection_event_type == ConnectionEventType::Closed;
    let closed = soon(async || world.client.connection_events(100).await.unwrap().into_iter().find(is_closed)).await;
    let is_loss = |e: &UserEvent| e.service_action == "recordservice:lost" && e.resource == id.to_string();
    let lost = soon(async || world.client.user_events(100).await.unwrap().into_iter().find(is_loss)).await;
    let line = ["a session's record could not be written", &id.to_string(), "No space left on device"];
    assert!(logged.has(&line), "{:#?}", logged.all());
    let reason = world.client.reason(id);
    let refused = world.client.ask(&target, command(), None).await.err().map(|error| error.to_string());
    world.stop().await;
    Some(Seen { bytes, end, reason, closed: closed.reason, audit: lost.context, refused })
}

/// What is there, as soon as it is.
async fn soon<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it is there in time")
}

/// A file system of 256 KiB in a folder that nobody has made yet.
struct Disk(PathBuf);

impl Disk {
    /// None on a machine where nothing may be mounted, which is no machine of CI.
    fn at(place: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&place).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(&place).output().is_ok_and(|out| out.status.success());
        assert!(mounted || !needs::in_ci(), "a full disk may not be left out here: nothing can be mounted");
        if !mounted {
            eprintln!("left out: a full disk: nothing can be mounted");
        }
        mounted.then_some(Self(place))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(std::thread::panicking() || done.is_ok_and(|status| status.success()), "{:?} stays mounted", self.0);
    }
}
