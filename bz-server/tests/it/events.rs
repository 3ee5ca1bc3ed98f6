//! `/events`: the log of calls is whole, chained and filtered.

use bz_core::api::error::Code;
use bz_core::api::record::{LogHead, UserEvent};
use bz_server::store::event::Broken;
use serde_json::{Value, json};

use crate::world::{As, World};

/// F-079, F-173, F-174: who did what on what, allowed or not, from where, under which request.
#[tokio::test]
async fn an_event_says_who_what_and_whether() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let refused = world.call(As::Client(&alice), "POST", "/environments", &json!({"name": "prod"})).await;
    let request_id = refused.refused(Code::Denied).request_id;
    world.call(As::Client(&admin), "POST", "/environments", &json!({"name": "prod"})).await.done();
    let log = world.log().await;
    assert_eq!((log[0].resource.as_str(), log[0].evaluation), ("prod", true));
    assert_eq!((log[0].actor.subject_name.as_str(), log[0].actor.is_admin), ("root-of-all@example.com", true));
    assert_eq!((log[1].evaluation, log[1].id.to_string()), (false, request_id));
    assert_eq!(log[1].actor.subject_name, "alice@example.com");
    assert_eq!((log[1].service_action.as_str(), log[1].ip_address.as_str()), ("environmentservice:add", "0.0.0.0"));
    let context: Value = serde_json::from_str(&log[1].context).unwrap();
    assert_eq!((&context["status"], &context["code"]), (&json!(403), &json!("denied")));
}

/// F-173: a client that hangs up while it is answered is logged all the same, and so is a body that is too large.
#[tokio::test]
async fn no_call_stays_out_of_the_log() {
    let world = World::new().await;
    let admin = world.admin().await;
    let before = world.log().await.len();
    {
        let call = std::pin::pin!(world.get(As::Client(&admin), "/users"));
        assert!(futures::poll!(call).is_pending(), "the call was over before it could be dropped");
    }
    let logged = async {
        while world.log().await.len() == before {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), logged).await;
    waited.expect("the dropped call left no event");
    assert_eq!(world.log().await[0].service_action, "userservice:list");
    world.raw(As::Client(&admin), "POST", "/environments", vec![b' '; 1 << 17]).await.refused(Code::TooLarge);
    assert_eq!(world.log().await[0].service_action, "environmentservice:add");
}

/// F-155~: a log is asked for by person, time and number, newest first.
#[tokio::test]
async fn logs_are_filtered() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let id = world.id_of(&alice).await;
    world.advance(100);
    let ask = |query: String| {
        let (world, admin) = (&world, &admin);
        async move { world.get(As::Client(admin), &format!("/events/subject{query}")).await.ok::<Vec<UserEvent>>() }
    };
    let hers = ask(format!("?subjectIds={id}")).await;
    let actions: Vec<_> = hers.iter().map(|e| e.service_action.as_str()).collect();
    assert_eq!(actions, ["userservice:me", "userservice:register"]);
    assert_eq!(ask(format!("?subjectIds={id}&eventCount=1")).await.len(), 1);
    assert!(ask(format!("?subjectIds={id}&startTimestamp=2027-01-15T08:01:00Z")).await.is_empty());
    assert_eq!(ask(format!("?subjectIds={id}&endTimestamp=2027-01-15T08:01:00Z")).await.len(), 2);
}

/// A row changed or taken out breaks the chain where it was done, and a head written down before stays good.
#[tokio::test]
async fn a_changed_log_shows() {
    let world = World::new().await;
    let admin = world.admin().await;
    let head: LogHead = world.get(As::Client(&admin), "/events/head").await.ok();
    for _ in 0..5 {
        world.get(As::Client(&admin), "/users/me").await.done();
    }
    let trust = || (world.app.organization, vec![world.app.root()]);
    let check = || world.app.store.audit_events(Some(head.head.parse().unwrap()), trust());
    assert_eq!(check().await.unwrap().unwrap().rows, 7);
    let edit = |sql: &str| {
        let file = world.folder.path().join("data").join(bz_server::store::FILE);
        let connection = rusqlite::Connection::open(file).unwrap();
        assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
    };
    edit("UPDATE event SET body = replace(body, '\"evaluation\":true', '\"evaluation\":false') WHERE seq = 3");
    assert_eq!(check().await.unwrap(), Err(Broken::Row(3)));
    edit("UPDATE event SET body = replace(body, '\"evaluation\":false', '\"evaluation\":true') WHERE seq = 3");
    edit("DELETE FROM event WHERE seq = 2");
    assert_eq!(check().await.unwrap(), Err(Broken::Missing { expected: 2, found: 3 }));
}
