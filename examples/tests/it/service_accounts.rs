//! A program that logs in by itself, at a real agent whose owner pinned where its keys are.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::client::Client;
use bz_client::login::{Login, ServiceIdentity};
use bz_client::session::SessionError;
use bz_core::access::Verb;
use bz_core::access::request::Parameters;
use bz_core::api::policy::{PolicyTarget, Subject, SubjectType, TargetConnectContent};
use bz_core::api::service_account::NewServiceAccount;
use bz_core::api::target::TargetUserName;
use bz_core::id::TargetId;
use bz_core::oidc::service::JwksPattern;
use bz_core::target::UserRule;
use bz_core::totp::TotpSecret;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::driver::{Clock, SystemClock};
use bz_protocol::frame::Fin;
use bz_protocol::session::End;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::json;

use crate::logged::Logged;
use crate::session::ended;

/// F-049, F-082~: a service account runs a command at a target that pins its address. What server and account agree on
/// alone, an account elsewhere than the owner pinned, starts nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_who_the_targets_owner_pinned() {
    let _logged = Logged::here();
    let (host, keys) = published().await;
    let pattern = format!("http://{host}/pinned-*.json");
    let (folder, user) = (tempfile::tempdir().unwrap(), User::current().unwrap().name);
    let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
    let pinned = vec![JwksPattern(pattern.clone())];
    let settings = |config: &mut bz_server::config::Config| config.service_accounts = pinned;
    let world = World::start_with(folder.path(), helper, (&user, Way::Ws), settings).await.unwrap();
    let target = world.client.find_target(&TARGET.parse().unwrap()).await.unwrap().id;
    let run = async |name: &str, pattern: &str| {
        let credentials = json!({
            "client_id": name, "client_email": format!("{name}@ci.example"), "private_key_id": "k1",
            "private_key": keys.serialize_pem(), "token_uri": "",
            "jwksURL": format!("http://{host}/{name}.json"), "jwksURLPattern": pattern,
        });
        let identity = ServiceIdentity::parse(&credentials.to_string()).unwrap();
        let client = logged_in(&world, &identity, (target, &user)).await;
        let command = Parameters::Exec { command: "exit 7".to_owned() };
        let asked = client.ask(&format!("{user}@{TARGET}").parse().unwrap(), command, None).await.unwrap();
        client.session(asked).await
    };
    let mut session = run("pinned-ci", &pattern).await.unwrap();
    let (_, end) = ended(&mut session).await;
    assert!(matches!(end, End::Completed(Fin::Exited(7))), "{end:?}");
    let elsewhere = run("other", &format!("http://{host}/other.json")).await;
    assert!(matches!(elsewhere, Err(SessionError::Ended { .. })), "{:?}", elsewhere.map(|_| ()));
    world.stop().await;
}

/// Makes the account, lets it have shells, and logs it in.
async fn logged_in(world: &World, identity: &ServiceIdentity, (target, user): (TargetId, &str)) -> Client {
    let new = NewServiceAccount {
        email: identity.email.clone(),
        jwks_url: identity.jwks_url.clone(),
        jwks_url_pattern: identity.jwks_url_pattern.clone(),
        external_id: identity.external_id.clone(),
    };
    let made = world.client.create_service_account(&new).await.unwrap();
    let policy = TargetConnectContent {
        name: format!("shells for {}", identity.email),
        subjects: vec![Subject { id: made.service_account_summary.id, kind: SubjectType::ServiceAccount }],
        targets: vec![PolicyTarget { id: target, kind: "Bzero".to_owned() }],
        target_users: vec![TargetUserName { user_name: UserRule::Literal(user.parse().unwrap()) }],
        verbs: vec![Verb::Shell],
        ..TargetConnectContent::default()
    };
    world.client.create_policy(&policy).await.unwrap();
    let secret: TotpSecret = made.mfa_secret.parse().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (server, trust) = (world.client.server(), world.client.trust());
    let login = Login::begin_service_account(server, trust, (identity, &secret), &clock).await.unwrap();
    world.client_of(login).unwrap()
}

/// A key, and a server that publishes it at every address.
async fn published() -> (String, KeyPair) {
    let keys = KeyPair::generate().unwrap();
    let point = keys.der_bytes();
    let coordinate = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
    let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "x": coordinate(1), "y": coordinate(33)});
    let set = json!({"keys": [jwk]}).to_string();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let app = Router::new().route("/{name}", get(move || async move { set }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (host, keys)
}
