//! `docs/admin/groups.md`, as written, with the real programs and a directory as its provider publishes it.

use bz_core::api::groups::{GroupsSource, IdpGroup};
use bz_examples::needs;
use serde_json::{Value, json};

use super::page::{Page, edit};
use super::{PERSON, Place};
use crate::directories::{Fault, Kind, Stand};

const PAGE: &str = include_str!("../../../../docs/admin/groups.md");
const HOOK: &str = "a-secret-of-an-event-hook";

/// F-065~, F-073~, F-234: the page: a directory is set up, a policy names one of its groups, what the directory says counts
/// and is shown, Okta's challenge is answered, and the integration is removed and taken into use again.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_groups_is_as_written() {
    if !needs::program("curl") {
        return;
    }
    let Some(mut place) = Place::start().await else { return };
    let groups = [("00g1", "Operations"), ("00g2", "Sales"), ("00g3", "Everyone")];
    let stand = Stand::start(Kind::Okta, &groups, |_| Err("no assertion is expected".to_owned())).await;
    stand.put(PERSON, &["00g1", "00g3"]);
    let mut page = Page::of(PAGE);
    page.put("SECRET", &stand.secret);
    page.put("SOMEBODY@example.com", &format!("{PERSON}@example.com"));
    page.put("https://YOUR-SERVER", &place.url);
    page.put("CA", &"data/ca.crt");
    place.desk.run(&page.next("(umask 077")).await;
    set_up(&mut place, &stand).await;

    let status = page.next("bz group status");
    place.desk.run_until(&status, |said| said.contains("directory") && !said.contains("status ")).await;
    let said = place.desk.run(&page.next("bz group list --available")).await;
    assert!(groups.iter().all(|(id, name)| said.contains(id) && said.contains(name)), "{said}");
    // Its status says no, too.
    let why = async || -> Value {
        let answered = place.desk.try_run("bz --json why deploy@web").await;
        serde_json::from_slice(&answered.stdout).unwrap()
    };
    assert_eq!(why().await["allowed"], false);
    place.desk.run(&page.next("bz policy create")).await;
    assert_eq!(why().await["policies"][0]["name"], "operations");
    let list = page.next("bz group list");
    let listed: Vec<IdpGroup> = serde_json::from_str(&place.desk.run(&format!("{list} --json")).await).unwrap();
    let [only] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((only.id.as_str(), only.name.as_str(), only.policies, only.members), ("00g1", "Operations", 1, 1));
    let said = place.desk.run(&page.next("bz group of")).await;
    assert!(said.contains("Operations") && said.contains("Everyone") && !said.contains("Sales"), "{said}");

    stand.put(PERSON, &[]);
    let sync = page.next("bz group sync");
    place.desk.run(&sync).await;
    assert_eq!(why().await["allowed"], false);
    stand.fails("/users/", Fault::Status(500, vec![], String::new()));
    let failed = place.desk.try_run(&format!("{sync} --json")).await;
    let sources: Vec<GroupsSource> = serde_json::from_slice(&failed.stdout).unwrap();
    let error = sources[0].last_error.as_deref();
    assert_eq!((failed.status.code(), error), (Some(1), Some("it answers with status 500")));
    stand.heals();

    let answer: Value = serde_json::from_str(&place.desk.run(&page.next("curl")).await).unwrap();
    assert_eq!(answer, json!({"verification": "hello"}));
    place.desk.run(&page.next("bz group disable")).await;
    assert!(place.desk.run(&status).await.contains("disabled"));
    stand.put(PERSON, &["00g1"]);
    place.desk.run(&page.next("bz group enable")).await;
    assert_eq!(why().await["allowed"], true);
    page.ends();
}

/// The page's settings for Okta, with this directory's addresses, and the server started again where it was.
async fn set_up(place: &mut Place, stand: &Stand) {
    std::fs::write(place.desk.at("hook.secret"), HOOK).unwrap();
    place.desk.run("chmod 600 hook.secret").await;
    let block = PAGE.split("```toml\n").find(|block| block.starts_with("# Okta")).unwrap().split("```").next().unwrap();
    let file = |name: &str| place.desk.at(name).display().to_string();
    let block = block
        .replace("https://example.okta.com", place._idp.issuer())
        .replace("client_id = \"0oa1example\"", &format!("kind = \"okta\"\napi = \"{}\"", stand.url()))
        .replace("/var/lib/bz-server/directory.secret", &file("directory.secret"))
        .replace("/var/lib/bz-server/hook.secret", &file("hook.secret"));
    let settings = place.desk.at("data/server.toml");
    let address = place.url.strip_prefix("https://").unwrap();
    edit(&settings, &[("listen = \"127.0.0.1:0\"", format!("listen = \"{address}\""))]);
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{text}\n{block}")).unwrap();
    place.server.kill().await;
    place.server = place.desk.start("bz-server --config data/server.toml serve");
    place.server.says("tls=true").await;
}
