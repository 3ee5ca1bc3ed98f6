//! The program: what it prints, and how it exits.

use std::path::Path;
use std::process::{Output, Stdio};

use bz_client::login::LockedLogin as _;
use bz_client::profile::Profile;
use bz_client::server::Server;
use expect_test::{Expect, expect, expect_file};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use url::Url;

use crate::stand::server::CONNECTION;
use crate::stand::{Stand, web};

fn bz(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bz"));
    command.env_clear().env("BZ_CONFIG_DIR", config).env("TZ", "Etc/GMT-2").stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) async fn run(config: &Path, arguments: &[&str]) -> Output {
    bz(config).args(arguments).output().await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn check(config: &Path, arguments: &[&str], status: i32, stdout: Expect) {
    let output = run(config, arguments).await;
    assert_eq!(output.status.code(), Some(status), "bz {arguments:?}: {}", text(&output.stderr));
    stdout.assert_eq(&text(&output.stdout));
}

/// A config folder where alice is logged in.
pub(crate) async fn logged_in() -> (Stand, tempfile::TempDir) {
    let (stand, config) = (Stand::new().await, tempfile::tempdir().unwrap());
    let profile = Profile::new(config.path(), "default").unwrap();
    profile.keep(&stand.server, &stand.trust).unwrap();
    profile.login_store().take().await.unwrap().save(&stand.login().await).unwrap();
    (stand, config)
}

/// F-094: also whose duty it is to make the users of the targets.
#[tokio::test]
async fn help_says_everything() {
    let config = tempfile::tempdir().unwrap();
    let mut all = String::new();
    for command in [
        &[][..],
        &["login"],
        &["mfa"],
        &["mfa", "verify"],
        &["user", "mfa"],
        &["policy", "organization-controls"],
        &["service-account"],
        &["service-account", "create"],
        &["service-account", "login"],
        &["logout"],
        &["list-targets"],
        &["list-connections"],
        &["connect"],
        &["exec"],
        &["attach"],
        &["cp"],
        &["kube"],
        &["close"],
        &["why"],
        &["transcript", "list"],
        &["transcript", "get"],
        &["recording", "list"],
        &["recording", "get"],
        &["logs", "connections"],
        &["logs", "commands"],
        &["logs", "files"],
        &["logs", "web"],
        &["logs", "kube"],
        &["logs", "users"],
        &["verify"],
        &["target", "trust"],
        &["policy", "list"],
        &["policy", "create", "target-access"],
        &["policy", "create", "session-recording"],
        &["policy", "history"],
        &["policy", "diff"],
        &["policy", "evaluate"],
        &["policy", "simulate"],
        &["target", "edit"],
        &["api-key", "list"],
        &["api-key", "create"],
        &["api-key", "edit"],
        &["registration-key"],
        &["doctor"],
        &["completion"],
        &["generate", "ssh-config"],
        &["generate", "bash"],
        &["ssh-proxy"],
    ] {
        let output = run(config.path(), &[command, &["--help"]].concat()).await;
        assert!(output.status.success(), "bz {command:?} --help");
        all.push_str(&format!("$ bz {}\n{}\n", [command, &["--help"]].concat().join(" "), text(&output.stdout)));
    }
    let duty = "making users there, and giving them their rights, is the duty of the hosts' administrators";
    let words: Vec<_> = all.split_whitespace().collect();
    assert!(words.join(" ").contains(duty), "who makes target users is not said");
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
        assert_eq!(said.matches(words).count(), 1, "bz {arguments:?} does not say {words:?} once: {said}");
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

/// F-036: the table says which targets are online.
#[tokio::test]
async fn targets_are_listed_as_a_table_and_as_json() {
    let (stand, config) = logged_in().await;
    stand.rest.answer("GET targets/bzero", 200, json!([target("web", "Online"), target("db\u{1b}[2J", "Offline")]));
    check(
        config.path(),
        &["lt"],
        0,
        expect![[r#"
            Type   Name    Environment  Status
            Bzero  db�[2J  Default      offline
            Bzero  web     Default      online
        "#]],
    )
    .await;
    check(
        config.path(),
        &["lt", "--name", "web", "--detail", "--show-id"],
        0,
        expect![[r#"
            Type   Name  Environment  Status  Id                                    Target users  Verbs  Routes  Agent  Last seen            Labels
            Bzero  web   Default      online  00000000-0000-4000-8000-000000000001  deploy        Shell          0.1.0  2026-01-02 05:04:05
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

/// Each policy once, whatever its kind, with who, where, as whom and until when; `--json` gives them as the API does.
#[tokio::test]
async fn policies_of_all_kinds_are_one_table() {
    let (stand, config) = logged_in().await;
    let id = "00000000-0000-4000-8000-000000000007";
    let access = json!({"id": id, "type": "TargetConnect", "name": "ops", "subjects": [{"id": id, "type": "User"}],
        "groups": [{"id": "g", "name": "dev"}], "environments": [{"id": id}], "targetUsers": [{"userName": "{username}"}],
        "verbs": [{"type": "Shell"}, {"type": "Handler", "name": "debug"}]});
    let recording = json!({"id": id, "type": "SessionRecording", "name": "all", "recordInput": true,
        "subjects": [{"id": id, "type": "User"}, {"id": id, "type": "User"}, {"id": id, "type": "ServiceAccount"}]});
    let proxy = json!({"id": id, "type": "Proxy", "name": "orders", "subjects": [{"id": id, "type": "ApiKey"}],
        "targets": [{"id": id, "type": "Db"}, {"id": id, "type": "Web"}], "redactQueries": true,
        "timeExpires": "2026-01-02T03:04:05Z"});
    let kubernetes = json!({"id": id, "type": "Kubernetes", "name": "shop", "groups": [{"id": "g", "name": "dev"}],
        "clusters": [{"id": id}], "clusterUsers": [{"name": "deployer"}], "clusterGroups": [{"name": "lookers"}]});
    for (path, policy) in [
        ("GET policies/target-connect", access),
        ("GET policies/session-recording", recording),
        ("GET policies/proxy", proxy),
        ("GET policies/kubernetes", kubernetes),
    ] {
        stand.rest.answer(path, 200, json!([policy]));
    }
    check(
        config.path(),
        &["policy", "list"],
        0,
        expect![[r#"
            Name    Type              Who                         Where          As                   May                          Ends                 Id
            ops     TargetConnect     1 user, group dev           1 environment  {username}           Shell, Handler:debug         never                00000000-0000-4000-8000-000000000007
            orders  Proxy             1 API key                   2 targets      any account          Database, Web, redacted log  2026-01-02 05:04:05  00000000-0000-4000-8000-000000000007
            shop    Kubernetes        group dev                   1 cluster      deployer in lookers  Kubernetes                   never                00000000-0000-4000-8000-000000000007
            all     SessionRecording  2 users, 1 service account  everywhere                          recorded: output and input   never                00000000-0000-4000-8000-000000000007
        "#]],
    )
    .await;
    let listed = run(config.path(), &["policy", "list", "--json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let kinds: Vec<_> = listed.as_array().unwrap().iter().map(|policy| policy["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["TargetConnect", "Proxy", "Kubernetes", "SessionRecording"], "each as the API shows it");
    assert_eq!(listed[1]["redactQueries"], json!(true));
}

#[tokio::test]
async fn keys_and_reasons_are_shown() {
    let (stand, config) = logged_in().await;
    let id = "00000000-0000-4000-8000-000000000007";
    let key = json!({"id": id, "name": "ci", "timeCreated": "2026-01-02T03:04:05Z", "isRegistrationKey": false});
    stand.rest.answer("GET api-keys", 200, json!([key]));
    check(
        config.path(),
        &["api-key", "list"],
        0,
        expect![[r#"
            Name  For          Owner         From      Ends   Last used  State     Id
            ci    access: all  organization  anywhere  never  never      disabled  00000000-0000-4000-8000-000000000007
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
    let carriers = async |carrier: &str, status: i32| {
        let output = run(config.path(), &["doctor", "--carrier", carrier]).await;
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{said}");
        let lines = said.lines().filter(|line| line.contains("WebSocket  ") || line.contains("QUIC  "));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let untried = "ok QUIC not tried: the server is spoken to without TLS";
    assert_eq!(carriers("auto", 0).await, ["ok WebSocket answers", untried]);
    let carriers = carriers("quic", 1).await;
    assert_eq!(carriers[0], "ok WebSocket answers");
    assert!(carriers[1].starts_with("FAILED QUIC") && carriers[1].contains("always encrypted"), "{carriers:?}");
    stand.rest.state.lock().unwrap().bundle.providers[0].audiences.push("more".to_owned());
    assert_eq!(findings(1).await, ["server's bundle"]);
    stand.rest.answer("GET users/me", 401, json!({}));
    assert_eq!(findings(1).await, ["server's bundle", "login at the server"]);
    std::fs::write(config.path().join("default/trust.toml"), "").unwrap();
    assert_eq!(findings(1).await, ["trust bundle"]);
    std::fs::remove_file(config.path().join("default/profile.toml")).unwrap();
    assert_eq!(findings(1).await, ["profile"]);
}

/// Everything that leaves this machine goes through the proxy that the environment names, which alone learns the password.
#[tokio::test]
async fn the_environment_names_a_proxy() {
    let (stand, config) = logged_in().await;
    let profile = Profile::new(config.path(), "default").unwrap();
    let far = Server::new("https://bz.example.com:8443").unwrap();
    profile.keep(&far, &stand.trust).unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let listed = async |variable: &str, value: &str, except: &str| {
        let mut command = bz(config.path());
        let output = command.arg("lt").env(variable, value).env("NO_PROXY", except).output().await.unwrap();
        assert!(!output.status.success());
        text(&output.stderr)
    };
    let hear = async {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let size = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await.unwrap();
        text(&head[..size])
    };
    let with_password = format!("http://me:sesame@{address}");
    let (said, heard) = tokio::join!(listed("HTTPS_PROXY", &with_password, ""), hear);
    assert!(heard.starts_with("CONNECT bz.example.com:8443 HTTP/1.1\r\n"), "{heard}");
    assert!(heard.to_lowercase().contains("proxy-authorization: basic bwu6c2vzyw1l"), "{heard}");
    assert!(said.contains("bz.example.com:8443 cannot be reached") && !said.contains("sesame"), "{said}");
    let said = listed("https_proxy", "socks5://me:sesame@localhost:1", "").await;
    assert!(said.contains("HTTPS_PROXY cannot be used") && !said.contains("sesame"), "{said}");
    // Nobody hears of what is excepted.
    listed("HTTPS_PROXY", &with_password, "example.com").await;
    let unheard = tokio::time::timeout(std::time::Duration::ZERO, proxy.accept()).await;
    assert!(unheard.is_err(), "{unheard:?}");
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
    let seen = Profile::new(config.path(), "default").unwrap().issuer_keys().archive().unwrap();
    assert_eq!(seen.unwrap().issuer(&stand.provider.issuer).map(bz_core::oidc::jwks::Jwks::len), Some(1));
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

/// F-049~: what the server keeps is listed and taken along; a download is private, whole or not there,
/// and never in place of another.
#[tokio::test]
async fn transcripts_are_listed_and_downloaded() {
    let (stand, config) = logged_in().await;
    let part = format!("connections/{CONNECTION}/transcripts");
    let long = vec![b'x'; 3 << 20];
    stand.rest.answer(&format!("GET {part}"), 200, json!([{"number": 1, "size": 4}, {"number": 2, "size": 3 << 20}]));
    stand.rest.file(&format!("GET {part}/1"), b"\x89one");
    stand.rest.file(&format!("GET {part}/2"), &long);
    let id = CONNECTION.to_string();
    check(
        config.path(),
        &["transcript", "list", &id],
        0,
        expect![[r#"
            Number  Bytes
            1       4
            2       3145728
        "#]],
    )
    .await;
    let out = config.path().join("evidence");
    let get = ["transcript", "get", &id, "--out", out.to_str().unwrap()];
    assert!(run(config.path(), &get).await.status.success());
    assert_eq!(std::fs::read(out.join(format!("{id}.1.bzt"))).unwrap(), b"\x89one");
    assert_eq!(std::fs::read(out.join(format!("{id}.2.bzt"))).unwrap(), long);
    let again = run(config.path(), &get).await;
    assert!(!again.status.success() && text(&again.stderr).contains("not overwritten"), "{again:?}");
    let one = run(config.path(), &["transcript", "get", &id, "--number", "1", "--out", "-"]).await;
    assert_eq!(one.stdout, b"\x89one");
    assert_eq!(run(config.path(), &["transcript", "get", &id, "--out", "-"]).await.status.code(), Some(1));
    run(config.path(), &["transcript", "get", &id, "--number", "1", "--tokens", "--out", "-"]).await;
    assert_eq!(stand.rest.calls().last().unwrap(), &format!("GET {part}/1?tokens=true"));
}

/// F-110~: recordings are listed and taken along, to a private file or to standard output.
#[tokio::test]
async fn recordings_are_listed_and_downloaded() {
    let (stand, config) = logged_in().await;
    let id = CONNECTION.to_string();
    let recording = json!({"connectionId": CONNECTION, "timeCreated": "2026-01-02T03:04:05Z", "connectionState": "Open",
        "targetId": CONNECTION, "targetType": "Bzero", "targetName": "web", "targetUser": "deploy",
        "inputRecorded": false, "subjectId": CONNECTION, "size": 7});
    stand.rest.answer("GET session-recordings", 200, json!([recording]));
    stand.rest.file(&format!("GET session-recordings/{id}"), b"{\"version\":2}\n");
    check(
        config.path(),
        &["recording", "list"],
        0,
        expect![[r#"
            Connection                            Target user  Target  Input  State  Bytes  Created
            02020202-0202-0202-0202-020202020202  deploy       web            open   7      2026-01-02 05:04:05
        "#]],
    )
    .await;
    assert_eq!(run(config.path(), &["recording", "get", &id]).await.stdout, b"{\"version\":2}\n");
    let cast = config.path().join("x.cast");
    let saved = run(config.path(), &["recording", "get", &id, "--out", cast.to_str().unwrap()]).await;
    assert!(saved.status.success() && std::fs::read(&cast).unwrap() == b"{\"version\":2}\n", "{saved:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(std::fs::metadata(&cast).unwrap().mode() & 0o777, 0o600);
    }
    stand.rest.answer(
        &format!("GET session-recordings/{id}"),
        404,
        json!({"errorMsg": "no recording", "errorType": "x", "code": "notFound"}),
    );
    let gone = config.path().join("gone.cast");
    let refused = run(config.path(), &["recording", "get", &id, "--out", gone.to_str().unwrap()]).await;
    assert!(text(&refused.stderr).contains("no recording") && !gone.exists(), "{refused:?}");
}

/// F-154~, F-155~, F-160, F-166~: the logs, newest first, by time and connection.
#[tokio::test]
async fn logs_are_shown() {
    let (stand, config) = logged_in().await;
    let id = CONNECTION.to_string();
    let event = |more: Value| {
        let mut event = json!({"id": CONNECTION, "connectionId": CONNECTION, "organizationId": CONNECTION,
            "subjectId": null, "subjectType": "User", "subjectName": "alice@example.com", "isAdmin": false,
            "targetId": CONNECTION, "targetName": "web", "targetType": "Bzero", "targetUser": "deploy",
            "environmentId": CONNECTION, "environmentName": "Default", "timestamp": "2026-01-02T03:04:05Z"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([event])
    };
    let command = json!({"command": "ls\u{1b}[2J", "source": "marks", "confirmed": true});
    stand.rest.answer("GET events/command", 200, event(command));
    let closed = json!({"sessionName": "", "connectionEventType": "Closed", "reason": "it exited with 0", "connectionNodeId": "one"});
    stand.rest.answer("GET events/connection", 200, event(closed));
    let call = json!({"serviceAction": "targetservice:list", "resource": "", "evaluation": false, "ipAddress": "127.0.0.1", "context": "{}"});
    stand.rest.answer("GET events/subject", 200, event(call));
    check(
        config.path(),
        &["logs", "commands", "--connection", &id, "-n", "5"],
        0,
        expect![[r#"
            Time                 Person             Target user  Target  Command  Read from  Signed by the agent
            2026-01-02 05:04:05  alice@example.com  deploy       web     ls�[2J   marks      yes
        "#]],
    )
    .await;
    check(
        config.path(),
        &["logs", "connections", "--since", "2026-01-01T00:00:00Z"],
        0,
        expect![[r#"
            Time                 Event   Person             Target user  Target  Connection                            Reason
            2026-01-02 05:04:05  Closed  alice@example.com  deploy       web     02020202-0202-0202-0202-020202020202  it exited with 0
        "#]],
    )
    .await;
    check(
        config.path(),
        &["logs", "users"],
        0,
        expect![[r#"
            Time                 Who                Action              Resource          From
            2026-01-02 05:04:05  alice@example.com  targetservice:list            denied  127.0.0.1
        "#]],
    )
    .await;
    assert_eq!(
        stand.rest.calls().split_off(stand.rest.calls().len() - 3),
        [
            format!("GET events/command?eventCount=5&connectionIds={id}"),
            "GET events/connection?eventCount=100&startTimestamp=2026-01-01T00%3A00%3A00Z".to_owned(),
            "GET events/subject?eventCount=100".to_owned(),
        ]
    );
    assert_eq!(run(config.path(), &["logs", "users", "--since", "soon"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn completion_scripts_are_printed() {
    let config = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(config.path(), &["completion", shell]).await;
        assert!(output.status.success() && text(&output.stdout).contains("list-targets"), "{shell}");
    }
}

/// Every command has a page that `man` can read, with its examples as they are typed.
#[tokio::test]
async fn manual_pages_are_written() {
    let config = tempfile::tempdir().unwrap();
    let folder = config.path().join("man/man1");
    let made = run(config.path(), &["generate", "man", folder.to_str().unwrap()]).await;
    assert!(made.status.success(), "{made:?}");
    let page =
        |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(page("bz.1").contains("bz\\-list\\-targets(1)"));
    let forward = page("bz-forward.1");
    assert!(forward.contains(".nf\nExamples:\n  bz forward web\\-1 5432:db.internal:5432 "), "{forward}");
    assert!(page("bz-policy-create-target-access.1").contains("\\-\\-target\\-user"));
    assert!(!folder.join("bz-kube-credential.1").exists(), "what people never type");
    let taken = run(config.path(), &["generate", "man", "/dev/null/x"]).await;
    assert!(text(&taken.stderr).contains("cannot be written to /dev/null/x"), "{taken:?}");
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
        "agentPublicKey": crate::stand::key(50).public(), "allowedTargetUsers": [{"userName": "deploy", "resolvedUserName": "deploy", "verbs": [{"type": "Shell"}]}],
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
