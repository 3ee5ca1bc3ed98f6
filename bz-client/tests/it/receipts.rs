//! What a client keeps as evidence: the last receipts, and the identity provider's keys through their changes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bz_client::FileError;
use bz_client::issuer_keys::{SeenKeys, SeenKeysFile};
use bz_client::receipts::{FolderReceipts, is_receipt, read};
use bz_core::digest::Digest;
use bz_core::id::{ConnectionId, OrganizationId};
use bz_core::oidc::jwks::Jwks;
use bz_core::time::UnixTime;
use bz_protocol::receipt::{Bounds, Holder, Receipt, Receipts as _};
use bz_protocol::transcript::JwksArchive;
use serde_json::{Value, json};

use crate::idp::Idp;
use crate::stand::Stand;

const ISSUER: &str = "https://idp.example";

/// TR-RECEIPT-5: the last hundred, each private and whole, also when another program starts in between; files of others
/// stay.
#[test]
fn the_last_hundred_receipts_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile/receipts");
    let one = FolderReceipts::new(&path, Bounds::CLIENT);
    for number in 0..80 {
        one.keep(&receipt(number), at(u64::from(number))).unwrap();
    }
    one.keep(&Receipt { delivered: 9, ..receipt(0) }, at(80)).unwrap();
    fs::write(path.join("notes.txt"), "mine").unwrap();
    let two = FolderReceipts::new(&path, Bounds::CLIENT);
    for number in 81..122 {
        two.keep(&receipt(number), at(u64::from(number))).unwrap();
    }
    let mut kept: Vec<_> = files(&path).iter().map(|path| read(path).unwrap()).collect();
    kept.sort_by_key(|receipt| receipt.connection);
    let numbers: Vec<u8> = kept.iter().map(|receipt| receipt.connection.as_bytes()[0]).collect();
    let want: Vec<u8> = [0].into_iter().chain(22..80).chain(81..122).collect();
    assert_eq!((numbers, kept[0].delivered), (want, 9));
    assert!(path.join("notes.txt").exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(&files(&path)[0])), (0o700, 0o600));
    }
}

/// TR-RECEIPT-4: a folder that takes nothing is named.
#[test]
fn a_receipt_that_cannot_be_kept_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipts");
    fs::write(&path, "a file where the folder should be").unwrap();
    let error = FolderReceipts::new(&path, Bounds::CLIENT).keep(&receipt(1), at(1)).unwrap_err();
    assert!(error.to_string().contains("receipts"), "{error}");
    assert!(read(&path).unwrap_err().to_string().contains("is damaged"));
}

/// TR-KEYS-1, TR-VERIFY-1: keys that the provider no longer publishes stay, with when each was seen; the file is an archive as any
/// verifier reads it.
#[test]
fn keys_stay_when_the_provider_has_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile/issuer-keys.json");
    let file = SeenKeysFile::new(&path);
    assert!(file.archive().unwrap().is_none());
    let (old, new) = (Idp::new(1, "old").jwks(), Idp::new(2, "new").jwks());
    file.saw(ISSUER, &old, at(0)).unwrap();
    let first = fs::read_to_string(&path).unwrap();
    file.saw(ISSUER, &old, at(3600)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), first, "what was seen lately is not written again");
    file.saw(ISSUER, &new, at(100_000)).unwrap();
    file.saw("https://other.example", &new, at(100_000)).unwrap();
    file.saw(ISSUER, &new, at(300_000)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let archive = JwksArchive::parse(&text).unwrap();
    assert_eq!((archive.issuer(ISSUER).unwrap().len(), archive.issuer("https://other.example").unwrap().len()), (2, 1));
    let value: Value = serde_json::from_str(&text).unwrap();
    let times = |at: usize| (&value[ISSUER]["keys"][at]["bz_first_seen"], &value[ISSUER]["keys"][at]["bz_last_seen"]);
    let secs = |seconds: u64| json!(at(seconds).as_secs());
    assert_eq!(times(0), (&secs(0), &secs(0)));
    assert_eq!(times(1), (&secs(100_000), &secs(300_000)));
    assert_eq!(file.archive().unwrap().unwrap().issuer(ISSUER).unwrap().len(), 2);

    fs::write(&path, "{").unwrap();
    assert!(matches!(file.saw(ISSUER, &new, at(0)), Err(FileError::Damaged { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "{", "what cannot be read is not thrown away");
}

/// TR-KEYS-1: a provider with no end of keys fills no disk: those not seen for longest go, the present ones never.
#[test]
fn the_archive_of_keys_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let file = SeenKeysFile::new(folder.path().join("issuer-keys.json"));
    let key = |number: u64| {
        let mut key = Idp::new(1, "x").jwk();
        key["kid"] = json!(format!("{number}-{}", "x".repeat(2000)));
        key["x5c"] = json!(["certificate".repeat(1000)]);
        Jwks::parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap()
    };
    for number in 0..60 {
        file.saw(ISSUER, &key(number), at(number)).unwrap();
    }
    let archive = file.archive().unwrap().unwrap();
    let text = archive.to_text();
    assert!(text.len() < 62 << 10 && !text.contains("certificate"), "{} bytes", text.len());
    assert!(text.contains("\"59-x") && !text.contains("\"0-x"), "the oldest went");
}

/// TR-KEYS-1: what a login and a refresh were checked with is at hand for who keeps it.
#[tokio::test]
async fn a_login_and_its_refresh_show_the_keys() {
    let stand = Stand::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = Arc::new(SeenKeysFile::new(folder.path().join("issuer-keys.json")));
    let client = stand.client().await.with_seen_keys(Arc::clone(&file) as Arc<dyn SeenKeys>);
    assert_eq!(client.login().issuer_keys().map(Jwks::len), Some(1));
    assert!(file.archive().unwrap().is_none(), "a library wrote what nobody told it to");
    client.refresh().await.unwrap();
    assert_eq!(file.archive().unwrap().unwrap().issuer(&stand.provider.issuer).unwrap().len(), 1);
    let stored = bz_client::login::Login::from_text(&client.login().to_text()).unwrap();
    assert!(stored.issuer_keys().is_none());
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(1_700_000_000).after(Duration::from_secs(seconds))
}

fn receipt(number: u8) -> Receipt {
    Receipt {
        holder: Holder::Client,
        organization: OrganizationId::from_bytes([1; 16]),
        connection: ConnectionId::from_bytes([number; 16]),
        session: Digest::of(&[number]),
        opening: Digest::of(b"opening"),
        client: None,
        agent: None,
        delivered: 0,
        close: None,
    }
}

fn files(path: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).filter(|path| is_receipt(path)).collect()
}
