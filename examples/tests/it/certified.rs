//! The certified provider does what the tests that lean on it need, judged by the same client as our own.

use std::io::Write as _;
use std::time::Duration;

use bz_examples::browser::{WalkError, authorize_without_browser};
use bz_examples::certified::{CLIENT_ID, CertifiedIdp, StartError};
use bz_examples::idp::OldKey;

use crate::idp::until_refused;
use crate::relying_party::{self, RelyingParty};

#[tokio::test]
async fn a_login_and_its_refresh_bring_every_claim() {
    let Some(idp) = started().await else { return };
    assert_eq!(CLIENT_ID, relying_party::CLIENT_ID);
    let client = RelyingParty::discover(idp.issuer()).await;
    let first = client.login("alice", "nonce-1").await;
    idp.set_id_token_life(Duration::from_secs(7)).await.unwrap();
    let second = client.refresh(&first).await.expect("the refresh token is good");
    for (tokens, life) in [(&first, 3600), (&second, 7)] {
        let claims = client.verify(&tokens.id_token, Some("nonce-1")).expect("this provider keeps the nonce");
        assert_eq!(claims.issuer().as_str(), idp.issuer());
        assert_eq!(claims.subject().as_str(), "alice");
        assert_eq!(claims.email().map(|email| email.as_str()), Some("alice@example.com"));
        assert_eq!(claims.email_verified(), Some(true));
        assert_eq!(claims.additional_claims().hd.as_deref(), Some("example.com"));
        assert_eq!(claims.additional_claims().groups, ["admins", "dev"]);
        assert_eq!((claims.expiration() - claims.issue_time()).num_seconds(), life);
    }
    assert_ne!(first.refresh, second.refresh, "the refresh token must rotate");
    assert_eq!(client.refresh(&first).await.err().as_deref(), Some("invalid_grant"), "a spent refresh token");
    assert_eq!(client.refresh(&second).await.err().as_deref(), Some("invalid_grant"), "reuse must end the family");
}

#[tokio::test]
async fn a_rotation_keeps_the_grants_and_the_old_key_only_as_told() {
    let Some(idp) = started().await else { return };
    let before = RelyingParty::discover(idp.issuer()).await;
    let first = before.login("bob", "n").await;

    idp.rotate_keys(OldKey::Published).await.unwrap();
    let second = before.refresh(&first).await.expect("a rotation ends no grant");
    assert!(before.verify(&second.id_token, Some("n")).is_err(), "the old JWKS cannot know the new key");
    let between = RelyingParty::discover(idp.issuer()).await;
    assert!(between.verify(&first.id_token, Some("n")).is_ok());
    assert!(between.verify(&second.id_token, Some("n")).is_ok());

    idp.rotate_keys(OldKey::Withdrawn).await.unwrap();
    let after = RelyingParty::discover(idp.issuer()).await;
    let third = after.refresh(&second).await.expect("a rotation ends no grant");
    assert!(after.verify(&third.id_token, Some("n")).is_ok());
    assert!(after.verify(&second.id_token, Some("n")).is_err(), "a withdrawn key must be gone");
}

#[tokio::test]
async fn a_name_that_nobody_has_gets_the_page_again() {
    let Some(idp) = started().await else { return };
    let client = RelyingParty::discover(idp.issuer()).await;
    let error = authorize_without_browser(&client.begin("n").url, "mallory").await.unwrap_err();
    assert!(matches!(&error, WalkError::Refused { status, .. } if status.as_u16() == 403), "{error}");
}

#[tokio::test]
async fn an_order_without_sense_is_refused_and_the_next_is_obeyed() {
    let Some(idp) = started().await else { return };
    idp.set_id_token_life(Duration::ZERO).await.expect_err("zero seconds is no life");
    idp.set_id_token_life(Duration::from_secs(1)).await.expect("the conversation goes on");
}

#[tokio::test]
async fn dropping_ends_the_process() {
    let Some(idp) = started().await else { return };
    let address = url::Url::parse(idp.issuer()).unwrap().socket_addrs(|| None).unwrap()[0];
    drop(idp);
    until_refused(address).await;
}

/// Nothing where the package is not installed, unless this is CI, which may leave out nothing.
pub(crate) async fn started() -> Option<CertifiedIdp> {
    match CertifiedIdp::start().await {
        Ok(idp) => Some(idp),
        Err(missing @ (StartError::NotInstalled(_) | StartError::NoNode))
            if std::env::var("CI").as_deref() != Ok("true") =>
        {
            // Past the capture of the test runner: a silent gap would look like a pass.
            writeln!(std::io::stderr(), "left out: {missing}").unwrap();
            None
        }
        Err(error) => panic!("the certified provider did not start: {error}"),
    }
}
