//! The role that copies files: it becomes the user, and what it may read and write is then the
//! kernel's to say. Its one socket brings its orders, takes the outcome of the change of user, and
//! then carries the copy both ways.
//!
//! It executes nothing: the file of this program may be one that the user cannot reach.

use super::launch::{self, LaunchError, Reply, settle};
use crate::frame;
use crate::user::User;
use bincode::{Decode, Encode};
use bz_core::access::request::{CopyRequest, CopyWay};
use bz_protocol::copy::Summary;
use bz_protocol::files::{Destination, Source};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The exit status of a copy of which something failed, and of one that was cut.
pub(crate) const SOME_FAILED: i32 = 1;
pub(crate) const CUT: i32 = 2;

/// Where a path begins that is named from the user's home.
const HOME: &[u8] = b"~/";

/// What to copy, and as whom.
#[derive(Debug, Encode, Decode)]
pub(crate) struct Orders {
    pub(crate) version: u16,
    pub(crate) user: User,
    /// The agent: the copy ends with it.
    pub(crate) agent: u32,
    pub(crate) copy: CopyRequest,
}

pub(super) fn run() -> i32 {
    let Ok(mut stream) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return CUT;
    };
    let reply = begin(&mut stream);
    let (told, orders) = match reply {
        Ok(orders) => (frame::write_blocking(&mut stream, &Reply::Ready), Some(orders)),
        Err(failure) => (frame::write_blocking(&mut stream, &Reply::Failed(failure)), None),
    };
    match (told, orders) {
        (Ok(()), Some(orders)) => copy(&orders.copy, &stream),
        _ => CUT,
    }
}

fn begin(stream: &mut UnixStream) -> Result<Orders, LaunchError> {
    let orders: Orders = frame::read_blocking(stream).map_err(|_| LaunchError::Request)?;
    if orders.version != launch::VERSION {
        return Err(LaunchError::Version);
    }
    settle(&orders.user, orders.agent)?;
    Ok(orders)
}

fn copy(copy: &CopyRequest, stream: &UnixStream) -> i32 {
    let path = path(&copy.path);
    let quiet = |_| ();
    let copied = match &copy.way {
        CopyWay::FromTarget => {
            let source = Source { path: &path, recursive: copy.recursive, tell_root: true };
            bz_protocol::files::give(&source, (stream, stream), &quiet)
        }
        CopyWay::ToTarget { name } => {
            let destination =
                Destination { path: &path, name, recursive: copy.recursive, preserve: copy.preserve, tell_root: true };
            bz_protocol::files::take(&destination, (stream, stream), &quiet)
        }
    };
    match copied {
        Ok(Summary { failed: 0, .. }) => 0,
        Ok(_) => SOME_FAILED,
        Err(_) => CUT,
    }
}

/// The path as a person means it: `~` and `~/` are the home, where this process is.
fn path(bytes: &[u8]) -> PathBuf {
    let rest = if bytes == b"~" { b"." } else { bytes.strip_prefix(HOME).unwrap_or(bytes) };
    let rest = if rest.is_empty() { b"./" } else { rest };
    Path::new(OsStr::from_bytes(rest)).to_owned()
}
