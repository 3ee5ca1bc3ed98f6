//! The logs as auditors see them: every filter, pages, agents that come and go, and a server that is killed.

mod filled;
mod stream;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bz_core::api::error::Code;
use bz_core::api::record::{AgentStatusEvent, CommandEvent, UserEvent};
use bz_core::id::{BootId, ConnectionId, EnvironmentId, TargetId, UserId};
use bz_server::connection::link;
use bz_server::init;
use bz_server::store::Store;
use bz_server::store::event::{EventFilter, Log};
use bz_server::store::target::Announced;
use serde_json::{Value, json};

use crate::world::{As, Client, World};

/// F-153~, F-155, F-157, F-160, F-166~: each filter of each log takes what it names and nothing else; repeated values are
/// alternatives, several filters hold together.
#[tokio::test]
async fn every_filter_of_every_log() {
    let world = World::new().await;
    let admin = world.admin().await;
    fill(&world).await;
    for log in ["connection", "command", "query", "web", "kube"] {
        for (query, want) in &common() {
            check((&world, &admin), log, query, want).await;
        }
    }
    for (log, query, want) in [
        ("connection", "connectionEventTypes=Closed", "2"),
        ("connection", "connectionEventTypes=Closed&connectionEventTypes=Created", "1 2"),
        ("connection", "connectionNodeIds=main", "1 2 3"),
        ("connection", "connectionNodeIds=other", ""),
        ("connection", "spaceNames=", "1 2 3"),
        ("command", "commandSearch=/etc/pass", "2"),
        ("command", "commandSearch=ETC", "2"),
        ("command", "commandSearch=s", "1 2"),
        ("command", "commandSearch=%25", ""),
        ("query", "commandSearch=from%20users", "1 3"),
    ] {
        check((&world, &admin), log, query, want).await;
    }
}

/// F-155~: calls are asked for by operation, address and what policy said; values that cannot be are refused.
#[tokio::test]
async fn calls_have_filters_of_their_own() {
    let world = World::new().await;
    let admin = world.admin().await;
    fill(&world).await;
    for (query, want) in [
        ("serviceActions=policymanagementservice:add", 1),
        ("serviceActions=policymanagementservice:add&serviceActions=userservice:register", 2),
        ("evaluation=false", 1),
        ("evaluation=false&serviceActions=policymanagementservice:add", 1),
        ("ipAddresses=192.0.2.7", 1),
        ("subjectTypes=ApiKey", 0),
    ] {
        let found: Vec<UserEvent> = world.get(As::Client(&admin), &format!("/events/subject?{query}")).await.ok();
        assert_eq!(found.len(), want, "{query}: {found:?}");
    }
    for (log, query) in [
        ("subject", "evaluation=maybe"),
        ("subject", "ipAddresses=here"),
        ("subject", "subjectIds=x"),
        ("connection", "connectionEventTypes=Opened"),
        ("connection", "subjectTypes=user"),
        ("connection", "environmentIds=prod"),
        ("connection", "startTimestamp=yesterday"),
        ("connection", "cursor=x"),
        ("connection", "limit=0"),
        ("connection", "limit=1001"),
        ("connection", "targetNames=%00"),
        ("agent-status-change", "limit=1"),
    ] {
        world.get(As::Client(&admin), &format!("/events/{log}?{query}")).await.refused(Code::BadRequest);
    }
}

/// A list is read page by page, by the link that each page gives, and each event comes once though others come
/// meanwhile.
#[tokio::test]
async fn pages_follow_their_links() {
    let world = World::new().await;
    let admin = world.admin().await;
    fill(&world).await;
    let mut path = "/events/command?limit=1&targetTypes=Bzero&targetTypes=Db".to_owned();
    let mut seen = Vec::new();
    loop {
        let (reply, link) = world.linked(As::Client(&admin), &path).await;
        seen.extend(reply.ok::<Vec<CommandEvent>>().into_iter().map(|event| event.command));
        filled::from(&world, 10 * seen.len() as u64).await;
        let Some(link) = link else { break };
        let (next, rel) = link.split_once('>').unwrap();
        assert_eq!(rel, "; rel=\"next\"");
        path = next.strip_prefix("</api/v2").unwrap().to_owned();
    }
    assert_eq!(seen, ["id", "cat /etc/passwd", "ls -l"]);
}

/// F-161, F-162~, F-163~, F-164~: the log of clusters has the original's fields beside ours.
#[tokio::test]
async fn the_original_reads_the_log_of_clusters() {
    let world = World::new().await;
    let admin = world.admin().await;
    fill(&world).await;
    let all: Vec<Value> = world.get(As::Client(&admin), "/events/kube?eventCount=1").await.ok();
    let event = &all[0];
    for (field, want) in [
        ("/creationDate", json!("2027-01-15T08:00:03Z")),
        ("/role", json!("app")),
        ("/targetGroups", json!(["ops"])),
        ("/endpoints/0/event", json!("POST /api/v1/pods")),
        ("/execCommands/0/event", json!("sh -c id")),
        ("/kubeEnglishCommand", json!("kubectl exec x -- sh -c id")),
        ("/statusCode", json!(200)),
        ("/userId", json!(UserId::from_bytes([1; 16]))),
        ("/userEmail", json!("one@example.com")),
        ("/clusterId", json!(TargetId::from_bytes([1; 16]))),
        ("/targetName", json!("host1")),
        ("/organizationId", json!(world.app.organization)),
    ] {
        assert_eq!(event.pointer(field), Some(&want), "{field} of {event}");
    }
}

/// Agents that come, go and start again are in a log of their own, with the reason, for each target.
#[tokio::test]
async fn agents_that_come_and_go_are_logged() {
    let world = World::new().await;
    let admin = world.admin().await;
    let (web, other) = (world.agent(&admin, "web").await, world.agent(&admin, "other").await);
    let came = async |id, boot: u8| {
        let boot = BootId::from_bytes([boot; 16]);
        let agent = Announced { boot, version: "1".to_owned(), routes: vec![] };
        link::target_online(&world.app, id, agent).await.unwrap();
        world.advance(1);
    };
    came(web.id, 1).await;
    came(web.id, 1).await;
    came(web.id, 2).await;
    link::target_offline(&world.app, web.id).await.unwrap();
    link::target_offline(&world.app, web.id).await.unwrap();
    came(web.id, 2).await;
    link::target_offline(&world.app, web.id).await.unwrap();
    came(web.id, 3).await;
    came(other.id, 1).await;
    let path = format!("/events/agent-status-change?targetId={}", web.id);
    let mut log: Vec<AgentStatusEvent> = world.get(As::Client(&admin), &path).await.ok();
    log.reverse();
    let changes: Vec<_> = log.iter().map(|event| event.status_change.as_str()).collect();
    let offline = "OnlineToOffline";
    assert_eq!(
        changes,
        [
            "NotActivatedToOnline",
            "OnlineToRestarting",
            "RestartingToOnline",
            offline,
            "OfflineToOnline",
            offline,
            "OfflineToRestarting",
            "RestartingToOnline"
        ]
    );
    assert_eq!(log[3].reason, "its agent has had no link for 120 seconds");
    assert!(log[1].reason.contains("started again"), "{}", log[1].reason);
    assert_eq!((log[0].agent_public_key, log[0].target_name.as_str()), (web.identity.public(), "web"));
    let later = format!("{path}&startTimestamp=2027-01-15T08:00:03Z&limit=1");
    let log: Vec<AgentStatusEvent> = world.get(As::Client(&admin), &later).await.ok();
    assert_eq!(log[0].status_change, "RestartingToOnline");
    world.get(As::Client(&admin), "/events/agent-status-change?targetId=web").await.refused(Code::BadRequest);
}

/// What is older than the settings keep it goes by itself, in whole days, once; the logs hold, under the roots that
/// people pin, and say that it went.
#[tokio::test]
async fn old_events_go_and_the_rest_proves_itself() {
    let world = World::with(|config| config.events_keep_days = Some(2)).await;
    let key = world.key(&world.admin().await, false).await;
    fill(&world).await;
    let audit = || world.app.store.audit_events(None, (world.app.organization, vec![world.app.root()]));
    let before = audit().await.unwrap().unwrap();
    bz_server::jobs::tick(&world.app).await.unwrap();
    assert_eq!(audit().await.unwrap().unwrap(), before, "nothing is old yet");
    world.advance(3 * 24 * 3600);
    for _ in 0..2 {
        bz_server::jobs::tick(&world.app).await.unwrap();
    }
    let after = audit().await.unwrap().unwrap();
    assert_eq!(
        (after.rows, after.cut.unwrap().head),
        (1, before.head),
        "all that was there went, and one event says so"
    );
    let log: Vec<UserEvent> = world.get(As::Key(&key), "/events/subject?serviceActions=auditservice:cut").await.ok();
    let context: Value = serde_json::from_str(&log[0].context).unwrap();
    assert_eq!((log.len(), &context["rows"]), (1, &json!(before.rows)));
    assert!(world.get(As::Key(&key), "/events/command").await.ok::<Vec<Value>>().is_empty());
}

/// A server that is killed in the middle of writing has lost nothing that it answered, and its logs hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_has_lost_nothing_that_it_answered() {
    let world = World::new().await;
    let secret = world.key(&world.admin().await, false).await;
    let World { folder, app, .. } = world;
    let data = app.config().data.clone();
    drop(app);
    let config_file = data.join(init::CONFIG).to_str().unwrap().to_owned();
    let mut answered = Vec::new();
    for round in 0..2 {
        answered.extend(write_until_killed(&config_file, &secret, round).await);
    }
    assert!((1000..2000).contains(&answered.len()), "{} were answered", answered.len());
    let mut audit = Command::new(env!("CARGO_BIN_EXE_bz-server"));
    let said = audit.args(["--config", &config_file, "audit", "verify"]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.contains("rows hold, 1 to "), "{text}");
    let store = Store::open(&data).unwrap();
    let (mut events, mut after) = (Vec::new(), 0);
    loop {
        let (rows, next) = store.events_after((vec![Log::Calls], EventFilter::default()), after).await.unwrap();
        events.extend(rows.iter().map(|row| serde_json::from_str::<UserEvent>(&row.body).unwrap().resource));
        if next == after {
            break;
        }
        after = next;
    }
    let made = store.environments().await.unwrap();
    for name in answered {
        assert!(events.contains(&name), "{name} was answered and is not in the log");
        assert!(made.iter().any(|environment| environment.name == name), "{name} was answered and is not there");
    }
    drop(folder);
}

/// The environments that were answered as made when the server was killed in the middle of a thousand.
async fn write_until_killed(config_file: &str, secret: &str, round: usize) -> Vec<String> {
    let mut serving = Command::new(env!("CARGO_BIN_EXE_bz-server"))
        .args(["--config", config_file, "serve"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(serving.stderr.take().unwrap()).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("listening"))).expect("the server listens");
    let address = line.split("local=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let reader = std::thread::spawn(move || lines.count());
    let count = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..8_usize)
        .map(|writer| {
            let (count, url) = (Arc::clone(&count), format!("http://{address}/api/v2/environments"));
            let header = secret.to_owned();
            tokio::spawn(async move {
                let client = bz_server::tls::http_client(None, Duration::from_secs(10)).unwrap();
                let mut answered = Vec::new();
                for number in 0..1000 {
                    let name = format!("e{round}-{writer}-{number}");
                    let body = json!({ "name": name }).to_string();
                    let call = client.post(&url).header("X-API-KEY", &header).body(body).send().await;
                    let Some(answer) = call.ok().filter(|answer| answer.status().is_success()) else { break };
                    if answer.bytes().await.is_err() {
                        break;
                    }
                    answered.push(name);
                    count.fetch_add(1, Ordering::SeqCst);
                }
                answered
            })
        })
        .collect();
    let enough = async {
        while count.load(Ordering::SeqCst) < 500 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), enough).await.expect("500 writes are answered in a minute");
    serving.kill().unwrap();
    serving.wait().unwrap();
    reader.join().unwrap();
    let mut answered = Vec::new();
    for writer in writers {
        answered.extend(writer.await.unwrap());
    }
    answered
}

/// Queries that all logs of what happened in connections know, and the seconds of the events that they find.
fn common() -> Vec<(String, &'static str)> {
    let (a, b) = (UserId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
    let (target, environment) = (TargetId::from_bytes([2; 16]), EnvironmentId::from_bytes([2; 16]));
    let connection = ConnectionId::from_bytes([2; 16]);
    vec![
        (format!("subjectIds={a}"), "1 3"),
        (format!("subjectIds={a}&subjectIds={b}"), "1 2 3"),
        ("subjectTypes=ServiceAccount".to_owned(), "2"),
        ("userNames=two@example.com".to_owned(), "2"),
        ("subjectNames=one@example.com&subjectNames=two@example.com".to_owned(), "1 2 3"),
        ("subjectNames=nobody".to_owned(), ""),
        ("isAdmin=true".to_owned(), "2"),
        ("isAdmin=false".to_owned(), "1 3"),
        ("isAdmin=false&isAdmin=true".to_owned(), "1 2 3"),
        ("startTimestamp=2027-01-15T08:00:02Z".to_owned(), "2 3"),
        // The same moment in another zone.
        ("startTimestamp=2027-01-15T10:00:02%2B02:00".to_owned(), "2 3"),
        ("endTimestamp=2027-01-15T08:00:02Z".to_owned(), "1 2"),
        ("eventCount=2".to_owned(), "2 3"),
        ("limit=1".to_owned(), "3"),
        (format!("connectionIds={connection}"), "2"),
        ("spaceNames=work".to_owned(), ""),
        (format!("targetIds={target}"), "2"),
        ("targetNames=host1".to_owned(), "1 3"),
        ("targetTypes=Db".to_owned(), "2"),
        ("targetUsers=root&targetUsers=nobody".to_owned(), "1"),
        (format!("environmentIds={environment}"), "2"),
        ("environmentNames=prod".to_owned(), "1 3"),
        (format!("subjectIds={a}&targetUsers=app"), "3"),
        // From where the call came that opened the connection.
        ("ipAddresses=192.0.2.9".to_owned(), "2"),
        ("ipAddresses=192.0.2.7".to_owned(), ""),
    ]
}

async fn check((world, admin): (&World, &Client), log: &str, query: &str, want: &str) {
    let found: Vec<Value> = world.get(As::Client(admin), &format!("/events/{log}?{query}")).await.ok();
    let number = |event: &Value| {
        let timestamp = event["timestamp"].as_str().unwrap();
        assert!(timestamp.ends_with('Z'), "{timestamp} is not in UTC");
        timestamp[18..19].to_owned()
    };
    let mut numbers: Vec<_> = found.iter().map(number).collect();
    numbers.reverse();
    assert_eq!(numbers.join(" "), want, "{log}?{query}");
}

async fn fill(world: &World) {
    filled::from(world, 0).await;
}
