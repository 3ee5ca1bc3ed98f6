//! A backup of a running server, and the way back.

use std::collections::BTreeMap;
use std::fs;
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
