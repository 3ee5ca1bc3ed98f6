//! Jobs that log in by their own tokens, at a real server and real agents whose owners pinned what they are.

mod workflows;

use std::sync::Arc;
use std::time::Duration;

use bz_agent::agent::{Agent, Running};
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::shell::Shells;
use bz_agent::user::User;
use bz_client::client::Client;
use bz_client::login::{GithubActions, GoogleMetadata, Login, LoginError, Token, TokenSource};
use bz_client::secret::Secret;
use bz_client::session::SessionError;
use bz_client::trust::Trust;
use bz_core::access::Verb;
use bz_core::access::request::Parameters;
use bz_core::api::policy::{PolicyTarget, Subject, SubjectType, TargetConnectContent};
use bz_core::api::service_account::{NewWorkload, WorkloadJob};
use bz_core::api::target::TargetUserName;
use bz_core::oidc::provider::Provider;
use bz_core::oidc::workload::Workload;
use bz_core::target::UserRule;
use bz_core::trust::TrustBundle;
use bz_examples::clock::MovableClock;
use bz_examples::idp::OldKey;
use bz_examples::idp::jobs::{Jobs, REPOSITORY, REQUEST_TOKEN};
use bz_examples::world::{Idp, Parts, TARGET, Way, World, provider};
use bz_protocol::driver::Clock;
use bz_protocol::frame::Fin;
use bz_protocol::session::End;

use crate::logged::Logged;
use crate::session::ended;

const DEPLOY: &[(&str, &str)] = &[("repository_id", REPOSITORY), ("environment", "production")];

/// F-226~: a job of GitHub Actions asks for its own token, runs a command at a target whose owner pinned what it is, and
/// goes on past its first token, also when GitHub signs with another key meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_logs_in_without_a_secret_and_goes_on() {
    let _logged = Logged::here();
    let stage = Stage::start().await;
    let client = stage.github().await.unwrap();
    assert_eq!(client.login().user().email, "deploy");
    assert_eq!(client.login().user().subject, "environment=production,repository_id=74,repository_owner_id=65");
    assert!(matches!(stage.run(&client, TARGET).await, Ok(End::Completed(Fin::Exited(7)))));
    for old in [OldKey::Published, OldKey::Withdrawn] {
        stage.jobs.rotate(old);
        // A token of GitHub lives for five minutes.
        stage.clock.advance(Duration::from_secs(600));
        let ran = stage.run(&client, TARGET).await;
        assert!(matches!(ran, Ok(End::Completed(Fin::Exited(7)))), "{old:?}: {ran:?}");
    }
    // What it is ends with the job: GitHub gives no other token, and the last one runs out.
    stage.jobs.change(serde_json::json!({"environment": "staging"}));
    stage.clock.advance(Duration::from_secs(600));
    assert!(client.refresh().await.unwrap_err().to_string().contains("of a job that the trust bundle does not mean"));
    assert!(client.targets().await.is_err());
    stage.world.stop().await;
}

/// F-228~: a service in Google's cloud has its identity from the metadata server.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_google_cloud_logs_in_by_its_metadata() {
    let _logged = Logged::here();
    let stage = Stage::start().await;
    let server = stage.world.client.server();
    let source = GoogleMetadata::new(Some(&stage.jobs.google_metadata_host()), server).unwrap();
    let client = stage.log_in(stage.world.client.trust(), Arc::new(source)).await.unwrap();
    assert_eq!(client.login().user().email, "cloud-run");
    assert!(matches!(stage.run(&client, TARGET).await, Ok(End::Completed(Fin::Exited(7)))));
    stage.world.stop().await;
}

/// What is wrong with a job's token is said before the server is asked, and the server says it to whoever does not look.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_not_meant_does_not_log_in() {
    let _logged = Logged::here();
    let stage = Stage::start().await;
    let now = stage.clock.now().wall.as_secs();
    let check = async |claims: serde_json::Value, want: &str| {
        stage.jobs.change(claims.clone());
        let error = stage.github().await.expect_err(&claims.to_string()).to_string();
        assert!(error.contains(want), "{claims}: {error}");
        stage.jobs.change(serde_json::json!({}));
    };
    check(serde_json::json!({"repository_owner_id": "66"}), "of another organization").await;
    check(serde_json::json!({"repository_id": "75"}), "of a job that the trust bundle does not mean").await;
    check(serde_json::json!({"environment": null}), "of a job that the trust bundle does not mean").await;
    check(serde_json::json!({"event_name": "pull_request"}), "of a job that the trust bundle does not mean").await;
    check(serde_json::json!({"iss": "https://token.actions.example"}), "of another issuer").await;
    // These only the server finds.
    check(serde_json::json!({"aud": "bz1:other:audience"}), "for another audience").await;
    check(serde_json::json!({"iat": now - 7200, "exp": now - 3600}), "has expired").await;
    check(serde_json::json!({"iat": now + 7200, "exp": now + 9000}), "in the future").await;
    // A token that somebody found proves nothing of their key.
    let found = Found(stage.source().token("bz1:another:key").await.unwrap());
    let error = stage.log_in(stage.world.client.trust(), Arc::new(found)).await.unwrap_err();
    assert!(error.to_string().contains("for another audience"), "{error}");
    // Nor does the server take a job that only the job's own bundle means.
    let mut bundle = stage.world.bundle.clone();
    stage.jobs.change(serde_json::json!({"repository_owner_id": "66"}));
    github(&mut bundle).organization.as_mut().unwrap().value = "66".to_owned();
    let error = stage.log_in(&Trust::given(bundle).unwrap(), Arc::new(stage.source())).await.unwrap_err();
    assert!(matches!(error, LoginError::Server(_)), "{error}");
    assert!(error.to_string().contains("of another organization"), "{error}");
    stage.world.stop().await;
}

/// What server and job agree on alone starts nothing at a target: its own owner's pins say which jobs may act.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_goes_by_its_own_owners_pins() {
    let _logged = Logged::here();
    let stage = Stage::start().await;
    let client = stage.github().await.unwrap();
    type Change = fn(&mut TrustBundle);
    let changes: [(&str, Change, bool); 5] = [
        ("same", |_| (), true),
        ("owner", |bundle| github(bundle).organization.as_mut().unwrap().value = "66".to_owned(), false),
        (
            "row",
            |bundle| github(bundle).workloads = vec![row(&[("repository_id", "74"), ("ref", "refs/tags/v1")])],
            false,
        ),
        // The job fits, and is somebody else there than the server granted.
        (
            "wider",
            |bundle| github(bundle).workloads = vec![row(&[("repository_id", "74"), ("ref", "refs/heads/main")])],
            false,
        ),
        ("none", |bundle| bundle.providers.retain(|p| p.workloads.is_empty()), false),
    ];
    let mut agents = vec![];
    for (name, change, may) in changes {
        let mut bundle = stage.world.bundle.clone();
        change(&mut bundle);
        agents.push(stage.agent(name, bundle).await);
        let ran = stage.run(&client, name).await;
        if may {
            assert!(matches!(ran, Ok(End::Completed(Fin::Exited(7)))), "{name}: {ran:?}");
        } else {
            assert!(matches!(ran, Err(SessionError::Ended { .. })), "{name}: {ran:?}");
        }
    }
    for agent in agents {
        agent.stop().await;
    }
    stage.world.stop().await;
}

fn github(bundle: &mut TrustBundle) -> &mut Provider {
    bundle.providers.iter_mut().find(|p| p.issuer.ends_with("/github")).unwrap()
}

fn row(claims: &[(&str, &str)]) -> Workload {
    Workload(claims.iter().map(|(claim, value)| ((*claim).to_owned(), (*value).to_owned())).collect())
}

/// A token that is given whatever audience is asked for.
#[derive(Debug)]
struct Found(Secret);

impl TokenSource for Found {
    fn name(&self) -> String {
        "found".to_owned()
    }

    fn token<'a>(&'a self, _: &'a str) -> Token<'a> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// A system that pins three issuers of jobs, with a service account for a job of each that may have shells anywhere.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) jobs: Jobs,
    clock: Arc<MovableClock>,
    pub(crate) user: String,
    _folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let (folder, user) = (tempfile::tempdir().unwrap(), User::current().unwrap().name);
        let clock = Arc::new(MovableClock::new());
        let jobs = Jobs::start(clock.for_idp()).await.unwrap();
        let rows: [Provider; 3] = [jobs.github(&[DEPLOY]), jobs.circleci(), jobs.google()];
        let parts = Parts {
            helper: Helper::at(env!("CARGO_BIN_EXE_helper")),
            person: user.clone(),
            user: user.clone(),
            idp: Idp::Dev(provider(&user, clock.for_idp()).await.unwrap()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            way: Way::Ws,
        };
        let pinned = rows.clone();
        let world = World::of(folder.path(), parts, |config| config.providers.extend(pinned)).await.unwrap();
        let stage = Self { world, jobs, clock, user, _folder: folder };
        for (name, provider) in ["deploy", "circleci", "cloud-run"].into_iter().zip(rows) {
            let claims = provider.workloads[0].0.clone();
            let workload = WorkloadJob { issuer: provider.issuer, claims };
            stage.world.client.create_workload(&NewWorkload { name: name.to_owned(), workload }).await.unwrap();
        }
        stage.allow(TARGET).await;
        stage
    }

    /// Lets all the jobs have shells there.
    async fn allow(&self, target: &str) {
        let client = &self.world.client;
        let accounts = client.service_accounts().await.unwrap();
        let subject = |id| Subject { id, kind: SubjectType::ServiceAccount };
        let id = client.find_target(&target.parse().unwrap()).await.unwrap().id;
        let policy = TargetConnectContent {
            name: format!("jobs on {target}"),
            subjects: accounts.iter().map(|account| subject(account.id)).collect(),
            targets: vec![PolicyTarget { id, kind: "Bzero".to_owned() }],
            target_users: vec![TargetUserName { user_name: UserRule::Literal(self.user.parse().unwrap()) }],
            verbs: vec![Verb::Shell],
            ..TargetConnectContent::default()
        };
        client.create_policy(&policy).await.unwrap();
    }

    /// Another agent, whose owner pins this.
    async fn agent(&self, name: &str, bundle: TrustBundle) -> Running {
        let identity = self.world.enroll(name).await.unwrap();
        self.allow(name).await;
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        let shells = Shells::new(helper, self.world.folder.join(name)).unwrap().idle(Duration::from_secs(60));
        let keys = IssuerKeys::ThroughLink(Arc::clone(&self.world.tls));
        let agent = Agent::new(identity, bundle, self.world.carrier.clone(), keys);
        let agent = agent.clock(Arc::clone(&self.world.clock)).shell(shells).start().unwrap();
        agent.online().await;
        agent
    }

    fn source(&self) -> GithubActions {
        let token = Secret::new(REQUEST_TOKEN);
        GithubActions::new(&self.jobs.github_request_url(), &token, self.world.client.server()).unwrap()
    }

    async fn github(&self) -> Result<Client, LoginError> {
        self.log_in(self.world.client.trust(), Arc::new(self.source())).await
    }

    async fn log_in(&self, trust: &Trust, source: Arc<dyn TokenSource>) -> Result<Client, LoginError> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let login = Login::begin_workload(self.world.client.server(), trust, source.as_ref(), &clock).await?;
        Ok(self.world.client_of(login).unwrap().with_token_source(source))
    }

    async fn run(&self, client: &Client, target: &str) -> Result<End, SessionError> {
        let command = Parameters::Exec { command: "exit 7".to_owned() };
        let asked = client.ask(&format!("{}@{target}", self.user).parse().unwrap(), command, None).await?;
        Ok(ended(&mut client.session(asked).await?).await.1)
    }
}
