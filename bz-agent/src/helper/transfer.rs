//! The role that serves `sftp` and `scp`: it becomes the user, and what it may read and write is then the kernel's to
//! say. Its one socket brings its orders, takes the outcome of the change of user, and then carries the person's side of
//! the protocol; what became of files is said on standard output, to the agent.
//!
//! It executes nothing, whatever it is told.

mod scp;
mod sftp;
mod tracked;

use super::launch::{self, LaunchError, Reply, settle};
use crate::frame;
use crate::user::User;
use bincode::{Decode, Encode};
use bz_protocol::ssh::{FileWay, SshFile};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// The exit status when something failed, and when the other end was cut or spoke nonsense.
const SOME_FAILED: i32 = 1;
const CUT: i32 = 2;

/// What to serve, and as whom.
#[derive(Debug, Encode, Decode)]
pub(crate) struct Orders {
    pub(crate) version: u16,
    pub(crate) user: User,
    /// The agent: the helper ends with it.
    pub(crate) agent: u32,
    pub(crate) service: Service,
}

/// What is served.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Service {
    /// The subsystem of that name.
    Sftp,
    /// The remote end of the old `scp`.
    Scp(Scp),
}

/// What an old `scp` asks of its remote end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Scp {
    /// `-t` or `-f`.
    pub(crate) way: FileWay,
    pub(crate) recursive: bool,
    /// Modes and times, too.
    pub(crate) preserve: bool,
    /// The destination must be a directory.
    pub(crate) directory: bool,
    pub(crate) path: Vec<u8>,
}

/// Where the file log goes. One that nobody reads any more ends the service with the agent.
pub(super) struct Log<W>(pub(super) W);

impl<W: Write> Log<W> {
    pub(super) fn file(&mut self, file: &SshFile) {
        // An agent that is gone takes this process with it.
        drop(frame::write_blocking(&mut self.0, file).and_then(|()| Ok(self.0.flush()?)));
    }
}

pub(super) fn run() -> i32 {
    let Ok(mut stream) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return CUT;
    };
    let (told, service) = match begin(&mut stream) {
        Ok(service) => (frame::write_blocking(&mut stream, &Reply::Ready), Some(service)),
        Err(failure) => (frame::write_blocking(&mut stream, &Reply::Failed(failure)), None),
    };
    let log = Log(std::io::stdout());
    match (told, service) {
        (Ok(()), Some(Service::Sftp)) => sftp::serve(&stream, log),
        (Ok(()), Some(Service::Scp(scp))) => scp::serve(&scp, &stream, log),
        _ => CUT,
    }
}

fn begin(stream: &mut UnixStream) -> Result<Service, LaunchError> {
    let orders: Orders = frame::read_blocking(stream).map_err(|_| LaunchError::Request)?;
    if orders.version != launch::VERSION {
        return Err(LaunchError::Version);
    }
    settle(&orders.user, orders.agent)?;
    Ok(orders.service)
}
