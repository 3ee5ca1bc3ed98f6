//! Known agents: first contact, refusal of a change, and the organization's directory.

use std::sync::Arc;
use std::time::Duration;

use bz_client::FileError;
use bz_client::client::{AskError, Client};
use bz_client::pins::{FirstContact, KnownAgents, KnownAgentsFile, KnownBy, MemoryPins, Pin, PinError, trust_anew};
use bz_client::trust::Trust;
use bz_core::access::request::Parameters;
use bz_core::api::Bytes;
use bz_core::api::access::ConnectionMade;
use bz_core::digest::Digest;
use bz_core::grant::GrantBody;
use bz_core::id::TargetId;
use bz_core::signed::Signed;
use bz_core::trust::DirectoryEntry;
use bz_core::wire;

use crate::stand::server::{Change, TARGET, now};
use crate::stand::{ORGANIZATION, Stand, key};

async fn contact(client: &Client, name: &str) -> Result<KnownBy, PinError> {
    let parameters = Parameters::Exec { command: "true".to_owned() };
    match client.ask(&name.parse().unwrap(), parameters, None).await {
        Ok(asked) => client.met(&asked).map(|()| asked.known_by),
        Err(AskError::Pin(error)) => Err(error),
        Err(other) => panic!("{name}: {other}"),
    }
}

const OTHER_KEY: Change = |made, grant| {
    made.agent_public_key = key(51).public();
    grant.agent_key = key(51).public();
};

const OTHER_TARGET: Change = |made, grant| {
    made.target_id = TargetId::from_bytes([8; 16]);
    grant.target = made.target_id;
    let user = made.target_user.clone();
    let request = bz_core::access::request::Request {
        target: made.target_id,
        user,
        mode: made.mode,
        parameters: Parameters::Exec { command: "true".to_owned() },
    };
    grant.request = Digest::of(&request.encode().unwrap());
};

/// TRUST-2: pinned at first use under the name as typed; a change is refused until trusted anew.
#[tokio::test]
async fn a_key_is_pinned_at_first_contact_and_a_change_refused() {
    let stand = Stand::new().await;
    let pins = Arc::new(MemoryPins::default());
    let client = stand.client().await.with_known_agents(pins.clone(), FirstContact::Accept);
    assert!(matches!(contact(&client, "web").await, Ok(KnownBy::FirstUse)));
    assert!(matches!(contact(&client, "web").await, Ok(KnownBy::Pin)));
    assert!(
        matches!(contact(&client, "web.Default").await, Ok(KnownBy::FirstUse)),
        "a name as typed is a name of its own"
    );
    stand.rest.lie(OTHER_TARGET);
    assert!(matches!(contact(&client, "web").await, Err(PinError::Changed { what: "target", .. })));
    stand.rest.lie(OTHER_KEY);
    let changed = contact(&client, "web").await.expect_err("another key");
    let fingerprint = key(51).public().fingerprint();
    assert!(matches!(changed, PinError::Changed { what: "key", .. }), "{changed:?}");
    assert!(changed.to_string().contains(&format!("bz target trust web {fingerprint}")), "{changed}");
    trust_anew(pins.as_ref(), &"web".parse().unwrap(), fingerprint).unwrap();
    assert!(matches!(contact(&client, "web").await, Ok(KnownBy::Pin)));
    assert_eq!(pins.find("web").unwrap().unwrap().target, Some(TARGET));
}

#[tokio::test]
async fn nobody_is_met_for_the_first_time_unless_the_caller_chose_so() {
    let stand = Stand::new().await;
    let pins = Arc::new(MemoryPins::default());
    let client = stand.client().await.with_known_agents(pins.clone(), FirstContact::Refuse);
    assert!(matches!(contact(&client, "web").await, Err(PinError::Unknown { .. })));
    let fingerprint = key(50).public().fingerprint();
    pins.keep("web", &Pin { agent_key: fingerprint, target: None, serial: 0 }).unwrap();
    assert!(matches!(contact(&client, "web").await, Ok(KnownBy::Pin)));
}

/// A key that was only claimed is not kept: the agent has to prove it first.
#[tokio::test]
async fn nothing_is_pinned_before_the_agent_was_met() {
    let stand = Stand::new().await;
    let pins = Arc::new(MemoryPins::default());
    let client = stand.client().await.with_known_agents(pins.clone(), FirstContact::Accept);
    let parameters = Parameters::Exec { command: "true".to_owned() };
    let asked = client.ask(&"web".parse().unwrap(), parameters, None).await.unwrap();
    assert_eq!(pins.find("web").unwrap(), None);
    client.met(&asked).unwrap();
    assert!(pins.find("web").unwrap().is_some());
}

/// TRUST-2: with a directory key, every contact needs an entry of it, for this name, target and key.
#[tokio::test]
async fn a_directory_replaces_first_contact() {
    let stand = Stand::new().await;
    let mut bundle = stand.trust.bundle().clone();
    bundle.directory_key = Some(key(60).public());
    let trust = Trust::given(bundle).unwrap();
    let client = Client::new(&stand.server, trust, stand.login().await).unwrap();
    let check = async |name: &str, change: Change, want: fn(&Result<KnownBy, PinError>) -> bool| {
        stand.rest.lie(change);
        let got = contact(&client, name).await;
        assert!(want(&got), "{name}: {got:?}");
    };
    check("web", |_, _| {}, |got| matches!(got, Err(PinError::NoEntry(_)))).await;
    check("web", |made, _| attach(made, entry(5), 60), |got| matches!(got, Ok(KnownBy::Directory))).await;
    check("web", |made, _| attach(made, entry(5), 61), |got| matches!(got, Err(PinError::Entry { .. }))).await;
    check("web", |made, _| attach(made, entry(4), 60), |got| matches!(got, Err(PinError::OldEntry(_)))).await;
    check("db", |made, _| attach(made, entry(6), 60), other_entry).await;
    check("web.prod", |made, _| attach(made, entry(6), 60), other_entry).await;
    check(
        "web",
        |made, _| attach(made, DirectoryEntry { target: TargetId::from_bytes([8; 16]), ..entry(6) }, 60),
        other_entry,
    )
    .await;
    check("web", |made, _| attach(made, DirectoryEntry { agent_key: key(51).public(), ..entry(6) }, 60), other_entry)
        .await;
    check(
        "web",
        |made, _| attach(made, DirectoryEntry { expires_at: now(), ..entry(6) }, 60),
        |got| matches!(got, Err(PinError::Entry { .. })),
    )
    .await;
    let named: fn(&mut ConnectionMade, &mut GrantBody) =
        |made, _| attach(made, DirectoryEntry { name: "web.Default".to_owned(), ..entry(6) }, 60);
    check("web", named, |got| matches!(got, Ok(KnownBy::Directory))).await;
    check(&TARGET.to_string(), named, |got| matches!(got, Ok(KnownBy::Directory))).await;
}

#[test]
fn pins_in_a_file_last_and_a_damaged_file_trusts_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known-agents.toml");
    let pin = Pin { agent_key: Digest::of(b"key"), target: Some(TARGET), serial: 3 };
    KnownAgentsFile::new(&path).keep("web.prod", &pin).unwrap();
    KnownAgentsFile::new(&path).keep("db \"x\"", &Pin { target: None, ..pin }).unwrap();
    assert_eq!(KnownAgentsFile::new(&path).find("web.prod").unwrap().as_ref(), Some(&pin));
    assert_eq!(KnownAgentsFile::new(&path).find("web").unwrap(), None);
    let damaged = "[web\n";
    std::fs::write(&path, damaged).unwrap();
    let store = KnownAgentsFile::new(&path);
    for error in [store.find("web.prod").map(|_| ()), store.keep("new", &pin)] {
        let error = error.expect_err("the file is damaged");
        assert!(matches!(&error, FileError::Damaged { path: named, .. } if *named == path), "{error:?}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged, "nothing is lost");
}

fn other_entry(got: &Result<KnownBy, PinError>) -> bool {
    matches!(got, Err(PinError::OtherEntry { .. }))
}

fn entry(serial: u64) -> DirectoryEntry {
    DirectoryEntry {
        target: TARGET,
        name: "web".to_owned(),
        agent_key: key(50).public(),
        address: String::new(),
        serial,
        expires_at: now().after(Duration::from_secs(60)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "reads better where entries are made")]
fn attach(made: &mut ConnectionMade, entry: DirectoryEntry, seed: u8) {
    let signed = Signed::seal(&entry, ORGANIZATION, &key(seed)).unwrap();
    made.directory_entry = Some(Bytes(wire::encode(&signed, 4096).unwrap()));
}
