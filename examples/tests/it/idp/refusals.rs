//! Requests that must be refused, each with the answer that the specifications name.

use bz_examples::browser::loopback_client;
use bz_examples::idp::DevIdp;
use serde_json::Value;
use url::Url;

use super::{code, config};
use crate::relying_party::{CLIENT_ID, REDIRECT_URI, parameter};

/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

#[tokio::test]
async fn authorization_requests() {
    let idp = DevIdp::start(config()).await.unwrap();
    let error = Expected::Error;
    for (name, value, expected) in [
        ("client_id", Some("stranger"), Expected::Page),
        ("client_id", None, Expected::Page),
        ("redirect_uri", None, Expected::Page),
        ("redirect_uri", Some("https://app.example.com/callback"), Expected::Page),
        ("redirect_uri", Some("http://127.0.0.1.example.com/callback"), Expected::Page),
        ("redirect_uri", Some("http://localhost.example.com/callback"), Expected::Page),
        ("redirect_uri", Some("http://user@127.0.0.1:1/callback"), Expected::Page),
        ("redirect_uri", Some("http://127.0.0.1:1/callback#part"), Expected::Page),
        ("redirect_uri", Some("http://0.0.0.0:1/callback"), Expected::Page),
        ("redirect_uri", Some("bz://127.0.0.1/callback"), Expected::Page),
        ("redirect_uri", Some("javascript:alert(1)"), Expected::Page),
        ("response_type", Some("token"), error("unsupported_response_type")),
        ("response_type", None, error("invalid_request")),
        ("response_mode", Some("fragment"), error("invalid_request")),
        ("scope", Some("email"), error("invalid_scope")),
        ("code_challenge", None, error("invalid_request")),
        ("code_challenge", Some("short"), error("invalid_request")),
        ("code_challenge_method", Some("plain"), error("invalid_request")),
        ("code_challenge_method", None, error("invalid_request")),
        ("prompt", Some("create"), error("invalid_request")),
        ("request", Some("e30.e30."), error("request_not_supported")),
        ("request_uri", Some("https://app.example.com/r"), error("request_uri_not_supported")),
        // The other way round: these must pass, or the table proves nothing.
        ("redirect_uri", Some("http://localhost:9/any/path?with=query"), Expected::Login),
        ("redirect_uri", Some("http://[::1]:9/"), Expected::Login),
        ("redirect_uri", Some("https://127.0.0.1:8443/auth/callback"), Expected::Login),
        ("scope", Some("openid unknown"), Expected::Login),
        ("nonce", None, Expected::Login),
    ] {
        let seen = answer_to(&authorization_url(&idp, name, value)).await;
        assert_eq!(seen, expected, "with {name} = {value:?}");
    }
}

#[tokio::test]
async fn a_parameter_given_twice() {
    let idp = DevIdp::start(config()).await.unwrap();
    let mut url = authorization_url(&idp, "", None);
    url.query_pairs_mut().append_pair("state", "other");
    assert_eq!(answer_to(&url).await, Expected::Page);
}

#[tokio::test]
async fn token_requests() {
    let idp = DevIdp::start(config()).await.unwrap();
    for (name, value, expected) in [
        ("grant_type", Some("password"), (400, "unsupported_grant_type")),
        ("grant_type", None, (400, "invalid_request")),
        ("client_id", Some("stranger"), (401, "invalid_client")),
        ("client_id", None, (401, "invalid_client")),
        ("client_secret", Some("s"), (401, "invalid_client")),
        ("code", Some("x"), (400, "invalid_grant")),
        ("code", Some("x.y"), (400, "invalid_grant")),
        ("code", None, (400, "invalid_request")),
        ("code_verifier", Some("wrong"), (400, "invalid_grant")),
        ("code_verifier", Some(CHALLENGE), (400, "invalid_grant")),
        ("code_verifier", None, (400, "invalid_request")),
        ("redirect_uri", Some("http://127.0.0.1:54322/callback"), (400, "invalid_grant")),
        ("redirect_uri", None, (400, "invalid_request")),
        ("nothing", None, (200, "")),
    ] {
        let mut form = token_form(&code(&authorization_url(&idp, "", None), "alice").await);
        set(&mut form, name, value);
        let response = post(&idp, "token", &form).await;
        assert_eq!(response.headers()["cache-control"], "no-store", "tokens must not be cached");
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        let error = body["error"].as_str().unwrap_or_default();
        assert_eq!((status, error), expected, "with {name} = {value:?}: {body}");
    }
}

#[tokio::test]
async fn a_code_of_another_client() {
    let mut config = config();
    config.client_ids.push("console".to_owned());
    let idp = DevIdp::start(config).await.unwrap();
    let mut form = token_form(&code(&authorization_url(&idp, "", None), "alice").await);
    set(&mut form, "client_id", Some("console"));
    let body: Value = post(&idp, "token", &form).await.json().await.unwrap();
    assert_eq!(body["error"], "invalid_grant");
}

#[tokio::test]
async fn a_login_page_sent_twice_or_canceled() {
    let idp = DevIdp::start(config()).await.unwrap();
    for (decision, parameter_expected) in [("allow", "code"), ("deny", "error")] {
        let url = authorization_url(&idp, "", None);
        let page = loopback_client().unwrap().get(url).send().await.unwrap().text().await.unwrap();
        let transaction = page.split("name=\"transaction\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        let form = vec![("transaction", transaction), ("user", "alice"), ("decision", decision)];
        let form: Vec<(String, String)> = form.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let first = post(&idp, "login", &form).await;
        let redirect = Url::parse(first.headers()["location"].to_str().unwrap()).unwrap();
        assert!(parameter(&redirect, parameter_expected).is_some(), "{redirect}");
        assert_eq!(parameter(&redirect, "state").as_deref(), Some("the state"), "{redirect}");
        assert_eq!(post(&idp, "login", &form).await.status(), 400, "the same page again");
    }
}

#[tokio::test]
async fn a_body_without_end() {
    let idp = DevIdp::start(config()).await.unwrap();
    for path in ["authorize", "login", "token"] {
        let form = vec![("client_id".to_owned(), "x".repeat(1 << 20))];
        assert_eq!(post(&idp, path, &form).await.status(), 413, "{path}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_the_issuer() {
    let idp = DevIdp::start(config()).await.unwrap();
    let url = authorization_url(&idp, "", None);
    let request = loopback_client().unwrap().get(url).header("host", "rebound.example.com");
    assert_eq!(request.send().await.unwrap().status(), 421);
}

#[tokio::test]
async fn markup_in_every_text_that_a_page_repeats() {
    let idp = DevIdp::start(config()).await.unwrap();
    let markup = "\"'><script>alert(1)</script>&amp;";
    let mut pages = Vec::new();
    for name in ["login_hint", "client_id", "redirect_uri"] {
        let url = authorization_url(&idp, name, Some(markup));
        pages.push(loopback_client().unwrap().get(url).send().await.unwrap().text().await.unwrap());
    }
    let url = authorization_url(&idp, "", None);
    pages.push(
        loopback_client()
            .unwrap()
            .get(format!("{url}&{0}=1&{0}=1", "%3Cscript%3E"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
    );
    assert!(pages[0].contains("&#60;script&#62;"), "the hint is shown, escaped: {}", pages[0]);
    for page in pages {
        assert!(page.contains("DEVELOPMENT IDENTITY PROVIDER"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }
}

#[derive(Debug, PartialEq)]
enum Expected {
    /// An error page: the client must hear nothing.
    Page,
    /// A redirect to the client with this error.
    Error(&'static str),
    /// The login page.
    Login,
}

async fn answer_to(url: &Url) -> Expected {
    let response = loopback_client().unwrap().get(url.clone()).send().await.unwrap();
    match response.status().as_u16() {
        400 => Expected::Page,
        200 => Expected::Login,
        303 => {
            let redirect = Url::parse(response.headers()["location"].to_str().unwrap()).unwrap();
            assert_eq!(parameter(&redirect, "state").as_deref(), Some("the state"), "{redirect}");
            Expected::Error(parameter(&redirect, "error").unwrap().leak())
        }
        other => panic!("status {other}"),
    }
}

/// A good request with one parameter set or taken away.
fn authorization_url(idp: &DevIdp, name: &str, value: Option<&str>) -> Url {
    let mut pairs = [
        ("client_id", CLIENT_ID),
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("scope", "openid offline_access"),
        ("state", "the state"),
        ("nonce", "n"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    set(&mut pairs, name, value);
    let mut url = idp.issuer().join("authorize").unwrap();
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

fn token_form(code: &str) -> Vec<(String, String)> {
    let pairs = [
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT_ID),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
        ("code", code),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

fn set(pairs: &mut Vec<(String, String)>, name: &str, value: Option<&str>) {
    pairs.retain(|(found, _)| found != name);
    pairs.extend(value.map(|value| (name.to_owned(), value.to_owned())));
}

async fn post(idp: &DevIdp, path: &str, form: &[(String, String)]) -> reqwest::Response {
    let url = idp.issuer().join(path).unwrap();
    loopback_client().unwrap().post(url).form(form).send().await.unwrap()
}
