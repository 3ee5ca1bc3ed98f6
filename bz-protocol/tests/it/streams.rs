//! Streams opened later in a session.

use std::time::Duration;

use bz_core::access::Mode;
use bz_core::access::destination::Destination;
use bz_core::access::request::Parameters;
use bz_core::digest::Digest;
use bz_core::key::PrivateKey;
use bz_core::local::{LocalDenial, LocalPolicy};
use bz_core::signed::{ObjectError, Signed};
use bz_core::time::UnixTime;
use bz_protocol::client::Event;
use bz_protocol::frame::{Fin, Kind};
use bz_protocol::gate::{Denial, LocalRule};
use bz_protocol::limits::{MAX_STREAMS, SESSION_CREDIT, STREAM_CREDIT};
use bz_protocol::packet::Packet;
use bz_protocol::session::End;
use bz_protocol::stream::{Answer, FIRST_OPENED, Report, StreamRequest, Why};
use bz_protocol::transcript::{Fault, Keep, Violation, explain};
use bz_protocol::{Misbehavior, SendError};
use bz_protocol::{agent, client};

use crate::peer::Peer;
use crate::sim::{Side, Sim, pattern};
use crate::stage::{AgentStage, ClientStage, FIRST as CARRIER, agent_end, client_end};
use crate::tap::Tap;
use crate::world::{ORG, World};

const FIRST: u32 = FIRST_OPENED;

fn to(destination: &str) -> StreamRequest {
    StreamRequest::Dial(destination.parse().unwrap())
}

fn tunnel(mode: Mode) -> World {
    let parameters = Parameters::Tunnel { destinations: vec!["*:*".parse().unwrap()] };
    World { mode, user: None, parameters, ..World::new() }
}

fn begin(mode: Mode) -> Sim {
    let mut sim = Sim::new(&tunnel(mode), 1);
    sim.connect();
    sim.settle();
    sim
}

fn both() -> [Mode; 2] {
    [Mode::Sealed, Mode::Inspected]
}

fn open(sim: &mut Sim, destination: &str) -> u32 {
    let stream = sim.client.next_stream().unwrap();
    sim.client.act(sim.now, client::Action::Open { stream, request: to(destination) }).unwrap();
    stream
}

fn answer(sim: &mut Sim, stream: u32) {
    let answer = Answer::Opened { at: "10.0.0.1:80".to_owned() };
    sim.agent.act(sim.now, agent::Action::Answer { stream, answer }).unwrap();
}

fn client_sends(sim: &mut Sim, stream: u32, bytes: Vec<u8>) {
    sim.client.act(sim.now, client::Action::Bytes { stream, bytes }).unwrap();
}

fn agent_sends(sim: &mut Sim, stream: u32, bytes: Vec<u8>) {
    sim.agent.act(sim.now, agent::Action::Bytes { stream, bytes }).unwrap();
}

/// PR-STREAM-1: a stream is opened, carries bytes both ways from the first moment, ends in both directions, and is
/// forgotten; another follows under the next number.
#[test]
fn a_stream_carries_bytes_and_ends() {
    for mode in both() {
        let mut sim = begin(mode);
        let stream = open(&mut sim, "db.internal:5432");
        client_sends(&mut sim, stream, pattern(0, 1000));
        sim.client.act(sim.now, client::Action::Eof { stream }).unwrap();
        sim.settle();
        assert_eq!(sim.opened, [(stream, to("db.internal:5432"))]);
        assert_eq!(sim.came[&(Side::Agent, stream)], pattern(0, 1000), "before the answer");
        answer(&mut sim, stream);
        agent_sends(&mut sim, stream, pattern(0, 2000));
        sim.agent.act(sim.now, agent::Action::Eof { stream }).unwrap();
        sim.settle();
        assert_eq!(sim.came[&(Side::Client, stream)], pattern(0, 2000));
        let told: Vec<_> =
            sim.client_events.iter().filter(|e| matches!(e, Event::Answered { .. } | Event::Eof { .. })).collect();
        let at = "10.0.0.1:80".to_owned();
        assert_eq!(told, [&Event::Answered { stream, answer: Answer::Opened { at } }, &Event::Eof { stream }]);
        assert_eq!((sim.client.writable(stream), sim.agent.writable(stream)), (0, 0));
        assert_eq!(open(&mut sim, "db.internal:5432"), stream + 1);
        sim.close();
        assert_eq!(sim.client_ended, Some(End::Completed(Fin::Exited(0))));
    }
}

/// PR-STREAM-1: as many as may go on at once go on, and not one more; one that has ended makes room.
#[test]
fn streams_are_bounded() {
    let mut sim = begin(Mode::Sealed);
    for _ in 0..MAX_STREAMS {
        open(&mut sim, "a:1");
    }
    assert_eq!(sim.client.next_stream(), None);
    sim.settle();
    assert_eq!(sim.opened.len(), MAX_STREAMS as usize);
    let too_many = client::Action::Open { stream: FIRST + MAX_STREAMS, request: to("a:1") };
    assert_eq!(sim.client.act(sim.now, too_many), Err(SendError::NoRoom));
    sim.agent
        .act(sim.now, agent::Action::Answer { stream: FIRST + 7, answer: Answer::Refused(Why::NotFound) })
        .unwrap();
    sim.settle();
    assert_eq!(sim.client.next_stream(), Some(FIRST + MAX_STREAMS));
    open(&mut sim, "a:1");
    sim.settle();
    assert_eq!((sim.opened.len(), &sim.client_ended), (MAX_STREAMS as usize + 1, &None));
}

/// PR-STREAM-4: a reset ends both directions whatever is under way, each end is told once, and nothing of it is
/// held against the session's credit.
#[test]
fn a_reset_ends_a_stream_whatever_is_under_way() {
    for (mode, who) in both().into_iter().flat_map(|mode| [(mode, Side::Client), (mode, Side::Agent)]) {
        let mut sim = begin(mode);
        // More than a session's credit, if what is thrown away counted.
        for turn in 0..20 {
            let stream = open(&mut sim, "a:1");
            sim.settle();
            answer(&mut sim, stream);
            client_sends(&mut sim, stream, pattern(0, 60_000));
            agent_sends(&mut sim, stream, pattern(0, 60_000));
            match who {
                Side::Client => sim.client.act(sim.now, client::Action::Reset { stream }).unwrap(),
                Side::Agent => sim.agent.act(sim.now, agent::Action::Reset { stream }).unwrap(),
            }
            sim.settle();
            let other = if who == Side::Client { Side::Agent } else { Side::Client };
            assert_eq!(sim.resets, [(other, stream)], "{mode:?}, {who:?}, {turn}");
            assert_eq!((sim.client.writable(stream), sim.agent.writable(stream)), (0, 0));
            sim.resets.clear();
        }
        assert_eq!(sim.client.next_stream(), Some(FIRST + 20));
        assert_eq!((&sim.client_ended, &sim.agent_ended), (&None, &None));
    }
}

/// PR-STREAM-4: both ends at once, or an end that crosses a reset.
#[test]
fn resets_and_ends_may_cross() {
    let mut sim = begin(Mode::Sealed);
    let (one, two) = (open(&mut sim, "a:1"), open(&mut sim, "a:1"));
    sim.settle();
    answer(&mut sim, one);
    answer(&mut sim, two);
    sim.settle();
    sim.client.act(sim.now, client::Action::Reset { stream: one }).unwrap();
    sim.agent.act(sim.now, agent::Action::Reset { stream: one }).unwrap();
    sim.client.act(sim.now, client::Action::Eof { stream: two }).unwrap();
    sim.client.act(sim.now, client::Action::Reset { stream: two }).unwrap();
    sim.agent.act(sim.now, agent::Action::Eof { stream: two }).unwrap();
    sim.settle();
    let three = open(&mut sim, "a:1");
    // Given up before it was answered.
    sim.client.act(sim.now, client::Action::Reset { stream: three }).unwrap();
    sim.settle();
    let late = agent::Action::Answer { stream: three, answer: Answer::Refused(Why::TimedOut) };
    assert_eq!(sim.agent.act(sim.now, late), Err(SendError::NotOpen));
    sim.settle();
    assert_eq!((&sim.client_ended, &sim.agent_ended), (&None, &None));
    sim.close();
    assert_eq!(sim.client_ended, Some(End::Completed(Fin::Exited(0))));
}

/// PR-STREAM-5: streams that nobody reads hold their own credit, and another goes on as if they were not there.
#[test]
fn who_does_not_read_holds_up_nobody_else() {
    let mut sim = begin(Mode::Sealed);
    let stuck: Vec<_> = (0..20).map(|_| open(&mut sim, "a:1")).collect();
    let good = open(&mut sim, "a:1");
    sim.settle();
    for stream in stuck.iter().chain([&good]) {
        answer(&mut sim, *stream);
    }
    sim.unread = stuck.iter().map(|stream| (Side::Client, *stream)).collect();
    sim.settle();
    for stream in &stuck {
        for _ in 0..1000 {
            let room = sim.agent.writable(*stream);
            if room == 0 {
                break;
            }
            agent_sends(&mut sim, *stream, pattern(0, room));
            sim.settle();
        }
        assert_eq!(sim.came[&(Side::Client, *stream)].len() as u64, STREAM_CREDIT, "stream {stream}");
    }
    let mut sent = 0;
    while sent < 4 * SESSION_CREDIT as usize {
        let room = sim.agent.writable(good);
        assert!(room > 0, "after {sent} bytes");
        agent_sends(&mut sim, good, pattern(sent, room));
        sent += room;
        sim.settle();
    }
    assert!(sim.came[&(Side::Client, good)] == pattern(0, sent));
}

/// PR-STREAM-1: whoever opens what may not be opened ends the session.
#[test]
fn every_lie_about_an_opening_ends_the_session() {
    let world = tunnel(Mode::Sealed);
    let agent = |what: &str, opens: &[u32], rule: Option<Misbehavior>| {
        let mut stage = AgentStage::new(&world).open();
        let payload = bz_core::wire::encode(&to("a:1"), 512).unwrap();
        let say = |stream: &u32| {
            let packet = stage.peer().data(Kind::Open, *stream, &payload);
            agent_end(&stage.say(CARRIER, &packet))
        };
        let ends: Vec<_> = opens.iter().map(say).collect();
        assert!(ends[..ends.len() - 1].iter().all(Option::is_none), "{what}");
        assert_eq!(ends.last().unwrap(), &rule.map(End::Misbehavior), "{what}");
    };
    agent("the first, and one further on", &[FIRST, FIRST + 9], None);
    agent("one that is always there", &[FIRST - 1], Some(Misbehavior::OutOfTurn));
    agent("one twice", &[FIRST, FIRST], Some(Misbehavior::OutOfTurn));
    agent("one that was passed over", &[FIRST + 9, FIRST], Some(Misbehavior::OutOfTurn));
    let many: Vec<_> = (FIRST..=FIRST + MAX_STREAMS).collect();
    agent("one too many", &many, Some(Misbehavior::OutOfTurn));
}

type Says = fn(&mut Peer) -> Vec<Vec<u8>>;

fn report(p: &mut Peer, key: &PrivateKey, change: fn(&mut Report)) -> Vec<u8> {
    let (time, answer) = (UnixTime::from_secs(1), Answer::Opened { at: "10.0.0.1:1".to_owned() });
    let mut report = Report { session: p.session, stream: FIRST, request: to("a:1"), answer, time };
    change(&mut report);
    p.readable(Kind::Report, FIRST, &Report::encode(&Signed::seal(&report, ORG, key).unwrap()).unwrap())
}

fn good(p: &mut Peer) -> Vec<u8> {
    report(p, &World::new().agent_key, |_| ())
}

/// PR-STREAM-3: an answer counts behind the agent's own report of exactly what was asked.
#[test]
fn every_lie_about_an_answer_ends_the_session() {
    let world = tunnel(Mode::Sealed);
    let answer = |p: &mut Peer, stream| {
        let answer = Answer::Opened { at: "10.0.0.1:1".to_owned() };
        p.data(Kind::Answer, stream, &bz_core::wire::encode(&answer, 512).unwrap())
    };
    let client = |what: &str, says: Says, answers: &[u32], rule: Option<Misbehavior>| {
        let mut stage = ClientStage::sent(&world).open();
        stage.client.act(stage.now, client::Action::Open { stream: FIRST, request: to("a:1") }).unwrap();
        let mut packets = says(&mut stage.peer);
        packets.extend(answers.iter().map(|stream| answer(&mut stage.peer, *stream)));
        let ends: Vec<_> = packets.iter().map(|packet| client_end(&stage.say(CARRIER, packet))).collect();
        assert!(ends[..ends.len() - 1].iter().all(Option::is_none), "{what}: {ends:?}");
        assert_eq!(ends.last().unwrap(), &rule.map(End::Misbehavior), "{what}");
    };
    client("reported and answered", |p| vec![good(p)], &[FIRST], None);
    client("not reported", |_| vec![], &[FIRST], Some(Misbehavior::OutOfTurn));
    client("answered twice", |p| vec![good(p)], &[FIRST, FIRST], Some(Misbehavior::OutOfTurn));
    client("answered, not asked", |_| vec![], &[FIRST + 1], Some(Misbehavior::OutOfTurn));
    let other: Says = |p| vec![report(p, &World::new().agent_key, |r| r.request = to("b:2"))];
    client("reported otherwise", other, &[], Some(Misbehavior::OtherHistory));
    let other: Says = |p| vec![report(p, &World::new().agent_key, |r| r.stream += 1)];
    client("of another stream", other, &[], Some(Misbehavior::OutOfTurn));
    let other: Says = |p| vec![report(p, &World::new().agent_key, |r| r.session = Digest::of(b""))];
    client("of another session", other, &[], Some(Misbehavior::OutOfTurn));
    client("by another", |p| vec![report(p, &World::new().grant_key, |_| ())], &[], Some(Misbehavior::OtherAgent));
    let sealed: Says = |p| vec![p.data(Kind::Report, FIRST, b"")];
    client("inside the seal", sealed, &[], Some(Misbehavior::Malformed));
    let readable: Says = |p| vec![p.readable(Kind::Bytes, FIRST, b"x")];
    client("anything else outside it", readable, &[], Some(Misbehavior::Malformed));
}

/// TR-SEALED-3: the record of a sealed session shows what it opened, and takes no report that the agent did not sign.
#[test]
fn a_record_shows_what_a_sealed_session_opened() {
    let world = tunnel(Mode::Sealed);
    for honest in [true, false] {
        let mut sim = Sim::new(&world, 1);
        let nothing = Keep::default();
        sim.tap = Some(Tap::new(&world, nothing));
        sim.connect();
        sim.settle();
        let stream = open(&mut sim, "db.internal:5432");
        sim.settle();
        if !honest {
            sim.tamper = Some(Box::new(|_, bytes| {
                let mut bytes = bytes.to_vec();
                if bytes[0] == 4 && bytes[17] == Kind::Report.byte() {
                    *bytes.iter_mut().rev().nth(20).unwrap() ^= 1;
                }
                vec![bytes]
            }));
        }
        answer(&mut sim, stream);
        sim.settle();
        let tap = sim.tap.unwrap();
        let told: Vec<_> = explain(&tap.file).unwrap().into_iter().map(|line| line.what).collect();
        let what = "reports of stream 16 to \"db.internal:5432\" that it leads to \"10.0.0.1:80\"";
        assert_eq!(told.iter().any(|line| line == what), honest, "{told:#?}");
        let refused =
            |v: &Violation| matches!(v, Violation::Frame { fault: Fault::Report(ObjectError::Signature), .. });
        assert_eq!(tap.violations.iter().any(refused), !honest, "{:?}", tap.violations);
    }
}

/// PR-STREAM-3: in a sealed session the agent's signed report goes before the answer, where the relay reads it; in an
/// inspected one the opening itself can be read.
#[test]
fn a_sealed_stream_is_reported_outside_the_seal() {
    for (mode, reports) in [(Mode::Sealed, 1), (Mode::Inspected, 0)] {
        let mut sim = begin(mode);
        let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let kept = std::rc::Rc::clone(&seen);
        sim.tamper = Some(Box::new(move |_, bytes| {
            if let Ok(Packet::DataAck(frame)) = Packet::decode(bytes)
                && frame[16] == Kind::Report.byte()
            {
                kept.borrow_mut().push(Report::decode(&frame[37..frame.len() - 16]).unwrap());
            }
            vec![bytes.to_vec()]
        }));
        let stream = open(&mut sim, "db.internal:5432");
        sim.settle();
        answer(&mut sim, stream);
        sim.settle();
        let seen = seen.borrow();
        assert_eq!(seen.len(), reports, "{mode:?}");
        if let Some(signed) = seen.first() {
            let report = signed.open(&tunnel(mode).agent_key.public(), ORG).unwrap();
            assert_eq!((report.stream, &report.request), (stream, &to("db.internal:5432")));
            assert_eq!(report.answer, Answer::Opened { at: "10.0.0.1:80".to_owned() });
        }
        assert!(sim.client_events.iter().any(|event| matches!(event, Event::Answered { .. })));
    }
}

/// PR-STREAM-2, TRUST-4: a stream leads where grant and local policy both allow, by name and by the address dialled.
#[test]
fn a_stream_leads_where_grant_and_local_policy_allow() {
    let policy = |destinations: &str| {
        let text = format!(
            "version = 1\n[[allow]]\nissuer = \"{}\"\neveryone = true\nverbs = [{{ type = \"Tunnel\" }}]\n\
             destinations = [{destinations}]\n",
            crate::idp::ISSUER
        );
        LocalRule::Policy(LocalPolicy::parse(&text).unwrap())
    };
    let check = |scope: &str, local: Option<&str>, (asked, address): (&str, &str), want: [Result<(), Denial>; 2]| {
        let mut world = tunnel(Mode::Sealed);
        world.parameters = Parameters::Tunnel { destinations: vec![scope.parse().unwrap()] };
        let mut sim = Sim::new(&world, 1);
        if let Some(local) = local {
            sim.gate.local = policy(local);
        }
        sim.connect();
        sim.settle();
        let admitted = sim.admitted.as_ref().unwrap();
        let destination: Destination = asked.parse().unwrap();
        let leads = sim.gate.leads(admitted, &destination, address.parse().unwrap());
        if let Ok(dialable) = leads {
            assert_eq!(dialable.address(), format!("{address}:{}", destination.port()).parse().unwrap());
        }
        let got = [sim.gate.may_lead(admitted, &destination), leads.map(drop)];
        assert_eq!(got, want, "{scope} and {local:?} for {asked} at {address}");
    };
    let (outside, local) = (Err(Denial::Destination), Err(Denial::Local(LocalDenial::Destination)));
    let db = ("db.internal:5432", "10.0.0.1");
    check("db.internal:5432", None, db, [Ok(()), Ok(())]);
    check("other:5432", None, db, [outside.clone(), outside.clone()]);
    check("*:*", None, ("x:80", "169.254.169.254"), [Ok(()), outside.clone()]);
    check("*:*", Some("\"10.0.0.0/8:*\""), db, [Ok(()), Ok(())]);
    check("*:*", Some("\"10.0.0.0/8:*\""), ("db.internal:5432", "8.8.8.8"), [Ok(()), local.clone()]);
    check("*:*", Some("\"db.internal:*\""), ("10.0.0.1:5432", "10.0.0.1"), [local.clone(), local.clone()]);
    check("db.internal:5432", Some("\"*:443\""), db, [local.clone(), local]);
    check("db.internal:443", Some("\"*:*\""), db, [outside.clone(), outside]);
    // A session of another kind has no streams.
    let mut sim = Sim::new(&World::new(), 1);
    sim.connect();
    sim.settle();
    let admitted = sim.admitted.as_ref().unwrap();
    assert_eq!(sim.gate.may_lead(admitted, &"a:1".parse().unwrap()), Err(Denial::Destination));
}

/// PR-STREAM-2: a grant whose scope is another than the request's opens nothing.
#[test]
fn a_grants_scope_is_the_requests() {
    let mut world = tunnel(Mode::Sealed);
    let wide = world.grant_body();
    world.parameters = Parameters::Tunnel { destinations: vec!["db:1".parse().unwrap()] };
    let mut body = world.grant_body();
    body.scope = wide.scope;
    let mut opening = world.opening();
    opening.grant = world.sign_grant(&body);
    let mut sim = Sim::new(&world, 1);
    sim.client = client::Client::new(opening, sim.now).unwrap();
    sim.connect();
    sim.settle();
    assert_eq!(sim.denials, [Denial::GrantFor("scope")]);
}

/// PR-RESUME-1: openings, bytes, ends and resets arrive once and in order, wherever a carrier was cut.
#[test]
fn streams_survive_their_carriers() {
    for cut_after in 0..40 {
        let mut sim = begin(Mode::Sealed);
        let before = sim.packets;
        let (kept, reset) = (open(&mut sim, "a:1"), open(&mut sim, "b:2"));
        client_sends(&mut sim, kept, pattern(0, 5000));
        let (mut was_cut, mut answered) = (false, false);
        for _ in 0..100 {
            sim.pass(Duration::from_millis(1));
            if sim.packets - before >= cut_after && !was_cut {
                was_cut = true;
                sim.cut();
                sim.connect();
            }
            if sim.opened.len() == 2 && !answered {
                answered = true;
                answer(&mut sim, kept);
                agent_sends(&mut sim, kept, pattern(0, 5000));
                sim.agent.act(sim.now, agent::Action::Eof { stream: kept }).unwrap();
                sim.agent.act(sim.now, agent::Action::Reset { stream: reset }).unwrap();
            }
        }
        sim.settle();
        assert_eq!(sim.opened, [(kept, to("a:1")), (reset, to("b:2"))], "cut after {cut_after}");
        assert_eq!(sim.came[&(Side::Agent, kept)], pattern(0, 5000), "cut after {cut_after}");
        assert_eq!(sim.came[&(Side::Client, kept)], pattern(0, 5000), "cut after {cut_after}");
        assert_eq!(sim.resets, [(Side::Client, reset)], "cut after {cut_after}");
    }
}
