//! One command on a target, from a program: everything by value, no profile, no file, and the command's own status.
//!
//! `cargo run -p bz-examples --bin ci_exec`

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use bz_agent::helper;
use bz_agent::user::User;
use bz_client::client::Client;
use bz_core::access::request::Parameters;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::client::Event;
use bz_protocol::frame::Fin;
use bz_protocol::session::End;

/// Runs a command and passes its output on. A session that is cut short is an error, never a success.
async fn exec(client: &Client, target: &str, command: &str) -> Result<i32> {
    let parameters = Parameters::Exec { command: command.to_owned() };
    let mut session = client.session(client.ask(&target.parse()?, parameters, None).await?).await?;
    while let Some(event) = session.next().await {
        match event {
            Event::Bytes { stream: 0, bytes } => std::io::stdout().write_all(&bytes)?,
            Event::Bytes { bytes, .. } => std::io::stderr().write_all(&bytes)?,
            Event::Ended(End::Completed(Fin::Exited(code))) => return Ok(code),
            Event::Ended(end) => return Err(end.into()),
            Event::Opened(_)
            | Event::Eof { .. }
            | Event::Notice(_)
            | Event::Answered { .. }
            | Event::Reset { .. }
            | Event::Resumed => {}
        }
    }
    anyhow::bail!("the session ended without a word")
}

fn main() -> Result<ExitCode> {
    let helper = helper::enter();
    tokio::runtime::Runtime::new()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let user = User::current()?.name;
        let world = World::start(folder.path(), helper, &user, Way::Ws).await?;
        let code = exec(&world.client, &format!("{user}@{TARGET}"), "echo deployed; exit 3").await?;
        world.stop().await;
        Ok(ExitCode::from(u8::try_from(code)?))
    })
}
