//! Logging in, over real sockets: what the provider is asked, what the server registers, and what is refused.

use bz_client::login::{Login, LoginError, LoginOptions, RedirectError};
use bz_client::secret::Secret;
use bz_client::trust::{Trust, TrustError, TrustSource};
use bz_core::cert::{BzCert, CertCheck, CertError, DEFAULT_MAX_AGE};
use bz_core::id::OrganizationId;
use bz_core::oidc::TokenError;
use bz_core::oidc::provider::Commitment;
use bz_core::oidc::workload::Workload;
use serde_json::{Value, json};

use crate::stand::server::now;
use crate::stand::{ORGANIZATION, Stand, Walk};

/// TRUST-4: the token commits to the session key, and a target accepts the certificate.
#[tokio::test]
async fn a_login_binds_the_token_to_a_new_key() {
    let stand = Stand::new().await;
    let (one, other) = (stand.login().await, stand.login().await);
    assert_ne!(one.key().public(), other.key().public(), "each login has a key of its own");
    assert_ne!(one.id(), other.id());
    assert_eq!(one.user().email, "alice@example.com");
    let certificate = one.certificate().unwrap();
    let pinned = stand.provider.pinned();
    let check = CertCheck {
        organization: ORGANIZATION,
        provider: &pinned,
        jwks: &stand.provider.jwks(),
        max_age: DEFAULT_MAX_AGE,
        known_initial: None,
        not_older_than: None,
        now: now(),
    };
    assert_eq!(BzCert::verify(&certificate, &check).unwrap().client_key(), one.key().public());
}

#[tokio::test]
async fn the_provider_is_asked_for_a_code_with_pkce_and_nothing_more() {
    let stand = Stand::new().await;
    stand.login().await;
    let asked = stand.provider.state.lock().unwrap().authorized.last().unwrap().clone();
    let get = |name: &str| asked[name].as_str();
    assert_eq!((get("response_type"), get("client_id")), ("code", "bz-cli"));
    assert_eq!((get("code_challenge_method"), get("scope")), ("S256", "openid email profile offline_access groups"));
    assert!(get("redirect_uri").starts_with("http://127.0.0.1:"), "{asked:?}");
    assert!(get("state").len() >= 20 && get("nonce").len() == 43, "{asked:?}");
}

async fn walk(stand: &Stand, how: Walk) -> Result<Login, LoginError> {
    Login::begin(&stand.server, &stand.trust, &LoginOptions::default(), &how).await
}

#[tokio::test]
async fn the_redirect_may_be_visited_or_pasted_and_strangers_do_not_disturb_it() {
    let stand = Stand::new().await;
    for how in [Walk::Visit, Walk::Paste, Walk::Disturbed] {
        walk(&stand, how).await.unwrap_or_else(|error| panic!("{how:?}: {error}"));
    }
}

#[tokio::test]
async fn a_redirect_of_another_login_is_refused() {
    let stand = Stand::new().await;
    let check = async |how, want: fn(&RedirectError) -> bool| match walk(&stand, how).await {
        Err(LoginError::Redirect(error)) if want(&error) => error.to_string(),
        other => panic!("{how:?}: {other:?}"),
    };
    check(Walk::WrongState, |error| *error == RedirectError::OtherLogin).await;
    check(Walk::OtherPage, |error| matches!(error, RedirectError::OtherAddress(_))).await;
    let refused = check(Walk::Refuse, |error| matches!(error, RedirectError::Refused(_))).await;
    assert!(refused.ends_with("access_denied not today"), "a stranger's words cannot steer the terminal: {refused:?}");
}

/// TRUST-4: what a target would refuse is refused at once, before the server hears of it.
#[tokio::test]
async fn a_token_that_no_target_would_take_ends_the_login() {
    let stand = Stand::new().await;
    let check = async |claims: Value, want: CertError| {
        stand.provider.state.lock().unwrap().claims = claims.clone();
        match walk(&stand, Walk::Visit).await {
            Err(LoginError::Certificate(error)) => assert_eq!(error, want, "{claims}"),
            other => panic!("{claims}: {other:?}"),
        }
        assert!(stand.rest.state.lock().unwrap().claims.is_empty(), "the server was told: {claims}");
    };
    check(json!({"nonce": "another"}), CertError::Commitment).await;
    check(json!({"org": "evil"}), CertError::Initial(TokenError::Organization)).await;
    check(json!({"aud": "another"}), CertError::Initial(TokenError::Audience)).await;
    check(json!({"iat": 5, "exp": 4_000_000_000_u64}), CertError::TooOld).await;
}

#[tokio::test]
async fn a_server_that_registers_somebody_else_is_caught() {
    let stand = Stand::new().await;
    stand.rest.state.lock().unwrap().registered = |answer| answer.user.subject = "mallory".to_owned();
    assert!(matches!(walk(&stand, Walk::Visit).await, Err(LoginError::Lie("person"))));
    stand.rest.state.lock().unwrap().registered =
        |answer| answer.user.organization_id = OrganizationId::from_bytes([1; 16]);
    assert!(matches!(walk(&stand, Walk::Visit).await, Err(LoginError::Lie("organization"))));
}

#[tokio::test]
async fn the_claim_code_goes_to_the_server_alone() {
    let stand = Stand::new().await;
    let options = LoginOptions { claim: Some(Secret::new("claim-me")), ..LoginOptions::default() };
    Login::begin(&stand.server, &stand.trust, &options, &Walk::Visit).await.unwrap();
    assert!(!format!("{options:?}").contains("claim-me"));
    assert_eq!(stand.rest.state.lock().unwrap().claims, [Some("claim-me".to_owned())]);
    let asked = format!("{:?}", stand.provider.state.lock().unwrap().authorized);
    assert!(!asked.contains("claim-me"), "{asked}");
}

#[tokio::test]
async fn secrets_are_in_no_debug() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    let login = client.login();
    let text = format!("{client:?} {login:?}");
    for secret in
        [hex::encode(*login.key().to_bytes()), login.current_token().reveal().to_owned(), "refresh-".to_owned()]
    {
        assert!(!text.contains(&secret), "{text}");
    }
}

#[tokio::test]
async fn a_stored_login_reads_back_whole() {
    let login = Stand::new().await.login().await;
    let text = login.to_text();
    let read = Login::from_text(&text).unwrap();
    assert_eq!(*read.to_text(), *text);
    assert_eq!(read.certificate().unwrap(), login.certificate().unwrap());
    for broken in
        ["", "{}", &text.replace("\"version\": 1", "\"version\": 2"), &text.replace("\"key\": \"", "\"key\": \"x")]
    {
        assert!(Login::from_text(broken).is_err(), "{broken}");
    }
}

/// TRUST-2: taking the bundle from the server is possible and says that it was.
#[tokio::test]
async fn the_bundle_may_come_from_the_server_at_first_use() {
    let stand = Stand::new().await;
    let trust = Trust::first_use(&stand.server).await.unwrap();
    assert_eq!((trust.bundle(), trust.source()), (stand.trust.bundle(), TrustSource::FirstUse));
    assert_eq!(stand.trust.source(), TrustSource::Given);
}

#[tokio::test]
async fn the_provider_is_named_where_several_fit() {
    let stand = Stand::new().await;
    let mut bundle = stand.trust.bundle().clone();
    let with = |bundle: &bz_core::trust::TrustBundle| Trust::given(bundle.clone()).unwrap();
    let mut ci = stand.provider.pinned();
    (ci.issuer, ci.commitment) = ("https://ci.example".to_owned(), Commitment::Audience);
    (ci.audiences, ci.domains) = (vec![], vec![]);
    ci.workloads = vec![Workload([("sub".to_owned(), "job".to_owned())].into_iter().collect())];
    bundle.providers.push(ci);
    assert_eq!(with(&bundle).login_provider(None).unwrap().issuer, stand.provider.issuer, "people log in at no CI");
    let mut second = stand.provider.pinned();
    second.issuer = "https://second.example".to_owned();
    bundle.providers.push(second);
    assert!(matches!(with(&bundle).login_provider(None), Err(TrustError::SeveralProviders(all)) if all.len() == 2));
    assert_eq!(with(&bundle).login_provider(Some("https://second.example")).unwrap().issuer, "https://second.example");
    assert!(matches!(with(&bundle).login_provider(Some("https://x.example")), Err(TrustError::NoProvider)));
}
