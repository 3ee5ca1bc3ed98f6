//! Groups of identity providers, asked of directories that behave as their providers say, or do not.

mod faults;
mod hook;
mod place;
mod stand;

use std::collections::BTreeSet;

use bz_core::api::access::ConnectionMade;
use bz_core::api::error::Code;
use bz_core::api::groups::{GroupsSource, IdpGroup, SourceKind};
use bz_core::api::login::Registered;
use bz_core::api::virtual_target::VirtualTargetMade;
use bz_server::jobs;
use serde_json::{Value, json};

use crate::world::{As, World};
use place::{KINDS, Place};
use stand::Kind;

/// F-065~, F-066, F-069, F-071, F-072, F-082: of each kind of directory: a policy that names a group gives its members what
/// it says from the moment it is saved, and who leaves the group loses it within the hour, open sessions included. Only
/// read access is asked for, and nothing but reads is ever sent.
#[tokio::test]
async fn a_group_gives_its_members_what_its_policies_say() {
    for kind in KINDS {
        let place = Place::new(kind).await;
        let alice = place.person(1, &[0]).await;
        let bob = place.person(2, &[1]).await;
        assert_eq!(place.open(&alice).await, 0);
        place.policy("ops", &[0]).await;
        let session = place.session(&alice).await;
        place.connect(&bob).await.refused(Code::Denied);

        // Nobody is asked about before it is time.
        place.later(0).await;
        place.stand.asked();
        place.later(20).await;
        assert_eq!(place.stand.asked(), [""; 0], "{kind:?}");
        place.stand.put(&place.id(1), &[]);
        place.stand.put(&place.id(2), &[&place.group(0)]);
        place.later(11).await;
        let why = place.closed(session).unwrap_or_default();
        assert!(why.contains("no policy allows it any more"), "{kind:?}: the session goes on without its group: {why}");
        assert_eq!(place.open(&alice).await, 0);
        place.connect(&alice).await.refused(Code::Denied);
        place.connect(&bob).await.done();
        let log = place.world.log().await;
        let changed: Vec<_> = log.iter().filter(|event| event.service_action == "groupservice:changed").collect();
        assert_eq!(changed.len(), 3, "{kind:?}: {changed:#?}");
        place.only_reads();
    }
}

/// F-062, F-064~: of each kind of directory: who is deactivated there is logged out here, with every connection, at the
/// latest when everybody is asked about; and does not come back by a token from before, but by being active again.
#[tokio::test]
async fn who_is_deactivated_there_is_out_here() {
    for kind in KINDS {
        let place = Place::new(kind).await;
        let alice = place.person(1, &[0]).await;
        place.policy("ops", &[0]).await;
        let session = place.session(&alice).await;
        place.stand.activate(&place.id(1), false);
        place.later(31).await;
        let why = place.closed(session).unwrap_or_default();
        assert!(why.contains("the identity provider has deactivated the account"), "{kind:?}: {why}");
        let refused = place.world.get(As::Client(&alice), "/users/me").await.refused(Code::NotLoggedIn);
        assert!(!refused.error_msg.is_empty());
        assert_eq!(place.connections_of(1).await, 0, "{kind:?}");
        let again = place.client(1);
        let refused = place.world.register(&again, &again.initial, None).await.refused(Code::NotLoggedIn);
        assert!(refused.error_msg.contains("deactivated this account"), "{kind:?}: {}", refused.error_msg);
        let log = place.world.log().await;
        assert!(log.iter().any(|event| event.service_action == "groupservice:deactivated"), "{kind:?}");

        place.stand.activate(&place.id(1), true);
        let back = place.client(1);
        place.world.register(&back, &back.initial, None).await.ok::<Registered>();
        place.connect(&back).await.done();
        // And who is deleted there is as good as deactivated.
        place.stand.with(|state| state.people.remove(&place.id(1)));
        place.later(31).await;
        place.world.get(As::Client(&back), "/users/me").await.refused(Code::NotLoggedIn);
    }
}

/// F-067, F-068: who authors a policy sees every group there is, page after page, and nothing of that is kept; no question
/// about groups is asked unless a policy names one.
#[tokio::test]
async fn groups_are_read_for_who_authors_a_policy() {
    for kind in KINDS {
        let place = Place::new(kind).await;
        let alice = place.person(1, &[0, 3]).await;
        place.stand.asked();
        place.later(31).await;
        let asked = place.stand.asked();
        let about_groups = |path: &&String| ["groups", "roles", "Groups"].iter().any(|word| path.contains(word));
        assert_eq!(asked.iter().filter(about_groups).count(), 0, "{kind:?}: {asked:?}");
        let get = async |path: &'static str| -> Vec<IdpGroup> { place.world.get(place.admin(), path).await.ok() };
        let post = async |path: &str| -> Vec<IdpGroup> {
            place.world.call(place.admin(), "POST", path, &json!({})).await.ok()
        };
        let names = |groups: &[IdpGroup]| groups.iter().map(|group| group.name.clone()).collect::<BTreeSet<_>>();
        assert_eq!(get("/organization/groups").await, []);
        let all = post("/organization/groups/fetch").await;
        let within: BTreeSet<_> = all.iter().filter(|group| group.id != "all").map(|group| group.id.clone()).collect();
        assert_eq!(within, (0..5).map(|n| place.group(n)).collect(), "{kind:?}");
        let id = place.world.id_of(&alice).await;
        let own = post(&format!("/organization/groups-memberships/fetch/{id}")).await;
        assert_eq!(names(&own).len(), 2, "{kind:?}: {own:?}");
        assert_eq!(get("/organization/groups").await, [], "{kind:?}: something is kept that no policy names");

        place.policy("ops", &[0]).await;
        let kept = get("/organization/groups").await;
        let [only] = kept.as_slice() else { panic!("{kind:?}: {kept:?}") };
        assert_eq!((only.policies, only.members, only.id.as_str()), (1, 1, place.group(0).as_str()), "{kind:?}");
        assert_eq!(place.kept(), [(place.group(0), 1)], "{kind:?}: more is kept than evaluation needs");
        place.only_reads();
    }
}

/// F-065: without a directory a login has the groups of its token, and the state says so; nothing can be fetched.
#[tokio::test]
async fn without_a_directory_the_token_counts() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let web = world.agent(&admin, "web").await;
    let policy = json!({
        "name": "dev", "groups": [{"id": "dev", "name": "dev"}], "targets": [{"id": web.id, "type": "Bzero"}],
        "targetUsers": [{"userName": "deploy"}], "verbs": [{"type": "Shell"}],
    });
    world.call(As::Client(&admin), "POST", "/policies/target-connect", &policy).await.done();
    world.connect(&alice, &web).await;
    let sources: Vec<GroupsSource> = world.get(As::Client(&admin), "/organization/groups/credentials").await.ok();
    let [source] = sources.as_slice() else { panic!("{sources:?}") };
    assert_eq!((source.source, source.claim.as_deref(), source.enabled), (SourceKind::Token, Some("groups"), false));
    let fetch = world.call(As::Client(&admin), "POST", "/organization/groups/fetch", &json!({})).await;
    assert!(fetch.refused(Code::Conflict).error_msg.contains("no directory to ask"));
    let listed: Vec<Value> = world.get(As::Client(&admin), "/organization/groups").await.ok();
    assert_eq!((listed[0]["idPGroupId"].as_str(), listed[0]["policies"].as_u64()), (Some("dev"), Some(1)));
}

/// F-069, F-082~: where a directory is, a token's own claim gives nobody anything: it would outlive a change there.
#[tokio::test]
async fn the_directory_is_believed_in_place_of_the_token() {
    let place = Place::new(Kind::Okta).await;
    let alice = place.person(1, &[]).await;
    assert_eq!(alice.claims["groups"], json!(["dev"]));
    place.policy_of("token", &[json!({"id": "dev", "name": "dev"})]).await;
    place.connect(&alice).await.refused(Code::Denied);
}

/// F-096, F-105, F-082~: groups count in each kind of policy.
#[tokio::test]
async fn every_kind_of_policy_takes_groups() {
    let place = Place::new(Kind::Google).await;
    let (world, alice) = (&place.world, place.person(1, &[0]).await);
    let groups = json!([{"id": place.group(0), "name": "ops"}]);
    let call = async |path: &str, body: Value| world.call(place.admin(), "POST", path, &body).await;
    let behind = |name: &str| {
        let mut body = json!({"targetName": name, "proxyTargetId": place.agent.id});
        if name == "intranet" {
            (body["remoteHost"], body["remotePort"]) = (json!("http://10.0.0.1"), json!({"value": 80}));
        }
        body
    };
    let id = async |path: &str, name: &str| -> Value {
        json!(call(path, behind(name)).await.ok::<VirtualTargetMade>().target_id)
    };
    let (web, cluster) = (id("/targets/web", "intranet").await, id("/targets/kube", "shop").await);
    for (path, mut body) in [
        ("/policies/proxy", json!({"targets": [{"id": web, "type": "Web"}]})),
        ("/policies/kubernetes", json!({"clusters": [{"id": cluster}], "clusterUsers": [{"name": "dev"}]})),
        ("/policies/session-recording", json!({"recordInput": true})),
    ] {
        (body["name"], body["groups"]) = (json!(path), groups.clone());
        call(path, body).await.done();
    }
    place.policy("ops", &[0]).await;
    let listed = async |path: &'static str| world.get(As::Client(&alice), path).await.ok::<Vec<Value>>().len();
    assert_eq!((listed("/targets/web").await, listed("/targets/kube").await), (1, 1));
    let made: ConnectionMade = place.connect(&alice).await.ok();
    assert!(made.recorded, "whoever is in the group is recorded");
    place.stand.put(&place.id(1), &[]);
    place.later(31).await;
    assert_eq!((listed("/targets/web").await, listed("/targets/kube").await), (0, 0));
}

/// The state: when it last went well, and why it did not; syncing on demand; removing the integration and taking it into
/// use again.
#[tokio::test]
async fn how_it_stands_is_said() {
    let place = Place::new(Kind::Keycloak).await;
    let (world, alice) = (&place.world, place.person(1, &[0]).await);
    place.policy("ops", &[0]).await;
    place.connect(&alice).await.done();
    let path = "/organization/groups/credentials";
    let state = async || world.get(place.admin(), path).await.ok::<Vec<GroupsSource>>().remove(0);
    jobs::groups(&world.app).await.unwrap();
    let good = state().await;
    assert_eq!((good.source, good.enabled, good.event_hook, good.claim), (SourceKind::Directory, true, false, None));
    assert!(good.last_sync.is_some() && good.last_error.is_none(), "{:?}", good.last_error);
    assert!(good.next_sync > good.last_sync);

    place.stand.fails("/users/", stand::Fault::Status(500, vec![], String::new()));
    let said: Vec<GroupsSource> = world.call(place.admin(), "POST", "/organization/groups/sync", &json!({})).await.ok();
    assert_eq!(said[0].last_error.as_deref(), Some("it answers with status 500"));
    assert_eq!(said[0].last_sync, good.last_sync);
    place.stand.heals();
    place.later(2).await;
    assert_eq!(state().await.last_error, None, "it is asked again after a minute");

    world.raw(place.admin(), "DELETE", path, vec![]).await.done();
    assert_eq!(place.connections_of(1).await, 0, "what only the directory allowed goes on");
    assert_eq!(place.kept(), []);
    place.stand.asked();
    place.later(31).await;
    let again = place.client(1);
    world.register(&again, &again.initial, None).await.ok::<Registered>();
    assert_eq!((place.stand.asked(), state().await.enabled), (vec![], false));
    world.call(place.admin(), "POST", path, &json!({})).await.done();
    place.connect(&again).await.done();
}
