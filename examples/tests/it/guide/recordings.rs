//! `docs/admin/recordings.md`.

use bz_core::api::record::SessionRecording;

use super::desk::text;
use super::page::Page;
use super::{PERSON, Place};

const RECORDINGS: &str = include_str!("../../../../docs/admin/recordings.md");

/// F-105~, F-109~, F-110~, F-111~, F-113~, F-114~, F-115: the page as written, with the real programs: a session that must
/// be recorded is watched while it runs, played without its pauses, searched, taken along and deleted, and the terminal
/// is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_recordings_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    let mut page = Page::of(RECORDINGS);
    page.put("YOU@example.com", &format!("{PERSON}@example.com"));
    place.desk.run(&page.next("bz policy create session-recording")).await;
    let said = place.desk.run(&page.next("bz policy list")).await;
    assert!(said.contains("recorded: output, required"), "{said}");

    let mut window = place.connect().await;
    window.types("uptime; printf 'shown-%s\\n' $((6*7))\r").await;
    window.shows("shown-42").await;
    // A terminal that is left without its cursor, on its other screen, and asked who it is.
    window.types("printf '\\033[?1049h\\033[?25l\\033[c\\033]52;c;ZXZpbA==\\007%s-screen\\n' other\r").await;
    window.shows("other-screen").await;
    let list = page.next("bz recording list");
    place.desk.run(&list).await;
    let read = |said: &str| serde_json::from_str::<Vec<SessionRecording>>(said).unwrap();
    let found = place.desk.run_until(&format!("{list} --json"), |said| !read(said).is_empty()).await;
    let id = read(&found).remove(0).connection_id;
    page.put("ID", &id);

    // Watched while it runs, from its beginning on.
    let watch = page.next("bz recording watch");
    let refused = place.desk.try_run(&watch).await;
    assert!(!refused.status.success() && text(&refused.stderr).contains("--raw"), "{}", text(&refused.stderr));
    let mut watching = place.desk.terminal(&format!("sh -c '{watch}; stty -a'"));
    let begun = watching.shows("other-screen").await;
    assert!(begun.contains("shown-42"), "{begun}");
    window.types("printf 'later-%s\\n' $((6*7))\r").await;
    let shown = watching.shows("later-42").await;
    assert!(!shown.contains("\x1b[c") && !shown.contains("\x1b]52;"), "{shown:?}");
    window.types("printf '\\033[?25h\\033[?1049l'; exit 3\r").await;
    assert_eq!(window.ends().await, Some(3));
    watching.shows("The recording ends here.").await;
    let after = watching.shows("-noflsh").await;
    assert!(after.contains(" icanon") && after.contains(" echo ") && after.contains("\x1b[?25h"), "{after:?}");
    assert_eq!(watching.ends().await, Some(0));

    // Played; its pauses are none here, and q ends it in the middle of one.
    let play = page.next("bz play");
    let mut playing = place.desk.terminal(&format!("sh -c '{play}; stty -a'"));
    playing.shows("later-42").await;
    let after = playing.shows("-noflsh").await;
    assert!(after.contains(" icanon") && !after.contains("\x1b[c"), "{after:?}");
    assert_eq!(playing.ends().await, Some(0));
    let mut stopped = place.desk.terminal(&play.replace("--idle-limit 1 --speed 2", "--idle-limit 100000 --speed 1"));
    stopped.shows("uptime").await;
    stopped.types(" q").await;
    assert_eq!(stopped.ends().await, Some(0));
    let refused = place.desk.try_run(&play).await;
    assert!(!refused.status.success() && text(&refused.stderr).contains("--raw"), "{}", text(&refused.stderr));

    let said = place.desk.run(&page.next("bz recording search")).await;
    assert!(said.contains("uptime"), "{said}");
    place.desk.run(&page.next("bz recording get")).await;
    let again = place.desk.run(&page.next("bz play session.cast --raw > session.txt")).await;
    let shown = std::fs::read_to_string(place.desk.at("session.txt")).unwrap();
    assert!(again.is_empty() && shown.contains("shown-42") && shown.contains("\x1b[c"), "{shown:?}");

    place.desk.run(&page.next("bz recording delete")).await;
    let said = place.desk.run(&page.next("bz logs users")).await;
    assert!(said.contains("recordservice:delete") && said.contains(&id.to_string()), "{said}");
    let gone = place.desk.run(&format!("bz play {id} --raw")).await;
    assert_eq!(gone, "");
    page.ends();
}
