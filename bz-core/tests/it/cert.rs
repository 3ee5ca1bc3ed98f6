//! Certificates: binding, people, ages, and tokens kept by hash.

use std::time::Duration;

use bz_core::cert::{BzCert, CertCheck, CertError, CertRequest, DEFAULT_MAX_AGE, MAX_CERT, VerifiedInitial};
use bz_core::id::OrganizationId;
use bz_core::key::PrivateKey;
use bz_core::oidc::TokenError;
use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::provider::{Commitment, Provider};
use bz_core::oidc::workload::Workload;
use bz_core::time::UnixTime;
use bz_core::wire::WireError;
use serde_json::json;

use crate::idp::{Idp, claims, provider};

const NOW: u64 = 100_000;
const ORG: OrganizationId = OrganizationId::from_bytes([1; 16]);

fn request(seed: u8) -> CertRequest {
    CertRequest::new(ORG, &PrivateKey::from_seed(&[seed; 32]).unwrap(), [7; 32])
}

fn idp() -> Idp {
    Idp::new(1, "k1")
}

fn login(at: u64) -> String {
    idp().token(&claims(at, &request(1).commitment()))
}

fn cert(initial: &str, current: &str) -> Vec<u8> {
    request(1).certificate(initial, current).unwrap()
}

struct World {
    jwks: Jwks,
    provider: Provider,
    known: Option<VerifiedInitial>,
    not_older_than: Option<u64>,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self { jwks: idp().jwks(), provider: provider(), known: None, not_older_than: None, now: NOW }
    }

    fn at(now: u64) -> Self {
        Self { now, ..Self::new() }
    }

    fn verify(&self, bytes: &[u8]) -> Result<VerifiedInitial, CertError> {
        let check = CertCheck {
            organization: ORG,
            provider: &self.provider,
            jwks: &self.jwks,
            max_age: DEFAULT_MAX_AGE,
            known_initial: self.known.as_ref(),
            not_older_than: self.not_older_than.map(UnixTime::from_secs),
            now: UnixTime::from_secs(self.now),
        };
        BzCert::verify(bytes, &check).map(|cert| cert.initial().clone())
    }

    fn check(&self, bytes: &[u8], want: Result<(), CertError>) {
        assert_eq!(self.verify(bytes).map(|_| ()), want);
    }
}

/// TRUST-6 (I2): the token commits to key, random and proof; anything else is refused.
#[test]
fn a_token_is_bound_to_one_key() {
    let world = World::new();
    let token = login(NOW);
    world.check(&cert(&token, &token), Ok(()));
    world.check(&request(2).certificate(&token, &token).unwrap(), Err(CertError::Commitment));
    let other = CertRequest::new(ORG, &PrivateKey::from_seed(&[1; 32]).unwrap(), [8; 32]);
    world.check(&other.certificate(&token, &token).unwrap(), Err(CertError::Commitment));
    let unbound = idp().token(&claims(NOW, "other"));
    world.check(&cert(&unbound, &unbound), Err(CertError::Commitment));
    let foreign =
        CertRequest::new(OrganizationId::from_bytes([2; 16]), &PrivateKey::from_seed(&[1; 32]).unwrap(), [7; 32]);
    world.check(&foreign.certificate(&token, &token).unwrap(), Err(CertError::Organization));
}

/// TRUST-6 (H1, I8): any changed byte is refused; size is bounded.
#[test]
fn any_changed_byte_is_refused() {
    let world = World::new();
    let token = login(NOW);
    let good = cert(&token, &token);
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(world.verify(&bad).is_err(), "byte {at}");
    }
    world.check(&vec![0; MAX_CERT + 1], Err(CertError::Wire(WireError::TooLarge { limit: MAX_CERT })));
    world.check(&good[..good.len() - 1], Err(CertError::Wire(WireError::Malformed)));
    world.check(&[good, vec![0]].concat(), Err(CertError::Wire(WireError::Trailing)));
}

/// TRUST-7 (I3): a refreshed token is of the same person, newer, signed and unexpired.
#[test]
fn only_a_newer_token_of_the_same_person_keeps_it_alive() {
    let later = NOW + 4000;
    let world = World::at(later);
    let initial = login(NOW);
    let fresh = |change: (&str, serde_json::Value)| {
        let mut body = claims(later, "dropped");
        body[change.0] = change.1;
        idp().token(&body)
    };
    world.check(&cert(&initial, &initial), Err(CertError::Current(TokenError::Expired)));
    world.check(&cert(&initial, &fresh(("nonce", json!("any")))), Ok(()));
    world.check(&cert(&initial, &fresh(("sub", json!("bob")))), Err(CertError::OtherPerson));
    world.check(&cert(&initial, &fresh(("aud", json!("x")))), Err(CertError::Current(TokenError::Audience)));
    world.check(&cert(&initial, &fresh(("org", json!("x")))), Err(CertError::Current(TokenError::Organization)));
    world.check(&cert(&initial, &fresh(("iat", json!(NOW - 1)))), Err(CertError::Older));
    let forged = Idp::new(2, "k1").token(&claims(later, "n"));
    world.check(&cert(&initial, &forged), Err(CertError::Current(TokenError::Signature)));
    let strict = World { not_older_than: Some(later + 1), ..World::at(later) };
    strict.check(&cert(&initial, &fresh(("nonce", json!("any")))), Err(CertError::Older));
}

/// TRUST-8 (I4): the maximum age counts from the login, to the second, whatever was refreshed.
#[test]
fn the_maximum_age_is_the_owners() {
    let initial = login(NOW);
    let end = NOW + DEFAULT_MAX_AGE.as_secs();
    let current = |at: u64| idp().token(&claims(at, "n"));
    World::at(end - 1).check(&cert(&initial, &current(end - 10)), Ok(()));
    World::at(end).check(&cert(&initial, &current(end - 10)), Err(CertError::TooOld));
    let mut world = World::at(end);
    world.known = Some(World::at(end - 1).verify(&cert(&initial, &current(end - 10))).unwrap());
    world.check(&cert(&initial, &current(end - 10)), Err(CertError::TooOld));
}

/// TRUST-9 (I6): after a key rotation a login goes on by its hash, and nothing new is believed.
#[test]
fn a_verified_login_survives_key_rotation() {
    let (initial, new) = (login(NOW), Idp::new(2, "k2"));
    let known = World::new().verify(&cert(&initial, &initial)).unwrap();
    let rotated = |known| World { jwks: new.jwks(), known, ..World::at(NOW + 10) };
    let current = new.token(&claims(NOW + 5, "n"));
    rotated(Some(known.clone())).check(&cert(&initial, &current), Ok(()));
    rotated(None).check(&cert(&initial, &current), Err(CertError::Initial(TokenError::UnknownKey)));
    rotated(Some(known.clone())).check(&cert(&initial, &initial), Err(CertError::Current(TokenError::UnknownKey)));
    let other = request(2).certificate(&initial, &current).unwrap();
    rotated(Some(known)).check(&other, Err(CertError::Initial(TokenError::UnknownKey)));
}

/// TRUST-10: a CI job commits in the audience of both tokens.
#[test]
fn a_job_commits_in_its_audience() {
    let mut world = World::new();
    world.provider.commitment = Commitment::Audience;
    (world.provider.audiences, world.provider.domains) = (vec![], vec![]);
    let alice = [("sub".to_owned(), "alice".to_owned())];
    world.provider.workloads = vec![Workload(alice.into_iter().collect())];
    let token = |audience: &str| {
        let mut body = claims(NOW, "n");
        body["aud"] = json!(audience);
        idp().token(&body)
    };
    let (bound, other) = (token(&request(1).audience()), token(&request(2).audience()));
    world.check(&cert(&bound, &bound), Ok(()));
    world.check(&cert(&other, &other), Err(CertError::Initial(TokenError::Audience)));
    world.check(&cert(&bound, &other), Err(CertError::Current(TokenError::Audience)));
    world.check(&cert(&login(NOW), &login(NOW)), Err(CertError::Initial(TokenError::Audience)));
    // However long the issuer lets a token live, it counts for an hour.
    let mut body = claims(NOW, "n");
    (body["aud"], body["exp"]) = (json!(request(1).audience()), json!(NOW + 80_000));
    let long = idp().token(&body);
    for (now, want) in [(3659, Ok(())), (3660, Err(CertError::Current(TokenError::Expired)))] {
        let provider = world.provider.clone();
        World { provider, ..World::at(NOW + now) }.check(&cert(&long, &long), want);
    }
}

#[test]
fn the_end_is_the_earlier_of_token_and_age() {
    let ends = |max_age: u64| {
        let token = login(NOW);
        let check = CertCheck {
            organization: ORG,
            provider: &provider(),
            jwks: &idp().jwks(),
            max_age: Duration::from_secs(max_age),
            known_initial: None,
            not_older_than: None,
            now: UnixTime::from_secs(NOW),
        };
        BzCert::verify(&cert(&token, &token), &check).unwrap().expires_at().as_secs() - NOW
    };
    assert_eq!(ends(600), 600);
    assert_eq!(ends(7200), 3660);
}
