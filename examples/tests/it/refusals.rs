//! What a person reads when the server or the target says no: each refusal by the part that makes it, in its own words.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use bz_agent::agent::{Agent, Identity};
use bz_agent::helper::Helper;
use bz_agent::http::Direct;
use bz_agent::jwks::IssuerKeys;
use bz_agent::policy_file;
use bz_agent::register::{Reach, Registration, register};
use bz_agent::shell::Shells;
use bz_agent::user::User;
use bz_client::session::SessionError;
use bz_client::terminal::farewell;
use bz_core::access::request::Parameters;
use bz_core::api::api_key::NewApiKey;
use bz_core::api::target::TargetUserName;
use bz_core::id::EnvironmentId;
use bz_core::target::UserRule;
use bz_core::time::UnixTime;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::client::Event;
use bz_protocol::driver::{Clock as _, SystemClock};
use bz_protocol::gate::LocalRule;
use bz_server::seam::FakeClock;
use bz_server::store::environment::Environment;
use expect_test::expect;

use crate::logged::Logged;

/// F-034, F-089~, F-093~: unknown, ambiguous and offline targets, users that policy does not allow, does not choose
/// between, or that the host does not have.
#[tokio::test(flavor = "multi_thread")]
async fn targets_and_users_that_cannot_be_had_are_told() {
    let stage = Stage::new().await;
    let mut policy = stage.world.client.policies().await.unwrap().remove(0).content;
    policy.name = "more users".to_owned();
    let user = |name: &str| TargetUserName { user_name: UserRule::Literal(name.parse().unwrap()) };
    policy.target_users = vec![user("zz-not-on-this-host")];
    stage.world.client.create_policy(&policy).await.unwrap();
    stage.world.enroll("asleep").await.unwrap();
    let mut told = String::new();
    for target in ["nowhere", TARGET, "bin@here", "zz-not-on-this-host@here", &format!("{}@asleep", stage.user)] {
        writeln!(told, "{target}:\n  {}", stage.told(target).await).unwrap();
    }
    stage.second_of_that_name().await;
    writeln!(told, "{TARGET}, a second one:\n  {}", stage.told(TARGET).await).unwrap();
    expect![[r#"
        nowhere:
          there is no target called nowhere: `bz list-targets` lists those you may know of
        here:
          you may be several users there: name one, as USER@TARGET (choose one of: USER, zz-not-on-this-host)
        bin@here:
          policies allow this verb on this target, but not as this user: `bz why` says what an administrator would have to allow
        zz-not-on-this-host@here:
          the target user does not exist on the host, or may not be used: its administrator makes users
        USER@asleep:
          asleep is offline: its agent has no link to the server; is its host up, and does bz-agent run there?
        here, a second one:
          there are several targets called here: name the environment, as here.ENVIRONMENT (choose one of: Default, prod)
    "#]].assert_eq(&told.replace(&stage.user, "USER"));
    stage.stop().await;
}

/// Who comes to a connection that was closed while its link was down hears why, instead of waiting for a carrier.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_closed_is_told() {
    let stage = Stage::new().await;
    let target = format!("{}@{TARGET}", stage.user).parse().unwrap();
    let parameters = Parameters::Exec { command: "true".to_owned() };
    let asked = stage.world.client.ask(&target, parameters, None).await.unwrap();
    stage.world.client.close(asked.made.connection_id).await.unwrap();
    // Another link, which nobody told.
    let elsewhere = stage.world.client.clone().with_carrier(stage.world.carrier.clone());
    let opening = tokio::time::timeout(Duration::from_secs(20), elsewhere.session(asked));
    let told = opening.await.expect("it waits for nothing").unwrap_err().to_string();
    let reason = format!("closed by the end user {}@example.com: closed on request", stage.user);
    assert_eq!(told, format!("the connection was lost (the server says: {reason})"));
    stage.stop().await;
}

/// F-080~: a local policy that is malformed, or that others could have written, refuses everything. The host's owner is
/// told why, the person that it is the host's policy.
#[tokio::test(flavor = "multi_thread")]
async fn a_local_policy_that_cannot_be_believed_is_told() {
    let stage = Stage::new().await;
    let file = stage.folder.path().join("policy.toml");
    let here = format!("{}@{TARGET}", stage.user);
    let mut told = String::new();
    for (what, text, mode) in [
        ("malformed", "version = 1\nallow everybody\n", 0o644),
        ("written by anybody", "version = 1\n", 0o666),
        ("allows nobody", "version = 1\n", 0o644),
    ] {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let rule = policy_file::rule(&file, true);
        if let LocalRule::RefuseAll(why) = &rule {
            let why = why.replace(stage.folder.path().to_str().unwrap(), "FOLDER");
            writeln!(told, "{what}, to the owner:\n  {}", why.lines().next().unwrap()).unwrap();
        }
        stage.world.agent.set_local(rule);
        writeln!(told, "{what}, to the person:\n  {}", stage.told(&here).await).unwrap();
    }
    expect![[r#"
        malformed, to the owner:
          the local policy is not believed: FOLDER/policy.toml: the local policy is malformed: key with no value, expected `=`
        malformed, to the person:
          reported, not proved: the local policy of the target's host does not allow this. Nothing was opened; the server could have made this up
        written by anybody, to the owner:
          the local policy is not believed: others may write FOLDER/policy.toml: run `chmod go-w FOLDER/policy.toml` and look at what is in it
        written by anybody, to the person:
          reported, not proved: the local policy of the target's host does not allow this. Nothing was opened; the server could have made this up
        allows nobody, to the person:
          reported, not proved: the local policy of the target's host does not allow this. Nothing was opened; the server could have made this up
    "#]].assert_eq(&told);
    stage.world.agent.set_local(LocalRule::Unrestricted);
    assert_eq!(stage.told(&here).await, "nothing");
    stage.stop().await;
}

/// A target whose clock is wrong: one that is behind its own program says so, one that is ahead takes the login for an
/// expired one, and its log says what it compared.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_told() {
    let stage = Stage::new().await;
    let now = SystemClock::new().now().wall;
    let mut told = String::new();
    for (what, wall, why) in [
        (
            "behind",
            UnixTime::from_secs(1_000_000_000),
            "the clock of this host is wrong: it is before this program was built",
        ),
        ("ahead", now.after(Duration::from_secs(25 * 3600)), "the login is too old"),
    ] {
        let identity = stage.world.enroll(what).await.unwrap();
        let keys = IssuerKeys::ThroughLink(Arc::clone(&stage.world.tls));
        let shells = Shells::new(stage.helper.clone(), stage.folder.path().join(what)).unwrap();
        let agent = Agent::new(identity, stage.world.bundle.clone(), stage.world.carrier.clone(), keys);
        let agent = agent.clock(Arc::new(FakeClock::at(wall))).not_before(now).shell(shells).start().unwrap();
        agent.online().await;
        writeln!(told, "{what}:\n  {}", stage.told(&format!("{}@{what}", stage.user)).await).unwrap();
        assert!(stage.logged.has(&["bz_agent::session", "refused", why]), "{:#?}", stage.logged.all());
        agent.stop().await;
    }
    expect![[r#"
        behind:
          reported, not proved: the clock of the target's host is wrong. Nothing was opened; the server could have made this up
        ahead:
          reported, not proved: the agent does not accept this login; log in again with `bz login`. Nothing was opened; the server could have made this up
    "#]].assert_eq(&told);
    stage.stop().await;
}

/// F-139~: a registration with a key that was revoked, under a name that is taken, or in the place of another target: the
/// host's administrator is told, and the target that was there is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_refused_is_told() {
    let stage = Stage::new().await;
    let new = NewApiKey { name: "fleet".to_owned(), is_registration_key: true, ..NewApiKey::default() };
    let key = stage.world.client.create_api_key(&new).await.unwrap();
    let first = stage.registration("first", None);
    let reach = || stage.reach();
    let kept = register(&first, &key.secret, reach()).await.unwrap();
    let thief = stage.world.enroll("thief").await.unwrap();
    let mut told = String::new();
    let replacing = Registration { replaces: Some(Identity { target: kept.target, ..thief }), ..first.clone() };
    let elsewhere = stage.registration("web", Some("nowhere"));
    for (what, registration) in
        [("the name again", &first), ("another's place", &replacing), ("no environment", &elsewhere)]
    {
        let refused = register(registration, &key.secret, reach()).await.unwrap_err();
        writeln!(told, "{what}:\n  {refused}").unwrap();
    }
    stage.world.server.app().store.delete_api_key(key.api_key_details.id).await.unwrap();
    let refused = register(&stage.registration("late", None), &key.secret, reach()).await.unwrap_err();
    writeln!(told, "a revoked key:\n  {refused}").unwrap();
    let stored = stage.world.server.app().store.target(kept.target).await.unwrap().unwrap();
    assert_eq!((stored.name.as_str(), stored.identity_key), ("first", kept.identity_key.public()));
    expect![[r#"
        the name again:
          the server refuses: a target of that name in this environment, or with one of these keys, exists already: register under another name, or have an administrator delete that target
        another's place:
          the server refuses: the target to replace is not registered, or under another identity key: register without its id
        no environment:
          the server refuses: there is no such environment
        a revoked key:
          the server refuses: the API key is unknown or was deleted: `bz api-key create` makes another
    "#]].assert_eq(&told);
    stage.stop().await;
}

struct Stage {
    world: World,
    user: String,
    helper: Helper,
    logged: Logged,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let logged = Logged::here();
        let folder = tempfile::tempdir().unwrap();
        let (user, helper) = (User::current().unwrap().name, Helper::at(env!("CARGO_BIN_EXE_helper")));
        let world = World::start(folder.path(), helper.clone(), &user, Way::Ws).await.unwrap();
        Self { world, user, helper, logged, folder }
    }

    /// Runs a command there; what is said when it does not.
    async fn told(&self, target: &str) -> String {
        let client = &self.world.client;
        let parameters = Parameters::Exec { command: "true".to_owned() };
        let asked = match client.ask(&target.parse().unwrap(), parameters, None).await {
            Ok(asked) => asked,
            Err(error) => return error.to_string(),
        };
        let mut session = match client.session(asked).await {
            Ok(session) => session,
            // What the server says beside it may come before or after.
            Err(SessionError::Ended { end, .. }) => return SessionError::Ended { end, reason: None }.to_string(),
            Err(error) => return error.to_string(),
        };
        loop {
            if let Event::Ended(end) = session.next().await.expect("a session says its end") {
                return farewell(&end).unwrap_or_else(|| "nothing".to_owned());
            }
        }
    }

    /// Another target called like the first, in another environment.
    async fn second_of_that_name(&self) {
        let app = self.world.server.app();
        let environment = Environment {
            id: EnvironmentId::from_bytes([7; 16]),
            name: "prod".to_owned(),
            description: String::new(),
            is_default: false,
            created: app.now().wall,
            offline_hours: 90,
        };
        app.store.add_environment(environment).await.unwrap();
        let key = NewApiKey { name: "second".to_owned(), is_registration_key: true, ..NewApiKey::default() };
        let key = self.world.client.create_api_key(&key).await.unwrap();
        let registration = self.registration(TARGET, Some("prod"));
        register(&registration, &key.secret, self.reach()).await.unwrap();
    }

    fn reach(&self) -> Reach {
        Reach { tls: Arc::clone(&self.world.tls), dial: Arc::new(Direct) }
    }

    fn registration(&self, name: &str, environment: Option<&str>) -> Registration {
        Registration {
            labels: Default::default(),
            server: format!("https://{}", self.world.server.local_addr()),
            organization: self.world.bundle.organization,
            name: name.to_owned(),
            host_name: "localhost".to_owned(),
            environment: environment.map(str::to_owned),
            local_policy: false,
            replaces: None,
            now: SystemClock::new().now().wall,
        }
    }

    async fn stop(self) {
        self.world.stop().await;
    }
}
