//! Copies of files through real parts, both ways: what arrives, what is refused, what goes on after a cut.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::copy::{Copying, Report, Summary, Way};
use bz_core::access::Verb;
use bz_core::api::policy::{PolicyTarget, Subject, SubjectType, TargetConnectContent};
use bz_core::api::target::TargetUserName;
use bz_core::target::UserRule;
use bz_examples::world::{self, TARGET, World};

use crate::logged::Logged;

struct Place {
    world: World,
    user: String,
    folder: tempfile::TempDir,
    _logged: Logged,
}

async fn place() -> Place {
    let place = place_without_copies().await;
    place.allow(&[Verb::FileTransfer]).await;
    place
}

async fn place_without_copies() -> Place {
    let logged = Logged::here();
    let folder = tempfile::tempdir().unwrap();
    let user = User::current().unwrap().name;
    let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
    let system = folder.path().join("system");
    std::fs::create_dir(&system).unwrap();
    let world = World::start(&system, helper, &user, world::Way::Ws).await.unwrap();
    Place { world, user, folder, _logged: logged }
}

impl Place {
    async fn allow(&self, verbs: &[Verb]) {
        let client = &self.world.client;
        let target = client.targets().await.unwrap().into_iter().find(|t| t.name == TARGET).unwrap();
        let policy = TargetConnectContent {
            name: "copies".to_owned(),
            subjects: vec![Subject { id: client.me().await.unwrap().id, kind: SubjectType::User }],
            targets: vec![PolicyTarget { id: target.id, kind: "Bzero".to_owned() }],
            target_users: vec![TargetUserName { user_name: UserRule::Literal(self.user.parse().unwrap()) }],
            verbs: verbs.to_vec(),
            ..TargetConnectContent::default()
        };
        client.create_policy(&policy).await.unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn copy(&self, copying: &Copying) -> (Summary, Vec<Report>) {
        let target = format!("{}@{TARGET}", self.user).parse().unwrap();
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
