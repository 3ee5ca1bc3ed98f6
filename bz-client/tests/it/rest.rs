//! Calls: each proved, each error with what to do next.

use bz_client::RestError;
use bz_client::client::{Client, ConnectionFilter, FindError};
use bz_client::server::{Roots, Server, ServerError};
use bz_core::api::error::Code;
use serde_json::{Value, json};

use crate::stand::Stand;
use crate::stand::server::CONNECTION;

/// The method, path, query and body that the server sees are the ones that were signed.
#[tokio::test]
async fn every_call_is_proved() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    client.targets().await.unwrap();
    client.connections().await.unwrap();
    let filter = ConnectionFilter { user_email: Some("alice@example.com & co".to_owned()), with_ended: true };
    client.connections_where(&filter).await.unwrap();
    client.close(CONNECTION).await.unwrap();
    client.user_events(5).await.unwrap();
    client.logout().await.unwrap();
    let calls = stand.rest.calls();
    assert_eq!(
        calls,
        [
            "GET targets/bzero",
            "GET connections",
            "GET connections?userEmail=alice%40example.com+%26+co&connectionState=Open&connectionState=Pending\
             &connectionState=Closed&connectionState=Error",
            &format!("PATCH connections/{CONNECTION}/close"),
            "GET events/subject?eventCount=5",
            "POST users/logout",
        ]
    );
}

#[tokio::test]
async fn a_stranger_with_the_login_id_is_refused() {
    let stand = Stand::new().await;
    let (one, other) = (stand.login().await, stand.login().await);
    let mut stolen: Value = serde_json::from_str(&one.to_text()).unwrap();
    let thief: Value = serde_json::from_str(&other.to_text()).unwrap();
    stolen["key"] = thief["key"].clone();
    let login = bz_client::login::Login::from_text(&stolen.to_string()).unwrap();
    let error = Client::new(&stand.server, stand.trust.clone(), login).unwrap().targets().await.expect_err("a thief");
    assert_eq!(error.code(), Some(Code::NotLoggedIn));
}

#[tokio::test]
async fn the_servers_words_are_kept() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    let check = async |status, body: Value, code, words: &[&str]| {
        stand.rest.answer("GET targets/bzero", status, body);
        let error = client.targets().await.expect_err("an error status");
        assert_eq!(error.code(), Some(code), "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word:?} is missing: {error}");
        }
    };
    let body = |code: &str| json!({"errorMsg": "several fit", "errorType": "x", "code": code, "candidates": ["web.a", "web.b"]});
    check(409, body("ambiguous"), Code::Ambiguous, &["several fit", "web.a, web.b"]).await;
    check(
        400,
        json!({"errorMsg": "no", "errorType": "x", "errors": {"name": ["is empty"]}, "code": "badRequest"}),
        Code::BadRequest,
        &["name: is empty"],
    )
    .await;
    check(403, body("aCodeOfTheFuture"), Code::Internal, &["several fit"]).await;
    check(401, json!("a proxy's words"), Code::NotLoggedIn, &["log in again"]).await;
    check(403, json!({}), Code::Denied, &["not allowed"]).await;
    check(502, json!(null), Code::Internal, &["not running behind its proxy"]).await;
    check(302, json!(null), Code::Internal, &["redirects"]).await;
    stand.rest.answer("GET targets/bzero", 200, json!({"not": "a list"}));
    assert!(matches!(client.targets().await, Err(RestError::Answer(_))));
    stand.rest.answer("GET targets/bzero", 200, json!("x".repeat(1 << 20)));
    assert!(client.targets().await.expect_err("too large").to_string().contains("larger than 1 MiB"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let stand = Stand::new().await;
    let login = stand.login().await;
    let nobody = Server::new("http://127.0.0.1:1").unwrap();
    let error = Client::new(&nobody, stand.trust.clone(), login).unwrap().targets().await.expect_err("nobody is there");
    assert!(matches!(error, RestError::NoAnswer(_)), "{error:?}");
    assert!(error.to_string().starts_with("http://127.0.0.1:1 cannot be reached"), "{error}");
}

#[tokio::test]
async fn one_target_is_found_or_the_candidates_are_told() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    let target = |name: &str, environment: &str| {
        json!({"id": format!("00000000-0000-4000-8000-0000000000{:02}", environment.len()), "name": name, "status": "Online",
            "environmentId": "00000000-0000-4000-8000-000000000001", "environmentName": environment,
            "agentVersion": "1", "agentPublicKey": crate::stand::key(50).public(), "region": "self-hosted"})
    };
    stand.rest.answer(
        "GET targets/bzero",
        200,
        json!([target("web", "prod"), target("web", "test2"), target("db", "prod")]),
    );
    let find = async |name: &str| client.find_target(&name.parse().unwrap()).await;
    assert_eq!(find("web.prod").await.unwrap().environment_name, "prod");
    assert_eq!(find("00000000-0000-4000-8000-000000000005").await.unwrap().environment_name, "test2");
    assert!(matches!(find("cache").await, Err(FindError::None(_))));
    let several = find("web").await.expect_err("two of that name").to_string();
    assert!(several.contains("web.prod, web.test2"), "{several}");
}

#[test]
fn addresses_are_exact_or_refused() {
    for (text, shown) in [
        ("https://bz.example.com", "https://bz.example.com"),
        ("bz.example.com:8443", "https://bz.example.com:8443"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost"),
        ("http://[::1]:1", "http://[::1]:1"),
    ] {
        assert_eq!(Server::new(text).unwrap().to_string(), shown);
    }
    for plain in ["http://bz.example.com", "http://10.0.0.1", "http://localhost.evil.example"] {
        assert!(matches!(Server::new(plain), Err(ServerError::Plain(_))), "{plain}");
    }
    for no_server in
        ["", "ftp://x.example", "https://a:b@x.example", "https://x.example/path", "https://x.example?q", "https://"]
    {
        assert!(matches!(Server::new(no_server), Err(ServerError::Url(_))), "{no_server}");
    }
    let server = Server::new("https://x.example").unwrap();
    assert_eq!(server.clone().with_roots(Roots::Pins(Vec::new())), Err(ServerError::Pins(0)));
    assert_eq!(server.with_roots(Roots::Ca("no PEM".to_owned())), Err(ServerError::Ca));
}
