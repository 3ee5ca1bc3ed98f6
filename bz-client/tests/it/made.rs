//! A server that answers for something else than was asked is caught, field by field, before anything is signed.

use bz_client::client::{AskError, Client, Lie};
use bz_core::access::destination::Destination;
use bz_core::access::request::{Parameters, Size};
use bz_core::access::upstream::WebRequest;
use bz_core::access::{Mode, Verb};
use bz_core::api::Bytes;
use bz_core::api::access::{Connection, ConnectionMade, ConnectionState, Proxy};
use bz_core::digest::Digest;
use bz_core::grant::{GrantError, Scope};
use bz_core::id::{ConnectionId, ShellId, TargetId, UserId};
use bz_core::target::UserRule;
use bz_core::time::UnixTime;

use crate::stand::server::{CONNECTION, Change, SHELL, TARGET};
use crate::stand::{Stand, key};

fn exec() -> Parameters {
    Parameters::Exec { command: "uptime".to_owned() }
}

/// What an honest server answers is taken, with the exact request that the grant names.
#[tokio::test]
async fn an_honest_answer_is_taken() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    for (name, parameters, mode) in [
        ("deploy@web.prod", exec(), None),
        ("web", exec(), Some(Mode::Sealed)),
        (&TARGET.to_string(), exec(), None),
        ("web", Parameters::Handler { route: "debug".to_owned() }, None),
    ] {
        let asked =
            client.ask(&name.parse().unwrap(), parameters, mode).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(asked.request.encode().unwrap(), asked.request_bytes);
        assert_eq!(asked.request.target, TARGET);
    }
    stand.rest.lie(|_, grant| grant.user = Some(UserRule::Username));
    client.ask(&"web".parse().unwrap(), exec(), None).await.expect("{username} is the agent's to compute");
}

/// A host whose key is pinned under its name cannot be passed off as something behind another, nor the other way round.
#[tokio::test]
async fn who_acts_for_whom_is_no_matter_of_the_server_alone() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    fn behind(made: &mut ConnectionMade, name: &str) {
        let (target_name, environment_name) = (name.to_owned(), "Default".to_owned());
        made.proxy = Some(Proxy { target_id: TARGET, target_name, environment_name });
    }
    let check = async |parameters: Parameters, change: Change, want: Option<&str>| {
        stand.rest.lie(change);
        match (client.ask(&"web".parse().unwrap(), parameters, None).await, want) {
            (Ok(asked), Some(name)) => assert_eq!(asked.name.to_string(), name),
            (Err(AskError::Lie(Lie::Proxy)), None) => {}
            (got, want) => panic!("{got:?}, not {want:?}"),
        }
    };
    let destination: Destination = "wiki.internal:80".parse().unwrap();
    let web = || Parameters::Web(WebRequest { destination: destination.clone(), tls: false });
    check(exec(), |made, _| behind(made, "other"), None).await;
    check(web(), |made, _| made.target_type = "Web".to_owned(), None).await;
    let (empty, control, plain): (Change, Change, Change) = (
        |made, _| {
            made.target_type = "Web".to_owned();
            behind(made, "");
        },
        |made, _| {
            made.target_type = "Web".to_owned();
            behind(made, "a\x1b[2K");
        },
        |made, _| {
            made.target_type = "Web".to_owned();
            behind(made, "other");
        },
    );
    check(web(), empty, None).await;
    check(web(), control, None).await;
    check(web(), plain, Some("other.Default")).await;
}

#[tokio::test]
async fn every_lie_in_the_answer_is_named() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    let check = async |name: &str, field: &str, change: Change| match refused(&stand, &client, name, change).await {
        Lie::Field { field: got, .. } => assert_eq!(got, field, "{name}"),
        other @ (Lie::Grant(_) | Lie::Refused(_) | Lie::Malformed | Lie::User | Lie::Proxy) => {
            panic!("{name}, {field}: {other:?}")
        }
    };
    check("deploy@web.prod", "target", |made, _| made.target_name = "db".to_owned()).await;
    check("deploy@web.prod", "environment", |made, _| made.environment_name = "test".to_owned()).await;
    check("deploy@web.prod", "target user", |made, _| made.target_user = "root".parse().ok()).await;
    check("deploy@web.prod", "target user", |made, _| made.target_user = None).await;
    check(&TARGET.to_string(), "target", |made, _| made.target_id = TargetId::from_bytes([8; 16])).await;
    check("web", "target type", |made, _| made.target_type = "Db".to_owned()).await;
    check("web", "mode", |made, _| made.mode = Mode::Sealed).await;
    check("web", "verb", |made, _| made.verb_type = Verb::Tunnel).await;
    check("web", "shell", |made, _| made.shell_id = Some(SHELL)).await;
    let sealed = client.clone();
    stand.rest.lie(|made, grant| (made.recorded, grant.recording.output) = (true, true));
    let error = sealed.ask(&"web".parse().unwrap(), exec(), Some(Mode::Sealed)).await.expect_err("recorded and sealed");
    assert!(matches!(error, AskError::Lie(Lie::Field { field: "recording", .. })), "{error:?}");
}

#[tokio::test]
async fn every_lie_in_the_grant_is_named() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    let check = async |want: Lie, change: Change| {
        assert_eq!(refused(&stand, &client, "web", change).await, want);
    };
    check(Lie::Grant("connection"), |_, grant| grant.connection = ConnectionId::from_bytes([8; 16])).await;
    check(Lie::Grant("target"), |_, grant| grant.target = TargetId::from_bytes([8; 16])).await;
    check(Lie::Grant("target"), |made, _| made.target_id = TargetId::from_bytes([8; 16])).await;
    check(Lie::Grant("agent key"), |_, grant| grant.agent_key = key(51).public()).await;
    check(Lie::Grant("client key"), |_, grant| grant.client_key = key(51).public()).await;
    check(Lie::Grant("person"), |_, grant| grant.person.subject = "bob".to_owned()).await;
    check(Lie::Grant("verb"), |_, grant| grant.verb = Verb::Tunnel).await;
    check(Lie::Grant("mode"), |_, grant| grant.mode = Mode::Sealed).await;
    check(Lie::Grant("recording"), |made, _| made.recorded = true).await;
    check(Lie::Grant("target user"), |_, grant| grant.user = "root".parse().ok()).await;
    check(Lie::Grant("target user"), |_, grant| grant.user = None).await;
    check(Lie::Grant("scope"), |_, grant| grant.scope = Scope::Destinations(vec!["*:*".parse().unwrap()])).await;
    check(Lie::Grant("request"), |_, grant| grant.request = Digest::of(b"another")).await;
    check(Lie::User, |made, grant| (made.target_user, grant.user) = (None, None)).await;
    check(Lie::Refused(GrantError::Expired), |_, grant| grant.not_after = UnixTime::from_secs(1)).await;
    check(Lie::Malformed, |made, _| made.grant = Bytes(vec![1, 2, 3])).await;
}

#[tokio::test]
async fn a_grant_under_another_root_is_refused() {
    let stand = Stand::new().await;
    let mut bundle = stand.trust.bundle().clone();
    bundle.roots = vec![key(77).public()];
    let trust = bz_client::trust::Trust::given(bundle).unwrap();
    let client = Client::new(&stand.server, trust, stand.login().await).unwrap();
    let error = client.ask(&"web".parse().unwrap(), exec(), None).await.expect_err("another root");
    assert!(matches!(error, AskError::Lie(Lie::Refused(GrantError::Certificate(_)))), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_is_refused_here_is_closed_again() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    refused(&stand, &client, "web", |made, _| made.mode = Mode::Sealed).await;
    assert_eq!(stand.rest.calls().last().unwrap(), &format!("PATCH connections/{CONNECTION}/close"));
}

/// Attaching asks for the shell that the connection has, and never closes it.
#[tokio::test]
async fn attaching_is_checked_like_asking_and_closes_nothing() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    let size = Size { rows: 24, columns: 80 };
    let mut connection = Connection {
        id: CONNECTION,
        time_created: "2026-01-01T00:00:00Z".to_owned(),
        state: ConnectionState::Open,
        target_id: TARGET,
        target_name: "web".to_owned(),
        target_type: "Bzero".to_owned(),
        target_user: "deploy".parse().ok(),
        subject_id: UserId::from_bytes([4; 16]),
        kind: "Shell".to_owned(),
        shell_id: Some(SHELL),
        attached: false,
        remote_host: None,
        remote_port: None,
        target_groups: vec![],
    };
    let asked = client.attach_grant(&connection, size).await.unwrap();
    assert_eq!(asked.request.parameters, Parameters::Attach { shell: SHELL, size });
    let changes: [(&str, Change); 4] = [
        ("connection", |made, _| made.connection_id = ConnectionId::from_bytes([8; 16])),
        ("target", |made, _| made.target_id = TargetId::from_bytes([8; 16])),
        ("shell", |made, _| made.shell_id = None),
        ("shell", |made, _| made.shell_id = Some(ShellId::from_bytes([8; 16]))),
    ];
    for (want, change) in changes {
        stand.rest.lie(change);
        let error = client.attach_grant(&connection, size).await.expect_err(want);
        assert!(matches!(&error, AskError::Lie(Lie::Field { field, .. }) if *field == want), "{want}: {error:?}");
    }
    assert!(!stand.rest.calls().iter().any(|call| call.ends_with("/close")), "{:?}", stand.rest.calls());
    connection.shell_id = None;
    assert!(matches!(client.attach_grant(&connection, size).await, Err(AskError::NoShell(_))));
}

async fn refused(stand: &Stand, client: &Client, name: &str, change: Change) -> Lie {
    stand.rest.lie(change);
    match client.ask(&name.parse().unwrap(), exec(), None).await {
        Err(AskError::Lie(lie)) => lie,
        other => panic!("{name}: no lie was found: {other:?}"),
    }
}
