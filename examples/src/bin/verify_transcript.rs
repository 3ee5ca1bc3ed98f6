//! A session's transcript, checked offline against what an administrator pinned, and refused when one byte is changed.
//!
//! `cargo run -p bz-examples --bin verify_transcript`

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bz_agent::helper;
use bz_agent::user::User;
use bz_client::session::Session;
use bz_core::access::request::Parameters;
use bz_core::id::ConnectionId;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::client::Event;
use bz_protocol::transcript::{Anchors, Verdict, explain, verify};

fn main() -> Result<()> {
    let helper = helper::enter();
    tokio::runtime::Runtime::new()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let user = User::current()?.name;
        let world = World::start(folder.path(), helper, &user, Way::Ws).await?;
        let parameters = Parameters::Exec { command: "echo for the record".to_owned() };
        let asked = world.client.ask(&format!("{user}@{TARGET}").parse()?, parameters, None).await?;
        let connection = asked.made.connection_id;
        run(world.client.session(asked).await?).await;
        let (bytes, verdict) = transcript(&world, connection).await?;
        let mut out = std::io::stdout();
        writeln!(out, "{:?}: {} on {} frames", verdict.trust, verdict.person.subject, verdict.to_client.frames)?;
        for line in explain(&bytes).map_err(|e| anyhow::anyhow!("{e}"))? {
            writeln!(out, "  {:8} {}", line.who, line.what)?;
        }
        let mut changed = bytes;
        let middle = changed.len() / 2;
        *changed.get_mut(middle).context("a transcript is not empty")? ^= 1;
        match verify(&changed, &Anchors::FromTranscript) {
            Ok(_) => anyhow::bail!("a changed byte was not noticed"),
            Err(refused) => writeln!(out, "with byte {middle} changed: {refused}")?,
        }
        world.stop().await;
        Ok(())
    })
}

async fn run(mut session: Session) {
    while let Some(event) = session.next().await {
        if let Event::Ended(_) = event {
            return;
        }
    }
}

/// The transcript, when its last record is written.
async fn transcript(world: &World, connection: ConnectionId) -> Result<(Vec<u8>, Verdict)> {
    for _ in 0..100 {
        if let Some((path, Ok(verdict))) = world.transcripts(connection).await?.pop()
            && verdict.complete
        {
            return Ok((std::fs::read(path)?, verdict));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the transcript is not whole after five seconds")
}
