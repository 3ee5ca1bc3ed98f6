//! Directories of identity providers: who is in which group, asked over their own APIs, to be read and nothing else.
//!
//! One person at a time is asked about, and no more than whether the account is active and in which of a few groups it
//! is. Whatever is not a whole, well-formed answer of bounded size is an error, and an error never says that somebody is
//! in a group.
//!
//! Absent: how long an answer counts, and for what.

pub mod access;
pub mod google;
pub mod http;
pub mod keycloak;
pub mod microsoft;
pub mod okta;
pub mod onelogin;

use std::time::Duration;

use futures::future::BoxFuture;

/// The most groups that one answer may have.
pub const MOST_GROUPS: usize = 10_000;
/// The most pages of one answer.
pub(crate) const MOST_PAGES: usize = 200;
/// The most bytes of a group's id or name.
const MOST_TEXT: usize = 512;

/// A group, as its directory knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
}

/// How somebody stands in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// In these of the groups that were asked about.
    Active(Vec<String>),
    /// Deactivated, suspended or deleted.
    Deactivated,
}

/// Why a directory did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Not reached, or not in time.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It does not let this program read.
    #[error("it refuses access (status {0}): check the secret, and which read permissions it has")]
    Refused(u16),
    /// It asks for patience.
    #[error("it has no time: asked again in {} seconds", .0.as_secs())]
    Busy(Duration),
    /// It fails.
    #[error("it answers with status {0}")]
    Status(u16),
    /// It answers with what is no answer.
    #[error("it answers with {0}")]
    Malformed(&'static str),
    /// This program cannot ask.
    #[error("it cannot be asked: {0}")]
    Unable(&'static str),
}

/// A directory. Reads, and nothing else.
pub trait Directory: Send + Sync {
    /// All groups there are, for who authors a policy.
    fn groups(&self) -> BoxFuture<'_, Result<Vec<Group>, DirectoryError>>;

    /// The groups of one person.
    fn groups_of<'a>(&'a self, person: &'a str) -> BoxFuture<'a, Result<Vec<Group>, DirectoryError>>;

    /// Whether a person's account is active, and in which of these groups it is.
    fn account<'a>(&'a self, person: &'a str, groups: &'a [String]) -> BoxFuture<'a, Result<Account, DirectoryError>>;
}

/// A group, when its texts are of a size that groups have.
pub(crate) fn group(id: String, name: String) -> Result<Group, DirectoryError> {
    let fits = |text: &str| !text.is_empty() && text.len() <= MOST_TEXT;
    if fits(&id) && fits(&name) {
        Ok(Group { id, name })
    } else {
        Err(DirectoryError::Malformed("a group without an id or name of reasonable size"))
    }
}

/// Those of `asked` that are among `found`.
pub(crate) fn among(asked: &[String], found: &[Group]) -> Vec<String> {
    asked.iter().filter(|id| found.iter().any(|group| group.id == **id)).cloned().collect()
}

/// Whether this can stand in a path as the id of something: policies may name whatever they like.
pub(crate) fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_@.+".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(plain) && id.bytes().any(|byte| byte != b'.')
}
