//! `bz service-account`: programs that log in by themselves.

mod key;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bz_client::client::Client;
use bz_client::login::{LockedLogin as _, Login, ServiceIdentity};
use bz_client::server::{Roots, Server};
use bz_client::trust::Trust;
use bz_core::api::service_account::{
    ChangeServiceAccount, NewServiceAccount, NewWorkload, ServiceAccount as Account, WorkloadJob,
};
use bz_core::totp::TotpSecret;
use bz_protocol::driver::{Clock, SystemClock};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, local};

/// What `bz service-account` does.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceAccount {
    /// List the service accounts (for administrators)
    List,
    /// Make one, and write the file with its second factor (for administrators)
    Create(Create),
    /// Make a key for one, and the key set to publish
    GenerateKey(key::GenerateKey),
    /// Make one of a job of CI or a cloud, which has no secret (for administrators)
    CreateWorkload(CreateWorkload),
    /// Log in as one
    Login(LogIn),
    /// Let one log in again (for administrators)
    Enable(Named),
    /// Let one log in no longer, and end what it does (for administrators)
    Disable(Named),
    /// Make it an administrator, or no longer one (for administrators)
    SetRole {
        #[command(flatten)]
        named: Named,
        /// What it may do of the administration
        role: WhichRole,
    },
    /// Give it a new second factor, which ends its logins (for administrators)
    RotateMfa {
        #[command(flatten)]
        named: Named,
        /// The file that the new second factor is written to
        #[arg(long, value_name = "FILE", default_value = "bzero-credentials.json")]
        bzero_creds: PathBuf,
    },
    /// Have the server fetch its key set anew (for administrators)
    Refetch(Named),
    /// Delete one: out of all policies, every connection and login ended; logs stay (for administrators)
    Delete(Named),
}

/// What `create` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Targets accept a service account only when their owners pinned where its key set is, in the trust \
                        bundle: service_accounts = [\"PATTERN\"]. The server cannot add one."
)]
pub(crate) struct Create {
    /// The provider's credentials: Google's file, or one with `jwksURL` and `jwksURLPattern`
    provider_creds: PathBuf,
    /// The file that the second factor is written to
    #[arg(long, value_name = "FILE", default_value = "bzero-credentials.json")]
    bzero_creds: PathBuf,
}

/// What `create-workload` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "The job logs in by itself: bz login --workload SOURCE. Server and targets accept it only where \
                        their trust bundle has these claims among the `workloads` of its issuer."
)]
pub(crate) struct CreateWorkload {
    /// What people and logs call it
    name: String,
    /// The issuer of the job's tokens, as the trust bundle names it
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// A claim of its tokens and the value that it has
    #[arg(required = true, value_name = "CLAIM=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
}

fn claim(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(claim, value)| !claim.is_empty() && !value.is_empty());
    pair.map(|(claim, value)| (claim.to_owned(), value.to_owned())).ok_or_else(|| "expected CLAIM=VALUE".to_owned())
}

/// What `login` takes.
#[derive(Debug, Args)]
pub(crate) struct LogIn {
    /// The provider's credentials
    #[arg(long, value_name = "FILE")]
    provider_creds: PathBuf,
    /// The second factor
    #[arg(long, value_name = "FILE", default_value = "bzero-credentials.json")]
    bzero_creds: PathBuf,
    /// The server; needed at the first login of a profile
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The trust bundle your administrator gave you; needed at the first login of a profile
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Certificates of a private authority to trust beside the system's, as PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

// The names say all.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum WhichRole {
    User,
    Admin,
}

/// Which.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The account, by address or id
    account: String,
}

/// The file with the second factor.
#[derive(Serialize, Deserialize)]
struct SecondFactor {
    mfa_secret: String,
    org_id: bz_core::id::OrganizationId,
}

impl ServiceAccount {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        if let Self::Login(login) = self {
            return login.run(context).await;
        }
        if let Self::GenerateKey(key) = self {
            key.run(context)?;
            return Ok(Exit::Fine);
        }
        let client = context.client()?;
        match self {
            Self::List => {
                let accounts = client.service_accounts().await?;
                context.output.list(&accounts, || table(&accounts))?;
            }
            Self::Create(create) => create.run(context, &client).await?,
            Self::CreateWorkload(create) => {
                let workload = WorkloadJob { issuer: create.issuer, claims: create.claims.into_iter().collect() };
                let account = client.create_workload(&NewWorkload { name: create.name, workload }).await?;
                let line = format!("Service account {} was made ({}). It has no secret.", account.email, account.id);
                context.output.result(&account, &line)?;
            }
            Self::Login(_) | Self::GenerateKey(_) => {}
            Self::Enable(named) => named.enable(context, &client, true).await?,
            Self::Disable(named) => named.enable(context, &client, false).await?,
            Self::SetRole { named, role } => {
                let is_admin = matches!(role, WhichRole::Admin);
                let change = ChangeServiceAccount { is_admin: Some(is_admin), enabled: None };
                let now = client.change_service_account(named.find(&client).await?.id, &change).await?;
                let what = if is_admin { "an administrator now" } else { "no administrator now" };
                context.output.result(&now, &format!("{} is {what}.", now.email))?;
            }
            Self::RotateMfa { named, bzero_creds } => {
                let account = named.find(&client).await?;
                let secret = client.rotate_service_account(account.id).await?;
                keep(&bzero_creds, &client, secret.reveal())?;
                let line = format!("{} has a new second factor, in {}.", account.email, bzero_creds.display());
                context.output.result(&json!({"id": account.id, "file": bzero_creds}), &line)?;
            }
            Self::Refetch(named) => {
                let account = named.find(&client).await?;
                client.invalidate_service_account(account.id).await?;
                context.output.result(&json!({"id": account.id}), "Its key set is fetched anew.")?;
            }
            Self::Delete(named) => {
                let account = named.find(&client).await?;
                client.delete_service_account(account.id).await?;
                context.output.result(&json!({"id": account.id}), &format!("{} was deleted.", account.email))?;
            }
        }
        Ok(Exit::Fine)
    }
}

impl Create {
    async fn run(self, context: &Context<'_>, client: &Client) -> anyhow::Result<()> {
        let identity = identity(&self.provider_creds)?;
        if self.bzero_creds.exists() {
            bail!("{} exists: name another file with --bzero-creds", self.bzero_creds.display());
        }
        let new = NewServiceAccount {
            email: identity.email,
            jwks_url: identity.jwks_url,
            jwks_url_pattern: identity.jwks_url_pattern,
            external_id: identity.external_id,
        };
        let made = client.create_service_account(&new).await?;
        keep(&self.bzero_creds, client, &made.mfa_secret)?;
        let account = made.service_account_summary;
        let line = format!(
            "Service account {} was made ({}). Its second factor is in {}, and nowhere else.",
            account.email,
            account.id,
            self.bzero_creds.display()
        );
        context.output.result(&account, &line)?;
        context.output.say(&format!("Targets accept it whose owners pin {}", account.jwks_url_pattern));
        Ok(())
    }
}

impl LogIn {
    async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let server = self.server(context)?;
        let trust = match &self.bundle {
            Some(path) => Trust::from_file(path)?,
            None => context.profile.trust().context("a service account's first login needs --bundle")?,
        };
        let text = read(&self.bzero_creds)?;
        let second: SecondFactor =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", self.bzero_creds.display()))?;
        if second.org_id != trust.bundle().organization {
            bail!("{} is another organization's", self.bzero_creds.display());
        }
        let secret: TotpSecret = second.mfa_secret.parse()?;
        let identity = identity(&self.provider_creds)?;
        let clock: std::sync::Arc<dyn Clock> = std::sync::Arc::new(SystemClock::new());
        let login = Login::begin_service_account(&server, &trust, (&identity, &secret), &clock).await?;
        let locked = context.profile.login_store().take().await?;
        context.profile.keep(&server, &trust)?;
        locked.save(&login)?;
        let (user, expires) = (login.user(), login.expires_at().to_string());
        let line = format!("Logged in to {server} as the service account {} until {}.", user.email, local(&expires));
        context.output.result(&json!({"server": server.to_string(), "user": user, "expiresAt": expires}), &line)?;
        Ok(Exit::Fine)
    }

    fn server(&self, context: &Context<'_>) -> anyhow::Result<Server> {
        let server = match &self.server {
            Some(url) => Server::new(url)?,
            None => context.profile.server()?,
        };
        let server = match &self.ca {
            Some(path) => server.with_roots(Roots::Ca(read(path)?))?,
            None => server,
        };
        Ok(context.reached(server))
    }
}

impl Named {
    async fn find(&self, client: &Client) -> anyhow::Result<Account> {
        let fits = |a: &Account| a.email.eq_ignore_ascii_case(&self.account) || a.id.to_string() == self.account;
        let mut found: Vec<_> = client.service_accounts().await?.into_iter().filter(fits).collect();
        let account = found.pop().with_context(|| format!("there is no service account {}", self.account))?;
        if !found.is_empty() {
            bail!("several service accounts have the address {}: name one by id", self.account);
        }
        Ok(account)
    }

    async fn enable(&self, context: &Context<'_>, client: &Client, enabled: bool) -> anyhow::Result<()> {
        let change = ChangeServiceAccount { is_admin: None, enabled: Some(enabled) };
        let now = client.change_service_account(self.find(client).await?.id, &change).await?;
        let what = if enabled { "may log in" } else { "is disabled, and everything it did has ended" };
        Ok(context.output.result(&now, &format!("{} {what}.", now.email))?)
    }
}

fn identity(path: &Path) -> anyhow::Result<ServiceIdentity> {
    ServiceIdentity::parse(&read(path)?).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Writes the second factor for its owner's eyes alone.
fn keep(path: &Path, client: &Client, secret: &str) -> anyhow::Result<()> {
    let file = SecondFactor { mfa_secret: secret.to_owned(), org_id: client.trust().bundle().organization };
    let written = write_private(path, &serde_json::to_string_pretty(&file)?);
    written.context("`bz service-account rotate-mfa` tries anew")
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = written.and_then(|mut out| out.write_all(text.as_bytes()));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

fn table(accounts: &[Account]) -> Table {
    let mut table =
        Table::new(["Address", "Role", "Enabled", "Id", "Key set or job", "Last login"], "No service accounts.");
    for account in accounts {
        table.row([
            account.email.as_str().into(),
            if account.is_admin { "admin" } else { "user" }.into(),
            if account.enabled { "yes" } else { "no" }.into(),
            account.id.into(),
            account.workload.as_ref().map_or_else(|| account.jwks_url.clone(), |_| account.external_id.clone()).into(),
            account.last_login.as_deref().map(local).unwrap_or_default().into(),
        ]);
    }
    table
}
