//! `bz-agent run`: one link to the server until a signal ends it; shells outlive it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bz_agent::agent::Agent;
use bz_agent::files::Files;
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::kube::Cluster;
use bz_agent::policy_file;
use bz_agent::receipts::{FOLDER, FolderReceipts};
use bz_agent::shell::Shells;
use bz_agent::ssh::asked::Asked;
use bz_agent::ssh::lines::Lines;
use bz_agent::ssh::{Authority, Sshd};
use bz_agent::ssh_server::SshServer;
use bz_agent::vault::{Registered, Vault};
use bz_agent::web::Web;
use bz_core::access::destination::Destination;
use bz_core::time::UnixTime;
use bz_protocol::driver::{Clock, SystemClock};
use bz_protocol::gate::LocalRule;
use bz_protocol::link::{Choice, Ways};
use bz_protocol::receipt::Bounds;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use crate::cli::{Run, SshLogin};
use crate::command::proxies;
use crate::tls;

/// The first day of the year this program was made in. A fixed day, so that the same sources make the same program.
const MADE: UnixTime = UnixTime::from_secs(1_767_225_600);

pub(crate) async fn serve(
    (vault, registered): (Vault, Registered),
    policy: PathBuf,
    (run, helper): (&Run, &Helper),
) -> anyhow::Result<()> {
    // From here on a signal means an end in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let ways = ways(&registered, run.carrier.into())?;
    let keys = IssuerKeys::ThroughLink(issuer_tls(&registered)?);
    let shells = Shells::new(helper.clone(), vault.folder().join("shells"))?.idle(run.shell_idle);
    let adopted = shells.adopt().await?;
    let required = registered.local_policy_required;
    let receipts = receipts(&vault);
    let (sshd, lines) = sshd(&vault, run, helper).await?;
    let (upstream, cluster) = (upstream_tls(run)?, cluster(run)?);
    let ssh_server = SshServer::open(vault.folder(), helper.clone())?;
    tracing::info!(target = %registered.name, adopted, "starting");
    let mut agent = Agent::new(registered.identity, registered.bundle, ways, keys)
        .local_policy(local_rule(&policy, required))
        .not_before(MADE)
        .shell(shells)
        .tunnels()
        .upstream_tls(Arc::clone(&upstream))
        .ssh(sshd)
        .files(Files::new(helper.clone()))
        .web(Web::new(upstream))
        .ssh_server(ssh_server)
        .receipts(receipts);
    if let Some(cluster) = cluster {
        agent = agent.cluster(cluster);
    }
    let running = agent.start()?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => running.set_local(local_rule(&policy, required)),
        }
    }
    tracing::info!("stopping; shells run on");
    running.stop().await;
    if let Some(lines) = lines {
        lines.sweep().await?;
    }
    Ok(())
}

/// This host's sshd, and the lines by which people get in there, if it is by lines. Those of an agent that was killed are
/// removed in any case.
async fn sshd(vault: &Vault, run: &Run, helper: &Helper) -> anyhow::Result<(Sshd, Option<Lines>)> {
    let folder = vault.folder();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let authority = Authority::open(folder)?;
    let by_lines = run.ssh_login == SshLogin::AuthorizedKeys;
    let lines = if by_lines || Lines::were_written(folder) {
        Some(Lines::open(folder, helper.clone(), (&authority, Arc::clone(&clock))).await?)
    } else {
        None
    };
    let sshd = Sshd::new(authority).port(run.ssh_port).host_keys(run.ssh_host_key.clone());
    let sshd = match (run.ssh_login, &lines) {
        (SshLogin::Command, _) => sshd.asks(Asked::listen(folder, clock)?),
        (SshLogin::AuthorizedKeys, Some(lines)) => sshd.reads(lines.clone()),
        (SshLogin::Ca | SshLogin::AuthorizedKeys, _) => sshd,
    };
    Ok((sshd, lines))
}

/// What cannot be kept or removed is said, and no reason not to serve.
fn receipts(vault: &Vault) -> Arc<FolderReceipts> {
    let receipts = FolderReceipts::new(vault.folder().join(FOLDER), Bounds::AGENT);
    if let Err(error) = receipts.sweep(SystemClock::new().now().wall) {
        tracing::warn!(%error, "old receipts cannot be removed");
    }
    Arc::new(receipts)
}

fn local_rule(path: &Path, required: bool) -> LocalRule {
    let rule = policy_file::rule(path, required);
    match &rule {
        LocalRule::Unrestricted => tracing::info!(path = %path.display(), "no local policy: grants alone decide"),
        LocalRule::Policy(policy) => {
            tracing::info!(path = %path.display(), rules = policy.allow.len(), "local policy read");
        }
        LocalRule::RefuseAll(why) => {
            tracing::error!(%why, "EVERY session is refused until this is mended; then send SIGHUP");
        }
    }
    rule
}

fn ways(registered: &Registered, choice: Choice) -> anyhow::Result<Ways> {
    let tls = tls::config(&registered.server, registered.server_ca.as_deref())?;
    let url = Url::parse(&registered.server).with_context(|| format!("{} is no address", registered.server))?;
    Ok(Ways::to_server(&url, &tls, choice, &proxies()?))
}

/// What to believe of databases and web servers behind this host. Without any authority there is no TLS to them, and no
/// reason not to serve.
fn upstream_tls(run: &Run) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()));
    let extra = run.upstream_ca.as_ref().map(read).transpose()?;
    match (tls::config("https://", extra.as_deref()), extra) {
        (Err(error), None) => {
            tracing::warn!(%error, "nothing behind this host can be reached over TLS");
            tls::config("http://", None)
        }
        (made, _) => made,
    }
}

/// The cluster that was named, or that this program runs in.
fn cluster(run: &Run) -> anyhow::Result<Option<Cluster>> {
    let named = match (&run.kube_server, &run.kube_ca, &run.kube_token_file) {
        (Some(server), Some(ca), Some(token)) => {
            let url = Url::parse(server).with_context(|| format!("{server} is no address"))?;
            let host = url.host_str().filter(|_| url.scheme() == "https");
            let host = host.with_context(|| format!("{server} is no https address"))?;
            let server = Destination::new(host, url.port_or_known_default().unwrap_or_default())?;
            Some(Cluster::new(server, ca, token))
        }
        _ => None,
    };
    let variable = |name| std::env::var(name).ok();
    let here = variable("KUBERNETES_SERVICE_HOST").zip(variable("KUBERNETES_SERVICE_PORT"));
    let pod = here.and_then(|(host, port)| Some(Cluster::of_pod(Destination::new(&host, port.parse().ok()?).ok()?)));
    let Some(cluster) = named.or(pod) else { return Ok(None) };
    if let Err(error) = cluster.check() {
        // It may be mended while this runs: the files are read when they are needed.
        tracing::error!(%error, "no cluster can be reached through this agent yet");
    }
    Ok(Some(cluster))
}

/// One configuration for all issuers; where each is on loopback without TLS, none is needed.
fn issuer_tls(registered: &Registered) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let issuers = &registered.bundle.providers;
    let secure = issuers.iter().find(|p| p.issuer.starts_with("https://")).or_else(|| issuers.first());
    tls::config(secure.map_or("https://", |p| p.issuer.as_str()), registered.issuer_ca.as_deref())
}
