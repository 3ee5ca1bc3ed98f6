//! Keeping a login alive.

use std::time::Duration;

use bz_client::client::RefreshError;
use bz_client::login::{LoginError, ProviderFailed};
use serde_json::json;

use crate::stand::Stand;

#[tokio::test]
async fn a_refresh_is_due_after_three_quarters_of_the_life() {
    let login = Stand::new().await.login().await;
    let at = |minutes: u64| login.obtained_at().after(Duration::from_secs(60 * minutes));
    assert!(!login.is_refresh_due(at(44)) && login.is_refresh_due(at(46)), "{login:?}");
}

/// A refresh keeps the initial token and the key, replaces the current token, and tells the server.
#[tokio::test]
async fn a_due_refresh_happens_before_the_next_call_and_once() {
    let stand = Stand::new().await;
    stand.rest.state.lock().unwrap().life = Duration::ZERO;
    let client = stand.client().await;
    let before = client.login();
    stand.rest.state.lock().unwrap().life = Duration::from_secs(3600);
    // A second later in the provider's whole seconds, so that the tokens differ.
    stand.provider.state.lock().unwrap().claims = json!({"jti": "second"});
    let (one, two) = tokio::join!(client.targets(), client.environments());
    one.unwrap();
    two.unwrap();
    let after = client.login();
    assert_eq!(stand.provider.state.lock().unwrap().refreshed, 1);
    assert_eq!((after.id(), after.key().public()), (before.id(), before.key().public()));
    assert_ne!(after.current_token(), before.current_token());
    assert_ne!(after.certificate().unwrap(), before.certificate().unwrap());
    assert_eq!(stand.rest.state.lock().unwrap().claims.len(), 2, "the server registered the new certificate");
    let text = after.to_text();
    let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stored["initial_token"], json!(before.current_token().reveal()), "the first token stays");
    assert_eq!(stored["refresh_token"], "refresh-2", "the rotated refresh token is kept");
}

#[tokio::test]
async fn a_provider_without_a_new_id_token_means_logging_in_again() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    stand.provider.state.lock().unwrap().refresh_gives_id_token = false;
    let error = client.refresh().await.expect_err("no ID token came");
    assert!(matches!(error, RefreshError::Login(LoginError::Provider(ProviderFailed::NoIdToken))), "{error:?}");
    assert!(error.to_string().contains("log in again"), "{error}");
    client.targets().await.expect("the present token is good until it ends");
}

#[tokio::test]
async fn a_token_of_another_person_is_refused() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    stand.provider.state.lock().unwrap().claims = json!({"sub": "bob"});
    let error = client.refresh().await.expect_err("bob's token");
    assert!(matches!(error, RefreshError::Login(LoginError::OtherPerson)), "{error:?}");
}

#[tokio::test]
async fn a_spent_refresh_token_is_told_as_the_provider_tells_it() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    stand.provider.state.lock().unwrap().refresh = 7;
    let error = client.refresh().await.expect_err("the token is spent");
    assert!(error.to_string().contains("invalid_grant"), "{error}");
}

/// What was refreshed and not registered lasts no longer than before, so that the next attempt is not put off.
#[tokio::test]
async fn a_refresh_that_the_server_did_not_register_is_tried_again() {
    let stand = Stand::new().await;
    stand.rest.state.lock().unwrap().life = Duration::from_secs(60);
    let client = stand.client().await;
    let before = client.login();
    stand.rest.state.lock().unwrap().registered = |answer| answer.user.subject = "mallory".to_owned();
    let error = client.refresh().await.expect_err("the server registered somebody else");
    assert!(matches!(error, RefreshError::Login(LoginError::Lie("person"))), "{error:?}");
    assert_eq!(client.login().expires_at(), before.expires_at());
    stand.rest.state.lock().unwrap().registered = |_| {};
    stand.rest.state.lock().unwrap().life = Duration::from_secs(3600);
    client.refresh().await.expect("the rotated refresh token was kept");
    assert!(client.login().expires_at() > before.expires_at());
}
