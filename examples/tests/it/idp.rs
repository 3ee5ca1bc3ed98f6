//! The development provider, judged by a client that is not ours, and by requests no honest client makes.

mod refusals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bz_examples::browser::{WalkError, authorize_without_browser, loopback_client};
use bz_examples::idp::{Clock, DevIdp, DevIdpConfig, OldKey, RefreshNonce, StartError, User};
use serde_json::json;
use url::Url;

use crate::relying_party::{CLIENT_ID, RelyingParty, parameter};

#[tokio::test]
async fn a_login_and_its_refresh_bring_every_claim() {
    let idp = DevIdp::start(config()).await.unwrap();
    let client = RelyingParty::discover(idp.issuer().as_str()).await;
    let first = client.login("alice", "nonce-1").await;
    let second = client.refresh(&first).await.expect("the refresh token is good");
    for tokens in [&first, &second] {
        let claims = client.verify(&tokens.id_token, Some("nonce-1")).expect("the nonce is kept by default");
        assert_eq!(claims.issuer().as_str(), idp.issuer().as_str());
        assert_eq!(claims.subject().as_str(), "dev-alice");
        assert_eq!(claims.email().map(|email| email.as_str()), Some("alice@example.com"));
        assert_eq!(claims.email_verified(), Some(true));
        assert_eq!(claims.name().and_then(|name| name.get(None)).map(|name| name.as_str()), Some("alice"));
        assert_eq!(claims.additional_claims().hd.as_deref(), Some("example.com"));
        assert_eq!(claims.additional_claims().groups, ["admins", "dev"]);
        assert_eq!((claims.expiration() - claims.issue_time()).num_seconds(), 3600);
        assert!(claims.auth_time().is_some());
    }
    assert_eq!(userinfo(&idp, &second.access).await["email"], "alice@example.com");
    assert_eq!(userinfo(&idp, &first.access).await, serde_json::Value::Null, "the refresh replaced the access token");
}

#[tokio::test]
async fn a_refresh_token_that_comes_twice_ends_its_family() {
    let idp = DevIdp::start(config()).await.unwrap();
    let client = RelyingParty::discover(idp.issuer().as_str()).await;
    let first = client.login("alice", "n").await;
    let second = client.refresh(&first).await.unwrap();
    assert_ne!(first.refresh, second.refresh, "the refresh token must rotate");
    assert_eq!(client.refresh(&first).await.err().as_deref(), Some("invalid_grant"), "a spent refresh token");
    assert_eq!(client.refresh(&second).await.err().as_deref(), Some("invalid_grant"), "reuse must end the family");
    assert_eq!(userinfo(&idp, &second.access).await, serde_json::Value::Null, "reuse must end the access token");
}

#[tokio::test]
async fn a_code_that_comes_twice_ends_what_came_of_it() {
    let idp = DevIdp::start(config()).await.unwrap();
    let client = RelyingParty::discover(idp.issuer().as_str()).await;
    let attempt = client.begin("n");
    let code = code(&attempt.url, "alice").await;
    let again = openidconnect::PkceCodeVerifier::new(attempt.verifier.secret().clone());
    let tokens = client.exchange(&code, attempt.verifier).await.expect("the first use");
    assert_eq!(client.exchange(&code, again).await.err().as_deref(), Some("invalid_grant"), "the second use");
    assert_eq!(client.refresh(&tokens).await.err().as_deref(), Some("invalid_grant"), "the family must be gone");
}

#[tokio::test]
async fn a_wrong_verifier_spends_the_code() {
    let idp = DevIdp::start(config()).await.unwrap();
    let client = RelyingParty::discover(idp.issuer().as_str()).await;
    let attempt = client.begin("n");
    let code = code(&attempt.url, "alice").await;
    let wrong = client.begin("n").verifier;
    assert_eq!(client.exchange(&code, wrong).await.err().as_deref(), Some("invalid_grant"));
    assert_eq!(client.exchange(&code, attempt.verifier).await.err().as_deref(), Some("invalid_grant"));
}

#[tokio::test]
async fn a_refresh_can_drop_the_nonce() {
    let idp = DevIdp::start(DevIdpConfig { refresh_nonce: RefreshNonce::Dropped, ..config() }).await.unwrap();
    let client = RelyingParty::discover(idp.issuer().as_str()).await;
    let first = client.login("alice", "n").await;
    assert!(client.verify(&first.id_token, Some("n")).is_ok());
    let second = client.refresh(&first).await.unwrap();
    assert!(client.verify(&second.id_token, None).is_ok());
}

#[tokio::test]
async fn a_rotation_keeps_the_old_key_only_as_told() {
    let idp = DevIdp::start(config()).await.unwrap();
    let before = RelyingParty::discover(idp.issuer().as_str()).await;
    let first = before.login("alice", "n").await;
    let old = idp.kid();

    assert_ne!(idp.rotate_keys(OldKey::Published), old);
    let second = before.refresh(&first).await.expect("a rotation ends no grant");
    assert!(before.verify(&second.id_token, Some("n")).is_err(), "the old JWKS cannot know the new key");
    let between = RelyingParty::discover(idp.issuer().as_str()).await;
    assert!(between.verify(&first.id_token, Some("n")).is_ok());
    assert!(between.verify(&second.id_token, Some("n")).is_ok());

    idp.rotate_keys(OldKey::Withdrawn);
    let after = RelyingParty::discover(idp.issuer().as_str()).await;
    let third = after.refresh(&second).await.expect("a rotation ends no grant");
    assert!(after.verify(&third.id_token, Some("n")).is_ok());
    assert!(after.verify(&second.id_token, Some("n")).is_err(), "a withdrawn key must be gone");
    assert!(after.verify(&first.id_token, Some("n")).is_err(), "and every key before it");
    assert_eq!(idp.jwks_fetches(), 3, "one fetch per discovery");
}

#[tokio::test]
async fn the_clock_decides_what_has_expired() {
    let back = Arc::new(AtomicU64::new(7200));
    let seconds_back = Arc::clone(&back);
    let clock = Clock::from_fn(move || SystemTime::now() - Duration::from_secs(seconds_back.load(Ordering::Relaxed)));
    let idp = DevIdp::start(DevIdpConfig { clock, ..config() }).await.unwrap();
    let client = RelyingParty::discover(idp.issuer().as_str()).await;

    let tokens = client.login("alice", "n").await;
    let error = client.verify(&tokens.id_token, Some("n")).unwrap_err();
    assert!(matches!(error, openidconnect::ClaimsVerificationError::Expired(_)), "{error}");

    for (seconds_later, expected) in [(58, None), (61, Some("invalid_grant"))] {
        let attempt = client.begin("n");
        let code = code(&attempt.url, "alice").await;
        back.fetch_sub(seconds_later, Ordering::Relaxed);
        let error = client.exchange(&code, attempt.verifier).await.err();
        assert_eq!(error.as_deref(), expected, "a code shown {seconds_later} s later");
    }
}

#[tokio::test]
async fn a_disabled_user_is_out_at_once() {
    let idp = DevIdp::start(config()).await.unwrap();
    let client = RelyingParty::discover(idp.issuer().as_str()).await;
    let tokens = client.login("alice", "n").await;
    let unused = client.login("alice", "n").await;
    idp.disable_user("alice").unwrap();
    assert_eq!(client.refresh(&tokens).await.err().as_deref(), Some("invalid_grant"));
    assert_eq!(userinfo(&idp, &tokens.access).await, serde_json::Value::Null);
    let error = authorize_without_browser(&client.begin("n").url, "alice").await.unwrap_err();
    assert!(matches!(&error, WalkError::Refused { status, .. } if status.as_u16() == 403), "{error}");
    idp.disable_user("nobody").expect_err("a typo in a test must not pass");

    idp.put_user(User::new("alice", "alice@new.example"));
    assert_eq!(client.refresh(&unused).await.err().as_deref(), Some("invalid_grant"), "what was revoked stays revoked");
    let tokens = client.login("alice", "n").await;
    assert_eq!(userinfo(&idp, &tokens.access).await["email"], "alice@new.example");
}

#[tokio::test]
async fn signed_claims_are_as_good_or_bad_as_they_say() {
    let idp = DevIdp::start(config()).await.unwrap();
    let client = RelyingParty::discover(idp.issuer().as_str()).await;
    let good = idp.claims("alice", CLIENT_ID, Some("n")).unwrap();
    assert!(client.verify(&idp.sign_claims(&good), Some("n")).is_ok());
    let mut bad = good.clone();
    bad["aud"] = json!("somebody-else");
    assert!(client.verify(&idp.sign_claims(&bad), Some("n")).is_err());
    let header = json!({ "alg": "ES256", "kid": idp.kid() });
    assert!(client.verify(&idp.sign_raw(&header, &good), Some("n")).is_ok());
    let header = json!({ "alg": "ES256", "kid": "unknown" });
    assert!(client.verify(&idp.sign_raw(&header, &good), Some("n")).is_err());
}

#[tokio::test]
async fn who_is_logged_in_without_a_page_depends_on_configuration_hint_and_prompt() {
    let alice = || Some("alice".to_owned());
    for (auto_login, extra, expected) in [
        (None, "", Seen::Page),
        (None, "&login_hint=bob", Seen::Page),
        (None, "&prompt=none&login_hint=bob", Seen::Error("login_required")),
        (alice(), "", Seen::User("dev-alice")),
        (alice(), "&login_hint=bob", Seen::User("dev-bob")),
        (alice(), "&login_hint=nobody", Seen::Page),
        (alice(), "&prompt=none", Seen::User("dev-alice")),
        (alice(), "&prompt=none&login_hint=nobody", Seen::Error("login_required")),
        (alice(), "&prompt=login", Seen::Page),
        (alice(), "&prompt=select_account", Seen::Page),
        (alice(), "&prompt=consent", Seen::User("dev-alice")),
        (alice(), "&prompt=none%20login", Seen::Error("invalid_request")),
    ] {
        let idp = DevIdp::start(DevIdpConfig { auto_login: auto_login.clone(), ..config() }).await.unwrap();
        let seen = look(&idp, extra).await;
        assert_eq!(seen, expected, "auto_login {auto_login:?}, request {extra:?}");
    }
}

#[tokio::test]
async fn only_loopback_is_served() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0", "[::ffff:127.0.0.1]:0"] {
        let listen: SocketAddr = address.parse().unwrap();
        let error = DevIdp::start(DevIdpConfig { listen, ..config() }).await.expect_err(address);
        assert!(matches!(error, StartError::NotLoopback(refused) if refused == listen), "{address}: {error}");
    }
}

#[tokio::test]
async fn a_configuration_nobody_can_log_in_with_is_refused() {
    let twice = vec![User::new("alice", "a@example.com"), User::new("alice", "b@example.com")];
    let error = DevIdp::start(DevIdpConfig { users: twice, ..config() }).await.unwrap_err();
    assert!(matches!(error, StartError::SameUserTwice(_)), "{error}");
    let error = DevIdp::start(DevIdpConfig { client_ids: Vec::new(), ..config() }).await.unwrap_err();
    assert!(matches!(error, StartError::NoClient), "{error}");
    let auto_login = Some("nobody".to_owned());
    let error = DevIdp::start(DevIdpConfig { auto_login, ..config() }).await.unwrap_err();
    assert!(matches!(error, StartError::UnknownAutoLogin(_)), "{error}");
}

#[tokio::test]
async fn stopping_frees_the_address() {
    let idp = DevIdp::start(config()).await.unwrap();
    let issuer = idp.issuer();
    let listen: SocketAddr = issuer.socket_addrs(|| None).unwrap()[0];
    RelyingParty::discover(issuer.as_str()).await;
    idp.stop().await;
    let next = DevIdp::start(DevIdpConfig { listen, ..config() }).await.expect("the address is free after stop");
    assert_eq!(next.issuer(), issuer);
    drop(next);
    until_refused(listen).await;
}

/// Ends when nobody listens there any more.
pub(crate) async fn until_refused(address: SocketAddr) {
    let gone = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("dropping a provider must close its listener");
}

#[derive(Debug, PartialEq)]
enum Seen {
    Page,
    User(&'static str),
    Error(&'static str),
}

/// What one GET of the authorization endpoint leads to.
async fn look(idp: &DevIdp, extra: &str) -> Seen {
    let client = RelyingParty::discover(idp.issuer().as_str()).await;
    let attempt = client.begin("n");
    let pairs = attempt.url.query_pairs().filter(|(name, _)| name != "prompt");
    let mut url = attempt.url.clone();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.set_query(url.query().map(|query| format!("{query}{extra}")).as_deref());
    let response = loopback_client().unwrap().get(url).send().await.unwrap();
    let Some(location) = response.headers().get("location") else { return Seen::Page };
    let redirect = Url::parse(location.to_str().unwrap()).unwrap();
    assert_eq!(parameter(&redirect, "iss").as_deref(), Some(idp.issuer().as_str()), "RFC 9207");
    if let Some(error) = parameter(&redirect, "error") {
        return Seen::Error(
            ["login_required", "invalid_request"].into_iter().find(|known| *known == error).expect(&error),
        );
    }
    let tokens = client.exchange(&parameter(&redirect, "code").unwrap(), attempt.verifier).await.unwrap();
    let claims = client.verify(&tokens.id_token, Some("n")).unwrap();
    let sub = claims.subject().as_str();
    Seen::User(["dev-alice", "dev-bob"].into_iter().find(|known| *known == sub).expect("a known user"))
}

pub(crate) fn config() -> DevIdpConfig {
    let alice = User::new("alice", "alice@example.com").with_hd("example.com").with_groups(&["admins", "dev"]);
    let bob = User::new("bob", "bob@example.com").with_hd("example.com");
    DevIdpConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)), CLIENT_ID, vec![alice, bob])
}

pub(crate) async fn code(url: &Url, user: &str) -> String {
    let redirect = authorize_without_browser(url, user).await.unwrap();
    parameter(&redirect, "code").unwrap_or_else(|| panic!("no code in {redirect}"))
}

/// Null for a token that is refused.
async fn userinfo(idp: &DevIdp, access: &str) -> serde_json::Value {
    let url = idp.issuer().join("userinfo").unwrap();
    let response = loopback_client().unwrap().get(url).bearer_auth(access).send().await.unwrap();
    if response.status() == 401 { serde_json::Value::Null } else { response.json().await.unwrap() }
}
