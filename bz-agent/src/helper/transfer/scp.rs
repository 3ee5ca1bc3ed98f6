//! The remote end of the old `scp`: lines that begin with a letter, answered by one byte each.
//!
//! ```text
//! T<changed> 0 <read> 0     times of the next entry
//! C<mode> <size> <name>     a file; its bytes and a zero byte follow
//! D<mode> 0 <name> … E      a directory, and what is in it
//! ```
//!
//! Names in such lines are single: one with a `/`, `.` or `..` ends the session, and so does a file that nobody asked
//! to come in its place.

mod give;
mod take;

use super::{CUT, Log, SOME_FAILED, Scp};
use bz_protocol::files::problem_of;
use bz_protocol::ssh::FileWay;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::os::unix::net::UnixStream;

/// The most bytes of a line.
const MAX_LINE: u64 = 8 << 10;
/// How deep a tree may be.
const MAX_DEPTH: usize = 128;
const CHUNK: usize = 64 << 10;

const FINE: u8 = 0;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Both ways to the other end.
struct Peer<'a> {
    reader: BufReader<&'a UnixStream>,
    writer: &'a UnixStream,
    /// Something was not copied.
    failed: bool,
}

/// Why it ends before its time.
enum Ended {
    /// The other end is gone, or has said that it goes.
    Cut,
    /// It does not speak as it should.
    Nonsense(&'static str),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Cut
    }
}

pub(super) fn serve<W: Write>(scp: &Scp, stream: &UnixStream, mut log: Log<W>) -> i32 {
    let mut peer = Peer { reader: BufReader::new(stream), writer: stream, failed: false };
    let ended = match scp.way {
        FileWay::ToTarget => take::take(scp, &mut peer, &mut log),
        FileWay::FromTarget => give::give(scp, &mut peer, &mut log),
    };
    match ended {
        Ok(()) if peer.failed => SOME_FAILED,
        Ok(()) => 0,
        Err(Ended::Cut) => CUT,
        Err(Ended::Nonsense(what)) => {
            // Whoever speaks so may not listen, either.
            peer.complain(FATAL, what.as_bytes()).unwrap_or_default();
            CUT
        }
    }
}

impl Peer<'_> {
    fn fine(&mut self) -> Result<(), Ended> {
        Ok(self.writer.write_all(&[FINE])?)
    }

    fn complain(&mut self, how: u8, what: &[u8]) -> io::Result<()> {
        self.failed = true;
        // One line, whatever a name has in it.
        let what: Vec<u8> = what.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }).collect();
        self.writer.write_all(&[&[how], b"scp: ".as_slice(), &what, b"\n"].concat())
    }

    fn warn(&mut self, path: &[u8], error: &io::Error) -> Result<(), Ended> {
        let why = problem_of(error).to_string();
        Ok(self.complain(WARNING, &[path, b": ", why.as_bytes()].concat())?)
    }

    /// The other end's answer: whether it goes on with this entry.
    fn answer(&mut self) -> Result<bool, Ended> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        match byte {
            [FINE] => Ok(true),
            [WARNING] => {
                self.failed = true;
                self.line().map(|_| false)
            }
            _ => Err(Ended::Cut),
        }
    }

    /// The next line without its end; `None` when there is no more.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Ended> {
        let mut line = Vec::new();
        (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) => Err(Ended::Nonsense("a line without an end")),
        }
    }
}
