//! A client inside a program of yours: a proved agent as a stream of bytes.
//!
//! `cargo run -p bz-examples --bin dial`

use anyhow::Result;
use bz_agent::agent::Agent;
use bz_agent::handler::Call;
use bz_agent::helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::user::User;
use bz_client::client::Client;
use bz_core::access::Mode;
use bz_core::api::target::Route;
use bz_examples::world::{Way, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// All that a program needs: a client that is logged in, a target's name, a route's name.
async fn shout(client: &Client, words: &str) -> Result<String> {
    let mut stream = client.open(&"echo-host".parse()?, "shout").await?;
    stream.write_all(words.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    // An end that the agent did not sign would be an error here, not an end.
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn main() -> Result<()> {
    let helper = helper::enter();
    tokio::runtime::Runtime::new()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let world = World::start(folder.path(), helper, &User::current()?.name, Way::Ws).await?;
        let route = Route { name: "shout".into(), description: "says it louder".into(), mode: Mode::Sealed };
        let louder = |mut call: Call| async move {
            let mut words = String::new();
            call.stream.read_to_string(&mut words).await?;
            call.stream.write_all(words.to_uppercase().as_bytes()).await
        };
        let identity = world.register("echo-host", "shout").await?;
        let keys = IssuerKeys::ThroughLink(world.tls.clone());
        let agent = Agent::new(identity, world.bundle.clone(), world.carrier.clone(), keys);
        let agent = agent.route(route, louder).start()?;
        agent.online().await;
        let answer = shout(&world.client, "is anybody there?\n").await?;
        std::io::Write::write_all(&mut std::io::stdout(), answer.as_bytes())?;
        agent.stop().await;
        world.stop().await;
        Ok(())
    })
}
