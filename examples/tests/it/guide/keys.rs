//! `docs/admin/api-keys.md`, as written, with the real programs.

use bz_core::api::api_key::secret::{ACCESS, KeyText, REGISTRATION};
use bz_core::api::api_key::{ApiKey, OwnerType};
use bz_examples::needs;

use super::desk::{Desk, text};
use super::page::Page;
use super::{PERSON, Place};

const PAGE: &str = include_str!("../../../../docs/admin/api-keys.md");

/// F-133~, F-135~, F-138, F-143, F-146, F-152~: the page as written: a key's life from the secret that is shown once, over the
/// list, to its end, and by which key hosts register. The page says where secrets belong and where not.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_keys_is_as_written() {
    if !needs::program("curl") {
        return;
    }
    let Some(place) = Place::start().await else { return };
    let desk = &place.desk;
    let mut page = Page::of(PAGE);
    page.put("DATA", &"data");
    page.put("https://127.0.0.1:8443", &place.url);
    let list = async || -> Vec<ApiKey> { serde_json::from_str(&desk.run("bz --json api-key list").await).unwrap() };
    let create = page.next("bz api-key create deploys");
    let made = desk.run(&create).await;
    let secret = made.trim().to_owned();
    assert!(
        secret.starts_with(ACCESS) && KeyText::parse(&secret).is_ok(),
        "{create} prints the secret and nothing else"
    );
    page.put("$SECRET", &secret);
    let call = page.next("printf");
    let hosts = desk.run(&call).await;
    assert!(hosts.contains("\"web\""), "{hosts}");
    let denied = desk.run(&call.replace("targets/bzero", "users")).await;
    assert!(denied.contains("\"denied\""), "{denied}");

    let rotated = desk.run(&page.next("bz api-key rotate deploys")).await;
    assert!(desk.run(&call).await.contains("notLoggedIn"), "the old secret opens");
    let call = call.replace(&secret, rotated.trim());
    assert!(desk.run(&call).await.contains("\"web\""), "the new one does not");
    let shown = desk.run(&page.next("bz api-key list")).await;
    for part in ["application terraform", "2099", "127.0.0.1", "logs, targets:read"] {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }
    assert!(!shown.contains(&secret) && !shown.contains(rotated.trim()), "the list shows a secret");
    let all = desk.run(&page.next("bz --json api-key list")).await;
    assert!(!all.contains(&secret) && !all.contains(rotated.trim()), "the list shows a secret");

    desk.run(&page.next("bz api-key edit deploys")).await;
    assert!(desk.run(&call).await.contains("\"web\""), "this machine is in 127.0.0.0/8");
    desk.run(&page.next("bz api-key edit releases --disable")).await;
    assert!(desk.run(&call).await.contains("disabled"));
    desk.run(&page.next("bz api-key edit releases --enable")).await;
    let all = list().await;
    let key = all.iter().find(|key| key.name == "releases").unwrap();
    assert!(key.enabled && key.expires_at.is_none() && key.allowed_addresses.is_empty(), "{key:?}");
    desk.run(&page.next("bz api-key delete")).await;
    assert!(desk.run(&call).await.contains("notLoggedIn"));

    how_hosts_register(desk, &mut page).await;
    let all = list().await;
    let own = all.iter().find(|key| key.is_personal).unwrap().owner.clone().unwrap();
    assert_eq!((own.kind, own.name), (OwnerType::Administrator, format!("{PERSON}@example.com")));
    page.ends();
    for guidance in ["vault", "Never put one into a file, into code", "anywhere public"] {
        assert!(PAGE.contains(guidance), "the page does not say {guidance:?}");
    }
}

/// By which key, as the last section sets it.
async fn how_hosts_register(desk: &Desk, page: &mut Page) {
    let racks = desk.run(&page.next("bz api-key create racks")).await;
    assert!(racks.starts_with(REGISTRATION), "a registration key");
    let said = desk.run(&page.next("bz registration-key settings")).await;
    assert!(said.starts_with("Global"), "{said}");
    let said = desk.run(&page.next("bz registration-key global")).await;
    assert!(said.contains("racks"), "{said}");
    let kept = desk.try_run("bz api-key delete racks").await;
    assert!(text(&kept.stderr).contains("default registration key"), "{}", text(&kept.stderr));
    let said = desk.run(&page.next("bz registration-key per-administrator")).await;
    assert!(said.starts_with("Per administrator"), "{said}");
    let own = desk.run(&page.next("bz registration-key own")).await;
    assert!(own.starts_with(REGISTRATION), "one's own registration key");
}
