//! Reads the host owner's local policy from its file, and believes it only when nobody else could have written it.
//!
//! The file and every folder on the way to it must belong to root or to the agent's own user, and nobody else may write
//! them; a folder where everybody may write counts as safe only with the sticky bit, which keeps each entry its
//! owner's. A symbolic link is followed: what it stands in is safe then, so it says what its owner means, and the way it
//! names is checked the same. A link to nothing is no absent file: somebody meant a policy, so everything is refused.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use bz_core::local::{LocalPolicy, LocalPolicyError, MAX_POLICY};
use bz_protocol::gate::LocalRule;
use rustix::process::geteuid;

use crate::file;

/// Links on the way to one file.
const MAX_LINKS: usize = 16;

/// Why a policy file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The operating system says no.
    #[error("{path} cannot be read: {cause}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Its words.
        cause: io::Error,
    },
    /// Somebody else's.
    #[error("{path} belongs to user id {owner}: run `chown root {path}`")]
    Owner {
        /// Which file or folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others may write it.
    #[error("others may write {0}: run `chmod go-w {0}` and look at what is in it")]
    Writable(PathBuf),
    /// Neither a file nor a way to one.
    #[error("{0} is not a regular file")]
    Kind(PathBuf),
    /// A link that leads nowhere, or round and round.
    #[error("the link {0} does not lead to a file")]
    Link(PathBuf),
    /// Not text.
    #[error("{0} is not text")]
    Text(PathBuf),
    /// The content.
    #[error("{path}: {cause}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        cause: LocalPolicyError,
    },
}

/// The rule that this file makes. `required` is what the agent was registered with.
#[must_use]
pub fn rule(path: &Path, required: bool) -> LocalRule {
    match read(path) {
        Ok(Some(policy)) => LocalRule::Policy(policy),
        Ok(None) if required => LocalRule::RefuseAll(format!(
            "there is no local policy at {}, and this agent was registered as one that needs it",
            path.display()
        )),
        Ok(None) => LocalRule::Unrestricted,
        Err(error) => LocalRule::RefuseAll(format!("the local policy is not believed: {error}")),
    }
}

/// The policy in this file; `None` when there is no such file.
///
/// # Errors
/// [`PolicyFileError`]; the caller then refuses everything.
pub fn read(path: &Path) -> Result<Option<LocalPolicy>, PolicyFileError> {
    let Some(found) = find(path)? else { return Ok(None) };
    let io = |cause| PolicyFileError::Io { path: found.clone(), cause };
    let opened = file::open(OpenOptions::new().read(true), &found).map_err(io)?;
    let metadata = opened.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(PolicyFileError::Kind(found));
    }
    check(&found, &metadata)?;
    let mut bytes = Vec::new();
    opened.take(MAX_POLICY as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    let text = String::from_utf8(bytes).map_err(|_| PolicyFileError::Text(found.clone()))?;
    LocalPolicy::parse(&text).map(Some).map_err(|cause| PolicyFileError::Content { path: found, cause })
}

/// Walks to the file from the root, checking each step before the next one rests on it.
fn find(path: &Path) -> Result<Option<PathBuf>, PolicyFileError> {
    let path = std::path::absolute(path).map_err(|cause| PolicyFileError::Io { path: path.to_owned(), cause })?;
    let (mut at, mut ahead) = (PathBuf::from("/"), steps(&path));
    // How many links were followed, and how many of the steps ahead a link named.
    let (mut links, mut named) = (0, 0_usize);
    check(&at, &metadata(&at)?.ok_or_else(|| PolicyFileError::Kind(at.clone()))?)?;
    while let Some(step) = ahead.pop_front() {
        let by_link = named > 0;
        named = named.saturating_sub(1);
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        let Some(found) = metadata(&next)? else {
            return if by_link { Err(PolicyFileError::Link(path)) } else { Ok(None) };
        };
        if found.is_symlink() {
            links += 1;
            owned(&next, &found)?;
            let to = fs::read_link(&next).map_err(|cause| PolicyFileError::Io { path: next.clone(), cause })?;
            if links > MAX_LINKS {
                return Err(PolicyFileError::Link(path));
            }
            if to.is_absolute() {
                at = PathBuf::from("/");
            }
            let to = steps(&to);
            named = named.saturating_add(to.len());
            ahead = to.into_iter().chain(ahead).collect();
            continue;
        }
        check(&next, &found)?;
        if !ahead.is_empty() && !found.is_dir() {
            return Err(PolicyFileError::Kind(next));
        }
        at = next;
    }
    Ok(Some(at))
}

fn steps(path: &Path) -> VecDeque<OsString> {
    let named = |c: &Component<'_>| matches!(c, Component::Normal(_) | Component::ParentDir);
    path.components().filter(named).map(|c| c.as_os_str().to_owned()).collect()
}

fn metadata(path: &Path) -> Result<Option<Metadata>, PolicyFileError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(PolicyFileError::Io { path: path.to_owned(), cause }),
    }
}

fn owned(path: &Path, found: &Metadata) -> Result<(), PolicyFileError> {
    let owner = found.uid();
    if owner == 0 || owner == geteuid().as_raw() {
        Ok(())
    } else {
        Err(PolicyFileError::Owner { path: path.to_owned(), owner })
    }
}

fn check(path: &Path, found: &Metadata) -> Result<(), PolicyFileError> {
    owned(path, found)?;
    let sticky = found.is_dir() && found.mode() & 0o1000 != 0;
    if found.mode() & 0o022 != 0 && !sticky { Err(PolicyFileError::Writable(path.to_owned())) } else { Ok(()) }
}
