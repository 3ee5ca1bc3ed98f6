//! Hostile and unusual requests, said to a server in this process.

use std::net::Shutdown;
use std::thread;

use super::packet::{
    CLOSE, DATA, EOF, EXTENDED, FAILURE, HANDLE, MAX_PACKET, NO_SUCH_FILE, OK, OPEN, OPENDIR, READ, REMOVE, RENAME,
    RMDIR, STATUS, UNSUPPORTED, WRITE,
};
use super::*;
use crate::frame;
use bz_core::digest::Digest;
use bz_core::ssh::wire::Reader;
use bz_protocol::ssh::{Fate, FileWay, SshFile};

/// Says all of it, and reads what comes back; the answers without their ids, the rows of the log, and the status.
fn talk(said: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<SshFile>, i32) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        let mut log = Vec::new();
        let code = serve(&theirs, Log(&mut log));
        drop(theirs);
        (log, code)
    });
    let mut reader = ours.try_clone().unwrap();
    let asks = thread::spawn(move || {
        for message in said {
            // One that is cut off in the middle of what it says is no failure of this test.
            if ours.write_all(&message).is_err() {
                break;
            }
        }
        ours.shutdown(Shutdown::Write).unwrap_or_default();
    });
    let mut answers = Vec::new();
    while let Ok(Some(answer)) = read_packet(&mut reader) {
        answers.push(answer);
    }
    asks.join().unwrap();
    let (log, code) = server.join().unwrap();
    let (mut rows, mut log) = (Vec::new(), log.as_slice());
    while !log.is_empty() {
        rows.push(frame::read_blocking::<SshFile>(&mut log).unwrap());
    }
    // Each has begun before it ended.
    let begun = rows.extract_if(.., |row| row.fate == Fate::Begun).count();
    let went = |row: &&SshFile| matches!(row.fate, Fate::Whole { .. } | Fate::Part);
    assert!(begun >= rows.iter().filter(went).count(), "{rows:?}");
    (answers, rows, code)
}

fn open(id: u32, path: &str, flags: u32) -> Vec<u8> {
    Packet::new(OPEN).u32(id).string(path.as_bytes()).u32(flags).u32(0).finish()
}

fn of_handle(kind: u8, id: u32, handle: u32) -> Packet {
    Packet::new(kind).u32(id).string(&handle.to_be_bytes())
}

fn code(answer: &[u8]) -> u32 {
    assert_eq!(answer[0], STATUS, "{answer:?}");
    Reader::new(&answer[5..]).u32().unwrap()
}

#[test]
fn a_file_in_order_has_its_digest_and_one_out_of_order_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let write = |id, handle, offset: u64, bytes: &[u8]| of_handle(WRITE, id, handle).u64(offset).string(bytes).finish();
    let (answers, rows, code) = talk(vec![
        open(1, &at("in order"), 2 | 8),
        write(2, 0, 0, b"one "),
        write(3, 0, 4, b"two"),
        of_handle(CLOSE, 4, 0).finish(),
        open(5, &at("otherwise"), 2 | 8),
        write(6, 1, 4, b"two"),
        write(7, 1, 0, b"one "),
        of_handle(CLOSE, 8, 1).finish(),
        open(9, &at("in order"), 1),
        of_handle(READ, 10, 2).u64(0).u32(100).finish(),
        of_handle(READ, 11, 2).u64(7).u32(100).finish(),
        of_handle(CLOSE, 12, 2).finish(),
        open(13, &at("in order"), 1),
        of_handle(READ, 14, 3).u64(2).u32(100).finish(),
    ]);
    assert_eq!((answers.len(), code), (14, 0));
    assert_eq!((answers[0][0], answers[9][0]), (HANDLE, DATA));
    let whole = Fate::Whole { digest: Some(Digest::of(b"one two")) };
    let row = |way, name: &str, fate, size| SshFile { way, path: at(name).into_bytes(), fate, size };
    let want = [
        row(FileWay::ToTarget, "in order", whole, 7),
        row(FileWay::ToTarget, "otherwise", whole, 7),
        row(FileWay::FromTarget, "in order", whole, 7),
        row(FileWay::FromTarget, "in order", Fate::Part, 5),
    ];
    assert_eq!(rows, want);
}

#[test]
fn what_a_peer_may_ask_for_is_bounded() {
    let many = (0_u32..).take(MAX_HANDLES + 1).map(|id| Packet::new(OPENDIR).u32(id).string(b"/").finish()).collect();
    let (answers, _, _) = talk(many);
    assert_eq!(answers[..MAX_HANDLES].iter().filter(|answer| answer[0] == HANDLE).count(), MAX_HANDLES);
    assert_eq!(code(&answers[MAX_HANDLES]), FAILURE);

    let (answers, _, _) = talk(vec![
        open(1, "/dev/zero", 1),
        open(2, "/", 1),
        of_handle(READ, 3, 99).u64(0).u32(1).finish(),
        Packet::new(READ).u32(4).string(b"xx").u64(0).u32(1).finish(),
        Packet::new(77).u32(5).finish(),
        Packet::new(OPEN).u32(6).string(b"x").finish(),
        open(7, "/proc/self/status", 1),
        of_handle(READ, 8, 0).u64(1 << 40).u32(u32::MAX).finish(),
        of_handle(CLOSE, 9, 0).finish(),
    ]);
    let codes: Vec<_> = answers.iter().filter(|answer| answer[0] == STATUS).map(|answer| code(answer)).collect();
    assert_eq!(codes, [FAILURE, FAILURE, FAILURE, FAILURE, UNSUPPORTED, BAD_MESSAGE, EOF, OK]);

    for length in [0, u32::try_from(MAX_PACKET).unwrap() + 1, u32::MAX] {
        let (answers, _, status) = talk(vec![length.to_be_bytes().to_vec(), vec![0; 64]]);
        assert_eq!((answers.len(), status), (0, CUT), "a message of {length} bytes");
    }
    let (_, _, status) = talk(vec![b"\0\0\0\x09\x03".to_vec()]);
    assert_eq!(status, CUT, "a message that is cut");
}

/// F-214~: what happens to names is told as it happens, and what does not happen is not.
#[test]
fn removals_and_renamings_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().canonicalize().unwrap();
    let at = |name: &str| home.join(name).display().to_string();
    for name in ["one", "two", "three"] {
        std::fs::write(at(name), name).unwrap();
    }
    std::fs::create_dir(at("folder")).unwrap();
    std::os::unix::fs::symlink(at("three"), at("link")).unwrap();
    let two =
        |packet: Packet, from: &str, to: &str| packet.string(at(from).as_bytes()).string(at(to).as_bytes()).finish();
    let one = |kind, id, name: &str| Packet::new(kind).u32(id).string(at(name).as_bytes()).finish();
    let posix = |id| Packet::new(EXTENDED).u32(id).string(b"posix-rename@openssh.com");
    let (answers, rows, _) = talk(vec![
        two(Packet::new(RENAME).u32(1), "one", "uno"),
        two(Packet::new(RENAME).u32(2), "uno", "two"),
        two(posix(3), "uno", "two"),
        one(REMOVE, 4, "folder/../link"),
        one(REMOVE, 5, "absent"),
        one(RMDIR, 6, "folder"),
        one(RMDIR, 7, "two"),
    ]);
    assert_eq!(
        answers.iter().map(|answer| code(answer)).collect::<Vec<_>>(),
        [OK, FAILURE, OK, OK, NO_SUCH_FILE, OK, FAILURE]
    );
    let told: Vec<_> = rows.iter().map(|row| (String::from_utf8(row.path.clone()).unwrap(), row.fate)).collect();
    let (from, to, gone) = (Fate::MovedFrom, Fate::MovedTo, Fate::Removed);
    let want = [("one", from), ("uno", to), ("uno", from), ("two", to), ("link", gone), ("folder", gone)];
    assert_eq!(told, want.map(|(name, fate)| (at(name), fate)));
    assert_eq!(std::fs::read_to_string(at("two")).unwrap(), "one", "and is so");
    assert!(std::fs::exists(at("three")).unwrap(), "the link went, and not what it leads to");
}
