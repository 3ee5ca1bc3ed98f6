//! What an operator does with a server and sees of it: doctor, new online keys, settings read again, metrics.

use std::sync::Arc;
use std::time::Duration;

use bz_core::api::access::ConnectionMade;
use bz_core::grant::{MAX_GRANT, Pins, Purpose, ServerCert, SignedGrant};
use bz_core::oidc::service::JwksPattern;
use bz_core::time::UnixTime;
use bz_core::wire;
use bz_server::admin::rotate_keys;
use bz_server::config::{Config, SinkSettings};
use bz_server::doctor::{Finding, Grade, examine};
use bz_server::jobs;
use bz_server::seam::SystemEntropy;
use bz_server::server::Server;
use bz_server::store::operation::Done;

use crate::world::{As, START, World};

/// New online keys by hand: new grants are under them, the root that agents pin certifies them, and both are in the log.
#[tokio::test]
async fn new_online_keys_are_believed_by_the_pinned_root() {
    let world = World::new().await;
    let (admin, user) = (world.admin().await, world.user("bob").await);
    let agent = world.agent(&admin, "web").await;
    world.allow(&admin, &user, &agent, &["root"]).await;
    let signer = |made: &ConnectionMade| {
        let roots = &[world.app.root()];
        let pins = Pins { organization: world.app.organization, roots, now: world.app.now().wall };
        let signed: SignedGrant = wire::decode(&made.grant.0, MAX_GRANT).unwrap();
        ServerCert::verify(&signed.certificate, Purpose::Grant, &pins).expect("under the pinned root").key
    };
    let before = signer(&world.connect(&user, &agent).await);
    jobs::tick(&world.app).await.unwrap();
    assert_eq!(signer(&world.connect(&user, &agent).await), before, "nobody asked for new keys");
    rotate_keys(&world.app.config(), &world.app.store, &SystemEntropy, world.app.now().wall).await.unwrap();
    jobs::tick(&world.app).await.unwrap();
    let after = signer(&world.connect(&user, &agent).await);
    assert_ne!(after, before);
    jobs::tick(&world.app).await.unwrap();
    assert_eq!(signer(&world.connect(&user, &agent).await), after, "one request makes new keys once");
    let log = world.log().await;
    for action in ["adminservice:rotate-keys", "keyservice:rotated"] {
        assert!(log.iter().any(|event| event.service_action == action), "{action}");
    }
    assert!(log.iter().any(|event| event.context.contains(&after.to_string())), "the new key is named");
}

/// All is well with a new server, but that nobody made a backup; each thing that is broken is found, and only that.
#[tokio::test]
async fn the_doctor_finds_what_is_broken() {
    let world = World::new().await;
    let config = || Config::clone(&world.app.config());
    let now = world.app.now().wall;
    let examined = async |config: Config, now| examine(&config, world.issuer.as_ref(), now).await;
    let bad = |found: &[Finding]| -> Vec<(&str, Grade)> {
        let bad = found.iter().filter(|finding| finding.grade != Grade::Ok && finding.check != "disk");
        bad.inspect(|finding| assert!(finding.advice.is_some(), "{finding:?}")).map(|f| (f.check, f.grade)).collect()
    };
    assert_eq!(bad(&examined(config(), now).await), [("backup", Grade::Warning)]);
    world.app.store.note_done(Done::Backup, now).await.unwrap();
    assert_eq!(bad(&examined(config(), now).await), []);
    let later = now.after(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(bad(&examined(config(), later).await), [("backup", Grade::Warning)]);
    assert_eq!(bad(&examined(config(), UnixTime::from_secs(0)).await), [("clock", Grade::Error)]);

    let other = Config { service_accounts: vec![JwksPattern("https://ci.example/*".to_owned())], ..config() };
    assert_eq!(bad(&examined(other, now).await), [("trust bundle", Grade::Warning)]);
    let root = world.app.config().data.join("root.key");
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(&root, mode(0o644)).unwrap();
    let broken = [("root key", Grade::Error), ("trust bundle", Grade::Error)];
    assert_eq!(bad(&examined(config(), now).await), broken);
    std::fs::set_permissions(&root, mode(0o600)).unwrap();
    let nowhere = Config { data: "/nowhere".into(), ..config() };
    let found = bad(&examined(nowhere, now).await);
    for check in ["data folder", "root key", "database"] {
        assert!(found.contains(&(check, Grade::Error)), "{check}: {found:?}");
    }
}

/// What can be taken while it runs is taken, what cannot is named and stays, and it is in the log; a broken setting
/// changes nothing.
#[tokio::test]
async fn settings_are_read_again_while_it_runs() {
    let world = World::new().await;
    let server = Server::serve(Arc::clone(&world.app), world.router.clone()).await.unwrap();
    let before = Config::clone(&world.app.config());
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    let sink = SinkSettings { name: "lines".to_owned(), file: Some(lines.clone()), ..SinkSettings::default() };
    let next = Config {
        mfa_grace_hours: 1,
        sinks: vec![sink],
        node: "other".to_owned(),
        listen: "127.0.0.1:1".parse().unwrap(),
        ..before.clone()
    };
    let reloaded = server.reload(next.clone()).await.unwrap();
    assert_eq!(reloaded.taken, ["mfa_grace_hours", "sink"]);
    assert_eq!(reloaded.restart, ["listen", "node"]);
    let now = Config::clone(&world.app.config());
    assert_eq!((now.mfa_grace_hours, &now.node, now.listen), (1, &before.node, before.listen));
    let said = world.log().await.into_iter().find(|event| event.service_action == "adminservice:reload").unwrap();
    assert!(said.context.contains("mfa_grace_hours") && said.context.contains("node"), "{}", said.context);
    let sent = async {
        while !std::fs::read_to_string(&lines).unwrap_or_default().contains("adminservice:reload") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), sent).await.expect("the new sink gets rows");
    let broken = Config { grant_seconds: 1, ..next };
    server.reload(broken).await.expect_err("a value out of bounds");
    assert_eq!(Config::clone(&world.app.config()), now);
    server.shutdown().await;
}

/// F-258~: metrics say of everything that one pages for how it is.
#[tokio::test]
async fn metrics_say_how_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    let sink = SinkSettings { name: "lines".to_owned(), file: Some(lines.clone()), ..SinkSettings::default() };
    let world = World::with(|config| {
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
        config.sinks = vec![sink];
    })
    .await;
    let admin = world.admin().await;
    world.agent(&admin, "web").await;
    world.get(As::Nobody, "/users").await;
    world.app.store.note_done(Done::Backup, UnixTime::from_secs(START)).await.unwrap();
    let server = Server::serve(Arc::clone(&world.app), world.router.clone()).await.unwrap();
    let sent = async {
        while !lines.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), sent).await.expect("the sink gets rows");
    let client = bz_server::tls::http_client(None, Duration::from_secs(10)).unwrap();
    let url = format!("http://{}/metrics", server.metrics_addr().unwrap());
    let text = client.get(url).send().await.unwrap().text().await.unwrap();
    let rows = world.app.store.event_head().await.unwrap().count;
    for line in [
        "bz_agent_links 1",
        "bz_client_links 0",
        "bz_sessions 0",
        "bz_store_waiting 0",
        "bz_certificate_end_seconds 0",
        "bz_job_failures_total 0",
        "bz_provider_failures_total 0",
        "bz_records_lost_total 0",
        &format!("bz_backup_seconds {START}"),
        &format!("bz_log_rows {rows}"),
        r#"bz_api_calls_total{operation="userservice:list",code="NotLoggedIn"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    let of = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(of("bz_data_free_bytes") > 0.0 && of("bz_store_answer_seconds") > 0.0);
    let alerts = include_str!("../../../docs/admin/alerts.yml");
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let named: Vec<_> = alerts.split(word).filter(|name| name.starts_with("bz_")).collect();
    assert!(named.len() > 10);
    for name in named {
        let family = name.strip_suffix("_total").unwrap_or(name);
        assert!(text.contains(&format!("# TYPE {family} ")), "no rule can look at {name}");
    }
    server.shutdown().await;
}
