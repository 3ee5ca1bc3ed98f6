//! An end that holds the right keys and breaks the rules.

use std::time::Duration;

use bz_core::access::Mode;
use bz_core::signed::ObjectError;
use bz_core::time::UnixTime;
use bz_protocol::Misbehavior;
use bz_protocol::SendError;
use bz_protocol::agent::{self, Event};
use bz_protocol::checkpoint::Statement;
use bz_protocol::client;
use bz_protocol::frame::{Fin, Kind};
use bz_protocol::limits::{
    ACK_DELAY, CHECKPOINT_BURST, HANDSHAKE, LINGER, MAX_CHECKPOINTS, MAX_PAYLOAD, MAX_UNACKED, MAX_UNACKED_BYTES,
    PATIENCE, SESSION_CREDIT, STREAM_CREDIT,
};
use bz_protocol::packet::Packet;
use bz_protocol::refusal::Code;
use bz_protocol::session::{End, Input};

use crate::peer::Peer;
use crate::stage::{AgentStage, ClientStage, FIRST, SECOND, THIRD, agent_end, client_end};
use crate::world::{World, key};

const FIN: [u8; 4] = [0, 0, 0, 4];

/// What a peer says, and the rule it breaks with the last of it.
type Case = (&'static str, fn(&mut Peer) -> Vec<Vec<u8>>, Misbehavior);

fn statement(peer: &Peer, change: impl Fn(&mut Statement)) -> Vec<u8> {
    let mut statement = peer.statement();
    change(&mut statement);
    peer.sign(statement)
}

fn lie(peer: &mut Peer, change: impl Fn(&mut Statement)) -> Vec<Vec<u8>> {
    let payload = statement(peer, change);
    vec![peer.data(Kind::Checkpoint, 0, &payload)]
}

/// Lies that either end may tell the other.
const LIES: &[Case] = &[
    ("nothing at all", |_| vec![vec![]], Misbehavior::Malformed),
    ("a frame without a header", |p| vec![vec![p.data(Kind::Notice, 0, &[])[0], 1, 2]], Misbehavior::Malformed),
    ("a wrong tag", |p| vec![flipped(p.data(Kind::Bytes, 0, b"x"), 1)], Misbehavior::BadTag),
    (
        "a frame twice",
        |p| {
            let c = p.checkpoint();
            vec![c.clone(), c]
        },
        Misbehavior::OutOfOrder,
    ),
    (
        "a frame left out",
        |p| {
            p.checkpoint();
            vec![p.checkpoint()]
        },
        Misbehavior::OutOfOrder,
    ),
    (
        "frames never sent were seen",
        |p| {
            p.seen += 9;
            vec![p.checkpoint()]
        },
        Misbehavior::PeerNumber,
    ),
    (
        "bytes that saw fewer frames than before",
        |p| {
            p.seen -= 1;
            vec![p.data(Kind::Bytes, 0, b"x")]
        },
        Misbehavior::PeerNumber,
    ),
    (
        "fewer frames were seen than before",
        |p| {
            p.seen -= 1;
            vec![p.checkpoint()]
        },
        Misbehavior::PeerNumber,
    ),
    ("frames never sent are acknowledged", |p| vec![p.control(9, 0, &[])], Misbehavior::PeerNumber),
    (
        "a control frame twice",
        |p| {
            let c = p.control(0, 0, &[]);
            vec![c.clone(), c]
        },
        Misbehavior::OutOfOrder,
    ),
    ("a control frame with a wrong tag", |p| vec![flipped(p.control(0, 0, &[]), 1)], Misbehavior::BadTag),
    ("no bytes", |p| vec![p.data(Kind::Bytes, 0, &[])], Misbehavior::Credit),
    ("more than a stream's credit", |p| many(p, STREAM_CREDIT, |_| 0), Misbehavior::Credit),
    ("more than the session's credit", |p| many(p, SESSION_CREDIT, |at| at % 8), Misbehavior::Credit),
    ("too large a payload", |p| vec![p.data(Kind::Bytes, 0, &[0; MAX_PAYLOAD + 1])], Misbehavior::Malformed),
    ("a stream that was not opened", |p| vec![p.data(Kind::Bytes, 16, b"x")], Misbehavior::OutOfTurn),
    ("the end of one", |p| vec![p.data(Kind::Eof, 16, &[])], Misbehavior::OutOfTurn),
    ("the reset of one", |p| vec![p.data(Kind::Reset, 16, &[])], Misbehavior::OutOfTurn),
    ("the reset of one that is always there", |p| vec![p.data(Kind::Reset, 3, &[])], Misbehavior::OutOfTurn),
    (
        "a signature on a stream",
        |p| {
            let s = statement(p, |_| ());
            vec![p.data(Kind::Checkpoint, 1, &s)]
        },
        Misbehavior::Malformed,
    ),
    (
        "bytes after a stream's end",
        |p| vec![p.data(Kind::Eof, 7, &[]), p.data(Kind::Bytes, 7, b"x")],
        Misbehavior::AfterFin,
    ),
    ("a stream's end twice", |p| vec![p.data(Kind::Eof, 7, &[]), p.data(Kind::Eof, 7, &[])], Misbehavior::AfterFin),
    ("bytes after the end", |p| vec![p.data(Kind::Fin, 0, &FIN), p.data(Kind::Bytes, 0, b"x")], Misbehavior::AfterFin),
    ("the end twice", |p| vec![p.data(Kind::Fin, 0, &FIN), p.data(Kind::Fin, 0, &FIN)], Misbehavior::AfterFin),
    ("an end that is none", |p| vec![p.data(Kind::Fin, 0, b"?")], Misbehavior::Malformed),
    ("another session signed", |p| lie(p, |s| s.session = bz_core::digest::Digest::of(b"")), Misbehavior::OtherHistory),
    ("another number signed", |p| lie(p, |s| s.number += 1), Misbehavior::OtherHistory),
    ("another head signed", |p| lie(p, |s| s.head = bz_core::digest::Digest::of(b"")), Misbehavior::OtherHistory),
    ("another count signed", |p| lie(p, |s| s.peer_number = 0), Misbehavior::OtherHistory),
    ("another head of ours signed", |p| lie(p, |s| s.peer_head = s.head), Misbehavior::OtherHistory),
    ("another length signed", |p| lie(p, |s| s.bytes += 1), Misbehavior::OtherHistory),
    (
        "no signature",
        |p| vec![p.data(Kind::Checkpoint, 0, b"")],
        Misbehavior::Checkpoint(ObjectError::Wire(bz_core::wire::WireError::Malformed)),
    ),
];

fn flipped(mut packet: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = packet.len() - from_end;
    packet[at] ^= 1;
    packet
}

fn many(peer: &mut Peer, bytes: u64, stream: fn(u32) -> u32) -> Vec<Vec<u8>> {
    let half = (MAX_PAYLOAD / 2) as u64;
    let mut packets = vec![];
    for at in 0..=(bytes / half) {
        if at % 16 == 15 {
            packets.push(peer.checkpoint());
        }
        packets.push(peer.data(Kind::Bytes, stream(at as u32), &vec![0; MAX_PAYLOAD / 2]));
    }
    packets
}

/// PR-FRAME-2, PR-FLOW-2, PR-CHK-2 (H1, H3, T11): each lie ends the session with the rule it breaks, at either end and
/// in either mode, and what was said before it was taken.
#[test]
fn every_lie_ends_the_session_by_its_rule() {
    for mode in [Mode::Inspected, Mode::Sealed] {
        let mut world = World::new();
        world.mode = mode;
        for (what, lie, rule) in LIES {
            let mut stage = AgentStage::new(&world).open();
            let packets = lie(stage.peer());
            let ends: Vec<_> = packets.iter().map(|p| agent_end(&stage.say(FIRST, p))).collect();
            check(&format!("a client of a {mode} session: {what}"), &ends, *rule);
            let mut stage = ClientStage::sent(&world).open();
            let packets = lie(&mut stage.peer);
            let ends: Vec<_> = packets.iter().map(|p| client_end(&stage.say(FIRST, p))).collect();
            check(&format!("an agent of a {mode} session: {what}"), &ends, *rule);
        }
    }
}

fn check(what: &str, ends: &[Option<End>], rule: Misbehavior) {
    let (last, before) = ends.split_last().unwrap();
    assert!(before.iter().all(Option::is_none), "{what}: ended too early: {before:?}");
    assert_eq!(last, &Some(End::Misbehavior(rule)), "{what}");
}

/// PR-HS-4: each end says only what is its to say.
#[test]
fn neither_end_plays_the_other() {
    for kind in [Kind::Notice, Kind::Refuse, Kind::Answer, Kind::Report] {
        let mut stage = AgentStage::new(&World::new()).open();
        let packet = stage.peer().data(kind, 0, &[0; 4]);
        assert_eq!(agent_end(&stage.say(FIRST, &packet)), Some(End::Misbehavior(Misbehavior::OutOfTurn)), "{kind:?}");
    }
    for kind in [Kind::Resize, Kind::Reauthenticate, Kind::Open] {
        let mut stage = ClientStage::sent(&World::new()).open();
        let packet = stage.peer.data(kind, 0, &[0; 4]);
        assert_eq!(client_end(&stage.say(FIRST, &packet)), Some(End::Misbehavior(Misbehavior::OutOfTurn)), "{kind:?}");
    }
}

/// PR-CHK-1: the first frame of either end is a signature, by that end's key.
#[test]
fn an_opening_is_signed() {
    let mut stage = AgentStage::new(&World::new()).unconfirmed();
    let bytes = stage.peer().data(Kind::Bytes, 0, b"rm -rf /");
    let done = stage.say(FIRST, &bytes);
    assert_eq!(agent_end(&done), Some(End::Misbehavior(Misbehavior::OpeningUnsigned)));
    assert_eq!(done.events.len(), 1, "nothing was confirmed: {done:?}");

    let mut world = World::new();
    let mut stage = AgentStage::new(&world).unconfirmed();
    world.client_key = key(99);
    let stranger = Peer::client(&world, &stage.syn.syn, stage.ack.as_ref().unwrap());
    let payload = stranger.sign(stage.peer().statement());
    let forged = stage.peer().data(Kind::Checkpoint, 0, &payload);
    let rule = Misbehavior::Checkpoint(ObjectError::Signature);
    assert_eq!(agent_end(&stage.say(FIRST, &forged)), Some(End::Misbehavior(rule)));
}

/// PR-CHK-3: more unsigned bytes than one checkpoint's worth and a frame end an inspected session; silence does not.
#[test]
fn an_end_that_stops_signing_is_dropped() {
    let mut stage = AgentStage::new(&World::new()).open();
    stage.now = stage.now.after(Duration::from_secs(3000));
    stage.agent.handle(stage.now, Input::Tick);
    for stream in (0..17).map(|at| at % 16) {
        let packet = stage.peer().data(Kind::Bytes, stream, &[1; MAX_PAYLOAD]);
        assert_eq!(agent_end(&stage.say(FIRST, &packet)), None, "frame {stream}");
        stage.agent.act(stage.now, agent::Action::Consumed { stream, bytes: MAX_PAYLOAD }).unwrap();
        // The credit for it is granted with the acknowledgement.
        stage.now = stage.now.after(ACK_DELAY);
        stage.drain();
    }
    let packet = stage.peer().data(Kind::Bytes, 15, &[1]);
    assert_eq!(agent_end(&stage.say(FIRST, &packet)), Some(End::Misbehavior(Misbehavior::CheckpointOverdue)));
}

/// PR-CHK-4: checkpoints beyond the allowance end the session.
#[test]
fn an_end_that_signs_too_often_is_dropped() {
    let mut stage = AgentStage::new(&World::new()).open();
    for at in 1..MAX_CHECKPOINTS {
        let packet = stage.peer().checkpoint();
        assert_eq!(agent_end(&stage.say(FIRST, &packet)), None, "checkpoint {at}");
    }
    let packet = stage.peer().checkpoint();
    let end = agent_end(&stage.say(FIRST, &packet));
    assert_eq!(end, Some(End::Misbehavior(Misbehavior::TooManyCheckpoints)));
}

/// PR-CHK-4: what honest ends signed while a carrier stood still may arrive at once, and fast bulk is no misbehavior.
#[test]
fn honest_signatures_that_arrive_together_are_taken() {
    let mut stage = AgentStage::new(&World::new()).open();
    stage.now = stage.now.after(PATIENCE);
    for at in 0..20 * PATIENCE.as_secs() {
        let packet = stage.peer().checkpoint();
        assert_eq!(agent_end(&stage.say(FIRST, &packet)), None, "checkpoint {at}");
    }
    assert!(u64::from(CHECKPOINT_BURST) >= 20 * PATIENCE.as_secs());

    let mut stage = AgentStage::new(&World::new()).open();
    for mebibyte in 0..=MAX_CHECKPOINTS {
        for stream in 0..16 {
            let packet = stage.peer().data(Kind::Bytes, stream, &[1; MAX_PAYLOAD]);
            assert_eq!(agent_end(&stage.say(FIRST, &packet)), None, "MiB {mebibyte}");
            stage.agent.act(stage.now, agent::Action::Consumed { stream, bytes: MAX_PAYLOAD }).unwrap();
        }
        let packet = stage.peer().checkpoint();
        assert_eq!(agent_end(&stage.say(FIRST, &packet)), None, "MiB {mebibyte}");
        stage.agent.handle(stage.now, Input::Tick);
        stage.drain();
    }
}

/// PR-FLOW-3 (T8): however much credit a peer grants, what is kept for it is bounded.
#[test]
fn a_peer_that_grants_everything_and_acknowledges_nothing_costs_a_bounded_amount() {
    let mut stage = AgentStage::new(&World::new()).open();
    let grant: Vec<(u32, u64)> = (0..4).map(|stream| (stream, u64::MAX)).collect();
    let mut kept = 0;
    for _ in 0..200 {
        for stream in 0..4 {
            let room = stage.agent.writable(stream);
            if room > 0 {
                stage.agent.act(stage.now, agent::Action::Bytes { stream, bytes: vec![0; room] }).unwrap();
                kept += room as u64;
            }
        }
        let packet = stage.peer().control(0, u64::MAX, &grant);
        stage.say(FIRST, &packet);
    }
    assert!((SESSION_CREDIT..=MAX_UNACKED_BYTES).contains(&kept), "kept {kept} bytes");
}

/// PR-FLOW-3 (T8): a client that acknowledges for ever and, after a resumption, never says which frames it saw is no
/// reason to remember every one of them.
#[test]
fn a_peer_that_never_names_what_it_saw_is_dropped() {
    let mut stage = AgentStage::new(&World::new()).resuming();
    let (resume, ack) = stage.resume.unwrap();
    let done = stage.peer().resume_done(&resume, &ack);
    stage.say(SECOND, &Packet::ResumeDone(done).encode().unwrap());
    let (mut sent, batch) = (2, MAX_UNACKED / 2);
    for _ in 0..10 {
        for _ in 0..batch {
            stage.agent.act(stage.now, agent::Action::Bytes { stream: 0, bytes: b"x".to_vec() }).unwrap();
        }
        stage.drain();
        sent += batch as u64;
        let packet = stage.peer().control(sent, u64::MAX, &[(0, u64::MAX)]);
        if let Some(end) = agent_end(&stage.say(SECOND, &packet)) {
            assert_eq!(end, End::Misbehavior(Misbehavior::PeerNumber));
            return;
        }
    }
    panic!("{sent} frames are remembered");
}

/// PR-FLOW-5: an acknowledgement never overtakes a frame that was sealed before what it names came.
#[test]
fn acknowledgements_overtake_nothing() {
    let mut stage = AgentStage::new(&World::new()).open();
    stage.agent.act(stage.now, agent::Action::Bytes { stream: 0, bytes: b"$ ".to_vec() }).unwrap();
    let packets = [stage.peer().data(Kind::Bytes, 0, b"id\n"), stage.peer().checkpoint()];
    for bytes in &packets {
        stage.agent.handle(stage.now, Input::Packet { carrier: FIRST, bytes });
    }
    stage.now = stage.now.after(ACK_DELAY);
    let kinds: Vec<_> = stage.drain().packets.iter().map(|(_, packet)| packet[0]).collect();
    assert_eq!(kinds, [4, 5], "the prompt, then the acknowledgement");
}

/// PR-FLOW-4: what cannot be sent is refused here, not at the other end.
#[test]
fn streams_out_of_range_or_ended_take_nothing() {
    let mut stage = ClientStage::sent(&World::new()).open();
    let bytes = |stream| client::Action::Bytes { stream, bytes: b"x".to_vec() };
    assert_eq!((stage.client.writable(15) > 0, stage.client.writable(16)), (true, 0));
    assert_eq!(stage.client.act(stage.now, bytes(16)), Err(SendError::NoRoom));
    assert_eq!(stage.client.act(stage.now, client::Action::Eof { stream: 16 }), Err(SendError::NoRoom));
    assert_eq!(stage.client.act(stage.now, client::Action::Eof { stream: 3 }), Ok(()));
    assert_eq!(stage.client.act(stage.now, client::Action::Eof { stream: 3 }), Ok(()));
    assert_eq!(stage.client.act(stage.now, bytes(3)), Err(SendError::NoRoom));
    let ends = stage.drain().packets.iter().filter(|(_, p)| p[0] == 3 && p[17] == Kind::Eof.byte()).count();
    assert_eq!(ends, 1, "a stream ends once on the wire");
}

/// PR-HS-2: a session whose login ran out before the confirmation never begins.
#[test]
fn what_expired_before_its_confirmation_does_not_begin() {
    let mut world = World::new();
    world.session_seconds = 5;
    let mut stage = AgentStage::new(&world).unconfirmed();
    stage.now = stage.now.after(Duration::from_secs(6));
    stage.agent.handle(stage.now, Input::Tick);
    stage.drain();
    let confirmation = stage.peer().checkpoint();
    let done = stage.say(FIRST, &confirmation);
    assert!(done.events.is_empty(), "{done:?}");
    stage.now = stage.now.after(HANDSHAKE);
    stage.agent.handle(stage.now, Input::Tick);
    assert!(agent_end(&stage.drain()).is_some());
}

/// PR-HS-3: an admission is for the `Syn` that was judged and no other.
#[test]
fn an_admission_of_another_opening_is_not_taken() {
    let world = World::new();
    let mut other = AgentStage::new(&World { parameters: other_parameters(), ..World::new() }).judging();
    let mut stage = AgentStage::new(&world).judging();
    let admission = other.gate.admit(other.opening.as_ref().unwrap(), Some(&World::jwks()), other.now).unwrap();
    let admit = agent::Action::Admit { admission: Box::new(admission), attached: None, facts: vec![] };
    assert_eq!(stage.agent.act(stage.now, admit), Err(SendError::NotOpen));
}

fn other_parameters() -> bz_core::access::request::Parameters {
    bz_core::access::request::Parameters::Exec { command: "id".to_owned() }
}

/// PR-HS-5: asking for the certificate again and again keeps no machine waiting beyond its time.
#[test]
fn certificates_are_not_asked_for_for_ever() {
    let mut world = World::new();
    world.certificate_known = true;
    let mut stage = AgentStage::new(&world);
    for _ in 0..4 {
        stage = stage.judging();
        stage.agent.act(stage.now, agent::Action::Refuse(Code::CertificateUnknown)).unwrap();
        stage.drain();
        stage.now = stage.now.after(HANDSHAKE / 4);
    }
    stage.agent.handle(stage.now, Input::Tick);
    assert_eq!(agent_end(&stage.drain()), Some(End::Timeout));
}

/// PR-RESUME-4 (T11): a stranger's carrier ends itself, never the session.
#[test]
fn what_comes_on_an_unproved_carrier_ends_that_carrier_alone() {
    let mut stage = AgentStage::new(&World::new()).open();
    for packet in [vec![], vec![99], Packet::Refusal(Code::Revoked).encode().unwrap()] {
        stage.up(THIRD);
        let done = stage.say(THIRD, &packet);
        assert_eq!((done.closed, done.events.len()), (vec![THIRD], 0), "{packet:?}");
    }
    let packet = stage.peer().data(Kind::Bytes, 0, b"still here");
    assert!(matches!(stage.say(FIRST, &packet).events[..], [Event::Bytes { .. }]));

    let mut stage = ClientStage::sent(&World::new()).resuming();
    for packet in [vec![], vec![99], Packet::Refusal(Code::Revoked).encode().unwrap()] {
        stage.client.handle(stage.now, Input::CarrierUp { carrier: THIRD, random: [1; 32] });
        stage.drain();
        let done = stage.say(THIRD, &packet);
        assert_eq!((done.closed, done.events.len()), (vec![THIRD], 0), "{packet:?}");
    }
    let packet = stage.peer.data(Kind::Bytes, 0, b"x");
    assert!(stage.say(FIRST, &packet).events.is_empty(), "the first carrier was given up");
}

/// PR-RESUME-2: every carrier that a resumption replaces is closed, so no client holds many.
#[test]
fn replaced_carriers_are_closed() {
    let mut stage = AgentStage::new(&World::new()).resuming();
    stage.up(THIRD);
    let resume = stage.peer().resume(2, [62; 32]);
    let done = stage.say(THIRD, &Packet::Resume(resume).encode().unwrap());
    assert_eq!(done.closed, [SECOND]);
    let mut stage = AgentStage::new(&World::new()).unconfirmed();
    stage.up(SECOND);
    let syn = Packet::Syn(Box::new(stage.syn.clone())).encode().unwrap();
    let done = stage.say(SECOND, &syn);
    assert_eq!(done.closed, [FIRST]);
    assert_eq!(Packet::decode(&done.packets[0].1), Ok(Packet::SynAck(Box::new(stage.ack.clone().unwrap()))));
}

/// PR-RESUME-5: a position that goes back is a lie, though proved.
#[test]
fn a_resumption_behind_what_was_acknowledged_is_refused() {
    let mut stage = AgentStage::new(&World::new()).open();
    let packet = stage.peer().control(1, 0, &[]);
    stage.say(FIRST, &packet);
    stage.up(SECOND);
    stage.peer().seen = 0;
    let resume = stage.peer().resume(1, [61; 32]);
    let done = stage.say(SECOND, &Packet::Resume(resume).encode().unwrap());
    let Ok(Packet::ResumeAck(ack)) = Packet::decode(&done.packets[0].1) else { panic!("no answer: {done:?}") };
    // The proof covers the agent's own position, which is 1.
    let proof = stage.peer().resume_done(&resume, &ack);
    let done = stage.say(SECOND, &Packet::ResumeDone(proof).encode().unwrap());
    assert_eq!(agent_end(&done), Some(End::Misbehavior(Misbehavior::PeerNumber)));
}

/// PR-END-3: a client without a signature over the end leaves the session truncated, and one whose carrier is gone may
/// still come for it.
#[test]
fn an_end_is_complete_when_both_signed_it() {
    let mut stage = AgentStage::new(&World::new()).finished();
    stage.now = stage.now.after(LINGER);
    stage.agent.handle(stage.now, Input::Tick);
    assert_eq!(agent_end(&stage.drain()), Some(End::Truncated));

    let mut stage = AgentStage::new(&World::new()).open();
    stage.agent.handle(stage.now, Input::CarrierDown { carrier: FIRST });
    stage.agent.act(stage.now, agent::Action::Finish(Fin::Exited(3))).unwrap();
    stage.now = stage.now.after(LINGER * 2);
    stage.agent.handle(stage.now, Input::Tick);
    assert_eq!(agent_end(&stage.drain()), None, "a client without a carrier is waited for");
    stage.up(SECOND);
    let resume = stage.peer().resume(1, [61; 32]);
    let done = stage.say(SECOND, &Packet::Resume(resume).encode().unwrap());
    let Ok(Packet::ResumeAck(ack)) = Packet::decode(&done.packets[0].1) else { panic!("no answer: {done:?}") };
    let proof = stage.peer().resume_done(&resume, &ack);
    let done = stage.say(SECOND, &Packet::ResumeDone(proof).encode().unwrap());
    for (_, packet) in done.packets.iter().filter(|(_, p)| p[0] == 4) {
        stage.peer().saw(packet);
    }
    let seen = stage.peer().seen;
    let packets =
        [stage.peer().data(Kind::Fin, 0, &FIN), stage.peer().checkpoint(), stage.peer().control(seen, 0, &[])];
    let ends: Vec<_> = packets.iter().filter_map(|p| agent_end(&stage.say(SECOND, p))).collect();
    assert_eq!(ends, [End::Completed(Fin::Exited(3))]);
}

/// PR-END-1: a client that gives up says what is certain: complete only with the agent's signature.
#[test]
fn a_client_that_is_left_alone_says_truncated() {
    let mut stage = ClientStage::sent(&World::new());
    stage.client.abandon();
    assert_eq!(client_end(&stage.drain()), Some(End::Lost));
    let mut stage = ClientStage::sent(&World::new()).open();
    let fin = stage.peer.data(Kind::Fin, 0, &FIN);
    assert_eq!(client_end(&stage.say(FIRST, &fin)), None, "an unsigned end is none");
    stage.client.abandon();
    assert_eq!(client_end(&stage.drain()), Some(End::Truncated));
    stage.client.abandon();
    assert!(stage.drain().events.is_empty());
    let mut stage = ClientStage::sent(&World::new()).open();
    let packets = [stage.peer.data(Kind::Fin, 0, &FIN), stage.peer.checkpoint()];
    let ends: Vec<_> = packets.iter().filter_map(|p| client_end(&stage.say(FIRST, p))).collect();
    assert_eq!(ends, [End::Completed(Fin::Done)]);
}

/// PR-END-4: an administrator's word is the session's end at both ends.
#[test]
fn a_refusal_of_an_open_session_is_its_end() {
    let mut stage = AgentStage::new(&World::new()).open();
    stage.agent.act(stage.now, agent::Action::Refuse(Code::Revoked)).unwrap();
    let packet = stage.peer().data(Kind::Bytes, 0, b"typed too late");
    assert!(stage.say(FIRST, &packet).events.is_empty());
    stage.now = stage.now.after(LINGER);
    stage.agent.handle(stage.now, Input::Tick);
    assert_eq!(agent_end(&stage.drain()), Some(End::Refused(Code::Revoked)));
    assert_eq!(stage.now.wall.since(UnixTime::from_secs(crate::world::START)), LINGER);
}
