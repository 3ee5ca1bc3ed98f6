//! `policies:evaluate` and `policies:simulate`.

use bz_core::api::error::Code;
use bz_core::api::policy::question::{Evaluation, Simulation};
use serde_json::{Value, json};

use crate::world::{As, Client, World};

/// Who, what, where and when: the decision, the policies behind it, and what every other one is to the question. Only the
/// administrator's own call is left behind.
#[tokio::test]
async fn a_question_is_answered_and_nothing_happens() {
    let world = World::new().await;
    let (admin, alice, bob) = (world.admin().await, world.user("alice").await, world.user("bob").await);
    let (web, db) = (world.agent(&admin, "web").await, world.agent(&admin, "db").await);
    let yes = world.allow(&admin, &alice, &web, &["root", "{username}"]).await;
    let elsewhere = world.allow(&admin, &alice, &db, &["root"]).await;
    let others = world.allow(&admin, &bob, &web, &["root"]).await;
    let ended = world.allow(&admin, &alice, &web, &["deploy"]).await;
    let path = format!("/policies/target-connect/{ended}");
    world.call(As::Client(&admin), "PATCH", &path, &json!({"timeExpires": "2027-01-15T09:00:00Z"})).await.done();
    let before = world.app.store.event_head().await.unwrap().count;
    let policies = world.app.store.policies().await.unwrap();

    let ask = |question: Value| evaluate(&world, &admin, question);
    let alice_on_web = json!({"userEmail": "alice@example.com", "targetName": "web"});
    let answer = ask(alice_on_web.clone()).await;
    assert!(answer.allowed, "{}", answer.reason);
    assert_eq!(answer.allowed_target_users, ["alice", "deploy", "root"]);
    let mut verdicts: Vec<_> = answer.considered.iter().map(|one| (one.id.to_string(), one.verdict.as_str())).collect();
    verdicts.sort_unstable();
    let mut expected = vec![
        (yes.clone(), "allows it"),
        (elsewhere, "names the subject, but not the place"),
        (others, "names the place, but not the subject"),
        (ended.clone(), "allows it"),
    ];
    expected.sort_unstable();
    assert_eq!(verdicts, expected);

    let mut later = alice_on_web.clone();
    later["time"] = json!("2027-01-15T09:00:00Z");
    let answer = ask(later).await;
    assert_eq!(answer.allowed_target_users, ["alice", "root"], "a policy that will have ended");
    let one = answer.considered.iter().find(|one| one.id.to_string() == ended).unwrap();
    assert_eq!(one.verdict, "has expired");

    let mut tunnel = alice_on_web.clone();
    tunnel["verbType"] = json!({"type": "Tunnel"});
    let answer = ask(tunnel).await;
    assert_eq!(
        (answer.allowed, answer.reason.as_str()),
        (false, "policies name you and this target, but none allows this verb")
    );
    let one = answer.considered.iter().find(|one| one.id.to_string() == yes).unwrap();
    assert_eq!(one.verdict, "names subject and place, but does not give the verb");

    let events = world.log().await;
    let counted = world.app.store.event_head().await.unwrap().count - before;
    assert_eq!(counted, 3, "three calls, three events, nothing else");
    assert_eq!(
        (events[0].service_action.as_str(), events[0].resource.as_str()),
        ("policyqueryservice:evaluate", "alice@example.com on web")
    );
    assert_eq!(world.app.store.policies().await.unwrap(), policies);
    assert_eq!(world.links.asked(), []);

    for (bad, code) in [
        (json!({"targetName": "web"}), Code::BadRequest),
        (json!({"userEmail": "nobody@example.com", "targetName": "web"}), Code::NotFound),
        (json!({"userEmail": "alice@example.com", "targetName": "nowhere"}), Code::NotFound),
        (json!({"userEmail": "alice@example.com", "targetName": "web", "time": "soon"}), Code::BadRequest),
        (json!({"userEmail": "alice@example.com", "targetName": "web", "x": 1}), Code::BadRequest),
    ] {
        world.call(As::Client(&admin), "POST", "/policies:evaluate", &bad).await.refused(code);
    }
    world.call(As::Client(&alice), "POST", "/policies:evaluate", &alice_on_web).await.refused(Code::Denied);
}

/// Groups of a question take the place of those that are known, and what is not known is said.
#[tokio::test]
async fn groups_may_be_supposed() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let body = json!({
        "name": "ops", "groups": [{"id": "ops", "name": "ops"}], "verbs": [{"type": "Shell"}],
        "targets": [{"id": web.id, "type": "Bzero"}], "targetUsers": [{"userName": "root"}],
    });
    world.call(As::Client(&admin), "POST", "/policies/target-connect", &body).await.done();
    let mut question = json!({"userEmail": "alice@example.com", "targetName": "web"});
    assert!(!evaluate(&world, &admin, question.clone()).await.allowed);
    question["groups"] = json!(["ops"]);
    assert!(evaluate(&world, &admin, question.clone()).await.allowed);
    world.raw(As::Client(&alice), "POST", "/users/logout", vec![]).await.done();
    question["groups"] = Value::Null;
    let answer = evaluate(&world, &admin, question).await;
    assert!(!answer.allowed && answer.notes.iter().any(|note| note.contains("not logged in")), "{answer:?}");
}

/// A draft says whom it would give what, and take; it is checked as one that is made, and is not made.
#[tokio::test]
async fn a_draft_is_tried_before_it_is_made() {
    let world = World::new().await;
    let (admin, alice, bob) = (world.admin().await, world.user("alice").await, world.user("bob").await);
    let (web, db) = (world.agent(&admin, "web").await, world.agent(&admin, "db").await);
    let id = world.allow(&admin, &alice, &web, &["root"]).await;
    let before = (world.app.store.policies().await.unwrap(), world.app.store.event_head().await.unwrap().count);
    let simulate = async |body: Value| -> Simulation {
        world.call(As::Client(&admin), "POST", "/policies:simulate", &body).await.ok()
    };
    let draft = json!({
        "name": "more", "targetUsers": [{"userName": "deploy"}], "verbs": [{"type": "Shell"}, {"type": "Tunnel"}],
        "subjects": [{"id": world.id_of(&alice).await, "type": "User"}, {"id": world.id_of(&bob).await, "type": "User"}],
        "targets": [{"id": web.id, "type": "Bzero"}, {"id": db.id, "type": "Bzero"}],
    });
    let question = json!({"userEmail": "bob@example.com", "targetName": "db"});
    let new = simulate(json!({"type": "TargetConnect", "policy": draft, "question": question})).await;
    assert_eq!((new.before.unwrap().allowed, new.after.as_ref().unwrap().allowed), (false, true));
    assert_eq!(new.after.unwrap().policies[0].name, "more");
    let told = |simulation: &Simulation| {
        let mut told: Vec<_> = simulation
            .changes
            .iter()
            .map(|one| {
                let place = one.target_name.clone().unwrap_or_default();
                format!("{} {place} +{:?} -{:?}", one.subject_name, one.gained, one.lost)
            })
            .collect();
        told.sort_unstable();
        told
    };
    let simulated = simulate(json!({"type": "TargetConnect", "policy": draft})).await;
    assert_eq!(
        told(&simulated),
        [
            r#"alice@example.com db +["Shell as deploy", "Tunnel as deploy"] -[]"#,
            r#"alice@example.com web +["Shell as deploy", "Tunnel as deploy"] -[]"#,
            r#"bob@example.com db +["Shell as deploy", "Tunnel as deploy"] -[]"#,
            r#"bob@example.com web +["Shell as deploy", "Tunnel as deploy"] -[]"#,
        ]
    );
    assert_eq!((simulated.looked_at, simulated.complete, simulated.before.is_none()), (4, true, true));
    // In place of another, and with nothing in place of it.
    let replaced = simulate(json!({"type": "TargetConnect", "policyId": id, "policy": draft})).await;
    assert!(
        told(&replaced).contains(
            &r#"alice@example.com web +["Shell as deploy", "Tunnel as deploy"] -["Shell as root"]"#.to_owned()
        ),
        "{:?}",
        told(&replaced)
    );
    let deleted = simulate(json!({"type": "TargetConnect", "policyId": id})).await;
    assert_eq!(told(&deleted), [r#"alice@example.com web +[] -["Shell as root"]"#]);
    let recording =
        json!({"name": "rec", "recordInput": true, "subjects": [{"id": world.id_of(&bob).await, "type": "User"}]});
    let recorded = simulate(json!({"type": "SessionRecording", "policy": recording})).await;
    assert_eq!(told(&recorded), [r#"bob@example.com  +["is recorded", "is recorded, with what is typed"] -[]"#]);

    let after = world.app.store.event_head().await.unwrap().count;
    assert_eq!(world.app.store.policies().await.unwrap(), before.0, "nothing is made");
    // Three more were reads of ids.
    assert_eq!(after - before.1, 5 + 3, "a call, an event, and nothing else");
}

/// What could not be made cannot be tried either, and only administrators try.
#[tokio::test]
async fn a_bad_draft_is_refused() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let id = world.allow(&admin, &alice, &web, &["root"]).await;
    let name = world.app.store.policies().await.unwrap().all[0].name.clone();
    let draft = json!({
        "name": "more", "targetUsers": [{"userName": "deploy"}], "verbs": [{"type": "Shell"}],
        "targets": [{"id": web.id, "type": "Bzero"}],
    });
    let mut bad = draft.clone();
    bad["targetUsers"] = json!([{"userName": "{email}"}]);
    let mut taken = draft.clone();
    taken["name"] = json!(name);
    for (body, code) in [
        (json!({"type": "TargetConnect", "policy": bad}), Code::BadRequest),
        (json!({"type": "TargetConnect", "policy": taken}), Code::Conflict),
        (json!({"type": "TargetConnect"}), Code::BadRequest),
        (json!({"type": "Fly", "policy": draft}), Code::BadRequest),
        (json!({"type": "OrganizationControls", "policy": draft}), Code::BadRequest),
        (json!({"type": "Proxy", "policyId": id, "policy": draft}), Code::NotFound),
        (json!({"type": "TargetConnect", "policy": []}), Code::BadRequest),
    ] {
        world.call(As::Client(&admin), "POST", "/policies:simulate", &body).await.refused(code);
    }
    world.call(As::Client(&alice), "POST", "/policies:simulate", &json!({})).await.refused(Code::Denied);
}

async fn evaluate(world: &World, admin: &Client, question: Value) -> Evaluation {
    world.call(As::Client(admin), "POST", "/policies:evaluate", &question).await.ok()
}
