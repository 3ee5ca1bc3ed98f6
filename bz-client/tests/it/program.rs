//! The program: what it prints, and how it exits.

use std::path::Path;
use std::process::{Output, Stdio};

use bz_client::login::LockedLogin as _;
use bz_client::profile::Profile;
use expect_test::{Expect, expect, expect_file};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use url::Url;

use crate::stand::server::CONNECTION;
use crate::stand::{Stand, web};

fn bz(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bz"));
    command.env_clear().env("BZ_CONFIG_DIR", config).env("TZ", "Etc/GMT-2").stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(config: &Path, arguments: &[&str]) -> Output {
    bz(config).args(arguments).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn check(config: &Path, arguments: &[&str], status: i32, stdout: Expect) {
    let output = run(config, arguments).await;
    assert_eq!(output.status.code(), Some(status), "bz {arguments:?}: {}", text(&output.stderr));
    stdout.assert_eq(&text(&output.stdout));
}

/// A config folder where alice is logged in.
async fn logged_in() -> (Stand, tempfile::TempDir) {
    let (stand, config) = (Stand::new().await, tempfile::tempdir().unwrap());
    let profile = Profile::new(config.path(), "default").unwrap();
    profile.keep(&stand.server, &stand.trust).unwrap();
    profile.login_store().take().await.unwrap().save(&stand.login().await).unwrap();
    (stand, config)
}

#[tokio::test]
async fn help_says_everything() {
    let config = tempfile::tempdir().unwrap();
    let mut all = String::new();
    for command in [
        &[][..],
        &["login"],
        &["logout"],
        &["list-targets"],
        &["list-connections"],
        &["connect"],
        &["exec"],
        &["attach"],
        &["close"],
        &["why"],
        &["verify"],
        &["target", "trust"],
        &["policy", "list"],
        &["policy", "create", "target-access"],
        &["policy", "create", "session-recording"],
        &["api-key", "list"],
        &["api-key", "create"],
        &["doctor"],
        &["completion"],
    ] {
        let output = run(config.path(), &[command, &["--help"]].concat()).await;
        assert!(output.status.success(), "bz {command:?} --help");
        all.push_str(&format!("$ bz {}\n{}\n", [command, &["--help"]].concat().join(" "), text(&output.stdout)));
    }
    expect_file!["program/help.txt"].assert_eq(&all);
}

/// Exit statuses say what kind of failure it is.
#[tokio::test]
async fn failures_exit_with_their_number_and_say_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let (stand, config) = logged_in().await;
    let fails = async |config: &Path, arguments: &[&str], status: i32, words: &str| {
        let output = run(config, arguments).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "bz {arguments:?}: {said}");
        assert!(said.contains(words), "bz {arguments:?} does not say {words:?}: {said}");
        assert!(output.stdout.is_empty(), "bz {arguments:?}");
    };
    fails(empty.path(), &["lt"], 5, "bz login --server").await;
    fails(empty.path(), &["login"], 5, "bz login --server").await;
    fails(empty.path(), &["--profile", "../x", "lt"], 5, "no profile's name").await;
    fails(empty.path(), &["login", "--server", "http://far.example"], 5, "use https").await;
    fails(empty.path(), &["login", "--server", "http://127.0.0.1:1"], 11, "cannot be reached").await;
    fails(empty.path(), &["nonsense"], 2, "unrecognized subcommand").await;
    stand.rest.answer(
        "GET targets/bzero",
        403,
        json!({"errorMsg": "no\u{1b}[31m", "errorType": "x", "code": "denied"}),
    );
    fails(config.path(), &["lt"], 1, "bz: no\u{fffd}[31m").await;
    fails(config.path(), &["lt", "--json"], 1, "\"exitCode\":1").await;
    stand.rest.answer("GET targets/bzero", 401, json!({}));
    fails(config.path(), &["lt"], 18, "log in again").await;
    std::fs::write(config.path().join("default/login.json"), "{").unwrap();
    fails(config.path(), &["lt"], 5, "login.json is damaged").await;
    std::fs::remove_file(config.path().join("default/login.json")).unwrap();
    fails(config.path(), &["lt"], 18, "run `bz login`").await;
}

#[tokio::test]
async fn targets_are_listed_as_a_table_and_as_json() {
    let (stand, config) = logged_in().await;
    stand.rest.answer("GET targets/bzero", 200, json!([target("web", "Online"), target("db\u{1b}[2J", "Offline")]));
    check(
        config.path(),
        &["lt"],
        0,
        expect![[r#"
            Name    Environment  Status
            db�[2J  Default      offline
            web     Default      online
        "#]],
    )
    .await;
    check(
        config.path(),
        &["lt", "--name", "web", "--detail", "--show-id"],
        0,
        expect![[r#"
            Name  Environment  Status  Id                                    Target users  Verbs  Routes  Agent  Last seen
            web   Default      online  00000000-0000-4000-8000-000000000001  deploy        Shell          0.1.0  2026-01-02 05:04:05
        "#]],
    )
    .await;
    check(config.path(), &["lt", "--status", "not-activated"], 0, expect![""]).await;
    let colored = run(config.path(), &["lt", "--color", "always"]).await;
    assert!(text(&colored.stdout).contains("\u{1b}["), "{colored:?}");
    let listed = run(config.path(), &["--json", "list-targets", "-e", "Def"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((listed.as_array().unwrap().len(), &listed[1]["lastAgentUpdate"]), (2, &json!("2026-01-02T03:04:05Z")));
}

#[tokio::test]
async fn connections_are_listed_and_closed() {
    let (stand, config) = logged_in().await;
    let connection = |state: &str| {
        json!({"id": CONNECTION, "timeCreated": "2026-01-02T03:04:05Z", "state": state, "targetName": "web",
            "targetID": "00000000-0000-4000-8000-000000000001", "targetType": "Bzero", "targetUser": "deploy",
            "subjectId": "00000000-0000-4000-8000-000000000001", "type": "Shell", "attached": false})
    };
    stand.rest.answer("GET connections", 200, json!([connection("Open"), connection("Closed")]));
    check(
        config.path(),
        &["lc"],
        0,
        expect![[r#"
            Type   Connection                            Target user  Target  State     Created
            Shell  02020202-0202-0202-0202-020202020202  deploy       web     detached  2026-01-02 05:04:05
            Shell  02020202-0202-0202-0202-020202020202  deploy       web     closed    2026-01-02 05:04:05
        "#]],
    )
    .await;
    check(
        config.path(),
        &["close", "--all"],
        0,
        expect![[r#"
        Closed 1 connection.
    "#]],
    )
    .await;
    let close = format!("PATCH connections/{CONNECTION}/close");
    assert_eq!(stand.rest.calls().last().unwrap(), &close);
    stand.rest.answer(&close, 404, json!({}));
    check(
        config.path(),
        &["close", &CONNECTION.to_string()],
        1,
        expect![[r#"
        Closed 0 connections.
    "#]],
    )
    .await;
}

#[tokio::test]
async fn an_administrator_makes_keys_and_policies() {
    let (stand, config) = logged_in().await;
    let id = "00000000-0000-4000-8000-000000000007";
    stand.rest.answer(
        "POST api-keys",
        200,
        json!({"apiKeyDetails": {"id": id, "name": "ci", "timeCreated": "2026-01-02T03:04:05Z", "isRegistrationKey": true}, "secret": "c2VjcmV0"}),
    );
    check(
        config.path(),
        &["api-key", "create", "ci", "--registration"],
        0,
        expect![[r#"
        c2VjcmV0
    "#]],
    )
    .await;
    let user = json!({"id": id, "organizationId": id, "email": "bob@example.com", "fullName": "Bob", "isAdmin": false,
        "timeCreated": "2026-01-02T03:04:05Z", "issuer": "i", "subject": "s"});
    stand.rest.answer("GET users", 200, json!([user]));
    stand.rest.answer("GET targets/bzero", 200, json!([target("web", "Online")]));
    stand.rest.answer("POST policies/target-connect", 200, json!({"id": id, "type": "TargetConnect", "name": "ops"}));
    let create =
        ["policy", "create", "target-access", "--name", "ops", "--target-user", "{username}", "--verb", "shell"];
    let with = |more: &[&'static str]| [create.as_slice(), more].concat();
    check(
        config.path(),
        &with(&["--users", "Bob@example.com", "--targets", "web"]),
        0,
        expect![[r#"
        Policy ops was made (00000000-0000-4000-8000-000000000007).
    "#]],
    )
    .await;
    for (more, status) in [
        (&["--user", "eve@example.com", "--target", "web"][..], 1),
        (&["--user", "bob@example.com", "--target", "cache"], 1),
        (&["--group", "ops", "--environment", "nowhere"], 1),
        (&["--target", "web"], 2),
        (&["--user", "bob@example.com"], 2),
        (&["--user", "bob@example.com", "--target", "web", "--environment", "x"], 2),
    ] {
        check(config.path(), &with(more), status, expect![""]).await;
    }
    stand.rest.answer(
        "POST policies/session-recording",
        200,
        json!({"id": id, "type": "SessionRecording", "name": "all"}),
    );
    let record =
        ["policy", "create", "session-recording", "--name", "all", "--user", "bob@example.com", "--record-input"];
    let made = expect![[r#"
        Policy all was made (00000000-0000-4000-8000-000000000007).
    "#]];
    check(config.path(), &record, 0, made).await;
    check(config.path(), &record[..5], 2, expect![""]).await;
}

#[tokio::test]
async fn policies_keys_and_reasons_are_shown() {
    let (stand, config) = logged_in().await;
    let id = "00000000-0000-4000-8000-000000000007";
    let access = json!({"id": id, "type": "TargetConnect", "name": "ops", "subjects": [{"id": id, "type": "User"}],
        "groups": [{"id": "g", "name": "dev"}], "environments": [{"id": id}], "targetUsers": [{"userName": "{username}"}],
        "verbs": [{"type": "Shell"}, {"type": "Handler", "name": "debug"}]});
    let recording = json!({"id": id, "type": "SessionRecording", "name": "all", "recordInput": true});
    stand.rest.answer("GET policies/target-connect", 200, json!([access]));
    stand.rest.answer("GET policies/session-recording", 200, json!([recording]));
    check(
        config.path(),
        &["policy", "list"],
        0,
        expect![[r#"
        Name  Type              Subjects  Groups  Targets         Target users  Verbs
        ops   TargetConnect     1         dev     1 environments  {username}    Shell, Handler:debug
        all   SessionRecording  0                 everywhere                    output and input
    "#]],
    )
    .await;
    let listed = run(config.path(), &["policy", "list", "--json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed[0]["type"], &listed[1]["type"]), (&json!("TargetConnect"), &json!("SessionRecording")));
    let key = json!({"id": id, "name": "ci", "timeCreated": "2026-01-02T03:04:05Z", "isRegistrationKey": false});
    stand.rest.answer("GET api-keys", 200, json!([key]));
    check(
        config.path(),
        &["api-key", "list"],
        0,
        expect![[r#"
        Name  Id                                    For      Created
        ci    00000000-0000-4000-8000-000000000007  the API  2026-01-02 05:04:05
    "#]],
    )
    .await;
    let denied = json!({"allowed": false, "policies": [], "allowedTargetUsers": ["deploy"], "allowedVerbs": [{"type": "Shell"}],
        "reason": "no policy names root here", "remedy": "bz policy create target-access --target-user root"});
    stand.rest.answer("POST policy-query/why", 200, denied);
    check(
        config.path(),
        &["why", "root@web"],
        1,
        expect![[r#"
            Allowed       no
            Reason        no policy names root here
            Policies
            Target users  deploy
            Verbs         Shell
            Remedy        bz policy create target-access --target-user root
        "#]],
    )
    .await;
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong() {
    let (stand, config) = logged_in().await;
    let findings = async |status: i32| {
        let output = run(config.path(), &["doctor", "--json"]).await;
        assert_eq!(output.status.code(), Some(status), "{}", text(&output.stdout));
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let bad = all.as_array().unwrap().iter().filter(|finding| finding["ok"] == json!(false));
        bad.map(|finding| finding["check"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    stand.rest.answer("GET users/me", 200, serde_json::to_value(stand.login().await.user()).unwrap());
    assert_eq!(findings(0).await, [""; 0]);
    stand.rest.state.lock().unwrap().bundle.providers[0].audiences.push("more".to_owned());
    assert_eq!(findings(1).await, ["server's bundle"]);
    stand.rest.answer("GET users/me", 401, json!({}));
    assert_eq!(findings(1).await, ["server's bundle", "login at the server"]);
    std::fs::write(config.path().join("default/trust.toml"), "").unwrap();
    assert_eq!(findings(1).await, ["trust bundle"]);
    std::fs::remove_file(config.path().join("default/profile.toml")).unwrap();
    assert_eq!(findings(1).await, ["profile"]);
}

/// F-176~, TRUST-2: a login without a browser, with a pasted redirect; first use is said loudly, and once.
#[tokio::test]
async fn a_login_without_a_browser_reads_the_pasted_redirect() {
    let (stand, config) = (Stand::new().await, tempfile::tempdir().unwrap());
    let (status, said, out) = login(&config, &["--server", &stand.rest.url, "--claim", "CODE"]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("TRUST ON FIRST USE") && said.contains(&stand.trust.fingerprint().unwrap().to_string()),
        "{said}"
    );
    assert!(out.starts_with(&format!("Logged in to {} as alice@example.com until 20", stand.rest.url)), "{out}");
    assert_eq!(stand.rest.state.lock().unwrap().claims, [Some("CODE".to_owned())]);
    let bundle = config.path().join("acme.toml");
    std::fs::write(&bundle, stand.trust.bundle().to_text().unwrap()).unwrap();
    let (status, said, _) = login(&config, &["--bundle", bundle.to_str().unwrap()]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(!said.contains("TRUST ON FIRST USE"), "the administrator's bundle is no first use: {said}");
    check(
        config.path(),
        &["logout"],
        0,
        expect![[r#"
        Logged out.
    "#]],
    )
    .await;
    assert_eq!(stand.rest.calls().last().unwrap(), "POST users/logout");
    check(config.path(), &["lt"], 18, expect![""]).await;
    check(
        config.path(),
        &["logout"],
        0,
        expect![[r#"
        Logged out.
    "#]],
    )
    .await;
}

/// A bundle of another organization never takes the place of a pinned one.
#[tokio::test]
async fn a_profile_stays_with_its_organization() {
    let (stand, config) = logged_in().await;
    let mut other = stand.trust.bundle().clone();
    other.organization = bz_core::id::OrganizationId::from_bytes([7; 16]);
    let bundle = config.path().join("other.toml");
    std::fs::write(&bundle, other.to_text().unwrap()).unwrap();
    let output = run(config.path(), &["login", "--bundle", bundle.to_str().unwrap()]).await;
    assert!(text(&output.stderr).contains("another organization"), "{output:?}");
    assert_ne!(output.status.code(), Some(0));
}

#[tokio::test]
async fn completion_scripts_are_printed() {
    let config = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(config.path(), &["completion", shell]).await;
        assert!(output.status.success() && text(&output.stdout).contains("list-targets"), "{shell}");
    }
}

#[tokio::test]
async fn a_trusted_key_is_kept_for_the_name_as_typed() {
    let (_stand, config) = logged_in().await;
    let fingerprint = "ab".repeat(32);
    let output = run(config.path(), &["target", "trust", "web.prod", &fingerprint]).await;
    assert!(output.status.success(), "{output:?}");
    let kept = std::fs::read_to_string(config.path().join("default/known-agents.toml")).unwrap();
    assert!(kept.contains("[\"web.prod\"]") && kept.contains(&fingerprint), "{kept}");
    assert_eq!(run(config.path(), &["target", "trust", "web", "no-key"]).await.status.code(), Some(2));
}

fn target(name: &str, status: &str) -> Value {
    json!({"id": "00000000-0000-4000-8000-000000000001", "name": name, "status": status,
        "environmentId": "00000000-0000-4000-8000-000000000001", "environmentName": "Default",
        "lastAgentUpdate": "2026-01-02T03:04:05Z", "agentVersion": "0.1.0", "region": "self-hosted",
        "agentPublicKey": crate::stand::key(50).public(), "allowedTargetUsers": [{"userName": "deploy"}],
        "allowedVerbs": [{"type": "Shell"}], "routes": []})
}

/// Logs in as a person at a machine without a browser does; gives status, standard error and standard output.
async fn login(config: &tempfile::TempDir, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = bz(config.path());
    command.args(["login", "--no-browser"]).args(more);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    let page = loop {
        let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("no page was printed: {said}"));
        said.push_str(&format!("{line}\n"));
        if line.contains("code_challenge=") {
            break Url::parse(&line).unwrap();
        }
    };
    let redirect = web::get(&page).await.unwrap().location.unwrap();
    child.stdin.take().unwrap().write_all(format!("what?\n{redirect}\n").as_bytes()).await.unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        said.push_str(&format!("{line}\n"));
    }
    let output = child.wait_with_output().await.unwrap();
    (output.status.code(), said, text(&output.stdout))
}
