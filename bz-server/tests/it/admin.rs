//! `init` and the commands on the server's host.

use std::os::unix::fs::PermissionsExt as _;

use bz_core::api::error::Code;
use bz_core::api::login::{Registered, TrustBundleText};
use bz_core::trust::TrustBundle;
use bz_server::admin::{self, AdminError};
use bz_server::config::Tls;
use bz_server::init::{self, InitError, InitTls};
use bz_server::seam::{SystemClock, SystemEntropy};

use crate::world::{As, World, config};

/// `init` makes private files once, and its bundle is the one the server serves.
#[tokio::test]
async fn init_makes_a_folder_once() {
    let world = World::new().await;
    let data = world.folder.path().join("data");
    for file in ["root.key", "bundle.toml", "server.toml"] {
        let mode = std::fs::metadata(data.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let written = std::fs::read_to_string(data.join("bundle.toml")).unwrap();
    let served: TrustBundleText = world.get(As::Nobody, "/trust-bundle").await.ok();
    assert_eq!(served.bundle, written);
    assert_eq!(TrustBundle::parse(&written).unwrap(), world.app.bundle());
    let again = init::init(config(&world.folder), InitTls::AsConfigured, &SystemClock::new(), &SystemEntropy).await;
    assert!(matches!(again, Err(InitError::Exists(_))), "{again:?}");
    assert_eq!(std::fs::read_to_string(data.join("bundle.toml")).unwrap(), written);
}

#[tokio::test]
async fn init_makes_a_certificate_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let names = InitTls::Make(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = init::init(config(&folder), names, &SystemClock::new(), &SystemEntropy).await.unwrap();
    assert!(made.pin.is_some());
    let config = init::read_config(&made.config, []).unwrap();
    assert!(matches!(config.tls, Tls::Files(_)), "{:?}", config.tls);
    assert!(!format!("{made:?}").contains(&made.claim), "a claim code in Debug");
}

/// `admin claim` makes another administrator, and the log knows.
#[tokio::test]
async fn a_claim_on_the_host_is_audited() {
    let world = World::new().await;
    let app = &world.app;
    let code = admin::claim(&app.config(), &app.store, &SystemEntropy, app.now().wall).await.unwrap();
    assert_eq!(world.log().await[0].service_action, "adminservice:claim");
    assert!(!format!("{:?}", world.log().await).contains(&code));
    let client = world.client("second");
    assert!(world.register(&client, &client.initial, Some(&code)).await.ok::<Registered>().user.is_admin);
}

/// F-059~: `admin reset-mfa` forgets the second factor, ends the person's logins, and the log knows.
#[tokio::test]
async fn a_reset_on_the_host_ends_logins_and_is_audited() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let app = &world.app;
    let reset = async |name: &str| {
        admin::reset_mfa(&app.config(), &app.store, &SystemEntropy, (name.to_owned(), app.now().wall)).await
    };
    assert!(matches!(reset("bob@example.com").await, Err(AdminError::NoUser(_))));
    reset("alice@example.com").await.unwrap();
    assert_eq!(world.log().await[0].service_action, "adminservice:reset-mfa");
    world.get(As::Client(&alice), "/users/me").await.refused(Code::NotLoggedIn);
}
