//! The server's settings: one TOML file, over it the environment (`BZ_SERVER_` and the key in capitals), read once.
//!
//! Absent: secrets. Keys are files in the data folder.

mod live;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bz_core::api::login::LoginSettings;
use bz_core::oidc::provider::{Provider, ProviderError};
use bz_core::oidc::service::JwksPattern;
use bz_core::time::UnixTime;
use serde::{Deserialize, Serialize};
use url::Url;

pub use crate::acme::AcmeSettings;
pub use crate::config::live::Live;
pub use crate::sink::SinkSettings;

use crate::groups::source::DirectoryConfig;
use crate::sink;

/// What begins the name of a setting in the environment.
pub const ENVIRONMENT: &str = "BZ_SERVER_";

/// Why settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A sink that cannot be used.
    #[error("[[sink]] {name:?}: {rule}")]
    Sink {
        /// Which.
        name: String,
        /// What it must be.
        rule: &'static str,
    },
    /// Not the TOML of a configuration: an unknown key, a wrong type.
    #[error("the configuration is malformed: {0}")]
    Malformed(String),
    /// A provider that cannot be pinned.
    #[error("the identity provider {issuer}: {error}")]
    Provider {
        /// Which.
        issuer: String,
        /// What is wrong with it.
        error: ProviderError,
    },
    /// A value out of bounds.
    #[error("{key}: {rule}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The organization's name, for people.
    pub organization: String,
    /// The folder with database and keys, mode 0700.
    pub data: PathBuf,
    /// Where clients and agents connect.
    pub listen: SocketAddr,
    /// The address they are told.
    pub public_url: Url,
    /// TLS, or none on loopback.
    pub tls: Tls,
    /// Whether links also come over QUIC, on the UDP port of the same number. Needs TLS.
    #[serde(default = "yes")]
    pub quic: bool,
    /// Where metrics and health are served, without TLS. Not at all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// Proxies whose `X-Forwarded-For` is believed.
    #[serde(default)]
    pub trusted_proxies: BTreeSet<IpAddr>,
    /// This server's name in logs and certificates.
    #[serde(default = "node")]
    pub node: String,
    /// How many hours a login lasts at most, however often its token is refreshed.
    #[serde(default = "day")]
    pub login_max_hours: u32,
    /// How many hours a session lasts at most.
    #[serde(default = "day")]
    pub session_max_hours: u32,
    /// After how many hours without a client a kept shell ends.
    #[serde(default = "week")]
    pub shell_idle_hours: u32,
    /// For how many seconds a new grant opens a session.
    #[serde(default = "grant_seconds")]
    pub grant_seconds: u32,
    /// After how many seconds without a link a target is offline.
    #[serde(default = "offline_seconds")]
    pub offline_seconds: u32,
    /// How many seconds running calls get when the server stops.
    #[serde(default = "drain_seconds")]
    pub drain_seconds: u32,
    /// For how many hours a person whose second factor is demanded may go on without one, from the first login on.
    #[serde(default = "day")]
    pub mfa_grace_hours: u32,
    /// What becomes of a session whose record cannot be written.
    #[serde(default)]
    pub on_record_failure: OnRecordFailure,
    /// For how many days events are kept; for ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_keep_days: Option<u32>,
    /// For how many days longer than that they are kept for a sink that did not take them yet.
    #[serde(default = "week_of_days")]
    pub sinks_wait_days: u32,
    /// A PEM file of roots for the identity providers, instead of the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_ca: Option<PathBuf>,
    /// Where the key sets of service accounts may be, as the trust bundle that this server gives away says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<JwksPattern>,
    /// The identity providers, as the trust bundle names them.
    #[serde(rename = "provider")]
    pub providers: Vec<Provider>,
    /// What clients tell them besides.
    #[serde(rename = "login", default, skip_serializing_if = "Vec::is_empty")]
    pub logins: Vec<ProviderLogin>,
    /// The directories that say who is in which group.
    #[serde(rename = "groups", default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<DirectoryConfig>,
    /// Where logs are sent.
    #[serde(rename = "sink", default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkSettings>,
}

/// What clients tell an identity provider besides what the trust bundle says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderLogin {
    /// The provider.
    pub issuer: String,
    /// See [`LoginSettings::client_secret`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// Scopes to ask for besides the usual ones.
    #[serde(default)]
    pub scopes: Vec<String>,
}

impl ProviderLogin {
    /// The same, for clients.
    #[must_use]
    pub fn settings(&self) -> LoginSettings {
        let Self { issuer, client_secret, scopes } = self.clone();
        LoginSettings { issuer, client_secret, scopes }
    }

    /// RFC 6749, appendices A.2 and A.4.
    fn is_well_formed(&self) -> bool {
        let visible = |byte: &u8| (0x20..=0x7e).contains(byte);
        let scope = |s: &String| {
            (1..=128).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
        };
        let secret = |s: &String| (1..=512).contains(&s.len()) && s.as_bytes().iter().all(visible);
        self.client_secret.as_ref().is_none_or(secret) && self.scopes.len() <= 16 && self.scopes.iter().all(scope)
    }
}

impl std::fmt::Debug for ProviderLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings().fmt(f)
    }
}

/// What becomes of a session whose record cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRecordFailure {
    /// It ends.
    #[default]
    End,
    /// It goes on, and the log says from when on it is not recorded.
    Continue,
}

/// How connections are protected on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "tls takes \"off\", { certificate, key }, or { acme, names, accept_terms }")]
pub enum Tls {
    /// Not at all; only on a loopback address.
    Off(Off),
    /// By a certificate from files.
    Files(TlsFiles),
    /// By a certificate that an authority gives for names.
    Acme(AcmeSettings),
}

/// The word `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    /// No TLS.
    Off,
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Config {
    /// Reads a file's text, and over it the settings of the environment.
    ///
    /// # Errors
    /// [`ConfigError`], naming what is wrong.
    pub fn parse(text: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut table: toml::Table =
            toml::from_str(text).map_err(|e| ConfigError::Malformed(e.message().to_owned()))?;
        for (name, value) in environment {
            if let Some(key) = name.strip_prefix(ENVIRONMENT) {
                table.insert(key.to_ascii_lowercase(), setting(&value));
            }
        }
        let config: Self =
            table.try_into().map_err(|e: toml::de::Error| ConfigError::Malformed(e.message().to_owned()))?;
        config.check()?;
        Ok(config)
    }

    /// Whether every value is in bounds.
    ///
    /// # Errors
    /// The first rule of [`ConfigError`] it breaks.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |holds: bool, key, rule| if holds { Ok(()) } else { Err(ConfigError::Value { key, rule }) };
        value(!self.providers.is_empty(), "provider", "name at least one identity provider")?;
        for provider in &self.providers {
            let issuer = provider.issuer.clone();
            provider.check().map_err(|error| ConfigError::Provider { issuer, error })?;
        }
        let rule = "takes https addresses whose path's segments may have a `*` for a part of them";
        value(self.service_accounts.iter().all(|pattern| pattern.check().is_ok()), "service_accounts", rule)?;
        for login in &self.logins {
            let known = self.providers.iter().any(|p| p.issuer == login.issuer);
            value(known, "login", "must name the issuer of a [[provider]], letter for letter")?;
            let rule = "takes a client_secret of up to 512 printable characters, and up to 16 scopes of up to 128 without spaces";
            value(login.is_well_formed(), "login", rule)?;
        }
        for (at, directory) in self.directories.iter().enumerate() {
            let provider = self.providers.iter().find(|provider| provider.issuer == directory.issuer);
            let rule = "must name the issuer of a [[provider]], letter for letter, each once";
            let again = self.directories.iter().skip(at + 1).any(|other| other.issuer == directory.issuer);
            let provider = provider.filter(|_| !again).ok_or(ConfigError::Value { key: "groups", rule })?;
            directory.check(provider).map_err(|rule| ConfigError::Value { key: "groups", rule })?;
        }
        self.check_sinks()?;
        let local = self.listen.ip().is_loopback();
        value(!matches!(self.tls, Tls::Off(_)) || local, "tls", "may be \"off\" only on a loopback address")?;
        if let Tls::Acme(settings) = &self.tls {
            settings.check(&self.public_url).map_err(|rule| ConfigError::Value { key: "tls", rule })?;
        }
        let local = self.metrics_listen.is_none_or(|a| a.ip().is_loopback());
        value(local, "metrics_listen", "must be a loopback address: it has neither TLS nor login")?;
        let scheme = matches!(self.public_url.scheme(), "https" | "http");
        value(scheme && self.public_url.query().is_none(), "public_url", "must be an http or https address")?;
        value((1..=720).contains(&self.login_max_hours), "login_max_hours", "must be 1 to 720")?;
        value((1..=168).contains(&self.session_max_hours), "session_max_hours", "must be 1 to 168")?;
        value((1..=2160).contains(&self.shell_idle_hours), "shell_idle_hours", "must be 1 to 2160")?;
        value((10..=900).contains(&self.grant_seconds), "grant_seconds", "must be 10 to 900")?;
        value((30..=3600).contains(&self.offline_seconds), "offline_seconds", "must be 30 to 3600")?;
        value(self.mfa_grace_hours <= 720, "mfa_grace_hours", "must be at most 720")?;
        value(self.drain_seconds <= 300, "drain_seconds", "must be at most 300")?;
        let kept = self.events_keep_days.is_none_or(|days| (1..=36_500).contains(&days));
        value(kept, "events_keep_days", "must be 1 to 36500")?;
        value(self.sinks_wait_days <= 365, "sinks_wait_days", "must be at most 365")?;
        let name = |text: &str| !text.trim().is_empty() && text.len() <= 100;
        value(name(&self.organization), "organization", "must be 1 to 100 bytes")?;
        value(name(&self.node), "node", "must be 1 to 100 bytes")
    }

    fn check_sinks(&self) -> Result<(), ConfigError> {
        let mut names = BTreeSet::new();
        for sink in &self.sinks {
            let refused = |rule| ConfigError::Sink { name: sink.name.clone(), rule };
            sink.check().map_err(refused)?;
            if !names.insert(&sink.name) || names.len() > sink::MOST {
                return Err(refused("is the second of its name, or the seventeenth"));
            }
        }
        Ok(())
    }

    /// How long a login lasts at most.
    #[must_use]
    pub fn login_max(&self) -> Duration {
        hours(self.login_max_hours)
    }

    /// How long a session lasts at most.
    #[must_use]
    pub fn session_max(&self) -> Duration {
        hours(self.session_max_hours)
    }

    /// For how long a second factor that is demanded may be missing.
    #[must_use]
    pub fn mfa_grace(&self) -> Duration {
        hours(self.mfa_grace_hours)
    }

    /// How long a shell is kept that no client is on.
    #[must_use]
    pub fn shell_idle(&self) -> Duration {
        hours(self.shell_idle_hours)
    }

    /// Until when a grant made now opens a session.
    #[must_use]
    pub fn grant_ends(&self, now: UnixTime) -> UnixTime {
        now.after(Duration::from_secs(self.grant_seconds.into()))
    }

    /// A file with every key, its default and what it does.
    #[must_use]
    pub const fn default_text() -> &'static str {
        include_str!("config/default.toml")
    }
}

/// Numbers, booleans, lists and tables as TOML; everything else is text.
fn setting(value: &str) -> toml::Value {
    let read = toml::from_str::<toml::Table>(&format!("x = {value}"));
    read.ok().and_then(|mut t| t.remove("x")).unwrap_or_else(|| toml::Value::String(value.to_owned()))
}

fn hours(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}

fn node() -> String {
    "main".to_owned()
}

const fn yes() -> bool {
    true
}

const fn day() -> u32 {
    24
}

const fn week() -> u32 {
    168
}

const fn week_of_days() -> u32 {
    7
}

const fn grant_seconds() -> u32 {
    300
}

const fn offline_seconds() -> u32 {
    120
}

const fn drain_seconds() -> u32 {
    10
}

#[cfg(test)]
mod tests;
