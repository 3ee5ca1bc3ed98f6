//! The settings of a directory: which, where, and where its secret is. Secrets themselves are read once, at the start,
//! and are in no settings.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bz_core::oidc::provider::{Provider, ProviderKind};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::config::ENVIRONMENT;

/// The most bytes of a secret: Google's key file fits.
const MAX_SECRET: usize = 16 << 10;

/// One `[[groups]]` of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// The provider.
    pub issuer: String,
    /// What kind of directory; the provider's own kind when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ProviderKind>,
    /// Where its API is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Url>,
    /// Where access to it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<Url>,
    /// This server's client id there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The id of the key that signs for the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// In whose name a service account reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Which customer's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// The file of the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Or its variable in the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
    /// The file of the event hook's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_secret_file: Option<PathBuf>,
    /// Or its variable in the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_secret_env: Option<String>,
}

/// Why a directory of the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the directory of {issuer}: {why}")]
pub struct SourceError {
    /// The provider.
    pub issuer: String,
    /// What is wrong.
    pub why: String,
}

impl DirectoryConfig {
    /// What kind of directory it is.
    #[must_use]
    pub fn kind(&self, provider: &Provider) -> ProviderKind {
        self.kind.unwrap_or(provider.kind)
    }

    /// Whether it can be asked about this provider's people.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn check(&self, provider: &Provider) -> Result<(), &'static str> {
        let rule = |holds: bool, rule| if holds { Ok(()) } else { Err(rule) };
        let kind = self.kind(provider);
        rule(kind != ProviderKind::Oidc, "needs a kind: google, microsoft, okta, onelogin or keycloak")?;
        let fits = kind == provider.kind || (provider.kind == ProviderKind::Oidc && kind != ProviderKind::Microsoft);
        rule(fits, "must be of the provider's kind: others know its people by other ids")?;
        rule(self.api.iter().chain(&self.token_url).all(is_safe), "takes https addresses (http only on loopback)")?;
        let one = "takes secret_file or secret_env, one of them";
        rule(self.secret_file.is_some() != self.secret_env.is_some(), one)?;
        let one = "takes hook_secret_file or hook_secret_env, not both";
        rule(self.hook_secret_file.is_none() || self.hook_secret_env.is_none(), one)?;
        let hook = self.hook_secret_file.is_some() || self.hook_secret_env.is_some();
        rule(!hook || kind == ProviderKind::Okta, "takes the secret of an event hook for okta alone")?;
        let plain = |name: &String| !name.is_empty() && !name.starts_with(ENVIRONMENT);
        let named = "takes names of variables that do not begin with BZ_SERVER_";
        rule(self.secret_env.iter().chain(&self.hook_secret_env).all(plain), named)?;
        match kind {
            ProviderKind::Google => rule(self.subject.is_some(), "needs the subject that the service account reads as"),
            ProviderKind::Microsoft | ProviderKind::Onelogin | ProviderKind::Keycloak => {
                rule(self.client_id.is_some(), "needs a client_id")
            }
            ProviderKind::Okta | ProviderKind::Oidc => Ok(()),
            ProviderKind::Github | ProviderKind::Circleci => rule(false, "is for people: jobs are in no group"),
        }
    }

    /// The secret.
    ///
    /// # Errors
    /// [`SourceError`], which says everything but the secret.
    pub fn secret(&self) -> Result<Zeroizing<String>, SourceError> {
        let missing = || self.error("no secret is named");
        self.read(self.secret_file.as_deref(), self.secret_env.as_deref())?.ok_or_else(missing)
    }

    /// What the event hook sends, where there is one.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn hook_secret(&self) -> Result<Option<Zeroizing<String>>, SourceError> {
        let secret = self.read(self.hook_secret_file.as_deref(), self.hook_secret_env.as_deref())?;
        // Whoever knows it ends sessions: it must not be guessed.
        match secret {
            Some(secret) if secret.len() < 20 => Err(self.error("the hook's secret must have at least 20 characters")),
            other => Ok(other),
        }
    }

    /// What is wrong with it.
    pub fn error(&self, why: impl std::fmt::Display) -> SourceError {
        SourceError { issuer: self.issuer.clone(), why: why.to_string() }
    }

    fn read(&self, file: Option<&Path>, variable: Option<&str>) -> Result<Option<Zeroizing<String>>, SourceError> {
        let text = match (file, variable) {
            (Some(file), _) => self.read_file(file)?,
            (None, Some(name)) => {
                let unset = |_| self.error(format!("the variable {name} is not set, or is no text"));
                Zeroizing::new(std::env::var(name).map_err(unset)?)
            }
            (None, None) => return Ok(None),
        };
        let secret = Zeroizing::new(text.trim().to_owned());
        if secret.is_empty() || secret.len() > MAX_SECRET {
            return Err(self.error("a secret has 1 byte to 16 KiB"));
        }
        Ok(Some(secret))
    }

    fn read_file(&self, path: &Path) -> Result<Zeroizing<String>, SourceError> {
        let failed = |error: std::io::Error| self.error(format!("{}: {error}", path.display()));
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(self.error(format!("{} can be read by others: chmod 0600 it", path.display())));
        }
        Ok(Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?))
    }
}

/// Whether a secret may be sent there.
pub(crate) fn is_safe(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    plain && (url.scheme() == "https" || (url.scheme() == "http" && loopback))
}
