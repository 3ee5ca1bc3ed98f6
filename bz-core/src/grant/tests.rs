//! What holds for `grant`, and each way it must not.

use super::*;
use crate::key::PrivateKey;

const ORG: OrganizationId = OrganizationId::from_bytes([1; 16]);

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; 32]).unwrap()
}

fn secs(s: u64) -> UnixTime {
    UnixTime::from_secs(s)
}

fn certificate() -> ServerCert {
    ServerCert {
        key: key(2).public(),
        purpose: Purpose::Grant,
        node: "one".to_owned(),
        not_before: secs(1_000),
        not_after: secs(100_000),
    }
}

fn body() -> GrantBody {
    GrantBody {
        id: GrantId::from_bytes([2; 16]),
        connection: ConnectionId::from_bytes([3; 16]),
        person: Person { issuer: "https://idp.example".to_owned(), subject: "alice".to_owned() },
        client_key: key(3).public(),
        agent_key: key(4).public(),
        boot: BootId::from_bytes([5; 16]),
        target: TargetId::from_bytes([6; 16]),
        verb: Verb::Shell,
        user: Some(UserRule::Username),
        mode: Mode::Inspected,
        recording: Recording { output: true, input: false },
        request: Digest::of(b"request"),
        scope: Scope::Request,
        mfa: None,
        policies: vec![],
        policy_version: 1,
        not_before: secs(2_000),
        not_after: secs(2_300),
        session_seconds: u32::MAX,
    }
}

struct Case {
    root: u8,
    certificate: ServerCert,
    signer: u8,
    body: GrantBody,
    now: u64,
}

impl Case {
    fn good() -> Self {
        Self { root: 1, certificate: certificate(), signer: 2, body: body(), now: 2_100 }
    }
}

fn check(case: &Case, want: Result<(), GrantError>) {
    let signed = SignedGrant {
        certificate: Signed::seal(&case.certificate, ORG, &key(case.root)).unwrap(),
        grant: Signed::seal(&case.body, ORG, &key(case.signer)).unwrap(),
    };
    let pins = Pins { organization: ORG, roots: &[key(9).public(), key(1).public()], now: secs(case.now) };
    assert_eq!(Grant::verify(&signed, &pins).map(|g| assert_eq!(*g, case.body)), want);
}

/// TRUST-2, TRUST-3: a grant needs a pinned root, a certificate for grants, the certified key, and its time.
#[test]
fn a_grant_is_proved_by_its_whole_chain_and_time() {
    use GrantError::{Certificate, Expired, NotYet, Object};
    let good = Case::good;
    let with = |change: fn(&mut Case)| {
        let mut case = good();
        change(&mut case);
        case
    };
    check(&good(), Ok(()));
    check(&with(|c| c.root = 8), Err(Certificate(ServerCertError::Root)));
    check(&with(|c| c.certificate.purpose = Purpose::Control), Err(Certificate(ServerCertError::Purpose)));
    check(&with(|c| c.certificate.not_after = secs(2_100)), Err(Certificate(ServerCertError::Validity)));
    check(&with(|c| c.certificate.not_before = secs(2_161)), Err(Certificate(ServerCertError::Validity)));
    check(&with(|c| c.certificate.not_before = secs(2_160)), Ok(()));
    check(&with(|c| c.signer = 8), Err(Object(ObjectError::Signature)));
    check(&with(|c| c.now = 1_939), Err(NotYet));
    check(&with(|c| c.now = 1_940), Ok(()));
    check(&with(|c| c.now = 2_299), Ok(()));
    check(&with(|c| c.now = 2_300), Err(Expired));
}

/// TRUST-3: opening window and session are capped whatever the grant says.
#[test]
fn caps_hold_whatever_the_grant_says() {
    let mut case = Case::good();
    case.body.not_after = secs(50_000);
    case.now = 2_000 + MAX_OPENING.as_secs() - 1;
    check(&case, Ok(()));
    case.now += 1;
    check(&case, Err(GrantError::Expired));
    let signed = SignedGrant {
        certificate: Signed::seal(&certificate(), ORG, &key(1)).unwrap(),
        grant: Signed::seal(&body(), ORG, &key(2)).unwrap(),
    };
    let pins = Pins { organization: ORG, roots: &[key(1).public()], now: secs(2_100) };
    assert_eq!(Grant::verify(&signed, &pins).unwrap().session_cap(), MAX_SESSION);
}

#[test]
fn another_organizations_grant_is_refused() {
    let other = OrganizationId::from_bytes([9; 16]);
    let signed = SignedGrant {
        certificate: Signed::seal(&certificate(), ORG, &key(1)).unwrap(),
        grant: Signed::seal(&body(), other, &key(2)).unwrap(),
    };
    let pins = Pins { organization: ORG, roots: &[key(1).public()], now: secs(2_100) };
    assert_eq!(Grant::verify(&signed, &pins), Err(GrantError::Object(ObjectError::Organization)));
}
