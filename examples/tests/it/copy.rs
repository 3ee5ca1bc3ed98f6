//! Copies of files through real parts, both ways: what arrives, what is refused, what goes on after a cut.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::RestError;
use bz_client::client::{AskError, EventFilter};
use bz_client::copy::{CopyError, Copying, End, Problem, Report, Summary, Way};
use bz_core::access::Verb;
use bz_core::access::request::{Parameters, Size};
use bz_core::api::error::Code;
use bz_core::api::policy::{PolicyTarget, Subject, SubjectType, TargetConnectContent};
use bz_core::api::record::{FileDirection, FileEvent, FileOutcome};
use bz_core::api::target::TargetUserName;
use bz_core::digest::Digest;
use bz_core::target::UserRule;
use bz_examples::world::{self, TARGET, World};
use bz_protocol::client::Action;
use bz_protocol::copy::{Copied, Facts, MAX_MESSAGE, Message};
use bz_protocol::frame::Fin;
use bz_protocol::session::End as SessionEnd;
use bz_protocol::transcript::Verdict;

use crate::logged::Logged;
use crate::person::Person;
use crate::session::{act, ended, until};

struct Place {
    world: World,
    user: String,
    folder: tempfile::TempDir,
    logged: Logged,
}

async fn place() -> Place {
    let place = place_without_copies().await;
    place.allow(&[Verb::FileTransfer]).await;
    place
}

async fn place_without_copies() -> Place {
    place_with(tempfile::tempdir().unwrap(), Helper::at(env!("CARGO_BIN_EXE_helper"))).await
}

async fn place_with(folder: tempfile::TempDir, helper: Helper) -> Place {
    let logged = Logged::here();
    let user = User::current().unwrap().name;
    let system = folder.path().join("system");
    std::fs::create_dir(&system).unwrap();
    let world = World::start(&system, helper, &user, world::Way::Ws).await.unwrap();
    Place { world, user, folder, logged }
}

impl Place {
    async fn allow(&self, verbs: &[Verb]) {
        self.allow_as(&self.user, verbs).await;
    }

    async fn allow_as(&self, user: &str, verbs: &[Verb]) {
        let client = &self.world.client;
        let target = client.targets().await.unwrap().into_iter().find(|t| t.name == TARGET).unwrap();
        let policy = TargetConnectContent {
            name: "copies".to_owned(),
            subjects: vec![Subject { id: client.me().await.unwrap().id, kind: SubjectType::User }],
            targets: vec![PolicyTarget { id: target.id, kind: "Bzero".to_owned() }],
            target_users: vec![TargetUserName { user_name: UserRule::Literal(user.parse().unwrap()) }],
            verbs: verbs.to_vec(),
            ..TargetConnectContent::default()
        };
        client.create_policy(&policy).await.unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn copy(&self, copying: &Copying) -> (Summary, Vec<Report>) {
        self.copy_as(&self.user, copying).await
    }

    /// Copies until so many bytes went over, and is gone then without a word; how many those were.
    async fn copy_until(&self, copying: &Copying, bytes: u64) -> u64 {
        let target = format!("{}@{TARGET}", self.user).parse().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let (enough, reached) = tokio::sync::oneshot::channel();
        let (count, enough) = (Arc::clone(&sent), Mutex::new(Some(enough)));
        let report = move |report| {
            if let Report::Bytes(more) = report
                && count.fetch_add(more, Ordering::Relaxed) + more >= bytes
                && let Some(enough) = enough.lock().unwrap().take()
            {
                enough.send(()).unwrap();
            }
        };
        tokio::select! {
            whole = self.world.client.copy(&target, copying, report) => panic!("it was not cut: {whole:?}"),
            said = reached => said.unwrap(),
        }
        sent.load(Ordering::Relaxed)
    }

    /// What failed of a copy, sorted.
    async fn failed(&self, user: &str, copying: &Copying) -> Vec<(String, Problem, End)> {
        let failed = |report| {
            let Report::Failed { path, problem, at } = report else { return None };
            Some((String::from_utf8(path).unwrap(), problem, at))
        };
        let (_, reports) = self.copy_as(user, copying).await;
        let mut failed: Vec<_> = reports.into_iter().filter_map(failed).collect();
        failed.sort_by(|one, other| one.0.cmp(&other.0));
        failed
    }

    async fn log(&self) -> Vec<FileEvent> {
        let filter = EventFilter { count: 1000, ..EventFilter::default() };
        self.world.client.file_events_where(&filter).await.unwrap()
    }

    /// The log of files, once it has so many rows.
    async fn rows(&self, count: usize) -> Vec<FileEvent> {
        until(async || self.log().await, |rows: &Vec<FileEvent>| rows.len() >= count).await
    }

    async fn copy_as(&self, user: &str, copying: &Copying) -> (Summary, Vec<Report>) {
        let target = format!("{user}@{TARGET}").parse().unwrap();
        let reports = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&reports);
        let report = move |report| told.lock().unwrap().push(report);
        let summary = self.world.client.copy(&target, copying, report).await.unwrap();
        let reports = std::mem::take(&mut *reports.lock().unwrap());
        (summary, reports)
    }
}

fn copying(way: Way, local: &Path, remote: &Path) -> Copying {
    let remote = std::os::unix::ffi::OsStrExt::as_bytes(remote.as_os_str()).to_vec();
    Copying { local: local.to_owned(), remote, way, recursive: false, preserve: true }
}

/// F-084~, F-178~, F-214~: a file goes to the target and back as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_there_and_back() {
    let place = place().await;
    let (first, there, back) = (place.path("first"), place.path("there"), place.path("back"));
    std::fs::write(&first, b"some content\n").unwrap();
    let (summary, reports) = place.copy(&copying(Way::ToTarget, &first, &there)).await;
    assert_eq!((summary.files, summary.bytes, summary.failed), (1, 13, 0), "{reports:?}");
    assert_eq!(std::fs::read(&there).unwrap(), b"some content\n");
    let (summary, reports) = place.copy(&copying(Way::FromTarget, &back, &there)).await;
    assert_eq!((summary.files, summary.bytes, summary.failed), (1, 13, 0), "{reports:?}");
    assert_eq!(std::fs::read(&back).unwrap(), b"some content\n");
    place.world.stop().await;
}

/// F-084~: without its verb nothing is copied, and the verb gives nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn copying_is_a_right_of_its_own() {
    let place = place_without_copies().await;
    let Some(person) = Person::with_shell("/bin/sh".as_ref()) else { return place.world.stop().await };
    let file = place.path("file");
    std::fs::write(&file, b"x").unwrap();
    let upload = copying(Way::ToTarget, &file, &place.path("there"));
    let denied = |error: AskError| {
        let AskError::Rest(RestError::Refused(refused)) = error else { panic!("{error}") };
        refused.body.code
    };
    // Shells are allowed, as this user.
    let target = format!("{}@{TARGET}", place.user).parse().unwrap();
    let refused = place.world.client.ask_copy(&target, &upload).await.unwrap_err();
    assert_eq!(denied(refused), Code::Denied);
    // Copies are, as somebody else.
    place.allow_as(&person.name, &[Verb::FileTransfer]).await;
    let target = format!("{}@{TARGET}", person.name).parse().unwrap();
    for parameters in [
        Parameters::Exec { command: "id".to_owned() },
        Parameters::Shell { term: "xterm".to_owned(), size: Size { rows: 24, columns: 80 } },
    ] {
        let refused = place.world.client.ask(&target, parameters, None).await.unwrap_err();
        assert_eq!(denied(refused), Code::Denied);
    }
    // A grant of the one is no grant of the other: the agent compares it with the request.
    place.world.client.ask_copy(&target, &upload).await.unwrap();
    place.world.stop().await;
}

/// What the target user may not read or write is named; the rest is copied, and is that user's.
#[tokio::test(flavor = "multi_thread")]
async fn the_target_user_s_rights_are_what_counts() {
    let place = place_without_copies().await;
    let Some(person) = Person::with_shell("/bin/sh".as_ref()) else { return place.world.stop().await };
    place.allow_as(&person.name, &[Verb::FileTransfer]).await;
    let user = User::resolve(&person.name).unwrap();
    let from = place.path("from");
    std::fs::create_dir_all(from.join("sub")).unwrap();
    for name in ["one", "sub/two"] {
        std::fs::write(from.join(name), name).unwrap();
    }
    // From a home that is named as people do, to a path that is not the person's.
    let mut upload = Copying { recursive: true, ..copying(Way::ToTarget, &from, Path::new("~/in")) };
    let (summary, reports) = place.copy_as(&person.name, &upload).await;
    assert_eq!((summary.files, summary.failed), (2, 0), "{reports:?}");
    let arrived = user.home.join("in/sub/two").metadata().unwrap();
    assert_eq!((arrived.uid(), arrived.gid()), (user.uid, user.gid));
    assert!(reports.contains(&Report::Root(user.home.join("in").into_os_string().into_encoded_bytes())), "{reports:?}");
    let hidden = place.path("hidden");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o700)).unwrap();
    upload.remote = hidden.join("x").into_os_string().into_encoded_bytes();
    assert_eq!(place.failed(&person.name, &upload).await, [(String::new(), Problem::Denied, End::There)]);
    // On the way back root's own file in the tree is named, and what is beside it comes.
    let secret = user.home.join("in/secret");
    std::fs::write(&secret, b"root's").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let back = place.path("back");
    let download = Copying { recursive: true, ..copying(Way::FromTarget, &back, &user.home.join("in")) };
    assert_eq!(place.failed(&person.name, &download).await, [("secret".to_owned(), Problem::Denied, End::There)]);
    assert_eq!(std::fs::read(back.join("sub/two")).unwrap(), b"sub/two");
    let rows = place.rows(4).await;
    let denied: Vec<_> = rows.iter().filter(|row| row.outcome == FileOutcome::Failed).collect();
    assert!(denied.iter().any(|row| row.path == secret.display().to_string()), "{rows:#?}");
    place.world.stop().await;
}

/// F-084~, PR-COPY-5: each file is a row that the agent signed, and nothing of its content is kept, though everything is recorded
/// here; the digests are, so that the transcript proves them.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_copied_is_logged_and_what_is_in_it_is_not() {
    const MARKER: &[u8] = b"nobody else is to read this";
    let place = place().await;
    let from = place.path("from");
    std::fs::create_dir(&from).unwrap();
    let content = MARKER.repeat(3000);
    std::fs::write(from.join("a file"), &content).unwrap();
    std::fs::write(from.join("line\nbreak"), b"").unwrap();
    let there = place.path("there");
    place.copy(&Copying { recursive: true, ..copying(Way::ToTarget, &from, &there) }).await;
    place.copy(&copying(Way::FromTarget, &place.path("back"), &there.join("a file"))).await;
    let rows = place.rows(3).await;
    let there = there.canonicalize().unwrap().display().to_string();
    let digest = Digest::of(&content).to_string();
    let mut told: Vec<_> =
        rows.iter().map(|row| (row.direction, row.path.clone(), row.size, row.sha256.clone().unwrap())).collect();
    told.sort_by_key(|row| (row.1.clone(), row.0 == FileDirection::ToTarget));
    let whole = |direction| (direction, format!("{there}/a file"), content.len() as u64, digest.clone());
    let empty = (FileDirection::ToTarget, format!("{there}/line\\x0abreak"), 0, Digest::of(b"").to_string());
    assert_eq!(told, [whole(FileDirection::FromTarget), whole(FileDirection::ToTarget), empty]);
    for row in &rows {
        let place_of = (row.place.target_name.as_str(), row.place.target_user.as_str());
        assert_eq!((row.confirmed, row.outcome, place_of), (true, FileOutcome::Copied, (TARGET, place.user.as_str())));
    }
    for connection in rows.iter().map(|row| row.connection_id) {
        let whole = |found: &Vec<(PathBuf, Result<Verdict, String>)>| {
            found.iter().all(|(_, verdict)| verdict.as_ref().is_ok_and(|verdict| verdict.complete))
        };
        let found = until(async || place.world.transcripts(connection).await.unwrap(), whole).await;
        let bytes = std::fs::read(&found[0].0).unwrap();
        let holds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        assert!(!holds(MARKER), "a transcript holds what is in a file");
        assert!(holds(Digest::of(&content).as_bytes()), "a transcript lacks the digest of a file");
    }
    place.world.stop().await;
}

/// F-214~: 64 MiB arrive exactly, there and back; a copy that was cut on the way goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_arrives_exactly_and_goes_on_after_a_cut() {
    const SIZE: usize = 64 << 20;
    let place = place().await;
    let (from, there, back) = (place.path("from"), place.path("there"), place.path("back"));
    let content: Vec<u8> =
        (0..SIZE as u64 / 8).flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect();
    std::fs::write(&from, &content).unwrap();
    for copying in [copying(Way::ToTarget, &from, &there), copying(Way::FromTarget, &back, &there)] {
        let sent = place.copy_until(&copying, 8 << 20).await;
        assert!(sent >= 8 << 20 && sent < SIZE as u64, "{sent} bytes went over before the cut");
        let to = if copying.way == Way::ToTarget { &there } else { &back };
        assert!(!to.exists(), "a part is seen under the whole's name");
        let again = async || place.copy(&copying).await;
        // At the target the one that was cut, whose client could still come back, makes room; here it is a thread of
        // this process, which ends a moment later.
        let here = copying.way == Way::FromTarget;
        let (summary, reports) = until(again, |(summary, _)| summary.failed == 0 || !here).await;
        let resumed: u64 = reports.iter().map(|r| if let Report::Resumed(bytes) = r { *bytes } else { 0 }).sum();
        let sent_now: u64 = reports.iter().map(|r| if let Report::Bytes(bytes) = r { *bytes } else { 0 }).sum();
        assert_eq!((summary.files, summary.bytes, resumed + sent_now), (1, SIZE as u64, SIZE as u64));
        // All but what was under way when it was cut.
        assert!(resumed + (4 << 20) >= sent, "{resumed} of {sent} bytes were there");
        assert!(std::fs::read(to).unwrap() == content, "it arrived otherwise");
    }
    let incomplete = |rows: &Vec<FileEvent>| rows.iter().filter(|r| r.outcome == FileOutcome::Incomplete).count() == 2;
    until(async || place.log().await, incomplete).await;
    place.world.stop().await;
}

/// A message as one may send it who keeps no rule but that of the encoding.
fn raw(message: &Message) -> Vec<u8> {
    let body = bz_core::wire::encode(message, MAX_MESSAGE).unwrap();
    [u32::try_from(body.len()).unwrap().to_be_bytes().as_slice(), &body].concat()
}

const FACTS: Facts = Facts { mode: 0o644, seconds: 0, nanos: 0 };

fn directory(name: &[u8]) -> Message {
    Message::Directory { name: name.to_vec(), facts: FACTS }
}

fn empty_file(name: &[u8]) -> [Message; 2] {
    let file = Message::File { name: name.to_vec(), facts: FACTS, size: 0 };
    [file, Message::Copied(Copied { path: name.to_vec(), size: 0, digest: Digest::of(b"") })]
}

fn link(name: &[u8], to: &Path) -> Message {
    Message::Symlink { name: name.to_vec(), to: to.as_os_str().as_encoded_bytes().to_vec() }
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

/// PR-COPY-3: a target that keeps no rule writes nothing here but what was asked for, under the name it was asked for by.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_keeps_no_rule_writes_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    // In place of the helper: says that it is ready, and then what the test wants.
    let (rogue, says) = (folder.path().join("rogue"), folder.path().join("says"));
    let script = format!("#!/bin/sh\ncat '{}' >&0\ncat > /dev/null\n", says.display());
    std::fs::write(&rogue, script).unwrap();
    std::fs::set_permissions(&rogue, std::fs::Permissions::from_mode(0o755)).unwrap();
    let place = place_with(folder, Helper::at(rogue)).await;
    place.logged.expect_error("a copy's helper does not speak as it should");
    place.allow(&[Verb::FileTransfer]).await;
    let inside = place.path("in");
    std::fs::create_dir(&inside).unwrap();
    let outside = place.folder.path().to_owned();
    let target = format!("{}@{TARGET}", place.user).parse().unwrap();
    let get = async |messages: Vec<Message>, recursive: bool| {
        let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0];
        bytes.extend(messages.iter().flat_map(raw));
        std::fs::write(&says, bytes).unwrap();
        let download = Copying { recursive, ..copying(Way::FromTarget, &inside, Path::new("/srv/report.txt")) };
        place.world.client.copy(&target, &download, |_| ()).await
    };
    let through = [directory(b""), link(b"l", &outside), directory(b"l")].into_iter();
    let through = through.chain(empty_file(b"stolen")).chain([Message::Leave, Message::Leave]);
    for (messages, recursive) in [
        (empty_file(b".bashrc").to_vec(), false),
        (empty_file(b"../stolen").to_vec(), false),
        (vec![directory(b""), Message::Leave], false),
        ([directory(b"")].into_iter().chain(empty_file(b"../stolen")).collect(), true),
        (vec![directory(b""), directory(b"..")], true),
        (through.collect(), true),
        (vec![link(b"", &outside)], true),
    ] {
        let got = get(messages.clone(), recursive).await;
        assert!(matches!(got, Err(CopyError::Interrupted(_))), "{messages:?}: {got:?}");
    }
    assert_eq!(names(&outside), ["in", "rogue", "says", "system"]);
    assert_eq!(names(&inside), ["report.txt"]);
    assert_eq!(names(&inside.join("report.txt")), ["l"]);
    place.world.stop().await;
}

/// PR-COPY-3: a client that keeps no rule reaches nothing but the path of its request, and not more than the user may.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_no_rule_reaches_nothing_else() {
    let place = place().await;
    let inside = place.path("in");
    std::fs::create_dir(&inside).unwrap();
    let outside = place.folder.path();
    for (messages, status) in [
        (empty_file(b"other").to_vec(), 2),
        ([directory(b"")].into_iter().chain(empty_file(b"../stolen")).collect(), 2),
        (vec![directory(b""), directory(b"..")], 2),
        (vec![directory(b""), link(b"l", outside), directory(b"l"), Message::Leave, Message::Leave], 1),
        (vec![Message::Data(vec![0; 9])], 2),
    ] {
        let upload = Copying { recursive: true, ..copying(Way::ToTarget, Path::new("x"), &inside) };
        let target = format!("{}@{TARGET}", place.user).parse().unwrap();
        let asked = place.world.client.ask_copy(&target, &upload).await.unwrap();
        let mut session = place.world.client.session(asked).await.unwrap();
        let mut bytes: Vec<u8> = messages.iter().flat_map(raw).collect();
        bytes.extend(raw(&Message::Done(Summary::default())));
        act(&session, Action::Bytes { stream: 0, bytes }).await;
        let (_, end) = ended(&mut session).await;
        assert_eq!(end, SessionEnd::Completed(Fin::Exited(status)), "{messages:?}");
    }
    assert_eq!(names(outside), ["in", "system"]);
    assert_eq!(names(&inside), ["x"]);
    assert!(inside.join("x/l").symlink_metadata().unwrap().is_symlink());
    place.world.stop().await;
}
