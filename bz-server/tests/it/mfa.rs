//! `/mfa` and `/policies/organization-controls`: who is asked for a second factor, what a login may do without, and what
//! becomes of codes.

use bz_core::api::error::Code;
use bz_core::api::login::{MfaActionRequired, Registered};
use bz_core::api::mfa::{ControlsPolicy, MfaPassed, MfaSecret, MfaStatus, RecoveryCodes};
use bz_core::grant::{MAX_GRANT, SignedGrant};
use bz_core::id::ConnectionId;
use bz_core::totp::{STEP_SECONDS, TotpSecret, step};
use bz_core::wire;
use bz_server::admin;
use bz_server::api::{OPERATIONS, ProofOf};
use bz_server::connection::link;
use bz_server::seam::SystemEntropy;
use bz_server::seam::links::Asked;
use serde_json::{Value, json};

use crate::world::{As, Client, Reply, World};

const HOUR: u64 = 3600;

/// F-047, F-048: everybody is asked, and a login that lacks the factor can do nothing but give it, enroll, or end.
#[tokio::test]
async fn a_login_without_its_factor_does_nothing_but_finish() {
    let world = World::with(|config| config.mfa_grace_hours = 0).await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &admin, &web, &["deploy"]).await;
    demand(&world, &admin, None).await;
    let secret = enroll(&world, &admin).await;
    let connection = world.connect(&admin, &web).await;

    let again = world.client("root-of-all");
    let registered: Registered = world.register(&again, &again.initial, None).await.ok();
    assert_eq!(registered.mfa_action_required, MfaActionRequired::Totp);
    let finishing = ["mfaservice:totp", "mfaservice:reset", "mfaservice:page", "mfaservice:me", "userservice:logout"];
    // The page's codes are got by `mfaservice:page`.
    let open = [
        "trustservice:bundle",
        "apiservice:describe",
        "mfaservice:page-begin",
        "mfaservice:page-confirm",
        "artifactservice:get",
        "groupservice:verify-hook",
    ];
    let known = OPERATIONS.iter().filter(|o| o.proof == ProofOf::Known && !open.contains(&o.name));
    for operation in known.filter(|o| !finishing.contains(&o.name)) {
        let path = operation.path.replace("{id}", "00000000-0000-4000-8000-000000000000").replace("{n}", "1");
        let reply = world.raw(As::Client(&again), operation.method.as_str(), &path, b"{}".to_vec()).await;
        assert_eq!(reply.refused(Code::MfaNeeded).candidates, ["TOTP"], "{operation:?}");
        assert!(!world.log().await[0].evaluation, "{operation:?}");
    }
    // Also by the way round the API: no link, no stream.
    assert!(link::live_login(&world.app, again.login).await.is_err());
    assert!(link::live_login(&world.app, admin.login).await.is_ok());
    assert!(link::authorize_link(&world.app, admin.login, connection.connection_id).await.is_ok());

    next_code(&world);
    give(&world, &again, &code(&world, &secret)).await.done();
    world.get(As::Client(&again), "/users").await.done();
    assert!(link::live_login(&world.app, again.login).await.is_ok());
}

/// F-047: the grant says by which method and when.
#[tokio::test]
async fn the_grant_names_method_and_time() {
    let world = World::new().await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &admin, &web, &["deploy"]).await;
    let mfa = |made: bz_core::api::access::ConnectionMade| {
        let signed: SignedGrant = wire::decode(&made.grant.0, MAX_GRANT).unwrap();
        let key = world.app.online_keys().unwrap().grant.key.public();
        let body = signed.grant.open(&key, world.app.organization).unwrap();
        (body.mfa.map(|mfa| (mfa.method, mfa.at.as_secs())), body.session_seconds)
    };
    assert_eq!(mfa(world.connect(&admin, &web).await), (None, 24 * 3600));
    let secret = enroll(&world, &admin).await;
    let passed = world.now();
    world.advance(100);
    assert_eq!(mfa(world.connect(&admin, &web).await), (Some(("totp".to_owned(), passed)), 24 * 3600));
    give(&world, &admin, &code(&world, &secret)).await.done();
    demand(&world, &admin, Some(2)).await;
    world.advance(HOUR - 1000);
    let (_, seconds) = mfa(world.connect(&admin, &web).await);
    assert_eq!(u64::from(seconds), HOUR + 1000, "a session ends at the target when the factor is asked for again");
}

/// Each person enrolls within the grace, which begins at the first login that needs it and not anew.
#[tokio::test]
async fn enrolment_may_wait_for_a_while() {
    let world = World::with(|config| config.mfa_grace_hours = 2).await;
    let admin = world.admin().await;
    demand(&world, &admin, None).await;
    let alice = world.client("alice");
    let action = async |client: &Client| {
        let registered: Registered = world.register(client, &client.initial, None).await.ok();
        registered.mfa_action_required
    };
    assert_eq!(action(&alice).await, MfaActionRequired::ResetDeferAllowed);
    let ends = world.app.now().wall.after(std::time::Duration::from_secs(2 * HOUR));
    world.get(As::Client(&alice), "/users/me").await.done();
    let status = status(&world, &alice).await;
    assert_eq!((status.enabled, status.verified, status.session_verified), (true, false, Some(false)));
    assert_eq!(status.grace_period_end_time, Some(ends.to_string()));
    world.advance(HOUR);
    let second = world.client("alice");
    assert_eq!(action(&second).await, MfaActionRequired::ResetDeferAllowed);
    world.advance(HOUR);
    assert_eq!(world.get(As::Client(&second), "/users/me").await.refused(Code::MfaNeeded).candidates, ["RESET"]);
    let third = world.client("alice");
    assert_eq!(action(&third).await, MfaActionRequired::Reset);
    enroll(&world, &third).await;
    world.get(As::Client(&third), "/users/me").await.done();
    assert_eq!(world.get(As::Client(&second), "/users/me").await.refused(Code::MfaNeeded).candidates, ["TOTP"]);
}

/// F-048: a code is taken once, by whichever login, also after a restart of the server; wrong ones lock, with a time.
#[tokio::test]
async fn codes_are_taken_once_and_guesses_lock() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let secret = enroll(&world, &alice).await;
    next_code(&world);
    let second = world.user("alice").await;
    world.get(As::Client(&second), "/users/me").await.refused(Code::MfaNeeded);
    let once = code(&world, &secret);
    give(&world, &second, &format!(" {} {} ", &once[..3], &once[3..])).await.done();
    give(&world, &second, &once).await.refused(Code::MfaUsed);
    give(&world, &alice, &once).await.refused(Code::MfaUsed);

    let world = world.restarted().await;
    give(&world, &second, &once).await.refused(Code::MfaUsed);
    // None of them was a guess, and what is no code is not counted.
    for odd in ["", "12345", "abcdef", &"1".repeat(70_000)] {
        let reply = give(&world, &second, odd).await;
        assert!(!reply.status.is_success() && reply.status.is_client_error(), "{}", reply.status);
    }
    let guess = wrong(&world, &secret);
    for _ in 0..5 {
        give(&world, &second, &guess).await.refused(Code::MfaCode);
    }
    let until = world.app.now().wall.after(std::time::Duration::from_secs(15 * 60));
    next_code(&world);
    let locked = give(&world, &second, &code(&world, &secret)).await.refused(Code::MfaLocked).error_msg;
    assert!(locked.contains(&format!("until {until}")) && locked.contains("15 minutes"), "{locked}");
    assert!(!world.log().await[0].evaluation);
    assert_eq!(status(&world, &second).await.locked_until, Some(until.to_string()));
    world.advance(15 * 60 - STEP_SECONDS);
    give(&world, &second, &code(&world, &secret)).await.done();
    let log = format!("{:?}", world.log().await);
    assert!(!log.contains(&once) && !log.contains(secret.to_base32().as_str()), "a code or secret in the log");
}

/// Recovery codes: ten, shown once, each taken once, replaced by new ones, and never stored as they are.
#[tokio::test]
async fn recovery_codes_stand_in_once() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let (secret, codes) = enrolled(&world, &alice).await;
    assert_eq!(codes.len(), 10);
    let second = world.user("alice").await;
    let passed: MfaPassed = give(&world, &second, &codes[0].to_uppercase()).await.ok();
    assert_eq!((passed.method.as_str(), passed.recovery_codes_left, passed.recovery_codes.len()), ("recovery", 9, 0));
    give(&world, &second, &codes[0]).await.refused(Code::MfaCode);
    let fresh: RecoveryCodes = post(&world, &second, "/mfa/recovery-codes", &json!({})).await.ok();
    give(&world, &second, &codes[1]).await.refused(Code::MfaCode);
    give(&world, &second, &fresh.recovery_codes[9]).await.done();
    // Who lost the app takes a new secret with one.
    let made: MfaSecret = post(&world, &second, "/mfa/reset", &json!({"forceSetup": true})).await.ok();
    assert_ne!(TotpSecret::from_url(&made.mfa_secret_url).unwrap(), secret);
    world.advance(601);
    for path in ["/mfa/recovery-codes", "/mfa/reset"] {
        post(&world, &second, path, &json!({"forceSetup": true})).await.refused(Code::MfaNeeded);
    }
    let (database, wal) = (read(&world, "bz-server.db"), read(&world, "bz-server.db-wal"));
    for kept in [&codes[5], &fresh.recovery_codes[5], &secret.to_base32(), &hex::encode(secret.as_bytes())] {
        let plain = kept.replace('-', "");
        assert!(![&database, &wal].iter().any(|f| f.contains(&plain) || f.contains(kept)), "{kept} is stored");
    }
}

/// Another's login, or one that has not passed, cannot put its own secret in the place of a person's.
#[tokio::test]
async fn a_secret_is_replaced_by_its_owner_alone() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let secret = enroll(&world, &alice).await;
    post(&world, &alice, "/mfa/reset", &json!({})).await.refused(Code::Conflict);
    let thief = world.user("alice").await;
    post(&world, &thief, "/mfa/reset", &json!({"forceSetup": true})).await.refused(Code::MfaNeeded);
    let made: MfaSecret = post(&world, &alice, "/mfa/reset", &json!({"forceSetup": true})).await.ok();
    let new = TotpSecret::from_url(&made.mfa_secret_url).unwrap();
    next_code(&world);
    give(&world, &thief, &code(&world, &new)).await.refused(Code::MfaCode);
    give(&world, &thief, &code(&world, &secret)).await.done();
    let passed: MfaPassed = give(&world, &alice, &code(&world, &new)).await.ok();
    assert_eq!(passed.recovery_codes.len(), 10, "a new secret has new recovery codes");
    next_code(&world);
    give(&world, &thief, &code(&world, &secret)).await.refused(Code::MfaCode);
}

/// After `mfaDuration` the login is asked again, and goes on when it answers.
#[tokio::test]
async fn what_was_passed_counts_for_a_while() {
    let world = World::new().await;
    let admin = world.admin().await;
    demand(&world, &admin, Some(1)).await;
    let secret = enroll(&world, &admin).await;
    world.advance(HOUR - 1);
    assert_eq!(status(&world, &admin).await.session_verified, Some(true));
    world.get(As::Client(&admin), "/users").await.done();
    world.advance(1);
    world.get(As::Client(&admin), "/users").await.refused(Code::MfaNeeded);
    assert!(link::live_login(&world.app, admin.login).await.is_err());
    assert_eq!(status(&world, &admin).await.session_verified, Some(false));
    let passed: MfaPassed = give(&world, &admin, &code(&world, &secret)).await.ok();
    let until = world.app.now().wall.after(std::time::Duration::from_secs(HOUR));
    assert_eq!(passed.verified_until, Some(until.to_string()));
    world.get(As::Client(&admin), "/users").await.done();
}

/// F-059, F-061~: an administrator clears another's factor, never the own: every login of that person ends, and the next
/// enrolls at once, without grace.
#[tokio::test]
async fn an_administrator_clears_somebodys_factor() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    demand(&world, &admin, None).await;
    enroll(&world, &admin).await;
    enroll(&world, &alice).await;
    let (own, her) = (world.id_of(&admin).await, world.id_of(&alice).await);
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &alice, &web, &["deploy"]).await;
    let open = world.connect(&alice, &web).await.connection_id;
    post(&world, &alice, "/mfa/clear", &json!({"userId": own})).await.refused(Code::Denied);
    post(&world, &alice, "/mfa/clear", &json!({"userId": her})).await.refused(Code::Denied);
    post(&world, &admin, "/mfa/clear", &json!({"userId": own})).await.refused(Code::Conflict);
    post(&world, &admin, "/mfa/clear", &json!({"userId": "x"})).await.refused(Code::BadRequest);
    let nobody = json!({"userId": "00000000-0000-4000-8000-000000000000"});
    post(&world, &admin, "/mfa/clear", &nobody).await.refused(Code::NotFound);
    post(&world, &admin, "/mfa/clear", &json!({"userId": her})).await.done();
    let log = &world.log().await[0];
    assert_eq!((log.service_action.as_str(), log.resource.as_str()), ("mfaservice:clear", "alice@example.com"));
    assert!(closed(&world).contains(&open), "her tunnels and sessions end");
    assert!(world.links.asked().contains(&Asked::LoggedOut(alice.login)));
    world.get(As::Client(&alice), "/users/me").await.refused(Code::NotLoggedIn);
    let back = world.client("alice");
    let registered: Registered = world.register(&back, &back.initial, None).await.ok();
    assert_eq!(registered.mfa_action_required, MfaActionRequired::Reset);
}

/// F-060~: an administrator disables another's factor altogether, which the log calls by its name, and enables it again.
#[tokio::test]
async fn an_administrator_disables_somebodys_factor() {
    let world = World::with(|config| config.mfa_grace_hours = 0).await;
    let admin = world.admin().await;
    demand(&world, &admin, None).await;
    enroll(&world, &admin).await;
    let alice = world.user("alice").await;
    let (own, her) = (world.id_of(&admin).await, user_id(&world, &admin, "alice").await);
    world.get(As::Client(&alice), "/users/me").await.refused(Code::MfaNeeded);
    post(&world, &admin, "/mfa/disable", &json!({"userId": own})).await.refused(Code::Conflict);
    post(&world, &admin, "/mfa/disable", &json!({"userId": her})).await.done();
    assert!(world.log().await[0].context.contains("WARNING"));
    world.get(As::Client(&alice), "/users/me").await.done();
    let shown: MfaStatus = world.get(As::Client(&admin), "/mfa/alice@example.com").await.ok();
    assert_eq!((shown.enabled, shown.session_verified), (false, None));
    world.get(As::Client(&alice), &format!("/mfa/{own}")).await.refused(Code::Denied);
    post(&world, &admin, "/mfa/setup", &json!({"userId": her})).await.done();
    world.get(As::Client(&alice), "/users/me").await.refused(Code::MfaNeeded);
}

/// F-059~: the way back on the server's host forgets the secret, too.
#[tokio::test]
async fn a_reset_on_the_host_forgets_the_secret() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    enroll(&world, &alice).await;
    let (app, name) = (&world.app, "alice@example.com".to_owned());
    admin::reset_mfa(&app.config(), &app.store, &SystemEntropy, (name, app.now().wall)).await.unwrap();
    let back = world.client("alice");
    let registered: Registered = world.register(&back, &back.initial, None).await.ok();
    assert_eq!(registered.mfa_action_required, MfaActionRequired::Reset, "she asked for a factor and has none");
}

/// F-047: at most one policy of the kind; once on, it stays on, whoever asks.
#[tokio::test]
async fn what_the_organization_demands_stays_demanded() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let key = world.key(&admin, false).await;
    let path = "/policies/organization-controls";
    let body = |name: &str, on: bool, hours: Value| json!({"name": name, "mfaEnabled": on, "mfaDuration": hours});
    let add = async |who, body: &Value| world.call(who, "POST", path, body).await;
    add(As::Client(&alice), &body("rules", true, json!(8))).await.refused(Code::Denied);
    add(As::Client(&admin), &body("rules", true, json!(0))).await.refused(Code::BadRequest);
    add(As::Client(&admin), &body("rules", true, json!(721))).await.refused(Code::BadRequest);
    add(As::Client(&admin), &body("", true, json!(8))).await.refused(Code::BadRequest);
    let made: ControlsPolicy = add(As::Client(&admin), &body("rules", false, json!(8))).await.ok();
    assert_eq!((made.kind.as_str(), made.content.mfa_enabled), ("OrganizationControls", false));
    add(As::Client(&admin), &body("more", true, json!(8))).await.refused(Code::Conflict);
    let one = format!("{path}/{}", made.id);
    let change = async |who, body: &Value| world.call(who, "PATCH", &one, body).await;
    world.raw(As::Client(&admin), "DELETE", &one, vec![]).await.done();
    change(As::Client(&admin), &json!({"mfaEnabled": true})).await.refused(Code::NotFound);
    let made: ControlsPolicy = add(As::Client(&admin), &body("rules", false, json!(8))).await.ok();
    let one = format!("{path}/{}", made.id);
    let change = async |who, body: &Value| world.call(who, "PATCH", &one, body).await;
    change(As::Client(&alice), &json!({"mfaEnabled": true})).await.refused(Code::Denied);
    change(As::Client(&admin), &json!({"mfaDuration": 1000})).await.refused(Code::BadRequest);
    let on: ControlsPolicy = change(As::Client(&admin), &json!({"mfaEnabled": true, "mfaDuration": 4})).await.ok();
    assert_eq!((on.content.mfa_enabled, on.content.mfa_duration, on.content.name.as_str()), (true, Some(4), "rules"));
    for who in [As::Client(&admin), As::Key(&key)] {
        change(who, &json!({"mfaEnabled": false})).await.refused(Code::Conflict);
        world.raw(who, "DELETE", &one, vec![]).await.refused(Code::Conflict);
    }
    let still: Vec<ControlsPolicy> = world.get(As::Client(&admin), path).await.ok();
    assert_eq!(still, std::slice::from_ref(&on));
    assert_eq!(world.get(As::Client(&admin), &one).await.ok::<ControlsPolicy>(), on);
}

async fn demand(world: &World, admin: &Client, hours: Option<u32>) {
    let body = json!({"name": "everybody", "mfaEnabled": true, "mfaDuration": hours});
    world.call(As::Client(admin), "POST", "/policies/organization-controls", &body).await.done();
}

async fn enroll(world: &World, who: &Client) -> TotpSecret {
    enrolled(world, who).await.0
}

/// A new secret, confirmed, and its recovery codes.
async fn enrolled(world: &World, who: &Client) -> (TotpSecret, Vec<String>) {
    let made: MfaSecret = post(world, who, "/mfa/reset", &json!({})).await.ok();
    let secret = TotpSecret::from_url(&made.mfa_secret_url).unwrap();
    let passed: MfaPassed = give(world, who, &code(world, &secret)).await.ok();
    (secret, passed.recovery_codes)
}

/// A moment in which the app shows another code than before.
fn next_code(world: &World) {
    world.advance(STEP_SECONDS);
}

fn code(world: &World, secret: &TotpSecret) -> String {
    secret.code(step(world.app.now().wall))
}

/// Six digits that no step near now has.
fn wrong(world: &World, secret: &TotpSecret) -> String {
    let now = step(world.app.now().wall);
    let near: Vec<String> = (now - 2..now + 3).map(|step| secret.code(step)).collect();
    (0..10).map(|n| format!("00000{n}")).find(|code| !near.contains(code)).unwrap()
}

async fn give(world: &World, who: &Client, token: &str) -> Reply {
    post(world, who, "/mfa/totp", &json!({"token": token})).await
}

async fn post(world: &World, who: &Client, path: &str, body: &Value) -> Reply {
    world.call(As::Client(who), "POST", path, body).await
}

async fn status(world: &World, who: &Client) -> MfaStatus {
    world.get(As::Client(who), "/mfa/me").await.ok()
}

async fn user_id(world: &World, admin: &Client, name: &str) -> String {
    let user: Value = world.get(As::Client(admin), &format!("/users/{name}@example.com")).await.ok();
    user["id"].as_str().unwrap().to_owned()
}

fn closed(world: &World) -> Vec<ConnectionId> {
    let closed = |asked| if let Asked::Closed(id, _) = asked { Some(id) } else { None };
    world.links.asked().into_iter().filter_map(closed).collect()
}

fn read(world: &World, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(world.folder.path().join("data").join(name)).unwrap()).into_owned()
}
