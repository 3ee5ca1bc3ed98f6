//! `docs/admin/environments-and-policies.md`, as written, with the real programs.

use bz_core::api::target::Environment;

use super::Place;
use super::page::Page;

const PAGE: &str = include_str!("../../../../docs/admin/environments-and-policies.md");

/// F-039~, F-041~: the page as written; each command does what the page says, as the server tells it.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_environments_is_as_written() {
    let Some(place) = Place::start().await else { return };
    let desk = &place.desk;
    let mut page = Page::of(PAGE);
    let environments =
        async || -> Vec<Environment> { serde_json::from_str(&desk.run("bz --json environment list").await).unwrap() };
    desk.run(&page.next("bz environment create")).await;
    let said = desk.run(&page.next("bz environment list")).await;
    assert!(said.contains("staging") && said.contains("Default (default)"), "{said}");
    desk.run(&page.next("bz environment edit")).await;
    desk.run(&page.next("bz target edit")).await;
    let said = desk.run(&page.next("bz agent list")).await;
    assert!(said.contains("web") && said.contains("online"), "{said}");
    let all = environments().await;
    let test = all.iter().find(|environment| environment.name == "test").unwrap();
    assert_eq!((test.offline_cleanup_timeout_hours, test.targets.len()), (24, 1));
    let refused = desk.try_run("bz environment delete test").await;
    let said = super::text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("still in use"), "{said}");
    desk.run(&page.next("bz target edit")).await;
    desk.run(&page.next("bz environment delete")).await;
    assert_eq!(environments().await.len(), 1);
    page.ends();
}
