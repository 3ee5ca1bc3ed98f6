//! What holds for the mux: bytes arrive in order, within their credit, and urgent ones first.

use super::*;

fn pair() -> (Mux, Mux) {
    (Mux::new(Role::Dialer), Mux::new(Role::Listener))
}

/// Moves everything from one end to the other.
fn pump(from: &mut Mux, to: &mut Mux) -> Vec<(u8, u32)> {
    let mut seen = vec![];
    while let Some(message) = from.poll() {
        seen.push((message[0], u32::from_be_bytes(message[1..5].try_into().unwrap())));
        to.receive(&message).unwrap();
    }
    seen
}

fn read_all(mux: &mut Mux, id: u32) -> Vec<u8> {
    let mut all = vec![];
    while let Read::Bytes(_) = mux.read(id, 1000, |bytes| all.extend(bytes)) {}
    all
}

/// PR-MUX-1
#[test]
fn bytes_arrive_in_order_within_their_credit() {
    let (mut a, mut b) = pair();
    let id = a.open(Class::Bulk).unwrap();
    let sent: Vec<u8> = (0..3 * MUX_CREDIT).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let (mut written, mut received) = (0, vec![]);
    while received.len() < sent.len() {
        written += a.write(id, &sent[written..]).unwrap();
        pump(&mut a, &mut b);
        assert!(b.streams[&id].incoming.len() <= MUX_CREDIT);
        received.extend(read_all(&mut b, id));
        pump(&mut b, &mut a);
    }
    assert!(received == sent);
    assert_eq!(b.event(), Some(MuxEvent::Opened(id, Class::Bulk)));
}

/// PR-MUX-2
#[test]
fn an_interactive_stream_never_waits_behind_bulk() {
    let (mut a, mut b) = pair();
    let bulk = a.open(Class::Bulk).unwrap();
    let keys = a.open(Class::Interactive).unwrap();
    a.write(bulk, &vec![0; 4 * MUX_MESSAGE]).unwrap();
    a.write(keys, b"x").unwrap();
    let order: Vec<u32> = pump(&mut a, &mut b).into_iter().filter(|(k, _)| *k == DATA).map(|(_, id)| id).collect();
    assert_eq!(order, [keys, bulk, bulk, bulk, bulk]);
}

#[test]
fn bulk_streams_take_turns() {
    let (mut a, mut b) = pair();
    let (one, two) = (a.open(Class::Bulk).unwrap(), a.open(Class::Bulk).unwrap());
    a.write(one, &vec![0; 3 * MUX_MESSAGE]).unwrap();
    a.write(two, &vec![0; 2 * MUX_MESSAGE]).unwrap();
    let order: Vec<u32> = pump(&mut a, &mut b).into_iter().filter(|(k, _)| *k == DATA).map(|(_, id)| id).collect();
    assert_eq!(order, [one, two, one, two, one]);
}

#[test]
fn ends_are_told_after_the_bytes() {
    let (mut a, mut b) = pair();
    let id = a.open(Class::Bulk).unwrap();
    a.write(id, b"last").unwrap();
    a.finish(id);
    assert_eq!(a.write(id, b"more"), None);
    pump(&mut a, &mut b);
    assert_eq!(read_all(&mut b, id), b"last");
    assert_eq!(b.read(id, 8, |_| ()), Read::End);
    b.write(id, b"answer").unwrap();
    b.drop_stream(id);
    pump(&mut b, &mut a);
    assert_eq!(a.read(id, 8, |_| ()), Read::Bytes(6));
    a.drop_stream(id);
    pump(&mut a, &mut b);
    assert!(a.streams.is_empty() && b.streams.is_empty());
}

/// PR-MUX-3
#[test]
fn a_dropped_stream_stops_its_writer_and_keeps_its_own_last_words() {
    let (mut a, mut b) = pair();
    let id = a.open(Class::Bulk).unwrap();
    a.write(id, b"x").unwrap();
    pump(&mut a, &mut b);
    b.write(id, b"last words").unwrap();
    b.drop_stream(id);
    pump(&mut b, &mut a);
    assert_eq!(a.write(id, b"y"), None);
    assert_eq!(read_all(&mut a, id), b"last words");
    assert_eq!(a.read(id, 1, |_| ()), Read::End);
}

/// PR-MUX-3: what is under way to a dropped stream that still has words to say ends neither it nor the link.
#[test]
fn what_comes_to_a_dropped_stream_is_thrown_away() {
    let (mut a, mut b) = pair();
    let id = a.open(Class::Bulk).unwrap();
    pump(&mut a, &mut b);
    b.write(id, b"under way").unwrap();
    let under_way = b.poll().unwrap();
    a.write(id, b"last words").unwrap();
    a.drop_stream(id);
    a.receive(&under_way).unwrap();
    pump(&mut a, &mut b);
    assert_eq!(read_all(&mut b, id), b"last words");
    assert_eq!(b.read(id, 1, |_| ()), Read::End);
    assert_eq!(b.write(id, b"more"), None);
    b.drop_stream(id);
    pump(&mut b, &mut a);
    assert!(a.streams.is_empty() && b.streams.is_empty(), "{a:?} {b:?}");
}

/// One end of a pipe, and the messages on their way to it.
struct At {
    mux: Mux,
    coming: VecDeque<Vec<u8>>,
    open: Vec<u32>,
}

/// Whatever two honest ends do, and however late their messages come, neither accuses the other.
#[test]
fn honest_ends_break_no_rule() {
    proptest::proptest!(|(steps in proptest::collection::vec((0..2_usize, 0..7_u8, 0..4_usize), 1..300))| {
        let end = |role| At { mux: Mux::new(role), coming: VecDeque::new(), open: Vec::new() };
        let mut ends = [end(Role::Dialer), end(Role::Listener)];
        for (who, what, which) in steps {
            let end = &mut ends[who];
            let stream = end.open.get(which).copied();
            match (what, stream) {
                (0, _) if end.open.len() < 4 => end.open.push(end.mux.open(Class::Bulk).unwrap()),
                (1, Some(id)) => drop(end.mux.write(id, &[0; 100_000])),
                (2, Some(id)) => drop(end.mux.read(id, 200_000, |_| ())),
                (3, Some(id)) => end.mux.finish(id),
                (4, Some(id)) => {
                    end.mux.drop_stream(id);
                    end.open.remove(which);
                }
                (5, _) => {
                    let message = end.mux.poll();
                    ends[1 - who].coming.extend(message);
                }
                _ => {
                    let Some(message) = end.coming.pop_front() else { continue };
                    end.mux.receive(&message).unwrap();
                    while let Some(event) = end.mux.event() {
                        if let MuxEvent::Opened(id, _) = event {
                            end.open.push(id);
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn a_peer_that_breaks_a_rule_is_named() {
    let check = |messages: &[Vec<u8>], want: MuxError| {
        let mut mux = Mux::new(Role::Listener);
        let last = messages.iter().map(|m| mux.receive(m)).find(Result::is_err);
        assert_eq!(last, Some(Err(want)), "{messages:?}");
    };
    let open = || message(OPEN, 1, &[0]);
    check(&[vec![]], MuxError::Malformed);
    check(&[message(9, 1, &[])], MuxError::BadStream);
    check(&[open(), message(9, 1, &[])], MuxError::Malformed);
    check(&[message(OPEN, 1, &[2])], MuxError::Malformed);
    check(&[message(OPEN, 2, &[0])], MuxError::BadStream);
    check(&[open(), open()], MuxError::BadStream);
    check(&[open(), message(DATA, 1, &vec![0; MUX_CREDIT + 1])], MuxError::Credit);
    check(&[open(), message(CREDIT, 1, &1u32.to_be_bytes())], MuxError::Credit);
    check(&[open(), message(FIN, 1, &[]), message(DATA, 1, &[0])], MuxError::Malformed);
    let many: Vec<_> = (0..=u32::try_from(MAX_LINK_STREAMS).unwrap()).map(|i| message(OPEN, 1 + 2 * i, &[0])).collect();
    check(&many, MuxError::TooManyStreams);
}
