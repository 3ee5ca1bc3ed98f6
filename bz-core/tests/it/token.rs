//! ID tokens: one good, and each rule broken alone.

use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::provider::{OrganizationClaim, Provider, ProviderKind};
use bz_core::oidc::{Audience, Claims, Expiry, MAX_TOKEN, TokenError, verify};
use bz_core::time::UnixTime;
use serde_json::{Value, json};

use crate::idp::{CLIENT, ISSUER, Idp, claims, provider};

const NOW: u64 = 10_000;

fn idp() -> Idp {
    Idp::new(1, "k1")
}

fn at(token: &str, now: u64) -> Result<Claims, TokenError> {
    verify(token, (&idp().jwks(), &provider()), Audience::Client, Expiry::Checked, UnixTime::from_secs(now))
}

fn check(token: &str, want: Result<(), TokenError>) {
    assert_eq!(at(token, NOW).map(|_| ()), want, "{token}");
}

/// The good claims with one changed, or without it when `value` is null.
fn with(name: &str, value: Value) -> String {
    let mut changed = claims(NOW, "n");
    let object = changed.as_object_mut().unwrap();
    if value.is_null() {
        object.remove(name)
    } else {
        object.insert(name.to_owned(), value)
    };
    idp().token(&changed)
}

/// TRUST-5 (I1, I3, I4, I5): every rule about claims, broken alone.
#[test]
fn claims_are_exact_or_refused() {
    check(&idp().token(&claims(NOW, "n")), Ok(()));
    for (name, value, want) in [
        ("iss", json!("https://other.example"), TokenError::Issuer),
        ("iss", json!(null), TokenError::Malformed),
        ("aud", json!("other"), TokenError::Audience),
        ("aud", json!([]), TokenError::Audience),
        ("aud", json!([CLIENT, "other"]), TokenError::Audience),
        ("aud", json!(null), TokenError::Malformed),
        ("aud", json!([1]), TokenError::Malformed),
        ("azp", json!("other"), TokenError::AuthorizedParty),
        ("azp", json!(1), TokenError::AuthorizedParty),
        ("org", json!("evil"), TokenError::Organization),
        ("org", json!(""), TokenError::Organization),
        ("org", json!(["acme"]), TokenError::Organization),
        ("org", json!(null), TokenError::Organization),
        ("sub", json!(""), TokenError::Malformed),
        ("sub", json!(null), TokenError::Malformed),
        ("sub", json!("x".repeat(600)), TokenError::Malformed),
        ("iat", json!(null), TokenError::Malformed),
        ("iat", json!("1"), TokenError::Malformed),
        ("exp", json!(null), TokenError::Malformed),
        ("exp", json!(-1), TokenError::Malformed),
        ("exp", json!(NOW - 1), TokenError::Malformed),
        ("nonce", json!(1), TokenError::Malformed),
        ("groups", json!("dev"), TokenError::Malformed),
        ("groups", json!([1]), TokenError::Malformed),
        ("iat", json!(NOW + 61), TokenError::Future),
    ] {
        check(&with(name, value), Err(want));
    }
    for (name, value) in
        [("aud", json!([CLIENT])), ("azp", json!(CLIENT)), ("iat", json!(NOW + 60)), ("groups", json!(null))]
    {
        check(&with(name, value), Ok(()));
    }
}

/// TRUST-5: `exp` with its skew, to the second.
#[test]
fn expiry_has_a_bounded_skew() {
    let token = idp().token(&claims(NOW, "n"));
    assert!(at(&token, NOW + 3600 + 59).is_ok());
    assert_eq!(at(&token, NOW + 3600 + 60), Err(TokenError::Expired));
    assert!(at(&token, NOW - 60).is_ok());
    assert_eq!(at(&token, NOW - 61), Err(TokenError::Future));
}

/// TRUST-5 (I1, I8): foreign signatures, forbidden algorithms and odd JSON.
#[test]
fn signatures_and_shapes_are_exact_or_refused() {
    let body = claims(NOW, "n").to_string();
    let raw = |header: &str| idp().raw(header, body.as_bytes());
    check(&raw(r#"{"alg":"ES256"}"#), Ok(()));
    check(&raw(r#"{"alg":"none","kid":"k1"}"#), Err(TokenError::Algorithm));
    check(&raw(r#"{"alg":"None","kid":"k1"}"#), Err(TokenError::Algorithm));
    check(&raw(r#"{"alg":"HS256","kid":"k1"}"#), Err(TokenError::Algorithm));
    check(&raw(r#"{"alg":"RS256","kid":"k1"}"#), Err(TokenError::UnknownKey));
    check(&raw(r#"{"alg":"ES256","kid":"k2"}"#), Err(TokenError::UnknownKey));
    check(&raw(r#"{"alg":"ES256","kid":"k1","crit":["b64"],"b64":false}"#), Err(TokenError::Malformed));
    check(&raw(r#"{"alg":"ES256","alg":"ES256"}"#), Err(TokenError::Malformed));
    check(&Idp::new(2, "k1").token(&claims(NOW, "n")), Err(TokenError::Signature));
    let good = raw(r#"{"alg":"ES256","kid":"k1"}"#);
    let signature_at = good.rfind('.').unwrap() + 1;
    check(&good[..signature_at], Err(TokenError::Signature));
    check(&good[..signature_at - 1], Err(TokenError::Malformed));
    check(&format!("{good}.x"), Err(TokenError::Malformed));
    check(&format!("{good}="), Err(TokenError::Malformed));
    check("", Err(TokenError::Malformed));
    check("a.b", Err(TokenError::Malformed));
    check(&"x".repeat(MAX_TOKEN + 1), Err(TokenError::TooLarge));
    let twice = body.replacen('{', r#"{"sub":"root","#, 1);
    check(&idp().raw(r#"{"alg":"ES256"}"#, twice.as_bytes()), Err(TokenError::Malformed));
    let deep = body.replacen('{', &format!(r#"{{"x":{}{},"#, "[".repeat(9), "]".repeat(9)), 1);
    check(&idp().raw(r#"{"alg":"ES256"}"#, deep.as_bytes()), Err(TokenError::Malformed));
    check(&idp().raw(r#"{"alg":"ES256"}"#, b"{\"a\":\"\xff\"}"), Err(TokenError::Malformed));
}

/// Tokens made by another implementation (OpenSSL), with keys nobody kept.
#[test]
fn rs256_and_eddsa_vectors_verify() {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/tokens.json")).unwrap();
    for vector in vectors.as_array().unwrap() {
        let jwks = Jwks::parse(json!({"keys": [vector["jwk"]]}).to_string().as_bytes()).unwrap();
        let token = vector["token"].as_str().unwrap();
        let run = |token: &str| {
            verify(token, (&jwks, &provider()), Audience::Client, Expiry::ByAge, UnixTime::from_secs(NOW))
                .map(|c| c.person.subject)
        };
        assert_eq!(run(token), Ok("alice".to_owned()), "{}", vector["name"]);
        let at = token.rfind('.').unwrap() + 10;
        let flipped = if &token[at..=at] == "A" { "B" } else { "A" };
        let bad = format!("{}{flipped}{}", &token[..at], &token[at + 1..]);
        assert_eq!(run(&bad), Err(TokenError::Signature), "{}", vector["name"]);
    }
}

/// F-046, F-091: each kind of provider names the organization and a controlled address its own way.
#[test]
fn each_provider_row_finds_organization_and_address() {
    let row = |kind, claim: Option<(&str, &str)>| Provider {
        kind,
        organization: claim
            .map(|(claim, value)| OrganizationClaim { claim: claim.to_owned(), value: value.to_owned() }),
        organization_is_issuer: kind == ProviderKind::Oidc,
        ..provider()
    };
    let check = |provider: &Provider, extra: Value, want: Result<Option<&str>, TokenError>| {
        let mut body = json!({"iss": ISSUER, "aud": CLIENT, "sub": "s", "iat": NOW, "exp": NOW + 60});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let token = idp().token(&body);
        let got =
            verify(&token, (&idp().jwks(), provider), Audience::Client, Expiry::Checked, UnixTime::from_secs(NOW));
        let got = got.map(|c| c.address.map(|a| a.local().to_owned()));
        assert_eq!(got, want.map(|w| w.map(str::to_owned)), "{:?} {body}", provider.kind);
    };
    let mail = json!({"email": "Al.ice@Example.com", "email_verified": true});
    let unverified = json!({"email": "alice@example.com"});
    let google = row(ProviderKind::Google, Some(("hd", "example.com")));
    let mut workspace = mail.clone();
    workspace["hd"] = json!("example.com");
    check(&google, workspace, Ok(Some("Al.ice")));
    check(&google, mail.clone(), Err(TokenError::Organization));
    check(&google, json!({"hd": "evil.example"}), Err(TokenError::Organization));
    let microsoft = row(ProviderKind::Microsoft, Some(("tid", "t1")));
    check(&microsoft, json!({"tid": "t1", "email": "root@example.com", "email_verified": true}), Ok(None));
    check(&microsoft, json!({"tid": "t1", "preferred_username": "bob@example.com"}), Ok(Some("bob")));
    check(&microsoft, json!({"tid": "t1", "preferred_username": "bob@guest.example"}), Ok(None));
    check(&microsoft, json!({"tid": "t2"}), Err(TokenError::Organization));
    check(&row(ProviderKind::Onelogin, None), unverified.clone(), Ok(Some("alice")));
    for kind in [ProviderKind::Okta, ProviderKind::Keycloak, ProviderKind::Oidc] {
        check(&row(kind, None), mail.clone(), Ok(Some("Al.ice")));
        check(&row(kind, None), unverified.clone(), Ok(None));
        check(&row(kind, None), json!({"email": "alice@evil.example", "email_verified": true}), Ok(None));
        check(&row(kind, None), json!({"email": "a@b@example.com", "email_verified": true}), Ok(None));
        check(&row(kind, Some(("org", "acme"))), mail.clone(), Err(TokenError::Organization));
    }
    let mut nobody = row(ProviderKind::Oidc, None);
    nobody.organization_is_issuer = false;
    check(&nobody, mail, Err(TokenError::Organization));
}

/// F-069~: groups are those of the claim that the provider's row or the trust bundle names; what the directory calls the
/// person is the subject, and at Microsoft the object id.
#[test]
fn each_provider_row_finds_groups_and_the_directory_id() {
    let microsoft = Provider {
        kind: ProviderKind::Microsoft,
        organization: Some(OrganizationClaim { claim: "tid".to_owned(), value: "t".to_owned() }),
        ..provider()
    };
    let named = Provider { groups_claim: Some("roles".to_owned()), ..provider() };
    let mut body = claims(NOW, "n");
    body.as_object_mut()
        .unwrap()
        .extend(json!({"tid": "t", "oid": "o", "roles": ["ops"]}).as_object().unwrap().clone());
    let token = idp().token(&body);
    for (provider, groups, id) in
        [(&provider(), ["dev"], "alice"), (&microsoft, ["dev"], "o"), (&named, ["ops"], "alice")]
    {
        let now = UnixTime::from_secs(NOW);
        let got = verify(&token, (&idp().jwks(), provider), Audience::Client, Expiry::Checked, now).unwrap();
        assert_eq!((got.groups, got.directory_id.as_deref()), (groups.map(str::to_owned).to_vec(), Some(id)));
    }
}
