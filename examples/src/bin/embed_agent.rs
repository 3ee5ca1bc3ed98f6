//! An agent inside a program of yours: one route, no listening socket, and a caller whose identity is proved.
//!
//! `cargo run -p bz-examples --bin embed_agent`

use anyhow::Result;
use bz_agent::agent::{Agent, Identity, Running};
use bz_agent::handler::Call;
use bz_agent::helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::user::User;
use bz_core::access::Mode;
use bz_core::api::target::Route;
use bz_examples::world::{Way, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// All that a program needs: what registration left, what its owner pins, a way to the server.
fn embed(world: &World, identity: Identity) -> Result<Running> {
    let route = Route { name: "debug".into(), description: "who is asking".into(), mode: Mode::Sealed };
    let answer = |mut call: Call| async move {
        let who = call.identity.person.subject.clone();
        call.stream.write_all(format!("hello, {who}; nobody on the way can read this\n").as_bytes()).await
    };
    let keys = IssuerKeys::ThroughLink(world.tls.clone());
    let agent = Agent::new(identity, world.bundle.clone(), world.carrier.clone(), keys);
    Ok(agent.route(route, answer).start()?)
}

fn main() -> Result<()> {
    let helper = helper::enter();
    tokio::runtime::Runtime::new()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let world = World::start(folder.path(), helper, &User::current()?.name, Way::Ws).await?;
        let service = embed(&world, world.register("billing", "debug").await?)?;
        service.online().await;
        let mut said = String::new();
        world.client.open(&"billing".parse()?, "debug").await?.read_to_string(&mut said).await?;
        print(&said)?;
        service.stop().await;
        world.stop().await;
        Ok(())
    })
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?)
}
