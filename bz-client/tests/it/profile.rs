//! The profile folder: private, whole, shared between programs, and never thrown away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bz_client::FileError;
use bz_client::client::{Client, RefreshError};
use bz_client::login::LockedLogin as _;
use bz_client::pins::{KnownAgents as _, Pin};
use bz_client::profile::{Profile, ProfileError};
use bz_client::server::{Roots, Server};
use bz_client::trust::TrustSource;
use bz_core::digest::Digest;

use crate::stand::Stand;

const SECRET_FILE: u32 = 0o600;
const SECRET_FOLDER: u32 = 0o700;

async fn filled(config: &Path) -> (Stand, Profile) {
    let stand = Stand::new().await;
    let profile = Profile::new(config, "default").unwrap();
    profile.keep(&stand.server, &stand.trust).unwrap();
    profile.login_store().take().await.unwrap().save(&stand.login().await).unwrap();
    profile.known_agents().keep("web", &Pin { agent_key: Digest::of(b"k"), target: None, serial: 0 }).unwrap();
    (stand, profile)
}

#[tokio::test]
async fn everything_in_a_profile_is_for_its_owner_alone() {
    let config = tempfile::tempdir().unwrap();
    let (_, profile) = filled(&config.path().join("new/bz")).await;
    assert_eq!(mode(profile.folder()), SECRET_FOLDER);
    let mut names = Vec::new();
    for entry in fs::read_dir(profile.folder()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), SECRET_FILE, "{}", entry.path().display());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["known-agents.lock", "known-agents.toml", "lock", "login.json", "profile.toml", "trust.toml"]);
}

#[tokio::test]
async fn a_profile_reads_back_what_was_kept() {
    let config = tempfile::tempdir().unwrap();
    let (stand, profile) = filled(config.path()).await;
    assert_eq!(profile.server().unwrap(), stand.server);
    assert_eq!(profile.trust().unwrap(), stand.trust);
    assert_eq!(profile.login().unwrap().user().email, "alice@example.com");
    let pinned = Server::new("https://bz.example.com").unwrap();
    let pinned = pinned.with_roots(Roots::Pins(vec!["ab".repeat(32).parse().unwrap()])).unwrap();
    profile.keep(&pinned, &stand.trust.with_source(TrustSource::FirstUse)).unwrap();
    assert_eq!(profile.server().unwrap(), pinned);
    assert_eq!(profile.trust().unwrap().source(), TrustSource::FirstUse);
}

#[tokio::test]
async fn an_empty_profile_says_how_to_begin() {
    let config = tempfile::tempdir().unwrap();
    let profile = Profile::new(config.path(), "default").unwrap();
    assert!(matches!(profile.server(), Err(ProfileError::NoServer(_))));
    assert!(matches!(profile.trust(), Err(ProfileError::NoServer(_))));
    assert!(matches!(profile.login(), Err(ProfileError::NotLoggedIn)));
    for name in ["", "..", "a/b", "a b", &"x".repeat(65)] {
        assert!(matches!(Profile::new(config.path(), name), Err(ProfileError::Name(_))), "{name:?}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_named_and_kept() {
    let config = tempfile::tempdir().unwrap();
    let (_, profile) = filled(config.path()).await;
    let check = |name: &str, text: &str, read: &dyn Fn() -> Option<ProfileError>| {
        let path = profile.folder().join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let error = read().unwrap_or_else(|| panic!("{name} with {text:?} was taken"));
        assert!(
            matches!(&error, ProfileError::File(FileError::Damaged { path: p, .. }) if *p == path),
            "{name}: {error:?}"
        );
        let words = error.to_string();
        assert!(words.contains(name) && words.contains("bz login"), "which file and what to do is missing: {words}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{name} was changed");
        fs::write(&path, good).unwrap();
        assert!(read().is_none(), "{name} does not recover");
    };
    let login = || profile.login().err();
    for text in ["", "{", "{\"version\": 1}", "[]"] {
        check("login.json", text, &login);
    }
    check("profile.toml", "server = 5", &|| profile.server().err());
    check("profile.toml", "server = \"http://far.example\"\ntrust_on_first_use = false", &|| profile.server().err());
    check("profile.toml", "server = \"https://x\"\npins = [\"x\"]\ntrust_on_first_use = false", &|| {
        profile.server().err()
    });
    check("trust.toml", "organization = \"x\"", &|| profile.trust().err());
}

#[tokio::test]
async fn a_login_that_others_may_read_is_not_used() {
    let config = tempfile::tempdir().unwrap();
    let (_, profile) = filled(config.path()).await;
    let path = profile.folder().join("login.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = profile.login().expect_err("others may read it");
    assert!(matches!(error, ProfileError::File(FileError::Exposed(_))), "{error:?}");
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

/// A program that was killed between writing and renaming leaves the old file whole; the next one cleans up.
#[tokio::test]
async fn a_crash_while_writing_loses_nothing() {
    let config = tempfile::tempdir().unwrap();
    let (_, profile) = filled(config.path()).await;
    let left_over = profile.folder().join(".login.json.0123456789abcdef.tmp");
    fs::write(&left_over, "{\"version\": 1, \"login_id\": \"019").unwrap();
    let login = profile.login().expect("the old login is whole");
    profile.login_store().take().await.unwrap().save(&login).unwrap();
    assert!(!left_over.exists(), "half a secret was left lying about");
    assert_eq!(profile.login().unwrap().id(), login.id());
}

/// Two programs of one person spend one refresh token once.
#[tokio::test]
async fn a_refresh_of_one_program_is_taken_over_by_the_other() {
    let config = tempfile::tempdir().unwrap();
    let (stand, profile) = filled(config.path()).await;
    let open = || {
        let client = Client::new(&stand.server, stand.trust.clone(), profile.login().unwrap()).unwrap();
        client.with_login_store(Arc::new(profile.login_store()))
    };
    let (one, other) = (open(), open());
    // Tokens count whole seconds; without this the two would be the same.
    stand.provider.state.lock().unwrap().claims = serde_json::json!({"jti": "second"});
    one.refresh().await.unwrap();
    other.refresh().await.unwrap();
    assert_eq!(stand.provider.state.lock().unwrap().refreshed, 1);
    assert_eq!(other.login().current_token(), one.login().current_token());
    assert_eq!(*profile.login().unwrap().to_text(), *one.login().to_text());
    profile.login_store().take().await.unwrap().save(&stand.login().await).unwrap();
    assert!(matches!(one.refresh().await, Err(RefreshError::Replaced)));
    profile.login_store().take().await.unwrap().remove().unwrap();
    assert!(matches!(one.refresh().await, Err(RefreshError::Replaced)));
}

#[tokio::test]
async fn the_login_is_held_by_one_program_at_a_time() {
    let config = tempfile::tempdir().unwrap();
    let (_, profile) = filled(config.path()).await;
    let store = profile.login_store();
    let held = store.take().await.unwrap();
    let waiting = tokio::spawn(async move { store.take().await.map(|_| ()) });
    let early = tokio::time::timeout(Duration::from_millis(200), profile.login_store().take()).await;
    assert!(early.is_err(), "two programs hold the login");
    drop(held);
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the lock is given on").unwrap().unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
