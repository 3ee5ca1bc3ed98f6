//! `docs/integrations/go-sdk.md`, `docs/integrations/terraform.md`, `docs/installing-the-cli.md`, and what
//! `docs/troubleshooting.md` says is said, with the real programs.

use bz_examples::needs;

use super::desk::text;
use super::page::Page;
use super::{PERSON, Place, built};

const GO_SDK: &str = include_str!("../../../../docs/integrations/go-sdk.md");
const TERRAFORM: &str = include_str!("../../../../docs/integrations/terraform.md");
const INSTALLING: &str = include_str!("../../../../docs/installing-the-cli.md");
const TROUBLE: &str = include_str!("../../../../docs/troubleshooting.md");

/// F-227~, F-231~: the keys of both pages are taken, with the headers and at the addresses that the SDK uses; that its
/// own types decode the answers is held by the server's tests, field by field.
#[tokio::test(flavor = "multi_thread")]
async fn programs_of_the_original_find_this_server() {
    if !needs::program("curl") {
        return;
    }
    let Some(place) = Place::start().await else { return };
    for (page, shows) in [(GO_SDK, "\"isDefault\":true"), (TERRAFORM, "\"name\":\"admins\"")] {
        let mut page = Page::of(page);
        page.put("https://127.0.0.1:8443", &place.url);
        page.put("DATA", &"data");
        place.desk.run(&page.next("bz api-key create")).await;
        place.desk.run(&page.next("chmod")).await;
        let told = page.next("export");
        let said = place.desk.run(&format!("{told}; {}", page.next("curl"))).await;
        assert!(said.starts_with("[{") && said.contains(shows), "{said}");
        page.ends();
    }
}

/// F-248: the page about the program: it is copied, says its version, completes, has its manual, logs in, and goes.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_installing_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    let mut page = Page::of(INSTALLING);
    page.put("https://127.0.0.1:8443", &place.url);
    page.put("DATA", &"data");
    page.put("target/release", &built().display());
    assert!(page.next("cargo build").contains("--features cli"));
    place.desk.run(&page.next("install")).await;
    let path = page.next("export PATH");
    let said = place.desk.run(&format!("{path}; command -v bz; {}", page.next("bz --version"))).await;
    assert!(said.contains("/.local/bin/bz\nbz "), "{said}");
    for begins in ["mkdir", "bz completion", "bz generate man"] {
        place.desk.run(&page.next(begins)).await;
    }
    assert!(place.desk.at("home/.local/share/man/man1/bz.1").exists());
    let mut login = place.desk.start(&page.next("bz login"));
    place.desk.log_in_at_the_browser(PERSON).await;
    assert_eq!(login.ends().await, Some(0), "{}", login.said());
    place.desk.run(&page.next("bz doctor")).await;
    place.desk.run(&page.next("bz logout")).await;
    place.desk.run(&page.next("rm")).await;
    page.ends();
    assert!(!place.desk.at("home/.config/bz").exists());
}

/// F-251: what goes wrong is said in the words of the guide to trouble.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_told_as_the_guide_says() {
    let Some(mut place) = Place::start().await else { return };
    let (user, url) = (place.user.clone(), place.url.clone());
    place.desk.run("bz api-key create narrow --scope read > narrow.key").await;
    for (line, message) in [
        ("bz --profile nobody lt", "no server is known in this profile"),
        ("bz --profile x login --server http://bz.example.com", "would be spoken to without TLS: use https"),
        ("bz --profile x login --server https://127.0.0.1:1", "cannot be reached"),
        ("bz exec nowhere -- uptime", "there is no target called"),
        ("bz connect web", "a shell needs a terminal: use"),
        ("bz exec 'no body@web' -- uptime", "no user name"),
        (
            "bz environment create busy && bz target edit web --environment busy; bz environment delete busy",
            "is still in use",
        ),
        (
            "bz policy create target-access --name x --user zoe@example.com --target web --target-user a --verb Shell",
            "has ever logged in",
        ),
        ("bz-agent --state-dir other run", "holds no identity: run"),
        (
            "BZ_REGISTRATION_KEY=x bz-agent --state-dir other register --server https://127.0.0.1:1",
            "give the organization's trust bundle: --bundle FILE",
        ),
    ] {
        said(&place, line, message).await;
    }
    let call = |method: &str, path: &str| {
        format!("curl -s --cacert data/ca.crt -X {method} -H \"X-API-KEY: $(cat narrow.key)\" {url}/api/v2/{path}")
    };
    said(&place, &call("DELETE", "environments/x"), "no policy lets this API key do this").await;
    said(
        &place,
        &call("POST", "connections/universal"),
        "an API key has no sessions: people and service accounts connect",
    )
    .await;
    let you = format!("{PERSON}@example.com");
    let tunnels = "bz policy create target-access --name tunnels --target web --target-user root --verb Tunnel";
    place.desk.run(&format!("{tunnels} --user {you}")).await;
    let port = url.rsplit(':').next().unwrap();
    let busy = format!("bz forward web {port}:localhost:1");
    said(&place, &busy, "cannot be listened on: try another port, or 0").await;
    said(&place, &format!("bz exec {user}@web -- uptime"), "nothing is known of").await;
    place.agent.kill().await;
    place.desk.run_until("bz lt", |said| said.contains("offline")).await;
    said(&place, &format!("bz exec {user}@web -- uptime"), "is offline: its agent has no link to the server").await;
    place.desk.run("chmod 644 home/.config/bz/default/login.json").await;
    said(&place, "bz lt", "others may read").await;
    place.desk.run("rm home/.config/bz/default/login.json").await;
    said(&place, "bz lt", "nobody is logged in: run").await;
}

/// A command says this, and the guide knows it.
async fn said(place: &Place, line: &str, message: &str) {
    assert!(TROUBLE.contains(&format!("### `{message}`")), "the guide does not know {message:?}");
    let output = place.desk.try_run(line).await;
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains(message), "{line} does not say {message:?}: {said}");
}
