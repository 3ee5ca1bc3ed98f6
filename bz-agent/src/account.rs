//! Whether there is a user of exactly this name, and its entry. Absent: whether anybody may be that user.

use nix::errno::Errno;
use nix::unistd::User;

/// The entry of the user of exactly this name. May block on a directory service.
pub(crate) fn find(name: &str) -> Result<Option<User>, Errno> {
    let found = User::from_name(name)?;
    // A directory that answers to another spelling, a number or an alias has not found this name.
    Ok(found.filter(|entry| entry.name == name && !name.is_empty()))
}
