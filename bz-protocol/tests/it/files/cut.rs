//! A copy that was cut goes on where it was, when it is the same file and what is there is its beginning.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use bz_protocol::copy::{Message, Problem, RESUME_FROM};
use bz_protocol::files::{End, Interrupted, give, take};

use crate::files::stage::{LARGE, content, copy, destination, file, names, next, raw, source};

/// Copies so much of a file and no more; the name of what stays.
fn cut(from: &Path, to: &Path, after: usize) -> Vec<String> {
    let (ours, mut middle) = UnixStream::pair().unwrap();
    let (mut other, theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let giver = scope.spawn(|| give(&source(from), (&ours, &ours), &|_| ()));
        let taker = scope.spawn(|| {
            let taken = take(&destination(to, b""), (&theirs, &theirs), &|_| ());
            theirs.shutdown(std::net::Shutdown::Both).unwrap();
            taken
        });
        let mut gone = 0;
        while gone < after {
            let message = next(&mut middle);
            if let Message::Data(bytes) = &message {
                gone += bytes.len();
            }
            other.write_all(&raw(&message)).unwrap();
            if matches!(message, Message::File { size, .. } if size >= RESUME_FROM) {
                middle.write_all(&raw(&next(&mut other))).unwrap();
            }
        }
        for end in [&middle, &other] {
            end.shutdown(std::net::Shutdown::Both).unwrap();
        }
        assert!(matches!(giver.join().unwrap(), Err(Interrupted::Cut)));
        assert!(matches!(taker.join().unwrap(), Err(Interrupted::Cut)));
    });
    let mut left = names(to.parent().unwrap());
    left.retain(|name| name.ends_with(".partial"));
    assert!(!to.exists(), "a part is never seen under the whole's name");
    left
}

const SIZE: usize = 4 << 20;
const _: () = assert!(LARGE as u64 == RESUME_FROM);

struct Place {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Place {
    fn new(size: usize) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), bytes: content(size) };
        fs::write(place.at("from"), &place.bytes).unwrap();
        place
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Copies it all; how many bytes that took.
    #[track_caller]
    fn copies(&self) -> u64 {
        let done = copy(&self.at("from"), &self.at("to"));
        assert_eq!(done.failed(), []);
        assert!(fs::read(self.at("to")).unwrap() == fs::read(self.at("from")).unwrap());
        done.bytes()
    }
}

#[test]
fn a_large_file_goes_on_where_it_was_cut() {
    let place = Place::new(SIZE);
    let part = cut(&place.at("from"), &place.at("to"), 3 << 20).pop().expect("a large file that was cut stays");
    let held = place.at(&part).metadata().unwrap().len();
    assert!(held >= 3 << 20, "{held} bytes stay");
    assert_eq!(place.copies(), SIZE as u64 - held);
    assert_eq!(names(place.folder.path()), ["from", "to"]);
}

/// PR-COPY-4: a digest decides.
#[test]
fn what_is_not_its_beginning_is_not_gone_on_with() {
    let place = Place::new(SIZE);
    let part = cut(&place.at("from"), &place.at("to"), 3 << 20).pop().unwrap();
    File::options().write(true).open(place.at(&part)).unwrap().write_all_at(b"!", 5).unwrap();
    assert_eq!(place.copies(), SIZE as u64);
}

#[test]
fn another_file_of_the_name_is_begun_anew() {
    let place = Place::new(SIZE);
    let part = cut(&place.at("from"), &place.at("to"), 3 << 20).pop().unwrap();
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    File::open(place.at("from")).unwrap().set_modified(later).unwrap();
    assert_eq!(place.copies(), SIZE as u64);
    assert_eq!(names(place.folder.path()), [part.as_str(), "from", "to"]);
}

#[test]
fn of_a_small_file_nothing_stays() {
    let place = Place::new(LARGE - 1);
    assert_eq!(cut(&place.at("from"), &place.at("to"), 500_000), [""; 0]);
}

#[test]
fn two_copies_of_one_file_do_not_mix() {
    let place = Place::new(SIZE);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let to = place.at("to");
    thread::scope(|scope| {
        let taker = scope.spawn(|| take(&destination(&to, b""), (&theirs, &theirs), &|_| ()));
        let facts = place.at("from").metadata().unwrap();
        let facts = bz_protocol::copy::Facts {
            mode: 0o644,
            seconds: std::os::unix::fs::MetadataExt::mtime(&facts),
            nanos: u32::try_from(std::os::unix::fs::MetadataExt::mtime_nsec(&facts)).unwrap(),
        };
        assert!(matches!(file(b"", SIZE as u64), Message::File { .. }));
        ours.write_all(&raw(&Message::File { name: vec![], facts, size: SIZE as u64 })).unwrap();
        assert!(matches!(next(&mut ours), Message::Held { bytes: 0, .. }), "the first has it");
        let done = copy(&place.at("from"), &to);
        assert_eq!(done.failed(), [(String::new(), Problem::Busy, End::Here)]);
        ours.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(taker.join().unwrap().is_err());
    });
    assert_eq!(place.copies(), SIZE as u64);
}
