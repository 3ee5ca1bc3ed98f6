//! `/service-accounts`: made, logged in by two roots, subjects of policies, and what none of them may do.

use bz_core::access::request::{MAX_REQUEST, Parameters};
use bz_core::access::upstream::KubeRequest;
use bz_core::api::Bytes;
use bz_core::api::access::ConnectionMade;
use bz_core::api::error::Code;
use bz_core::api::login::Registered;
use bz_core::api::service_account::{LoginServiceAccount, ServiceAccount, ServiceAccountMade};
use bz_core::cert::CertRequest;
use bz_core::grant::{MAX_GRANT, SignedGrant};
use bz_core::id::LoginId;
use bz_core::key::PrivateKey;
use bz_core::oidc::service;
use bz_core::totp::{STEP_SECONDS, TotpSecret, step};
use bz_core::wire;
use bz_server::api::{OPERATIONS, ProofOf};
use bz_server::seam::links::Asked;
use serde_json::{Value, json};

use crate::world::{As, Client, Reply, World};

const KEYS: &str = "https://ci.example/keys/deployer.json";
const PATTERN: &str = "https://ci.example/keys/*.json";

/// F-082~: an account logs in by its own signature and a code, is a subject of a policy, and is named in grant and logs.
#[tokio::test]
async fn a_service_account_proves_itself_by_two_roots() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (account, secret) = made(&world, &admin).await;
    let robot = robot(&world, |_| ());
    let good = code(&world, &secret);
    login(&world, &robot, "000000").await.refused(Code::MfaCode);
    world.get(As::Client(&robot), "/service-accounts/me").await.refused(Code::MfaNeeded);
    assert_eq!(login(&world, &robot, &good).await.ok::<Registered>().user.email, account.email);
    login(&world, &robot, &good).await.refused(Code::MfaUsed);
    for change in [
        (|c| c["sub"] = json!("another")) as fn(&mut Value),
        |c| c["org_id"] = json!("another"),
        |c| c["aud"] = json!("bz-cli"),
        |c| c["nonce"] = json!("another"),
        |c| c["iss"] = json!("jwks:https://ci.example/keys/other.json"),
        |c| c["iss"] = json!("https://ci.example/keys/deployer.json"),
    ] {
        let stranger = self::robot(&world, change);
        login(&world, &stranger, &good).await.refused(Code::NotLoggedIn);
        // Nor does anybody come in by the door of people.
        world.register(&stranger, &stranger.initial, None).await.refused(Code::NotLoggedIn);
    }
    world.register(&self::robot(&world, |_| ()), &robot.initial, None).await.refused(Code::NotLoggedIn);

    let web = world.agent(&admin, "web").await;
    let ask = json!({"targetName": "web"});
    let connect = || world.call(As::Client(&robot), "POST", "/connections/universal", &ask);
    let policy = |kind: &str| {
        json!({
            "name": format!("for {kind}"), "verbs": [{"type": "Shell"}], "targetUsers": [{"userName": "deploy"}],
            "subjects": [{"id": account.id, "type": kind}], "targets": [{"id": web.id, "type": "Bzero"}],
        })
    };
    let add = async |kind| world.call(As::Client(&admin), "POST", "/policies/target-connect", &policy(kind)).await;
    add("User").await.done();
    connect().await.refused(Code::Denied);
    add("ServiceAccount").await.done();
    let made: ConnectionMade = connect().await.ok();
    let signed: SignedGrant = wire::decode(&made.grant.0, MAX_GRANT).unwrap();
    let key = world.app.online_keys().unwrap().grant.key.public();
    let grant = signed.grant.open(&key, world.app.organization).unwrap();
    assert_eq!((grant.person.issuer, grant.person.subject), (service::issuer(KEYS), "robot-7".to_owned()));
    assert_eq!(grant.mfa.map(|mfa| mfa.method), Some("totp".to_owned()));
    let log = world.get(As::Client(&admin), "/events/connection").await.ok::<Vec<Value>>();
    assert_eq!((&log[0]["subjectType"], &log[0]["subjectName"]), (&json!("ServiceAccount"), &json!("ci@ci.example")));
    assert_eq!(world.get(As::Client(&admin), "/users").await.ok::<Vec<Value>>().len(), 1, "it is no person");
}

/// F-105~: recording policies follow service accounts, too.
#[tokio::test]
async fn a_service_accounts_sessions_are_recorded() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (account, secret) = made(&world, &admin).await;
    let robot = robot(&world, |_| ());
    login(&world, &robot, &code(&world, &secret)).await.done();
    let web = world.agent(&admin, "web").await;
    let subjects = json!([{"id": account.id, "type": "ServiceAccount"}]);
    let access = json!({
        "name": "access", "verbs": [{"type": "Shell"}], "targetUsers": [{"userName": "deploy"}],
        "subjects": subjects, "targets": [{"id": web.id, "type": "Bzero"}],
    });
    world.call(As::Client(&admin), "POST", "/policies/target-connect", &access).await.done();
    assert!(!world.connect(&robot, &web).await.recorded);
    let recording = json!({"name": "recording", "subjects": subjects});
    world.call(As::Client(&admin), "POST", "/policies/session-recording", &recording).await.done();
    assert!(world.connect(&robot, &web).await.recorded);
}

/// F-096~: a service account is a subject of policies about clusters beside people, and enters as what its own policy says.
#[tokio::test]
async fn a_cluster_is_entered_by_service_accounts_and_people() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let (account, secret) = made(&world, &admin).await;
    let robot = robot(&world, |_| ());
    login(&world, &robot, &code(&world, &secret)).await.done();
    let web = world.agent(&admin, "web").await;
    let new = json!({"name": "prod", "proxyTargetId": web.id});
    let cluster: Value = world.call(As::Client(&admin), "POST", "/targets/kube", &new).await.ok();
    let parameters = |user: &str| Parameters::Kube(KubeRequest { user: user.to_owned(), groups: vec![] });
    let ask = async |who: &Client, user: &str| {
        let bytes = serde_json::to_value(Bytes(wire::encode(&parameters(user), MAX_REQUEST).unwrap())).unwrap();
        let body = json!({"targetName": "prod", "parameters": bytes});
        world.call(As::Client(who), "POST", "/connections/universal", &body).await
    };
    let account = json!([{"id": account.id, "type": "ServiceAccount"}]);
    let person = json!([{"id": world.id_of(&alice).await, "type": "User"}]);
    for (user, field, value, who, other) in
        [("robots", "subjects", account, &robot, &alice), ("people", "subjects", person, &alice, &robot)]
    {
        let mut policy =
            json!({"name": user, "clusters": [{"id": cluster["targetId"]}], "clusterUsers": [{"name": user}]});
        policy[field] = value;
        ask(who, user).await.refused(Code::Denied);
        world.call(As::Client(&admin), "POST", "/policies/kubernetes", &policy).await.done();
        ask(who, user).await.done();
        ask(other, user).await.refused(Code::Denied);
    }
}

/// What no service account does, though it is an administrator: the list, by the rules, and nothing else is refused.
#[tokio::test]
async fn a_service_account_never_does_what_the_list_says() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (account, secret) = made(&world, &admin).await;
    let robot = robot(&world, |_| ());
    login(&world, &robot, &code(&world, &secret)).await.done();
    world.get(As::Client(&robot), "/users").await.refused(Code::Denied);
    let path = format!("/service-accounts/{}", account.id);
    for _ in 0..2 {
        let now = world.call(As::Client(&admin), "PATCH", &path, &json!({"isAdmin": true})).await;
        assert!(now.ok::<ServiceAccount>().is_admin, "setting what is set is no error");
    }
    world.get(As::Client(&robot), "/users").await.done();
    let never = [
        "serviceaccountservice:add",
        "serviceaccountservice:edit",
        "serviceaccountservice:delete",
        "serviceaccountservice:rotate-mfa",
        "userservice:edit",
        "userservice:delete",
        "mfaservice:totp",
        "mfaservice:reset",
        "mfaservice:recovery-codes",
        "mfaservice:clear",
        "mfaservice:setup",
        "mfaservice:disable",
        "organizationcontrolsservice:add",
        "organizationcontrolsservice:edit",
        "apikeyservice:add",
        "apikeyservice:edit",
        "serviceaccountservice:add-workload",
        "mfaservice:page",
        "apikeyservice:rotate",
        "registrationkeyservice:edit",
        "registrationkeyservice:own",
        "groupservice:remove",
        "groupservice:restore",
    ];
    for name in never {
        assert!(OPERATIONS.iter().any(|o| o.name == name), "{name} is no operation");
    }
    let id = "00000000-0000-4000-8000-000000000000";
    let known = OPERATIONS.iter().filter(|o| o.proof == ProofOf::Known && o.name != "userservice:logout");
    for operation in known {
        let path = operation.path.replace("{id}", id).replace("{n}", "1");
        let reply = world.raw(As::Client(&robot), operation.method.as_str(), &path, b"{}".to_vec()).await;
        let denied = serde_json::from_slice::<Value>(&reply.body).is_ok_and(|body| body["code"] == "denied");
        let only_for_others = ["agentservice:register", "connectionservice:attach"].contains(&operation.name);
        assert_eq!(denied, never.contains(&operation.name) || only_for_others, "{operation:?}: {reply:?}");
    }
}

/// Disabling, rotating and deleting end what the account does at once.
#[tokio::test]
async fn what_an_account_does_ends_with_it() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (account, secret) = made(&world, &admin).await;
    let path = format!("/service-accounts/{}", account.id);
    let enable = async |enabled: bool| {
        let now = world.call(As::Client(&admin), "PATCH", &path, &json!({"enabled": enabled})).await;
        assert_eq!(now.ok::<ServiceAccount>().enabled, enabled);
    };
    let first = robot(&world, |_| ());
    login(&world, &first, &code(&world, &secret)).await.done();
    enable(false).await;
    assert!(world.links.asked().contains(&Asked::LoggedOut(first.login)));
    world.get(As::Client(&first), "/service-accounts/me").await.refused(Code::NotLoggedIn);
    world.advance(STEP_SECONDS);
    login(&world, &robot(&world, |_| ()), &code(&world, &secret)).await.refused(Code::NotLoggedIn);
    enable(true).await;
    world.get(As::Client(&first), "/service-accounts/me").await.refused(Code::NotLoggedIn);
    let second = robot(&world, |_| ());
    login(&world, &second, &code(&world, &secret)).await.done();

    let rotate = format!("/mfa/rotate/{}", account.id);
    let new: String = world.raw(As::Client(&admin), "PATCH", &rotate, vec![]).await.ok();
    world.get(As::Client(&second), "/service-accounts/me").await.refused(Code::NotLoggedIn);
    world.advance(STEP_SECONDS);
    let third = robot(&world, |_| ());
    login(&world, &third, &code(&world, &secret)).await.refused(Code::MfaCode);
    login(&world, &third, &code(&world, &new.parse().unwrap())).await.done();
    let forget = format!("/service-accounts/invalidate-cache/{}", account.id);
    world.raw(As::Client(&admin), "PATCH", &forget, vec![]).await.done();

    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    world.get(As::Client(&third), "/service-accounts/me").await.refused(Code::NotLoggedIn);
    world.get(As::Client(&admin), &path).await.refused(Code::NotFound);
    world.advance(STEP_SECONDS);
    login(&world, &robot(&world, |_| ()), &code(&world, &new.parse().unwrap())).await.refused(Code::NotLoggedIn);
}

/// What is no account is not made.
#[tokio::test]
async fn accounts_are_checked_when_they_are_made() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let good = json!({"email": "a@b.example", "jwksUrl": KEYS, "jwksUrlPattern": PATTERN, "externalId": "1"});
    let add = async |who: &Client, field: &str, value: &str| {
        let mut body = good.clone();
        body[field] = json!(value);
        world.call(As::Client(who), "POST", "/service-accounts", &body).await
    };
    for (field, value) in [
        ("email", ""),
        ("externalId", "\u{7}"),
        ("jwksUrl", "http://ci.example/keys/deployer.json"),
        ("jwksUrl", "https://ci.example/keys/../deployer.json"),
        ("jwksUrlPattern", "https://ci.example/*/deployer.json"),
        ("jwksUrlPattern", "https://other.example/keys/*.json"),
    ] {
        add(&admin, field, value).await.refused(Code::BadRequest);
    }
    add(&alice, "email", "x@b.example").await.refused(Code::Denied);
    add(&admin, "email", "x@b.example").await.done();
    add(&admin, "email", "y@b.example").await.refused(Code::Conflict);
}

async fn made(world: &World, admin: &Client) -> (ServiceAccount, TotpSecret) {
    let body = json!({"email": "ci@ci.example", "jwksUrl": KEYS, "jwksUrlPattern": PATTERN, "externalId": "robot-7"});
    let made: ServiceAccountMade = world.call(As::Client(admin), "POST", "/service-accounts", &body).await.ok();
    (made.service_account_summary, made.mfa_secret.parse().unwrap())
}

/// A client whose token the account signed itself.
fn robot(world: &World, change: impl Fn(&mut Value)) -> Client {
    let seed = world.seed();
    let key = PrivateKey::from_seed(&seed).unwrap();
    let request = CertRequest::new(world.app.organization, &key, seed);
    let mut claims = json!({
        "iss": service::issuer(KEYS), "sub": "robot-7", "aud": service::audience(world.app.organization),
        "org_id": world.app.organization, "iat": world.now(), "exp": world.now() + 86_400,
        "nonce": request.commitment(),
    });
    change(&mut claims);
    let initial = world.issuer.idp.lock().unwrap().token(&claims);
    Client { login: LoginId::from_random([seed[0]; 16]), key, request, initial, claims }
}

async fn login(world: &World, robot: &Client, passcode: &str) -> Reply {
    let certificate = Bytes(robot.request.certificate(&robot.initial, &robot.initial).unwrap());
    let body = LoginServiceAccount { certificate, totp_passcode: passcode.to_owned() };
    world.call(As::Client(robot), "POST", "/service-accounts/login", &body).await
}

fn code(world: &World, secret: &TotpSecret) -> String {
    secret.code(step(world.app.now().wall))
}
