//! `bz login`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bz_client::login::{Browser, LockedLogin as _, Login as LibraryLogin, LoginOptions};
use bz_client::profile::ProfileError;
use bz_client::secret::Secret;
use bz_client::server::{Roots, Server, SpkiPin};
use bz_client::trust::{Trust, TrustSource};
use bz_protocol::driver::{Clock, SystemClock};
use clap::Args;
use serde_json::json;

use crate::command::{mfa, workload};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::local;
use crate::page::{Paste, SystemBrowser};

/// What `bz login` takes.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The server; needed at the first login of a profile
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The trust bundle your administrator gave you; without it the server's own is believed at the first login
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Certificates of a private authority to trust beside the system's, as PEM
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    ca: Option<PathBuf>,
    /// Trust the server's certificate by this pin alone; may be given twice
    #[arg(long, value_name = "SHA256")]
    pin: Vec<SpkiPin>,
    /// Print the login page's address and read the pasted redirect, for machines without a browser
    #[arg(long)]
    no_browser: bool,
    /// Log in as the job that this runs in: github, circleci, google, or "command:PROGRAM ARGUMENTS" that prints a token
    /// for {audience}
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["no_browser", "claim", "mfa", "issuer", "callback_port"])]
    workload: Option<String>,
    /// The claim code that makes you an administrator
    #[arg(long, value_name = "CODE")]
    claim: Option<String>,
    /// A code of your second factor, where it is asked for: six digits, or a recovery code
    #[arg(long, short, value_name = "CODE")]
    mfa: Option<String>,
    /// The identity provider, where the bundle names several
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// The local port of the redirect, for providers that take only one they know
    #[arg(long, value_name = "PORT")]
    callback_port: Option<u16>,
}

/// Keeps a login just made in the profile, and says whose it is. What follows may refresh it.
async fn keep(context: &Context<'_>, (server, trust): (&Server, &Trust), login: &LibraryLogin) -> anyhow::Result<()> {
    let locked = context.profile.login_store().take().await?;
    context.profile.keep(server, trust)?;
    locked.save(login)?;
    drop(locked);
    context.kept.saw(login);
    let (user, expires) = (login.user(), login.expires_at().to_string());
    let line = format!("Logged in to {server} as {} until {}.", user.email, local(&expires));
    context.output.result(&json!({"server": server.to_string(), "user": user, "expiresAt": expires}), &line)?;
    Ok(())
}

impl Login {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let server = self.server(context)?;
        let trust = self.trust(context, &server).await?;
        let output = context.output;
        if let Some(name) = &self.workload {
            let source = workload::source(name, &server)?;
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
            let login = LibraryLogin::begin_workload(&server, &trust, source.as_ref(), &clock).await?;
            keep(context, (&server, &trust), &login).await?;
            return Ok(Exit::Fine);
        }
        let browser: Box<dyn Browser> = match self.no_browser {
            true => Box::new(Paste(output.clone())),
            false => Box::new(SystemBrowser(output.clone())),
        };
        let options =
            LoginOptions { issuer: self.issuer, claim: self.claim.map(Secret::new), port: self.callback_port };
        let login = LibraryLogin::begin(&server, &trust, &options, browser.as_ref()).await?;
        keep(context, (&server, &trust), &login).await?;
        mfa::finish(context, login.mfa(), self.mfa).await
    }

    fn server(&self, context: &Context<'_>) -> anyhow::Result<Server> {
        let known = match context.profile.server() {
            Ok(server) => Some(server),
            Err(ProfileError::NoServer(_)) => None,
            // A new address puts a damaged one right; nothing else does.
            Err(error) if self.server.is_none() => return Err(error.into()),
            Err(_) => None,
        };
        let server = match (&self.server, &known) {
            (Some(url), _) => Server::new(url)?,
            (None, Some(known)) => Server::new(known.url().as_str())?,
            (None, None) => bail!(ProfileError::NoServer(context.profile.folder().to_owned())),
        };
        let roots = if let Some(path) = &self.ca {
            Roots::Ca(fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?)
        } else if !self.pin.is_empty() {
            Roots::Pins(self.pin.clone())
        } else {
            known.filter(|known| known.url() == server.url()).map_or(Roots::Platform, |known| known.roots().clone())
        };
        Ok(context.reached(server.with_roots(roots)?))
    }

    async fn trust(&self, context: &Context<'_>, server: &Server) -> anyhow::Result<Trust> {
        let known = match context.profile.trust() {
            Ok(trust) => Some(trust),
            Err(ProfileError::NoServer(_)) => None,
            Err(error) if self.bundle.is_none() => return Err(error.into()),
            Err(_) => None,
        };
        let trust = match (&self.bundle, known.clone()) {
            (Some(path), _) => Trust::from_file(path)?,
            (None, Some(known)) => known,
            (None, None) => Trust::first_use(server).await?,
        };
        if known.is_some_and(|known| known.bundle().organization != trust.bundle().organization) {
            bail!(
                "this profile ({}) belongs to another organization: name another with --profile",
                context.profile.folder().display()
            );
        }
        if trust.source() == TrustSource::FirstUse {
            context.output.warn(&format!(
                "TRUST ON FIRST USE: the trust bundle is the server's own word ({server}).\nCompare its fingerprint \
                 with your administrator's, or log in with --bundle FILE:\n  {}",
                trust.fingerprint()?
            ));
        }
        Ok(trust)
    }
}
