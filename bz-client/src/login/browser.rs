//! The seam to the person's browser.

use std::fmt;
use std::pin::Pin;

use url::Url;

/// What [`Browser::open`] gives.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Option<Url>, BrowserFailed>> + Send + 'a>>;

/// Brings the provider's page before the person.
///
/// The login waits for the provider's redirect on a loopback port while this runs. `Ok(None)` means that the page was
/// shown and the redirect will come there; `Ok(Some(url))` is the redirect itself, pasted by a person whose browser is
/// elsewhere, or walked to by a program.
pub trait Browser: fmt::Debug + Send + Sync {
    /// Opens the page.
    fn open<'a>(&'a self, url: &'a Url) -> Opening<'a>;
}

/// The page could not be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the login page could not be shown: {0}")]
pub struct BrowserFailed(pub String);
