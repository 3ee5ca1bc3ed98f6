//! A peer that keeps no rule gets nothing outside the destination, and nothing that was not asked for.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink as make_link;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use bz_core::digest::Digest;
use bz_protocol::copy::{Copied, Message, OutOfTurn, Problem};
use bz_protocol::files::{Destination, Interrupted, Report, give};

use crate::files::stage::{
    LARGE, content, copy, destination, directory, done, file, hear, names, next, raw, source, symlink, whole,
};

/// A place with something outside it that must stay as it is.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/secret"), b"untouched").unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        Self(folder)
    }

    fn inside(&self) -> std::path::PathBuf {
        self.0.path().join("in")
    }

    fn outside(&self) -> std::path::PathBuf {
        self.0.path().join("outside")
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(names(&self.outside()), ["secret"]);
        assert_eq!(fs::read(self.outside().join("secret")).unwrap(), b"untouched");
        assert_eq!(names(self.0.path()), ["in", "outside"]);
    }
}

/// PR-COPY-3: what was asked for is named by who asked.
#[test]
fn a_name_is_one_name() {
    let place = Place::new();
    for name in [b"..".as_slice(), b".", b"../outside/secret", b"/etc/x", b"a/b", b"a\0b", b""] {
        for message in [file(name, 0), directory(name), symlink(name, Path::new("x"))] {
            let heard = hear(&destination(&place.inside(), b"t"), &[directory(b""), message.clone()]);
            assert!(
                matches!(heard, Err(Interrupted::Malformed(_) | Interrupted::OutOfTurn(_))),
                "{message:?}: {heard:?}"
            );
        }
        // What was asked for is named by who asked.
        if !name.is_empty() {
            let heard = hear(&destination(&place.inside(), b"t"), &[file(name, 0)]);
            assert!(matches!(heard, Err(Interrupted::Malformed(_) | Interrupted::OutOfTurn(_))), "{heard:?}");
        }
    }
    let named = hear(&destination(&place.inside(), b"t"), &[file(b".bashrc", 0)]);
    assert!(matches!(named, Err(Interrupted::OutOfTurn(OutOfTurn::Name))), "{named:?}");
    assert_eq!(names(&place.inside()), ["t"]);
    place.is_untouched();
}

/// PR-COPY-3: neither a link that the giver makes nor one that was there.
#[test]
fn no_link_leads_out() {
    let place = Place::new();
    let outside = place.outside();
    // Made by the peer, and then gone through.
    let link = [directory(b""), symlink(b"out", &outside)];
    let into = [directory(b"out")].into_iter().chain(whole(b"out/secret", b"stolen")).chain([Message::Leave]);
    let heard = hear(
        &destination(&place.inside(), b"one"),
        &link.iter().cloned().chain(into).chain([Message::Leave, done()]).collect::<Vec<_>>(),
    );
    assert_eq!(heard.unwrap().failed, 1);
    // Made by the peer, and then written to: the link is replaced.
    let over = link.iter().cloned().chain(whole(b"out", b"a file")).chain([Message::Leave, done()]).collect::<Vec<_>>();
    assert_eq!(hear(&destination(&place.inside(), b"two"), &over).unwrap().failed, 0);
    assert!(place.inside().join("two/out").symlink_metadata().unwrap().is_file());
    // There before.
    fs::create_dir(place.inside().join("three")).unwrap();
    make_link(&outside, place.inside().join("three/out")).unwrap();
    let before = [directory(b""), directory(b"out")].into_iter().chain(whole(b"out/secret", b"stolen"));
    let before = before.chain([Message::Leave, Message::Leave, done()]).collect::<Vec<_>>();
    assert_eq!(hear(&destination(&place.inside(), b"three"), &before).unwrap().failed, 1);
    // In place of what was asked for.
    make_link(outside.join("secret"), place.inside().join("four")).unwrap();
    let over = whole(b"", b"a file").into_iter().chain([done()]).collect::<Vec<_>>();
    assert_eq!(hear(&destination(&place.inside(), b"four"), &over).unwrap().failed, 0);
    place.is_untouched();
}

#[test]
fn a_directory_that_was_not_asked_for_is_not_taken() {
    let place = Place::new();
    let inside = place.inside();
    let once = Destination { recursive: false, ..destination(&inside, b"t") };
    let heard = hear(&once, &[directory(b""), Message::Leave, done()]);
    assert!(matches!(heard, Err(Interrupted::OutOfTurn(OutOfTurn::Kind))), "{heard:?}");
    assert_eq!(names(&place.inside()), [""; 0]);
}

/// PR-COPY-4: nor anything shorter or longer than it was to be.
#[test]
fn what_arrived_damaged_is_not_put_in_its_place() {
    let place = Place::new();
    fs::write(place.inside().join("t"), b"old").unwrap();
    let copied = Copied { path: vec![], size: 2, digest: Digest::of(b"xx") };
    let lie = [file(b"", 2), Message::Data(b"xy".to_vec()), Message::Copied(copied), done()];
    assert_eq!(hear(&destination(&place.inside(), b"t"), &lie).unwrap().failed, 1);
    assert_eq!(
        (names(&place.inside()), fs::read(place.inside().join("t")).unwrap()),
        (vec!["t".into()], b"old".to_vec())
    );
    // More than was announced.
    let more = [file(b"", 1), Message::Data(b"xy".to_vec())];
    let heard = hear(&destination(&place.inside(), b"t"), &more);
    assert!(matches!(heard, Err(Interrupted::OutOfTurn(OutOfTurn::Bytes))), "{heard:?}");
    assert_eq!(names(&place.inside()), ["t"]);
}

/// Somebody who may write in the same directory knows what a file on its way will be called.
#[test]
fn nothing_that_was_planted_is_written_to() {
    type Plant<'a> = &'a dyn Fn(&Path, &Path);
    let size = LARGE + 10;
    let plants: [(&str, Plant<'_>); 4] = [
        ("a link", &|plant, secret| make_link(secret, plant).unwrap()),
        ("the same file under another name", &|plant, secret| fs::hard_link(secret, plant).unwrap()),
        ("a pipe", &|plant, _| {
            assert!(std::process::Command::new("mkfifo").arg(plant).status().unwrap().success());
        }),
        ("a link to nothing", &|plant, _| make_link("/absent/x", plant).unwrap()),
    ];
    for (what, plant) in plants {
        let place = Place::new();
        let from = place.outside().join("secret");
        let to = place.inside();
        // Which name that is, is seen where a copy of the same file is cut.
        let begun = [file(b"", size as u64), Message::Place { offset: 0 }, Message::Data(vec![1; 9])];
        hear(&destination(&to, b"t"), &begun).unwrap_err();
        let name = names(&to).pop().expect("a file that was cut stays");
        fs::remove_file(to.join(&name)).unwrap();
        plant(&to.join(&name), &from);
        let bytes = content(size);
        let mut messages = vec![file(b"", size as u64), Message::Place { offset: 0 }];
        messages.extend(bytes.chunks(30_000).map(|chunk| Message::Data(chunk.to_vec())));
        messages.push(Message::Copied(Copied { path: vec![], size: size as u64, digest: Digest::of(&bytes) }));
        messages.push(done());
        assert_eq!(hear(&destination(&to, b"t"), &messages).unwrap().failed, 0, "{what}");
        assert_eq!((fs::read(to.join("t")).unwrap() == bytes, names(&to)), (true, vec!["t".to_owned()]), "{what}");
        place.is_untouched();
    }
}

#[test]
fn a_taker_that_lies_gets_the_file_from_its_beginning_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    let bytes = content(LARGE + 5);
    fs::write(&from, &bytes).unwrap();
    for (held, digest, offset) in [
        (10, Digest::of(b"something else"), 0),
        (u64::MAX, Digest::of(b""), 0),
        (10, Digest::of(&bytes[..10]), 10),
        (bytes.len() as u64, Digest::of(&bytes), bytes.len() as u64),
    ] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| give(&source(&from), (&theirs, &theirs), &|_| ()).unwrap());
            assert!(matches!(next(&mut ours), Message::File { .. }));
            ours.write_all(&raw(&Message::Held { bytes: held, digest })).unwrap();
            assert_eq!(next(&mut ours), Message::Place { offset });
            let mut got = bytes[..usize::try_from(offset).unwrap()].to_vec();
            let last = loop {
                let message = next(&mut ours);
                let Message::Data(more) = message else { break message };
                got.extend(more);
            };
            assert_eq!(
                last,
                Message::Copied(Copied { path: vec![], size: bytes.len() as u64, digest: Digest::of(&got) })
            );
            assert!(got == bytes && matches!(next(&mut ours), Message::Done(_)));
            ours.write_all(&raw(&done())).unwrap();
        });
    }
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let given = thread::scope(|scope| {
        let giver = scope.spawn(|| give(&source(&from), (&theirs, &theirs), &|_| ()));
        ours.write_all(&raw(&file(b"", 5))).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        giver.join().unwrap()
    });
    assert!(matches!(given, Err(Interrupted::OutOfTurn(OutOfTurn::Kind))), "{given:?}");
}

#[test]
fn a_file_that_shrinks_under_the_giver_is_no_file_at_the_taker() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, content(8 << 20)).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (failed, summary) = thread::scope(|scope| {
        let failed = std::sync::Mutex::new(Vec::new());
        let taker = scope.spawn(|| bz_protocol::files::take(&destination(&to, b""), (&theirs, &theirs), &|_| ()));
        let cut = |report: Report| {
            if let Report::Failed { problem, .. } = report {
                failed.lock().unwrap().push(problem);
            } else if let Report::Bytes(_) = report {
                // It begins; far more of it is left than the streams hold.
                File::options().write(true).open(&from).unwrap().set_len(1 << 20).unwrap();
            }
        };
        give(&source(&from), (&ours, &ours), &cut).unwrap();
        let summary = taker.join().unwrap().unwrap();
        (failed.into_inner().unwrap(), summary)
    });
    assert_eq!((failed, summary.failed, names(folder.path())), (vec![Problem::Changed], 1, vec!["from".to_owned()]));
}

#[test]
fn a_partial_of_another_copy_is_not_copied_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join(".bz-0123456789abcdef.partial"), b"x").unwrap();
    fs::write(from.join(".bz-notes.partial"), b"x").unwrap();
    assert_eq!(copy(&from, &to).summary.files, 1);
    assert_eq!(names(&to), [".bz-notes.partial"]);
}
