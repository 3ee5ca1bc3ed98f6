//! The trust bundle: what agents, clients and `bz verify` pin.
//!
//! Made by an administrator outside the server, as one TOML file. Everything that decides who may act hangs on it, so
//! it is checked whole when read, and nothing in it may mean "anyone".

use std::borrow::Cow;

use bincode::{Decode, Encode};

use crate::cert::BzCert;
use crate::digest::{Digest, Label};
use crate::id::{OrganizationId, TargetId};
use crate::key::PublicKey;
use crate::oidc::provider::{Provider, ProviderError};
use crate::oidc::service::{self, AddressError, JwksPattern};
use crate::signed::{Object, ObjectError, Signed};
use crate::time::UnixTime;
use crate::wire;

/// The most bytes a bundle file may have.
pub const MAX_BUNDLE: usize = 64 << 10;

/// Why a bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Larger than [`MAX_BUNDLE`].
    #[error("the trust bundle is larger than 64 KiB")]
    TooLarge,
    /// Not the TOML of a bundle.
    #[error("the trust bundle is malformed: {0}")]
    Malformed(String),
    /// No provider or no root.
    #[error("the trust bundle names no {0}")]
    Missing(&'static str),
    /// A provider that cannot be pinned.
    #[error("the trust bundle's provider {issuer}: {error}")]
    Provider {
        /// Which one.
        issuer: String,
        /// What is wrong with it.
        error: ProviderError,
    },
    /// A pattern of service accounts that cannot be pinned.
    #[error("the trust bundle's service account {pattern}: {error}")]
    ServiceAccount {
        /// Which one.
        pattern: String,
        /// What is wrong with it.
        error: AddressError,
    },
}

/// An organization's anchors.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundle {
    /// The organization.
    pub organization: OrganizationId,
    /// The server's root keys. Several while one follows another.
    pub roots: Vec<PublicKey>,
    /// The key, kept off the server, that signs directory entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_key: Option<PublicKey>,
    /// Where the key sets of service accounts may be; none is one when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<JwksPattern>,
    /// The identity providers.
    #[serde(rename = "provider")]
    pub providers: Vec<Provider>,
}

impl TrustBundle {
    /// Reads a bundle file.
    ///
    /// # Errors
    /// [`BundleError`], naming what is wrong.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        if text.len() > MAX_BUNDLE {
            return Err(BundleError::TooLarge);
        }
        let bundle: Self = toml::from_str(text).map_err(|e| BundleError::Malformed(e.message().to_owned()))?;
        bundle.check()?;
        Ok(bundle)
    }

    /// The bundle as a file's text, fingerprint first.
    ///
    /// # Errors
    /// [`BundleError`] when it could not be read back.
    pub fn to_text(&self) -> Result<String, BundleError> {
        self.check()?;
        let body = toml::to_string(self).map_err(|e| BundleError::Malformed(e.to_string()))?;
        Ok(format!("# Trust bundle. Fingerprint {}\n{body}", self.fingerprint()?))
    }

    /// Whether every part can be pinned.
    ///
    /// # Errors
    /// The first rule of [`BundleError`] it breaks.
    pub fn check(&self) -> Result<(), BundleError> {
        if self.roots.is_empty() {
            return Err(BundleError::Missing("server root key"));
        }
        if self.providers.is_empty() {
            return Err(BundleError::Missing("identity provider"));
        }
        for pattern in &self.service_accounts {
            let named = |error| BundleError::ServiceAccount { pattern: pattern.0.clone(), error };
            pattern.check().map_err(named)?;
        }
        self.providers
            .iter()
            .try_for_each(|p| p.check().map_err(|error| BundleError::Provider { issuer: p.issuer.clone(), error }))
    }

    /// What people compare: a digest of the bundle's content, whatever its file looks like.
    ///
    /// # Errors
    /// [`BundleError::TooLarge`] for a bundle that no file could hold.
    pub fn fingerprint(&self) -> Result<Digest, BundleError> {
        let too_large = |_| BundleError::TooLarge;
        let content = (self.organization, &self.roots, &self.directory_key, &self.providers);
        let bytes = wire::encode(&content, wire::MAX_OBJECT).map_err(too_large)?;
        let workloads: Vec<_> = self.providers.iter().map(|provider| &provider.workloads).collect();
        let claims: Vec<_> = self.providers.iter().map(|provider| provider.groups_claim.as_deref()).collect();
        let more = workloads.iter().any(|rows| !rows.is_empty()) || claims.iter().any(Option::is_some);
        if self.service_accounts.is_empty() && !more {
            return Ok(Digest::labelled(Label::TrustBundle, &[&bytes]));
        }
        // Parts of their own, so that a bundle without them is called as it was before there were any.
        let accounts = wire::encode(&self.service_accounts, wire::MAX_OBJECT).map_err(too_large)?;
        if !more {
            return Ok(Digest::labelled(Label::TrustBundle, &[&bytes, &accounts]));
        }
        let (workloads, claims) = (wire::encode(&workloads, MAX_BUNDLE), wire::encode(&claims, wire::MAX_OBJECT));
        let (workloads, claims) = (workloads.map_err(too_large)?, claims.map_err(too_large)?);
        Ok(Digest::labelled(Label::TrustBundle, &[&bytes, &accounts, &workloads, &claims]))
    }

    /// The pinned provider of a certificate, found by what it claims: of one issuer people and jobs are two.
    #[must_use]
    pub fn provider_of(&self, certificate: &[u8]) -> Option<Cow<'_, Provider>> {
        let issuer = BzCert::claimed_issuer(certificate)?;
        if service::address(&issuer).is_some() {
            return self.provider(&issuer);
        }
        let commitment = BzCert::claimed_commitment(certificate)?;
        let found = self.providers.iter().find(|p| p.issuer == issuer && p.commitment == commitment);
        found.map(Cow::Borrowed)
    }

    /// The pinned provider with this issuer, or the service account that a pinned pattern means.
    #[must_use]
    pub fn provider(&self, issuer: &str) -> Option<Cow<'_, Provider>> {
        if let Some(address) = service::address(issuer) {
            let pinned = self.service_accounts.iter().any(|pattern| pattern.means(address));
            return pinned.then(|| Cow::Owned(service::provider(self.organization, address)));
        }
        self.providers.iter().find(|p| p.issuer == issuer).map(Cow::Borrowed)
    }
}

/// A directory entry: which agent key is behind a name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DirectoryEntry {
    /// The target.
    pub target: TargetId,
    /// Its name.
    pub name: String,
    /// Its agent's identity key.
    pub agent_key: PublicKey,
    /// Where it is, for targets behind an agent; empty otherwise.
    pub address: String,
    /// Rises with each entry for one name.
    pub serial: u64,
    /// When it ends.
    pub expires_at: UnixTime,
}

impl Object for DirectoryEntry {
    const LABEL: Label = Label::DirectoryEntry;
    const VERSION: u16 = 1;
    const LIMIT: usize = 2048;
}

impl DirectoryEntry {
    /// The entry, when the bundle's directory key signed it and it has not ended.
    ///
    /// # Errors
    /// [`ObjectError`]; an entry past its end, or any entry where no directory key is pinned, is
    /// [`ObjectError::Signature`].
    pub fn verify(signed: &Signed<Self>, bundle: &TrustBundle, now: UnixTime) -> Result<Self, ObjectError> {
        let key = bundle.directory_key.ok_or(ObjectError::Signature)?;
        let entry = signed.open(&key, bundle.organization)?;
        if now < entry.expires_at { Ok(entry) } else { Err(ObjectError::Signature) }
    }
}

#[cfg(test)]
mod tests;
