//! `docs/admin/targets-and-connections.md`, as written, with the real programs and hosts that the scripts make targets.

use bz_core::api::reach::Agent;
use bz_core::api::target::{Environment, TargetStatus};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::desk::{Desk, Program, text};
use super::host::{As, Host};
use super::page::Page;
use super::{PERSON, Place};

const PAGE: &str = include_str!("../../../../docs/admin/targets-and-connections.md");
/// What a shell, a template or a program might take for more than a name.
const HOSTILE: &str = "it's $(touch /pwned) `touch /pwned` \"; touch /pwned; {{ 7 * 7 }} --x";

/// F-041~, F-145~, F-240: the page as written: a host that was nothing but Debian is a target, online, after the script ran
/// there; connections are listed and closed; a target is moved and deleted.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_targets_is_as_written() {
    let Some(place) = Place::start().await else { return };
    let Some(host) = Host::new(&place.desk.at(""), "rack-1") else { return };
    let you = format!("{PERSON}@example.com");
    let mut page = Page::of(PAGE);
    page.put("DATA", &"data");
    page.put("YOU@example.com", &you);
    let desk = &place.desk;
    desk.run(&page.next("mkdir")).await;
    desk.run(&page.next("cp ")).await;
    let said = desk.run(&page.next("bz agent artifacts")).await;
    assert!(said.contains("bz-agent-linux-x86_64"), "{said}");
    desk.run(&page.next("bz environment create")).await;
    desk.run(&page.next("bz generate bash")).await;
    let script = std::fs::read_to_string(desk.at("make-target.bash")).unwrap();
    host.put("/make-target.bash", &script);
    let command = page.next("sudo bash make-target.bash");
    assert_eq!(command, "sudo bash make-target.bash");
    // There is no systemd: the script says how to run the agent, and a second run has nothing to do.
    let first = desk.try_run(&host.line(As::Root, "bash /make-target.bash")).await;
    let said = text(&first.stderr);
    assert!(
        first.status.success() && said.contains("/usr/local/bin/bz-agent --state-dir /var/lib/bz-agent run"),
        "{said}"
    );
    let second = desk.try_run(&host.line(As::Root, "bash /make-target.bash")).await;
    let said = text(&second.stderr);
    assert!(second.status.success() && said.contains("registered already") && said.contains("there already"), "{said}");
    let mut running = desk.start(&host.line(As::Root, "bash /make-target.bash --foreground"));
    running.says("linked to the server").await;
    online(desk, "rack-1", "production").await;
    for kind in ["ansible", "container", "kube", "powershell"] {
        desk.run(&page.next(&format!("bz generate {kind}"))).await;
    }
    let said = desk.run(&page.next("bz agent list")).await;
    assert!(said.contains("rack-1") && said.contains("web"), "{said}");
    desk.run(&page.next("bz list-targets")).await;
    desk.run(&page.next("bz target edit")).await;
    let said = desk.run(&page.next("bz environment list")).await;
    assert!(said.contains("production"), "{said}");
    desk.run(&page.next("bz environment edit")).await;
    let all: Vec<Environment> = serde_json::from_str(&desk.run("bz --json environment list").await).unwrap();
    let production = all.iter().find(|environment| environment.name == "production").unwrap();
    assert_eq!((production.offline_cleanup_timeout_hours, production.targets.len()), (2160, 2));

    connections(&place, &mut page).await;
    desk.run(&page.next("bz target delete")).await;
    let all: Vec<Agent> = serde_json::from_str(&desk.run("bz --json agent list").await).unwrap();
    assert_eq!(all.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>(), ["rack-1"]);
    page.ends();
}

/// Two shells, of which the page closes one by its name and one by its person.
async fn connections(place: &Place, page: &mut Page) {
    let connect = format!("bz connect {}@web-1", place.user);
    let mut windows = Vec::new();
    for _ in 0..2 {
        let mut window = place.desk.terminal(&connect);
        window.shows("\x1b]133;B").await;
        windows.push(window);
    }
    let listed = place.desk.run(&page.next("bz list-connections")).await;
    let other = place.desk.run(&page.next("bz list-connections --user")).await;
    assert_eq!(listed, other, "those of the one who asks");
    let all = place.desk.run("bz --json list-connections").await;
    let all: Vec<bz_core::api::access::Connection> = serde_json::from_str(&all).unwrap();
    assert_eq!(all.len(), 2, "{listed}");
    page.put("CONNECTION", &all[0].id);
    place.desk.run(&page.next("bz close")).await;
    place.desk.run(&page.next("bz user close-connections")).await;
    for mut window in windows {
        assert_eq!(window.ends().await, Some(255), "a connection that was closed goes on");
    }
    assert_eq!(place.desk.run("bz --json list-connections").await.trim(), "[]");
}

/// The script as a user without rights, and as root of a file system that cannot be written; in an environment whose name
/// would be a command if it were not quoted everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_makes_a_target_of_any_host() {
    let Some(place) = Place::start().await else { return };
    let desk = &place.desk;
    give_agents(desk).await;
    let environment = HOSTILE.replace('\'', r"'\''");
    desk.run(&format!("bz environment create '{environment}'")).await;
    let mut running: Vec<Program> = Vec::new();
    for (who, name, more) in [(As::Person, "person-1", ""), (As::ReadOnlyRoot, "sealed-1", " --state-dir /srv/agent")] {
        let Some(host) = Host::new(&desk.at(""), name) else { return };
        let script = desk.run(&format!("bz generate bash --environment '{environment}'")).await;
        host.put("/make-target.bash", &script);
        let mut program = desk.start(&host.line(who, &format!("bash /make-target.bash --foreground{more}")));
        program.says("linked to the server").await;
        running.push(program);
        online(desk, name, HOSTILE).await;
        assert!(!host.at("/pwned").exists(), "a name ran as a command");
        assert!(!host.at("/usr/local/bin/bz-agent").exists(), "{who:?} wrote where only root does");
    }
}

/// What a script refuses: a program that is not what it says, a token that is used, and to go on without pins.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_refuses_what_it_cannot_prove() {
    let Some(place) = Place::start().await else { return };
    let desk = &place.desk;
    let Some(host) = Host::new(&desk.at(""), "rack-2") else { return };
    give_agents(desk).await;
    let refused = async |script: &str, why: &str| {
        host.put("/make-target.bash", script);
        let output = desk.try_run(&host.line(As::Root, "bash /make-target.bash")).await;
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "expected {why:?}, and it says {said}");
        said
    };
    // What the server itself gives has no pins, whoever asks for it.
    let key = desk.run("bz api-key create scripts").await;
    let curl = format!("curl --silent --cacert data/ca.crt -H 'X-API-KEY: {}' {}", key.trim(), place.url);
    let bare = desk.run(&format!("{curl}/api/v2/autodiscovery-scripts/bzero/bash")).await;
    let bare: serde_json::Value = serde_json::from_str(&bare).unwrap();
    let bare = bare["autodiscoveryScript"].as_str().unwrap().replace("https://127.0.0.1:8443", &place.url);
    host.put("/ca.crt", &std::fs::read_to_string(desk.at("data/ca.crt")).unwrap());
    host.put("/make-target.bash", &bare);
    let output = desk.try_run(&host.line(As::Root, "bash /make-target.bash --ca /ca.crt")).await;
    assert!(text(&output.stderr).contains("PINS ARE MISSING"), "{}", text(&output.stderr));
    assert!(!host.at("/var/lib/bz-agent/agent.toml").exists(), "it registered without pins");

    let script = desk.run("bz generate bash").await;
    std::fs::remove_file(host.at("/usr/local/bin/bz-agent")).unwrap();
    let program = desk.at("data/artifacts/bz-agent-linux-x86_64");
    let good = std::fs::read(&program).unwrap();
    std::fs::write(&program, [&good[..], b"x"].concat()).unwrap();
    refused(&script, "REFUSED: the agent's program has SHA-256").await;
    assert!(!host.at("/usr/local/bin/bz-agent").exists(), "it is there all the same");
    let own = desk.try_run("bz generate bash --agent bz-agent-linux-x86_64").await;
    assert!(!own.status.success());
    std::fs::write(desk.at("bz-agent-linux-x86_64"), &good).unwrap();
    let own = desk.try_run("bz generate bash --agent bz-agent-linux-x86_64").await;
    assert!(text(&own.stderr).contains("the server gives another"), "{}", text(&own.stderr));
    std::fs::write(&program, &good).unwrap();
    desk.run("bz generate bash --agent bz-agent-linux-x86_64").await;

    let (head, tail) = script.split_once("server_ca='").unwrap();
    let without_ca = format!("{head}server_ca=''\n{}", tail.split_once("'\n").unwrap().1);
    refused(&without_ca, "does not come from").await;

    host.put("/make-target.bash", &script);
    let output = desk.try_run(&host.line(As::Root, "bash /make-target.bash")).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::remove_dir_all(host.at("/var/lib/bz-agent")).unwrap();
    refused(&script, "this token has registered all that it may").await;

    // A profile that only has the server's word has nothing that a host should pin.
    let profile = desk.at("home/.config/bz/default/profile.toml");
    let text_of = std::fs::read_to_string(&profile).unwrap();
    std::fs::write(&profile, text_of.replace("trust_on_first_use = false", "trust_on_first_use = true")).unwrap();
    let output = desk.try_run("bz generate bash").await;
    assert!(text(&output.stderr).contains("the server's own word"), "{}", text(&output.stderr));
    desk.run("bz generate bash --bundle data/bundle.toml").await;
}

/// How a host is called: as it calls itself, so and the time, or as a cloud says, whose word is cut down to a name.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_names_its_host() {
    let Some(place) = Place::start().await else { return };
    let desk = &place.desk;
    give_agents(desk).await;
    let cloud = cloud().await;
    for (scheme, more, begins) in [
        ("--target-name-scheme time", "", "named-1-20"),
        ("--target-name-scheme aws", "", "i-0123456789abcdef0"),
        ("--target-name-scheme do", "", "droplet.example--touch-pwned"),
        ("--name given-1", "", "given-1"),
        ("", " --name by-hand", "by-hand"),
    ] {
        let Some(host) = Host::new(&desk.at(""), "named-1") else { return };
        let script = desk.run(&format!("bz generate bash {scheme}")).await;
        host.put("/make-target.bash", &script);
        let command = format!("BZ_METADATA_URL={cloud} bash /make-target.bash{more}");
        let output = desk.try_run(&host.line(As::Root, &command)).await;
        assert!(output.status.success(), "{scheme}: {}", text(&output.stderr));
        let all: Vec<Agent> = serde_json::from_str(&desk.run("bz --json agent list").await).unwrap();
        assert!(all.iter().any(|agent| agent.name.starts_with(begins)), "{scheme}: {all:?}");
        std::fs::remove_dir_all(host.at("")).unwrap();
    }
}

/// What the clouds say of a machine, as AWS (with the token that it asks for) and `DigitalOcean` do.
async fn cloud() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap_or_default();
            let asked = text(&buffer[..read]);
            let has = |header: &str| asked.to_lowercase().contains(header);
            let said = match asked.split(' ').nth(1).unwrap_or_default() {
                "/latest/api/token" if asked.starts_with("PUT ") && has("token-ttl-seconds: 60") => "session",
                "/latest/meta-data/instance-id" if has("x-aws-ec2-metadata-token: session") => "i-0123456789abcdef0",
                "/metadata/v1/hostname" => "droplet.example; touch pwned\n",
                _ => "",
            };
            let status = if said.is_empty() { "404 Not Found" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}", said.len());
            stream.write_all(answer.as_bytes()).await.unwrap_or_default();
        }
    });
    format!("http://{address}")
}

pub(super) async fn give_agents(desk: &Desk) {
    desk.run("mkdir data/artifacts && cp \"$(command -v bz-agent)\" data/artifacts/bz-agent-linux-x86_64").await;
}

async fn online(desk: &Desk, name: &str, environment: &str) {
    let holds = |said: &str| {
        let all: Vec<Agent> = serde_json::from_str(said).unwrap();
        let is = |agent: &Agent| agent.name == name && agent.environment_name == environment;
        all.iter().any(|agent| is(agent) && agent.status == TargetStatus::Online)
    };
    desk.run_until("bz --json agent list", holds).await;
}
