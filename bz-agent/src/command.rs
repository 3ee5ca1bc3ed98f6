//! The commands.

mod policy;
mod register;
mod serve;
mod status;

use bz_agent::helper::Helper;
use bz_agent::vault::Vault;

use crate::cli::{Cli, Command, Policy};

pub(crate) async fn run(cli: Cli, helper: &Helper) -> anyhow::Result<()> {
    let folder = cli.state_dir()?;
    match &cli.command {
        Command::Register(options) => {
            register::register(&Vault::open(folder)?, options).await?;
            register::say("Next: `bz-agent run`, as a service.\n");
            Ok(())
        }
        Command::Run => {
            let vault = Vault::open(folder)?;
            let registered = vault.read()?.ok_or_else(|| {
                anyhow::anyhow!("{} holds no identity: run `bz-agent register` first", vault.folder().display())
            })?;
            serve::serve(vault, registered, cli.policy_path()?, helper).await
        }
        Command::RegisterAndRun(options) => {
            let vault = Vault::open(folder)?;
            let registered = match vault.read()? {
                Some(registered) => registered,
                None => register::register(&vault, options).await?,
            };
            serve::serve(vault, registered, cli.policy_path()?, helper).await
        }
        Command::Status => status::status(&folder, &cli.policy_path()?),
        Command::Policy(Policy::Example) => policy::example(&folder),
        Command::Policy(Policy::Check) => policy::check(&cli.policy_path()?),
    }
}
