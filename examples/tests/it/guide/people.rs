//! `docs/admin/authentication.md`, `docs/admin/users.md` and `docs/migrating-from-bastionzero.md`, as written, with the real
//! programs.

use super::desk::text;
use super::page::Page;
use super::{PERSON, Place};

const AUTHENTICATION: &str = include_str!("../../../../docs/admin/authentication.md");
const USERS: &str = include_str!("../../../../docs/admin/users.md");
const MIGRATING: &str = include_str!("../../../../docs/migrating-from-bastionzero.md");

/// F-233, F-046: the page about authentication: the bundle, logins with and without a browser, their end, and the way
/// back of an organization without an administrator.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_authentication_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    let mut page = Page::of(AUTHENTICATION);
    page.put("https://127.0.0.1:8443", &place.url);
    page.put("DATA", &"data");
    place.desk.run(&page.next("bz-server --config DATA/server.toml bundle")).await;
    let (theirs, ours) = (super::read(&place.desk.at("data/bundle.toml")), super::read(&place.desk.at("bundle.toml")));
    assert_eq!(theirs, ours, "the bundle that init wrote and the one that is printed");
    place.desk.run(&page.next("bz doctor")).await;
    log_in(&mut place, &page.next("bz login --server"), PERSON).await;
    // A person on a machine without a browser carries two addresses.
    let mut window = place.desk.terminal(&page.next("bz login --no-browser"));
    let shown = window.shows("Paste").await;
    let address = shown.split_whitespace().find(|word| word.starts_with("http") && word.contains("nonce="));
    let address = url::Url::parse(address.expect("the page's address")).unwrap();
    let redirect = bz_examples::browser::authorize_without_browser(&address, PERSON).await.unwrap();
    window.types(&format!("{redirect}\r")).await;
    assert_eq!(window.ends().await, Some(0));
    place.desk.run(&page.next("bz logout")).await;
    assert!(!place.desk.try_run("bz lt").await.status.success(), "logged out, and in");

    let said = place.desk.run(&page.next("bz-server --config DATA/server.toml admin claim")).await;
    page.put("CODE", &said.trim());
    let login = page.next("bz login --claim");
    log_in(&mut place, &login, "bob").await;
    let users = place.desk.run("bz user list").await;
    assert_eq!(users.matches(" admin ").count(), 2, "{users}");
    page.ends();
}

/// F-235, F-053~, F-061~: the page about users: roles, connections, and who leaves.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_users_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    let ca = place.desk.at("data/ca.crt");
    let login = format!("bz --profile bob login --server {} --ca {}", place.url, ca.display());
    log_in(&mut place, &login, "bob").await;
    let user = place.user.clone();
    place
        .desk
        .run(&format!(
            "bz policy create target-access --name bobs --user bob@example.com --target web --target-user {user} --verb Shell"
        ))
        .await;
    let mut page = Page::of(USERS);
    page.put("SOMEBODY@example.com", &"bob@example.com");
    let said = place.desk.run(&page.next("bz user list")).await;
    assert!(said.contains("bob@example.com") && said.contains("alice@example.com"), "{said}");
    for (role, may_log, may_make) in [("admin", true, true), ("auditor", true, false), ("user", false, false)] {
        let said = place.desk.run(&page.next("bz user role")).await;
        assert!(said.contains("bob@example.com is "), "{said}");
        let log = place.desk.try_run("bz --profile bob logs users").await;
        assert_eq!(log.status.success(), may_log, "{role}: {}", text(&log.stderr));
        let make = place.desk.try_run(&format!("bz --profile bob environment create by-{role}")).await;
        assert_eq!(make.status.success(), may_make, "{role}: {}", text(&make.stderr));
    }
    let mut window = place.desk.terminal(&format!("bz --profile bob connect {user}@web"));
    window.shows("\x1b]133;B").await;
    place.desk.run(&page.next("bz user close-connections")).await;
    window.shows("all of this user's connections were closed").await;
    assert_eq!(window.ends().await, Some(255));
    place.desk.run(&page.next("bz user mfa status")).await;
    place.desk.run(&page.next("bz user mfa reset")).await;
    place.desk.run(&page.next("bz user delete")).await;
    let said = place.desk.run(&page.next("bz logs connections")).await;
    assert!(said.contains("bob@example.com"), "{said}");
    let said = place.desk.run(&page.next("bz logs users")).await;
    assert!(said.contains("bob@example.com"), "{said}");
    page.ends();
    let policies = place.desk.run("bz policy list --json").await;
    let bobs: Vec<serde_json::Value> = serde_json::from_str(&policies).unwrap();
    let bobs = bobs.iter().find(|policy| policy["name"] == "bobs").unwrap();
    assert_eq!(bobs["subjects"], serde_json::json!([]), "{bobs}");
    // Who comes back is somebody new, to whom nothing was given.
    place.desk.run("rm home/.config/bz/bob/login.json").await;
    log_in(&mut place, &login, "bob").await;
    assert!(!place.desk.try_run(&format!("bz --profile bob exec {user}@web -- uptime")).await.status.success());
}

/// What the page about moving here says to run, runs; each command of its table is one.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_moving_here_is_as_written() {
    let Some(place) = Place::start().await else { return };
    if !bz_examples::needs::program("curl") {
        return;
    }
    let mut page = Page::of(MIGRATING);
    page.put("https://127.0.0.1:8443", &place.url);
    page.put("DATA", &"data");
    place.desk.run(&page.next("bz api-key create")).await;
    let said = place.desk.run(&page.next("curl")).await;
    assert!(said.starts_with("[{") && said.contains("\"name\":\"web\""), "{said}");
    place.desk.run(&page.next("export BASTIONZERO_HOST")).await;
    place.desk.run(&page.next("bz list-targets")).await;
    place.desk.run(&page.next("bz policy list")).await;
    page.ends();
    for command in [
        "login",
        "logout",
        "list-targets",
        "lt",
        "list-connections",
        "lc",
        "connect",
        "attach",
        "close",
        "kube",
        "ssh-proxy",
        "generate ssh-config",
        "policy create target-access",
        "policy create kubernetes",
        "policy create proxy",
        "policy create session-recording",
        "policy edit",
        "service-account create",
        "service-account login",
        "service-account enable",
        "service-account disable",
        "service-account list",
        "service-account rotate-mfa",
        "service-account set-role",
        "service-account create-workload",
        "api-key create",
        "doctor",
        "verify",
    ] {
        place.desk.run(&format!("bz {command} --help")).await;
    }
}

async fn log_in(place: &mut Place, line: &str, who: &str) {
    let mut login = place.desk.start(line);
    place.desk.log_in_at_the_browser(who).await;
    assert_eq!(login.ends().await, Some(0), "{line}: {}", login.said());
}
