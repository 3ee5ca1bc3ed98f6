//! A provider that gives even desktop clients a secret, as Google does: the server's settings tell it to clients.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_examples::certified::{DESKTOP_CLIENT_ID, DESKTOP_CLIENT_SECRET};
use bz_examples::world::{Idp, Parts, Way, World};
use bz_protocol::driver::SystemClock;
use bz_server::config::ProviderLogin;

use crate::certified;

/// A login and its refresh; the person has to do nothing for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_a_secret_logs_in_and_refreshes() {
    let Some(idp) = certified::started().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path(), Idp::Certified(Box::new(idp)), Some(DESKTOP_CLIENT_SECRET)).await.unwrap();
    let first = world.client.login().expires_at();
    let Idp::Certified(idp) = &world.idp else { panic!("another provider") };
    idp.set_id_token_life(Duration::from_secs(7200)).await.unwrap();
    world.client.refresh().await.unwrap();
    assert!(world.client.login().expires_at() > first, "the token is the old one");
    world.stop().await;
}

/// Without it, or with another one, the person reads whose matter it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_its_secret_is_told_who_can_help() {
    for secret in [None, Some("another")] {
        let Some(idp) = certified::started().await else { return };
        let folder = tempfile::tempdir().unwrap();
        let refused = world(folder.path(), Idp::Certified(Box::new(idp)), secret).await.map(drop).unwrap_err();
        let refused = format!("{refused:#}");
        for part in ["the identity provider does not accept this client", "invalid_client", "[[login]]"] {
            assert!(refused.contains(part), "{secret:?}: {refused}");
        }
        assert!(!refused.contains("another\""), "the message repeats the secret: {refused}");
    }
}

async fn world(folder: &Path, idp: Idp, secret: Option<&str>) -> Result<World> {
    let parts = Parts {
        helper: Helper::at(env!("CARGO_BIN_EXE_helper")),
        person: "alice".to_owned(),
        user: User::current()?.name,
        idp,
        clock: Arc::new(SystemClock::new()),
        way: Way::Ws,
    };
    let settings = |config: &mut bz_server::config::Config| {
        config.providers[0].audiences = vec![DESKTOP_CLIENT_ID.to_owned()];
        let issuer = config.providers[0].issuer.clone();
        let login = |secret: &str| ProviderLogin { issuer, client_secret: Some(secret.to_owned()), scopes: Vec::new() };
        config.logins = secret.map(login).into_iter().collect();
    };
    World::of(folder, parts, settings).await
}
