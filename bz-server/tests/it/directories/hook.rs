//! Okta's event hook: verified once, authenticated by its secret, and in effect at once.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use bz_core::api::error::Code;
use bz_core::api::login::Registered;
use bz_server::jobs;
use serde_json::{Value, json};

use super::place::{HOOK, Place};
use super::stand::{Fault, Kind};
use crate::world::{As, Reply, World};

const PATH: &str = "/api/v2/organization/groups/okta-events";

/// A delivery, as Okta sends one.
fn delivery(events: &[Value]) -> Value {
    json!({
        "eventType": "com.okta.event_hook", "eventTypeVersion": "1.0", "cloudEventsVersion": "0.1",
        "source": "https://acme.okta.com/api/v1/eventHooks/who1", "eventId": "8f3e", "contentType": "application/json",
        "eventTime": "2026-11-21T06:00:00.000Z", "data": {"events": events},
    })
}

fn event(kind: &str, person: &str, group: Option<&str>) -> Value {
    let mut target = vec![json!({"id": person, "type": "User", "alternateId": "p1@example.com", "displayName": "P"})];
    target.extend(group.map(|id| json!({"id": id, "type": "UserGroup", "alternateId": "unknown", "displayName": "g"})));
    json!({
        "uuid": "9d", "published": "2026-11-21T06:00:00.000Z", "eventType": kind, "version": "0", "severity": "INFO",
        "actor": {"id": "00ua", "type": "User"}, "outcome": {"result": "SUCCESS"}, "target": target,
    })
}

async fn send(world: &World, secret: Option<&str>, body: &Value) -> Reply {
    let mut request = Request::builder().method("POST").uri(PATH).header("content-type", "application/json");
    if let Some(secret) = secret {
        request = request.header("Authorization", secret);
    }
    world.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// F-070: the one-time verification is answered; who leaves a group is out within three seconds by the event alone, though the
/// directory is silent; who enters one is in as soon as the directory confirms it, and not by the event alone.
#[tokio::test]
async fn a_change_of_a_group_counts_at_once() {
    let place = Place::new(Kind::Okta).await;
    let verify =
        Request::builder().uri(PATH).header("X-Okta-Verification-Challenge", "c-1").body(Body::empty()).unwrap();
    assert_eq!(place.world.send(verify).await.ok::<Value>(), json!({"verification": "c-1"}));
    let alice = place.person(1, &[0]).await;
    let bob = place.person(2, &[]).await;
    place.policy("ops", &[0]).await;
    let session = place.session(&alice).await;
    let (group, before) = (place.group(0), Instant::now());
    place.stand.fails("/", Fault::Status(500, vec![], String::new()));
    let gone = delivery(&[event("group.user_membership.remove", &place.id(1), Some(&group))]);
    send(&place.world, Some(HOOK), &gone).await.done();
    assert!(place.closed(session).is_some() && place.open(&alice).await == 0);
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    place.connect(&alice).await.refused(Code::Denied);

    let come = delivery(&[event("group.user_membership.add", &place.id(2), Some(&group))]);
    send(&place.world, Some(HOOK), &come).await.done();
    settled(&place).await;
    place.connect(&bob).await.refused(Code::Denied);
    place.stand.heals();
    send(&place.world, Some(HOOK), &come).await.done();
    settled(&place).await;
    place.connect(&bob).await.refused(Code::Denied);
    place.stand.put(&place.id(2), &[&group]);
    send(&place.world, Some(HOOK), &come).await.done();
    settled(&place).await;
    place.connect(&bob).await.done();
}

/// F-062, F-070~: who is deactivated or suspended is out by the event alone, and stays out while the directory says so.
#[tokio::test]
async fn a_deactivated_person_is_out_at_once() {
    for kind in [
        "user.lifecycle.deactivate",
        "user.lifecycle.suspend",
        "user.lifecycle.delete.initiated",
        "user.lifecycle.delete.completed",
    ] {
        let place = Place::new(Kind::Okta).await;
        let alice = place.person(1, &[0]).await;
        place.policy("ops", &[0]).await;
        let session = place.session(&alice).await;
        place.stand.activate(&place.id(1), false);
        send(&place.world, Some(HOOK), &delivery(&[event(kind, &place.id(1), None)])).await.done();
        assert!(place.closed(session).is_some(), "{kind}");
        place.world.get(As::Client(&alice), "/users/me").await.refused(Code::NotLoggedIn);
        let again = place.client(1);
        place.world.register(&again, &again.initial, None).await.refused(Code::NotLoggedIn);
        place.stand.activate(&place.id(1), true);
        let back = delivery(&[event("user.lifecycle.unsuspend", &place.id(1), None)]);
        send(&place.world, Some(HOOK), &back).await.done();
        settled(&place).await;
        let again = place.client(1);
        place.world.register(&again, &again.initial, None).await.ok::<Registered>();
        place.connect(&again).await.done();
    }
}

/// Whoever does not know the secret says nothing; a login is no secret of a hook, and its secret is no login.
#[tokio::test]
async fn only_the_provider_sends_events() {
    let place = Place::new(Kind::Okta).await;
    let alice = place.person(1, &[0]).await;
    place.policy("ops", &[0]).await;
    place.connect(&alice).await.done();
    let body = delivery(&[event("user.lifecycle.deactivate", &place.id(1), None)]);
    for secret in [None, Some(""), Some("x"), Some(&HOOK[1..]), Some(&format!("{HOOK}x")), Some(&HOOK.to_uppercase())] {
        send(&place.world, secret, &body).await.refused(Code::NotLoggedIn);
    }
    place.world.call(place.admin(), "POST", "/organization/groups/okta-events", &body).await.refused(Code::NotLoggedIn);
    let me = Request::builder().uri("/api/v2/users/me").header("Authorization", HOOK).body(Body::empty()).unwrap();
    place.world.send(me).await.refused(Code::NotLoggedIn);
    assert_eq!(place.open(&alice).await, 1);
    for challenge in ["", "\u{e4}", &"x".repeat(600)] {
        let verify = Request::builder().uri(PATH).header("X-Okta-Verification-Challenge", challenge);
        place.world.send(verify.body(Body::empty()).unwrap()).await.refused(Code::BadRequest);
    }
    let other = Place::new(Kind::Google).await;
    send(&other.world, Some(HOOK), &body).await.refused(Code::NotLoggedIn);
    let verify = Request::builder().uri(PATH).header("X-Okta-Verification-Challenge", "c").body(Body::empty()).unwrap();
    other.world.send(verify).await.refused(Code::NotFound);
}

/// The secret cannot be tried for long: wrong ones lock their address, leave no rows then, and the right one is heard.
#[tokio::test]
async fn the_secret_of_a_hook_cannot_be_guessed() {
    let place = Place::new(Kind::Okta).await;
    let body = delivery(&[]);
    for _ in 0..25 {
        send(&place.world, None, &body).await.refused(Code::NotLoggedIn);
    }
    for guess in 0..20 {
        send(&place.world, Some(&format!("{HOOK}{guess}")), &body).await.refused(Code::NotLoggedIn);
    }
    let rows = place.world.log().await.len();
    let locked = send(&place.world, Some("another"), &body).await;
    assert_eq!(locked.headers.get("retry-after").map(|after| after.to_str().unwrap()), Some("900"));
    locked.refused(Code::TooMany);
    assert_eq!(place.world.log().await.len(), rows);
    send(&place.world, Some(HOOK), &body).await.done();
}

/// Events that did not come about, are about nobody here, or are of another kind change nothing; a long delivery is taken
/// whole; one that is none is refused; a group that is deleted gives nothing any more.
#[tokio::test]
async fn odd_deliveries_do_no_harm() {
    let place = Place::new(Kind::Okta).await;
    let alice = place.person(1, &[0]).await;
    place.policy("ops", &[0]).await;
    place.connect(&alice).await.done();
    let group = place.group(0);
    let mut failed = event("user.lifecycle.deactivate", &place.id(1), None);
    failed["outcome"]["result"] = json!("FAILURE");
    let without = json!({"eventType": "user.lifecycle.deactivate", "target": null});
    let stranger = event("user.lifecycle.deactivate", "00u-nobody", None);
    let other = event("user.session.start", &place.id(1), Some(&group));
    let mut many = vec![failed, without, stranger, other];
    many.extend((0..400).map(|n| event("user.lifecycle.suspend", &format!("00u-{n}"), None)));
    let long = delivery(&many);
    assert!(long.to_string().len() > 100_000);
    send(&place.world, Some(HOOK), &long).await.done();
    for bad in [json!([]), json!({}), json!({"data": {"events": {}}}), json!({"data": {"events": [{"eventType": 1}]}})]
    {
        send(&place.world, Some(HOOK), &bad).await.refused(Code::BadRequest);
    }
    let huge = json!({"data": {"events": [], "x": "x".repeat(2 << 20)}});
    send(&place.world, Some(HOOK), &huge).await.refused(Code::TooLarge);
    assert_eq!(place.open(&alice).await, 1);
    let mut deleted = event("group.lifecycle.delete", "x", Some(&group));
    deleted["target"].as_array_mut().unwrap().remove(0);
    send(&place.world, Some(HOOK), &delivery(&[deleted])).await.done();
    assert_eq!(place.open(&alice).await, 0);
}

/// An answer that was under way when an event came is of the past.
#[tokio::test]
async fn an_event_outruns_an_answer_that_is_under_way() {
    let place = Place::new(Kind::Okta).await;
    let alice = place.person(1, &[0]).await;
    place.policy("ops", &[0]).await;
    let session = place.session(&alice).await;
    place.world.advance(31 * 60);
    let held = place.stand.holds("/groups");
    let asking = jobs::groups(&place.world.app);
    let events = async {
        held.asked().await;
        let gone = delivery(&[event("group.user_membership.remove", &place.id(1), Some(&place.group(0)))]);
        send(&place.world, Some(HOOK), &gone).await.done();
        held.release();
    };
    let (asked, ()) = tokio::join!(asking, events);
    asked.unwrap();
    assert!(place.closed(session).is_some());
    place.connect(&alice).await.refused(Code::Denied);
}

/// Until what events caused is done.
async fn settled(place: &Place) {
    let done = async {
        while !place.world.app.calls.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), done).await.expect("questions that events caused do not end");
}
