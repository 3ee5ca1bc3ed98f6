//! `docs/admin/service-accounts.md`, as written, with the real programs: a job by the stand-in of its platform, and an
//! account whose key set this test publishes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use bz_examples::idp;
use bz_examples::idp::jobs::{Jobs, REQUEST_TOKEN};

use super::Place;
use super::desk::text;
use super::page::Page;

const PAGE: &str = include_str!("../../../../docs/admin/service-accounts.md");

/// F-082~, F-237: the page: a job without a secret, an account with a key set, another key for it, and who there is.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_service_accounts_is_as_written() {
    let jobs = Jobs::start(idp::Clock::system()).await.unwrap();
    let keys = Published::start().await;
    let github = jobs.github(&[&[("repository_id", "74"), ("environment", "production")]]);
    let mut row = PAGE.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    row = row.replace("https://token.actions.githubusercontent.com", &github.issuer);
    let pattern = format!("service_accounts = [\"http://{}/keys/*.json\"]", keys.host);
    let line = "# What clients tell a provider besides its client id.";
    let more = [("node = \"main\"", format!("node = \"main\"\n{pattern}")), (line, format!("{row}\n{line}"))];
    let Some(place) = Place::start_with(&more).await else { return };
    let mut page = Page::of(PAGE);
    page.put("https://token.actions.githubusercontent.com", &github.issuer);
    page.put("https://ci.example", &format!("http://{}", keys.host));
    page.put("https://127.0.0.1:8443", &place.url);
    page.put("DATA", &"data");
    page.put("root@", &format!("{}@", place.user));
    page.put("--target-user root", &format!("--target-user {}", place.user));
    let status = place.desk.run("bz-agent status").await;
    let key = status.lines().find_map(|line| line.strip_prefix("Agent key")).expect("the agent's key").trim();
    page.put("FINGERPRINT", &key);

    place.desk.run(&page.next("bz service-account create-workload")).await;
    place.desk.run(&page.next("bz policy create")).await;
    let login = page.next("bz login --workload github");
    let outside = place.desk.try_run(&login).await;
    assert!(text(&outside.stderr).contains("id-token: write"), "{}", text(&outside.stderr));
    let inside = format!(
        "export ACTIONS_ID_TOKEN_REQUEST_URL='{}' ACTIONS_ID_TOKEN_REQUEST_TOKEN={REQUEST_TOKEN};",
        jobs.github_request_url()
    );
    let said = place.desk.run(&format!("{inside} {login}")).await;
    assert!(said.contains("as deploy until"), "{said}");
    place.desk.run(&page.next("bz target trust")).await;
    let said = place.desk.run(&page.next("bz exec")).await;
    assert!(said.contains("load average"), "{said}");
    place.desk.run(&page.next("bz logout")).await;

    // An account with a key set.
    place.desk.run(&page.next("bz service-account generate-key")).await;
    keys.publish(&place.desk.at("jwks.json"));
    place.desk.run(&page.next("bz service-account create provider-credentials.json")).await;
    place.desk.run(&page.next("bz policy create")).await;
    let login = page.next("bz service-account login");
    place.desk.run(&login).await;
    place.desk.run(&page.next("bz target trust")).await;
    let exec = page.next("bz exec");
    let said = place.desk.run(&exec).await;
    assert!(said.contains("load average"), "{said}");
    another_key(&place, &mut page, (&keys, &login)).await;

    let said = place.desk.run(&page.next("bz service-account list")).await;
    assert!(said.contains("deployer@ci.example") && said.contains("environment=production"), "{said}");
    in_and_out_of_a_policy(&place, &mut page).await;
    place.desk.run(&page.next("bz service-account set-role")).await;
    let refused = place.desk.try_run("bz --profile robot service-account disable deploy").await;
    assert!(!refused.status.success(), "an account that administers disables another");
    place.desk.run(&page.next("bz service-account disable")).await;
    assert!(!place.desk.try_run(&exec).await.status.success(), "a disabled account runs something");
    place.desk.run(&page.next("bz service-account enable")).await;
    place.desk.run(&page.next("bz service-account delete")).await;
    page.ends();
    let log = place.desk.run("bz logs commands --json").await;
    assert!(log.contains("\"deploy\"") && log.contains("ServiceAccount"), "{log}");
}

async fn in_and_out_of_a_policy(place: &Place, page: &mut Page) {
    for (subjects, option) in [(2, "--add-service-account"), (1, "--remove-service-account")] {
        let said = place.desk.run(&format!("{} --json", page.next("bz policy edit"))).await;
        let policy: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(policy["subjects"].as_array().map(Vec::len), Some(subjects), "{option}: {policy}");
    }
}

/// The old key ends, the new one works, and without the key set nobody new is let in.
async fn another_key(place: &Place, page: &mut Page, (keys, login): (&Published, &str)) {
    place.desk.run(&page.next("bz service-account generate-key")).await;
    keys.publish(&place.desk.at("jwks.json"));
    let refetch = page.next("bz service-account refetch");
    place.desk.run(&refetch).await;
    let refused = place.desk.try_run(login).await;
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("a key the issuer does not publish"), "{said}");
    let next = page.next("bz service-account login");
    keys.reachable.store(false, Ordering::SeqCst);
    place.desk.run(&refetch).await;
    let refused = place.desk.try_run(&next).await;
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("keys cannot be fetched"), "{said}");
    keys.reachable.store(true, Ordering::SeqCst);
    place.desk.run(&next).await;
    place.desk.run(&page.next("bz service-account rotate-mfa")).await;
    assert!(!place.desk.try_run("bz --profile robot lt").await.status.success(), "a login outlives its second factor");
    place.desk.run(&format!("{next} --bzero-creds next-codes.json")).await;
}

/// A server that publishes a key set, or does not answer with one.
struct Published {
    host: String,
    set: Arc<std::sync::Mutex<String>>,
    reachable: Arc<AtomicBool>,
}

impl Published {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (set, reachable) = (Arc::new(std::sync::Mutex::new(String::new())), Arc::new(AtomicBool::new(true)));
        let (kept, up) = (Arc::clone(&set), Arc::clone(&reachable));
        let answer = move || async move {
            match up.load(Ordering::SeqCst) {
                true => Ok(kept.lock().unwrap().clone()),
                false => Err(StatusCode::SERVICE_UNAVAILABLE),
            }
        };
        let app = Router::new().route("/keys/{name}", get(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { host, set, reachable }
    }

    fn publish(&self, file: &Path) {
        *self.set.lock().unwrap() = std::fs::read_to_string(file).unwrap();
    }
}
