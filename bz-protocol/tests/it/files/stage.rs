//! Two ends joined by sockets, and one end alone with a peer that says what a test wants.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use bz_core::digest::Digest;
use bz_protocol::copy::{Copied, Facts, MAX_MESSAGE, Message, Problem, Summary, length};
use bz_protocol::files::{Destination, End, Interrupted, Report, Source, give, take};

/// The least that a later copy goes on with: [`bz_protocol::copy::RESUME_FROM`].
pub(crate) const LARGE: usize = 1 << 20;
pub(crate) const FACTS: Facts = Facts { mode: 0o644, seconds: 1_000_000_000, nanos: 123_456_789 };

/// What a copy did, as its taker tells it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) summary: Summary,
    pub(crate) reports: Vec<Report>,
}

impl Done {
    /// What failed, sorted.
    pub(crate) fn failed(&self) -> Vec<(String, Problem, End)> {
        let mut failed: Vec<_> = self
            .reports
            .iter()
            .filter_map(|report| {
                let Report::Failed { path, problem, at } = report else { return None };
                Some((String::from_utf8_lossy(path).into_owned(), *problem, *at))
            })
            .collect();
        failed.sort_by(|one, other| one.0.cmp(&other.0));
        failed
    }

    /// Bytes that went over.
    pub(crate) fn bytes(&self) -> u64 {
        self.reports.iter().map(|report| if let Report::Bytes(bytes) = report { *bytes } else { 0 }).sum()
    }
}

pub(crate) fn source(path: &Path) -> Source<'_> {
    Source { path, recursive: true, tell_root: false }
}

pub(crate) fn destination<'a>(path: &'a Path, name: &'a [u8]) -> Destination<'a> {
    Destination { path, name, recursive: true, preserve: true, tell_root: false }
}

/// Copies one path to another between two ends that are both ours.
pub(crate) fn copy(from: &Path, to: &Path) -> Done {
    let name = from.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
    copy_with(&source(from), &destination(to, &name))
}

pub(crate) fn copy_with(source: &Source<'_>, destination: &Destination<'_>) -> Done {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let reports = Mutex::new(Vec::new());
    let report = |report| reports.lock().unwrap().push(report);
    let (given, taken) = thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let taken = take(destination, (&theirs, &theirs), &report);
            theirs.shutdown(std::net::Shutdown::Both).unwrap_or_default();
            taken
        });
        let given = give(source, (&ours, &ours), &|_| ());
        ours.shutdown(std::net::Shutdown::Both).unwrap_or_default();
        (given, taker.join().unwrap())
    });
    let (given, summary) = (given.unwrap(), taken.unwrap());
    assert_eq!(given, summary, "both ends count alike");
    Done { summary, reports: reports.into_inner().unwrap() }
}

/// A taker that hears these messages and then the end of its stream.
pub(crate) fn hear(destination: &Destination<'_>, messages: &[Message]) -> Result<Summary, Interrupted> {
    let (mut ours, theirs) = pair();
    thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let taken = take(destination, (&theirs, &theirs), &|_| ());
            theirs.shutdown(std::net::Shutdown::Both).unwrap_or_default();
            taken
        });
        for message in messages {
            // A taker that had enough hears no more.
            if ours.write_all(&raw(message)).is_err() {
                break;
            }
        }
        ours.shutdown(std::net::Shutdown::Write).unwrap_or_default();
        taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// A message as a peer may send it that keeps no rule but that of the encoding.
pub(crate) fn raw(message: &Message) -> Vec<u8> {
    let body = bz_core::wire::encode(message, MAX_MESSAGE).unwrap();
    [u32::try_from(body.len()).unwrap().to_be_bytes().as_slice(), &body].concat()
}

pub(crate) fn next(stream: &mut UnixStream) -> Message {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).unwrap();
    let mut body = vec![0; length(prefix).unwrap()];
    stream.read_exact(&mut body).unwrap();
    Message::decode(&body).unwrap()
}

pub(crate) fn file(name: &[u8], size: u64) -> Message {
    Message::File { name: name.to_vec(), facts: FACTS, size }
}

pub(crate) fn directory(name: &[u8]) -> Message {
    Message::Directory { name: name.to_vec(), facts: Facts { mode: 0o755, ..FACTS } }
}

pub(crate) fn symlink(name: &[u8], to: &Path) -> Message {
    Message::Symlink { name: name.to_vec(), to: to.as_os_str().as_bytes().to_vec() }
}

/// A small file whole.
pub(crate) fn whole(path: &[u8], content: &[u8]) -> [Message; 3] {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap();
    let size = content.len() as u64;
    let copied = Copied { path: path.to_vec(), size, digest: Digest::of(content) };
    [file(name, size), Message::Data(content.to_vec()), Message::Copied(copied)]
}

pub(crate) fn done() -> Message {
    Message::Done(Summary::default())
}

/// Everything below a path: what it is, its mode, its time, and its content.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        // Joined to nothing a path ends in a slash, which a file has none of.
        let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(&path) };
        let found = full.symlink_metadata().unwrap();
        let time = (found.mtime(), found.mtime_nsec());
        let mode = found.permissions().mode() & 0o7777;
        let what = if found.is_symlink() {
            format!("link to {:?}", full.read_link().unwrap())
        } else if found.is_dir() {
            let entries = std::fs::read_dir(&full).unwrap();
            todo.extend(entries.map(|entry| path.join(entry.unwrap().file_name())));
            format!("directory {mode:o} {time:?}")
        } else {
            format!("file {mode:o} {time:?} {}", Digest::of(&std::fs::read(&full).unwrap()))
        };
        all.insert(path, what);
    }
    all
}

/// The names in a directory.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| String::from_utf8_lossy(entry.unwrap().file_name().as_bytes()).into_owned())
        .collect();
    names.sort();
    names
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn odd(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Content that no two places of are alike.
pub(crate) fn content(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}
