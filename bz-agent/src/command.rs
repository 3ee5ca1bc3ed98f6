//! The commands.

mod man;
mod policy;
mod register;
mod serve;
mod ssh_ca;
mod status;

use anyhow::Context as _;
use bz_agent::helper::Helper;
use bz_agent::vault::Vault;
use bz_protocol::carrier::Proxies;

use crate::cli::{Cli, Command, Policy};

pub(crate) async fn run(cli: Cli, helper: &Helper) -> anyhow::Result<()> {
    let folder = cli.state_dir()?;
    match &cli.command {
        Command::Register(options) => {
            register::register(&Vault::open(folder)?, options).await?;
            register::say("Next: `bz-agent run`, as a service.\n");
            Ok(())
        }
        Command::Run(run) => {
            let vault = Vault::open(folder)?;
            let registered = vault.read()?.ok_or_else(|| {
                anyhow::anyhow!("{} holds no identity: run `bz-agent register` first", vault.folder().display())
            })?;
            serve::serve((vault, registered), cli.policy_path()?, (run, helper)).await
        }
        Command::RegisterAndRun(options) => {
            let vault = Vault::open(folder)?;
            let registered = match vault.read()? {
                Some(registered) => registered,
                None => register::register(&vault, &options.register).await?,
            };
            serve::serve((vault, registered), cli.policy_path()?, (&options.run, helper)).await
        }
        Command::Status => status::status(&folder, &cli.policy_path()?),
        Command::SshCa(options) => ssh_ca::ssh_ca(&folder, options),
        Command::SshKeys(question) => ssh_ca::answer(&folder, question).await,
        Command::Policy(Policy::Example) => policy::example(&folder),
        Command::Policy(Policy::Check) => policy::check(&cli.policy_path()?),
        Command::Man { folder } => man::write(&folder),
    }
}

/// What the environment says of proxies.
fn proxies() -> anyhow::Result<Proxies> {
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let proxies = Proxies::new(&first(["HTTPS_PROXY", "https_proxy"]), &first(["NO_PROXY", "no_proxy"]));
    proxies.context("the variable HTTPS_PROXY cannot be used")
}
