//! Becoming the user, for good: groups, group, user, in that order, and then the proof that there
//! is no way back. Runs in the single-threaded helper only.

use crate::user::User;
use bincode::{Decode, Encode};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, geteuid, getgroups, getresgid, getresuid, setgid, setgroups, setuid};
use thiserror::Error;

/// The step at which a change of user stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SwitchStep {
    Groups,
    Group,
    User,
    /// The kernel reported success, and yet the process is not exactly that user.
    Verify,
}

#[derive(Debug, Clone, PartialEq, Eq, Error, Encode, Decode)]
#[error("becoming the user failed at {step:?}: {}", std::io::Error::from_raw_os_error(*.errno))]
pub struct SwitchError {
    pub step: SwitchStep,
    pub errno: i32,
}

pub(super) fn become_user(user: &User) -> Result<(), SwitchError> {
    let privileged = geteuid().is_root();
    if privileged {
        let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(at(SwitchStep::Groups))?;
        setgid(user.primary()).map_err(at(SwitchStep::Group))?;
        setuid(user.owner()).map_err(at(SwitchStep::User))?;
        let mut held: Vec<_> = getgroups().map_err(at(SwitchStep::Verify))?.into_iter().map(Gid::as_raw).collect();
        held.sort_unstable();
        verify(held == user.groups)?;
        let gid = getresgid().map_err(at(SwitchStep::Verify))?;
        verify([gid.real, gid.effective, gid.saved] == [user.primary(); 3])?;
    }
    let uid = getresuid().map_err(at(SwitchStep::Verify))?;
    verify([uid.real, uid.effective, uid.saved] == [user.owner(); 3])?;
    verify(user.uid == 0 || setuid(Uid::from_raw(0)).is_err())
}

const fn verify(holds: bool) -> Result<(), SwitchError> {
    if holds { Ok(()) } else { Err(SwitchError { step: SwitchStep::Verify, errno: Errno::EPERM as i32 }) }
}

fn at(step: SwitchStep) -> impl Fn(Errno) -> SwitchError {
    move |errno| SwitchError { step, errno: errno as i32 }
}
