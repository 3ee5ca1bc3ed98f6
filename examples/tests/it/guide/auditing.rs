//! `docs/admin/auditing.md`.

use super::desk::text;
use super::page::Page;
use super::{PERSON, Place};

const AUDITING: &str = include_str!("../../../../docs/admin/auditing.md");

/// F-154~, F-155, F-156~, F-239: the page as written, with the real programs: logs are looked at, followed, taken along and
/// proved, and a head of another chain is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_auditing_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    let mut window = place.connect().await;
    window.types("exit\r").await;
    assert_eq!(window.ends().await, Some(0));
    place.desk.run(&format!("bz exec {}@web -- 'uptime'", place.user)).await;
    let mut page = Page::of(AUDITING);
    page.put("YOU@example.com", &format!("{PERSON}@example.com"));
    page.put("DATA", &"data");
    page.put("https://127.0.0.1:8443", &place.url);

    let said = place.desk.run_until(&page.next("bz logs connections"), |said| said.contains("Closed")).await;
    assert!(said.contains("Created"), "{said}");
    let said = place.desk.run_until(&page.next("bz logs commands"), |said| said.contains("uptime")).await;
    assert!(said.contains("alice@example.com"), "{said}");
    place.desk.run(&page.next("bz logs users --denied")).await;

    let mut following = place.desk.terminal("bz logs commands --follow --json");
    following.shows("\"uptime\"").await;
    place.desk.run(&format!("bz exec {}@web -- 'echo $((6*7))-followed'", place.user)).await;
    following.shows("-followed\"").await;
    following.kill().await;

    place.desk.run(&page.next("bz api-key create auditor")).await;
    let said = place.desk.run(&page.next("curl")).await;
    assert!(said.starts_with("[{") && said.contains("\"command\":\"uptime\""), "{said}");
    place.desk.run(&page.next("curl")).await;
    let lines = std::fs::read_to_string(place.desk.at("logs.ndjson")).unwrap();
    let first = lines.lines().next().unwrap();
    assert!(first.starts_with("{\"seq\":1,\"log\":") && lines.contains("\"log\":\"command\""), "{lines}");

    let head = place.desk.run(&page.next("bz-server --config DATA/server.toml audit head")).await;
    let said = place.desk.run(&page.next("bz-server --config DATA/server.toml audit verify")).await;
    assert!(said.contains("rows hold, 1 to "), "{said}");
    page.put("HEAD", &head.trim());
    let against = page.next("bz-server --config DATA/server.toml audit verify --head");
    let said = place.desk.run(&against).await;
    assert!(said.contains("has the hash that was written down"), "{said}");
    place.desk.run(&page.next("bz recording list")).await;
    page.ends();

    let (row, hash) = head.trim().split_once(':').unwrap();
    let refused = place.desk.try_run(&against.replace(hash, &"0".repeat(64))).await;
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains(&format!("row {row} has another hash")), "{said}");
}
