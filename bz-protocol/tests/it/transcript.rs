//! Transcripts: what a relay recorded, whole and in every way damaged, forged or cut.

use std::time::Duration;

use bz_core::access::request::Size;
use bz_core::access::{Mode, Verb};
use bz_core::cert::BzCert;
use bz_core::digest::Digest;
use bz_core::grant::{GrantBody, GrantError, Purpose, ServerCertError};
use bz_core::id::{OrganizationId, ShellId, TargetId};
use bz_core::oidc::TokenError;
use bz_core::oidc::jwks::Jwks;
use bz_core::signed::{ObjectError, Signed};
use bz_core::target::UserRule;
use bz_core::time::UnixTime;
use bz_core::trust::{DirectoryEntry, TrustBundle};
use bz_protocol::agent;
use bz_protocol::checkpoint::{Signer, Statement};
use bz_protocol::client::Action;
use bz_protocol::frame::{Chain, Fin, Header, Kind, Notice};
use bz_protocol::handshake::{Attached, Predecessor, Syn, SynAck};
use bz_protocol::keys::Direction;
use bz_protocol::packet::{Packet, SynPacket};
use bz_protocol::transcript::{
    AgentKnown, Anchors, Apart, Claim, Content, Directory, Fault, Frame, Identity, JwksArchive, Keep, Reason, Record,
    Refused, ServerRecord, Trust, Verdict, Violation, explain, redact, verify, withhold,
};

use crate::idp::{ISSUER, Idp};
use crate::sim::{Side, Sim, pattern};
use crate::tap::{Tap, archive, certificate, file, parties, record_key, records};
use crate::world::{CONNECTION, ORG, START, TARGET, World, key};

const ALL: Keep = Keep { output: true, input: true, apart: Apart::Nothing };

fn check(world: &World, bytes: &[u8]) -> Result<Verdict, Refused> {
    verify(bytes, &Anchors::Bundle(&world.bundle(), &archive()))
}

fn reason(world: &World, bytes: &[u8]) -> Option<Reason> {
    check(world, bytes).err().map(|refused| refused.reason)
}

/// A session of this many bytes out and in, recorded whole and closed.
pub(crate) fn recorded(world: &World, output: usize, input: usize) -> Sim {
    let mut sim = Sim::new(world, 7);
    sim.tap = Some(Tap::new(world, ALL));
    (sim.agent_app.to_send, sim.client_app.to_send) = (output, input);
    sim.connect();
    sim.settle();
    sim.close();
    assert!(sim.tap.as_ref().unwrap().violations.is_empty(), "{:?}", sim.tap.as_ref().unwrap().violations);
    sim
}

fn transcript(world: &World, output: usize, input: usize) -> Vec<u8> {
    recorded(world, output, input).tap.unwrap().file
}

/// TR-VERIFY-1, TR-SERVER-2: a transcript says who did what where, on whose word, and how it ended.
#[test]
fn a_whole_transcript_proves_its_facts() {
    let world = World::new();
    let mut tap = recorded(&world, 3000, 200).tap.unwrap();
    let before = check(&world, &tap.file).unwrap();
    tap.claim(&world, "closed by its person");
    let verdict = check(&world, &tap.file).unwrap();
    assert_eq!((verdict.trust, verdict.identity), (Trust::Proved, Identity::Proved));
    assert_eq!((verdict.person.subject.as_str(), verdict.person.issuer.as_str()), ("alice", ISSUER));
    assert_eq!((verdict.organization, verdict.connection), (ORG, CONNECTION));
    assert_eq!(verdict.request, world.request());
    assert_eq!(verdict.user, Some("alice".parse().unwrap()));
    assert_eq!((verdict.agent_key, verdict.client_key), (world.agent_key.public(), world.client_key.public()));
    assert_eq!(verdict.agent_known, AgentKnown::Grant);
    assert_eq!(Some(verdict.session), tap.observer.session());
    assert_eq!((verdict.complete, verdict.status.clone()), (true, Some(Fin::Exited(0))));
    assert!(verdict.started >= UnixTime::from_secs(START) && verdict.ended >= Some(verdict.started), "{verdict:?}");
    assert_eq!((verdict.to_client.bytes, verdict.to_agent.bytes), (3000, 200));
    assert_eq!((verdict.to_client.withheld, verdict.to_agent.withheld), (0, 0));
    assert_eq!(verdict.to_client.frames, tap.observer.frames(Direction::ToClient));
    assert_eq!((tap.seen.0, tap.seen.1), (pattern(0, 200), pattern(0, 3000)));
    // The salts in the two closing checkpoints' frames are the only thing that neither end signs.
    assert_eq!((before.uncovered_tail.frames, before.uncovered_tail.bytes), (0, 32));
    assert_eq!((verdict.uncovered_tail.frames, verdict.uncovered_tail.bytes), (0, 0));
    let claims = verdict.server_claims.unwrap();
    assert_eq!((claims.only.frames, claims.only.bytes, claims.reason.as_str()), (0, 32, "closed by its person"));
}

/// TR-FILE-1, TR-FILE-2, TR-FILE-3, TR-ORDER-1: what is no record is refused, what was cut off is counted.
#[test]
fn a_file_is_its_records() {
    let world = World::new();
    let good = transcript(&world, 300, 20);
    let all = records(&good);
    let (last, _) = all.last().unwrap();
    let case = |what: &str, bytes: &[u8], want: Result<u64, Reason>| {
        let got = check(&world, bytes);
        assert_eq!(got.map(|v| v.uncovered_tail.bytes).map_err(|r| r.reason), want, "{what}");
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    case("whole", &good, Ok(32));
    case("nothing", &[], Err(Reason::NotATranscript));
    case("another file", &with(0, b'x'), Err(Reason::NotATranscript));
    case("another version", &with(9, 2), Err(Reason::Version));
    case("an unknown kind", &with(10, 99), Err(Reason::Malformed));
    case("a longer record at the end", &with(last.offset + 3, 9), Err(Reason::Malformed));
    let huge = [good.as_slice(), &[6], &u32::MAX.to_be_bytes(), &0u32.to_be_bytes()].concat();
    case("a huge record", &huge, Err(Reason::Malformed));
    case("part of a head", &[good.as_slice(), &[6, 0, 0]].concat(), Ok(32 + 3));
    let part = [good.as_slice(), &[6], &100u32.to_be_bytes(), &(!100u32).to_be_bytes(), b"part"].concat();
    case("part of a record", &part, Ok(32 + 13));
    let (opening, frame) = (&all[1].1, &all[2].1);
    case("no anchors", &file([opening, frame]), Err(Reason::Misplaced));
    case("two openings", &file([&all[0].1, opening, opening]), Err(Reason::Misplaced));
    case("anchors twice", &file([&all[0].1, &all[0].1]), Err(Reason::Misplaced));
    case("a frame before the opening", &file([&all[0].1, frame]), Err(Reason::Misplaced));
    let refused = check(&world, &file([&all[0].1, opening, opening])).unwrap_err();
    assert_eq!((refused.at.record, refused.at.offset), (2, all[2].0.offset));
}

/// TR-STATUS-1, TR-TRUST-1: how it ended is the agent's word, and the client's signature does not stand for it.
#[test]
fn a_client_cannot_sign_for_the_agents_end() {
    let world = World::new();
    let mut sim = Sim::new(&world, 7);
    sim.tap = Some(Tap::new(&world, ALL));
    sim.connect();
    sim.settle();
    sim.agent.act(sim.now, agent::Action::Finish(Fin::Exited(3))).unwrap();
    sim.run();
    let tap = sim.tap.unwrap();
    let whole = check(&world, &tap.file).unwrap();
    assert_eq!((whole.status, whole.complete), (Some(Fin::Exited(3)), true));

    let mut all: Vec<Record> = records(&tap.file).into_iter().map(|(_, r)| r).collect();
    let fin = all.iter().position(|r| matches!(r, Record::Frame { frame, .. } if frame.header.kind == Some(Kind::Fin)));
    all.truncate(fin.unwrap() + 1);
    let head = |direction| {
        let mut chain = Chain::new(&whole.session, direction);
        let mut count = 0;
        for record in &all {
            if let Record::Frame { direction: way, frame } = record
                && *way == direction
            {
                chain.add(&frame.header.to_bytes(), &frame.commitment());
                count += 1;
            }
        }
        (count, chain.head())
    };
    let ((number, own), (peer, theirs)) = (head(Direction::ToAgent), head(Direction::ToClient));
    let statement = Statement {
        session: whole.session,
        number,
        head: own,
        peer_number: peer,
        peer_head: theirs,
        bytes: 0,
        time: UnixTime::from_secs(START),
    };
    let signer = Signer { organization: ORG, direction: Direction::ToAgent };
    let payload = signer.sign(statement, &world.client_key).unwrap();
    let header = Header { number, peer, kind: Some(Kind::Checkpoint), stream: 0 };
    let frame = Frame { header, content: Content::Full { salt: [0; 16], payload } };
    all.push(Record::Frame { direction: Direction::ToAgent, frame });
    let verdict = check(&world, &file(&all)).unwrap();
    assert_eq!((verdict.status, verdict.ended, verdict.complete), (None, None, false));
    let coverage = verdict.to_client.coverage;
    assert_eq!((coverage.client, coverage.agent), (peer, peer - 1), "who signed what is told apart");
}

/// TR-OBSERVE-4: what is sent again from too far back cannot be compared, and is not relayed.
#[test]
fn frames_from_too_far_back_are_not_relayed() {
    let mut world = World::new();
    world.mode = Mode::Sealed;
    let mut tap = opened(&world, world.certificate(0), world.opening().grant, &World::jwks());
    let packet = |number: u64| {
        let header = Header { number, peer: 0, kind: None, stream: 0 };
        [&[4], header.to_bytes().as_slice(), &[7; 5], &[number as u8; 16]].concat()
    };
    for number in 0..9216 {
        tap.observer.observe(Direction::ToClient, &packet(number)).unwrap();
    }
    let again =
        |tap: &mut Tap, number| tap.observer.observe(Direction::ToClient, &packet(number)).map(|o| o.keep.len());
    assert_eq!((again(&mut tap, 1), again(&mut tap, 9215)), (Ok(0), Ok(0)));
    assert_eq!(again(&mut tap, 0), Err(Violation::Frame { number: 0, fault: Fault::TooOld }));
}

/// TR-VERIFY-2: without anchors of the verifier's own, a transcript agrees with itself and no more.
#[test]
fn anchors_of_the_transcript_prove_nothing() {
    let world = World::new();
    let bytes = transcript(&world, 300, 20);
    let verdict = verify(&bytes, &Anchors::FromTranscript).unwrap();
    assert_eq!((verdict.trust, verdict.complete), (Trust::SelfConsistent, true));
    // A forger with keys of his own gets exactly as far.
    let mut forger = World::new();
    (forger.root, forger.agent_key, forger.client_key) = (key(90), key(91), key(92));
    let forged = transcript(&forger, 300, 20);
    assert_eq!(verify(&forged, &Anchors::FromTranscript).unwrap().trust, Trust::SelfConsistent);
    assert_eq!(reason(&world, &forged), Some(Reason::RootUnknown));
}

/// TR-VERIFY-3: other anchors refuse, each by its name.
#[test]
fn other_anchors_are_refused() {
    let world = World::new();
    let bytes = transcript(&world, 300, 20);
    let refused = |bundle: &TrustBundle, archive: &JwksArchive, want: Reason| {
        let got = verify(&bytes, &Anchors::Bundle(bundle, archive)).map_err(|r| r.reason);
        assert_eq!(got, Err(want));
    };
    let mut bundle = world.bundle();
    bundle.roots = vec![key(99).public()];
    refused(&bundle, &archive(), Reason::RootUnknown);
    bundle = world.bundle();
    bundle.organization = OrganizationId::from_bytes([9; 16]);
    refused(&bundle, &archive(), Reason::Organization);
    bundle = world.bundle();
    bundle.providers[0].issuer = "https://other.example".to_owned();
    refused(&bundle, &archive(), Reason::IssuerUnknown);
    bundle = world.bundle();
    bundle.providers[0].audiences = vec!["another".to_owned()];
    let audience = bz_core::cert::CertError::Initial(TokenError::Audience);
    refused(&bundle, &archive(), Reason::Certificate(audience));

    let thumbprint = records(&bytes).into_iter().find_map(|(_, r)| match r {
        Record::Anchors(a) => Some(Digest::of(a.keys[0].as_bytes())),
        _ => None,
    });
    let missing = Reason::KeyNotArchived(thumbprint.unwrap());
    refused(&world.bundle(), &JwksArchive::new(), missing.clone());
    let mut other = JwksArchive::new();
    other.add(ISSUER, &Idp::new(2, "k1").jwks()).unwrap();
    refused(&world.bundle(), &other, missing);
    other.add(ISSUER, &World::jwks()).unwrap();
    let read = JwksArchive::parse(&other.to_text()).unwrap();
    assert!(verify(&bytes, &Anchors::Bundle(&world.bundle(), &read)).is_ok(), "an archive keeps old and new keys");
}

/// TR-VERIFY-4: a transcript put together from true parts of others is refused.
#[test]
fn evidence_of_another_session_is_refused() {
    let world = World::new();
    let good: Vec<Record> = records(&transcript(&world, 300, 20)).into_iter().map(|(_, r)| r).collect();
    let Record::Anchors(anchors) = good[0].clone() else { panic!("{:?}", good[0]) };
    let Record::Opening(opening) = good[1].clone() else { panic!("{:?}", good[1]) };
    let with = |first: Record, second: Record| file([&first, &second].into_iter().chain(&good[2..]));
    let refused = |anchors: &bz_protocol::transcript::Embedded, opening: &_, want: Reason| {
        let bytes = with(Record::Anchors(anchors.clone()), Record::Opening(Box::new(Clone::clone(opening))));
        assert_eq!(reason(&world, &bytes), Some(want));
    };
    let answer: SynAck = opening.answer.open(&world.agent_key.public(), ORG).unwrap();

    let mut changed = (*opening).clone();
    changed.answer = Signed::seal(&answer, ORG, &key(77)).unwrap();
    refused(&anchors, &changed, Reason::SynAck(ObjectError::Signature));
    changed.answer = Signed::seal(&SynAck { syn: Digest::of(b""), ..answer.clone() }, ORG, &world.agent_key).unwrap();
    refused(&anchors, &changed, Reason::AnswerFor("opening message"));
    changed.answer = Signed::seal(&SynAck { version: 9, ..answer.clone() }, ORG, &world.agent_key).unwrap();
    refused(&anchors, &changed, Reason::AnswerFor("version"));
    let later = SynAck { verified_at: UnixTime::from_secs(START + 100_000), ..answer.clone() };
    changed.answer = Signed::seal(&later, ORG, &world.agent_key).unwrap();
    let expired = bz_core::cert::CertError::Current(TokenError::Expired);
    refused(&anchors, &changed, Reason::Certificate(expired));
    let later = SynAck { verified_at: UnixTime::from_secs(START + 1000), ..answer.clone() };
    changed.answer = Signed::seal(&later, ORG, &world.agent_key).unwrap();
    refused(&anchors, &changed, Reason::Grant(GrantError::Expired));
    changed.answer = Signed::seal(&SynAck { idp_key: Digest::of(b""), ..answer }, ORG, &world.agent_key).unwrap();
    refused(&anchors, &changed, Reason::IdpKey);
    changed = (*opening).clone();
    changed.certificate = Some(world.certificate(5));
    refused(&anchors, &changed, Reason::CertificateMismatch);

    let mut other = anchors.clone();
    other.root = key(99).public();
    let bytes = with(Record::Anchors(other.clone()), good[1].clone());
    let mut bundle = world.bundle();
    bundle.roots.push(other.root);
    let got = verify(&bytes, &Anchors::Bundle(&bundle, &archive())).map_err(|r| r.reason);
    assert_eq!(got, Err(Reason::Grant(GrantError::Certificate(ServerCertError::Root))));
    other = anchors;
    other.keys.push(serde_json::json!({"crv": "P-256", "kty": "EC"}).to_string());
    refused(&other, &opening, Reason::IdpKey);
    other.keys = vec![];
    let keyless = with(Record::Anchors(other), good[1].clone());
    assert_eq!(reason(&world, &keyless), None, "the verifier's own archive has the key");
    let alone = verify(&keyless, &Anchors::FromTranscript).map_err(|r| r.reason);
    assert_eq!(alone, Err(Reason::IdpKey));
}

/// TR-CHAIN-1: frames lost, moved, doubled or spliced in are refused where it shows.
#[test]
fn frames_of_another_history_are_refused() {
    let world = World::new();
    let good = transcript(&world, 3000, 0);
    let all: Vec<Record> = records(&good).into_iter().map(|(_, r)| r).collect();
    let outputs: Vec<usize> = (0..all.len())
        .filter(|at| matches!(&all[*at], Record::Frame { direction: Direction::ToClient, frame } if frame.header.kind == Some(Kind::Bytes)))
        .collect();
    let (first, second) = (outputs[0], outputs[1]);
    let number = |at: usize| match &all[at] {
        Record::Frame { frame, .. } => frame.header.number,
        other => panic!("{other:?}"),
    };
    let frame = |number: u64, fault| Some(Reason::Frame { direction: Direction::ToClient, number, fault });
    let order = |expected, found| frame(found, Fault::Order { expected, found });
    let changed = |change: &dyn Fn(&mut Vec<Record>)| {
        let mut records = all.clone();
        change(&mut records);
        reason(&world, &file(&records))
    };
    let (a, b) = (number(first), number(second));
    assert_eq!(b, a + 1, "two frames of output in a row");
    assert_eq!(changed(&|r| drop(r.remove(first))), order(a, b), "dropped");
    assert_eq!(changed(&|r| r.swap(first, second)), order(a, b), "swapped");
    assert_eq!(changed(&|r| r.insert(first, all[first].clone())), order(b, a), "doubled");

    let mut elsewhere = World::new();
    elsewhere.user = Some("bob");
    let other: Vec<Record> = records(&transcript(&elsewhere, 3000, 0)).into_iter().map(|(_, r)| r).collect();
    let next_checkpoint = (second..all.len())
        .find(|at| matches!(&all[*at], Record::Frame { direction: Direction::ToClient, frame } if frame.header.kind == Some(Kind::Checkpoint)))
        .unwrap();
    let head = frame(number(next_checkpoint), Fault::OtherHistory("head"));
    assert_eq!(changed(&|r| r[second] = other[second].clone()), head, "spliced");
    let spliced = changed(&|r| r.splice(2.., other[2..].iter().cloned()).for_each(drop));
    let session = Reason::Frame { direction: Direction::ToClient, number: 0, fault: Fault::OtherHistory("session") };
    assert_eq!(spliced, Some(session), "all frames of another session");
    let withheld = changed(&|r| {
        let Record::Frame { frame, .. } = &mut r[next_checkpoint] else { panic!("no frame") };
        *frame = frame.withheld();
    });
    assert_eq!(withheld, frame(number(next_checkpoint), Fault::Withheld));
    assert_eq!(changed(&|r| r.swap(0, 1)), Some(Reason::Misplaced));
    assert_eq!(changed(&|r| r.truncate(1)), Some(Reason::NoOpening));
    let after = all.iter().rev().find(|r| matches!(r, Record::Frame { direction: Direction::ToClient, .. })).unwrap();
    let Record::Frame { frame: last, .. } = after.clone() else { panic!("no frame") };
    let again = Frame { header: Header { number: last.header.number + 1, ..last.header }, ..last };
    let late = changed(&|r| r.push(Record::Frame { direction: Direction::ToClient, frame: again.clone() }));
    assert_eq!(late, frame(again.header.number, Fault::AfterEnd));
}

/// TR-ORDER-2: a frame stands behind those of the other end that it counts, and never counts fewer than before.
#[test]
fn frames_stand_behind_what_they_count() {
    let world = World::new();
    let all: Vec<Record> = records(&transcript(&world, 3000, 300)).into_iter().map(|(_, r)| r).collect();
    let parts = |record: &Record| match record {
        Record::Frame { direction, frame } => (*direction, frame.header),
        other => panic!("{other:?}"),
    };
    let mut earlier = 0;
    for at in 3..all.len() {
        let ((direction, header), (before, last)) = (parts(&all[at]), parts(&all[at - 1]));
        if before == direction || header.peer <= last.number {
            continue;
        }
        let mut swapped = all.clone();
        swapped.swap(at - 1, at);
        let want = Reason::Frame { direction, number: header.number, fault: Fault::Peer };
        assert_eq!(reason(&world, &file(&swapped)), Some(want));
        earlier += 1;
    }
    assert!(earlier > 0, "no frame stands right behind one that it counts");
    let mut fewer = all;
    let Some(Record::Frame { direction, frame }) = fewer.last_mut() else { panic!("no frame") };
    frame.header.peer = 0;
    let want = Reason::Frame { direction: *direction, number: frame.header.number, fault: Fault::Peer };
    assert_eq!(reason(&world, &file(&fewer)), Some(want));
}

/// TR-CHAIN-2: an end that signs another history than the file tells proves nothing, also with its own key.
#[test]
fn checkpoints_say_exactly_what_stands_in_the_file() {
    let world = World::new();
    let all: Vec<Record> = records(&transcript(&world, 3000, 300)).into_iter().map(|(_, r)| r).collect();
    for (direction, signer) in [(Direction::ToAgent, &world.client_key), (Direction::ToClient, &world.agent_key)] {
        let mine = |r: &Record| match r {
            Record::Frame { direction: way, frame } => {
                *way == direction && frame.header.kind == Some(Kind::Checkpoint) && frame.header.number > 0
            }
            _ => false,
        };
        let at = all.iter().position(mine).unwrap();
        let Record::Frame { frame, .. } = &all[at] else { panic!("no frame") };
        let signing = Signer { organization: ORG, direction };
        let good = signing.verify(frame.payload().unwrap(), &signer.public()).unwrap();
        let check = |change: &dyn Fn(&mut Statement), by: &bz_core::key::PrivateKey, want: Option<Fault>| {
            let (mut statement, mut all) = (good.clone(), all.clone());
            change(&mut statement);
            let Record::Frame { frame: Frame { content: Content::Full { payload, .. }, .. }, .. } = &mut all[at] else {
                panic!("no frame")
            };
            *payload = signing.sign(statement, by).unwrap();
            all.truncate(at + 1);
            let number = good.number;
            assert_eq!(reason(&world, &file(&all)), want.map(|fault| Reason::Frame { direction, number, fault }));
        };
        let other = Fault::OtherHistory;
        check(&|_| {}, signer, None);
        check(&|s| s.time = UnixTime::from_secs(1), signer, None);
        check(&|_| {}, &key(60), Some(Fault::Checkpoint(ObjectError::Signature)));
        check(&|s| s.session = Digest::of(b""), signer, Some(other("session")));
        check(&|s| s.number += 1, signer, Some(other("number")));
        check(&|s| s.head = Digest::of(b""), signer, Some(other("head")));
        check(&|s| s.peer_number -= 1, signer, Some(other("count of the other end's frames")));
        check(&|s| s.peer_head = Digest::of(b""), signer, Some(other("head of the other end")));
        check(&|s| s.bytes += 1, signer, Some(other("count of bytes")));
    }
}

/// TR-TAIL-1: a transcript that was cut anywhere proves what stands before, and counts the rest.
#[test]
fn a_cut_transcript_proves_what_is_left() {
    let world = World::new();
    let good = transcript(&world, 30_000, 300);
    let whole = check(&world, &good).unwrap();
    let all = records(&good);
    let (mut proved, mut tails) = (0, 0);
    for (index, (at, record)) in all.iter().enumerate() {
        let cut = check(&world, &good[..at.offset]);
        let torn = check(&world, &good[..at.offset + 11]);
        if index < 2 {
            assert_eq!(cut.map_err(|r| r.reason), Err(Reason::NoOpening));
            continue;
        }
        let (cut, torn) = (cut.unwrap(), torn.unwrap());
        assert_eq!(torn.uncovered_tail.bytes, cut.uncovered_tail.bytes + 11, "{record:?}");
        assert_eq!((cut.complete, cut.session), (false, whole.session));
        let held = cut.to_agent.frames + cut.to_client.frames + cut.uncovered_tail.frames;
        assert_eq!(held, index as u64 - 2, "every frame is proved or counted as not");
        assert!(cut.to_agent.frames + cut.to_client.frames >= proved, "what was proved stays proved");
        proved = cut.to_agent.frames + cut.to_client.frames;
        tails += usize::from(cut.uncovered_tail.frames > 0);
    }
    assert!(tails > 2, "some cuts fell between checkpoints: {tails}");
}

/// TR-BYTES-1: a change of any byte is refused, or falls into what is counted as uncovered.
#[test]
fn no_byte_changes_unseen() {
    let world = World::new();
    let mut tap = recorded(&world, 40, 4).tap.unwrap();
    let open = tap.file.clone();
    tap.claim(&world, "done");
    let flips: &[u8] =
        if std::env::var("BZ_TEST").is_ok_and(|s| s == "full") { &[1, 2, 4, 8, 16, 32, 64, 128] } else { &[1] };
    let accepted = |file: &[u8], at: usize, flip: u8| {
        let mut bytes = file.to_vec();
        bytes[at] ^= flip;
        check(&world, &bytes).is_ok()
    };
    for at in 0..tap.file.len() {
        for flip in flips {
            assert!(!accepted(&tap.file, at, *flip), "byte {at} of {} may change by {flip}", tap.file.len());
        }
    }
    // Without the server's word exactly the bytes counted as uncovered may.
    let uncovered = check(&world, &open).unwrap().uncovered_tail.bytes;
    let tail = open.len() - 1200;
    let loose = (tail..open.len()).filter(|at| accepted(&open, *at, 1)).count();
    assert_eq!(loose as u64, uncovered);

    // The same of a sealed session, and of one whose content was deleted.
    let mut sealed_world = World::new();
    sealed_world.mode = Mode::Sealed;
    let sealed = recorded(&sealed_world, 40, 4);
    let receipt = sealed.agent.receipt().unwrap();
    let mut sealed = sealed.tap.unwrap();
    let record = sealed.observer.checkpoint(Direction::ToClient, &receipt.agent.unwrap()).unwrap();
    sealed.append(&record);
    sealed.claim(&sealed_world, "done");
    for file in [sealed.file, withhold(&tap.file).unwrap()] {
        check(&world, &file).unwrap();
        for at in (0..file.len()).step_by(if flips.len() > 1 { 1 } else { 5 }) {
            assert!(!accepted(&file, at, 1), "byte {at} of {} may change", file.len());
        }
    }

    let mut large = recorded(&world, 400_000, 4000).tap.unwrap();
    large.claim(&world, "done");
    let mut random = crate::sim::Random(11);
    for _ in 0..40 {
        let at = random.below(large.file.len() as u64) as usize;
        assert!(!accepted(&large.file, at, 1 << random.below(8)), "byte {at} of the large one may change");
    }
}

/// TR-WITHHOLD-1: content can be left out or deleted, and everything else is proved as before.
#[test]
fn content_can_be_withheld() {
    let world = World::new();
    let mut tap = recorded(&world, 3000, 200).tap.unwrap();
    tap.claim(&world, "");
    let whole = check(&world, &tap.file).unwrap();
    let deleted = withhold(&tap.file).unwrap();
    let verdict = check(&world, &deleted).unwrap();
    let content: usize = records(&deleted)
        .iter()
        .filter(|(_, r)| matches!(r, Record::Frame { frame, .. } if frame.header.kind == Some(Kind::Bytes) && frame.payload().is_some()))
        .count();
    assert_eq!(content, 0);
    assert!(verdict.to_client.withheld > 0 && verdict.to_agent.withheld > 0, "{verdict:?}");
    assert_eq!((verdict.to_client.bytes, verdict.to_agent.bytes), (3000, 200));
    assert_eq!(verdict.server_claims, whole.server_claims, "the server's signature outlives the content");
    assert_eq!((verdict.complete, verdict.status), (true, Some(Fin::Exited(0))));

    // The same, never kept in the first place.
    for keep in [
        Keep { output: true, input: false, apart: Apart::Nothing },
        Keep { output: false, input: true, apart: Apart::Nothing },
        Keep::default(),
    ] {
        let mut sim = Sim::new(&world, 7);
        sim.tap = Some(Tap::new(&world, keep));
        (sim.agent_app.to_send, sim.client_app.to_send) = (3000, 200);
        sim.connect();
        sim.settle();
        sim.close();
        let tap = sim.tap.unwrap();
        let verdict = check(&world, &tap.file).unwrap();
        assert_eq!(verdict.to_client.withheld > 0, !keep.output);
        assert_eq!(verdict.to_agent.withheld > 0, !keep.input);
        assert_eq!((tap.seen.0.len(), tap.seen.1.len()), (200, 3000), "lenses see what is not kept");
    }
}

/// TR-REDACT-1: without tokens the agent attests who it was, and nothing else changes.
#[test]
fn tokens_can_be_taken_out() {
    let world = World::new();
    let mut sim = Sim::new(&world, 7);
    sim.tap = Some(Tap::new(&world, ALL));
    sim.agent_app.to_send = 300;
    sim.connect();
    sim.settle();
    let newer = world.certificate(1);
    sim.client.act(sim.now, Action::Reauthenticate(newer.clone())).unwrap();
    sim.settle();
    sim.close();
    let mut tap = sim.tap.unwrap();
    tap.claim(&world, "");
    assert_eq!(check(&world, &tap.file).unwrap().identity, Identity::Proved);
    let redacted = redact(&tap.file).unwrap();
    let holds = |file: &[u8], part: &[u8]| file.windows(part.len()).any(|w| w == part);
    for token in [&world.certificate(0)[80..400], &newer[80..400]] {
        assert!(holds(&tap.file, token) && !holds(&redacted, token));
    }
    let verdict = check(&world, &redacted).unwrap();
    assert_eq!((verdict.trust, verdict.identity), (Trust::Proved, Identity::AttestedByAgent));
    assert_eq!((verdict.person.subject.as_str(), verdict.complete), ("alice", true));
    assert!(verdict.server_claims.is_some());
    assert_eq!(check(&world, &withhold(&redacted).unwrap()).unwrap().identity, Identity::AttestedByAgent);
    let empty = JwksArchive::new();
    assert!(verify(&redacted, &Anchors::Bundle(&world.bundle(), &empty)).is_ok(), "there is no token to check");
    let mut bundle = world.bundle();
    bundle.providers[0].issuer = "https://other.example".to_owned();
    let got = verify(&redacted, &Anchors::Bundle(&bundle, &empty)).map_err(|r| r.reason);
    assert_eq!(got, Err(Reason::IssuerUnknown));
    for at in 0..redacted.len() {
        let mut bytes = redacted.clone();
        bytes[at] ^= 1;
        assert!(check(&world, &bytes).is_err(), "byte {at} of the redacted one may change");
    }
}

/// TR-OBSERVE-1: whatever happens to carriers and to the server, the relay records every frame once.
#[test]
fn every_frame_is_recorded_once_whatever_is_cut() {
    for seed in 0..if std::env::var("BZ_TEST").is_ok_and(|s| s == "full") { 1000 } else { 40 } {
        run(seed);
    }
}

fn run(seed: u64) {
    let what = format!("seed {seed}");
    let mut world = World::new();
    world.mode = if seed.is_multiple_of(3) { Mode::Sealed } else { Mode::Inspected };
    let mut sim = Sim::new(&world, seed);
    let mut tap = Tap::new(&world, ALL);
    tap.far = seed.is_multiple_of(2);
    sim.tap = Some(tap);
    sim.client_app.to_send = sim.random.below(50_000) as usize;
    sim.agent_app.to_send = sim.random.below(300_000) as usize;
    sim.latency = Duration::from_millis(1 + sim.random.below(80));
    sim.connect();
    for _ in 0..12 {
        let time = sim.random.below(400);
        sim.pass(Duration::from_millis(time));
        if sim.random.below(2) == 0 {
            sim.cut();
            if sim.random.below(2) == 0 {
                sim.tap.as_mut().unwrap().restart();
            }
            sim.connect();
        }
    }
    sim.settle();
    sim.check_exact(&what);
    sim.close();
    let (client, agent) = (sim.client.receipt().unwrap(), sim.agent.receipt().unwrap());
    let mut tap = sim.tap.unwrap();
    assert_eq!((&tap.violations, &tap.conflicts), (&vec![], &vec![]), "{what}");
    let (input, output) = (sim.client_app.to_send, sim.agent_app.to_send);
    if world.mode == Mode::Inspected {
        assert!(tap.seen.0 == pattern(0, input) && tap.seen.1 == pattern(0, output), "{what}: recorded otherwise");
        assert_eq!(tap.observer.ended(), Some(&Fin::Exited(0)), "{what}");
        for direction in [Direction::ToAgent, Direction::ToClient] {
            assert_eq!(tap.observer.coverage(direction).either(), tap.observer.frames(direction), "{what}");
        }
        assert!(tap.observer.is_confirmed(Direction::ToAgent, 1), "{what}");
    } else {
        for (direction, payload) in [(Direction::ToAgent, client.client), (Direction::ToClient, agent.agent)] {
            let record = tap.observer.checkpoint(direction, &payload.unwrap()).unwrap();
            tap.append(&record);
        }
    }
    tap.claim(&world, "");
    let verdict = check(&world, &tap.file).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!((verdict.to_agent.bytes, verdict.to_client.bytes), (input as u64, output as u64), "{what}");
    assert_eq!(verdict.complete, world.mode == Mode::Inspected, "{what}");
    assert_eq!(verdict.uncovered_tail, Default::default(), "{what}");
    assert!(verdict.server_claims.unwrap().only.frames <= 2, "{what}");
}

/// TR-SEALED-1, TR-SEALED-2: a sealed transcript holds order and tags, and is proved once the ends hand out their signatures.
#[test]
fn a_sealed_session_is_proved_by_signatures_handed_out() {
    let mut world = World::new();
    world.mode = Mode::Sealed;
    let sim = recorded(&world, 30_000, 500);
    let receipt = sim.agent.receipt().unwrap();
    let mut tap = sim.tap.unwrap();
    let verdict = check(&world, &tap.file).unwrap();
    assert_eq!((verdict.to_agent.frames, verdict.to_client.frames, verdict.status), (0, 0, None));
    assert!(verdict.uncovered_tail.frames > 3);
    let (client, agent) = (receipt.client.unwrap(), receipt.agent.unwrap());
    let number = tap.observer.frames(Direction::ToClient);
    let fault = Fault::Checkpoint(ObjectError::Signature);
    let swapped = tap.observer.checkpoint(Direction::ToClient, &client);
    assert_eq!(swapped, Err(Violation::Frame { number, fault }), "the client's is not the agent's");
    for (direction, payload) in [(Direction::ToAgent, client), (Direction::ToClient, agent)] {
        let record = tap.observer.checkpoint(direction, &payload).unwrap();
        tap.append(&record);
    }
    let verdict = check(&world, &tap.file).unwrap();
    assert_eq!((verdict.to_agent.bytes, verdict.to_client.bytes), (500, 30_000));
    assert_eq!(verdict.uncovered_tail.frames, 2, "the two frames that carry the signatures themselves");
    let checkpoints: Vec<Record> = records(&tap.file).into_iter().map(|(_, r)| r).collect();
    let mut dropped = checkpoints.clone();
    dropped.remove(3);
    assert!(matches!(reason(&world, &file(&dropped)), Some(Reason::Frame { .. })));
    let doubled = file(checkpoints.iter().chain(checkpoints.last()));
    assert!(matches!(reason(&world, &doubled), Some(Reason::Frame { fault: Fault::TooOld, .. })));
}

/// TR-OBSERVE-2: other bytes under a recorded number are kept, and end the session.
#[test]
fn equivocation_is_noticed_and_kept() {
    let world = World::new();
    let mut sim = Sim::new(&world, 7);
    sim.tap = Some(Tap::new(&world, ALL));
    let sent = std::rc::Rc::new(std::cell::RefCell::new(vec![]));
    let log = std::rc::Rc::clone(&sent);
    sim.tamper = Some(Box::new(move |side, bytes| {
        if side == Side::Client && bytes[0] == 4 && bytes[17] == Kind::Bytes.byte() {
            log.borrow_mut().push(bytes.to_vec());
        }
        vec![bytes.to_vec()]
    }));
    sim.agent_app.to_send = 300;
    sim.connect();
    sim.settle();
    let mut tap = sim.tap.unwrap();
    let packet = sent.borrow()[0].clone();
    let frames = tap.observer.frames(Direction::ToClient);
    tap.observe(Side::Client, &packet);
    assert_eq!((tap.conflicts.len(), tap.observer.frames(Direction::ToClient)), (0, frames), "sent again");
    let mut other = packet.clone();
    other[45] ^= 1;
    tap.observe(Side::Client, &other);
    assert_eq!(tap.conflicts.len(), 1);
    let seen = tap.seen.1.len();
    assert_eq!(seen, 300, "recorder and lenses see the first version alone");
    tap.claim(&world, "equivocation");
    let verdict = check(&world, &tap.file).unwrap();
    assert_eq!(verdict.conflicts, 1);
    assert!(verdict.server_claims.unwrap().only.bytes > 32);

    let mut skipped = packet;
    skipped[8] = 200;
    let observed = tap.observer.observe(Direction::ToClient, &skipped);
    let fault = Fault::Order { expected: frames, found: 200 };
    assert_eq!(observed, Err(Violation::Frame { number: 200, fault }));
}

/// TR-OBSERVE-3: a relay passes nothing that the connection's two ends did not sign.
#[test]
fn openings_of_others_are_not_relayed() {
    let world = World::new();
    let violations = |change: &dyn Fn(&mut bz_protocol::transcript::Parties)| {
        let mut known = parties(&world);
        change(&mut known);
        let mut sim = Sim::new(&world, 7);
        sim.tap = Some(Tap::with(known, ALL));
        sim.connect();
        sim.settle();
        sim.tap.unwrap().violations.first().copied()
    };
    assert_eq!(violations(&|_| {}), None);
    let signature = ObjectError::Signature;
    assert_eq!(violations(&|p| p.client_key = key(70).public()), Some(Violation::Syn(signature)));
    assert_eq!(violations(&|p| p.agent_key = key(70).public()), Some(Violation::OpeningFor("agent")));
    let other = bz_core::id::ConnectionId::from_bytes([8; 16]);
    assert_eq!(violations(&|p| p.connection = other), Some(Violation::OpeningFor("connection")));
}

/// TR-OPEN-1: a certificate that the client left out is put in where the server knows it.
#[test]
fn a_certificate_left_out_is_put_in() {
    let mut world = World::new();
    world.certificate_known = true;
    for (known, identity) in [(true, Identity::Proved), (false, Identity::AttestedByAgent)] {
        let mut first = Sim::new(&World::new(), 1);
        first.connect();
        first.settle();
        let mut sim = Sim::new(&world, 7);
        // An agent that has seen the login already; the grant is a new one as far as it knows.
        let mut grant = world.grant_body();
        grant.id = bz_core::id::GrantId::from_bytes([77; 16]);
        let mut opening = world.opening();
        opening.grant = world.sign_grant(&grant);
        sim.client = bz_protocol::client::Client::new(opening, sim.now).unwrap();
        sim.gate = first.gate;
        let mut known_parties = parties(&world);
        if !known {
            known_parties.certificates.clear();
        }
        sim.tap = Some(Tap::with(known_parties, ALL));
        sim.connect();
        sim.settle();
        sim.close();
        assert!(sim.denials.is_empty(), "{:?}", sim.denials);
        let verdict = check(&world, &sim.tap.unwrap().file).unwrap();
        assert_eq!(verdict.identity, identity);
    }
}

/// TR-OPEN-2: a login that outlived its issuer's key needs both keys, and each byte of both is checked.
#[test]
fn a_login_that_outlived_a_key_holds_both() {
    let world = World::new();
    let (old, new) = (Idp::new(2, "old"), World::idp());
    let request = bz_core::cert::CertRequest::new(ORG, &world.client_key, [7; 32]);
    let claims = |at| crate::idp::claims(START + at, &request.commitment());
    let certificate = request.certificate(&old.token(&claims(0)), &new.token(&claims(5))).unwrap();
    assert_eq!(BzCert::signed_by(&certificate, &new.jwks()), None, "the new set alone does not know the login's key");
    let mut keys = old.jwks();
    keys.add(&new.jwks()).unwrap();
    let tap = opened(&world, certificate, world.opening().grant, &keys);
    assert_eq!(tap.violations, []);
    let mut archive = JwksArchive::new();
    archive.add(ISSUER, &keys).unwrap();
    let (bundle, redacted) = (world.bundle(), redact(&tap.file).unwrap());
    let anchors = [Anchors::Bundle(&bundle, &archive), Anchors::FromTranscript];
    for anchors in &anchors {
        assert_eq!(verify(&tap.file, anchors).map(|v| v.identity), Ok(Identity::Proved));
        assert_eq!(verify(&redacted, anchors).map(|v| v.identity), Ok(Identity::AttestedByAgent));
        for at in 0..tap.file.len() {
            let mut bytes = tap.file.clone();
            bytes[at] ^= 1;
            assert!(verify(&bytes, anchors).is_err(), "byte {at} may change");
        }
    }
    // Where the tokens were taken out nothing is left to check the second key with.
    let mut with_both: Vec<Record> = records(&redacted).into_iter().map(|(_, r)| r).collect();
    with_both[0] = records(&tap.file).remove(0).1;
    assert_eq!(verify(&file(&with_both), &anchors[0]).map_err(|r| r.reason), Err(Reason::IdpKey));
}

/// TR-OPEN-3: a grant for anything else is none for this session, whoever accepted it.
#[test]
fn the_grant_is_for_exactly_this() {
    let world = World::new();
    let check = |change: &dyn Fn(&mut GrantBody), want: Option<Reason>| {
        let mut body = world.grant_body();
        change(&mut body);
        let tap = opened(&world, world.certificate(0), world.sign_grant(&body), &World::jwks());
        let got = verify(&tap.file, &Anchors::Bundle(&world.bundle(), &archive())).err().map(|r| r.reason);
        assert_eq!(got, want);
        let redacted = redact(&tap.file).unwrap();
        let got = verify(&redacted, &Anchors::Bundle(&world.bundle(), &archive())).err().map(|r| r.reason);
        // Without the tokens the grant names client and person, so a grant for others is another's session.
        match want {
            Some(Reason::GrantFor("client key")) => assert_eq!(got, Some(Reason::Syn(ObjectError::Signature))),
            Some(Reason::GrantFor("person")) => assert_eq!(got, None),
            want => assert_eq!(got, want),
        }
    };
    let other = |what| Some(Reason::GrantFor(what));
    check(&|_| {}, None);
    check(&|g| g.connection = bz_core::id::ConnectionId::from_bytes([9; 16]), other("connection"));
    check(&|g| g.agent_key = key(60).public(), other("agent"));
    check(&|g| g.client_key = key(60).public(), other("client key"));
    check(&|g| g.person.subject = "bob".to_owned(), other("person"));
    check(&|g| g.target = TargetId::from_bytes([9; 16]), other("target"));
    check(&|g| g.verb = Verb::Tunnel, other("verb"));
    check(&|g| g.mode = Mode::Sealed, other("mode"));
    check(&|g| g.request = Digest::of(b""), other("request"));
    check(&|g| g.user = Some(UserRule::Literal("bob".parse().unwrap())), other("target user"));
    check(&|g| g.user = None, other("target user"));
    check(&|g| g.user = Some(UserRule::Username), None);
    check(&|g| g.not_after = UnixTime::from_secs(START), Some(Reason::Grant(GrantError::Expired)));
}

/// What a relay records of an opening that client and agent signed, whatever it says.
fn opened(world: &World, certificate: Vec<u8>, grant: Vec<u8>, keys: &Jwks) -> Tap {
    let opening = world.opening();
    let key = |seed: u8| bz_core::key::EphemeralKey::from_seed(&[seed; 32]).unwrap().public();
    let syn = Syn {
        versions: vec![1],
        suites: vec![1],
        ephemeral: key(1),
        random: [1; 32],
        agent_key: opening.agent_key,
        connection: opening.connection,
        request: opening.request,
        certificate: Digest::of(&certificate),
        grant,
    };
    let syn = Signed::seal(&syn, ORG, &world.client_key).unwrap();
    let answer = SynAck {
        syn: syn.digest(),
        version: 1,
        suite: 1,
        ephemeral: key(2),
        random: [2; 32],
        credit: (1, 1),
        expires_at: UnixTime::from_secs(START + 100),
        idp_key: BzCert::signed_by(&certificate, keys).unwrap().1,
        verified_at: UnixTime::from_secs(START + 10),
        attached: None,
        facts: vec![],
    };
    let answer = Signed::seal(&answer, ORG, &world.agent_key).unwrap();
    let mut known = parties(world);
    known.keys = keys.clone();
    let mut tap = Tap::with(known, ALL);
    let packet = Packet::Syn(Box::new(SynPacket { syn, certificate: Some(certificate) }));
    tap.observe(Side::Agent, &packet.encode().unwrap());
    tap.observe(Side::Client, &Packet::SynAck(Box::new(answer)).encode().unwrap());
    tap
}

/// TR-DIRECTORY-1: a directory entry is the pinned directory's, for this agent and target, or the file is refused.
#[test]
fn the_directory_names_the_agent() {
    let world = World::new();
    let (directory, other) = (key(50), key(51));
    let entry = |agent: u8, target| DirectoryEntry {
        target,
        name: "web-1".to_owned(),
        agent_key: key(agent).public(),
        address: String::new(),
        serial: 1,
        expires_at: UnixTime::from_secs(START + 1000),
    };
    let mut bundle = world.bundle();
    bundle.directory_key = Some(directory.public());
    let check = |key: &bz_core::key::PrivateKey, entry: &DirectoryEntry| {
        let mut known = parties(&world);
        known.directory = Some((key.public(), Signed::seal(entry, ORG, key).unwrap()));
        let mut sim = Sim::new(&world, 7);
        sim.tap = Some(Tap::with(known, ALL));
        sim.connect();
        sim.settle();
        sim.close();
        let verdict = verify(&sim.tap.unwrap().file, &Anchors::Bundle(&bundle, &archive()));
        verdict.map(|v| v.agent_known).map_err(|r| r.reason)
    };
    assert_eq!(check(&directory, &entry(13, TARGET)), Ok(AgentKnown::Directory("web-1".to_owned())));
    assert_eq!(check(&other, &entry(13, TARGET)), Err(Reason::Directory("another directory's")));
    assert_eq!(check(&directory, &entry(12, TARGET)), Err(Reason::Directory("names another agent")));
    let elsewhere = TargetId::from_bytes([66; 16]);
    assert_eq!(check(&directory, &entry(13, elsewhere)), Err(Reason::Directory("names another target")));
    let mut old = entry(13, TARGET);
    old.expires_at = UnixTime::from_secs(START - 1);
    let ended = Reason::Directory("not signed by that directory, or past its end");
    assert_eq!(check(&directory, &old), Err(ended.clone()));
    let bytes = transcript(&world, 300, 0);
    let mut all: Vec<Record> = records(&bytes).into_iter().map(|(_, r)| r).collect();
    let forged = Signed::seal(&entry(13, TARGET), ORG, &other).unwrap();
    all.insert(2, Record::Directory(Box::new(Directory { key: directory.public(), entry: forged })));
    let got = verify(&file(&all), &Anchors::Bundle(&bundle, &archive())).map_err(|r| r.reason);
    assert_eq!(got, Err(ended));
}

/// TR-OBSERVE-5: what is typed while the terminal asks for a password is not kept, also where input is.
#[test]
fn a_password_is_withheld_where_input_is_kept() {
    let world = World::new();
    let mut sim = Sim::new(&world, 7);
    sim.tap = Some(Tap::new(&world, ALL));
    sim.connect();
    sim.settle();
    let typed = |sim: &mut Sim, text: &[u8]| {
        sim.client.act(sim.now, Action::Bytes { stream: 0, bytes: text.to_vec() }).unwrap();
        sim.settle();
    };
    let asks = |sim: &mut Sim, on| {
        sim.agent.act(sim.now, agent::Action::Notice(Notice::Password(on))).unwrap();
        sim.settle();
    };
    typed(&mut sim, b"sudo id\r");
    asks(&mut sim, true);
    typed(&mut sim, b"hunter2\r");
    sim.tap.as_mut().unwrap().restart();
    typed(&mut sim, b"again\r");
    asks(&mut sim, false);
    typed(&mut sim, b"ls\r");
    sim.close();
    let tap = sim.tap.unwrap();
    let kept: Vec<u8> = records(&tap.file)
        .into_iter()
        .filter_map(|(_, record)| match record {
            Record::Frame { direction: Direction::ToAgent, frame } if frame.header.kind == Some(Kind::Bytes) => {
                Some(frame.payload().unwrap_or(b"(withheld)").to_vec())
            }
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(String::from_utf8(kept).unwrap(), "sudo id\r(withheld)(withheld)ls\r");
    assert!(check(&world, &tap.file).unwrap().complete);
}

/// TR-ATTACH-1: an attach names the session before it, exactly as the agent signed.
#[test]
fn an_attach_names_its_predecessor() {
    let world = World::new();
    let predecessor =
        Predecessor { session: Digest::of(b"a"), to_agent: Digest::of(b"b"), to_client: Digest::of(b"c") };
    let mut sim = Sim::new(&world, 7);
    sim.tap = Some(Tap::new(&world, ALL));
    sim.attached = Some(Attached { shell: ShellId::from_bytes([6; 16]), predecessor: Some(predecessor) });
    sim.connect();
    sim.settle();
    sim.close();
    let bytes = sim.tap.unwrap().file;
    assert_eq!(check(&world, &bytes).unwrap().predecessor, Some(predecessor));
    let all: Vec<Record> = records(&bytes).into_iter().map(|(_, r)| r).collect();
    let at = all.iter().position(|r| matches!(r, Record::Predecessor(_))).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<Record>)| {
        let mut records = all.clone();
        change(&mut records);
        reason(&world, &file(&records))
    };
    assert_eq!(changed(&|r| drop(r.remove(at))), Some(Reason::Predecessor));
    let other = Predecessor { session: Digest::of(b"x"), ..predecessor };
    assert_eq!(changed(&|r| r[at] = Record::Predecessor(other)), Some(Reason::Predecessor));
    assert_eq!(changed(&|r| r.insert(at, r[at].clone())), Some(Reason::Misplaced));
}

/// TR-SERVER-1: the server's claim holds for its own bytes, under a key certified for records alone.
#[test]
fn the_servers_claim_is_its_own() {
    let world = World::new();
    let mut tap = recorded(&world, 300, 20).tap.unwrap();
    tap.claim(&world, "");
    let all: Vec<Record> = records(&tap.file).into_iter().map(|(_, r)| r).collect();
    let Some(Record::Server(good)) = all.last() else { panic!("no claim") };
    let claim: Claim = good.claim.open(&record_key().public(), ORG).unwrap();
    let refused = |claim: &Claim, certificate: &Signed<_>, signer: u8, want: Reason| {
        let server =
            ServerRecord { certificate: certificate.clone(), claim: Signed::seal(claim, ORG, &key(signer)).unwrap() };
        let mut records = all.clone();
        *records.last_mut().unwrap() = Record::Server(Box::new(server));
        assert_eq!(reason(&world, &file(&records)), Some(want));
    };
    let other_root = World { root: key(98), ..World::new() };
    refused(&claim, &good.certificate, 15, Reason::Claim(ObjectError::Signature));
    refused(&claim, &certificate(&world, Purpose::Grant), 14, Reason::ServerCert(ServerCertError::Purpose));
    refused(&claim, &certificate(&other_root, Purpose::Record), 14, Reason::ServerCert(ServerCertError::Root));
    let late = Claim { time: UnixTime::from_secs(START + 100_000), ..claim.clone() };
    refused(&late, &good.certificate, 14, Reason::ServerCert(ServerCertError::Validity));
    let other = Claim { session: Digest::of(b""), ..claim.clone() };
    refused(&other, &good.certificate, 14, Reason::ClaimFor("session"));
    let other = Claim { to_agent: 99, ..claim.clone() };
    refused(&other, &good.certificate, 14, Reason::ClaimFor("count of frames"));
    let other = Claim { digest: Digest::of(b""), ..claim };
    refused(&other, &good.certificate, 14, Reason::ClaimFor("content"));
    let mut early = all.clone();
    early.swap(all.len() - 2, all.len() - 1);
    assert_eq!(reason(&world, &file(&early)), Some(Reason::ClaimFor("count of frames")));
}

/// TR-EXPLAIN-1: a list says who did what, when it was signed, and repeats no control characters.
#[test]
fn a_list_says_who_did_what_when() {
    let world = World::new();
    let mut sim = Sim::new(&world, 7);
    sim.tap = Some(Tap::new(&world, Keep { output: true, input: false, apart: Apart::Nothing }));
    sim.connect();
    sim.settle();
    sim.client.act(sim.now, Action::Bytes { stream: 0, bytes: b"ls\r".to_vec() }).unwrap();
    sim.client.act(sim.now, Action::Resize(Size { rows: 50, columns: 132 })).unwrap();
    sim.agent.act(sim.now, agent::Action::Notice(Notice::Password(true))).unwrap();
    sim.agent.act(sim.now, agent::Action::Bytes { stream: 0, bytes: b"\x1b[31mred".to_vec() }).unwrap();
    sim.settle();
    sim.close();
    let mut tap = sim.tap.unwrap();
    tap.claim(&world, "closed\n");
    let listed: Vec<String> = explain(&tap.file)
        .unwrap()
        .iter()
        .map(|line| {
            format!("{} {} {}", line.signed.map_or_else(|| "-".to_owned(), |t| t.to_string()), line.who, line.what)
        })
        .collect();
    expect_test::expect![[r#"
        1970-01-12T13:46:40.005Z client "alice" of "https://idp.example" asks for a shell as alice on target 02020202-0202-0202-0202-020202020202, inspected
        1970-01-12T13:46:40.005Z agent has verified login and grant, and accepts
        1970-01-12T13:46:40.005Z agent signs everything so far
        1970-01-12T13:46:40.01Z client signs everything so far
        1970-01-12T13:46:40.06Z client sends bytes on stream 0, content withheld
        1970-01-12T13:46:40.06Z client resizes the terminal to 132 × 50
        1970-01-12T13:46:40.06Z agent asks for a password: what is typed is not shown
        1970-01-12T13:46:40.06Z agent sends 8 bytes on stream 0: "\u{1b}[31mred"
        1970-01-12T13:46:40.06Z client signs everything so far
        1970-01-12T13:46:41.045Z agent signs everything so far
        1970-01-12T13:46:41.08Z client asks for the end
        1970-01-12T13:46:41.08Z client signs everything so far
        1970-01-12T13:46:41.085Z agent ends the session: exited with 0
        1970-01-12T13:46:41.085Z agent signs everything so far
        1970-01-12T13:47:40Z server claims everything before: "closed\n""#]].assert_eq(&listed.join("\n"));
    let content = records(&tap.file).iter().any(|(_, r)| matches!(r, Record::Frame { frame: Frame { content: Content::Full { payload, .. }, .. }, .. } if payload == b"ls\r"));
    assert!(!content, "input is not kept");
}
