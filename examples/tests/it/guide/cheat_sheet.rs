//! `docs/cheat-sheet.md`, line by line, with the real programs.

use super::desk::text;
use super::page::Page;
use super::{PERSON, Place};

const PAGE: &str = include_str!("../../../../docs/cheat-sheet.md");

/// F-249: every line of the page does what the page says.
#[tokio::test(flavor = "multi_thread")]
async fn the_cheat_sheet_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    let (user, you) = (place.user.clone(), format!("{PERSON}@example.com"));
    let more = format!(
        "bz policy create target-access --name more --user {you} --target web --target-user {user} \
         --verb FileTransfer --verb Tunnel"
    );
    place.desk.run(&more).await;
    std::fs::write(place.desk.at("notes.txt"), "noted").unwrap();
    let mut page = Page::of(PAGE);
    page.put("YOU@example.com", &you);
    page.put("https://127.0.0.1:8443", &place.url);
    page.put("DATA", &"data");
    page.put("root", &user);
    page.put("/tmp/notes.txt", &place.desk.at("there.txt").display());
    page.put("5432:localhost:5432", &"0:localhost:5432");
    let mut login = place.desk.start(&page.next("bz login --server"));
    place.desk.log_in_at_the_browser(PERSON).await;
    assert_eq!(login.ends().await, Some(0), "{}", login.said());
    let mut login = place.desk.start(&page.next("bz login"));
    place.desk.log_in_at_the_browser(PERSON).await;
    assert_eq!(login.ends().await, Some(0), "{}", login.said());
    check(&place, &mut page, &[("bz mfa status", ""), ("bz lt", "web"), ("bz lt", "online")]).await;
    check(&place, &mut page, &[("bz why", "admins"), ("bz doctor", "")]).await;
    let connection = connects(&place, &mut page).await;

    check(&place, &mut page, &[("bz cp notes.txt", ""), ("bz cp -r", "")]).await;
    assert_eq!(std::fs::read_to_string(place.desk.at("back.txt")).unwrap(), "noted");
    until_ctrl_c(&place, &page.next("bz forward"), "leads to").await;
    check(&place, &mut page, &[("bz generate ssh-config", "")]).await;

    fits(&place, "bz --color never policy list", "recorded").await;
    check(&place, &mut page, &[("bz policy list", "recorded"), ("bz policy create", "ops")]).await;
    check(&place, &mut page, &[("bz policy create", "ops-recorded"), ("bz policy evaluate", "ops")]).await;
    check(&place, &mut page, &[("bz policy edit", "ops"), ("bz policy edit", "ops")]).await;
    check(&place, &mut page, &[("bz policy history", "1"), ("bz policy diff", "enabled"), ("bz policy delete", "")])
        .await;

    check(&place, &mut page, &[("bz user list", &you), ("bz user close-connections", "")]).await;
    check(&place, &mut page, &[("bz group status", ""), ("bz environment create", "prod")]).await;
    check(&place, &mut page, &[("bz target edit", ""), ("bz agent list", "prod")]).await;
    check(&place, &mut page, &[("bz api-key create terraform", ""), ("bz api-key create --registration", "")]).await;
    check(&place, &mut page, &[("bz registration-key settings", ""), ("bz service-account list", "")]).await;

    page.put("CONNECTION", &connection);
    check(&place, &mut page, &[("bz logs connections", &you), ("bz logs commands", "uptime")]).await;
    until_ctrl_c(&place, &page.next("bz logs commands --watch"), "uptime").await;
    check(&place, &mut page, &[("bz logs users", ""), ("bz recording list", &connection)]).await;
    check(&place, &mut page, &[("bz recording get", "session.cast"), ("bz transcript get", "")]).await;
    check(&place, &mut page, &[("bz verify", "proved")]).await;
    check(&place, &mut page, &[("bz lt --json", "\"web\""), ("bz lt --profile", "web")]).await;
    check(&place, &mut page, &[("bz help", "--target-user"), ("bz completion", ""), ("bz generate man", "")]).await;
    check(&place, &mut page, &[("bz logout", "")]).await;
    page.ends();
    assert!(place.desk.at("man1/bz-policy.1").exists() && place.desk.at("bz.bash").exists());
}

/// Runs the next commands; each prints this, somewhere.
#[track_caller]
fn check<'a>(place: &'a Place, page: &mut Page, want: &[(&str, &'a str)]) -> impl Future<Output = ()> + use<'a> {
    let lines: Vec<_> = want.iter().map(|(begins, shown)| (page.next(begins), *shown)).collect();
    async move {
        for (line, shown) in lines {
            let output = place.desk.try_run(&line).await;
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(output.status.success() && said.contains(shown), "{line} does not say {shown:?}: {said}");
        }
    }
}

/// The lines about shells: one that is left and come back to, a command, and the end of all. The shell's connection.
async fn connects(place: &Place, page: &mut Page) -> String {
    let mut window = place.desk.terminal(&page.next("bz connect"));
    window.shows("\x1b]133;B").await;
    window.types("\r~.").await;
    window.shows("Come back with: bz attach").await;
    assert_eq!(window.ends().await, Some(0));
    check(place, page, &[("bz exec", "load average")]).await;
    let connection = place.left_behind().await.id.to_string();
    check(place, page, &[("bz lc", &connection)]).await;
    page.put("CONNECTION", &connection);
    let mut window = place.desk.terminal(&page.next("bz attach"));
    window.types("echo again-$((40+2))\r").await;
    window.shows("again-42").await;
    check(place, page, &[("bz close", "Closed 1 connection."), ("bz close --all", "")]).await;
    assert_eq!(window.ends().await, Some(255));
    connection
}

/// A table is cut to the width of the terminal, and only there.
async fn fits(place: &Place, line: &str, shown: &str) {
    let piped = place.desk.run(line).await;
    let widest = piped.lines().map(|line| line.chars().count()).max();
    assert!(!piped.contains('…') && widest > Some(80), "{piped}");
    let mut window = place.desk.terminal(line);
    window.shows(shown).await;
    assert_eq!(window.ends().await, Some(0));
    let said = window.shows(shown).await;
    let widest = said.lines().map(|line| line.trim_end().chars().count()).max();
    assert!(said.contains('…') && widest <= Some(80), "{said}");
}

/// What goes on until a person ends it.
async fn until_ctrl_c(place: &Place, line: &str, shown: &str) {
    let line = line.split(" #").next().unwrap();
    let mut window = place.desk.terminal(line);
    window.shows(shown).await;
    window.types("\x03").await;
    window.ends().await;
}
