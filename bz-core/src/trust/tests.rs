//! What holds for `trust`, and each way it must not.

use super::*;
use crate::key::PrivateKey;

const GOOD: &str = r#"
organization = "01010101-0101-0101-0101-010101010101"
roots = ["ROOT"]

[[provider]]
kind = "google"
issuer = "https://accounts.google.com"
audiences = ["client"]
organization = { claim = "hd", value = "example.com" }
domains = ["example.com"]
"#;

fn root() -> PublicKey {
    PrivateKey::from_seed(&[1; 32]).unwrap().public()
}

fn parse(text: &str) -> Result<TrustBundle, BundleError> {
    TrustBundle::parse(&text.replace("ROOT", &root().to_string()))
}

/// TRUST-1: nothing in a bundle means "anyone"; what is wrong is named.
#[test]
fn a_bundle_pins_everything_or_is_refused() {
    let check = |from: &str, to: &str, want: &str| {
        assert!(GOOD.contains(from), "{from}");
        let error = parse(&GOOD.replace(from, to)).expect_err(to).to_string();
        assert!(error.contains(want), "{from} -> {to}: {error}");
    };
    assert!(parse(GOOD).is_ok());
    check("value = \"example.com\"", "value = \"\"", "an empty claim or value would mean anyone");
    check("organization = { claim = \"hd\", value = \"example.com\" }", "", "Google needs organization");
    check("claim = \"hd\"", "claim = \"sub\"", "Google needs organization");
    check("kind = \"google\"", "kind = \"oidc\"\norganization_is_issuer = true\nextra = 1", "unknown field");
    check("[\"client\"]", "[]", "at least one audience");
    check("[\"client\"]", "[\" \"]", "at least one audience");
    check("https://accounts", "http://accounts", "https URL");
    check("[\"ROOT\"]", "[]", "no server root key");
    check("[\"example.com\"]", "[\"Example.com\"]", "mail domain");
    check("\"google\"", "\"microsoft\"", "Microsoft needs organization");
    check("ROOT", "04", "not a public key");
    assert_eq!(parse(&"#".repeat(MAX_BUNDLE + 1)), Err(BundleError::TooLarge));
}

#[test]
fn the_consumer_tenant_is_no_organization() {
    let text = GOOD
        .replace("\"google\"", "\"microsoft\"")
        .replace("\"hd\", value = \"example.com\"", "\"tid\", value = \"9188040d-6c67-4c5b-b112-36a304b66dad\"");
    assert!(parse(&text).expect_err("consumer tenant").to_string().contains("consumer accounts"));
}

#[test]
fn a_bundle_reads_back_with_the_same_fingerprint() {
    let bundle = parse(GOOD).unwrap();
    let text = bundle.to_text().unwrap();
    assert!(text.starts_with(&format!("# Trust bundle. Fingerprint {}", bundle.fingerprint().unwrap())));
    assert_eq!(TrustBundle::parse(&text).unwrap(), bundle);
}

/// TRUST-1: which claim lists groups is pinned like everything else.
#[test]
fn the_claim_of_groups_is_pinned() {
    let plain = parse(GOOD).unwrap().fingerprint().unwrap();
    let named = |claim: &str| {
        let text = GOOD.replace("domains", &format!("groups_claim = {claim:?}\ndomains"));
        parse(&text).map(|bundle| bundle.fingerprint().unwrap())
    };
    let roles = named("roles").unwrap();
    assert_ne!(roles, plain);
    assert_ne!(roles, named("teams").unwrap());
    for bad in ["", "sub", &"x".repeat(129)] {
        assert!(named(bad).expect_err(bad).to_string().contains("groups_claim"), "{bad}");
    }
}

#[test]
fn directory_entries_need_the_pinned_key_and_their_time() {
    let (pinned, stranger) = (PrivateKey::from_seed(&[2; 32]).unwrap(), PrivateKey::from_seed(&[3; 32]).unwrap());
    let mut bundle = parse(GOOD).unwrap();
    let entry = DirectoryEntry {
        target: TargetId::from_bytes([1; 16]),
        name: "web".to_owned(),
        agent_key: root(),
        address: String::new(),
        serial: 1,
        expires_at: UnixTime::from_secs(100),
    };
    let signed = Signed::seal(&entry, bundle.organization, &pinned).unwrap();
    let early = UnixTime::from_secs(99);
    assert_eq!(DirectoryEntry::verify(&signed, &bundle, early), Err(ObjectError::Signature));
    bundle.directory_key = Some(pinned.public());
    assert_eq!(DirectoryEntry::verify(&signed, &bundle, early), Ok(entry.clone()));
    assert_eq!(DirectoryEntry::verify(&signed, &bundle, UnixTime::from_secs(100)), Err(ObjectError::Signature));
    let forged = Signed::seal(&entry, bundle.organization, &stranger).unwrap();
    assert_eq!(DirectoryEntry::verify(&forged, &bundle, early), Err(ObjectError::Signature));
}
