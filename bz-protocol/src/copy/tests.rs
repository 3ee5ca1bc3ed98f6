//! Messages read back, nothing else does, and a walk follows one tree alone.

use proptest::prelude::*;

use super::*;

const FACTS: Facts = Facts { mode: 0o644, seconds: -1, nanos: 7 };

fn directory(name: &[u8]) -> Message {
    Message::Directory { name: name.to_vec(), facts: FACTS }
}

fn file(name: &[u8], size: u64) -> Message {
    Message::File { name: name.to_vec(), facts: FACTS, size }
}

fn copied(path: &[u8], size: u64) -> Message {
    Message::Copied(Copied { path: path.to_vec(), size, digest: Digest::of(b"") })
}

fn failed(path: &[u8]) -> Message {
    Message::Failed { path: path.to_vec(), problem: Problem::Denied }
}

fn done() -> Message {
    Message::Done(Summary::default())
}

/// PR-COPY-1: nor are names that lead elsewhere.
#[test]
fn what_could_do_harm_by_its_form_is_no_message() {
    let check = |message: Message, fits: bool| assert_eq!(message.encode().is_ok(), fits, "{message:?}");
    check(file(b"a \n\xff", 1), true);
    for name in [b"..".as_slice(), b".", b"a/b", b"/", b"a\0b", &[b'x'; 256]] {
        check(file(name, 1), false);
        check(directory(name), false);
        check(Message::Symlink { name: name.to_vec(), to: b"x".to_vec() }, false);
    }
    check(Message::Symlink { name: b"l".to_vec(), to: b"/etc/passwd".to_vec() }, true);
    check(Message::Symlink { name: b"l".to_vec(), to: vec![] }, false);
    check(Message::Directory { name: b"s".to_vec(), facts: Facts { mode: 0o4755, ..FACTS } }, false);
    check(Message::Directory { name: b"s".to_vec(), facts: Facts { nanos: NANOS, ..FACTS } }, false);
    check(Message::Data(vec![0; CHUNK]), true);
    check(Message::Data(vec![0; CHUNK + 1]), false);
    check(Message::Data(vec![]), false);
    check(Message::Zeros(MAX_ZEROS + 1), false);
    check(Message::Root { path: b"relative".to_vec() }, false);
    check(failed(&[b'x'; MAX_PATH]), true);
    check(failed(&[b'x'; MAX_PATH + 1]), false);
}

/// PR-COPY-1: a message has one encoding; these are its bytes.
#[test]
fn a_message_is_exactly_its_layout() {
    let bytes = file(b"a", 2).encode().unwrap();
    let want = [
        "00000025",                         // the length of the rest
        "00000004",                         // the fifth of its list
        "000000000000000161",               // the name
        "000001a4ffffffffffffffff00000007", // mode, seconds, nanoseconds
        "0000000000000002",                 // the size
    ];
    assert_eq!(hex::encode(bytes), want.concat());
}

#[test]
fn a_length_is_bounded_before_anything_is_kept() {
    let mut decoder = Decoder::default();
    decoder.put(&u32::try_from(MAX_MESSAGE + 1).unwrap().to_be_bytes());
    assert_eq!(decoder.next_message(), Err(Malformed));
    decoder.put(&done().encode().unwrap());
    assert_eq!(decoder.next_message(), Ok(None));
}

/// PR-COPY-2: the walk follows one tree that begins with the nameless entry, and refuses everything else.
#[test]
fn a_walk_follows_one_tree_alone() {
    let check = |messages: &[Message], want: Result<(), OutOfTurn>| {
        let mut walk = Walk::default();
        let got = messages.iter().try_for_each(|message| walk.step(message));
        assert_eq!(got, want, "{messages:?}");
    };
    let large = RESUME_FROM;
    let data = || Message::Data(vec![1, 2]);
    check(&[file(b"", 2), data(), copied(b"", 2), done()], Ok(()));
    check(&[directory(b""), file(b"a", 0), copied(b"a", 0), Message::Leave, done()], Ok(()));
    check(&[directory(b""), directory(b"b"), failed(b"b/c"), Message::Leave, Message::Leave, done()], Ok(()));
    check(&[file(b"", large), Message::Place { offset: large }, copied(b"", large), done()], Ok(()));
    check(&[file(b"", large), failed(b""), done()], Ok(()));
    check(&[file(b".bashrc", 0)], Err(OutOfTurn::Name));
    check(&[file(b"", 0), copied(b"", 0), file(b"more", 0)], Err(OutOfTurn::Name));
    check(&[file(b"", 0), copied(b"other", 0)], Err(OutOfTurn::Name));
    check(&[file(b"", 0), failed(b"other")], Err(OutOfTurn::Name));
    check(&[file(b"", 1), data()], Err(OutOfTurn::Bytes));
    check(&[file(b"", 2), copied(b"", 2)], Err(OutOfTurn::Bytes));
    check(&[file(b"", large), data()], Err(OutOfTurn::Kind));
    check(&[file(b"", large), Message::Place { offset: large + 1 }], Err(OutOfTurn::Bytes));
    check(&[file(b"", 2), Message::Place { offset: 1 }], Err(OutOfTurn::Kind));
    check(&[directory(b""), directory(b"")], Err(OutOfTurn::Name));
    check(&[directory(b""), Message::Leave, Message::Leave], Err(OutOfTurn::Kind));
    check(&[directory(b""), Message::Leave, directory(b"b")], Err(OutOfTurn::Name));
    check(&[directory(b""), done()], Err(OutOfTurn::Kind));
    check(&[done(), done()], Err(OutOfTurn::Kind));
    check(&[failed(b""), file(b"", 0)], Err(OutOfTurn::Name));
    check(&[Message::Symlink { name: b"l".to_vec(), to: b"/".to_vec() }], Err(OutOfTurn::Name));
    check(&[data()], Err(OutOfTurn::Kind));
    let mut deep = vec![directory(b"")];
    deep.extend((0..MAX_DEPTH).map(|_| directory(b"d")));
    check(&deep, Err(OutOfTurn::Deep));
    let long = vec![b'x'; 255];
    let mut long: Vec<Message> = (0..20).map(|_| directory(&long)).collect();
    long.insert(0, directory(b""));
    check(&long, Err(OutOfTurn::Deep));
}

fn any_message() -> impl Strategy<Value = Message> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let facts =
        (0..0o1000_u32, any::<i64>(), 0..NANOS).prop_map(|(mode, seconds, nanos)| Facts { mode, seconds, nanos });
    prop_oneof![
        (bytes(), facts.clone()).prop_map(|(name, facts)| Message::Directory { name, facts }),
        (bytes(), facts, any::<u64>()).prop_map(|(name, facts, size)| Message::File { name, facts, size }),
        (bytes(), bytes()).prop_map(|(name, to)| Message::Symlink { name, to }),
        bytes().prop_map(Message::Data),
        any::<u32>().prop_map(Message::Zeros),
        any::<u64>().prop_map(|offset| Message::Place { offset }),
        bytes().prop_map(|path| Message::Failed { path, problem: Problem::Full }),
        (bytes(), any::<u64>()).prop_map(|(path, size)| copied(&path, size)),
        Just(Message::Leave),
        Just(done()),
    ]
}

proptest! {
    /// No bytes make the decoder panic, and what it takes has one encoding.
    #[test]
    fn bytes_are_messages_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(&bytes) {
            let again = message.encode().unwrap();
            prop_assert_eq!(again.get(4..), Some(bytes.as_slice()));
        }
        let mut decoder = Decoder::default();
        decoder.put(&bytes);
        while let Ok(Some(_)) = decoder.next_message() {}
    }

    /// However a stream is cut, the same messages come out of it.
    #[test]
    fn messages_read_back_however_they_are_cut(
        messages in proptest::collection::vec(any_message(), 0..8),
        step in 1_usize..50,
    ) {
        let fitting: Vec<Message> = messages.into_iter().filter(|m| Message::encode(m).is_ok()).collect();
        let bytes: Vec<u8> = fitting.iter().flat_map(|m| m.encode().unwrap()).collect();
        let (mut decoder, mut found) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(step) {
            decoder.put(piece);
            while let Some(message) = decoder.next_message().unwrap() {
                found.push(message);
            }
        }
        prop_assert_eq!(found, fitting);
    }

    /// No order of messages makes a walk panic, and its path never leaves the tree.
    #[test]
    fn a_walk_takes_any_order(messages in proptest::collection::vec(any_message(), 0..40)) {
        let mut walk = Walk::default();
        for message in messages.iter().filter(|m| Message::encode(m).is_ok()) {
            if walk.step(message).is_err() {
                break;
            }
            prop_assert!(walk.path().split(|b| *b == b'/').all(|part| part != b".."));
        }
    }
}
