//! Settings read again while the server runs: what can be taken is, the rest is named, and a broken file changes nothing.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::sync::Arc;

use serde_json::json;

use crate::app::App;
use crate::config::{Config, ConfigError, Tls};
use crate::jobs::own_event;
use crate::server::Server;
use crate::tls::TlsError;

/// What only a start takes: what listeners, keys and names are made of.
const FIXED: [&str; 8] =
    ["organization", "data", "listen", "public_url", "quic", "metrics_listen", "node", "provider_ca"];

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// They cannot be compared.
    #[error("the settings cannot be compared: {0}")]
    Compare(String),
}

/// What came of it: names of settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Changed, and in force.
    pub taken: Vec<String>,
    /// Changed, and in force once the server is started again.
    pub restart: Vec<String>,
}

impl Server {
    /// Takes what changed in the settings and can be taken; reads the certificate and secrets of sinks again in any case.
    ///
    /// # Errors
    /// [`ReloadError`]; then everything is as it was.
    pub async fn reload(&self, next: Config) -> Result<Reloaded, ReloadError> {
        let app = &self.app;
        let (merged, reloaded) = merge(app, &next)?;
        if let (Some(certificates), Tls::Files(files)) = (&app.certificates, &merged.tls) {
            certificates.read_again(files)?;
        }
        app.exchange_config(merged);
        self.sinks.start(app);
        note(app, &reloaded).await;
        Ok(reloaded)
    }
}

fn merge(app: &Arc<App>, next: &Config) -> Result<(Config, Reloaded), ReloadError> {
    next.check()?;
    let table =
        |config: &Config| toml::Table::try_from(config).map_err(|error| ReloadError::Compare(error.to_string()));
    let (now, mut merged) = (table(&app.config())?, table(next)?);
    let tls_moves = discriminant(&app.config().tls) != discriminant(&next.tls);
    let names: BTreeSet<String> = now.keys().chain(merged.keys()).cloned().collect();
    let mut reloaded = Reloaded::default();
    for name in names {
        if now.get(&name) == merged.get(&name) {
            continue;
        }
        if FIXED.contains(&name.as_str()) || (name == "tls" && tls_moves) {
            match now.get(&name) {
                Some(value) => drop(merged.insert(name.clone(), value.clone())),
                None => drop(merged.remove(&name)),
            }
            reloaded.restart.push(name);
        } else {
            reloaded.taken.push(name);
        }
    }
    let merged: Config = merged.try_into().map_err(|error: toml::de::Error| ReloadError::Compare(error.to_string()))?;
    merged.check()?;
    Ok((merged, reloaded))
}

async fn note(app: &Arc<App>, reloaded: &Reloaded) {
    let context = json!({ "taken": reloaded.taken, "needRestart": reloaded.restart }).to_string();
    let noted = match own_event(app, ("adminservice:reload", "settings"), context) {
        Ok(event) => app.store.add_user_event(event, app.now().wall).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        tracing::error!(%error, "that settings were read again is not in the log");
    }
}
