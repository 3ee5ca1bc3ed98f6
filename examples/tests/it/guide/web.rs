//! `docs/connecting.md`, section "Web servers".

use std::path::Path;

use super::page::Page;
use super::{PERSON, Place};
use crate::web::nginx::Nginx;

/// F-217~, F-178~, F-232~: the section as written, with a real nginx behind the target.
#[tokio::test(flavor = "multi_thread")]
async fn the_section_on_web_servers_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    let own = rcgen(&place.desk.at("nginx"));
    let Some(nginx) = Nginx::start(&place.desk.at("nginx"), (&own.0, &own.1)).await else { return };
    let port = crate::port::free_port();
    let mut page = Page::connecting("Web servers");
    page.put("YOU@example.com", &format!("{PERSON}@example.com"));
    page.put("https://wiki.internal", &format!("http://{}", nginx.plain));
    page.put("8080", &port);

    place.desk.run(&page.next("bz target create web")).await;
    place.desk.run(&page.next("bz policy create proxy")).await;
    let mut window = place.desk.terminal(&page.next("bz connect wiki"));
    let said = window.shows(&format!(" is wiki ({})", nginx.plain)).await;
    let url = said.split_whitespace().find(|word| word.starts_with("http://localhost:")).unwrap().to_owned();
    assert_eq!(place.desk.opened_page().await, url);
    let shown = place.desk.run(&format!("curl -s {url}first")).await;
    assert!(shown.starts_with(&format!("GET http HTTP/1.1 {} /first ", nginx.plain)), "{shown}");
    window.types("\x03").await;
    assert_eq!(window.ends().await, Some(0));

    let mut again = place.desk.terminal(&page.next("bz connect wiki --port"));
    again.shows(&format!("http://localhost:{port}/ is wiki")).await;
    let shown = place.desk.run(&page.next("curl")).await;
    assert!(shown.starts_with("GET http HTTP/1.1 "), "{shown}");
    let both = |said: &str| said.matches(" answered ").count() == 2;
    let log = place.desk.run_until(&page.next("bz logs web"), both).await;
    assert!(log.contains("/first") && !log.contains(" no\n"), "{log}");
    page.ends();
    again.types("\x03").await;
    assert_eq!(again.ends().await, Some(0));

    let stable = place.desk.terminal("bz connect wiki --open-browser false").shows(" is wiki").await;
    assert!(stable.contains(&url), "the port is the same as before: {url}, and now {stable}");
}

/// A certificate for the side of nginx that this section does not use.
fn rcgen(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    std::fs::create_dir_all(folder).unwrap();
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    let made = openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate, key)
}
