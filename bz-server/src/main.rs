//! The program `bz-server`: arguments → configuration → server → drain.

mod program;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bz_core::trust::TrustBundle;
use bz_server::config::{Config, ENVIRONMENT};
use bz_server::init::{self, InitTls};
use bz_server::relay::Relay;
use bz_server::seam::jwks::HttpJwks;
use bz_server::seam::links::Links;
use bz_server::seam::{Clock as _, SystemClock, SystemEntropy};
use bz_server::store::Store;
use bz_server::store::event::Head;
use bz_server::{Seams, Server, keys};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// The server of an organization: policy, grants, logs.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "BZ_CONFIG", default_value = "/var/lib/bz-server/server.toml", global = true)]
    config: PathBuf,
    /// Print a configuration file in which each key is explained.
    #[arg(long)]
    print_default_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an organization: keys, certificate, database, and a code that makes you administrator.
    Init(Init),
    /// Run the server until SIGTERM.
    Serve,
    /// What an administrator does on this host, beside the API.
    #[command(subcommand)]
    Admin(Admin),
    /// Print the trust bundle that agents and clients pin.
    Bundle,
    /// Prove that nothing was changed in the logs or removed from them, beside a running server or without one.
    #[command(subcommand)]
    Audit(Audit),
    /// Save everything this server is in one encrypted file, while it runs.
    Backup(program::backup::Backup),
    /// Say what is wrong with this server, and what to do about it.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Keys that agents believe.
    #[command(subcommand)]
    Key(program::key::Key),
    /// Restore a backup into an empty folder.
    Restore(program::backup::Restore),
    /// Write the manual pages of this program.
    Man {
        /// The folder that they are written to, such as /usr/local/share/man/man8.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum Audit {
    /// Print the end of the logs, as number:hash: write it down where nobody of this host can change it.
    Head,
    /// Walk all rows of the logs, and say where they do not hold.
    Verify {
        /// An end that was written down before: it must lie on the way.
        #[arg(long, value_name = "NUMBER:HASH")]
        head: Option<Head>,
        /// The trust bundle whose roots must have signed for what retention cut; this server's own when absent.
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct Init {
    /// A configuration to begin with, as `--print-default-config` prints one.
    #[arg(long)]
    from: PathBuf,
    /// Make a CA and a certificate for these names and addresses.
    #[arg(long, value_delimiter = ',')]
    make_certificate: Vec<String>,
    /// Listen here instead.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Print a code that makes whoever logs in with it administrator, once, within 24 hours.
    Claim,
    /// Let a person enroll a second factor anew.
    ResetMfa {
        /// The address or id.
        user: String,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "bz-server: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.print_default_config {
        return print(Config::default_text());
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("BZ_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match arguments.command {
            Some(Command::Init(options)) => initialize(options).await,
            Some(Command::Serve) => serve(&arguments.config).await,
            Some(Command::Bundle) => bundle(&read(&arguments.config)?).await,
            Some(Command::Admin(Admin::Claim)) => claim(&read(&arguments.config)?).await,
            Some(Command::Admin(Admin::ResetMfa { user })) => reset_mfa(&read(&arguments.config)?, user).await,
            Some(Command::Audit(Audit::Head)) => audit_head(&read(&arguments.config)?).await,
            Some(Command::Audit(Audit::Verify { head, bundle })) => {
                audit_verify(&read(&arguments.config)?, head, bundle).await
            }
            Some(Command::Backup(options)) => options.run((&read(&arguments.config)?, &arguments.config)).await,
            Some(Command::Restore(options)) => options.run().await,
            Some(Command::Doctor { json }) => program::doctor::run(&arguments.config, json).await,
            Some(Command::Key(command)) => command.run(&read(&arguments.config)?).await,
            Some(Command::Man { folder }) => program::man::write(&folder),
            None => bail!("name a command, or --help"),
        }
    })
}

fn read(path: &std::path::Path) -> anyhow::Result<Config> {
    let set = std::env::vars().filter(|(name, _)| name.starts_with(ENVIRONMENT));
    Ok(init::read_config(path, set)?)
}

async fn initialize(options: Init) -> anyhow::Result<()> {
    let mut config = read(&options.from)?;
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    let tls = match options.make_certificate {
        names if names.is_empty() => InitTls::AsConfigured,
        names => InitTls::Make(names),
    };
    let (data, url) = (config.data.clone(), config.public_url.clone());
    let made = init::init(config, tls, &SystemClock::new(), &SystemEntropy).await?;
    let (data, config) = (data.display(), made.config.display());
    let pin = made.pin.map(|pin| format!("TLS pin       {pin} (SHA-256 of the public key of the CA, {data}/ca.crt)\n"));
    let ca = if pin.is_some() { format!(" --ca {data}/ca.crt") } else { String::new() };
    print(&format!(
        "Configuration {config}\nTrust bundle  {data}/bundle.toml, fingerprint {}\n{}Claim code    {claim}\n\n\
         Start it:  bz-server --config {config} serve\n\
         Become administrator within 24 hours, by the address that you reach it at:\n  \
         bz login --server {url} --bundle {data}/bundle.toml{ca} --claim {claim}\n",
        made.fingerprint,
        pin.unwrap_or_default(),
        claim = made.claim,
    ))
}

async fn serve(path: &std::path::Path) -> anyhow::Result<()> {
    let config = read(path)?;
    let ca = config.provider_ca.as_ref().map(std::fs::read).transpose().context("provider_ca")?;
    let relay = Relay::new();
    let seams = Seams {
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        jwks: Arc::new(HttpJwks::new(ca.as_deref())?),
        links: Arc::clone(&relay) as Arc<dyn Links>,
    };
    // Before the first call is taken: from then on a signal means drain.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let server = Server::start_with(config, seams, relay).await?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&server, path).await,
        }
    }
    tracing::info!("stopping");
    server.shutdown().await;
    Ok(())
}

async fn reload(server: &Server, path: &std::path::Path) {
    let reloaded = match read(path) {
        Ok(config) => server.reload(config).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    match reloaded {
        Ok(bz_server::server::reload::Reloaded { taken, restart }) => {
            tracing::info!(?taken, needs_restart = ?restart, "the settings were read again");
        }
        Err(error) => tracing::error!("the settings cannot be read again, and nothing was changed: {error:#}"),
    }
}

async fn bundle(config: &Config) -> anyhow::Result<()> {
    let store = Store::open(&config.data)?;
    let organization = store.organization().await?.context("there is no organization here: run `bz-server init`")?;
    let root = keys::read_root(&config.data)?;
    let bundle: TrustBundle = bz_server::app::bundle(config, organization.id, &root);
    print(&bundle.to_text()?)
}

async fn claim(config: &Config) -> anyhow::Result<()> {
    let store = Store::open(&config.data)?;
    let code = bz_server::admin::claim(config, &store, &SystemEntropy, SystemClock::new().now().wall).await?;
    print(&format!("{code}\n"))
}

async fn reset_mfa(config: &Config, user: String) -> anyhow::Result<()> {
    let store = Store::open(&config.data)?;
    bz_server::admin::reset_mfa(config, &store, &SystemEntropy, (user, SystemClock::new().now().wall)).await?;
    print("The next login enrolls a second factor anew.\n")
}

async fn audit_head(config: &Config) -> anyhow::Result<()> {
    let head = Store::inspect(&config.data)?.event_head().await?;
    print(&format!("{head}\n"))
}

async fn audit_verify(config: &Config, known: Option<Head>, bundle: Option<PathBuf>) -> anyhow::Result<()> {
    let store = Store::inspect(&config.data)?;
    let bundle = bundle.unwrap_or_else(|| config.data.join(init::BUNDLE));
    let text = std::fs::read_to_string(&bundle).with_context(|| bundle.display().to_string())?;
    let bundle = TrustBundle::parse(&text)?;
    let audited = store.audit_events(known, (bundle.organization, bundle.roots)).await?;
    let audited = audited.context("the logs do not hold")?;
    if let Some(cut) = &audited.cut {
        print(&format!(
            "Rows 1 to {} were cut by retention at {}; this server signed for it.\n",
            cut.head.count, cut.at
        ))?;
    }
    if let Some(known) = known {
        print(&format!("Row {} has the hash that was written down.\n", known.count))?;
    }
    let first = audited.head.count.saturating_sub(audited.rows).saturating_add(1);
    print(&format!("{} rows hold, {first} to {}.\nHead {}\n", audited.rows, audited.head.count, audited.head))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
