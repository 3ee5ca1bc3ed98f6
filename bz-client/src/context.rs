//! What every command works with: the profile, the client made of it, and the output.

use std::env;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bz_client::client::Client;
use bz_client::pins::FirstContact;
use bz_client::profile::{Profile, ProfileError};
use bz_client::server::Server;
use bz_protocol::carrier::Proxies;
use bz_protocol::link::Choice;

use crate::cli::Global;
use crate::command::workload;
use crate::kept::Kept;
use crate::output::Output;

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) profile: Profile,
    pub(crate) kept: Arc<Kept>,
    pub(crate) output: &'a Output,
    pub(crate) carrier: Choice,
    pub(crate) config_dir: PathBuf,
    pub(crate) profile_name: String,
    proxies: Proxies,
}

impl<'a> Context<'a> {
    pub(crate) fn new(global: &Global, output: &'a Output) -> anyhow::Result<Self> {
        let config = global.config_dir.clone().or_else(config_dir);
        let config = config.context("this user has no home folder: name a folder with --config-dir")?;
        let profile = Profile::new(&config, &global.profile)?;
        let (kept, carrier, proxies) = (Kept::new(&profile), global.carrier.into(), proxies()?);
        let (config_dir, profile_name) = (config, global.profile.clone());
        Ok(Self { profile, kept, output, carrier, config_dir, profile_name, proxies })
    }

    /// The profile's server, reached as this machine reaches servers.
    pub(crate) fn server(&self) -> Result<Server, ProfileError> {
        Ok(self.reached(self.profile.server()?))
    }

    /// A server, reached as this machine reaches servers.
    pub(crate) fn reached(&self, server: Server) -> Server {
        server.with_proxies(self.proxies.clone())
    }

    /// The profile's client. A person at a terminal may meet new agents; a script may not.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.client_meeting(if io::stdin().is_terminal() { FirstContact::Accept } else { FirstContact::Refuse })
    }

    /// Where the person's own `ssh` meets this program.
    #[cfg(unix)]
    pub(crate) fn ssh_dir(&self) -> PathBuf {
        self.profile.folder().join("ssh")
    }

    /// The profile's client, which may meet new agents or not.
    pub(crate) fn client_meeting(&self, first: FirstContact) -> anyhow::Result<Client> {
        let profile = &self.profile;
        // The server first: who never logged in needs to know how, before anything else is missed.
        let server = self.server()?;
        let login = profile.login()?;
        // Elsewhere than in its job the login is good as long as its token is.
        let tokens = login.token_source().and_then(|name| workload::source(name, &server).ok());
        let client = Client::new(&server, profile.trust()?, login)?;
        let client = match tokens {
            Some(tokens) => client.with_token_source(tokens),
            None => client,
        };
        let ways = server.ways(self.carrier)?.remembering(Arc::new(profile.carriers(&server)));
        Ok(client
            .with_carrier(ways)
            .with_login_store(Arc::new(profile.login_store()))
            .with_receipts(Arc::clone(&self.kept) as _)
            .with_seen_keys(Arc::clone(&self.kept) as _)
            .with_sealed_names(Arc::new(profile.sealed_names()), false)
            .with_known_agents(Arc::new(profile.known_agents()), first))
    }
}

/// What the environment says of proxies.
fn proxies() -> anyhow::Result<Proxies> {
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| env::var(name).ok()).unwrap_or_default();
    let proxies = Proxies::new(&first(["HTTPS_PROXY", "https_proxy"]), &first(["NO_PROXY", "no_proxy"]));
    proxies.context("the variable HTTPS_PROXY cannot be used")
}

fn config_dir() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "bz").map(|dirs| dirs.config_dir().to_owned())
}
