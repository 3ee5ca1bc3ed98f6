//! `bz-agent run`: one link to the server until a signal ends it; shells outlive it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bz_agent::agent::Agent;
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::policy_file;
use bz_agent::shell::Shells;
use bz_agent::vault::{Registered, Vault};
use bz_protocol::carrier::Ws;
use bz_protocol::control::LINK_PATH;
use bz_protocol::gate::LocalRule;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use crate::cli::Run;
use crate::tls;

pub(crate) async fn serve(
    vault: Vault,
    registered: Registered,
    policy: PathBuf,
    (run, helper): (&Run, &Helper),
) -> anyhow::Result<()> {
    // From here on a signal means an end in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let carrier = carrier(&registered)?;
    let keys = IssuerKeys::ThroughLink(issuer_tls(&registered)?);
    let shells = Shells::new(helper.clone(), vault.folder().join("shells"))?.idle(run.shell_idle);
    let adopted = shells.adopt().await?;
    let required = registered.local_policy_required;
    tracing::info!(target = %registered.name, adopted, "starting");
    let running = Agent::new(registered.identity, registered.bundle, Arc::new(carrier), keys)
        .local_policy(local_rule(&policy, required))
        .shell(shells)
        .start()?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => running.set_local(local_rule(&policy, required)),
        }
    }
    tracing::info!("stopping; shells run on");
    running.stop().await;
    Ok(())
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

fn carrier(registered: &Registered) -> anyhow::Result<Ws> {
    let tls = tls::config(&registered.server, registered.server_ca.as_deref())?;
    let mut url = Url::parse(&registered.server).with_context(|| format!("{} is no address", registered.server))?;
    let scheme = if url.scheme() == "http" { "ws" } else { "wss" };
    url.set_scheme(scheme).ok().with_context(|| format!("{} is no https address", registered.server))?;
    let path = format!("{}{LINK_PATH}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(Ws::new(url, tls))
}

/// One configuration for all issuers; where each is on loopback without TLS, none is needed.
fn issuer_tls(registered: &Registered) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let issuers = &registered.bundle.providers;
    let secure = issuers.iter().find(|p| p.issuer.starts_with("https://")).or_else(|| issuers.first());
    tls::config(secure.map_or("https://", |p| p.issuer.as_str()), registered.issuer_ca.as_deref())
}
