//! `/service-accounts/workloads`: jobs of CI, by tokens of their issuer, as subjects of policies.

use bz_core::api::Bytes;
use bz_core::api::error::Code;
use bz_core::api::login::Registered;
use bz_core::api::policy::SubjectType;
use bz_core::api::service_account::{LoginWorkload, ServiceAccount};
use bz_core::cert::CertRequest;
use bz_core::grant::{MAX_GRANT, SignedGrant};
use bz_core::id::LoginId;
use bz_core::key::PrivateKey;
use bz_core::oidc::provider::{Commitment, OrganizationClaim, Provider, ProviderKind};
use bz_core::oidc::workload::Workload;
use bz_core::wire;
use bz_server::seam::links::Asked;
use serde_json::{Value, json};

use crate::idp;
use crate::world::{As, Client, Reply, World};

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const JOB: &str = "environment=production,repository_id=74,repository_owner_id=65";

/// F-082~, F-226~: a job is a service account without a secret: made by who it is, subject of a policy, named in grant
/// and logs, and let in by nothing but its own token.
#[tokio::test]
async fn a_job_logs_in_by_its_own_token() {
    let world = world().await;
    let admin = world.admin().await;
    let job = job(&world, |_| ());
    login(&world, &job).await.refused(Code::NotLoggedIn);
    let account = made(&world, &admin).await;
    assert_eq!((account.external_id.as_str(), account.jwks_url.as_str()), (JOB, ""));
    assert_eq!(account.workload.as_ref().unwrap().claims["repository_id"], "74");
    assert_eq!(login(&world, &job).await.ok::<Registered>().user.email, "deploy");
    let event = &world.log().await[0];
    assert_eq!(event.actor.subject_type, SubjectType::ServiceAccount);
    assert!(event.context.contains("repo:octo-org/octo-repo:environment:production"), "{event:?}");
    let me: ServiceAccount = world.get(As::Client(&job), "/service-accounts/me").await.ok();
    assert_eq!(me.id, account.id);

    for (what, change) in [
        ("owner", (|c| c["repository_owner_id"] = json!("66")) as fn(&mut Value)),
        ("repository", |c| c["repository_id"] = json!("75")),
        ("environment", |c| c["environment"] = json!("staging")),
        ("fork", |c| c["event_name"] = json!("pull_request")),
        ("fork's target", |c| c["event_name"] = json!("pull_request_target")),
        ("audience", |c| c["aud"] = json!("bz1:x:y")),
        ("people's audience", |c| c["aud"] = json!(idp::CLIENT)),
        ("issuer", |c| c["iss"] = json!("https://token.actions.example")),
        ("people's issuer", |c| c["iss"] = json!(idp::ISSUER)),
        ("age", |c| c["exp"] = json!(c["iat"].as_u64().unwrap() - 1)),
    ] {
        let stranger = self::job(&world, change);
        assert_eq!(login(&world, &stranger).await.status, 401, "{what}");
        // Nor does anybody come in by the doors of people and of accounts with a key set.
        world.register(&stranger, &stranger.initial, None).await.refused(Code::NotLoggedIn);
        let certificate = Bytes(stranger.request.certificate(&stranger.initial, &stranger.initial).unwrap());
        let body = json!({"certificate": certificate, "totpPasscode": "000000"});
        world.call(As::Client(&stranger), "POST", "/service-accounts/login", &body).await.refused(Code::NotLoggedIn);
    }
    // A token that somebody found proves nothing of their key.
    let thief = Client { initial: job.initial.clone(), ..self::job(&world, |_| ()) };
    login(&world, &thief).await.refused(Code::NotLoggedIn);

    let web = world.agent(&admin, "web").await;
    let policy = json!({
        "name": "deploys", "verbs": [{"type": "Shell"}], "targetUsers": [{"userName": "deploy"}],
        "subjects": [{"id": account.id, "type": "ServiceAccount"}], "targets": [{"id": web.id, "type": "Bzero"}],
    });
    world.call(As::Client(&admin), "POST", "/policies/target-connect", &policy).await.done();
    let connection = world.connect(&job, &web).await;
    let signed: SignedGrant = wire::decode(&connection.grant.0, MAX_GRANT).unwrap();
    let key = world.app.online_keys().unwrap().grant.key.public();
    let grant = signed.grant.open(&key, world.app.organization).unwrap();
    assert_eq!((grant.person.issuer.as_str(), grant.person.subject.as_str(), grant.mfa), (GITHUB, JOB, None));
}

/// A job's login lives as long as its token, is prolonged by a newer one, and not by another job's.
#[tokio::test]
async fn a_jobs_login_is_short() {
    let world = world().await;
    let admin = world.admin().await;
    made(&world, &admin).await;
    let mut job = job(&world, |_| ());
    let registered: Registered = login(&world, &job).await.ok();
    assert_eq!(registered.expires_at.as_secs() - world.now(), 360, "five minutes, and a minute for clocks");
    world.advance(200);
    let older = job.initial.clone();
    job.claims["iat"] = json!(world.now());
    job.claims["exp"] = json!(world.now() + 300);
    let newer = world.issuer.idp.lock().unwrap().token(&job.claims);
    renew(&world, &job, &newer).await.done();
    world.advance(200);
    world.get(As::Client(&job), "/service-accounts/me").await.done();
    renew(&world, &job, &older).await.refused(Code::NotLoggedIn);
    job.claims["environment"] = json!("staging");
    let other = world.issuer.idp.lock().unwrap().token(&job.claims);
    renew(&world, &job, &other).await.refused(Code::NotLoggedIn);
    world.advance(200);
    world.get(As::Client(&job), "/service-accounts/me").await.refused(Code::NotLoggedIn);
    // However long the issuer lets its tokens live.
    let long = self::job(&world, |claims| claims["exp"] = json!(claims["iat"].as_u64().unwrap() + 80_000));
    let registered: Registered = login(&world, &long).await.ok();
    assert_eq!(registered.expires_at.as_secs() - world.now(), 3660);
}

/// A second factor that the organization demands of everybody is demanded of people: a job has nothing to keep one in.
#[tokio::test]
async fn a_job_is_asked_for_no_second_factor() {
    let world = world().await;
    let admin = world.admin().await;
    made(&world, &admin).await;
    let demand = json!({"name": "demand", "description": "", "mfaEnabled": true});
    world.call(As::Client(&admin), "POST", "/policies/organization-controls", &demand).await.done();
    world.advance(30 * 24 * 3600);
    let job = job(&world, |_| ());
    login(&world, &job).await.done();
    world.get(As::Client(&job), "/service-accounts/me").await.done();
}

/// Disabled and deleted at once.
#[tokio::test]
async fn a_job_ends_with_its_account() {
    let world = world().await;
    let admin = world.admin().await;
    let account = made(&world, &admin).await;
    let job = job(&world, |_| ());
    login(&world, &job).await.done();
    let rotate = format!("/mfa/rotate/{}", account.id);
    world.raw(As::Client(&admin), "PATCH", &rotate, vec![]).await.refused(Code::Conflict);
    let path = format!("/service-accounts/{}", account.id);
    world.call(As::Client(&admin), "PATCH", &path, &json!({"enabled": false})).await.done();
    assert!(world.links.asked().contains(&Asked::LoggedOut(job.login)));
    world.get(As::Client(&job), "/service-accounts/me").await.refused(Code::NotLoggedIn);
    login(&world, &self::job(&world, |_| ())).await.refused(Code::NotLoggedIn);
    world.call(As::Client(&admin), "PATCH", &path, &json!({"enabled": true})).await.done();
    let again = self::job(&world, |_| ());
    login(&world, &again).await.done();
    world.raw(As::Client(&admin), "DELETE", &path, vec![]).await.done();
    world.get(As::Client(&again), "/service-accounts/me").await.refused(Code::NotLoggedIn);
    login(&world, &self::job(&world, |_| ())).await.refused(Code::NotLoggedIn);
}

/// What is no job that the settings pin is not made, and nobody but an administrator makes one.
#[tokio::test]
async fn jobs_are_checked_when_they_are_made() {
    let world = world().await;
    let (admin, alice) = (world.admin().await, world.user("alice").await);
    let claims = json!({"repository_id": "74", "environment": "production"});
    let add = async |who: &Client, name: &str, issuer: &str, claims: &Value| {
        let body = json!({"name": name, "workload": {"issuer": issuer, "claims": claims}});
        world.call(As::Client(who), "POST", "/service-accounts/workloads", &body).await
    };
    for (name, issuer, claims) in [
        ("", GITHUB, claims.clone()),
        ("deploy", idp::ISSUER, claims.clone()),
        ("deploy", "https://other.example", claims.clone()),
        ("deploy", GITHUB, json!({})),
        ("deploy", GITHUB, json!({"repository_id": "74"})),
        ("deploy", GITHUB, json!({"repository_id": "74", "environment": "staging"})),
        ("deploy", GITHUB, json!({"repository_id": 74, "environment": "production"})),
    ] {
        add(&admin, name, issuer, &claims).await.refused(Code::BadRequest);
    }
    add(&alice, "deploy", GITHUB, &claims).await.refused(Code::Denied);
    add(&admin, "deploy", GITHUB, &claims).await.done();
    add(&admin, "again", GITHUB, &claims).await.refused(Code::Conflict);
    // People log in at the first provider of people, whatever stands before it.
    let kind: Value = world.get(As::Client(&admin), "/organization/identity-provider").await.ok();
    assert_eq!(kind["identityProviderType"], "oidc");
}

async fn world() -> World {
    World::with(|config| {
        let row = [("repository_id", "74"), ("environment", "production")];
        let github = Provider {
            kind: ProviderKind::Github,
            issuer: GITHUB.to_owned(),
            audiences: vec![],
            organization: Some(OrganizationClaim { claim: "repository_owner_id".to_owned(), value: "65".to_owned() }),
            organization_is_issuer: false,
            domains: vec![],
            commitment: Commitment::Audience,
            groups_claim: None,
            workloads: vec![Workload(row.map(|(claim, value)| (claim.to_owned(), value.to_owned())).into())],
        };
        config.providers.insert(0, github);
    })
    .await
}

async fn made(world: &World, admin: &Client) -> ServiceAccount {
    let claims = json!({"repository_id": "74", "environment": "production"});
    let body = json!({"name": "deploy", "workload": {"issuer": GITHUB, "claims": claims}});
    world.call(As::Client(admin), "POST", "/service-accounts/workloads", &body).await.ok()
}

/// A client whose token GitHub signed for this job.
fn job(world: &World, change: impl Fn(&mut Value)) -> Client {
    let seed = world.seed();
    let key = PrivateKey::from_seed(&seed).unwrap();
    let request = CertRequest::new(world.app.organization, &key, seed);
    let mut claims = json!({
        "iss": GITHUB, "sub": "repo:octo-org/octo-repo:environment:production", "aud": request.audience(),
        "iat": world.now(), "exp": world.now() + 300, "repository_owner_id": "65", "repository_id": "74",
        "environment": "production", "ref": "refs/heads/main", "event_name": "push", "repository_owner": "octo-org",
    });
    change(&mut claims);
    let initial = world.issuer.idp.lock().unwrap().token(&claims);
    Client { login: LoginId::from_random([seed[0]; 16]), key, request, initial, claims }
}

async fn login(world: &World, job: &Client) -> Reply {
    renew(world, job, &job.initial).await
}

async fn renew(world: &World, job: &Client, current: &str) -> Reply {
    let body = LoginWorkload { certificate: Bytes(job.request.certificate(&job.initial, current).unwrap()) };
    world.call(As::Client(job), "POST", "/service-accounts/workloads/login", &body).await
}
