//! `/organization/registration-key`, tokens, scripts and programs.

use bz_core::api::api_key::{ApiKey, ApiKeyMade, OwnerType, RegistrationKeySettings};
use bz_core::api::autodiscovery::{Artifact, AutodiscoveryScript};
use bz_core::api::error::Code;
use bz_core::api::register::AgentRegistered;
use bz_core::api::target::EnvironmentMade;
use bz_core::script::NO_KEY;
use bz_server::jobs;
use serde_json::{Value, json};

use crate::world::{As, Reply, World};

const SETTINGS: &str = "/organization/registration-key/settings";
const ON: &str = "/organization/registration-key/enable-enforce-global-key";
const OFF: &str = "/organization/registration-key/disable-enforce-global-key";
const OWN: &str = "/organization/registration-key/own";
const BASH: &str = "/autodiscovery-scripts/bzero/bash";

/// F-143, F-144, F-145: as it is at the beginning: the default registration key is for everybody, administrators alone make
/// registration keys, and a script that one asks for has a token of the default key, which the script says.
#[tokio::test]
async fn the_default_key_is_for_everybody_unless_somebody_says_otherwise() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let settings: RegistrationKeySettings = world.get(As::Client(&admin), SETTINGS).await.ok();
    assert!(settings.global_registration_key_enforced);
    let script: AutodiscoveryScript = world.get(As::Client(&admin), BASH).await.ok();
    let token = script.registration_token.unwrap();
    let settings: RegistrationKeySettings = world.get(As::Client(&admin), SETTINGS).await.ok();
    assert_eq!(settings.default_global_registration_key, Some(token.registration_key_id));
    assert!(script.autodiscovery_script.contains(&token.secret), "the script has no token");

    let registration = json!({"name": "hosts", "isRegistrationKey": true});
    world.call(As::Client(&alice), "POST", "/api-keys", &registration).await.refused(Code::Denied);
    world.get(As::Client(&alice), BASH).await.refused(Code::Denied);
    world.call(As::Client(&admin), "POST", OWN, &json!({})).await.refused(Code::Conflict);
    let hosts: ApiKeyMade = world.call(As::Client(&admin), "POST", "/api-keys", &registration).await.ok();
    let id = hosts.api_key_details.id;
    let on = json!({"defaultRegistrationKeyId": id});
    let settings: RegistrationKeySettings = world.call(As::Client(&admin), "POST", ON, &on).await.ok();
    assert_eq!(settings.default_global_registration_key, Some(id));
    assert_eq!(token_of(&world, As::Client(&admin), BASH).await.1, "hosts");
    let path = format!("/api-keys/{id}");
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.refused(Code::Conflict);
    let access: ApiKeyMade = world.call(As::Client(&admin), "POST", "/api-keys", &json!({"name": "x"})).await.ok();
    for wrong in [access.api_key_details.id, token.id] {
        let on = json!({"defaultRegistrationKeyId": wrong});
        world.call(As::Client(&admin), "POST", ON, &on).await.refused(Code::BadRequest);
    }
}

/// F-146, F-147, F-148: with the setting off each administrator has a registration key, with a secret of it that is shown
/// once; can make others and hand them out; and scripts have tokens of the key of whoever asks.
#[tokio::test]
async fn without_a_global_key_each_administrator_has_one() {
    let world = World::new().await;
    let (admin, carol) = (world.admin().await, world.user("carol").await);
    let root = As::Client(&admin);
    let role = json!({"role": "Admin"});
    world.call(root, "PATCH", &format!("/users/{}", world.id_of(&carol).await), &role).await.done();
    let settings: RegistrationKeySettings = world.call(root, "POST", OFF, &json!({})).await.ok();
    assert!(!settings.global_registration_key_enforced);
    let all: Vec<ApiKey> = world.get(root, "/api-keys").await.ok();
    let mut owners: Vec<_> = all.iter().filter(|key| key.is_personal).map(|key| key.owner.clone().unwrap()).collect();
    owners.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(owners.len(), 2, "{all:#?}");
    assert!(owners.iter().all(|owner| owner.kind == OwnerType::Administrator), "{owners:?}");
    assert_eq!(owners[0].name, "carol@example.com");

    let own: ApiKeyMade = world.call(As::Client(&carol), "POST", OWN, &json!({})).await.ok();
    assert_eq!(own.api_key_details.owner.as_ref(), Some(&owners[0]));
    assert!(register(&world, &own.secret, "by-hand").await.status.is_success());
    for (who, name) in [(&admin, "root-of-all@example.com"), (&carol, "carol@example.com")] {
        let script: AutodiscoveryScript = world.get(As::Client(who), BASH).await.ok();
        let key = script.registration_token.unwrap().registration_key_id;
        let key: ApiKey = world.get(root, &format!("/api-keys/{key}")).await.ok();
        assert_eq!(key.owner.unwrap().name, name);
    }
    let other = json!({"name": "for alice", "isRegistrationKey": true});
    let other: ApiKeyMade = world.call(As::Client(&carol), "POST", "/api-keys", &other).await.ok();
    assert!(register(&world, &other.secret, "handed-out").await.status.is_success());

    // A program has no key of its own: it names one, or gets a script without.
    let program = world.key(&admin, false).await;
    let script: AutodiscoveryScript = world.get(As::Key(&program), BASH).await.ok();
    assert!(script.registration_token.is_none() && script.autodiscovery_script.contains(NO_KEY));
    let named = format!("{BASH}?registrationKeyId={}", other.api_key_details.id);
    let script: AutodiscoveryScript = world.get(As::Key(&program), &named).await.ok();
    assert_eq!(script.registration_token.unwrap().registration_key_name, "for alice");

    // An administrator who leaves takes the key along, and what was made of it.
    let (token, _) = token_of(&world, As::Client(&carol), BASH).await;
    world.raw(root, "DELETE", &format!("/users/{}", world.id_of(&carol).await), vec![]).await.done();
    register(&world, &own.secret, "late").await.refused(Code::NotLoggedIn);
    register(&world, &token, "late").await.refused(Code::NotLoggedIn);
}

/// F-142: a registration key is an application's, an end user's or an administrator's.
#[tokio::test]
async fn a_registration_key_can_have_an_owner() {
    let world = World::new().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let root = As::Client(&admin);
    let make = async |owner: Value| {
        let mut body = json!({"name": "k", "isRegistrationKey": true});
        body.as_object_mut().unwrap().extend(owner.as_object().unwrap().clone());
        world.call(root, "POST", "/api-keys", &body).await
    };
    for (owner, kind) in [
        (json!({"ownerApplication": "autoscaler"}), Some(OwnerType::Application)),
        (json!({"ownerId": world.id_of(&alice).await}), Some(OwnerType::EndUser)),
        (json!({"ownerId": world.id_of(&admin).await}), Some(OwnerType::Administrator)),
        (json!({}), None),
    ] {
        let made: ApiKeyMade = make(owner.clone()).await.ok();
        assert_eq!(made.api_key_details.owner.map(|owner| owner.kind), kind, "{owner}");
    }
    make(json!({"ownerApplication": "a", "ownerId": world.id_of(&alice).await})).await.refused(Code::BadRequest);
    make(json!({"ownerId": world.app.organization})).await.refused(Code::BadRequest);
    make(json!({"ownerApplication": ""})).await.refused(Code::BadRequest);
}

/// A token registers as many targets as it says, for as long as it says, and where it says; it ends with its key.
#[tokio::test]
async fn a_token_is_short_lived_and_for_few() {
    let world = World::new().await;
    let admin = world.admin().await;
    // A login ends within the hours that pass here.
    let program = world.key(&admin, false).await;
    let root = As::Key(&program);
    let (once, _) = token_of(&world, root, BASH).await;
    let (twice, _) = token_of(&world, root, &format!("{BASH}?uses=2&validMinutes=120")).await;
    register(&world, &once, "one").await.done();
    let refused = register(&world, &once, "two").await.refused(Code::NotLoggedIn);
    assert!(refused.error_msg.contains("all that it may"), "{}", refused.error_msg);
    // What is refused uses nothing up.
    register(&world, &twice, "one").await.refused(Code::Conflict);
    register(&world, &twice, "two").await.done();
    world.advance(3601);
    let (late, _) = token_of(&world, root, BASH).await;
    register(&world, &twice, "three").await.done();
    register(&world, &twice, "four").await.refused(Code::NotLoggedIn);
    world.advance(3600);
    register(&world, &late, "four").await.refused(Code::NotLoggedIn);
    let tokens = async || {
        let all: Vec<ApiKey> = world.get(root, "/api-keys").await.ok();
        all.into_iter().filter(|key| key.parent_id.is_some()).count()
    };
    assert_eq!(tokens().await, 3);
    jobs::tick(&world.app).await.unwrap();
    assert_eq!(tokens().await, 0, "tokens that have ended are gone");

    let prod: EnvironmentMade = world.call(root, "POST", "/environments", &json!({"name": "it's prod"})).await.ok();
    let script: AutodiscoveryScript = world.get(root, &format!("{BASH}?environmentId={}", prod.id)).await.ok();
    assert_eq!(script.environment_name.as_deref(), Some("it's prod"));
    assert!(script.autodiscovery_script.contains(r"environment='it'\''s prod'"), "quoted");
    let secret = script.registration_token.unwrap().secret;
    let (mut body, _) = world.registration("five", world.seed());
    body.environment_name = Some("Default".to_owned());
    world.call(As::Key(&secret), "POST", "/agent/register", &body).await.refused(Code::Denied);
    let made: AgentRegistered = register(&world, &secret, "five").await.ok();
    assert_eq!(made.environment_name, "it's prod", "a token's environment is its own");

    let settings: RegistrationKeySettings = world.get(root, SETTINGS).await.ok();
    let default = format!("/api-keys/{}", settings.default_global_registration_key.unwrap());
    for end in [("POST", format!("{default}/rotate"), json!({})), ("PATCH", default, json!({"enabled": false}))] {
        let (token, _) = token_of(&world, root, BASH).await;
        world.call(root, end.0, &end.1, &end.2).await.done();
        register(&world, &token, "six").await.refused(Code::NotLoggedIn);
    }
    world.get(root, BASH).await.refused(Code::Conflict);
}

/// Every kind of script, at the original's paths and with its parameters: none vouches for this server, and none is kept on
/// the way.
#[tokio::test]
async fn scripts_come_without_pins() {
    let world = World::new().await;
    let admin = world.admin().await;
    let folder = world.app.config().data.join("artifacts");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("bz-agent-linux-x86_64"), vec![7; 200_000]).unwrap();
    let list: Vec<Artifact> = world.get(As::Client(&admin), "/artifacts").await.ok();
    let bundle = world.app.bundle().to_text().unwrap();
    for kind in ["bzero/bash", "windows/powershell", "bzero/ansible", "bzero/kube", "container"] {
        let path = format!("/autodiscovery-scripts/{kind}?targetNameOption=AwsEc2Metadata");
        let reply = world.get(As::Client(&admin), &path).await;
        assert_eq!(reply.headers["cache-control"], "no-store", "{kind}");
        let text = if kind == "container" {
            assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
            String::from_utf8(reply.body).unwrap()
        } else {
            reply.ok::<AutodiscoveryScript>().autodiscovery_script
        };
        assert!(text.contains("PINS"), "{kind} does not say that pins are missing");
        assert!(!bundle.lines().any(|line| line.len() > 20 && text.contains(line)), "{kind} has the server's own pins");
        let known = text.contains(&list[0].sha256);
        assert_eq!(known, kind != "windows/powershell", "{kind} and the program's digest");
    }
    for bad in ["targetNameOption=Nothing", "targetName=a%20b", "uses=0", "validMinutes=4", "environmentId=x"] {
        world.get(As::Client(&admin), &format!("{BASH}?{bad}")).await.refused(Code::BadRequest);
    }
    let nowhere = format!("{BASH}?environmentId={}", world.app.organization);
    world.get(As::Client(&admin), &nowhere).await.refused(Code::NotFound);

    let program = world.get(As::Nobody, "/artifacts/bz-agent-linux-x86_64").await;
    assert_eq!(program.body, vec![7; 200_000]);
    assert_eq!(program.headers["etag"], format!("\"{}\"", list[0].sha256).as_str());
    for name in ["nothing", "..%2Froot.key", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", ".hidden"] {
        world.get(As::Nobody, &format!("/artifacts/{name}")).await.refused(Code::NotFound);
    }
}

/// A script's token, and the name of the key it is of.
async fn token_of(world: &World, who: As<'_>, path: &str) -> (String, String) {
    let script: AutodiscoveryScript = world.get(who, path).await.ok();
    let token = script.registration_token.unwrap();
    (token.secret, token.registration_key_name)
}

async fn register(world: &World, secret: &str, name: &str) -> Reply {
    let (body, _) = world.registration(name, world.seed());
    world.call(As::Key(secret), "POST", "/agent/register", &body).await
}
