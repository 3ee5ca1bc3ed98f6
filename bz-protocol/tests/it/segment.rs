//! Agent segments: the record of a shell goes on where its session ended, and nobody but the agent can write it.

use std::time::Duration;

use bz_core::access::Mode;
use bz_core::digest::Digest;
use bz_core::id::{ConnectionId, ShellId};
use bz_core::key::PrivateKey;
use bz_core::signed::{ObjectError, Signed};
use bz_core::time::{Now, UnixTime};
use bz_protocol::frame::{Fin, HEADER_BYTES, Kind, Notice};
use bz_protocol::keys::Direction;
use bz_protocol::limits::{CHECKPOINT_BYTES, CHECKPOINT_TIME, MAX_PAYLOAD, SEGMENT_CREDIT};
use bz_protocol::segment::{Author, AuthorError, Delivered, SegmentOpening};
use bz_protocol::transcript::{
    Anchors, Apart, Fault, Following, Keep, Observer, Reason, Record, Refused, ServerRecord, Trust, Verdict, Violation,
    Writer, explain, verify, withhold,
};

use crate::sim::{Sim, pattern};
use crate::tap::{Tap, archive, certificate, file, parties, record_key, records};
use crate::world::{CONNECTION, ORG, START, World};

const KEEP: Keep = Keep { output: true, input: false, apart: Apart::Nothing };
const SHELL: ShellId = ShellId::from_bytes([6; 16]);

fn check(world: &World, bytes: &[u8]) -> Result<Verdict, Refused> {
    verify(bytes, &Anchors::Bundle(&world.bundle(), &archive()))
}

fn now(after: Duration) -> Now {
    let start = crate::world::start();
    Now { mono: start.mono.after(after), wall: UnixTime::from_secs(START + 100).after(after) }
}

/// A session whose client was cut off while the shell went on.
fn left(world: &World) -> Sim {
    let mut sim = Sim::new(world, 7);
    sim.tap = Some(Tap::new(world, KEEP));
    sim.agent_app.to_send = 3000;
    sim.connect();
    sim.settle();
    sim.cut();
    assert_eq!(sim.delivered.map(|d| d.bytes), Some(3000));
    sim
}

fn opening(delivered: Delivered) -> SegmentOpening {
    SegmentOpening {
        connection: CONNECTION,
        shell: SHELL,
        held: delivered.upto.session,
        predecessor: Some(delivered.upto),
        offset: delivered.bytes,
        lost: 0,
        time: now(Duration::ZERO).wall,
        random: [9; 32],
    }
}

/// What the server makes of a segment: a transcript beside that of the session before.
struct Recorder {
    observer: Observer,
    writer: Writer,
    file: Vec<u8>,
    seen: Vec<u8>,
    frames: u64,
}

impl Recorder {
    fn begin(world: &World, held: &[u8], opening: &Signed<SegmentOpening>) -> Result<Self, Violation> {
        let (observer, first) = Observer::segment(parties(world), KEEP, held, opening)?;
        let (writer, file) = Writer::new();
        let mut recorder = Self { observer, writer, file, seen: vec![], frames: 0 };
        recorder.append(&first);
        Ok(recorder)
    }

    fn append(&mut self, records: &[Record]) {
        for record in records {
            self.file.extend(self.writer.append(record).unwrap());
        }
    }

    fn take(&mut self, author: &mut Author) {
        while let Some(frame) = author.poll() {
            let observed = self.observer.segment_frame(&frame).unwrap();
            self.append(&observed.keep);
            if let Some(seen) = observed.seen.filter(|seen| seen.kind == Some(Kind::Bytes)) {
                self.seen.extend(seen.payload);
            }
            self.frames += 1;
        }
        author.recorded(self.frames).unwrap();
    }

    fn claim(&mut self, world: &World) {
        let claim = self.writer.claim(UnixTime::from_secs(START + 200), "").unwrap();
        let certificate = certificate(world, bz_core::grant::Purpose::Record);
        let server = ServerRecord::sign(&claim, ORG, certificate, &record_key()).unwrap();
        self.append(&[Record::Server(Box::new(server))]);
    }
}

fn author(world: &World, opening: &SegmentOpening) -> (Author, Signed<SegmentOpening>) {
    Author::new(opening, ORG, world.agent_key.clone(), [8; 32], now(Duration::ZERO)).unwrap()
}

/// A segment of 500 bytes after a session, ended and recorded: the session's file, and the segment's.
fn recorded(world: &World) -> (Vec<u8>, Recorder, Delivered) {
    let sim = left(world);
    let held = sim.tap.unwrap().file;
    let (mut author, signed) = author(world, &opening(sim.delivered.unwrap()));
    let mut recorder = Recorder::begin(world, &held, &signed).unwrap();
    author.bytes(&pattern(0, 300), now(Duration::ZERO)).unwrap();
    author.notice(Notice::Password(true), now(Duration::from_millis(5))).unwrap();
    recorder.take(&mut author);
    author.bytes(&pattern(300, 200), now(Duration::from_secs(3))).unwrap();
    author.finish(&Fin::Exited(3), now(Duration::from_secs(4))).unwrap();
    recorder.take(&mut author);
    assert!(author.is_done());
    (held, recorder, author.delivered())
}

/// TR-SEGMENT-1, TR-SEGMENT-2: a segment is proved by the opening of the session before it and the agent's signature,
/// and both transcripts hang together.
#[test]
fn a_segment_goes_on_where_its_session_was_left() {
    let world = World::new();
    let (held, recorder, delivered) = recorded(&world);
    let before = check(&world, &held).unwrap();
    let verdict = check(&world, &recorder.file).unwrap();
    assert_eq!(verdict.trust, Trust::Proved);
    assert_eq!(verdict.person, before.person);
    assert_eq!((verdict.session, verdict.connection), (delivered.upto.session, CONNECTION));
    let segment = verdict.segment.unwrap();
    assert_eq!((segment.shell, segment.held, segment.offset), (SHELL, before.session, 3000));
    assert_eq!((verdict.status.clone(), verdict.complete), (Some(Fin::Exited(3)), true));
    assert_eq!((verdict.to_client.bytes, verdict.to_agent.frames), (500, 0));
    assert_eq!(verdict.to_client.coverage.client, 0, "nobody else signs");
    assert_eq!(recorder.seen, pattern(0, 500));
    assert_eq!(recorder.observer.ended(), Some(&Fin::Exited(3)));
    assert_eq!(verdict.started, now(Duration::ZERO).wall);
    // The link between the two, also when the later one is a session again.
    assert_eq!((verdict.follows(&before), before.follows(&verdict)), (Following::Whole, Following::Other));
    let last = records(&held).pop().unwrap().0;
    let shorter = check(&world, &held[..last.offset]).unwrap();
    assert_eq!(verdict.follows(&shorter), Following::Shortened, "the session's transcript lost its last frame");
    let list = explain(&recorder.file).unwrap();
    assert!(list.iter().any(|line| line.what == "goes on with the shell while nobody is attached"), "{list:?}");
}

/// TR-SEGMENT-1: whatever the agent did not sign for exactly this session begins no segment, at the server or later.
#[test]
fn a_segment_of_another_is_refused() {
    let world = World::new();
    let (held, recorder, _) = recorded(&world);
    let all: Vec<Record> = records(&recorder.file).into_iter().map(|(_, r)| r).collect();
    let at = all.iter().position(|r| matches!(r, Record::Segment(_))).unwrap();
    let Record::Segment(good) = &all[at] else { panic!("{at}") };
    let body = good.open(&world.agent_key.public(), ORG).unwrap();
    let check_one = |what: &str, body: &SegmentOpening, signer: &PrivateKey, at_server: Violation, later: Reason| {
        let signed = Signed::seal(body, ORG, signer).unwrap();
        assert_eq!(Recorder::begin(&world, &held, &signed).err(), Some(at_server), "{what}");
        let mut records = all[..=at].to_vec();
        records[at] = Record::Segment(Box::new(signed));
        assert_eq!(check(&world, &file(&records)).err().map(|r| r.reason), Some(later), "{what}");
    };
    let agent = &world.agent_key;
    let forged = ObjectError::Signature;
    check_one("the client's key", &body, &world.client_key, Violation::Segment(forged), Reason::Segment(forged));
    let other = SegmentOpening { held: Digest::of(b"x"), ..body };
    check_one("a session", &other, agent, Violation::OpeningFor("session"), Reason::SegmentOf("session"));
    let other = SegmentOpening { connection: ConnectionId::from_bytes([7; 16]), ..body };
    check_one("a connection", &other, agent, Violation::OpeningFor("connection"), Reason::SegmentOf("connection"));
}

/// TR-SEGMENT-3: a sealed session has no segment: it would show what was sealed.
#[test]
fn a_sealed_session_has_no_segment() {
    let mut world = World::new();
    world.mode = Mode::Sealed;
    let sim = left(&world);
    let held = sim.tap.unwrap().file;
    let (_, signed) = author(&world, &opening(sim.delivered.unwrap()));
    assert_eq!(Recorder::begin(&world, &held, &signed).err(), Some(Violation::OpeningFor("mode")));
    let mut records: Vec<Record> = records(&held).into_iter().map(|(_, r)| r).take(2).collect();
    records.push(Record::Segment(Box::new(signed)));
    assert_eq!(check(&world, &file(&records)).err().map(|r| r.reason), Some(Reason::SegmentOf("mode")));
}

/// TR-SEGMENT-2, TR-SEGMENT-4: frames of a segment are the agent's, in order, one way, and none changes unseen.
#[test]
fn a_segments_frames_are_its_own() {
    let world = World::new();
    let (held, mut recorder, _) = recorded(&world);
    let all: Vec<Record> = records(&recorder.file).into_iter().map(|(_, r)| r).collect();
    let at = all.iter().position(|r| matches!(r, Record::Segment(_))).unwrap();
    let refused = |what: &str, change: &dyn Fn(&mut Vec<Record>), want: Reason| {
        let mut records = all.clone();
        change(&mut records);
        assert_eq!(check(&world, &file(&records)).err().map(|r| r.reason), Some(want), "{what}");
    };
    let fault = |number, fault| Reason::Frame { direction: Direction::ToClient, number, fault };
    refused("two segments", &|r| r.insert(at, r[at].clone()), Reason::Misplaced);
    refused("a segment after frames", &|r| r.swap(at, at + 1), fault(0, Fault::OtherHistory("session")));
    refused("a frame left out", &|r| drop(r.remove(at + 2)), fault(2, Fault::Order { expected: 1, found: 2 }));
    let frames_of_the_session: Vec<Record> = records(&held).into_iter().map(|(_, r)| r).skip(2).collect();
    let to_agent = frames_of_the_session
        .iter()
        .find(|r| matches!(r, Record::Frame { direction: Direction::ToAgent, .. }))
        .unwrap()
        .clone();
    refused("a frame of a client", &|r| r.insert(at + 1, to_agent.clone()), Reason::Misplaced);
    let of_session = frames_of_the_session[0].clone();
    refused("a frame of the session", &|r| r[at + 1] = of_session.clone(), fault(0, Fault::OtherHistory("session")));

    recorder.claim(&world);
    let whole = check(&world, &recorder.file).unwrap();
    assert_eq!((whole.complete, whole.uncovered_tail.bytes), (true, 0));
    let step = if std::env::var("BZ_TEST").is_ok_and(|s| s == "full") { 1 } else { 7 };
    for bytes in [&recorder.file, &withhold(&recorder.file).unwrap()] {
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(check(&world, &changed).is_err(), "byte {at} of {} may change", bytes.len());
        }
    }
}

/// PR-SEGMENT-1: an author signs in time, sends no more than is being recorded, and counts what was.
#[test]
fn an_author_signs_in_time_and_waits_for_the_record() {
    let world = World::new();
    let start = Delivered::nothing_of(Digest::of(b"session"));
    let (mut author, _) = author(&world, &opening(start));
    let kinds = |author: &mut Author| {
        let mut kinds = vec![];
        while let Some(frame) = author.poll() {
            kinds.push(Kind::from_byte(frame[HEADER_BYTES - 5]).unwrap());
        }
        kinds
    };
    assert_eq!(kinds(&mut author), [Kind::Checkpoint], "the first frame signs");
    author.bytes(b"x", now(Duration::ZERO)).unwrap();
    assert_eq!(author.wake(), Some(now(CHECKPOINT_TIME).mono));
    author.tick(now(CHECKPOINT_TIME - Duration::from_millis(1))).unwrap();
    assert_eq!(kinds(&mut author), [Kind::Bytes]);
    author.tick(now(CHECKPOINT_TIME)).unwrap();
    assert_eq!((kinds(&mut author), author.wake()), (vec![Kind::Checkpoint], None));
    assert_eq!(author.recorded(3), Ok(()));
    assert_eq!((author.delivered().frames, author.delivered().bytes), (3, 1));
    assert_eq!(author.recorded(1), Ok(()), "an older count changes nothing");
    assert_eq!(author.recorded(4), Err(AuthorError::Count));

    let mut sent = 0;
    while author.room() > 0 {
        let more = author.room();
        assert_eq!(author.bytes(&vec![b'y'; more + 1], now(CHECKPOINT_TIME)), Err(AuthorError::NoRoom));
        author.bytes(&vec![b'y'; more], now(CHECKPOINT_TIME)).unwrap();
        sent += more as u64;
    }
    assert_eq!(sent, SEGMENT_CREDIT);
    author.recorded(4).unwrap();
    assert_eq!(author.room(), MAX_PAYLOAD, "what was recorded makes room");
    let frames = (CHECKPOINT_BYTES / MAX_PAYLOAD as u64) as usize;
    kinds(&mut author);
    let mut signed = 0;
    for sent in 0..2 * frames {
        author.bytes(&vec![b'z'; MAX_PAYLOAD], now(CHECKPOINT_TIME)).unwrap();
        signed += kinds(&mut author).iter().filter(|kind| **kind == Kind::Checkpoint).count();
        author.recorded(5 + (sent + signed) as u64).unwrap();
    }
    assert_eq!(signed, 2, "each MiB is signed");
    author.finish(&Fin::Done, now(CHECKPOINT_TIME)).unwrap();
    assert_eq!((author.room(), author.is_done()), (0, false));
    assert_eq!(author.finish(&Fin::Done, now(CHECKPOINT_TIME)), Err(AuthorError::NoRoom));
}

/// The transcript of a segment, for other tests.
pub(crate) fn of_segment() -> Vec<u8> {
    let world = World::new();
    let (_, mut recorder, _) = recorded(&world);
    recorder.claim(&world);
    recorder.file
}
