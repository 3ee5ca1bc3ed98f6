//! `docs/admin/authorization.md`, as written, with the real programs.

use bz_core::api::policy::version::{PolicyChange, PolicyDiff, PolicyVersion};
use bz_core::api::target::Target;
use serde_json::{Value, json};

use super::page::Page;
use super::{PERSON, Place};

const PAGE: &str = include_str!("../../../../docs/admin/authorization.md");

/// F-238, F-175~, F-081~, F-086~, F-102~: the page as written; each command does what the page says, as the server tells it.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_authorization_is_as_written() {
    let Some(place) = Place::start().await else { return };
    let mut page = Page::of(PAGE);
    page.put("YOU@example.com", &format!("{PERSON}@example.com"));
    labels(&place, &mut page).await;
    questions(&place, &mut page).await;
    changes(&place, &mut page).await;
    page.ends();
}

async fn labels(place: &Place, page: &mut Page) {
    let desk = &place.desk;
    for _ in 0..2 {
        desk.run(&page.next("bz policy create")).await;
    }
    let said = desk.run(&page.next("bz target edit")).await;
    assert!(said.contains("labelled role=web, tier=test"), "{said}");
    let said = desk.run(&page.next("bz target list")).await;
    assert!(said.contains("web") && said.contains("role=web, tier=test"), "{said}");
    desk.run(&page.next("bz policy create")).await;
    let users = async || {
        let found: Vec<Target> = serde_json::from_str(&desk.run("bz --json target list --label role").await).unwrap();
        let users = found[0].allowed_target_users.iter().map(|user| user.user_name.to_string());
        users.collect::<Vec<_>>().join(" ")
    };
    assert!(users().await.contains("www"), "labels let in");
    desk.run(&page.next("bz target edit")).await;
    assert!(!users().await.contains("www"), "and without one of them nobody is");
}

async fn questions(place: &Place, page: &mut Page) {
    let desk = &place.desk;
    let said = desk.run(&page.next("bz policy evaluate")).await;
    assert!(said.contains("yes") && said.contains("deploys: allows it"), "{said}");
    assert!(said.contains("webmasters: names the subject, but not the place"), "{said}");
    let said = desk.run(&page.next("bz policy evaluate")).await;
    assert!(said.contains("test: allows it"), "{said}");
    assert!(said.contains("deploys: names subject and place, but does not give the verb"), "{said}");
    let deploys = policy(place, "deploys").await;
    let draft = json!({
        "name": "deploys", "subjects": deploys["subjects"], "targets": deploys["targets"],
        "targetUsers": [{"userName": "backup"}], "verbs": [{"type": "Shell"}, {"type": "FileTransfer"}],
    });
    std::fs::write(desk.at("draft.json"), draft.to_string()).unwrap();
    let said = desk.run(&page.next("bz policy simulate")).await;
    assert!(said.contains("+ FileTransfer as backup, Shell as backup") && said.contains("- Shell as deploy"), "{said}");
    let said = desk.run(&page.next("bz policy simulate")).await;
    assert!(said.contains("- Shell as deploy") && !said.contains('+'), "{said}");
    assert!(!said.contains('\u{1b}'), "no colors where nobody looks: {said:?}");
    assert_eq!(policy(place, "deploys").await, deploys, "nothing was changed");
}

async fn changes(place: &Place, page: &mut Page) {
    let desk = &place.desk;
    for _ in 0..3 {
        desk.run(&page.next("bz policy edit")).await;
    }
    let said = desk.run(&page.next("bz policy list")).await;
    assert!(said.contains("deploys") && said.contains("deploy, backup"), "{said}");
    assert!(said.contains("role=web, tier in (test, staging)"), "{said}");
    let changed = policy(place, "deploys").await;
    assert_eq!((&changed["enabled"], &changed["description"]), (&false.into(), &"deploys and backups".into()));
    assert_eq!(changed["timeExpires"], "2099-12-31T18:00:00Z");
    desk.run(&page.next("bz policy edit")).await;
    let changed = policy(place, "deploys").await;
    assert_eq!((&changed["enabled"], &changed["timeExpires"]), (&true.into(), &Value::Null));
    let said = desk.run(&page.next("bz policy history")).await;
    assert!(said.contains("changed") && said.contains(&format!("{PERSON}@example.com")), "{said}");
    let said = desk.run(&page.next("bz policy diff")).await;
    assert!(said.contains("enabled") && said.contains("- false") && said.contains("+ true"), "{said}");
    let second = page.next("bz policy diff");
    let said = desk.run(&second).await;
    assert!(said.contains("+ backup"), "{said}");
    let diff: PolicyDiff = serde_json::from_str(&desk.run(&second.replace("bz ", "bz --json ")).await).unwrap();
    assert_eq!((diff.from, diff.to), (1, 2));
    desk.run(&page.next("bz policy delete")).await;
    let last = page.next("bz policy history");
    let said = desk.run(&last).await;
    assert!(said.contains("deleted"), "{said}");
    let versions: Vec<PolicyVersion> =
        serde_json::from_str(&desk.run(&last.replace("bz ", "bz --json ")).await).unwrap();
    let changes: Vec<_> = versions.iter().map(|version| version.change).collect();
    let edited = [PolicyChange::Edited; 4];
    assert_eq!(changes, [&[PolicyChange::Deleted][..], &edited, &[PolicyChange::Created]].concat());
}

async fn policy(place: &Place, name: &str) -> Value {
    let all: Vec<Value> = serde_json::from_str(&place.desk.run("bz --json policy list").await).unwrap();
    all.into_iter().find(|policy| policy["name"] == name).unwrap_or_default()
}
