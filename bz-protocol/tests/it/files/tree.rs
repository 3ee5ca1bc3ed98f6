//! What arrives: names, kinds, modes, times, and where it goes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use bz_protocol::copy::{MAX_DEPTH, Problem, Summary};
use bz_protocol::files::End;

use crate::files::stage::{content, copy, copy_with, destination, names, odd, set_mode, source, tree};

/// F-178~: a tree arrives as it is, whatever its names are, and goes where `cp -r` would put it.
#[test]
fn a_tree_arrives_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    make(&from);
    let to = folder.path().join("to");
    let done = copy(&from, &to);
    assert_eq!(tree(&from), tree(&to));
    let want = Summary { files: 6, directories: 3, links: 3, bytes: 12 + 1_500_001, failed: 0 };
    assert_eq!((done.summary, done.failed()), (want, vec![]));
    // Now it exists, and the copy goes into it.
    copy(&from, &to);
    assert_eq!(tree(&from), tree(&to.join("from")));
    // Over itself: files and links are replaced, directories are gone into.
    fs::write(from.join("a b"), b"newer").unwrap();
    let below = "sub\nline";
    for root in [&from, &to.join("from")] {
        set_mode(&root.join(below), 0o750);
    }
    fs::remove_file(to.join("from/absolute")).unwrap();
    fs::write(to.join("from/absolute"), b"a file where a link comes").unwrap();
    copy(&from, &to);
    let mut want = tree(&from);
    let mut got = tree(&to.join("from"));
    // What existed keeps its own time.
    for all in [&mut want, &mut got] {
        all.remove(Path::new(""));
        all.remove(Path::new(below));
    }
    assert_eq!(want, got);
}

fn make(from: &Path) {
    fs::create_dir_all(from.join("empty directory")).unwrap();
    fs::create_dir(from.join("sub\nline")).unwrap();
    fs::write(from.join("a b"), b"spaces\n").unwrap();
    fs::write(from.join("grüße"), b"utf-8").unwrap();
    fs::write(from.join(odd(b"\xff\xfe not utf-8")), b"").unwrap();
    fs::write(from.join("sub\nline/run"), b"").unwrap();
    fs::write(from.join("sub\nline/-rf"), b"").unwrap();
    fs::write(from.join("large"), content(1_500_001)).unwrap();
    symlink("a b", from.join("link")).unwrap();
    symlink("/etc/passwd", from.join("absolute")).unwrap();
    symlink("nowhere", from.join("sub\nline/dangling")).unwrap();
    set_mode(&from.join("a b"), 0o600);
    set_mode(&from.join("sub\nline/run"), 0o755);
    set_mode(&from.join("grüße"), 0o444);
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 987_654_321);
    for name in ["large", "empty directory", "sub\nline"] {
        File::open(from.join(name)).unwrap().set_modified(time).unwrap();
    }
    set_mode(&from.join("sub\nline"), 0o550);
}

#[test]
fn set_user_id_is_never_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, b"#!/bin/sh\n").unwrap();
    set_mode(&from, 0o6755);
    copy(&from, &to);
    assert_eq!(to.metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn without_preserving_it_is_as_newly_made() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("file"), b"x").unwrap();
    set_mode(&from.join("file"), 0o477);
    set_mode(&from, 0o577);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    for path in [from.join("file"), from.clone()] {
        File::open(path).unwrap().set_modified(old).unwrap();
    }
    copy_with(&source(&from), &bz_protocol::files::Destination { preserve: false, ..destination(&to, b"") });
    // What the mask leaves of it: a file that `cp` makes is the measure.
    let measure = folder.path().join("measure");
    assert!(Command::new("cp").arg("-r").args([&from, &measure]).status().unwrap().success());
    for name in ["file", "."] {
        let (got, want) = (to.join(name).metadata().unwrap(), measure.join(name).metadata().unwrap());
        assert_eq!(got.mode(), want.mode(), "{name}");
        assert!(got.modified().unwrap() > old + Duration::from_secs(1), "{name}");
    }
}

#[test]
fn where_it_goes_is_where_cp_puts_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("file"), b"one").unwrap();
    fs::write(at("other"), b"two").unwrap();
    symlink("other", at("link")).unwrap();
    let check = |from: &str, to: &str, arrives: Result<&str, Problem>| {
        let done = copy(&at(from), &at(to));
        match arrives {
            Ok(path) => assert_eq!((tree(&at(from)), done.failed()), (tree(&at(path)), vec![]), "{from} to {to}"),
            Err(problem) => {
                assert_eq!(done.failed(), [(String::new(), problem, End::Here)], "{from} to {to}");
                assert_eq!(done.summary.failed, 1);
            }
        }
    };
    check("file", "new", Ok("new"));
    check("file", "dir", Ok("dir/file"));
    check("file", "dir/", Ok("dir/file"));
    check("dir", "copy/", Ok("copy"));
    check("file", "other", Ok("other"));
    check("file", "absent/x", Err(Problem::NotFound));
    check("file", "absent/", Err(Problem::NotDirectory));
    check("dir", "file", Err(Problem::InTheWay));
    check("file", "file/x", Err(Problem::NotDirectory));
    // A directory of that name is there already.
    fs::create_dir(at("dir2")).unwrap();
    fs::create_dir(at("dir2/file")).unwrap();
    check("file", "dir2", Err(Problem::InTheWay));
    // What was named is followed where it is given, and replaced where it is taken.
    copy(&at("link"), &at("followed"));
    assert!(at("followed").symlink_metadata().unwrap().is_file());
    fs::write(at("other"), b"two").unwrap();
    copy(&at("file"), &at("link"));
    assert!(at("link").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read(at("other")).unwrap(), b"two", "a link in the way is not written through");
}

#[test]
fn what_is_no_file_is_named_and_never_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("file"), b"x").unwrap();
    let _socket = UnixListener::bind(from.join("socket")).unwrap();
    // Whoever opens it waits for its other end.
    assert!(Command::new("mkfifo").arg(from.join("pipe")).status().unwrap().success());
    let done = copy(&from, &to);
    let special = |name: &str| (name.to_owned(), Problem::Special, End::There);
    assert_eq!(done.failed(), [special("pipe"), special("socket")]);
    assert_eq!((names(&to), done.summary.files), (vec!["file".to_owned()], 1));
    let done = copy(Path::new("/dev/zero"), &folder.path().join("zero"));
    assert_eq!(done.failed(), [special("")]);
    let done = copy(&from.join("absent"), &folder.path().join("x"));
    assert_eq!(done.failed(), [(String::new(), Problem::NotFound, End::There)]);
    let once = bz_protocol::files::Source { recursive: false, ..source(&from) };
    let done = copy_with(&once, &destination(&folder.path().join("x"), b""));
    assert_eq!(done.failed(), [(String::new(), Problem::Directory, End::There)]);
}

#[test]
fn a_tree_that_is_too_deep_is_copied_as_deep_as_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    let mut deep = from.clone();
    for _ in 0..MAX_DEPTH + 5 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let done = copy(&from, &folder.path().join("to"));
    assert_eq!(done.summary.directories, MAX_DEPTH as u64);
    let failed = done.failed();
    assert!(matches!(failed.as_slice(), [(_, Problem::TooDeep, End::There)]), "{failed:?}");
}

/// Holes stay holes; with `BZ_TEST=full` in a file of more than 4 GiB.
#[test]
fn zeros_take_no_room() {
    let size = if std::env::var("BZ_TEST").is_ok_and(|size| size == "full") { (4 << 30) + 7 } else { (64 << 20) + 7 };
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let file = File::create(&from).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b"middle", size / 2).unwrap();
    let done = copy(&from, &to);
    assert_eq!((done.summary.bytes, done.bytes(), done.failed()), (size, size, vec![]));
    let (was, is) = (from.metadata().unwrap(), to.metadata().unwrap());
    assert_eq!((is.len(), is.modified().unwrap()), (was.len(), was.modified().unwrap()));
    assert!(is.blocks() * 512 < 1 << 20, "{} blocks", is.blocks());
    let mut middle = [0; 6];
    File::open(&to).unwrap().read_exact_at(&mut middle, size / 2).unwrap();
    assert_eq!(&middle, b"middle");
}
