//! A backup of a running server, and the way back.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bz_core::api::error::Code;
use bz_server::backup::{AgeError, BackupError, Restored, restore, save};
use bz_server::seam::SystemEntropy;
use bz_server::store::operation::Done;

use crate::world::{As, World};

const PASSPHRASE: &[u8] = b"correct horse battery";

/// Everything is in it and comes out as it was: keys, certificates, records, people and logs.
#[tokio::test]
async fn what_is_restored_is_what_was_saved() {
    let world = World::new().await;
    let (admin, user) = (world.admin().await, world.user("bob").await);
    let agent = world.agent(&admin, "web").await;
    world.allow(&admin, &user, &agent, &["root"]).await;
    let data = world.app.config().data.clone();
    let record = data.join("transcripts").join("0123").join("1.bzt");
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, vec![9; 200_000]).unwrap();
    fs::create_dir_all(data.join("artifacts")).unwrap();
    fs::write(data.join("artifacts/bz-agent"), b"").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", data.join("link")).unwrap();
    let file = world.folder.path().join("backup.age");
    let saved = save_to(&world, &file).await.unwrap();
    assert_eq!(saved.left_out, [data.join("link")]);
    assert_eq!(world.app.store.last_done(Done::Backup).await.unwrap(), Some(world.app.now().wall));
    fs::remove_file(data.join("link")).unwrap();
    // What happens afterwards is not in it.
    world.user("carol").await;

    let other = world.folder.path().join("other/place");
    let restored = back(&file, &other, PASSPHRASE).await.unwrap();
    assert_eq!((&restored.head, &restored.settings), (&saved.head, &other.join("server.toml")));
    let (before, after) = (listed(&data), listed(&other));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, bytes) in before.iter().filter(|(name, _)| *name != "server.toml") {
        assert!(bytes == &after[name], "{name} differs");
    }

    let mut world = world;
    let root = world.app.root();
    let config = bz_server::init::read_config(&other.join("server.toml"), []).unwrap();
    assert_eq!(config.data, other, "the settings still name the old folder");
    world = world.moved(config).await;
    assert_eq!(world.app.root(), root);
    let people = world.get(As::Client(&admin), "/users").await.ok::<Vec<serde_json::Value>>();
    assert_eq!(people.len(), 2, "carol came after the backup: {people:?}");
    world.links.set(agent.id, Some(agent.boot));
    world.connect(&user, &agent).await;
    let log = world.log().await;
    for action in ["adminservice:backup", "adminservice:restore"] {
        assert!(log.iter().any(|event| event.service_action == action), "{action}");
    }
    let bundle = (world.app.organization, vec![root]);
    world.app.store.audit_events(None, bundle).await.unwrap().unwrap();
}

/// Nothing is changed by what cannot be restored, and each refusal says why.
#[tokio::test]
async fn what_cannot_be_restored_changes_nothing() {
    let world = World::new().await;
    let file = world.folder.path().join("backup.age");
    save_to(&world, &file).await.unwrap();
    let good = fs::read(&file).unwrap();
    let damaged = |name: &str, bytes: &[u8]| {
        let path = world.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    let of_age =
        |e: &BackupError, want: fn(&AgeError) -> bool| matches!(e, BackupError::Refused { error, .. } if want(error));
    let cut = |e: &BackupError| of_age(e, |e| e.to_string().contains("was changed, or ends early"));
    type Check<'a> = Box<dyn Fn(&BackupError) -> bool + 'a>;
    let cases: Vec<(PathBuf, &[u8], Check<'_>)> = vec![
        (file.clone(), b"correct horse batterz", Box::new(|e| of_age(e, |e| matches!(e, AgeError::Passphrase)))),
        (damaged("half", &good[..good.len() / 2]), PASSPHRASE, Box::new(cut)),
        (damaged("short", &good[..good.len() - 1]), PASSPHRASE, Box::new(cut)),
        (damaged("changed", &changed), PASSPHRASE, Box::new(cut)),
        (damaged("other", b"PK\x03\x04"), PASSPHRASE, Box::new(|e| of_age(e, |e| matches!(e, AgeError::Malformed(_))))),
        (world.folder.path().join("nowhere"), PASSPHRASE, Box::new(|e| matches!(e, BackupError::File { .. }))),
    ];
    let empty = world.folder.path().join("empty");
    keys_folder(&empty);
    for (from, passphrase, want) in &cases {
        for to in [&empty, &world.folder.path().join("absent")] {
            let error = back(from, to, passphrase).await.unwrap_err();
            assert!(want(&error), "{}: {error}", from.display());
        }
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "{}: something is left", from.display());
        assert!(!world.folder.path().join("absent").exists(), "{}: the folder was made", from.display());
    }

    let data = world.app.config().data.clone();
    let before = listed(&data);
    let error = back(&file, &data, PASSPHRASE).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty(_)), "{error}");
    assert!(listed(&data) == before, "a folder in use was changed");

    let error = save_to(&world, &file).await.unwrap_err();
    assert!(matches!(error, BackupError::Exists(_)) && fs::read(&file).unwrap() == good, "{error}");
    let settings = data.join("server.toml");
    let config = world.app.config();
    let short = save((&config, &settings), Path::new("/nowhere"), b"short", (&SystemEntropy, world.app.now().wall));
    assert!(matches!(short.await, Err(BackupError::Passphrase)));
    world.get(As::Nobody, "/users").await.refused(Code::NotLoggedIn);
}

/// Who is killed while a backup is made leaves nothing under its name, and nothing in the way of the next one.
#[tokio::test]
async fn a_killed_backup_is_none() {
    let world = World::new().await;
    let (data, folder) = (world.app.config().data.clone(), world.folder.path());
    let (file, part, words) = (folder.join("backup.age"), folder.join("backup.age.part"), folder.join("words"));
    fs::write(&words, PASSPHRASE).unwrap();
    fs::set_permissions(&words, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // More than is encrypted before somebody sees that it began.
    fs::create_dir_all(data.join("transcripts")).unwrap();
    fs::File::create(data.join("transcripts/1.bzt")).unwrap().set_len(2 << 30).unwrap();
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_bz-server"));
    program.arg("--config").arg(data.join("server.toml")).arg("backup").arg(&file).arg("--passphrase-file").arg(&words);
    let mut running = program.spawn().unwrap();
    let began = async {
        while !part.exists() {
            assert!(running.try_wait().unwrap().is_none(), "it ended without a backup");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), began).await.expect("it begins");
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(!file.exists() && part.exists(), "{:?}", fs::read_dir(folder).unwrap().collect::<Vec<_>>());
    assert_eq!(world.app.store.last_done(Done::Backup).await.unwrap(), None, "it counts as made");
    fs::remove_file(data.join("transcripts/1.bzt")).unwrap();
    save_to(&world, &file).await.unwrap();
    assert!(file.exists() && !part.exists());
    back(&file, &folder.join("other"), PASSPHRASE).await.unwrap();
}

/// A full disk is said, and leaves nothing behind: where a backup is written, and where one is restored to.
#[tokio::test]
async fn a_full_disk_leaves_no_backup_and_restores_nothing() {
    let world = World::new().await;
    let Some(disk) = Disk::at(world.folder.path().join("disk")) else { return };
    let record = world.app.config().data.join("transcripts/1.bzt");
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, vec![9; 1 << 20]).unwrap();
    let error = save_to(&world, &disk.0.join("backup.age")).await.unwrap_err().to_string();
    assert!(error.contains("backup.age") && error.contains("No space left on device"), "{error}");
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0, "a part of the backup is left");
    assert_eq!(world.app.store.last_done(Done::Backup).await.unwrap(), None, "it counts as made");

    let file = world.folder.path().join("backup.age");
    save_to(&world, &file).await.unwrap();
    let error = back(&file, &disk.0.join("other"), PASSPHRASE).await.unwrap_err();
    assert!(matches!(error, BackupError::NoRoom { .. }), "{error}");
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0, "a part of the server is left");
}

/// A file system of 256 KiB.
struct Disk(PathBuf);

impl Disk {
    /// None on a machine where nothing may be mounted, which is no machine of CI.
    fn at(place: PathBuf) -> Option<Self> {
        fs::create_dir_all(&place).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs"]).arg(&place);
        let mounted = mount.output().is_ok_and(|out| out.status.success());
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(mounted || !in_ci, "a full disk may not be left out here: nothing can be mounted");
        if !mounted {
            drop(writeln!(std::io::stderr(), "left out: a full disk: nothing can be mounted"));
        }
        mounted.then_some(Self(place))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(std::thread::panicking() || done.is_ok_and(|status| status.success()), "{:?} stays mounted", self.0);
    }
}

async fn save_to(world: &World, file: &Path) -> Result<bz_server::backup::Saved, BackupError> {
    let settings = world.app.config().data.join("server.toml");
    save((&world.app.config(), &settings), file, PASSPHRASE, (&SystemEntropy, world.app.now().wall)).await
}

async fn back(from: &Path, to: &Path, passphrase: &[u8]) -> Result<Restored, BackupError> {
    let now = bz_core::time::UnixTime::from_secs(crate::world::START + 60);
    restore(from, to, passphrase, (&SystemEntropy, now)).await
}

fn keys_folder(path: &Path) {
    bz_server::keys::private_folder(path).unwrap();
}

/// All files but those of the database.
fn listed(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut folders, mut found) = (vec![folder.to_owned()], BTreeMap::new());
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if !name.starts_with("bz-server.db") && name != "backup.lock" {
                found.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}
