//! `/enroll` and `/mfa/page`: a browser sets up a second factor by a code that is good once.

use bz_core::api::error::Code;
use bz_core::api::mfa::{MfaPage, MfaPassed, MfaStatus, PageSecret};
use bz_core::totp::{STEP_SECONDS, TotpSecret, step};
use serde_json::json;

use crate::world::{As, Client, Reply, World};

/// F-048~: the code of a page is good once, for five minutes, for the login that asked for it, which has passed when the
/// app's first code came.
#[tokio::test]
async fn a_page_enrolls_the_login_that_asked_for_it() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    world.call(As::Nobody, "POST", "/mfa/page", &json!({})).await.refused(Code::NotLoggedIn);
    let first = ask(&world, &alice).await;
    let page = ask(&world, &alice).await;
    assert_eq!((page.path.as_str(), page.code.len()), ("/enroll", 19));
    for code in ["", "AAAA-AAAA-AAAA-AAAA", &first.code, &page.code[1..], &"A".repeat(65)] {
        begin(&world, code).await.refused(Code::NotLoggedIn);
    }
    let shown: PageSecret = begin(&world, &page.code.replace('-', " ").to_lowercase()).await.ok();
    begin(&world, &page.code).await.refused(Code::NotLoggedIn);
    assert_eq!(shown.account, "alice@example.com");
    assert!(shown.mfa_secret_url.contains(&shown.secret));
    let size = shown.qr_code.len();
    assert!(size >= 21 && shown.qr_code.iter().all(|row| row.len() == size), "{:?}", shown.qr_code);
    let secret: TotpSecret = shown.secret.parse().unwrap();
    let code = || secret.code(step(world.app.now().wall));
    confirm(&world, &page.code, &code()).await.refused(Code::NotLoggedIn);
    confirm(&world, &shown.ticket, "000000").await.refused(Code::MfaCode);
    let passed: MfaPassed = confirm(&world, &shown.ticket, &code()).await.ok();
    assert_eq!((passed.method.as_str(), passed.recovery_codes.len()), ("totp", 10));
    confirm(&world, &shown.ticket, &code()).await.refused(Code::NotLoggedIn);
    let status: MfaStatus = world.get(As::Client(&alice), "/mfa/me").await.ok();
    assert!(status.verified && status.session_verified == Some(true), "{status:?}");
    let log = world.log().await;
    let named = log.iter().filter(|e| e.service_action.starts_with("mfaservice:page-") && e.evaluation);
    assert!(named.clone().any(|e| e.actor.subject_name == "alice@example.com"), "{log:?}");
    let secrets = [&shown.secret, &shown.ticket, &page.code];
    assert!(secrets.iter().all(|secret| !format!("{log:?}").contains(secret.as_str())), "a secret is in the log");
    // Who has one needs a code of it given lately, and must say that another is to take its place.
    world.call(As::Client(&alice), "POST", "/mfa/page", &json!({})).await.refused(Code::Conflict);
    let again: MfaPage = world.call(As::Client(&alice), "POST", "/mfa/page", &json!({"forceSetup": true})).await.ok();
    world.advance(600 + STEP_SECONDS);
    world.call(As::Client(&alice), "POST", "/mfa/page", &json!({"forceSetup": true})).await.refused(Code::MfaNeeded);
    begin(&world, &again.code).await.refused(Code::NotLoggedIn);
    drop(admin);
}

/// What ends a page: time, wrong codes, and the end of the login.
#[tokio::test]
async fn a_page_ends() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let page = ask(&world, &alice).await;
    world.advance(300);
    begin(&world, &page.code).await.refused(Code::NotLoggedIn);
    let shown: PageSecret = begin(&world, &ask(&world, &alice).await.code).await.ok();
    for _ in 0..5 {
        assert!(!confirm(&world, &shown.ticket, "000000").await.status.is_success());
    }
    let secret: TotpSecret = shown.secret.parse().unwrap();
    let code = secret.code(step(world.app.now().wall));
    confirm(&world, &shown.ticket, &code).await.refused(Code::NotLoggedIn);
    let page = ask(&world, &alice).await;
    world.call(As::Client(&alice), "POST", "/users/logout", &json!({})).await.done();
    begin(&world, &page.code).await.refused(Code::NotLoggedIn);
}

/// The page loads nothing from elsewhere, runs its own script alone, and is shown in no frame and kept in no cache.
#[tokio::test]
async fn the_page_is_strict() {
    use axum::body::Body;
    use axum::http::Request;
    let world = World::new().await;
    for (path, media) in [("/enroll", "text/html"), ("/enroll.js", "text/javascript"), ("/enroll.css", "text/css")] {
        let reply = world.send(Request::get(path).body(Body::empty()).unwrap()).await;
        let header = |name: &str| reply.headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert!(reply.status.is_success() && header("content-type").starts_with(media), "{path}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"));
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!((header("cache-control"), header("referrer-policy")), ("no-store".into(), "no-referrer".into()));
        assert_eq!((header("x-content-type-options"), header("x-frame-options")), ("nosniff".into(), "DENY".into()));
        let text = String::from_utf8(reply.body).unwrap();
        assert!(!text.contains("://") || path == "/enroll.js", "{path} names another place");
        assert!(!text.contains(" style=") && !text.contains(" onclick="), "{path} has something inline");
        assert_eq!(text.matches("<script").count(), text.matches("<script src=\"/enroll.js\" defer></script>").count());
    }
}

async fn ask(world: &World, who: &Client) -> MfaPage {
    world.call(As::Client(who), "POST", "/mfa/page", &json!({})).await.ok()
}

async fn begin(world: &World, code: &str) -> Reply {
    world.call(As::Nobody, "POST", "/mfa/page/begin", &json!({"code": code})).await
}

async fn confirm(world: &World, ticket: &str, token: &str) -> Reply {
    world.call(As::Nobody, "POST", "/mfa/page/confirm", &json!({"ticket": ticket, "token": token})).await
}
