//! `docs/admin/operations.md`.

use bz_examples::needs;

use super::desk::text;
use super::page::Page;
use super::{Place, read};

const OPERATIONS: &str = include_str!("../../../../docs/admin/operations.md");

/// The page as written, with the real programs: a server is saved while a shell is open, killed and restored elsewhere at
/// the same address, and its agent and the shell's window go on untouched.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_operations_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    let mut window = place.connect().await;
    window.types("value=$((40+2)); echo before-$value\r").await;
    window.shows("before-42\r\n").await;
    let mut page = Page::of(OPERATIONS);
    page.put("DATA", &"data");
    page.put("NEW", &"new/data");

    page.put("https://127.0.0.1:8443", &place.url);
    let said = place.desk.run(&page.next("bz-server --config DATA/server.toml doctor")).await;
    assert!(said.contains("warning  backup: there was none yet") && !said.contains("ERROR"), "{said}");
    assert_eq!(place.desk.run(&page.next("curl")).await, "ready\n");
    place.desk.run(&page.next("bz-server --config DATA/server.toml key rotate")).await;

    place.desk.run(&page.next("openssl rand")).await;
    let save = page.next("bz-server --config");
    let said = place.desk.run(&save).await;
    assert!(said.contains("Saved ") && said.contains("Head of the logs in it: "), "{said}");
    let again = place.desk.try_run(&save).await;
    assert!(!again.status.success() && text(&again.stderr).contains("exists and is not overwritten"));
    by_age_alone(&place).await;
    // A server that is killed says no word over QUIC, and its agents miss it after 50 s only.
    place.desk.run(&format!("kill {}", place.server.pid())).await;
    place.server.ends().await;

    let back = page.next("bz-server restore");
    std::fs::write(place.desk.at("wrong.pass"), "correct horse batterz").unwrap();
    let refused = place.desk.try_run(&back.replace("backup.pass", "wrong.pass")).await;
    let said = text(&refused.stderr);
    assert!(
        refused.status.code() == Some(1) && said.contains("the passphrase is wrong. Nothing was restored"),
        "{said}"
    );
    assert!(!place.desk.at("new/data").exists());
    let said = place.desk.run(&back).await;
    assert!(said.contains("Restored Example, as it was at "), "{said}");
    let serve = page.next("bz-server --config");
    page.ends();
    let address = place.url.strip_prefix("https://").unwrap();
    place.server = place.desk.start(&format!("env BZ_SERVER_LISTEN={address} {serve}"));
    place.server.says("listening").await;
    place.agent.says("linked to the server").await;
    window.types("echo after-$value\r").await;
    window.shows("after-42\r\n").await;
    window.types("exit 3\r").await;
    assert_eq!(window.ends().await, Some(3));
    place.desk.run(&format!("bz exec {}@web -- 'true'", place.user)).await;
    let said = place.desk.run("bz-server --config new/data/server.toml audit verify").await;
    assert!(said.contains("rows hold"), "{said}");
    assert!(read(&place.desk.at("new/data/server.toml")).contains("new/data"));
}

/// Where no server is at hand, `age` and `tar` take the files out.
async fn by_age_alone(place: &Place) {
    if !needs::program("age") {
        return;
    }
    let mut age = place.desk.terminal("age -d -o backup.tar backup.age");
    age.shows("passphrase").await;
    age.types(&format!("{}\r", read(&place.desk.at("backup.pass")).trim())).await;
    assert_eq!(age.ends().await, Some(0), "age cannot open the backup");
    let said = place.desk.run("tar -tvf backup.tar && tar -xOf backup.tar root.key | cmp - data/root.key").await;
    for name in ["backup.json", "bz-server.db", "server.toml", "tls.key", "tokens.key", "transcripts/", "end.json"] {
        assert!(said.contains(name), "{name} is not in {said}");
    }
}
