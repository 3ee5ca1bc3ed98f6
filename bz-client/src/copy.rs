//! Copies of files between this machine and a target.
//!
//! The target's end works as the target user. This end runs on a thread of its own, with the rights of this process; it
//! is bound to its destination whatever the target's end says.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bz_core::access::request::{CopyRequest, CopyWay, MAX_PATH, Parameters, is_file_name};
use bz_protocol::client::{Action, Event};
use bz_protocol::files::{Destination, Source};
use bz_protocol::frame::Fin;
use bz_protocol::session::End as SessionEnd;
use tokio::sync::{mpsc, oneshot};

use crate::client::{AskError, Asked, Client};
use crate::session::{Actions, Session, SessionError};
use crate::target_name::TargetName;

pub use bz_protocol::copy::{Copied, Problem, Summary};
pub use bz_protocol::files::{End, Interrupted, Report};

/// Pieces of the stream on their way to the thread.
const UNDER_WAY: usize = 4;

/// What to copy, between which paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copying {
    /// On this machine.
    pub local: PathBuf,
    /// On the target; from the target user's home unless it begins with `/`.
    pub remote: Vec<u8>,
    /// Which way.
    pub way: Way,
    /// Whether it may be a directory.
    pub recursive: bool,
    /// Whether modes and times are kept.
    pub preserve: bool,
}

/// Which way files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From this machine to the target.
    ToTarget,
    /// From the target to this machine.
    FromTarget,
}

/// Why nothing was copied, or not all.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no connection.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// There is no session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The session ended before the copy did.
    #[error("{0}")]
    Ended(SessionEnd),
    /// The target's end broke the rules of a copy.
    #[error(transparent)]
    Interrupted(Interrupted),
    /// It was stopped from here.
    #[error("stopped before its end")]
    Stopped,
    /// The thread that does it is gone.
    #[error("the copy's thread ended")]
    Thread,
}

impl Copying {
    fn request(&self) -> CopyRequest {
        let way = match self.way {
            Way::ToTarget => CopyWay::ToTarget { name: own_name(&self.local) },
            Way::FromTarget => CopyWay::FromTarget,
        };
        CopyRequest { way, path: self.remote.clone(), recursive: self.recursive, preserve: self.preserve }
    }

    /// What the copy is called where it goes into a directory: by this end's own reading, never by the target's word.
    fn name_here(&self) -> Vec<u8> {
        let path = self.remote.strip_suffix(b"/").unwrap_or(&self.remote);
        let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let named = is_file_name(last) && last != b"~";
        if named { last.to_vec() } else { Vec::new() }
    }
}

/// The last name of a path; nothing for `.`, `..` and `/`.
fn own_name(path: &Path) -> Vec<u8> {
    // A trailing `/.` is dropped by the standard library, and means the directory's content here as it does to `cp`.
    let bytes = path.as_os_str().as_bytes();
    if bytes.ends_with(b"/.") {
        return Vec::new();
    }
    path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default()
}

impl Client {
    /// Copies; every step is told to `report`, on another thread. What merely could not be copied is counted in the
    /// summary and does not end the copy.
    ///
    /// # Errors
    /// [`CopyError`]; what was copied by then is there, and a copy that is started again goes on with a large file
    /// where this one was cut.
    pub async fn copy(
        &self,
        target: &TargetName,
        copying: &Copying,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Result<Summary, CopyError> {
        let asked = self.ask_copy(target, copying).await?;
        self.copy_on(asked, copying, report, std::future::pending()).await
    }

    /// Asks for the connection of a copy.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask_copy(&self, target: &TargetName, copying: &Copying) -> Result<Asked, AskError> {
        self.ask(target, Parameters::Copy(copying.request()), None).await
    }

    /// Copies on a connection that was asked for, until `stop` ends.
    ///
    /// # Errors
    /// [`CopyError`].
    pub async fn copy_on(
        &self,
        asked: Asked,
        copying: &Copying,
        report: impl Fn(Report) + Send + Sync + 'static,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<Summary, CopyError> {
        let mut session = self.session(asked).await?;
        let (pieces, from_session) = mpsc::channel(UNDER_WAY);
        let streams = (FromSession { pieces: from_session, piece: Vec::new(), at: 0 }, ToSession(session.actions()));
        let (copying, report) = (copying.clone(), Arc::new(report));
        let (over, is_over) = oneshot::channel();
        let work = tokio::task::spawn_blocking(move || {
            let copied = work(&copying, streams, &*report);
            // Nobody waits for it when the session ended first.
            over.send(copied.is_ok()).unwrap_or_default();
            copied
        });
        let ended = tokio::select! {
            ended = pump(&mut session, pieces, is_over) => Some(ended),
            () = stop => None,
        };
        if ended.is_none() {
            // A session that has ended meanwhile needs no end.
            session.actions().act(Action::Finish(Fin::Closed)).await.unwrap_or_default();
            finish(&mut session).await;
        }
        let copied = work.await.map_err(|_| CopyError::Thread)?;
        // Both must be whole: the thread's work, and the end that the agent signed.
        match (ended, copied) {
            (None, _) => Err(CopyError::Stopped),
            (Some(SessionEnd::Completed(Fin::Exited(_))), Ok(summary)) => Ok(summary),
            (Some(end), Ok(_) | Err(Interrupted::Cut | Interrupted::Stream(_))) => Err(CopyError::Ended(end)),
            (Some(_), Err(interrupted)) => Err(CopyError::Interrupted(interrupted)),
        }
    }
}

/// Gives the thread what comes, until the session ends. A thread that ends before its time ends the session.
async fn pump(
    session: &mut Session,
    pieces: mpsc::Sender<Vec<u8>>,
    mut is_over: oneshot::Receiver<bool>,
) -> SessionEnd {
    let (mut pieces, mut working) = (Some(pieces), true);
    loop {
        let event = tokio::select! {
            event = session.next() => event,
            whole = &mut is_over, if working => {
                working = false;
                if whole != Ok(true) {
                    session.actions().act(Action::Finish(Fin::Closed)).await.unwrap_or_default();
                }
                continue;
            }
        };
        match event {
            Some(Event::Bytes { stream: 0, bytes }) => {
                // What comes after the thread's end is for nobody.
                if let Some(open) = &pieces
                    && open.send(bytes).await.is_err()
                {
                    pieces = None;
                }
            }
            Some(Event::Eof { stream: 0 }) => pieces = None,
            Some(Event::Ended(end)) => return end,
            Some(
                Event::Bytes { .. }
                | Event::Eof { .. }
                | Event::Opened(_)
                | Event::Notice(_)
                | Event::Answered { .. }
                | Event::Reset { .. }
                | Event::Resumed,
            ) => {}
            None => return SessionEnd::Lost,
        }
    }
}

/// Until the target's end has answered.
async fn finish(session: &mut Session) {
    let answered = async { while !matches!(session.next().await, None | Some(Event::Ended(_))) {} };
    // The end was said; whether its answer comes is not worth a longer wait.
    if tokio::time::timeout(std::time::Duration::from_secs(3), answered).await.is_err() {
        tracing::debug!("no answer to the end of a copy");
    }
}

fn work(
    copying: &Copying,
    streams: (FromSession, ToSession),
    report: &(dyn Fn(Report) + Sync),
) -> Result<Summary, Interrupted> {
    match copying.way {
        Way::ToTarget => {
            let source = Source { path: &copying.local, recursive: copying.recursive, tell_root: false };
            bz_protocol::files::give(&source, streams, report)
        }
        Way::FromTarget => {
            let destination = Destination {
                path: &copying.local,
                name: &copying.name_here(),
                recursive: copying.recursive,
                preserve: copying.preserve,
                tell_root: false,
            };
            bz_protocol::files::take(&destination, streams, report)
        }
    }
}

/// The session's bytes as a stream that blocks; it ends when nobody feeds it.
struct FromSession {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for FromSession {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.piece.len() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let count = self.piece.get(self.at..).unwrap_or_default().read(buffer)?;
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}

/// The session as a stream to write to; waits while the other end must first take what was sent.
struct ToSession(Actions);

impl Write for ToSession {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let action = Action::Bytes { stream: 0, bytes: bytes.to_vec() };
        self.0.act_blocking(action).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    /// Flushed is what the other end waits for, and what says that a file was taken: it is signed without delay.
    fn flush(&mut self) -> io::Result<()> {
        self.0.act_blocking(Action::Sign).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A side of a copy as people write it: a path here, or `[user@]target:path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// Here.
    Local(PathBuf),
    /// On a target.
    Remote {
        /// Which, and as whom.
        target: TargetName,
        /// Where; the home when nothing follows the colon.
        path: Vec<u8>,
    },
}

/// Why a text names no side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseSideError {
    /// What stands before the colon.
    #[error("{0}")]
    Target(#[from] crate::target_name::ParseTargetNameError),
    /// Nothing, or too long.
    #[error("a path is 1 to {MAX_PATH} bytes")]
    Path,
}

impl Side {
    /// As `scp` reads it: a colon before any slash ends a target's name, and `./a:b` is a path.
    ///
    /// # Errors
    /// [`ParseSideError`].
    pub fn parse(text: &std::ffi::OsStr) -> Result<Self, ParseSideError> {
        let bytes = text.as_bytes();
        let end = bytes.iter().position(|byte| matches!(byte, b':' | b'/')).filter(|at| bytes.get(*at) == Some(&b':'));
        let (side, path) = match end.and_then(|at| bytes.split_at_checked(at)) {
            Some((target, rest)) => {
                let target = std::str::from_utf8(target).map_err(|_| crate::target_name::ParseTargetNameError::Name)?;
                let path = rest.strip_prefix(b":").unwrap_or_default();
                let path = if path.is_empty() { b".".to_vec() } else { path.to_vec() };
                (Some(target.parse()?), path)
            }
            None => (None, bytes.to_vec()),
        };
        if path.is_empty() || path.len() > MAX_PATH {
            return Err(ParseSideError::Path);
        }
        Ok(match side {
            Some(target) => Self::Remote { target, path },
            None => Self::Local(PathBuf::from(text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name is this end's own reading: a target that is asked for a report cannot give a start-up file.
    #[test]
    fn what_is_copied_keeps_the_name_it_was_asked_for_by() {
        let name = |remote: &[u8]| {
            let (local, remote) = (PathBuf::from("."), remote.to_vec());
            Copying { local, remote, way: Way::FromTarget, recursive: true, preserve: true }.name_here()
        };
        for (remote, want) in [
            (b"report.txt".as_slice(), b"report.txt".as_slice()),
            (b"/var/log/", b"log"),
            (b"~/in\xff", b"in\xff"),
            (b".", b""),
            (b"~", b""),
            (b"/", b""),
            (b"a/..", b""),
            (b"a/.", b""),
        ] {
            assert_eq!(name(remote), want, "{}", String::from_utf8_lossy(remote));
        }
        for (local, want) in [("a/b", "b"), ("a/", "a"), ("/", ""), (".", ""), ("a/.", ""), ("..", "")] {
            assert_eq!(own_name(Path::new(local)), want.as_bytes(), "{local}");
        }
    }

    #[test]
    fn a_side_is_read_as_scp_reads_it() {
        let check = |text: &str, want: Option<(&str, &str)>| {
            let got = Side::parse(text.as_ref()).unwrap();
            let got = match &got {
                Side::Local(_) => None,
                Side::Remote { target, path } => Some((target.to_string(), String::from_utf8(path.clone()).unwrap())),
            };
            assert_eq!(got, want.map(|(target, path)| (target.to_owned(), path.to_owned())), "{text}");
        };
        check("alice@web1.production:/etc/x:y", Some(("alice@web1.production", "/etc/x:y")));
        check("web1:", Some(("web1", ".")));
        check("./a:b", None);
        check("/a:b", None);
        check("a", None);
        for bad in ["", ":x", "a b@web:x"] {
            assert!(Side::parse(bad.as_ref()).is_err(), "{bad}");
        }
        assert!(Side::parse(format!("web:{}", "x".repeat(MAX_PATH + 1)).as_ref()).is_err());
    }
}
