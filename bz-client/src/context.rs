//! What every command works with: the profile, the client made of it, and the output.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bz_client::client::Client;
use bz_client::pins::FirstContact;
use bz_client::profile::Profile;

use crate::cli::Global;
use crate::kept::Kept;
use crate::output::Output;

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) profile: Profile,
    pub(crate) kept: Arc<Kept>,
    pub(crate) output: &'a Output,
}

impl<'a> Context<'a> {
    pub(crate) fn new(global: &Global, output: &'a Output) -> anyhow::Result<Self> {
        let config = global.config_dir.clone().or_else(config_dir);
        let config = config.context("this user has no home folder: name a folder with --config-dir")?;
        let profile = Profile::new(&config, &global.profile)?;
        Ok(Self { kept: Kept::new(&profile), profile, output })
    }

    /// The profile's client. A person at a terminal may meet new agents; a script may not.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let first = if io::stdin().is_terminal() { FirstContact::Accept } else { FirstContact::Refuse };
        let profile = &self.profile;
        // The server first: who never logged in needs to know how, before anything else is missed.
        let server = profile.server()?;
        let client = Client::new(&server, profile.trust()?, profile.login()?)?;
        Ok(client
            .with_login_store(Arc::new(profile.login_store()))
            .with_receipts(Arc::clone(&self.kept) as _)
            .with_seen_keys(Arc::clone(&self.kept) as _)
            .with_known_agents(Arc::new(profile.known_agents()), first))
    }
}

fn config_dir() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "bz").map(|dirs| dirs.config_dir().to_owned())
}
