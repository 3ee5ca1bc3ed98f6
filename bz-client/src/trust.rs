//! Where the trust bundle comes from: by value, from the administrator's file, or from the server at first use.

use std::path::Path;

use bz_core::digest::Digest;
use bz_core::oidc::provider::{Commitment, Provider};
use bz_core::trust::{BundleError, TrustBundle};

use crate::file::{self, FileError};
use crate::rest::{Rest, RestError};
use crate::server::Server;

/// The anchors a client goes by, and how it came to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    bundle: TrustBundle,
    source: TrustSource,
}

/// How a bundle came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustSource {
    /// The caller vouches for it: it is the administrator's.
    Given,
    /// The server sent it, and was believed this once.
    FirstUse,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no such file.
    #[error("there is no trust bundle at {0}: ask your administrator for the file")]
    Absent(std::path::PathBuf),
    /// Not a bundle.
    #[error("{0}; ask your administrator for the bundle's file")]
    Bundle(#[from] BundleError),
    /// The server gave none.
    #[error("the server gives no trust bundle: {0}")]
    Server(#[from] RestError),
    /// No provider fits a login of a person.
    #[error("the trust bundle names no identity provider that people log in at")]
    NoProvider,
    /// Several do.
    #[error("name the identity provider to log in at, one of: {}", .0.join(", "))]
    SeveralProviders(Vec<String>),
}

impl Trust {
    /// A bundle that the caller vouches for.
    ///
    /// # Errors
    /// [`TrustError::Bundle`] when a part of it cannot be pinned.
    pub fn given(bundle: TrustBundle) -> Result<Self, TrustError> {
        bundle.check()?;
        Ok(Self { bundle, source: TrustSource::Given })
    }

    /// The administrator's file.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn from_file(path: &Path) -> Result<Self, TrustError> {
        let text = file::read(path)?.ok_or_else(|| TrustError::Absent(path.to_owned()))?;
        Self::given(TrustBundle::parse(&text)?)
    }

    /// Takes the bundle from the server itself: trust on first use. Whoever calls this shows [`Trust::fingerprint`] to
    /// the person and keeps the bundle, so that it happens once.
    ///
    /// # Errors
    /// [`TrustError`].
    pub async fn first_use(server: &Server) -> Result<Self, TrustError> {
        let (text, _) = Rest::new(server)?.trust_bundle().await?;
        Ok(Self { bundle: TrustBundle::parse(&text.bundle)?, source: TrustSource::FirstUse })
    }

    /// The same anchors, known from elsewhere: for a profile that wrote down how it came to them.
    #[must_use]
    pub const fn with_source(mut self, source: TrustSource) -> Self {
        self.source = source;
        self
    }

    /// The anchors.
    #[must_use]
    pub const fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// How they came here.
    #[must_use]
    pub const fn source(&self) -> TrustSource {
        self.source
    }

    /// What people compare.
    ///
    /// # Errors
    /// [`TrustError::Bundle`] for a bundle that no file could hold.
    pub fn fingerprint(&self) -> Result<Digest, TrustError> {
        Ok(self.bundle.fingerprint()?)
    }

    /// The provider that a person logs in at: the one with this issuer, or the only one.
    ///
    /// # Errors
    /// [`TrustError::NoProvider`] or [`TrustError::SeveralProviders`].
    pub fn login_provider(&self, issuer: Option<&str>) -> Result<&Provider, TrustError> {
        let people = self.bundle.providers.iter().filter(|provider| provider.commitment == Commitment::Nonce);
        let fitting: Vec<&Provider> = people.filter(|p| issuer.is_none_or(|issuer| p.issuer == issuer)).collect();
        match fitting.as_slice() {
            [] => Err(TrustError::NoProvider),
            [one] => Ok(one),
            several => Err(TrustError::SeveralProviders(several.iter().map(|p| p.issuer.clone()).collect())),
        }
    }
}
