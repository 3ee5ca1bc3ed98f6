//! Shells and commands inside a program of yours: the first line of `main` is all the set-up there is.
//!
//! `cargo run -p bz-examples --bin embed_shell`

use std::path::Path;

use anyhow::Result;
use bz_agent::agent::{Agent, Identity, Running};
use bz_agent::helper::{self, Helper};
use bz_agent::jwks::IssuerKeys;
use bz_agent::shell::Shells;
use bz_agent::user::User;
use bz_core::access::request::Parameters;
use bz_examples::world::{Way, World};
use bz_protocol::client::Event;

/// An agent that serves the users of this host: all of them as root, otherwise its own alone.
fn embed(world: &World, identity: Identity, helper: Helper, folder: &Path) -> Result<Running> {
    let shells = Shells::new(helper, folder)?;
    let keys = IssuerKeys::ThroughLink(world.tls.clone());
    Ok(Agent::new(identity, world.bundle.clone(), world.carrier.clone(), keys).shell(shells).start()?)
}

fn main() -> Result<()> {
    // Runs the helper and does not return when this program was started as one.
    let helper = helper::enter();
    tokio::runtime::Runtime::new()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let user = User::current()?.name;
        let world = World::start(folder.path(), helper.clone(), &user, Way::Ws).await?;
        let identity = world.enroll("service").await?;
        let service = embed(&world, identity, helper, &folder.path().join("service"))?;
        service.online().await;
        let parameters = Parameters::Exec { command: "echo I am $(id -un)".to_owned() };
        let asked = world.client.ask(&format!("{user}@service").parse()?, parameters, None).await?;
        let mut session = world.client.session(asked).await?;
        while let Some(event) = session.next().await {
            if let Event::Bytes { bytes, .. } = event {
                std::io::Write::write_all(&mut std::io::stdout(), &bytes)?;
            }
        }
        service.stop().await;
        world.stop().await;
        Ok(())
    })
}
