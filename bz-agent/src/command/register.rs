//! `bz-agent register`: pins, keys and name, kept only when the server has taken them.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bz_agent::http::Proxied;
use bz_agent::register::{Reach, RegisterError, Registration, register as at_server, trust_bundle};
use bz_agent::vault::{Registered, Vault};
use bz_core::trust::TrustBundle;
use bz_protocol::driver::{Clock as _, SystemClock};

use crate::cli::Register;
use crate::command::proxies;
use crate::tls;

const KEY: &str = "BZ_REGISTRATION_KEY";
/// Bundles, keys and certificates are far smaller.
const MAX_FILE: u64 = 1 << 20;

pub(crate) async fn register(vault: &Vault, options: &Register) -> anyhow::Result<Registered> {
    let old = vault.read()?;
    let server = options.server.clone().or_else(|| old.as_ref().map(|o| o.server.clone()));
    let server = server.context("name the server: --server https://…")?;
    let key = registration_key(options)?;
    let server_ca = authorities(options.ca.as_deref())?.or_else(|| old.as_ref().and_then(|o| o.server_ca.clone()));
    let issuer_ca =
        authorities(options.issuer_ca.as_deref())?.or_else(|| old.as_ref().and_then(|o| o.issuer_ca.clone()));
    let dial = Arc::new(Proxied(proxies()?));
    let reach = Reach { tls: tls::config(&server, server_ca.as_deref())?, dial };
    let bundle = match (&options.bundle, &old) {
        (Some(path), _) => {
            let text = text_of(path)?;
            TrustBundle::parse(&text).with_context(|| format!("{}", path.display()))?
        }
        (None, Some(old)) if !options.trust_server => old.bundle.clone(),
        (None, _) if options.trust_server => on_first_use(&server, reach.clone()).await?,
        (None, _) => {
            bail!("give the organization's trust bundle: --bundle FILE (or --trust-server, to trust it this once)")
        }
    };
    if let Some(old) = &old {
        ensure!(
            old.identity.organization == bundle.organization,
            "this agent belongs to another organization: move {} away, or use another --state-dir",
            vault.folder().display()
        );
    }
    let host = host_name();
    let name = options.name.clone().or_else(|| old.as_ref().map(|o| o.name.clone())).unwrap_or_else(|| host.clone());
    let local_policy = options.require_local_policy || old.as_ref().is_some_and(|o| o.local_policy_required);
    let registration = Registration {
        server: server.clone(),
        organization: bundle.organization,
        name: name.clone(),
        host_name: host,
        environment: options.environment.clone(),
        local_policy,
        replaces: old.map(|o| o.identity),
        labels: options.label.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
        now: SystemClock::new().now().wall,
    };
    let identity = at_server(&registration, &key, reach).await.map_err(|error| advice(error, vault.folder()))?;
    let registered =
        Registered { identity, server, name, local_policy_required: local_policy, bundle, server_ca, issuer_ca };
    vault.replace(&registered).context(
        "the server has registered this agent, but the identity cannot be kept here: mend this, then register again",
    )?;
    say(&format!(
        "Registered as target {} ({}). Its key's fingerprint is {}.\n",
        registered.name,
        registered.identity.target,
        registered.identity.identity_key.public().fingerprint()
    ));
    Ok(registered)
}

fn advice(error: RegisterError, folder: &Path) -> anyhow::Error {
    let text = match &error {
        RegisterError::Http(_) => "check --server, --ca and the network; nothing was changed here",
        RegisterError::Refused(_) => "nothing was changed here",
        RegisterError::Bundle(_) => "ask the administrator for the trust bundle and give it with --bundle",
        RegisterError::Answer(_) => "is this the address of a bz-server, of this release? Nothing was changed here",
        RegisterError::Random(_) | RegisterError::Key(_) => "try again; nothing was changed here",
    };
    anyhow::Error::new(error).context(format!("not registered in {}: {text}", folder.display()))
}

async fn on_first_use(server: &str, reach: Reach) -> anyhow::Result<TrustBundle> {
    let bundle = trust_bundle(server, reach).await?;
    say(&format!(
        "WARNING: the trust bundle comes from the server itself. Everything this agent will ever check rests on the \
         server being honest at this moment.\nCompare its fingerprint with the administrator's: {}\n",
        bundle.fingerprint()?
    ));
    Ok(bundle)
}

fn registration_key(options: &Register) -> anyhow::Result<String> {
    let key = match &options.registration_key_file {
        Some(path) => text_of(path)?,
        None => std::env::var(KEY).ok().with_context(|| {
            format!("give the registration key: --registration-key-file FILE, or the variable {KEY}")
        })?,
    };
    let key = key.trim().to_owned();
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(plain, "the registration key is empty or not one word: copy it again");
    Ok(key)
}

fn authorities(path: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let text = text_of(path)?;
    tls::certificates(&text).with_context(|| format!("{}", path.display()))?;
    Ok(Some(text))
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(text)
}

/// The kernel's word, as `hostname` prints it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}

pub(crate) fn say(text: &str) {
    // Who cannot be told is no reason to undo what is done.
    drop(std::io::stderr().write_all(text.as_bytes()));
}
