//! Directories that do not answer, or not what they should: nobody is in a group by that, and what was said before counts
//! for an hour at most.

use bz_core::api::error::Code;
use bz_core::api::groups::GroupsSource;
use bz_core::api::login::Registered;
use serde_json::json;

use super::place::{KINDS, Place};
use super::stand::{Fault, Kind};
use crate::world::As;

fn status(status: u16) -> Fault {
    Fault::Status(status, vec![], "{\"error\": \"x\"}".to_owned())
}

/// What each directory may do instead of answering about a person, or about groups.
fn faults(elsewhere: &str) -> Vec<Fault> {
    vec![
        status(401),
        status(403),
        status(400),
        status(500),
        Fault::Status(404, vec![], "<h1>Not Found</h1>".to_owned()),
        Fault::Status(429, vec![("retry-after", "600")], String::new()),
        Fault::Endless,
        Fault::Redirect(format!("http://{elsewhere}/")),
        Fault::Says(String::new()),
        Fault::Says("<html>".to_owned()),
        Fault::Says("[]".to_owned()),
        Fault::Says("{}".to_owned()),
        Fault::Says("null".to_owned()),
        Fault::Says("{\"id\": \"x\", \"status\": [], \"value\": 1, \"data\": {}}".to_owned()),
        Fault::OtherPerson,
    ]
}

/// Of each kind of directory and each wrong answer: who logs in gets nothing by it, nobody is thought deactivated, and why is
/// said.
#[tokio::test]
async fn no_wrong_answer_is_a_membership() {
    for kind in KINDS {
        let place = Place::new(kind).await;
        place.policy("ops", &[0]).await;
        let elsewhere = place.stand.address.to_string();
        for (at, fault) in faults(&elsewhere).into_iter().enumerate() {
            place.stand.put(&place.id(1), &[&place.group(0)]);
            place.stand.fails("/users/", fault.clone());
            let alice = place.client(1);
            place.world.register(&alice, &alice.initial, None).await.ok::<Registered>();
            let refused = place.connect(&alice).await;
            assert!(!refused.status.is_success(), "{kind:?}: {fault:?} makes a member");
            refused.refused(Code::Denied);
            let state: Vec<GroupsSource> =
                place.world.get(place.admin(), "/organization/groups/credentials").await.ok();
            assert!(state[0].last_error.is_some(), "{kind:?}: nothing is said of {fault:?} ({at})");
            assert!(!format!("{state:?}").contains(&place.stand.secret));
        }
    }
}

/// Pages that never end, or lead to another server, are no list; nor is one that is never sent.
#[tokio::test]
async fn pages_end_and_stay_where_they_are() {
    for kind in [Kind::Google, Kind::Microsoft, Kind::Okta, Kind::OneLogin] {
        let place = Place::new(kind).await;
        let other = Place::new(kind).await;
        let url = place.stand.url();
        let (list, again) = match kind {
            Kind::Google => ("/groups", String::new()),
            Kind::Microsoft => ("/groups", format!("{url}/v1.0/groups?$select=id,displayName")),
            Kind::Okta => ("/groups", format!("{url}/api/v1/groups?limit=200")),
            Kind::OneLogin | Kind::Keycloak => ("/roles", String::new()),
        };
        let fetch = async || {
            let reply = place.world.call(place.admin(), "POST", "/organization/groups/fetch", &json!({})).await;
            reply.refused(Code::Conflict).error_msg
        };
        let fault = if matches!(kind, Kind::Google) { Fault::Says(ENDLESS.to_owned()) } else { Fault::NextAt(again) };
        if kind != Kind::OneLogin {
            place.stand.fails(list, fault);
            place.stand.asked();
            let said = fetch().await;
            assert!(said.contains("pages without an end") || said.contains("more groups"), "{kind:?}: {said}");
            assert!(place.stand.asked().len() <= 200, "{kind:?}");
        }
        if matches!(kind, Kind::Microsoft | Kind::Okta) {
            other.stand.asked();
            place.stand.fails(list, Fault::NextAt(format!("{}/v1.0/groups", other.stand.url())));
            let said = fetch().await;
            assert!(said.contains("leads elsewhere"), "{kind:?}: {said}");
            assert_eq!(other.stand.asked(), [""; 0], "{kind:?}: the token went elsewhere");
        }
    }
}

const ENDLESS: &str = r#"{"groups": [{"id": "g", "name": "g", "email": "g@example.com"}], "nextPageToken": "again"}"#;

/// F-071~: what a directory said before it fell silent counts for less than an hour; then open sessions end, too.
#[tokio::test]
async fn what_is_not_confirmed_within_the_hour_is_dropped() {
    let place = Place::new(Kind::Microsoft).await;
    let alice = place.person(1, &[0]).await;
    place.policy("ops", &[0]).await;
    let session = place.session(&alice).await;
    place.stand.fails("/", status(500));
    place.later(31).await;
    place.later(27).await;
    assert_eq!(place.closed(session), None, "58 minutes after the last answer");
    place.later(1).await;
    let why = place.closed(session).expect("59 minutes after the last answer");
    assert!(why.contains("no policy allows it any more"), "{why}");
    place.connect(&alice).await.refused(Code::Denied);
    place.stand.heals();
    place.later(1).await;
    let again = place.client(1);
    place.world.register(&again, &again.initial, None).await.ok::<Registered>();
    place.connect(&again).await.done();
    // What was said before a long stop of the server counts for nothing after it.
    let token = place.world.app.store.named_groups().await.unwrap();
    assert_eq!(token[0].members, 1);
    place.world.advance(3600);
    let Place { world, .. } = place;
    let world = world.restarted().await;
    assert_eq!(world.app.store.named_groups().await.unwrap()[0].members, 0);
}

/// A directory that asks for patience is left alone for as long, and then asked first about whom it did not get to.
#[tokio::test]
async fn a_directory_that_asks_for_patience_gets_it() {
    for (kind, name, value) in
        [(Kind::Microsoft, "retry-after", "600"), (Kind::Okta, "x-rate-limit-reset", "1800002460")]
    {
        let place = Place::new(kind).await;
        place.person(1, &[0]).await;
        place.later(0).await;
        place.stand.fails("/users/", Fault::Status(429, vec![(name, value)], String::new()));
        place.later(31).await;
        place.stand.asked();
        place.later(9).await;
        assert_eq!(place.stand.asked(), [""; 0], "{kind:?}");
        place.stand.heals();
        place.later(2).await;
        assert!(!place.stand.asked().is_empty(), "{kind:?}");
    }
}

/// A token that is withdrawn is asked for anew, once; and one that is old.
#[tokio::test]
async fn access_is_asked_for_anew() {
    for kind in KINDS {
        let place = Place::new(kind).await;
        let alice = place.person(1, &[0]).await;
        place.policy("ops", &[0]).await;
        place.session(&alice).await;
        place.stand.withdraws_access();
        place.later(31).await;
        place.connect(&alice).await.done();
        assert_eq!(place.stand.with(|state| state.access.len()), 2, "{kind:?}");
        // An hour later the token is not used any more, though nobody said that it ended.
        place.later(31).await;
        place.later(31).await;
        assert_eq!(place.stand.with(|state| state.access.len()), 3, "{kind:?}");
    }
}

/// A person whose account nobody can ask about stays as deactivated as it was.
#[tokio::test]
async fn silence_does_not_bring_anybody_back() {
    let place = Place::new(Kind::Okta).await;
    let alice = place.person(1, &[0]).await;
    place.stand.activate(&place.id(1), false);
    place.later(31).await;
    place.world.get(As::Client(&alice), "/users/me").await.refused(Code::NotLoggedIn);
    place.stand.fails("/users/", Fault::Silent);
    let again = place.client(1);
    let started = std::time::Instant::now();
    place.world.register(&again, &again.initial, None).await.refused(Code::NotLoggedIn);
    assert!(started.elapsed() < std::time::Duration::from_secs(9), "a login waits for a silent directory");
}
