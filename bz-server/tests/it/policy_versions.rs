//! `/policy-versions`: what policies said before, who changed them, and how.

use bz_core::api::error::Code;
use bz_core::api::policy::version::{PolicyChange, PolicyDiff, PolicyVersion};
use serde_json::{Value, json};

use crate::world::{As, World};

/// Every change of a policy is a version with its author, whatever path it took, and stays when the policy is gone.
#[tokio::test]
async fn every_change_is_a_version() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let alice_id = world.id_of(&alice).await;
    let id = world.allow(&admin, &alice, &web, &["root"]).await;
    let path = format!("/policies/target-connect/{id}");
    world.advance(60);
    let edited = json!({"targetUsers": [{"userName": "deploy"}], "description": "for deploys"});
    world.call(As::Client(&admin), "PATCH", &path, &edited).await.done();
    world.call(As::Client(&admin), "PATCH", &path, &json!({"verbs": []})).await.refused(Code::BadRequest);
    world.raw(As::Client(&admin), "DELETE", &format!("/users/{alice_id}"), vec![]).await.done();
    let key = world.key(&admin, false).await;
    world.raw(As::Key(&key), "DELETE", &path, vec![]).await.done();

    let versions: Vec<PolicyVersion> = world.get(As::Client(&admin), &format!("/policy-versions/{id}")).await.ok();
    let seen: Vec<_> = versions
        .iter()
        .map(|version| (version.number, version.change, version.actor.as_ref().unwrap().subject_name.as_str()))
        .collect();
    let root = "root-of-all@example.com";
    let expected = [
        (4, PolicyChange::Deleted, "ci"),
        (3, PolicyChange::SubjectDeleted, root),
        (2, PolicyChange::Edited, root),
        (1, PolicyChange::Created, root),
    ];
    assert_eq!(seen, expected, "what is refused is no version");
    assert_eq!(
        (versions[3].timestamp.as_str(), versions[2].timestamp.as_str()),
        ("2027-01-15T08:00:00Z", "2027-01-15T08:01:00Z")
    );
    assert!(versions.iter().all(|version| version.content.is_none()), "lists leave out what they said");
    let one = |number: u32| world.get(As::Client(&admin), format!("/policy-versions/{id}/{number}").leak());
    let first: PolicyVersion = one(1).await.ok();
    let last: PolicyVersion = one(4).await.ok();
    assert_eq!(first.content.unwrap()["subjects"][0]["id"], json!(alice_id));
    assert_eq!(last.content.unwrap()["subjects"], json!([]), "a deleted one says what it said last");
    let page: Vec<PolicyVersion> = world.get(As::Client(&admin), &format!("/policy-versions/{id}?limit=2")).await.ok();
    assert_eq!(page, versions[..2]);
    let (_, next) = world.linked(As::Client(&admin), &format!("/policy-versions/{id}?limit=2")).await;
    let next = next.unwrap();
    let next = next.trim_start_matches("</api/v2").split('>').next().unwrap().to_owned();
    assert_eq!(world.get(As::Client(&admin), &next).await.ok::<Vec<PolicyVersion>>(), versions[2..]);

    // By name, also now that there is none.
    let called = format!("/policy-versions?name={}", versions[0].name);
    assert_eq!(world.get(As::Client(&admin), &called).await.ok::<Vec<PolicyVersion>>(), versions);
    one(5).await.refused(Code::NotFound);
    one(0).await.refused(Code::NotFound);
    world.get(As::Client(&admin), "/policy-versions").await.refused(Code::BadRequest);
    let nobody = "/policy-versions/00000000-0000-4000-8000-000000000000";
    world.get(As::Client(&admin), nobody).await.refused(Code::NotFound);
    let stranger = world.user("bob").await;
    world.get(As::Client(&stranger), &called).await.refused(Code::Denied);
}

/// A diff names fields, and elements of lists.
#[tokio::test]
async fn versions_are_compared() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let id = world.allow(&admin, &alice, &web, &["root", "deploy"]).await;
    let path = format!("/policies/target-connect/{id}");
    for change in [json!({"targetUsers": [{"userName": "deploy"}, {"userName": "backup"}]}), json!({"enabled": false})]
    {
        world.call(As::Client(&admin), "PATCH", &path, &change).await.done();
    }
    let diff = async |query: &str| {
        let path = format!("/policy-versions/{id}/diff{query}");
        world.get(As::Client(&admin), &path).await.ok::<PolicyDiff>()
    };
    let users = json!({
        "field": "targetUsers", "added": [{"userName": "backup"}], "removed": [{"userName": "root"}],
    });
    let enabled = json!({"field": "enabled", "before": true, "after": false});
    let last = diff("").await;
    assert_eq!((last.from, last.to, json!(last.fields)), (2, 3, json!([enabled])));
    assert_eq!(json!(diff("?from=1&to=2").await.fields), json!([users]));
    assert_eq!(json!(diff("?from=1").await.fields), json!([enabled, users]));
    let made: Vec<Value> = diff("?from=0&to=1").await.fields.iter().map(|field| json!(field.field)).collect();
    assert!(made.contains(&json!("name")) && made.contains(&json!("verbs")), "{made:?}");
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    let gone = diff("").await;
    assert!(gone.fields.iter().all(|field| field.after.is_none() && field.added.is_empty()), "{gone:?}");
    world.get(As::Client(&admin), &format!("/policy-versions/{id}/diff?from=9")).await.refused(Code::NotFound);
}

/// A policy ends at its minute, its sessions within a second of it, and its history says that it ended by itself.
#[tokio::test]
async fn a_policy_ends_at_its_minute() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let id = world.allow(&admin, &alice, &web, &["root"]).await;
    let path = format!("/policies/target-connect/{id}");
    let ends = json!({"timeExpires": "2027-01-15T08:01:00Z"});
    world.call(As::Client(&admin), "PATCH", &path, &ends).await.done();
    world.connect(&alice, &web).await;
    let open = async || world.get(As::Client(&alice), "/connections").await.ok::<Vec<Value>>().len();
    world.advance(59);
    bz_server::jobs::end_policies(&world.app).await.unwrap();
    assert_eq!(open().await, 1, "a second too early");
    world.advance(1);
    bz_server::jobs::end_policies(&world.app).await.unwrap();
    assert_eq!(open().await, 0, "what an ended policy alone allowed has ended");
    let versions: Vec<PolicyVersion> = world.get(As::Client(&admin), &format!("/policy-versions/{id}")).await.ok();
    assert_eq!((versions[0].change, &versions[0].actor), (PolicyChange::Expired, &None));
    assert!(bz_server::jobs::EVERY_END.as_secs() <= 2, "a change reaches sessions within three seconds");
}
