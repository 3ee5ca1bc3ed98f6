//! What a person reads when a login or a server is not what it should be: every line that `bz` prints, as it prints it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use bz_client::Refused;
use bz_client::login::{Login, LoginOptions};
use bz_client::pins::{KnownAgents as _, KnownAgentsFile, Pin};
use bz_core::access::{Mode, Verb};
use bz_core::api::proof::WINDOW;
use bz_core::digest::Digest;
use bz_core::grant::Purpose;
use bz_core::id::TargetId;
use bz_core::oidc::MAX_TOKEN;
use bz_core::time::UnixTime;
use expect_test::expect;
use serde_json::{Value, json};

use crate::idp::Idp;
use crate::program::{logged_in, run, text};
use crate::stand::provider::key as provider_key;
use crate::stand::server::{Change, TARGET, now, signed};
use crate::stand::{Stand, Walk, key, root};

/// F-049~: a server whose answer or grant is for something else than was asked, or signed by somebody else: nothing is
/// opened, and the person is told what does not fit.
#[tokio::test]
async fn a_grant_for_something_else_is_told() {
    let (stand, config) = logged_in().await;
    let lies: [(&str, Change); 16] = [
        ("another target", |made, _| made.target_name = "db".to_owned()),
        ("another environment", |made, _| made.environment_name = "test".to_owned()),
        ("another user", |made, _| made.target_user = "root".parse().ok()),
        ("another mode", |made, _| made.mode = Mode::Sealed),
        ("another verb", |made, _| made.verb_type = Verb::Tunnel),
        ("no grant", |made, _| made.grant = bz_core::api::Bytes(vec![7; 9])),
        ("a grant for another agent", |_, grant| grant.agent_key = key(51).public()),
        ("a grant for another key", |_, grant| grant.client_key = key(51).public()),
        ("a grant for another person", |_, grant| grant.person.subject = "bob".to_owned()),
        ("a grant for another user", |_, grant| grant.user = "root".parse().ok()),
        ("a grant for another verb", |_, grant| grant.verb = Verb::Tunnel),
        ("a grant for another mode", |_, grant| grant.mode = Mode::Sealed),
        ("a grant for another command", |_, grant| grant.request = Digest::of(b"reboot")),
        ("a grant of yesterday", |_, grant| grant.not_after = UnixTime::from_secs(1)),
        ("a grant under another root", |made, grant| made.grant = signed(grant, &key(77), Purpose::Grant)),
        ("a grant by a key for records", |made, grant| made.grant = signed(grant, &root(), Purpose::Record)),
    ];
    let mut told = String::new();
    for (what, lie) in lies {
        stand.rest.lie(lie);
        let output = run(config.path(), &["exec", "deploy@web.prod", "--", "uptime"]).await;
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{what}: {output:?}");
        write!(told, "{what}:\n  {}", text(&output.stderr)).unwrap();
    }
    expect![[r#"
        another target:
          bz: the server answers for another target than asked: web was asked, db came. Nothing was opened; tell your administrator: the server may be lying
        another environment:
          bz: the server answers for another environment than asked: prod was asked, test came. Nothing was opened; tell your administrator: the server may be lying
        another user:
          bz: the server answers for another target user than asked: deploy was asked, root came. Nothing was opened; tell your administrator: the server may be lying
        another mode:
          bz: the server answers for another mode than asked: inspected was asked, sealed came. Nothing was opened; tell your administrator: the server may be lying
        another verb:
          bz: the server answers for another verb than asked: Shell was asked, Tunnel came. Nothing was opened; tell your administrator: the server may be lying
        no grant:
          bz: the server's grant is no grant. Nothing was opened; tell your administrator: the server may be lying
        a grant for another agent:
          bz: the server's grant is for another agent key than its answer says. Nothing was opened; tell your administrator: the server may be lying
        a grant for another key:
          bz: the server's grant is for another client key than its answer says. Nothing was opened; tell your administrator: the server may be lying
        a grant for another person:
          bz: the server's grant is for another person than its answer says. Nothing was opened; tell your administrator: the server may be lying
        a grant for another user:
          bz: the server's grant is for another target user than its answer says. Nothing was opened; tell your administrator: the server may be lying
        a grant for another verb:
          bz: the server's grant is for another verb than its answer says. Nothing was opened; tell your administrator: the server may be lying
        a grant for another mode:
          bz: the server's grant is for another mode than its answer says. Nothing was opened; tell your administrator: the server may be lying
        a grant for another command:
          bz: the server's grant is for another request than its answer says. Nothing was opened; tell your administrator: the server may be lying
        a grant of yesterday:
          bz: the server's grant is refused: the grant has expired: ask again. Nothing was opened; `bz doctor` checks clock and trust bundle
        a grant under another root:
          bz: the server's grant is refused: the server's certificate is signed by no pinned root. Nothing was opened; `bz doctor` checks clock and trust bundle
        a grant by a key for records:
          bz: the server's grant is refused: the server's key is certified for another purpose. Nothing was opened; `bz doctor` checks clock and trust bundle
    "#]].assert_eq(&told);
}

/// Another key or another target behind a name that is known: told with what to compare, and where.
#[tokio::test]
async fn another_agent_behind_a_known_name_is_told() {
    let (_stand, config) = logged_in().await;
    let known = KnownAgentsFile::new(config.path().join("default/known-agents.toml"));
    let met = |agent_key: u8, target| Pin {
        agent_key: key(agent_key).public().fingerprint(),
        target: Some(target),
        serial: 0,
    };
    known.keep("web", &met(51, TARGET)).unwrap();
    known.keep("db", &met(50, TargetId::from_bytes([8; 16]))).unwrap();
    let mut told = String::new();
    for name in ["web", "db"] {
        let output = run(config.path(), &["exec", name, "--", "uptime"]).await;
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        told.push_str(&text(&output.stderr));
    }
    expect![[r#"
        bz: web is behind another key than before: was 38d56d7f720b613f6a191adfa0c5b4eab873d1a727ae6586dac03e2f7536bfe0, is d28965d2570c2660fa61bfcf34d1899bbe214d23af637a768741fd2c989813bb. Somebody may be in between. If the host was set up anew, run `bz target trust web d28965d2570c2660fa61bfcf34d1899bbe214d23af637a768741fd2c989813bb`, with the fingerprint read on the host itself
        bz: db is behind another target than before: was 08080808-0808-0808-0808-080808080808, is 01010101-0101-0101-0101-010101010101. Somebody may be in between. If the host was set up anew, run `bz target trust db d28965d2570c2660fa61bfcf34d1899bbe214d23af637a768741fd2c989813bb`, with the fingerprint read on the host itself
    "#]].assert_eq(&told);
}

type Token = (&'static str, fn() -> Value, fn(&Value) -> String);

/// What is wrong with a token, its claims, and how it is made of them.
const TOKENS: &[Token] = &[
    (
        "no algorithm",
        || json!({}),
        |c| raw(r#"{"alg":"none","kid":"k1"}"#, c).rsplit_once('.').unwrap().0.to_owned() + ".",
    ),
    ("no algorithm, but a signature", || json!({}), |c| raw(r#"{"alg":"none","kid":"k1"}"#, c)),
    ("HS256 with the public key", || json!({}), hs256),
    ("another provider's key", || json!({}), |c| Idp::new(2, "k2").token(c)),
    ("another key by the same name", || json!({}), |c| Idp::new(2, "k1").token(c)),
    ("expired", || json!({"iat": ago(7200), "exp": ago(3600)}), good),
    ("expired as long ago as a clock may be wrong", || json!({"iat": ago(3600), "exp": ago(61)}), good),
    ("of the future", || json!({"iat": now().as_secs() + 120, "exp": now().as_secs() + 3600}), good),
    ("of another client", || json!({"aud": "console"}), good),
    ("of another organization", || json!({"org": "evil"}), good),
    ("of no organization", || json!({"org": ""}), good),
    ("with another login's nonce", || json!({"nonce": "another"}), good),
    ("oversized", || json!({"more": "x".repeat(MAX_TOKEN)}), good),
    (
        "nested deeply",
        || json!({}),
        |c| {
            let deep = c.to_string().replacen('{', &format!(r#"{{"x":{}{},"#, "[".repeat(99), "]".repeat(99)), 1);
            provider_key().raw(r#"{"alg":"ES256","kid":"k1"}"#, deep.as_bytes())
        },
    ),
    (
        "a token within a token",
        || json!({}),
        |c| provider_key().raw(r#"{"alg":"ES256","kid":"k1","cty":"JWT"}"#, provider_key().token(c).as_bytes()),
    ),
];

fn good(claims: &Value) -> String {
    provider_key().token(claims)
}

fn ago(seconds: u64) -> Value {
    json!(now().as_secs() - seconds)
}

/// TRUST-4, TRUST-5: a provider whose token proves nothing: the login ends, the server hears nothing of it, and the
/// person is told why.
#[tokio::test]
async fn a_token_that_proves_nothing_is_told() {
    let stand = Stand::new().await;
    let mut told = String::new();
    for (what, claims, forge) in TOKENS {
        {
            let mut state = stand.provider.state.lock().unwrap();
            (state.claims, state.forge) = (claims(), *forge);
        }
        let login = Login::begin(&stand.server, &stand.trust, &LoginOptions::default(), &Walk::Visit).await;
        writeln!(told, "{what}:\n  {}", login.expect_err(what)).unwrap();
        assert!(stand.rest.state.lock().unwrap().claims.is_empty(), "the server was told: {what}");
    }
    expect![[r#"
        no algorithm:
          no target would accept this login: the login's token is refused: the token's algorithm is not allowed. Log in again; when that does not help, ask `bz doctor`
        no algorithm, but a signature:
          no target would accept this login: the login's token is refused: the token's algorithm is not allowed. Log in again; when that does not help, ask `bz doctor`
        HS256 with the public key:
          no target would accept this login: the login's token is refused: the token's algorithm is not allowed. Log in again; when that does not help, ask `bz doctor`
        another provider's key:
          no target would accept this login: the login's token is refused: the token is signed by a key the issuer does not publish. Log in again; when that does not help, ask `bz doctor`
        another key by the same name:
          no target would accept this login: the login's token is refused: the token's signature does not verify. Log in again; when that does not help, ask `bz doctor`
        expired:
          no target would accept this login: the current token is refused: the token has expired. Log in again; when that does not help, ask `bz doctor`
        expired as long ago as a clock may be wrong:
          no target would accept this login: the current token is refused: the token has expired. Log in again; when that does not help, ask `bz doctor`
        of the future:
          no target would accept this login: the login's token is refused: the token is issued in the future: check the clock. Log in again; when that does not help, ask `bz doctor`
        of another client:
          no target would accept this login: the login's token is refused: the token is made for another audience. Log in again; when that does not help, ask `bz doctor`
        of another organization:
          no target would accept this login: the login's token is refused: the token is of another organization. Log in again; when that does not help, ask `bz doctor`
        of no organization:
          no target would accept this login: the login's token is refused: the token is of another organization. Log in again; when that does not help, ask `bz doctor`
        with another login's nonce:
          no target would accept this login: the login's token is bound to another key. Log in again; when that does not help, ask `bz doctor`
        oversized:
          the identity provider's tokens are too large: at most 33792 bytes: its administrator must put less into them
        nested deeply:
          no target would accept this login: the login's token is refused: the token is malformed. Log in again; when that does not help, ask `bz doctor`
        a token within a token:
          the identity provider's answer is not understood: it is malformed. Log in again; when that does not help, tell your administrator
    "#]].assert_eq(&told);
}

/// TRUST-7: the same for a refreshed token, which no longer needs the nonce.
#[tokio::test]
async fn a_refreshed_token_that_proves_nothing_is_told() {
    let stand = Stand::new().await;
    let mut told = String::new();
    for (what, claims) in [
        ("of another person", json!({"sub": "bob"})),
        ("of another organization", json!({"org": "evil"})),
        ("older than the last", json!({"iat": now().as_secs() - 600})),
        ("expired", json!({"exp": now().as_secs() - 61, "iat": now().as_secs() - 600})),
    ] {
        stand.provider.state.lock().unwrap().claims = json!({});
        let client = stand.client().await;
        stand.provider.state.lock().unwrap().claims = claims;
        let refused = client.refresh().await.expect_err(what);
        writeln!(told, "{what}:\n  {refused}").unwrap();
    }
    expect![[r#"
        of another person:
          the refreshed token is of another person: log in again
        of another organization:
          the refreshed token is refused: the token is of another organization. Log in again; when that does not help, ask `bz doctor`
        older than the last:
          the server refuses the login: an older token than one already used (log in again)
        expired:
          the refreshed token is refused: the token has expired. Log in again; when that does not help, ask `bz doctor`
    "#]].assert_eq(&told);
}

/// A clock that is wrong by more than a call may be old is told as that, to the second, and not as a login to repeat.
#[test]
fn a_wrong_clock_is_told() {
    let told = |clock_ahead| {
        let body = json!({"errorMsg": "the call's time is not the server's", "errorType": "", "code": "notLoggedIn"});
        let body = serde_json::from_value(body).unwrap();
        Refused { server: "https://bz.example.com".to_owned(), status: 401, body, clock_ahead }.to_string()
    };
    let limit = i64::try_from(WINDOW.as_secs()).unwrap();
    let said = [None, Some(limit), Some(limit + 1), Some(-limit), Some(-limit - 1)].map(told).join("\n");
    expect![[r#"
        the call's time is not the server's (log in again)
        the call's time is not the server's (log in again)
        the call's time is not the server's (this clock is 121 s ahead of the server's: set it, then try again)
        the call's time is not the server's (log in again)
        the call's time is not the server's (this clock is 121 s behind the server's: set it, then try again)"#]]
    .assert_eq(&said);
}

/// A provider that knows one redirect only, and another program that has its port.
#[tokio::test]
async fn a_taken_port_is_told() {
    let stand = Stand::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = LoginOptions { port: Some(port), ..LoginOptions::default() };
    let told = Login::begin(&stand.server, &stand.trust, &options, &Walk::Visit).await.unwrap_err().to_string();
    let start = format!("the login cannot listen on 127.0.0.1:{port}: ");
    assert!(told.starts_with(&start), "{told}");
    assert!(told.ends_with("End the program that has it, or give another --callback-port"), "{told}");
}

fn raw(header: &str, claims: &Value) -> String {
    provider_key().raw(header, claims.to_string().as_bytes())
}

/// A MAC whose secret is what everybody knows: the key as the provider publishes it.
fn hs256(claims: &Value) -> String {
    let signed = format!("{}.{}", B64.encode(r#"{"alg":"HS256","kid":"k1"}"#), B64.encode(claims.to_string()));
    let secret = *Digest::of(provider_key().jwk().to_string().as_bytes()).as_bytes();
    let pad = |byte: u8| [secret.map(|b| b ^ byte).as_slice(), &[byte; 32]].concat();
    let inner = Digest::of(&[pad(0x36), signed.clone().into_bytes()].concat());
    let mac = Digest::of(&[pad(0x5c), inner.as_bytes().to_vec()].concat());
    format!("{signed}.{}", B64.encode(mac.as_bytes()))
}
